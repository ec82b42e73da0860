# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every reason for a module's failure exists as a message in English and in Japanese."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
from ansible.module_utils import basic
from sqlite_samples import closed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import from_dict, message, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages as service_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import npm, npm_lock
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import failures
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

EN, JA = catalogue.of("en"), catalogue.of("ja")
LATIN_WORDS = re.compile(r"[A-Za-z][a-z]+(?:[ ,;]+[A-Za-z][a-z]+)+")
# Latin-script names that a Japanese sentence may contain.
NAMES = ("Node.js", "npm ci", "lock ファイル")

SERVICE = {"app_dir": "/nonexistent", "command": ["no-such-program"], "manager": "process"}
# A module, arguments that make it fail, and the ID of the reason. HERE is replaced with the test's folder, and DAMAGED
# with the path of a damaged database.
FAILING = [
    ("sqlite_backup", {"path": "HERE/none.db", "dest": "HERE/copy"}, "reason.sqlite.not_backed_up"),
    ("sqlite_backup", {"path": "DAMAGED", "dest": "DAMAGED"}, "reason.sqlite.dest_there"),
    ("sqlite_wal", {"path": "HERE/none.db"}, "reason.sqlite.not_sound"),
    ("sqlite_wal", {"path": "DAMAGED"}, "reason.sqlite.not_sound"),
    ("sqlite_restore", {"path": "/nonexistent/itsm.db", "evidence_dir": "HERE/kept"}, "reason.sqlite.no_folder"),
    (
        "sqlite_restore",
        {"path": "HERE/none.db", "evidence_dir": "HERE/kept", "state": "recovered"},
        "reason.sqlite.cannot.recover",
    ),
    ("sqlite_owner", {"path": "/nonexistent/itsm.db", "user": "no-such-user"}, "reason.owner.no_user"),
    ("sqlite_info", {"path": "HERE/none.db", "owner": "no-such-user"}, "reason.sqlite.no_account"),
    ("sqlite_info", {"path": "HERE/none.db", "user": "no-such-user"}, "reason.sqlite.no_account"),
    ("sqlite_wal", {"path": "DAMAGED", "user": "no-such-user"}, "reason.sqlite.no_account"),
    ("sqlite_backup", {"path": "DAMAGED", "dest": "HERE/copy", "user": "no-such-user"}, "reason.sqlite.no_account"),
    (
        "sqlite_restore",
        {"path": "DAMAGED", "evidence_dir": "HERE/kept", "owner": "no-such-user"},
        "reason.sqlite.no_account",
    ),
    (
        "release_rollback",
        {"strategy": "git", "app_dir": "HERE", "db_path": "HERE/none.db", "user": "no-such-user"},
        "reason.cannot.change_release",
    ),
    ("npm_ci", {"app_dir": "HERE", "node": "/bin/sh", "npm": "/bin/sh"}, "reason.npm.no_lock_file"),
    ("knex_migrate", {"app_dir": "HERE", "db_path": "HERE/none.db"}, "reason.knex.not_installed"),
    ("process_stop", {"service": SERVICE, "processes": [], "timeout": 0}, "reason.stop.timeout"),
    (
        "process_stop",
        {"service": SERVICE, "processes": [], "policy": [{"user": "root", "command": "("}]},
        "reason.stop.no_pattern",
    ),
    (
        "node_process",
        {"service": {**SERVICE, "log_file": "HERE/log", "pid_file": "HERE/pid"}, "state": "started"},
        "reason.process.no_folder",
    ),
    (
        "release_rollback",
        {"strategy": "git", "app_dir": "/nonexistent", "db_path": "HERE/none.db"},
        "reason.release.no_folder",
    ),
    ("tls_certificate", {"cert_path": "HERE/server.crt", "key_owner": "no-such-user"}, "reason.certificate.no_owner"),
    ("tls_certificate", {"cert_path": "server.crt"}, "reason.certificate.not_absolute"),
    ("incident", {"state": "renewed"}, "reason.record.no_run"),
    ("incident", {"state": "open", "lease": 4000}, "reason.record.number.lease"),
    ("incident", {"state": "open", "detected_at": "now"}, "reason.record.not_instant"),
    ("incident", {"state": "attempt", "run": "run-1"}, "reason.record.none_open"),
    ("incident", {"state": "attempt", "run": "run-1", "call": "x"}, "reason.call.no_name"),
    ("incident", {"state": "maintenance_begun"}, "reason.maintenance.no_end"),
    ("incident", {"state": "open", "maintenance_until": "+2h"}, "reason.maintenance.relative"),
    ("incident_info", {"restart_limit": -1}, "reason.record.number.restart_limit"),
]


