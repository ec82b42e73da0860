# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table names and row counts of a database."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Union

# Columns of the table in which knex records migrations. The name of this table is configurable
# (migrations.tableName).
MIGRATIONS_COLUMNS = {"id", "name", "batch", "migration_time"}
# Columns of the table that knex uses as its lock.
_LOCK_COLUMNS = {"index", "is_locked"}
# Range of plausible migration times in milliseconds since the epoch: the years 2001 to 2286.
_FIRST_TIME, _LAST_TIME = 10**12, 10**13 - 1


def quoted(name: str) -> str:
    """Return a table's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def tables_of(connection: sqlite3.Connection) -> List[str]:
    """Return the ordinary tables of the database, without SQLite's own tables. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    )
    return [str(row[0]) for row in rows]


def count_rows(
    connection: sqlite3.Connection, *, tables: Union[bool, Sequence[str]] = True
) -> Dict[str, Optional[int]]:
    """Return the exact row counts of all tables or of the given tables. The row count of a missing table is None.

    Raises sqlite3.Error.
    """
    present = tables_of(connection)
    wanted = present if isinstance(tables, bool) else list(tables)
    counts: Dict[str, Optional[int]] = {}
    for table in wanted:
        if table in present:
            # The name was read from the schema and is quoted as an identifier.
            counts[table] = int(connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608
        else:
            counts[table] = None
    return counts


def columns_of(connection: sqlite3.Connection, table: str) -> Set[str]:
    """Return the column names of a table. Raises sqlite3.Error."""
    return {str(row[1]) for row in connection.execute(f"PRAGMA table_info({quoted(table)})")}


def seeded_rows(connection: sqlite3.Connection, *, tables: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
    """Return the rows of tables that were empty before the service started, and the statement that removes these rows.

    tables: the current row counts. knex's own tables are omitted. The statement selects the rows by their current row
    IDs, so that it does not remove rows that are added later. The statement is None for a table without row IDs. Raises
    sqlite3.Error.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for table, rows in tables.items():
        if columns_of(connection, table) in (MIGRATIONS_COLUMNS, _LOCK_COLUMNS):
            continue
        statement = None
        name = quoted(table)
        with contextlib.suppress(sqlite3.OperationalError):
            # The name was read from the schema and is quoted as an identifier.
            first, last = connection.execute(f"SELECT min(rowid), max(rowid) FROM {name}").fetchone()  # noqa: S608
            if isinstance(first, int) and isinstance(last, int):
                statement = f"DELETE FROM {name} WHERE rowid BETWEEN {first} AND {last};"  # noqa: S608
        found[table] = {"rows": rows, "statement": statement}
    return found


def first_migration(connection: sqlite3.Connection) -> Optional[float]:
    """Return the time at which knex applied the first migration, in seconds since the epoch, or None if it is unknown.

    This time is the same in all copies of a database, such as a restored backup. A new database that the service
    creates has a later time. knex records a JavaScript Date, which the SQLite drivers store as milliseconds. Raises
    sqlite3.Error.
    """
    tables = [name for name in tables_of(connection) if columns_of(connection, name) == MIGRATIONS_COLUMNS]
    if len(tables) != 1:
        return None
    # The name was read from the schema and is quoted as an identifier.
    first, strange = connection.execute(
        "SELECT min(migration_time), sum(typeof(migration_time) NOT IN ('integer', 'real') "  # noqa: S608
        f"OR migration_time NOT BETWEEN ? AND ?) FROM {quoted(tables[0])}",
        (_FIRST_TIME, _LAST_TIME),
    ).fetchone()
    return float(first) / 1000 if strange == 0 else None
