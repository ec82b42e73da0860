# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Timeline entries for tasks and results: their keys, and the data that they must not contain."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import progress, task_result

CLOCK = progress.Clock(began=0.0, seconds=1.23456)
TIMES = {"start": "1970-01-01T00:00:00.000Z", "duration": 1.235}
PROBE = "itsm_nexus.runbook.health_probe"


def named(name: str) -> Any:
    return SimpleNamespace(get_name=lambda: name)


def task(action: str = "ansible.builtin.command", **keys: Any) -> Any:
    """Return a fake of the task that ansible-core passes to a callback, with all attributes that the code reads."""
    source = keys.pop("source", {"name": "Say {{ it }} now"})
    defaults = {"_uuid": "1", "_parent": None, "_role": None, "no_log": False, "resolved_action": None}
    return SimpleNamespace(action=action, get_ds=lambda: source, **{**defaults, **keys})


def result(of: Any, fields: dict[str, Any], *, public: bool = True) -> Any:
    """Return a fake result with the public attributes of ansible-core 2.19, or the private ones of earlier versions."""
    changed = {"is_changed": lambda: bool(fields.get("changed"))}
    if public:
        return SimpleNamespace(host=named("node1"), task=of, result=fields, **changed)
    return SimpleNamespace(_host=named("node1"), _task=of, _result=fields, **changed)


def succeeded(of: Any, fields: dict[str, Any]) -> list[dict[str, Any]]:
    return list(task_result.succeeded(result(of, fields), task_result.Task.of(of), CLOCK))


def failed(of: Any, fields: dict[str, Any]) -> list[dict[str, Any]]:
    return list(task_result.failed(result(of, fields), task_result.Task.of(of), None, ignored=False))


@pytest.mark.parametrize("public", [True, False])
def test_both_names_of_host_task_and_fields_are_read(public: bool) -> None:
    of = task()
    given = result(of, {"rc": 0}, public=public)
    assert task_result.host_and_task(given) == ("node1", of)
    assert task_result.fields_of(given) == {"rc": 0}


def test_a_task_is_known_by_its_name_in_the_playbook_and_its_outermost_role() -> None:
    block = SimpleNamespace(_role=named("itsm_nexus.runbook.restart"), _parent=None)
    known = task_result.Task.of(task(PROBE, _role=named("itsm_nexus.runbook.nexus"), _parent=block))
    assert known.module == "health_probe"
    assert known.identity == {"task": "Say … now", "role": "restart", "action": PROBE}


def test_an_action_has_its_resolved_name_unless_it_is_from_this_collection() -> None:
    assert task_result.action_of(task("command", resolved_action="ansible.builtin.command")) == task().action
    assert task_result.action_of(task(PROBE, resolved_action="itsm_nexus.runbook.disk_reclaim")) == PROBE


def test_only_status_and_time_of_a_foreign_result_are_recorded() -> None:
    (entry,) = succeeded(task(), {"changed": True, "stdout": "secret"})
    assert entry == {
        "kind": "task",
        "host": "node1",
        "task": "Say … now",
        "role": None,
        "action": "ansible.builtin.command",
        "status": "changed",
        **TIMES,
    }


def test_only_listed_keys_of_our_modules_are_recorded() -> None:
    (entry,) = succeeded(task(PROBE), {"healthy": True, "other": "secret"})
    assert (entry["status"], entry["data"]) == ("ok", {"healthy": True})


def test_a_loop_over_one_of_our_modules_has_an_entry_per_item_and_one_duration() -> None:
    turns = [{"healthy": True}, {"skipped": True}, {"healthy": False, "changed": True}, {"failed": True, "msg": "no"}]
    entries = failed(task(PROBE), {"results": turns, "failed": True, "invocation": {}})
    assert [entry["status"] for entry in entries] == ["ok", "changed", "failed"]
    entries = succeeded(task(PROBE), {"results": turns[:3]})
    assert ["duration" in entry for entry in entries] == [True, False]


@pytest.mark.parametrize(
    ("of", "fields"),
    [
        (task(PROBE, no_log=True), {"healthy": True}),
        (task(PROBE), {"healthy": True, "_ansible_no_log": True}),
        (task(PROBE), {"results": [{"censored": "hidden", "healthy": True}]}),
    ],
)
def test_no_key_of_a_task_with_no_log_is_recorded(of: Any, fields: dict[str, Any]) -> None:
    for entries in (succeeded(of, fields), failed(of, fields)):
        assert [(entry["hidden"], "data" in entry, "msg" in entry) for entry in entries] == [(True, False, False)]
    assert succeeded(task(no_log=True), {})[0]["hidden"] is True


def test_set_stats_publishes_outcome_and_summary() -> None:
    data = {"outage_recover": {"node1": {"outcome": "recovered", "other": "secret"}}}
    (entry,) = succeeded(task("ansible.builtin.set_stats"), {"ansible_stats": {"data": data}})
    assert entry == {"kind": "outcome", "host": "node1", "data": {"outcome": "recovered"}}
    (entry,) = succeeded(task("ansible.builtin.set_stats"), {"ansible_stats": {"data": {"other": 1}}})
    assert entry["kind"] == "task"
    (entry,) = succeeded(task("ansible.builtin.set_stats", no_log=True), {"ansible_stats": {"data": data}})
    assert entry["hidden"] is True


