# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of changes before an outage."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import kinds, rank, relations
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.compare import Change
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import table

GOOD, FAILED = 1_000_000.0, 1_003_600.0


def change(kind, name, before=60.0, **more):
    """Return a change that happened `before` seconds before the failure, or at an unknown time."""
    at = None if before is None else FAILED - before
    return Change(kind, name, "changed", at=at, earliest=GOOD, latest=FAILED + 100, **more)


def finding(cause, text="", confidence=0.9, *, past=False, **details):
    evidence = [{"source": "log", "text": text}]
    known = {"cause": cause, "confidence": confidence, "summary": "It failed.", "past": past}
    return {**known, "evidence": evidence, "details": details}


UNIT, LOCK, MODULES = (
    change("unit", "MemoryMax"),
    change("lock_file", "package-lock.json"),
    change("modules", "express"),
)
PACKAGE, KERNEL, CODE = change("packages", "vim"), change("kernel", "kernel"), change("code", "backend/auth.js")
SECRET, PORT = change("environment", "JWT_SECRET"), change("environment", "PORT", 5)
CERTIFICATE, TABLE = change("certificate", "server.crt", 600), change("schema", "table users", None)
LATE = change("environment", "LATE", -30)
OURS = change("unit", "/run/systemd/system/u.service.d/zz-held-INC.conf", 1, ours=True)

# The findings, the changes, and the names in the expected order.
CASES = {
    "no finding: the nearest first": ([], [CERTIFICATE, LOCK, PORT], ["PORT", "package-lock.json", "server.crt"]),
    "a change that explains the finding": (
        [finding("tls_expired")],
        [PACKAGE, UNIT, CERTIFICATE, LOCK],
        ["server.crt", "MemoryMax", "package-lock.json", "vim"],
    ),
    "a variable that the finding names": (
        [finding("unhandled_exception", "Error: JWT_SECRET is not set: refusing to start")],
        [PORT, CODE, SECRET],
        ["JWT_SECRET", "PORT", "backend/auth.js"],
    ),
    "a table that the finding names": (
        [finding("unhandled_exception", "SQLITE_ERROR: no such table: users")],
        [PORT, CODE, TABLE],
        ["table users", "PORT", "backend/auth.js"],
    ),
    "a file that the finding names": (
        [finding("syntax_error", file="/srv/app/backend/auth.js")],
        [change("code", "backend/other.js", 1), CODE],
        ["backend/auth.js", "backend/other.js"],
    ),
    "a name inside of another word": (
        [finding("heap_oom", "JWT_SECRETS")],
        [SECRET, PORT],
        ["PORT", "JWT_SECRET"],
    ),
    "memory": ([finding("oom_kill")], [CODE, LOCK, UNIT], ["MemoryMax", "backend/auth.js", "package-lock.json"]),
    "modules": ([finding("modules_broken")], [PORT, UNIT, MODULES], ["express", "PORT", "MemoryMax"]),
    "the first finding counts more": (
        [finding("tls_expired"), finding("modules_broken", confidence=0.8)],
        [LOCK, CERTIFICATE],
        ["server.crt", "package-lock.json"],
    ),
    "a past cause and a note explain nothing": (
        [finding("oom_kill"), finding("modules_broken", past=True), finding("tls_expired", confidence=0.3)],
        [CERTIFICATE, LOCK, UNIT],
        ["MemoryMax", "package-lock.json", "server.crt"],
    ),
    "a note, if there is no likely cause": (
        [finding("unknown", confidence=0.1)],
        [KERNEL, CODE],
        ["backend/auth.js", "kernel"],
    ),
    "after the failure, and our own": (
        [finding("unhandled_exception", "LATE")],
        [OURS, LATE, PACKAGE],
        ["vim", "LATE", OURS.name],
    ),
    "a new variable that nothing uses": (
        [finding("unhandled_exception")],
        [SECRET._replace(what="added", at=FAILED - 1), CODE],
        ["backend/auth.js", "JWT_SECRET"],
    ),
    "a package near to the failure": (
        [finding("exec_failed")],
        [PACKAGE._replace(at=FAILED - 1), change("node", "node"), UNIT],
        ["MemoryMax", "node", "vim"],
    ),
    "an unknown time is last in its group": ([], [TABLE, CODE], ["backend/auth.js", "table users"]),
}


