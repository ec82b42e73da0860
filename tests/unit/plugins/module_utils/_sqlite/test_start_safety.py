# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Quick database checks before the service is started, and row counts before and after the start."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import row_counts, start_safety


@pytest.fixture
def database(tmp_path):
    """Return a database whose writer was killed, so that its rows are only in the WAL."""
    live = tmp_path / "live.db"
    connection = sqlite3.connect(live, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE users (name TEXT)")
    connection.executemany("INSERT INTO users VALUES (?)", [("x" * 500,)] * 200)
    path = tmp_path / "itsm.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
    connection.close()
    return path


def test_a_sound_database_is_not_in_doubt(database):
    before = {name: os.stat(database.parent / name).st_mtime_ns for name in os.listdir(database.parent)}
    assert start_safety.doubt(str(database)) is None
    assert start_safety.quick_doubt(str(database)) is None
    # The check leaves the folder unchanged.
    assert {name: os.stat(database.parent / name).st_mtime_ns for name in os.listdir(database.parent)} == before


def test_an_empty_database_with_a_wal(database):
    database.write_bytes(b"")
    assert "missing or empty" in start_safety.doubt(str(database))


def test_accepted_damage_does_not_prevent_a_start(database, damaged):
    assert start_safety.quick_doubt(str(damaged), accepted=["corrupt"]) is None
    assert start_safety.quick_doubt(str(damaged), accepted=["empty_beside_wal"])
    database.write_bytes(b"x" * 8192)
    assert start_safety.doubt(str(database), accepted=["not_a_database"]) is None
    shutil.copy(database, f"{database}-wal")
    database.write_bytes(b"")
    assert start_safety.doubt(str(database), accepted=["empty_beside_wal"]) is None
    assert start_safety.doubt(str(database), accepted=["missing"])
    database.unlink()
    assert start_safety.doubt(str(database), accepted=["missing"]) is None
    assert start_safety.doubt(str(database), accepted=["empty_beside_wal"])


def test_a_deleted_database_with_a_wal(database):
    database.unlink()
    assert "missing or empty" in start_safety.doubt(str(database))
    assert start_safety.quick_doubt(str(database)) is None


def test_another_kind_of_file_in_place_of_the_database(database):
    database.write_bytes(b"x" * 8192)
    assert "does not begin with a SQLite header" in start_safety.doubt(str(database))


@pytest.fixture
def damaged(database):
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master").fetchone()
    connection.close()
    with open(database, "r+b") as stream:
        stream.seek((root - 1) * 4096)
        stream.write(b"\xa5" * 4096)
    return database


def test_damaged_pages_are_found_by_the_full_check(damaged):
    assert start_safety.doubt(str(damaged)) is None
    assert start_safety.quick_doubt(str(damaged))


@pytest.mark.parametrize("own", [True, False])
def test_a_start_is_only_prevented_before_the_process_opens_the_database(damaged, own):
    with subprocess.Popen(["sleep", "60"], stdin=open(damaged, "rb")) as process:
        doubt = start_safety.quick_doubt(str(damaged), pids=[process.pid] if own else [])
        process.kill()
    assert bool(doubt) is not own


def test_a_missing_database_without_a_wal_is_not_in_doubt(tmp_path):
    assert start_safety.doubt("") is None
    assert start_safety.doubt(str(tmp_path / "none.db")) is None


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "itsm.db")
    assert start_safety.doubt(str(tmp_path / "itsm.db")) is None


def test_a_table_that_a_migration_dropped_is_not_lost():
    before = {"users": 100, "legacy": 3, "knex_migrations": 7}
    assert row_counts.collapsed(before, {"users": 100, "knex_migrations": 7})
    assert not row_counts.collapsed(before, {"users": 100, "knex_migrations": 8})
    assert row_counts.collapsed(before, {"users": 10, "knex_migrations": 8})


@pytest.mark.parametrize(
    ("before", "after", "missing", "collapsed"),
    [
        ({}, {"users": 1}, {}, False),
        ({"users": 4}, {"users": 4}, {}, False),
        ({"users": 4}, {"users": 9, "more": 1}, {}, False),
        # Tables also shrink in normal operation.
        ({"users": 4, "sessions": 3}, {"users": 4, "sessions": 1}, {"sessions": [3, 1]}, False),
        ({"users": 4}, {}, {"users": [4, 0]}, True),
        ({"users": 1, "log": 0}, {"users": 1}, {}, True),
        # The table has been recreated and seeded. Therefore, it has only three rows.
        ({"users": 4, "incidents": 40}, {"users": 4, "incidents": 3}, {"incidents": [40, 3]}, True),
    ],
)
def test_rows_before_and_after(before, after, missing, collapsed):
    assert row_counts.missing(before, after) == missing
    assert row_counts.collapsed(before, after) is collapsed