@pytest.fixture
def main(monkeypatch, capsys, tmp_path):
    """Yield a function that runs a module in this process and returns its result."""
    damaged = tmp_path / "damaged.db"
    closed(str(damaged))
    damaged.write_bytes(b"x" * 100 + damaged.read_bytes()[100:])

    def in_place(value):
        if isinstance(value, dict):
            return {key: in_place(each) for key, each in value.items()}
        if isinstance(value, str):
            return value.replace("HERE", str(tmp_path)).replace("DAMAGED", str(damaged))
        return value

    def main(name, /, **parameters):
        parameters = in_place(parameters)
        parameters["state_dir"] = str(tmp_path / "state")
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": parameters}).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            importlib.import_module(f"ansible_collections.itsm_nexus.runbook.plugins.modules.{name}").main()
        return json.loads(capsys.readouterr().out)

    yield main
    shutil.rmtree(host_lease.Seat(state_dir=str(tmp_path / "state")).folder, ignore_errors=True)


def without_values(told):
    """Return a message with each string in its values replaced by 7.

    These strings may be paths or system messages, which are in English.
    """
    if isinstance(told, dict):
        return {"id": told["id"], "values": {name: without_values(value) for name, value in told["values"].items()}}
    return [without_values(each) for each in told] if isinstance(told, list) else "7"


def require_japanese(told):
    """Fail if a message is only a quotation in English, or if the Japanese text contains an English sentence."""
    assert told
    assert not any(each["id"] == "quoted" for each in told), told
    require_no_latin_sentence(JA.message([without_values(each) for each in told]))


def require_no_latin_sentence(text):
    """Fail if a Japanese text is empty or contains an English sentence."""
    assert text
    for name in NAMES:
        text = text.replace(name, "")
    assert not LATIN_WORDS.search(text), text


def without_values_of_messages(data):
    """Return a step's data, with each string in its messages replaced by 7. See without_values."""
    if isinstance(data, dict):
        return {
            name: {key: without_values(told) for key, told in value.items()}
            if name == "messages"
            else without_values_of_messages(value)
            for name, value in data.items()
        }
    return [without_values_of_messages(each) for each in data] if isinstance(data, list) else data


def step(name, result, *, status="ok"):
    """Return the timeline step for a module's result."""
    action = f"itsm_nexus.runbook.{name}"
    data = without_values_of_messages(allowlist.of_result(action, result))
    about = dict.fromkeys(field.name for field in dataclasses.fields(incident_model.Step))
    told = {"kind": "task", "weight": incident_model.CHANGE, "action": action, "status": status, "data": data}
    return incident_model.Step(**{**about, **told})


@pytest.mark.parametrize(("name", "parameters", "identity"), FAILING)
def test_the_reason_of_a_failed_module_is_in_japanese(main, name, parameters, identity):
    result = main(name, **parameters)
    assert result["failed"]
    assert result["messages"]["msg"]["id"] == identity
    assert EN.message(result["messages"]["msg"]) == result["msg"].rstrip(".")
    # A playbook builds messages from this result, with or without the task's name.
    for more in ({}, {"task": "A task"}):
        told = failures.messages(result, **more)
        require_japanese(told)
        kept = allowlist.pick(allowlist.OUTCOME["messages"], {"error": told})
        assert kept == {"error": told}
    recorded = allowlist.of_result(f"itsm_nexus.runbook.{name}", result)
    assert recorded["messages"] == result["messages"]


