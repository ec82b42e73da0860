# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out which backups could be restored, and when the newest write in each of them was made.

A backup can be restored if it is sound, belongs to the service's database, and can be read as the service's user. Its
age is that of its newest write. If the file is newer than its content, the copy was made without its -wal file: the
database has earlier writes that the backup lacks.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import newest_write, restore_ways

# The kinds of backups. Those in RESTORABLE can be restored.
SOUND, OLDER_SCHEMA, WITHOUT_WAL = "sound", "older_schema", "without_wal"
DAMAGED, OTHER_SERVICE, UNREADABLE, NOT_CHECKED = "damaged", "other_service", "unreadable", "not_checked"
RESTORABLE = (SOUND, OLDER_SCHEMA, WITHOUT_WAL)

_MOST_BACKUPS = 20
# A backup contains the state at the begin of the copy, but its file has the time of the end.
_COPYING = 600.0
# Fraction of the tables that a database without migrations must share with a backup of the same service.
_SHARED = 0.5


class Live(NamedTuple):
    """The service's database. tables: the names of its tables. migrations: the names of the applied migrations.

    The fields are empty or None if the database cannot be read.
    """

    path: str
    tables: Sequence[str] = ()
    created_at: Optional[str] = None
    migrations: Sequence[str] = ()


class Backup(NamedTuple):
    """A backup. at: time of the last change of its files. written_at: time of its newest write. why: the reason."""

    path: str
    at: float
    kind: str
    written_at: Optional[float] = None
    why: Optional[Message] = None
    rows: Mapping[str, int] = {}

    def as_dict(self) -> Dict[str, Any]:
        """Return the backup in the format of the module's result."""
        return {
            "path": sqlite_files.printable(self.path),
            "at": timestamps.iso(self.at),
            "kind": self.kind,
            "written_at": timestamps.iso(self.written_at) if self.written_at is not None else None,
            "why": self.why.to_dict() if self.why else None,
            "rows": sum(self.rows.values()),
        }


def live(check: Mapping[str, Any], *, path: str, user: Optional[str], timeout: float) -> Live:
    """Return what identifies the service's database. check: the result of a check of this database."""
    if not check["row_counts"]:
        return Live(path)
    migrations: Sequence[str] = ()
    # Without the migrations, the backups are compared by their tables.
    with contextlib.suppress(knex_tables.KnexError):
        migrations = knex_tables.read_tables(path, user=user, timeout=timeout).names
    return Live(path, sorted(check["row_counts"]), check["database"]["first_migration_at"], migrations)


class Recorded(NamedTuple):
    """A backup that this collection made and recorded. at: in seconds since the epoch. size: in bytes."""

    path: str
    at: float
    size: int


def recorded(content: Any) -> List[Recorded]:
    """Return the verified backups in the content of backups.json. Other entries are ignored."""
    found: List[Recorded] = []
    for each in content if isinstance(content, list) else ():
        if isinstance(each, dict) and each.get("verified") is True and str(each.get("path")).startswith("/"):
            with contextlib.suppress(ValueError, TypeError):
                found.append(Recorded(str(each["path"]), timestamps.epoch(str(each.get("at"))), int(each["bytes"])))
    return found


def survey(
    known: Live,
    *,
    dirs: Sequence[str],
    patterns: Sequence[str],
    user: Optional[str],
    budget: float,
    deadline: float,
    made: Sequence[Recorded] = (),
) -> Dict[str, Any]:
    """Examine the backups, newest first, until one has all rows up to its time. Nothing is changed.

    budget: time limit in seconds for each backup. deadline: in time.monotonic seconds. made: the backups that this
    collection made, which may be in other folders. Returns the examined backups, the number of all backups, and why
    folders could not be read. Raises SqliteError for an invalid parameter.
    """
    rights = safe_open.account_rights(user)
    files, unread = restore_ways.backups(known.path, dirs=dirs, patterns=patterns, rights=rights)
    there = {path for _at, path in files}
    sizes = {each.path: each.size for each in made}
    # The time of a recorded backup that does not exist is the time at which it was made.
    more = [(_changed_at(each, rights=rights), each.path) for each in made if each.path not in there]
    files = sorted([*files, *more], reverse=True)
    found: List[Backup] = []
    for at, path in files[:_MOST_BACKUPS]:
        left = deadline - time.monotonic()
        if left <= 0:
            found.append(Backup(path, at, NOT_CHECKED, why=message("ready.backup.no_time")))
            break
        changed = _changed(path, sizes.get(path), rights=rights)
        if changed is not None:
            found.append(Backup(path, at, DAMAGED, why=changed))
            continue
        found.append(examine(path, at, known, user=user, budget=min(budget, left)))
        if found[-1].kind in (SOUND, OLDER_SCHEMA):
            break
    return {
        "found": [each.as_dict() for each in found],
        "number": len(files),
        "unread": [told.to_dict() for told in unread],
    }


