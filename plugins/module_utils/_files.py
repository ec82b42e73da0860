# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing files so that a power cut leaves either the old or the new content."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile


def fsync_folder(path: str) -> None:
    """Flush a folder's entries to disk, so that a file created or renamed in it stays."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: str) -> None:
    """Create C(path) and its parents where missing; C(path) itself gets mode 0700. Raises OSError.

    The parents get 0755 at most: with a umask of 0, of some init scripts, others could put another folder in its place.
    """
    _folder(os.path.abspath(path), 0o700)


def _folder(path: str, mode: int) -> None:
    if os.path.isdir(path):
        return
    _folder(os.path.dirname(path), 0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:  # another run was faster by a moment
        if not os.path.isdir(path):
            raise


def read_plain(path: str, *, limit: int) -> bytes:
    """Return what is in C(path), a plain file. A pipe that nobody writes to is not waited for.

    Raises OSError where it cannot be read, ValueError where it is of another kind or holds more than C(limit) bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"it holds more than {limit} bytes")
    return data


def write_atomically(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Write C(data) to C(path): temporary file beside it, fsync, rename, fsync of the folder. Raises OSError."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(folder)
