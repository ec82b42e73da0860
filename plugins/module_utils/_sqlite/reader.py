# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a database through SQLite without leaving a trace beside it.

Every reading happens in a child process, for three reasons: a mapped page that the disk cannot give ends the child, not
us; the child gives up the right to write before it opens anything; and it ends without closing its connection, so that
SQLite's clean-up at the last close (checkpoint, removal of the WAL) never runs.

Which way leads in depends on who else is there:

- C(alone): no WAL content, nobody in it: C(immutable=1), neither locks nor files beside it.
- C(still): a crashed service left a WAL: C(vfs=unix-none) with C(locking_mode=EXCLUSIVE) keeps the WAL index in the
  child's memory (https://www.sqlite.org/wal.html#use_of_wal_without_shared_memory), so nothing is created, copied or
  locked. The caller compares the files' stamps afterwards, since nothing holds off a service that starts meanwhile.
- C(live): a service is in it: an ordinary reader, its index mapped read-only.
- C(locked): rollback journal and somebody there: an ordinary reader, which locks for as long as it reads.
- C(copy): a hot rollback journal: only writing can undo it, so that happens on a private copy, and with the rights of
  who wrote the journal: it may name another file, which SQLite removes once the database is as it was
  (https://www.sqlite.org/fileformat2.html#the_rollback_journal). Also if a file is root's and the user whose rights are
  used may not read it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import select
import signal
import sqlite3
import tempfile
import threading
import time
import urllib.parse
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders

Message = Dict[str, Any]
Emit = Callable[[Message], None]

_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_PDEATHSIG = 1
_NOBODY = 65534
# Bytes beyond what the process has when it begins. A process that writes is one that salvages rows, however large.
_MEMORY, _MEMORY_TO_WRITE = 256 << 20, 1 << 30
_LARGEST_VALUE = 128 << 20  # bytes of a row, text or blob
_MOST_SAID = 16 << 20  # bytes of the messages of one child
_OUT_OF_MEMORY = "out of memory: reading it takes more than is allowed"
# https://www.sqlite.org/c3ref/c_limit_attached.html
_LIMIT_LENGTH, _LIMIT_ATTACHED = 0, 7
# https://www.sqlite.org/c3ref/c_alter_table.html: what a statement does. Python 3.8 does not name all of them.
_MAKES = (1, 2, 3, 4, 5, 6, 7, 8, 29)  # indexes, tables, triggers, views, virtual tables
_REMOVES = (10, 11, 12, 13, 14, 15, 16, 17, 30)
_PRAGMA, _ATTACH, _DETACH, _ALTER, _REINDEX, _ANALYZE, _FUNCTION = 19, 24, 25, 26, 27, 28, 31
_WRITES = frozenset((*_MAKES, *_REMOVES, _ATTACH, _DETACH, _ALTER, _REINDEX, _ANALYZE))
_QUESTIONS = frozenset(
    (
        *("application_id", "cell_size_check", "data_version", "encoding", "freelist_count", "journal_mode"),
        *("page_count", "page_size", "schema_version", "trusted_schema", "user_version"),
    )
)
_QUESTIONS_ABOUT = frozenset(
    (
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check"),
        *("mmap_size", "quick_check", "table_info", "table_xinfo"),
    )
)
_SIDE_EFFECTS = frozenset(("edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"))
_GRACE = 2.0  # seconds a child gets beyond its deadline to say that it was interrupted


def uri_of(path: str, query: str) -> str:
    """Return the SQLite URI of an absolute path, whatever bytes it is made of."""
    return f"file://{urllib.parse.quote(os.fsencode(path))}?{query}"


def choose_way(found: sqlite_files.Look, holders: sqlite_holders.Holders) -> str:
    """Return the way in (see above) for a database that may be opened."""
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
    """Whether the user who reads the database may read all its files: not if a command of root made one of them."""
    if found.rights is None:
        return True
    with safe_open.acting(found.rights):
        return all(
            os.access(facts.path, os.R_OK, effective_ids=True)
            for facts in found.files.values()
            if facts.uid != found.rights[0]
        )


def vanished(error: str, *, found: sqlite_files.Look) -> bool:
    """Whether an error of SQLite means that the service ended between the look and the connection.

    Its last close takes the WAL and its index away. A reader that may not make them anew is told that it may not write,
    or that the file cannot be opened; the latter means more than that, unless the files are no longer what they were.
    """
    if "readonly" in error or "read-only" in error:
        return True
    return "unable to open" in error and sqlite_files.stamps_of(found.path, rights=found.rights) != found.stamps


class OutOfTime(sqlite_files.SqliteError):
    """The deadline came before the database could be read."""


@dataclasses.dataclass(frozen=True)
class WayIn:
    """How the database C(found) is read: the C(way), see above, and the file that is opened, which may be a copy."""

    found: sqlite_files.Look
    way: str
    path: str
    busy_timeout: float

    def connect(self) -> sqlite3.Connection:
        """Open it for reading, and keep no more rights than that takes; for child processes only.

        Raises sqlite3.Error, SqliteError where another file has its name by now.
        """
        if self.way == "copy" and self.rights:
            safe_open.become(*self.rights)
        connection = connect(self.path, way=self.way, busy_timeout=self.busy_timeout)
        if self.way != "copy" and not self._is_open():
            raise sqlite_files.SqliteError("another file has taken its place")
        return connection

    def _is_open(self) -> bool:
        """Whether SQLite, which goes by the name, has opened the file that was looked at."""
        facts = self.found.files["database"]
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                status = os.fstat(int(descriptor))
                if (status.st_dev, status.st_ino) == (facts.device, facts.inode):
                    return True
        return False

    @property
    def rights(self) -> safe_open.Rights:
        """With whose rights SQLite works on it: what a foreign hand wrote is undone with the rights of that hand."""
        return self.found.rights or (writer_of(self.found) if self.way == "copy" else None)

    @property
    def read_only(self) -> bool:
        """Whether the right to write is given up for it."""
        return self.way != "copy"

    @property
    def steady(self) -> bool:
        """Whether everything that was read up to now is of the same content.

        Without locks nobody is held off, so it is where the files still are what they were when they were looked at.
        """
        if self.way in ("live", "locked"):
            return True
        return sqlite_files.stamps_of(self.found.path, rights=self.found.rights) == self.found.stamps

    def read(self, work: Callable[[sqlite3.Connection, Emit], None], *, deadline: float) -> List[Message]:
        """Run C(work) on a connection in a child process, see M(in_child)."""
        return in_child(
            lambda emit: work(self.connect(), emit), deadline=deadline, read_only=self.read_only, rights=self.rights
        )


@contextlib.contextmanager
def way_in(
    found: sqlite_files.Look, holders: sqlite_holders.Holders, *, busy_timeout: float, deadline: float
) -> Iterator[WayIn]:
    """Choose the way into a database that may be opened. Raises SqliteError, OutOfTime."""
    way = choose_way(found, holders)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(private_copy(found, deadline=deadline)) if way == "copy" else found.path
        yield WayIn(found=found, way=way, path=path, busy_timeout=busy_timeout)


def connect(path: str, *, way: str, busy_timeout: float) -> sqlite3.Connection:
    """Open C(path) for reading the given C(way). Raises sqlite3.Error."""
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
    # The schema belongs to whoever wrote the file: it may not call functions with side effects.
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    # No file beside the database and none in a folder for temporary ones.
    connection.execute("PRAGMA temp_store=MEMORY")
    if hasattr(connection, "setlimit"):  # since Python 3.11
        connection.setlimit(_LIMIT_LENGTH, _LARGEST_VALUE)
        connection.setlimit(_LIMIT_ATTACHED, 0)
    connection.set_authorizer(only_reads)
    return connection


def only_reads(
    action: int, first: Optional[str], second: Optional[str], _database: Optional[str], _trigger: Optional[str]
) -> int:
    """Authorize a statement that only reads, for Connection.set_authorizer; deny anything that has another effect.

    Rows need no rule, because the file is opened for reading. Virtual tables prepare INSERT and DELETE when they are
    only read.
    """
    denied = action in _WRITES
    if action == _PRAGMA:
        name = str(first).lower()
        denied = name not in _QUESTIONS_ABOUT and (name not in _QUESTIONS or second is not None)
    elif action == _FUNCTION:
        denied = str(second).lower() in _SIDE_EFFECTS
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def bounded(*, deadline: float, read_only: bool) -> None:
    """Have the kernel end what this process could do to the host beyond its task; for child processes only.

    The deadline is in time.monotonic seconds. A limit is never raised. The kernel counts private memory alone, so a
    mapped database may be larger than the limit (Linux 4.7 and later).
    """
    # The parent ends it first; this holds if the parent cannot. A process with two busy threads needs twice the time.
    seconds = 2 * int(max(deadline - time.monotonic(), 0) + _GRACE) + 1
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: seconds}
    # Without /proc there is no limit of memory.
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as stream:
        for line in stream:
            if line.startswith(b"VmData:"):
                held = int(line.split()[1]) << 10
                wanted[resource.RLIMIT_DATA] = held + (_MEMORY if read_only else _MEMORY_TO_WRITE)
    if read_only:
        # Python ignores the signal for it. The user's own rights would let SQLite write beside the database.
        wanted[resource.RLIMIT_FSIZE] = 0
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def give_up_writing(rights: safe_open.Rights = None) -> None:
    """Take on the rights of a user for good, if any are given.

    Without, in a folder that is root's alone, a process of root keeps the right to read everything and nothing else.
    SQLite as root would open the WAL for writing and hand it to the database's owner; as somebody who owns no file, and
    without these capabilities, the kernel refuses both.
    """
    if rights:
        safe_open.become(*rights)
        return
    with contextlib.suppress(OSError):
        os.seteuid(os.getuid())
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library without these calls
        library = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, for capabilities 0-31 and then 32-63
        if library.capget(header, data) != 0:
            return
        library.setfsuid(_NOBODY)
        wanted = 1 << _CAP_DAC_READ_SEARCH
        if not data[1] & wanted:  # as in most containers
            wanted = data[1] & (1 << _CAP_DAC_OVERRIDE)
        kept = (ctypes.c_uint32 * 6)(wanted, wanted, 0, 0, 0, 0)
        library.capset(header, kept)
    die_with_parent()  # the kernel forgets that when a process changes its identity


