# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time at which a database recovery installed a new database file. This time is saved on the host.

An error that was logged before this time cannot be about the new file. However, the saved time does not show that the
new file is sound: only a check of the file shows this.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.lease import Clock

_FILE = "recovered_file.json"
_SMALL = 1 << 16
# If the wall clock and the clock since boot differ by more than this many seconds, the wall clock has been set. Smaller
# changes cannot be detected. Therefore, an error counts as older than the file only if it was logged more than this
# many seconds before the file was installed.
_SAME_CLOCK = 2.0


def instant(clock: Optional[Clock] = None) -> Dict[str, Any]:
    """Return the current time by the wall clock, the time since boot and the boot ID."""
    clock = clock or Clock()
    return {"at": timestamps.iso(clock.wall()), "boot": clock.boot(), "boot_id": clock.boot_id()}


def note(state_dir: str, *, path: str, since: Mapping[str, Any]) -> None:
    """Save the time at which the file at `path` was installed.

    since: the result of instant(), called right before the file was installed.

    Call this function only after the new file was installed and checked. A write error is ignored: without the saved
    time, old errors in the log still prevent a start.
    """
    with contextlib.suppress(OSError):
        path = os.path.realpath(path)
        known = {**since, "path": path, "inode": os.lstat(path).st_ino}
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(
            os.path.join(state_dir, _FILE), json.dumps(known, sort_keys=True).encode() + b"\n"
        )


def older_before(state_dir: str, database: Mapping[str, Any], *, clock: Optional[Clock] = None) -> str:
    """Return the time before which no logged error is about the current database file, or "" if it is unknown.

    database: the field `database` of a sqlite_info result. The time is unknown if the current file is not the one that
    the last recovery installed. It is also unknown if the wall clock may have been set, or the host was rebooted, since
    then.
    """
    clock = clock or Clock()
    try:
        known = json.loads(atomic_files.read_plain(os.path.join(state_dir, _FILE), limit=_SMALL).decode("utf-8"))
        at, boot = timestamps.epoch(known["at"]), float(known["boot"])
        file = known["path"], known["inode"], known["boot_id"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return ""
    if file != (database.get("real_path"), database.get("inode"), clock.boot_id()) or not all(file):
        return ""
    passed, passed_since_boot = clock.wall() - at, clock.boot() - boot
    # If a number is not finite, this condition is not met.
    if not (passed >= 0 and abs(passed - passed_since_boot) <= _SAME_CLOCK):
        return ""
    return timestamps.iso(at - _SAME_CLOCK)
