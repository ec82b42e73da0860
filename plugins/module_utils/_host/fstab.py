# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that the host should have mounted (fstab(5))."""

from __future__ import annotations

import os
import re
from typing import List, Optional

_FSTAB = "/etc/fstab"
_MOUNTED = "/proc/self/mountinfo"


def unmounted(path: str, *, table: str = _FSTAB, mounted: str = _MOUNTED) -> Optional[str]:
    """Return the mount point of the file system that should contain path, if it is not mounted; else None.

    The deepest mount point in the table that contains path counts. A mount point that is not mounted at boot (noauto)
    does not count. path: an absolute path without links. table, mounted: files in the formats of fstab(5) and
    proc_pid_mountinfo(5).
    """
    fields = [line for line in _fields(table) if len(line) > 3 and not line[0].startswith("#")]
    wanted = [_unescaped(line[1]) for line in fields if "noauto" not in line[3].split(",")]
    points = [os.path.realpath(point) for point in wanted if point.startswith("/")]
    above = [point for point in points if point != "/" and path.startswith(f"{point}/")]
    there = {_unescaped(line[4]) for line in _fields(mounted) if len(line) > 4}
    if not above or not there:
        return None
    deepest = max(above, key=len)
    return None if deepest in there else deepest


def _fields(path: str) -> List[List[str]]:
    """Return the fields of each line of a file, or nothing if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return [line.split() for line in stream if line.strip()]
    except OSError:
        return []


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), text)
