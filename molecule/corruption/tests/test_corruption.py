# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database page is overwritten: the run tries no rung, starts nothing, and notifies the DBA."""

from __future__ import annotations

from drills import Drill


def test_no_rung_is_tried(drill: Drill) -> None:
    drill.cause = "db_corrupt"
    told = drill.postmortem()
    assert (told["outcome"], told["cause"], told["rung"]) == ("not_recovered", "db_corrupt", None)
    assert [tried for tried in told["rungs_tried"] if tried["held"] or not tried["halted"]] == []
    assert told["data_loss"] == "suspected"


def test_nothing_was_started(drill: Drill) -> None:
    broken, after = drill.observation("broken"), drill.now()
    assert broken["rows"] is None
    assert broken["processes"] == after["processes"] == []
    # No program tried to start the service again: systemd recorded only the initial start.
    assert after["unit"]["ActiveEnterTimestampMonotonic"] == broken["unit"]["ActiveEnterTimestampMonotonic"]
    assert drill.ask("https://host:6443/api/v1/health") == (0, None)


def test_database_is_unchanged(drill: Drill) -> None:
    before, after = drill.observation("broken")["files"], drill.now()["files"]
    folder = drill.service.database.rpartition("/")[0]
    assert {path: entry for path, entry in after.items() if path.startswith(folder)} == {
        path: entry for path, entry in before.items() if path.startswith(folder)
    }


def test_leader_and_dba_must_be_notified(drill: Drill) -> None:
    told, closing = drill.postmortem(), drill.screen()[-4000:]
    assert told["escalation"]["level"] == "data_loss"
    assert told["escalation"]["to"] == ["project leader", "DBA"]
    for text in ("project leader", "DBA", "database_recover.yml", drill.service.database):
        assert text in closing, closing


def test_evidence_is_saved(drill: Drill) -> None:
    evidence = drill.postmortem()["evidence"]
    assert drill.host.file(evidence).is_directory
    assert drill.host.check_output(f"grep -rlE 'btreeInitPage|malformed' {evidence}")
