# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the content of knex's own tables in a database, without changing or creating any file."""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import time
from typing import Any, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    labelled,
    message,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema

READ_SECONDS = 30.0
_BUSY_SECONDS = 5.0
_READ_ATTEMPTS = 5
# Limits per knex table: rows, bytes in a value, characters in the CREATE statement. Real tables are smaller.
_MOST_ROWS, _LONGEST_VALUE, _LONGEST_STATEMENT = 20000, 4096, 65536
# Limits for the schema. The first value is the number of objects. The second value is the number of bytes of an
# object's statement that the digest includes. The third value is the length of a digest in characters.
_MOST_OBJECTS, _LONGEST_COUNTED, _DIGEST = 5000, 65536, 16
_SHOWN = 80  # maximum number of characters of a table's name in a message

# The names of knex's tables are configurable (migrations.tableName), but the lock table always has these columns.
_LOCK_COLUMNS = {"index", "is_locked"}


class KnexError(ServiceError):
    """The migrations could not be read or applied.

    locked: True if the migration lock caused the error. applied: the migrations that were applied before the error.
    """

    def __init__(self, told: Union[str, Message], *, locked: bool = False, applied: Sequence[str] = ()) -> None:
        """Set the message and the attributes of the class."""
        super().__init__(told)
        self.locked = locked
        self.applied = list(applied)


class Tables(NamedTuple):
    """The content of knex's own tables.

    tables: name, CREATE statement and rows of each table. batch: the number of the last batch, or None. names: the
    applied migrations. several: True if more than one table has the columns of knex's migrations table. In this case,
    only knex's configuration shows which table is in use. schema: for each object in the schema, such as a table or an
    index, its type, its name and the digest of its statement.
    """

    tables: Sequence[Tuple[str, str, Sequence[Sequence[Any]]]] = ()
    batch: Optional[int] = None
    locked: bool = False
    names: Sequence[str] = ()
    several: bool = False
    schema: Sequence[Tuple[str, str, str]] = ()


def _refuse_too_large(connection: sqlite3.Connection, table: str, columns: Set[str]) -> None:
    """Raise SqliteError if a table is too large to be one of knex's own tables.

    SQLite counts the rows, so no rows are loaded into Python.
    """

    def number(sql: str, *values: Any) -> int:
        return int(connection.execute(sql, values).fetchone()[0])

    name = sqlite_schema.quoted(table)
    what = f"table {table[:_SHOWN]}"
    if number("SELECT max(length(sql)) FROM sqlite_master WHERE name = ?", table) > _LONGEST_STATEMENT:
        raise sqlite_files.SqliteError(f"the statement of {what} has more than {_LONGEST_STATEMENT} characters")
    # The names are quoted as SQL identifiers.
    if number(f"SELECT count(*) FROM (SELECT 1 FROM {name} LIMIT ?)", _MOST_ROWS + 1) > _MOST_ROWS:  # noqa: S608
        raise sqlite_files.SqliteError(f"{what} has more than {_MOST_ROWS} rows")
    for column in sorted(columns):
        size = f"length(CAST({sqlite_schema.quoted(column)} AS BLOB))"
        if number(f"SELECT coalesce(max({size}), 0) FROM {name}") > _LONGEST_VALUE:  # noqa: S608
            raise sqlite_files.SqliteError(f"{what} has a value of more than {_LONGEST_VALUE} bytes in column {column}")


def _emit_tables(connection: sqlite3.Connection, emit: child_process.Emit, *, deadline: float) -> None:
    """Emit knex's own tables from one snapshot. Stop at the deadline (time.monotonic seconds).

    Runs in the child process.
    """
    with sqlite_reader.interrupted_at(connection, deadline):
        _emit_snapshot(connection, emit)


def _emit_snapshot(connection: sqlite3.Connection, emit: child_process.Emit) -> None:
    connection.execute("BEGIN")
    objects = connection.execute(
        "SELECT type, name, substr(CAST(sql AS BLOB), 1, ?) FROM sqlite_master "
        "WHERE sql IS NOT NULL ORDER BY type, name LIMIT ?",
        (_LONGEST_COUNTED, _MOST_OBJECTS),
    )
    emit({"event": "schema", "objects": [(kind, name, _digest(sql)) for kind, name, sql in objects]})
    for table in sqlite_schema.tables_of(connection):
        columns = sqlite_schema.columns_of(connection, table)
        if columns not in (sqlite_schema.MIGRATIONS_COLUMNS, _LOCK_COLUMNS):
            continue
        _refuse_too_large(connection, table, columns)
        name = sqlite_schema.quoted(table)
        sql = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()[0]
        rows = connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608 - quoted as an identifier
        emit({"event": "table", "name": table, "sql": sql, "rows": rows, "lock": columns == _LOCK_COLUMNS})
        if columns == _LOCK_COLUMNS:
            taken = connection.execute(f"SELECT count(*) FROM {name} WHERE is_locked = 1").fetchone()[0]  # noqa: S608
            emit({"event": "lock", "taken": taken})
        else:
            applied = connection.execute(f"SELECT name, batch FROM {name} ORDER BY id").fetchall()  # noqa: S608
            batches = [batch for _name, batch in applied if batch is not None]
            emit({"event": "applied", "names": [row[0] for row in applied], "batch": max(batches, default=None)})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST]


def look_at_files(db_path: str, *, user: Optional[str] = None) -> Tuple[sqlite_files.Look, sqlite_holders.Holders]:
    try:
        found, holders = sqlite_holders.survey(db_path, user=user)
    except sqlite_files.SqliteError as error:
        raise KnexError(labelled("db_path", error.told)) from error
    if not found.openable:
        why = found.problems[0].told if found.problems else message("reason.knex.not_opened", path=db_path)
        raise KnexError(message("reason.knex.no_database", why=why))
    return found, holders


def read_tables(db_path: str, *, user: Optional[str] = None, timeout: float = READ_SECONDS) -> Tables:
    """Return the content of knex's tables in the database db_path, without changing or creating any file.

    timeout: seconds. Raises KnexError if the database does not exist or cannot be read in time.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(_READ_ATTEMPTS):
        found, holders = look_at_files(db_path, user=user)
        try:
            with sqlite_reader.way_in(found, holders, busy_timeout=_BUSY_SECONDS, deadline=deadline) as way:
                answers = way.read(functools.partial(_emit_tables, deadline=deadline), deadline=deadline)
                steady = way.steady
        except sqlite_files.SqliteError as error:
            raise KnexError(message("reason.knex.not_read", path=db_path, why=error.told)) from error
        end = answers[-1]
        if steady and set(end) == {"event"}:
            break
        time.sleep(min(0.1 * (attempt + 1), max(deadline - time.monotonic(), 0)))
    else:
        said = end.get("error") or end.get("signal")
        late = message("reason.knex.late" if "timeout" in end else "reason.knex.changing")
        raise KnexError(message("reason.knex.not_read", path=db_path, why=quoted(said) if said else late))
    applied = [item for item in answers if item["event"] == "applied"]
    return Tables(
        tables=[(item["name"], item["sql"], item["rows"]) for item in answers if item["event"] == "table"],
        batch=max((item["batch"] for item in applied if item["batch"] is not None), default=None),
        locked=any(item["taken"] for item in answers if item["event"] == "lock"),
        names=[str(name) for item in applied for name in item["names"]],
        several=len(applied) > 1,
        schema=[tuple(each) for item in answers if item["event"] == "schema" for each in item["objects"]],
    )
