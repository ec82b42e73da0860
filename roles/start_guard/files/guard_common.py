# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the SQLite database files, read without SQLite, and the connection to the keeper.

The start guard and the restart recorder use this code. They run as the service's user, who owns the files, so they need
no other permissions. They must not have other permissions either, because this user may own the environment file of the
unit. systemd passes the file's variables to every process of the unit, and LD_PRELOAD in the file would run the user's
code there.

Standard library only, Python 3.8. Only modules that are fast to import are used.

Formats: "Database File Format" (https://www.sqlite.org/fileformat2.html), "WAL-mode File Format"
(https://www.sqlite.org/walformat.html).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import time
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes 3 ms
    from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

MAGIC = b"SQLite format 3\0"
HEADER = 32
FRAME_HEADER = 24
_DATABASE_HEADER = 100
_WAL_MAGIC = 0x377F0682  # the least significant bit is set if the checksums use big-endian words
_VERSION = 3007000
_MASK = 0xFFFFFFFF
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_SIDE_FILES = (("database", ""), ("wal", "-wal"), ("shm", "-shm"), ("journal", "-journal"))
# Limits for the number of frames to read, and for the number of bytes to compare with the database.
_MOST_FRAMES = 1 << 18
_MOST_COMPARED = 64 << 20
_LARGEST_CONFIG = 1 << 16
_LARGEST_KNOWN = 1 << 18


class Kind(namedtuple("Kind", "of_data released")):
    """The consequences of a doubt, which is a reason why the service must not start.

    of_data: True if rows could be lost, so a run must check the database before the service may start. released: True
    if a person can release the service despite this doubt.
    """

    __slots__ = ()


# Codes for all reasons to doubt the data. A person can release a service with a damaged database, but not a service
# whose user cannot access the database.
KINDS: Dict[str, Kind] = {
    "missing": Kind(of_data=True, released=True),
    "empty": Kind(of_data=True, released=True),
    "empty_beside_wal": Kind(of_data=True, released=True),
    "not_a_file": Kind(of_data=True, released=True),
    "not_a_database": Kind(of_data=True, released=True),
    "truncated": Kind(of_data=True, released=True),
    "wal_damaged": Kind(of_data=True, released=True),
    "wal_foreign": Kind(of_data=True, released=True),
    "wal_missing": Kind(of_data=True, released=True),
    "wal_short": Kind(of_data=True, released=True),
    "journal_missing": Kind(of_data=True, released=True),
    "unreadable": Kind(of_data=True, released=False),
    "no_access": Kind(of_data=False, released=False),
    "not_mounted": Kind(of_data=False, released=False),
    "folder_missing": Kind(of_data=False, released=False),
    "held": Kind(of_data=False, released=False),
}


def kind_of(code: Optional[str]) -> Kind:
    """Return the consequences of a code. For an unknown code, assume that rows may be lost, and allow no release."""
    return KINDS.get(code or "", Kind(of_data=True, released=False))


class Config(namedtuple("Config", "unit database user state_dir known socket logs")):
    """The configuration file that the start_guard role writes.

    known: the file to which the keeper writes the last known state of the database. socket: the keeper's socket.
    """

    __slots__ = ()

    @classmethod
    def read(cls, path: str) -> Config:
        """Read a configuration file. Raises OSError or ValueError."""
        values = read_json(path, limit=_LARGEST_CONFIG)
        for name in cls._fields:
            wanted = list if name == "logs" else str
            if not isinstance(values.get(name), wanted):
                raise ValueError(f"{path}: {name} must be a {wanted.__name__}, not {values.get(name)!r}")
        return cls(**{name: values[name] for name in cls._fields})


def read_json(path: str, *, limit: int) -> Dict[str, Any]:
    """Return the object in a JSON file of at most `limit` bytes. Raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a regular file")
        data = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"{path} has more than {limit} bytes")
    values = json.loads(data.decode("utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not contain an object")
    return values


def known_state(path: str, *, database: str) -> Dict[str, Any]:
    """Return the last known state of this database, or an empty dict if nothing is known."""
    try:
        known = read_json(path, limit=_LARGEST_KNOWN)
    except (OSError, ValueError, RecursionError):
        return {}
    return known if known.get("path") == database else {}


def boot_id() -> str:
    """Return the ID of this boot. Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def now() -> str:
    """Return the current time (UTC), for example 2026-03-02T01:02:03.456Z."""
    return iso(time.time_ns())


def iso(ns: int) -> str:
    """Return a time in nanoseconds since 1970 as text."""
    seconds, thousandths = divmod(ns // 1_000_000, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{thousandths:03d}Z"


def stamp(found: Optional[Mapping[str, Any]]) -> Optional[List[int]]:
    """Return the values that identify a file and its content, or None if there is no file."""
    return [int(found[name]) for name in ("device", "inode", "size", "mtime_ns")] if found else None


def is_same_stamp(one: Any, other: Any) -> bool:
    """Return True if two stamps describe the same file with the same content, or if both are None.

    The device number may change at a reboot, so it is not compared.
    """
    return bool(one[1:] == other[1:] if isinstance(one, list) and isinstance(other, list) else one is other is None)


def since_boot() -> int:
    """Return the time since boot in nanoseconds. Clock changes do not affect this time."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def examine(database: str, *, compare: bool = False, scan: bool = True) -> Dict[str, Any]:
    """Return the state of the database files.

    compare: True to also compare the WAL's pages with the database. scan: True to read the frames of the WAL, which
    takes a long time if the WAL is large.

    Keys: path (with resolved links), database, wal, shm and journal (None, or facts about the file), header, frames
    (the content of the WAL), index (the content of the -shm file), problem (code and text, or None), complete. Nothing
    is changed, no lock is taken, and special files do not block the read.
    """
    path = os.path.realpath(database)
    state: Dict[str, Any] = {
        "path": path,
        "header": None,
        "frames": None,
        "index": None,
        "problem": None,
        "complete": True,
    }
    opened: Dict[str, int] = {}
    try:
        for name, suffix in _SIDE_FILES:
            state[name], descriptor, problem = _open(path + suffix, name=name)
            if descriptor is not None:
                opened[name] = descriptor
            state["problem"] = state["problem"] or problem
        if state["problem"] is None:
            _read(state, opened, compare=compare, scan=scan)
    except OSError as error:
        state["problem"] = ["unreadable", f"{path} cannot be read: {error.strerror}"]
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    return state


def _open(path: str, *, name: str) -> Tuple[Optional[Dict[str, Any]], Optional[int], Optional[List[str]]]:
    """Return the facts about a file, the file's descriptor, and a problem. Each can be None."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None, None, None if name == "journal" else ["not_a_file", f"{path} is not a regular file"]
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None, None, None
    except OSError as error:
        code = "no_access" if error.errno in (errno.EACCES, errno.EPERM) else "unreadable"
        return None, None, [code, f"{path} cannot be read: {error.strerror}"]
    found = os.fstat(descriptor)
    facts = {
        "device": found.st_dev,
        "inode": found.st_ino,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mode": stat.S_IMODE(found.st_mode),
    }
    return facts, descriptor, _unwritable(path)


def _unwritable(path: str) -> Optional[List[str]]:
    """Return a problem if this account lacks permission to write to the file. Ignore read-only file systems."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return ["no_access", f"{path} cannot be written to: {error.strerror}"]
    return None


def _read(state: Dict[str, Any], opened: Mapping[str, int], *, compare: bool, scan: bool) -> None:
    """Add the header, the frames, the index and the state of the journal. Raises OSError."""
    if "database" in opened:
        state["header"] = _header(os.pread(opened["database"], _DATABASE_HEADER, 0))
    if "shm" in opened:
        state["index"] = _index(os.pread(opened["shm"], 136, 0))
    if "journal" in opened:
        # With journal_mode=PERSIST, SQLite fills the header with zeros after each transaction. A journal without
        # records changes nothing.
        begin = os.pread(opened["journal"], 12, 0)
        state["journal"]["hot"] = len(begin) == 12 and begin[:8] == _JOURNAL_MAGIC and any(begin[8:])
    if "wal" not in opened or not scan:
        return
    page_size = (state["header"] or {}).get("page_size", 0)
    frames = state["frames"] = _Frames.read(opened["wal"], size=state["wal"]["size"], database_page_size=page_size)
    state["complete"] = frames.complete
    if compare or not frames.header_valid:
        frames.needed = _needed(frames, opened, page_size=page_size, index=state["index"])


def _header(data: bytes) -> Optional[Dict[str, Any]]:
    """Return the relevant fields of a database header, or None if the data is not a SQLite header.

    bytes: the whole header in hexadecimal notation. If the file ends within the header, the page size is 0. SQLite then
    reads the whole first page from the WAL.
    """
    if len(data) < _DATABASE_HEADER:
        none = {"page_size": 0, "changes": 0, "pages": 0, "bytes": ""}
        return none if data and MAGIC.startswith(data[:16]) else None
    if data[:16] != MAGIC:
        return None
    (page_size,) = struct.unpack_from(">H", data, 16)
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        return None
    changes, pages = struct.unpack_from(">II", data, 24)
    (valid_for,) = struct.unpack_from(">I", data, 92)
    # The number of pages is valid only if the last change to the database also updated this number.
    pages = pages if changes == valid_for else 0
    return {"page_size": page_size, "changes": changes, "pages": pages, "bytes": data.hex()}


def _index(data: bytes) -> Optional[Dict[str, Any]]:
    """Return the relevant fields of a -shm file, or None if the index is not valid."""
    if len(data) < 136 or data[:48] != data[48:96]:
        return None
    version, _unused, commits, initialised = struct.unpack_from("=IIIB", data, 0)
    if version != _VERSION or not initialised:
        return None
    (last_frame,) = struct.unpack_from("=I", data, 16)
    (backfilled,) = struct.unpack_from("=I", data, 96)
    salts = list(struct.unpack_from(">II", data, 32))
    return {"commits": commits, "last_frame": last_frame, "backfilled": backfilled, "salts": salts}


def checksum(data: bytes) -> Tuple[int, int]:
    """Return the checksum of a WAL header's first 24 bytes. The magic number defines the byte order."""
    order = ">" if data[3] & 1 else "<"
    words = struct.unpack(f"{order}6I", data[:24])
    first = second = 0
    for index in (0, 2, 4):
        first = (first + second + words[index]) & _MASK
        second = (second + first + words[index + 1]) & _MASK
    return first, second


class _Frames:
    """The frames of a WAL, recognized by their salts. Their checksums are not verified.

    committed: number of frames up to the last commit. pages: size of the database after that commit. last: the last
    committed frame of each page. first_changes, last_changes: the change counter in the first and in the last committed
    frame with page 1. headers: the database headers in these frames. foreign: True if the frames do not match the
    header. lost: True if the header is damaged and frames follow it. needed: True if a committed page differs from the
    database, None if unknown. complete: False if only a part was read.
    """

    def __init__(self) -> None:
        self.header_valid = False
        self.page_size = 0
        self.salts = [0, 0]
        self.committed = self.pages = 0
        self.last: Dict[int, int] = {}
        self.first_changes: Optional[int] = None
        self.last_changes: Optional[int] = None
        self.headers: Set[str] = set()
        self.foreign = self.lost = False
        self.needed: Optional[bool] = None
        self.complete = True

    @classmethod
    def read(cls, descriptor: int, *, size: int, database_page_size: int) -> _Frames:
        """Read the frames. Without a valid header, the salts of the first frame are used. Raises OSError."""
        frames = cls()
        data = os.pread(descriptor, HEADER, 0)
        if len(data) < HEADER:
            return frames
        magic, version, page_size, sequence, salt1, salt2, sum1, sum2 = struct.unpack(">8I", data)
        power = 512 <= page_size <= 65536 and page_size & (page_size - 1) == 0
        known = magic & ~1 == _WAL_MAGIC and version == _VERSION
        frames.header_valid = power and known and checksum(data) == (sum1, sum2)
        frames.page_size = page_size if frames.header_valid else database_page_size
        first = os.pread(descriptor, FRAME_HEADER, HEADER) if frames.page_size else b""
        if len(first) < FRAME_HEADER:
            return frames
        of_first = list(struct.unpack_from(">II", first, 8))
        total = (size - HEADER) // (FRAME_HEADER + frames.page_size)
        if frames.header_valid:
            frames.salts = [salt1, salt2]
            # When SQLite restarts a WAL, it increases the first salt by one. Frames with the previous salt are normal.
            # If the salts are zero, nothing was ever written there.
            strange = of_first not in (frames.salts, [0, 0]) and of_first[0] != (salt1 - 1) & _MASK
            # If a WAL was never restarted and has no committed frame, SQLite replaces both salts.
            frames.foreign = strange and (sequence != 0 or frames._commits(descriptor, of_first, total=total))
        else:
            frames.salts = of_first
            frames.lost = any(first)
        frames._scan(descriptor, total=total)
        return frames

    def _commits(self, descriptor: int, of_first: List[int], *, total: int) -> bool:
        """Return True if a frame with the salts of the header or of the first frame has, or may have, a commit mark."""
        stride = FRAME_HEADER + self.page_size
        for index in range(min(total, _MOST_FRAMES)):
            head = os.pread(descriptor, FRAME_HEADER, HEADER + index * stride)
            if len(head) < FRAME_HEADER:
                return False
            _page, commit, salt1, salt2 = struct.unpack_from(">4I", head)
            if commit and [salt1, salt2] in (of_first, self.salts):
                return True
        return total > _MOST_FRAMES

    def _scan(self, descriptor: int, *, total: int) -> None:
        stride = FRAME_HEADER + self.page_size
        pending: Dict[int, int] = {}
        headers: List[bytes] = []
        salts = tuple(self.salts)
        if total > _MOST_FRAMES:
            total, self.complete = _MOST_FRAMES, False
        for index in range(total):
            at = HEADER + index * stride
            head = os.pread(descriptor, FRAME_HEADER, at)
            if len(head) < FRAME_HEADER:
                return
            page, commit, salt1, salt2 = struct.unpack_from(">4I", head)
            if (salt1, salt2) != salts or not page:
                return
            pending[page] = index
            if page == 1:
                header = os.pread(descriptor, _DATABASE_HEADER, at + FRAME_HEADER)
                if len(header) < _DATABASE_HEADER:
                    return
                headers.append(header)
            if commit:
                self.committed, self.pages = index + 1, commit
                self.last.update(pending)
                pending.clear()
                if headers:
                    first, last = (struct.unpack_from(">I", each, 24)[0] for each in (headers[0], headers[-1]))
                    self.first_changes = first if self.first_changes is None else self.first_changes
                    self.last_changes = last
                    self.headers.update(each.hex() for each in headers)
                    headers.clear()

    def facts(self) -> Dict[str, Any]:
        """Return the facts for the keeper."""
        names = ("header_valid", "salts", "committed", "pages", "needed")
        return {name: getattr(self, name) for name in names}


def _needed(
    frames: _Frames, opened: Mapping[str, int], *, page_size: int, index: Optional[Mapping[str, Any]]
) -> Optional[bool]:
    """Return True if a committed page in the WAL differs from the database, or None if this is unknown.

    index: the WAL index of the last process. It shows how many frames a checkpoint has copied. The copied frames are
    compared last.
    """
    if not frames.last:
        return False
    if frames.page_size != page_size or "database" not in opened:
        return True
    known = index if index and frames.header_valid and index["salts"] == frames.salts else None
    copied = known["backfilled"] if known else 0
    # The index contains the number of frames, even if not all frames were read here.
    complete = frames.complete or bool(known and copied >= known["last_frame"])
    stride, compared = FRAME_HEADER + page_size, 0
    for number, page in sorted(((number, page) for page, number in frames.last.items()), reverse=True):
        if page > frames.pages:
            continue
        compared += page_size
        if compared > _MOST_COMPARED:
            return False if complete and number < copied else None
        mine = os.pread(opened["wal"], page_size, HEADER + number * stride + FRAME_HEADER)
        if mine != os.pread(opened["database"], page_size, (page - 1) * page_size):
            return True
    return False if complete else None


def contains_a_frame(state: Mapping[str, Any]) -> bool:
    """Return True if the database contains a page of a committed frame, as after a checkpoint. Raises OSError.

    Any version of the page counts.
    """
    frames, found = state["frames"], False
    flags, stride = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, FRAME_HEADER + frames.page_size
    database = os.open(state["path"], flags)
    try:
        wal = os.open(state["path"] + "-wal", flags)
        try:
            for index in range(frames.committed):
                frame = os.pread(wal, stride, HEADER + index * stride)
                if len(frame) < stride:
                    break
                (page,) = struct.unpack_from(">I", frame)
                found = frame[FRAME_HEADER:] == os.pread(database, frames.page_size, (page - 1) * frames.page_size)
                if found:
                    break
        finally:
            os.close(wal)
    finally:
        os.close(database)
    return found


def summary(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the state as JSON values for the keeper."""
    frames = state["frames"]
    return {**state, "frames": frames.facts() if frames is not None else None}


def lacking(state: Mapping[str, Any], *, since_ns: int) -> int:
    """Return how many committed frames are in the index of the last process but not in the WAL.

    since_ns: start of the process, or 0 if unknown. If the index is older than the process, the process did not use the
    index.
    """
    index, frames, shm = state["index"], state["frames"], state["shm"]
    if not index or not since_ns or shm["mtime_ns"] < since_ns or not index["commits"]:
        return 0
    if index["backfilled"] >= index["last_frame"]:
        return 0
    there = frames.committed if frames is not None and frames.salts == index["salts"] else 0
    return int(max(index["last_frame"] - there, 0))


def write_out(data: bytes) -> None:
    """Write to standard output. Ignore the error if nobody reads the output."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        pass


def say(text: str, *, priority: int = 4) -> None:
    """Write a line to the journal of the unit. priority: the syslog priority, 3 for an error or 4 for a warning."""
    # A path may contain any bytes.
    line = text.encode("utf-8", "backslashreplace")
    if "JOURNAL_STREAM" in os.environ:
        write_out(b"<%d>%s\n" % (priority, line))
        return
    import _socket  # noqa: PLC0415 - only if it is needed

    sender = None
    try:
        sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        sender.settimeout(0.2)
        sender.sendto(b"<%d>itsm-nexus: %s" % (24 + priority, line), "/run/systemd/journal/dev-log")
    except OSError:
        write_out(line + b"\n")
    finally:
        if sender is not None:
            sender.close()


def tell(
    config: Config, message: Mapping[str, Any], parts: Optional[Mapping[str, bytes]] = None, *, wait: float
) -> bool:
    """Send a message to the keeper. Return True if the message was sent.

    wait: maximum time in seconds to wait for the confirmation that the message was saved. If this time is not 0, return
    True only if the message was saved. parts: contents of files, by name. They follow the message.
    """
    import _socket  # noqa: PLC0415 - only if it is needed

    lengths = {name: len(data) for name, data in (parts or {}).items()}
    head = json.dumps({**message, "parts": lengths}).encode() + b"\n"
    client = None
    try:
        client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        client.settimeout(max(wait, 0.5))
        client.connect(config.socket)
        client.sendall(b"".join([head, *(parts or {}).values()]))
        client.shutdown(_socket.SHUT_WR)
        return not wait or client.recv(16).startswith(b"saved")
    except OSError:
        return False
    finally:
        if client is not None:
            client.close()
