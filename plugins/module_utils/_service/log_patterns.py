# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read application logs: timestamps, exceptions with their stack traces, known errors, and answered requests.

The application determines the log format. Therefore, timestamps are recognized in the formats that Node applications
commonly use: ISO 8601 near the beginning of a line, milliseconds since the epoch under "time" (pino), and Apache's
format (morgan).
"""

from __future__ import annotations

import collections
import datetime
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_files

_LONGEST_LINE = 2000
# Quote this many characters before and after a known error. This length is sufficient for paths and package names.
_CONTEXT = 250
_LONGEST_STACK = 12
_MOST_EXCEPTIONS = 5
# An exception counts as being at the end of the log if at most this many lines follow it.
_AFTER_THE_LAST = 3

# Patterns of known errors in an application's log. The triage rules use the names of these patterns.
SIGNATURES: Dict[str, Pattern[str]] = {
    "heap_oom": re.compile(
        r"JavaScript heap out of memory|Reached heap limit|Ineffective mark-compacts near heap limit"
    ),
    "disk_full": re.compile(r"\bENOSPC\b|SQLITE_FULL|database or disk is full|No space left on device"),
    "too_many_files": re.compile(r"\bEMFILE\b|\bENFILE\b|[Tt]oo many open files"),
    "port_taken": re.compile(r"\bEADDRINUSE\b"),
    "tls": re.compile(
        r"CERT_HAS_EXPIRED|certificate has expired|ERR_OSSL_|ERR_SSL_|key values mismatch|KEY_VALUES_MISMATCH|"
        r"(?i:(?:ssl|tls|https|certificate)[^\n]{0,80}(?:EACCES|ENOENT|not available|fall(?:ing)? ?back))"
    ),
    "db_locked": re.compile(r"SQLITE_BUSY|SQLITE_LOCKED|database is locked|database table is locked"),
    "db_corrupt": re.compile(r"SQLITE_CORRUPT|SQLITE_NOTADB|database disk image is malformed|file is not a database"),
    "module_missing": re.compile(
        r"MODULE_NOT_FOUND|ERR_MODULE_NOT_FOUND|Cannot find module|ERR_DLOPEN_FAILED|invalid ELF header|"
        r"NODE_MODULE_VERSION|Could not locate the bindings file|"
        # Loader error messages about a native driver that was truncated or built for another system.
        r"file too short|wrong ELF class|undefined symbol: |cannot open shared object file"
    ),
    "migration_locked": re.compile(r"Migration table is already locked|MigrationLocked"),
    "migration_missing": re.compile(
        r"SQLITE_ERROR: no such (?:table|column)|no such (?:table|column): |table \S+ has no column named "
    ),
}

# Errors that may persist while some requests succeed, for example requests that do not use the database.
_LASTING = ("disk_full", "db_locked", "db_corrupt", "migration_missing")
_LASTING_SECONDS = 30.0

# The name of an error at the beginning of a line, or after a logger's prefix (time, level).
_ERROR = lazy(r"(?:^|[\s\[(])(?:[A-Z]\w*)?(?:Error|Exception|Rejection)\b(?: \[\w+\])?(?::|\s*$)")
_FRAME = lazy(r"^\s+at .+")
_CARET = lazy(r"^\s*\^+\s*$")
# For an uncaught error, Node prints the file and line number, then the source line and a caret, and then the message.
_HEADER = lazy(r"^(?:file://)?(/[^\n]*|node:\S+):(\d+)$")
_PLACE = lazy(r"(?:^|[\s(])(?:file://)?(/[^()\n]+?):(\d+)(?::\d+)?\)?$")
# An error in a JSON file has no header: its message begins with the path of the file.
_JSON_FILE = lazy(r"SyntaxError: (/[^\n:]+\.json): ")
# Stack frames that Node prints if it cannot compile a file. The code in that file had not run yet.
_COMPILING = lazy(r"^at .*\(?node:(?:internal/(?:modules|vm)|vm)\b")
_LONGEST_HEADER = 8
# When an exception terminates Node (17 and later), the last line that Node prints is its version.
_NODE_ENDED = lazy(r"^Node\.js v\d+\.")

_LAST_INSTANT = 7258118400.0  # the year 2200

_COLOUR = lazy(r"\x1b\[[\d;]*m")

_ISO = lazy(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?\s?(Z|[+-]\d\d:?\d\d)?")
_PINO = lazy(r'"time":\s*(\d{13})\b')
_APACHE = lazy(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_SUCCESS = lazy(
    r"""\b(?:GET|POST|PUT|PATCH|DELETE|HEAD)\b[\s"']+\S+(?:\s+HTTP/[\d.]+)?["']?\s+(?:-\s+)?[23]\d\d\b|"""
    r""""(?:status|statusCode|status_code)":\s*[23]\d\d\b"""
)


