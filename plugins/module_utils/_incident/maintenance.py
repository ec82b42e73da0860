# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""During a maintenance window, an outage is only reported, and no action is taken.

Every window has an end. A window is defined by variables or by maintenance.json in the state folder (keys: until,
reason). A person can also edit this file.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages

_ALLOWED = message("reason.maintenance.allowed")
# Maximum size of the file in bytes. A larger file is invalid.
_LARGEST = 1 << 16
_RELATIVE = lazy(r"\+(?=\d)(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?\Z")
_UNITS = (86400, 3600, 60, 1)


class MaintenanceError(MessageError):
    """The end of the maintenance window is invalid, or its file could not be written."""

    templates = messages.ENGLISH


def _path(state_dir: str) -> str:
    return os.path.join(state_dir, "maintenance.json")


def _instant(text: str) -> float:
    """Convert a time with a time zone to seconds since the epoch. Raises ValueError."""
    moment = datetime.datetime.fromisoformat(re.sub(r"Z\Z", "+00:00", text.strip()))
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment.timestamp()


def _end(text: str, *, now: float) -> float:
    """Convert a time, or an offset from now such as +2h, to seconds since the epoch. Raises MaintenanceError."""
    if not text:
        raise MaintenanceError(message("reason.maintenance.no_end", allowed=_ALLOWED))
    match = _RELATIVE.match(text.strip())
    try:
        until = now + sum(int(n or 0) * unit for n, unit in zip(match.groups(), _UNITS)) if match else _instant(text)
        timestamps.iso(until)
    except (ValueError, OverflowError):
        raise MaintenanceError(message("reason.maintenance.not_an_end", until=repr(text), allowed=_ALLOWED)) from None
    if until <= now:
        raise MaintenanceError(message("reason.maintenance.ended", until=repr(text), at=timestamps.iso(until)))
    return until


def _of_variable(until: str, reason: str, *, now: float) -> Optional[Dict[str, str]]:
    """Return the window that the variables define, or None if there is no window or the window is over.

    Raises MaintenanceError.
    """
    if not until:
        if reason:
            raise MaintenanceError(message("reason.maintenance.only_reason", reason=repr(reason)))
        return None
    if _RELATIVE.match(until.strip()):
        raise MaintenanceError(message("reason.maintenance.relative", until=repr(until)))
    try:
        end = _instant(until)
    except ValueError:
        raise MaintenanceError(message("reason.maintenance.not_an_end", until=repr(until), allowed=_ALLOWED)) from None
    return {"until": timestamps.iso(end), "reason": reason, "source": "variable"} if end > now else None


def _contents(path: str) -> bytes:
    return atomic_files.read_plain(path, limit=_LARGEST)


def _of_file(
    state_dir: str, *, now: float, read: Callable[[str], bytes] = _contents
) -> Tuple[Optional[Dict[str, str]], List[str]]:
    """Return the window in the file of the state folder, and the problems with this file. The window may be over."""
    path = _path(state_dir)
    try:
        noted = json.loads(read(path).decode("utf-8"))
        if not isinstance(noted, dict) or not isinstance(noted.get("until"), str):
            raise ValueError('it has no end, "until"')
        until, reason = timestamps.iso(_instant(noted["until"])), str(noted.get("reason") or "")
    except (FileNotFoundError, NotADirectoryError):
        return None, []
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) else error
        return None, [f"The maintenance in {path} is ignored: {what}"]
    return {"until": until, "reason": reason, "source": path}, []


def current(
    *,
    state_dir: str,
    now: float,
    until: str = "",
    reason: str = "",
    read: Callable[[str], bytes] = _contents,
) -> Tuple[Optional[Dict[str, str]], List[str]]:
    """Return the current maintenance window and warnings. If there are two windows, the window that ends later applies.

    read: a function that returns the content of a file or raises OSError. The file may be on another host. Raises
    MaintenanceError if the variables are invalid.
    """
    said = _of_variable(until, reason, now=now)
    noted, warnings = _of_file(state_dir, now=now, read=read)
    if noted is not None and timestamps.epoch(noted["until"]) <= now:
        noted = None
    return max((item for item in (said, noted) if item), key=lambda item: item["until"], default=None), warnings


def _encode(maintenance: Optional[Dict[str, Any]]) -> str:
    return json.dumps(maintenance, indent=1, sort_keys=True) + "\n" if maintenance else ""


def keep(
    *, state_dir: str, now: float, begin: bool, until: str = "", reason: str = "", check_mode: bool = False
) -> Dict[str, Any]:
    """Begin, change or end the maintenance window in the state folder. Return changed, diff and maintenance.

    Raises MaintenanceError.
    """
    path = _path(state_dir)
    before = _of_file(state_dir, now=now)[0]
    after: Optional[Dict[str, str]] = None
    if begin:
        after = {"until": timestamps.iso(_end(until, now=now)), "reason": reason}
    planned = {**after, "source": path} if after else None
    changed = before != planned if begin else os.path.lexists(path)
    if changed and not check_mode:
        try:
            if begin:
                atomic_files.private_folder(state_dir)
                atomic_files.write_atomically(path, _encode(after).encode())
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                atomic_files.fsync_folder(state_dir)
        except OSError as error:
            raise MaintenanceError(
                message("reason.maintenance.not_written", path=path, why=str(error.strerror))
            ) from error
    known = {name: before[name] for name in ("until", "reason")} if before else None
    return {
        "changed": changed,
        "diff": {"before": _encode(known), "after": _encode(after)},
        "maintenance": planned,
    }
