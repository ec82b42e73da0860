# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run SQLite's checks in child processes, and return the problems that they find."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, Problem, printable

_LONGEST_LINE = 1000  # maximum number of characters in a line (a table name can have any length)
_SHOWN = 10  # maximum number of lines that a message quotes from a check's output
_PROCESSES = 4  # maximum number of processes per check
LARGE = 32 << 20  # from this size in bytes, several processes check a database faster than one process
_MAP = 1 << 40  # SQLite reduces this value to its compile-time maximum
# An error message that contains one of these texts does not indicate damage. Such an error has another cause. For
# example, SQLite lacks a module, function or collation of the application, this code forbids a function, or a value
# needs too much memory.
_NO_SIGN_OF_DAMAGE = (
    "no such ",
    "unknown function",
    "unsafe use",
    "not authorized",
    "authorization denied",
    "too big",
    "out of memory",
)
SKIPPED = "skipped: time budget"


class Examination:
    """The results from the child process that reads the database.

    steady: True if the files did not change during the read. seeded: for each table, the number of seeded rows, and the
    statement that removes these rows. first_migration: the time of the first migration, in seconds since the epoch.
    """

    __slots__ = ("basics", "checks", "first_migration", "problems", "row_counts", "seeded", "steady")

    def __init__(self, *, steady: bool = True) -> None:
        self.basics: Dict[str, Any] = {}
        self.checks: Dict[str, str] = {}
        self.row_counts: Dict[str, int] = {}
        self.seeded: Dict[str, Dict[str, Any]] = {}
        self.first_migration: Optional[float] = None
        self.problems: List[Problem] = []
        self.steady = steady


def examine(
    done: Examination,
    way: sqlite_reader.WayIn,
    *,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
    holders: sqlite_holders.Holders,
    seeded_since: Mapping[str, int],
) -> None:
    """Read the database in a child process and record the results in `done`.

    seeded_since: the row counts before the service started, or empty to omit the seeded rows.
    """
    shown = printable(way.found.path)

    def work(connection: sqlite3.Connection, emit: child_process.Emit) -> None:
        _answer(connection, emit, checks=checks, row_counts=row_counts, deadline=deadline, seeded_since=seeded_since)

    answers = way.read(work, deadline=deadline)
    for answer in answers:
        event = answer["event"]
        if event == "basics":
            done.basics = answer["basics"]
        elif event == "first_migration":
            done.first_migration = answer["at"]
        elif event == "check":
            _take_check(done, answer, shown=shown)
        elif event == "seeded":
            done.seeded = answer["tables"]
        elif event == "counts":
            _take_counts(done, answer["counts"], shown=shown)
    _take_end(done, answers[-1], found=way.found, holders=holders)
    if len(answers[-1]) > 1 or not done.basics:
        return
    if not done.basics["tables"]:
        done.problems.append(Problem("no_tables", message("reason.sqlite.no_tables", path=shown), loss=True))
    if "integrity" in checks:
        quick = done.checks.get("quick", "")
        if quick == "ok":
            _check_tables(done, way, deadline=deadline, holders=holders)
        else:
            done.checks["integrity"] = quick  # the quick check is part of the integrity check
    if "quick" not in checks and done.checks.get("integrity") != SKIPPED:
        done.checks.pop("quick", None)


def _take_counts(done: Examination, counts: Mapping[str, Optional[int]], *, shown: str) -> None:
    done.row_counts = {name: count for name, count in counts.items() if count is not None}
    missing = [name for name, count in counts.items() if count is None]
    done.checks["row_counts"] = "ok"
    if missing:
        told = message("reason.sqlite.no_such_table", path=shown, tables=missing)
        done.problems.append(Problem("no_such_table", told, loss=True))


def _take_end(done: Examination, end: child_process.Message, *, found: Look, holders: sqlite_holders.Holders) -> None:
    """Record a problem if the reader process failed."""
    shown = printable(found.path)
    if "signal" in end:
        told = message("reason.sqlite.interrupted", path=shown, signal=str(end["signal"]))
        done.problems.append(Problem("unreadable", told))
    elif "error" in end and not end["error"].startswith("interrupt"):
        if sqlite_reader.vanished(end["error"], found=found):
            done.steady = False
        else:
            done.problems.append(problem_of_error(end["error"], found=found, holders=holders))


