# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from sqlite_samples import OPEN, READER, WRITER, Process, closed, crashed, die, flip, frame_offset, shell, snapshot

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_copy, evidence_copy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


@pytest.fixture
def app(tmp_path: Path) -> str:
    folder = tmp_path / "app"
    folder.mkdir()
    return str(folder / "itsm.db")


@pytest.fixture
def dest(tmp_path: Path) -> str:
    return str(tmp_path / "backups")


def backup(path: str, **arguments: Any) -> Dict[str, Any]:
    return sqlite_backup.backup(path=path, **arguments)


def rows(path: str) -> int:
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    count = connection.execute("SELECT count(*) FROM incidents").fetchone()[0]
    connection.close()
    return int(count)


@pytest.mark.parametrize(
    "make",
    [
        crashed,
        closed,
        lambda path: closed(path, mode="DELETE"),
        lambda path: crashed(path, page_size=512),
        lambda path: crashed(path, page_size=65536),
        lambda path: crashed(path, shm=True),
    ],
    ids=["crashed", "closed", "rollback", "512", "65536", "index left"],
)
def test_a_backup(app: str, dest: str, make: Callable[[str], None]) -> None:
    make(app)
    before = snapshot(os.path.dirname(app))
    result = backup(app, dest_dir=dest)
    assert snapshot(os.path.dirname(app)) == before
    made = result["backup_file"]
    assert os.listdir(dest) == [os.path.basename(made)]
    assert result["changed"]
    assert result["integrity"] == "ok"
    assert result["row_counts"] == {"incidents": rows(made), "users": 2}
    assert rows(made) in (200, 260)
    assert result["size"] == os.path.getsize(made)
    assert result["sha256"] == hashlib.sha256(Path(made).read_bytes()).hexdigest()
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o700
    assert shell(made, "PRAGMA integrity_check; SELECT count(*) FROM incidents") == f"ok\n{rows(made)}"


@pytest.mark.parametrize("body", [OPEN, READER, WRITER], ids=["open", "reader", "writer"])
def test_a_live_database(app: str, dest: str, body: str) -> None:
    crashed(app)
    with Process(app, body):
        names = sorted(os.listdir(os.path.dirname(app)))
        result = backup(app, dest_dir=dest)
        assert sorted(os.listdir(os.path.dirname(app))) == names
    assert result["row_counts"] == {"incidents": 260, "users": 2}