def writer_of(found: sqlite_files.Look) -> Tuple[int, int]:
    """Return user and group of who wrote the files of a database: of the first that is not root's, or of the folder."""
    for name in ("journal", "wal", "shm", "database"):
        facts = found.files.get(name)
        if facts is not None and facts.uid != 0:
            return facts.uid, facts.gid
    folder = os.stat(os.path.dirname(found.path))
    return folder.st_uid, folder.st_gid


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


@dataclasses.dataclass
class _Child:
    """A reading process and what it has said so far."""

    pid: int
    pipe: int
    said: bytearray = dataclasses.field(default_factory=bytearray)
    ended: bool = False
    said_too_much: bool = False
    timeout: bool = False
    status: int = 0

    def messages(self) -> List[Message]:
        """Return its messages, the last one C({"event": "end", ...})."""
        messages: List[Message] = [json.loads(line) for line in self.said.split(b"\n")[:-1]]
        if not messages or messages[-1]["event"] != "end":
            end: Message = {"event": "end"}
            if self.said_too_much:
                end["error"] = f"the reading process said more than {_MOST_SAID} bytes"
            elif self.timeout or (os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGXCPU):
                end["timeout"] = True
            elif os.WIFSIGNALED(self.status):
                end["signal"] = signal.Signals(os.WTERMSIG(self.status)).name
            else:
                end["error"] = "the reading process ended without a word"
            messages.append(end)
        if messages[-1].get("error") == MemoryError.__name__:
            messages[-1]["error"] = _OUT_OF_MEMORY
        return messages


