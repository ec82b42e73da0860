# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An older service process uses the port: the run verifies that the process belongs to the service, and stops it."""

from __future__ import annotations

from drills import Drill


def test_older_process_is_stopped(drill: Drill) -> None:
    drill.assert_remedied(severity="critical", cause="port_conflict", run="recover")


def test_unit_has_the_only_process(drill: Drill) -> None:
    (by_hand,) = drill.observation("broken")["processes"]
    after = drill.now()
    assert [str(process["pid"]) for process in after["processes"]] == [after["unit"]["MainPID"]]
    assert after["processes"][0]["pid"] != by_hand["pid"]
