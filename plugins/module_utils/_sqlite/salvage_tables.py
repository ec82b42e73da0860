# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy tables out of a damaged database, except for rows that cannot be read."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import authorizer
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

_FAR = (1 << 63) - 1
_RANGE = 1000  # maximum number of rows that one statement copies
SHOWN = 20  # maximum number of failed statements in the result


def open_image(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(sqlite_reader.uri_of(path, "mode=rw"), uri=True, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute("PRAGMA trusted_schema=OFF")
    # cell_size_check is not used, because it would make SQLite reject a whole page for one damaged cell.
    connection.set_authorizer(authorizer.only_reads)
    return connection


def make_new(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(sqlite_reader.uri_of(path, "mode=rwc"), uri=True, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")  # the complete file is flushed to disk later
    connection.execute("PRAGMA journal_mode=MEMORY")
    return connection


def by_dump(image: str, made: str, *, deadline: float) -> List[str]:
    """Copy each table with SQL statements, except for unreadable rows. Raises sqlite3.Error.

    Returns the first statements that failed, each with its error.
    """
    with contextlib.closing(open_image(image)) as damaged:
        schema = _readable_schema(damaged)
        settings = {
            name: damaged.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "encoding", "user_version", "application_id")
        }
    connection = make_new(made)
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name}='{value}'")
    connection.execute("ATTACH ? AS damaged", (sqlite_reader.uri_of(image, "mode=ro&immutable=1"),))
    refused: List[str] = []

    def run(sql: str) -> bool:
        try:
            connection.execute(sql)
        except (sqlite3.Error, sqlite3.Warning) as error:
            refused.append(f"{sql[:100].strip()}: {error}")
            return False
        return True

    with sqlite_reader.interrupted_at(connection, deadline):
        for kind, name, sql in schema:
            if kind == "table" and run(sql) and not sql.upper().startswith("CREATE VIRTUAL"):
                refused += _copy_table(connection, sqlite_schema.quoted(name))
        with contextlib.suppress(sqlite3.Error):  # sqlite_sequence exists only if a table uses AUTOINCREMENT
            connection.execute("DELETE FROM main.sqlite_sequence")
            connection.execute("INSERT INTO main.sqlite_sequence SELECT * FROM damaged.sqlite_sequence")
        for kind, _name, sql in schema:
            if kind != "table":
                run(sql)
    connection.close()
    return refused[:SHOWN]


def _readable_schema(connection: sqlite3.Connection) -> List[Tuple[str, str, str]]:
    """Return (type, name, statement) for each object in the schema.

    Raises sqlite3.Error if the schema is unreadable.
    """
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return [(str(kind), str(name), str(sql)) for kind, name, sql in connection.execute(f"{query} ORDER BY rowid")]


def _copy_table(connection: sqlite3.Connection, name: str) -> List[str]:
    """Copy the rows of one table from the schema `damaged` to the schema `main`. Return the errors."""
    whole = f"INSERT OR IGNORE INTO main.{name} SELECT * FROM damaged.{name}"  # noqa: S608 - quoted as an identifier
    try:
        connection.execute(f"{whole} NOT INDEXED")
        return []
    except sqlite3.DatabaseError as error:
        reason = f"table {name}: {error}"
    try:
        ranges = _readable_ranges(connection, name)
    except sqlite3.OperationalError:  # a table WITHOUT ROWID has no row numbers, which are needed to skip the damage
        for order in ("", " DESC"):
            _stream(connection, name, order)
        return [reason]
    pending = ranges
    while pending:
        first, last = pending.pop()
        try:
            connection.execute(f"{whole} NOT INDEXED WHERE rowid BETWEEN ? AND ?", (first, last))
        except sqlite3.OperationalError:
            raise  # not caused by damage: for example, the deadline has passed, or the disk is full
        except sqlite3.DatabaseError:
            if first < last:
                middle = (first + last) // 2
                pending += [(first, middle), (middle + 1, last)]
    return [reason]


def _readable_ranges(connection: sqlite3.Connection, name: str) -> List[Tuple[int, int]]:
    """Return the readable ranges of row numbers. Unreadable pages are skipped."""
    ranges: List[Tuple[int, int]] = []
    start: Optional[int] = -_FAR - 1
    while start is not None:
        first: Optional[int] = None
        last: Optional[int] = None
        begun, count = start, 0
        query = f"SELECT rowid FROM damaged.{name} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"  # noqa: S608
        try:
            for (number,) in connection.execute(query, (begun,)):
                first = number if first is None else first
                last, count = number, count + 1
                if count == _RANGE:
                    ranges.append((first, last))
                    first, count = None, 0
            start = None
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            start = _next_readable(connection, name, after=begun if last is None else last)
        if first is not None and last is not None:
            ranges.append((first, last))
    return ranges


def _next_readable(connection: sqlite3.Connection, name: str, *, after: int) -> Optional[int]:
    """Return a row number above `after` from which the table can be read again, or None if there is none."""
    query = f"SELECT rowid FROM damaged.{name} NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1"  # noqa: S608

    def readable(number: int) -> bool:
        try:
            connection.execute(query, (number,)).fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        return True

    below, step = after, 1
    while not readable(min(after + step, _FAR)):
        below = after + step
        if below >= _FAR:
            return None
        step *= 2
    above = min(after + step, _FAR)
    while above - below > 1:
        middle = (below + above) // 2
        if readable(middle):
            above = middle
        else:
            below = middle
    return above


def _stream(connection: sqlite3.Connection, name: str, order: str) -> None:
    """Copy row by row in the order of the primary key until a row cannot be read."""
    keys = sorted((row[5], row[1]) for row in connection.execute(f"PRAGMA damaged.table_info({name})") if row[5])
    ordered = ", ".join(f"{sqlite_schema.quoted(str(key))}{order}" for _number, key in keys)
    rows = connection.execute(f"SELECT * FROM damaged.{name} ORDER BY {ordered}")  # noqa: S608
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT OR IGNORE INTO main.{name} VALUES ({marks})", row)  # noqa: S608
