# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter's decisions for individual system calls. test_confine.py shows its effect on real programs."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import socket_filter

X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028
ALLOWED = 0


def decision(machine: str, architecture: int, number: int, first: int = 0, second: int = 0) -> int:
    """Run the filter for a system call with two arguments. Return its error number, or 0 if the call is allowed."""
    rules = socket_filter.program(machine)
    assert rules is not None
    data = struct.pack("<IIQQQ", number & 0xFFFFFFFF, architecture, 0, first, second) + bytes(32)
    rows = list(struct.iter_unpack("=HBBI", rules))
    position = value = 0
    while True:
        code, true, false, operand = rows[position]
        position += 1
        if code == 0x20:  # load a word
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:  # and
            value &= operand
        elif code in (0x15, 0x35):  # jump if equal, jump if greater or equal
            position += true if (value == operand if code == 0x15 else value >= operand) else false
        else:
            assert code == 0x06  # return
            return 0 if operand == 0x7FFF0000 else operand & 0xFFFF


@pytest.mark.parametrize(
    ("machine", "own", "other", "new", "pair"),
    [("x86_64", X86_64, I386, 41, 53), ("aarch64", AARCH64, ARM, 198, 199)],
)
def test_the_decisions(machine: str, own: int, other: int, new: int, pair: int) -> None:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
        assert decision(machine, own, new, family) == ALLOWED
    # The kernel ignores the upper half of the argument. 40 is AF_VSOCK.
    for family in (socket.AF_UNIX, socket.AF_UNSPEC, 1 << 32 | socket.AF_UNIX, 40):
        assert decision(machine, own, new, family) == errno.EAFNOSUPPORT
    close_on_exec = int(socket.SOCK_CLOEXEC)
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM | close_on_exec):
        assert decision(machine, own, pair, socket.AF_UNIX, kind) == ALLOWED
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_DGRAM | close_on_exec, 1 << 32 | socket.SOCK_DGRAM):
        assert decision(machine, own, pair, socket.AF_UNIX, kind) == errno.EAFNOSUPPORT
    # io_uring_setup, and every call for another architecture
    assert decision(machine, own, 425) == errno.EPERM
    assert decision(machine, own, 0x40000000 | new, socket.AF_INET) == errno.EPERM
    assert decision(machine, other, 3) == errno.EPERM
    assert [decision(machine, own, number) for number in (0, 42, 59, 203, 221, 435)] == [ALLOWED] * 6


def test_an_unknown_machine_has_no_filter() -> None:
    assert socket_filter.program("s390x") is None
