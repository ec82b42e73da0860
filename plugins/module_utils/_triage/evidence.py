# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence bundle: what was seen before anything was touched, in a folder of its incident that only root reads.

Everything goes through the redactor on its way in. A second pass on the same incident gets a folder of its own within
the first one's: evidence is added to, never replaced.

Old bundles are pruned file by file, by their manifests: what anybody else put into an incident's folder (the damaged
database of a recovery) is not ours to throw away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import secrets
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    parallel,
    sanitize,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease

LIMIT = 20 * 1024 * 1024

# Room that must remain free where the bundle goes: the recovery needs to write there too.
_SPARE = 4 * 1024 * 1024
# Less than this is not worth a bundle; so much is kept of one where no place has room for all of it.
_LEAST = 256 * 1024
# What the manifest itself may take, and an entry of it.
_MANIFEST, _ENTRY = 1024, 512

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_MANIFEST_NAME = "manifest.json"

# Where the bundle goes when there is no room in the state folder: anyone may write there, so it is a folder of a name
# that nobody can guess, and of those that are there one that is ours.
_ELSEWHERE = ("/var/tmp", "/tmp", "/dev/shm")  # noqa: S108
_ELSEWHERE_PREFIX = "itsm-runbook-evidence-"


class EvidenceError(Exception):
    """The bundle could not be written anywhere, or its name is none."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """Where the bundle is (or would be), and what there is to say about it."""

    path: str
    warnings: List[str]


@dataclasses.dataclass(frozen=True)
class Keep:
    """How much evidence of incidents that are over is kept: of so many at most, for so many days; 0 is without end."""

    incidents: int = 0
    days: float = 0.0


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
    """Whether a folder may be written to: it is not there yet, or it is ours alone and no link."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _place_in(parent: str) -> str:
    """Return the folder in C(parent) that an earlier pass made, else the path of one that nobody can have made yet."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(parent)):
            path = os.path.join(parent, name)
            if name.startswith(_ELSEWHERE_PREFIX) and _ours(path):
                return path
    return os.path.join(parent, _ELSEWHERE_PREFIX + secrets.token_hex(8))


def _next_folder(path: str) -> str:
    """Return the folder this pass writes to: the incident's own, or the next one within it."""
    if not os.path.exists(os.path.join(path, _MANIFEST_NAME)):
        return path
    number = 2
    while os.path.exists(os.path.join(path, f"pass-{number}")):
        number += 1
    return os.path.join(path, f"pass-{number}")


