# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find problems with a database from its files and open descriptors, without reading any of its pages."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from typing import List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    Problem,
    SqliteError,
    printable,
)


class User(NamedTuple):
    """The service user, who must be able to write to the database."""

    name: str
    uid: int
    groups: Sequence[int]


def find_user(name: Optional[str], *, option: str = "owner") -> Optional[User]:
    """Return the user that a module option specifies, or None. Raises SqliteError if the user does not exist."""
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SqliteError(message("reason.sqlite.no_account", option=option, user=repr(name))) from None
    return User(name=name, uid=entry.pw_uid, groups=os.getgrouplist(name, entry.pw_gid))


def side_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
    """Return the problems with the WAL and the rollback journal."""
    problems: List[Problem] = []
    wal, shown = found.wal, printable(found.path)
    live = holders.of_index
    if wal.damaged:
        lost = {"lost": wal.frames_lost, "commits": wal.commits_lost}
        if wal.header_valid:
            at = {"frame": wal.frames_valid + 1, "frames": wal.frames_total}
            told = message("reason.sqlite.wal_damaged", path=shown, **at, **lost)
        else:
            told = message("reason.sqlite.wal_header_damaged", path=shown, **lost)
        problems.append(Problem("wal_damaged", told, loss=True))
    elif wal.foreign:
        told = message("reason.sqlite.wal_foreign_salts", path=shown, frames=wal.frames_total)
        problems.append(Problem("wal_foreign", told, loss=True))
    elif wal.torn and not live:
        problems.append(
            Problem(
                "wal_torn",
                message("reason.sqlite.wal_torn", path=shown, frames=wal.frames_committed),
                level="warning",
                loss=wal.torn_commit and found.acknowledged != wal.frames_committed,
            )
        )
    why = file_survey.why_foreign(found)
    if why is not None:
        problems.append(Problem("wal_foreign", message("reason.sqlite.wal_foreign", path=shown, why=why), loss=True))
    if found.hot_journal and not holders.found:
        problems.append(Problem("hot_journal", message("reason.sqlite.hot_journal", path=shown), level="warning"))
    return problems


def holder_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
    problems = []
    if holders.deleted:
        names = ", ".join(f"pid {holder.pid} ({holder.command})" for holder in holders.deleted)
        told = message("reason.sqlite.open_deleted", path=printable(found.path), holders=names)
        problems.append(Problem("open_deleted", told, loss=True))
    return problems


def _may_write(user: User, facts: sqlite_files.FileFacts) -> bool:
    if user.uid == 0:
        return True
    if facts.uid == user.uid:
        wanted = stat.S_IWUSR
    elif facts.gid in user.groups:
        wanted = stat.S_IWGRP
    else:
        wanted = stat.S_IWOTH
    return bool(facts.mode & wanted)


def ownership(found: Look, user: User) -> List[Problem]:
    """Return a problem for each file that the user cannot write to, for example after the service ran as root.

    The database's folder is also checked.
    """
    looked_at = dict(found.files)
    with contextlib.suppress(OSError):
        folder = sqlite_files.facts_of(os.path.dirname(found.path), rights=found.rights)
        if folder is not None:
            looked_at["folder"] = folder
    return [
        Problem(
            "ownership",
            message(
                "reason.sqlite.ownership",
                path=printable(facts.path),
                owner=name_of_user(facts.uid),
                mode=f"{facts.mode:04o}",
                user=user.name,
            ),
            level="warning",
        )
        for facts in looked_at.values()
        if not _may_write(user, facts)
    ]


def name_of_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
