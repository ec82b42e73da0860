# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main process is killed: the run connects with OpenSSH and starts the unit again with sudo."""

from __future__ import annotations

from drills import Drill


def test_restart_recovers_the_service(drill: Drill) -> None:
    told = drill.assert_recovered(severity="emergency", cause="killed", rung="restart")
    assert told["probe"]["process"]["state"] == "gone"


def test_unit_has_one_new_process(drill: Drill) -> None:
    before, after = drill.observation("sound"), drill.now()
    assert (after["unit"]["ActiveState"], after["unit"]["SubState"]) == ("active", "running")
    assert [str(process["pid"]) for process in after["processes"]] == [after["unit"]["MainPID"]]
    assert after["unit"]["MainPID"] != before["unit"]["MainPID"]
    assert after["processes"][0]["user"] == drill.service.user


def test_recovery_used_openssh(drill: Drill) -> None:
    assert "Accepted publickey for itsm-runbook" in drill.host.check_output("journalctl --unit ssh --no-pager")


def test_incident_is_closed(drill: Drill) -> None:
    told = drill.postmortem()
    assert told["times"]["resolved_at"]
    assert told["escalation"]["to"] == []
    assert drill.host.file(told["evidence"]).exists
