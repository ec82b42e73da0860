# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove files of killed modules from the host."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from typing import Optional

# Ansible unpacks the code of a module into a folder with this name, and removes the folder when the module exits.
_BEGIN, _MIDDLE = "ansible_itsm_nexus.runbook.", "_payload_"
_OLD = 3600.0


def remove(folder: Optional[str] = None) -> None:
    """Remove the unpacked code of modules that were killed more than an hour ago (about 0.9 MB per module).

    folder: the folder for temporary files, by default the one that Python uses. Errors are ignored, because the files
    are harmless.
    """
    with contextlib.suppress(OSError), os.scandir(folder or tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_BEGIN) and _MIDDLE in entry.name and _is_ours(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Return True if the entry is an old folder to which only this user has access.

    Another user cannot move such a folder here, because moving a folder requires write permission for this folder.
    """
    found = entry.stat(follow_symlinks=False)
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == os.geteuid()
    return private and found.st_mtime < time.time() - _OLD
