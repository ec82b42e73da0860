# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open files in folders that another account can write to, without letting that account misuse root's privileges.

The service's user owns the application's folder and its logs. This user can replace any of these files with a link, an
endless pipe, or a device. A link may lead to a file that only root can read. Therefore, root follows a path step by
step and checks each link. A link that only root could have created is followed as root. A link in another account's
folder is followed as that account, so it leads only to files that the account itself can open. If this process does not
run as root, it has no additional privileges that could be exploited with such a link.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import pwd
import stat
from typing import Iterator, List, Optional, Tuple

_MOST_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LARGEST = 64 << 20
_PR_SET_NO_NEW_PRIVS = 38

# The account to act as (uid, gid), or None to keep the current account of this process.
Rights = Optional[Tuple[int, int]]


class _AnybodyError(PermissionError):
    """More than one account could have created an entry on the path, so it is unknown which account to act as."""


class _LentError(Exception):
    """Another account (uid, gid) may have created a link on the path, and controls the rest of the path."""

    def __init__(self, uid: int, gid: int) -> None:
        super().__init__()
        self.uid, self.gid = uid, gid


def _only_ours(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Return True if no account except root and this account could have created the entry or can remove the entry.

    In a sticky folder such as /tmp, only the owner of an entry can remove it. However, every account could create a
    hard link there to a root-owned file or symbolic link if the kernel setting fs.protected_hardlinks is 0.
    """
    ours = (0, os.geteuid())
    if folder.st_uid not in ours:
        return False
    if not folder.st_mode & 0o022:
        return True
    single = stat.S_ISDIR(entry.st_mode) or entry.st_nlink == 1
    return bool(folder.st_mode & stat.S_ISVTX) and entry.st_uid in ours and single


def _may_be_of_another(folder: os.stat_result, opened: os.stat_result) -> bool:
    """Return True if another account may have created the open file as a hard link to a file that is not its own.

    If other accounts can write to a root-owned folder, any of them may have created the link. If another account owns
    the folder, that account may have created it.
    """
    if not stat.S_ISREG(opened.st_mode) or opened.st_nlink < 2:
        return False
    shared = folder.st_uid in (0, os.geteuid()) and folder.st_mode & 0o022
    return bool(shared) or opened.st_uid != folder.st_uid


def _owner(folder: os.stat_result, entry: os.stat_result) -> Tuple[int, int]:
    """Return the uid and gid of the other account that may have created an entry.

    Raises PermissionError if more than one account may have created the entry.
    """
    for status in (folder, entry):
        if status.st_uid not in (0, os.geteuid()):
            return status.st_uid, status.st_gid
    raise _AnybodyError(errno.EPERM, "it is reached through a link in a folder that other accounts may write to")


class _Way:
    """The folders that are open, from the root down.

    A folder is trusted if only root or this account could have created it.
    """

    def __init__(self) -> None:
        self._folders = [os.open("/", _FOLDER)]
        self._trusted = [True]

    def close(self) -> None:
        """Close the descriptors of all folders."""
        for opened in self._folders:
            os.close(opened)

    def back(self, *, to_root: bool = False) -> None:
        """Go up one folder, or to the root if to_root is true."""
        while len(self._folders) > 1:
            os.close(self._folders.pop())
            self._trusted.pop()
            if not to_root:
                break

    def look(self, name: str) -> Tuple[os.stat_result, os.stat_result, bool]:
        """Return the status of the folder, the status of an entry, and whether the entry can be trusted.

        An entry can be trusted if only root or this account could have created it.
        """
        folder = os.fstat(self._folders[-1])
        entry = os.stat(name, dir_fd=self._folders[-1], follow_symlinks=False)
        return folder, entry, self._trusted[-1] and _only_ours(folder, entry)

    def enter(self, name: str, *, trusted: bool) -> None:
        """Go down one folder."""
        self._folders.append(os.open(name, _FOLDER, dir_fd=self._folders[-1]))
        self._trusted.append(trusted)

    @property
    def depth(self) -> int:
        """Return the number of folders below the root."""
        return len(self._folders) - 1

    def status(self) -> os.stat_result:
        """Return the status of the current folder."""
        return os.fstat(self._folders[-1])

    def follow(self, name: str) -> List[str]:
        """Go to the folder to which a link's target is relative. Return the target's components in reverse order."""
        target = os.readlink(name, dir_fd=self._folders[-1])
        if target.startswith("/"):
            self.back(to_root=True)
        return _steps(target)

    def open(self, name: str, flags: int, mode: int) -> int:
        """Open an entry that is not a link."""
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._folders[-1])


def _steps(path: str) -> List[str]:
    """Return the components of a path in reverse order."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _down(way: _Way, path: str, flags: int, mode: int) -> int:
    """Open a path and return its descriptor. Raises OSError, and _LentError for a link in another account's folder."""
    todo = _steps(path)
    links = 0
    while todo:
        name = todo.pop()
        if name == "..":
            way.back()
            continue
        try:
            folder, entry, safe = way.look(name)
        except FileNotFoundError:
            if todo or not flags & os.O_CREAT:
                raise
            return way.open(name, flags, mode)
        if stat.S_ISLNK(entry.st_mode):
            links += 1
            if links > _MOST_LINKS or (not todo and flags & os.O_NOFOLLOW):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if not safe:
                raise _LentError(*_owner(folder, entry))
            todo += way.follow(name)
        elif todo:
            way.enter(name, trusted=safe)
        else:
            descriptor = way.open(name, flags, mode)
            if not safe and _may_be_of_another(folder, os.fstat(descriptor)):
                os.close(descriptor)
                raise PermissionError(errno.EPERM, "it has another hard link, which may be in another folder", path)
            return descriptor
    if flags & (os.O_PATH | os.O_DIRECTORY):  # for example the path "/"
        return way.open(".", flags, mode)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def _open_ours(path: str, flags: int, mode: int) -> int:
    way = _Way()
    try:
        return _down(way, path, flags, mode)
    finally:
        way.close()


@functools.lru_cache(maxsize=None)
def groups_of(uid: int, gid: int) -> Tuple[int, List[int]]:
    """Return the primary group and all groups of a user. If the uid has no name, the given gid is the only group."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return gid, [gid]
    return entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)


@contextlib.contextmanager
def acting(rights: Rights) -> Iterator[None]:
    """Run the block with the file permissions of a user (uid, gid), or of root if rights is None.

    Only the effective IDs change, so untrusted code in the block could regain root's privileges. Inside the block,
    start programs only with commands.run(), because it drops root's privileges permanently. Do not open the user's
    databases. Blocks can be nested. A process that does not run as root keeps its account.
    """
    if os.getuid() != 0:
        yield
        return
    before = os.getresuid()[1], os.getresgid()[1], os.getgroups()
    uid, gid = rights or (0, os.getgid())
    if uid == before[0]:
        yield
        return
    os.seteuid(0)
    try:
        if uid != 0:
            group, groups = groups_of(uid, gid)
            os.setgroups(groups)
            os.setegid(group)
            os.seteuid(uid)
        else:
            os.setegid(gid)
        yield
    finally:
        os.seteuid(0)
        os.setgroups(before[2])
        os.setegid(before[1])
        os.seteuid(before[0])


def open_any(path: str, flags: int = os.O_RDONLY, *, mode: int = 0o600, lend: bool = True) -> int:
    """Open a file of any kind by its absolute path without blocking, and return its descriptor. Raises OSError.

    If lend is false, a link in another account's folder is an error.
    """
    if not os.path.isabs(path):
        raise OSError(errno.EINVAL, "it is not an absolute path", path)
    if os.geteuid() != 0:
        return os.open(path, flags | _FLAGS, mode)
    try:
        return _open_ours(path, flags | _FLAGS, mode)
    except _LentError as lent:
        if not lend:
            raise PermissionError(
                errno.EPERM, "it is reached through a symbolic link in a folder of another account", path
            ) from None
        with acting((lent.uid, lent.gid)):
            return os.open(path, flags | _FLAGS, mode)


def open_file(path: str, flags: int = os.O_RDONLY, *, lend: bool = True) -> int:
    """Open a regular file. See open_any. Raises OSError."""
    descriptor = open_any(path, flags, lend=lend)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise OSError(0, "it is not a regular file", path)
    return descriptor


def look_up(path: str, *, folder_too: bool = True) -> Optional[os.stat_result]:
    """Return the status of a path if this process can safely change it, or None if the path does not exist.

    If the path leads through another account's link, that account itself must be able to read and write the file. If
    folder_too is true, the account must also be able to write to the folder. Raises PermissionError if the account
    lacks these permissions, and OSError for other errors.
    """
    try:
        if os.geteuid() != 0:
            return os.stat(path)
        descriptor = _open_ours(path, os.O_PATH | os.O_CLOEXEC, 0)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _AnybodyError:
        # More than one account could have created the link, so check the permissions of the account that owns the file.
        real = os.stat(path)
        return _looked_up_as(real.st_uid, real.st_gid, path, folder_too=folder_too)
    except _LentError as lent:
        return _looked_up_as(lent.uid, lent.gid, path, folder_too=folder_too)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _looked_up_as(uid: int, gid: int, path: str, *, folder_too: bool) -> Optional[os.stat_result]:
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    if not os.path.isdir(folder):
        return None
    with acting((uid, gid)):
        theirs = uid != 0 and (not folder_too or os.access(folder, os.W_OK | os.X_OK, effective_ids=True))
        with contextlib.suppress(FileNotFoundError):
            if theirs and os.access(path, os.R_OK | os.W_OK, effective_ids=True):
                return os.stat(path)
            theirs = theirs and not os.path.lexists(real)
    if not theirs:
        raise PermissionError(errno.EPERM, f"a link leads to {real}, which the link's owner (uid {uid}) may not change")
    return None


def read(path: str, *, limit: int = LARGEST) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raises OSError."""
    with os.fdopen(open_file(path), "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    return data


def account_rights(user: Optional[str]) -> Rights:
    """Return the uid and gid of a user, or None if the user does not exist or this process cannot switch to that user.

    Also returns None for root, because this process never acts as root in another account's folder.
    """
    if not user or os.getuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return (entry.pw_uid, entry.pw_gid) if entry.pw_uid != 0 else None


def rights_on(path: str, *, user: Rights = None) -> Rights:
    """Return the account (uid, gid) whose rights are used for a file and its folder.

    The path is followed folder by folder, up to the first entry that another account could replace. Entries below that
    entry are not examined, because they may change at any time. The result is:

    - None, if no other account could replace an entry, or if this process does not run as root.
    - `user` (uid, gid), if another account could replace an entry and a user is given.
    - The account that could replace an entry, if there is such an account and no user is given.

    Raises PermissionError if no user is given and more than one account could replace the entry. Raises OSError for
    other errors.
    """
    if os.getuid() != 0:
        return None
    with acting(None):
        try:
            owner = _first_stranger(path)
        except _AnybodyError as error:
            if user is None:
                raise PermissionError(
                    errno.EPERM, "several accounts could replace it; specify the service's user", path
                ) from error
            return user
    return owner and (user or owner)


def follow_ours(path: str) -> str:
    """Return an absolute path in which the links that only root could have created are resolved.

    Links are resolved up to the first entry that another account could replace. This entry and the rest of the path are
    returned unchanged. Links of that account must not be resolved here. Otherwise, later checks could not detect that
    the account had chosen the path. Raises OSError.
    """
    if os.getuid() != 0:
        return "/" + os.path.realpath(path).lstrip("/")
    way = _Way()
    parts: List[str] = []
    todo, links = _steps(path), 0
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                way.back()
                parts = parts[: way.depth]
                continue
            try:
                _folder, entry, safe = way.look(name)
            except FileNotFoundError:
                safe = False
            if not safe or not (stat.S_ISLNK(entry.st_mode) or stat.S_ISDIR(entry.st_mode)):
                parts += [name, *reversed(todo)]
                break
            if stat.S_ISLNK(entry.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                todo += way.follow(name)
                parts = parts[: way.depth]
            else:
                way.enter(name, trusted=True)
                parts.append(name)
    finally:
        way.close()
    return "/" + "/".join(parts)


def _first_stranger(path: str) -> Rights:
    """Find the first entry on a path that an account other than root could replace.

    Return the account that could replace this entry, or None.
    """
    way = _Way()
    try:
        todo = _steps(path)
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                way.back()
                continue
            try:
                folder, entry, safe = way.look(name)
            except FileNotFoundError:
                break
            if not safe:
                return _owner(folder, entry)
            if stat.S_ISLNK(entry.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    return None  # a loop of links that root created
                todo += way.follow(name)
            elif stat.S_ISDIR(entry.st_mode):
                way.enter(name, trusted=True)
            elif todo:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        # No other account can replace this folder, but other accounts may be able to create files in it.
        folder = way.status()
        if folder.st_uid not in (0, os.geteuid()):
            return folder.st_uid, folder.st_gid
        if folder.st_mode & 0o022:
            raise _AnybodyError(errno.EPERM, "other accounts may write to its folder")
        return None
    finally:
        way.close()


def become(uid: int, gid: int, *, new_privileges: bool = False) -> None:
    """Permanently switch this process to a user, without capabilities.

    If new_privileges is false, programs started by this process gain no privileges from a setuid bit or file
    capabilities.
    """
    os.seteuid(os.getuid())
    if os.getuid() != 0 or uid == 0:
        return
    group, groups = groups_of(uid, gid)
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(uid, uid, uid)
    if new_privileges:
        return
    with contextlib.suppress(OSError, AttributeError):  # some C libraries do not provide prctl
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
