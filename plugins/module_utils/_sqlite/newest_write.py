# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out when the rows of a database were last written. Columns such as updated_at contain these times."""

from __future__ import annotations

import functools
import re
import sqlite3
import time
from typing import Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

# Columns in which the application stores the time when it writes a row. A column such as due_at is not used, because
# the application may set it to any time.
_WRITTEN = re.compile(r"(?i)(?:created|updated|modified|inserted)_?(?:at|on|time|date)?\Z|timestamp\Z")
_MOST_COLUMNS = 200
_BUSY_SECONDS = 5.0
_ATTEMPTS = 3
# Seconds since the epoch. A number above _MILLISECONDS is a time in milliseconds (a JavaScript Date).
_MILLISECONDS = 100_000_000_000
_SECONDS_OF = (
    "CASE typeof({column}) WHEN 'text' THEN CAST(strftime('%s', {column}) AS INTEGER) "
    f"WHEN 'null' THEN NULL WHEN 'blob' THEN NULL ELSE CASE WHEN {{column}} > {_MILLISECONDS} "
    "THEN {column} / 1000 ELSE {column} END END"
)


def newest_writes(path: str, *, user: Optional[str], until: float, deadline: float) -> Optional[Dict[str, float]]:
    """Return the newest time in each column that shows when rows were written. Ignore times after `until`.

    The keys are "table.column". The times and `until` are in seconds since the epoch. A text value without a time zone
    is in UTC, like SQLite's CURRENT_TIMESTAMP. user: the user that reads the database. deadline: a time in
    time.monotonic seconds. Returns None if the database cannot be read in time.
    """
    # The service may start or stop during an attempt.
    for _attempt in range(_ATTEMPTS):
        try:
            found, holders = sqlite_holders.survey(path, user=user, deadline=deadline)
            if not found.openable:
                return None
            with sqlite_reader.way_in(found, holders, busy_timeout=_BUSY_SECONDS, deadline=deadline) as way:
                answers = way.read(functools.partial(_emit, until=until, deadline=deadline), deadline=deadline)
                steady = way.steady
        except sqlite_files.SqliteError:
            return None
        if time.monotonic() > deadline:
            return None
        if steady and set(answers[-1]) == {"event"}:
            return {str(each["column"]): float(each["at"]) for each in answers if each["event"] == "newest"}
    return None


def _emit(connection: sqlite3.Connection, emit: child_process.Emit, *, until: float, deadline: float) -> None:
    """Emit the newest time in each column. Runs in the child process."""
    with sqlite_reader.interrupted_at(connection, deadline):
        connection.execute("BEGIN")
        left = _MOST_COLUMNS
        for table in sqlite_schema.tables_of(connection):
            for column in sorted(filter(_WRITTEN.match, sqlite_schema.columns_of(connection, table)))[:left]:
                left -= 1
                seconds = _SECONDS_OF.format(column=sqlite_schema.quoted(column))
                # The names were read from the schema and are quoted as identifiers.
                newest = connection.execute(
                    f"SELECT max(at) FROM (SELECT {seconds} AS at FROM {sqlite_schema.quoted(table)}) "  # noqa: S608
                    "WHERE at <= ?",
                    (until,),
                ).fetchone()[0]
                if isinstance(newest, (int, float)):
                    emit({"event": "newest", "column": f"{table}.{column}", "at": newest})
