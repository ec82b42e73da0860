# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the users and requests that an outage affected.

A database query counts the users, and the access log is searched for requests. The database and the log are only read,
with a time limit.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns, messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader

# Maximum number of bytes to read from the end of the access log.
_LOG_BYTES = 64 << 20

_STATUS = re.compile(
    r"""\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\b[\s"']+\S+(?:\s+HTTP/[\d.]+)?["']?\s+(?:-\s+)?([1-5]\d\d)\b|"""
    r""""(?:status|statusCode|status_code)":\s*([1-5]\d\d)\b"""
)


# SQLITE_READ, SQLITE_SELECT, SQLITE_FUNCTION, SQLITE_RECURSIVE (https://www.sqlite.org/c3ref/c_alter_table.html)
_READING = (20, 21, 31, 33)


def _only_reads(action: int, *_about: Any) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


class ImpactError(Exception):
    """A parameter is invalid."""


def measure(
    *,
    path: str,
    query: str,
    access_log: str,
    start: str,
    end: str,
    time_budget: float,
    user: str = "",
    busy_timeout: float = 1.0,
) -> Dict[str, Any]:
    """Return how many users and requests an outage affected between two times, or why a number is unknown.

    path: the path of the database, or "". query: one statement that returns the number of users; in this statement,
    :start and :end are the two times. access_log: the path of the log. An empty query or access_log is skipped. user:
    the user that reads the database. See file_survey.look. Raises ImpactError.
    """
    begun, over = _instant("start", start), _instant("end", end)
    deadline = time.monotonic() + time_budget
    users, why_no_users = _users(
        path, query, {"start": start, "end": end}, deadline=deadline, user=user, busy_timeout=busy_timeout
    )
    requests, why_no_requests = _requests(access_log, begun, over, deadline)
    return {
        "users": users,
        "users_unknown": None if why_no_users is None else messages.english(why_no_users),
        "requests": requests[0] if requests else None,
        "requests_failed": requests[1] if requests else None,
        "requests_from": access_log if requests else None,
        "requests_unknown": None if why_no_requests is None else messages.english(why_no_requests),
        "messages": messages.plain(users_unknown=why_no_users, requests_unknown=why_no_requests),
    }


def _instant(name: str, text: str) -> float:
    try:
        return timestamps.epoch(text)
    except ValueError:
        raise ImpactError(f"{name} is {text!r}: must be a time in UTC, such as 2026-03-02T01:02:03.456Z") from None


def _users(
    path: str, query: str, instants: Dict[str, str], *, deadline: float, user: str, busy_timeout: float
) -> Tuple[Optional[int], Optional[Message]]:
    if not query.strip() or not path:
        return None, message("reason.impact.no_path") if query.strip() else None
    try:
        found, holders = sqlite_holders.survey(path, user=user, deadline=deadline)
        if not found.openable:
            return None, message("reason.impact.not_asked", why=_unopenable(path, found.problems))
        with contextlib.ExitStack() as stack:
            way = stack.enter_context(
                sqlite_reader.way_in(found, holders, busy_timeout=busy_timeout, deadline=deadline)
            )

            def work(emit: child_process.Emit) -> None:
                connection = way.connect()
                connection.set_authorizer(_only_reads)
                with sqlite_reader.interrupted_at(connection, deadline):
                    row = connection.execute(query, instants).fetchone()
                value = row[0] if row else None
                emit({"event": "answer", "users": value if isinstance(value, int) else None})

            told = child_process.in_child(work, deadline=deadline, read_only=way.read_only, rights=way.rights)
    except sqlite_files.SqliteError as error:
        return None, error.told
    end = told[-1]
    if told[0]["event"] == "answer":
        users = told[0]["users"]
        return users, None if users is not None else message("reason.impact.no_number")
    if end.get("timeout") or str(end.get("error", "")).startswith("interrupt"):
        return None, message("reason.impact.query_late")
    # An error may quote the query, and a query may contain secrets.
    why = redact.Redactor().text(str(end.get("error") or end.get("signal") or "the reading process ended"))
    return None, message("reason.impact.query_failed", why=why[:200])


def _unopenable(path: str, problems: Sequence[sqlite_files.Problem]) -> Message:
    """Return the reason why a database cannot be opened."""
    if not problems:
        return message("reason.impact.not_opened")
    shown = sqlite_files.printable(path)
    if problems[0].code == "not_a_database":
        return message("reason.impact.not_a_database", path=shown)
    if problems[0].code == "empty":
        return message("reason.impact.empty", path=shown)
    return quoted(problems[0].message)


def _requests(
    path: str, begun: float, over: float, deadline: float
) -> Tuple[Optional[Tuple[int, int]], Optional[Message]]:
    """Return the number of requests logged between two times, and how many of them were answered with 5xx.

    If these numbers are unknown, returns None and the reason.
    """
    if not path:
        return None, None
    seen = requests = failed = 0
    try:
        with os.fdopen(safe_open.open_file(path), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > _LOG_BYTES:
                stream.seek(size - _LOG_BYTES)
                stream.readline()
            for number, raw in enumerate(stream):
                if number % 1000 == 0 and time.monotonic() > deadline:
                    return None, message("reason.impact.log_late", path=path)
                line = raw[:2000].decode("utf-8", "replace")
                match = _STATUS.search(line)
                at = log_patterns.instant(line) if match else None
                if match is None or at is None:
                    continue
                seen += 1
                if begun <= at <= over:
                    requests += 1
                    failed += (match.group(1) or match.group(2)).startswith("5")
    except OSError as error:
        return None, message("reason.impact.log_unread", path=path, why=str(error.strerror))
    return ((requests, failed), None) if seen else (None, message("reason.impact.log_empty", path=path))
