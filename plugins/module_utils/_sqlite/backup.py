# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create a verified backup of a live or crashed database, or copy its files byte for byte as evidence.

A backup is flushed to disk, then reopened and checked. The backup is renamed to its final name only if it is sound and
its row counts match those of the source. A killed run leaves its files in a separate folder. The next run removes that
folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_copy, evidence_copy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    NoRoomError,
    SqliteError,
    printable,
)

_PARTIAL = ".itsm-nexus-partial-"
_MARGIN = 8 << 20  # number of bytes to leave free on the destination


class _Order(NamedTuple):
    """A request to create a copy.

    target: the path of the copy. exact: True if the copy must have exactly this path. In this case, the backup fails if
    the path already exists. deadline: a time in time.monotonic seconds. leave: see backup.
    """

    path: str
    target: str
    prefix: str
    exact: bool
    evidence: bool
    keep: int
    busy_timeout: float
    deadline: float
    user: Optional[str]
    rights: safe_open.Rights
    proc_root: str
    leave: float


def backup(
    *,
    path: str,
    dest: Optional[str] = None,
    dest_dir: Optional[str] = None,
    prefix: Optional[str] = None,
    evidence: bool = False,
    keep: int = 0,
    busy_timeout: float = 5.0,
    timeout: float = 600.0,
    room_only: bool = False,
    check_mode: bool = False,
    user: Optional[str] = None,
    proc_root: str = "/proc",
    leave: float = 0.0,
) -> Dict[str, Any]:
    """Copy a database and return the result of the sqlite_backup module.

    dest: the complete path of the copy. If dest is None, the copy is written to dest_dir, and its name consists of the
    prefix and the current time. room_only: True to check only the free space. user: the user that reads and writes the
    files if accounts other than root can change the folders. See file_survey.look. leave: the share of the
    destination's file system that must stay free, from 0 to 1.

    Raises SqliteError if no valid copy could be created. An incomplete or unsound copy is never renamed to its final
    name.
    """
    started = time.monotonic()
    folder, prefix, name = _names(path=path, dest=dest, dest_dir=dest_dir, prefix=prefix, evidence=evidence, keep=keep)
    if timeout <= 0 or busy_timeout < 0:
        raise SqliteError(f"timeout must be above 0 and busy_timeout at least 0, not {timeout} and {busy_timeout}")
    try:
        rights = safe_open.rights_on(folder, user=sqlite_files.rights_on(path, user))
    except OSError as error:
        raise sqlite_files.cannot("write_to", path=printable(folder), why=str(error.strerror)) from error
    order = _Order(
        path=path,
        target=f"{folder}/{name}",
        prefix=prefix,
        exact=dest is not None,
        evidence=evidence,
        keep=keep,
        busy_timeout=busy_timeout,
        deadline=started + timeout,
        user=user,
        rights=rights,
        proc_root=proc_root,
        leave=leave,
    )
    with safe_open.acting(rights), sqlite_files.clear_errors("copy", path=printable(path)):
        return _backup(order, room_only=room_only, check_mode=check_mode, started=started)


def _backup(order: _Order, *, room_only: bool, check_mode: bool, started: float) -> Dict[str, Any]:
    """Create the copy. The caller has already switched to the account that writes to the folder. Raises SqliteError."""
    folder, target = os.path.dirname(order.target), order.target
    if order.exact and os.path.lexists(target):
        raise SqliteError(message("reason.sqlite.dest_there", path=printable(target)))
    found, holders = _survey(order)
    result: Dict[str, Any] = {
        "changed": True,
        **dict.fromkeys(("backup_file", "evidence_dir", "sha256", "size", "integrity")),
        **{"row_counts": {}, "files": [], "removed": []},
        "room_needed": _room(found, folder, leave=order.leave),
    }
    if room_only:
        return {**result, "changed": False, "diff": {}, "duration": round(time.monotonic() - started, 3)}
    result["evidence_dir" if order.evidence else "backup_file"] = printable(target)
    if check_mode:
        surplus = _surplus(folder, order.prefix, keep=order.keep) if order.keep else []
        result["removed"] = [printable(old) for old in surplus]
    else:
        target, facts = _copy(order, found, holders)
        result.update(facts)
    result["diff"] = {
        "before": {"present": result["removed"]},
        "after": {"present": [printable(target)]},
    }
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _survey(order: _Order) -> Tuple[Look, sqlite_holders.Holders]:
    """Return the database's files and the processes that have the database open. Raises SqliteError."""
    known: Dict[str, Any] = {"user": order.user, "deadline": order.deadline, "proc_root": order.proc_root}
    if not order.evidence:
        return backup_copy.survey(order.path, **known)
    found = evidence_copy.patiently(lambda: evidence_copy.closed(order.path, **known), until=order.deadline)
    return found, sqlite_holders.Holders(found=[], complete=True)


