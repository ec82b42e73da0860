# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that a process has open: databases, logs, and deleted files that still occupy space."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

_MOST_FILES = 500
_MOST_SECONDS = 2.0

DATABASE_NAMES = (".db", ".sqlite", ".sqlite3")
_DELETED = " (deleted)"
# Paths of devices, in-memory files, and unnamed temporary files. See O_TMPFILE in open(2).
_NO_NAME = re.compile(r"/(?:dev|proc)/|/memfd:|.*/#\d+\Z")


def search() -> procfs.Search:
    """Return an object that searches the open files of processes. Use one object for all processes of a service."""
    return procfs.Search(seconds=_MOST_SECONDS)


def descriptors(pid: int, within: procfs.Search) -> Tuple[Optional[int], List[Tuple[str, str]]]:
    """Return the number of open descriptors of a process, and at most _MOST_FILES pairs (descriptor, link target).

    The number is None if the limits of the search are reached. Raises OSError.
    """
    count = 0
    files: List[Tuple[str, str]] = []
    try:
        for path in within.descriptors(pid):
            count += 1
            if count <= _MOST_FILES:
                with contextlib.suppress(OSError):
                    files.append((os.path.basename(path), os.readlink(path)))
    except procfs.UnfinishedError:
        return None, files
    return count, files


def _written(pid: int, descriptor: str) -> bool:
    """Return True if a descriptor is open for writing. For the octal flags, see proc_pid_fdinfo(5) and open(2)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = procfs.read_text(f"/proc/{pid}/fdinfo/{descriptor}").split("\n")
        flags = int(next((line.split()[1] for line in lines if line.startswith("flags:")), "0"), 8)
        return flags & os.O_ACCMODE != os.O_RDONLY
    return False


def kinds(pid: int, files: Sequence[Tuple[str, str]]) -> Dict[str, Any]:
    """Group the open files of a process: databases, logs, and deleted files that still occupy space.

    Only /proc is read, because accessing a file itself could hang if its disk does not respond.
    """
    databases, logs, deleted = set(), set(), []
    for descriptor, target in files:
        path = target[: -len(_DELETED)] if target.endswith(_DELETED) else target
        if not path.startswith("/") or _NO_NAME.match(path):
            continue
        if path.endswith(DATABASE_NAMES):
            databases.add(path)
        elif _written(pid, descriptor) and (path.endswith(".log") or descriptor in ("1", "2")):
            logs.add(path)
        if target != path:
            deleted.append({"path": path, "descriptor": int(descriptor)})
    return {"open_databases": sorted(databases), "open_logs": sorted(logs), "deleted_files": deleted}
