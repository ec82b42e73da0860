# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Examine paths without showing an account which files exist in folders that the account cannot enter.

The service's user can read some results of this collection. If this user chooses a path, or creates a link on a path,
root must not report whether a file exists there, or who owns it. A path that this user has chosen is examined within
safe_open.acting. The functions below are for all other paths. This user cannot have chosen those paths, but may have
created links on them.
"""

from __future__ import annotations

import os
from typing import Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open


def open_path(path: str, *, user: safe_open.Rights = None) -> int:
    """Open a file of any kind only to examine it (O_PATH), and return its descriptor. Raises OSError.

    Links of other accounts are followed as in safe_open.open_any. user: the account that follows a link if several
    accounts could have created it.
    """
    try:
        return safe_open.open_any(path, os.O_PATH)
    except PermissionError:
        if user is None:
            raise
        with safe_open.acting(user):
            return os.open(path, os.O_PATH | os.O_CLOEXEC)


def status(path: str, *, user: safe_open.Rights = None) -> os.stat_result:
    """Return the status of a file of any kind. See open_path. Raises OSError."""
    descriptor = open_path(path, user=user)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def mode_of(path: str, *, user: safe_open.Rights = None) -> int:
    """Return the mode of a file of any kind (see open_path), or 0 if it does not exist or cannot be reached."""
    try:
        return status(path, user=user).st_mode
    except (OSError, ValueError):  # the path contains a null byte
        return 0


def resolve(path: str, *, user: safe_open.Rights) -> Tuple[str, safe_open.Rights]:
    """Return a path without links, and the account with which a file is examined there (None for root).

    Links that only root could have created are followed as root, all other links as the user. If the user's links lead
    to the file, the file is examined as the user. Raises OSError.
    """
    followed = safe_open.follow_ours(path if os.path.isabs(path) else os.path.abspath(path))
    with safe_open.acting(user):
        real = os.path.realpath(followed)
    return real, (user if real != followed else None)
