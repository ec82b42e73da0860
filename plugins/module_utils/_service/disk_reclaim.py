# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free space on a full file system: remove files that match patterns, oldest first, until enough space is free.

The service's user may own folders on the path of a pattern, and could replace one of them with a link. Therefore, each
folder on a path is opened relative to the descriptor of its parent, without following links. A file is removed only if
it is still the file that was checked. If an account other than root could replace its folder, the file is removed with
the rights of the service's user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import itertools
import os
import stat
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import reclaim_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.reclaim_patterns import (
    Candidate,
    DiskReclaimError,
    Identity,
    Rule,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable

_SIDE_FILES = ("-wal", "-shm", "-journal")
# Maximum number of retained files that the result lists.
_MOST_KEPT = 5


@dataclasses.dataclass
class _Room:
    """A file system: the requested free space, the initial free space, and the total size of the removed files."""

    target: reclaim_patterns.Target
    device: int
    before: os.statvfs_result
    bytes_freed: int = 0
    inodes_freed: int = 0

    @property
    def available_before(self) -> int:
        return self.before.f_bavail * self.before.f_frsize

    def enough(self, *, measured: bool) -> bool:
        """Return True if enough space is free, as calculated from the removed files or as reported by the file system.

        Only one of these conditions must be met. Some file systems report freed space only later, and other programs
        may write at the same time. measured: True to consider the free space that the file system currently reports.
        """
        counted = (self.available_before + self.bytes_freed, self.before.f_favail + self.inodes_freed)
        now = counted
        if measured:
            present = os.statvfs(self.target.path)
            now = (present.f_bavail * present.f_frsize, present.f_favail)
        return any(
            available >= self.target.available
            # A file system without a fixed number of inodes reports 0 inodes and 0 free inodes.
            and (inodes >= self.target.inodes or not self.before.f_files)
            for available, inodes in (counted, now)
        )


class _Protected(NamedTuple):
    """Files that are never removed, identified by name, by inode, or by a parent folder."""

    paths: Set[str]
    identities: Set[Identity]
    folders: Sequence[str]

    def holds(self, path: str, identity: Identity) -> bool:
        return (
            path in self.paths
            or identity in self.identities
            or any(path == folder or path.startswith(f"{folder}/") for folder in self.folders)
        )


def _protect(paths: Sequence[str], folders: Sequence[str]) -> _Protected:
    names: Set[str] = set()
    identities: Set[Identity] = set()
    for path in paths:
        for name in sorted({path, os.path.realpath(path)}):
            for suffix in ("", *_SIDE_FILES):
                names.add(os.path.normpath(name + suffix))
                with contextlib.suppress(OSError):
                    found = os.stat(name + suffix)
                    identities.add((found.st_dev, found.st_ino))
    both = [name for folder in folders for name in (os.path.normpath(folder), os.path.realpath(folder))]
    return _Protected(paths=names, identities=identities, folders=both)


def _rooms(targets: Sequence[reclaim_patterns.Target]) -> Dict[int, _Room]:
    """Return the targets' file systems, keyed by device. If targets share a device, the largest request is used.

    Raises DiskReclaimError.
    """
    rooms: Dict[int, _Room] = {}
    for target in targets:
        try:
            device = os.stat(target.path).st_dev
            before = os.statvfs(target.path)
        except OSError as error:
            raise DiskReclaimError(
                f"targets: cannot check the file system of {target.path}: {error.strerror}"
            ) from error
        known = rooms.get(device)
        if known is not None:
            target = reclaim_patterns.Target(  # noqa: PLW2901 - both requests combined
                path=known.target.path,
                available=max(known.target.available, target.available),
                inodes=max(known.target.inodes, target.inodes),
            )
        rooms[device] = _Room(target=target, device=device, before=before)
    return rooms


class _Hidden(enum.Enum):
    """The processes that could not be inspected. ANY: the search through the open files was stopped at its limits."""

    NOTHING = 0
    OTHER_USERS = 1
    ANY = 2


def _open_files(proc_root: str) -> Tuple[Set[Identity], _Hidden]:
    """Return the regular files that processes have open, and the processes that could not be inspected."""
    found: Set[Identity] = set()
    hidden = _Hidden.NOTHING
    try:
        for _pid, descriptor in procfs.descriptors(proc_root=proc_root):
            if descriptor is None:
                hidden = _Hidden.OTHER_USERS
                continue
            with contextlib.suppress(OSError):
                status = os.stat(descriptor)
                if stat.S_ISREG(status.st_mode):
                    found.add((status.st_dev, status.st_ino))
    except procfs.UnfinishedError:
        hidden = _Hidden.ANY
    return found, hidden


@contextlib.contextmanager
def _folder_of(candidate: Candidate) -> Iterator[int]:
    """Open the folder that contains a candidate, from the root down, without following links. Raises OSError."""
    descriptor = os.open("/", reclaim_patterns.FOLDER)
    try:
        for part in candidate.folder.split("/"):
            if part:
                inner = os.open(part, reclaim_patterns.FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _head(candidate: Candidate, folder: int, *, size: int = len(sqlite_files.MAGIC)) -> bytes:
    descriptor = os.open(candidate.name, os.O_RDONLY | reclaim_patterns.FILE, dir_fd=folder)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def _why_database(candidate: Candidate, folder: int, *, unseen: bool) -> Optional[str]:
    """Return the reason why a file may be part of a database that is in use, or None if it certainly is not.

    unseen: True if a process that cannot be inspected may have the file open.
    """
    name = candidate.name
    if name.endswith(_SIDE_FILES):
        return "it may be part of a database"
    for suffix in _SIDE_FILES:
        with contextlib.suppress(OSError):
            os.stat(name + suffix, dir_fd=folder, follow_symlinks=False)
            return f"it is a database with {name}{suffix} next to it"
    if unseen and _head(candidate, folder) == sqlite_files.MAGIC:
        return "it is a database that a process may have open"
    return None


def _is_database(candidate: Candidate) -> bool:
    with contextlib.suppress(OSError), _folder_of(candidate) as folder:
        return _head(candidate, folder) == sqlite_files.MAGIC
    return False


def _is_whole(candidate: Candidate) -> bool:
    """Return True if the file is at least as large as its header states. A copy on a full disk is often truncated."""
    with contextlib.suppress(OSError), _folder_of(candidate) as folder:
        header = sqlite_files.parse_header(_head(candidate, folder, size=100))
        return header is not None and candidate.status.st_size >= header.page_count * header.page_size
    return False


def _still(candidate: Candidate, status: os.stat_result) -> bool:
    return (status.st_dev, status.st_ino, status.st_nlink) == (*candidate.identity, 1) and stat.S_ISREG(status.st_mode)


def _remove(candidate: Candidate, folder: int, *, check_mode: bool) -> None:
    """Remove a file. In check mode, only check whether this is allowed. Raises OSError."""
    if not _still(candidate, os.stat(candidate.name, dir_fd=folder, follow_symlinks=False)):
        raise OSError(0, "another file has taken its place")
    if not check_mode:
        os.unlink(candidate.name, dir_fd=folder)
    elif not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _told(candidate: Candidate) -> Dict[str, Any]:
    return {
        "path": printable(candidate.path),
        "size": candidate.status.st_size,
        "modified": timestamps.iso(candidate.status.st_mtime),
    }


class _Reclaim:
    """One call of reclaim(), and its results."""

    def __init__(
        self,
        *,
        rooms: Mapping[int, _Room],
        protected: _Protected,
        check_mode: bool,
        proc_root: str,
        user: safe_open.Rights,
    ) -> None:
        self.rooms = rooms
        self.removed: List[Dict[str, Any]] = []
        self.skipped: List[Dict[str, str]] = []
        self.skipped_count = 0
        self._protected = protected
        self._check_mode = check_mode
        self._user = user
        self._found: Dict[Identity, Candidate] = {}
        self._open, self._hidden = _open_files(proc_root)

    def skip(self, path: str, reason: str) -> None:
        self.skipped_count += 1
        entry = {"path": printable(path), "reason": reason}
        if len(self.skipped) < reclaim_patterns.MOST_SKIPPED and entry not in self.skipped:
            self.skipped.append(entry)

    def candidates(self, rules: Sequence[Rule], *, keep_databases: bool) -> List[Candidate]:
        """Return the files on the targets' file systems that may be removed according to the rules, oldest first."""
        walk = reclaim_patterns.Walk(skip=self.skip, user=self._user)
        kept: Set[Identity] = set()
        for rule in rules:
            files = sorted(walk.find(rule), key=lambda item: (-item.status.st_mtime, item.path))
            kept |= self._newest(files, keep=rule.keep)
            # If keep_databases is set, all copies of a database are kept. Otherwise, at least the newest complete copy
            # is kept.
            copies = (item for item in files if (_is_database if keep_databases else _is_whole)(item))
            kept |= {item.identity for item in itertools.islice(copies, None if keep_databases else rule.keep or 1)}
            self._found.update({item.identity: item for item in files if item.status.st_dev in self.rooms})
        return sorted(
            (item for item in self._found.values() if item.identity not in kept),
            key=lambda item: (item.status.st_mtime, item.path),
        )

    def _newest(self, files: Sequence[Candidate], *, keep: int) -> Set[Identity]:
        """Return the newest `keep` files of each series. files: newest first.

        If another user's processes cannot be inspected, they may be writing to the newest file of each series.
        Therefore, this file is kept even if `keep` is 0.
        """
        counts: Dict[Tuple[str, str], int] = {}
        newest = set()
        for item in files:
            series = (item.folder, item.series)
            counts[series] = counts.get(series, 0) + 1
            if counts[series] <= max(keep, int(self._unseen(item))):
                newest.add(item.identity)
        return newest

    def _unseen(self, candidate: Candidate) -> bool:
        """Return True if a process that cannot be inspected may have the file open."""
        if self._hidden is _Hidden.OTHER_USERS:
            return candidate.status.st_uid != os.geteuid()
        return self._hidden is _Hidden.ANY

    def kept(self, devices: Set[int]) -> List[Dict[str, Any]]:
        """Return the largest files that match a rule but were not removed, on these file systems."""
        removed = {item["path"] for item in self.removed}
        left = [item for item in self._found.values() if item.status.st_dev in devices and item.frees]
        told = [_told(item) for item in sorted(left, key=lambda item: (-item.frees, item.path))]
        return [item for item in told if item["path"] not in removed][:_MOST_KEPT]

    def take(self, candidate: Candidate) -> None:
        """Remove one file, or record the reason why it was skipped."""
        if self._protected.holds(candidate.path, candidate.identity):
            self.skip(candidate.path, "it is protected")
            return
        if candidate.status.st_nlink > 1:
            self.skip(candidate.path, f"it has {candidate.status.st_nlink} hard links: removing one frees no space")
            return
        # Removing an open file frees no space. Truncating it would destroy the lines that the process has just written.
        if candidate.identity in self._open:
            self.skip(candidate.path, "a process has it open")
            return
        try:
            with _folder_of(candidate) as folder:
                why = _why_database(candidate, folder, unseen=self._unseen(candidate))
                if why is not None:
                    self.skip(candidate.path, why)
                    return
            with safe_open.acting(candidate.rights), _folder_of(candidate) as folder:
                _remove(candidate, folder, check_mode=self._check_mode)
        except OSError as error:
            self.skip(candidate.path, f"cannot be removed: {error.strerror}")
            return
        self.removed.append(_told(candidate))
        room = self.rooms[candidate.status.st_dev]
        room.bytes_freed += candidate.frees
        room.inodes_freed += 1


def reclaim(
    *,
    rules: Sequence[Rule],
    targets: Sequence[reclaim_patterns.Target],
    protect: Sequence[str] = (),
    state_dir: str,
    user: str = "",
    keep_databases: bool = False,
    check_mode: bool = False,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Free space on the targets' file systems, and return the result of the disk_reclaim module.

    protect: paths of databases or folders. The -wal, -shm and -journal files of a database are also protected.
    state_dir is always protected. user: the service's user, or empty if it is unknown. See reclaim_patterns.Walk.
    Raises DiskReclaimError.
    """
    started = time.monotonic()
    reclaim_patterns.checked(rules, targets, [*protect, state_dir])
    account = reclaim_patterns.account(user, rules)
    rooms = _rooms(targets)
    work = _Reclaim(
        rooms=rooms,
        protected=_protect(protect, [state_dir, *protect]),
        check_mode=check_mode,
        proc_root=proc_root,
        user=account,
    )
    wanting = {device for device, room in rooms.items() if not room.enough(measured=True)}
    for candidate in work.candidates(rules, keep_databases=keep_databases) if wanting else []:
        device = candidate.status.st_dev
        if device in wanting:
            work.take(candidate)
            if rooms[device].enough(measured=not check_mode):
                wanting.remove(device)
    return {
        "changed": bool(work.removed),
        "removed": work.removed,
        "kept": work.kept(wanting),
        "skipped": work.skipped,
        "skipped_count": work.skipped_count,
        "freed": sum(room.bytes_freed for room in rooms.values()),
        "enough": not wanting,
        "targets": [
            {
                "path": room.target.path,
                "wanted": room.target.available,
                "wanted_inodes": room.target.inodes,
                "available_before": room.available_before,
                "freed": room.bytes_freed,
                "inodes_freed": room.inodes_freed,
                "enough": device not in wanting,
            }
            for device, room in rooms.items()
        ],
        "diff": {"before": "".join(f"{item['path']} {item['size']}\n" for item in work.removed), "after": ""},
        "duration": round(time.monotonic() - started, 3),
    }
