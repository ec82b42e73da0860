# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods for a sound database: the rows that each would restore, and those that it would lose."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import stat
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage as sqlite_salvage
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage_image
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.salvage_image import Owner

MARGIN = 8 << 20  # space left free, in bytes
_MOST_BACKUPS = 20  # backups that are examined, newest first


@dataclasses.dataclass
class Way:
    """A method, whether it is possible, and its result."""

    method: str
    possible: bool = False
    reason: str = ""
    rows: Dict[str, int] = dataclasses.field(default_factory=dict)
    lost: Dict[str, int] = dataclasses.field(default_factory=dict)
    statement: str = ""
    source: Optional[str] = None
    source_at: Optional[str] = None
    age: Optional[float] = None
    salvaged: Optional[sqlite_salvage.Salvaged] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        plain = {name: value for name, value in vars(self).items() if name != "salvaged"}
        plain["tool"] = self.salvaged.tool if self.salvaged else None
        plain["orphans"] = self.salvaged.orphans if self.salvaged else 0
        plain["refused"] = self.salvaged.refused if self.salvaged else []
        return plain


@dataclasses.dataclass
class Case:
    """The damaged database and its facts."""

    path: str
    found: Look
    # Why the WAL could not be read to its end, or an empty text if it was.
    unread: str
    holders: sqlite_holders.Holders
    check: Dict[str, Any]
    owner: Owner
    user: Optional[str]
    mode: int
    rows: Dict[str, int]
    uncounted: List[str]
    schema_unreadable: bool
    reading: str
    deadline: float
    rights: safe_open.Rights

    @property
    def wal_mode(self) -> bool:
        header = self.found.newest_header
        return header is None or header.wal_mode


def own_folder(path: str, owner: Owner) -> None:
    with sqlite_files.clear_errors(f"make the folder {printable(path)}"):
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, owner.uid, owner.gid)


def ways(
    case: Case,
    *,
    wanted: Sequence[str],
    every: bool,
    scratch: str,
    shell: str,
    confirm_empty: bool,
    backups: Sequence[Tuple[float, str]],
    time_budget: float,
) -> List[Way]:
    """Examine the wanted methods in their order, as far as needed to choose. If every is true, examine all of them."""
    ways: List[Way] = []
    enough = False
    for method in wanted:
        if enough and not every:
            break
        if method == "checkpoint":
            way = _by_checkpoint(case)
            enough = way.possible
        elif method == "salvage":
            way = _by_salvage(case, scratch, shell=shell, confirmed=confirm_empty)
            # Examine further methods only for a backup that holds more rows.
            enough = way.possible and not way.lost and not case.uncounted and not case.schema_unreadable
        elif method == "backup":
            way = _by_backup(case, backups, time_budget=time_budget)
            enough = way.possible or any(each.possible for each in ways)
        else:
            way = _by_empty(case, confirmed=confirm_empty)
        if way.rows or way.possible:
            way.lost = lost(case.rows, way.rows)
            way.statement = _statement(case, way)
        ways.append(way)
    return ways


def _by_checkpoint(case: Case) -> Way:
    way = Way("checkpoint", rows=dict(case.check["row_counts"]))
    checks = case.check["checks"]
    if not case.check["healthy"]:
        way.rows = {}
        way.reason = "; ".join(problem["message"] for problem in case.check["problems"] if problem["level"] == "error")
    elif any(checks.get(name) != "ok" for name in ("quick", "integrity", "row_counts")):
        way.reason = f"it is not proved to be sound ({checks}); give it more time_budget"
    elif not case.check["wal"]["complete"]:
        way.reason = "its WAL could not be read to its end within time_budget"
    else:
        way.possible = True
        frames = case.check["wal"]["frames_committed"]
        way.reason = f"it is sound; {frames} frames of its WAL are moved into it" if frames else "it is sound"
    return way


