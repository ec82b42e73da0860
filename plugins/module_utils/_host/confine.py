# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let this process write to one folder only, and cut it off from the network. For child processes only.

The kernel enforces both limits for this process and for every program that it starts: in a private mount namespace, all
other file systems are read-only, and a private network namespace has no interface. See mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
from typing import List, Tuple

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
# A remount must repeat the options of the mount. See mount(2) and proc_pid_mountinfo(5).
_OPTIONS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
_LARGEST = 4 << 20


def confine(folder: str) -> bool:
    """Make everything except a folder read-only for this process, and remove its network.

    Return False if that is not possible: this process does not run as root, or a container does not allow it. The
    process may then already have lost its network. folder: an absolute path without links.
    """
    if os.geteuid() != 0:
        return False
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
            return False
        _mount(library, "none", "/", _MS_REC | _MS_PRIVATE)
        _mount(library, folder, folder, _MS_BIND)
        for point, flags in _mounts():
            if point != folder:
                _read_only(library, point, flags)
        # The temporary folders of many hosts do not allow the execution of files, so no native module could be loaded.
        _mount(library, "none", folder, _MS_REMOUNT | _MS_BIND | _OPTIONS["nosuid"] | _OPTIONS["nodev"])
    except (OSError, AttributeError):
        return False
    # The working directory still belongs to the mount from before.
    os.chdir(folder)
    return True


def _mount(library: ctypes.CDLL, source: str, target: str, flags: int) -> None:
    if library.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _read_only(library: ctypes.CDLL, point: str, flags: int) -> None:
    """Make a mount read-only. Raises OSError if it stays writable.

    A mount point that is hidden below another mount cannot be reached by its path.
    """
    try:
        _mount(library, "none", point, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)
    except OSError:
        if os.path.exists(point) and not os.statvfs(point).f_flag & os.ST_RDONLY:
            raise


def _mounts() -> List[Tuple[str, int]]:
    """Return the mount points, and the flags of their options. Raises OSError."""
    with open("/proc/self/mountinfo", "rb") as stream:
        lines = stream.read(_LARGEST).split(b"\n")
    found = []
    for fields in (line.split(b" ") for line in lines if line):
        point = fields[4].decode("unicode_escape").encode("latin-1")
        options = fields[5].decode("ascii", "replace").split(",")
        found.append((os.fsdecode(point), sum(_OPTIONS.get(option, 0) for option in options)))
    return found
