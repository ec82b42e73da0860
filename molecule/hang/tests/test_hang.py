# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process runs but does not answer: after five consecutive failed probes, the run restarts the service."""

from __future__ import annotations

from drills import Drill


def test_restart_recovers_the_service(drill: Drill) -> None:
    told = drill.assert_recovered(severity="critical", cause="hung", rung="restart")
    assert told["probe"]["process"]["state"] == "running"
    assert told["probe"]["consecutive_failures"] == 5
    assert told["probe"]["attempts"] == 5


def test_hung_process_is_gone(drill: Drill) -> None:
    before, after = drill.observation("sound"), drill.now()
    assert after["unit"]["ActiveState"] == "active"
    assert [str(process["pid"]) for process in after["processes"]] == [after["unit"]["MainPID"]]
    assert not drill.host.file(f"/proc/{before['unit']['MainPID']}").exists
    assert after["processes"][0]["state"] != "T"
