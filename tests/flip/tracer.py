# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a function in a traced child process, and pause it just before each system call that has a path as an argument.

A seccomp filter selects these calls in the kernel, so all other calls run at full speed. The children of the process
inherit the filter. Requires Linux 5.3 or later (PTRACE_GET_SYSCALL_INFO), x86_64 or aarch64, and root. See ptrace(2)
and seccomp(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
from typing import Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

_TRACEME, _CONT, _SETOPTIONS, _SYSCALL, _GET_SYSCALL_INFO = 0, 7, 0x4200, 24, 0x420E
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACESECCOMP, EXITKILL
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000
_SECCOMP_STOP = signal.SIGTRAP | 7 << 8
_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
# Instructions of a filter, see seccomp(2), and the return values that stop a call or let it continue.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_STOP, _ALLOW = 0x7FF00000, 0x7FFF0000
_OFFSET_OF_NUMBER, _OFFSET_OF_ARCHITECTURE = 0, 4
_WALL = 0x40000000
_AT_FDCWD = -100
_LONGEST = 4096
_LARGEST_ANSWER = 1 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long

# The positions of two arguments of a system call: the descriptor of the folder (None for the current folder), and the
# path.
_Path = Tuple[Optional[int], int]
_ONE: List[_Path] = [(None, 0)]
_AT: List[_Path] = [(0, 1)]
_CALLS: Dict[int, Dict[int, Tuple[str, List[_Path]]]] = {
    0xC000003E: {
        2: ("open", _ONE),
        4: ("stat", _ONE),
        6: ("lstat", _ONE),
        21: ("access", _ONE),
        59: ("execve", _ONE),
        76: ("truncate", _ONE),
        80: ("chdir", _ONE),
        82: ("rename", [(None, 0), (None, 1)]),
        83: ("mkdir", _ONE),
        84: ("rmdir", _ONE),
        85: ("creat", _ONE),
        86: ("link", [(None, 0), (None, 1)]),
        87: ("unlink", _ONE),
        88: ("symlink", [(None, 1)]),
        89: ("readlink", _ONE),
        90: ("chmod", _ONE),
        92: ("chown", _ONE),
        94: ("lchown", _ONE),
        133: ("mknod", _ONE),
        137: ("statfs", _ONE),
        188: ("setxattr", _ONE),
        257: ("openat", _AT),
        258: ("mkdirat", _AT),
        259: ("mknodat", _AT),
        260: ("fchownat", _AT),
        262: ("newfstatat", _AT),
        263: ("unlinkat", _AT),
        264: ("renameat", [(0, 1), (2, 3)]),
        265: ("linkat", [(0, 1), (2, 3)]),
        266: ("symlinkat", [(1, 2)]),
        267: ("readlinkat", _AT),
        268: ("fchmodat", _AT),
        269: ("faccessat", _AT),
        280: ("utimensat", _AT),
        316: ("renameat2", [(0, 1), (2, 3)]),
        322: ("execveat", _AT),
        332: ("statx", _AT),
        437: ("openat2", _AT),
        439: ("faccessat2", _AT),
    },
    0xC00000B7: {
        33: ("mknodat", _AT),
        34: ("mkdirat", _AT),
        35: ("unlinkat", _AT),
        36: ("symlinkat", [(1, 2)]),
        37: ("linkat", [(0, 1), (2, 3)]),
        38: ("renameat", [(0, 1), (2, 3)]),
        43: ("statfs", _ONE),
        45: ("truncate", _ONE),
        48: ("faccessat", _AT),
        49: ("chdir", _ONE),
        53: ("fchmodat", _AT),
        54: ("fchownat", _AT),
        56: ("openat", _AT),
        78: ("readlinkat", _AT),
        79: ("newfstatat", _AT),
        88: ("utimensat", _AT),
        221: ("execve", _ONE),
        276: ("renameat2", [(0, 1), (2, 3)]),
        281: ("execveat", _AT),
        291: ("statx", _AT),
        437: ("openat2", _AT),
        439: ("faccessat2", _AT),
    },
}


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction))]


class _Entry(ctypes.Structure):
    _fields_ = [("nr", ctypes.c_uint64), ("args", ctypes.c_uint64 * 6)]


class _Info(ctypes.Structure):
    _fields_ = [
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("entry", _Entry),
    ]


