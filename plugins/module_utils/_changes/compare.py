# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the host with the manifest, and list the changes."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import entries, kinds
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.entries import Entry, Manifest, Stamp
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold, start_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import unit_dropin

CHANGED, ADDED, REMOVED, ACCESS = "changed", "added", "removed", "access"
# Names of the drop-ins that this collection creates: for holds, for limits and for the start guard.
_OURS = lazy(
    rf"(?:{re.escape(hold.PREFIX)}|{re.escape(unit_dropin.PREFIX)}-).*\.conf|{re.escape(start_guard.DROPIN)}",
)
# Maximum number of changed values to list for each file, unit or other object.
_MOST_PARTS = 10


class Change(NamedTuple):
    """A change since the service was last healthy.

    kind: see kinds.py. name: the name of the changed object, such as a path, a variable or a table. what: changed,
    added, removed, or access (owner or permissions). before, after: the values, or empty strings if the values are
    unknown or may be secret. at: when it changed, in seconds since the epoch, or None. earliest, latest: the times
    between which it changed. inside: the file or folder that contains the changed object, or an empty string. ours:
    True if this collection changed it.
    """

    kind: str
    name: str
    what: str
    before: str = ""
    after: str = ""
    at: Optional[float] = None
    earliest: float = 0.0
    latest: float = 0.0
    inside: str = ""
    ours: bool = False

    def as_dict(self) -> Dict[str, Any]:
        """Return the change as JSON data."""
        return self._asdict()


class _Times(NamedTuple):
    """An entry was changed between these two times, which are in seconds since the epoch."""

    earliest: float
    latest: float

    def at(self, *times: float) -> Optional[float]:
        """Return the first of `times` that is between `earliest` and `latest`, or None.

        The tolerance is 2 s, because file systems round times down.
        """
        return next((each for each in times if each and self.earliest - 2 <= each <= self.latest + 2), None)


def differences(known: Manifest, seen: Mapping[str, Entry], *, now: float) -> List[Change]:
    """Return the changes between a manifest and the current entries. now: seconds since the epoch."""
    found: List[Change] = []
    for key in sorted({*known.entries, *seen}):
        before, after = known.entries.get(key), seen.get(key)
        # A healthy service may not have loaded a change yet. Such a change can be older than the last healthy run.
        waiting = known.waiting.get(key)
        good = known.at if before is None or before.kind != "schema" or before.gate else before.since
        times = _Times(waiting[0] if waiting else good, waiting[1] if waiting else now)
        if before is None and after is not None:
            found += _appeared(after, times, now=now)
        elif after is None and before is not None:
            found += _vanished(before, times)
        elif before is not None and after is not None and not after.is_like(before):
            found += _changed(before, after, times, now=now)
    return found


def _change(entry: Entry, what: str, times: _Times, at: Optional[float], **more: Any) -> Change:
    name = entry.parts.get(entries.PATH, "") or entry.name
    ours = entry.kind == "unit" and _OURS.fullmatch(os.path.basename(entry.name)) is not None
    known: Dict[str, Any] = {"kind": entry.kind, "name": name, "what": what, "at": at, "ours": ours, **more}
    return Change(earliest=times.earliest, latest=times.latest, **known)


def _appeared(after: Entry, times: _Times, *, now: float) -> List[Change]:
    if kinds.of(after.kind).always_there:
        # The object is not new. The manifest has no entry for the object, for example because an older version of this
        # collection saved the manifest.
        return []
    at = times.at(after.stamp.at, after.since) if after.stamp else None
    return [_change(after, ADDED, _Times(times.earliest, now), at)]


def _vanished(before: Entry, times: _Times) -> List[Change]:
    if kinds.of(before.kind).always_there:
        return []
    path = before.name if before.name.startswith("/") else ""
    at = times.at(_changed_at(os.path.dirname(path))) if path else None
    return [_change(before, REMOVED, times, at)]


def _changed_at(folder: str) -> float:
    """Return the time at which a folder's list of files last changed, or 0 if this time is unknown."""
    try:
        return os.stat(folder).st_mtime
    except OSError:
        return 0.0


