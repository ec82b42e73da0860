# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each cause is found where it is, comes before what it explains, and is not found where all is well."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _findings

NODE = {"pid": 100, "command": "node backend/server.js", "user": "itsm", "ours": True}
STRANGER = {"pid": 666, "command": "nginx -g daemon off;", "user": "www-data", "ours": False}

HEALTHY = {
    "service": {
        "app_dir": "/srv/itsm",
        "app_dir_exists": True,
        "manager": "systemd",
        "unit": "itsm-system",
        "pid_file_exists": None,
        "https_port": 6443,
        "http_port": 8080,
    },
    "window": {"since": "2026-03-02T00:52:03.000Z", "until": "2026-03-02T01:02:03.000Z"},
    "unit": {
        "name": "itsm-system",
        "load_state": "loaded",
        "active_state": "active",
        "sub_state": "running",
        "result": "success",
        "exit_code": None,
        "exit_status": 0,
        "main_pid": 100,
        "last_pid": 100,
        "restarts": 0,
        "started_at": "2026-02-01T00:00:00.000Z",
    },
    "process": {
        "state": "running",
        "processes": [{"pid": 100, "state": "S", "started_at": "2026-02-01T00:00:00.000Z", "wait_channel": "ep_poll"}],
    },
    "ports": [
        {"port": 6443, "address": "::", "owners": [NODE]},
        {"port": 8080, "address": "::", "owners": [NODE]},
    ],
    "answer": {
        "https": {"port": 6443, "listening": True, "answered": True, "error": None, "certificate": {"expired": False}},
        "http": {"port": 8080, "listening": True, "answered": True, "error": None, "certificate": None},
    },
    "disk": [
        {
            "use": "database",
            "mount": "/srv",
            "size": 10**11,
            "available": 10**10,
            "inodes": 10**6,
            "inodes_available": 10**5,
        },
        # Small, and not full.
        {"use": "log", "mount": "/var/log", "size": 2**26, "available": 2**22, "inodes": 1000, "inodes_available": 100},
        # No inodes to count (btrfs), and one that was not reached.
        {"use": "state", "mount": "/", "size": 10**11, "available": 10**10, "inodes": 0, "inodes_available": 0},
        {"use": "application", "error": "timed out"},
    ],
    "memory": {"total": 10**10, "available": 10**8},
    "kernel": {"source": "journalctl -k", "out_of_memory": []},
    "log": {"path": "/var/log/itsm/server.log", "exceptions": [], "signatures": {}},
    "journal": {"exits": [], "stops": [], "start_limit": [], "exceptions": [], "signatures": {}},
    "certificate": {"path": "/srv/itsm/server.crt", "error": None, "expired": False, "not_yet_valid": False},
    "database": {
        "path": "/srv/itsm/backend/itsm.db",
        "configured": "/srv/itsm/backend/itsm.db",
        "source": "db_path",
        "problems": [],
        "holders": [{"pid": 100, "command": "node", "role": "writer"}],
        "wal": {"pages_pending": 50, "frames_committed": 60},
        "data_loss_suspected": False,
        "conclusive": True,
    },
    "node": {
        "path": "/usr/bin/node",
        "script": "/srv/itsm/backend/server.js",
        "script_exists": True,
        "modules_exist": True,
    },
    "environment": {"names": ["JWT_SECRET"], "problems": []},
}


def changed(facts, changes):
    """Return the facts with the changes laid over them, in depth; lists are replaced."""
    result = copy.deepcopy(facts)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict) and value != {"error": "timed out"}
        result[name] = changed(result[name], value) if both else copy.deepcopy(value)
    return result


