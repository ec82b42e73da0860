# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every start fails: the run tries every rung, loses no rows, and lists the right contacts in the summary."""

from __future__ import annotations

from drills import Drill


def test_every_rung_was_tried(drill: Drill) -> None:
    told = drill.postmortem()
    assert (told["outcome"], told["severity"], told["rung"]) == ("not_recovered", "emergency", None)
    assert [(tried["rung"], tried["held"]) for tried in told["rungs_tried"]] == [
        ("restart", False),
        ("standard_recovery", False),
        ("clean_start_recovery", False),
    ]
    assert all(tried["reason"] for tried in told["rungs_tried"])


def test_screen_ends_with_cause_next_step_and_contacts(drill: Drill) -> None:
    told, closing = drill.postmortem(), drill.screen()[-4000:]
    assert told["escalation"]["to"]
    assert told["escalation"]["reason"]
    for text in ("restart", "standard_recovery", "clean_start_recovery", "next step", *told["escalation"]["notified"]):
        assert text in closing, closing


def test_nothing_serves_and_no_row_is_lost(drill: Drill) -> None:
    assert drill.ask("https://host:6443/api/v1/health") == (0, None)
    assert drill.now()["rows"] == drill.observation("sound")["rows"]
    assert drill.postmortem()["data_loss"] != "suspected"


def test_another_run_is_not_locked_out(drill: Drill) -> None:
    assert drill.recap("again")["failed"] == 1
    (told,) = {drill.postmortem("recover")["incident"], drill.postmortem("again")["incident"]}
    assert told
