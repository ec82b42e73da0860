# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Count the users and requests that an outage affected.

A database query counts the users. Requests are counted in the journal and the logs. This code only reads these sources,
and stops at a time limit.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages, request_log
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader

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
    places: request_log.Places,
    start: str,
    end: str,
    time_budget: float,
    login: str = "",
    user: str = "",
    busy_timeout: float = 1.0,
) -> Dict[str, Any]:
    """Return the numbers of affected users and requests between two times, or the reason why a number is unknown.

    path: the path of the database, or "". query: one statement that returns the number of users. Its parameters are
    :start and :end (the two times), and :login (the account that the login check uses). An empty query is skipped.
    places: the places where the service logs requests. user: the user that reads the database. See file_survey.look.
    Raises ImpactError.
    """
    begun, over = _instant("start", start), _instant("end", end)
    deadline = time.monotonic() + time_budget
    users, why_no_users = _users(
        path,
        query,
        {"start": start, "end": end, "login": login},
        deadline=deadline,
        user=user,
        busy_timeout=busy_timeout,
    )
    requests, why_no_requests = _requests(places, begun=begun, over=over, deadline=deadline)
    return {
        "users": users,
        "users_unknown": None if why_no_users is None else messages.english(why_no_users),
        "requests": requests.requests if requests else None,
        "requests_failed": requests.failed if requests else None,
        "requests_from": ", ".join(requests.sources) if requests else None,
        "requests_unknown": None if why_no_requests is None else messages.english(why_no_requests),
        "messages": messages.plain(users_unknown=why_no_users, requests_unknown=why_no_requests),
    }


def _instant(name: str, text: str) -> float:
    try:
        return timestamps.epoch(text)
    except ValueError:
        raise ImpactError(f"{name} is {text!r}: must be a time in UTC, such as 2026-03-02T01:02:03.456Z") from None


def _users(
    path: str, query: str, values: Dict[str, str], *, deadline: float, user: str, busy_timeout: float
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
                    row = connection.execute(query, values).fetchone()
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
    why = redact.Redactor().text(str(end.get("error") or end.get("signal") or "the process that reads the data exited"))
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
    places: request_log.Places, *, begun: float, over: float, deadline: float
) -> Tuple[Optional[request_log.Counted], Optional[Message]]:
    """Return the counted requests, or None and the reason why their number is unknown.

    If `places` is empty, the result is (None, None).
    """
    if not (places.log or places.patterns or places.unit):
        return None, None
    try:
        return request_log.count(places, begun=begun, over=over, deadline=deadline), None
    except request_log.RequestLogError as error:
        return None, error.told