GONE = {
    "process": {"state": "gone", "processes": []},
    "ports": [],
    "answer": {"https": {"listening": False, "answered": None}, "http": {"listening": False, "answered": None}},
    "database": {"holders": [], "wal": {"pages_pending": 0}},
    "unit": {
        "active_state": "failed",
        "sub_state": "failed",
        "main_pid": 0,
        "result": "exit-code",
        "exit_code": "exited",
    },
}
ELSEWHERE = {
    "ports": [
        {"port": 26443, "address": "::", "owners": [{"pid": 100, "command": "node", "user": "itsm", "ours": True}]}
    ],
    "answer": {"https": {"listening": False, "answered": None}, "http": {"listening": False, "answered": None}},
}
SILENT = {
    "answer": {"https": {"answered": False, "error": "timed out"}, "http": {"answered": False, "error": "timed out"}}
}
PROCESS = {"service": {"manager": "process", "pid_file_exists": True}, "unit": None, "journal": None}


def signature(name, text):
    return {"log": {"signatures": {name: {"count": 1, "text": text, "at": None}}}}


def exception(**values):
    item = {
        "message": "Error: boom",
        "stack": ["at main (server.js:1)"],
        "fatal": True,
        "last": True,
        "at": None,
        **values,
    }
    return {"log": {"exceptions": [item]}}


def exits(count):
    return {"journal": {"exits": [{"at": "2026-03-02T01:00:00.000Z", "text": "Main process exited"}] * count}}


def problem(code, level="error", lost=False):
    return {
        "database": {
            "problems": [{"code": code, "message": f"It is {code}.", "level": level}],
            "data_loss_suspected": lost,
        }
    }


FULL = {"disk": [{"use": "log", "mount": "/var", "size": 10**9, "available": 0, "inodes": 100, "inodes_available": 50}]}
NO_INODES = {
    "disk": [{"use": "log", "mount": "/var", "size": 10**9, "available": 10**8, "inodes": 10**6, "inodes_available": 0}]
}
OOM_LINE = {"at": None, "text": "Out of memory: Killed process 100 (node)", "pid": 100, "name": "node"}
OTHER_OOM = {"at": None, "text": "Out of memory: Killed process 7 (java)", "pid": 7, "name": "java"}

