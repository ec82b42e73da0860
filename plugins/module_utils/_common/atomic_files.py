# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write files so that a power failure leaves either the old or the new content, and remove folders safely."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from typing import ContextManager, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open

# Maximum folder depth for remove_tree.
_DEEPEST = 200


def fsync_folder(path: str) -> None:
    """Flush a folder's entries to disk, so that files created or renamed in the folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str, *, parent: Optional[int] = None) -> None:
    """Remove a folder and its content. Raises OSError if an entry cannot be removed.

    parent: descriptor of the folder to which a relative path refers.

    The folder's owner may replace entries at any time, so links are not followed and FIFOs are not opened. If another
    account owns the folder, root acts with the rights of that account. Otherwise, the account could move a folder with
    files of a third account into its own folder, and root would remove these files. For the same reason, root does not
    remove entries from a root-owned folder that other accounts can write to. These accounts could also move such a
    folder.
    """
    device = os.stat(path, dir_fd=parent, follow_symlinks=False).st_dev
    _remove_tree(path, parent, depth=0, device=device)


def _rights_in(folder: int) -> ContextManager[None]:
    """Return a context in which root has only the rights of the folder's owner. folder: an open folder.

    Raises PermissionError if root owns the folder and other accounts can write to it.
    """
    owner = os.fstat(folder)
    # Once root has given up its rights, they stay the same in all folders below.
    if os.geteuid() != 0:
        return contextlib.nullcontext()
    if owner.st_uid == 0:
        if owner.st_mode & stat.S_IWOTH or (owner.st_mode & stat.S_IWGRP and owner.st_gid != 0):
            raise PermissionError(errno.EPERM, "other accounts can write to this root-owned folder")
        return contextlib.nullcontext()
    return safe_open.acting((owner.st_uid, owner.st_gid))


def _open_folder(name: str, parent: Optional[int]) -> int:
    """Open a folder, even if its owner has removed their own permissions. Raises OSError."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=parent)
    except PermissionError:
        found = os.open(name, flags | os.O_PATH, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{found}", stat.S_IRWXU)  # only the owner may change the mode
        return os.open(".", flags | os.O_RDONLY, dir_fd=found)
    finally:
        os.close(found)


def _allow_owner(folder: int) -> None:
    """If this process acts as the owner of a folder, make sure that the owner may remove entries."""
    status = os.fstat(folder)
    if status.st_uid == os.geteuid() != 0 and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(folder, stat.S_IRWXU)


def _remove_tree(name: str, parent: Optional[int], *, depth: int, device: int) -> None:
    if depth > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    opened = _open_folder(name, parent)
    try:
        if os.fstat(opened).st_dev != device:
            raise OSError(errno.EXDEV, "another file system is mounted there", name)
        with _rights_in(opened):
            _allow_owner(opened)
            with os.scandir(opened) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for entry_name, is_folder in found:
                with contextlib.suppress(OSError):  # if an entry remains, the final rmdir raises an error
                    if is_folder:
                        _remove_tree(entry_name, opened, depth=depth + 1, device=device)
                    else:
                        os.unlink(entry_name, dir_fd=opened)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=parent)


def discard_tree(path: str, *, rights: safe_open.Rights = None) -> None:
    """Remove as much as possible of a folder and its content. See remove_tree.

    rights: the account to which this process gave the folder, or None. The account could have moved another folder to
    this path, so root acts as this account.
    """
    with contextlib.suppress(OSError), contextlib.nullcontext() if rights is None else safe_open.acting(rights):
        remove_tree(path)
    if rights is not None:  # the account may not be able to write to the parent folder
        with contextlib.suppress(OSError):
            os.rmdir(path)


def private_folder(path: str) -> None:
    """Create a folder with mode 0700, and its missing parents. Raises OSError.

    New parent folders are created with at most mode 0755. Therefore, other users cannot write to these folders, even if
    an init script sets umask 0.
    """
    _folder(os.path.abspath(path), 0o700)


def _folder(path: str, mode: int) -> None:
    if os.path.isdir(path):
        return
    _folder(os.path.dirname(path), 0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:  # another run created it a moment earlier
        if not os.path.isdir(path):
            raise


def read_plain(path: str, *, limit: int) -> bytes:
    """Return the content of a regular file. Does not block on a FIFO that has no writer.

    Raises OSError if the file cannot be read, and ValueError if it is not a regular file or is larger than `limit`
    bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"it contains more than {limit} bytes")
    return data


def write_atomically(path: str, data: bytes, *, mode: int = 0o600, group: Optional[int] = None) -> None:
    """Write data to a file with the given mode (permissions) and, optionally, the given group ID. Raises OSError.

    The data is written and flushed to a temporary file in the same folder. This file then replaces the target.
    """
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if group is not None:
                os.fchown(stream.fileno(), -1, group)
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
