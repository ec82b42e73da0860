# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database is in a folder that a hostile user owns.

Files that the user plants in this folder must not harm root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sqlite_samples import crashed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    backup_copy,
    file_survey,
    private_copy,
    restore_swap,
    restore_ways,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore

NOBODY = pwd.getpwnam("nobody")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges that could be abused")

_KILLED_IN_A_TRANSACTION = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=DELETE")
connection.execute("PRAGMA cache_size=1")
connection.execute("CREATE TABLE incidents (text)")
connection.execute("INSERT INTO incidents WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) SELECT zeroblob(3000) FROM n")
connection.execute("BEGIN")
connection.execute("UPDATE incidents SET text = zeroblob(2999)")
os.kill(os.getpid(), 9)
"""  # noqa: E501


@pytest.fixture
def app():
    """Yield a folder that the service's user owns."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
        os.chmod(base, 0o755)  # noqa: S103
        folder = Path(base, "app")
        folder.mkdir()
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
        yield folder


def give_to_user(folder: Path) -> None:
    for path in folder.iterdir():
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)


def owners_and_sizes(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")}
    return {name: (status.st_uid, status.st_size) for name, status in found.items()}


def name_in_journal(database: Path, other: Path) -> None:
    """Add a file name to the hot journal, as SQLite does for a transaction that spans several databases."""
    with database.open("rb") as stream:
        (page_size,) = struct.unpack(">H", stream.read(18)[16:18])
    name = os.fsencode(other)
    with database.with_name(database.name + "-journal").open("ab") as journal:
        journal.write(struct.pack(">I", (1 << 30) // page_size + 1) + name)
        journal.write(struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7"))


def test_a_file_that_a_journal_names_is_not_removed(app):
    database, precious = app / "itsm.db", app.parent / "precious"
    subprocess.run([sys.executable, "-c", _KILLED_IN_A_TRANSACTION, database], check=False)
    precious.write_text("root's")
    name_in_journal(database, precious)
    give_to_user(app)
    # The transaction cannot be rolled back completely, not even by the service at its next start.
    assert sqlite_check.check(path=str(database))["problems"][-1]["code"] == "unreadable"
    with pytest.raises(sqlite_files.SqliteError):
        sqlite_backup.backup(path=str(database), dest_dir=str(app.parent / "backups"))
    assert precious.read_text() == "root's"
    # If root opens the database directly, which is unsafe, SQLite deletes the file.
    with sqlite3.connect(database) as connection:
        connection.execute("SELECT count(*) FROM incidents").fetchone()
    assert not precious.exists()


@pytest.mark.parametrize("moment", ["made", "opened"])
def test_a_backup_creates_no_file_in_a_folder_closed_to_its_owner(app, monkeypatch, moment):
    crashed(str(app / "itsm.db"))
    give_to_user(app)
    precious = app.parent / "cron.d"
    precious.mkdir()

    def exchange():
        (folder,) = app.glob(".itsm-nexus-partial-*")
        os.rename(folder, app / "stolen")
        os.mkdir(folder)
        os.symlink(precious / "planted", folder / "database")
        for path in (folder, folder / "database"):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)

    # Replace the folder within the call, because a parallel thread would rarely hit exactly this moment.
    if moment == "made":
        make = tempfile.mkdtemp

        def make_and_exchange(*arguments, **named):
            made = make(*arguments, **named)
            if named["prefix"] == sqlite_backup._PARTIAL:
                exchange()
            return made

        monkeypatch.setattr(tempfile, "mkdtemp", make_and_exchange)
    else:
        copy = backup_copy._copy_pages

        def exchange_and_copy(*arguments, **named):
            exchange()
            copy(*arguments, **named)

        monkeypatch.setattr(backup_copy, "_copy_pages", exchange_and_copy)
    with contextlib.suppress(sqlite_files.SqliteError):
        sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app))
    assert (app / "stolen").exists()
    assert list(precious.iterdir()) == []


@pytest.mark.parametrize("work", ["backup", "restore", "checkpoint"])
def test_a_link_that_exists_while_the_rights_are_determined_does_not_give_rights_of_root(app, monkeypatch, work):
    """While root checks the folder's owner, the user replaces the folder with a link to one of root's folders."""
    precious = app.parent / "cron.d"
    precious.mkdir(mode=0o700)
    crashed(str(precious / "itsm.db"))
    before = owners_and_sizes(precious)
    folder = app / "backend"
    folder.mkdir()
    database = (app if work == "backup" else folder) / "itsm.db"
    crashed(str(database))
    for each in (app, folder):
        give_to_user(each)

    def exchange(path):
        as_the_user(lambda: (path.rename(path.with_name("away")), path.symlink_to(precious)))

    def exchange_back():
        as_the_user(lambda: (folder.unlink(), (app / "away").rename(folder)))

    rights_on, settle, connect = safe_open.rights_on, restore_swap.settle, sqlite3.connect

    def exchange_and_ask(path, **named):
        if folder.is_symlink() or not str(path).startswith(str(folder)):
            return rights_on(path, **named)
        exchange(folder)
        rights = rights_on(path, **named)
        if work != "backup":
            exchange_back()
        return rights

    def exchange_and_settle(*arguments, **named):
        exchange(folder / ".itsm.db.restore")
        return settle(*arguments, **named)

    def exchange_and_connect(database, **named):
        if "mode=rw" in database:
            exchange(folder)
        return connect(database, **named)

    # For the backup, the folder remains a link. For each other operation, the folder is replaced with a link just
    # before root uses it.
    monkeypatch.setattr(safe_open, "rights_on", exchange_and_ask)
    if work == "restore":
        monkeypatch.setattr(restore_swap, "settle", exchange_and_settle)
    if work == "checkpoint":
        monkeypatch.setattr(sqlite_checkpoint.sqlite3, "connect", exchange_and_connect)
    with contextlib.suppress(sqlite_files.SqliteError):
        if work == "backup":
            sqlite_backup.backup(path=str(database), dest_dir=str(folder))
        elif work == "checkpoint":
            sqlite_checkpoint.checkpoint(path=str(database))
        else:
            options = {"act": True, "method": "empty", "confirm_empty": True, "owner": "nobody"}
            sqlite_restore.restore(path=str(database), evidence_dir=str(app.parent / "ev"), **options)
    assert list(app.rglob("away"))
    assert owners_and_sizes(precious) == before


def test_a_backup_in_a_folder_of_the_user_is_readable_only_for_the_user(app):
    crashed(str(app / "itsm.db"))
    give_to_user(app)
    made = os.stat(sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app))["backup_file"])
    assert (made.st_uid, made.st_mode & 0o777) == (NOBODY.pw_uid, 0o600)
    assert [path.name for path in app.glob(".itsm-nexus*")] == []


