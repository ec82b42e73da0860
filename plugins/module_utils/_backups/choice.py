# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose the newest backup that can be restored, and report why newer ones cannot."""

from __future__ import annotations

import os
import stat
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import litestream
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore_ways
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

_MOST = 20  # maximum number of backups to examine, newest first


class Search(NamedTuple):
    """Where to search for backups. place: the database. named: the only backup to use, or "" for the newest one.

    known: the tables of the service, if they are known. listed: the backups that this collection has made.
    """

    place: str
    named: str
    dirs: Sequence[str]
    patterns: Sequence[str]
    user: Optional[str]
    known: Set[str]
    listed: Sequence[Entry]
    time_budget: float


class Chosen(NamedTuple):
    """The backup to restore: its path or name, its rows by table, and the replica that is restored instead of a file.

    written: the time of its last write in seconds since the epoch, or None if it is unknown.
    """

    path: str
    written: Optional[float]
    rows: Dict[str, int]
    replica: Optional[litestream.Replica] = None

    @property
    def at(self) -> Optional[str]:
        """The time of the last write, as text."""
        return None if self.written is None else timestamps.iso(self.written)


def newest(search: Search, *, deadline: float) -> Tuple[Optional[Chosen], List[Message]]:
    """Return the newest backup that can be restored, and why newer backups and folders cannot be used.

    The first value is None if no backup can be restored. Raises SqliteError or BackupError for invalid parameters.
    """
    candidates, problems = _candidates(search)
    if not candidates:
        problems.append(message("reason.restore.no_backup"))
    for written, path in candidates[:_MOST]:
        left = deadline - time.monotonic()
        if left <= 0:
            problems.append(message("reason.restore.no_time"))
            break
        rows, why = examine(path, search, time_budget=min(search.time_budget, left))
        if why is None:
            made = {entry.path: entry.at for entry in search.listed if entry.verified}.get(path)
            return Chosen(path, _earlier(written, made), dict(rows)), problems
        problems.append(message("reason.restore.backup_unusable", path=printable(path), why=why))
    return None, problems


def _earlier(written: float, made: Optional[str]) -> float:
    """Return the time of the last write that a backup contains. made: when this collection began the backup."""
    try:
        return min(written, timestamps.epoch(made)) if made else written
    except ValueError:
        return written


def _candidates(search: Search) -> Tuple[List[Tuple[float, str]], List[Message]]:
    rights = sqlite_files.rights_on(search.place, search.user)
    if not search.named:
        return restore_ways.backups(search.place, dirs=search.dirs, patterns=search.patterns, rights=rights)
    if not os.path.isabs(search.named) or "\0" in search.named:
        raise BackupError(f"backup must be an absolute path, not {printable(search.named)!r}")
    try:
        with safe_open.acting(safe_open.rights_on(search.named, user=rights)):
            status = os.lstat(search.named)
    except OSError as error:
        why = str(error.strerror)
        raise BackupError(message("reason.backup.not_read", path=printable(search.named), why=why)) from error
    if not stat.S_ISREG(status.st_mode):
        raise BackupError(message("reason.drill.not_a_file", path=printable(search.named)))
    return [(status.st_mtime, search.named)], []


def examine(path: str, search: Search, *, time_budget: float) -> Tuple[Mapping[str, int], Optional[Message]]:
    """Return the rows of a backup, and why it cannot be restored (None if it can)."""
    try:
        check = sqlite_check.check(path=path, checks=["quick", "integrity"], user=search.user, time_budget=time_budget)
    except SqliteError as error:
        return {}, error.told
    why = restore_ways.why_unusable(check) or restore_ways.why_foreign(search.known, check["row_counts"])
    return check["row_counts"], why