class Line(NamedTuple):
    """One line of a log.

    at: seconds since the epoch, from the line's own timestamp, or else from the last timestamp before the line, or else
    None. certain: True if `at` is certain. See _is_certain.
    """

    text: str
    at: Optional[float]
    # True if the line has its own timestamp.
    dated: bool
    # The latest time at which the line could have been logged: its own timestamp, or else the next timestamp in the
    # log.
    logged_by: Optional[float] = None
    # The original line. The secrets in this line are not masked, because a mask may hide a signature. The unmasked text
    # is never quoted.
    unmasked: str = ""
    certain: bool = False

    @property
    def searched(self) -> str:
        """The text to search for signatures."""
        return self.unmasked or self.text


def instant(text: str) -> Optional[float]:
    """Return the time of a log line in seconds since the epoch. A time without a zone is in the host's time zone.

    Returns None for a time before 1970 or after 2200.
    """
    try:
        found = _instant(text[:200])
    except (ValueError, OverflowError):  # for example month 13, or year 1 in a time zone east of UTC
        return None
    return found if found is not None and 0 <= found < _LAST_INSTANT else None


def _instant(head: str) -> Optional[float]:
    match = _ISO.search(head)
    if match:
        day, clock, fraction, zone = match.groups()
        zone = "" if zone is None else "+00:00" if zone == "Z" else f"{zone[:3]}:{zone[-2:]}"
        moment = datetime.datetime.fromisoformat(f"{day} {clock}{zone}")
        return moment.timestamp() + float(f"0.{fraction or 0}")
    match = _PINO.search(head)
    if match:
        return int(match.group(1)) / 1000
    match = _APACHE.search(head)
    if match and match.group(2) in _MONTHS:
        day, month, year, clock, zone = match.groups()
        written = f"{year}-{_MONTHS.index(month) + 1:02d}-{day} {clock}{zone}"
        return datetime.datetime.strptime(written, "%Y-%m-%d %H:%M:%S%z").timestamp()
    return None


def tail(
    path: str, *, limit: int, rights: safe_open.Rights = None, deadline: float = float("inf")
) -> Tuple[str, bool, os.stat_result]:
    """Return the last `limit` bytes of a file as text, True if the file has more bytes, and the status of the file.

    An incomplete first line is omitted, because it may contain a secret without the name that identifies the secret. A
    compressed file (.gz) is decompressed until the deadline (time.monotonic seconds). rights: the account that opens
    the file, see log_files.LogFile. Raises OSError.
    """
    with safe_open.acting(rights):
        descriptor = safe_open.open_file(path)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if path.endswith(log_files.COMPRESSED):
            data, cut = log_files.decompressed_tail(stream, limit=limit, deadline=deadline)
        else:
            cut = status.st_size > limit
            if cut:
                stream.seek(status.st_size - limit)
            data = stream.read(limit)
    if cut:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace"), cut, status


def split(text: str) -> List[str]:
    """Return the lines of a log.

    Only a line feed ends a line. str.splitlines() also splits at other characters, such as U+2028. A user could insert
    such a character into a user name to make the rest of the name look like a separate line.
    """
    lines = text.split("\n")
    return [line[:-1] if line.endswith("\r") else line for line in (lines if lines[-1] else lines[:-1])]


