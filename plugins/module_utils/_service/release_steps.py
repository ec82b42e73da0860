# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The step from one release to another, and the account that performs the step."""

from __future__ import annotations

import os
import re
import stat
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError

SIDE_FILES = ("", "-wal", "-shm", "-journal")


class ReleaseError(ServiceError):
    """A parameter is invalid (the message contains its name), the releases could not be read, or the change failed."""


class Refused(ServiceError):
    """The step is refused. The message states the reason."""


class Releases(NamedTuple):
    """The folders and parameters of the application's releases. Each field contains the parameter of the same name."""

    app_dir: str
    db_path: str
    state_dir: str
    release: str = ""
    releases_dir: str = ""
    migrations_dir: str = "backend/migrations"
    protect: Sequence[str] = ()
    user: str = ""
    timeout: float = 60.0


class Step(NamedTuple):
    """A step from one release (source) to another (target). If git is used, the releases are identified by commits.

    again: True if this step finishes an earlier step that was killed midway.
    """

    source: str
    target: str
    source_commit: str
    target_commit: str
    again: bool = False

    @property
    def moves(self) -> bool:
        """True if the step changes the release."""
        return self.again or self.source_commit != self.target_commit


def natural(name: str) -> List[Tuple[int, int, str]]:
    """Return a sort key that compares numbers as numbers: v1.9 before v1.10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", name)]


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def rights(path: str, user: str) -> safe_open.Rights:
    """Return the uid and gid for making changes to a path, or None to keep the current account.

    Raises OSError. Raises IdentityError if this process is not allowed to act as the user.
    """
    if user:
        run_as.resolve(user, folder=path)
    return safe_open.rights_on(path, user=safe_open.account_rights(user))


def not_of_root(folder: str) -> Optional[str]:
    """Return the path of an entry that an account other than root can change, or None. Raises OSError."""
    for place, folders, names in os.walk(folder):
        for name in [".", *folders, *names]:
            status = os.lstat(os.path.join(place, name))
            others = not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o022
            if status.st_uid != 0 or others:
                return os.path.normpath(os.path.join(place, name))
    return None


def gone_back(record: Mapping[str, str]) -> Message:
    instant = str(record.get("at"))
    return message("reason.release.gone_back", old=str(record.get("from")), new=str(record.get("to")), at=instant)
