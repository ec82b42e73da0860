# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the requests in a period, based on the service's journal and log files.

A service may log a request in several places, for example in the journal and in a file. Such a request is counted once.
Lines in different logs describe the same request if they have the same method, path and status, and nearly the same
time. Files are read newest first, including rotated and compressed files. Only the part of a file from the period is
read, within limits for time and memory.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import re
import time
import zlib
from typing import IO, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    compressed_log,
    log_files,
    log_patterns,
    messages,
)

# Maximum number of bytes to read from all log files together, after decompression. The same limit applies to the number
# of compressed bytes of one file.
_MOST_BYTES = 128 << 20
# Maximum number of journal entries. The memory for the output of a command is also limited.
_MOST_ENTRIES = 100_000
# Maximum number of files to read, and to list in a report.
_MOST_FILES = 50
_MOST_NAMED = 5
_CHUNK = 1 << 20
_LONGEST_LINE = 2000
# Reading begins this many seconds before the period. Requests in this interval show that the service logs requests in
# this log.
_BEFORE = 3600
# Lines may be slightly out of order. Therefore, reading stops only at a request that was logged more than this many
# seconds after the end of the period.
_AFTER = 60
# Maximum number of lines to read to find the first line with a time.
_MOST_UNDATED = 100
# Maximum difference, in hundredths of a second, between the times of the same request in two logs. The times in some
# access logs have no fractions of a second.
_TOLERANCE = 150

# The lookahead prevents the pattern from splitting the path in other ways (backtracking). If the pattern had no
# lookahead, the service's user could write lines that take seconds to match.
_REQUEST = re.compile(
    r"""\b(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\b[\s"']+(?=([^\s"']\S*))\2(?:\s+HTTP/[\d.]+)?["']?"""
    r"""\s+(?:-\s+)?([1-5]\d\d)\b|"""
    r""""(?:status|statusCode|status_code)":\s*"?([1-5]\d\d)\b"""
)
_METHOD = re.compile(r'"method":\s*"([A-Z]+)"')
_PATH = re.compile(r'"(?:url|originalUrl|path)":\s*"([^"]*)"')
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ENTRY = re.compile(r"^(\d{1,10}\.\d{1,9}) \S+ [^\s:]+: ?(.*)$")


class RequestLogError(MessageError):
    """The number of requests is unknown."""

    templates = messages.ENGLISH


class _UnreadError(RequestLogError):
    """A log or a journal could not be opened. The requests in other places can still be counted."""


class Places(NamedTuple):
    """The places in which the service logs requests. Each field may be empty.

    log: the path of a log. patterns: patterns with absolute paths, for additional logs. unit: the systemd unit whose
    journal is read.
    user: the user that the service runs as.
    """

    log: str = ""
    patterns: Sequence[str] = ()
    unit: str = ""
    user: str = ""


class Counted(NamedTuple):
    """The number of requests, the number of 5xx responses, and their places in the log."""

    requests: int
    failed: int
    sources: List[str]


# A log line, and its time if the log records the time separately.
_Line = Tuple[str, Optional[float]]


class _Count:
    """The requests found so far. To save memory, each request is stored as one number: a code, then its time."""

    def __init__(self, *, begun: float, over: float, deadline: float) -> None:
        self.begun, self.over, self.deadline = begun, over, deadline
        self.seen = 0
        self.bytes_left = _MOST_BYTES
        self.sources: Dict[str, int] = {}
        self._places: Dict[str, array.array[int]] = {}

    @property
    def time_left(self) -> float:
        return max(0.05, self.deadline - time.monotonic())

    def add(self, lines: Iterable[_Line], *, source: str, place: str) -> None:
        """Add the requests in a log. Raises RequestLogError."""
        codes = self._places.setdefault(place, array.array("Q"))
        number_here = 0
        for number, (text, at) in enumerate(lines):
            if number % 100 == 0 and time.monotonic() > self.deadline:
                raise RequestLogError(message("reason.impact.log_late", path=source))
            request = _request(text)
            own = (log_patterns.instant(text) or at) if request else None
            if request is None or own is None:
                continue
            self.seen += 1
            if own > self.over + _AFTER:
                break
            if self.begun <= own <= self.over:
                number_here += 1
                codes.append(_code(*request) << 32 | min(int((own - self.begun) * 100), 0xFFFFFFFF))
        self.sources[source] = number_here

    def counted(self) -> Counted:
        """Return the number of requests in all places. A request that is logged in several places is counted once.

        Raises RequestLogError.
        """
        together: List[int] = []
        for codes in self._places.values():
            # Each place is merged with all requests of the earlier places, so many places take a long time.
            if together and time.monotonic() > self.deadline:
                raise RequestLogError(message("reason.impact.log_late", path=list(self.sources)[-1]))
            together = _merged(together, sorted(codes))
        told = [source for source, number in self.sources.items() if number] or list(self.sources)
        failed = sum(code >> 32 & 1 for code in together)
        return Counted(requests=len(together), failed=failed, sources=told[:_MOST_NAMED])


