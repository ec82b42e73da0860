# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pwd
import shutil
import signal
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import sqlite_samples
from rounds import step

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    candidates,
    file_survey,
    restore_survey,
    restore_swap,
    restore_ways,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

PATTERNS = ["itsm.db.backup_*"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "app").mkdir()
    return str(tmp_path / "app" / "itsm.db")


@pytest.fixture
def reachable() -> Iterator[str]:
    """Yield a folder that other users can enter, unlike pytest's folders."""
    folder = tempfile.mkdtemp()
    os.mkdir(f"{folder}/app")
    os.chmod(folder, 0o755)  # noqa: S103
    yield folder
    shutil.rmtree(folder)


def restore(path: str, *, act: bool = True, patterns: Any = PATTERNS, **parameters: Any) -> Dict[str, Any]:
    parameters.setdefault("evidence_dir", os.path.join(os.path.dirname(os.path.dirname(path)), "evidence"))
    return sqlite_restore.restore(path=path, act=act, backup_patterns=patterns, **parameters)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_survey, "_PATIENCE", 0.2)


def way(result: Dict[str, Any], method: str) -> Dict[str, Any]:
    return next(way for way in result["plan"] if way["method"] == method)


def rows(path: str) -> Dict[str, int]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM incidents)").fetchone()
    connection.close()
    return {"users": found[0], "incidents": found[1]}


def root_of(path: str, table: str) -> int:
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    return int(root)


def overwrite(path: str, page: int, *, page_size: int = 4096) -> None:
    sqlite_samples.patch(path, (page - 1) * page_size, b"\xa5" * page_size)


def leaf_lost(path: str, *, rows: int = 1000) -> None:
    """Create a database in which a page of the incidents table is lost. The table's index still lists all incidents."""
    sqlite_samples.closed(path, rows=rows)
    overwrite(path, 12)
    assert "malformed" in sqlite_samples.shell(path, "SELECT sum(length(body)) FROM incidents")


def copies(folder: str) -> List[bytes]:
    """Return the content of every file below a folder."""
    return [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()]


def test_sound_database_without_wal_is_unchanged(path: str) -> None:
    sqlite_samples.closed(path)
    before = Path(path).read_bytes()
    result = restore(path)
    assert (result["changed"], result["needed"], result["method"]) == (False, False, "checkpoint")
    assert result["statement"] == "nothing (no table has fewer rows than before)"
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == ["itsm.db"]


