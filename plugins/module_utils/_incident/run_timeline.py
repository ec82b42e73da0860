# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the timelines of the runs on the host, because a job's container with its own copy is deleted.

The controller hands over the new lines of a run's timeline with each module call. The lines are already allowlisted and
redacted. They are appended to <state_dir>/timelines/<name>.jsonl, which only this account can read. The number and the
size of the files are limited. A recovery never fails because of a timeline, so errors are not reported.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import zlib
from typing import Dict, List, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

FOLDER = "timelines"
SUFFIX = ".jsonl"

# The name of a timeline: the start of the run and a random ID.
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
# Maximum size of a timeline in bytes. Later lines are dropped.
LARGEST = 1 << 20
# Maximum number of timelines on the host. The oldest ones are removed.
_MOST = 50
# Maximum number of timelines, and their total size in bytes, that are returned for one incident.
_MOST_OF_INCIDENT = 20
_LARGEST_OF_INCIDENT = 4 << 20


class TimelineError(Exception):
    """The data is not a timeline."""


def pack(name: str, lines: bytes) -> str:
    """Return lines of a timeline as one text."""
    return f"{name}:{base64.b64encode(zlib.compress(lines)).decode('ascii')}"


def unpack(text: str) -> bytes:
    """Return the lines in the second part of a packed text. Raises TimelineError."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise TimelineError(f"it cannot be read: {error}") from None
    if len(data) > LARGEST or not unpacker.eof:
        raise TimelineError(f"it is incomplete, or holds more than {LARGEST} bytes")
    return data


def append(state_dir: str, packed: str) -> None:
    """Append packed lines to their timeline. Raises OSError and TimelineError."""
    name, _separator, text = packed.partition(":")
    if not NAME.fullmatch(name):
        raise TimelineError(f"{name!r} is not the name of a timeline")
    data = unpack(text)
    folder = os.path.join(state_dir, FOLDER)
    path = os.path.join(folder, name + SUFFIX)
    if not os.path.lexists(path):
        atomic_files.private_folder(folder)
        for old in _newest_first(folder)[_MOST - 1 :]:
            os.unlink(os.path.join(folder, old))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size + len(data) <= LARGEST:
            os.write(descriptor, data)
    finally:
        os.close(descriptor)


def of_incident(state_dir: str, *, incident: str, known: Sequence[str]) -> List[Dict[str, str]]:
    """Return the timelines (name and packed lines) that name an incident, except the known ones."""
    folder = os.path.join(state_dir, FOLDER)
    found: List[Dict[str, str]] = []
    left = _LARGEST_OF_INCIDENT
    try:
        names = _newest_first(folder)
    except OSError:
        return []
    for name in names:
        run = name[: -len(SUFFIX)]
        if run in known or len(found) == _MOST_OF_INCIDENT:
            continue
        try:
            data = atomic_files.read_plain(os.path.join(folder, name), limit=min(LARGEST, left))
        except (OSError, ValueError):
            continue
        if f'"{incident}"'.encode() in data:
            left -= len(data)
            found.append({"name": run, "data": pack(run, data)})
    return found


def _newest_first(folder: str) -> List[str]:
    """Return the file names of the timelines. A name begins with the time of its run. Raises OSError."""
    names = [name for name in os.listdir(folder) if name.endswith(SUFFIX) and NAME.fullmatch(name[: -len(SUFFIX)])]
    return sorted(names, reverse=True)
