# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the measurements for the readiness checks, within a few seconds.

disks() and database() run in a child process, because a system call on a hanging disk never returns.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

# Codes of database problems that count as damage, whether or not the service is running.
_DAMAGE = ("empty", "empty_beside_wal", "not_a_database", "corrupt", "wal_damaged", "wal_foreign", "open_deleted")
_LOOKS = 40
# Number of bytes in the -shm file that describe the WAL.
_INDEX = 136


class Files(NamedTuple):
    """The number of files and connections that the service has open, and the limit. None means unknown."""

    pid: int
    open_files: Optional[int]
    limit: Optional[int]


def open_files(pid: int, *, search: Optional[procfs.Search] = None, proc_root: str = "/proc") -> Files:
    """Return the number of files that a process has open, and its limit.

    search: one search for several processes, so that they share its limits.
    """
    count: Optional[int] = None
    limit: Optional[int] = None
    with contextlib.suppress(OSError, procfs.UnfinishedError):
        count = sum(1 for _path in (search or procfs.Search(proc_root=proc_root)).descriptors(pid))
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = procfs.read_text(f"{proc_root}/{pid}/limits").splitlines()
        soft = next(line for line in lines if line.startswith("Max open files")).split()[3]
        limit = int(soft) if soft.isdecimal() else None
    return Files(pid, count, limit)


def memory_pressure(pid: int, *, proc_root: str = "/proc", group_root: str = "/sys/fs/cgroup") -> Optional[float]:
    """Return the percentage of the last minute during which all processes waited for memory.

    The kernel measures this percentage for the host and for the unit. Return the higher value, or None if both are
    unknown.
    """
    found = []
    groups = [group for group in procfs.control_groups(pid, proc_root=proc_root) if group not in ("", "/")]
    for path in (f"{proc_root}/pressure/memory", *(f"{group_root}{group}/memory.pressure" for group in groups)):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            full = next(line for line in procfs.read_text(path).splitlines() if line.startswith("full "))
            found.append(float(full.split("avg60=")[1].split()[0]))
    return max(found, default=None)


def clock(*, proc_root: str = "/proc") -> Dict[str, Any]:
    """Return the current time, the boot ID, and the offset: the current time minus the uptime. Times are in seconds."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = procfs.read_text(f"{proc_root}/sys/kernel/random/boot_id").strip()
    now = time.time()
    return {"now": now, "boot": boot, "offset": now - time.clock_gettime(time.CLOCK_BOOTTIME)}


def disks(paths: Mapping[str, str], *, user: str = "") -> List[Dict[str, Any]]:
    """Return the free space and the uses of the file systems that contain these paths. paths: maps each use to a path.

    user: the service's user. A path that this user could replace is examined with this user's rights.

    Read-only file systems, and paths that the service's user has just moved away, are omitted.
    """
    found: Dict[str, Dict[str, Any]] = {}
    points = [mount[0] for mount in mounts.mounted()]
    rights = safe_open.account_rights(user)
    for use, path in paths.items():
        with contextlib.suppress(OSError), safe_open.acting(rights and safe_open.rights_on(path, user=rights)):
            place = os.path.realpath(path)
            while not os.path.exists(place) and place != "/":
                place = os.path.dirname(place)
            known = _room(os.statvfs(place))
            inside = [point for point in points if place == point or place.startswith(point.rstrip("/") + "/")]
            mount = max(inside, key=len, default="/")
            if known is not None:
                found.setdefault(mount, {"mount": mount, "uses": [], **known})["uses"].append(use)
    return list(found.values())


def _room(room: os.statvfs_result) -> Optional[Dict[str, Any]]:
    """Return the free space and the used percentage of a file system, or None if it is read-only or has no size."""
    used, free = room.f_blocks - room.f_bfree, room.f_bavail
    if room.f_flag & os.ST_RDONLY or not used + free:
        return None
    return {
        "bytes": free * room.f_frsize,
        "used_percent": 100 * used / (used + free),
        # If a file system does not count inodes (btrfs), the total is 0.
        "inodes": room.f_favail,
        "inodes_percent": 100 * (room.f_files - room.f_favail) / room.f_files if room.f_files else 0.0,
    }


def database(path: str, *, user: str, budget: float, lock_after: float) -> Dict[str, Any]:
    """Check the database while the service uses it. Return the results.

    - damage: the code and the message of the first problem, or None. checked: True if the check finished within
      `budget` seconds.
    - lock: the process that blocked all writes for at least lock_after seconds, or None. Its keys are pid, parents,
      command, user, age (in seconds) and seconds (the time for which the lock was observed).
    - wal: the size of the used part of the WAL, in bytes.
    """
    found: Dict[str, Any] = {"damage": None, "checked": False, "lock": None, "wal": None}
    with contextlib.suppress(OSError):
        found["wal"] = os.lstat(f"{path}-wal").st_size
        index = sqlite_wal.parse_index(_bytes(f"{path}-shm", 0, _INDEX))
        found["wal"] = index.bytes_in_use if index is not None else found["wal"]
    found["lock"] = _lock(path, lock_after) if lock_after else None
    if budget:
        try:
            looked = sqlite_check.check(path=path, checks=["quick"], user=user, row_counts=False, time_budget=budget)
        except SqliteError:
            return found
        damages = [item for item in looked["problems"] if item["code"] in _DAMAGE]
        found["damage"] = {name: damages[0][name] for name in ("code", "message")} if damages else None
        found["checked"] = bool(damages) or looked["checks"].get("quick") == "ok"
    return found


def _lock(path: str, lock_after: float) -> Optional[Dict[str, Any]]:
    """Return the process that blocked all writes for lock_after seconds without a pause, or None.

    A process that commits one transaction after another is ignored, because other processes can write in between.
    """
    begun, committed = time.monotonic(), _commits(path)
    holder: Optional[int] = None
    for _look in range(_LOOKS + 1):
        now = _writer(path)
        if now is None or holder not in (None, now) or _commits(path) != committed:
            return None
        holder = now
        time.sleep(lock_after / _LOOKS)
    seconds = round(time.monotonic() - begun, 1)
    process = procfs.read_process(holder) if holder else None
    return {
        "pid": holder,
        # Omit process 1, because it is an ancestor of all processes.
        "parents": [each for each in procfs.ancestors(holder or 0) if each > 1],
        "command": sqlite_holders.command_of(holder or 0),
        "user": None if process is None else service_process.user_name(process.uid),
        "age": None if process is None else process.age,
        "seconds": seconds,
    }


def _commits(path: str) -> bytes:
    """Return the bytes that change with each commit: the header of the WAL index, and the database's change counter."""
    found = b""
    for name, start, length in (("-shm", 0, 48), ("", 24, 4)):
        with contextlib.suppress(OSError):
            found += _bytes(path + name, start, length)
    return found


def _bytes(path: str, start: int, length: int) -> bytes:
    descriptor = safe_open.open_file(path)
    try:
        return os.pread(descriptor, length, start)
    finally:
        os.close(descriptor)


def _writer(path: str) -> Optional[int]:
    """Return the pid of the process that holds the write lock (0 for a process in another PID namespace), or None."""
    for name, start, length in sqlite_holders.WRITE_LOCKS:
        with contextlib.suppress(OSError):
            descriptor = safe_open.open_file(path + name)
            try:
                lock = sqlite_holders.lock_on(descriptor, start=start, length=length)
            finally:
                os.close(descriptor)
            if lock is not None and lock[0] == "WRITE":
                return lock[1]
    return None
