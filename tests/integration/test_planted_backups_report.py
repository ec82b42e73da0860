# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Planted backups are SQLite databases or damaged copies of such databases.

The report must show the defect of each backup.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing as backup_list
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._preparedness import backups
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check

HOUR = 3600.0
NOW = time.time()
CREATED = 1_700_000_000_000
MIGRATIONS = ("001_init.js", "002_users.js", "003_incidents.js")


def text(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


def create(
    path: Path, *, created: int = CREATED, migrations: tuple[str, ...] = MIGRATIONS, until: float = NOW, rows: int = 200
) -> None:
    """Create a service database with one row per hour. The last row was written at `until`."""
    with opened(path) as connection:
        connection.execute(
            "CREATE TABLE knex_migrations (id INTEGER PRIMARY KEY, name TEXT, batch INTEGER, migration_time DATETIME)"
        )
        for number, name in enumerate(migrations):
            connection.execute(
                "INSERT INTO knex_migrations (name, batch, migration_time) VALUES (?, 1, ?)", (name, created + number)
            )
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        connection.execute("CREATE TABLE incidents (id INTEGER PRIMARY KEY, title TEXT, body TEXT, created_at TEXT)")
        connection.execute("CREATE INDEX incidents_title ON incidents (title)")
        connection.execute("INSERT INTO users VALUES (1, 'admin')")
        for number in range(rows):
            at = text(until - (rows - 1 - number) * HOUR)
            connection.execute(
                "INSERT INTO incidents VALUES (?, ?, ?, ?)", (number + 1, f"title {number:05d}", "x" * 200, at)
            )


def copied(source: Path, target: Path) -> None:
    """Copy a database as SQLite's backup API does."""
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(target)) as dest:
        live.backup(dest)


def aged(path: Path, hours: float) -> None:
    for each in (path, Path(f"{path}-wal")):
        if each.exists():
            os.utime(each, (NOW - hours * HOUR, NOW - hours * HOUR))


class Site:
    """A service with a database and a folder for backups."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "itsm.db"
        self.folder = folder / "backups"
        self.folder.mkdir()
        create(self.database)
        self.backup = self.folder / "itsm.db.backup_20261129"

    def sound(self, *, hours: float = 1.0) -> None:
        """Create an undamaged backup that was finished `hours` hours ago."""
        with contextlib.closing(sqlite3.connect(":memory:")) as memory:
            with contextlib.closing(sqlite3.connect(self.database)) as live:
                live.backup(memory)
            memory.execute("DELETE FROM incidents WHERE created_at > ?", (text(NOW - hours * HOUR),))
            memory.commit()
            with contextlib.closing(sqlite3.connect(self.backup)) as dest:
                memory.backup(dest)
        aged(self.backup, hours)

    def patched(self, offset: int, data: bytes) -> None:
        with self.backup.open("r+b") as stream:
            stream.seek(offset)
            stream.write(data)
        aged(self.backup, 1)

    def known(self) -> backups.Live:
        check = sqlite_check.check(path=str(self.database), checks=["quick"], time_budget=30)
        return backups.live(check, path=str(self.database), user=None, timeout=30)

    def survey(self) -> dict[str, object]:
        return backups.survey(
            self.known(),
            dirs=[str(self.folder)],
            patterns=[],
            user=None,
            budget=30,
            deadline=time.monotonic() + 60,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def truncated(site: Site) -> None:
    site.sound()
    os.truncate(site.backup, site.backup.stat().st_size // 2)
    aged(site.backup, 1)


def truncated_by_one_page(site: Site) -> None:
    site.sound()
    os.truncate(site.backup, site.backup.stat().st_size - 4096)
    aged(site.backup, 1)


def empty(site: Site) -> None:
    site.backup.touch()


def garbage(site: Site) -> None:
    site.backup.write_bytes(os.urandom(65536))


def garbage_after_the_header(site: Site) -> None:
    site.sound()
    site.patched(4096, os.urandom(8192))


def zeros(site: Site) -> None:
    site.backup.write_bytes(bytes(65536))


def damaged_page(site: Site) -> None:
    site.sound()
    site.patched(site.backup.stat().st_size - 6000, b"\xff" * 2000)


def damaged_index(site: Site) -> None:
    """An index entry is missing. Only the complete integrity check detects the missing entry."""
    site.sound()

    def changed(*statements: str, values: tuple[object, ...] = ()) -> None:
        with contextlib.closing(sqlite3.connect(site.backup, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            for statement in statements:
                connection.execute(statement, values if "?" in statement else ())

    with contextlib.closing(sqlite3.connect(site.backup)) as connection:
        row = connection.execute("SELECT * FROM sqlite_master WHERE name = 'incidents_title'").fetchone()
    changed("DELETE FROM sqlite_master WHERE name = 'incidents_title'")
    changed("UPDATE incidents SET title = 'other' WHERE id = 7")
    changed("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", values=row)
    aged(site.backup, 1)


def compressed(site: Site) -> None:
    site.sound()
    site.backup.write_bytes(gzip.compress(site.backup.read_bytes()))


def text_dump(site: Site) -> None:
    site.backup.write_text("BEGIN TRANSACTION;\nCREATE TABLE users (id INTEGER);\nCOMMIT;\n")


def no_tables(site: Site) -> None:
    with contextlib.closing(sqlite3.connect(site.backup)) as connection:
        connection.execute("PRAGMA user_version=1")


def other_service_with_knex(site: Site) -> None:
    create(site.backup, created=CREATED + 86_400_000)


def other_service_without_knex(site: Site) -> None:
    with contextlib.closing(sqlite3.connect(site.backup)) as connection:
        connection.execute("CREATE TABLE songs (id INTEGER PRIMARY KEY, title TEXT)")
        connection.execute("INSERT INTO songs VALUES (1, 'a')")
        connection.commit()


def without_its_wal(site: Site) -> None:
    """The file was copied with cp. The rows from the last ten hours were only in the WAL."""
    with opened(site.database) as live:
        live.execute("DELETE FROM incidents WHERE created_at > ?", (text(NOW - 10 * HOUR),))
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(10):
            live.execute("INSERT INTO incidents VALUES (?, 'later', '', ?)", (1000 + number, text(NOW - number * HOUR)))
        shutil.copy(site.database, site.backup)
    aged(site.backup, 0.1)


def without_its_wal_from_the_start(site: Site) -> None:
    """The file was copied with cp while all rows were still only in the WAL."""
    site.database.unlink()
    live = sqlite3.connect(site.database, isolation_level=None)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("PRAGMA wal_autocheckpoint=0")
    live.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    shutil.copy(site.database, site.backup)
    live.close()
    site.database.unlink()
    create(site.database)


def damaged_wal(site: Site) -> None:
    """A frame of the backup's own WAL is damaged."""
    with opened(site.database) as live:
        live.execute("INSERT INTO incidents VALUES (5000, 'a', 'b', ?)", (text(NOW - HOUR),))
        live.execute("INSERT INTO incidents VALUES (5001, 'a', 'b', ?)", (text(NOW - HOUR),))
        for suffix in ("", "-wal"):
            shutil.copy(f"{site.database}{suffix}", f"{site.backup}{suffix}")
    with open(f"{site.backup}-wal", "r+b") as stream:
        stream.seek(32 + 24 + 100)
        stream.write(b"\xff" * 64)


