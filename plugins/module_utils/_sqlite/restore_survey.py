# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Before anything is changed, check the files, the owner, the holders and the rows of the damaged database."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from typing import Iterator, Mapping, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    file_survey,
    restore_swap,
    restore_ways,
    salvage_image,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage as sqlite_salvage
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.row_counts import collapsed
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.salvage_image import Owner

# Time limit for retries while another process has the database open, and time between two attempts, in seconds.
_PATIENCE, _PAUSE = 3.0, 0.1


def owner_of(place: str, user: Optional[str], *, rights: safe_open.Rights) -> Owner:
    """Return the owner of a new database.

    The owner is `rights` if given, else the owner of the old database, else `user`, else the folder's owner. Raises
    SqliteError if `user` does not exist.
    """
    if rights:
        return Owner(*rights)
    facts = sqlite_files.facts_of(place, rights=None)
    if facts is not None and facts.regular:
        return Owner(facts.uid, facts.gid)
    if user:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise SqliteError(message("reason.sqlite.no_account", option="owner", user=repr(user))) from None
        return Owner(entry.pw_uid, entry.pw_gid)
    folder = os.stat(os.path.dirname(place))
    return Owner(folder.st_uid, folder.st_gid)


def _survey(
    path: str, *, user: Optional[str], deadline: float, proc_root: str
) -> Tuple[Look, sqlite_holders.Holders, Optional[Message]]:
    """Check the files, and retry for up to _PATIENCE seconds until the WAL is read completely.

    Returns the files, the holders, and the reason why the WAL was not read completely (or None). The whole WAL is
    needed, because a salvage would lose the rows in the unread part without counting them. If any process has the
    database open, even only to copy it, the WAL is read as a live WAL. Such a read fails if the database is damaged.
    """
    give_up = min(deadline, time.monotonic() + _PATIENCE)
    while True:
        found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
        wal = found.files.get("wal")
        if wal is None or not wal.regular or not wal.size or (found.wal.exists and found.wal.complete):
            return found, holders, None
        if time.monotonic() >= give_up:
            why = [problem.told for problem in found.problems] or [message("reason.sqlite.too_long")]
            if holders.found:
                why = [message("reason.restore.open_in", holders=holders.named())]
            return found, holders, message("reason.restore.wal_unread", why=why)
        time.sleep(_PAUSE)


def require_a_place(place: str, *, rights: safe_open.Rights) -> None:
    """Raise SqliteError if the database is missing because its folder is missing or its file system is not mounted."""
    if any(sqlite_files.facts_of(place + suffix, rights=rights) for suffix in sqlite_files.SUFFIXES.values()):
        return
    problem = file_survey.away(place, rights=rights)
    if problem is not None:
        raise SqliteError(message("reason.restore.away", why=problem.told))


def examine(
    path: str,
    *,
    scratch: str,
    expected: Mapping[str, int],
    last_good: Mapping[str, int],
    replaced: bool,
    created_at: str,
    owner: Optional[str],
    time_budget: float,
    deadline: float,
    rights: safe_open.Rights,
    proc_root: str,
) -> restore_ways.Case:
    """Check the damaged database and count its rows. Raises SqliteError.

    expected: the minimum row counts of the database. last_good: numbers of rows at the last good count. Users delete
    rows, so these numbers are used only in three cases: the rows cannot be counted now, the database is new, or the
    database has lost most of its rows. created_at: the time of the first migration of the last sound database, or "" if
    it is unknown.
    """
    begun = time.monotonic()
    check = sqlite_check.check(
        path=path,
        checks=["quick", "integrity", "foreign_keys"],
        time_budget=time_budget,
        baseline=expected,
        user=owner,
        proc_root=proc_root,
    )
    # If a database is new or has lost most of its rows, its row counts do not show how many rows existed before.
    lacking = replaced or (check["checks"].get("row_counts") == "ok" and collapsed(last_good, check["row_counts"]))
    known = {**last_good, **expected} if lacking else expected
    found, holders, unread = _survey(path, user=owner, deadline=deadline, proc_root=proc_root)
    for facts in found.files.values():
        if not facts.regular:
            kind = sqlite_files.kind_of(facts)
            raise SqliteError(message("reason.sqlite.move_away", path=printable(facts.path), kind=kind))
    facts_or_none = found.files.get("database")
    case = restore_ways.Case(
        path=path,
        found=found,
        unread=unread,
        holders=holders,
        check=check,
        owner=owner_of(path, owner, rights=rights),
        user=owner,
        mode=facts_or_none.mode & 0o777 if facts_or_none is not None else 0o600,
        rows=dict(check["row_counts"]),
        uncounted=[],
        schema_unreadable=False,
        comparable=bool(known) or not lacking,
        reading=salvage_image.COMMITTED,
        begun=begun,
        deadline=deadline,
        rights=rights,
        # The creation time of a new database does not identify the backups of the original database.
        created_at=created_at or ("" if lacking else check["database"]["first_migration_at"] or ""),
        last_good=last_good,
    )
    if not (check["healthy"] and check["checks"].get("row_counts") == "ok"):
        _count(case, scratch)
    # The database had at least as many rows as were counted before the damage. The number of rows that were written
    # after the last good count is still unknown.
    least = {table: rows for table, rows in last_good.items() if case.schema_unreadable or table in case.uncounted}
    for table, rows in {**least, **known}.items():
        case.rows[table] = max(case.rows.get(table, 0), rows)
    case.uncounted = [table for table in case.uncounted if table not in expected]
    case.schema_unreadable = case.schema_unreadable and not expected
    return case


