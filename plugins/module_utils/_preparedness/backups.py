# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find out which backups could be restored, and when the newest rows in each of them were written.

A backup can be restored if it is sound, belongs to the service's database, and can be read as the service's user. If
rows that were written before the copy began are missing from a backup, its -wal file was not copied.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex_tables
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, candidates, newest_write
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.candidates import Candidate, Known, Recorded

# Kinds of sound backups, in addition to the kinds that candidates.py defines. Backups of the kinds in RESTORABLE can be
# restored.
OLDER_SCHEMA, WITHOUT_WAL = "older_schema", "without_wal"
RESTORABLE = (candidates.SOUND, OLDER_SCHEMA, WITHOUT_WAL)

# A backup contains the database's state when the copy began. The modification time of the backup's file is the time
# when the copy ended. A copy is expected to take at most this many seconds.
_COPYING = 600.0


class Live(NamedTuple):
    """The service's database. known: the data that identifies it. readable: True if it can be read now.

    migrations: the names of the applied migrations, or empty if they cannot be read.
    """

    path: str
    known: Known = Known()
    readable: bool = False
    migrations: Sequence[str] = ()


class Backup(NamedTuple):
    """A backup. at: time of the last change to its files. written_at: time of its newest write.

    why: the reason for `kind`.
    """

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


def live(
    check: Mapping[str, Any],
    *,
    path: str,
    user: Optional[str],
    timeout: float,
    last: Optional[last_good.Counted] = None,
) -> Live:
    """Return the data that identifies the service's database. check: the result of a check of this database.

    last: the last good row counts. A recovery compares the backups with the database in which these rows were counted.
    """
    now, last = last_good.Counted.of(check), last or last_good.Counted()
    known = Known(sorted(now.rows or last.rows), last.created_at or now.created_at)
    if not now.rows:
        return Live(path, known)
    migrations: Sequence[str] = ()
    # If the migrations are unknown, a backup with an older schema is reported as sound.
    with contextlib.suppress(knex_tables.KnexError):
        migrations = knex_tables.read_tables(path, user=user, timeout=timeout).names
    return Live(path, known, True, migrations)


def survey(
    live: Live,
    *,
    dirs: Sequence[str],
    patterns: Sequence[str],
    user: Optional[str],
    budget: float,
    deadline: float,
    recorded: Tuple[Sequence[Recorded], Sequence[Message]] = ((), ()),
    configured: str = "",
) -> Dict[str, Any]:
    """Examine the backups, newest first, until a backup contains all rows that existed when it was created.

    Nothing is changed. budget: time limit in seconds for each backup. deadline: a time in time.monotonic seconds.
    recorded: see candidates.find. configured: the path of the database in the inventory, or "" if it is live.path.
    Returns the examined backups, the total number of backups, and the reasons why
    folders could not be read. Raises SqliteError for an invalid parameter.
    """
    rights = safe_open.account_rights(user)
    where: Dict[str, Any] = {"dirs": dirs, "patterns": patterns, "rights": rights, "recorded": recorded}
    files, unread = candidates.find(live.path, reader=backup_access.Reader(user, configured), **where)
    found: List[Backup] = []
    for each in files[: candidates.MOST]:
        left = deadline - time.monotonic()
        if left <= 0:
            found.append(Backup(each.path, each.at, candidates.NOT_CHECKED, why=message("reason.restore.not_checked")))
            break
        found.append(examine(each, live, user=user, budget=min(budget, left)))
        if found[-1].kind in (candidates.SOUND, OLDER_SCHEMA):
            break
    return {
        "found": [each.as_dict() for each in found],
        "number": len(files),
        "unread": [told.to_dict() for told in unread],
    }


def examine(each: Candidate, live: Live, *, user: Optional[str], budget: float) -> Backup:
    """Examine one backup. budget: time limit in seconds."""
    deadline = time.monotonic() + budget
    found = candidates.examine(each, live.known, user=user, time_budget=budget)
    if found.kind != candidates.SOUND:
        return Backup(each.path, each.at, found.kind, why=found.why, rows=found.rows)
    older = None
    if live.migrations:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            older = _schema(live, knex_tables.read_tables(each.path, user=user, timeout=left).names)
        except knex_tables.KnexError as error:
            return Backup(each.path, each.at, candidates.NOT_CHECKED, why=error.told, rows=found.rows)
    return _dated(each, live, found.rows, older, user=user, deadline=deadline)


def _schema(live: Live, migrations: Sequence[str]) -> Optional[Message]:
    """Return the migrations that are missing from a backup, or None."""
    lacking = [name for name in live.migrations if name not in set(migrations)]
    return message("ready.backup.older_schema", number=len(lacking), first=lacking[0]) if lacking else None


def _dated(
    each: Candidate,
    live: Live,
    rows: Mapping[str, int],
    older: Optional[Message],
    *,
    user: Optional[str],
    deadline: float,
) -> Backup:
    """Return a restorable backup with the time of its newest write."""
    at, path = each.at, each.path
    own = newest_write.newest_writes(path, user=user, until=at, deadline=deadline)
    before = at - _COPYING
    expected = (
        newest_write.newest_writes(live.path, user=user, until=before, deadline=deadline) if live.readable else {}
    )
    if own is None or expected is None:
        return Backup(path, at, candidates.NOT_CHECKED, why=message("reason.restore.not_checked"), rows=rows)
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
    return Backup(path, at, candidates.SOUND, at, None, rows)
