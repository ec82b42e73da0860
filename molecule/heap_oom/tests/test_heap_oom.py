# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Node reaches its heap limit: a restart ends the outage. If the policy allows it, the run also raises the limit."""

from __future__ import annotations

from drills import Drill


def options(drill: Drill, run: str) -> str:
    (process,) = drill.observation(f"{run}-after")["processes"]
    return process["node_options"]


def test_restart_recovers_the_service_without_other_changes(drill: Drill) -> None:
    told = drill.postmortem("forbidden")
    assert (told["outcome"], told["cause"], told["rung"]) == ("recovered", "heap_oom", "restart")
    assert "max_old_space_size" in str(told["remedies"][0]["reason"])
    assert options(drill, "forbidden") == "--max-old-space-size=64"


def test_heap_limit_is_raised_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(cause="heap_oom")
    assert options(drill, "allowed") == "--max-old-space-size=128"