def _check_tables(
    done: Examination, way: sqlite_reader.WayIn, *, deadline: float, holders: sqlite_holders.Holders
) -> None:
    """Run integrity_check on each table, because quick_check verifies neither indexes nor UNIQUE constraints.

    Up to _PROCESSES processes check a large database in parallel. A single process would need as much time as one
    integrity_check of the whole database. Several threads in one process would be slower.
    """
    counts = done.row_counts
    # The largest tables come first, so that all processes end at about the same time.
    names: List[str] = sorted(done.basics["all_tables"], key=lambda name: -counts.get(name, 0))
    # SQLite before 3.33 cannot check a single table. The numbers of 10000 or more tables may not fit into the pipe.
    single = sqlite3.sqlite_version_info >= (3, 33) and len(names) < 10000
    tables: Sequence[Optional[str]] = names if single else [None]
    large = way.found.files["database"].size >= LARGE
    processes = min(len(os.sched_getaffinity(0)), _PROCESSES, len(tables)) if large else 1
    turn, turns = os.pipe()  # from this pipe, each process reads the number of the table to check next
    os.write(turns, b"".join(struct.pack("=I", number) for number in range(len(tables))))
    os.close(turns)

    def work(emit: child_process.Emit) -> None:
        connection = way.connect(check_cells=False)
        with sqlite_reader.interrupted_at(connection, deadline):
            connection.execute(f"PRAGMA mmap_size={_MAP}")
            while True:
                number = os.read(turn, 4)
                if not number:
                    return
                emit(run_check(connection, "integrity", table=tables[struct.unpack("=I", number)[0]]))

    try:
        answers = child_process.in_children(
            [work] * processes, deadline=deadline, read_only=way.read_only, rights=way.rights
        )
    finally:
        os.close(turn)
    whole: child_process.Message = {"event": "check", "name": "integrity", "lines": []}
    for said in answers:
        for answer in said:
            if answer["event"] == "check" and "no such module" not in answer.get("error", ""):
                whole["lines"] += answer["lines"]
                if "error" in answer:
                    whole["error"] = answer["error"]
        if said[-1].get("timeout"):
            whole["error"] = "interrupted"
        _take_end(done, said[-1], found=way.found, holders=holders)
    if all(len(said[-1]) == 1 or "timeout" in said[-1] for said in answers):
        _take_check(done, whole, shown=printable(way.found.path))


def _answer(
    connection: sqlite3.Connection,
    emit: child_process.Emit,
    *,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
    seeded_since: Mapping[str, int],
) -> None:
    """Run all checks on one snapshot, fast checks first, and emit the results. Runs in the child process."""
    with sqlite_reader.interrupted_at(connection, deadline):
        connection.execute("BEGIN")
        basics = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count", "user_version", "journal_mode")
        }
        basics["tables"] = len(sqlite_schema.tables_of(connection))
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        basics["all_tables"] = [row[0] for row in names]
        emit({"event": "basics", "basics": basics})
        connection.execute(f"PRAGMA mmap_size={_MAP}")
        for name in ("quick", "foreign_keys"):
            # The full check includes the quick check. Run the quick check first anyway. If there is no time for the
            # full check, the result of the quick check is used.
            if name in checks or (name == "quick" and "integrity" in checks):
                emit(run_check(connection, name))
        if row_counts:
            try:
                counts = sqlite_schema.count_rows(connection, tables=row_counts)
                emit({"event": "counts", "counts": counts})
                tables = seeded_tables(counts, since=seeded_since)
                emit({"event": "seeded", "tables": sqlite_schema.seeded_rows(connection, tables=tables)})
            except sqlite3.Error as error:
                emit({"event": "check", "name": "row_counts", "lines": [], "error": str(error)})
            with contextlib.suppress(sqlite3.Error):
                emit({"event": "first_migration", "at": sqlite_schema.first_migration(connection)})


def seeded_tables(counts: Mapping[str, Optional[int]], *, since: Mapping[str, int]) -> Dict[str, int]:
    """Return the row counts of tables that have rows now and were empty or missing before.

    since: the earlier row counts. If `since` is empty, the rows were not counted earlier, so no tables are returned.
    The earlier counts are from a result in which sanitize.text may have changed the names of tables.
    """
    return {
        name: rows
        for name, rows in counts.items()
        if since and rows and not since.get(name) and not since.get(sanitize.text(name))
    }


