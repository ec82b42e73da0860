# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop processes with signals that cannot reach any other process.

Signals are sent through a process descriptor (pidfd) if Python and the kernel support it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import NodeProcessError

_POLL = 0.02
_AFTER_KILL = 5.0


def _send(process: procfs.Process, number: signal.Signals, *, proc_root: str) -> None:
    """Send a signal to exactly this process.

    If the process has exited, do nothing, even if another process now has its pid.
    """
    descriptor: Optional[int] = None
    try:
        # With Python 3.9 and Linux 5.3, the signal cannot reach a later process with the same pid.
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                descriptor = os.pidfd_open(process.pid)
        if not procfs.still_there(process, proc_root=proc_root):
            return
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        user = service_process.user_name(process.uid)
        raise NodeProcessError(
            message(
                "reason.process.not_signalled",
                signal=number.name,
                pid=process.pid,
                user=user,
                why=str(error.strerror),
            )
        ) from error
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for_end(pending: List[procfs.Process], *, until: float, ended: Dict[int, float], proc_root: str) -> None:
    """Wait until all pending processes have exited, or until the given time (`until`, in time.monotonic seconds).

    Each process that has exited is moved to `ended`, which maps the pids to the times when the processes exited.
    """
    while True:
        for process in list(pending):
            if not procfs.still_there(process, proc_root=proc_root):
                pending.remove(process)
                ended[process.pid] = time.monotonic()
        if not pending or time.monotonic() >= until:
            return
        time.sleep(_POLL)


def stop_processes(
    processes: Sequence[procfs.Process], *, timeout: float, proc_root: str = "/proc"
) -> List[Dict[str, Any]]:
    """Stop processes with TERM and CONT, and with KILL if they still run after `timeout` seconds.

    CONT is needed because a suspended process handles TERM only after it is resumed. Returns pid, signal (TERM or KILL)
    and seconds for each process. Raises NodeProcessError.
    """
    begun = time.monotonic()
    pending = list(processes)
    ended: Dict[int, float] = {}
    for process in pending:
        _send(process, signal.SIGTERM, proc_root=proc_root)
        _send(process, signal.SIGCONT, proc_root=proc_root)
    _wait_for_end(pending, until=begun + timeout, ended=ended, proc_root=proc_root)
    killed = {process.pid for process in pending}
    for process in pending:
        _send(process, signal.SIGKILL, proc_root=proc_root)
    _wait_for_end(pending, until=time.monotonic() + _AFTER_KILL, ended=ended, proc_root=proc_root)
    if pending:
        left = ", ".join(str(process.pid) for process in pending)
        raise NodeProcessError(message("reason.process.not_stopped", pids=left, seconds=f"{_AFTER_KILL:.0f}"))
    return [
        {
            "pid": process.pid,
            "signal": "KILL" if process.pid in killed else "TERM",
            "seconds": round(ended[process.pid] - begun, 3),
        }
        for process in processes
    ]
