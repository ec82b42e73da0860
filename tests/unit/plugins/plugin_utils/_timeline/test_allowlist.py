# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The values that a timeline is allowed to contain."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, kinds

PROBE = "itsm_nexus.runbook.health_probe"


@pytest.mark.parametrize(
    ("action", "result", "recorded"),
    [
        (PROBE, {"healthy": True, "invocation": {"a": 1}, "msg": "x", "stdout": "y"}, {"healthy": True}),
        (PROBE, {"healthy": "CANARY", "attempts": "CANARY", "attempts_": 1}, {}),
        (PROBE, {"attempts": float("nan"), "severity": None}, {"severity": None}),
        (
            PROBE,
            {"process": {"state": "gone", "environ": "CANARY", "pids": [1, "CANARY", True]}},
            {"process": {"state": "gone", "pids": [1]}},
        ),
        (PROBE, {"endpoints": {"name": "CANARY"}}, {}),
        (PROBE, {"open_incident": True}, {"open_incident": True}),
        (PROBE, {"invocation": {"module_args": {"login": None}}}, {"login_asked": False}),
        (PROBE, {"invocation": {"module_args": {"login": {"password": "CANARY"}}}}, {"login_asked": True}),
        (PROBE, {"invocation": {"module_args": "CANARY"}}, {}),
        (PROBE, {"summary": "the process is gone", "login": None}, {"summary": "the process is gone", "login": None}),
        (
            "itsm_nexus.runbook.node_process",
            {"foreign": [{"pid": 1, "command": "/usr/bin/mysqld --password CANARY"}]},
            {"foreign": [{"pid": 1, "command": "mysqld"}]},
        ),
        ("itsm_nexus.runbook.sqlite_info", {"row_counts": {"users": 3, "x": "CANARY"}}, {"row_counts": {"users": 3}}),
        (PROBE, {"failed": True, "unreachable_host": True, "msg": "CANARY"}, {"unreachable_host": True}),
        (
            "itsm_nexus.runbook.fail_settings",
            {
                "problems": ["x"],
                "messages": {"problems": [{"id": "a", "values": {"b": ["c"]}, "d": "CANARY"}, "CANARY"]},
            },
            {"problems": ["x"], "messages": {"problems": [{"id": "a", "values": {"b": ["c"]}}]}},
        ),
        ("itsm_nexus.runbook.other", {"healthy": True}, {}),
        # Any module in this collection can fail because its host cannot be reached.
        ("itsm_nexus.runbook.other", {"unreachable_host": True, "msg": "CANARY"}, {"unreachable_host": True}),
        ("ansible.builtin.command", {"stdout": "CANARY", "healthy": True}, {}),
        ("elsewhere.itsm_nexus.health_probe", {"healthy": True}, {}),
    ],
)
def test_of_result(action, result, recorded):
    assert allowlist.of_result(action, result) == recorded


def test_lists_and_texts_are_limited():
    findings = [{"cause": "a word " * 1000}] * 500
    kept = allowlist.of_result("itsm_nexus.runbook.triage_info", {"findings": findings})["findings"]
    assert len(kept) == kinds.LIST_LIMIT
    assert {len(each["cause"]) for each in kept} == {kinds.TEXT_LIMIT}


def test_a_module_is_known_by_its_former_name() -> None:
    """The timeline of an open incident may date from before the module was renamed."""
    modules = Path(allowlist.__file__).parents[2] / "modules"
    for old, new in allowlist._RENAMED.items():
        assert allowlist.own_module(f"{allowlist.COLLECTION}.{old}") == new
        assert (modules / f"{new}.py").exists()
        assert not (modules / f"{old}.py").exists()
    counted = {"row_counts": {"users": 3}}
    assert allowlist.of_result(f"{allowlist.COLLECTION}.sqlite_check", counted) == counted
