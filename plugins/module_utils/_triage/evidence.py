# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence bundle, which is saved before anything is changed. Each incident has a folder that only root can read.

Everything is redacted before it is written. A second triage for the same incident writes to a subfolder of the first
triage's folder. Existing evidence is never replaced.

Pruning removes only the files that the manifest of an old bundle lists. Other files in an incident's folder (for
example the damaged database of a recovery) are kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    parallel,
    sanitize,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease

LIMIT = 20 * 1024 * 1024

# Space in bytes that must stay free on the bundle's file system, because the recovery writes to it too.
_SPARE = 4 * 1024 * 1024
# Minimum size of a bundle in bytes. If no folder has space for the whole bundle, at least this many bytes of it are
# saved.
_LEAST = 256 * 1024
# Estimated sizes in bytes: a manifest without entries, and one entry.
_MANIFEST, _ENTRY = 1024, 512

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_MANIFEST_NAME = "manifest.json"
# File that contains the result of the triage.
RESULT = "triage.json"

# Folders for the bundle if it cannot be written to the state folder. Every account can write to these folders.
# Therefore, the bundle's folder is given an unguessable name, and an existing folder is used only if this account owns
# it.
_ELSEWHERE = ("/var/tmp", "/tmp", "/dev/shm")  # noqa: S108
_ELSEWHERE_PREFIX = "itsm-runbook-evidence-"


class EvidenceError(Exception):
    """The bundle could not be written anywhere, or its incident ID is invalid."""


class Saved(NamedTuple):
    """The path or the planned path of the bundle, and warnings about the bundle."""

    path: str
    warnings: List[str]


class Keep(NamedTuple):
    """Limits for evidence from closed incidents: number of incidents and number of days. 0 means no limit."""

    incidents: int = 0
    days: float = 0.0


_KEPT = Keep()


def home(state_dir: str) -> str:
    """Return the folder that contains a folder for each incident."""
    return os.path.join(state_dir, "evidence")


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _room(path: str) -> int:
    room = os.statvfs(_existing(path))
    if room.f_files and not room.f_favail:
        return 0
    return room.f_bavail * room.f_frsize


def _ours(path: str) -> bool:
    """Return True if path does not exist, or if it is a folder (not a link) that only this account can write to."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _place_in(parent: str) -> str:
    """Return the subfolder that an earlier triage created, or else a new unguessable path."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(parent)):
            path = os.path.join(parent, name)
            if name.startswith(_ELSEWHERE_PREFIX) and _ours(path):
                return path
    return os.path.join(parent, _ELSEWHERE_PREFIX + secrets.token_hex(8))


def _next_folder(path: str) -> str:
    """Return the folder for this triage (`path`, or a new subfolder if `path` already contains a bundle)."""
    if not os.path.exists(os.path.join(path, _MANIFEST_NAME)):
        return path
    number = 2
    while os.path.exists(os.path.join(path, f"pass-{number}")):
        number += 1
    return os.path.join(path, f"pass-{number}")


def _manifest(folder: str) -> Dict[str, Any]:
    """Return a bundle's manifest, or an empty mapping if there is no readable manifest."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, _MANIFEST_NAME), "rb") as stream:
        found = json.loads(stream.read().decode("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _folders(top: str) -> Iterator[str]:
    """Yield the folders that may contain a bundle: the incident's own folder, and the folders from later triages."""
    yield top
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(top)):
            if re.match(r"pass-\d+\Z", name):
                yield os.path.join(top, name)


def _written(folder: str) -> List[str]:
    """Return the paths that a folder's manifest lists. The last item is the path of the manifest itself."""
    names = [str(item.get("file")) for item in _manifest(folder).get("files") or () if isinstance(item, dict)]
    paths = [os.path.join(folder, name) for name in names if _NAME.match(name)]
    return [path for path in (*paths, os.path.join(folder, _MANIFEST_NAME)) if os.path.lexists(path)]


def _size(top: str) -> int:
    """Return the total number of bytes that the triages of an incident have written."""
    total = 0
    for path in (path for folder in _folders(top) for path in _written(folder)):
        with contextlib.suppress(OSError):
            total += os.lstat(path).st_size
    return total


def _shorten(data: bytes, *, limit: int) -> bytes:
    """Return the last lines of `data` (at most `limit` bytes). The end of a log is its most important part."""
    if len(data) <= limit:
        return data
    return data[len(data) - limit :].partition(b"\n")[2] if limit > 0 else b""


# A bundle's content, as pairs of an item and its redacted content.
_Content = List[Tuple[Mapping[str, Any], bytes]]