def dated(texts: Sequence[str], *, unmasked: Sequence[str] = ()) -> List[Line]:
    """Return lines with their times. A line without a timestamp, as in a stack trace, has the previous line's time.

    unmasked: the same lines before secrets were masked.
    """
    lines: List[Line] = []
    last: Optional[float] = None
    undated = 0  # number of lines without a timestamp at the end of `lines`
    before = unmasked if len(unmasked) == len(texts) else texts
    for coloured, whole in zip(texts, before):
        text = _COLOUR.sub("", coloured)
        own = instant(text)
        last = own if own is not None else last
        searched = _COLOUR.sub("", whole)[:_LONGEST_LINE]
        if own is not None:
            for number in range(len(lines) - undated, len(lines)):
                lines[number] = lines[number]._replace(logged_by=own)
        undated = 0 if own is not None else undated + 1
        line = Line(text=text[:_LONGEST_LINE], at=last, dated=own is not None, logged_by=own, unmasked=searched)
        lines.append(line._replace(certain=line.dated and _is_certain(text)))
    return lines


def _is_certain(text: str) -> bool:
    """Return True if a log line begins with a timestamp that has a time zone.

    A timestamp within the line may be part of the message. If a timestamp has no time zone, its zone may differ
    from the host's, because the service's environment can set the time zone.
    """
    match = _ISO.search(text[:200])
    return match is not None and match.start() == (1 if text.startswith("[") else 0) and match.group(4) is not None


def merged(logs: Sequence[Tuple[float, Sequence[Line]]]) -> List[Line]:
    """Return the lines from several logs in chronological order, without duplicates.

    logs: for each log, the time of its last write in seconds since the epoch, and its lines. A line without a timestamp
    stays after the line before it. The lines at the end of a log may have no timestamp, for example after Node crashed.
    These lines are given the time of the log's last write. Applications often write an error to two logs, so an entry
    that is also in an earlier log is omitted.
    """
    if len(logs) == 1:
        return list(logs[0][1])
    known: Set[Tuple[Optional[float], str]] = set()
    lines: List[Line] = []
    for written_at, log in logs:
        end = max((number for number, line in enumerate(log) if line.dated), default=-1)
        mine: Set[Tuple[Optional[float], str]] = set()
        repeated = False
        for number, line in enumerate(log):
            if line.dated:
                repeated = (line.at, line.text) in known
                mine.add((line.at, line.text))
            if not repeated:
                lines.append(line._replace(at=written_at, logged_by=written_at) if number > end else line)
        known |= mine
    return sorted(lines, key=lambda line: line.at or 0.0)


def _quoted(text: str, pattern: Pattern[str]) -> str:
    """Return the part of a line that matches a signature, with some surrounding words."""
    match = pattern.search(text)
    if match is None:  # the match is in the masked part
        return text.strip()[:_CONTEXT]
    begin, end = match.start() - _CONTEXT, match.end() + _CONTEXT
    begin = 0 if begin <= 0 else text.find(" ", begin, match.start()) + 1 or match.start()
    end = len(text) if end >= len(text) else max(text.rfind(" ", match.end(), end), match.end())
    return text[begin:end].strip()


def _place(lines: Sequence[Line], number: int, stack: Sequence[str]) -> Optional[Dict[str, Any]]:
    """Return the file and line of the error at lines[number], or None.

    Prefer a file from the application's own code.
    """
    named = _JSON_FILE.search(lines[number].text)
    if named:
        return {"file": named.group(1), "line": None}
    places = []
    for before in reversed(lines[max(0, number - _LONGEST_HEADER) : number]):
        header = _HEADER.match(before.text)
        if header:
            places.append(header)
            break
        if _FRAME.match(before.text) or _NODE_ENDED.match(before.text):
            break
    places += [found for found in map(_PLACE.search, stack) if found]
    own = [found for found in places if found.group(1).startswith("/")]
    found = next((found for found in own if "/node_modules/" not in found.group(1)), own[0] if own else None)
    return {"file": found.group(1), "line": int(found.group(2))} if found else None


def _alike(item: Dict[str, Any]) -> Tuple[str, ...]:
    """Return the key that identical errors share: the message without its time and numbers, and the stack."""
    error = _ERROR.search(item["message"])
    text = item["message"][error.start() :] if error else item["message"]
    return (re.sub(r"\d+", "0", text), *item["stack"])


