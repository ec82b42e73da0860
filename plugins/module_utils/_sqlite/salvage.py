# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Getting the rows of a damaged database into a new file; the damaged files are only read.

First an image is made: the bytes of the database with the frames of its WAL laid over them. Whoever wrote these bytes
wrote the schema too, and salvage means running statements made of it (the sqlite3 shell runs them even where it only
reads). So everything that reads an image runs in a child process that has no other rights than the database's owner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import struct
import subprocess
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import authorizer, child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable

COMMITTED, BEYOND, ALONE = "committed", "beyond", "alone"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_ORPHANS = "itsm_nexus_lost_and_found"
_FAR = (1 << 63) - 1
_RANGE = 1000  # rows copied in one statement
_SHOWN = 20  # refused statements that are told


@dataclasses.dataclass(frozen=True)
class Owner:
    """Whom the database belongs to."""

    uid: int
    gid: int


@dataclasses.dataclass
class Salvaged:
    """A new database C(path) with what could be saved; C(orphans) rows that no table claims are in C(orphans_path)."""

    path: str
    tool: str
    rows: Dict[str, int] = dataclasses.field(default_factory=dict)
    orphans: int = 0
    orphans_path: Optional[str] = None
    refused: List[str] = dataclasses.field(default_factory=list)
    reading: str = COMMITTED


def make_image(found: Look, target: str, *, owner: Owner, reading: str = COMMITTED) -> None:
    """Write the database as its WAL makes it to C(target), with its hot journal beside. Raises OSError.

    C(reading): what of the WAL counts. C(COMMITTED) is what SQLite reads; C(BEYOND) takes the frames behind a damaged
    one as well, where their own checksums are right; C(ALONE) leaves the WAL out.
    """
    with open(target, "xb") as image:
        if "database" in found.files:
            for chunk in sqlite_files.chunks_of(found.files["database"]):
                image.write(chunk)
            image.flush()
        if reading != ALONE and found.wal.header_valid:
            _lay_over(image.fileno(), found, beyond=reading == BEYOND)
        if os.geteuid() == 0:
            os.fchown(image.fileno(), owner.uid, owner.gid)
        os.fchmod(image.fileno(), 0o600)
    if found.hot_journal:
        with open(f"{target}-journal", "xb") as writer:
            if os.geteuid() == 0:
                os.fchown(writer.fileno(), owner.uid, owner.gid)
            for chunk in sqlite_files.chunks_of(found.files["journal"]):
                writer.write(chunk)


def _lay_over(image: int, found: Look, *, beyond: bool) -> None:
    wal = found.wal
    frames, pages = dict(wal.last_frame_of_page), wal.database_pages
    size = sqlite_wal.FRAME_HEADER_SIZE + wal.page_size
    descriptor = sqlite_files.open_found(found.files["wal"])
    try:
        if beyond:
            later, last = _frames_beyond(descriptor, wal)
            frames.update(later)
            pages = last or pages
        for page, frame in frames.items():
            offset = sqlite_wal.HEADER_SIZE + frame * size + sqlite_wal.FRAME_HEADER_SIZE
            os.pwrite(image, os.pread(descriptor, wal.page_size, offset), (page - 1) * wal.page_size)
    finally:
        os.close(descriptor)
    if pages:
        os.ftruncate(image, pages * wal.page_size)


def _frames_beyond(descriptor: int, wal: sqlite_wal.Wal) -> Tuple[Dict[int, int], int]:
    """Return the newest frame of each page behind the valid prefix, up to the last commit, and the pages after it.

    The checksums are a chain, but each frame holds the link to the next one: behind a damaged frame it can be taken up
    again. The damaged frame itself is the newest state of its page, all but some bytes, so it counts too.
    """
    size = sqlite_wal.FRAME_HEADER_SIZE + wal.page_size
    header = os.pread(descriptor, 4, 0)
    big_endian = bool(header[3] & 1)
    found: Dict[int, int] = {}
    pending: Dict[int, int] = {}
    pages = 0
    link: Optional[Tuple[int, int]] = None
    for index in range(wal.frames_valid, wal.frames_total):
        frame = os.pread(descriptor, size, sqlite_wal.HEADER_SIZE + index * size)
        page, commit, salt1, salt2, sum1, sum2 = struct.unpack_from(">6I", frame)
        if index > wal.frames_valid:
            if (salt1, salt2) != wal.salts or page == 0:
                link = None
                continue
            after = sqlite_wal.checksum(frame[:8], link or (0, 0), big_endian=big_endian)
            sound = sqlite_wal.checksum(frame[24:], after, big_endian=big_endian) == (sum1, sum2)
            link = (sum1, sum2)
            if not sound:
                continue
        elif page == 0 or page > wal.frames_total + max(wal.database_pages, 1 << 20):
            link = (sum1, sum2)
            continue
        link = (sum1, sum2)
        pending[page] = index
        if commit:
            found.update(pending)
            pending.clear()
            pages = commit
    return found, pages


