# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Save the manifest after a healthy run, and read it during an outage."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import kinds
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.entries import (
    Entries,
    Entry,
    Manifest,
    from_json,
    to_json,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

NAME = "manifest.json"
_LARGEST = 4 << 20
# A service may write files itself while it starts. Files that change within this number of seconds after the start
# count as loaded.
_START = 3.0


def read(state_dir: str) -> Optional[Manifest]:
    """Return the manifest, or None if it is missing or damaged. The next healthy run replaces a damaged manifest."""
    path = os.path.join(state_dir, NAME)
    try:
        at = os.lstat(path).st_mtime
        return from_json(atomic_files.read_plain(path, limit=_LARGEST), at=at)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write(state_dir: str, known: Optional[Manifest], new: Manifest) -> None:
    """Save a manifest. Errors are ignored, because no recovery needs this file.

    If nothing has changed since the known manifest, only the modification time of the file is set, because this is
    faster.
    """
    path = os.path.join(state_dir, NAME)
    with contextlib.suppress(OSError):
        if known is None or not _are_alike(known, new):
            data = to_json(new)
            if len(data) > _LARGEST:
                return
            atomic_files.private_folder(state_dir)
            atomic_files.write_atomically(path, data)
        os.utime(path, (new.at, new.at), follow_symlinks=False)


def _are_alike(known: Manifest, new: Manifest) -> bool:
    if known.entries.keys() != new.entries.keys() or known.waiting != new.waiting:
        return False
    pairs = [(entry, known.entries[key]) for key, entry in new.entries.items()]
    return all(
        entry.is_like(before) and (entry.value, entry.gate) == (before.value, before.gate) for entry, before in pairs
    )


def merged(known: Optional[Manifest], seen: Entries, *, started_at: float, now: Optional[float] = None) -> Manifest:
    """Return the manifest after a check that found the service healthy.

    known: the manifest before this check. seen: the entries that exist now. started_at: when the service's process was
    started, in seconds since the epoch.

    A running service has not loaded changes that were made after its start. Such a change may be harmful even if the
    service is currently healthy. Therefore, the previous entry stays in the manifest until the service is healthy after
    its next start.
    """
    at = time.time() if now is None else now
    if known is None:
        return Manifest(at, dict(seen))
    entries: Dict[str, Entry] = {}
    waiting: Dict[str, List[float]] = {}
    for key in {**known.entries, **seen}:
        before, after = known.entries.get(key), seen.get(key)
        if before is not None and after is not None and after.is_like(before):
            # If an unchanged schema was read again, keep its earlier entry, because the new entry has a later time.
            entries[key] = before if before.value else after._replace(latest=())
            continue
        first_seen = list(known.waiting.get(key) or (known.at, at))
        if _is_loaded(before, after, started_at=started_at, first_seen=first_seen):
            if after is not None:
                entries[key] = after._replace(latest=())
            continue
        waiting[key] = first_seen
        if before is not None:
            entries[key] = before
    return Manifest(at, entries, waiting)


def _is_loaded(before: Optional[Entry], after: Optional[Entry], *, started_at: float, first_seen: List[float]) -> bool:
    """Return True if the service may have loaded a change, at its last start or while it was running.

    first_seen: the times of the last check before the change and of the first check after it.
    """
    entry = after or before
    if entry is None or not kinds.of(entry.kind).at_start:
        return True
    changed = 0.0 if after is None else after.stamp.at if after.stamp is not None else after.since
    if first_seen[0] < changed <= first_seen[1]:
        return started_at >= changed - _START
    # The exact time of the change is unknown. If the service was started between the two checks, it may have loaded the
    # change.
    return started_at >= first_seen[0]