def _exceptions(lines: Sequence[Line]) -> List[Dict[str, Any]]:
    """Return the exceptions that have a stack trace or terminated the process, in the order of the log."""
    found = []
    for number, line in enumerate(lines):
        if not _ERROR.search(line.text):
            continue
        stack = []
        for following in lines[number + 1 : number + 1 + _LONGEST_STACK]:
            if not _FRAME.match(following.text):
                break
            stack.append(following.text.strip())
        end = number + 1 + len(stack)
        # Node prints an error's properties after the stack, then an empty line, then its version.
        fatal = any(_NODE_ENDED.match(after.text) for after in lines[end : end + 25]) or any(
            _CARET.match(before.text) for before in lines[max(0, number - 3) : number]
        )
        if stack or fatal:
            last = len(lines) - end <= _AFTER_THE_LAST
            found.append(
                {
                    "line": number,
                    "message": line.text.strip(),
                    "stack": stack,
                    "fatal": fatal,
                    "last": last,
                    "at": line.at,
                    "logged_by": line.logged_by,
                    "place": _place(lines, number, stack),
                    "compiling": bool(stack and _COMPILING.match(stack[0])) or bool(_JSON_FILE.search(line.text)),
                }
            )
    return found


def analyse(lines: Sequence[Line], *, since: float, written_at: Optional[float] = None) -> Dict[str, Any]:
    """Return the findings in the lines of a log.

    since, written_at (time of the last write to the log): in seconds since the epoch.

    The results `exceptions` and `signatures` contain only events at or after `since`. Events near the end of the log
    may have no timestamp. Such events are included if the log was last written at or after `since`. Events before the
    last successful request (last_success_at) are ignored, because the service was working again afterwards. However,
    errors in _LASTING may persist, so they are included if they occurred at most _LASTING_SECONDS before that request.
    Each exception has place (file, line), compiling (True if Node was compiling the file, not running it) and times
    (number of occurrences). For each signature, at and last_at are the times of its first and last line. none_after is
    the latest time of its lines, or None if the time of one of these lines is not certain.
    """
    fresh = written_at is not None and written_at >= since
    success = next((number for number in reversed(range(len(lines))) if _SUCCESS.search(lines[number].searched)), -1)
    served = lines[success].at if success >= 0 else None

    def recent(number: int, at: Optional[float]) -> bool:
        if at is not None and at >= since:
            return True
        # An event without a timestamp is also recent if it is near the end of a recently written log. This does not
        # apply if a later line has a timestamp, or if a later request succeeded.
        return (
            fresh and len(lines) - number <= 80 and not any(line.dated for line in lines[number:]) and success < number
        )

    def still_counts(name: str, number: int, at: Optional[float]) -> bool:
        if number > success or (served is None and name in _LASTING):
            return True
        return name in _LASTING and at is not None and served is not None and at >= served - _LASTING_SECONDS

    exceptions = [item for item in _exceptions(lines) if recent(item["line"], item["at"]) and (item["line"] > success)]
    times = collections.Counter(map(_alike, exceptions))
    signatures: Dict[str, Dict[str, Any]] = {}
    for number, line in enumerate(lines):
        # Matching the patterns takes most of the time, so irrelevant lines are not searched.
        if not recent(number, line.at):
            continue
        for name, pattern in SIGNATURES.items():
            if still_counts(name, number, line.at) and pattern.search(line.searched):
                quoted = _quoted(line.text, pattern)
                known = signatures.setdefault(name, {"count": 0, "text": quoted, "at": _iso(line.at)})
                known["count"] += 1
                known["last_at"] = _iso(line.at)
                known["none_after"] = _later(known.get("none_after", ""), _iso(line.at) if line.certain else None)
    if success >= 0 and not lines[success].dated and success == len(lines) - 1:
        served = written_at
    return {
        # Report the exceptions that terminated a process, or that are at the end of the log. If there are no such
        # exceptions, report the exceptions that were only logged.
        "exceptions": [
            {
                **{name: item[name] for name in ("message", "stack", "fatal", "last", "place", "compiling")},
                "at": _iso(item["at"]),
                "logged_by": _iso(written_at if item["logged_by"] is None else item["logged_by"]),
                "times": times[_alike(item)],
            }
            for item in ([item for item in exceptions if item["fatal"] or item["last"]] or exceptions)[
                -_MOST_EXCEPTIONS:
            ]
        ],
        "signatures": signatures,
        "last_success_at": _iso(served),
    }


def _later(first: Optional[str], second: Optional[str]) -> Optional[str]:
    return max(first, second) if first is not None and second is not None else None


def _iso(at: Optional[float]) -> Optional[str]:
    return None if at is None else timestamps.iso(at)
