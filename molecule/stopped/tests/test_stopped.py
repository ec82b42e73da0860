# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator stops the unit: the run identifies the cause and starts the unit again."""

from __future__ import annotations

from drills import Drill


def test_restart_recovers_the_service(drill: Drill) -> None:
    told = drill.assert_recovered(severity="emergency", cause="stopped", rung="restart")
    assert told["cause_summary"] == "The service was stopped on request (by a person or a program)."
