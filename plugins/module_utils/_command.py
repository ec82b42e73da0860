# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running a command with a deadline, as the service user where asked, its whole process group ended at the deadline.

What it starts in the background and leaves running is left alone where the command itself ended in time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import signal
import subprocess
import time
from typing import Callable, Mapping, Optional, Sequence, Tuple

# Seconds between two looks whether a process has ended whose output has not, and that its output is then waited for.
_LOOK = 0.25
_LAST_WORDS = 1.0


class CommandError(Exception):
    """A command could not be started at all: no such program, no such user, no such folder."""


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a command did: exit code (C(None) when it was ended at its deadline), output, seconds."""

    argv: Sequence[str]
    rc: Optional[int]
    stdout: str
    stderr: str
    duration: float

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.rc == 0

    @property
    def timed_out(self) -> bool:
        """Whether it was ended at its deadline."""
        return self.rc is None


# What the logic is handed instead of calling run() itself, so that tests can answer in its place.
Runner = Callable[..., Completed]


def drop_to(user: Optional[str]) -> Optional[Callable[[], None]]:
    """Return a function for the child that takes on C(user)'s identity, C(None) where we are that user already.

    Raises CommandError where there is no such user, or where we may not become it.
    """
    if not user:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CommandError(f"There is no user {user!r} on this host") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise CommandError(f"Cannot act as user {user!r}: only root may, and this runs with uid {os.geteuid()}")
    groups = os.getgrouplist(user, entry.pw_gid)

    def become() -> None:
        os.setgroups(groups)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)

    return become


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without taking note of it: as long as nobody has, no other process can have its number."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _finish(
    process: subprocess.Popen[bytes], *, stdin: Optional[bytes], until: float
) -> Tuple[Optional[int], bytes, bytes]:
    """Return exit code (C(None) where the deadline came first), output and errors of a process.

    Its end is what counts, and not that of its output: what it has left behind in a session of its own, which is not
    ended with it, may hold that for ever. Nor is one waited for that hangs in the kernel.
    """
    ended_at: Optional[float] = None
    given: Optional[bytes] = stdin
    while True:
        now = time.monotonic()
        if ended_at is None and _has_ended(process):
            ended_at = now
        left = min(until, until if ended_at is None else ended_at + _LAST_WORDS) - now
        try:
            stdout, stderr = process.communicate(input=given, timeout=max(0.0, min(left, _LOOK)))
            return process.returncode, stdout, stderr
        except subprocess.TimeoutExpired as error:
            given = None  # it is on its way
            if left > _LOOK:
                continue
            said = (error.output or b"", error.stderr or b"")
        ended = _has_ended(process)
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(OSError):
                pipe.close()
        return (process.returncode if ended else None, *said)


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
    user: Optional[str] = None,
    stdin: Optional[bytes] = None,
) -> Completed:
    """Run C(argv) (never through a shell) for at most C(timeout) seconds and return what it did.

    C(env) is the whole environment of the child; C(None) hands on ours. C(stdin) is what the child reads, nothing by
    default. Output is decoded as UTF-8, bytes that are not are replaced.
    Raises CommandError where the command cannot be started.
    """
    started = time.monotonic()
    try:
        # preexec_fn, since subprocess's own user= came with Python 3.9; no threads run in a module at this point.
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=drop_to(user),  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandError(f"Cannot run {argv[0]!r}: {error}") from error
    rc, stdout, stderr = _finish(process, stdin=stdin, until=started + timeout)
    return Completed(
        argv=list(argv),
        rc=rc,
        stdout=stdout.decode("utf-8", "replace"),
        stderr=stderr.decode("utf-8", "replace"),
        duration=time.monotonic() - started,
    )
