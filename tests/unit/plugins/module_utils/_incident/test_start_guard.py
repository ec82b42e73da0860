# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start guard and the recorded exits as a run sees them: refusals, decisions, releases, exits and restarts."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import pwd
import re
import shutil
import stat
import sys
import time
from pathlib import Path

import pytest
import sqlite_samples as samples
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as service_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    service_ends,
    start_guard,
    start_guard_report,
    starter,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import recorded_ends
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue, restarts

FILES = Path(__file__).resolve().parents[5] / "roles" / "start_guard" / "files"
INCIDENT = "INC-20260302T010203Z-1f3a"
FIRST_AT = "2026-03-02T01:02:03.456Z"
REFUSAL = {
    "incident": INCIDENT,
    "first_at": FIRST_AT,
    "at": "2026-03-02T01:05:00.000Z",
    "times": 3,
    "code": "wal_missing",
    "reason": "the WAL is missing",
    "of_data": True,
    "unit": "itsm.service",
}
SERVICE = {"manager": "systemd", "unit": "itsm"}


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    yield folder
    shutil.rmtree(host_lease.Seat(state_dir=str(folder)).folder, ignore_errors=True)


@pytest.fixture
def installed(state, tmp_path, monkeypatch):
    """Install the role's programs for a database in a temporary folder. Return the database's path."""
    monkeypatch.setattr(start_guard, "CONFIG_FOLDER", str(tmp_path / "etc"))
    monkeypatch.setattr(start_guard, "PROGRAM", str(FILES / "run.py"))
    (tmp_path / "etc").mkdir()
    database = tmp_path / "itsm.db"
    config = {
        "unit": "itsm.service",
        "python": sys.executable,
        "database": str(database),
        "user": "",
        "state_dir": str(state),
        "known": str(tmp_path / "known.json"),
        "socket": str(tmp_path / "sock"),
        "logs": [],
    }
    (tmp_path / "etc" / "itsm.json").write_text(json.dumps(config))
    return database


def test_the_role_installs_the_files_that_the_code_expects():
    values = yaml.safe_load((FILES.parent / "vars" / "main.yml").read_text())
    assert values["_start_guard_programs"] == start_guard.PROGRAMS
    assert os.path.dirname(values["_start_guard_config"]) == start_guard.CONFIG_FOLDER
    assert os.path.basename(values["_start_guard_dropin"]) == start_guard.DROPIN
    assert os.path.dirname(values["_start_guard_dropins"]) == service_hold.FOLDER
    names = {start_guard.RUN, start_guard.COMMON, start_guard.GUARD, start_guard.RECORDER, start_guard.KEEPER}
    assert set(values["_start_guard_files"]) == names == {path.name for path in FILES.glob("*.py")}


def test_every_code_of_a_doubt_is_in_the_table_and_in_the_documentation():
    """A code is either the first argument of Doubt, or the first element of a problem that guard_common finds."""
    codes = set()
    for path in (FILES / start_guard.GUARD, FILES / start_guard.COMMON):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Doubt":
                found = node.args[0]
            elif isinstance(node, ast.List) and len(node.elts) == 2:
                found = node.elts[0]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "code":
                found = node.value
            else:
                continue
            if isinstance(found, ast.Starred):
                continue
            codes |= {each.value for each in ast.walk(found) if isinstance(each, ast.Constant)} - {None}
    codes = {code for code in codes if isinstance(code, str) and re.fullmatch(r"[a-z_]+", code)}
    spec = importlib.util.spec_from_file_location("guard_common", FILES / start_guard.COMMON)
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    assert codes == set(common.KINDS)
    page = (FILES.parents[2] / "docs" / "start-guard.md").read_text()
    table = page[page.index("## What the guard refuses") :].split("\n\n")[1]
    assert set(re.findall(r"`([a-z_]+)`", table)) == codes


@pytest.mark.parametrize(("code", "of_data"), [("no_access", False), ("held", False), ("unreadable", True)])
def test_the_guard_says_whether_a_refusal_concerns_the_data(installed, code, of_data):
    def run(argv, **_options):
        answer = {"code": code, "reason": "x", "of_data": of_data, "state": {}}
        return commands.Completed(argv=argv, rc=77, stdout=json.dumps(answer), stderr="", duration=0.0)

    assert (start_guard.verdict("itsm", run=run) is not None) is of_data


def refuse(state, **values):
    (state / "refusal-itsm.json").write_text(json.dumps({**REFUSAL, **values}))