def _write(folder: str, *, contents: _Content, about: Mapping[str, Any], limit: int) -> None:
    atomic_files.private_folder(folder)
    entries: List[Dict[str, Any]] = []
    limit -= _MANIFEST + _ENTRY * len(contents)
    for item, whole in contents:
        data = _shorten(whole, limit=limit)
        limit -= len(data)
        atomic_files.write_atomically(os.path.join(folder, str(item["name"])), data)
        entries.append(
            {
                "file": item["name"],
                "source": item["source"],
                "at": item["at"],
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "truncated": bool(item["truncated"]) or len(data) < len(whole),
            }
        )
    # The manifest is written last, so a folder that contains a manifest is complete.
    manifest = {**about, "written_at": timestamps.now(), "redacted": True, "files": entries}
    atomic_files.write_atomically(os.path.join(folder, _MANIFEST_NAME), json.dumps(manifest, indent=1).encode() + b"\n")


def _is_incident(top: str) -> bool:
    return bool(_manifest(top)) and not os.path.islink(top)


def _open_incidents(state_dir: str) -> Optional[List[str]]:
    """Return the IDs of the open incidents, or None if they are unknown. See _incident/record.py."""
    found = []
    # If the state folder cannot be written to, the record is in the lease folder.
    for folder in (state_dir, host_lease.Seat(state_dir=state_dir).folder):
        try:
            with open(os.path.join(folder, "incident.json"), "rb") as stream:
                found.append(str(json.loads(stream.read().decode("utf-8"))["id"]))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return found


def _prune(place: str, *, spared: Sequence[str], keep: Keep) -> None:
    """Remove old bundles until the limits in `keep` are met. Do not remove the bundles of the incidents in `spared`."""
    if not os.path.isdir(place):
        return
    now = time.time()
    tops = [os.path.join(place, name) for name in os.listdir(place) if _NAME.match(name)]
    # An incident's evidence is as old as its newest triage.
    ages = {
        top: max(
            os.stat(os.path.join(folder, _MANIFEST_NAME)).st_mtime for folder in _folders(top) if _manifest(folder)
        )
        for top in tops
        if _is_incident(top) and os.path.basename(top) not in spared
    }
    # This incident is number 1, so the newest other incident is number 2.
    for number, (top, written) in enumerate(sorted(ages.items(), key=lambda pair: -pair[1]), start=2):
        if (keep.days and now - written > keep.days * 86400) or (keep.incidents and number > keep.incidents):
            _remove(top)


def _remove(top: str) -> None:
    for folder in reversed(list(_folders(top))):
        for path in _written(folder):
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # the folder also contains other files
            os.rmdir(folder)


class _Bundle(NamedTuple):
    """The content of a bundle, and the settings for writing it.

    spared: incidents whose evidence is not pruned, or None to prune nothing. reasons: the reasons why earlier folders
    could not be used.
    """

    incident: str
    state_dir: str
    contents: _Content
    about: Mapping[str, Any]
    keep: Keep
    spared: Optional[Sequence[str]]
    dry_run: bool
    reasons: List[str]

    @property
    def home(self) -> str:
        """The usual folder for bundles."""
        return home(self.state_dir)

    def size(self, *, limit: int) -> int:
        """Return the size of the bundle in bytes, or `limit` if the bundle is larger."""
        return min(limit, _MANIFEST + sum(_ENTRY + len(data) for _item, data in self.contents))

    def _attempt(self, place: str, *, limit: int, wanted: int) -> Dict[str, Any]:
        """Write the bundle to the folder `place`. Return its path, or the error and the free space in the folder."""
        if place != self.home and not _ours(place):
            return {"reason": f"{place} belongs to another account"}
        if not self.dry_run and self.spared is not None:
            with contextlib.suppress(OSError):  # a pruning error must not stop the bundle from being written
                _prune(place, spared=[*self.spared, self.incident], keep=self.keep)
        room = _room(place)
        if room < wanted:
            return {"reason": f"{place} has {room} bytes free, but {wanted} bytes are needed", "room": room}
        top = os.path.join(place, self.incident)
        folder = _next_folder(top)
        if self.dry_run:
            return {"path": folder}
        try:
            for parent in (*((self.state_dir,) if place == self.home else ()), place, top):
                atomic_files.private_folder(parent)
            said = {"incident": self.incident, **self.about, "not_in_its_place": self.reasons}
            _write(folder, contents=self.contents, about=said, limit=limit - _size(top))
        except OSError as error:
            return {"reason": f"{folder}: {error.strerror}"}
        return {"path": folder}

    def attempt(self, place: str, *, limit: int, wanted: int, timeout: float) -> Dict[str, Any]:
        """Write the bundle to a folder. This is done in a separate process, so a dead mount does not block the run."""
        writing = functools.partial(self._attempt, place, limit=limit, wanted=wanted)
        answer = parallel.ask({place: writing}, timeout=timeout)[place]
        found: Dict[str, Any] = answer.value if answer.error is None else {"reason": f"{place}: {answer.error}"}
        return found


