# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Swap the database while a guard prevents access. If the run is killed, the next run undoes or finishes the swap."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from typing import Iterator, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_survey, restore_ways
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.salvage_image import Owner

_SIDE = ("wal", "shm", "journal")


def guarded(place: str) -> bool:
    return os.path.islink(place) and os.readlink(place) == sqlite_files.guard_of(place)


def locate(path: str) -> str:
    """Follow links from a path to the database, as SQLite does, but do not follow a guard."""
    current = path
    for _attempt in range(40):
        folder = "/" + os.path.realpath(os.path.dirname(current)).lstrip("/")
        current = f"{folder.rstrip('/')}/{os.path.basename(current)}"
        if not os.path.islink(current) or guarded(current):
            if not os.path.isdir(folder):
                raise SqliteError(message("reason.sqlite.no_folder", path=printable(path), folder=printable(folder)))
            return current
        current = os.path.join(folder, os.readlink(current))
    raise SqliteError(message("reason.sqlite.too_many_links", path=printable(path)))


def require_a_way(path: str, place: str, *, rights: safe_open.Rights) -> None:
    facts = None
    with sqlite_files.clear_errors("look_at", path=printable(path)):
        # If the acting user has no access to the target, file_survey.require_a_way raises an error.
        with contextlib.suppress(PermissionError):
            facts = None if guarded(place) else sqlite_files.facts_of(place, rights=rights)
        file_survey.require_a_way(path, facts)


@contextlib.contextmanager
def work_folder(place: str) -> Iterator[str]:
    """Create and lock the work folder next to the database, and yield its path.

    Raises SqliteError, for example if another run uses the folder.
    """
    work = sqlite_files.work_of(place)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(work, 0o700)
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise sqlite_files.cannot("make_folder", path=printable(work), why=str(error.strerror)) from error
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise SqliteError(message("reason.sqlite.work_not_ours", path=printable(work)))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SqliteError(message("reason.sqlite.recovery_running", path=printable(place))) from None
        os.fchmod(descriptor, 0o711)  # the owner of the database needs access to a subfolder
        yield work
        # If a swap failed, keep the folder. It contains files of the old database.
        if not guarded(place) and not os.path.lexists(f"{work}/old"):
            atomic_files.discard_tree(work)
    except BaseException:
        if not guarded(place) and not os.path.lexists(f"{work}/old"):
            atomic_files.discard_tree(work)
        raise
    finally:
        os.close(descriptor)


def settle(place: str, work: str, *, owner: Owner) -> bool:
    """Undo or finish the swap of a killed run. Return True if the old database was moved back."""
    put_back = False
    with sqlite_files.clear_errors("clear_up", path=printable(place)):
        if guarded(place):
            _put_back(place, work)
            put_back = True
        elif _holds_another(place, f"{work}/old"):
            _finish(place, work, owner=owner)
        for name in os.listdir(work):
            entry = f"{work}/{name}"
            (atomic_files.remove_tree if os.path.isdir(entry) and not os.path.islink(entry) else os.unlink)(entry)
    return put_back


def _holds_another(place: str, old: str) -> bool:
    """Return True if the folder `old` contains the files of a database that was moved away from its path."""
    kept = f"{old}/{os.path.basename(place)}"
    if not os.path.lexists(kept):
        return os.path.isdir(old) and bool(os.listdir(old))
    return not os.path.exists(place) or not _same(kept, place)


