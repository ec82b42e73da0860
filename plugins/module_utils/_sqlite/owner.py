# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If root owns a database, make the service's user its owner again.

The service's user may replace the database's files at any moment. Therefore, the folder and its files are opened
without following links. Each file is checked and changed through its descriptor.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import struct
from typing import Any, Dict, List, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import messages

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# First bytes of a database, of a WAL (magic number) and of a WAL index (version). See
# https://www.sqlite.org/fileformat2.html.
_DATABASE = b"SQLite format 3\0"
_WAL = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_INDEX = struct.pack("=I", 3007000)
_KINDS: Dict[str, Tuple[bytes, ...]] = {"": (_DATABASE,), "-wal": (*_WAL, b""), "-shm": (_INDEX, b"")}


class SqliteOwnerError(MessageError):
    """The owner cannot or must not be restored. No file was changed."""

    templates = messages.ENGLISH


def _judged(name: str, suffix: str, *, folder: int, account: pwd.struct_passwd) -> int:
    """Open one of the database's files, check it, and return its descriptor.

    Raises FileNotFoundError, or SqliteOwnerError if the file cannot be opened or its owner must not be changed.
    """
    try:
        opened = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SqliteOwnerError(message("reason.owner.not_opened", path=name, why=str(error.strerror))) from error
    status = os.fstat(opened)
    wrong = None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        wrong = message("reason.owner.several_names")
    elif status.st_uid not in (0, account.pw_uid):
        wrong = message("reason.owner.of_another", uid=status.st_uid)
    elif status.st_mode & 0o600 != 0o600:
        wrong = message("reason.owner.mode", mode=f"{stat.S_IMODE(status.st_mode):04o}")
    elif not _is_kind(os.pread(opened, len(_DATABASE), 0), _KINDS[suffix]):
        wrong = message("reason.owner.not_sqlite")
    elif not _can_read(name, folder=folder, account=account, opened=status):
        wrong = message("reason.owner.unreadable", user=account.pw_name)
    if wrong is not None:
        os.close(opened)
        raise SqliteOwnerError(message("reason.owner.left", file=name, why=wrong))
    return opened


def _can_read(name: str, *, folder: int, account: pwd.struct_passwd, opened: os.stat_result) -> bool:
    """Return True if the account may read a file in the folder, and the file is the one that was opened.

    If root owns a file that the account may not read, the account may have moved the file there.
    """
    with contextlib.suppress(OSError), safe_open.acting((account.pw_uid, account.pw_gid)):
        found = os.open(name, _FLAGS, dir_fd=folder)
        try:
            return os.path.samestat(os.fstat(found), opened)
        finally:
            os.close(found)
    return False


def _is_kind(head: bytes, kinds: Tuple[bytes, ...]) -> bool:
    return any(head.startswith(kind) if kind else not head for kind in kinds)


def _require_own_folder(folder: int, *, path: str, family: List[str], account: pwd.struct_passwd) -> None:
    """Raise SqliteOwnerError unless `account` owns the folder and all entries that are not in `family`."""
    others = [path] if os.fstat(folder).st_uid != account.pw_uid else []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in family and entry.stat(follow_symlinks=False).st_uid != account.pw_uid:
                others.append(os.path.join(path, entry.name))
    if others:
        raise SqliteOwnerError(message("reason.owner.shared", files=sorted(others)[:3], user=account.pw_name))


def restore(*, path: str, user: str, check_mode: bool = False) -> Dict[str, Any]:
    """Make `user` the owner of a database and its -wal and -shm files if root owns them. Return the module's result.

    All files are checked before the first file is changed. Raises SqliteOwnerError.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise SqliteOwnerError(message("reason.owner.no_user", user=repr(user))) from None
    if os.geteuid() != 0:
        raise SqliteOwnerError(message("reason.owner.not_root"))
    where, base = os.path.split(path)
    with contextlib.ExitStack() as stack:
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            folder = safe_open.open_any(where, flags, lend=False)
        except OSError as error:
            told = message("reason.owner.folder_not_opened", path=where, why=str(error.strerror))
            raise SqliteOwnerError(told) from error
        stack.callback(os.close, folder)
        names = {f"{base}{suffix}": suffix for suffix in _KINDS}
        _require_own_folder(folder, path=where, family=list(names), account=account)
        files = []
        for name, suffix in names.items():
            try:
                opened = _judged(name, suffix, folder=folder, account=account)
            except FileNotFoundError:
                if not suffix:
                    raise SqliteOwnerError(message("reason.owner.no_database", path=path)) from None
                continue
            stack.callback(os.close, opened)
            if os.fstat(opened).st_uid != account.pw_uid:
                files.append((name, opened))
        for _name, opened in [] if check_mode else files:
            os.fchown(opened, account.pw_uid, account.pw_gid)
    changed = [os.path.join(where, name) for name, _opened in files]
    return {
        "changed": bool(changed),
        "files": changed,
        "owner": account.pw_name,
        "diff": {
            "before": dict.fromkeys(changed, "root"),
            "after": dict.fromkeys(changed, account.pw_name),
        },
    }
