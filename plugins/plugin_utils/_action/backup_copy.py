# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receive a backup from a host in parts, write it to a file on the controller, and remove old copies.

The host is not trusted: the number and the size of the parts are limited, and the name of the file is checked. The file
is given its final name only if it has the same SHA-256 as the verified backup.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import tempfile
import time
import zlib
from typing import Callable, List

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import off_host, retention
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

# Minimum free space that must remain on the controller, in bytes.
_MARGIN = 64 << 20
# The files of a killed run are removed only after a day. Another run may still be writing newer files.
_PARTIAL, _OLD = ".fetch-", 86400.0


class CopyError(Exception):
    """The backup could not be copied. The message states the reason."""


def destination(folder: str, *, host: str, path: str) -> str:
    """Return the path of the copy on the controller. Raises CopyError if the path could be outside the folder."""
    if not os.path.isabs(folder):
        raise CopyError(f"dest_dir must be an absolute path, not {folder!r}")
    if "/" in host or host.startswith(".") or not host:
        raise CopyError(f"the name of the host cannot be the name of a folder: {host!r}")
    name = os.path.basename(path)
    if not retention.NAME.match(name) or name.startswith("."):
        raise CopyError(f"{path!r} does not have the name of a scheduled backup")
    return os.path.join(folder, host, name)


def is_copied(dest: str, *, sha256: str) -> bool:
    """Return True if the file exists and has the given SHA-256. Raises CopyError if the file has different content."""
    try:
        with open(os.open(dest, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            digest = hashlib.sha256()
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CopyError(f"cannot read {dest}: {error.strerror}") from error
    if digest.hexdigest() != sha256:
        raise CopyError(f"{dest} already exists with different content")
    return True


def copy(dest: str, *, size: int, sha256: str, limit: int, part: Callable[[int], str]) -> None:
    """Copy a backup of `size` bytes to a new file with mode 0600. Raises CopyError.

    part: a function that returns the backup's data at an offset (compressed with zlib, then encoded in base64).
    """
    if not 0 < size <= limit:
        raise CopyError(f"the backup has {size} bytes, but the limit is {limit} bytes")
    folder = os.path.dirname(dest)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _clear(folder)
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < size + _MARGIN:
            raise CopyError(
                f"{size + _MARGIN} bytes are needed in {folder}, but {room.f_bavail * room.f_frsize} are free"
            )
        descriptor, temporary = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                digest = hashlib.sha256()
                written = 0
                while written < size:
                    data = _decoded(part(written), at_most=min(off_host.PART, size - written))
                    digest.update(data)
                    stream.write(data)
                    written += len(data)
                stream.flush()
                os.fsync(stream.fileno())
            if digest.hexdigest() != sha256:
                raise CopyError(f"the copy has the SHA-256 {digest.hexdigest()}, but the verified backup had {sha256}")
            os.link(temporary, dest)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        atomic_files.fsync_folder(folder)
    except OSError as error:
        raise CopyError(f"cannot write {dest}: {error.strerror}") from error


def _decoded(text: str, *, at_most: int) -> bytes:
    """Return the decompressed bytes from one part of the backup.

    Raises CopyError if the host sent no data, or more than at_most bytes.
    """
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), at_most)
        # When the size limit is reached, the decompressor may not have read the end of the data yet.
        more = unpacker.decompress(unpacker.unconsumed_tail, 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise CopyError(f"the host sent data that cannot be read: {error}") from error
    if not data or more or not unpacker.eof:
        raise CopyError("the host sent fewer or more bytes than the backup has")
    return data


def _clear(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if name.startswith(_PARTIAL) and os.lstat(path).st_mtime < time.time() - _OLD:
                os.unlink(path)


def prune(dest: str, *, keep: int) -> List[str]:
    """Remove the oldest copies from the same host and database, and return their paths.

    The new copy is never removed.
    """
    named = retention.NAME.match(os.path.basename(dest))
    if keep <= 0 or named is None:
        return []
    folder, removed = os.path.dirname(dest), []
    copies = []
    for name in os.listdir(folder):
        match = retention.NAME.match(name)
        if match and match["prefix"] == named["prefix"] and name != os.path.basename(dest):
            copies.append(name)
    for name in sorted(copies)[: max(len(copies) - (keep - 1), 0)]:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
            removed.append(os.path.join(folder, name))
    return removed