def test_a_refusal_is_an_open_incident_for_every_reader(state):
    assert incident_store.current(str(state)) is None
    refuse(state)
    record = incident_store.current(str(state))
    assert (record["id"], record["detected_by"], record["detected_at"]) == (INCIDENT, "start guard", FIRST_AT)
    assert incident_store.in_doubt(record) and incident_store.is_open(str(state))
    assert "refused the start 3 times, first at 2026-03-02T01:02:03.456Z: the WAL" in record["data"]["reasons"][0]
    assert {"at": FIRST_AT, "kind": "bad", "source": "start guard"} in record["signs"]
    # Reading changes nothing.
    assert sorted(os.listdir(state)) == ["refusal-itsm.json"]


def test_the_next_run_continues_the_incident_of_the_guard(state):
    refuse(state)
    result = incident_record.call(state_dir=str(state), state="open")
    assert (result["id"], result["continued"], result["detected_by"]) == (INCIDENT, True, "start guard")
    assert result["data"]["state"] == "in_doubt"
    assert "refusal-itsm.json" not in os.listdir(state)
    closed = incident_record.call(state_dir=str(state), state="closed", run=result["run"])
    assert closed["outcome"] == "data_in_doubt"
    assert incident_store.current(str(state))["id"] == INCIDENT


def test_a_refusal_during_an_incident_is_added_to_it(state):
    opened = incident_record.call(state_dir=str(state), state="open")
    refuse(state)
    record = incident_store.current(str(state))
    assert record["id"] == opened["id"] and record["data"]["refused"] == "wal_missing"
    incident_record.call(state_dir=str(state), state="attempt", run=opened["run"])
    again = incident_record.call(state_dir=str(state), state="attempt", run=opened["run"])
    assert len(again["data"]["reasons"]) == 1


def test_a_refusal_because_of_the_owner_says_nothing_about_the_data(state):
    refuse(state, code="no_access", of_data=False)
    record = incident_store.current(str(state))
    assert record["detected_by"] == "start guard" and record["data"] is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"incident": "../x"}', json.dumps({**REFUSAL, "first_at": "x"})])
def test_a_damaged_refusal_is_ignored(state, content):
    (state / "refusal-itsm.json").write_text(content)
    assert incident_store.current(str(state)) is None


def test_without_a_guard_there_is_no_decision(state):
    assert start_guard.config("../itsm") is None
    assert start_guard.verdict("itsm") is None
    assert start_guard.release("itsm") is None
    assert starter.refused_by_guard(**SERVICE, state_dir=str(state)) is None


def test_the_decision_of_the_guard(state, installed):
    samples.crashed(str(installed))
    assert start_guard.verdict("itsm.service") is None
    os.truncate(installed, 0)
    refused = start_guard.verdict("itsm")
    assert (refused.code, refused.of_data) == ("empty_beside_wal", True)
    hold = starter.refused_by_guard(**SERVICE, state_dir=str(state))
    assert (hold["cause"], hold["enforced"]) == ("start_guard", True)
    assert "has 0 bytes" in hold["reason"]


def test_a_guard_that_fails_gives_no_decision(installed, monkeypatch):
    samples.crashed(str(installed))
    monkeypatch.setattr(start_guard, "PROGRAM", "/nonexistent")
    assert start_guard.verdict("itsm") is None
    assert "does not answer" in start_guard.release("itsm")


def test_after_a_release_the_guard_accepts_these_files_and_judges_later_ones(state, installed):
    samples.crashed(str(installed))
    os.truncate(installed, 0)
    refuse(state)
    run = incident_record.call(state_dir=str(state), state="open")["run"]
    about = {**SERVICE, "state_dir": str(state), "run": run, "reason": "CHG-4711", "warn": pytest.fail}
    starter.settle_doubt(**about, state=incident_store.ACCEPTED)
    assert start_guard.verdict("itsm") is None
    assert not incident_store.in_doubt(incident_store.current(str(state)))
    installed.write_bytes(b"something else")
    assert start_guard.verdict("itsm").code == "not_a_database"


