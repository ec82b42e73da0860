# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a rung that failed, as tables of cases."""

from __future__ import annotations

import ast
import datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import attempt

ROOT = Path(__file__).resolve().parents[5]
START = "itsm_nexus.runbook.node_process"
SERVES = {"serves": True, "data_loss_suspected": False}
SUSPECTED = {"serves": False, "data_loss_suspected": True}
FELL = {"serves": False, "data_loss_suspected": False, "fell": True}
EARLIER = {"rung": "restart", "held": False, "reason": "It fell", "messages": {}}
WHY = [quoted("npm failed").to_dict()]


def seen(**changes: Any) -> dict[str, Any]:
    return {
        "attempt": {"rung": "standard_recovery", "started_at": "2026-03-02T01:00:00.000Z", "seconds": 2.5},
        **{"tried": [], "check_mode": False, "action": "itsm_nexus.runbook.npm_ci", "reason": "npm failed"},
        **{"messages": WHY, "host_lost": False, "no_room": False, "damaging": False, "began": True},
        **{"already_started": False, "verification": {}},
        **changes,
    }


# The failure, and three results: True if the ladder ends, True if the service serves requests, and True if the service
# is started again in its previous state.
CASES: list[tuple[str, dict[str, Any], bool, bool, bool]] = [
    ("the rung stopped the service and failed", {}, False, False, True),
    ("the same, after another rung", {"tried": [EARLIER]}, False, False, True),
    ("the first rung failed before it changed the service", {"began": False}, False, False, True),
    ("a later rung failed before it changed the service", {"began": False, "tried": [EARLIER]}, False, False, False),
    ("the start failed", {"action": START}, False, False, False),
    ("in check mode", {"check_mode": True}, False, False, False),
    ("the connection was lost", {"host_lost": True}, False, False, False),
    ("another rung could cause damage", {"damaging": True}, True, False, False),
    ("the rung had no room", {"damaging": True, "no_room": True}, False, False, True),
    ("the service failed again", {"verification": FELL}, False, False, False),
    ("only the login failed", {"verification": SERVES}, True, True, False),
    ("rows are missing", {"verification": SUSPECTED}, True, False, False),
    (
        "the login failed, and rows are missing",
        {"verification": {**SERVES, **SUSPECTED, "serves": True}},
        True,
        False,
        False,
    ),
    ("the verification settings are invalid", {"action": "validate_argument_spec"}, True, False, False),
    ("the same, with the full name", {"action": "ansible.builtin.validate_argument_spec"}, True, False, False),
    (
        "the settings of the rung are invalid",
        {"action": "ansible.builtin.validate_argument_spec", "began": False, "invalid_role": "standard_recovery"},
        *(False, False, True),
    ),
    (
        "the settings of the service are invalid",
        {"action": "ansible.builtin.validate_argument_spec", "began": False, "invalid_role": "nexus"},
        *(True, False, False),
    ),
    (
        "the same, with the collection",
        {"action": "validate_argument_spec", "began": False, "invalid_role": "itsm_nexus.runbook.nexus"},
        *(True, False, False),
    ),
    (
        "the first response started the service, and the verification settings are invalid",
        {"action": "ansible.builtin.validate_argument_spec", "began": False, "already_started": True},
        *(True, False, False),
    ),
]


@pytest.mark.parametrize(
    ("changes", "halted", "serves", "restore"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_result_of_a_failed_rung(changes: dict[str, Any], halted: bool, serves: bool, restore: bool) -> None:
    given = seen(**changes)
    decided = attempt.failed(given)
    assert decided == {
        "attempt": {
            **given["attempt"],
            "held": None if given["host_lost"] else False,
            "halted": halted,
            "fell": given["verification"].get("fell", False),
            "serves": serves,
            "reason": "npm failed",
            "messages": {"reason": WHY},
        },
        "restore": restore,
    }


def test_the_duration_of_a_rung_is_a_number() -> None:
    """In ansible-core 2.18, a number stays a number only if one expression returns the whole dictionary."""
    (tasks,) = yaml.safe_load((ROOT / "playbooks/tasks/try_rung.yml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - plain text
    environment.filters["to_datetime"] = datetime.datetime.strptime
    ended = datetime.datetime(2026, 3, 2, 1, 0, 2, 500000)
    told = environment.from_string(tasks["vars"]["_outage_recover_try"]).render(
        now=lambda **_utc: ended,
        _outage_recover_rung="restart",
        _outage_recover_rung_started_at="2026-03-02T01:00:00.000Z",
    )
    assert ast.literal_eval(told) == {"rung": "restart", "started_at": "2026-03-02T01:00:00.000Z", "seconds": 2.5}


def last_of(how: str, **changes: Any) -> dict[str, Any]:
    failed = attempt.failed(seen())["attempt"]
    *before, last = attempt.failed_again(seen(tried=[EARLIER, failed], reason="it fell", **changes), how)
    assert before == [EARLIER] and last.keys() == failed.keys()
    assert (last["rung"], last["seconds"]) == ("standard_recovery", 2.5)
    return last


def test_the_second_failure_is_added_to_the_reason() -> None:
    why = quoted("it fell").to_dict()
    then, restored = (last_of(how, messages=[why]) for how in ("then", "restored"))
    assert then["reason"] == "npm failed; then it fell"
    assert then["messages"]["reason"] == [*WHY, message("reason.failure.then", why=[quoted("it fell")]).to_dict()]
    assert restored["reason"] == "npm failed; restoring the previous state also failed: it fell"
    assert restored["messages"]["reason"][1]["id"] == "reason.failure.restored"


AGAIN: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("the second check failed", "then", {}, {"held": False, "halted": False}),
    ("the connection was lost again", "then", {"host_lost": True}, {"held": None}),
    ("the second check found another rung harmful", "then", {"damaging": True}, {"halted": True}),
    ("only the login failed in the second check", "then", {"verification": SERVES}, {"serves": True, "halted": True}),
    ("the service failed again in the second check", "then", {"verification": FELL}, {"fell": True, "halted": False}),
    ("the old state could not be started", "restored", {"action": START}, {"held": False, "halted": False}),
    (
        "the old state serves, but the login fails",
        "restored",
        {"verification": SERVES},
        {"serves": True, "halted": True},
    ),
    ("the old state lacks rows", "restored", {"verification": SUSPECTED}, {"serves": False, "halted": True}),
    ("the old state failed again", "restored", {"verification": FELL}, {"fell": True, "halted": False}),
    # There was not enough space for the rung, so the rung ended early. The next rung may still be tried.
    ("the rung that had no room", "restored", {"damaging": True}, {"halted": False}),
]


@pytest.mark.parametrize(("how", "changes", "result"), [case[1:] for case in AGAIN], ids=[case[0] for case in AGAIN])
def test_the_result_of_a_second_failure(how: str, changes: dict[str, Any], result: dict[str, Any]) -> None:
    last = last_of(how, **changes)
    assert {name: last[name] for name in result} == result
