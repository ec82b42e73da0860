# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An entry describes something on the host that can change. The manifest contains the entries of a healthy service.

Neither the value of a secret nor a hash of this value is stored. A file that may contain a secret is described only by
its stamp. See kinds.py.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps

# Number of characters in a digest. The digest detects changes, but does not protect against forgery.
DIGEST = 32
# The part that contains the path of a file. Only entries whose path is read from a setting have this part.
PATH = "path"
# If an entry would have too many parts, it has only this part.
MANY = "too many to list"
# The part that contains the expiry date of a certificate.
UNTIL = "valid until"
_MOST_TEXT = 300


class Stamp(NamedTuple):
    """The status of a file. at: when the file was last changed (ctime), in seconds since the epoch."""

    size: int
    modified: int
    inode: int
    mode: int
    uid: int
    gid: int
    at: float

    def is_same_content(self, other: Stamp) -> bool:
        """Return True if the content of the file is unchanged, as far as its status shows."""
        return self[:3] == other[:3]

    def is_same_access(self, other: Stamp) -> bool:
        """Return True if the owner, the group and the permissions are the same."""
        return self[3:6] == other[3:6]


class Entry(NamedTuple):
    """An object on the host that can change. KINDS in kinds.py lists the kinds of objects.

    name: the path, or the name that a person uses. value: a version, a commit or a digest, for comparison. The value is
    empty if only the stamp is known. stamp: the status of the file, or None. parts: named parts, such as the variables
    of an environment file. A part's text is empty if the text is unknown or may be a secret. since: when the file's
    folder was last changed (for a schema: when it was read), in seconds since the epoch. latest: the most recently
    changed files of a folder, with the times of their changes. gate: the status of the database files when the schema
    was read. If these files have changed since the schema was read, the gate is empty, because the schema may also have
    changed.
    """

    kind: str
    name: str
    value: str = ""
    stamp: Optional[Stamp] = None
    parts: Mapping[str, str] = MappingProxyType({})
    since: float = 0.0
    latest: Sequence[Tuple[str, float]] = ()
    gate: str = ""

    @property
    def key(self) -> str:
        """The entry's key in a manifest."""
        return f"{self.kind} {self.name}"

    def is_like(self, other: Entry) -> bool:
        """Return True if both entries have the same value, parts and stamp, as far as they are known."""
        same = not self.value or not other.value or self.value == other.value
        return same and (self.parts, self._status) == (other.parts, other._status)

    @property
    def _status(self) -> Optional[Sequence[int]]:
        """The file status without the time. If only the time is different, the file counts as unchanged."""
        return None if self.stamp is None else tuple(int(each) for each in self.stamp[:6])


Entries = Dict[str, Entry]


class Manifest(NamedTuple):
    """The entries from the last check that found the service healthy.

    at: the time of that check, in seconds since the epoch. waiting: the changed entries that the service has not loaded
    yet. Each changed entry has two times in seconds: the last check before the change, and the first check after the
    change.
    """

    at: float
    entries: Entries
    waiting: Mapping[str, Sequence[float]] = MappingProxyType({})


def to_json(manifest: Manifest) -> bytes:
    """Return the content of the manifest file. The modification time of this file is the time of the manifest."""
    waiting = {key: list(each) for key, each in manifest.waiting.items()}
    data = {"version": 1, "entries": plain(manifest.entries), "waiting": waiting}
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def from_json(data: bytes, *, at: float) -> Manifest:
    """Convert the content of the manifest file.

    Raises ValueError, KeyError, TypeError or RecursionError if the content is invalid.
    """
    read = json.loads(data.decode("utf-8"))
    if not isinstance(read, dict) or read.get("version") != 1:
        raise ValueError("it is not a manifest")
    waiting = {str(key): [float(each) for each in times] for key, times in read["waiting"].items()}
    return Manifest(at, of_plain(read["entries"]), waiting)


def plain(entries: Mapping[str, Entry]) -> List[Dict[str, Any]]:
    """Return entries as JSON data."""
    return [_plain(entry) for entry in entries.values()]


def of_plain(known: Sequence[Mapping[str, Any]]) -> Entries:
    """Convert JSON data to entries. Raises ValueError, KeyError or TypeError if the data is invalid."""
    found = [_entry(each) for each in known]
    return {entry.key: entry for entry in found}


def text(value: object) -> str:
    """Return a value as text on one line. A long value is truncated."""
    return " ".join(str(value).split())[:_MOST_TEXT]


def day(seconds: float) -> str:
    """Return a time (seconds since the epoch) as a date in UTC."""
    return timestamps.iso(seconds)[:10]


def _plain(entry: Entry) -> Dict[str, Any]:
    found: Dict[str, Any] = {"kind": entry.kind, "name": entry.name, "since": entry.since}
    if entry.value:
        found["value"] = entry.value
    if entry.stamp is not None:
        found["stamp"] = list(entry.stamp)
    if entry.parts:
        found["parts"] = dict(entry.parts)
    if entry.gate:
        found["gate"] = entry.gate
    if entry.latest:
        found["latest"] = [list(each) for each in entry.latest]
    return found


def _entry(known: Mapping[str, Any]) -> Entry:
    stamp: Optional[List[Any]] = known.get("stamp")
    return Entry(
        kind=str(known["kind"]),
        name=str(known["name"]),
        value=str(known.get("value") or ""),
        stamp=Stamp._make([*map(int, stamp[:6]), float(stamp[6])]) if stamp else None,
        parts={str(name): str(part) for name, part in (known.get("parts") or {}).items()},
        since=float(known.get("since") or 0.0),
        latest=[(str(name), float(at)) for name, at in known.get("latest") or ()],
        gate=str(known.get("gate") or ""),
    )