def save(
    *,
    files: Sequence[Mapping[str, Any]],
    incident: str,
    state_dir: str,
    redact: Callable[[str], str],
    about: Optional[Mapping[str, Any]] = None,
    keep: Keep = _KEPT,
    limit: int = LIMIT,
    elsewhere: Optional[Sequence[str]] = None,
    timeout: float = 10.0,
    home_answers: bool = True,
    dry_run: bool = False,
) -> Saved:
    """Write files (see context.file) as an incident's bundle, and return its path and warnings.

    The content is redacted, except in files that are already marked as redacted.

    Together, the bundles of one incident are at most `limit` bytes in size. The first files have priority. If state_dir
    has no space, cannot be written to, or does not respond within timeout seconds, the bundle is written to the first
    usable folder in `elsewhere`. If no folder has space for the whole bundle, part of it is written to the folder with
    the most space. If the bundle is not written completely to state_dir, a warning is returned, and the manifest
    contains a note. home_answers: False if it is known that state_dir does not respond. about: additional content for
    the manifest. Raises EvidenceError.
    """
    if not _NAME.match(incident):
        raise EvidenceError(f"incident is {incident!r}: must be a folder name of letters, digits, '.', '_' and '-'")
    bundle = _Bundle(
        incident=incident,
        state_dir=state_dir,
        contents=_contents(files, redact=redact),
        about=about or {},
        keep=keep,
        # If the open incidents are unknown, nothing is pruned.
        spared=_spared(state_dir, timeout=timeout / 2) if home_answers else None,
        dry_run=dry_run,
        reasons=[],
    )
    places = [bundle.home, *(elsewhere if elsewhere is not None else map(_place_in, _ELSEWHERE))]
    if not home_answers:
        places.remove(bundle.home)
        bundle.reasons.append(f"{bundle.home} is on a disk that does not answer")
    return _save_in_first(places, bundle, limit=limit, timeout=timeout)


def _contents(files: Sequence[Mapping[str, Any]], *, redact: Callable[[str], str]) -> _Content:
    """Return the files with redacted content that is safe to show in a terminal."""

    def clean(text: object) -> str:
        return sanitize.text(redact(str(text)))

    return [
        (
            {**item, "source": clean(item["source"])},
            (str(item["text"]) if item.get("redacted") else clean(item["text"])).encode("utf-8", "replace"),
        )
        for item in files
    ]


def _spared(state_dir: str, *, timeout: float) -> Optional[Sequence[str]]:
    """Return the IDs of the open incidents, or None if they are unknown or the folder does not respond in time."""
    asked = parallel.ask({"open": functools.partial(_open_incidents, state_dir)}, timeout=timeout)["open"]
    spared: Optional[Sequence[str]] = asked.value if asked.error is None else None
    return spared


def _save_in_first(places: Sequence[str], bundle: _Bundle, *, limit: int, timeout: float) -> Saved:
    """Write the bundle to the first folder with enough space.

    If no folder has enough space, write part of the bundle to the folder with the most space. Raises EvidenceError.
    """
    wanted = bundle.size(limit=limit) + _SPARE
    rooms: Dict[str, int] = {}
    for place in places:
        found = bundle.attempt(place, limit=limit, wanted=wanted, timeout=timeout)
        if "path" in found:
            return Saved(path=found["path"], warnings=_warnings(found["path"], bundle.reasons))
        bundle.reasons.append(found["reason"])
        rooms[place] = found.get("room", 0)
    place, room = max(rooms.items(), key=lambda item: item[1], default=("", 0))
    part = room - _SPARE
    if part >= _LEAST:
        bundle.reasons.append("no folder has enough space for all of the evidence: only a part of it is saved")
        found = bundle.attempt(place, limit=part, wanted=room, timeout=timeout)
        if "path" in found:
            return Saved(path=found["path"], warnings=_warnings(found["path"], bundle.reasons))
        bundle.reasons.append(found["reason"])
    raise EvidenceError(f"Cannot save the evidence of {bundle.incident} anywhere: {'; '.join(bundle.reasons)}")


def _warnings(path: str, reasons: Sequence[str]) -> List[str]:
    return [f"The evidence was saved in {path}: {'; '.join(reasons)}"] if reasons else []