def _by_salvage(case: Case, scratch: str, *, shell: str, confirmed: bool) -> Way:
    """Run the salvage: only its result shows the loss."""
    way = Way("salvage")
    found = case.found
    if case.unread:
        way.reason = case.unread
        return way
    if not found.files.get("database") and not found.wal.frames_committed:
        way.reason = "there is neither a database nor a WAL to salvage"
        return way
    reasons = []
    readings = [case.reading]
    if case.reading == salvage_image.COMMITTED and found.wal.damaged and found.wal.header_valid:
        readings.append(salvage_image.BEYOND)
    for reading in readings:
        folder = f"{scratch}/salvage-{reading}"
        own_folder(folder, case.owner)
        try:
            with sqlite_files.clear_errors(f"copy {printable(case.path)} to {printable(folder)}"):
                salvage_image.make_image(found, f"{folder}/image.db", owner=case.owner, reading=reading)
            salvaged = sqlite_salvage.salvage(
                f"{folder}/image.db",
                folder,
                owner=case.owner,
                shell=sqlite_salvage.find_shell(shell),
                wal_mode=case.wal_mode,
                deadline=case.deadline,
            )
            salvaged.reading = reading
            check = checked(salvaged.path, user=case.user, time_budget=case.deadline - time.monotonic())
        except SqliteError as error:
            reasons.append(str(error))
            continue
        if check:
            reasons.append(f"what was saved is not sound: {check}")
        elif way.salvaged is None or sum(salvaged.rows.values()) > sum(way.rows.values()):
            way.salvaged, way.rows, way.possible = salvaged, dict(salvaged.rows), True
    if way.salvaged is None:
        way.reason = "; ".join(dict.fromkeys(reasons))
    else:
        how = "the sqlite3 shell's .recover" if way.salvaged.tool == "shell" else "a dump around the damage"
        way.reason = f"{how} brings back {sum(way.rows.values())} rows in {len(way.rows)} tables"
        had_rows = sum(case.rows.values()) > 0 or case.uncounted or case.schema_unreadable
        if had_rows and not sum(way.rows.values()) and not confirmed:
            way.possible = False
            way.reason += ", everything would be lost, so a confirmation is required"
    return way


def checked(path: str, *, user: Optional[str], time_budget: float) -> str:
    """Return the problems of a new database, or the empty string if it is sound."""
    check = sqlite_check.check(path=path, checks=["quick", "integrity"], user=user, time_budget=max(time_budget, 1.0))
    errors = [problem["message"] for problem in check["problems"] if problem["level"] == "error"]
    errors += [
        f"{name} check: {check['checks'].get(name)}"
        for name in ("quick", "integrity")
        if check["checks"].get(name) != "ok" and not errors
    ]
    return "; ".join(errors)


def backups(
    place: str, *, dirs: Sequence[str], patterns: Sequence[str], rights: safe_open.Rights
) -> List[Tuple[float, str]]:
    """Return (time of the last change, path) of the backups next to the database and in folders, newest first.

    They are recognized by their names. Each folder is read with the rights that belong to it.
    """
    found: Dict[str, float] = {}
    for folder in dict.fromkeys([os.path.dirname(place), *dirs]):
        if not os.path.isabs(folder):
            raise SqliteError(f"backup_dirs must be absolute paths, not {folder!r}")
        with sqlite_files.clear_errors(f"look for backups in {printable(folder)}"), contextlib.suppress(
            FileNotFoundError
        ):
            there = safe_open.rights_on(folder, user=rights)
            with safe_open.acting(there):
                found.update(_backups_in(folder, place=place, patterns=patterns))
    return sorted(((changed, path) for path, changed in found.items()), reverse=True)


