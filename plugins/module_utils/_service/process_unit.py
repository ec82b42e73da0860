# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start, stop or restart the service's unit under systemd."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Dict, List, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import start_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process_signals
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import Look, NodeProcessError, Service

_START_TIMEOUT = 90.0
_MARGIN = 10.0
# Maps a systemctl command to the last part of the message ID for its error.
_ENDS = {"start": "unit_not_started", "stop": "unit_not_stopped", "restart": "unit_not_restarted"}


class StartSkippedError(NodeProcessError):
    """A condition in the unit prevented the start. refusal: the reason that the start guard gave, or empty."""

    def __init__(self, told: Message, *, refusal: str) -> None:
        super().__init__(told)
        self.refusal = refusal


def _systemctl(verb: str, service: Service, *, run: commands.Runner, timeout: float) -> None:
    try:
        done = run(["systemctl", "--no-ask-password", verb, "--", service.unit], timeout=timeout)
    except commands.CommandError as error:
        raise NodeProcessError(error) from error
    if not done.ok:
        said = done.stderr.strip().splitlines()
        if done.timed_out:
            why = message("reason.process.late", seconds=f"{timeout:.0f}")
        else:
            why = quoted(said[0]) if said else message("reason.process.exit_code", code=str(done.rc))
        raise _unit_error(_ENDS[verb], service, why, service_process.unit_state(service, run=run))


def _unit_error(end: str, service: Service, why: Message, properties: Mapping[str, str]) -> NodeProcessError:
    """Return the error for a unit. end: the last part of the message ID."""
    state = " ".join(f"{name}={properties.get(name, '')}" for name in ("ActiveState", "Result", "ExecMainStatus"))
    return NodeProcessError(message(f"reason.process.{end}", unit=service.unit, why=why, state=state))


def act_systemd(
    service: Service,
    look: Look,
    *,
    state: str,
    stop_timeout: float,
    on_start: Callable[[], None],
    run: commands.Runner,
    proc_root: str,
) -> List[Dict[str, Any]]:
    """Start, stop or restart the unit, and return the processes that were stopped. Raises NodeProcessError.

    Before the unit is started, the service's processes outside the unit are stopped.
    """
    stop = systemd.timespan(look.properties.get("TimeoutStopUSec", "")) or stop_timeout
    start = systemd.timespan(look.properties.get("TimeoutStartUSec", "")) or _START_TIMEOUT
    if state == "stopped":
        stopped = _unit_stopped(service, look, "stop", run=run, timeout=stop + _MARGIN)
        return stopped + process_signals.stop_processes(look.strays, timeout=stop_timeout, proc_root=proc_root)
    stopped = process_signals.stop_processes(look.strays, timeout=stop_timeout, proc_root=proc_root)
    # Manual starts also count towards the unit's start limit, so reset the counter before each start. Ignore errors:
    # when systemd unloads a stopped unit, it resets the counter, and then rejects this command.
    with contextlib.suppress(commands.CommandError):
        run(["systemctl", "--no-ask-password", "reset-failed", "--", service.unit], timeout=_MARGIN)
    verb = "restart" if state == "restarted" else "start"
    on_start()
    stopped += _unit_stopped(service, look, verb, run=run, timeout=stop + start + _MARGIN)
    return stopped


def require_up(service: Service, look: Look, *, run: commands.Runner = commands.run) -> None:
    """Raise NodeProcessError if the start was skipped, or if the unit stopped again right after its start.

    If a start is skipped, systemctl does not report an error: it exits with 0.
    """
    if look.properties.get("ActiveState") == "inactive":
        refusal = start_guard.verdict(service.unit, run=run)
        if refusal is not None:
            told = message("reason.process.start_skipped", unit=service.unit, why=quoted(refusal.reason))
            raise StartSkippedError(told, refusal=refusal.reason)
        if look.properties.get("Result") == "exec-condition":
            raise StartSkippedError(message("reason.process.condition", unit=service.unit), refusal="")
    ended = look.properties.get("ActiveState") in ("failed", "inactive") or service_process.waits_for_restart(
        look.properties
    )
    if ended or (service_process.main_pid(look.properties) and not look.main):
        raise _unit_error("unit_ended", service, message("reason.process.ended_at_once"), look.properties)


def _unit_stopped(
    service: Service, look: Look, verb: str, *, run: commands.Runner, timeout: float
) -> List[Dict[str, Any]]:
    """Run a systemctl command. Return the processes that the command stopped: the unit's main process, or none."""
    begun = time.monotonic()
    _systemctl(verb, service, run=run, timeout=timeout)
    seconds = round(time.monotonic() - begun, 3)
    return [] if verb == "start" else [{"pid": p.pid, "signal": "systemd", "seconds": seconds} for p in look.main]