@pytest.mark.parametrize("fails", ["swap", "check"])
def test_the_loss_is_reported_before_the_replacement(path: str, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the data loss is deleted only if the old database is still in place."""
    leaf_lost(path)
    noted: List[Tuple[str, bool]] = []

    def fail(*_given: Any, **_named: Any) -> None:
        raise SqliteError("killed")

    def note(loss: str, before: Dict[str, int], after: Dict[str, int]) -> Callable[[], None]:
        noted.append((loss, before["incidents"] > after["incidents"]))
        place = (sqlite_restore.restore_swap, "swap") if fails == "swap" else (sqlite_restore.sqlite_check, "check")
        monkeypatch.setattr(*place, fail)
        return noted.clear

    with pytest.raises(SqliteError, match="killed"):
        restore(path, on_replace=note)
    assert noted == ([] if fails == "swap" else [("known", True)])


def test_checkpoint_empties_the_wal(path: str) -> None:
    sqlite_samples.crashed(path)
    result = restore(path)
    assert (result["changed"], result["method"], result["data_loss"]) == (True, "checkpoint", "none")
    assert result["rows_lost"] == {}
    assert not os.path.exists(f"{path}-wal")
    assert rows(path) == result["rows_before"] == result["rows_after"] == {"users": 2, "incidents": 260}
    assert [entry["name"] for entry in result["evidence"]] == ["database", "wal"]
    assert restore(path)["changed"] is False


@pytest.mark.parametrize("shell", ["sqlite3", "/nonexistent/sqlite3"])
def test_salvage_reports_every_lost_row(path: str, shell: str) -> None:
    leaf_lost(path)
    damaged = Path(path).read_bytes()
    os.chmod(path, 0o640)
    result = restore(path, shell=shell)
    assert way(result, "salvage")["tool"] == ("shell" if shell == "sqlite3" else "dump")
    assert (result["method"], result["data_loss"]) == ("salvage", "known")
    assert result["rows_before"] == {"users": 2, "incidents": 1000}
    now = rows(path)
    assert 0 < result["rows_lost"]["incidents"] < 40
    assert now == result["rows_after"] == {"users": 2, "incidents": 1000 - result["rows_lost"]["incidents"]}
    assert result["statement"].startswith(
        f"{result['rows_lost']['incidents']} rows: {result['rows_lost']['incidents']} of 1000 in incidents"
    )
    assert sqlite_samples.shell(path, "PRAGMA integrity_check; PRAGMA journal_mode") == "ok\nwal"
    assert os.stat(path).st_mode & 0o777 == 0o640
    for folder in (result["evidence_dir"], result["kept"]):
        assert Path(folder, "itsm.db").read_bytes() == damaged


@pytest.mark.parametrize("shell", ["sqlite3", "/nonexistent/sqlite3"])
def test_salvage_restores_schema_values_and_counters(path: str, shell: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        """
        PRAGMA page_size=1024; PRAGMA user_version=42; PRAGMA application_id=7;
        CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY AUTOINCREMENT, v, note TEXT NOT NULL DEFAULT 'é');
        CREATE TABLE pairs (a TEXT, b INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
        CREATE TABLE filler (id INTEGER PRIMARY KEY, body TEXT);
        CREATE UNIQUE INDEX odd_note ON "odd ""name" (note);
        CREATE VIEW seen AS SELECT v FROM "odd ""name";
        CREATE TRIGGER kept AFTER DELETE ON filler BEGIN SELECT 1; END;
        """
    )
    values = [None, 1.5, -(1 << 62), b"\x00\xff", "line\nbreak; 'quoted'", "日本語"]
    for number, value in enumerate(values):
        connection.execute('INSERT INTO "odd ""name" (v, note) VALUES (?, ?)', (value, f"note {number}"))
        connection.execute("INSERT INTO pairs VALUES (?, ?)", (str(value), number))
    for number in range(200):
        connection.execute("INSERT INTO filler VALUES (?, ?)", (number * 1000, "x" * 200))
    connection.execute('DELETE FROM "odd ""name" WHERE id = 6')
    read = 'SELECT id, v, typeof(v), note FROM "odd ""name"'
    before = connection.execute(read).fetchall()
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    objects = connection.execute(schema).fetchall()
    leaves = os.path.getsize(path) // 1024
    connection.close()
    overwrite(path, leaves - 10, page_size=1024)
    result = restore(path, shell=shell)
    assert result["method"] == "salvage"
    # The table has no index that would show how many rows it had.
    assert (result["rows_uncounted"], result["data_loss"]) == (["filler"], "unknown")
    assert "an unknown number of rows in filler (" in result["statement"]
    assert 190 < result["rows_after"]["filler"] < 200
    connection = sqlite3.connect(path)
    assert connection.execute(read).fetchall() == before
    assert connection.execute("SELECT count(*) FROM pairs").fetchone() == (6,)
    assert connection.execute(schema).fetchall() == objects
    assert connection.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(6,)]
    for pragma, value in (("user_version", 42), ("application_id", 7), ("page_size", 1024)):
        assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    connection.close()


@pytest.mark.parametrize("where", ["first", "middle", "last", "several"])
def test_dump_skips_damage_at_any_position(path: str, where: str) -> None:
    sqlite_samples.closed(path, rows=2000)
    pages = leaves_of(path)
    chosen = {"first": [0], "middle": [len(pages) // 2], "last": [-1], "several": [1, 2, 5, len(pages) - 2]}[where]
    for number in chosen:
        overwrite(path, pages[number])
    result = restore(path, shell="/nonexistent/sqlite3")  # noqa: S604
    assert result["method"] == "salvage"
    assert 0 < result["rows_lost"]["incidents"] <= 40 * len(chosen)
    assert sqlite_samples.shell(path, "PRAGMA integrity_check") == "ok"


def leaves_of(path: str) -> List[int]:
    """Return the page numbers of the incidents table's leaf pages, in the same order as in the table's root page."""
    root = root_of(path, "incidents")
    page = Path(path).read_bytes()[(root - 1) * 4096 : root * 4096]
    assert page[0] == 5
    cells = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(int.from_bytes(page[3:5], "big"))]
    return [int.from_bytes(page[at : at + 4], "big") for at in cells] + [int.from_bytes(page[8:12], "big")]


def only_in_its_wal(path: str) -> None:
    """Create an empty database file and a WAL that contains all rows."""
    sqlite_samples.crashed(path, in_database=0, in_wal=0)
    os.unlink(f"{path}-wal")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint=0")
    sqlite_samples.fill(writer, first=1, rows=300)
    writer.execute("VACUUM")
    shutil.copy(f"{path}-wal", f"{path}.wal")
    writer.close()
    os.replace(f"{path}.wal", f"{path}-wal")
    Path(path).write_bytes(b"")


def test_database_of_zero_bytes_is_restored_from_its_wal(path: str) -> None:
    only_in_its_wal(path)
    result = restore(path)
    assert (result["method"], result["rows_after"]) == ("salvage", {"users": 2, "incidents": 300})
    assert rows(path) == result["rows_after"]
    assert not os.path.exists(f"{path}-wal")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that simulates another process that copies the files during the first `looks` checks."""

    def during(looks: int) -> None:
        survey, seen = restore_survey.sqlite_holders.survey, []

        def look(path: str, **named: Any) -> Any:
            found, holders = survey(path, **named)
            if "deadline" in named and len(seen) < looks and sys._getframe(1).f_code.co_name in ("_survey", "_examine"):
                seen.append(path)
                holders.found.append(sqlite_holders.Holder(pid=1, command="cp", files=["database", "shm", "wal"]))
                file_survey.read_wal(found, live=True)
            return found, holders

        monkeypatch.setattr(restore_survey.sqlite_holders, "survey", look)

    return during


@pytest.mark.parametrize("there", [True, False])
def test_a_recovery_waits_for_a_process_that_copies_the_files(
    path: str, copied: Callable[[int], None], there: bool
) -> None:
    """The WAL cannot be read while another process is copying it.

    If the WAL were missing, no rows could be salvaged.
    """
    only_in_its_wal(path)
    if not there:
        os.unlink(path)
    copied(2)
    result = restore(path)
    assert (result["method"], result["rows_after"]) == ("salvage", {"users": 2, "incidents": 300})


@pytest.mark.usefixtures("impatient")
def test_nothing_is_salvaged_without_the_complete_wal(path: str, copied: Callable[[int], None]) -> None:
    sqlite_samples.crashed(path, in_database=100, in_wal=60)
    with open(path, "r+b") as stream:
        stream.write(b"no header of SQLite")
    copied(1000)
    before = copies(os.path.dirname(path))
    with pytest.raises(
        SqliteError, match=r"the WAL of the database could not be read to the end: .* open in pid 1 \(cp\)"
    ):
        restore(path)
    assert copies(os.path.dirname(path)) == before


def test_frames_after_a_damaged_frame_are_saved(path: str) -> None:
    sqlite_samples.crashed(path, in_database=200, in_wal=60)
    sqlite_samples.flip(f"{path}-wal", sqlite_samples.frame_offset(9) + 24 + 3000)
    result = restore(path)
    assert result["method"] == "salvage"
    assert result["rows_before"]["incidents"] < 210
    assert result["rows_after"]["incidents"] >= 259
    assert result["data_loss"] == "unknown"


def test_wal_of_another_database_is_ignored(path: str) -> None:
    sqlite_samples.closed(path, rows=100)
    other = f"{path}.other"
    sqlite_samples.crashed(other, in_database=50, in_wal=5)
    os.replace(f"{other}-wal", f"{path}-wal")
    os.unlink(other)
    result = restore(path)
    assert (result["method"], result["rows_after"]) == ("salvage", {"users": 2, "incidents": 100})
    assert Path(result["kept"], "itsm.db-wal").exists()
    assert rows(path) == {"users": 2, "incidents": 100}


def test_rows_of_no_table_are_kept_separately(path: str) -> None:
    sqlite_samples.closed(path, rows=1000)
    overwrite(path, root_of(path, "incidents"))
    result = restore(path)
    salvage = way(result, "salvage")
    assert salvage["orphans"] > 900
    assert "no longer belong to a table" in result["statement"]
    connection = sqlite3.connect(result["orphans_file"])
    (table,) = connection.execute("SELECT name FROM sqlite_master").fetchone()
    assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == salvage["orphans"]  # noqa: S608
    connection.close()
    assert "lost_and_found" not in sqlite_samples.shell(path, ".tables")


def test_backup_is_found_verified_and_its_age_and_loss_are_reported(path: str, tmp_path: Path) -> None:
    sqlite_samples.closed(path, rows=300)
    apart = tmp_path / "backups"
    for number, made in enumerate(("old", "good")):
        target = str(apart / f"itsm.db.backup_{made}")
        sqlite_backup.backup(path=path, dest=target)
        os.utime(target, (1_000_000 + number * 86400,) * 2)
    newest = tmp_path / "app" / "itsm.db.backup_newest"
    newest.write_bytes(b"\0" * 8192)
    for name in ("itsm.db.backup_good-wal", "other.backup_1"):
        (apart / name).write_bytes(b"")
    connection = sqlite3.connect(path)
    sqlite_samples.fill(connection, first=301, rows=7)
    connection.commit()
    connection.close()
    Path(path).write_bytes(b"\xa5" * os.path.getsize(path))
    os.utime(path, (1_000_000 + 2 * 86400 + 7200,) * 2)
    plan = restore(path, act=False, backup_dirs=[str(apart)], expected={"users": 2, "incidents": 307})
    backup = way(plan, "backup")
    assert plan["method"] == "backup"
    assert backup["source"] == str(apart / "itsm.db.backup_good")
    assert backup["age"] == 86400 + 7200
    assert backup["lost"] == {"incidents": 7}
    assert "itsm.db.backup_newest cannot be used" in backup["reason"]
    result = restore(path, backup_dirs=[str(apart)], expected={"users": 2, "incidents": 307})
    assert (result["method"], result["source"]) == ("backup", backup["source"])
    assert result["rows_lost"] == {"incidents": 7}
    assert rows(path) == {"users": 2, "incidents": 300}
    assert (apart / "itsm.db.backup_good").exists()


def unreadable(path: str, tmp_path: Path) -> Path:
    """Create a database from which nothing can be read. Return an empty folder for its backups."""
    sqlite_samples.closed(path, rows=300)
    Path(path).write_bytes(b"\xa5" * os.path.getsize(path))
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


def backed_up(path: str, place: Path, rows: int, *, days: int) -> str:
    """Make a backup with `rows` incidents and set its modification time to day `days`. Return its path."""
    sqlite_samples.closed(f"{place}.made", rows=rows)
    place.parent.mkdir(exist_ok=True)
    os.rename(f"{place}.made", place)
    os.utime(place, (1_000_000 + days * 86400,) * 2)
    return str(place)


def test_the_backup_that_loses_the_fewest_rows_is_used(path: str, tmp_path: Path) -> None:
    """The newest backup was created after most rows were lost, and the middle one is damaged."""
    folder = unreadable(path, tmp_path)
    full = backed_up(path, folder / "itsm_daily_1.db", 290, days=1)
    damaged = backed_up(path, folder / "itsm_daily_2.db", 299, days=2)
    Path(damaged).write_bytes(b"\xa5" * 8192)
    small = backed_up(path, folder / "itsm_daily_3.db", 5, days=3)
    old = backed_up(path, folder / "itsm_daily_0.db", 290, days=0)
    given = {"backup_dirs": [str(folder)], "patterns": [], "expected": {"users": 2, "incidents": 300}}
    backup = way(restore(path, act=False, **given), "backup")
    assert (backup["source"], backup["lost"]) == (full, {"incidents": 10})
    assert f"{small} is newer, but loses 285 more rows" in backup["reason"]
    assert f"{damaged} cannot be used" in backup["reason"]
    # Damage can make it impossible to count the rows. The last good count is then used.
    counted = {**given, "expected": {}, "last_good": {"users": 2, "incidents": 295}}
    backup = way(restore(path, act=False, **counted), "backup")
    assert backup["lost"] == {"incidents": 5}
    assert "at least 5 rows: 5 of the 295 rows in incidents at the last good count; " in backup["statement"]
    # If the database's row counts are unknown, a backup counts as incomplete if another backup has more than twice as
    # many rows.
    assert way(restore(path, act=False, **{**given, "expected": {}}), "backup")["source"] == full
    # If several backups are equally good, the newest one is used, even if only its WAL is newer.
    with open(f"{old}-wal", "wb") as wal:
        wal.write(b"x" * 32)
    assert way(restore(path, act=False, **given), "backup")["source"] == old
    result = restore(path, **given)
    assert (result["source"], result["rows_lost"]) == (old, {"incidents": 10})
    assert rows(path) == {"users": 2, "incidents": 290}


def test_the_rows_of_a_new_database_do_not_decide_which_backup_is_used(path: str, tmp_path: Path) -> None:
    """The service has created a new database with three rows, and the last backup contains only these rows."""
    sqlite_samples.closed(path, rows=3)
    folder = tmp_path / "backups"
    folder.mkdir()
    full = backed_up(path, folder / "itsm_daily_1.db", 290, days=1)
    backed_up(path, folder / "itsm_daily_2.db", 3, days=2)
    plan = restore(path, act=False, backup_dirs=[str(folder)], patterns=[], replaced=True)
    assert way(plan, "backup")["source"] == full
    assert way(plan, "backup")["lost"] == {}
    given = {"backup_dirs": [str(folder)], "patterns": [], "last_good": {"incidents": 295}}
    assert way(restore(path, act=False, replaced=True, **given), "backup")["lost"] == {"incidents": 5}
    # If the rows can be counted, users may have deleted the missing rows.
    assert way(restore(path, act=False, last_good={"incidents": 4}), "checkpoint")["lost"] == {}
    # If almost all rows are missing, users have not deleted them. A backup that was created after this loss is no
    # better than the database.
    plan = restore(path, act=False, **given)
    assert way(plan, "checkpoint")["lost"] == {"incidents": 292}
    assert (way(plan, "backup")["source"], way(plan, "backup")["lost"]) == (full, {"incidents": 5})


def test_rows_that_have_been_missing_since_the_last_good_count_are_named(path: str, tmp_path: Path) -> None:
    """If fewer than half of the rows are missing, users may have deleted them.

    Therefore, the data loss is reported as unknown, not as none.
    """
    sqlite_samples.closed(path, rows=60)
    backed_up(path, tmp_path / "itsm_daily_1.db", 80, days=1)
    given = {"backup_dirs": [str(tmp_path)], "patterns": [], "last_good": {"users": 2, "incidents": 100}}
    plan = restore(path, act=False, **given)
    missing = "40 rows have been missing since the last good count, deleted or lost: 40 of 100 in incidents"
    assert way(plan, "checkpoint")["statement"] == f"none of the rows that can be read now; {missing}"
    assert (plan["method"], plan["rows_lost"], plan["data_loss"]) == ("checkpoint", {}, "unknown")
    assert "20 rows have been missing" in way(plan, "backup")["statement"]
    result = restore(path, **{**given, "last_good": {"users": 2, "incidents": 60}})
    assert (result["statement"], result["data_loss"]) == ("nothing (no table has fewer rows than before)", "none")


def test_a_table_that_only_an_older_backup_has_does_not_count(path: str, tmp_path: Path) -> None:
    """A migration dropped the table after this backup was created."""
    folder = unreadable(path, tmp_path)
    older = backed_up(path, folder / "itsm_daily_1.db", 200, days=1)
    with contextlib.closing(sqlite3.connect(older)) as connection:
        connection.execute("CREATE TABLE legacy (content)")
        connection.executemany("INSERT INTO legacy VALUES (?)", [("x",)] * 500)
        connection.commit()
    os.utime(older, (1_000_000,) * 2)
    newer = backed_up(path, folder / "itsm_daily_2.db", 290, days=2)
    given = {"backup_dirs": [str(folder)], "patterns": [], "expected": {"users": 2, "incidents": 300}}
    assert way(restore(path, act=False, **given), "backup")["source"] == newer


def test_rows_after_the_last_good_count_are_not_reported_as_kept(path: str) -> None:
    """The damaged table had more rows than were counted, so the number of lost rows is unknown."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (content)")
        connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 400,)] * 1500)
        connection.commit()
    overwrite(path, os.path.getsize(path) // 4096 // 2)
    later = "possibly rows that were written after the last good count, in notes"
    for last_good, expected in (
        ({}, ["an unknown number of rows in notes (", " rows kept), because"]),
        ({"notes": 1000}, [f"{later} (", " rows kept, 1000 at that count): the damaged"]),
        (
            {"notes": 9000},
            ["at least ", " of the 9000 rows in notes at the last good count; ", f"{later}: the damaged"],
        ),
    ):
        plan = restore(path, act=False, last_good=last_good)
        assert plan["data_loss"] == ("known" if last_good.get("notes") == 9000 else "unknown")
        statement = way(plan, "salvage")["statement"]
        assert [each for each in expected if each not in statement] == [], statement
        assert ("an unknown number" in statement) is (not last_good)


def test_a_folder_that_cannot_be_read_does_not_stop_the_recovery(path: str, tmp_path: Path) -> None:
    sqlite_samples.closed(path, rows=300)
    folder = tmp_path / "backups"
    folder.write_text("not a folder")
    plan = restore(path, act=False, backup_dirs=[str(folder / "daily")])
    assert plan["method"] == "checkpoint"
    assert f"Cannot look for backups in {folder}/daily: Not a directory" in way(plan, "backup")["reason"]


def test_only_backup_folders_may_contain_similar_names(path: str, tmp_path: Path) -> None:
    """A file with a similar name next to the database may be the database of another program."""
    assert candidates.usual_names("/a/itsm.db", beside=True) == ["itsm.db.backup_*", "itsm.db.bak*"]
    assert candidates.usual_names("/a/[x].db", beside=False) == [
        *("[[]x].db.backup_*", "[[]x].db.bak*", "[[]x].db", "[[]x]_*.db", "[[]x]-*.db")
    ]


def test_without_a_backup_the_searched_folders_and_names_are_reported(path: str) -> None:
    sqlite_samples.closed(path, rows=1)
    folder = os.path.dirname(path)
    stem, ending = os.path.splitext(os.path.basename(path))
    own = f"{stem}{ending}.backup_*, {stem}{ending}.bak*"
    plan = restore(path, act=False, backup_dirs=[folder, "/none"], patterns=[])
    assert way(plan, "backup")["reason"] == (
        f"no backup was found in {folder} ({own}); /none ({own}, {stem}{ending}, {stem}_*{ending}, {stem}-*{ending})"
    )
    found = candidates.not_found("/a/x.db", dirs=[], patterns=["nightly*"])
    assert restore_ways.messages.english(found) == "no backup was found in /a (nightly*)"


def test_backup_with_more_rows_is_preferred_to_salvage(path: str) -> None:
    sqlite_samples.closed(path, rows=1000)
    sqlite_backup.backup(path=path, dest=f"{path}.backup_1")
    overwrite(path, root_of(path, "incidents"))
    plan = restore(path, act=False)
    assert way(plan, "salvage")["possible"]
    assert plan["method"] == "backup"
    assert "salvage restores 2 rows, but the backup contains 1002" in plan["reason"]
    assert restore(path, method="salvage")["rows_after"]["users"] == 2


def test_a_new_database_is_not_mistaken_for_the_earlier_one(path: str) -> None:
    """The new database is undamaged. Only `replaced` shows that a checkpoint would not restore the earlier rows."""
    sqlite_samples.closed(path, rows=300)
    sqlite_backup.backup(path=path, dest=f"{path}.backup_1")
    os.unlink(path)
    sqlite_samples.closed(path, rows=0)
    assert restore(path, act=False)["method"] == "checkpoint"
    plan = restore(path, act=False, replaced=True)
    assert (plan["method"], [each["method"] for each in plan["plan"]]) == ("backup", ["backup", "empty"])
    assert plan["data_loss"] == "unknown"
    assert restore(path, replaced=True)["rows_after"]["incidents"] == 300
    assert rows(path)["incidents"] == 300


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("method", ["auto", "backup", "empty"])
def test_nothing_is_restored_to_a_mount_point_without_its_file_system(
    path: str, monkeypatch: pytest.MonkeyPatch, act: bool, method: str
) -> None:
    """The undamaged database may be on the unmounted disk."""
    sqlite_samples.closed(path)
    backup = f"{path}.backup_20260301T000000Z"
    shutil.copy(path, backup)
    folder = Path(path).parent
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    before = sqlite_samples.snapshot(str(folder))
    monkeypatch.setattr(mounts, "unmounted", lambda place: str(folder))
    with pytest.raises(SqliteError, match=r"is not mounted at .*, although /etc/fstab lists it: mount its disk first"):
        restore(path, act=act, method=method, confirm_empty=True)
    assert sqlite_samples.snapshot(str(folder)) == before
    monkeypatch.undo()
    assert restore(path, act=act, method=method, confirm_empty=True)["method"]


def test_empty_needs_a_confirmation(path: str) -> None:
    Path(path).write_bytes(b"\xa5" * 8192)
    before = sqlite_samples.snapshot(os.path.dirname(path))
    plan = restore(path, act=False)
    assert (plan["method"], plan["changed"]) == (None, False)
    for method in ("auto", "empty"):
        with pytest.raises(SqliteError, match="database_recovery_confirm_empty must be set"):
            restore(path, method=method)
    with pytest.raises(SqliteError, match="database_recovery_confirm_empty must be set"):
        restore(path, check_mode=True)
    after = sqlite_samples.snapshot(os.path.dirname(path))
    assert after["itsm.db"] == before["itsm.db"]
    assert set(after) == set(before)
    result = restore(path, confirm_empty=True)
    assert (result["method"], result["rows_after"], result["data_loss"]) == ("empty", {}, "unknown")
    assert sqlite_samples.shell(path, "PRAGMA integrity_check; SELECT count(*) FROM sqlite_master") == "ok\n0"
    assert Path(result["kept"], "itsm.db").read_bytes() == b"\xa5" * 8192


def test_tables_without_rows_do_not_count_as_salvaged(path: str) -> None:
    sqlite_samples.closed(path, rows=300)
    roots = [root_of(path, name) for name in ("users", "sqlite_autoindex_users_1", "incidents", "incidents_title")]
    for page in roots:
        overwrite(path, page)
    damaged = Path(path).read_bytes()
    plan = restore(path, act=False)
    assert (plan["method"], way(plan, "salvage")["rows"]) == (None, {"incidents": 0, "users": 0})
    for method in ("auto", "salvage"):
        with pytest.raises(
            SqliteError,
            match=r"0 rows in 2 tables\. All rows would be lost, so database_recovery_confirm_empty must be set",
        ):
            restore(path, method=method)
    assert Path(path).read_bytes() == damaged
    # After confirmation, the tables are restored. Rows that cannot be assigned to a table are saved in a separate file.
    result = restore(path, confirm_empty=True)
    assert (result["method"], result["data_loss"]) == ("salvage", "unknown")
    assert Path(result["orphans_file"]).exists()


def test_plan_and_check_mode_change_nothing(path: str) -> None:
    leaf_lost(path)
    folder = os.path.dirname(path)
    before = sqlite_samples.snapshot(folder)
    for parameters in ({"act": False}, {"act": True, "check_mode": True}):
        result = restore(path, **parameters)
        assert [each["method"] for each in result["plan"]] == list(sqlite_restore.METHODS)
        assert way(result, "salvage")["lost"] == result["rows_lost"]
        assert result["changed"] is parameters["act"]
    assert sqlite_samples.snapshot(folder) == before
    assert os.listdir(os.path.dirname(folder)) == ["app"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("options", [{"act": False}, {"check_mode": True}, {}])
def test_a_plan_is_refused_like_the_recovery_if_processes_are_hidden(
    path: str, options: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_samples.closed(path)
    survey = sqlite_holders.survey

    def partly(*arguments: Any, **named: Any) -> Any:
        found, holders = survey(*arguments, **named)
        return found, holders._replace(complete=False)

    monkeypatch.setattr(restore_survey.sqlite_holders, "survey", partly)
    with pytest.raises(SqliteError, match="this user cannot see which processes have it open"):
        restore(path, method="checkpoint", **options)


def test_a_search_that_stops_behind_the_guard_puts_the_old_files_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf_lost(path)
    damaged = Path(path).read_bytes()
    link = os.link

    def late(source: str, target: str) -> None:
        link(source, target)
        monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 0)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(SqliteError, match="Cannot find out which processes have"):
        restore(path)
    assert Path(path).read_bytes() == damaged
    assert not os.path.islink(path)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("method", ["auto", "salvage", "backup"])
def test_restore_is_refused_while_another_process_has_the_database_open(path: str, method: str) -> None:
    sqlite_samples.closed(path)
    sqlite_backup.backup(path=path, dest=f"{path}.backup_1")
    with sqlite_samples.Process(path, sqlite_samples.OPEN) as process:
        with pytest.raises(SqliteError, match=f"it is open in pid {process.pid}"):
            restore(path, method=method)
        assert not os.path.lexists(os.path.join(os.path.dirname(path), ".itsm.db.restore"))


def test_a_process_that_opens_it_at_the_last_moment_keeps_the_old_files(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf_lost(path)
    damaged = Path(path).read_bytes()
    visitors: List[sqlite_samples.Process] = []
    link = os.link

    def late(source: str, target: str) -> None:
        link(source, target)
        visitors.append(sqlite_samples.Process(path, "handle = open(path, 'r+b')"))

    monkeypatch.setattr(os, "link", late)
    try:
        with pytest.raises(SqliteError, match=r"pid \d+ .* opened "):
            restore(path)
    finally:
        for visitor in visitors:
            visitor.end()
    assert Path(path).read_bytes() == damaged
    assert not os.path.islink(path)
    monkeypatch.undo()
    assert restore(path)["method"] == "salvage"


def test_two_simultaneous_restores_are_refused(path: str) -> None:
    leaf_lost(path)
    with restore_swap.work_folder(path), pytest.raises(SqliteError, match="is running"):
        restore(path)


def test_space_is_checked_before_any_change(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf_lost(path)
    before = sqlite_samples.snapshot(os.path.dirname(path))["itsm.db"]
    monkeypatch.setattr("os.statvfs", lambda _path: os.statvfs_result((4096, 4096, 10, 10, 10, 0, 0, 0, 0, 255)))
    with pytest.raises(SqliteError, match="40960 are free"):
        restore(path)
    assert sqlite_samples.snapshot(os.path.dirname(path))["itsm.db"] == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"path": "itsm.db"}, "path must be an absolute path"),
        ({"evidence_dir": "x"}, "evidence_dir must be an absolute path"),
        ({"method": "magic"}, "method must be auto or one of"),
        ({"time_budget": 0.0}, "time_budget must be above 0"),
    ],
)
def test_parameters_are_checked(path: str, parameters: Dict[str, Any], message: str) -> None:
    with pytest.raises(SqliteError, match=message):
        restore(**{"path": path, **parameters})


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_path_that_is_not_a_file_is_refused(path: str, make: Callable[[str], None]) -> None:
    make(path)
    with pytest.raises(SqliteError, match="move it away first"):
        restore(path, confirm_empty=True)


def test_database_behind_a_link_is_replaced_in_its_own_folder(path: str, tmp_path: Path) -> None:
    leaf_lost(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    restore(str(link))
    assert link.is_symlink()
    assert sqlite_samples.shell(path, "PRAGMA integrity_check") == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("shell", ["sqlite3", "/nonexistent/sqlite3"])
def test_schema_of_the_damaged_file_is_not_run_as_root(reachable: str, shell: str) -> None:
    path = f"{reachable}/app/itsm.db"
    leaf_lost(path)
    roots, own = Path(reachable) / "roots", Path(reachable) / "app" / "own"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema=ON")
    for name, target in (("x", roots), ("y", own)):
        evil = f"CREATE TABLE {name}(a);\nATTACH '{target}' AS z; CREATE TABLE z.t(a);\n.shell touch {target}\n"
        connection.execute("INSERT INTO sqlite_master VALUES ('table', ?, ?, 2, ?)", (name, name, evil))
    connection.commit()
    connection.close()
    os.chown(os.path.dirname(path), 1234, 1234)
    os.chown(path, 1234, 1234)
    result = restore(path, shell=shell)
    assert result["method"] == "salvage"
    # The sqlite3 shell's .recover command fails on this schema, so the rows are read without that command.
    assert way(result, "salvage")["tool"] == "dump"
    assert result["rows_after"]["incidents"] > 950
    assert not roots.exists()
    # The shell executes the schema, but only as the database's owner. This user can already run any command.
    assert shell == "sqlite3" or not own.exists()
    facts = os.stat(path)
    assert (facts.st_uid, facts.st_gid) == (1234, 1234)
    assert os.stat(result["kept"]).st_uid == 1234


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_new_database_belongs_to_the_owner_of_the_old_one(reachable: str) -> None:
    path = f"{reachable}/app/itsm.db"
    sqlite_samples.closed(path)
    sqlite_backup.backup(path=path, dest=f"{reachable}/backups/itsm.db.backup_1")
    for name in (path, os.path.dirname(path)):
        os.chown(name, 1234, 2345)
    result = restore(path, method="backup", backup_dirs=[f"{reachable}/backups"])
    assert result["source"] == f"{reachable}/backups/itsm.db.backup_1"
    facts = os.stat(path)
    assert (facts.st_uid, facts.st_gid) == (1234, 2345)
    os.unlink(path)
    with pytest.raises(SqliteError, match="Permission denied"):
        restore(path, method="empty", confirm_empty=True, owner="nobody")
    os.chown(os.path.dirname(path), pwd.getpwnam("nobody").pw_uid, -1)
    assert restore(path, method="empty", confirm_empty=True, owner="nobody")["changed"]
    assert os.stat(path).st_uid == pwd.getpwnam("nobody").pw_uid


def test_deleted_rows_are_not_restored(path: str) -> None:
    sqlite_samples.closed(path, rows=1000)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA secure_delete=OFF")  # ON is the default in some distributions.
    connection.execute("DELETE FROM incidents WHERE id > 500")
    connection.commit()
    connection.close()
    overwrite(path, leaves_of(path)[3])
    result = restore(path)
    salvage = way(result, "salvage")
    assert (salvage["tool"], salvage["orphans"]) == ("shell", 0)
    assert 460 < result["rows_after"]["incidents"] < 500


# Killed runs

# Calls that change the contents of a folder. Other processes can observe changes only at these calls.
POINTS = ("link", "symlink", "rename", "rmtree")


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Run `work` in a process that is killed at call `number` of the calls in POINTS. Return True if it was killed."""
    pid = os.fork()
    if pid == 0:
        calls = itertools.count(1)

        def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **parameters: Any) -> Any:
                if next(calls) == number:
                    sqlite_samples.die(signal.SIGKILL)
                return function(*args, **parameters)

            return call

        try:
            for name in POINTS:
                module: Any = shutil if name == "rmtree" else os
                setattr(module, name, deadly(getattr(module, name)))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, number
    return os.WIFSIGNALED(status)


