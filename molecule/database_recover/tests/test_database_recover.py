# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Four outages with increasing damage to the database: each method reports exactly which rows are lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from drills import RUNBOOK, Drill

APP = RUNBOOK.app
DATABASE = RUNBOOK.database


def held_before(drill: Drill, name: str) -> dict[str, int]:
    """Return the row count of each table just before the damage."""
    return json.loads((drill.output / f"{name}-rows.json").read_text(encoding="utf-8"))


def lost(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {table: rows - after.get(table, 0) for table, rows in before.items() if rows > after.get(table, 0)}


def assert_recovered(drill: Drill, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Assert that the method `name` recovered the database, and that the service runs on this database.

    The database must be intact and must have the same mode and owner as before the damage.
    """
    told, after = drill.postmortem(name), drill.observation(f"{name}-after")
    assert (told["outcome"], told["rung"]) == ("recovered", f"database_recovery by {name}")
    assert after["rows"] is not None
    assert after["unit"]["ActiveState"] == "active"
    assert len(after["processes"]) == 1
    assert drill.recap(name)["failed"] == 0
    mode, uid, gid = after["files"][DATABASE][:3]
    assert [mode, uid, gid] == drill.observation("sound")["files"][DATABASE][:3]
    return told, after


def assert_rows_are_reported(told: dict[str, Any], after: dict[str, Any]) -> None:
    """Assert that the reported rows are in the database. The report lists rows that the service created separately."""
    seeded = told["rows_seeded"] or {}
    reported = {table: told["rows_after"].get(table, 0) + seeded.get(table, 0) for table in after["rows"]}
    assert reported == after["rows"]


def test_checkpoint_loses_nothing_and_notifies_nobody(drill: Drill) -> None:
    told, after = assert_recovered(drill, "checkpoint")
    assert after["rows"] == drill.observation("sound")["rows"]
    assert_rows_are_reported(told, after)
    assert told["data_loss"] == "none"
    assert told["escalation"]["to"] == []


def test_dry_run_reports_the_loss_and_changes_nothing(drill: Drill) -> None:
    screen = drill.screen("dry_run")
    assert "salvage (CHOSEN)" in screen
    assert "Lost: " in screen
    assert drill.documents("dry_run") == []
    recap = drill.recap("dry_run")
    assert recap["failed"] == 0


def test_salvage_restores_all_but_the_overwritten_page(drill: Drill) -> None:
    told, after = assert_recovered(drill, "salvage")
    before = held_before(drill, "salvage")
    assert_rows_are_reported(told, after)
    missing = lost(before, after["rows"])
    assert set(missing) == {"incidents"}
    assert 0 < missing["incidents"] < 30
    assert lost(told["rows_before"], told["rows_after"]) == missing
    assert told["data_loss"] == "known"
    assert told["escalation"]["to"] == ["project leader"]
    assert f"{missing['incidents']} rows: {missing['incidents']} of {before['incidents']} in incidents" in drill.screen(
        "salvage"
    )


def test_loss_is_reported_before_any_change(drill: Drill) -> None:
    screen = drill.screen("salvage")
    report, change = "Show what each method would lose", "Recover the database with the selected method"
    assert screen.index(report) < screen.index(change)


def test_backup_is_used_if_it_contains_more_rows(drill: Drill) -> None:
    told, after = assert_recovered(drill, "backup")
    before = held_before(drill, "backup")
    assert told["backup_file"] == f"{DATABASE}.backup_drill"
    assert_rows_are_reported(told, after)
    # The lost rows are the nine incidents that were written after the backup.
    assert lost(before, after["rows"])["incidents"] == 9
    assert told["escalation"]["to"] == ["project leader"]
    assert told["escalation"]["reason"] == "The database was replaced by a backup."
    assert "about the loss (" in told["next_step"]


def test_empty_database_needs_a_confirmation(drill: Drill) -> None:
    told = drill.postmortem("refused")
    assert told["outcome"] == "not_recovered"
    assert told["escalation"]["to"] == ["project leader", "DBA"]
    assert "database_recovery_confirm_empty" in drill.screen("refused")


def test_empty_database_has_its_schema_and_everyone_is_notified(drill: Drill) -> None:
    told, after = assert_recovered(drill, "empty")
    assert set(after["rows"]) == set(drill.observation("sound")["rows"])
    # The damaged database is unreadable. The last good row count shows how many rows were lost.
    assert (told["rows_before"], told["data_loss"]) == (held_before(drill, "empty"), "known")
    # No rows were restored. When the service started, it inserted its default rows into the empty tables.
    assert_rows_are_reported(told, after)
    assert set(told["rows_after"]) == {"knex_migrations", "knex_migrations_lock"}
    assert after["rows"]["incidents"] == 3
    assert told["escalation"]["to"] == ["the whole team"]
    assert told["incident"] == drill.postmortem("refused")["incident"]


@pytest.mark.parametrize("name", ["salvage", "backup", "empty"])
def test_damaged_files_are_kept(drill: Drill, name: str) -> None:
    was = drill.observation(f"{name}-broken")["files"][DATABASE][-1]
    told = drill.postmortem(name)
    assert told["database_copied"].startswith(f"{told['evidence']}/itsm.db.evidence_")
    assert drill.host.check_output(f"sha256sum {told['database_copied']}/itsm.db").split()[0] == was
    kept = [
        path
        for path, entry in drill.now()["files"].items()
        if path.startswith(f"{DATABASE}.damaged_") and path.endswith("/itsm.db") and entry[-1] == was
    ]
    assert len(kept) == 1


def test_sound_database_is_unchanged(drill: Drill) -> None:
    assert "HEALTHY" in drill.screen("again")
    assert drill.recap("again")["changed"] == 0
    assert drill.documents("again") == []


def test_service_serves(drill: Drill) -> None:
    drill.assert_serves()


def test_root_owns_no_file_of_the_application(drill: Drill) -> None:
    assert drill.host.check_output(f"find {APP} ! -user {RUNBOOK.user}") == ""
    assert drill.host.check_output(f"find {APP}/backend -name '.*restore*'") == ""
