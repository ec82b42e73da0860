# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods for obtaining a sound database, and the rows that each method would restore or lose."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import plain as message_plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates, messages, salvage_image
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage as sqlite_salvage
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.salvage_image import Owner

MARGIN = 8 << 20  # number of bytes to leave free
_MOST_NAMED = 5  # maximum number of tables that a message lists
_MOST_COMPARED = 5  # maximum number of sound backups to compare (checking a large backup takes many seconds)


@dataclasses.dataclass
class Way:
    """A recovery method: its applicability and its result.

    source, source_at: the path and modification time of the backup. age: the number of seconds by which
    the backup is older than the newest file of the damaged database. backups: the examined backups (see _Backups.told).
    """

    method: str
    possible: bool = False
    reasons: List[Message] = dataclasses.field(default_factory=list)
    rows: Dict[str, int] = dataclasses.field(default_factory=dict)
    lost: Dict[str, int] = dataclasses.field(default_factory=dict)
    losses: List[Message] = dataclasses.field(default_factory=list)
    source: Optional[str] = None
    source_at: Optional[str] = None
    age: Optional[float] = None
    backups: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    salvaged: Optional[sqlite_salvage.Salvaged] = None

    @property
    def reason(self) -> str:
        """The reason why the method can or cannot be applied."""
        return joined(self.reasons)

    @property
    def statement(self) -> str:
        """The data loss of the method, as text."""
        return joined(self.losses)

    def as_dict(self) -> Dict[str, Any]:
        """Return the method in the format of the module's result."""
        plain = {name: value for name, value in vars(self).items() if name not in ("salvaged", "reasons", "losses")}
        plain.update(reason=self.reason, statement=self.statement)
        plain["messages"] = message_plain(reason=self.reasons, statement=self.losses)
        plain["tool"] = self.salvaged.tool if self.salvaged else None
        plain["orphans"] = self.salvaged.orphans if self.salvaged else 0
        plain["refused"] = self.salvaged.refused if self.salvaged else []
        return plain


@dataclasses.dataclass
class Case:
    """The damaged database and the facts about it."""

    path: str
    found: Look
    # The reason why the WAL could not be read completely, or None if it was read completely.
    unread: Optional[Message]
    holders: sqlite_holders.Holders
    check: Dict[str, Any]
    owner: Owner
    user: Optional[str]
    mode: int
    rows: Dict[str, int]
    uncounted: List[str]
    schema_unreadable: bool
    # True if `rows` may be compared with a backup. The rows of a new database do not show what the original database
    # contained.
    comparable: bool
    reading: str
    begun: float
    deadline: float
    rights: safe_open.Rights
    # The time of the first migration of the original database, or "" if unknown. This time identifies the backups of
    # that database.
    created_at: str = ""
    # The number of rows in each table at the last good count.
    last_good: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def all_counted(self) -> bool:
        """True if the number of rows in each table is known."""
        return bool(self.rows) and self.comparable and not self.uncounted and not self.schema_unreadable

    @property
    def wal_mode(self) -> bool:
        header = self.found.newest_header
        return header is None or header.wal_mode


def own_folder(path: str, owner: Owner) -> None:
    with sqlite_files.clear_errors("make_folder", path=printable(path)):
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
    backups: Tuple[Sequence[candidates.Candidate], Sequence[Message]],
    no_backup: Message,
    time_budget: float,
) -> List[Way]:
    """Examine the given methods in order until a method can be chosen. If `every` is True, examine all of them.

    backups: the result of candidates.find(). no_backup: the result of candidates.not_found().
    """
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
            # If the salvage loses rows, or may lose rows, a backup may contain more rows.
            enough = way.possible and not way.lost and not case.uncounted and not case.schema_unreadable
        elif method == "backup":
            way = _by_backup(case, backups, no_backup=no_backup, time_budget=time_budget)
            enough = way.possible or any(each.possible for each in ways)
        else:
            way = _by_empty(case, confirmed=confirm_empty)
        if way.rows or way.possible:
            way.lost = lost(case.rows, way.rows)
            way.losses = _losses(case, way)
        ways.append(way)
    return ways


