# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Allow this process to write to one folder only, and isolate it from the network and all other processes.

For child processes only. The kernel enforces these limits for this process and for every program that it starts. In a
private mount namespace, all other file systems are read-only. In a private network namespace, the only interface is a
loopback interface that is down. A filter for system calls refuses UNIX sockets (see socket_filter.py), because these
namespaces do not prevent a program from connecting to a UNIX socket. In a private IPC namespace, other processes'
shared memory and message queues do not exist. In a private PID namespace, this process cannot send signals to other
processes, and cannot reach their files through /proc. The read-only mounts would not protect these files. When this
process exits, the kernel kills everything that it has started. See namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from typing import List, NamedTuple, NoReturn, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import socket_filter

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x20000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
# When a mount is remounted, its options must be repeated. See mount(2) and proc_pid_mountinfo(5).
_OPTIONS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
_OF_PROC = ("nosuid", "nodev", "noexec")
_LARGEST = 4 << 20


class _Mount(NamedTuple):
    """A mount. root: the path in the mounted file system. flags: its options, see mount(2)."""

    point: str
    root: str
    kind: str
    flags: int


def confine(folder: str) -> bool:
    """Make everything except `folder` read-only for this process, and hide the network and all other processes.

    Return True in a new process, which continues in place of this process. This process only waits until the new
    process exits.

    Return False if this process does not run as root, or if a container, the kernel or this machine's architecture does
    not allow these limits. In this case, some of the limits may already be in effect. folder: an absolute path without
    links.
    """
    if os.geteuid() != 0:
        return False
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC) != 0:
            return False
        _mount(library, "none", "/", _MS_REC | _MS_PRIVATE)
        _mount(library, folder, folder, _MS_BIND)
        mounts = _mounts()
        for each in mounts:
            if each.point != folder:
                _read_only(library, each.point, each.flags)
        # On many hosts, files in the temporary folder cannot be executed, so native modules could not be loaded.
        _mount(library, "none", folder, _MS_REMOUNT | _MS_BIND | _OPTIONS["nosuid"] | _OPTIONS["nodev"])
        if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or library.unshare(_CLONE_NEWPID) != 0:
            return False
        confined = _continue_alone(library, [each.point for each in mounts if each.kind == "proc" and each.root == "/"])
    except (OSError, AttributeError):
        return False
    # The working directory still refers to the previous mount.
    os.chdir(folder)
    return socket_filter.apply() and confined


def _continue_alone(library: ctypes.CDLL, proc: List[str]) -> bool:
    """Continue in a new process in the private PID namespace. Return True, or False if /proc cannot be replaced.

    proc: the mount point of the file system proc. The first process of the namespace only reaps processes that have
    exited. It keeps its user, because the kernel clears PR_SET_PDEATHSIG when a process changes its user.
    """
    reading, writing = os.pipe()
    first = os.fork()
    if first != 0:
        _end_with(first)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.close(writing)
    if select.select([reading], [], [], 0)[0]:
        os._exit(0)  # the parent process exited before prctl was called
    os.close(reading)
    replaced = True
    for point in proc:
        try:
            _mount(library, "proc", point, _MS_RDONLY | sum(_OPTIONS[name] for name in _OF_PROC), "proc")
        except OSError:
            # A mount that is hidden below another mount cannot be reached.
            replaced = replaced and not os.path.exists(point)
    second = os.fork()
    if second != 0:
        _end_with(second)
    return replaced


def _end_with(child: int) -> NoReturn:
    """Reap child processes until `child` has exited, then exit."""
    try:
        while os.wait()[0] != child:
            pass
    finally:
        os._exit(0)


def _mount(library: ctypes.CDLL, source: str, target: str, flags: int, kind: Optional[str] = None) -> None:
    named = None if kind is None else kind.encode()
    if library.mount(os.fsencode(source), os.fsencode(target), named, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _read_only(library: ctypes.CDLL, point: str, flags: int) -> None:
    """Make a mount read-only. Raises OSError if the mount stays writable.

    A mount point that is hidden below another mount cannot be reached by its path.
    """
    try:
        _mount(library, "none", point, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)
    except OSError:
        if os.path.exists(point) and not os.statvfs(point).f_flag & os.ST_RDONLY:
            raise


def _mounts() -> List[_Mount]:
    """Return the mounts. Raises OSError."""
    with open("/proc/self/mountinfo", "rb") as stream:
        lines = stream.read(_LARGEST).split(b"\n")
    found = []
    for fields in (line.split(b" ") for line in lines if line):
        root, point = (os.fsdecode(each.decode("unicode_escape").encode("latin-1")) for each in fields[3:5])
        options = fields[5].decode("ascii", "replace").split(",")
        kind = os.fsdecode(fields[fields.index(b"-") + 1])
        found.append(_Mount(point, root, kind, sum(_OPTIONS.get(option, 0) for option in options)))
    return found