CASES = [
    ("killed", [GONE, {"unit": {"result": "signal", "exit_code": "killed", "exit_status": 9}}], "signal KILL"),
    ("killed", [GONE, PROCESS], "without a last word"),
    ("stopped", [GONE, {"unit": {"active_state": "inactive", "result": "success", "exit_status": 0}}], "by itself"),
    (
        "stopped",
        [
            GONE,
            {"unit": {"active_state": "inactive", "result": "success"}},
            {"journal": {"stops": [{"at": "2026-03-02T01:00:00.000Z", "text": "Stopping itsm-system.service"}]}},
        ],
        "stopped in order",
    ),
    ("stopped", [GONE, PROCESS, {"service": {"pid_file_exists": False}}], "no pid file"),
    (
        "hung",
        [{"process": {"processes": [{"pid": 100, "state": "T", "started_at": "2026-02-01T00:00:00.000Z"}]}}, SILENT],
        "SIGSTOP",
    ),
    ("hung", [SILENT], "does not answer"),
    ("unhandled_exception", [GONE, exception(), {"unit": {"exit_status": 1}}], "Error: boom"),
    ("unhandled_exception", [GONE, exception(fatal=False), {"unit": {"exit_status": 1}}], "Error: boom"),
    ("unhandled_exception", [GONE, PROCESS, exception()], "Error: boom"),
    (
        "unhandled_exception",
        [
            GONE,
            exception(at="2026-03-02T01:00:00.000Z", message="first"),
            {"journal": exception(at="2026-03-02T01:01:00.000Z")["log"]},
        ],
        "Error: boom",
    ),
    ("crash_loop", [GONE, {"unit": {"result": "start-limit-hit", "restarts": 5, "exit_status": 1}}], "given up"),
    ("crash_loop", [GONE, {"unit": {"sub_state": "auto-restart", "restarts": 4}}], "4 times"),
    ("crash_loop", [GONE, exits(3)], "3 times"),
    (
        "crash_loop",
        [GONE, {"journal": {"start_limit": [{"at": "2026-03-02T01:00:00.000Z", "text": "too quickly"}]}}],
        "given up",
    ),
    ("disk_full", [FULL], "/var"),
    ("disk_full", [NO_INODES], "/var"),
    ("disk_full", [GONE, signature("disk_full", "SQLITE_FULL: database or disk is full")], "there is room again"),
    (
        "port_conflict",
        [GONE, {"ports": [{"port": 6443, "address": "::", "owners": [STRANGER]}]}],
        "process 666 of user www-data",
    ),
    ("port_conflict", [GONE, {"ports": [{"port": 6443, "address": "::", "owners": []}]}], "another process"),
    (
        "port_conflict",
        [{"unit": {"active_state": "activating", "sub_state": "auto-restart", "main_pid": 0}}],
        "older process of the service (pid 100)",
    ),
    ("port_conflict", [GONE, signature("port_taken", "listen EADDRINUSE :::6443")], "free now"),
    (
        "tls_expired",
        [{"certificate": {"expired": True, "subject": "CN=a", "not_before": "2025", "not_after": "2026-03-01"}}],
        "expired on 2026-03-01",
    ),
    (
        "tls_expired",
        [
            {"answer": {"https": {"listening": False, "answered": None}}},
            {"certificate": {"readable_by_service": False}},
        ],
        "does not offer HTTPS",
    ),
    ("db_corrupt", [GONE, problem("corrupt", lost=True)], "not sound"),
    ("db_corrupt", [problem("missing", lost=True)], "not sound"),
    (
        "db_corrupt",
        [{"database": {"data_loss_suspected": True, "data_loss_reasons": ["users has 2 rows fewer"]}}],
        "may be lost",
    ),
    ("db_corrupt", [GONE, signature("db_corrupt", "SQLITE_CORRUPT")], "itself could be read"),
    (
        "db_locked",
        [SILENT, problem("locked"), {"database": {"holders": [{"pid": 7, "command": "sqlite3", "role": "writer"}]}}],
        "process 7",
    ),
    ("db_locked", [GONE, signature("db_locked", "SQLITE_BUSY")], "locked"),
    ("oom_kill", [GONE, {"unit": {"result": "oom-kill", "exit_code": "killed", "exit_status": 9}}], "out of memory"),
    ("oom_kill", [GONE, PROCESS, {"kernel": {"out_of_memory": [OOM_LINE]}}], "out of memory"),
    (
        "heap_oom",
        [
            GONE,
            {"unit": {"result": "core-dump", "exit_code": "dumped", "exit_status": 6}},
            signature("heap_oom", "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
        ],
        "its own heap",
    ),
    ("modules_broken", [GONE, signature("module_missing", "Error: Cannot find module 'express'")], "dependencies"),
    ("modules_broken", [GONE, {"node": {"modules_exist": False, "dependencies": 5}}], "dependencies"),
    ("migration_pending", [GONE, signature("migration_locked", "Migration table is already locked")], "lock"),
    ("config_mismatch", [GONE, {"node": {"script_exists": False}}], "server.js does not exist"),
    ("config_mismatch", [{"database": {"path": "/srv/other.db"}}], "/srv/other.db"),
    ("config_mismatch", [ELSEWHERE], "listens on 26443"),
    (
        "db_unchecked",
        [GONE, {"database": {"conclusive": False, "checks": {"quick": "skipped: time budget"}}}],
        "in time",
    ),
    ("db_unchecked", [GONE, {"database": {"conclusive": None, "error": "timed out"}}], "in time"),
    (
        "config_mismatch",
        [GONE, {"unit": {"load_state": "not-found", "result": "success", "exit_code": None}}],
        "no unit",
    ),
    ("unknown", [GONE], "has no process"),
    ("unknown", [GONE, {"kernel": {"out_of_memory": [OTHER_OOM]}}], "has no process"),
]


def evaluate(*changes):
    facts = HEALTHY
    for change in changes:
        facts = changed(facts, change)
    return _findings.evaluate(facts)


@pytest.mark.parametrize(("cause", "changes", "words"), CASES)
def test_the_right_cause_comes_first(cause, changes, words):
    found = evaluate(*changes)
    assert found and found[0].cause == cause, [(item.cause, item.summary) for item in found]
    assert words in found[0].summary
    assert 0 < found[0].confidence <= 1
    assert found[0].remedy.endswith(".")
    assert found[0].blocks_start == (cause in ("db_corrupt", "db_unchecked") or ELSEWHERE in changes)
    assert cause == "unknown" or all(item["source"] and item["text"] for item in found[0].evidence)
    assert cause == "unknown" or found[0].evidence


def test_every_cause_has_a_case():
    assert {cause for cause, _changes, _words in CASES} == set(_findings.CAUSES) - {"wal_pending"}


@pytest.mark.parametrize(
    "changes",
    [
        [],
        # What is long over, and what a busy host is full of.
        [exception(last=False, fatal=False)],
        [exception()],
        [signature("db_locked", "SQLITE_BUSY")],
        [signature("module_missing", "Cannot find module 'optional'")],
        [signature("tls", "ERR_SSL_WRONG_VERSION_NUMBER")],
        [{"kernel": {"out_of_memory": [OOM_LINE]}}],
        [exits(5)],
        [{"unit": {"restarts": 7}}],
        [problem("wal_torn", level="warning")],
        [{"database": {"error": "timed out", "problems": None, "holders": None, "wal": None}}],
        [{"database": {"holders": [{"pid": 9, "command": "backup", "role": "reader"}]}}],
        [{name: {"error": "timed out"} for name in ("unit", "answer", "memory", "kernel", "log", "journal", "node")}],
        [{"ports": {"error": "timed out"}}],
        # One that answers with an error answers.
        [{"answer": {"https": {"status": 429}}}],
        # Without HTTP nothing is missed there.
        [{"answer": {"https": {"port": 6443, "listening": True, "answered": True}}}],
    ],
)
def test_no_false_alarm_where_all_is_well(changes):
    assert evaluate(*changes) == []


def test_a_service_that_has_just_started_is_not_accused_of_its_certificate():
    young = {"process": {"processes": [{"pid": 100, "state": "S", "started_at": "2026-03-02T01:02:00.000Z"}]}}
    found = evaluate(young, {"answer": {"https": {"listening": False, "answered": None}}})
    assert [item.cause for item in found] == ["unknown"]


def test_a_cause_comes_before_what_it_explains():
    found = evaluate(
        GONE,
        FULL,
        signature("disk_full", "SQLITE_FULL"),
        exception(message="Error: SQLITE_FULL"),
        {"unit": {"result": "start-limit-hit", "restarts": 5}},
        {"database": {"wal": {"pages_pending": 12, "frames_committed": 20}}},
    )
    assert [item.cause for item in found] == ["disk_full", "unhandled_exception", "crash_loop", "wal_pending"]
    assert [item.explained_by for item in found] == [None, "disk_full", "disk_full", "disk_full"]


def test_a_surer_consequence_does_not_come_before_its_cause():
    # The loop is plain to see; why is only in the log.
    found = evaluate(GONE, exits(5), signature("db_locked", "SQLITE_BUSY"), exception())
    assert [item.cause for item in found] == ["db_locked", "unhandled_exception", "crash_loop"]
    assert found[0].confidence < found[2].confidence


def test_two_independent_faults_are_both_found():
    found = evaluate(
        FULL, {"certificate": {"expired": True, "subject": "a", "not_before": "b", "not_after": "c"}}, GONE
    )
    assert {item.cause for item in found} >= {"disk_full", "tls_expired"}


def test_a_fall_that_systemd_has_already_mended_is_told():
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"kernel": {"out_of_memory": [OOM_LINE]}},
    )
    assert [item.cause for item in found] == ["oom_kill"]