def _changed_at(each: Recorded, *, rights: safe_open.Rights) -> float:
    with contextlib.suppress(OSError), safe_open.acting(rights):
        return os.lstat(each.path).st_mtime
    return each.at


def _changed(path: str, size: Optional[int], *, rights: safe_open.Rights) -> Optional[Message]:
    """Return how a recorded backup differs from its record, or None. size: the recorded size, or None."""
    if size is None:
        return None
    try:
        with safe_open.acting(rights):
            now = os.lstat(path).st_size
    except OSError as error:
        return message("ready.backup.gone", why=str(error.strerror))
    return message("ready.backup.changed", size=size, now=now) if now != size else None


def examine(path: str, at: float, known: Live, *, user: Optional[str], budget: float) -> Backup:
    """Examine one backup. at: time of the last change of its files. budget: time limit in seconds."""
    deadline = time.monotonic() + budget
    try:
        check = sqlite_check.check(path=path, checks=["quick", "integrity"], user=user, time_budget=max(budget, 0.1))
    except sqlite_files.SqliteError as error:
        return Backup(path, at, UNREADABLE, why=error.told)
    checks, problems = check["checks"], [each for each in check["problems"] if each["level"] == "error"]
    if problems:
        unread = {each["code"] for each in problems} <= {"unreadable", "schema_too_new"}
        return Backup(path, at, UNREADABLE if unread else DAMAGED, why=of(problems[0], "message"))
    if any(checks.get(name) != "ok" for name in ("quick", "integrity", "row_counts")):
        return Backup(path, at, NOT_CHECKED, why=message("ready.backup.no_time"))
    rows = check["row_counts"]
    migrations: Sequence[str] = ()
    if known.migrations:
        try:
            migrations = knex_tables.read_tables(path, user=user, timeout=max(deadline - time.monotonic(), 0.1)).names
        except knex_tables.KnexError as error:
            return Backup(path, at, NOT_CHECKED, why=error.told, rows=rows)
    other = _other_service(known, rows, check["database"]["first_migration_at"], migrations)
    if other is not None:
        return Backup(path, at, OTHER_SERVICE, why=other, rows=rows)
    return _dated(path, at, known, rows, _schema(known, migrations), user=user, deadline=deadline)


def _other_service(
    known: Live, rows: Mapping[str, int], created_at: Optional[str], migrations: Sequence[str]
) -> Optional[Message]:
    """Return why a backup belongs to another database, or None."""
    if known.created_at and created_at:
        # A copy of a database has the same time of its first migration.
        if known.created_at != created_at:
            return message("ready.backup.created", created=created_at, expected=known.created_at)
        return None
    if known.migrations and not migrations:
        return message("ready.backup.no_migrations")
    shared = set(known.tables) & set(rows)
    if known.tables and len(shared) < _SHARED * max(len(known.tables), len(rows)):
        return message("ready.backup.tables", shared=len(shared), tables=len(rows), expected=len(known.tables))
    return None


def _schema(known: Live, migrations: Sequence[str]) -> Optional[Message]:
    """Return which migrations a backup lacks, or None."""
    lacking = [name for name in known.migrations if name not in set(migrations)]
    return message("ready.backup.older_schema", number=len(lacking), first=lacking[0]) if lacking else None


def _dated(
    path: str,
    at: float,
    known: Live,
    rows: Mapping[str, int],
    older: Optional[Message],
    *,
    user: Optional[str],
    deadline: float,
) -> Backup:
    """Return a restorable backup with the time of its newest write."""
    own = newest_write.newest_writes(path, user=user, until=at, deadline=deadline)
    before = at - _COPYING
    expected = (
        newest_write.newest_writes(known.path, user=user, until=before, deadline=deadline) if known.tables else {}
    )
    if own is None or expected is None:
        return Backup(path, at, NOT_CHECKED, why=message("ready.backup.no_time"), rows=rows)
    lacking = {column: newest for column, newest in expected.items() if newest > own.get(column, 0)}
    # A table that a later migration has created is not in the backup, and neither are its rows.
    lacking = {column: newest for column, newest in lacking.items() if column.rpartition(".")[0] in rows}
    if lacking:
        newest_own = max(own.values(), default=None)
        newest = timestamps.iso(max(lacking.values()))
        last = timestamps.iso(newest_own) if newest_own is not None else None
        why = message("ready.backup.without_wal", last=last, newest=newest)
        return Backup(path, at, WITHOUT_WAL, newest_own, why, rows)
    if older is not None:
        return Backup(path, at, OLDER_SCHEMA, at, older, rows)
    return Backup(path, at, SOUND, at, None, rows)
