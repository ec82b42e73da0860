# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of verified runs on the host: when the service was healthy, and the row counts of its database."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


def note_healthy(state_dir: str, *, at: str) -> None:
    """Save the time when the service was healthy. A write error is ignored, because a recovery works without it."""
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        path = os.path.join(state_dir, "last_healthy")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.utime(path, (timestamps.epoch(at), timestamps.epoch(at)), follow_symlinks=False)


_ROWS = "last_good_rows.json"


def note_rows(state_dir: str, *, path: str, rows: Mapping[str, int], at: Optional[str] = None) -> None:
    """Save the row counts of a database that was found sound. A write error is ignored."""
    known = {"at": at or timestamps.now(), "path": os.path.realpath(path), "rows": dict(rows)}
    data = json.dumps(known, sort_keys=True).encode()
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(os.path.join(state_dir, _ROWS), data + b"\n")


def last_good_rows(state_dir: str, *, path: str) -> Dict[str, int]:
    """Return the last row counts by table of the sound database at path, or an empty mapping if they are unknown."""
    try:
        known = json.loads(
            atomic_files.read_plain(os.path.join(state_dir, _ROWS), limit=incident_store.LARGEST).decode("utf-8")
        )
        rows = known["rows"] if known["path"] == os.path.realpath(path) else {}
        return {str(name): int(number) for name, number in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def last_healthy(state_dir: str) -> Optional[str]:
    try:
        return timestamps.iso(os.lstat(os.path.join(state_dir, "last_healthy")).st_mtime)
    except (OSError, ValueError, OverflowError):
        return None