def test_a_signal_that_systemd_has_already_mended_is_told():
    text = "itsm-system.service: Main process exited, code=killed, status=9/KILL"
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"journal": {"exits": [{"at": "2026-03-02T01:01:50.000Z", "text": text}]}},
    )
    assert [(item.cause, "signal KILL; systemd has started it again" in item.summary) for item in found] == [
        ("killed", True)
    ]


def test_the_exception_of_a_service_that_is_just_being_started_again():
    starting = {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}}
    assert [item.cause for item in evaluate(starting, exception(fatal=False))] == ["unhandled_exception"]


def test_an_oom_kill_that_systemd_has_already_mended_is_told():
    found = evaluate(
        {"unit": {"restarts": 1, "started_at": "2026-03-02T01:02:00.000Z"}},
        {"journal": {"results": [{"at": "2026-03-02T01:01:50.000Z", "text": "Failed with result 'oom-kill'."}]}},
    )
    assert [item.cause for item in found] == ["oom_kill"]


@pytest.mark.parametrize("last_success_at", ["2026-03-02T01:01:00.000Z", None])
def test_falls_it_has_recovered_from_are_no_loop(last_success_at):
    limit = {"journal": {"start_limit": [{"at": "2026-03-02T01:00:00.000Z", "text": "too quickly"}]}}
    found = evaluate(GONE, exits(5), limit, {"log": {"last_success_at": last_success_at}})
    assert ("crash_loop" in [item.cause for item in found]) == (last_success_at is None)


