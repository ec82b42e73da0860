# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measurements of the readiness checks, on real files and processes."""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
import subprocess
import sys
import threading

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import measure

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print(1, flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["wal", "delete"])
def database(request, tmp_path):
    """Yield the path of a database in the given journal mode.

    A connection has the database open, as the service would.
    """
    path = tmp_path / "itsm.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE incidents (id INTEGER PRIMARY KEY, title TEXT)")
        connection.execute("INSERT INTO incidents (title) VALUES ('first')")
        yield str(path)


@contextlib.contextmanager
def held(path, statement):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path, statement], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        yield holder.pid
        holder.kill()


def look(path, *, budget=5.0, lock_after=0.2):
    return measure.database(path, user="", budget=budget, lock_after=lock_after)


def test_a_sound_database_in_use(database):
    seen = look(database)
    assert (seen["damage"], seen["checked"], seen["lock"]) == (None, True, None)


def test_a_process_that_blocks_all_writes_is_found(database):
    with held(database, "BEGIN IMMEDIATE") as pid:
        lock = look(database)["lock"]
    assert lock["parents"][0] == os.getpid() and 1 not in lock["parents"]
    assert lock["pid"] == pid and "python" in lock["command"] and lock["seconds"] >= 0.2
    assert lock["user"] == pwd.getpwuid(os.geteuid()).pw_name and 0 <= lock["age"] < 60
    assert look(database)["lock"] is None


def test_a_reader_blocks_nobody(database):
    with held(database, "BEGIN"):
        assert look(database)["lock"] is None


def test_short_transactions_are_no_lock(database):
    ended = threading.Event()

    def write():
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            while not ended.is_set():
                with connection:
                    connection.execute("INSERT INTO incidents (title) VALUES ('x')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        # This process is the writer, so a child process must search for the writer.
        read, write_end = os.pipe()
        if os.fork() == 0:
            os.write(write_end, b"1" if look(database, budget=0, lock_after=0.5)["lock"] is None else b"0")
            os._exit(0)
        assert os.read(read, 1) == b"1"
        os.wait()
    finally:
        ended.set()
        writer.join()


def test_a_damaged_page_is_found(tmp_path):
    path = tmp_path / "itsm.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE incidents (title TEXT)")
        connection.executemany("INSERT INTO incidents VALUES (?)", [("x" * 500,)] * 200)
        connection.commit()
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xa5" * 4096
    path.write_bytes(data)
    assert look(str(path))["damage"]["code"] == "corrupt"


def test_a_check_that_is_switched_off_or_too_late_finds_nothing(database):
    assert (look(database, budget=0)["checked"], look(database, budget=0)["damage"]) == (False, None)
    assert look(database, budget=1e-6)["damage"] is None


def test_disks(tmp_path):
    (disk,) = measure.disks({"application": str(tmp_path), "log": str(tmp_path / "missing" / "folder")})
    assert disk["uses"] == ["application", "log"]
    assert os.path.ismount(disk["mount"])
    assert 0 <= disk["used_percent"] <= 100 and 0 <= disk["inodes_percent"] <= 100
    assert disk["bytes"] > 0


def test_open_files():
    with open("/dev/null", encoding="utf-8"):
        seen = measure.open_files(os.getpid())
    assert seen.open_files and seen.limit and seen.open_files < seen.limit
    stopped = procfs.Search(seconds=-1)
    assert measure.open_files(os.getpid(), search=stopped).open_files is None
    assert measure.open_files(2**22 + 1) == (2**22 + 1, None, None)


def test_memory_pressure(tmp_path):
    root, groups = tmp_path / "proc", tmp_path / "groups"
    (root / "pressure").mkdir(parents=True)
    (root / "7").mkdir()
    (groups / "unit").mkdir(parents=True)
    line = "some avg10=1.00 avg60=2.00 avg300=0.00 total=1\nfull avg10=1.00 avg60={} avg300=0.00 total=1\n"
    (root / "7" / "cgroup").write_text("0::/unit\n", encoding="utf-8")

    def pressure():
        return measure.memory_pressure(7, proc_root=str(root), group_root=str(groups))

    assert pressure() is None
    (root / "pressure" / "memory").write_text(line.format("3.00"), encoding="utf-8")
    assert pressure() == 3.0
    (groups / "unit" / "memory.pressure").write_text(line.format("41.50"), encoding="utf-8")
    assert pressure() == 41.5


def test_a_large_wal_that_is_in_the_database_is_not_in_use(tmp_path):
    """After a checkpoint, SQLite reuses the WAL without making it smaller.

    Therefore, the size does not show how much of the WAL is in use.
    """
    path = str(tmp_path / "itsm.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE incidents (title TEXT)")
        connection.executemany("INSERT INTO incidents VALUES (?)", [("x" * 5000,)] * 200)
        size = os.path.getsize(f"{path}-wal")
        assert look(path)["wal"] == size
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        assert os.path.getsize(f"{path}-wal") == size
        assert look(path)["wal"] == 0
        connection.execute("INSERT INTO incidents VALUES ('x')")
        assert 0 < look(path)["wal"] < size / 10