def test_the_checkpoint_has_only_the_rights_of_the_owner_of_the_database(app, monkeypatch):
    database = str(app / "itsm.db")
    crashed(database)
    give_to_user(app)
    connect = sqlite3.connect

    def connect_as(*arguments, **how):
        # Skip read-only processes, which cannot write to any file.
        with contextlib.suppress(OSError), (app / "who").open("a") as stream:
            stream.write(f"{os.getuid()} {os.geteuid()}\n")
        return connect(*arguments, **how)

    monkeypatch.setattr(sqlite_checkpoint.sqlite3, "connect", connect_as)
    sqlite_checkpoint.checkpoint(path=database)
    assert set((app / "who").read_text().splitlines()) == {f"{NOBODY.pw_uid} {NOBODY.pw_uid}"}
    assert not os.path.exists(f"{database}-wal")


@pytest.mark.parametrize("method", ["salvage", "backup", "empty"])
def test_a_recovery_neither_creates_nor_changes_the_owner_of_files_as_root(app, method):
    database = app / "itsm.db"
    crashed(str(database))
    shutil.copy(database, app / "itsm.db.backup_1")
    with database.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 4096)
    give_to_user(app)
    made = sqlite_restore.restore(
        path=str(database),
        act=True,
        method=method,
        confirm_empty=True,
        evidence_dir=str(app.parent / "evidence"),
        backup_patterns=["*.backup_*"],
        time_budget=60.0,
    )
    assert made["method"] == method and made["kept"]
    for folder, folders, names in os.walk(app):
        for name in folders + names:
            assert os.lstat(os.path.join(folder, name)).st_uid == NOBODY.pw_uid, name
    assert not [name for name in os.listdir(app) if name.endswith(".restore")]
    # Only root can read the evidence.
    for path in (app.parent / "evidence").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (0, 0)


