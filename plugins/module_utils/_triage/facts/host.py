# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the host: the triage window, the kernel, memory and disks."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import NOTHING, Part

# If less space than this is free, writes will soon fail. The limit is a fraction of the file system or a number of
# bytes, whichever is smaller. This limit avoids false alarms on both small and large file systems.
_FULL_SHARE = 0.01
_FULL_BYTES = 8 * 1024 * 1024
_FULL_INODES = 16
# Space that must be free after a cleanup. The service reports itself as ready only if a tenth of its disk is free.
_ROOM_SHARE = 0.1
_ROOM_BYTES = 1024**3
_ROOM_INODES = 10000

# Two fractions: the share of the host's memory for the service, and the share of the service's memory for V8's old
# space. The rest of the service's memory is for data outside the heap.
_SERVICE_SHARE = 0.75
_HEAP_SHARE = 0.75
_MORE = 1.5
_LEAST_MEMORY = 128 * 1024 * 1024


class Window(Part):
    """The period for which logs were read (older lines are ignored), and the time when the host booted."""

    since: str = ""
    until: str = ""
    booted_at: str = ""


class Kernel(Part):
    """Kernel log lines about processes that the kernel killed because memory was low."""

    source: str = ""
    out_of_memory: Sequence[Mapping[str, Any]] = ()


class Memory(Part):
    """Memory of the host and of the unit's control group, in bytes."""

    total: int = 0
    available: Optional[int] = None
    swap_free: Optional[int] = None
    pressure: Any = None
    control_group: Mapping[str, Any] = NOTHING

    def limits(self, *, used: int, unit_max: Optional[int], heap: Optional[int], bounded: bool) -> Dict[str, Any]:
        """Return values for memory_max (bytes) and max_old_space_size (MiB) that suit both the service and the host.

        used: memory that the service uses, in bytes. unit_max: memory limit of the unit in bytes, or None. heap: size
        of V8's heap in bytes when it was full, or None. bounded: True if the unit's limit was reached rather than the
        host's.
        """
        # Memory that the other processes do not use, so the service can use it.
        room = min(self.total * _SERVICE_SHARE, ((self.available or 0) + used) * 0.9)
        memory_max: Optional[int] = None
        if bounded and unit_max:
            memory_max = int(unit_max * _MORE) if unit_max * _MORE <= room else None
        elif heap is None and room >= _LEAST_MEMORY:
            memory_max = int(min(room, unit_max or room))
        old_space = int((memory_max or unit_max or room) * _HEAP_SHARE) >> 20
        if heap is not None:
            more = int(heap * _MORE) >> 20
            old_space = more if more <= old_space else 0
        return {"memory_max": memory_max, "max_old_space_size": old_space or None}


def _inside(path: str, folder: str) -> bool:
    """Return True if the path is the folder or is in the folder."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class Disks(NamedTuple):
    """The file systems of the service's folders, and the deleted files that the service has open."""

    mounts: Sequence[Mapping[str, Any]]
    deleted_files: Sequence[Mapping[str, Any]]

    def read_only(self) -> List[Mapping[str, Any]]:
        """Return the file systems that are mounted read-only although the service must write to them."""
        return [item for item in self.mounts if item.get("read_only") and item.get("use") in ("database", "log")]

    def short_of_room(self) -> List[Dict[str, Any]]:
        """Return the file systems that are full, and the space to free on each.

        what: bytes or inodes. wanted: the number of bytes or inodes to free. uses: purposes of the file system. held:
        size in bytes of deleted files that the service has open on the file system.
        """
        short: Dict[str, Dict[str, Any]] = {}
        for mount in self.mounts:
            # A read-only image (squashfs, ISO 9660) is always full.
            if not mount.get("size") or mount.get("read_only"):
                continue
            size, free = mount["size"], mount["available"]
            inodes, free_inodes = mount["inodes"], mount["inodes_available"]
            if free < min(size * _FULL_SHARE, _FULL_BYTES):
                what, wanted = "bytes", min(size * _ROOM_SHARE, _ROOM_BYTES) - free
            # If a file system does not count inodes (btrfs), the total is 0.
            elif free_inodes < min(inodes * _FULL_SHARE, _FULL_INODES):
                what, wanted = "inodes", min(inodes * _ROOM_SHARE, _ROOM_INODES) - free_inodes
            else:
                continue
            point = str(mount["mount"])
            names = ("mount", "path", "available", "size", "inodes_available", "inodes")
            known = {name: mount.get(name) for name in names}
            new: Dict[str, Any] = {**known, "what": what, "wanted": int(wanted), "uses": [], "held": self._held(point)}
            short.setdefault(point, new)["uses"].append(str(mount["use"]))
        return list(short.values())

    def _held(self, point: str) -> int:
        """Return the number of bytes that are used by deleted files that the service still has open."""
        points = {str(mount["mount"]) for mount in self.mounts if mount.get("mount")}
        return sum(
            item["size"] or 0
            for item in self.deleted_files
            if max((each for each in points if _inside(item["path"], each)), key=len, default="") == point
        )