def as_owner(
    work: Callable[[child_process.Emit], None], *, owner: Owner, deadline: float
) -> List[child_process.Message]:
    """Run work as sqlite_reader.in_child does, in a process that has taken on the owner's identity for good."""
    return child_process.in_child(work, deadline=deadline, read_only=False, rights=(owner.uid, owner.gid))


def _open_image(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(sqlite_reader.uri_of(path, "mode=rw"), uri=True, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    connection.execute("PRAGMA trusted_schema=OFF")
    # Without cell_size_check: it gives up a whole page for one damaged cell.
    connection.set_authorizer(authorizer.only_reads)
    return connection


def count_what_is_there(image: str, *, owner: Owner, deadline: float) -> Tuple[Dict[str, int], List[str]]:
    """Return the rows of each table of a damaged database, as many as table or an index of it tell, and the names of
    the tables that cannot be counted; of a database whose schema cannot be read, neither.
    """

    def work(emit: child_process.Emit) -> None:
        connection = _open_image(image)
        with sqlite_reader.interrupted_at(connection, deadline):
            for table in sqlite_schema.tables_of(connection):
                emit({"event": "table", "table": table, "rows": _most_rows(connection, table)})

    rows: Dict[str, int] = {}
    uncounted: List[str] = []
    for message in as_owner(work, owner=owner, deadline=deadline):
        if message["event"] == "table" and message["rows"] is None:
            uncounted.append(message["table"])
        elif message["event"] == "table":
            rows[message["table"]] = message["rows"]
    return rows, uncounted


def _most_rows(connection: sqlite3.Connection, table: str) -> Optional[int]:
    """Count through the table itself and through each whole index: damage in one of them leaves the others."""
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
    image: str, folder: str, *, owner: Owner, shell: Optional[str], wal_mode: bool, deadline: float
) -> Salvaged:
    """Make a new database in the empty C(folder), which is the owner's, of what C(image) still gives.

    By the C(.recover) of the sqlite3 shell where C(shell) names one that has it; where that brings no row back, table
    by table around the damage. Raises SqliteError where not even a table could be saved.
    """
    reasons = []
    without_rows: Optional[Salvaged] = None
    for tool in ("shell", "dump") if shell else ("dump",):
        made = f"{folder}/{tool}.db"

        def work(emit: child_process.Emit, tool: str = tool, made: str = made) -> None:
            if tool == "shell":
                refused = _by_shell(str(shell), image, made, folder=folder)
            else:
                refused = _by_dump(image, made, deadline=deadline)
            emit({"event": "refused", "statements": refused})
            emit({"event": "finished", **_finish(made, wal_mode=wal_mode)})

        messages = as_owner(work, owner=owner, deadline=deadline)
        end = messages[-1]
        finished = next((message for message in messages if message["event"] == "finished"), None)
        if finished is not None and finished["rows"] and len(end) == 1:
            salvaged = Salvaged(
                path=made,
                tool=tool,
                rows=finished["rows"],
                orphans=finished["orphans"],
                orphans_path=f"{made}.orphans" if finished["orphans"] else None,
                refused=next(message["statements"] for message in messages if message["event"] == "refused"),
            )
            if sum(salvaged.rows.values()):
                return salvaged
            without_rows = without_rows or salvaged
            continue
        reasons.append(
            end.get("error") or end.get("signal") or ("it took too long" if "timeout" in end else "no table came out")
        )
    if without_rows is not None:
        return without_rows
    raise SqliteError(f"nothing can be saved out of {printable(image)}: {'; '.join(dict.fromkeys(reasons))}")


def _make_new(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(sqlite_reader.uri_of(path, "mode=rwc"), uri=True, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")  # flushed as a whole at the end
    connection.execute("PRAGMA journal_mode=MEMORY")
    return connection


def _by_shell(shell: str, image: str, made: str, *, folder: str) -> List[str]:
    """Run what C(.recover) says, statement by statement; return those that were refused. Raises OSError."""
    connection = _make_new(made)
    refused: List[str] = []
    # Rows on pages that were given back are deleted ones.
    argv = [shell, "-batch", image, f".recover --ignore-freelist --lost-and-found {_ORPHANS}"]
    # AnsibleModule.run_command would keep all of it in memory before the first statement.
    with open(f"{folder}/shell.err", "wb") as errors, subprocess.Popen(  # pylint: disable=ansible-bad-function
        argv,
        cwd=folder,
        # Where it finds no settings of anybody.
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
    return refused[:_SHOWN]


def _statements(lines: Iterator[str]) -> Iterator[str]:
    """Join lines to whole statements; commands of the shell itself are left out."""
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


def _by_dump(image: str, made: str, *, deadline: float) -> List[str]:
    """Copy table by table inside SQLite, around what cannot be read; return what was refused. Raises sqlite3.Error."""
    with contextlib.closing(_open_image(image)) as damaged:
        schema = _readable_schema(damaged)
        settings = {
            name: damaged.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "encoding", "user_version", "application_id")
        }
    connection = _make_new(made)
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
        with contextlib.suppress(sqlite3.Error):  # there is none without AUTOINCREMENT
            connection.execute("DELETE FROM main.sqlite_sequence")
            connection.execute("INSERT INTO main.sqlite_sequence SELECT * FROM damaged.sqlite_sequence")
        for kind, _name, sql in schema:
            if kind != "table":
                run(sql)
    connection.close()
    return refused[:_SHOWN]


def _readable_schema(connection: sqlite3.Connection) -> List[Tuple[str, str, str]]:
    """Return (type, name, statement) of as many objects as can be read. Raises sqlite3.Error where none can."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return [(str(kind), str(name), str(sql)) for kind, name, sql in connection.execute(f"{query} ORDER BY rowid")]


def _copy_table(connection: sqlite3.Connection, name: str) -> List[str]:
    """Copy the rows of one table from C(damaged) to C(main); return what went wrong."""
    whole = f"INSERT OR IGNORE INTO main.{name} SELECT * FROM damaged.{name}"  # noqa: S608 - quoted as an identifier
    try:
        connection.execute(f"{whole} NOT INDEXED")
        return []
    except sqlite3.DatabaseError as error:
        reason = f"table {name}: {error}"
    try:
        ranges = _readable_ranges(connection, name)
    except sqlite3.OperationalError:  # WITHOUT ROWID: no numbers to go around the damage by
        for order in ("", " DESC"):
            _stream(connection, name, order)
        return [reason]
    pending = ranges
    while pending:
        first, last = pending.pop()
        try:
            connection.execute(f"{whole} NOT INDEXED WHERE rowid BETWEEN ? AND ?", (first, last))
        except sqlite3.OperationalError:
            raise  # interrupted, disk full
        except sqlite3.DatabaseError:
            if first < last:
                middle = (first + last) // 2
                pending += [(first, middle), (middle + 1, last)]
    return [reason]


def _readable_ranges(connection: sqlite3.Connection, name: str) -> List[Tuple[int, int]]:
    """Return ranges of row numbers that a walk over the table reaches, jumping over pages that cannot be read."""
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
    """Return the lowest row number above C(after) from which the table can be read again, if any."""
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
    """Copy row by row in the order of the primary key until something cannot be read."""
    keys = sorted((row[5], row[1]) for row in connection.execute(f"PRAGMA damaged.table_info({name})") if row[5])
    ordered = ", ".join(f"{sqlite_schema.quoted(str(key))}{order}" for _number, key in keys)
    rows = connection.execute(f"SELECT * FROM damaged.{name} ORDER BY {ordered}")  # noqa: S608
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT OR IGNORE INTO main.{name} VALUES ({marks})", row)  # noqa: S608


def _finish(made: str, *, wal_mode: bool) -> Dict[str, Any]:
    """Put rows that no table claims into a file of their own, count the others, leave the journal mode as it was."""
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


def make_empty(path: str, *, owner: Owner, wal_mode: bool, deadline: float) -> None:
    """Make a database without any table, which belongs to the owner. Raises SqliteError."""

    def work(_emit: child_process.Emit) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode={'WAL' if wal_mode else 'DELETE'}")
            connection.execute("VACUUM")

    end = as_owner(work, owner=owner, deadline=deadline)[-1]
    if len(end) > 1:
        raise SqliteError(f"Cannot make the empty database {printable(path)}: {end}")


def find_shell(shell: str) -> Optional[str]:
    """Return where the program C(shell) is, C(None) where there is none."""
    return shutil.which(shell, path=_PATH)