@pytest.mark.parametrize("case", CASES)
def test_order(case):
    found, changes, wanted = CASES[case]
    ranked = rank.ranked(changes, rank.findings(found), failed_at=FAILED)
    assert [each.change.name for each in ranked] == wanted
    backwards = rank.ranked(changes[::-1], rank.findings(found), failed_at=FAILED)
    assert [each.change.name for each in backwards] == wanted


@pytest.mark.parametrize(
    ("each", "relation", "cause", "seconds"),
    [
        (SECRET, "named", "unhandled_exception", 60.0),
        (LOCK, "explains", "unhandled_exception", 60.0),
        (CERTIFICATE, "possible", None, 600.0),
        (PACKAGE, "unlikely", None, 60.0),
        (LATE, "after", None, -30.0),
        (OURS, "ours", None, 1.0),
        (TABLE, "explains", "unhandled_exception", None),
        (change("a kind of a later version", "x"), "unlikely", None, 60.0),
    ],
)
def test_relation(each, relation, cause, seconds):
    findings = rank.findings([finding("unhandled_exception", "JWT_SECRET LATE")])
    (ranked,) = rank.ranked([each], findings, failed_at=FAILED)
    told = ranked.as_dict()
    assert (told["relation"], told["cause"], told["seconds_before"]) == (relation, cause, seconds)


def test_a_change_that_was_first_seen_after_the_failure_is_not_its_cause():
    late = change("schema", "table users", None)._replace(earliest=FAILED + 10)
    (ranked,) = rank.ranked([late], [], failed_at=FAILED)
    assert ranked.relation == relations.AFTER


def test_only_the_first_changes_are_returned():
    changes = [change("code", f"{number}.js", number) for number in range(100)]
    ranked = rank.ranked(changes, [], failed_at=FAILED)
    assert [each.change.name for each in ranked] == [f"{number}.js" for number in range(rank.MOST)]


def test_the_failure_is_the_first_bad_sign_after_the_healthy_run():
    signs = [{"kind": kind, "at": f"2026-03-02T01:0{minute}:00.000Z"} for minute, kind in enumerate("bgbb")]
    for sign in signs:
        sign["kind"] = {"b": "bad", "g": "good"}[sign["kind"]]
    start = 1772413200.0
    assert rank.failure_time(signs, since=start + 30, now=start + 999) == start + 120
    assert rank.failure_time([], since=start, now=start + 999) == start + 999


def test_the_kinds_name_only_causes_that_exist():
    named = {cause for kind in kinds.KINDS.values() for cause in (*kind.typical, *kind.explains)}
    assert named <= set(table.CAUSES)


# Causes that no kind of change can produce, each with the reason.
WITHOUT_CHANGE = {
    "disk_filling": "data and logs grow without a change",
    "disk_full": "data and logs grow without a change",
    "frequent_restarts": "a symptom of another cause",
    "start_held": "a run or a person holds the service",
    "wal_pending": "a consequence of how the service ended",
    "wal_reset_bug": "an error in SQLite",
}


def test_a_kind_of_change_leads_to_every_other_cause():
    named = {cause for kind in kinds.KINDS.values() for cause in (*kind.typical, *kind.explains)}
    assert sorted(set(table.CAUSES) - named - set(WITHOUT_CHANGE)) == [], (
        "Add each of these causes to the kinds of changes that can lead to it, in "
        "plugins/module_utils/_changes/kinds.py. If there is no such kind, add the cause to WITHOUT_CHANGE"
    )
    assert sorted(set(WITHOUT_CHANGE) & named) == [], "remove these causes from WITHOUT_CHANGE"


def test_the_log_of_an_application_that_ended_belongs_to_the_finding():
    manifest = change("package_json", "package.json")
    for cause, relation in (("unhandled_exception", relations.NAMED), ("modules_broken", relations.EXPLAINS)):
        findings = rank.findings([finding(cause)], log='\n\'/srv/app/package.json\' contains "type": "module"')
        (ranked,) = rank.ranked([manifest], findings, failed_at=FAILED)
        assert ranked.relation == relation