def opened(folder: str, scratch: Path) -> str:
    """Open a copy of the database as a newly started service would. Return the row counts, or the error message."""
    if scratch.exists():
        shutil.rmtree(scratch)
    shutil.copytree(folder, scratch, symlinks=True)
    place = scratch / "itsm.db"
    if place.is_symlink():
        # Like the original link, the copied link points into a folder that does not exist.
        assert not os.path.lexists(os.path.dirname(os.readlink(place)))
    try:
        connection = sqlite3.connect(place)
        try:
            query = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM incidents)"
            return "{} users, {} incidents".format(*connection.execute(query).fetchone())
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        return str(error)


@dataclasses.dataclass
class Torture:
    """Starts and kills recoveries of a database.

    If the WAL is missing, the database can be read, but rows are missing.
    """

    path: str
    scratch: Path
    start: Path

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    def restore(self, method: str) -> Dict[str, Any]:
        # Use an empty folder as /proc so that the search for processes with open files is fast.
        nobody = self.scratch / "proc"
        nobody.mkdir(exist_ok=True)
        return restore(self.path, method=method, proc_root=str(nobody))

    def reset(self) -> None:
        shutil.rmtree(self.folder)
        shutil.rmtree(self.scratch / "evidence", ignore_errors=True)
        shutil.copytree(self.start, self.folder, symlinks=True)

    def old_files_are_kept(self, old: List[bytes]) -> bool:
        kept = copies(self.folder) + copies(str(self.scratch / "evidence"))
        return all(content in kept for content in old)

    def run(self, method: str, *, expected: str, old: List[bytes]) -> Dict[str, int]:
        """Kill a run at calls in POINTS, check the state, and make the next run recover. Count each state.

        A thorough test kills a run at every call. Other tests kill a run only at every second call.
        """
        states: Dict[str, int] = {}
        for number in itertools.count(1, step(2)):
            self.reset()
            if not killed_at(number, lambda: self.restore(method)):
                return states
            state = opened(self.folder, self.scratch / "probe")
            states[state] = states.get(state, 0) + 1
            assert state in ("2 users, 100 incidents", expected, CLOSED), number
            assert self.old_files_are_kept(old), number
            result = self.restore(method)
            assert result["put_back"] is (state == CLOSED), number
            assert opened(self.folder, self.scratch / "probe") == expected, number
            assert not os.path.lexists(f"{self.folder}/.itsm.db.restore"), number
            beside = copies(self.folder)
            assert all(content in beside for content in old), number
        raise AssertionError