def require_japanese_reason(result, identity):
    """Assert that a module failed with the message `identity`, and that this message exists in Japanese."""
    assert result["failed"]
    told = result["messages"]["msg"]
    assert told["id"] == identity
    # The catalogue formats a time differently from the module.
    assert EN.message(told) == re.sub(r"(\d)T([\d:]+)[.]\d+Z", r"\1 \2 UTC", result["msg"].rstrip("."))
    require_japanese([told])


def test_the_lease_of_another_run_is_named_in_japanese(main, tmp_path):
    other = incident_record.call(state_dir=str(tmp_path / "state"), state="open", step="triage")
    refused = main("incident", state="open")
    assert refused["locked_by"]["run"] == other["run"]
    require_japanese_reason(refused, "reason.lease.taken")
    require_japanese_reason(main("sqlite_info", path="DAMAGED", run="run-1"), "reason.lease.lost")
    require_japanese_reason(main("incident", state="attempt", run="run-1"), "reason.lease.taken")


def test_a_held_start_is_named_in_japanese(main, tmp_path):
    about = {"manager": "process", "unit": "", "state_dir": str(tmp_path / "state"), "run": "run-1"}
    one_starter.hold(**about, incident="INC-1", cause="db_corrupt", reason="Rows are missing", warn=[].append)
    service = {**SERVICE, "log_file": "HERE/log", "pid_file": "HERE/pid"}
    refused = main("node_process", service=service, state="started")
    require_japanese_reason(refused, "reason.process.start_refused")
    # If a person gave the reason, it is quoted.
    assert "「Rows are missing」" in JA.message(refused["messages"]["msg"])


def test_why_a_probe_could_not_open_the_incident_is_named_in_japanese(main):
    endpoint = {"name": "https", "url": "http://127.0.0.1:1/"}
    about = {"service": SERVICE, "open": True, "maintenance_until": "tomorrow", "warning_after": 1, "interval": 0.1}
    found = main("health_probe", endpoints=[endpoint], **about)
    require_japanese_reason(found["opened"], "reason.maintenance.not_an_end")


def test_a_plan_of_a_recovery_is_in_japanese(main):
    result = main("sqlite_restore", path="DAMAGED", evidence_dir="HERE/kept", confirm_empty=True)
    assert {each["method"] for each in result["plan"]} == {"checkpoint", "salvage", "backup", "empty"}
    recorded = allowlist.of_result("itsm_nexus.runbook.sqlite_restore", result)
    for each, kept in [(result, recorded), *zip(result["plan"], recorded["plan"])]:
        for key in ("reason", "statement"):
            told = each["messages"].get(key, [])
            assert kept["messages"].get(key, []) == told
            assert EN.message(told, "") == each[key].rstrip(" .;")
            if told:
                require_japanese(told)
    for problem in recorded["problems"]:
        assert EN.message(problem["messages"]["message"]) == problem["message"]
        require_japanese([problem["messages"]["message"]])


@pytest.mark.parametrize("path", ["DAMAGED", "HERE/none.db", "HERE/garbage.db"])
def test_why_no_method_is_possible_is_in_japanese(main, tmp_path, path):
    (tmp_path / "garbage.db").write_bytes(b"x" * 8192)
    plan = main("sqlite_restore", path=path, evidence_dir="HERE/kept", method="backup")
    assert plan["method"] is None
    # The database_recovery role puts this reason into its own message.
    values = {"path": path, "why": plan["messages"]["reason"]}
    told = from_dict({"id": "reason.recovery.no_method", "values": values}).to_dict()
    role = {"problems": [EN.message(told)], "messages": {"problems": [told]}}
    error = failures.messages({"msg": EN.message(told)}, results=[{}, role], task="7")
    require_japanese(error)
    kept = allowlist.pick(allowlist.OUTCOME["messages"], {"error": error})
    assert kept == {"error": error}