def _manifest(folder: str) -> Dict[str, Any]:
    """Return a bundle's manifest, empty where it has none that can be read."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, _MANIFEST_NAME), "rb") as stream:
        found = json.loads(stream.read().decode("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _folders(top: str) -> Iterator[str]:
    """Return the folders of an incident that may hold a bundle: its own and those of further passes."""
    yield top
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(top)):
            if re.match(r"pass-\d+\Z", name):
                yield os.path.join(top, name)


def _written(folder: str) -> List[str]:
    """Return the paths in a folder that a manifest says are ours, the manifest last."""
    names = [str(item.get("file")) for item in _manifest(folder).get("files") or () if isinstance(item, dict)]
    paths = [os.path.join(folder, name) for name in names if _NAME.match(name)]
    return [path for path in (*paths, os.path.join(folder, _MANIFEST_NAME)) if os.path.lexists(path)]


def _size(top: str) -> int:
    """Return the bytes that the passes on an incident have written."""
    total = 0
    for path in (path for folder in _folders(top) for path in _written(folder)):
        with contextlib.suppress(OSError):
            total += os.lstat(path).st_size
    return total


def _shorten(data: bytes, *, limit: int) -> bytes:
    """Return the last C(limit) bytes from the beginning of a line on: the end of a log says more than its beginning."""
    if len(data) <= limit:
        return data
    return data[len(data) - limit :].partition(b"\n")[2] if limit > 0 else b""


# What a bundle consists of: (item, its redacted content, whole).
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
    # Last: a folder with a manifest is a whole one.
    manifest = {**about, "written_at": timestamps.now(), "redacted": True, "files": entries}
    atomic_files.write_atomically(os.path.join(folder, _MANIFEST_NAME), json.dumps(manifest, indent=1).encode() + b"\n")


def _is_incident(top: str) -> bool:
    return bool(_manifest(top)) and not os.path.islink(top)


def _open_incidents(state_dir: str) -> Optional[List[str]]:
    """Return the incidents that are not over, C(None) where that cannot be told (see L(incident_record))."""
    found = []
    # Its record is in the lease's folder while the state folder cannot be written to.
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
    """Remove from C(place) the bundles of incidents beyond what C(keep) says, never those of C(spared)."""
    if not os.path.isdir(place):
        return
    now = time.time()
    tops = [os.path.join(place, name) for name in os.listdir(place) if _NAME.match(name)]
    # The newest pass is as old as the incident's evidence is.
    ages = {
        top: max(
            os.stat(os.path.join(folder, _MANIFEST_NAME)).st_mtime for folder in _folders(top) if _manifest(folder)
        )
        for top in tops
        if _is_incident(top) and os.path.basename(top) not in spared
    }
    # This incident's own is one of those that are kept.
    for number, (top, written) in enumerate(sorted(ages.items(), key=lambda pair: -pair[1]), start=2):
        if (keep.days and now - written > keep.days * 86400) or (keep.incidents and number > keep.incidents):
            _remove(top)


def _remove(top: str) -> None:
    for folder in reversed(list(_folders(top))):
        for path in _written(folder):
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # not empty: something of somebody else is there
            os.rmdir(folder)


def save(
    *,
    files: Sequence[Mapping[str, Any]],
    incident: str,
    state_dir: str,
    redact: Callable[[str], str],
    about: Optional[Mapping[str, Any]] = None,
    keep: Keep = Keep(),
    limit: int = LIMIT,
    elsewhere: Optional[Sequence[str]] = None,
    timeout: float = 10.0,
    home_answers: bool = True,
    dry_run: bool = False,
) -> Saved:
    """Write C(files) (see L(triage_context)) as the bundle of C(incident) and say where it is.

    Their texts go through C(redact), but for those that are C(redacted) already.

    All passes on one incident together stay below C(limit) bytes; the first files come first. Where C(state_dir) has no
    room, cannot be written to, or does not answer within C(timeout) seconds (or, without C(home_answers), is known not
    to), the next of C(elsewhere) that can is taken; where none has room for all of it, the one with the most for a
    part; both with a warning and in the manifest.
    C(about) is what the manifest says besides. Raises EvidenceError.
    """
    if not _NAME.match(incident):
        raise EvidenceError(
            f"incident is {incident!r}: it names a folder, allowed are letters, digits, '.', '_' and '-'"
        )
    home = os.path.join(state_dir, "evidence")

    def clean(text: object) -> str:
        """Return what may be kept, and looked at in a terminal."""
        return sanitize.text(redact(str(text)))

    contents: _Content = [
        (
            {**item, "source": clean(item["source"])},
            (str(item["text"]) if item.get("redacted") else clean(item["text"])).encode("utf-8", "replace"),
        )
        for item in files
    ]
    # Where nobody can tell which incident is open, nothing is pruned.
    spared: Optional[List[str]] = None
    if home_answers:
        # In a process of its own, as all below: a state folder on a dead mount must not keep the run from going on.
        asked = parallel.ask({"open": functools.partial(_open_incidents, state_dir)}, timeout=timeout / 2)["open"]
        spared = asked.value if asked.error is None else None
    needed = min(limit, _MANIFEST + sum(_ENTRY + len(data) for _item, data in contents)) + _SPARE
    reasons: List[str] = []

    def attempt(place: str, *, limit: int, wanted: int) -> Dict[str, Any]:
        """Write it to C(place); return C(path), or the C(reason) why not and how much C(room) there is."""
        if place != home and not _ours(place):
            return {"reason": f"{place} belongs to somebody else"}
        if not dry_run and spared is not None:
            with contextlib.suppress(OSError):  # a bundle too many is no reason to have none
                _prune(place, spared=[*spared, incident], keep=keep)
        room = _room(place)
        if room < wanted:
            return {"reason": f"{place} has {room} bytes free, {wanted} are needed", "room": room}
        top = os.path.join(place, incident)
        folder = _next_folder(top)
        if dry_run:
            return {"path": folder}
        try:
            for parent in (*((state_dir,) if place == home else ()), place, top):
                atomic_files.private_folder(parent)
            said = {"incident": incident, **(about or {}), "not_in_its_place": reasons}
            _write(folder, contents=contents, about=said, limit=limit - _size(top))
        except OSError as error:
            return {"reason": f"{folder}: {error.strerror}"}
        return {"path": folder}

    def ask(place: str, **how: int) -> Dict[str, Any]:
        answer = parallel.ask({place: functools.partial(attempt, place, **how)}, timeout=timeout)[place]
        found: Dict[str, Any] = answer.value if answer.error is None else {"reason": f"{place}: {answer.error}"}
        return found

    rooms: Dict[str, int] = {}
    places = [home, *(elsewhere if elsewhere is not None else map(_place_in, _ELSEWHERE))]
    if not home_answers:
        places.remove(home)
        reasons.append(f"{home} is on a disk that does not answer")
    for place in places:
        found = ask(place, limit=limit, wanted=needed)
        if "path" in found:
            return Saved(path=found["path"], warnings=_warnings(found["path"], reasons))
        reasons.append(found["reason"])
        rooms[place] = found.get("room", 0)
    place, room = max(rooms.items(), key=lambda item: item[1], default=("", 0))
    part = room - _SPARE
    if part >= _LEAST:
        reasons.append("nowhere is room for all of it: only a part is kept")
        found = ask(place, limit=part, wanted=room)
        if "path" in found:
            return Saved(path=found["path"], warnings=_warnings(found["path"], reasons))
        reasons.append(found["reason"])
    raise EvidenceError(f"Cannot save the evidence of {incident} anywhere: {'; '.join(reasons)}")


def _warnings(path: str, reasons: Sequence[str]) -> List[str]:
    return [f"The evidence is in {path}: {'; '.join(reasons)}"] if reasons else []
