# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the backups of a database, and check whether one of them can be restored.

The recovery, the restore drill and the readiness report use these functions, so that all of them evaluate each backup
in the same way.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import stat
from typing import Any, Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

# Options from the "backups" documentation fragment.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "backup_dirs": {"type": "list", "elements": "path", "default": []},
    "backup_patterns": {"type": "list", "elements": "str", "default": []},
}
MOST = 20  # maximum number of backups to examine, newest first
# The results of examine().
SOUND, DAMAGED, OTHER_SERVICE, UNREADABLE, NOT_CHECKED, REFUSED = (
    *("sound", "damaged", "other_service", "unreadable"),
    *("not_checked", "refused"),
)
_MOST_NAMED = 5  # maximum number of tables that a message lists
_MOST_REFUSED = 5  # maximum number of refused backups to report, so that they do not displace usable backups
# Tables with these prefixes do not identify a service: migration tools and SQLite create such tables in the databases
# of many services.
_OF_EVERY_SERVICE = ("knex_migrations", "sqlite_")


class Recorded(NamedTuple):
    """A backup that this collection created and verified. at: when the backup began, in seconds since the epoch.

    size: the file size, in bytes. user: the user that could read the database at that time, or "" if unknown.
    """

    path: str
    at: float
    size: int
    user: str = ""


class Candidate(NamedTuple):
    """A file that may be a backup. at: the time of its last write, in seconds since the epoch.

    A backup contains the state of the database at the time when the copy began. If the backup is recorded, this time is
    known, so `at` is this time. why: the reason why the file cannot be used, or None. kind: the result of examine() if
    there is such a reason.
    """

    at: float
    path: str
    why: Optional[Message] = None
    kind: str = DAMAGED


class Known(NamedTuple):
    """The data that identifies the service's database. Unknown values are empty.

    tables: the names of its tables. created_at: the time of its first migration (see schema.first_migration).
    """

    tables: Collection[str] = ()
    created_at: str = ""


class Examined(NamedTuple):
    """The result for one backup. why: the reason if it cannot be restored, otherwise None."""

    kind: str
    why: Optional[Message] = None
    rows: Mapping[str, int] = {}


def examine(candidate: Candidate, known: Known, *, user: Optional[str], time_budget: float) -> Examined:
    """Check whether a backup is sound and belongs to the service's database. time_budget: limit in seconds."""
    if candidate.why is not None:
        return Examined(candidate.kind, candidate.why)
    try:
        check = sqlite_check.check(
            path=candidate.path, checks=["quick", "integrity"], user=user, time_budget=max(time_budget, 0.1)
        )
    except SqliteError as error:
        return Examined(UNREADABLE, error.told)
    checks, rows, database = check["checks"], check["row_counts"], check["database"]
    problems = [each for each in check["problems"] if each["level"] == "error"]
    if problems:
        unread = {each["code"] for each in problems} <= {"unreadable", "schema_too_new"}
        return Examined(UNREADABLE if unread else DAMAGED, of(problems[0], "message"), rows)
    if any(checks.get(name) != "ok" for name in ("quick", "integrity", "row_counts")):
        return Examined(NOT_CHECKED, message("reason.restore.not_checked"), rows)
    other = why_foreign(known, Known(rows, database["first_migration_at"] or ""))
    return Examined(SOUND if other is None else OTHER_SERVICE, other, rows)


def why_foreign(known: Known, found: Known) -> Optional[Message]:
    """Return the reason why a sound database is not a backup of the service's database, or None if it may be one.

    The first migration has the same time in all copies of a database. Another database of the same service, such as the
    one on a test host, has the same tables, but a different time. If the time of the service's database is unknown, the
    tables are compared. A backup from before a migration may lack some of the tables. Tables such as `users` also exist
    in the databases of other services, so one common table is not sufficient.
    """
    if known.created_at and found.created_at:
        if known.created_at == found.created_at:
            return None
        return message("reason.restore.other_database", created=found.created_at, expected=known.created_at)
    if known.created_at:
        return message("reason.restore.no_migrations")
    ours, theirs = (
        {name for name in names if not name.startswith(_OF_EVERY_SERVICE)} for names in (known.tables, found.tables)
    )
    if not ours or not theirs or len(ours & theirs) * 2 > min(len(ours), len(theirs)):
        return None
    return message("reason.restore.other_service", tables=sorted(theirs - ours)[:_MOST_NAMED])


def refusal(candidate: Candidate, why: Message) -> Message:
    """Return the reason why a backup cannot be used, with the path of the backup."""
    return message("reason.restore.backup_unusable", path=printable(candidate.path), why=why)