@pytest.fixture
def private(app):
    """Return a root-owned database in a root-owned folder. Other users can read neither the folder nor the database."""
    folder = app.parent / "private"
    folder.mkdir(mode=0o700)
    database = folder / "itsm.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE secrets AS SELECT 'of-root-alone' AS text")
    connection.close()
    database.chmod(0o600)
    return database


WORK = {
    "check": lambda path, app: sqlite_check.check(path=path),
    "backup": lambda path, app: sqlite_backup.backup(path=path, dest_dir=str(app)),
    "evidence": lambda path, app: sqlite_backup.backup(path=path, dest_dir=str(app.parent / "ev"), evidence=True),
    "checkpoint": lambda path, app: sqlite_checkpoint.checkpoint(path=path),
    "restore": lambda path, app: sqlite_restore.restore(
        path=path, act=True, method="empty", confirm_empty=True, evidence_dir=str(app.parent / "ev")
    ),
}


@pytest.mark.parametrize("link", ["itsm.db", "backend"])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_database_of_another_user_is_not_changed_for_the_user(app, private, work, link):
    (app / link).symlink_to(private if link == "itsm.db" else private.parent)
    give_to_user(app)
    path = app / link if link == "itsm.db" else app / link / "itsm.db"
    before = private.read_bytes()
    with pytest.raises(sqlite_files.SqliteError, match="link's owner"):
        work(str(path), app)
    assert private.read_bytes() == before
    assert [each.name for each in private.parent.iterdir()] == ["itsm.db"]
    assert [each.name for each in app.iterdir()] == [link]


def test_no_database_is_created_at_the_target_of_a_dangling_link_of_the_user(app, private):
    (app / "itsm.db").symlink_to(private.parent / "planted")
    give_to_user(app)
    with pytest.raises(sqlite_files.SqliteError, match="link's owner"):
        WORK["restore"](str(app / "itsm.db"), app)
    assert [each.name for each in private.parent.iterdir()] == ["itsm.db"]


def test_the_users_database_may_be_in_another_folder(app):
    data = app.parent / "data"
    data.mkdir()
    crashed(str(data / "itsm.db"))
    os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    give_to_user(data)
    (app / "itsm.db").symlink_to(data / "itsm.db")
    give_to_user(app)
    assert sqlite_check.check(path=str(app / "itsm.db"))["healthy"]
    assert sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app))["integrity"] == "ok"


def test_if_several_accounts_could_have_made_the_link_the_user_must_be_named(app, private):
    shared = app.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    crashed(str(app / "itsm.db"))
    give_to_user(app)
    (shared / "theirs.db").symlink_to(app / "itsm.db")
    (shared / "ours.db").symlink_to(private)
    assert sqlite_check.check(path=str(shared / "theirs.db"), user="nobody")["healthy"]
    with pytest.raises(sqlite_files.SqliteError, match="link's owner"):
        sqlite_check.check(path=str(shared / "ours.db"), user="nobody")
    for name in ("theirs.db", "ours.db"):
        with pytest.raises(sqlite_files.SqliteError, match="specify the service's user"):
            sqlite_check.check(path=str(shared / name))


