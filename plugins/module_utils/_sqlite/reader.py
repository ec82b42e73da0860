# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a database through SQLite without leaving any file next to it.

Every read runs in a child process (see child_process.py).

How the database is opened depends on its files and on the processes that have it open:

- alone: the WAL is empty or missing, and no process has the database open. immutable=1 needs no locks and no other
  files.
- still: a crashed service left a WAL. vfs=unix-none with locking_mode=EXCLUSIVE keeps the WAL index in the child's
  memory (https://www.sqlite.org/wal.html#use_of_wal_without_shared_memory). Therefore, nothing is created, copied or
  locked. The service may be started during the read, so the caller checks afterwards whether the files have changed.
- live: a service has the database open. An ordinary connection is used, with the index mapped read-only.
- locked: the database uses a rollback journal instead of a WAL, and a process has the database open. An ordinary
  connection is used, which holds a lock while it reads.
- copy: there is a hot rollback journal. SQLite must write to the database to undo the unfinished transaction, so it
  works on a private copy. A journal may contain the name of another file, which SQLite then deletes. Therefore, SQLite
  runs as the user that wrote the journal. See https://www.sqlite.org/fileformat2.html#the_rollback_journal. A copy is
  also used if the user that reads the database cannot read one of its files, for example because root owns this file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import urllib.parse
from typing import Callable, Iterator, List, NamedTuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import authorizer, child_process, private_copy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.child_process import Emit, Message

_LARGEST_VALUE = 128 << 20  # maximum size of a row, text or blob, in bytes
# https://www.sqlite.org/c3ref/c_limit_attached.html
_LIMIT_LENGTH, _LIMIT_ATTACHED = 0, 7


def uri_of(path: str, query: str) -> str:
    """Return the SQLite URI of an absolute path, which may contain any bytes."""
    return f"file://{urllib.parse.quote(os.fsencode(path))}?{query}"


def choose_way(found: sqlite_files.Look, holders: sqlite_holders.Holders) -> str:
    """Choose how to open a database for which Look.openable is True.

    The ways to open a database are listed at the top of this file.
    """
    header = found.header
    if not _all_readable(found):
        return "copy"
    if holders.of_index:
        return "live"
    if header is not None and not header.wal_mode and not found.wal.size:
        if holders.found:
            return "locked"
        return "copy" if found.hot_journal else "alone"
    if found.hot_journal:
        return "copy"
    return "still" if found.wal.size else "alone"


def _all_readable(found: sqlite_files.Look) -> bool:
    """Return True if the user that reads the database can read all its files, including those that root owns."""
    if found.rights is None:
        return True
    with safe_open.acting(found.rights):
        return all(
            os.access(facts.path, os.R_OK, effective_ids=True)
            for facts in found.files.values()
            if facts.uid != found.rights[0]
        )


def vanished(error: str, *, found: sqlite_files.Look) -> bool:
    """Return True if a SQLite error means that the service stopped between the check and the connection.

    When the service closes its last connection, SQLite removes the WAL and its index. If a reader then cannot create
    these files, it receives one of two errors: the database is read-only, or the database file cannot be opened. For
    the second error, the result is True only if the files have changed since the check.
    """
    if "readonly" in error or "read-only" in error:
        return True
    return "unable to open" in error and sqlite_files.stamps_of(found.path, rights=found.rights) != found.stamps


class WayIn(NamedTuple):
    """The way to read a database (see the top of this file). path: the file to open, which may be a copy."""

    found: sqlite_files.Look
    way: str
    path: str
    busy_timeout: float

    def connect(self, *, check_cells: bool = True) -> sqlite3.Connection:
        """Open the database for reading.

        Call this only in a child process, because the process may permanently change its user.

        check_cells: see connect() below. Raises sqlite3.Error, or SqliteError if another file has replaced the
        database.
        """
        if self.way == "copy" and self.rights:
            safe_open.become(*self.rights)
        connection = connect(self.path, way=self.way, busy_timeout=self.busy_timeout, check_cells=check_cells)
        if self.way != "copy" and not self._is_open():
            raise sqlite_files.SqliteError("another file has taken its place")
        return connection

    def _is_open(self) -> bool:
        """Return True if SQLite opened the file that was checked, and not a new file with the same name."""
        facts = self.found.files["database"]
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                status = os.fstat(int(descriptor))
                if (status.st_dev, status.st_ino) == (facts.device, facts.inode):
                    return True
        return False

    @property
    def rights(self) -> safe_open.Rights:
        """The account that opens the database. SQLite undoes an unfinished transaction as the user that wrote it."""
        return self.found.rights or (private_copy.writer_of(self.found) if self.way == "copy" else None)

    @property
    def read_only(self) -> bool:
        """True if this way needs no write access. The process then drops write access before it opens the database."""
        return self.way != "copy"

    @property
    def steady(self) -> bool:
        """True if all data read so far belongs to one consistent state of the database.

        If the database is read without locks, other processes may write during the read. Such a read is steady only if
        the files have not changed since the check.
        """
        if self.way in ("live", "locked"):
            return True
        return sqlite_files.stamps_of(self.found.path, rights=self.found.rights) == self.found.stamps

    def read(self, work: Callable[[sqlite3.Connection, Emit], None], *, deadline: float) -> List[Message]:
        """Run `work` on a connection in a child process, and return its messages. See child_process.in_child."""
        return child_process.in_child(
            lambda emit: work(self.connect(), emit), deadline=deadline, read_only=self.read_only, rights=self.rights
        )


@contextlib.contextmanager
def way_in(
    found: sqlite_files.Look, holders: sqlite_holders.Holders, *, busy_timeout: float, deadline: float
) -> Iterator[WayIn]:
    """Yield a WayIn for a database for which Look.openable is True. Raises SqliteError, OutOfTime."""
    way = choose_way(found, holders)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(private_copy.private_copy(found, deadline=deadline)) if way == "copy" else found.path
        yield WayIn(found=found, way=way, path=path, busy_timeout=busy_timeout)


def connect(path: str, *, way: str, busy_timeout: float, check_cells: bool = True) -> sqlite3.Connection:
    """Open a database for reading in the given way. Raises sqlite3.Error.

    check_cells: True if SQLite verifies the cells of a page at each access. It is False only for an integrity check. An
    integrity check always verifies the cells of every page before it reads rows. If SQLite also verified them at each
    access, an integrity check would take twice as long.
    """
    query = {
        "alone": "mode=ro&immutable=1",
        "still": "mode=ro&vfs=unix-none",
        "live": "mode=ro&readonly_shm=1",
        "locked": "mode=ro",
        "copy": "mode=rw",
    }[way]
    connection = sqlite3.connect(uri_of(path, query), uri=True, timeout=busy_timeout, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    if way == "still":
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    # The writer of the file controls the schema, so the schema must not call functions with side effects.
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute(f"PRAGMA cell_size_check={'ON' if check_cells else 'OFF'}")
    # Create no files next to the database or in a temporary folder.
    connection.execute("PRAGMA temp_store=MEMORY")
    if hasattr(connection, "setlimit"):  # since Python 3.11
        connection.setlimit(_LIMIT_LENGTH, _LARGEST_VALUE)
        connection.setlimit(_LIMIT_ATTACHED, 0)
    connection.set_authorizer(authorizer.only_reads)
    return connection


@contextlib.contextmanager
def interrupted_at(connection: sqlite3.Connection, deadline: float) -> Iterator[None]:
    """Interrupt a connection at the deadline. SQL statements then raise OperationalError: interrupted."""
    done = threading.Event()

    def interrupt() -> None:
        # Use a thread, because older versions of SQLite do not call a progress handler while they check the b-trees.
        # An interruption does not affect a statement that begins afterwards. Therefore, repeat the interruption.
        wait = max(deadline - time.monotonic(), 0)
        while not done.wait(wait):
            connection.interrupt()
            wait = 0.01

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
