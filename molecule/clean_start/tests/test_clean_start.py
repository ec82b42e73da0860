# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All committed rows are only in the WAL, and a clean start loses none of them."""

from __future__ import annotations

import json

from drills import STATE_DIR, Drill


def test_the_manual_runbook_would_have_lost_all_rows(drill: Drill) -> None:
    broken = drill.observation("broken")
    assert broken["processes"] == []
    assert broken["rows"] == drill.observation("sound")["rows"]
    assert broken["rows_without_wal"] == {}


def test_clean_start_recovers_the_service(drill: Drill) -> None:
    told = drill.assert_recovered(severity="emergency", cause="killed", rung="clean_start_recovery")
    assert told["backup_file"].startswith(f"{drill.service.database}.backup_")


def test_backup_is_complete_without_a_wal(drill: Drill) -> None:
    backup = drill.postmortem()["backup_file"]
    assert drill.rows_of(backup) == drill.observation("sound")["rows"]
    file = drill.host.file(backup)
    assert (file.user, file.mode & 0o077) == (drill.service.user, 0)


def test_evidence_equals_the_files_before_recovery(drill: Drill) -> None:
    was = drill.observation("broken")["files"]
    database = drill.service.database
    folder, _, file = database.rpartition("/")
    found = drill.host.check_output(f"find {STATE_DIR}/evidence -type f -name '{file}*' -exec sha256sum {{}} +")
    copies = {line.rpartition("/")[2]: line.split()[0] for line in found.splitlines()}
    for name in (file, f"{file}-wal"):
        assert copies[name] == was[f"{folder}/{name}"][-1], name


def test_rows_were_checkpointed_into_the_database(drill: Drill) -> None:
    assert drill.now()["rows_without_wal"] == drill.observation("sound")["rows"]


def test_modules_were_rebuilt_and_swapped(drill: Drill) -> None:
    before = drill.observation("sound")["files"]
    assert f"{drill.service.app}/node_modules.previous" not in before
    for folder in ("node_modules", "node_modules.previous"):
        listing = drill.host.file(f"{drill.service.app}/{folder}")
        assert (listing.is_directory, listing.user) == (True, drill.service.user)
        installed = json.loads(drill.host.file(f"{drill.service.app}/{folder}/.package-lock.json").content_string)
        assert "node_modules/better-sqlite3" in installed["packages"]


def test_root_owns_no_file_of_the_application(drill: Drill) -> None:
    assert drill.host.check_output(f"find {drill.service.app} ! -user {drill.service.user}") == ""
