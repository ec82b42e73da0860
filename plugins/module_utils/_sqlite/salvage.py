# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the rows of a damaged database into a new file. The damaged files are only read.

First, an image is created: the bytes of the database, overwritten with the frames of its WAL. The writer of the
database controls the schema in the image. Both a salvage and the sqlite3 shell run statements from that schema. The
shell does so even when it only reads. Therefore, every read of an image runs in a child process as the database's
owner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sqlite3
import subprocess
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    child_process,
    salvage_image,
    salvage_tables,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, cannot, printable

_PATH = "/usr/local/bin:/usr/bin:/bin"
_ORPHANS = "itsm_nexus_lost_and_found"


@dataclasses.dataclass
class Salvaged:
    """The result of a salvage.

    path: the new database. orphans: the number of rows whose table is unknown. orphans_path: the database with these
    rows, or None. refused: the first statements that failed.
    """

    path: str
    tool: str
    rows: Dict[str, int] = dataclasses.field(default_factory=dict)
    orphans: int = 0
    orphans_path: Optional[str] = None
    refused: List[str] = dataclasses.field(default_factory=list)
    reading: str = salvage_image.COMMITTED


def as_owner(
    work: Callable[[child_process.Emit], None], *, owner: salvage_image.Owner, deadline: float
) -> List[child_process.Message]:
    """Run `work` in a child process that permanently runs as the owner. See child_process.in_child."""
    return child_process.in_child(work, deadline=deadline, read_only=False, rights=(owner.uid, owner.gid))


def count_what_is_there(image: str, *, owner: salvage_image.Owner, deadline: float) -> Tuple[Dict[str, int], List[str]]:
    """Return a damaged database's row counts by table, and the names of tables whose rows could not be counted.

    Rows are counted in each table and in each of its indexes (except partial indexes), and the largest count is used.
    If the schema cannot be read, both results are empty.
    """

    def work(emit: child_process.Emit) -> None:
        connection = salvage_tables.open_image(image)
        with sqlite_reader.interrupted_at(connection, deadline):
            for table in sqlite_schema.tables_of(connection):
                emit({"event": "table", "table": table, "rows": _most_rows(connection, table)})

    rows: Dict[str, int] = {}
    uncounted: List[str] = []
    for answer in as_owner(work, owner=owner, deadline=deadline):
        if answer["event"] == "table" and answer["rows"] is None:
            uncounted.append(answer["table"])
        elif answer["event"] == "table":
            rows[answer["table"]] = answer["rows"]
    return rows, uncounted


def _most_rows(connection: sqlite3.Connection, table: str) -> Optional[int]:
    """Count rows in a table and in each of its full indexes, because damage in one of them does not affect the others.

    Returns the largest row count, or None if the rows cannot be counted.
    """
    name = sqlite_schema.quoted(table)
    ways = ["NOT INDEXED"]
    with contextlib.suppress(sqlite3.Error):
        for index in connection.execute(f"PRAGMA index_list({name})"):
            if not index[4]:  # partial
                ways.append(f"INDEXED BY {sqlite_schema.quoted(str(index[1]))}")
    counts = []
    for way in ways:
        with contextlib.suppress(sqlite3.DatabaseError):
            counts.append(int(connection.execute(f"SELECT count(*) FROM {name} {way}").fetchone()[0]))  # noqa: S608
    return max(counts, default=None)