def test_a_refused_release_is_reported_in_japanese(main, tmp_path):
    result = main("release_rollback", strategy="symlink", app_dir="HERE", db_path="HERE/itsm.db")
    assert result["refused"] == f"{tmp_path} is not a symbolic link to a release"
    recorded = allowlist.of_result("itsm_nexus.runbook.release_rollback", result)
    require_japanese([recorded["messages"]["refused"]])


def test_the_problems_of_a_certificate_are_in_japanese(main):
    result = main("tls_certificate", cert_path="HERE/server.crt")
    recorded = allowlist.of_result("itsm_nexus.runbook.tls_certificate", result)
    assert [EN.message(each) for each in recorded["messages"]["problems"]] == result["problems"]
    require_japanese(recorded["messages"]["problems"])


def test_invalid_settings_are_reported_in_japanese(main):
    service = {**SERVICE, "user": "no-such-user", "log_file": "HERE/log"}
    result = main("service_preflight_info", service=service, db_path="x", https_port=0, http_port=0)
    recorded = allowlist.of_result("itsm_nexus.runbook.service_preflight_info", result)
    assert len(recorded["problems"]) > 3
    for problem in recorded["problems"]:
        assert EN.message(problem["messages"]["message"]) == problem["message"]
        require_japanese([problem["messages"]["message"]])


def test_every_module_that_fails_with_a_message_documents_it():
    for path in (Path(__file__).parents[4] / "plugins" / "modules").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "failure(error)" not in source or "\nmessages:\n" in source, path.name


# A module, and arguments that make it find problems.
FINDING = [
    ("sqlite_info", {"path": "DAMAGED", "checks": ["quick", "integrity"]}),
    ("sqlite_info", {"path": "HERE/none.db"}),
    ("sqlite_restore", {"path": "DAMAGED", "evidence_dir": "HERE/kept", "confirm_empty": True}),
    ("sqlite_restore", {"path": "HERE/none.db", "evidence_dir": "HERE/kept"}),
    (
        "service_preflight_info",
        {
            "service": {**SERVICE, "user": "no-such-user", "log_file": "HERE/log"},
            **{"db_path": "x", "https_port": 0, "http_port": 0},
        },
    ),
]


@pytest.mark.parametrize(("name", "parameters"), FINDING)
def test_the_step_of_a_module_that_found_problems_is_in_japanese(main, name, parameters):
    found = step(name, main(name, **parameters))
    require_no_latin_sentence(prose_steps.happened(JA, found))
    require_no_latin_sentence(prose_steps.deed(JA, found))
    if name == "service_preflight_info":
        assert len(prose_steps.refusals(JA, [found, found])) == len(found.data["problems"]) > 3
        require_no_latin_sentence("\n".join(prose_steps.refusals(JA, [found])))


@pytest.mark.parametrize("more", [0, 30])
def test_the_reasons_for_new_dependencies_are_in_japanese(more):
    found = [message("reason.npm.no_tree"), *([message("reason.npm.no_manifest", name="a", folder="b")] * more)]
    reasons = npm._reasons([npm_lock.Difference("a", None, None, each) for each in found])
    told = {"reasons": [service_messages.english(each) for each in reasons], "messages": plain(reasons=reasons)}
    changed = step("npm_ci", {"needed": True, "swapped": True, **told}, status="changed")
    require_no_latin_sentence(prose_steps.deed(JA, changed))
    assert "「" not in prose_steps.deed(JA, changed)
    # An old timeline contains only English text, not messages.
    del changed.data["messages"]
    assert "「node_modules is missing」" in prose_steps.deed(JA, changed)