@pytest.mark.parametrize(
    "answer",
    [
        {"code": None, "state": {"database": {"device": None}}},
        {"code": None, "state": {"database": {}}},
        {"code": None, "state": {"database": {"device": 1, "inode": 2, "size": -3, "mtime_ns": 4}}},
        {"code": None, "state": {"database": {"device": 1, "inode": 2, "size": True, "mtime_ns": 4}}},
        {"code": None, "state": {"database": {"device": 1, "inode": 2, "size": 10**30, "mtime_ns": 4}}},
        {"code": None, "state": {"database": 7}},
        {"code": None, "state": {"wal": [1]}},
        {"code": None, "state": [1]},
        {"code": None, "state": None},
        {"code": None},
    ],
)
def test_an_invalid_answer_of_the_guard_releases_nothing(installed, answer):
    samples.closed(str(installed))

    def run(argv, **_options):
        return commands.Completed(argv=argv, rc=0, stdout=json.dumps(answer), stderr="", duration=0.0)

    assert "returned an invalid response" in start_guard.release("itsm", run=run)
    assert not (installed.parent / "known.json").exists()


def test_a_release_that_fails_says_why_and_what_to_do(installed, monkeypatch):
    samples.closed(str(installed))
    config = Path(start_guard.CONFIG_FOLDER) / "itsm.json"
    known = json.loads(config.read_text())
    answer = {"code": None, "state": {"database": None, "wal": None}}

    def run(argv, **_options):
        return commands.Completed(argv=argv, rc=0, stdout=json.dumps(answer), stderr="", duration=0.0)

    config.write_text(json.dumps({**known, "known": "/nonexistent/known.json"}))
    told = start_guard.release("itsm", run=run)
    assert "/nonexistent" in told and "No such file or directory" in told and "outage_release.yml" in told
    del known["known"]
    config.write_text(json.dumps(known))
    told = start_guard.release("itsm", run=run)
    assert told.startswith(f"The configuration {config} of the start guard lacks 'known'. If the guard refuses")


@pytest.mark.parametrize("code", ["x" * 100, "a b", "\x1b[31m", 7, ["x"], {"a": 1}])
def test_a_reason_of_the_guard_is_limited_and_has_no_control_characters(installed, code):
    samples.closed(str(installed))
    answer = {"code": code, "reason": "A" * 3_000_000 + "\n\x1b[31m", "state": {}}

    def run(argv, **_options):
        return commands.Completed(argv=argv, rc=77, stdout=json.dumps(answer), stderr="", duration=0.0)

    refused = start_guard.verdict("itsm", run=run)
    assert (refused.code, refused.of_data) == ("unknown", True)
    answer.update(code="truncated", reason="a\n\x1b[31mb" + "A" * 3_000_000)
    refused = start_guard.verdict("itsm", run=run)
    assert refused.code == "truncated" and len(refused.reason) <= 500
    assert refused.reason.isprintable() and refused.reason.startswith("a")


def test_an_accepted_code_is_refused_again_after_a_change(installed):
    installed.write_bytes(b"no database")
    assert start_guard.verdict("itsm").code == "not_a_database"
    assert start_guard.release("itsm", accepted=["not_a_database"]) is None
    assert start_guard.verdict("itsm") is None
    installed.write_bytes(b"no database, but longer")
    assert start_guard.verdict("itsm").code == "not_a_database"


def write_end(state, number, *, restarts=0, ago=60.0, **values):
    folder = state / "ends" / "itsm"
    folder.mkdir(parents=True, exist_ok=True)
    at = time.time() - ago
    invocation = f"{number:032x}"
    end = {
        "at": timestamps.iso(at),
        "written_at": timestamps.iso(at),
        "boot": "b",
        "invocation": invocation,
        "confirmed": True,
        "result": "signal",
        "code": "killed",
        "status": None,
        "signal": "SIGSEGV",
        "start": {"at": timestamps.iso(at - 5), "restarts": restarts, "invocation": invocation, "boot": "b"},
        "log": {"path": "/x.log", "lines": ["password=abc"]},
        "stopped_by": None,
        **values,
    }
    compact = "".join(char for char in timestamps.iso(at) if char not in "-:.")
    ending = ".json" if end["confirmed"] else ".unconfirmed.json"
    (folder / f"end-{compact}-{invocation}{ending}").write_text(json.dumps(end))
    return end


def test_invented_ends_do_not_hide_confirmed_ones(state):
    for number in range(3):
        write_end(state, number, ago=1000.0 - number)
    for number in range(10, 200):
        write_end(state, number, ago=900.0 - number, confirmed=False, result="success", signal=None, code="exited")
    found = service_ends.read(str(state), "itsm", since=0)
    confirmed = [each for each in found if each.confirmed]
    assert [each.invocation for each in confirmed] == [f"{number:032x}" for number in range(3)]
    # Only the newest unconfirmed process exits are read, in chronological order.
    others = [each.invocation for each in found if not each.confirmed]
    assert others == [f"{number:032x}" for number in range(200 - service_ends.MOST_UNCONFIRMED, 200)]
    assert [each.at for each in found] == sorted(each.at for each in found)