def _same(one: str, other: str) -> bool:
    """Return True if two paths lead to one file, or to two files with the same size and modification time.

    If there are two files, one of them is a copy, because the file system does not support hard links.
    """
    if os.path.samefile(one, other):
        return True
    first, second = os.stat(one), os.stat(other)
    return (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def _put_back(place: str, work: str) -> None:
    """Move the WAL, its index and the journal back, then replace the guard with the database. Raises OSError."""
    folder, name = os.path.split(place)
    old = f"{work}/old"
    for kind in _SIDE:
        kept = f"{old}/{name}{sqlite_files.SUFFIXES[kind]}"
        if os.path.lexists(kept):
            os.rename(kept, f"{place}{sqlite_files.SUFFIXES[kind]}")
    atomic_files.fsync_folder(folder)
    if os.path.lexists(f"{old}/{name}"):
        os.rename(f"{old}/{name}", place)
    else:  # there was no database
        os.unlink(place)
    atomic_files.fsync_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(old)


def _finish(place: str, work: str, *, owner: Owner) -> str:
    """Move the old files into a separate folder next to the new database. Return its path. Raises OSError."""
    target = f"{place}.damaged_{timestamps.compact(time.time())}"
    number = 1
    while os.path.lexists(target):
        number += 1
        target = f"{place}.damaged_{timestamps.compact(time.time())}-{number}"
    if os.geteuid() == 0:
        os.chown(f"{work}/old", owner.uid, owner.gid)
    os.rename(f"{work}/old", target)
    atomic_files.fsync_folder(os.path.dirname(place))
    return target


@contextlib.contextmanager
def scratch_elsewhere(place: str, *, rights: safe_open.Rights) -> Iterator[str]:
    """Create a temporary folder outside the database's folder, and yield its path. Raises SqliteError."""
    needed = _size_of(place, rights=rights) * 2 + restore_ways.MARGIN
    for parent in dict.fromkeys([tempfile.gettempdir(), "/var/tmp"]):  # noqa: S108 - mkdtemp makes it private
        with contextlib.suppress(OSError):
            if sqlite_files.free_bytes(parent) >= needed:
                break
    else:
        raise SqliteError(message("reason.sqlite.no_room_to_try", path=printable(place), needed=needed))
    folder = tempfile.mkdtemp(prefix="itsm-nexus-", dir=parent)
    try:
        os.chmod(folder, 0o711)  # noqa: S103 - the owner of the database needs access to a subfolder
        yield folder
    finally:
        atomic_files.discard_tree(folder)


def _size_of(place: str, *, rights: safe_open.Rights) -> int:
    names = [place, f"{place}-wal", f"{sqlite_files.work_of(place)}/old/{os.path.basename(place)}"]
    facts = [sqlite_files.facts_of(name, rights=rights) for name in names]
    return sum(each.size for each in facts if each is not None and each.regular)


def as_it_was(place: str, scratch: str, *, rights: safe_open.Rights) -> str:
    """Return the path of the damaged database (`place`, or a copy if a killed run has moved files away)."""
    if not guarded(place):
        return place
    name, old = os.path.basename(place), f"{sqlite_files.work_of(place)}/old"
    with sqlite_files.clear_errors("copy_files", path=printable(place)):
        os.mkdir(f"{scratch}/was", 0o700)
        for suffix in sqlite_files.SUFFIXES.values():
            for source in (f"{old}/{name}{suffix}", f"{place}{suffix}"):
                if os.path.isfile(source) and not os.path.islink(source):
                    _copy_file(source, f"{scratch}/was/{name}{suffix}", rights=rights)
                    break
    return f"{scratch}/was/{name}"


def _copy_file(source: str, target: str, *, rights: safe_open.Rights) -> None:
    copy_opened(sqlite_files.open_regular(source, rights=rights), target)


def copy_opened(source: int, target: str) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        os.fchmod(writer.fileno(), 0o600)
        left = os.fstat(source).st_size  # limit the size, because the owner may keep appending to the file
        while left > 0:
            chunk = reader.read(min(left, 1 << 20))
            if not chunk:
                break
            left -= writer.write(chunk)
        writer.flush()
        os.utime(writer.fileno(), ns=(os.fstat(reader.fileno()).st_atime_ns, os.fstat(reader.fileno()).st_mtime_ns))
        os.fsync(writer.fileno())


def swap(case: restore_ways.Case, new: str, work: str, *, proc_root: str) -> Optional[str]:
    """Replace the old database with the new database. See restore.py. Raises OSError or SqliteError.

    Returns the folder that contains the old files, or None if there were none.
    """
    place, old = case.path, f"{work}/old"
    _guard(case, work)
    try:
        _behind_the_guard(case, new, old, proc_root=proc_root)
    except (OSError, SqliteError):
        if guarded(place):
            _put_back(place, work)
        raise
    if not os.listdir(old):  # there were no old files
        os.rmdir(old)
        return None
    return _finish(place, work, owner=case.owner)


def _guard(case: restore_ways.Case, work: str) -> None:
    """Give the database a second name in the work folder, then create the guard at `place`. Raises OSError."""
    place, old = case.path, f"{work}/old"
    folder, name = os.path.split(place)
    os.mkdir(old, 0o700)
    if os.path.lexists(place):
        try:
            os.link(place, f"{old}/{name}")
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            _copy_file(place, f"{old}/{name}", rights=case.rights)
            if os.geteuid() == 0:
                os.chown(f"{old}/{name}", case.owner.uid, case.owner.gid)
            os.chmod(f"{old}/{name}", case.mode)
    atomic_files.fsync_folder(old)
    atomic_files.fsync_folder(work)
    os.symlink(sqlite_files.guard_of(place), f"{work}/guard")
    os.rename(f"{work}/guard", place)
    atomic_files.fsync_folder(folder)


def _behind_the_guard(case: restore_ways.Case, new: str, old: str, *, proc_root: str) -> None:
    place = case.path
    folder, name = os.path.split(place)
    # From now on, no process can open the database. However, a process that opened the database after the first check
    # would still write to the old files. Therefore, check again.
    came = sqlite_holders.find_holders(case.found, proc_root=proc_root)
    if came.found or came.deleted:
        who = came.named() or ", ".join(f"pid {holder.pid} ({holder.command})" for holder in came.deleted)
        raise SqliteError(message("reason.sqlite.opened_meanwhile", path=printable(place), holders=who))
    for kind in _SIDE:
        beside = f"{place}{sqlite_files.SUFFIXES[kind]}"
        if os.path.lexists(beside):
            os.rename(beside, f"{old}/{name}{sqlite_files.SUFFIXES[kind]}")
    atomic_files.fsync_folder(old)
    atomic_files.fsync_folder(folder)
    os.rename(new, place)
    atomic_files.fsync_folder(folder)