def salvage(
    image: str, folder: str, *, owner: salvage_image.Owner, shell: Optional[str], wal_mode: bool, deadline: float
) -> Salvaged:
    """Create a new database from the readable content of an image. The database's owner must own `folder`.

    If shell is given, the .recover command of this sqlite3 shell is tried first. If the shell restores no rows, this
    function copies the rows table by table, without the damaged parts. Raises SqliteError if no table could be saved.
    """
    reasons: List[Union[str, Message]] = []
    without_rows: Optional[Salvaged] = None
    for tool in ("shell", "dump") if shell else ("dump",):
        made = f"{folder}/{tool}.db"

        def work(emit: child_process.Emit, tool: str = tool, made: str = made) -> None:
            if tool == "shell":
                refused = _by_shell(str(shell), image, made, folder=folder)
            else:
                refused = salvage_tables.by_dump(image, made, deadline=deadline)
            emit({"event": "refused", "statements": refused})
            emit({"event": "finished", **_finish(made, wal_mode=wal_mode)})

        answers = as_owner(work, owner=owner, deadline=deadline)
        end = answers[-1]
        finished = next((answer for answer in answers if answer["event"] == "finished"), None)
        if finished is not None and finished["rows"] and len(end) == 1:
            salvaged = Salvaged(
                path=made,
                tool=tool,
                rows=finished["rows"],
                orphans=finished["orphans"],
                orphans_path=f"{made}.orphans" if finished["orphans"] else None,
                refused=next(answer["statements"] for answer in answers if answer["event"] == "refused"),
            )
            if sum(salvaged.rows.values()):
                return salvaged
            without_rows = without_rows or salvaged
            continue
        late = message("reason.sqlite.too_long" if "timeout" in end else "reason.sqlite.no_table_came_out")
        why = end.get("error") or end.get("signal") or late
        reasons += [why] if why not in reasons else []
    if without_rows is not None:
        return without_rows
    raise SqliteError(message("reason.sqlite.nothing_saved", path=printable(image), why=reasons))


def _by_shell(shell: str, image: str, made: str, *, folder: str) -> List[str]:
    """Run the statements that .recover prints, one by one. Return the first statements that failed. Raises OSError."""
    connection = salvage_tables.make_new(made)
    refused: List[str] = []
    # Ignore free pages, because they contain only deleted rows.
    argv = [shell, "-batch", image, f".recover --ignore-freelist --lost-and-found {_ORPHANS}"]
    # AnsibleModule.run_command would collect the whole output in memory before the first statement runs.
    with open(f"{folder}/shell.err", "wb") as errors, subprocess.Popen(  # pylint: disable=ansible-bad-function
        argv,
        cwd=folder,
        # In this home folder, the sqlite3 shell finds no configuration file.
        env={"HOME": folder, "PATH": _PATH, "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        preexec_fn=child_process.die_with_parent,  # noqa: PLW1509 - no threads run in this process
    ) as process:
        for statement in _statements(line.decode("utf-8", "replace") for line in process.stdout or ()):
            try:
                connection.execute(statement)
            except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
                refused.append(f"{statement[:100].strip()}: {error or type(error).__name__}")
    if connection.in_transaction:
        connection.execute("COMMIT")
    connection.close()
    return refused[: salvage_tables.SHOWN]


def _statements(lines: Iterator[str]) -> Iterator[str]:
    """Join lines into complete statements. Dot-commands of the sqlite3 shell are skipped."""
    statement = ""
    for line in lines:
        if not statement and (line.startswith(".") or not line.strip()):
            continue
        statement += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _finish(made: str, *, wal_mode: bool) -> Dict[str, Any]:
    """Move rows whose table is unknown into a separate file, and set the journal mode.

    Returns the row counts of the tables (rows) and the number of moved rows (orphans).
    """
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        orphans = 0
        for table in [name for name in sqlite_schema.tables_of(connection) if name.startswith(_ORPHANS)]:
            name = sqlite_schema.quoted(table)
            orphans += int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608
            connection.execute("ATTACH ? AS apart", (f"{made}.orphans",))
            connection.execute(f"CREATE TABLE apart.{name} AS SELECT * FROM main.{name}")  # noqa: S608
            connection.execute("DETACH apart")
            connection.execute(f"DROP TABLE main.{name}")
        rows = sqlite_schema.count_rows(connection)
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal_mode else 'DELETE'}")
    return {"rows": rows, "orphans": orphans}


def make_empty(path: str, *, owner: salvage_image.Owner, wal_mode: bool, deadline: float) -> None:
    """Create a database without tables, and set its owner. Raises SqliteError."""

    def work(_emit: child_process.Emit) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode={'WAL' if wal_mode else 'DELETE'}")
            connection.execute("VACUUM")

    end = as_owner(work, owner=owner, deadline=deadline)[-1]
    if len(end) > 1:
        raise cannot("make_empty", path=printable(path), why=str(end))


def find_shell(shell: str) -> Optional[str]:
    """Return the path of the sqlite3 shell, or None if there is no shell with the given name or path."""
    return shutil.which(shell, path=_PATH)