def test_restarts_are_counted_by_the_end_before_them(state):
    write_end(state, 1, ago=500)
    write_end(state, 2, restarts=1, ago=400)
    write_end(state, 3, restarts=2, ago=300, result="exit-code", signal=None, code="exited", status=1)
    write_end(state, 4, restarts=3, ago=200)
    write_end(state, 5, ago=5000, restarts=9)
    found = service_ends.of_service(SERVICE, state_dir=str(state))
    assert (found["restarts"], found["after"]) == (3, {"SIGSEGV": 2, "exit 1": 1})
    shown = service_ends.public(found)
    assert "lines" not in shown["ends"][0]
    assert restarts.text(catalogue.of("en"), shown) == (
        "3 restarts by systemd in the last hour, 2 after SIGSEGV, 1 after exit 1"
    )
    assert "再起動は 3 回" in restarts.text(catalogue.of("ja"), shown)
    assert restarts.text(catalogue.of("en"), None) == ""


def test_the_running_process_counts_if_systemd_restarted_it(state, installed, tmp_path):
    del installed
    write_end(state, 1, ago=100, result="oom-kill", signal="SIGKILL")
    known = {"start": {"at": timestamps.iso(time.time() - 90), "restarts": 1, "invocation": "c" * 32, "boot": "b"}}
    (tmp_path / "known.json").write_text(json.dumps(known))
    found = service_ends.summary(str(state), "itsm", window=3600)
    assert (found["restarts"], found["after"]) == (1, {"oom-kill": 1})
    # The process was running when the host went down, and has not been started again.
    ends = service_ends.read(str(state), "itsm", since=0, boot="another boot")
    assert [each.how for each in ends] == ["oom-kill", "host-down"]


def test_a_service_without_a_recorder_has_no_ends(state):
    assert service_ends.of_service(SERVICE, state_dir=str(state)) is None
    assert service_ends.of_service({"manager": "process", "unit": None}, state_dir=str(state)) is None
    begun = time.perf_counter()
    for _time in range(100):
        service_ends.of_service(SERVICE, state_dir=str(state))
    assert time.perf_counter() - begun < 0.1


@pytest.mark.parametrize("content", ["", "[", "[]", "{}", '{"at": "x", "invocation": 1}'])
def test_a_damaged_end_is_ignored(state, content):
    write_end(state, 1)
    (state / "ends" / "itsm" / f"end-99991231T000000000Z-{'d' * 32}.json").write_text(content)
    assert len(service_ends.read(str(state), "itsm", since=0)) == 1


@pytest.mark.parametrize(
    ("values", "how"),
    [
        ({}, "SIGSEGV"),
        ({"result": "oom-kill", "signal": "SIGKILL"}, "oom-kill"),
        ({"result": "exit-code", "signal": None, "code": "exited", "status": 3}, "exit 3"),
        ({"result": "success", "signal": None, "code": "exited", "status": 0}, "exit 0"),
        ({"result": "success", "signal": "SIGTERM", "stopped_by": {"uid": 0}}, "stopped"),
        ({"result": "success", "signal": "SIGTERM"}, "SIGTERM"),
        ({"result": "timeout", "signal": "SIGKILL"}, "timeout"),
        ({"result": "protocol", "signal": None, "code": None}, "protocol"),
    ],
)
def test_an_end_in_one_word(state, values, how):
    write_end(state, 1, **values)
    assert [each.how for each in service_ends.read(str(state), "itsm", since=0)] == [how]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_catalogues_have_a_text_for_each_end_with_a_word_of_its_own(language):
    told = {key.partition(".")[2] for key in catalogue.of(language).sentences if key.startswith("ended_how.")}
    assert told == set(service_ends.WORDS)


def finding(cause):
    told = quoted("x")
    return Finding(confidence=0.9, summary=told, evidence=[], remedy=told, prevention=told, cause=cause)


