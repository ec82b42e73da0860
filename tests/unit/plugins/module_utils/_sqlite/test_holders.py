# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlite_samples import OPEN, READER, WRITER, Process, closed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.holders import Holders


def holders(path: str, *, proc_root: str = "/proc") -> Holders:
    return sqlite_holders.find_holders(file_survey.look(path), proc_root=proc_root)


@pytest.mark.parametrize(
    ("body", "role"),
    [(OPEN, "open"), (READER, "reader"), (WRITER, "writer")],
    ids=["open", "reader", "writer"],
)
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_roles(tmp_path: Path, body: str, role: str, mode: str) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path, mode=mode)
    with Process(path, body) as process:
        found = holders(path)
    assert [(holder.pid, holder.role) for holder in found.found] == [(process.pid, role)]
    assert "database" in found.found[0].files
    assert found.of_index is (mode == "WAL")
    assert not holders(path).found


def test_writers_come_before_readers(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with Process(path, OPEN), Process(path, READER), Process(path, WRITER):
        assert [holder.role for holder in holders(path).found] == ["writer", "reader", "open"]


def test_by_inode_not_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    os.link(path, tmp_path / "other-name.db")
    os.symlink(path, tmp_path / "link.db")
    os.mkdir(tmp_path / "copy")
    closed(str(tmp_path / "copy" / "itsm.db"))
    with Process(str(tmp_path / "other-name.db"), OPEN) as process:
        assert [holder.pid for holder in holders(path).found] == [process.pid]
        assert [holder.pid for holder in holders(str(tmp_path / "link.db")).found] == [process.pid]
        assert not holders(str(tmp_path / "copy" / "itsm.db")).found


def test_a_process_with_a_deleted_database_is_found_beside_one_with_the_new_database(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with Process(path, OPEN) as other:
        for name in ("itsm.db", "itsm.db-wal", "itsm.db-shm"):
            os.unlink(tmp_path / name)
        closed(path)
        with Process(path, OPEN) as service:
            found = holders(path)
    assert [holder.pid for holder in found.deleted] == [other.pid]
    assert [holder.pid for holder in found.found] == [service.pid]


def test_arguments_that_may_be_secret_are_omitted(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with Process(path, OPEN):
        command = holders(path).found[0].command
    assert "python" in command
    assert "sqlite3.connect" not in command


def test_a_process_that_cannot_be_seen(tmp_path: Path) -> None:
    """A process in another PID namespace is not visible in /proc, but the kernel still reports its lock."""
    path = str(tmp_path / "itsm.db")
    closed(path)
    proc = tmp_path / "proc"
    proc.mkdir()
    with Process(path, WRITER):
        found = holders(path, proc_root=str(proc))
    assert [holder.command for holder in found.found] == [sqlite_holders.HIDDEN]
    assert found.of_index
    assert not holders(path, proc_root=str(proc)).found


@pytest.mark.parametrize(
    ("name", "kind", "start", "end", "role"),
    [
        ("shm", "WRITE", 120, 120, "writer"),
        ("shm", "WRITE", 121, 121, "checkpointer"),
        ("shm", "WRITE", 122, 122, "recovering"),
        ("shm", "READ", 124, 124, "reader"),
        ("shm", "READ", 128, 128, "open"),
        ("shm", "READ", 120, 120, "open"),
        ("database", "READ", 1073741826, 1073742335, "open"),
        ("database", "WRITE", 1073741825, 1073741825, "writer"),
        ("database", "WRITE", 1073741826, 1073742335, "writer"),
        ("wal", "READ", 0, 1, "open"),
    ],
)
def test_role_of_lock(name: str, kind: str, start: int, end: int, role: str) -> None:
    assert sqlite_holders.role_of_lock(name=name, kind=kind, start=start, end=end, wal_mode=True) == role


@pytest.mark.parametrize("limit", ["_MOST_DESCRIPTORS", "_MOST_SECONDS"])
def test_an_unfinished_search_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A process that was not searched may have the database open."""
    path = str(tmp_path / "itsm.db")
    closed(path)
    monkeypatch.setattr(procfs, limit, 0)
    with pytest.raises(SqliteError, match=r"Cannot find out which processes have .*itsm\.db open: Cannot search"):
        holders(path)


def test_too_many_locks_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "locks").write_text("1: POSIX  ADVISORY  WRITE 7 fe:00:11 0 EOF\n" * 20)
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 10)
    with pytest.raises(SqliteError, match=r"the limits were reached at .*/locks"):
        holders(path, proc_root=str(tmp_path / "proc"))