def _copy(order: _Order, found: Look, holders: sqlite_holders.Holders) -> Tuple[str, Dict[str, Any]]:
    """Create the copy, then remove old backups. Return the path of the copy and the fields of the module's result.

    Raises SqliteError.
    """
    folder, target = os.path.dirname(order.target), order.target
    try:
        _make_folder(folder)
        with _partial(folder) as partial:
            if order.evidence:
                target, facts = _make_evidence(order, found, partial)
            else:
                target, facts = _make_backup(order, found, holders, partial)
        if order.keep:
            facts["removed"] = _prune(folder, order.prefix, keep=order.keep, new=target)
    except OSError as error:
        what = {"path": printable(found.path), "target": printable(target)}
        raise sqlite_files.cannot("copy_to", **what, why=str(error.strerror or error)) from error
    return target, facts


def _make_folder(folder: str) -> None:
    is_new = not os.path.isdir(folder)
    atomic_files.private_folder(folder)
    if is_new:
        atomic_files.fsync_folder(os.path.dirname(folder))


def _make_evidence(order: _Order, found: Look, partial: str) -> Tuple[str, Dict[str, Any]]:
    """Copy the files byte for byte. Return the folder and the result's fields. Raises OSError, SqliteError."""
    made = f"{partial}/evidence"
    files = evidence_copy.patiently(
        lambda: evidence_copy.copy_bytes(found, made, deadline=order.deadline, proc_root=order.proc_root),
        until=order.deadline,
    )
    target = _publish(made, order.target, exact=False)
    for entry in files:
        entry["path"] = f"{printable(target)}/{entry['path']}"
    return target, {"files": files, "evidence_dir": printable(target)}


def _make_backup(
    order: _Order, found: Look, holders: sqlite_holders.Holders, partial: str
) -> Tuple[str, Dict[str, Any]]:
    """Create a verified backup. Return its path and the fields of the module's result. Raises OSError, SqliteError."""
    made = backup_copy.copy(
        found,
        holders,
        f"{partial}/database",
        busy_timeout=order.busy_timeout,
        deadline=order.deadline,
        user=order.user,
        rights=order.rights,
        proc_root=order.proc_root,
    )
    target = _publish(f"{partial}/database", order.target, exact=order.exact)
    return target, {**made, "backup_file": printable(target)}


def _names(
    *,
    path: str,
    dest: Optional[str],
    dest_dir: Optional[str],
    prefix: Optional[str],
    evidence: bool,
    keep: int,
) -> Tuple[str, str, str]:
    """Return the folder, prefix and name of the copy. Raises SqliteError if the parameters contradict each other."""
    if (dest is None) == (dest_dir is None):
        raise SqliteError("Set either dest or dest_dir")
    if keep < 0:
        raise SqliteError(f"keep must be 0 (keep all) or more, not {keep}")
    if dest is not None and (evidence or keep or prefix is not None):
        raise SqliteError("dest is the path of one backup file: 'evidence', 'keep' and 'prefix' require dest_dir")
    if evidence and keep:
        raise SqliteError("'keep' applies only to backups: evidence is never removed")
    given = dest if dest is not None else dest_dir
    if given is None or not os.path.isabs(given) or "\0" in given:
        raise SqliteError(f"{'dest' if dest else 'dest_dir'} must be an absolute path, not {given!r}")
    if dest is not None:
        if dest.endswith("/"):
            raise SqliteError(f"dest must be the path of a file, not {printable(dest)!r}")
        return os.path.dirname(dest), "", os.path.basename(dest)
    if prefix is None:
        prefix = os.path.basename(path) + (".evidence_" if evidence else ".backup_")
    if not prefix or "/" in prefix or prefix.startswith("."):
        raise SqliteError(f"prefix must be the beginning of a file name, with no / and no leading dot, not {prefix!r}")
    return given.rstrip("/") or "/", prefix, prefix + timestamps.compact(time.time())


