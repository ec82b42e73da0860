# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Problems of a database that are visible in its files and open descriptors, without reading a page."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import stat
from typing import List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    Problem,
    SqliteError,
    printable,
)


@dataclasses.dataclass(frozen=True)
class User:
    """The service user, which must be able to write to the database."""

    name: str
    uid: int
    groups: Sequence[int]


def find_user(name: Optional[str]) -> Optional[User]:
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SqliteError(f"owner must be a user of this host, not {name!r}") from None
    return User(name=name, uid=entry.pw_uid, groups=os.getgrouplist(name, entry.pw_gid))


def side_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
    """Return the problems of the WAL, the journal and the open descriptors."""
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
    why = file_survey.why_foreign(found)
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


def holder_problems(found: Look, holders: sqlite_holders.Holders) -> List[Problem]:
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
    """Return the files that the service cannot write to, for example after a run as root by mistake."""
    looked_at = dict(found.files)
    with contextlib.suppress(OSError):
        folder = sqlite_files.facts_of(os.path.dirname(found.path), rights=found.rights)
        if folder is not None:
            looked_at["folder"] = folder
    return [
        Problem(
            "ownership",
            f"{printable(facts.path)} belongs to {name_of_user(facts.uid)}, mode {facts.mode:04o}: "
            f"user {user.name} cannot write to it",
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