def with_the_wal_of_another_database(site: Site) -> None:
    site.sound()
    other = site.folder.parent / "other.db"
    with opened(other) as connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, b TEXT)")
        for number in range(300):
            connection.execute("INSERT INTO a VALUES (?, ?)", (number, "y" * 300))
        shutil.copy(f"{other}-wal", f"{site.backup}-wal")


def older_schema(site: Site) -> None:
    create(site.backup, migrations=MIGRATIONS[:2], until=NOW - HOUR)
    aged(site.backup, 1)


def sound_but_old(site: Site) -> None:
    site.sound(hours=90)


def sound(site: Site) -> None:
    site.sound()


def sound_with_its_wal(site: Site) -> None:
    with opened(site.database) as live:
        live.execute("INSERT INTO incidents VALUES (5000, 'a', 'b', ?)", (text(NOW),))
        for suffix in ("", "-wal"):
            shutil.copy(f"{site.database}{suffix}", f"{site.backup}{suffix}")


PLANTED: list[tuple[Callable[[Site], None], str, str]] = [
    (truncated, candidates.DAMAGED, "reason.sqlite."),
    (truncated_by_one_page, candidates.DAMAGED, "reason.sqlite."),
    (empty, candidates.DAMAGED, "reason.sqlite."),
    (garbage, candidates.DAMAGED, "reason.sqlite."),
    (garbage_after_the_header, candidates.DAMAGED, "reason.sqlite."),
    (zeros, candidates.DAMAGED, "reason.sqlite."),
    (damaged_page, candidates.DAMAGED, "reason.sqlite."),
    (damaged_index, candidates.DAMAGED, "reason.sqlite."),
    (compressed, candidates.DAMAGED, "reason.sqlite."),
    (text_dump, candidates.DAMAGED, "reason.sqlite."),
    (no_tables, candidates.DAMAGED, "reason.sqlite.no_tables"),
    (other_service_with_knex, candidates.OTHER_SERVICE, "reason.restore.other_database"),
    (other_service_without_knex, candidates.OTHER_SERVICE, "reason.restore.no_migrations"),
    (without_its_wal, backups.WITHOUT_WAL, "ready.backup.without_wal"),
    (without_its_wal_from_the_start, candidates.DAMAGED, "reason.sqlite."),
    (damaged_wal, candidates.DAMAGED, "reason.sqlite."),
    (with_the_wal_of_another_database, candidates.OTHER_SERVICE, "reason.restore.no_migrations"),
    (older_schema, backups.OLDER_SCHEMA, "ready.backup.older_schema"),
    (sound_but_old, candidates.SOUND, ""),
    (sound, candidates.SOUND, ""),
    (sound_with_its_wal, candidates.SOUND, ""),
]


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns, path.lstat().st_mode, path.lstat().st_uid)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize(("plant", "kind", "why"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_a_planted_backup_is_reported_as_what_it_is(
    site: Site, plant: Callable[[Site], None], kind: str, why: str
) -> None:
    plant(site)
    before = listing(site.folder.parent)
    found = site.survey()["found"]
    assert [each["kind"] for each in found] == [kind], found
    assert (found[0]["why"] or {"id": ""})["id"].startswith(why)
    assert (kind in backups.RESTORABLE) == (found[0]["written_at"] is not None)
    assert listing(site.folder.parent) == before


def test_the_age_of_a_backup_without_its_wal_is_that_of_its_newest_write(site: Site) -> None:
    without_its_wal(site)
    found = site.survey()["found"][0]
    age = NOW - datetime.datetime.fromisoformat(found["written_at"].replace("Z", "+00:00")).timestamp()
    assert 9.9 * HOUR < age < 10.1 * HOUR


def test_older_backups_are_examined_until_one_is_sound(site: Site) -> None:
    site.backup = site.folder / "itsm.db.backup_2"
    site.sound(hours=30)
    site.backup = site.folder / "itsm.db.backup_1"
    site.sound(hours=40)
    site.backup = site.folder / "itsm.db.backup_3"
    garbage(site)
    found = site.survey()
    assert [each["kind"] for each in found["found"]] == [candidates.DAMAGED, candidates.SOUND]
    assert found["number"] == 3


def test_a_backup_that_cannot_be_checked_in_time_is_not_sound(site: Site) -> None:
    site.sound()
    found = backups.survey(
        site.known(), dirs=[str(site.folder)], patterns=[], user=None, budget=30, deadline=time.monotonic() - 1
    )
    assert [each["kind"] for each in found["found"]] == [candidates.NOT_CHECKED]


def listed(site: Site, state: str) -> dict[str, object]:
    """Survey the backups in the database's folder and those that are listed in the state folder."""
    return backups.survey(
        site.known(),
        dirs=[],
        patterns=[],
        user=None,
        budget=30,
        deadline=time.monotonic() + 60,
        recorded=backup_list.recorded(state),
    )


def made(site: Site, path: Path, *, hours: float = 1.0, size: int | None = None) -> dict[str, object]:
    """Write a list in which this backup is marked as verified, and survey the backups."""
    at = datetime.datetime.fromtimestamp(NOW - hours * HOUR, tz=datetime.timezone.utc)
    size = path.stat().st_size if size is None else size
    entry = backup_list.Entry(f"{at:%Y-%m-%dT%H:%M:%S}.000Z", str(path), size, verified=True)
    state = str(site.folder.parent / "state")
    backup_list.write(state, [entry, entry._replace(verified=False, path="/x"), entry._replace(at="never", path="/y")])
    return listed(site, state)


def test_a_recorded_backup_is_found_in_any_folder_under_any_name(site: Site) -> None:
    site.backup = site.folder / "of-this-collection.sqlite"
    site.sound()
    found = made(site, site.backup)["found"]
    assert [(each["path"], each["kind"]) for each in found] == [(str(site.backup), candidates.SOUND)]


def test_a_recorded_backup_that_is_gone_or_changed_is_not_restorable(site: Site) -> None:
    gone = made(site, site.folder / "gone.db", size=4096)["found"]
    assert [(each["kind"], each["why"]["id"]) for each in gone] == [(candidates.DAMAGED, "reason.restore.gone")]
    site.sound()
    changed = made(site, site.backup, size=4096)["found"]
    assert [(each["kind"], each["why"]["id"]) for each in changed] == [(candidates.DAMAGED, "reason.restore.changed")]


def test_a_damaged_list_of_backups_is_reported(site: Site) -> None:
    state = site.folder.parent / "state"
    state.mkdir()
    (state / backup_list.NAME).write_text("[null]")
    found = listed(site, str(state))
    assert [each["id"] for each in found["unread"]] == ["reason.restore.list_unread"]


def test_times_in_other_formats(site: Site) -> None:
    """The times of the rows are in milliseconds, in seconds, and as text with a time zone."""
    with opened(site.database) as live:
        live.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, created_at)")
        for value in ((NOW - 20 * HOUR) * 1000, NOW - 19 * HOUR, text(NOW - 9 * HOUR).replace(" ", "T") + "+09:00"):
            live.execute("INSERT INTO log (created_at) VALUES (?)", (value if isinstance(value, str) else int(value),))
    copied(site.database, site.backup)
    with contextlib.closing(sqlite3.connect(site.backup)) as connection:
        connection.execute("DELETE FROM log WHERE id > 1")
        connection.commit()
    aged(site.backup, 1)
    found = site.survey()["found"][0]
    assert found["kind"] == backups.WITHOUT_WAL
    assert found["why"]["values"]["newest"].startswith(
        datetime.datetime.fromtimestamp(NOW - 18 * HOUR, tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H")
    )
