# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is the database sound, is everything there, who is in it: answered without changing anything."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import os
import pwd
import sqlite3
import stat
import struct
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process, private_copy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    Problem,
    SqliteError,
    printable,
)

CHECKS = ("quick", "foreign_keys", "integrity")
_ATTEMPTS = 10  # at a database whose service comes and goes
_LONGEST_LINE = 1000  # characters; names in it are as long as somebody likes
_SHOWN = 10  # lines of a check's answer that a message carries
_PROCESSES = 4  # at most, for one check
_LARGE = 32 << 20  # bytes from which on a second process is worth its start
_MAP = 1 << 40  # SQLite takes as much of it as it was built for
# Tables may use modules, functions and collations that the application brings with it, functions that are not allowed
# here, and values that take more memory than is allowed.
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
UNREAD = "skipped: the database cannot be read"


def check(
    *,
    path: str,
    checks: Sequence[str] = ("quick",),
    row_counts: Union[bool, Sequence[str]] = True,
    time_budget: float = 30.0,
    busy_timeout: float = 5.0,
    baseline: Optional[Mapping[str, int]] = None,
    owner: Optional[str] = None,
    user: Optional[str] = None,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Check the database C(path) within C(time_budget) seconds and return the result of the module C(sqlite_info).

    SQLite reads with the rights of C(user), by default of C(owner), see sqlite_files.look. What is wrong with the
    database is in the result. Raises SqliteError for parameters that make no sense.
    """
    for name in checks:
        if name not in CHECKS:
            raise SqliteError(f"checks must be among {', '.join(CHECKS)}, not {name!r}")
    for parameter, value in (("time_budget", time_budget), ("busy_timeout", busy_timeout)):
        if not 0 < value <= 86400:
            raise SqliteError(f"{parameter} must be above 0 and at most 86400 seconds, not {value}")
    writer = _user(owner)
    started = time.monotonic()
    deadline = started + time_budget
    result: Dict[str, Any] = {}
    for attempt in range(_ATTEMPTS):
        with sqlite_files.clear_errors(f"check {printable(path)}"):
            result, steady = _attempt(
                path=path,
                checks=checks,
                row_counts=row_counts,
                deadline=deadline,
                busy_timeout=min(busy_timeout, time_budget),
                baseline=baseline or {},
                writer=writer,
                user=user or owner,
                proc_root=proc_root,
            )
        if steady or time.monotonic() > deadline:
            break
        time.sleep(min(0.05 * (attempt + 1), max(deadline - time.monotonic(), 0)))
    result["duration"] = round(time.monotonic() - started, 3)
    return result


@dataclasses.dataclass(frozen=True)
class _User:
    """The service user, who has to be able to write to the database."""

    name: str
    uid: int
    groups: Sequence[int]


def _user(name: Optional[str]) -> Optional[_User]:
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SqliteError(f"owner must be a user of this host, not {name!r}") from None
    return _User(name=name, uid=entry.pw_uid, groups=os.getgrouplist(name, entry.pw_gid))


@dataclasses.dataclass
class _Examination:
    """What the reading process answered, and whether nothing changed while it read."""

    basics: Dict[str, Any] = dataclasses.field(default_factory=dict)
    checks: Dict[str, str] = dataclasses.field(default_factory=dict)
    row_counts: Dict[str, int] = dataclasses.field(default_factory=dict)
    problems: List[Problem] = dataclasses.field(default_factory=list)
    steady: bool = True


def _attempt(
    *,
    path: str,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
    busy_timeout: float,
    baseline: Mapping[str, int],
    writer: Optional[_User],
    user: Optional[str],
    proc_root: str,
) -> Tuple[Dict[str, Any], bool]:
    found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
    done = _Examination()
    asked = [name for name in CHECKS if name in checks]
    if found.openable:
        try:
            with sqlite_reader.way_in(found, holders, busy_timeout=busy_timeout, deadline=deadline) as way:
                _examine(done, way, checks=asked, row_counts=row_counts, deadline=deadline, holders=holders)
                done.steady = done.steady and way.steady
        except private_copy.OutOfTime:
            pass  # nothing was read: every check was skipped
        except SqliteError as error:
            done.problems.append(Problem("unreadable", str(error)))
    for name in asked:
        done.checks.setdefault(name, UNREAD if done.problems or not found.openable else SKIPPED)
    problems = [*found.problems, *_holder_problems(found, holders)]
    if done.steady or holders.deleted:
        problems += [*_side_problems(found, holders), *done.problems]
        problems += _losses(done.row_counts, baseline, counted=done.checks.get("row_counts") == "ok")
    else:
        # Nothing that was read at such a moment can be believed.
        message = f"{printable(found.path)} was written to, or its service came or went, while it was read"
        problems.append(Problem("changing", message))
        done = _Examination(steady=False)
        done.checks = dict.fromkeys([*asked, "row_counts"], "skipped: written to meanwhile")
    if writer is not None:
        problems += _ownership(found, writer)
    losses = [problem.message for problem in problems if problem.loss]
    sound = not any(problem.level == "error" for problem in problems)
    # A look that ended early says nothing of what it did not reach: half a WAL, no page read, no row counted.
    unread = [name for name in ("quick", "integrity") if name in asked]
    reached = (
        found.wal.complete
        and (not unread or any(done.checks[name] == "ok" for name in unread))
        and (not row_counts or done.checks.get("row_counts") == "ok")
    )
    result = {
        "healthy": sound,
        "conclusive": reached or not sound,
        "problems": [problem.as_dict() for problem in problems],
        "database": _database(found, done),
        "wal": sqlite_files.wal_as_dict(found),
        "files": [_file(name, facts) for name, facts in found.files.items()],
        "holders": [holder.as_dict() for holder in holders.found],
        "holders_complete": holders.complete,
        "row_counts": done.row_counts,
        "checks": done.checks,
        "data_loss_suspected": bool(losses),
        "data_loss_reasons": losses,
    }
    return result, done.steady


def _examine(
    done: _Examination,
    way: sqlite_reader.WayIn,
    *,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
    holders: sqlite_holders.Holders,
) -> None:
    """Let a child process read the database and take over what it says."""
    shown = printable(way.found.path)
    messages = way.read(
        lambda connection, emit: _answer(connection, emit, checks=checks, row_counts=row_counts, deadline=deadline),
        deadline=deadline,
    )
    for message in messages:
        event = message["event"]
        if event == "basics":
            done.basics = message["basics"]
        elif event == "check":
            _take_check(done, message, shown=shown)
        elif event == "counts":
            done.row_counts = {name: count for name, count in message["counts"].items() if count is not None}
            missing = [name for name, count in message["counts"].items() if count is None]
            done.checks["row_counts"] = "ok"
            if missing:
                done.problems.append(Problem("no_such_table", f"{shown} has no table {', '.join(missing)}", loss=True))
    _take_end(done, messages[-1], found=way.found, holders=holders)
    if len(messages[-1]) > 1 or not done.basics:
        return
    if not done.basics["tables"]:
        done.problems.append(Problem("no_tables", f"{shown} holds no table at all", loss=True))
    if "integrity" in checks:
        quick = done.checks.get("quick", "")
        if quick == "ok":
            _check_tables(done, way, deadline=deadline, holders=holders)
        else:
            done.checks["integrity"] = quick  # which is part of it
    if "quick" not in checks and done.checks.get("integrity") != SKIPPED:
        done.checks.pop("quick", None)


def _take_end(done: _Examination, end: child_process.Message, *, found: Look, holders: sqlite_holders.Holders) -> None:
    """Make a problem of a reading process that did not end well."""
    shown = printable(found.path)
    if "signal" in end:
        done.problems.append(
            Problem("unreadable", f"Reading {shown} was ended by {end['signal']}: the disk does not give all of it")
        )
    elif "error" in end and not end["error"].startswith("interrupt"):
        if sqlite_reader.vanished(end["error"], found=found):
            done.steady = False
        else:
            done.problems.append(problem_of_error(end["error"], found=found, holders=holders))


def _check_tables(
    done: _Examination, way: sqlite_reader.WayIn, *, deadline: float, holders: sqlite_holders.Holders
) -> None:
    """Do what integrity_check does beyond quick_check (indexes and UNIQUE), table by table on all processors.

    One after the other in one process it takes as long as integrity_check; threads of one process take longer.
    """
    counts = done.row_counts
    # The largest first, so that all are done at about the same time.
    names: List[str] = sorted(done.basics["all_tables"], key=lambda name: -counts.get(name, 0))
    # Older libraries cannot check a single one; more numbers than these do not fit into a pipe.
    single = sqlite3.sqlite_version_info >= (3, 33) and len(names) < 10000
    tables: Sequence[Optional[str]] = names if single else [None]
    large = way.found.files["database"].size >= _LARGE
    processes = min(len(os.sched_getaffinity(0)), _PROCESSES, len(tables)) if large else 1
    turn, turns = os.pipe()  # each process takes the number of the next table out of it
    os.write(turns, b"".join(struct.pack("=I", number) for number in range(len(tables))))
    os.close(turns)

    def work(emit: child_process.Emit) -> None:
        connection = way.connect()
        with sqlite_reader.interrupted_at(connection, deadline):
            connection.execute(f"PRAGMA mmap_size={_MAP}")
            while True:
                number = os.read(turn, 4)
                if not number:
                    return
                emit(_run_check(connection, "integrity", table=tables[struct.unpack("=I", number)[0]]))

    try:
        answers = child_process.in_children(
            [work] * processes, deadline=deadline, read_only=way.read_only, rights=way.rights
        )
    finally:
        os.close(turn)
    whole: child_process.Message = {"event": "check", "name": "integrity", "lines": []}
    for messages in answers:
        for message in messages:
            if message["event"] == "check" and "no such module" not in message.get("error", ""):
                whole["lines"] += message["lines"]
                if "error" in message:
                    whole["error"] = message["error"]
        if messages[-1].get("timeout"):
            whole["error"] = "interrupted"
        _take_end(done, messages[-1], found=way.found, holders=holders)
    if all(len(messages[-1]) == 1 or "timeout" in messages[-1] for messages in answers):
        _take_check(done, whole, shown=printable(way.found.path))


def _answer(
    connection: sqlite3.Connection,
    emit: child_process.Emit,
    *,
    checks: Sequence[str],
    row_counts: Union[bool, Sequence[str]],
    deadline: float,
) -> None:
    """Run in the child: one snapshot, the quick answers first."""
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
            # The quick check is part of the whole one, and an answer where there is no time for that.
            if name in checks or (name == "quick" and "integrity" in checks):
                emit(_run_check(connection, name))
        if row_counts:
            try:
                emit({"event": "counts", "counts": sqlite_schema.count_rows(connection, tables=row_counts)})
            except sqlite3.Error as error:
                emit({"event": "check", "name": "row_counts", "lines": [], "error": str(error)})


def _run_check(connection: sqlite3.Connection, name: str, *, table: Optional[str] = None) -> child_process.Message:
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
                lines.append(f"row {row[1]} of {child} refers to a row of {parent} that is not there")
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


def _take_check(done: _Examination, message: child_process.Message, *, shown: str) -> None:
    name, lines, error = message["name"], message["lines"], message.get("error", "")
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
    more = f" (and {len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    text = f"{name} check of {shown}: " + "; ".join(lines[:_SHOWN]) + more
    if error and not error.startswith("interrupt"):
        code = _code_of(error)
    # Rows without their parent are a fault of the application, not of the file.
    done.problems.append(
        Problem(
            code,
            text,
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
    """Return the problem that an error message of SQLite stands for."""
    shown = printable(found.path)
    code = _code_of(text)
    header = found.newest_header
    writer = header.writer_version if header is not None else 0
    if code == "corrupt" and text.startswith("malformed database schema") and writer > library_number():
        code = "schema_too_new"
    if header is not None and (header.read_version > 2 or header.schema_format > 4):
        code = "schema_too_new"
    if code == "schema_too_new":
        return Problem(
            code,
            f"{shown} was written by SQLite {sqlite_files.version_text(writer)}, this host's Python has "
            f"{sqlite3.sqlite_version} and cannot read its schema ({text}): not a sign of damage",
        )
    message = f"Cannot read {shown}: {text}"
    if code == "locked" and holders.found:
        message += f"; it is open in {holders.named()}"
    return Problem(code, message, loss=code in ("corrupt", "not_a_database"))


def tables_wanted(value: Any) -> Union[bool, List[str]]:
    """Return the parameter C(row_counts), which is a boolean or a list of names. Raises SqliteError."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    word = str(value).lower()
    if word in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return word in ("true", "yes", "on", "1")
    raise SqliteError(f"row_counts must be true, false or a list of table names, not {value!r}")


def baseline_of(value: Optional[Mapping[str, Any]]) -> Dict[str, int]:
    """Return the parameter C(baseline) with whole numbers. Raises SqliteError."""
    counts = {}
    for table, rows in (value or {}).items():
        try:
            counts[str(table)] = int(rows)
        except (TypeError, ValueError):
            raise SqliteError(f"baseline must give a number of rows for table {table}, not {rows!r}") from None
    return counts


def library_number() -> int:
    """Return the version of the SQLite library in use as it stands in headers: C(3046001)."""
    major, minor, patch = sqlite3.sqlite_version_info[:3]
    return int(major * 1000000 + minor * 1000 + patch)


def _side_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
    """Return what the WAL, the journal and the open descriptors say."""
    problems: List[Problem] = []
    wal, shown = found.wal, printable(found.path)
    live = holders.of_index
    if wal.damaged:
        what = f"frame {wal.frames_valid + 1} of {wal.frames_total}" if wal.header_valid else "the header"
        problems.append(
            Problem(
                "wal_damaged",
                f"The WAL of {shown} is damaged at {what}: SQLite silently ignores the {wal.frames_lost} frames from "
                f"there on, {wal.commits_lost} of which end a transaction",
                loss=True,
            )
        )
    elif wal.foreign:
        problems.append(
            Problem(
                "wal_foreign",
                f"The {wal.frames_total} frames in the WAL of {shown} bear other salts than its header: "
                "SQLite ignores them",
                loss=True,
            )
        )
    elif wal.torn and not live:
        problems.append(
            Problem(
                "wal_torn",
                f"The WAL of {shown} ends in an unfinished write, as after a kill or a power cut: "
                f"{wal.frames_committed} frames of finished transactions are kept",
                level="warning",
                loss=wal.torn_commit and found.acknowledged != wal.frames_committed,
            )
        )
    why = sqlite_files.why_foreign(found)
    if why:
        problems.append(Problem("wal_foreign", f"The WAL of {shown} does not belong to it: {why}", loss=True))
    if found.hot_journal and not holders.found:
        problems.append(
            Problem(
                "hot_journal",
                f"{shown} has a rollback journal of an unfinished transaction: SQLite will undo that at the next "
                "start; checked as it will be then",
                level="warning",
            )
        )
    return problems


def _holder_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
    problems = []
    if holders.deleted:
        names = ", ".join(f"pid {holder.pid} ({holder.command})" for holder in holders.deleted)
        problems.append(
            Problem(
                "open_deleted",
                f"{names} still has a file of {printable(found.path)} open that was removed or replaced: what it "
                "writes there is gone when it ends",
                loss=True,
            )
        )
    return problems


def _may_write(user: _User, facts: sqlite_files.FileFacts) -> bool:
    if user.uid == 0:
        return True
    if facts.uid == user.uid:
        wanted = stat.S_IWUSR
    elif facts.gid in user.groups:
        wanted = stat.S_IWGRP
    else:
        wanted = stat.S_IWOTH
    return bool(facts.mode & wanted)


def _ownership(found: Look, user: _User) -> List[Problem]:
    """Return what keeps the service from writing, as after somebody ran it as root by mistake."""
    looked_at = dict(found.files)
    with contextlib.suppress(OSError):
        folder = sqlite_files.facts_of(os.path.dirname(found.path), rights=found.rights)
        if folder is not None:
            looked_at["folder"] = folder
    return [
        Problem(
            "ownership",
            f"{printable(facts.path)} belongs to {_name_of_user(facts.uid)}, mode {facts.mode:04o}: "
            f"user {user.name} cannot write to it",
            level="warning",
        )
        for facts in looked_at.values()
        if not _may_write(user, facts)
    ]


def _name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _file(name: str, facts: sqlite_files.FileFacts) -> Dict[str, Any]:
    return {
        "name": name,
        "path": printable(facts.path),
        "size": facts.size,
        "owner": _name_of_user(facts.uid),
        "group": _name_of_group(facts.gid),
        "mode": f"{facts.mode:04o}",
        "modified_at": timestamps.iso(facts.mtime_ns / 1e9),
    }


def _losses(counts: Mapping[str, int], baseline: Mapping[str, int], *, counted: bool) -> List[Problem]:
    if not counted:
        return []
    # What was counted before has been an answer of ours, in which names are plain text.
    plain: Dict[str, int] = {}
    for name, rows in counts.items():
        plain[sanitize.text(name)] = plain.get(sanitize.text(name), 0) + rows
    lost = []
    for table, before in sorted(baseline.items()):
        now = counts.get(table, plain.get(sanitize.text(table)))
        if now is None:
            lost.append(f"{table} is not there any more ({before} rows)")
        elif now < before:
            lost.append(f"{table} has {now} rows, {before - now} fewer than the {before} before")
    return [Problem("row_loss", "; ".join(lost), loss=True)] if lost else []


def _database(found: Look, done: _Examination) -> Dict[str, Any]:
    facts = found.files.get("database")
    header = found.newest_header
    database: Dict[str, Any] = {
        "path": printable(found.given),
        "real_path": printable(found.path),
        "exists": facts is not None,
        "size": facts.size if facts is not None else 0,
        "inode": facts.inode if facts is not None else None,
        "uid": facts.uid if facts is not None else None,
        "gid": facts.gid if facts is not None else None,
        "mode": f"{facts.mode:04o}" if facts is not None else None,
        "page_size": header.page_size if header is not None else None,
        "page_count": header.page_count if header is not None else None,
        "freelist_count": header.freelist_count if header is not None else None,
        "user_version": header.user_version if header is not None else None,
        "journal_mode": None,
        "sqlite_version": sqlite_files.version_text(header.writer_version) if header is not None else None,
        "library_version": sqlite3.sqlite_version,
        "wal_reset_bug": header is not None
        and header.wal_mode
        and sqlite_files.has_wal_reset_bug(header.writer_version),
    }
    if header is not None:
        database["journal_mode"] = "wal" if header.wal_mode else "rollback"
    for name in ("page_size", "page_count", "freelist_count", "user_version"):
        if name in done.basics:
            database[name] = done.basics[name]
    return database