def in_child(
    work: Callable[[Emit], None], *, deadline: float, read_only: bool = True, rights: safe_open.Rights = None
) -> List[Message]:
    """Run C(work) in a child process and return the messages it emitted, the last one C({"event": "end", ...}).

    C(end) has C(error) (text) where an exception ended the work, C(signal) where a signal did, C(timeout) where it was
    ended at C(deadline) (C(time.monotonic) seconds) plus a short grace. With C(rights) the child is that user for good;
    a C(read_only) one can write to no file. Raises SqliteError where no child can be made.
    """
    return in_children([work], deadline=deadline, read_only=read_only, rights=rights)[0]


def in_children(
    works: Sequence[Callable[[Emit], None]],
    *,
    deadline: float,
    read_only: bool = True,
    rights: safe_open.Rights = None,
) -> List[List[Message]]:
    """Run each of C(works) in a child process of its own, all at once; see M(in_child)."""
    children: List[_Child] = []
    try:
        for work in works:
            children.append(_start(work, deadline=deadline, read_only=read_only, rights=rights))
        _listen(children, deadline=deadline)
    finally:
        for child in children:
            if not child.ended:
                with safe_open.acting(None):
                    os.kill(child.pid, signal.SIGKILL)
            child.status = _reap(child.pid)
            os.close(child.pipe)
    return [child.messages() for child in children]