def _changed(before: Entry, after: Entry, times: _Times, *, now: float) -> List[Change]:
    at = _time(before.stamp, after, times, now=now)
    found = _files(before, after, times, now=now) if kinds.of(after.kind).files else _parts(before, after, times, at)
    content = before.value != after.value and before.value and after.value
    stamps = before.stamp is not None and after.stamp is not None
    if content and not found:
        values = {} if kinds.of(after.kind).digest else {"before": before.value, "after": after.value}
        if entries.UNTIL in after.parts:
            values = {"before": before.parts.get(entries.UNTIL, ""), "after": after.parts[entries.UNTIL]}
        found.append(_change(after, CHANGED, times, at, **values))
    elif stamps and not found and not _is_same_content(before, after):
        found.append(_change(after, CHANGED, times, at))
    if before.stamp is not None and after.stamp is not None and not after.stamp.is_same_access(before.stamp):
        shown = {"before": _access(before.stamp), "after": _access(after.stamp)}
        found.append(_change(after, ACCESS, times, at, **shown))
    return found


def _is_same_content(before: Entry, after: Entry) -> bool:
    """Return True if both entries describe the same content.

    If the digest of a file is known, its times are ignored.
    """
    if before.value and after.value and kinds.of(after.kind).digest:
        return before.value == after.value
    if before.stamp is None or after.stamp is None:
        return True
    if after.kind == "modules" and entries.MANY not in after.parts:
        # No stored value differs. Programs create files such as caches in this folder, so a new time or size alone does
        # not count as a change. Only a new inode is considered, because it means that the folder was replaced.
        return after.stamp.inode == before.stamp.inode
    # A value that is not stored may have changed, so compare the stamps.
    return after.stamp.is_same_content(before.stamp)


def _access(stamp: Stamp) -> str:
    return f"{stamp.mode & 0o7777:04o} {stamp.uid}:{stamp.gid}"


def _time(before: Optional[Stamp], after: Entry, times: _Times, *, now: float) -> Optional[float]:
    """Return the time at which an entry was changed, or None.

    A moved file may keep an older modification time, so its folder's modification time is also used.
    """
    candidates = []
    if after.stamp is not None and (before is None or after.stamp.at != before.at):
        candidates.append(after.stamp.at)
    # The time recorded for a schema is the time when the schema was read.
    if after.kind != "schema":
        candidates.append(after.since)
    return _Times(times.earliest, now).at(*candidates)


def _files(before: Entry, after: Entry, times: _Times, *, now: float) -> List[Change]:
    """Return a change for each file that has changed in a folder with code."""

    def change(name: str, what: str, at: float) -> Change:
        path = os.path.join(after.name, name) if after.name != "." else name
        return _change(after._replace(name=path), what, times, _Times(times.earliest, now).at(at), inside=after.name)

    known = bool(before.parts) and entries.MANY not in before.parts
    newer = [(name, at) for name, at in after.latest if at > before.since]
    found = [change(name, ADDED if known and name not in before.parts else CHANGED, at) for name, at in newer]
    listed = known and entries.MANY not in after.parts
    gone = [name for name in before.parts if listed and name not in after.parts]
    # A folder changes both when a file is removed and when a file is added.
    return found + [change(name, REMOVED, 0.0 if newer else after.since) for name in gone[:_MOST_PARTS]]


def _parts(before: Entry, after: Entry, times: _Times, at: Optional[float]) -> List[Change]:
    """Return a change for each named part that differs between the two entries."""
    found: List[Change] = []
    names = sorted({*before.parts, *after.parts})
    if entries.MANY in names:
        return []
    inside = after.name if kinds.of(after.kind).named else ""
    for name in names:
        old, new = before.parts.get(name), after.parts.get(name)
        if old == new or (name == entries.PATH and old is None) or name == entries.UNTIL:
            continue
        what = ADDED if old is None else REMOVED if new is None else CHANGED
        shown = name if name != entries.PATH else new or after.name
        values = {"before": old or "", "after": new or ""} if after.kind != "schema" else {}
        part = _change(after, what, times, at, inside=inside, **values)
        found.append(part._replace(name=shown))
    return found[:_MOST_PARTS]