class Call(NamedTuple):
    """A system call just before its execution: its name, its absolute paths, and its process."""

    name: str
    paths: Tuple[str, ...]
    pid: int

    def is_for_good(self) -> bool:
        """Return True if the process now runs as a user other than root and cannot become root again."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status", "rb") as stream:
            for line in stream:
                if line.startswith(b"Uid:"):
                    return 0 not in (int(uid) for uid in line.split()[1:])
        return False


class TracerError(Exception):
    """This kernel or container does not allow tracing."""


class TooLate(Exception):
    """The function did not return before its deadline, so it was killed."""


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    done = int(_LIBC.ptrace(request, pid, address, data))
    if done == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return done


def _select_calls() -> None:
    """Make the kernel stop this process and its children before each call in _CALLS. This requires root."""
    steps = []
    for architecture, calls in _CALLS.items():
        steps.append((_LOAD, 0, 0, _OFFSET_OF_ARCHITECTURE))
        steps.append((_JUMP_IF_EQUAL, 0, 2 * len(calls) + 1, architecture))
        steps.append((_LOAD, 0, 0, _OFFSET_OF_NUMBER))
        for number in calls:
            steps += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _STOP)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    instructions = (_Instruction * len(steps))(*steps)
    program = _Program(len(steps), instructions)
    if _LIBC.prctl(_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "Cannot set a filter of system calls")


def _be_traced(work: Callable[[], bytes], pipe: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        _LIBC.ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        _select_calls()
        data = work()
        while data:
            data = data[os.write(pipe, data) :]
    finally:
        os._exit(0)


def _text_at(pid: int, address: int) -> bytes:
    data = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while b"\0" not in data and len(data) < _LONGEST:
            # Read only up to the end of a memory page, because the next page may not exist.
            length = 4096 - (address + len(data)) % 4096
            memory.seek(address + len(data))
            data += memory.read(length)
    return data.split(b"\0", 1)[0]


def _absolute(pid: int, folder: Optional[int], text: bytes, args: ctypes.Array[ctypes.c_uint64]) -> str:
    path = os.fsdecode(text)
    if path.startswith("/"):
        return path
    number = _AT_FDCWD if folder is None else ctypes.c_int32(args[folder] & 0xFFFFFFFF).value
    link = f"/proc/{pid}/cwd" if number == _AT_FDCWD else f"/proc/{pid}/fd/{number}"
    try:
        place = os.readlink(link)
    except OSError:
        return ""
    return os.path.join(place, path) if path else place


def _call_of(pid: int, info: _Info) -> Optional[Call]:
    """Return the next call that a process makes, or None if this call has no path as an argument."""
    known = _CALLS.get(info.arch, {}).get(info.entry.nr)
    if known is None:
        return None
    name, places = known
    paths = []
    for folder, index in places:
        if info.entry.args[index]:
            with contextlib.suppress(OSError):
                paths.append(_absolute(pid, folder, _text_at(pid, info.entry.args[index]), info.entry.args))
    return Call(name, tuple(paths), pid)


def trace(
    work: Callable[[], bytes],
    *,
    before: Callable[[Call], Optional[Callable[[], None]]],
    timeout: float,
) -> bytes:
    """Run `work` in a child process and return its result.

    before: called just before each system call with a path, in the child and in its own children. If `before`
    returns a function, this function is called just after the system call. Raises TooLate, TracerError.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _LARGEST_ANSWER)
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_traced(work, writing)
    os.close(writing)
    former = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        _follow(child, before=before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.set_blocking(reading, False)
        return os.read(reading, _LARGEST_ANSWER)
    except BlockingIOError:  # One of the processes still has the pipe open.
        return b""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, _WALL):
                pass
        os.close(reading)


def _ring(_number: int, _frame: object) -> NoReturn:
    raise TooLate


def _follow(child: int, *, before: Callable[[Call], Optional[Callable[[], None]]]) -> None:
    after: Dict[int, Callable[[], None]] = {}
    known = {child}
    try:
        os.waitpid(child, _WALL)
        _ptrace(_SETOPTIONS, child, 0, _OPTIONS)
        _ptrace(_CONT, child)
    except OSError as error:
        raise TracerError(f"Cannot trace a process: {error.strerror}") from error
    while True:
        pid, status = os.waitpid(-1, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if pid == child:
                return
            continue
        number = os.WSTOPSIG(status)
        handed_on = 0
        if status >> 8 == _SECCOMP_STOP:
            undo = _at_call(pid, before=before)
            if undo is not None:
                after[pid] = undo
        elif number == signal.SIGTRAP | 0x80:
            after.pop(pid)()
        elif number == signal.SIGSTOP and pid not in known:
            pass  # A new process or thread begins with this stop.
        elif number not in (signal.SIGTRAP, signal.SIGSTOP):
            handed_on = number
        known.add(pid)
        with contextlib.suppress(OSError):
            # If there is an action for the end of the system call, the process stops again when the call ends.
            _ptrace(_SYSCALL if pid in after else _CONT, pid, 0, handed_on)


def _at_call(pid: int, *, before: Callable[[Call], Optional[Callable[[], None]]]) -> Optional[Callable[[], None]]:
    info = _Info()
    try:
        _ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
    except OSError:
        return None  # The process was killed.
    call = _call_of(pid, info)
    return before(call) if call is not None else None