def _backups_in(folder: str, *, place: str, patterns: Sequence[str]) -> Iterator[Tuple[str, float]]:
    """Yield path and time of the last change of each regular file whose name matches. Raises OSError."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder.rstrip('/')}/{name}"
        if path == place or name.endswith(("-wal", "-shm", "-journal")):
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_mtime


def _by_backup(case: Case, backups: Sequence[Tuple[float, str]], *, time_budget: float) -> Way:
    """Find the latest backup that is sound and holds tables."""
    way = Way("backup")
    refused = []
    for made, path in backups[:_MOST_BACKUPS]:
        left = case.deadline - time.monotonic()
        if left <= 0:
            refused.append("no time was left for further backups")
            break
        try:
            check = sqlite_check.check(
                path=path, checks=["quick", "integrity"], user=case.user, time_budget=min(time_budget, left)
            )
        except SqliteError as error:
            refused.append(str(error))
            continue
        checks = check["checks"]
        if check["healthy"] and all(checks.get(name) == "ok" for name in ("quick", "integrity", "row_counts")):
            facts = [case.found.files[name].mtime_ns for name in ("database", "wal") if name in case.found.files]
            newest = max(facts, default=time.time_ns()) / 1e9
            way.possible, way.source, way.rows = True, printable(path), dict(check["row_counts"])
            way.source_at, way.age = timestamps.iso(made), round(max(newest - made, 0.0), 3)
            way.reason = f"the latest good backup is {printable(path)}, {_span(way.age)} older than the last write"
            break
        messages = [problem["message"] for problem in check["problems"]] or [f"checks: {checks}"]
        refused.append(f"{printable(path)} cannot be used ({messages[0]})")
    else:
        way.reason = "; ".join(refused) or "no backup was found"
        return way
    way.reason = "; ".join([way.reason, *refused])
    return way


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _by_empty(case: Case, *, confirmed: bool) -> Way:
    way = Way("empty", possible=confirmed)
    way.reason = "it was confirmed" if confirmed else "everything would be lost, so a confirmation is required"
    way.lost = dict(case.rows)
    way.statement = _statement(case, way)
    return way


def lost(before: Mapping[str, int], after: Mapping[str, int]) -> Dict[str, int]:
    return {table: rows - after.get(table, 0) for table, rows in sorted(before.items()) if rows > after.get(table, 0)}


def _statement(case: Case, way: Way) -> str:
    """Return a sentence about the loss of a method."""
    parts = []
    if way.method == "empty":
        counted = f": {sum(case.rows.values())} rows that could be counted, in {len(case.rows)} tables"
        parts.append(f"Everything{counted if case.rows else ''}")
    elif way.lost:
        tables = ", ".join(f"{table} {rows} of {case.rows[table]}" for table, rows in way.lost.items())
        parts.append(f"{sum(way.lost.values())} rows: {tables}")
    if case.unread:
        parts.append(f"an unknown number of rows, {case.unread}")
    unknown = [table for table in case.uncounted if table not in way.lost]
    if unknown:
        there = ", ".join(f"{table} ({way.rows.get(table, 0)} rows now)" for table in unknown)
        parts.append(f"an unknown number of rows, because the damaged database does not show the count: {there}")
    if case.schema_unreadable:
        parts.append("an unknown number of rows, because the tables of the damaged database are unreadable")
    wal = case.found.wal
    if way.salvaged is not None and wal.damaged and way.salvaged.reading != salvage_image.BEYOND:
        parts.append(f"{wal.commits_lost} transactions in the damaged part of the WAL")
    elif way.salvaged is not None and wal.damaged:
        parts.append(f"the damaged bytes in frame {wal.frames_valid + 1} of the WAL")
    elif way.salvaged is not None and way.salvaged.reading == salvage_image.ALONE:
        parts.append(f"{wal.frames_committed} frames of the WAL, which belongs to another database")
    if way.method == "backup":
        parts.append(f"changes to rows since {way.source_at}")
    if way.salvaged and way.salvaged.orphans:
        parts.append(f"{way.salvaged.orphans} rows no longer belong to a table and are kept in a separate file")
    if way.salvaged and way.salvaged.refused:
        parts.append(f"not everything could be copied unchanged: {'; '.join(way.salvaged.refused[:3])}")
    return "; ".join(parts) if parts else "Nothing: all counted rows are still there"