def _start(work: Callable[[Emit], None], *, deadline: float, read_only: bool, rights: safe_open.Rights) -> _Child:
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise sqlite_files.SqliteError(f"Cannot start a process to read the database in: {error.strerror}") from error
    if pid == 0:
        _child(
            work,
            reading=reading,
            writing=writing,
            parent=parent,
            deadline=deadline,
            read_only=read_only,
            rights=rights,
        )
    os.close(writing)
    return _Child(pid=pid, pipe=reading)


def _child(
    work: Callable[[Emit], None],
    *,
    reading: int,
    writing: int,
    parent: int,
    deadline: float,
    read_only: bool,
    rights: safe_open.Rights,
) -> None:
    """Be the child: never return, never run anything of the parent's clean-up."""
    status = 1
    try:
        os.close(reading)
        bounded(deadline=deadline, read_only=read_only)
        if read_only:
            give_up_writing(rights)
        elif rights:
            safe_open.become(*rights)
        die_with_parent()
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)

        def emit(message: Message) -> None:
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(writing, data) :]

        try:
            work(emit)
            emit({"event": "end"})
            status = 0
        except (sqlite3.Error, sqlite3.Warning, OSError, ValueError, MemoryError, sqlite_files.SqliteError) as error:
            emit({"event": "end", "error": str(error) or type(error).__name__})
    finally:
        os._exit(status)


def _listen(children: Sequence[_Child], *, deadline: float) -> None:
    """Take in what the children say until all have ended, or the deadline is over."""
    while True:
        speaking = {child.pipe: child for child in children if not child.ended}
        if not speaking:
            return
        left = deadline + _GRACE - time.monotonic()
        ready = select.select(list(speaking), [], [], max(left, 0))[0]
        if not ready or left <= 0:
            for child in speaking.values():
                child.timeout = True
            return
        for pipe in ready:
            chunk = os.read(pipe, 65536)
            child = speaking[pipe]
            child.said += chunk
            child.ended = not chunk
            if len(child.said) > _MOST_SAID:
                child.said_too_much = child.ended = True
                os.kill(child.pid, signal.SIGKILL)