def _by_checkpoint(case: Case) -> Way:
    way = Way("checkpoint", rows=dict(case.check["row_counts"]))
    checks = case.check["checks"]
    if not case.check["healthy"]:
        way.rows = {}
        way.reasons = [of(problem, "message") for problem in case.check["problems"] if problem["level"] == "error"]
    elif any(checks.get(name) != "ok" for name in ("quick", "integrity", "row_counts")):
        way.reasons = [message("reason.restore.unproved", checks=str(checks))]
    elif not case.check["wal"]["complete"]:
        way.reasons = [message("reason.sqlite.wal_unread_in_budget")]
    else:
        way.possible = True
        frames = case.check["wal"]["frames_committed"]
        sound = message("reason.restore.sound")
        way.reasons = [message("reason.restore.sound_with_wal", frames=frames) if frames else sound]
    return way


def _by_salvage(case: Case, scratch: str, *, shell: str, confirmed: bool) -> Way:
    """Salvage the rows into the scratch folder. The number of lost rows is unknown before the salvage."""
    way = Way("salvage")
    found = case.found
    if case.unread:
        way.reasons = [case.unread]
        return way
    if not found.files.get("database") and not found.wal.frames_committed:
        way.reasons = [message("reason.restore.nothing_there")]
        return way
    reasons: List[Message] = []
    readings = [case.reading]
    if case.reading == salvage_image.COMMITTED and found.wal.damaged and found.wal.header_valid:
        readings.append(salvage_image.BEYOND)
    for reading in readings:
        folder = f"{scratch}/salvage-{reading}"
        own_folder(folder, case.owner)
        try:
            with sqlite_files.clear_errors("copy_to", path=printable(case.path), target=printable(folder)):
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
            reasons.append(error.told)
            continue
        if check:
            reasons.append(message("reason.restore.saved_not_sound", problems=check))
        elif way.salvaged is None or sum(salvaged.rows.values()) > sum(way.rows.values()):
            way.salvaged, way.rows, way.possible = salvaged, dict(salvaged.rows), True
    if way.salvaged is None:
        way.reasons = [told for number, told in enumerate(reasons) if told not in reasons[:number]]
    else:
        had_rows = sum(case.rows.values()) > 0 or case.uncounted or case.schema_unreadable
        way.possible = bool(confirmed or sum(way.rows.values()) or not had_rows)
        how = f"by_{way.salvaged.tool}" + ("" if way.possible else "_unconfirmed")
        counts = {"rows": sum(way.rows.values()), "tables": len(way.rows)}
        way.reasons = [message(f"reason.restore.{how}", **counts)]
    return way


def checked(path: str, *, user: Optional[str], time_budget: float) -> List[Message]:
    """Return the problems with a new database, or an empty list if it is sound."""
    check = sqlite_check.check(path=path, checks=["quick", "integrity"], user=user, time_budget=max(time_budget, 1.0))
    errors = [of(problem, "message") for problem in check["problems"] if problem["level"] == "error"]
    errors += [
        message("reason.restore.check_result", check=name, result=str(check["checks"].get(name)))
        for name in ("quick", "integrity")
        if check["checks"].get(name) != "ok" and not errors
    ]
    return errors


class _Backup(NamedTuple):
    """A sound backup: the time of its last write in seconds since the epoch, its path, and its row counts by table."""

    made: float
    path: str
    rows: Dict[str, int]


@dataclasses.dataclass
class _Backups:
    """The backups that were examined, newest first.

    sound: the sound backups. refused: the reasons why the other backups cannot be used. told: each examined backup in
    the format of the module's result.
    """

    sound: List[_Backup] = dataclasses.field(default_factory=list)
    refused: List[Message] = dataclasses.field(default_factory=list)
    told: List[Dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, case: Case, backup: _Backup) -> None:
        """Add a sound backup."""
        self.sound.append(backup)
        lacks = sorted(_tables_of(case) - set(backup.rows))
        older = message("reason.restore.older_schema", tables=lacks[:_MOST_NAMED]) if lacks else None
        told: Dict[str, Any] = {"rows": backup.rows, "lost": lost(case.rows, backup.rows)}
        if older is not None:
            told.update(reason=messages.english(older), messages=message_plain(reason=older))
        self._tell(backup.made, backup.path, usable=True, **told)

    def refuse(self, each: candidates.Candidate, why: Message) -> None:
        """Add a backup that cannot be used."""
        self.refused.append(candidates.refusal(each, why))
        self._tell(each.at, each.path, usable=False, reason=messages.english(why), messages=message_plain(reason=why))

    def _tell(self, made: float, path: str, **told: Any) -> None:
        empty: Dict[str, Any] = {"rows": {}, "lost": {}, "reason": "", "messages": {}}
        self.told.append({"path": printable(path), "at": timestamps.iso(made), **empty, **told})


