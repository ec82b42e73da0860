# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of earlier runs, saved on the host: the last healthy time, the first failure, and the row counts."""

from __future__ import annotations

import contextlib
import json
import os
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


def note_healthy(state_dir: str, *, at: str) -> None:
    """Save `at` as the last healthy time. Write errors are ignored, because no recovery needs this file."""
    forget_failure(state_dir)
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        path = os.path.join(state_dir, "last_healthy")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.utime(path, (timestamps.epoch(at), timestamps.epoch(at)), follow_symlinks=False)


_FAILURE = "first_failure.json"
# Maximum time in seconds between two failed probes in one outage. If more time has passed, the service may have
# recovered in the meantime.
_SAME_OUTAGE = 3600.0
_SMALL = 4096


def note_failure(state_dir: str, *, first_at: str, last_at: str) -> None:
    """Save the times at which a run without an incident found the service down.

    During an outage, the saved time of the first failure does not change.

    first_at, last_at: the first and the last failed probe of this run. A write error is ignored.
    """
    known = first_failure(state_dir, until=first_at)
    data = json.dumps({"first_at": known or first_at, "last_at": last_at}, sort_keys=True).encode()
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(os.path.join(state_dir, _FAILURE), data + b"\n")


def first_failure(state_dir: str, *, until: str) -> Optional[str]:
    """Return the time of the first failed probe in the outage that was in progress at `until`, or None.

    Only a run that opens no incident saves the time of its first failed probe.
    """
    try:
        known = json.loads(atomic_files.read_plain(os.path.join(state_dir, _FAILURE), limit=_SMALL).decode("utf-8"))
        first, last = (timestamps.epoch(known[name]) for name in ("first_at", "last_at"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    healthy = last_healthy(state_dir)
    answered = healthy is not None and timestamps.epoch(healthy) >= last
    lasts = first <= last and 0 <= timestamps.epoch(until) - last <= _SAME_OUTAGE
    return timestamps.iso(first) if lasts and not answered else None


def forget_failure(state_dir: str) -> None:
    """Remove the saved first failure, because the service answers or the incident's record contains this failure."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(state_dir, _FAILURE))


_ROWS = "last_good_rows.json"


class Counted(NamedTuple):
    """The last row counts of a sound database, by table, and the creation time of this database.

    A value is empty if it is unknown.

    created_at: the time of the first migration, which identifies the database. See schema.first_migration. at: when the
    saved rows were counted.
    """

    rows: Mapping[str, int] = MappingProxyType({})
    created_at: str = ""
    at: str = ""

    @classmethod
    def of(cls, look: Mapping[str, Any]) -> Counted:
        """Return the row counts and the creation time from a sqlite_info result."""
        database = look.get("database") or {}
        return cls(look.get("row_counts") or {}, database.get("first_migration_at") or "")

    def is_replaced_by(self, created_at: str) -> Optional[bool]:
        """Return True if a database that was created at this time is newer than the counted database.

        Return None if created_at is empty.
        """
        if not self.created_at:
            return False
        return created_at > self.created_at if created_at else None


def note_rows(state_dir: str, *, path: str, counted: Counted) -> bool:
    """Save the row counts and the creation time of a sound database. Return False if they cannot be written."""
    known: Dict[str, Any] = {"at": timestamps.now(), "path": os.path.realpath(path)}
    known.update(rows=dict(counted.rows), created_at=counted.created_at)
    data = json.dumps(known, sort_keys=True).encode()
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(os.path.join(state_dir, _ROWS), data + b"\n")
        return True
    return False


def replace_rows(state_dir: str, *, look: Mapping[str, Any], save: bool) -> Optional[Dict[str, Any]]:
    """Return the last good row counts of a database as plain data, with `replaced`: whether new row counts were saved.

    If not all rows were counted, do not save or compare anything, and return None. look: the sqlite_info result with
    the new row counts. save: True to save them.
    """
    if look["checks"].get("row_counts") != "ok":
        return None
    path = str(look["database"]["path"])
    before = last_good_rows(state_dir, path=path)
    replaced = save and note_rows(state_dir, path=path, counted=Counted.of(look))
    return {"rows": dict(before.rows), "at": before.at, "replaced": replaced}


def last_good_rows(state_dir: str, *, path: str) -> Counted:
    """Return the last saved row counts of a sound database, or empty counts if none are known for this path."""
    try:
        known = json.loads(
            atomic_files.read_plain(os.path.join(state_dir, _ROWS), limit=incident_store.LARGEST).decode("utf-8")
        )
        if known["path"] != os.path.realpath(path):
            return Counted()
        rows = {str(name): int(number) for name, number in known["rows"].items()}
        return Counted(rows, str(known.get("created_at") or ""), str(known.get("at") or ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Counted()


def last_healthy(state_dir: str) -> Optional[str]:
    try:
        return timestamps.iso(os.lstat(os.path.join(state_dir, "last_healthy")).st_mtime)
    except (OSError, ValueError, OverflowError):
        return None
