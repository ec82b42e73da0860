# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twenty defective backups, each with the verdict that is expected from a recovery and from a restore drill."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from sqlite_samples import closed, crashed, fill, flip, frame_offset, new_salts, patch, schema

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import choice
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore

ROWS = 200
KNOWN = candidates.Known({"incidents", "users"})
Make = Callable[[str], None]


def then(change: Make, *, make: Make = closed) -> Make:
    """Return a function that creates a good backup and then changes it."""

    def both(path: str) -> None:
        make(path)
        change(path)

    return both


def truncated(share: float) -> Make:
    return then(lambda path: os.truncate(path, int(os.path.getsize(path) * share) // 4096 * 4096))


def other_service(path: str, *tables: str) -> None:
    connection = sqlite3.connect(path)
    for table in tables or ("posts", "comments", "authors"):
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany(f"INSERT INTO {table} (text) VALUES (?)", [("x",)] * 300)  # noqa: S608
    connection.commit()
    connection.close()


def other_service_with_users(path: str) -> None:
    other_service(path, "users", "knex_migrations", "posts", "comments", "authors", "tags")


def without_wal(path: str) -> None:
    """The backup is the main file of a database whose tables are all in the WAL. The WAL was not copied."""
    connection = sqlite3.connect(f"{path}.work", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    schema(connection)
    fill(connection, first=1, rows=ROWS)
    shutil.copy(f"{path}.work", path)
    connection.close()
    for name in os.listdir(os.path.dirname(path)):
        if name.startswith(os.path.basename(f"{path}.work")):
            os.unlink(f"{os.path.dirname(path)}/{name}")


def wal_lost(path: str) -> None:
    crashed(path, in_database=ROWS - 60, in_wal=60)
    os.unlink(f"{path}-wal")


def foreign_wal(path: str) -> None:
    """The backup has the WAL of another copy, which has a different page size."""
    crashed(f"{path}.other", page_size=512)
    shutil.move(f"{path}.other-wal", f"{path}-wal")
    os.unlink(f"{path}.other")


def damage_index(path: str) -> None:
    """Change a key in the index, so that it no longer matches its row. The quick check does not detect this change."""
    data = Path(path).read_bytes()
    place = data.find(b"title 000150")
    while data[place + 12 : place + 15] == b"xxx":
        place = data.find(b"title 000150", place + 1)
    patch(path, place, b"title 000150"[:-1] + b"!")


def without_table(table: str) -> Make:
    def drop(path: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"DROP TABLE {table}")
        connection.commit()
        connection.close()

    return then(drop)


def empty_tables(path: str) -> None:
    connection = sqlite3.connect(path)
    schema(connection)
    connection.commit()
    connection.close()


# Each entry contains a function that creates the backup, the ID of the reason why it cannot be used (or None), the
# number of missing rows by table, and the ID of a note (or None).
BAD: Dict[str, Tuple[Make, Optional[str], Dict[str, int], Optional[str]]] = {
    "truncated to three quarters": (truncated(0.75), "reason.sqlite.", {}, None),
    "truncated to half": (truncated(0.5), "reason.sqlite.", {}, None),
    "truncated to one page": (truncated(0.01), "reason.sqlite.", {}, None),
    "cut in its first page": (then(lambda path: os.truncate(path, 1000)), "reason.sqlite.", {}, None),
    "empty": (lambda path: open(path, "wb").close(), "reason.sqlite.empty", {}, None),
    "garbage": (
        lambda path: Path(path).write_bytes(os.urandom(1 << 16)) and None,
        "reason.sqlite.not_a_database",
        {},
        None,
    ),
    "text": (lambda path: Path(path).write_text("disk full\n") and None, "reason.sqlite.not_a_database", {}, None),
    "gzip with the name of a database": (
        lambda path: Path(path).write_bytes(b"\x1f\x8b\x08\0" + bytes(5000)) and None,
        "reason.sqlite.not_a_database",
        {},
        None,
    ),
    "zeroes": (lambda path: Path(path).write_bytes(bytes(1 << 16)) and None, "reason.sqlite.not_a_database", {}, None),
    "damaged page": (then(lambda path: patch(path, 4096 * 3, b"\xff" * 4096)), "reason.sqlite.", {}, None),
    "damaged index": (then(damage_index), "reason.sqlite.", {}, None),
    "damaged header": (then(lambda path: patch(path, 0, b"SQLite format 4")), "reason.sqlite.not_a_database", {}, None),
    "other service": (other_service, "reason.restore.other_service", {}, None),
    "other service with a table users": (other_service_with_users, "reason.restore.other_service", {}, None),
    "all tables in the missing WAL": (without_wal, "reason.sqlite.no_tables", {}, None),
    "last rows in the missing WAL": (wal_lost, None, {"incidents": 60}, None),
    "damaged WAL": (
        then(lambda path: flip(f"{path}-wal", frame_offset(5) + 100), make=crashed),
        "reason.sqlite.wal_damaged",
        {},
        None,
    ),
    "WAL of another database": (then(foreign_wal), "reason.sqlite.wal_foreign", {}, None),
    "older schema": (without_table("incidents"), None, {"incidents": ROWS}, "reason.restore.older_schema"),
    "tables without rows": (empty_tables, None, {"incidents": ROWS}, None),
    "sound but old": (lambda path: closed(path, rows=ROWS - 50), None, {"incidents": 50}, None),
}


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the path of a database that has a damaged page, and whose last good row counts are known."""
    (tmp_path / "app").mkdir()
    path = str(tmp_path / "app" / "itsm.db")
    closed(path, rows=ROWS)
    patch(path, 4096 * 5, b"\xff" * 4096)
    return path


def survey(place: str, folder: Path) -> Dict[str, Any]:
    """Return the assessment of the method "backup"."""
    plan = sqlite_restore.restore(  # noqa: S604 - the name of a program
        path=place,
        evidence_dir=str(folder / "evidence"),
        act=False,
        backup_dirs=[str(folder)],
        expected={"incidents": ROWS, "users": 2},
        shell="no-such-shell",
    )["plan"]
    (found,) = [each for each in plan if each["method"] == "backup"]
    return dict(found)


def search(place: str, folder: Path, **more: Any) -> choice.Search:
    known = {"named": "", "dirs": [str(folder)], "patterns": [], "user": None, "known": KNOWN}
    return choice.Search(**{"place": place, **known, "recorded": ([], []), "time_budget": 30.0, **more})


def planted(tmp_path: Path, make: Make) -> Tuple[Path, str, str]:
    """Create a defective backup and an older good backup.

    Return their folder, and the paths of the defective and the good backup.
    """
    folder = tmp_path / "kept"
    folder.mkdir()
    bad, good = str(folder / "itsm.db.backup_bad"), str(folder / "itsm.db.backup_good")
    closed(good, rows=ROWS)
    make(bad)
    os.utime(good, (time.time() - 7200,) * 2)
    return folder, bad, good


def test_there_are_at_least_twenty() -> None:
    assert len(BAD) >= 20


@pytest.mark.parametrize("name", BAD)
def test_the_survey_reports_a_bad_backup_correctly(place: str, tmp_path: Path, name: str) -> None:
    make, refused, lacks, note = BAD[name]
    folder, bad, good = planted(tmp_path, make)
    found = survey(place, folder)
    (told,) = [each for each in found["backups"] if each["path"] == bad]
    reason = (told["messages"].get("reason") or {}).get("id", "")
    if refused:
        assert not told["usable"] and reason.startswith(refused), told
    else:
        assert told["usable"] and told["lost"] == lacks and reason == (note or ""), told
    # The good backup is chosen, although it is older.
    assert found["source"] == good, found["reason"]


@pytest.mark.parametrize("name", BAD)
def test_a_drill_chooses_no_backup_that_cannot_be_restored(place: str, tmp_path: Path, name: str) -> None:
    make, refused, _lacks, _note = BAD[name]
    folder, bad, good = planted(tmp_path, make)
    chosen, problems = choice.newest(search(place, folder), deadline=time.monotonic() + 30)
    assert chosen is not None and chosen.path == (good if refused else bad)
    assert [each.id for each in problems] == (["reason.restore.backup_unusable"] if refused else [])
    assert [each.values["why"].id.startswith(refused) for each in problems] == ([True] if refused else [])


def test_links_are_no_backups(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    closed(str(folder / "elsewhere"))
    (folder / "itsm.db.backup_1").symlink_to(folder / "elsewhere")
    chosen, problems = choice.newest(search(place, folder), deadline=time.monotonic() + 30)
    assert chosen is None and [each.id for each in problems] == ["reason.restore.no_backup_in"]


def test_a_named_backup_is_the_only_candidate(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    named, newer = str(folder / "any name"), str(folder / "itsm.db.backup_1")
    closed(named, rows=10)
    closed(newer)
    chosen, _problems = choice.newest(search(place, folder, named=named), deadline=time.monotonic() + 30)
    assert chosen is not None and (chosen.path, chosen.rows["incidents"]) == (named, 10)
    flip(named, 4096 * 3 + 5)
    patch(named, 4096, b"\xff" * 2000)
    chosen, problems = choice.newest(search(place, folder, named=named), deadline=time.monotonic() + 30)
    assert chosen is None and len(problems) == 1
    for wrong, told in (
        ("backup_1", "must be an absolute path"),
        (f"{named}.gone", "Cannot read"),
        (str(folder), "regular"),
    ):
        with pytest.raises(BackupError, match=told):
            choice.newest(search(place, folder, named=wrong), deadline=time.monotonic() + 30)


def test_the_age_of_a_listed_backup_is_when_it_was_begun(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    path = str(folder / "itsm.db.backup_1")
    closed(path)
    begun = time.time() - 30
    recorded = ([candidates.Recorded(path, begun, os.path.getsize(path))], [])
    for named in ("", path):
        asked = search(place, folder, recorded=recorded, named=named)
        chosen, _problems = choice.newest(asked, deadline=time.monotonic() + 30)
        assert chosen is not None and chosen.at == timestamps.iso(begun)


def test_new_salts_make_the_frames_foreign(place: str, tmp_path: Path) -> None:
    """If a frame's salts differ from the header's, SQLite ignores the frame. Its rows would be lost silently."""
    folder = tmp_path / "kept"
    folder.mkdir()
    path = str(folder / "itsm.db.backup_1")
    crashed(path, in_database=ROWS - 20, in_wal=20)
    new_salts(f"{path}-wal")
    found: List[Dict[str, Any]] = survey(place, folder)["backups"]
    assert not found[0]["usable"]
    assert found[0]["messages"]["reason"]["id"] == "reason.sqlite.wal_foreign_salts"