def test_rows_and_copy_are_of_one_snapshot(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a row is committed between the row count and the page copy, it is neither counted nor copied."""
    crashed(app)
    count_rows = sqlite_schema.count_rows

    def and_then_somebody_commits(connection: sqlite3.Connection, **named: Any) -> Any:
        counts = count_rows(connection, **named)
        if os.path.exists(f"{app}-shm"):
            shell(app, "INSERT INTO users (name) VALUES ('late')")
        return counts

    monkeypatch.setattr(sqlite_schema, "count_rows", and_then_somebody_commits)
    with Process(app, OPEN):
        assert backup(app, dest_dir=dest)["row_counts"]["users"] == 2
    assert int(shell(app, "SELECT count(*) FROM users")) > 2


def test_a_hot_journal_is_undone_in_the_backup_only(app: str, dest: str) -> None:
    closed(app, mode="DELETE")
    body = """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM incidents")
    """
    Process(app, body).kill()
    before = snapshot(os.path.dirname(app))
    result = backup(app, dest_dir=dest)
    assert result["row_counts"]["incidents"] == 200
    assert snapshot(os.path.dirname(app)) == before


def test_named_destination(app: str, tmp_path: Path) -> None:
    crashed(app)
    target = tmp_path / "here" / "copy.db"
    assert backup(app, dest=str(target))["backup_file"] == str(target)
    content = target.read_bytes()
    with pytest.raises(SqliteError, match="already exists"):
        backup(app, dest=str(target))
    assert target.read_bytes() == content


def test_two_backups_in_one_second(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    monkeypatch.setattr(timestamps, "compact", lambda _seconds: "20260302T010203Z")
    names = [os.path.basename(backup(app, dest_dir=dest, prefix="b_")["backup_file"]) for _ in range(3)]
    assert names == ["b_20260302T010203Z", "b_20260302T010203Z-2", "b_20260302T010203Z-3"]


def test_filesystem_without_hard_links(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)

    def refuse(*_names: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    result = backup(app, dest_dir=dest)
    assert os.listdir(dest) == [os.path.basename(result["backup_file"])]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_the_backup_has_the_owner_of_the_database(app: str, dest: str) -> None:
    crashed(app)
    for name in (app, f"{app}-wal"):
        os.chown(name, 12345, 23456)
        os.chmod(name, 0o600)
    made = os.stat(backup(app, dest_dir=dest)["backup_file"])
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (12345, 23456, 0o600)


def test_check_mode(app: str, dest: str) -> None:
    crashed(app)
    result = backup(app, dest_dir=dest, check_mode=True)
    assert result["changed"]
    assert result["backup_file"].startswith(f"{dest}/itsm.db.backup_2")
    assert result["diff"]["after"]["present"] == [result["backup_file"]]
    assert not os.path.exists(dest)


# --- retention -------------------------------------------------------------------------------------------------------


def _old(dest: str, names: List[str]) -> None:
    os.makedirs(dest, exist_ok=True)
    for name in names:
        Path(dest, name).write_text("old", encoding="utf-8")


OLD = ["b_20260101T000000Z", "b_20260102T000000Z", "b_20260103T000000Z"]
OTHER = ["b_20260101T000000Z.txt", "b_notes", "other_20260101T000000Z", "xb_20260101T000000Z"]


@pytest.mark.parametrize(("keep", "removed"), [(0, []), (1, OLD), (2, OLD[:2]), (4, []), (9, [])])
def test_retention(app: str, dest: str, keep: int, removed: List[str]) -> None:
    crashed(app)
    _old(dest, OLD + OTHER)
    expected = [f"{dest}/{name}" for name in removed]
    assert backup(app, dest_dir=dest, prefix="b_", keep=keep, check_mode=True)["removed"] == expected
    result = backup(app, dest_dir=dest, prefix="b_", keep=keep)
    assert result["removed"] == expected
    left = {*OLD, *OTHER, os.path.basename(result["backup_file"])} - set(removed)
    assert set(os.listdir(dest)) == left


def test_the_new_backup_is_kept_if_the_clock_was_set_back(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    _old(dest, OLD)
    monkeypatch.setattr(timestamps, "compact", lambda _seconds: "20200101T000000Z")
    result = backup(app, dest_dir=dest, prefix="b_", keep=2)
    assert result["removed"] == [f"{dest}/{name}" for name in OLD[:2]]
    assert sorted(os.listdir(dest)) == ["b_20200101T000000Z", OLD[2]]
    assert rows(result["backup_file"]) == 260


def test_a_failed_backup_removes_no_backup(app: str, dest: str) -> None:
    crashed(app)
    flip(f"{app}-wal", frame_offset(9) + 500)
    _old(dest, OLD)
    with pytest.raises(SqliteError):
        backup(app, dest_dir=dest, prefix="b_", keep=1)
    assert sorted(os.listdir(dest)) == OLD


# --- refusals --------------------------------------------------------------------------------------------------------


def _page_lost(path: str) -> None:
    closed(path)
    with open(path, "r+b") as stream:
        stream.seek(3 * 4096)
        stream.write(b"\xa5" * 4096)


def _zero_beside_wal(path: str) -> None:
    crashed(path)
    os.truncate(path, 0)


def _damaged_wal(path: str) -> None:
    crashed(path)
    flip(f"{path}-wal", frame_offset(9) + 500)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "There is no database"),
        (_zero_beside_wal, "would delete that WAL"),
        (_damaged_wal, "frames of its WAL cannot be read"),
        (_page_lost, "is not sound|malformed"),
        (os.mkdir, "is a folder"),
        (os.mkfifo, "is a FIFO"),
    ],
    ids=["missing", "zero bytes", "damaged WAL", "corrupt", "folder", "FIFO"],
)
def test_refused(app: str, dest: str, make: Callable[[str], None], words: str) -> None:
    make(app)
    before = snapshot(os.path.dirname(app))
    with pytest.raises(SqliteError, match=words):
        backup(app, dest_dir=dest)
    assert not os.path.exists(dest) or os.listdir(dest) == []
    assert snapshot(os.path.dirname(app)) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either dest or dest_dir"),
        ({"dest": "/a/b", "dest_dir": "/a"}, "either dest or dest_dir"),
        ({"dest_dir": "a"}, "dest_dir must be an absolute path, not 'a'"),
        ({"dest": "b"}, "dest must be an absolute path, not 'b'"),
        ({"dest": "/a/b", "keep": 2}, "require dest_dir"),
        ({"dest_dir": "/a", "keep": -1}, "keep must be 0"),
        ({"dest_dir": "/a", "keep": 1, "evidence": True}, "evidence is never removed"),
        ({"dest_dir": "/a", "prefix": "../b"}, "prefix must be the beginning of a file name"),
        ({"dest_dir": "/a", "prefix": ""}, "prefix must be the beginning of a file name"),
        ({"dest_dir": "/a", "timeout": 0}, "timeout must be above 0"),
    ],
)
def test_parameters(app: str, arguments: Dict[str, Any], words: str) -> None:
    crashed(app)
    with pytest.raises(SqliteError, match=words):
        backup(app, **arguments)


def test_space_is_checked_first(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    monkeypatch.setattr(sqlite_files, "free_bytes", lambda _folder: 1000)
    with pytest.raises(sqlite_files.NoRoomError, match="1000 are free"):
        backup(app, dest_dir=dest)
    assert not os.path.exists(dest)


def test_only_the_space_is_checked(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    before = snapshot(os.path.dirname(app))
    result = backup(app, dest_dir=dest, room_only=True)
    assert (result["changed"], result["backup_file"], result["evidence_dir"]) == (False, None, None)
    assert result["room_needed"] > os.path.getsize(app)
    assert not os.path.exists(dest)
    assert snapshot(os.path.dirname(app)) == before
    monkeypatch.setattr(sqlite_files, "free_bytes", lambda _folder: 1000)
    with pytest.raises(sqlite_files.NoRoomError, match="1000 are free"):
        backup(app, dest_dir=dest, room_only=True)


def test_destination_below_a_file(app: str) -> None:
    crashed(app)
    with pytest.raises(SqliteError, match="Cannot "):
        backup(app, dest_dir=f"{app}/backups")


def test_a_copy_that_lacks_rows_is_not_a_backup(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    verify = backup_copy.verify

    def lacking(path: str, **named: Any) -> Dict[str, Any]:
        return {**verify(path, **named), "row_counts": {"incidents": 259, "users": 2}}

    monkeypatch.setattr(backup_copy, "verify", lacking)
    with pytest.raises(SqliteError, match="and of its backup differ"):
        backup(app, dest_dir=dest)
    assert os.listdir(dest) == []


def test_leftovers_of_a_killed_run_are_removed(app: str, dest: str) -> None:
    crashed(app)
    os.makedirs(f"{dest}/{sqlite_backup._PARTIAL}dead")
    Path(dest, f"{sqlite_backup._PARTIAL}dead", "database").write_text("half", encoding="utf-8")
    result = backup(app, dest_dir=dest)
    assert os.listdir(dest) == [os.path.basename(result["backup_file"])]


def test_the_folder_of_a_simultaneous_run_is_kept(app: str, dest: str) -> None:
    crashed(app)
    os.mkdir(dest)
    with sqlite_backup._partial(dest) as other:
        backup(app, dest_dir=dest)
        assert os.path.isdir(other)


def test_a_child_that_dies(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    monkeypatch.setattr(sqlite_schema, "count_rows", lambda *_: die(7))
    with pytest.raises(SqliteError, match="SIGBUS"):
        backup(app, dest_dir=dest)
    assert os.listdir(dest) == []


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda path: crashed(path, shm=True), _zero_beside_wal, _damaged_wal, _page_lost],
    ids=["crashed", "zero bytes", "damaged WAL", "corrupt"],
)
def test_evidence(app: str, dest: str, make: Callable[[str], None]) -> None:
    make(app)
    before = snapshot(os.path.dirname(app))
    result = backup(app, dest_dir=dest, evidence=True)
    assert snapshot(os.path.dirname(app)) == before
    folder = result["evidence_dir"]
    assert sorted(os.listdir(folder)) == sorted(os.listdir(os.path.dirname(app)))
    assert result["backup_file"] is None
    for entry in result["files"]:
        copy = Path(entry["path"])
        original = Path(os.path.dirname(app), copy.name)
        assert copy.read_bytes() == original.read_bytes()
        assert entry["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
        assert entry["size"] == copy.stat().st_size
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert copy.stat().st_mtime_ns == original.stat().st_mtime_ns
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_holes_need_no_space_in_the_evidence(app: str, dest: str) -> None:
    crashed(app)
    os.truncate(app, 64 << 20)
    (entry, *_others) = backup(app, dest_dir=dest, evidence=True)["files"]
    copy = os.stat(entry["path"])
    assert (copy.st_size, copy.st_blocks * 512 < 8 << 20) == (64 << 20, True)
    assert entry["sha256"] == hashlib.sha256(Path(app).read_bytes()).hexdigest()


@pytest.mark.parametrize("leave", [0.0, 0.1])
def test_a_share_of_the_file_system_stays_free(
    app: str, dest: str, monkeypatch: pytest.MonkeyPatch, leave: float
) -> None:
    crashed(app)
    monkeypatch.setattr(sqlite_files, "free_bytes", lambda _folder: 64 << 20)
    monkeypatch.setattr(sqlite_files, "size_of_file_system", lambda _folder: 1 << 30)
    if not leave:
        assert backup(app, dest_dir=dest, evidence=True, leave=leave)["changed"]
        return
    with pytest.raises(SqliteError, match=r"107374182 of the 67108864 free bytes must stay free"):
        backup(app, dest_dir=dest, evidence=True, leave=leave)
    assert not os.path.exists(dest)


def test_evidence_twice_in_one_second(app: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(app)
    monkeypatch.setattr(timestamps, "compact", lambda _seconds: "20260302T010203Z")
    first, second = (backup(app, dest_dir=dest, evidence=True) for _ in range(2))
    assert second["evidence_dir"] == f"{first['evidence_dir']}-2"
    assert [os.path.exists(entry["path"]) for entry in second["files"]] == [True, True]
    assert sorted(os.listdir(dest)) == ["itsm.db.evidence_20260302T010203Z", "itsm.db.evidence_20260302T010203Z-2"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_copy, "_PATIENCE", 0.2)


@pytest.mark.parametrize("look", [1, 2])
def test_evidence_waits_for_a_short_open_by_another_process(
    app: str, dest: str, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    """For example, a virus scanner briefly opens each file that another process opens."""
    crashed(app)
    find_holders, looks = sqlite_holders.find_holders, []

    def opened(*arguments: Any, **named: Any) -> Any:
        looks.append(find_holders(*arguments, **named))
        scanner = sqlite_holders.Holder(pid=1, command="scanner", files=["database"])
        return sqlite_holders.Holders(found=[scanner], complete=True) if len(looks) == look else looks[-1]

    monkeypatch.setattr(sqlite_holders, "find_holders", opened)
    made = backup(app, dest_dir=dest, evidence=True)
    assert len(looks) > 2
    for entry in made["files"]:
        assert Path(entry["path"]).read_bytes() == Path(app).with_name(os.path.basename(entry["path"])).read_bytes()


@pytest.mark.usefixtures("impatient")
def test_no_evidence_of_a_live_database(app: str, dest: str) -> None:
    crashed(app)
    with Process(app, OPEN) as process, pytest.raises(SqliteError, match=f"pid {process.pid}"):
        backup(app, dest_dir=dest, evidence=True)
    assert not os.path.exists(dest)


@pytest.mark.usefixtures("impatient")
def test_evidence_is_discarded_if_another_process_opens_the_files(
    app: str, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed(app)
    find_holders = sqlite_holders.find_holders
    looks: List[Any] = []

    def opened_later(*arguments: Any, **named: Any) -> Any:
        looks.append(find_holders(*arguments, **named))
        somebody = sqlite_holders.Holder(pid=1, command="node backend/server.js")
        return looks[0] if len(looks) == 1 else sqlite_holders.Holders(found=[somebody], complete=True)

    monkeypatch.setattr(sqlite_holders, "find_holders", opened_later)
    with pytest.raises(SqliteError, match="were opened or written to while they were being copied"):
        backup(app, dest_dir=dest, evidence=True)
    assert os.listdir(dest) == []


def test_no_evidence_of_a_missing_database(app: str, dest: str) -> None:
    with pytest.raises(SqliteError, match=r"Cannot copy .*: neither the database nor its -wal and -shm files exist"):
        backup(app, dest_dir=dest, evidence=True)