@pytest.mark.parametrize("files", [("itsm.db",), ("itsm.db", "itsm.db-wal", "itsm.db-shm")], ids=["alone", "still"])
def test_a_file_that_is_replaced_for_a_moment_after_the_check_is_not_read(app, private, monkeypatch, files):
    database = app / "itsm.db"
    crashed(str(database))
    for path in app.iterdir():
        if path.name not in files:
            path.unlink()
    give_to_user(app)
    connect = sqlite_reader.connect

    def connect_meanwhile(path, **how):
        if path != str(database):
            return connect(path, **how)
        database.rename(app / "was")
        database.symlink_to(private)
        connection = connect(path, **how)
        database.unlink()
        (app / "was").rename(database)
        return connection

    monkeypatch.setattr(sqlite_reader, "connect", connect_meanwhile)
    with pytest.raises(sqlite_files.SqliteError, match=r"unable to open|link's owner"):
        sqlite_backup.backup(path=str(database), dest_dir=str(app))
    assert not list(app.glob("*.backup_*"))


def test_a_file_that_is_replaced_for_a_moment_after_the_check_is_not_copied(app, private):
    database = app / "itsm.db"
    crashed(str(database))
    give_to_user(app)
    found = file_survey.look(str(database))
    (app / "was").mkdir()
    for path in app.glob("itsm.db*"):
        path.rename(app / "was" / path.name)
    shutil.copy(private, database)
    with pytest.raises(OSError, match="Permission denied"):
        sqlite_files.open_found(found.files["database"])


def test_a_backup_that_is_a_hard_link_to_a_file_of_root_is_skipped(app, private):
    crashed(str(app / "itsm.db"))
    sqlite_backup.backup(path=str(app / "itsm.db"), dest=str(app / "itsm.db.backup_1"))
    (app / "itsm.db-wal").unlink()
    with (app / "itsm.db").open("r+b") as stream:
        stream.write(b"\xff" * 8192)
    give_to_user(app)
    os.link(private, app / "itsm.db.backup_2")
    os.utime(private, (time.time() + 9, time.time() + 9))
    made = sqlite_restore.restore(
        path=str(app / "itsm.db"),
        act=True,
        method="backup",
        evidence_dir=str(app.parent / "ev"),
        backup_patterns=["*.backup_*"],
    )
    assert made["source"].endswith("backup_1") and "another hard link" in made["reason"]


def as_the_user(call):
    """Run a call as the service's user and return its result."""
    with safe_open.acting((NOBODY.pw_uid, NOBODY.pw_gid)):
        return call()


@pytest.mark.parametrize(
    "how",
    [{"act": False}, {"act": True, "check_mode": True}, {"act": True}],
    ids=["plan", "check mode", "recovery"],
)
def test_no_statement_of_a_planted_copy_runs_as_root(app, monkeypatch, how):
    """The user creates a recovery's work folder in advance, and replaces the database with a link into that folder."""
    crashed(str(app / "made.db"))
    work = app / ".itsm.db.restore"
    (work / "old").mkdir(parents=True)
    (app / "made.db").rename(work / "old" / "itsm.db")
    with (work / "old" / "itsm.db").open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 4096)
    (app / "made.db-wal").unlink()
    (app / "itsm.db").symlink_to(work / "unfinished" / "itsm.db")
    for folder, folders, names in os.walk(app):
        for name in [".", *folders, *names]:
            os.chown(os.path.join(folder, name), NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    who = app.parent / "who"
    who.touch()
    who.chmod(0o666)
    shell = app.parent / "sqlite3"
    shell.write_text(f"#!/bin/sh\nid -ru >> {who}\nid -u >> {who}\n")
    shell.chmod(0o755)
    monkeypatch.setattr(restore_ways.sqlite_salvage, "find_shell", lambda _name: str(shell))
    with contextlib.suppress(sqlite_files.SqliteError):
        sqlite_restore.restore(
            path=str(app / "itsm.db"),
            method="salvage",
            evidence_dir=str(app.parent / "ev"),
            **how,
        )
    assert set(who.read_text().split()) == {str(NOBODY.pw_uid)}


def test_a_backup_folder_that_is_a_link_of_the_user_is_not_used(app, private):
    crashed(str(app / "itsm.db"))
    (app / "backups").symlink_to(private.parent)
    give_to_user(app)
    with pytest.raises(sqlite_files.SqliteError, match="Permission denied"):
        sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app / "backups"))
    assert [each.name for each in private.parent.iterdir()] == ["itsm.db"]