def find(
    place: str,
    *,
    dirs: Sequence[str],
    patterns: Sequence[str],
    rights: safe_open.Rights,
    reader: backup_access.Reader,
    recorded: Tuple[Sequence[Recorded], Sequence[Message]] = ((), ()),
) -> Tuple[List[Candidate], List[Message]]:
    """Return the backups in the database's folder, in `dirs` and in `recorded`, newest first.

    Also return the reasons why folders could not be read. Backups in folders are recognized by their names. patterns:
    file name patterns, or empty for the usual names. recorded: a list of the backups that this collection created in
    any folder, newest first, and the reasons why the list could not be read. Each folder is read as the account that
    safe_open.rights_on returns for it. reader: the account that can read a restored backup. A backup that this account
    must not receive is returned with a reason. Raises SqliteError if dirs contains a relative path.
    """
    found: Dict[str, float] = {}
    unread: List[Message] = list(recorded[1])
    beside = os.path.dirname(place)
    for folder in dict.fromkeys([beside, *dirs]):
        if not os.path.isabs(folder):
            raise SqliteError(f"backup_dirs must be absolute paths, not {folder!r}")
        names = patterns or usual_names(place, beside=folder == beside)
        try:
            with sqlite_files.clear_errors("look_for_backups", path=printable(folder)), contextlib.suppress(
                FileNotFoundError
            ):
                there = safe_open.rights_on(folder, user=rights)
                with safe_open.acting(there):
                    found.update(_backups_in(folder, place=place, patterns=names))
        except SqliteError as error:
            unread.append(error.told)
    access = access_to(place, reader, patterns=patterns, rights=rights)
    # The list begins with the newest entry. If two entries have the same path, the newer entry is valid.
    known = {each.path: each for each in reversed(recorded[0]) if each.path != place}
    made = [_as_recorded(each, rights=rights) for each in known.values()]
    # A folder that is not mounted may have contained many backups. Report only one backup from such a folder.
    gone = sorted(each for each, exists in made if not exists)[-1:]
    named = [Candidate(at, path) for path, at in found.items() if path not in known]
    present = [*named, *(each for each, exists in made if exists)]
    judged = [_judged(each, access, made_for=known[each.path].user if each.path in known else "") for each in present]
    refused = sorted(each for each in judged if each.kind == REFUSED)[-_MOST_REFUSED:]
    return sorted([*gone, *refused, *(each for each in judged if each.kind != REFUSED)], reverse=True), unread


def access_to(
    place: str, reader: backup_access.Reader, *, patterns: Sequence[str], rights: safe_open.Rights
) -> backup_access.Access:
    """Determine which backups of the database at `place` may be restored. See find() for the parameters.

    The usual names are derived from the path of the database. Therefore, they are used only if the inventory contains
    this path.
    """
    if not reader.configured:
        reader = reader._replace(configured=place)
    names = patterns or (usual_names(place, beside=False) if reader.names(place) else ())
    return backup_access.access(reader, rights=rights, patterns=names)


def _judged(each: Candidate, access: backup_access.Access, *, made_for: str) -> Candidate:
    why = access.why_not(each.path, made_for=made_for)
    return each if why is None else each._replace(why=why, kind=REFUSED)


def _as_recorded(each: Recorded, *, rights: safe_open.Rights) -> Tuple[Candidate, bool]:
    """Return a recorded backup, and whether its file exists."""
    try:
        with safe_open.acting(safe_open.rights_on(os.path.dirname(each.path), user=rights)):
            status = os.lstat(each.path)
            written = max(status.st_mtime, _written_at(f"{each.path}-wal"))
    except OSError as error:
        return Candidate(each.at, each.path, message("reason.restore.gone", why=str(error.strerror))), False
    if not stat.S_ISREG(status.st_mode):
        return Candidate(each.at, each.path, message("reason.restore.not_a_file")), False
    changed = None
    if status.st_size != each.size:
        changed = message("reason.restore.changed", size=each.size, now=status.st_size)
    return Candidate(min(written, each.at), each.path, changed), True


def not_found(place: str, *, dirs: Sequence[str], patterns: Sequence[str]) -> Message:
    """Return a message for a search that found no backup.

    The message contains the folders and file names that find() searches.
    """
    beside = os.path.dirname(place)
    elsewhere = [printable(each) for each in dict.fromkeys(dirs) if each != beside]
    # Use plain strings instead of messages, because the timeline does not record messages that are nested this deeply.
    searched = [
        f"{', '.join(folders)} ({', '.join(patterns or usual_names(place, beside=own))})"
        for folders, own in (([printable(beside)], True), (elsewhere, False))
        if folders
    ]
    return message("reason.restore.no_backup_in", places=searched)


def usual_names(place: str, *, beside: bool) -> List[str]:
    """Return the file name patterns of backups: the database's name, with a suffix or with a date before the extension.

    beside: True if the patterns are for the database's own folder. In this folder, another program may use a database
    with a similar name.
    """
    name = glob.escape(os.path.basename(place))
    stem, ending = os.path.splitext(name)
    own = [f"{name}.backup_*", f"{name}.bak*"]
    return own if beside else [*own, name, f"{stem}_*{ending}", f"{stem}-*{ending}"]


def has_name(name: str, patterns: Sequence[str]) -> bool:
    """Return True if a file's name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _backups_in(folder: str, *, place: str, patterns: Sequence[str]) -> Iterator[Tuple[str, float]]:
    """Yield the path and last write time of each regular file whose name matches a pattern. Raises OSError.

    A backup may have its own WAL, which can be newer than the backup itself.
    """
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder.rstrip('/')}/{name}"
        if path == place or name.endswith(("-wal", "-shm", "-journal")):
            continue
        if has_name(name, patterns):
            with contextlib.suppress(FileNotFoundError):  # the file may just have been removed
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield path, max(status.st_mtime, _written_at(f"{path}-wal"))


def _written_at(path: str) -> float:
    """Return the time (in seconds since the epoch) when a nonempty regular file last changed, or 0 if there is none."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return status.st_mtime if stat.S_ISREG(status.st_mode) and status.st_size else 0.0
    return 0.0