@pytest.mark.parametrize(
    ("of", "fields", "reason"),
    [
        (task(PROBE), {"msg": "No answer", "invocation": {}}, "No answer"),
        (task(), {"msg": "secret"}, None),
        (task("ansible.builtin.fail", source={"fail": {"msg": "Stop here"}}), {"msg": "secret"}, "Stop here"),
        (task("ansible.builtin.fail", source={"fail": "a string"}), {"msg": "secret"}, None),
        (task("ansible.builtin.assert", source={"ansible.builtin.assert": {"fail_msg": "Not so"}}), {}, "Not so"),
        (task("validate_argument_spec"), {"msg": "secret"}, None),
        (
            task("validate_argument_spec"),
            {"msg": "Finalization: 'nexus_user' is undefined, secret"},
            "the variable nexus_user is not defined",
        ),
    ],
)
def test_the_reason_of_a_failure_is_from_a_module_or_a_constant(of: Any, fields: dict[str, Any], reason: str) -> None:
    (entry,) = failed(of, fields)
    assert (entry["status"], entry["msg"]) == ("failed", reason)
    assert "secret" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("core", "fields", "of_module"),
    [
        ((2, 19), {"msg": "Task failed: secret"}, False),
        ((2, 19), {"msg": "No answer"}, True),
        ((2, 18), {"msg": "secret"}, False),
        ((2, 18), {"msg": "No answer", "invocation": {}}, True),
    ],
)
def test_text_from_ansible_core_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, core: tuple[int, int], fields: dict[str, Any], of_module: bool
) -> None:
    monkeypatch.setattr(task_result.ansible_core, "VERSION", "{}.{}.0".format(*core))
    (entry,) = failed(task(PROBE), fields)
    assert entry["msg"] == ("No answer" if of_module else None)


def test_invalid_settings_are_named_without_their_values() -> None:
    fields = {
        "argument_spec_data": {"nexus_port": {"type": "int"}, "nexus_manager": {"choices": ["systemd", "process"]}},
        "argument_errors": [
            "argument 'nexus_port' is of type str and we were unable to convert to int: 'secret'",
            "value of nexus_manager must be one of: systemd, process, got: secret",
            "missing required arguments: nexus_port",
        ],
    }
    own = task("validate_argument_spec", _role=named("itsm_nexus.runbook.nexus"))
    (entry,) = failed(own, fields)
    assert entry["data"]["problems"] == [
        "nexus_port must be of type int",
        "nexus_manager must be one of systemd, process",
        "nexus_port is missing",
    ]
    (entry,) = failed(task("validate_argument_spec", _role=named("theirs")), fields)
    assert "data" not in entry


def test_other_kinds_of_events_have_the_keys_of_the_task() -> None:
    known = task_result.Task.of(task(PROBE))
    assert task_result.started("node1", known)["kind"] == "started"
    assert task_result.retried("node1", known, {"attempts": 2, "other": "secret"})["attempts"] == 2
    entry = task_result.unreachable("node1", known, CLOCK)
    assert entry == {"kind": "unreachable", "host": "node1", **known.identity, **TIMES}


FIRST_RESPONSE = "itsm_nexus.runbook.first_response"
STARTED = {
    "changed": True,
    "findings": [{"cause": "killed"}],
    "bundle": "/evidence",
    "response": {
        "started": True,
        "attempt": {"rung": "restart", "started_at": "2026-03-02T01:02:03.450Z"},
        "process": {"state": "started", "pids_after": [812], "duration": 0.1, "other": "secret"},
    },
}


def test_a_first_response_is_recorded_as_a_triage_and_a_start() -> None:
    triage, start = succeeded(task(FIRST_RESPONSE), STARTED)
    assert (triage["action"], triage["status"]) == ("itsm_nexus.runbook.triage_info", "ok")
    assert triage["data"] == {"findings": [{"cause": "killed"}], "bundle": "/evidence"}
    assert (start["action"], start["status"]) == ("itsm_nexus.runbook.node_process", "changed")
    assert (start["role"], start["start"], start["duration"]) == ("restart", "2026-03-02T01:02:03.450Z", 0.1)
    assert start["data"] == {"state": "started", "pids_after": [812], "duration": 0.1}


def test_a_first_response_that_started_nothing_is_recorded_as_a_triage() -> None:
    stood_aside = {**STARTED, "changed": False, "response": {"started": False, "process": None}}
    (triage,) = succeeded(task(FIRST_RESPONSE), stood_aside)
    assert triage["action"] == "itsm_nexus.runbook.triage_info"
    (lost,) = succeeded(task(FIRST_RESPONSE), {"changed": False, "lost": "no route"})
    assert lost["action"] == FIRST_RESPONSE and "data" not in lost
