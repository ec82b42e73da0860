# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a database's files byte for byte, while no process has these files open."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any, Callable, Dict, List, Optional, TypeVar

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable

# Some processes open the files only briefly, for example a virus scanner or a copy program. These are the maximum time
# to wait for such processes, and the time between two attempts, in seconds.
_PATIENCE, _PAUSE = 3.0, 0.1


class _InUseError(SqliteError):
    """A process has the files open, so copies of them might be inconsistent with each other."""


_Made = TypeVar("_Made")


def patiently(work: Callable[[], _Made], *, until: float) -> _Made:
    """Return the result of `work`. Retry for up to _PATIENCE seconds while a process has the files open.

    until: the deadline, in time.monotonic seconds. Raises SqliteError.
    """
    until = min(until, time.monotonic() + _PATIENCE)
    while True:
        try:
            return work()
        except _InUseError:
            if time.monotonic() + _PAUSE > until:
                raise
        time.sleep(_PAUSE)


def closed(path: str, *, user: Optional[str], deadline: float, proc_root: str) -> Look:
    """Return the files of a closed database. Raises SqliteError, for example if a process has the files open."""
    found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
    shown = printable(found.path)
    if holders.found:
        raise _InUseError(message("reason.sqlite.files_in_use", path=shown, holders=holders.named()))
    if not found.files:
        raise SqliteError(message("reason.sqlite.no_files", path=shown))
    for facts in found.files.values():
        if not facts.regular:
            kind = sqlite_files.kind_of(facts)
            raise SqliteError(message("reason.sqlite.copy_not_a_file", path=printable(facts.path), kind=kind))
    return found


def copy_bytes(found: Look, made: str, *, deadline: float, proc_root: str) -> List[Dict[str, Any]]:
    """Copy the files byte for byte into the new folder `made`. Return the name, path, size and SHA-256 of each file.

    Raises OSError, or SqliteError if a process used the files during the copy.
    """
    atomic_files.discard_tree(made)
    files = _copy_each(found, made, deadline=deadline)
    holders = sqlite_holders.find_holders(found, proc_root=proc_root)
    written = sqlite_files.stamps_of(found.path, rights=found.rights) != found.stamps
    if written or holders.found:
        error = SqliteError if written else _InUseError
        raise error(message("reason.sqlite.used_meanwhile", path=printable(found.path)))
    return files


def _copy_each(found: Look, made: str, *, deadline: float) -> List[Dict[str, Any]]:
    os.mkdir(made, 0o700)
    files: List[Dict[str, Any]] = []
    for name in sqlite_files.SUFFIXES:
        if name not in found.files:
            continue
        facts = found.files[name]
        copy = f"{made}/{os.path.basename(facts.path)}"
        digest = hashlib.sha256()
        with open(copy, "xb") as writer:
            os.fchmod(writer.fileno(), 0o600)
            for chunk in sqlite_files.chunks_of(facts, deadline=deadline):
                digest.update(chunk)
                if chunk.count(0) == len(chunk):  # keep holes, so that the copy needs no more space than the original
                    writer.seek(len(chunk), os.SEEK_CUR)
                else:
                    writer.write(chunk)
            writer.truncate()
            writer.flush()
            os.utime(writer.fileno(), ns=(facts.mtime_ns, facts.mtime_ns))
            os.fsync(writer.fileno())
        files.append(
            {
                "name": name,
                "path": printable(os.path.basename(facts.path)),
                "size": os.stat(copy).st_size,
                "sha256": digest.hexdigest(),
            }
        )
    atomic_files.fsync_folder(made)
    return files
