# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a command with a deadline, as the service user if requested. At the deadline, kill its process group."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import selectors
import signal
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message


class CommandError(MessageError):
    """A command could not be started, for example because the program, the user or the folder does not exist."""

    templates = messages.ENGLISH


class Completed(NamedTuple):
    """The result of a command.

    rc: the exit code, or None if the command was killed at its deadline. duration: the time for which the command ran,
    in seconds.
    """

    argv: Sequence[str]
    rc: Optional[int]
    stdout: str
    stderr: str
    duration: float

    @property
    def ok(self) -> bool:
        """True if the command exited with code 0."""
        return self.rc == 0

    @property
    def timed_out(self) -> bool:
        """True if the command was killed at its deadline."""
        return self.rc is None


# Output of up to this many bytes is stored completely. If the output is much longer, its middle is omitted.
LONGEST_OUTPUT = 16 << 20
_LEFT_OUT = b"\n[the middle is left out]\n"
# After the program has exited or has been killed, wait at most this many seconds for the end of its output.
_GRACE = 1.0
_CHUNK = 1 << 16
_POLL = 0.05

# The type of run(). Other functions accept a Runner as a parameter, so that tests can replace run().
Runner = Callable[..., Completed]


def drop_to(user: Optional[str], *, new_privileges: bool = False) -> Optional[Callable[[], None]]:
    """Return a function that makes the child process run as a user, or None if this is not needed.

    If no user is given, the child process runs with the current effective IDs of this process.

    new_privileges: True if programs started by the child may gain privileges from a setuid bit or file capabilities.

    Raises CommandError if the user does not exist, or if this process is not allowed to switch to that user.
    """
    real, effective, _saved = os.getresuid()
    if not user:
        # Within safe_open.acting(), this process temporarily has the effective IDs of a user. The child process
        # switches to these IDs permanently.
        rights = (effective, os.getegid()) if effective != real else None
    else:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise CommandError(message("reason.host.no_user", user=repr(user))) from None
        rights = (entry.pw_uid, entry.pw_gid) if (entry.pw_uid, entry.pw_uid) != (real, effective) else None
        if rights is not None and real != 0:
            raise CommandError(message("reason.host.not_acting", user=repr(user), uid=effective))
    return None if rights is None else functools.partial(safe_open.become, *rights, new_privileges=new_privileges)


