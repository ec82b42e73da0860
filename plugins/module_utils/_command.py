# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running a command with a deadline, as the service user where asked, its whole process group ended at the deadline."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import signal
import subprocess
import time
from typing import Callable, Mapping, Optional, Sequence


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
    rc: Optional[int]
    try:
        stdout, stderr = process.communicate(input=stdin, timeout=timeout)
        rc = process.returncode
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        rc = None
    return Completed(
        argv=list(argv),
        rc=rc,
        stdout=stdout.decode("utf-8", "replace"),
        stderr=stderr.decode("utf-8", "replace"),
        duration=time.monotonic() - started,
    )
