# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of a database: their names and their numbers of rows."""

from __future__ import annotations

import sqlite3
from typing import Dict, List, Optional, Sequence, Union


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
    """Return the exact number of rows of all tables or of the named tables. The number is None if a name is no table.

    Raises sqlite3.Error.
    """
    present = tables_of(connection)
    wanted = present if isinstance(tables, bool) else list(tables)
    counts: Dict[str, Optional[int]] = {}
    for table in wanted:
        if table in present:
            # The name comes from the schema and is quoted as an identifier.
            counts[table] = int(connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])  # noqa: S608
        else:
            counts[table] = None
    return counts