@pytest.mark.parametrize("link", ["work folder", "old files"])
@pytest.mark.parametrize("roots", [".itsm.db.restore", "itsm.db", "itsm.db-wal"])
def test_no_folder_is_emptied_and_no_owner_changed_because_of_leftovers_of_root(app, private, monkeypatch, roots, link):
    crashed(str(app / "itsm.db"))
    with (app / "itsm.db").open("r+b") as stream:
        stream.write(b"\xff" * 8192)
    work = app / ".itsm.db.restore"
    give_to_user(app)
    if roots == work.name:
        work.mkdir(mode=0o711)
    else:
        os.chown(app / roots, 0, 0)
        os.chmod(app / roots, 0o644)
    settle = restore_swap.settle

    def exchange():
        work.rename(app / "away")
        if link == "old files":
            work.mkdir()
        (work / "old" if link == "old files" else work).symlink_to(private.parent)

    def exchange_and_settle(*arguments, **named):
        as_the_user(exchange)
        return settle(*arguments, **named)

    monkeypatch.setattr(restore_swap, "settle", exchange_and_settle)
    before = private.read_bytes()
    with contextlib.suppress(sqlite_files.SqliteError):
        sqlite_restore.restore(
            path=str(app / "itsm.db"),
            act=True,
            method="empty",
            confirm_empty=True,
            evidence_dir=str(app.parent / "ev"),
        )
    assert private.read_bytes() == before
    assert (private.parent.stat().st_uid, [each.name for each in private.parent.iterdir()]) == (0, ["itsm.db"])


def test_a_checkpoint_removes_no_file_that_a_planted_journal_names(app, monkeypatch):
    database, precious = app / "itsm.db", app.parent / "precious"
    crashed(str(database), shm=True)
    precious.write_text("root's")
    give_to_user(app)
    os.chown(app / "itsm.db-shm", 1234, 1234)
    room = sqlite_checkpoint._room

    def plant_and_look(real, **named):
        pages = database.stat().st_size // 4096
        header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 1, pages, 512, 4096)
        database.with_name("itsm.db-journal").write_bytes(header.ljust(512, b"\0"))
        name_in_journal(database, precious)
        os.chown(app / "itsm.db-journal", NOBODY.pw_uid, NOBODY.pw_gid)
        room(real, **named)

    monkeypatch.setattr(sqlite_checkpoint, "_room", plant_and_look)
    with contextlib.suppress(sqlite_files.SqliteError):
        sqlite_checkpoint.checkpoint(path=str(database))
    assert precious.read_text() == "root's"


@pytest.mark.parametrize("work", [WORK["check"], WORK["backup"]], ids=["check", "backup"])
def test_the_wal_of_another_account_is_not_read_in_place_of_the_users(app, private, monkeypatch, work):
    """The user replaces the folder after SQLite has opened the database and before SQLite opens the WAL."""
    crashed(str(app / "itsm.db"))
    for suffix in ("", "-wal"):
        shutil.copy(app / f"itsm.db{suffix}", private.parent / f"itsm.db{suffix}")
    with sqlite3.connect(private) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("INSERT INTO users (name) VALUES ('of-another-account')")
        connection.commit()
        wal = Path(f"{private}-wal").read_bytes()
    connection.close()
    Path(f"{private}-wal").write_bytes(wal)
    os.chmod(f"{private}-wal", 0o600)
    give_to_user(app)
    moved = app.parent / "moved"
    os.chown(app.parent, NOBODY.pw_uid, NOBODY.pw_gid)
    connect = sqlite_reader.connect

    def connect_and_exchange(path, **how):
        connection = connect(path, **how)
        app.rename(moved)
        app.symlink_to(private.parent)
        try:
            connection.execute("SELECT count(*) FROM users").fetchone()
        finally:
            app.unlink()
            moved.rename(app)
        return connection

    monkeypatch.setattr(sqlite_reader, "connect", connect_and_exchange)
    said = ""
    with contextlib.suppress(sqlite_files.SqliteError):
        said = str(work(str(app / "itsm.db"), app))
    assert "'users': 3" not in said
    for made in app.parent.rglob("*.backup_*"):
        assert b"of-another-account" not in made.read_bytes()