def _by_backup(
    case: Case,
    backups: Tuple[Sequence[candidates.Candidate], Sequence[Message]],
    *,
    no_backup: Message,
    time_budget: float,
) -> Way:
    """Find the sound backup that loses the fewest rows. If several lose the same number, choose the newest."""
    way = Way("backup")
    examined = _examined(case, backups[0], time_budget=time_budget)
    sound, refused, way.backups = examined.sound, [*examined.refused, *backups[1]], examined.told
    if not sound:
        way.reasons = refused or [no_backup]
        return way
    loss = [_loss(case, each, sound) for each in sound]
    number = loss.index(min(loss))  # the newest of the best backups (the list begins with the newest backup)
    chosen = sound[number]
    facts = [case.found.files[name].mtime_ns for name in ("database", "wal") if name in case.found.files]
    newest = max(facts, default=time.time_ns()) / 1e9
    way.possible, way.source, way.rows = True, printable(chosen.path), chosen.rows
    way.source_at, way.age = timestamps.iso(chosen.made), round(max(newest - chosen.made, 0.0), 3)
    unit, span = timestamps.span(way.age)
    which = "best_backup" if number else "latest_backup"
    told = message(f"reason.restore.{which}.{unit}", path=printable(chosen.path), number=span)
    worse = [
        message("reason.restore.worse_backup", path=printable(newer.path), rows=loss[each] - loss[number])
        for each, newer in enumerate(sound[:number])
    ]
    way.reasons = [told, *worse, *refused]
    return way


def _examined(case: Case, backups: Sequence[candidates.Candidate], *, time_budget: float) -> _Backups:
    """Examine the backups, newest first. Stop at the first backup that loses no rows."""
    done = _Backups()
    known = candidates.Known(_tables_of(case), case.created_at)
    for number, each in enumerate(backups[: candidates.MOST], 1):
        left = case.deadline - time.monotonic()
        # If there is a sound backup, keep half of the time for the recovery itself.
        if left <= 0 or (done.sound and left < (case.deadline - case.begun) / 2):
            done.refused.append(message("reason.restore.no_time"))
            break
        found = candidates.examine(each, known, user=case.user, time_budget=min(time_budget, left))
        if found.why is not None:
            done.refuse(each, found.why)
            continue
        done.add(case, _Backup(each.at, each.path, dict(found.rows)))
        if case.all_counted and not lost(case.rows, done.sound[-1].rows):
            break
        if len(done.sound) >= _MOST_COMPARED:
            if number < len(backups):
                done.refused.append(message("reason.restore.not_compared", number=len(backups) - number))
            break
    return done


def _tables_of(case: Case) -> Set[str]:
    """Return the known tables of the damaged database."""
    return {*case.rows, *case.uncounted}


def _loss(case: Case, backup: _Backup, sound: Sequence[_Backup]) -> int:
    """Return the number of rows that would be lost by restoring a backup.

    If the rows of a table in the damaged database are unknown, compare with the other backups. In this comparison,
    missing rows are counted as lost only if they are more than half of the table, because users delete rows.
    """
    counted = case.rows if case.comparable else {}
    known = sum(lost(counted, backup.rows).values())
    most: Dict[str, int] = {}
    for each in sound:
        for table, rows in each.rows.items():
            most[table] = max(rows, most.get(table, 0))
    # Ignore a table that only backups contain, unless the tables of the damaged database are unknown. A migration may
    # have dropped the table, or the backup may be from another database.
    uncounted = [table for table in most if not counted or case.schema_unreadable or table in case.uncounted]
    unknown = [(most[table], backup.rows.get(table, 0)) for table in uncounted if table not in counted]
    return known + sum(rows - kept for rows, kept in unknown if kept * 2 < rows)


def _by_empty(case: Case, *, confirmed: bool) -> Way:
    way = Way("empty", possible=confirmed)
    way.reasons = [message("reason.restore.confirmed" if confirmed else "reason.restore.unconfirmed")]
    way.lost = dict(case.rows)
    way.losses = _losses(case, way)
    return way


def lost(before: Mapping[str, int], after: Mapping[str, int]) -> Dict[str, int]:
    return {table: rows - after.get(table, 0) for table, rows in sorted(before.items()) if rows > after.get(table, 0)}


