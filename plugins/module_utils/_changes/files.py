# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Describe files and folders as entries. If the stamp of a file has not changed, the file is not read again.

Call these functions with the rights of the account that controls the folder. If the process does not have these rights,
use these functions only for files that no account except root can replace. Links are followed only with these rights,
so they lead only to files that this account itself can read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import entries
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.entries import Entries, Entry, Stamp
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import path_status, safe_open

# A larger file is not read, so only the file's status shows whether the file was changed.
_LARGEST = 16 << 20
# Limits for a folder that contains code: number of files, depth of subfolders.
_MOST_FILES, _DEEPEST = 3000, 12
_CODE = (".js", ".cjs", ".mjs", ".ts", ".sql", ".node")
# Folders that do not contain the service's code.
_SKIPPED = ("node_modules", "logs", "log", "backups", "backup", "uploads", "coverage", "test", "tests")
_MOST_NAMES = 2000
# An entry lists at most this many files. Only the most recently changed files are listed.
_MOST_LATEST = 20

# A function that returns a summary of a file's content, and selected values from the content by name.
Reader = Callable[[bytes], Tuple[str, Mapping[str, str]]]


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(
        status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_ctime
    )


def digest(data: bytes) -> Tuple[str, Mapping[str, str]]:
    """Return the digest of a file that contains no secret. This is a Reader."""
    return hashlib.sha256(data).hexdigest()[: entries.DIGEST], {}


def file(kind: str, path: str, *, known: Entries, read: Optional[Reader] = None, name: str = "") -> Optional[Entry]:
    """Return the entry for a regular file, or None if there is no such file.

    known: the entries of the manifest. read: a function that evaluates the content, or None to use only the status.
    name: the name of the entry, by default the path.
    """
    entry = Entry(kind, name or path)
    before = known.get(entry.key)
    there = status(path)
    if there is None or not stat.S_ISREG(there.st_mode):
        return None
    stamp = stamp_of(there)
    entry = entry._replace(stamp=stamp, since=_folder_changed(path))
    if before is not None and before.stamp is not None and before.stamp[:6] == stamp[:6]:
        return entry._replace(value=before.value, parts=before.parts)
    # A file that is too large or cannot be read is described by its status.
    if read is not None and stamp.size <= _LARGEST:
        with contextlib.suppress(OSError, ValueError):
            value, parts = read(safe_open.read(path, limit=_LARGEST))
            return entry._replace(value=value, parts=parts)
    return entry


def status(path: str) -> Optional[os.stat_result]:
    """Return the status of a file or folder, or None. Root does not follow other accounts' links (see safe_open)."""
    try:
        return path_status.status(path)
    except OSError:
        return None


def _folder_changed(path: str) -> float:
    there = status(os.path.dirname(path))
    return max(there.st_ctime, there.st_mtime) if there is not None else 0.0


def folder(kind: str, path: str, *, known: Entries, name: str = "") -> Optional[Entry]:
    """Return the entry for a folder, with the names of its files and subfolders, or None if there is no such folder."""
    entry = Entry(kind, name or path)
    before = known.get(entry.key)
    there = status(path)
    if there is None or not stat.S_ISDIR(there.st_mode):
        return None
    # The size of a folder depends on its file system, and the modification time already shows every change.
    stamp = stamp_of(there)._replace(size=0)
    entry = entry._replace(stamp=stamp, since=_folder_changed(path))
    if before is not None and before.stamp is not None and before.stamp[:6] == stamp[:6]:
        return entry._replace(parts=before.parts)
    with contextlib.suppress(OSError):
        names = sorted(each for each in os.listdir(path) if not each.startswith("."))
        return entry._replace(parts=_named(names))
    return entry


def _named(names: Sequence[str]) -> Mapping[str, str]:
    """Convert names to the parts of an entry."""
    return dict.fromkeys(names if len(names) <= _MOST_NAMES else [entries.MANY], "")


def code(kind: str, path: str, *, name: str, skipped: Sequence[str] = ()) -> Optional[Entry]:
    """Return the entry for a folder with code, based on the status of its files. The files are not read.

    The parts are the names of the files. The value is empty if there are too many files.
    """
    found: List[Tuple[str, os.stat_result]] = []
    newest = 0.0
    try:
        for relative, each in _walk(path, skipped):
            if len(found) > _MOST_FILES:
                return Entry(kind, name)
            newest = max(newest, each.st_ctime)
            if not stat.S_ISDIR(each.st_mode):
                found.append((relative, each))
    except OSError:
        return None
    found.sort()
    lines = [f"{relative}\0{':'.join(map(str, stamp_of(each)[:6]))}" for relative, each in found]
    value = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[: entries.DIGEST]
    latest = sorted(((relative, each.st_ctime) for relative, each in found), key=lambda pair: -pair[1])
    parts = _named([relative for relative, _each in found])
    return Entry(kind, name, value, None, parts, newest, latest[:_MOST_LATEST])


def _walk(path: str, skipped: Sequence[str]) -> Iterator[Tuple[str, os.stat_result]]:
    """Yield the relative path and the status of each code file and of each folder. Links are not followed."""
    left: List[Tuple[str, int]] = [("", 0)]
    # The first folder may be a link to the current release.
    yield "", os.stat(path)
    while left:
        inside, depth = left.pop()
        with os.scandir(os.path.join(path, inside)) as found:
            for each in found:
                relative = os.path.join(inside, each.name)
                if each.is_dir(follow_symlinks=False):
                    if each.name not in _SKIPPED and each.name not in skipped and not each.name.startswith("."):
                        yield relative, each.stat(follow_symlinks=False)
                        left += [(relative, depth + 1)] if depth < _DEEPEST else []
                elif each.name.endswith(_CODE):
                    with contextlib.suppress(FileNotFoundError):
                        yield relative, each.stat(follow_symlinks=False)


def add(found: Dict[str, Any], *new: Optional[Entry]) -> None:
    """Add entries that exist."""
    found.update({entry.key: entry for entry in new if entry is not None})
