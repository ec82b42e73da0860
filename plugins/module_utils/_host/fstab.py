# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that the host should have mounted (fstab(5))."""

from __future__ import annotations

import os
import re
from typing import Optional

_FSTAB = "/etc/fstab"


def unmounted(path: str, *, table: str = _FSTAB) -> Optional[str]:
    """Return the mount point of the file system that should contain path, if it is not mounted; else None.

    The deepest mount point in the table that contains path counts. path: an absolute path without links.
    """
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as stream:
            fields = [line.split() for line in stream if not line.lstrip().startswith("#")]
    except OSError:
        return None
    points = [_unescaped(each[1]).rstrip("/") for each in fields if len(each) > 1 and each[1].startswith("/")]
    above = [point for point in points if point and path.startswith(f"{point}/")]
    if not above:
        return None
    deepest = max(above, key=len)
    return None if os.path.ismount(deepest) else deepest


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), text)
