# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQLite databases in the state after a crash, for tests of code that reads such databases."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import textwrap
from typing import Any, Dict, List, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal


def fill(connection: sqlite3.Connection, *, first: int, rows: int) -> None:
    for number in range(first, first + rows):
        connection.execute("INSERT INTO incidents VALUES (?, ?, ?)", (number, f"title {number:06d}", "x" * 120))


def schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    connection.execute("CREATE TABLE incidents (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    connection.execute("CREATE INDEX incidents_title ON incidents (title)")
    connection.execute("INSERT INTO users VALUES (1, 'admin'), (2, 'operator')")


def crashed(path: str, *, in_database: int = 200, in_wal: int = 60, page_size: int = 4096, shm: bool = False) -> None:
    """Create a database whose writer was killed.

    The last rows are only in the WAL, and no process has the database open.
    """
    work = f"{path}.work"
    os.mkdir(work)
    connection = sqlite3.connect(f"{work}/db", isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    schema(connection)
    connection.execute("BEGIN")
    fill(connection, first=1, rows=in_database)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(connection, first=in_database + 1, rows=in_wal)
    for suffix in ("", "-wal", "-shm") if shm else ("", "-wal"):
        shutil.copy(f"{work}/db{suffix}", path + suffix)
    connection.close()
    shutil.rmtree(work)


def closed(path: str, *, rows: int = 200, mode: str = "WAL", page_size: int = 4096) -> None:
    """Create a database that was closed properly."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("PRAGMA synchronous=OFF")
    schema(connection)
    connection.execute("BEGIN")
    fill(connection, first=1, rows=rows)
    connection.execute("COMMIT")
    connection.close()


def patch(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        stream.write(data)


def flip(path: str, offset: int) -> None:
    with open(path, "r+b") as stream:
        stream.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0x40]))


def frame_offset(index: int, *, page_size: int = 4096) -> int:
    """Return the byte offset of a frame in a WAL. index: the number of the frame, starting at 0."""
    return 32 + index * (24 + page_size)


def new_salts(path: str) -> None:
    """Change the salts in a WAL header, and update the header's checksum."""
    with open(path, "r+b") as stream:
        header = stream.read(24)
        header = header[:16] + struct.pack(">II", 0x1234, 0x5678)
        sums = sqlite_wal.checksum(header, (0, 0), big_endian=bool(header[3] & 1))
        stream.seek(0)
        stream.write(header + struct.pack(">II", *sums))


def snapshot(folder: str) -> Dict[str, Tuple[Any, ...]]:
    """Return everything in a folder that a check must not change: entries, contents, times, owners, modes and links."""
    entries: Dict[str, Tuple[Any, ...]] = {}
    for name in [".", *sorted(os.listdir(folder))]:
        path = os.path.join(folder, name)
        facts = os.lstat(path)
        content = ""
        if stat.S_ISREG(facts.st_mode) and os.access(path, os.R_OK):
            with open(path, "rb") as stream:
                content = hashlib.sha256(stream.read()).hexdigest()
        entries[name] = (
            facts.st_ino,
            facts.st_size,
            facts.st_mtime_ns,
            facts.st_ctime_ns,
            facts.st_uid,
            facts.st_gid,
            facts.st_mode,
            facts.st_nlink,
            content,
        )
    return entries


def shell(path: str, statement: str) -> str:
    """Return the output of the sqlite3 shell, including its errors."""
    done = subprocess.run(
        ["sqlite3", "-batch", path, statement],
        capture_output=True,
        timeout=20,
        check=False,
        text=True,
        errors="replace",
    )
    return (done.stdout + done.stderr).strip()


class Process:
    """A separate process that uses a database and then waits."""

    def __init__(self, path: str, body: str) -> None:
        code = "import os, sqlite3, sys, time\npath = sys.argv[1]\n" + textwrap.dedent(body)
        code += "\nprint('ready', flush=True)\nsys.stdin.read()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_details: object) -> None:
        self.end()


OPEN = """
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("SELECT count(*) FROM users").fetchone()
"""
INSERTER = "\n".join([OPEN, "connection.execute('INSERT INTO users VALUES (9, NULL)')"])
WRITER = "\n".join(
    [OPEN, "connection.execute('BEGIN IMMEDIATE')", "connection.execute('INSERT INTO users VALUES (77, NULL)')"]
)
READER = "\n".join(
    [OPEN, "connection.execute('BEGIN')", "rows = connection.execute('SELECT * FROM incidents')", "rows.fetchone()"]
)


def die(number: int) -> None:
    """Kill this process with a signal, without printing a crash report."""
    faulthandler.disable()
    os.kill(os.getpid(), number)


def codes(result: Dict[str, Any]) -> List[str]:
    return [problem["code"] for problem in result["problems"]]