def test_a_file_of_root_that_was_renamed_to_a_journal_is_not_copied(app):
    """A command that runs as root may leave files in the user's folder. The user can then rename these files."""
    crashed(str(app / "itsm.db"))
    (app / "root.env").write_text("SECRET=of-root-alone")
    give_to_user(app)
    os.chown(app / "root.env", 0, 0)
    (app / "root.env").chmod(0o600)
    (app / "root.env").rename(app / "itsm.db-journal")
    with pytest.raises(sqlite_files.SqliteError):
        sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app / "evidence"), evidence=True)
    assert sqlite_check.check(path=str(app / "itsm.db"))["problems"][0]["code"] == "unreadable"
    theirs = [path for path in app.rglob("*") if path.is_file() and path.stat().st_uid == NOBODY.pw_uid]
    assert not [path for path in theirs if b"of-root-alone" in path.read_bytes()]


def test_root_rights_are_not_used_for_a_user_because_the_service_runs_as_root(app):
    assert safe_open.account_rights("root") is None
    assert safe_open.rights_on(str(app / "x"), user=safe_open.account_rights("root"))[0] == NOBODY.pw_uid


@pytest.mark.parametrize("work", ["checkpoint", "restore"])
def test_a_database_that_root_took_over_is_named_before_anything_is_changed(app, work):
    crashed(str(app / "itsm.db"))
    with (app / "itsm.db").open("r+b") as stream:
        if work == "restore":
            stream.write(b"\xff" * 8192)
    give_to_user(app)
    os.chown(app / "itsm.db", 0, 0)
    with pytest.raises(sqlite_files.SqliteError, match=r"root owns .*sqlite_owner"):
        WORK[work](str(app / "itsm.db"), app)
    assert sorted(path.name for path in app.iterdir()) == ["itsm.db", "itsm.db-wal"]


@pytest.mark.parametrize(("module", "moment"), [(backup_copy, "_keep_secret"), (sqlite_backup, "_lock")])
def test_a_backup_does_not_wait_for_a_lock_or_pipe_of_the_user(app, monkeypatch, module, moment):
    crashed(str(app / "itsm.db"))
    give_to_user(app)
    call = getattr(module, moment)

    def exchange_and_call(*arguments):
        (folder,) = app.glob(".itsm-nexus-partial-*")
        if moment == "_lock":
            held = as_the_user(lambda: os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            fcntl.flock(held, fcntl.LOCK_EX)
        else:
            as_the_user(lambda: (os.unlink(folder / "database"), os.mkfifo(folder / "database")))
        return call(*arguments)

    monkeypatch.setattr(module, moment, exchange_and_call)
    begun = time.monotonic()
    with pytest.raises(sqlite_files.SqliteError):
        sqlite_backup.backup(path=str(app / "itsm.db"), dest_dir=str(app))
    assert time.monotonic() - begun < 10


def test_the_folder_of_a_copy_is_removed_as_the_user(app, monkeypatch):
    """While the copy is read, the user can move one of root's folders to the path of the copy's folder."""
    database, roots = app / "itsm.db", app / "roots"
    subprocess.run([sys.executable, "-c", _KILLED_IN_A_TRANSACTION, database], check=False)
    give_to_user(app)
    roots.mkdir(mode=0o755)
    (roots / "precious").write_text("root's")
    fill, copies = private_copy._fill, []

    def fill_and_exchange(folder, *arguments, **named):
        fill(folder, *arguments, **named)
        os.rename(folder, f"{folder}.away")
        os.rename(roots, folder)
        copies.append(Path(folder))

    monkeypatch.setattr(private_copy, "_fill", fill_and_exchange)
    monkeypatch.setattr(tempfile, "tempdir", str(app.parent))
    sqlite_check.check(path=str(database))
    assert [(copy / "precious").read_text() for copy in copies] == ["root's"]