class _Output:
    """The data read from one pipe. Only a limited amount of data is held in memory."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = False

    def add(self, chunk: bytes) -> None:
        half = LONGEST_OUTPUT // 2
        room = half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:] if room else chunk
        # Each deletion copies half of the buffer. Therefore, data is deleted only when the buffer is full, not after
        # every chunk.
        if len(self._tail) > LONGEST_OUTPUT:
            self._dropped = True
            del self._tail[: len(self._tail) - half]

    def text(self) -> str:
        data = bytes(self._head) + (_LEFT_OUT if self._dropped else b"") + bytes(self._tail)
        return data.decode("utf-8", "replace")


class _Streams:
    """The pipes of a child process. They are read until they are closed or until the deadline.

    The child processes of a program can leave the program's process group and keep the output open forever. The output
    can also be larger than the available memory. In both cases, the caller must still receive a result in time.
    """

    def __init__(self, process: subprocess.Popen[bytes], stdin: Optional[bytes]) -> None:
        self._process = process
        self._input = memoryview(stdin or b"")
        self._outputs = {stream.fileno(): _Output() for stream in (process.stdout, process.stderr) if stream}
        self._selector = selectors.DefaultSelector()
        for descriptor in self._outputs:
            self._selector.register(descriptor, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)

    def follow(self, *, until: float) -> Optional[int]:
        """Wait until the program and its output end. Return the exit code, or None if the deadline has passed."""
        ended: Optional[float] = None
        while self._selector.get_map() or self._process.poll() is None:
            now = time.monotonic()
            if now >= until:
                # A program that exited before the deadline must not be reported as killed.
                return self._process.poll() if ended is not None else None
            if ended is None and self._process.poll() is not None:
                ended = now
            if ended is not None and now >= ended + _GRACE:
                break
            for key, events in self._selector.select(min(_POLL, until - now)):
                (self._write if events & selectors.EVENT_WRITE else self._read)(key.fd)
            if not self._selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(max(0.0, until - time.monotonic()))
        return self._process.poll()

    def _read(self, descriptor: int) -> None:
        chunk = os.read(descriptor, _CHUNK)
        self._outputs[descriptor].add(chunk)
        if not chunk:
            self._selector.unregister(descriptor)

    def _write(self, descriptor: int) -> None:
        try:
            self._input = self._input[os.write(descriptor, self._input[:_CHUNK]) :]
        except BrokenPipeError:
            self._input = self._input[:0]
        if not self._input and self._process.stdin is not None:
            self._selector.unregister(descriptor)
            self._process.stdin.close()

    def close(self) -> Tuple[str, str]:
        """Close the pipes. Return standard output and standard error as text."""
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        stdout, stderr = (output.text() for output in self._outputs.values())
        return stdout, stderr


def _enter(become: Callable[[], None], folder: Optional[str]) -> None:
    become()
    if folder is not None:
        os.chdir(folder)


class _LateError(Exception):
    """The deadline has passed."""


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise _LateError in the block if the block takes longer than `seconds`."""

    def ring(_number: int, _frame: object) -> None:
        raise _LateError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _start(process: subprocess.Popen[bytes], *, seconds: float, **options: Any) -> bool:
    """Start a program as another user. Return False if the program did not start in time.

    Popen waits until the child has started the program. As soon as the child has switched to the user, this user can
    stop the child with a signal. Popen would then wait forever.
    """
    try:
        with _alarm(seconds):
            subprocess.Popen.__init__(process, **options)
    except _LateError:
        pid = getattr(process, "pid", None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        return False
    return True


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
    user: Optional[str] = None,
    stdin: Union[bytes, int, None] = None,
) -> Completed:
    """Run a command without a shell, for at most timeout seconds, and return its result.

    env: the complete environment of the child, or None for the environment of this process. stdin: the standard input
    of the child, as bytes or as an open descriptor, empty by default. Output is decoded as UTF-8, and invalid bytes are
    replaced. Raises CommandError if the command cannot be started.
    """
    started = time.monotonic()
    try:
        # subprocess supports user= only in Python 3.9 and later, so preexec_fn is used. preexec_fn is safe here,
        # because a module has no threads at this point. AnsibleModule.run_command can neither set a deadline nor change
        # the user.
        become = drop_to(user)
        options: Dict[str, Any] = {
            "args": list(argv),
            # If the child runs as another user, it switches to that user before it enters the folder. As root, it would
            # follow any link that the user created.
            "cwd": cwd if become is None else None,
            "env": None if env is None else dict(env),
            "stdin": subprocess.DEVNULL if stdin is None else stdin if isinstance(stdin, int) else subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
        }
        if become is None:
            process = subprocess.Popen(**options)  # pylint: disable=ansible-bad-function
        else:
            process = subprocess.Popen.__new__(subprocess.Popen)
            enter = functools.partial(_enter, become, cwd)
            if not _start(process, seconds=timeout, preexec_fn=enter, **options):
                return Completed(list(argv), rc=None, stdout="", stderr="", duration=time.monotonic() - started)
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandError(message("reason.host.not_run", program=repr(argv[0]), why=str(error))) from error
    streams = _Streams(process, None if isinstance(stdin, int) else stdin)
    rc = streams.follow(until=started + timeout)
    if rc is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        streams.follow(until=time.monotonic() + _GRACE)
        # Do not wait longer than _GRACE seconds, because the process may hang in the kernel.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    stdout, stderr = streams.close()
    return Completed(
        argv=list(argv),
        rc=rc,
        stdout=stdout,
        stderr=stderr,
        duration=time.monotonic() - started,
    )
