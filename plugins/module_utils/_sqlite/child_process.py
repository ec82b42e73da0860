# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run work in child processes that cannot harm the host, and collect their messages.

Every read happens in a child process, for three reasons:

- If the disk cannot deliver a mapped page, only the child is killed.
- The child drops its write access before it opens the database.
- The child exits without closing its connection, so SQLite never runs its clean-up at the last close (checkpoint,
  removal of the WAL).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import sqlite3
import time
from typing import Any, Callable, Dict, List, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files

Message = Dict[str, Any]
Emit = Callable[[Message], None]

_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_PDEATHSIG = 1
_NOBODY = 65534
# A child may use this many bytes of memory in addition to its initial memory. A child that writes is allowed to use
# more, because it may have to salvage large rows.
_MEMORY, _MEMORY_TO_WRITE = 256 << 20, 1 << 30
_MOST_SAID = 16 << 20  # maximum size of one child's messages, in bytes
_OUT_OF_MEMORY = "out of memory: the read needs more memory than is allowed"
_GRACE = 2.0  # for this many seconds after the deadline, a child can still report that it was interrupted


def bounded(*, deadline: float, read_only: bool) -> None:
    """Set resource limits for this process, so that it cannot harm the host.

    Call this function only in a child process.

    deadline: a time in time.monotonic seconds. Existing limits are never raised. The memory limit covers only private
    memory, so a mapped database may be larger than the limit (Linux 4.7 and later).
    """
    # A child may have two busy threads, which use two seconds of CPU time per second. Usually, the parent kills the
    # child before this limit is reached.
    seconds = 2 * int(max(deadline - time.monotonic(), 0) + _GRACE) + 1
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: seconds}
    # If /proc is not available, no memory limit is set.
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as stream:
        for line in stream:
            if line.startswith(b"VmData:"):
                held = int(line.split()[1]) << 10
                wanted[resource.RLIMIT_DATA] = held + (_MEMORY if read_only else _MEMORY_TO_WRITE)
    if read_only:
        # A process that runs as the database's user could write files next to the database. Because of this limit, such
        # a write fails with an error. It does not kill the process, because Python ignores SIGXFSZ.
        wanted[resource.RLIMIT_FSIZE] = 0
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def give_up_writing(rights: safe_open.Rights = None) -> None:
    """Permanently switch to a user. If `rights` is None, drop root's write access instead.

    `rights` is None if only root can change the folder. In this case, a process that runs as root accesses files as the
    user nobody, and keeps only the capability to read every file. If the process kept root's full privileges, SQLite
    would open the WAL for writing and change its owner to the database's owner. A process that does not run as root
    keeps its account.
    """
    if rights:
        safe_open.become(*rights)
        return
    with contextlib.suppress(OSError):
        os.seteuid(os.getuid())
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError, AttributeError):  # some C libraries lack these calls
        library = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: for capabilities 0-31, then for 32-63
        if library.capget(header, data) != 0:
            return
        library.setfsuid(_NOBODY)
        wanted = 1 << _CAP_DAC_READ_SEARCH
        if not data[1] & wanted:  # most containers have only CAP_DAC_OVERRIDE, which also allows writing
            wanted = data[1] & (1 << _CAP_DAC_OVERRIDE)
        kept = (ctypes.c_uint32 * 6)(wanted, wanted, 0, 0, 0, 0)
        library.capset(header, kept)
    die_with_parent()  # the kernel clears this setting when a process changes its identity


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent exits."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class _Child:
    """A child process that reads the database, and the messages that it has sent so far."""

    __slots__ = ("ended", "pid", "pipe", "said", "said_too_much", "status", "timeout")

    def __init__(self, *, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pipe = pipe
        self.said = bytearray()
        self.ended = False
        self.said_too_much = False
        self.timeout = False
        self.status = 0

    def messages(self) -> List[Message]:
        """Return the messages from the child. The last message has the event "end"."""
        messages: List[Message] = [json.loads(line) for line in self.said.split(b"\n")[:-1]]
        if not messages or messages[-1]["event"] != "end":
            end: Message = {"event": "end"}
            if self.said_too_much:
                end["error"] = f"the process that reads the database sent more than {_MOST_SAID} bytes"
            elif self.timeout or (os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGXCPU):
                end["timeout"] = True
            elif os.WIFSIGNALED(self.status):
                end["signal"] = signal.Signals(os.WTERMSIG(self.status)).name
            else:
                end["error"] = "the process that reads the database exited without a message"
            messages.append(end)
        if messages[-1].get("error") == MemoryError.__name__:
            messages[-1]["error"] = _OUT_OF_MEMORY
        return messages


def in_child(
    work: Callable[[Emit], None], *, deadline: float, read_only: bool = True, rights: safe_open.Rights = None
) -> List[Message]:
    """Run `work` in a child process and return the emitted messages. The last message has the event "end".

    deadline: a time in time.monotonic seconds. read_only: True to deny the child write access to all files. rights: the
    user (uid, gid) to which the child switches permanently, or None. Raises SqliteError if no child can be started.

    After a failure, the last message also has one of these keys:

    - error: the text of the exception that stopped the work
    - signal: the name of the signal that killed the child
    - timeout: True if the child was killed shortly after the deadline
    """
    return in_children([work], deadline=deadline, read_only=read_only, rights=rights)[0]


def in_children(
    works: Sequence[Callable[[Emit], None]],
    *,
    deadline: float,
    read_only: bool = True,
    rights: safe_open.Rights = None,
) -> List[List[Message]]:
    """Run the functions in `works` in parallel, each in its own child process. Return their messages. See in_child."""
    children: List[_Child] = []
    try:
        for work in works:
            children.append(_start(work, deadline=deadline, read_only=read_only, rights=rights))
        _listen(children, deadline=deadline)
    finally:
        for child in children:
            if not child.ended:
                with safe_open.acting(None):
                    os.kill(child.pid, signal.SIGKILL)
            child.status = _reap(child.pid)
            os.close(child.pipe)
    return [child.messages() for child in children]


def _start(work: Callable[[Emit], None], *, deadline: float, read_only: bool, rights: safe_open.Rights) -> _Child:
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise sqlite_files.cannot("start_process", why=str(error.strerror)) from error
    if pid == 0:
        _child(
            work,
            reading=reading,
            writing=writing,
            parent=parent,
            deadline=deadline,
            read_only=read_only,
            rights=rights,
        )
    os.close(writing)
    return _Child(pid=pid, pipe=reading)


def _child(
    work: Callable[[Emit], None],
    *,
    reading: int,
    writing: int,
    parent: int,
    deadline: float,
    read_only: bool,
    rights: safe_open.Rights,
) -> None:
    """Run `work` in the child and exit. This function never returns, so the parent's clean-up does not run here."""
    status = 1
    try:
        gc.disable()  # a garbage collection would copy the memory that this process shares with its parent
        os.close(reading)
        bounded(deadline=deadline, read_only=read_only)
        if read_only:
            give_up_writing(rights)
        elif rights:
            safe_open.become(*rights)
        die_with_parent()
        if os.getppid() != parent:  # the parent had already exited
            os._exit(1)

        def emit(message: Message) -> None:
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(writing, data) :]

        try:
            work(emit)
            emit({"event": "end"})
            status = 0
        except (sqlite3.Error, sqlite3.Warning, OSError, ValueError, MemoryError, sqlite_files.SqliteError) as error:
            emit({"event": "end", "error": str(error) or type(error).__name__})
    finally:
        os._exit(status)


def _listen(children: Sequence[_Child], *, deadline: float) -> None:
    """Receive the children's messages until all children have exited or the deadline has passed."""
    while True:
        speaking = {child.pipe: child for child in children if not child.ended}
        if not speaking:
            return
        left = deadline + _GRACE - time.monotonic()
        ready = select.select(list(speaking), [], [], max(left, 0))[0]
        if not ready or left <= 0:
            for child in speaking.values():
                child.timeout = True
            return
        for pipe in ready:
            chunk = os.read(pipe, 65536)
            child = speaking[pipe]
            child.said += chunk
            child.ended = not chunk
            if len(child.said) > _MOST_SAID:
                child.said_too_much = child.ended = True
                os.kill(child.pid, signal.SIGKILL)


def _reap(pid: int) -> int:
    """Wait for a child and return its wait status, or SIGKILL if it does not exit within _GRACE seconds.

    A child may hang in the kernel if a disk does not respond.
    """
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    return int(signal.SIGKILL)