def _request(text: str) -> Optional[Tuple[str, str, str]]:
    """Return the method, the path and the status of the request in a line, or None if there is none."""
    match = _REQUEST.search(text)
    if match is None:
        return None
    method, path, status, of_json = match.groups()
    if of_json is None:
        return method, path.strip("\"'"), status
    found = [pattern.search(text) for pattern in (_METHOD, _PATH)]
    return found[0].group(1) if found[0] else "", found[1].group(1) if found[1] else "", of_json


def _code(method: str, path: str, status: str) -> int:
    """Return a 32-bit number that represents the text of a request. The lowest bit is 1 for a 5xx response."""
    return zlib.crc32(f"{method} {path} {status}".encode("utf-8", "replace")) & ~1 | status.startswith("5")


def _merged(first: List[int], second: List[int]) -> List[int]:
    """Return the merged requests from two places. Both lists and the result are sorted."""
    result = []
    one, other = 0, 0
    while one < len(first) and other < len(second):
        left, right = first[one], second[other]
        same = left >> 32 == right >> 32 and abs(left - right) <= _TOLERANCE
        result.append(min(left, right))
        one += same or left < right
        other += same or left >= right
    return sorted([*result, *first[one:], *second[other:]])


def _read(chunks: Iterable[bytes], count: _Count) -> Iterator[str]:
    """Yield the shortened lines of a file up to the byte limit. Sets count.bytes_left to -1 if more bytes remain."""
    rest = b""
    for chunk in chunks:
        most = max(0, count.bytes_left)
        count.bytes_left = max(-1, most - len(chunk))
        *lines, rest = (rest + chunk[:most]).split(b"\n")
        for line in lines:
            yield line[:_LONGEST_LINE].decode("utf-8", "replace")
        if count.bytes_left < 0:
            return
        # The rest of a very long line is not needed, and would fill the memory.
        rest = rest[:_LONGEST_LINE]
    yield rest.decode("utf-8", "replace")


def _time_after(stream: IO[bytes], offset: int) -> Optional[float]:
    """Return the first timestamp after an offset, or None if the next lines contain no timestamp."""
    stream.seek(offset)
    stream.readline(_CHUNK)
    for _number in range(_MOST_UNDATED):
        at = log_patterns.instant(stream.readline(_LONGEST_LINE).decode("utf-8", "replace"))
        if at is not None:
            return at
    return None


def _start(stream: IO[bytes], *, at: float) -> int:
    """Return an offset in a file. All lines before this offset are older than the given time."""
    low, high = 0, os.fstat(stream.fileno()).st_size
    while high - low > _CHUNK:
        middle = (low + high) // 2
        found = _time_after(stream, middle)
        if found is not None and found < at:
            low = middle
        else:
            high = middle
    return low


def _chunks(stream: IO[bytes], count: _Count, *, compressed: bool) -> Iterator[bytes]:
    """Yield the data of a file that may be from the period. Raises TimeoutError at the deadline, or OSError."""
    if compressed:
        yield from compressed_log.unpacked(stream, most_packed=_MOST_BYTES, deadline=count.deadline)
        return
    stream.seek(_start(stream, at=count.begun - _BEFORE))
    while time.monotonic() <= count.deadline:
        chunk = stream.read(_CHUNK)
        if not chunk:
            return
        yield chunk
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _in_file(log: log_files.LogFile, count: _Count) -> Iterator[_Line]:
    """Yield the lines of a log file that may be from the period. Raises RequestLogError."""
    with contextlib.ExitStack() as stack:
        try:
            with safe_open.acting(log.rights):
                descriptor = safe_open.open_file(log.path)
            raw = stack.enter_context(os.fdopen(descriptor, "rb"))
        except OSError as error:
            raise _UnreadError(_unread(log.path, error)) from error
        last = ""
        try:
            for text in _read(_chunks(raw, count, compressed=log.path.endswith(log_files.COMPRESSED)), count):
                yield text, None
                last = text
        except TimeoutError as error:
            raise RequestLogError(message("reason.impact.log_late", path=log.path)) from error
        except OSError as error:
            raise RequestLogError(_unread(log.path, error)) from error
        if count.bytes_left < 0 and (log_patterns.instant(last) or 0.0) <= count.over:
            raise RequestLogError(message("reason.impact.log_large", path=log.path))


