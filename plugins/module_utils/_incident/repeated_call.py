# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a module act only once, even if the connection is lost and the controller repeats the call.

If the connection is lost, the module on the host runs to completion, but its result is lost. Therefore, the controller
repeats the call with the same name. The repeated call waits for the first call and returns the first call's result. If
the first call never arrived, or was killed before it returned a result, the repeated call does the work itself.

The results are in-memory files below the lease folder, and are owned by the account that runs the module. The first
line of a file is the start time of the call in seconds since boot. The rest is the printed result, unchanged. While a
call is running, its process holds an fcntl(2) lock on the file. The lock is released when the process exits. Child
processes do not inherit the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, MutableMapping, Optional, TextIO, Tuple, cast

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, failure, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages

# Options from the "lease" documentation fragment that the controller sets for each call. lease.py lists the other
# options.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "call": {"type": "str", "default": ""},
    # The lines are not secret. no_log is set only to keep them out of the system log.
    "timeline": {"type": "str", "default": "", "no_log": True},
}

_FOLDER = "calls"
# A call name consists of an ID for the run and its host, a dot, and a random ID.
_NAME = re.compile(r"[0-9a-f]{12}\.[0-9a-f]{16}")
# Maximum size of a saved result in bytes. If the result is larger, the repeated call does the work again.
_LARGEST = 1 << 20
# Age in seconds after which a result is removed.
_KEPT = 3600.0
# Maximum time in seconds to wait for the first call.
_PATIENCE = 3600.0
_POLL = 0.02

# These files stay open, and therefore locked, until the process exits.
_open: List[int] = []


class _CallError(MessageError):
    """The name of the call is invalid, or another process has not finished the call within the time limit."""

    templates = messages.ENGLISH


def once(
    params: MutableMapping[str, Any],
    *,
    check_mode: bool,
    fail: Callable[..., Any],
    memory: Optional[str] = None,
    clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
) -> Optional[float]:
    """Return only if this call must do the work. Otherwise, print the first call's saved result and exit.

    The keys "call" and "timeline" are removed from params. The lines in "timeline" are appended to the run's timeline.
    If an earlier call with this name was killed before it returned a result, that call's start time (seconds since
    boot) is returned. Otherwise, None is returned. If the name is invalid, or if an earlier call does not end in time,
    `fail` is called with msg and messages. `fail` must not return.
    """
    name, timeline = params.pop("call"), params.pop("timeline", "")
    if timeline and not check_mode:
        _keep_timeline(params["state_dir"], timeline)
    if not name or check_mode or not _acts(params):
        return None
    if not _NAME.fullmatch(name):
        fail(**failure(_CallError(message("reason.call.no_name", name=repr(name)))))
        return None
    seat = host_lease.Seat(state_dir=params["state_dir"], memory=memory)
    folder = os.path.join(seat.folder, _FOLDER)
    try:
        seat.prepare()
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        _prune(folder, name, clock=clock)
        descriptor = _locked(os.path.join(folder, name), clock=clock)
        _open.append(descriptor)
        begun, answer = _read(descriptor)
        if answer is None:
            os.ftruncate(descriptor, 0)
            # Round down to a tick (10 ms), because the kernel records the start time of a process in ticks.
            began = math.floor(clock() * 100) / 100 if begun is None else begun
            os.pwrite(descriptor, b"%.2f\n" % began, 0)
    except _CallError as error:
        fail(**failure(error))
        return None
    # Continue without the file: the host needs a recovery even if this file cannot be written.
    except OSError:
        return None
    if answer is not None:
        sys.stdout.write(answer)
        sys.stdout.flush()
        raise SystemExit(1 if json.loads(answer).get("failed") else 0)
    # If a connection with a terminal is lost, this process receives SIGHUP. The work must continue.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    sys.stdout = cast(TextIO, _Kept(sys.stdout, descriptor))
    return begun


def _keep_timeline(state_dir: str, timeline: str) -> None:
    # Import these modules only if they are needed, so that the other calls start sooner.
    from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (  # noqa: PLC0415
        run_timeline,
        store,
    )

    def open_incident() -> str:
        return str((store.current(state_dir) or {}).get("id") or "")

    with contextlib.suppress(OSError, run_timeline.TimelineError, store.IncidentError):
        spare = host_lease.Seat(state_dir=state_dir).folder
        run_timeline.append(state_dir, timeline, spare=spare, open_incident=open_incident)


def _acts(params: Mapping[str, Any]) -> bool:
    """Return True if a call may change anything.

    The only call that changes nothing is health_probe in watch mode without "open" and without "run".
    """
    return bool(params.get("mode") != "watch" or params.get("open") or params.get("run"))


def _locked(path: str, *, clock: Callable[[], float]) -> int:
    """Open and lock the file of a call. Wait while another process holds the lock.

    Raises OSError and _CallError.
    """
    give_up = clock() + _PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _lock(descriptor):
                if clock() > give_up:
                    raise _CallError(message("reason.call.busy", seconds=f"{_PATIENCE:.0f}"))
                time.sleep(_POLL)
            # Another call may have removed the file before it was locked.
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _read(descriptor: int) -> Tuple[Optional[float], Optional[str]]:
    """Return the call's start time and its result. A missing or incomplete value is None."""
    head, _separator, answer = os.pread(descriptor, 2 * _LARGEST, 0).partition(b"\n")
    try:
        begun = float(head)
    except ValueError:
        return None, None
    try:
        text = answer.decode("utf-8")
        return begun, text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return begun, None


def _prune(folder: str, name: str, *, clock: Callable[[], float]) -> None:
    """Remove the results of this run's earlier calls, and old results of other runs.

    If an earlier call of this run is still running, wait until it ends. Two simultaneous steps would interfere with
    each other. Raises OSError and _CallError.
    """
    ours = name.partition(".")[0]
    for other in os.listdir(folder):
        path = os.path.join(folder, other)
        # Another call may remove the same file first.
        with contextlib.suppress(FileNotFoundError):
            if other != name and other.startswith(f"{ours}."):
                descriptor = _locked(path, clock=clock)
                os.unlink(path)
                os.close(descriptor)
            elif other != name and time.time() - os.lstat(path).st_mtime > _KEPT:
                os.unlink(path)


class _Kept:
    """The standard output of a module. The result is saved in the call's file before it is sent to the controller."""

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "replace")
        # If the in-memory file system is full, the result is not saved, and a repeated call does the work again.
        with contextlib.suppress(OSError):
            if len(data) <= _LARGEST:
                os.pwrite(self._descriptor, data, os.fstat(self._descriptor).st_size)
        # If the connection is lost, no process reads this stream. Do not raise an error, because Ansible would print
        # the error as a second result. A repeated call could then read neither result.
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
