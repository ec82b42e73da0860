# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's user becomes the owner of root-owned database files, but not of other root-owned files."""

from __future__ import annotations

import os
import pwd
import sqlite3

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import owner as sqlite_owner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
USER = "nobody"


@pytest.fixture
def folder(tmp_path):
    """Yield a folder that the service's user owns, with a user-owned file and a root-owned database in WAL mode."""
    folder = tmp_path / "backend"
    folder.mkdir()
    connection = sqlite3.connect(str(folder / "itsm.db"))
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table users (id integer)")
    connection.commit()
    (folder / "server.js").write_text("// code\n")
    account = pwd.getpwnam(USER)
    for path in (folder, folder / "server.js"):
        os.chown(path, account.pw_uid, account.pw_gid)
    yield folder
    connection.close()


def owners(folder):
    return {path.name: path.lstat().st_uid for path in folder.iterdir()}


def restore(folder, **options):
    return sqlite_owner.restore(path=str(folder / "itsm.db"), user=USER, **options)


def test_the_owner_of_database_wal_and_index_is_restored(folder):
    uid = pwd.getpwnam(USER).pw_uid
    assert set(owners(folder)) == {"itsm.db", "itsm.db-wal", "itsm.db-shm", "server.js"}
    would = restore(folder, check_mode=True)
    assert would["changed"] and owners(folder)["itsm.db"] == 0
    result = restore(folder)
    assert result["files"] == would["files"] == [f"{folder}/itsm.db{suffix}" for suffix in ("", "-wal", "-shm")]
    assert set(owners(folder).values()) == {uid}
    assert restore(folder) == {"changed": False, "files": [], "owner": USER, "diff": {"before": {}, "after": {}}}


def swap(folder, name, made):
    (folder / name).unlink()
    made(folder / name)


def secret(folder):
    path = folder.parent / "secret"
    path.write_bytes(b"SQLite format 3\0 root only")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: swap(folder, "itsm.db", lambda path: path.symlink_to(secret(folder))), "Cannot open itsm.db"),
        (lambda folder: swap(folder, "itsm.db", lambda path: os.link(secret(folder), path)), "other hard links"),
        (lambda folder: swap(folder, "itsm.db", os.mkfifo), "other hard links"),
        (lambda folder: swap(folder, "itsm.db", lambda path: path.write_text("root:x:0:0")), "is not SQLite data"),
        (lambda folder: swap(folder, "itsm.db-wal", lambda path: path.write_text("secret")), "is not SQLite data"),
        (lambda folder: swap(folder, "itsm.db-shm", lambda path: path.write_text("secret")), "is not SQLite data"),
        (lambda folder: (folder / "itsm.db").unlink(), "There is no database"),
        (lambda folder: os.chown(folder / "itsm.db", 1, 1), "owned by uid 1, not by root"),
        (lambda folder: (folder / "itsm.db").chmod(0o400), "denies access to its owner"),
        (lambda folder: (folder / "itsm.db").chmod(0o600), "nobody may not read it"),
        (lambda folder: (folder / "itsm.db-wal").chmod(0o600), "nobody may not read it"),
        (lambda folder: (folder / "config.js").write_text(""), r"nobody does not own .*config\.js"),
        (lambda folder: os.chown(folder, 0, 0), "nobody does not own .*backend"),
    ],
)
def test_the_owner_of_other_files_is_not_changed(folder, spoil, reason):
    spoil(folder)
    before = owners(folder)
    with pytest.raises(sqlite_owner.SqliteOwnerError, match=reason):
        restore(folder)
    assert owners(folder) == before
    assert not (folder.parent / "secret").exists() or (folder.parent / "secret").stat().st_uid == 0


def test_a_folder_that_is_reached_by_a_link_of_the_user_is_refused(folder, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    link = theirs / "backend"
    link.symlink_to(folder)
    account = pwd.getpwnam(USER)
    os.chown(theirs, account.pw_uid, account.pw_gid)
    with pytest.raises(sqlite_owner.SqliteOwnerError, match="Cannot open the folder"):
        sqlite_owner.restore(path=str(link / "itsm.db"), user=USER)
    assert owners(folder)["itsm.db"] == 0


def test_an_unknown_user_is_refused(folder):
    with pytest.raises(sqlite_owner.SqliteOwnerError, match="no user 'nobody-of-this-name'"):
        sqlite_owner.restore(path=str(folder / "itsm.db"), user="nobody-of-this-name")
