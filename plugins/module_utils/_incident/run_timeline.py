# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the runs' timelines on the host, because the copy in a job's container is deleted with the container.

With each module call, the controller sends the new lines of a run's timeline. These lines are already redacted, and
contain only allowlisted keys. The lines are appended to <state_dir>/timelines/<name>.jsonl, which only the account that
runs the module can read. The number and the size of the files are limited. Errors are not reported, so that a recovery
never fails because of a timeline.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import stat
import zlib
from typing import Callable, Dict, List, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

FOLDER = "timelines"
SUFFIX = ".jsonl"

# The name of a timeline consists of the start time of the run and a random ID.
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
# Maximum size of a timeline in bytes. Later lines are dropped.
LARGEST = 1 << 20
# Maximum number of timelines on the host. If there are more, the oldest timelines are removed. However, older timelines
# of the open incident are kept, up to this number.
_MOST = 50
# Maximum number of timelines that are returned for one incident, and their maximum total size in bytes.
MOST_OF_INCIDENT = 20
LARGEST_OF_INCIDENT = 4 << 20


class TimelineError(Exception):
    """The data is not a timeline."""


def pack(name: str, lines: bytes) -> str:
    """Return lines of a timeline as one compressed string."""
    return f"{name}:{base64.b64encode(zlib.compress(lines)).decode('ascii')}"


def unpack(text: str) -> bytes:
    """Return the lines in the second part of a compressed string. Raises TimelineError."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), LARGEST + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise TimelineError(f"it cannot be read: {error}") from None
    if len(data) > LARGEST or not unpacker.eof:
        raise TimelineError(f"it is incomplete, or contains more than {LARGEST} bytes")
    return data


def append(state_dir: str, packed: str, *, spare: str = "", open_incident: Callable[[], str] = str) -> None:
    """Append compressed lines to their timeline. Raises OSError and TimelineError.

    spare: an in-memory folder to use if the state folder is not writable, or empty. open_incident: returns the ID of
    the open incident, or an empty string. The timelines of this incident are kept.
    """
    name, _separator, text = packed.partition(":")
    if not NAME.fullmatch(name):
        raise TimelineError(f"{name!r} is not the name of a timeline")
    data = unpack(text)
    try:
        _append(os.path.join(state_dir, FOLDER), name + SUFFIX, data, open_incident=open_incident)
    except OSError:
        if not spare:
            raise
        _append(os.path.join(spare, FOLDER), name + SUFFIX, data, open_incident=open_incident)


def _append(folder: str, name: str, data: bytes, *, open_incident: Callable[[], str]) -> None:
    path = os.path.join(folder, name)
    if not os.path.lexists(path):
        atomic_files.private_folder(folder)
        _prune(folder, open_incident=open_incident)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size + len(data) > LARGEST:
            return
        # A full disk may have truncated the previous line.
        if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, "The timeline was not written completely")
    finally:
        os.close(descriptor)


def _prune(folder: str, *, open_incident: Callable[[], str]) -> None:
    old = _newest_first(folder)[_MOST - 1 :]
    incident = open_incident() if old else ""
    of_open = [name for name in old if incident and _names(_read(os.path.join(folder, name)), incident)]
    # Always keep the oldest of these timelines, because it is the timeline of the incident's first run.
    kept = {*of_open[-1:], *of_open[: _MOST - 1]}
    for name in old:
        if name not in kept:
            os.unlink(os.path.join(folder, name))


def _names(data: bytes, incident: str) -> bool:
    """Return True if the lines mention an incident."""
    return f'"{incident}"'.encode() in data


def of_incident(state_dir: str, *, incident: str, known: Sequence[str], spare: str = "") -> List[Dict[str, str]]:
    """Return the timelines (name and compressed lines) that mention an incident, except the timelines in `known`.

    The first run on an incident detects the outage, so its timeline comes first. The newest timelines follow. spare:
    see append.
    """
    folders = [os.path.join(each, FOLDER) for each in (state_dir, spare) if each]
    names = {name for folder in folders for name in _newest_first(folder)}
    found: Dict[str, bytes] = {}
    for name in sorted(names, reverse=True):
        run = name[: -len(SUFFIX)]
        data = b"".join(_read(os.path.join(folder, name)) for folder in folders) if run not in known else b""
        if _names(data, incident):
            found[run] = data
    wanted = [*list(found)[-1:], *list(found)[:-1]][:MOST_OF_INCIDENT]
    told: List[Dict[str, str]] = []
    left = LARGEST_OF_INCIDENT
    for run in wanted:
        left -= len(found[run])
        if left >= 0:
            told.append({"name": run, "data": pack(run, found[run])})
    return told


def _read(path: str) -> bytes:
    """Return the lines of a timeline, or nothing if it cannot be read."""
    try:
        data = atomic_files.read_plain(path, limit=LARGEST)
    except (OSError, ValueError):
        return b""
    return data if data.endswith(b"\n") else data + b"\n"


def _newest_first(folder: str) -> List[str]:
    """Return the file names of the timelines. A name begins with the time of its run."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(
        (name for name in names if name.endswith(SUFFIX) and NAME.fullmatch(name[: -len(SUFFIX)])), reverse=True
    )
