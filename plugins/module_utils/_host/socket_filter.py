# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A seccomp filter that keeps a process from connecting to UNIX sockets. See seccomp(2).

A private network namespace does not cover UNIX sockets with a path, and a read-only file system does not prevent a
program from connecting to them. The filter therefore allows only IP and netlink sockets, which belong to the network
namespace. All child processes inherit the filter, and no process can remove it.

Programs use pairs of connected sockets for the input and output of their child processes, so these remain allowed. A
datagram socket of such a pair could send to any other UNIX socket, so the filter allows only pairs of the other types.
io_uring could create sockets without a call that the filter sees, so the filter refuses io_uring.

The filter knows the system calls of one architecture. Calls for another architecture, such as 32-bit programs, are
refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple, Optional

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data. Only the lower half of an argument is compared, because the kernel ignores the upper
# half.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_X32 = 0x40000000
_TYPE_MASK = 0xF
_IO_URING_SETUP = 425


class _Calls(NamedTuple):
    """An architecture: its number in the kernel's audit.h, and the numbers of two of its system calls."""

    architecture: int
    socket: int
    socketpair: int


_MACHINES = {"x86_64": _Calls(0xC000003E, 41, 53), "aarch64": _Calls(0xC00000B7, 198, 199)}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program(machine: Optional[str] = None) -> Optional[bytes]:
    """Return the filter for a machine type (default: this machine's), or None if unknown. See struct sock_filter."""
    calls = _MACHINES.get(machine or os.uname().machine)
    if calls is None:
        return None
    refused, no_family = _ERROR | errno.EPERM, _ERROR | errno.EAFNOSUPPORT
    # Each row: operation, value, number of rows to skip if the comparison is true, and if it is false.
    rows = (
        (_LOAD, _ARCHITECTURE, 0, 0),
        (_EQUAL, calls.architecture, 0, 3),
        (_LOAD, _NUMBER, 0, 0),
        (_AT_LEAST, _X32, 1, 0),
        (_EQUAL, _IO_URING_SETUP, 0, 1),
        (_RETURN, refused, 0, 0),
        (_EQUAL, calls.socket, 0, 4),
        (_LOAD, _FIRST, 0, 0),
        (_EQUAL, socket.AF_INET, 8, 0),
        (_EQUAL, socket.AF_INET6, 7, 0),
        (_EQUAL, socket.AF_NETLINK, 6, 5),
        (_EQUAL, calls.socketpair, 0, 5),
        (_LOAD, _SECOND, 0, 0),
        (_AND, _TYPE_MASK, 0, 0),
        (_EQUAL, socket.SOCK_STREAM, 2, 0),
        (_EQUAL, socket.SOCK_SEQPACKET, 1, 0),
        (_RETURN, no_family, 0, 0),
        (_RETURN, _ALLOW, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", code, true, false, value) for code, value, true, false in rows)


def apply() -> bool:
    """Apply the filter to this process and its future children. Return False if the kernel or machine lacks support.

    Until this process exits, programs that it starts gain no privileges from a setuid bit or file capabilities.
    """
    rules = program()
    if rules is None:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    found = _Program(len(rules) // 8, rules)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(library.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(found), 0, 0) == 0)
