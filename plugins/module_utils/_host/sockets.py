# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listening TCP sockets on this host, as listed by the kernel. The format is described in proc_net(5)."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import sys
from typing import Dict, Iterable, Iterator, List, NamedTuple, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

_LISTEN = "0A"
_CHUNK = 65536
# Time limit in seconds for finding the processes of the listening sockets.
_MOST_SECONDS = 5.0
# Maximum number of listening sockets. For each port, a user can listen on many addresses.
_MOST_LISTENERS = 100_000


class Listener(NamedTuple):
    """One listening TCP socket. pids: processes that have the socket open, if visible to this user. uid: owner.

    If the search through the open files was stopped at its limits, some pids may be missing.
    """

    port: int
    address: str
    inode: int
    pids: List[int]
    uid: int = -1


def _address(text: str) -> str:
    """Convert an address from /proc/net/tcp or tcp6, which has 32-bit words in the byte order of this machine."""
    raw = b"".join(int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _rows(path: str) -> Iterator[List[str]]:
    """Return the fields of the listening sockets in one table of the kernel.

    The kernel lists the listening sockets before the connections (Documentation/networking/proc_net_tcp.rst). A busy
    host has many connections, so the rest of the table is not read.
    """
    rest = b""
    with open(path, "rb", buffering=0) as table:
        listening = 0
        for chunk in iter(lambda: table.read(_CHUNK), b""):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                fields = line.decode("ascii", "replace").split()
                if len(fields) < 10 or fields[0] == "sl":  # skip the heading
                    continue
                if fields[3] != _LISTEN:
                    return
                listening += 1
                if listening > _MOST_LISTENERS:
                    raise OSError(errno.EFBIG, f"it lists more than {_MOST_LISTENERS} listening sockets", path)
                yield fields


def _sockets(wanted: Set[int], *, proc_root: str) -> Iterator[Listener]:
    for name in ("tcp", "tcp6"):
        try:
            for fields in _rows(os.path.join(proc_root, "net", name)):
                address, _separator, port = fields[1].partition(":")
                if int(port, 16) in wanted:
                    yield Listener(
                        port=int(port, 16), address=_address(address), inode=int(fields[9]), pids=[], uid=int(fields[7])
                    )
        except FileNotFoundError:
            if name == "tcp":
                raise
            # The host does not support IPv6.


def _holders(inodes: Set[int], *, proc_root: str) -> Dict[int, List[int]]:
    """For each socket inode, return the pids of the processes that have the socket open."""
    links = {f"socket:[{inode}]": inode for inode in inodes}
    held: Dict[int, List[int]] = {inode: [] for inode in inodes}
    search = procfs.Search(seconds=_MOST_SECONDS, proc_root=proc_root)
    with contextlib.suppress(procfs.UnfinishedError):
        for pid in procfs.pids(proc_root=proc_root):
            seen: Set[int] = set()
            with contextlib.suppress(OSError):  # another user owns the process, or the process has just exited
                for path in search.descriptors(pid):
                    with contextlib.suppress(OSError):
                        inode = links.get(os.readlink(path))
                        if inode is not None and inode not in seen:
                            seen.add(inode)
                            held[inode].append(pid)
                            # All sockets were found in this process. Continue with the other processes, which may share
                            # them.
                            if len(seen) == len(inodes):
                                break
    return held


def listeners(ports: Iterable[int], *, proc_root: str = "/proc") -> List[Listener]:
    """Return the listening TCP sockets on the given ports (IPv4 and IPv6), without connected sockets.

    Raises procfs.HostError.
    """
    wanted = {port for port in ports if port}
    try:
        found = list(_sockets(wanted, proc_root=proc_root))
    except (OSError, ValueError) as error:
        raise procfs.HostError(
            message("reason.host.sockets_unread", path=f"{proc_root}/net", why=str(error))
        ) from error
    if not found:
        return []
    held = _holders({listener.inode for listener in found}, proc_root=proc_root)
    return [listener._replace(pids=held[listener.inode]) for listener in found]
