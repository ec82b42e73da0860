# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set

import pytest
from rounds import rounds
from sqlite_samples import (
    INSERTER,
    OPEN,
    WRITER,
    Process,
    closed,
    codes,
    crashed,
    die,
    flip,
    frame_offset,
    new_salts,
    patch,
    shell,
    snapshot,
)

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process, integrity
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

CHECKS = ["quick", "integrity", "foreign_keys"]


def check(path: str, **arguments: Any) -> Dict[str, Any]:
    return sqlite_check.check(path=path, **arguments)


# --- damaged inputs --------------------------------------------------------------------------------------------------


def _truncated(path: str) -> None:
    closed(path)
    os.truncate(path, os.path.getsize(path) // 2)


def _cut_header(path: str) -> None:
    closed(path)
    os.truncate(path, 50)


def _empty(path: str) -> None:
    Path(path).touch()


def _empty_beside_wal(path: str) -> None:
    crashed(path)
    os.truncate(path, 0)


def _random(path: str) -> None:
    Path(path).write_bytes(bytes(pow(3, n, 65537) & 255 for n in range(40960)))


def _text(path: str) -> None:
    Path(path).write_text("-- a dump, not a database\n" * 200, encoding="utf-8")


def _patched(offset: int, data: bytes) -> Callable[[str], None]:
    def make(path: str) -> None:
        closed(path)
        patch(path, offset, data)

    return make


def _root_of(path: str, name: str) -> int:
    connection = sqlite3.connect(path)
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return int(page)


def _page_lost(path: str) -> None:
    closed(path)
    patch(path, (_root_of(path, "incidents") - 1) * 4096, b"\xa5" * 4096)


def _index_entry_changed(path: str) -> None:
    closed(path)
    data = Path(path).read_bytes()
    # The first occurrence of the title is in the table, and the second is in the index.
    first = data.index(b"title 000003")
    offset = data.index(b"title 000003", first + 1)
    patch(path, offset + 6, b"9")


def _freelist_count(path: str) -> None:
    closed(path)
    patch(path, 36, struct.pack(">I", 7))


def _wal(change: Callable[[str], None]) -> Callable[[str], None]:
    def make(path: str) -> None:
        crashed(path)
        change(f"{path}-wal")

    return make


def _cut(amount: int) -> Callable[[str], None]:
    return lambda path: os.truncate(path, os.path.getsize(path) - amount)


def _wal_of_other_page_size(path: str) -> None:
    crashed(path)
    crashed(f"{path}.other", page_size=1024)
    os.replace(f"{path}.other-wal", f"{path}-wal")
    os.unlink(f"{path}.other")


def _wal_of_another_database(path: str) -> None:
    """Add the WAL of another, undamaged database.

    This WAL contains every page, so SQLite reads none from the database file.
    """
    crashed(f"{path}.other")
    closed(path, mode="DELETE")
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(20):
        connection.execute(f"PRAGMA user_version={number}")
    connection.close()
    os.replace(f"{path}.other-wal", f"{path}-wal")
    os.unlink(f"{path}.other")


def _restored_beside_a_newer_wal(path: str) -> None:
    """Copy an old backup over the database, and leave the newer database's WAL in place."""
    closed(path)
    shutil.copy(path, f"{path}.backup")
    for number in range(5):
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA user_version={number + 1}")
        if number == 4:
            shutil.copy(f"{path}-wal", f"{path}.wal")
        connection.close()
    os.replace(f"{path}.backup", path)
    os.replace(f"{path}.wal", f"{path}-wal")


def _wal_lost(path: str) -> None:
    connection = sqlite3.connect(f"{path}.work", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    shutil.copy(f"{path}.work", path)
    connection.close()
    os.unlink(f"{path}.work")


def _wal_is(make_it: Callable[[str], None]) -> Callable[[str], None]:
    def make(path: str) -> None:
        closed(path)
        make_it(f"{path}-wal")

    return make


def _link(path: str) -> None:
    closed(f"{path}.real")
    os.symlink(f"{path}.real", path)


def _socket(path: str) -> None:
    place = socket.socket(socket.AF_UNIX)
    place.bind(path)
    place.close()


def _too_new(path: str) -> None:
    closed(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE users (id, name) FUTURE' WHERE name = 'users'")
    connection.close()
    patch(path, 96, struct.pack(">I", 3999001))


def _malformed_schema(path: str) -> None:
    closed(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE users (id, name) FUTURE' WHERE name = 'users'")
    connection.close()


def _hot_journal(path: str) -> None:
    """Kill a writer in rollback-journal mode, during a transaction that has already changed the database file."""
    closed(path, mode="DELETE")
    body = """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN")
    connection.execute("UPDATE incidents SET body = 'half'")
    """
    Process(path, body).kill()
    assert os.path.getsize(f"{path}-journal") > 0


def _missing_beside_wal(path: str) -> None:
    crashed(path)
    os.unlink(path)


def _below_a_file(path: str) -> None:
    closed(os.path.dirname(path) + "/file")


def _loop(path: str) -> None:
    os.symlink(path, path)


def _garbage_index(path: str) -> None:
    crashed(path)
    Path(f"{path}-shm").write_bytes(b"\xff" * 32768)


def _orphan_row(path: str) -> None:
    closed(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE child (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users (id))")
    connection.execute("INSERT INTO child VALUES (1, 99)")
    connection.close()


NOTHING: Set[str] = set()
# Name, function that creates the files, problem codes, healthy, data loss suspected.
CASES: List[Any] = [
    ("closed", closed, NOTHING, True, False),
    ("crashed", crashed, NOTHING, True, False),
    ("rollback mode", lambda path: closed(path, mode="DELETE"), NOTHING, True, False),
    ("persistent journal", lambda path: closed(path, mode="PERSIST"), NOTHING, True, False),
    ("page size 512", lambda path: crashed(path, page_size=512), NOTHING, True, False),
    ("page size 65536", lambda path: crashed(path, page_size=65536), NOTHING, True, False),
    ("crashed, index left", lambda path: crashed(path, shm=True), NOTHING, True, False),
    ("index of garbage", _garbage_index, NOTHING, True, False),
    ("empty WAL", _wal_is(lambda wal: Path(wal).touch()), NOTHING, True, False),
    ("link", _link, NOTHING, True, False),
    ("rows without parent", _orphan_row, {"foreign_keys"}, True, False),
    ("missing", lambda path: None, {"missing"}, False, True),
    ("missing beside WAL", _missing_beside_wal, {"missing"}, False, True),
    ("zero bytes", _empty, {"empty"}, False, True),
    ("zero bytes beside WAL", _empty_beside_wal, {"empty_beside_wal"}, False, True),
    ("truncated", _truncated, {"corrupt"}, False, True),
    ("cut in its header", _cut_header, {"not_a_database"}, False, True),
    ("random bytes", _random, {"not_a_database"}, False, True),
    ("text", _text, {"not_a_database"}, False, True),
    ("flipped byte in magic", _patched(3, b"x"), {"not_a_database"}, False, True),
    ("impossible page size", _patched(16, b"\x00\x03"), {"not_a_database"}, False, True),
    ("huge page count", _patched(28, b"\x7f\xff\xff\xff"), {"corrupt"}, False, True),
    ("freelist count", _freelist_count, {"corrupt"}, False, True),
    ("b-tree page overwritten", _page_lost, {"corrupt"}, False, True),
    ("index entry changed", _index_entry_changed, {"corrupt"}, False, True),
    ("schema format 9", _patched(44, b"\0\0\0\x09"), {"schema_too_new"}, False, False),
    ("read version 3", _patched(18, b"\x03\x03"), {"schema_too_new"}, False, False),
    ("schema too new", _too_new, {"schema_too_new"}, False, False),
    ("malformed schema", _malformed_schema, {"corrupt"}, False, True),
    ("WAL header magic", _wal(lambda wal: flip(wal, 0)), {"wal_damaged"}, False, True),
    ("WAL header salts", _wal(lambda wal: flip(wal, 17)), {"wal_damaged"}, False, True),
    ("WAL frame", _wal(lambda wal: flip(wal, frame_offset(9) + 500)), {"wal_damaged"}, False, True),
    ("WAL frame checksum", _wal(lambda wal: flip(wal, frame_offset(9) + 17)), {"wal_damaged"}, False, True),
    ("WAL frame salt", _wal(lambda wal: flip(wal, frame_offset(9) + 9)), {"wal_damaged"}, False, True),
    ("WAL last frame", _wal(lambda wal: flip(wal, -10)), {"wal_torn"}, True, True),
    ("WAL cut in a frame", _wal(_cut(100)), {"wal_torn"}, True, False),
    ("WAL cut in its header", _wal(lambda wal: os.truncate(wal, 20)), {"wal_torn"}, True, False),
    ("WAL with swapped salts", _wal(new_salts), {"wal_foreign"}, False, True),
    ("WAL of random bytes", _wal_is(_random), {"wal_damaged"}, False, True),
    ("WAL of other page size", _wal_of_other_page_size, {"wal_foreign", "corrupt"}, False, True),
    ("WAL of another database", _wal_of_another_database, {"wal_foreign"}, False, True),
    ("restored beside a newer WAL", _restored_beside_a_newer_wal, {"wal_foreign"}, False, True),
    ("WAL lost, no table left", _wal_lost, {"no_tables"}, False, True),
    ("hot journal", _hot_journal, {"hot_journal"}, True, False),
    ("folder", os.mkdir, {"not_a_file"}, False, False),
    ("FIFO", os.mkfifo, {"not_a_file"}, False, False),
    ("socket", _socket, {"not_a_file"}, False, False),
    ("dangling link", lambda path: os.symlink("nowhere", path), {"missing"}, False, True),
    ("link to itself", _loop, {"not_a_file"}, False, False),
    ("WAL is a FIFO", _wal_is(os.mkfifo), {"not_a_file"}, False, False),
    ("WAL is a folder", _wal_is(os.mkdir), {"not_a_file"}, False, False),
    ("WAL is a link", _wal_is(lambda wal: os.symlink("/etc/passwd", wal)), {"not_a_file"}, False, False),
]


def test_a_database_whose_folder_is_missing_was_not_seen(tmp_path: Path) -> None:
    result = check(str(tmp_path / "app" / "itsm.db"), checks=CHECKS)
    assert codes(result) == ["folder_missing"]
    assert (result["healthy"], result["conclusive"], result["data_loss_suspected"]) == (False, False, False)


def test_a_database_whose_disk_is_not_mounted_was_not_seen(tmp_path: Path, monkeypatch) -> None:
    """An unused mount point is an empty folder, or contains only folders that the service created there."""
    monkeypatch.setattr(mounts, "unmounted", lambda path: str(tmp_path))
    result = check(str(tmp_path / "itsm.db"), checks=CHECKS)
    assert codes(result) == ["not_mounted"]
    assert result["problems"][0]["message"].endswith(f"is not mounted at {tmp_path}, although /etc/fstab lists it")
    assert (result["conclusive"], result["data_loss_suspected"]) == (False, False)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_damaged_inputs(case: Any, tmp_path: Path) -> None:
    _name, make, expected, healthy, loss = case
    folder = tmp_path / "app"
    folder.mkdir()
    path = str(folder / "itsm.db")
    make(path)
    before = snapshot(str(folder))
    started = time.monotonic()
    result = check(path, checks=CHECKS)
    assert time.monotonic() - started < 5
    assert set(codes(result)) == expected, result["problems"]
    assert (result["healthy"], result["data_loss_suspected"]) == (healthy, loss)
    assert bool(result["data_loss_reasons"]) is loss
    assert all("\n" not in problem["message"] and problem["message"] for problem in result["problems"])
    assert snapshot(str(folder)) == before


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3 shell to ask")
@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [case[:3] for case in CASES if not case[2] & {"not_a_file", "missing", "empty", "empty_beside_wal"}],
    ids=[case[0] for case in CASES if not case[2] & {"not_a_file", "missing", "empty", "empty_beside_wal"}],
)
def test_the_shell_agrees(name: str, make: Callable[[str], None], expected: Set[str], tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    make(path)
    shell_is_content = shell(path, "PRAGMA integrity_check") == "ok"
    assert shell_is_content is not bool(expected & {"corrupt", "not_a_database", "schema_too_new"})


def _damage_by_chance(path: str, chance: random.Random) -> None:
    """Create a database of a random kind, and damage its file or its WAL at a random offset."""
    page_size = chance.choice([512, 1024, 4096, 65536])
    mode = chance.choice(["crashed", "crashed", "WAL", "DELETE", "TRUNCATE", "PERSIST"])
    if mode == "crashed":
        crashed(path, page_size=page_size, shm=chance.random() < 0.3)
        path = chance.choice([path, f"{path}-wal"])
    else:
        closed(path, page_size=page_size, mode=mode)
    size = os.path.getsize(path)
    at = chance.randrange(size if chance.random() < 0.7 else min(size, 200))
    how = chance.choice(["flip", "flip", "zero", "noise", "cut", "longer", "moved"])
    content = bytearray(Path(path).read_bytes())
    length = min(chance.choice([1, 4, 100, page_size, 3 * page_size]), size - at)
    if how == "flip":
        content[at] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del content[at:]
    elif how == "moved":
        one, other = (chance.randrange(size // page_size) * page_size for _ in range(2))
        page = content[one : one + page_size]
        content[one : one + page_size] = content[other : other + page_size]
        content[other : other + page_size] = page
    else:
        noise = bytes(length) if how == "zero" else bytes(chance.randrange(256) for _ in range(length))
        start = size if how == "longer" else at
        content[start : start + length] = noise
    Path(path).write_bytes(content)


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3 shell to ask")
@pytest.mark.parametrize("group", range(rounds(2, thorough=4)))
def test_the_shell_agrees_on_random_damage(group: int, tmp_path: Path) -> None:
    # Only integrity_check finds some of this damage.
    for seed in range(40 + group * 12, 52 + group * 12):
        folder, copy = tmp_path / f"{seed}", tmp_path / f"{seed}.copy"
        folder.mkdir()
        _damage_by_chance(str(folder / "itsm.db"), random.Random(seed))  # noqa: S311
        before = snapshot(str(folder))
        result = check(str(folder / "itsm.db"), checks=CHECKS)
        assert snapshot(str(folder)) == before, seed
        shutil.copytree(folder, copy)  # Copy the folder, because the shell writes to the files that it opens.
        shell_is_content = shell(str(copy / "itsm.db"), "PRAGMA integrity_check") == "ok"
        content = {"corrupt", "not_a_database", "schema_too_new", "unreadable"}
        assert shell_is_content is not bool(content & set(codes(result))), (seed, codes(result))
        if shell_is_content and result["row_counts"]:
            counts = shell(
                str(copy / "itsm.db"), "SELECT (SELECT count(*) FROM incidents), (SELECT count(*) FROM users)"
            )
            assert counts == "{incidents}|{users}".format(**result["row_counts"]), seed


# --- side effects of a check -----------------------------------------------------------------------------------------

AWKWARD = ["it's.db", 'a"b.db', "what?.db", "a#b.db", "100%41.db", "a b.db", "日本.db", "a&mode=rwc.db", b"\xff\xfe.db"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(name: str | bytes, tmp_path: Path) -> None:
    path = f"{tmp_path}/" + os.fsdecode(name)
    crashed(path)
    before = snapshot(str(tmp_path))
    result = check(path)
    assert result["healthy"], result["problems"]
    assert result["row_counts"] == {"incidents": 260, "users": 2}
    assert snapshot(str(tmp_path)) == before


@pytest.mark.parametrize("path", ["itsm.db", "./itsm.db", "", "/tmp/a\0b"])
def test_invalid_paths(path: str) -> None:
    with pytest.raises(SqliteError, match="path must be an absolute path"):
        check(path)


def _as_nobody(work: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """Run `work` as the user "nobody" if the tests run as root, otherwise as the current user. Return its result."""
    if os.geteuid() != 0:
        return work()
    answers: List[Dict[str, Any]] = []

    def child(emit: child_process.Emit) -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        emit({"event": "result", "result": work()})

    answers = child_process.in_child(child, deadline=time.monotonic() + 20, read_only=False)
    assert answers[0]["event"] == "result", answers
    return dict(answers[0]["result"])


@pytest.fixture
def public_folder() -> Any:
    """Yield a folder that everybody can enter, unlike tmp_path."""
    folder = tempfile.mkdtemp()
    Path(folder).chmod(0o711)
    yield folder
    Path(folder).chmod(0o700)
    shutil.rmtree(folder)


def test_no_permission(public_folder: str) -> None:
    path = f"{public_folder}/itsm.db"
    crashed(path)
    os.chmod(path, 0)
    result = _as_nobody(lambda: check(path))
    assert codes(result) == ["unreadable"]
    assert "Permission denied" in result["problems"][0]["message"]


def test_no_permission_for_the_wal(public_folder: str) -> None:
    path = f"{public_folder}/itsm.db"
    crashed(path)
    os.chmod(f"{path}-wal", 0)
    result = _as_nobody(lambda: check(path))
    assert codes(result) == ["unreadable"]
    assert result["row_counts"] == {}


def test_read_only_folder(public_folder: str) -> None:
    path = f"{public_folder}/itsm.db"
    crashed(path)
    Path(public_folder).chmod(0o511)
    before = snapshot(public_folder)
    result = _as_nobody(lambda: check(path))
    assert result["healthy"]
    assert result["row_counts"]["incidents"] == 260
    assert snapshot(public_folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_root_does_not_change_owners(tmp_path: Path) -> None:
    """If root runs SQLite, the owner of the database also becomes the owner of a new WAL.

    A check must not change the owners of files.
    """
    path = str(tmp_path / "itsm.db")
    crashed(path)
    os.chown(path, 12345, 12345)
    os.chown(f"{path}-wal", 23456, 23456)
    before = snapshot(str(tmp_path))
    assert check(path)["healthy"]
    assert snapshot(str(tmp_path)) == before


# --- live databases --------------------------------------------------------------------------------------------------


def test_a_live_database(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    crashed(path)
    with Process(path, OPEN) as process:
        names = sorted(os.listdir(tmp_path))
        result = check(path)
        assert result["healthy"], result["problems"]
        assert [holder["pid"] for holder in result["holders"]] == [process.pid]
        assert result["row_counts"]["incidents"] == 260
        assert sorted(os.listdir(tmp_path)) == names


def test_a_live_writer_is_not_disturbed(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with Process(path, WRITER):
        result = check(path, checks=CHECKS)
        assert result["healthy"], result["problems"]
        assert result["holders"][0]["role"] == "writer"
        assert result["row_counts"]["users"] == 2  # The third user is not committed.


def test_a_live_rollback_database_that_is_locked(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path, mode="DELETE")
    with Process(path, OPEN + 'connection.execute("BEGIN EXCLUSIVE")\n') as process:
        result = check(path, busy_timeout=0.1)
        assert codes(result) == ["locked"]
        assert str(process.pid) in result["problems"][0]["message"]
        assert not result["data_loss_suspected"]
    assert check(path)["healthy"]


def test_removed_while_open(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    with Process(path, INSERTER) as process:
        os.unlink(f"{path}-wal")
        result = check(path)
        assert "open_deleted" in codes(result)
        assert str(process.pid) in result["data_loss_reasons"][0]


def test_a_service_that_starts_meanwhile_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "itsm.db")
    crashed(path)
    in_child = child_process.in_child
    writes = []

    def and_somebody_writes(*arguments: Any, **named: Any) -> Any:
        messages = in_child(*arguments, **named)
        if len(writes) < 2:
            writes.append(shell(path, "INSERT INTO users (name) VALUES (hex(randomblob(8)))"))
        return messages

    monkeypatch.setattr(child_process, "in_child", and_somebody_writes)
    result = check(path)
    assert writes == ["", ""]
    assert result["healthy"]
    assert result["row_counts"]["users"] == 4
    writes.pop()
    monkeypatch.setattr(sqlite_check, "_ATTEMPTS", 1)
    assert codes(check(path)) == ["changing"]


@pytest.mark.parametrize(
    ("went", "said", "expected"),
    [
        (True, "unable to open database file", []),
        (True, "attempt to write a readonly database", []),
        (False, "unable to open database file", ["unreadable"]),
    ],
)
def test_a_service_that_ends_while_its_files_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, went: bool, said: str, expected: List[str]
) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    connect, stamps_of = sqlite_reader.connect, sqlite_files.stamps_of
    # Count the attempts to open the database. The counter is in shared memory, because the process that opens the
    # database cannot write to any file.
    opened = mmap.mmap(-1, 1)

    def last_close(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened[0] += 1
        if opened[0] == 1 or not went:
            raise sqlite3.OperationalError(said)
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite_reader, "connect", last_close)

    def stamps_at_that_moment(path: str, **options: Any) -> Any:
        return None if went and opened[0] == 1 else stamps_of(path, **options)

    monkeypatch.setattr(sqlite_files, "stamps_of", stamps_at_that_moment)
    # A service has the database open during the check.
    with Process(path, INSERTER):
        assert codes(check(path)) == expected


# --- results ---------------------------------------------------------------------------------------------------------


def test_rows_in_the_wal_count(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    crashed(path, in_database=10, in_wal=7)
    result = check(path)
    assert result["row_counts"] == {"incidents": 17, "users": 2}
    assert result["wal"]["frames_committed"] == result["wal"]["frames_total"] >= 7
    assert result["database"]["page_count"] == result["wal"]["database_pages"]


def _unfinished_commit(path: str) -> None:
    """Add a commit frame without valid checksums.

    Such a frame exists if a writer is killed while it writes the frame.
    """
    crashed(path, shm=True)
    with open(f"{path}-wal", "r+b") as stream:
        salts = stream.read(24)[16:]
        stream.seek(0, os.SEEK_END)
        stream.write(struct.pack(">II", 2, 9) + salts + bytes(8) + bytes(4096))


def _without_index(path: str) -> None:
    _unfinished_commit(path)
    os.unlink(f"{path}-shm")


def _index_of_more(path: str) -> None:
    _unfinished_commit(path)
    _move_index(path, 1)


def _index_of_less(path: str) -> None:
    _unfinished_commit(path)
    _move_index(path, -1)


def _move_index(path: str, frames: int) -> None:
    with open(f"{path}-shm", "rb") as stream:
        stream.seek(16)
        (known,) = struct.unpack("=I", stream.read(4))
    for copy in (0, 48):
        patch(f"{path}-shm", copy + 16, struct.pack("=I", known + frames))


def _from_before_the_boot(path: str) -> None:
    _unfinished_commit(path)
    os.utime(f"{path}-wal", (1e9, 1e9))


def _opened_since(path: str) -> None:
    _unfinished_commit(path)
    reader = (
        "import os, signal, sqlite3, sys; "
        "kept = sqlite3.connect(sys.argv[1]); kept.execute('SELECT count(*) FROM users').fetchone(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", reader, path], check=False)
    assert os.path.exists(f"{path}-shm")


@pytest.mark.parametrize(
    ("make", "loss"),
    [
        # The index shows that the last transaction was never acknowledged.
        (_unfinished_commit, False),
        # If the index is missing, invalid or outdated, rows may have been lost.
        (_without_index, True),
        (_index_of_more, True),
        (_index_of_less, True),
        (_from_before_the_boot, True),
        (_opened_since, True),
    ],
)
def test_an_unfinished_commit_was_acknowledged_or_not(tmp_path: Path, make: Callable[[str], None], loss: bool) -> None:
    path = str(tmp_path / "itsm.db")
    make(path)
    result = check(path)
    assert (codes(result), result["healthy"]) == (["wal_torn"], True)
    assert (result["data_loss_suspected"], result["row_counts"]["incidents"]) == (loss, 260)


def test_named_tables(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    assert check(path, row_counts=["users"])["row_counts"] == {"users": 2}
    assert check(path, row_counts=False)["row_counts"] == {}
    result = check(path, row_counts=["users", "nothing"])
    assert codes(result) == ["no_such_table"]


def test_table_names_are_quoted_and_internal_tables_are_skipped(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute('CREATE TABLE "a""b; DROP TABLE c" (x)')
    connection.execute("CREATE TABLE sqliteish (x INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("CREATE VIEW seen AS SELECT 1")
    connection.execute("INSERT INTO sqliteish VALUES (NULL)")
    connection.close()
    assert check(path)["row_counts"] == {'a"b; DROP TABLE c': 0, "sqliteish": 1}


def test_a_table_is_recognized_by_its_plain_text_name(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    names = ["a\x07b", "\u202edrow", "\x1b[2J", "\x1b[0m"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in names:
            connection.execute(f'CREATE TABLE "{name}" AS SELECT 1')
        connection.commit()
    counted = sanitize.data(check(path)["row_counts"])
    assert sorted(counted) == ["", "\\u202edrow", "a\\x07b"]
    assert check(path, baseline=counted)["problems"] == []
    assert check(path, baseline={**counted, "a\\x07b": 2})["problems"][0]["code"] == "row_loss"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({"users": 2, "incidents": 200}, ""),
        ({"users": 1}, ""),
        ({"users": 3}, "users has 2 rows, 1 fewer than before (3)"),
        ({"gone": 5}, "gone no longer exists"),
    ],
)
def test_baseline(tmp_path: Path, baseline: Dict[str, int], words: str) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    result = check(path, baseline=baseline)
    assert (result["data_loss_suspected"], result["healthy"]) == (bool(words), not words)
    assert words in "".join(problem["message"] for problem in result["problems"])


def test_integrity_finds_more_than_quick(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    _index_entry_changed(path)
    assert check(path, checks=["quick"])["healthy"]
    result = check(path, checks=["integrity"])
    assert not result["healthy"]
    assert "problem" in result["checks"]["integrity"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("large") / "itsm.db")
    closed(path, rows=200)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(
        "INSERT INTO incidents SELECT NULL, 'title ' || hex(randomblob(8)), hex(randomblob(30)) FROM incidents a, "
        "incidents b, (SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5)"
    )
    connection.close()
    return path


def test_time_budget(large: str) -> None:
    started = time.monotonic()
    result = check(large, checks=CHECKS, time_budget=0.03)
    assert time.monotonic() - started < 2
    assert result["checks"]["integrity"] == "skipped: time budget"
    assert result["healthy"]


def test_time_budget_of_the_copy_that_a_hot_journal_requires(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    _hot_journal(path)
    result = check(path, checks=["quick", "integrity"], time_budget=0.000001)
    assert set(result["checks"].values()) == {"skipped: time budget"}
    assert (codes(result), result["healthy"], result["conclusive"]) == (["hot_journal"], True, False)


def test_quick_check_is_used_if_there_is_no_time_for_the_integrity_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    run_check = integrity.run_check

    def endless(connection: sqlite3.Connection, name: str, **named: Any) -> Any:
        if name == "integrity":
            try:
                connection.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
                ).fetchone()
            except sqlite3.OperationalError as error:
                return {"event": "check", "name": name, "lines": [], "error": str(error)}
        return run_check(connection, name, **named)

    monkeypatch.setattr(integrity, "run_check", endless)
    result = check(path, checks=["integrity"], time_budget=1)
    assert result["checks"] == {"integrity": "skipped: time budget", "quick": "ok", "row_counts": "ok"}
    assert 1 <= result["duration"] < 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"checks": ["all"]}, "checks must be among quick, foreign_keys, integrity, not 'all'"),
        ({"time_budget": 0}, "time_budget must be above 0"),
        ({"busy_timeout": -1}, "busy_timeout must be above 0"),
    ],
)
def test_parameters(tmp_path: Path, arguments: Dict[str, Any], words: str) -> None:
    with pytest.raises(SqliteError, match=words):
        check(str(tmp_path / "itsm.db"), **arguments)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("no", False), (["a"], ["a"]), ("True", True)])
def test_row_counts_parameter(value: Any, expected: Any) -> None:
    assert sqlite_check.tables_wanted(value) == expected


def test_row_counts_parameter_refused() -> None:
    with pytest.raises(SqliteError, match="row_counts must be true, false or a list"):
        sqlite_check.tables_wanted("users")
    with pytest.raises(SqliteError, match="baseline must give a number of rows for table users"):
        sqlite_check.baseline_of({"users": "many"})


def test_a_reader_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a memory-mapped page cannot be read from disk, the process that reads the database receives SIGBUS."""
    path = str(tmp_path / "itsm.db")
    closed(path)
    monkeypatch.setattr(integrity, "run_check", lambda *_: die(7))
    result = check(path)
    assert codes(result) == ["unreadable"]
    assert "SIGBUS" in result["problems"][0]["message"]


# --- permissions, disks and processes --------------------------------------------------------------------------------


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Yield a folder that other users can enter, unlike pytest's folders."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_file_of_root_that_the_user_cannot_read_is_not_read(reachable: Path) -> None:
    """Root may have created the file, but the user may also have moved another of root's databases there."""
    folder = reachable / "app"
    folder.mkdir()
    path = str(folder / "itsm.db")
    crashed(path)
    os.chown(folder, 65534, 65534)
    os.chmod(path, 0o600)
    result = check(path, owner="nobody")
    assert not result["healthy"] and sorted(codes(result)) == ["ownership"] * 2 + ["unreadable"]
    assert "Permission denied" in str(result["problems"])
    assert not result["row_counts"] and "incidents" not in str(result)
    assert sorted(os.listdir(folder)) == ["itsm.db", "itsm.db-wal"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
@pytest.mark.parametrize(
    ("owners", "mode", "named"),
    [
        ({}, 0o644, []),
        ({"-wal": 0}, 0o644, ["-wal"]),
        ({"": 0, "-wal": 0}, 0o644, ["", "-wal"]),
        ({"-wal": 0}, 0o666, []),
        ({}, 0o444, ["", "-wal"]),
    ],
)
def test_ownership(reachable: Path, owners: Dict[str, int], mode: int, named: List[str]) -> None:
    folder = reachable / "app"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    path = str(folder / "itsm.db")
    crashed(path)
    for suffix in ("", "-wal"):
        os.chmod(path + suffix, mode)
        os.chown(path + suffix, owners.get(suffix, 65534), 0)
    result = check(path, owner="nobody")
    messages = [problem["message"] for problem in result["problems"] if problem["code"] == "ownership"]
    assert len(messages) == len(named)
    for message, suffix in zip(messages, named):
        assert message.startswith(f"User nobody cannot write to {path}{suffix} (owner ")
    assert result["healthy"]
    assert {entry["name"] for entry in result["files"]} == {"database", "wal"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a file")
def test_a_folder_that_the_service_cannot_write_to(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    os.chown(path, 65534, 65534)
    assert codes(check(path, owner="nobody")) == ["ownership"]


def test_an_unknown_owner(tmp_path: Path) -> None:
    with pytest.raises(SqliteError, match="owner is 'nobody-such', but this host has no such user"):
        check(str(tmp_path / "itsm.db"), owner="nobody-such")


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        (3006023, False),
        (3007000, True),
        (3044002, True),
        (3044006, False),
        (3045000, True),
        (3050006, True),
        (3050007, False),
        (3051002, True),
        (3051003, False),
        (3053000, False),
    ],
)
def test_wal_reset_bug(tmp_path: Path, version: int, affected: bool) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    patch(path, 96, struct.pack(">I", version))
    assert check(path)["database"]["wal_reset_bug"] is affected
    patch(path, 18, b"\x01\x01")
    assert check(path)["database"]["wal_reset_bug"] is False


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """Mount a separate file system of 2 MiB, and yield its mount point."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield str(folder)
    subprocess.run(["umount", str(folder)], check=True)


def _fill_up(folder: str) -> None:
    with contextlib.suppress(OSError), open(f"{folder}/filler", "wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)


def test_full_disk(small_disk: str, tmp_path: Path) -> None:
    path = f"{small_disk}/itsm.db"
    crashed(path)
    _fill_up(small_disk)
    before = snapshot(small_disk)
    result = check(path, checks=CHECKS)
    assert result["healthy"], result["problems"]
    assert result["row_counts"]["incidents"] == 260
    # There is not enough space for a backup, or for a checkpoint, which would enlarge the database.
    with pytest.raises(SqliteError, match="Free some space first"):
        sqlite_checkpoint.checkpoint(path=path)
    with pytest.raises(SqliteError, match="0 are free"):
        sqlite_backup.backup(path=path, dest_dir=f"{small_disk}/backups")
    assert snapshot(small_disk) == before
    assert sqlite_backup.backup(path=path, dest_dir=str(tmp_path / "elsewhere"))["row_counts"]["incidents"] == 260


def test_a_disk_that_fills_up_during_the_checkpoint(small_disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{small_disk}/itsm.db"
    crashed(path)
    _fill_up(small_disk)
    monkeypatch.setattr(sqlite_files, "free_bytes", lambda _folder: 1 << 30)
    with pytest.raises(SqliteError, match="disk is full; the WAL is kept"):
        sqlite_checkpoint.checkpoint(path=path)
    os.unlink(f"{small_disk}/filler")
    assert check(path)["row_counts"]["incidents"] == 260
    assert sqlite_checkpoint.checkpoint(path=path)["checkpointed"]
    assert check(path)["row_counts"]["incidents"] == 260


@pytest.mark.parametrize(
    "make", [crashed, closed, lambda path: crashed(path, shm=True)], ids=["crashed", "closed", "shm"]
)
def test_read_only_mount(small_disk: str, make: Callable[[str], None]) -> None:
    path = f"{small_disk}/itsm.db"
    make(path)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = snapshot(small_disk)
    result = check(path, checks=CHECKS)
    assert result["healthy"], result["problems"]
    assert result["row_counts"]["users"] == 2
    assert snapshot(small_disk) == before


@pytest.mark.parametrize(
    "call",
    ["sqlite_check.check(path=sys.argv[1])", "sqlite_backup.backup(path=sys.argv[1], dest_dir=sys.argv[1] + '.d')"],
    ids=["check", "backup"],
)
def test_a_killed_check_leaves_no_process(tmp_path: Path, call: str) -> None:
    """The process that reads the database exits when its parent exits, even after dropping root permissions."""
    path = str(tmp_path / "itsm.db")
    closed(path)
    code = textwrap.dedent(
        """
        import os, sys, time
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
        from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
        def wait(*_arguments, **_named):
            print(os.getpid(), flush=True)
            time.sleep(60)
        sqlite_schema.count_rows = wait
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code + call, path]
    look = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert look.stdout is not None
    child = int(look.stdout.readline())
    assert os.path.exists(f"/proc/{child}")
    look.kill()
    look.wait()
    look.stdout.close()
    until = time.monotonic() + 5
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (crashed, NOTHING),
        (_index_entry_changed, {"corrupt"}),
        (_page_lost, {"corrupt"}),
        (_freelist_count, {"corrupt"}),
    ],
    ids=["crashed", "index entry changed", "b-tree page overwritten", "freelist count"],
)
def test_integrity_in_several_processes(
    make: Callable[[str], None], expected: Set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "itsm.db")
    make(path)
    monkeypatch.setattr(integrity, "LARGE", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    before = snapshot(str(tmp_path))
    result = check(path, checks=["integrity"])
    assert set(codes(result)) == expected
    assert set(result["checks"]) - {"quick"} == {"integrity", "row_counts"}
    assert ("problem" in result["checks"]["integrity"]) is bool(expected)
    assert snapshot(str(tmp_path)) == before


def test_one_of_several_processes_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "itsm.db")
    closed(path)
    run_check = integrity.run_check

    def fragile(connection: sqlite3.Connection, name: str, **named: Any) -> Any:
        return die(7) if named.get("table") == "users" else run_check(connection, name, **named)

    monkeypatch.setattr(integrity, "run_check", fragile)
    monkeypatch.setattr(integrity, "LARGE", 0)
    result = check(path, checks=["integrity"])
    assert codes(result) == ["unreadable"]
    assert result["checks"]["integrity"] == "skipped: the database cannot be read"


def test_a_library_that_cannot_check_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "itsm.db")
    _index_entry_changed(path)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    assert codes(check(path, checks=["integrity"])) == ["corrupt"]


# --- when the database was created -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "first_at"),
    [
        ([1772413273500, 1772413213000], "2026-03-02T01:00:13.000Z"),
        # A driver may bind a number as a float. In a numeric column, SQLite stores this float as an integer.
        ([1772413213000.0], "2026-03-02T01:00:13.000Z"),
        (["2026-03-02 01:00:13", 1772413213000], None),
        ([b"\xff" * 8], None),
        ([None], None),
        ([10**18], None),
        ([float("inf")], None),
        ([], None),
    ],
)
def test_when_the_first_migration_was_applied(tmp_path: Path, times: List[Any], first_at: Any) -> None:
    path = str(tmp_path / "itsm.db")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE knex_m (id INTEGER, name TEXT, batch INTEGER, migration_time datetime)")
        connection.executemany("INSERT INTO knex_m (migration_time) VALUES (?)", [(each,) for each in times])
    assert check(path)["database"]["first_migration_at"] == first_at
    sqlite_backup.backup(path=path, dest=f"{path}.copy")
    assert check(f"{path}.copy")["database"]["first_migration_at"] == first_at
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (id INTEGER, name TEXT, batch INTEGER, migration_time datetime)")
        connection.execute("INSERT INTO other (migration_time) VALUES (1772413213000)")
    assert check(path)["database"]["first_migration_at"] is None


def test_rows_that_the_service_seeded_are_reported_with_the_statement_that_removes_them(tmp_path: Path) -> None:
    path = str(tmp_path / "itsm.db")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('a');
            CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT);
            INSERT INTO "odd ""name" (id, title) VALUES (41, 'x'), (42, 'y');
            CREATE TABLE settings (name TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO settings VALUES ('theme');
            CREATE TABLE empty (x);
            CREATE TABLE knex_migrations (id INTEGER PRIMARY KEY, name TEXT, batch INTEGER, migration_time INTEGER);
            INSERT INTO knex_migrations VALUES (1, 'first', 1, 1772000000000);
            CREATE TABLE knex_migrations_lock ("index" INTEGER PRIMARY KEY, is_locked INTEGER);
            INSERT INTO knex_migrations_lock VALUES (1, 0);
            """
        )
    before = {"users": 1, 'odd "name': 0, "empty": 0}
    told = check(path, baseline=before, seeded=True)
    statement = 'DELETE FROM "odd ""name" WHERE rowid BETWEEN 41 AND 42;'
    assert told["seeded"] == [
        {"table": 'odd "name', "rows": 2, "statement": statement},
        {"table": "settings", "rows": 1, "statement": None},
    ]
    # If there are no earlier counts, it is unknown which rows the service has created.
    assert check(path, baseline={}, seeded=True)["seeded"] == []
    assert check(path, baseline=before)["seeded"] == []
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('INSERT INTO "odd ""name" (title) VALUES (\'of a user\')')
        connection.execute(statement)
        assert connection.execute('SELECT title FROM "odd ""name"').fetchall() == [("of a user",)]