def _reap(pid: int) -> int:
    """Wait for the child; a child that hangs in the kernel on a dead disk is left behind after a moment."""
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    return int(signal.SIGKILL)


@contextlib.contextmanager
def interrupted_at(connection: sqlite3.Connection, deadline: float) -> Iterator[None]:
    """Interrupt at C(deadline) whatever C(connection) runs inside the block: C(OperationalError: interrupted)."""
    done = threading.Event()

    def interrupt() -> None:
        # A thread rather than a progress handler: older libraries do not call that one inside a check of the b-trees.
        # Again and again, since a statement that begins just now forgets an earlier interruption.
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


@contextlib.contextmanager
def private_copy(found: sqlite_files.Look, *, deadline: float) -> Iterator[str]:
    """Copy the database with its journal and WAL into a private folder of who may read it; yield the copy's path.

    Raises SqliteError, OutOfTime.
    """
    rights = found.rights or writer_of(found)
    with safe_open.acting(None):
        folder = tempfile.mkdtemp(prefix="itsm-nexus-", dir=_room_for_copies(rights))
    try:
        try:
            with safe_open.acting(None):
                _fill(folder, found, rights=rights, deadline=deadline)
        except OSError as error:
            what = f"Cannot copy {sqlite_files.printable(found.path)} to {folder}"
            raise sqlite_files.SqliteError(f"{what}: {error.strerror or error}") from error
        yield f"{folder}/copy.db"
    finally:
        with safe_open.acting(None):
            atomic_files.discard_tree(folder)


def _room_for_copies(rights: Tuple[int, int]) -> str:
    """Return a folder for temporary files that a user can get to: root's own TMPDIR may be closed to others."""
    usual = tempfile.gettempdir()
    with safe_open.acting(rights):
        return usual if os.access(usual, os.X_OK, effective_ids=True) else "/var/tmp"  # noqa: S108 - by mkdtemp


def _fill(folder: str, found: sqlite_files.Look, *, rights: Tuple[int, int], deadline: float) -> None:
    """Copy the files into a folder, and give both away. Raises SqliteError, OutOfTime, OSError."""
    what = f"Cannot copy {sqlite_files.printable(found.path)} to {folder}"
    needed = sum(facts.size for name, facts in found.files.items() if name != "shm")
    if sqlite_files.free_bytes(folder) < needed + (16 << 20):
        raise sqlite_files.SqliteError(f"{what}: {needed} bytes do not fit there")
    for name in ("database", "wal", "journal"):
        if name in found.files:
            target = f"{folder}/copy.db{sqlite_files.SUFFIXES[name]}"
            with open(target, "xb") as writer:
                for chunk in sqlite_files.chunks_of(found.files[name]):
                    if time.monotonic() > deadline:
                        raise OutOfTime(f"{what}: the time is over")
                    writer.write(chunk)
                if os.geteuid() == 0:
                    os.fchown(writer.fileno(), *rights)
    if os.geteuid() == 0:
        os.chown(folder, *rights)


def quoted(name: str) -> str:
    """Return a table's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def tables_of(connection: sqlite3.Connection) -> List[str]:
    """Return the ordinary tables of the database, those of SQLite itself left out. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    )
    return [str(row[0]) for row in rows]


def count_rows(
    connection: sqlite3.Connection, *, tables: Union[bool, Sequence[str]] = True
) -> Dict[str, Optional[int]]:
    """Return the exact number of rows of all tables, or of the named ones, C(None) for a name that is no table.

    Raises sqlite3.Error.
    """
    present = tables_of(connection)
    wanted = present if isinstance(tables, bool) else list(tables)
    counts: Dict[str, Optional[int]] = {}
    for table in wanted:
        if table in present:
            # The name comes out of the schema and is quoted as an identifier.
            counts[table] = int(connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608
        else:
            counts[table] = None
    return counts
