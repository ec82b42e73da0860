# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents for recorded drills are unchanged. After a deliberate change, run tests/record and check the diff."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import recorded

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import schema as document_schema

# The purpose of each recording. Add a recording only if it covers code or text that no other recording covers.
KINDS = {
    "controller_killed": "the first run dies, the next one recovers on the third rung: backup, checkpoint, clean start",
    "corruption": "a finding blocks every start, data loss is suspected",
    "disk_full": "a remedy is not allowed in the first run and applied in the second",
    "hang": "the first rung recovers; severity critical, not emergency",
    "unrecoverable": "all rungs fail, and so does the second run",
}


def test_each_recording_has_a_documented_purpose():
    assert set(KINDS) == set(recorded.drills())


@pytest.mark.parametrize("drill", recorded.drills())
def test_documents_are_unchanged(drill):
    for name, text in recorded.documents(drill).items():
        assert text == (recorded.FOLDER / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("drill", recorded.drills())
def test_the_json_of_a_drill_is_valid(drill):
    document = json.loads(recorded.documents(drill)[f"{drill}.json"])
    jsonschema.Draft202012Validator(document_schema.schema()).validate(document)


def test_the_drills_have_every_outcome():
    told = {drill: recorded.incident(drill) for drill in recorded.drills()}
    assert {each.outcome for each in told.values()} == {"recovered", "not_recovered"}
    assert {each.data_loss for each in told.values()} >= {"none", "suspected"}
    assert {rung.rung for each in told.values() for rung in each.rungs_tried} == {
        "restart",
        "standard_recovery",
        "clean_start_recovery",
    }
    assert [run.complete for run in told["controller_killed"].runs] == [False, True]
    assert len(told["unrecoverable"].runs) == 2


@pytest.mark.parametrize("drill", recorded.drills())
def test_no_recording_contains_its_date(drill):
    text = (recorded.FOLDER / f"{drill}.jsonl").read_text(encoding="utf-8")
    assert {json.loads(line)["at"][:10] for line in text.splitlines()} <= {"2026-03-02", "2026-03-03"}
    # The latest date is the expiry date of the drill's certificate, at most two months after the drill.
    assert max(re.findall(r"\b\d{4}-\d\d-\d\d(?=T\d\d)", text)) <= "2026-05-01"
    assert not re.findall(r"\b(?:10|172|192)\.\d+\.\d+\.\d+\b", text)