def _count(case: restore_ways.Case, scratch: str) -> None:
    """Count the readable rows in an image of the damaged database."""
    if not case.found.files.get("database") and not case.found.wal.frames_committed:
        case.schema_unreadable = True
        return
    _room(case, os.path.dirname(scratch))
    case.reading = _reading_of(case, scratch)
    with _image(case, scratch, reading=case.reading) as image:
        rows, case.uncounted = sqlite_salvage.count_what_is_there(image, owner=case.owner, deadline=case.deadline)
    case.rows = rows
    case.schema_unreadable = not rows and not case.uncounted


def _reading_of(case: restore_ways.Case, scratch: str) -> str:
    """Return the part of the WAL to use (see salvage_image.make_image).

    The WAL of another database is ignored, because its frames would overwrite pages.
    """
    if "database" not in case.found.files or not case.found.wal.frames_committed:
        return salvage_image.COMMITTED
    if file_survey.why_foreign(case.found):
        return salvage_image.ALONE
    # Together with this WAL, the database has failed the check. A sound database remains sound with its own WAL.
    # Therefore, if the database is sound without this WAL, the WAL is from another database.
    with _image(case, scratch, reading=salvage_image.ALONE) as image:
        sound = not restore_ways.checked(image, user=case.user, time_budget=case.deadline - time.monotonic())
    return salvage_image.ALONE if sound and not case.found.wal.damaged else salvage_image.COMMITTED


@contextlib.contextmanager
def _image(case: restore_ways.Case, scratch: str, *, reading: str) -> Iterator[str]:
    """Create an image of the damaged database, and yield its path. The image is removed when the block ends."""
    folder = f"{scratch}/image"
    restore_ways.own_folder(folder, case.owner)
    try:
        with sqlite_files.clear_errors("copy_to", path=printable(case.path), target=printable(folder)):
            salvage_image.make_image(case.found, f"{folder}/image.db", owner=case.owner, reading=reading)
        yield f"{folder}/image.db"
    finally:
        atomic_files.discard_tree(folder)


def _room(case: restore_ways.Case, folder: str) -> None:
    """Check that a folder has enough space for an image and a new database. Raises SqliteError."""
    wal = case.found.wal
    size = sum(facts.size for name, facts in case.found.files.items() if name != "shm")
    needed = 2 * max(size, wal.database_pages * wal.page_size) + restore_ways.MARGIN
    with sqlite_files.clear_errors("get_space", path=printable(folder)):
        free = sqlite_files.free_bytes(folder)
    if free < needed:
        why = message("reason.sqlite.no_room_in", needed=needed, folder=printable(folder), free=free)
        raise sqlite_files.cannot("recover", path=printable(case.path), why=why)


def refuse_files_of_root(place: str, *, rights: safe_open.Rights) -> None:
    """Raise SqliteError if root owns one of the database's files. The database's user cannot replace such a file."""
    for suffix in sqlite_files.SUFFIXES.values() if rights else ():
        facts = sqlite_files.facts_of(place + suffix, rights=rights)
        if facts is not None and facts.regular and facts.uid == 0:
            why = message("reason.sqlite.file_of_root", file=printable(facts.path))
            raise sqlite_files.cannot("recover", path=printable(place), why=why)


def refuse_hidden_holders(place: str, *, user: Optional[str], proc_root: str) -> None:
    """Raise SqliteError if this user cannot see all processes. In this case, a recovery would also fail."""
    if not restore_swap.guarded(place):
        found, holders = sqlite_holders.survey(place, user=user, deadline=time.monotonic(), proc_root=proc_root)
        if not holders.complete:
            why = message("reason.sqlite.holders_hidden")
            raise SqliteError(message("reason.sqlite.not_recovered", path=printable(found.path), why=why))


def refuse_holders(place: str, *, user: Optional[str], proc_root: str) -> None:
    if restore_swap.guarded(place):
        return  # no process can open the database
    give_up = time.monotonic() + _PATIENCE
    while True:
        found, holders = sqlite_holders.survey(place, user=user, deadline=time.monotonic(), proc_root=proc_root)
        # Retry while the files are open, because a virus scanner or a copy program may have opened them only briefly.
        if not holders.found or time.monotonic() >= give_up:
            break
        time.sleep(_PAUSE)
    why = message("reason.sqlite.open_in", holders=holders.named()) if holders.found else None
    if why is None and not holders.complete:
        why = message("reason.sqlite.holders_hidden")
    if why is not None:
        raise SqliteError(message("reason.sqlite.not_recovered", path=printable(found.path), why=why))
