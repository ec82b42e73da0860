# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems that are mounted, and file systems that should be mounted. See fstab(5)."""

from __future__ import annotations

import os
import re
from typing import List, Optional, Tuple

# Problem codes for a file whose file system is not mounted or whose folder does not exist.
AWAY = ("not_mounted", "folder_missing")

_LARGEST = 4 << 20


def mounted() -> List[Tuple[str, str, str]]:
    """Return (mount point, device, type) of every mount. A later mount hides earlier ones at the same point.

    Raises OSError.
    """
    found = []
    # Use split("\n") and split(" "). In this file, the kernel escapes spaces, tabs and line feeds. It does not escape
    # the other characters at which splitlines() and split() would split.
    for line in filter(None, _read("/proc/self/mounts").split("\n")):
        device, point, kind = line.split(" ")[:3]
        found.append((_unescaped(point), device, kind))
    return found


def unmounted(path: str) -> Optional[str]:
    """Return the mount point for `path` if nothing is mounted there, otherwise None.

    The mount point for `path` is the deepest mount point above `path` in /etc/fstab. Mount points that are not mounted
    at boot (noauto) are ignored. path: an absolute path without links.
    """
    try:
        table, there = _read("/etc/fstab"), [point for point, _device, _kind in mounted()]
    except OSError:
        return None
    fields = [line.split() for line in table.split("\n") if not line.lstrip().startswith("#")]
    wanted = [_unescaped(line[1]) for line in fields if len(line) > 3 and "noauto" not in line[3].split(",")]
    points = [os.path.realpath(point) for point in wanted if point.startswith("/")]
    deepest = max((point for point in points if path.startswith(f"{point.rstrip('/')}/")), key=len, default=None)
    return None if deepest in there else deepest


def _read(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(_LARGEST).decode("utf-8", "replace")


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), text)
