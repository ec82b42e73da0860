# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A dry run on a host whose service is down shows the planned steps and changes nothing."""

from __future__ import annotations

from drills import RUNBOOK, Drill


def test_host_is_unchanged(drill: Drill) -> None:
    broken, after = drill.observation("broken"), drill.now()
    assert broken["processes"] == []
    assert after == broken


def test_screen_lists_the_steps(drill: Drill) -> None:
    screen = drill.screen()
    closing = screen[screen.index("PLAY RECAP") :]
    assert f"WOULD TRY TO RECOVER (check mode, nothing changed): {RUNBOOK.unit} on check_mode" in closing
    for text in ("emergency", "killed", "restart"):
        assert text in closing
    recap = drill.recap()
    # A real run would make two changes: it would open an incident and start the service.
    assert (recap["failed"], recap["unreachable"], recap["changed"]) == (0, 0, 2)
    assert "changed= counts the changes that a run would make" in closing


def test_no_document_is_written(drill: Drill) -> None:
    assert drill.documents() == []
