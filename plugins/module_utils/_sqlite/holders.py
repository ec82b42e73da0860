# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the processes that have a database open, and their roles.

The processes are found by their open descriptors (compared by device and inode) and by their file locks. The locks also
show the roles of the processes. The lock bytes in the -shm file are documented in section 2.2.2 of "WAL-mode File
Format" (https://www.sqlite.org/walformat.html). The lock bytes in the database (PENDING_BYTE and the bytes after it)
are defined in SQLite's os.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files

_LOOKS = 5
_PENDING = 1 << 30
_SHARED_FIRST = _PENDING + 2
_SHARED_SIZE = 510
_ROLES = ("writer", "checkpointer", "recovering", "reader", "open")
# Roles in which a process has a lock that prevents all other processes from writing.
BLOCKING = ("writer", "checkpointer", "recovering")
# Locks that prevent all writes, each as (end of the file's name, first byte, number of bytes). In WAL mode, the lock
# is in the -shm file. In other modes, the lock is in the database.
WRITE_LOCKS = (("-shm", 120, 1), ("", _PENDING, 2 + _SHARED_SIZE))
HIDDEN = "hidden: a process in another PID namespace"


class Holder:
    """A process that has one of the database's files open. If the process is in another PID namespace, pid is 0."""

    __slots__ = ("command", "files", "pid", "role")

    def __init__(self, *, pid: int, command: str, role: str = "open", files: Optional[List[str]] = None) -> None:
        self.pid = pid
        self.command = command
        self.role = role
        self.files: List[str] = [] if files is None else files

    def as_dict(self) -> Dict[str, Any]:
        """Return the holder in the format of the modules' results."""
        return {"pid": self.pid, "command": self.command, "role": self.role, "files": self.files}


class Holders(NamedTuple):
    """The holders found. complete: True if all processes could be inspected."""

    found: Sequence[Holder]
    complete: bool
    deleted: Sequence[Holder] = ()

    @property
    def of_index(self) -> bool:
        """True if a process has a WAL-mode connection to the database open."""
        return any("shm" in holder.files for holder in self.found)

    def named(self) -> str:
        """Return the holders as text for a message, for example: pid 12 (node backend/server.js)."""
        return ", ".join(f"pid {holder.pid} ({holder.command})" for holder in self.found)


def survey(
    path: str, *, user: Optional[str] = None, deadline: Optional[float] = None, proc_root: str = "/proc"
) -> Tuple[sqlite_files.Look, Holders]:
    """Check a database's files, find its holders, and read its WAL. Return the facts about the files, and the holders.

    user: the user that reads the files. See file_survey.look. deadline: the deadline for reading the WAL, in
    time.monotonic seconds. Raises SqliteError.
    """
    for _look in range(_LOOKS):
        with contextlib.suppress(FileNotFoundError):
            found = file_survey.look(path, user=user)
            holders = find_holders(found, proc_root=proc_root)
            file_survey.read_wal(found, live=holders.of_index, deadline=deadline)
            return found, holders
    raise sqlite_files.SqliteError(message("reason.sqlite.unsteady", path=sqlite_files.printable(path), times=_LOOKS))


def find_holders(found: sqlite_files.Look, *, proc_root: str = "/proc") -> Holders:
    """Return the processes that have any of a database's files open, except this process.

    Raises SqliteError if the search is stopped at its limits, because a process that was not searched may have the
    database open.
    """
    try:
        with safe_open.acting(None):  # only root can inspect the processes of other users
            return _find_holders(found, proc_root=proc_root)
    except procfs.UnfinishedError as error:
        raise sqlite_files.cannot("find_holders", path=sqlite_files.printable(found.path), why=error.told) from error


def _find_holders(found: sqlite_files.Look, *, proc_root: str) -> Holders:
    files = found.files
    wal_mode = "shm" in files or (found.header is not None and found.header.wal_mode)
    by_identity = {(facts.device, facts.inode): name for name, facts in files.items()}
    gone = {os.fsencode(found.path + suffix) + b" (deleted)" for suffix in sqlite_files.SUFFIXES.values()}
    holders: Dict[int, Holder] = {}
    deleted: Dict[int, Holder] = {}
    complete = True
    for pid, link in procfs.descriptors(proc_root=proc_root):
        if link is None:
            complete = False
            continue
        try:
            target = os.readlink(os.fsencode(link))
            if not target.startswith(b"/"):
                continue  # for example a socket or a pipe
            seen = os.stat(link)
        except OSError:
            continue
        name = by_identity.get((seen.st_dev, seen.st_ino))
        if name is not None:
            holder = _known(holders, pid, proc_root)
            if name not in holder.files:
                holder.files.append(name)
        elif target in gone:
            _known(deleted, pid, proc_root)
    _add_roles(holders, files, wal_mode=wal_mode, proc_root=proc_root)
    if not holders:
        holders.update(_hidden(files))
    for holder in holders.values():
        holder.files.sort()
    ordered = sorted(holders.values(), key=lambda holder: (_ROLES.index(holder.role), holder.pid))
    return Holders(found=ordered, complete=complete, deleted=sorted(deleted.values(), key=lambda holder: holder.pid))


