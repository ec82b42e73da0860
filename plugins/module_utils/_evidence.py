# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence bundle: what was seen before anything was touched, in a folder of its incident that only root reads.

Everything goes through the redactor on its way in. A second pass on the same incident gets a folder of its own within
the first one's: evidence is added to, never replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock, _files

LIMIT = 20 * 1024 * 1024

# Room that must remain free where the bundle goes: the recovery needs to write there too.
_SPARE = 4 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")

# Where the bundle goes when there is no room in the state folder: anyone may write there, so ownership is checked.
_ELSEWHERE = ("/var/tmp/itsm-runbook-evidence", "/tmp/itsm-runbook-evidence", "/dev/shm/itsm-runbook-evidence")  # noqa: S108


class EvidenceError(Exception):
    """The bundle could not be written anywhere, or its name is none."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """Where the bundle is (or would be), and what there is to say about it."""

    path: str
    warnings: List[str]


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _room(path: str) -> int:
    room = os.statvfs(_existing(path))
    return room.f_bavail * room.f_frsize


def _ours(path: str) -> bool:
    """Whether a folder may be written to: it is not there yet, or it is ours alone and no link."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _next_folder(path: str) -> str:
    """Return the folder this pass writes to: the incident's own, or the next one within it."""
    if not os.path.exists(os.path.join(path, "manifest.json")):
        return path
    number = 2
    while os.path.exists(os.path.join(path, f"pass-{number}")):
        number += 1
    return os.path.join(path, f"pass-{number}")


def _size(path: str) -> int:
    total = 0
    for folder, _folders, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _shorten(data: bytes, *, limit: int) -> bytes:
    """Return the last C(limit) bytes from the beginning of a line on: the end of a log says more than its beginning."""
    if len(data) <= limit:
        return data
    return data[len(data) - limit :].partition(b"\n")[2] if limit > 0 else b""


def _write(folder: str, *, files: Sequence[Mapping[str, Any]], redact: Callable[[str], str], limit: int) -> None:
    _files.private_folder(folder)
    entries: List[Dict[str, Any]] = []
    for item in files:
        whole = redact(str(item["text"])).encode("utf-8", "replace")
        data = _shorten(whole, limit=limit)
        limit -= len(data)
        _files.write_atomically(os.path.join(folder, str(item["name"])), data)
        entries.append(
            {
                "file": item["name"],
                "source": redact(str(item["source"])),
                "at": _clock.now(),
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "truncated": bool(item["truncated"]) or len(data) < len(whole),
            }
        )
    # Last: a folder with a manifest is a whole one.
    manifest = {"written_at": _clock.now(), "redacted": True, "files": entries}
    _files.write_atomically(os.path.join(folder, "manifest.json"), json.dumps(manifest, indent=2).encode() + b"\n")


def save(
    *,
    files: Sequence[Mapping[str, Any]],
    incident: str,
    state_dir: str,
    redact: Callable[[str], str],
    limit: int = LIMIT,
    elsewhere: Sequence[str] = _ELSEWHERE,
    dry_run: bool = False,
) -> Saved:
    """Write C(files) (C(name), C(source), C(text), C(truncated)) as the bundle of C(incident) and say where it is.

    All passes on one incident together stay below C(limit) bytes; the first files come first. Where C(state_dir) has no
    room or cannot be written to, the next of C(elsewhere) that has is taken, with a warning. Raises EvidenceError.
    """
    if not _NAME.match(incident):
        raise EvidenceError(
            f"incident is {incident!r}: it names a folder, allowed are letters, digits, '.', '_' and '-'"
        )
    home = os.path.join(state_dir, "evidence")
    needed = min(limit, sum(len(str(item["text"])) for item in files)) + _SPARE
    reasons: List[str] = []
    for place in (home, *elsewhere):
        folder: Optional[str] = None
        try:
            if place != home and not _ours(place):
                reasons.append(f"{place} belongs to somebody else")
                continue
            room = _room(place)
            if room < needed:
                reasons.append(f"{place} has {room} bytes free, {needed} are needed")
                continue
            top = os.path.join(place, incident)
            folder = _next_folder(top)
            if not dry_run:
                for parent in (*((state_dir,) if place == home else ()), place, top):
                    _files.private_folder(parent)
                _write(folder, files=files, redact=redact, limit=limit - _size(top))
        except OSError as error:
            reasons.append(f"{folder or place}: {error.strerror}")
            continue
        return Saved(path=folder, warnings=[f"The evidence is in {folder}: {'; '.join(reasons)}"] if reasons else [])
    raise EvidenceError(f"Cannot save the evidence of {incident} anywhere: {'; '.join(reasons)}")
