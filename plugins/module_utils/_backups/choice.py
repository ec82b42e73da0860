# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose the newest backup that can be restored, and report why newer ones cannot be restored."""

from __future__ import annotations

import os
import stat
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import litestream
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, candidates
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable


class Search(NamedTuple):
    """The parameters for a backup search. place: the database.

    named: the only backup to use, or "" for the newest one. A person specified it, so it is used even if the service's
    user cannot read it.

    known: the data that identifies the service's database. recorded: the result of listing.recorded(). configured: the
    path of the database in the inventory, or "" if it is `place`.
    """

    place: str
    named: str
    dirs: Sequence[str]
    patterns: Sequence[str]
    user: Optional[str]
    known: candidates.Known
    recorded: Tuple[Sequence[candidates.Recorded], Sequence[Message]]
    time_budget: float
    configured: str = ""


class Chosen(NamedTuple):
    """The backup to restore: its path or name, and its row count for each table.

    written: the time of its last write in seconds since the epoch, or None if it is unknown. replica: the replica that
    is restored instead of a file, or None.
    """

    path: str
    written: Optional[float]
    rows: Dict[str, int]
    replica: Optional[litestream.Replica] = None

    @property
    def at(self) -> Optional[str]:
        """The time of the last write to the backup, as text."""
        return None if self.written is None else timestamps.iso(self.written)


def newest(search: Search, *, deadline: float) -> Tuple[Optional[Chosen], List[Message]]:
    """Return the newest backup that can be restored, and the reasons why newer backups or folders cannot be used.

    The first value is None if no backup can be restored. Raises SqliteError or BackupError for invalid parameters.
    """
    found, problems = _candidates(search)
    if not found:
        problems.append(candidates.not_found(search.place, dirs=search.dirs, patterns=search.patterns))
    for each in found[: candidates.MOST]:
        left = deadline - time.monotonic()
        if left <= 0:
            problems.append(message("reason.restore.no_time"))
            break
        examined = examine(each, search, time_budget=min(search.time_budget, left))
        if examined.why is None:
            return Chosen(each.path, each.at, dict(examined.rows)), problems
        problems.append(candidates.refusal(each, examined.why))
    return None, problems


def examine(each: candidates.Candidate, search: Search, *, time_budget: float) -> candidates.Examined:
    """Check whether a backup can be restored."""
    return candidates.examine(each, search.known, user=search.user, time_budget=time_budget)


def _candidates(search: Search) -> Tuple[List[candidates.Candidate], List[Message]]:
    rights = sqlite_files.rights_on(search.place, search.user)
    if not search.named:
        where: Dict[str, Any] = {"dirs": search.dirs, "patterns": search.patterns}
        reader = backup_access.Reader(search.user, search.configured)
        return candidates.find(search.place, **where, reader=reader, rights=rights, recorded=search.recorded)
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
    begun = [each.at for each in search.recorded[0] if each.path == search.named]
    return [candidates.Candidate(min([status.st_mtime, *begun]), search.named)], []