def _unread(path: str, error: Exception) -> Message:
    return message("reason.impact.log_unread", path=path, why=str(getattr(error, "strerror", None) or error))


def _in_journal(unit: str, count: _Count, *, run: commands.Runner) -> Iterator[_Line]:
    """Yield the unit's journal entries from the period. Raises RequestLogError."""
    argv = ["journalctl", "-q", "--all", "--no-pager", "-o", "short-unix", "-n", str(_MOST_ENTRIES), "-u", unit]
    argv += ["--since", f"@{max(0.0, count.begun - _BEFORE):.0f}", "--until", f"@{count.over + 1:.0f}"]
    source = journal_of(unit)
    try:
        done = run(argv, timeout=count.time_left, env={"PATH": procfs.STANDARD_PATH, "LC_ALL": "C", "TZ": "UTC"})
    except commands.CommandError as error:
        raise _UnreadError(message("reason.impact.log_unread", path=source, why=error.told)) from error
    if done.timed_out:
        raise RequestLogError(message("reason.impact.log_late", path=source))
    if not done.ok:
        why = " ".join(done.stderr.split())[:200] or f"exit code {done.rc}"
        raise _UnreadError(message("reason.impact.log_unread", path=source, why=why))
    entries = [match for match in map(_ENTRY.match, done.stdout.split("\n")) if match]
    # If there are too many entries, journalctl prints only the newest ones. If the output is too long, its middle is
    # omitted.
    cut = len(entries) >= _MOST_ENTRIES and float(entries[0].group(1)) > count.begun
    if cut or len(done.stdout) >= commands.LONGEST_OUTPUT:
        raise RequestLogError(message("reason.impact.log_large", path=source))
    for match in entries:
        yield _COLOUR.sub("", match.group(2))[:_LONGEST_LINE], float(match.group(1))


def journal_of(unit: str) -> str:
    """Return the command that shows a unit's journal. Reports use this command as the name of the journal."""
    return f"journalctl -u {unit}"


def count(
    places: Places, *, begun: float, over: float, deadline: float, run: commands.Runner = commands.run
) -> Counted:
    """Count the requests that were logged between two times (seconds since the epoch).

    A log or journal that cannot be opened is ignored if another one contains requests. deadline: the time at which
    reading stops, in time.monotonic seconds. Raises RequestLogError if a log or journal could not be read completely,
    or if none contains requests.
    """
    found = _Count(begun=begun, over=over, deadline=deadline)
    unread: List[Message] = []
    if places.unit:
        source = journal_of(places.unit)
        try:
            found.add(_in_journal(places.unit, found, run=run), source=source, place=source)
        except _UnreadError as error:
            unread.append(error.told)
    try:
        logs = log_files.find(places.log, places.patterns, user=places.user, deadline=deadline)
    except TimeoutError as error:
        raise RequestLogError(message("reason.impact.log_late", path=", ".join(places.patterns))) from error
    # If a file was last changed before the period, it does not contain requests from the period. Such a file can only
    # show that the service logs requests.
    current = [log for log in logs if log.modified >= begun]
    if len(current) > _MOST_FILES:
        raise RequestLogError(message("reason.impact.log_many", number=len(current), most=_MOST_FILES))
    for log in logs[:_MOST_FILES]:
        if log.modified < begun and found.seen:
            break
        try:
            found.add(_in_file(log, found), source=log.path, place=log.series)
        except _UnreadError as error:
            unread.append(error.told)
    if found.seen:
        return found.counted()
    if found.sources:
        raise RequestLogError(message("reason.impact.log_empty", path=list(found.sources)[:_MOST_NAMED]))
    raise RequestLogError(unread[0] if unread else message("reason.impact.no_logs"))
