# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release fails at each start until systemd gives up: the run tries no restart, and restores the previous release."""

from __future__ import annotations

from drills import Drill


def test_exception_is_named_and_nothing_is_started(drill: Drill) -> None:
    assert drill.observation("broken")["unit"]["ActiveState"] == "failed"
    told = drill.assert_left_alone(cause="unhandled_exception")
    assert "reading 'priority'" in told["cause_summary"]
    assert {each["cause"]: each["explained_by"] for each in told["findings"]}["crash_loop"] == "unhandled_exception"


def test_previous_release_is_restored_if_policy_allows_it(drill: Drill) -> None:
    told = drill.assert_remedied(cause="unhandled_exception")
    assert drill.host.file(drill.service.app).linked_to.endswith("/releases/20260301")
    assert "backup" in str(told["remedies"][-1]["detail"])
