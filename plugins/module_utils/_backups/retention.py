# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide which old backups may be removed, and remove them.

Only a listed backup is removed, and only if its name has the form that this collection uses. The newest verified backup
and the newest sound backup are always kept. An unverified backup from a killed run is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import List, NamedTuple, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps

_DAY = 86400.0
# A backup's name consists of the database's name, BEFORE_TIME, and the backup's time.
BEFORE_TIME = ".backup_"
_TIME = r"\d{8}T\d{6}Z(?:-\d+)?\Z"
NAME = re.compile(rf"(?P<prefix>[^/]+{re.escape(BEFORE_TIME)}){_TIME}")


class Limits(NamedTuple):
    """Limits for verified backups.

    keep: the maximum number of backups. days: the maximum age in days, or 0 for no limit.
    """

    keep: int
    days: float = 0.0


def has_our_name(path: str, *, folder: str, prefix: str) -> bool:
    """Return True if a path is in this folder and has the file name of a scheduled backup."""
    name = NAME.match(os.path.basename(path))
    return os.path.dirname(path) == folder and name is not None and name["prefix"] == prefix


def surplus(entries: Sequence[Entry], limits: Limits, *, now: float) -> List[Entry]:
    """Return the entries to remove. entries: newest first. now: seconds since the epoch.

    The clock may have been set back. Therefore, only the order of the list shows which backup is newer. The first entry
    may be that of a backup that is currently being created. All later entries that were not verified are surplus.
    """
    newest_verified = next((entry.path for entry in entries if entry.verified), "")
    newest_sound = next((entry.path for entry in entries if entry.sound), "")
    found = []
    verified = 0
    for number, entry in enumerate(entries):
        if not entry.verified:
            if number > 0:
                found.append(entry)
            continue
        verified += 1
        too_many = verified > limits.keep
        too_old = bool(limits.days) and now - _seconds(entry.at) > limits.days * _DAY
        if (too_many or too_old) and entry.path not in (newest_verified, newest_sound):
            found.append(entry)
    return found


def _seconds(at: str) -> float:
    """Return a time in seconds since the epoch. If an entry has no valid time, treat it as new, so that it is kept."""
    with contextlib.suppress(ValueError):
        return timestamps.epoch(at)
    return float("inf")


def remove(
    entries: Sequence[Entry], *, folder: str, prefix: str, rights: safe_open.Rights
) -> Tuple[List[Entry], List[Tuple[Entry, str]]]:
    """Remove backups. Return the entries whose files no longer exist, and (entry, reason) for each remaining file.

    rights: the account whose rights are used in the folder. Only regular files with the name of a scheduled backup are
    removed.
    """
    gone: List[Entry] = []
    left: List[Tuple[Entry, str]] = []
    with safe_open.acting(rights):
        for entry in entries:
            if not has_our_name(entry.path, folder=folder, prefix=prefix):
                left.append((entry, "its name is not that of a backup in this folder"))
                continue
            try:
                if stat.S_ISREG(os.lstat(entry.path).st_mode):
                    os.unlink(entry.path)
                    gone.append(entry)
                else:
                    left.append((entry, "it is not a regular file"))
            except FileNotFoundError:
                gone.append(entry)
            except OSError as error:
                left.append((entry, str(error.strerror)))
        if gone:
            with contextlib.suppress(OSError):
                atomic_files.fsync_folder(folder)
    return gone, left