def test_ends_are_evidence_for_the_causes_that_they_show(state):
    write_end(state, 1, ago=500, result="oom-kill", signal="SIGKILL")
    write_end(state, 2, ago=400, restarts=1)
    by = {"uid": 0, "login_uid": 1000, "pid": 7, "command": "systemctl stop itsm"}
    write_end(state, 3, ago=300, result="success", signal="SIGTERM", stopped_by=by)
    ends = service_ends.public(service_ends.of_service(SERVICE, state_dir=str(state)), commands=True)
    told = {
        cause: [each["text"] for each in recorded_ends.with_evidence(finding(cause), ends).evidence]
        for cause in ("oom_kill", "killed", "stopped", "crash_loop", "tls_expired")
    }
    assert "oom-kill" in told["oom_kill"][0] and len(told["oom_kill"]) == 2
    assert "SIGSEGV" in told["killed"][0]
    assert "requested by uid 0, login uid 1000: systemctl stop itsm" in told["stopped"][0]
    assert told["crash_loop"][-1] == "restarts by systemd in 3600 s: 1, after oom-kill: 1"
    assert told["tls_expired"] == []


@pytest.fixture
def dropin(installed, monkeypatch):
    """Also install the unit's drop-in. Return the path of the drop-in."""
    monkeypatch.setattr(start_guard, "PROGRAMS", str(FILES))
    monkeypatch.setattr(start_guard_report.unit_hold, "FOLDER", str(installed.parent))
    path = installed.parent / "itsm.service.d" / start_guard.DROPIN
    path.parent.mkdir()
    path.write_text(
        "[Service]\n"
        f"ExecCondition=/usr/bin/python3 {FILES}/run.py start_guard /etc/itsm.json\n"
        f"ExecStopPost=/usr/bin/python3 {FILES}/run.py restart_recorder /etc/itsm.json\n"
    )
    return path


@pytest.mark.parametrize("option", ["ExecCondition", "ExecStopPost", None])
def test_a_guard_that_systemd_does_not_call_is_reported(state, installed, dropin, option):
    samples.closed(str(installed))
    if option is None:
        dropin.unlink()
    else:
        lines = dropin.read_text().splitlines(keepends=True)
        dropin.write_text("".join(line for line in lines if not line.startswith(option)))
    found = start_guard_report.report(manager="systemd", unit="itsm", state_dir=str(state), window=3600.0)
    assert "only partly installed" in found["text"][0] and "outage_guard_state=present" in found["text"][0]
    assert found["installed"] is True
    # If the guard is not installed, systemd starts the service in any case. Therefore, the guard's decision is not
    # shown.
    assert found["allowed"] is (True if option == "ExecStopPost" else None)


def test_the_report_for_a_person(state, installed, dropin):
    samples.closed(str(installed))
    about = {"unit": "itsm", "state_dir": str(state), "window": 3600.0}
    assert "plain process" in start_guard_report.report(manager="process", **about)["text"][0]
    found = start_guard_report.report(manager="systemd", **about)
    assert (found["installed"], found["allowed"], found["refusals"]) == (True, True, [])
    refuse(state)
    write_end(state, 1)
    os.unlink(installed)
    (installed.parent / "itsm.db-wal").write_bytes(b"x" * 100)
    found = start_guard_report.report(manager="systemd", **about)
    assert found["allowed"] is False
    text = "\n".join(found["text"])
    assert "would refuse a start" in text and INCIDENT in text and "SIGSEGV" in text
    missing = start_guard_report.report(manager="systemd", **{**about, "unit": "other"})
    assert "not installed" in missing["text"][0]


def test_a_release_uses_the_rights_of_the_user(installed, monkeypatch):
    samples.closed(str(installed))
    seen = []

    def run(argv, **options):
        seen.append(options["user"])
        return commands.run(argv, **{**options, "user": None})

    config = Path(start_guard.CONFIG_FOLDER) / "itsm.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "user": "nobody"}))
    assert start_guard.release("itsm", run=run) is None
    assert seen == ["nobody"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the group of a file")
def test_the_user_can_read_the_released_files_as_soon_as_they_are_in_place(installed, monkeypatch):
    """If a run is killed after the replacement, the guard must still be able to read the file."""
    samples.closed(str(installed))
    config = Path(start_guard.CONFIG_FOLDER) / "itsm.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "user": "nobody"}))
    replace, seen = os.replace, []

    def replaced(source, target):
        found = os.stat(source)
        seen.append((target, found.st_gid, stat.S_IMODE(found.st_mode)))
        replace(source, target)

    def run(argv, **options):
        return commands.run(argv, **{**options, "user": None})

    monkeypatch.setattr(os, "replace", replaced)
    assert start_guard.release("itsm", run=run) is None
    assert seen == [(str(installed.parent / "known.json"), pwd.getpwnam("nobody").pw_gid, 0o640)]
