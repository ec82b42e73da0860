# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database and the files next to it, read as bytes before SQLite opens them.

When SQLite opens an empty database file, it deletes the WAL. When SQLite opens a missing database, it creates a new
one. Therefore, the sizes, types and headers of the files are checked first. Format: "Database File Format", section 1.3
(https://www.sqlite.org/fileformat2.html).
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    MessageError,
    Value,
    message,
    plain,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal

MAGIC = b"SQLite format 3\0"
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
SUFFIXES = {"database": "", "wal": "-wal", "shm": "-shm", "journal": "-journal"}
# First bytes of each file type: https://www.sqlite.org/fileformat2.html and walformat.html.
_BEGINNINGS = {
    "-wal": (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"),
    "-shm": (struct.pack("=I", 3007000),),
    "-journal": (JOURNAL_MAGIC,),
}


class SqliteError(MessageError):
    """A database could not be checked, copied or changed. The message contains the path, the action and the reason."""

    templates = messages.ENGLISH


class NoRoomError(SqliteError):
    """There is not enough free space. The database and its WAL were not changed."""


@contextlib.contextmanager
def clear_errors(deed: str, /, **values: str) -> Iterator[None]:
    """Convert an unexpected operating system error to a SqliteError, "Cannot ...: why".

    deed: the part of the message ID after "reason.sqlite.cannot.". values: the values for the message, except why. The
    owner of a folder can cause such an error at any time, for example by removing a file or changing permissions.
    """
    try:
        yield
    except OSError as error:
        raise cannot(deed, why=str(error.strerror or error), **values) from error


def cannot(deed: str, /, **values: Value) -> SqliteError:
    """Return the error for a failed action. See clear_errors for deed and values."""
    return SqliteError(message(f"reason.sqlite.cannot.{deed}", **values))


def work_of(place: str) -> str:
    """Return the path of the work folder for replacing the database at `place`."""
    return f"{os.path.dirname(place)}/.{os.path.basename(place)}.restore"


def guard_of(place: str) -> str:
    """Return the target of the guard link.

    During a replacement, the guard link prevents access to the database. The folder in the target's path never exists.
    """
    return f"{work_of(place)}/unfinished/{os.path.basename(place)}"


def is_guard_target(path: str) -> bool:
    """Return True if path is the target of a guard link. In this case, a replacement was interrupted.

    path: a path with all links resolved.
    """
    folder, name = os.path.split(path)
    return path == guard_of(os.path.join(os.path.dirname(os.path.dirname(folder)), name))


class Problem(NamedTuple):
    """A problem with a database. An "error" makes the database unhealthy. A "warning" is only reported.

    loss: True if the problem suggests data loss.
    """

    code: str
    told: Message
    level: str = "error"
    loss: bool = False

    @property
    def message(self) -> str:
        """The English text."""
        return messages.english(self.told)

    def as_dict(self) -> Dict[str, Any]:
        """Return the problem in the format of the modules' results."""
        return {"code": self.code, "message": self.message, "level": self.level, "messages": plain(message=self.told)}


class FileFacts(NamedTuple):
    """The facts about one file of a database, as reported by lstat."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    uid: int
    gid: int
    mode: int
    regular: bool
    rights: safe_open.Rights = None  # the account (uid, gid) that opens the file, or None

    @property
    def stamp(self) -> Tuple[int, int, int, int]:
        """The values that change when a process writes to the file or replaces it."""
        return (self.device, self.inode, self.size, self.mtime_ns)


class Header(NamedTuple):
    """The fields of the 100-byte database header that this collection uses."""

    page_size: int
    write_version: int
    read_version: int
    change_counter: int
    page_count: int
    freelist_count: int
    schema_format: int
    user_version: int
    valid_for: int
    writer_version: int

    @property
    def wal_mode(self) -> bool:
        """True if connections use a WAL."""
        return self.read_version == 2


class Look:
    """Everything that is known about the files of a database before SQLite opens it.

    backfilled: number of WAL frames that are already in the database. acknowledged: number of WAL frames whose
    transactions were acknowledged, or None if the index does not show this. rights: the account (uid, gid) that opens
    the files, or None.
    """

    __slots__ = (
        "acknowledged",
        "backfilled",
        "files",
        "given",
        "header",
        "hot_journal",
        "path",
        "problems",
        "rights",
        "wal",
    )

    def __init__(self, *, given: str, path: str, rights: safe_open.Rights = None) -> None:
        self.given = given
        self.path = path
        self.files: Dict[str, FileFacts] = {}
        self.header: Optional[Header] = None
        self.wal = sqlite_wal.Wal()
        self.backfilled = 0
        self.acknowledged: Optional[int] = None
        self.hot_journal = False
        self.problems: List[Problem] = []
        self.rights = rights

    @property
    def openable(self) -> bool:
        """True if the database is a regular, nonempty file with a SQLite header. SQLite can safely open such a file."""
        return self.header is not None

    @property
    def stamps(self) -> Dict[str, Tuple[int, int, int, int]]:
        """The stamps (see FileFacts) of the files that determine the result of a read."""
        return {name: facts.stamp for name, facts in self.files.items() if name != "shm"}

    @property
    def newest_header(self) -> Optional[Header]:
        """The database header after the last commit. This header may be in the WAL."""
        return parse_header(self.wal.page_one) or self.header


def printable(path: str) -> str:
    """Return `path` for messages and results, with bytes that are not UTF-8 replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def parse_header(data: bytes) -> Optional[Header]:
    """Return the fields of a database header, or None if data does not begin with one."""
    if len(data) < 100 or not data.startswith(MAGIC):
        return None
    page_size, write_version, read_version = struct.unpack_from(">HBB", data, 16)
    change_counter, page_count = struct.unpack_from(">II", data, 24)
    freelist_count, _cookie, schema_format = struct.unpack_from(">III", data, 36)
    (user_version,) = struct.unpack_from(">i", data, 60)
    valid_for, writer_version = struct.unpack_from(">II", data, 92)
    return Header(
        page_size=65536 if page_size == 1 else page_size,
        write_version=write_version,
        read_version=read_version,
        change_counter=change_counter,
        page_count=page_count,
        freelist_count=freelist_count,
        schema_format=schema_format,
        user_version=user_version,
        valid_for=valid_for,
        writer_version=writer_version,
    )


def version_text(number: int) -> str:
    """Return a version number as text: 3.46.1 for 3046001, and the empty string for 0."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}" if number else ""


def has_wal_reset_bug(version: int) -> bool:
    """Return True if this version of SQLite may lose pages when two connections write and checkpoint at the same time.

    Versions: https://www.sqlite.org/wal.html#walresetbug
    """
    backported = 3044006 <= version < 3045000 or 3050007 <= version < 3051000
    return 3007000 <= version <= 3051002 and not backported


def open_regular(path: str, *, rights: safe_open.Rights) -> int:
    """Open a regular file for reading as the given account, without following links or blocking. Raises OSError."""
    with safe_open.acting(rights):
        return _open_regular(path)


def _open_regular(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def open_found(facts: FileFacts, *, handed: bool = False) -> int:
    """Open a checked file for reading. Raises OSError, for example if the file was replaced. See open_named.

    handed: True if the service's user receives the content. In this case, this user must be able to read the file.
    Otherwise, the file may be a root-owned database that the user has moved there.
    """
    descriptor = open_regular(facts.path, rights=facts.rights) if handed else open_named(facts)
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) != (facts.device, facts.inode):
        os.close(descriptor)
        raise OSError(0, "another file has taken its place")
    return descriptor


def open_named(facts: FileFacts) -> int:
    """Open the regular file that now has the name of a checked file. Raises OSError.

    In the service's folder, a command that ran as root may have left a file that the service's user cannot read. Such a
    file is opened as root, but only if it begins with the bytes that identify this type of file. Any other file may be
    a root-owned file that the service's user has moved there, so its content must not be passed to this user.
    """
    try:
        return open_regular(facts.path, rights=facts.rights)
    except PermissionError:
        if facts.rights is None or facts.uid != 0:
            raise
        with safe_open.acting(None):
            descriptor = safe_open.open_file(facts.path, os.O_RDONLY | os.O_NOFOLLOW, lend=False)
        status = os.fstat(descriptor)
        kinds = next((found for suffix, found in _BEGINNINGS.items() if facts.path.endswith(suffix)), (MAGIC,))
        if status.st_uid != 0 or status.st_nlink != 1 or not os.pread(descriptor, len(MAGIC), 0).startswith(kinds):
            os.close(descriptor)
            raise
        return descriptor


def chunks_of(facts: FileFacts, *, deadline: Optional[float] = None, handed: bool = False) -> Iterator[bytes]:
    """Yield the content of a checked file. Bytes that were appended after the check are omitted. See open_found.

    Raises OSError, or SqliteError if the deadline (time.monotonic seconds) has passed.
    """
    left = facts.size
    with open(open_found(facts, handed=handed), "rb") as stream:
        while left > 0:
            if deadline is not None and time.monotonic() > deadline:
                raise cannot("read", path=printable(facts.path), why=message("reason.sqlite.time_over"))
            chunk = stream.read(min(left, 1 << 20))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk


def facts_of(path: str, *, rights: safe_open.Rights) -> Optional[FileFacts]:
    """Return the facts that lstat reports about a path, or None if it does not exist. Raises OSError if lstat fails."""
    try:
        with safe_open.acting(rights):
            found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileFacts(
        path=path,
        device=found.st_dev,
        inode=found.st_ino,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        uid=found.st_uid,
        gid=found.st_gid,
        mode=stat.S_IMODE(found.st_mode),
        regular=stat.S_ISREG(found.st_mode),
        rights=rights,
    )


def stamps_of(path: str, *, rights: safe_open.Rights) -> Dict[str, Tuple[int, int, int, int]]:
    """Return the current stamps of a database's files. See Look.stamps. Raises OSError."""
    facts = {name: facts_of(path + suffix, rights=rights) for name, suffix in SUFFIXES.items() if name != "shm"}
    return {name: found.stamp for name, found in facts.items() if found is not None}


def kind_of(facts: FileFacts) -> Message:
    """Return a short description of a file that is not regular."""
    with safe_open.acting(facts.rights):
        mode = os.lstat(facts.path).st_mode
    for test, word in (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISLNK, "link"),
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISSOCK, "socket"),
    ):
        if test(mode):
            return message(f"reason.sqlite.kind.{word}")
    return message("reason.sqlite.kind.device")


def free_bytes(folder: str) -> int:
    """Return the number of free bytes on the file system of `folder`. Raises OSError."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def size_of_file_system(folder: str) -> int:
    """Return the size of the file system of `folder` in bytes. Raises OSError."""
    room = os.statvfs(folder)
    return room.f_blocks * room.f_frsize


def rights_on(path: str, user: Optional[str]) -> safe_open.Rights:
    """Return the account (uid, gid) whose rights are used for work on a database. See safe_open.rights_on.

    user: the name of the database's user, or None. Raises SqliteError.
    """
    try:
        return safe_open.rights_on(path, user=safe_open.account_rights(user))
    except OSError as error:
        raise cannot("work_on", path=printable(path), why=str(error.strerror)) from error