def run_check(connection: sqlite3.Connection, name: str, *, table: Optional[str] = None) -> child_process.Message:
    pragma = {"quick": "quick_check", "integrity": "integrity_check", "foreign_keys": "foreign_key_check"}[name]
    if table is not None:
        pragma += f"({sqlite_schema.quoted(table)})"
    lines: List[str] = []
    message: child_process.Message = {"event": "check", "name": name, "lines": lines}
    started = time.monotonic()
    try:
        for row in connection.execute(f"PRAGMA {pragma}"):
            if name == "foreign_keys":
                child, parent = (str(name)[:_LONGEST_LINE] for name in (row[0], row[2]))
                lines.append(f"row {row[1]} of {child} refers to a row of {parent} that does not exist")
            else:
                lines.extend(line[:_LONGEST_LINE] for line in str(row[0]).splitlines())
            if len(lines) >= 1000:
                break
    except sqlite3.Error as error:
        message["error"] = str(error)
    except MemoryError:
        message["error"] = "out of memory"
    if name != "foreign_keys" and lines == ["ok"]:
        lines.clear()
    message["seconds"] = round(time.monotonic() - started, 3)
    return message


def _take_check(done: Examination, answer: child_process.Message, *, shown: str) -> None:
    name, lines, error = answer["name"], answer["lines"], answer.get("error", "")
    if error.startswith("interrupt"):
        done.checks[name] = SKIPPED
        if not lines:
            return
    elif any(words in error for words in _NO_SIGN_OF_DAMAGE):
        done.checks[name] = f"skipped: {error}"
        return
    elif error:
        lines = [*lines, error]
    if not lines:
        done.checks[name] = "ok"
        return
    if name == "row_counts":
        done.checks[name] = f"failed: {error}"
    elif name not in done.checks:
        done.checks[name] = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
    code = "foreign_keys" if name == "foreign_keys" else "corrupt"
    told = message("reason.sqlite.check_failed", check=name, path=shown, lines=lines)
    if len(lines) > _SHOWN:
        shown_lines = {"lines": lines[:_SHOWN], "more": len(lines) - _SHOWN}
        told = message("reason.sqlite.check_failed_more", check=name, path=shown, **shown_lines)
    if error and not error.startswith("interrupt"):
        code = _code_of(error)
    # A row that refers to a missing row is an application error, not damage to the file.
    done.problems.append(
        Problem(
            code,
            told,
            level="warning" if code == "foreign_keys" else "error",
            loss=code in ("corrupt", "not_a_database"),
        )
    )


def _code_of(text: str) -> str:
    for words, code in (
        ("not a database", "not_a_database"),
        ("encrypted", "not_a_database"),
        ("unsupported file format", "schema_too_new"),
        ("malformed", "corrupt"),
        ("locked", "locked"),
        ("busy", "locked"),
    ):
        if words in text:
            return code
    return "unreadable"


def problem_of_error(text: str, *, found: Look, holders: sqlite_holders.Holders) -> Problem:
    """Return the problem that a SQLite error message indicates."""
    shown = printable(found.path)
    code = _code_of(text)
    header = found.newest_header
    writer = header.writer_version if header is not None else 0
    if code == "corrupt" and text.startswith("malformed database schema") and writer > library_number():
        code = "schema_too_new"
    if header is not None and (header.read_version > 2 or header.schema_format > 4):
        code = "schema_too_new"
    if code == "schema_too_new":
        versions = {"writer": sqlite_files.version_text(writer), "library": sqlite3.sqlite_version}
        return Problem(code, message("reason.sqlite.schema_too_new", path=shown, why=text, **versions))
    told = message("reason.sqlite.cannot.read", path=shown, why=text)
    if code == "locked" and holders.found:
        told = message("reason.sqlite.locked", path=shown, why=text, holders=holders.named())
    return Problem(code, told, loss=code in ("corrupt", "not_a_database"))


def library_number() -> int:
    """Return the version of the SQLite library in use, as a number: 3046001 for version 3.46.1."""
    major, minor, patch = sqlite3.sqlite_version_info[:3]
    return int(major * 1000000 + minor * 1000 + patch)
