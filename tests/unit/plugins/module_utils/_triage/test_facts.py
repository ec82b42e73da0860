# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage facts are a typed structure in which unknown facts have default values."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.database import Database
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.log import Journal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import entries


@pytest.mark.parametrize("unknown", [None, {}, [], "text", dict.fromkeys(("path", "problems", "holders", "wal"))])
def test_an_unknown_fact_has_the_default_of_its_field(unknown):
    assert Database.of(unknown) == Database()


def test_a_part_that_was_not_collected_has_only_its_error():
    assert Database.of({"error": "timed out"}) == Database(error="timed out")


def test_facts_without_a_field_are_ignored():
    assert Database.of({"path": "/srv/itsm.db", "sqlite_version": "3.40.1"}) == Database(path="/srv/itsm.db")


@pytest.mark.parametrize(("facts", "found"), [([{"port": 1}], [{"port": 1}]), ({"error": "timed out"}, []), (None, [])])
def test_a_list_that_was_not_collected_is_empty(facts, found):
    assert entries(facts) == found


def test_without_any_fact_nothing_is_wrong():
    facts = Facts.of({name: {"error": "timed out"} for name in Facts._fields})
    assert not (facts.down or facts.unwell or facts.troubled)
    assert facts.log.signatures is None
    assert (facts.database.damages, facts.disks.short_of_room(), facts.certificate.fault()) == ([], [], "")


def test_a_journal_without_a_path_is_named_as_the_source_of_its_errors():
    journal = Journal.of({"signatures": {"tls": {"count": 2, "text": "SSL error"}}})
    (told,) = journal.signature("tls")
    assert (told["source"], told["text"]) == ("journal", "2 times, first: SSL error")
    assert journal.signature("db_locked") == []


def test_an_unreadable_database_is_not_reported_as_damaged():
    unread = {"code": "unreadable", "message": "Cannot read x: Permission denied"}
    damage = {"code": "corrupt", "message": "row 3 missing from index"}
    warning = {"code": "wal_torn", "message": "torn", "level": "warning"}
    database = Database(problems=[unread, damage, warning])
    assert (database.unread, database.damages) == ([unread], [damage])