def fewer(case: Case, way: Way) -> Dict[str, int]:
    """Return the number of missing rows in each table, compared to the last good count.

    A table is omitted if the method itself loses rows from the table, or if the rows of the table could not be counted.
    The missing rows of the other tables were deleted or lost earlier.
    """
    told = {*way.lost, *case.uncounted}
    missing = lost(case.last_good, way.rows)
    return {} if way.method == "empty" else {table: rows for table, rows in missing.items() if table not in told}


def joined(told: Sequence[Message]) -> str:
    """Return the English text of several messages as one line."""
    return "; ".join(map(messages.english, told))


def _kept_of(case: Case, way: Way, table: str) -> Message:
    """Return the number of rows that a method keeps in an uncounted table, and the last good row count if known."""
    kept = way.rows.get(table, 0)
    if table in case.rows:
        return message("reason.loss.table_counted", table=table, rows=kept, before=case.rows[table])
    return message("reason.loss.table_now", table=table, rows=kept)


def _lost_of(case: Case, table: str, rows: int) -> Message:
    """Return the number of rows that a method loses from a table.

    If the table was not counted, case.rows contains the last good count.
    """
    last_good = case.schema_unreadable or table in case.uncounted
    return message(
        "reason.loss.table_last_good" if last_good else "reason.loss.table",
        table=table,
        rows=rows,
        before=case.rows[table],
    )


def _uncounted(case: Case, way: Way) -> List[Message]:
    """Return messages about the tables whose rows in the damaged database are unknown.

    If a last good row count exists for a table, case.rows contains this count. Only the number of rows that were
    written later is then unknown. If a method loses some of the counted rows, another message states the count.
    """
    later = [table for table in case.uncounted if table in case.rows]
    unknown = [table for table in case.uncounted if table not in case.rows]
    parts = []
    if later:
        tables = [table if table in way.lost else _kept_of(case, way, table) for table in later]
        parts.append(message("reason.loss.written_later", tables=tables))
    if unknown:
        parts.append(message("reason.loss.uncounted", tables=[_kept_of(case, way, table) for table in unknown]))
    return parts


def _losses(case: Case, way: Way) -> List[Message]:
    """Return messages about the rows that a method loses."""
    parts: List[Message] = []
    if way.method == "empty":
        counts = {"rows": sum(case.rows.values()), "tables": len(case.rows)}
        counted = message("reason.loss.everything_counted", **counts)
        parts.append(counted if case.rows else message("reason.loss.everything"))
    elif way.lost:
        tables = [_lost_of(case, table, rows) for table, rows in way.lost.items()]
        incomplete = bool(case.unread or case.uncounted or case.schema_unreadable)
        rows = sum(way.lost.values())
        parts.append(
            message("reason.loss.rows_at_least" if incomplete else "reason.loss.rows", rows=rows, tables=tables)
        )
    if case.unread:
        parts.append(message("reason.loss.unread", why=case.unread))
    parts += _uncounted(case, way)
    if case.schema_unreadable:
        parts.append(message("reason.loss.schema"))
    wal = case.found.wal
    if way.salvaged is not None and wal.damaged and way.salvaged.reading != salvage_image.BEYOND:
        parts.append(message("reason.loss.transactions", number=wal.commits_lost))
    elif way.salvaged is not None and wal.damaged:
        parts.append(message("reason.loss.frame", frame=wal.frames_valid + 1))
    elif way.salvaged is not None and way.salvaged.reading == salvage_image.ALONE:
        parts.append(message("reason.loss.foreign_frames", frames=wal.frames_committed))
    if way.method == "backup":
        parts.append(message("reason.loss.since", at=str(way.source_at)))
    if way.salvaged and way.salvaged.orphans:
        parts.append(message("reason.loss.orphans", rows=way.salvaged.orphans))
    if way.salvaged and way.salvaged.refused:
        parts.append(message("reason.loss.refused", statements=way.salvaged.refused[:3]))
    missing = fewer(case, way)
    if missing:
        tables = [
            message("reason.loss.table", table=table, rows=rows, before=case.last_good[table])
            for table, rows in missing.items()
        ]
        return [
            *(parts or [message("reason.loss.nothing_now")]),
            message("reason.loss.fewer", rows=sum(missing.values()), tables=tables),
        ]
    return parts or [message("reason.loss.nothing")]