def _room(found: Look, folder: str, *, leave: float) -> int:
    """Return the number of bytes that a copy needs, including a reserve. Raises SqliteError if fewer bytes are free.

    leave: see backup.
    """
    there = folder
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    needed = sum(facts.size for facts in found.files.values())
    if found.header is not None:
        pages = max(found.wal.database_pages, 0) * found.wal.page_size
        needed = max(needed, pages)
    try:
        free, size = sqlite_files.free_bytes(there), sqlite_files.size_of_file_system(there)
    except OSError as error:
        raise sqlite_files.cannot("get_space", path=printable(there), why=str(error.strerror)) from error
    reserve = max(_MARGIN, int(size * leave))
    if free < needed + reserve:
        what = {"path": printable(found.path), "target": printable(folder)}
        why = message("reason.sqlite.no_room", needed=needed, free=free)
        if reserve > _MARGIN:
            why = message("reason.sqlite.no_room_left", needed=needed, free=free, reserve=reserve)
        raise NoRoomError(message("reason.sqlite.cannot.copy_to", **what, why=why))
    return needed + reserve


@contextlib.contextmanager
def _partial(folder: str) -> Iterator[str]:
    """Remove the subfolders that killed runs left behind, and yield a new private subfolder for the copy."""
    _clear(folder)
    made = tempfile.mkdtemp(prefix=_PARTIAL, dir=folder)
    descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, made)
        yield made
    finally:
        atomic_files.discard_tree(made)
        os.close(descriptor)


def _lock(descriptor: int, folder: str) -> None:
    """Lock a new folder. Raises SqliteError if another process holds the lock."""
    for _attempt in range(backup_copy.ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    raise SqliteError(message("reason.sqlite.folder_locked", path=printable(folder)))


def _clear(folder: str) -> None:
    for name in os.listdir(folder):
        if name.startswith(_PARTIAL):
            with contextlib.suppress(OSError):
                descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    atomic_files.discard_tree(f"{folder}/{name}")
                finally:
                    os.close(descriptor)


def _publish(made: str, target: str, *, exact: bool) -> str:
    """Give the finished file or folder an unused name, and return that name. Raises OSError, SqliteError.

    exact: True if the name must be exactly `target`. Otherwise, a number may be appended to `target`.
    """
    names = [target] if exact else [target, *(f"{target}-{number}" for number in range(2, 100))]
    for name in names:
        try:
            os.link(made, name)
        except FileExistsError:
            continue
        except OSError as error:
            # Folders cannot have hard links, and some file systems do not support hard links at all.
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if os.path.lexists(name):
                continue
            os.rename(made, name)
        atomic_files.fsync_folder(os.path.dirname(name))
        return name
    raise SqliteError(message("reason.sqlite.name_taken", path=printable(target)))


def _surplus(folder: str, prefix: str, *, keep: int, new: str = "") -> List[str]:
    """Return the paths of the surplus backups with this prefix (oldest first), except the new backup.

    keep: number of backups to keep, including the new backup. The new backup is always kept, because it has just been
    verified. If the clock was set back, the name of the new backup may contain an earlier time than the names of the
    others.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{8}T\d{6}Z)(?:-(\d+))?")
    backups = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        path = f"{folder}/{name}"
        match = pattern.fullmatch(name)
        if match and path != new and stat.S_ISREG(os.lstat(path).st_mode):
            backups.append((match.group(1), int(match.group(2) or 1), path))
    backups.sort()
    return [path for _instant, _number, path in backups[: max(len(backups) - (keep - 1), 0)]]


def _prune(folder: str, prefix: str, *, keep: int, new: str) -> List[str]:
    """Remove old backups after the new backup has been verified. Return their paths. Raises OSError."""
    removed = []
    for path in _surplus(folder, prefix, keep=keep, new=new):
        os.unlink(path)
        removed.append(printable(path))
    if removed:
        atomic_files.fsync_folder(folder)
    return removed