def _known(holders: Dict[int, Holder], pid: int, proc_root: str) -> Holder:
    """Return the holder with this pid. Add the holder if it is not known yet."""
    if pid not in holders:
        holders[pid] = Holder(pid=pid, command=command_of(pid, proc_root))
    return holders[pid]


def command_of(pid: int, proc_root: str = "/proc") -> str:
    """Return the program and its script. Omit the other arguments, because they may contain secrets."""
    try:
        with open(f"{proc_root}/{pid}/cmdline", "rb") as stream:
            words = stream.read(4096).split(b"\0")
        with open(f"{proc_root}/{pid}/comm", "rb") as stream:
            name = stream.read(64).strip()
    except OSError:
        return ""
    shown = [word.decode("utf-8", "replace") for word in words[:2] if word]
    if len(shown) == 2 and shown[1].startswith("-"):
        shown = shown[:1]
    return " ".join(shown) or name.decode("utf-8", "replace")


def role_of_lock(*, name: str, kind: str, start: int, end: int, wal_mode: bool) -> str:
    """Return the role of the process that holds a lock.

    kind: either READ or WRITE. start, end: first and last locked byte.
    """
    if name == "shm":
        for byte, role in ((120, "writer"), (121, "checkpointer"), (122, "recovering")):
            if start <= byte <= end and kind == "WRITE":
                return role
        return "reader" if start <= 127 and end >= 123 else "open"
    if name == "database":
        if kind == "WRITE" and start <= _SHARED_FIRST + _SHARED_SIZE and end >= _PENDING:
            return "writer"
        # A WAL-mode connection holds the shared lock as long as the connection is open.
        return "open" if wal_mode else "reader"
    return "open"


def _add_roles(
    holders: Dict[int, Holder], files: Mapping[str, sqlite_files.FileFacts], *, wal_mode: bool, proc_root: str
) -> None:
    by_inode = {facts.inode: (name, facts.device) for name, facts in files.items()}
    with contextlib.suppress(OSError):
        for words in procfs.Search(proc_root=proc_root).locks():
            # For example "1: POSIX  ADVISORY  WRITE 1234 fe:00:11199145 120 120". If a process is waiting, "->" follows
            # "1:".
            if len(words) != 8 or words[1] not in ("POSIX", "OFDLCK") or words[5].count(":") != 2:
                continue
            major, minor, inode = words[5].split(":")
            name, device = by_inode.get(int(inode), ("", 0))
            pid = int(words[4])
            same_device = os.makedev(int(major, 16), int(minor, 16)) == device
            # On some file systems, stat returns a device number that differs from the one in /proc/locks. On these file
            # systems, the lock is considered only if the process also has the file open.
            if not name or pid == os.getpid() or not (same_device or pid in holders) or pid <= 0:
                continue
            end = 1 << 62 if words[7] == "EOF" else int(words[7])
            role = role_of_lock(name=name, kind=words[3], start=int(words[6]), end=end, wal_mode=wal_mode)
            holder = _known(holders, pid, proc_root)
            if name not in holder.files:
                holder.files.append(name)
            if _ROLES.index(role) < _ROLES.index(holder.role):
                holder.role = role


def lock_on(descriptor: int, *, start: int, length: int) -> Optional[Tuple[str, int]]:
    """If another process has locked these bytes, return the kind of lock (READ or WRITE) and the pid, otherwise None.

    Also finds locks of processes that are not visible in /proc. The pid of a process in another PID namespace is 0.
    """
    question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, _whence, _start, _length, pid = struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    if kind == fcntl.F_UNLCK:
        return None
    return ("WRITE" if kind == fcntl.F_WRLCK else "READ", max(pid, 0))


def _hidden(files: Mapping[str, sqlite_files.FileFacts]) -> Dict[int, Holder]:
    """Search for a lock of a process that is not visible in /proc. Return {pid: holder}, or an empty mapping."""
    for name, start, length in (("shm", 120, 9), ("database", *WRITE_LOCKS[1][1:])):
        if name not in files:
            continue
        try:
            descriptor = sqlite_files.open_found(files[name])
        except OSError:
            continue
        try:
            lock = lock_on(descriptor, start=start, length=length)
        except OSError:
            lock = None
        finally:
            os.close(descriptor)
        if lock is not None:
            kind, pid = lock
            role = role_of_lock(name=name, kind=kind, start=start, end=start, wal_mode=True)
            return {pid: Holder(pid=pid, command=HIDDEN, role=role if kind == "WRITE" else "open", files=[name])}
    return {}
