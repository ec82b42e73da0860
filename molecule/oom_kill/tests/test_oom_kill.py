# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The OOM killer kills the service: a restart ends the outage. If the policy allows it, the run also limits memory."""

from __future__ import annotations

from drills import Drill


def test_restart_recovers_the_service_without_other_changes(drill: Drill) -> None:
    told = drill.postmortem("forbidden")
    assert (told["outcome"], told["cause"], told["rung"]) == ("recovered", "oom_kill", "restart")
    assert "Killed process" in str(told["findings"][0]["evidence"])
    assert "memory_max" in str(told["remedies"][0]["reason"])


def test_memory_is_limited_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(cause="oom_kill")
    assert int(drill.host.check_output(f"systemctl show --property=MemoryMax --value {drill.service.unit}")) > 2**26