CLOSED = "unable to open database file"


@pytest.fixture
def torture(path: str, tmp_path: Path) -> Torture:
    sqlite_samples.crashed(path, in_database=92, in_wal=8, shm=True)
    sqlite_samples.closed(f"{path}.other", rows=70)
    sqlite_backup.backup(path=f"{path}.other", dest=f"{path}.backup_1")
    os.unlink(f"{path}.other")
    shutil.copytree(os.path.dirname(path), tmp_path / "start")
    return Torture(path, tmp_path, tmp_path / "start")


@pytest.mark.parametrize(
    ("method", "expected"), [("salvage", "2 users, 100 incidents"), ("backup", "2 users, 70 incidents")]
)
def test_after_any_kill_sqlite_never_misreads_and_the_next_run_recovers(
    torture: Torture, method: str, expected: str
) -> None:
    old = [(torture.start / f"itsm.db{suffix}").read_bytes() for suffix in ("", "-wal")]
    states = torture.run(method, expected=expected, old=old)
    assert sum(states.values()) >= 10 // step(2)
    assert states[CLOSED] >= 3 // step(2)


def test_killed_while_it_restores_the_old_files(torture: Torture, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [(torture.start / f"itsm.db{suffix}").read_bytes() for suffix in ("", "-wal")]
    cut_off(torture.path, monkeypatch)
    shutil.rmtree(torture.start)
    # The copy contains separate files instead of hard links, as on a file system that does not support hard links.
    shutil.copytree(torture.folder, torture.start, symlinks=True)
    states = torture.run("backup", expected="2 users, 70 incidents", old=old)
    assert states[CLOSED] >= 5 // step(2)


def cut_off(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the files that exist if a run is killed after it has moved the WAL to another place."""

    def die(*_args: Any, **_parameters: Any) -> None:
        os.rename(f"{path}-wal", f"{os.path.dirname(path)}/.itsm.db.restore/old/itsm.db-wal")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restore_swap, "_behind_the_guard", die)
        with pytest.raises(KeyboardInterrupt):
            restore(path, method="salvage")
    assert os.path.islink(path)


def test_plan_looks_behind_the_guard_of_a_killed_run(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_samples.crashed(path, in_database=40, in_wal=60)
    cut_off(path, monkeypatch)
    before = sqlite_samples.snapshot(os.path.dirname(path))
    plan = restore(path, act=False)
    assert (plan["method"], plan["rows_before"]) == ("checkpoint", {"users": 2, "incidents": 100})
    assert sqlite_samples.snapshot(os.path.dirname(path)) == before
    assert restore(path)["put_back"] is True
    assert rows(path) == {"users": 2, "incidents": 100}


def test_an_interrupted_replacement_is_not_reported_as_a_missing_folder(path: str) -> None:
    folder = os.path.dirname(path)
    os.symlink(f"{folder}/.itsm.db.restore/unfinished/itsm.db", path)
    found = sqlite_check.check(path=path, checks=["quick"], time_budget=10.0)
    assert [problem["code"] for problem in found["problems"]] == ["missing"]
    assert found["data_loss_suspected"] is True