def test_restarts_of_three_weeks_are_no_loop():
    seen = {"journal": {"lines": ["x"]}}
    found = evaluate(GONE, {"unit": {"restarts": 7}}, exits(1), seen)
    assert [item.cause for item in found] == ["unknown"]
    assert evaluate(GONE, {"unit": {"restarts": 7}}, exits(3), seen)[0].cause == "crash_loop"


def test_rows_in_the_wal_alone_are_told_and_are_not_the_cause():
    pending = {"database": {"wal": {"pages_pending": 12, "frames_committed": 20}}}
    assert [item.cause for item in evaluate(GONE, pending)] == ["unknown", "wal_pending"]


def test_nothing_at_all_was_reached():
    assert _findings.evaluate({}) == []
    assert _findings.evaluate({"process": {"error": "timed out"}, "database": {"path": "x", "configured": "x"}}) == []


@pytest.mark.parametrize("part", [*HEALTHY, "everything"])
@pytest.mark.parametrize("lost", [{"error": "timed out"}, None])
def test_a_part_that_was_not_reached_costs_no_rule(part, lost):
    for _cause, changes, _words in CASES:
        evaluate(*changes, {name: lost for name in HEALTHY if part in (name, "everything")})


def test_no_two_causes_explain_each_other():
    def reached(name, seen=()):
        assert name not in seen, f"{name} explains itself"
        for other in _findings.CAUSES[name].explains:
            assert other in _findings.CAUSES
            reached(other, (*seen, name))

    for name in _findings.CAUSES:
        reached(name)


def test_a_service_that_listens_elsewhere_is_not_restarted():
    first = _findings.evaluate(changed(HEALTHY, ELSEWHERE))[0]
    assert (first.cause, first.blocks_start) == ("config_mismatch", True)


def test_no_rung_is_climbed_against_a_stranger_on_the_port():
    owner = {"pid": 7, "command": "nginx", "user": "www-data", "ours": False}
    found = evaluate(GONE, {"ports": [{"port": 6443, "address": "::", "owners": [owner]}]})
    assert (found[0].cause, found[0].rungs_help) == ("port_conflict", False)
