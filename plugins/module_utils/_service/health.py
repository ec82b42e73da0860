# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the service's endpoints and process until it is clear whether the service is healthy.

See probe_plan (targets and limits) and http_probe (one request).
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    from_dict,
    labelled,
    message,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import takeover
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, messages, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import (
    HealthError,
    Login,
    Plan,
    Target,
)

# While a unit waits for its automatic restart, it has no process. The wait lasts RestartSec. This check allows for this
# number of additional seconds.
_RESTART_GRACE = 3.0
# Number of times the service may exit after it has been started. If the first start fails, systemd may restart the
# service successfully.
_ENDS_ALLOWED = 1
# If systemd or a person is starting the service, wait for at most _SETTLE seconds until its unit is up. While the
# process is younger than _YOUNG seconds, also wait for a response, with a probe every _YOUNG_INTERVAL seconds. A longer
# wait would exceed the deadline of the detection role. The role would then report the host as unreachable.
_SETTLE = 25.0
_YOUNG = 20.0
_YOUNG_INTERVAL = 0.2

# A function that returns the reason why the service must not be started with its database, or None if it may be
# started. The function's arguments are a boolean (True if there is time for a detailed check), and the process IDs of
# the service if it has been started.
Doubt = Callable[[bool, Sequence[int]], Optional[str]]


def _process(state: str, found: Sequence[procfs.Process], properties: Mapping[str, str]) -> Dict[str, Any]:
    restarts = properties.get("NRestarts", "")
    return {
        "state": state,
        "pids": [process.pid for process in found],
        "started_at": found[0].started_at if found else None,
        "restarts": int(restarts) if restarts.isdecimal() else None,
    }


def look_at_process(
    service: service_process.Service, *, run: commands.Runner = commands.run, proc_root: str = "/proc"
) -> Tuple[Dict[str, Any], Mapping[str, str]]:
    """Return facts about the service's process (state: running, gone or unknown), and its unit's properties.

    Raises HealthError if the unit or the user does not exist.
    """
    properties: Mapping[str, str] = {}
    found: List[procfs.Process] = []
    try:
        if service.manager == "systemd":
            properties = systemd.unit_properties(service.unit, service_process.UNIT_PROPERTIES, run=run)
            service_process.require_loaded(service, properties)
            main = procfs.read_process(service_process.main_pid(properties), proc_root=proc_root)
            found = [main] if main is not None and main.alive else []
        # If the unit has no process, a manually started process may still serve requests.
        found = found or service_process.find(service, proc_root=proc_root)
        hidden = not found and service_process.is_hidden(service)
    except procfs.HostError:
        return _process("unknown", [], {}), {}
    except service_process.NodeProcessError as error:
        raise HealthError(error) from error
    state = "running" if found else "unknown" if hidden else "gone"
    return _process(state, found, properties), properties


class _Watch:
    """The probes of one health check: their results so far, and the verdict."""

    def __init__(
        self,
        service: service_process.Service,
        targets: Sequence[Target],
        plan: Plan,
        *,
        run: commands.Runner,
        proc_root: str,
        doubt: Doubt,
        busy: Callable[[], bool],
    ) -> None:
        self.service = service
        self.targets = targets
        self.plan = plan
        # Called after each failed probe in watch mode.
        self.doubt = doubt
        # True if the database was checked in detail. The detailed check is done once, because it takes up to 1.5
        # seconds.
        self.checked_closely = False
        # Returns True if another run is working on the host. In this case, the other run starts the service, and this
        # check does not wait for the start.
        self.busy = busy
        self.doubted: Optional[str] = None
        # The unit's phase at the first probe, and the number of seconds for which the check has waited for the service
        # to start.
        self.first_phase: Optional[str] = None
        self.waited = 0.0
        # True if the check waited because an automatic restart was imminent.
        self.restart_awaited = False
        self.endpoints: List[Dict[str, Any]] = []
        self.silent = False
        self.process: Dict[str, Any] = _process("unknown", [], {})
        self.properties: Mapping[str, str] = {}
        self.good = False
        self.attempts = 0
        self.failures = 0
        self.most_failures = 0
        self.first_failure_at: Optional[str] = None
        self.last_success_at: Optional[str] = None
        self.first_healthy_at: Optional[str] = None
        self._begun = self._probe_begun = time.monotonic()
        self._run = run
        self._proc_root = proc_root

    @property
    def gone(self) -> bool:
        return bool(self.process["state"] == "gone")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def probe(self) -> bool:
        """Probe the endpoints once and check the process. Return True if every required endpoint is healthy."""
        timeout = self.plan.timeout
        if self.plan.mode == "await":
            timeout = max(0.1, min(timeout, self.plan.deadline - self.elapsed))
        began_at = timestamps.now()
        self._probe_begun = time.monotonic()
        self.endpoints = http_probe.probe(self.targets, timeout=timeout, ok_statuses=self.plan.ok_statuses)
        self.process, self.properties = look_at_process(self.service, run=self._run, proc_root=self._proc_root)
        self.silent = (self.silent or self.attempts == 0) and all(endpoint["silent"] for endpoint in self.endpoints)
        self.attempts += 1
        required = [endpoint["ok"] for endpoint in self.endpoints if endpoint["required"]]
        self.good = bool(required) and all(required)
        if self.good:
            self.failures = 0
            self.last_success_at = timestamps.now()
            self.first_healthy_at = self.first_healthy_at or self.last_success_at
        else:
            self.failures += 1
            self.most_failures = max(self.failures, self.most_failures)
            self.first_failure_at = self.first_failure_at or began_at
        return self.good

    def pause(self) -> None:
        """Wait until the next probe is due."""
        time.sleep(max(0.0, self._probe_begun + self.plan.interval - time.monotonic()))

    def severity(self, *, healthy: bool) -> str:
        """Return the severity. The severity of an unhealthy service is at least "warning".

        In watch mode, the severity of a healthy service is also "warning" if at least warning_after consecutive probes
        failed before the service answered.
        """
        if healthy:
            return "warning" if self.most_failures >= self.plan.warning_after and self.plan.mode == "watch" else "none"
        # The service must not run with a database in doubt, so it counts as down even if a process is running.
        if (self.gone or self.doubted) and not self.good:
            return "emergency"
        return "critical" if self.failures >= self.plan.critical_after else "warning"

    def summary(self) -> List[Message]:
        """Return a message for each problem. If there is no problem, return the message that the service answers."""
        wrong = [_of_answer(end["name"], end) for end in self.endpoints if end["required"] and not end["ok"]]
        if self.gone:
            wrong.append(message("reason.probe.gone"))
        return wrong or [message("reason.probe.answers")]

    @property
    def phase(self) -> Optional[str]:
        """The phase of the systemd unit, or None if there is no unit or systemd did not answer."""
        return takeover.phase(self.properties) if self.properties else None

    def is_young(self) -> bool:
        """Return True if the unit's process may still be starting, because it is young and does not listen yet."""
        begun = any(endpoint["ok"] or endpoint["silent"] for endpoint in self.endpoints)
        return bool(
            self.phase == takeover.UP
            and not self.gone
            and not begun
            and takeover.started_within(self.properties, seconds=_YOUNG)
        )

    def is_in_doubt(self, *, starting: bool) -> bool:
        """Return True if the service must not be started with its database. Set `doubted` to the reason.

        starting: True if a start is in progress or imminent. In this case, there is time for a detailed check of the
        database. A young process may not have opened the database yet. Therefore, the database is also checked in
        detail for a young process, but only once.
        """
        closely = starting or (self.is_young() and not self.checked_closely)
        self.checked_closely = self.checked_closely or closely
        # If the service is about to be started, the current processes are ignored.
        self.doubted = self.doubt(closely, [] if starting else self.process["pids"])
        return bool(self.doubted)

    def discount_failure(self) -> None:
        """Do not count the last probe as a failure, because the service was starting."""
        self.failures -= 1
        self.most_failures = min(self.most_failures, self.failures)

    def settle(self) -> None:
        """Wait until the unit is up or down. The waits of one health check take at most _SETTLE seconds in total."""
        self.discount_failure()
        begun = time.monotonic()
        limits = (self.properties.get(name, "") for name in ("TimeoutStartUSec", "TimeoutStopUSec"))
        spans = [systemd.timespan(limit) or _SETTLE for limit in limits]
        with contextlib.suppress(procfs.HostError):
            takeover.settle(self.service.unit, limit=min(sum(spans), _SETTLE - self.waited), run=self._run)
        self.waited += max(0.01, time.monotonic() - begun)

    @property
    def by_systemd(self) -> bool:
        """True if the service answers because systemd recently restarted it."""
        return bool(
            self.good
            and self.plan.mode == "watch"
            and takeover.restarted_by_systemd(self.properties)
            and takeover.started_within(self.properties, seconds=takeover.RECENT)
        )


def _of_answer(name: str, answer: Mapping[str, Any]) -> Message:
    """Return the error of an endpoint or of the login, labelled with its name."""
    return labelled(name, from_dict(answer["messages"]["error"]))


def _watch_until_verdict(watch: _Watch) -> bool:
    """Probe until the service is healthy, critical_after consecutive probes have failed, or the process is gone.

    If systemd or a person is starting the service, or if systemd is about to restart it, wait until the service is up
    or down. Failures during this wait are ignored.
    """
    while not watch.probe():
        phase = watch.phase
        watch.first_phase = watch.first_phase or phase
        # Wait for an automatic restart only once. If the service fails again after the restart, the run handles the
        # outage.
        soon = not watch.restart_awaited and takeover.is_imminent(watch.properties)
        comes = phase == takeover.STARTING or soon
        if watch.is_in_doubt(starting=comes):
            return False
        wait = watch.waited < _SETTLE and not watch.busy()
        if wait and (comes or phase == takeover.STOPPING):
            watch.restart_awaited = watch.restart_awaited or soon
            watch.settle()
        elif wait and watch.is_young():
            watch.discount_failure()
            watch.waited += _YOUNG_INTERVAL
            time.sleep(_YOUNG_INTERVAL)
        elif watch.gone or watch.failures >= watch.plan.critical_after:
            return False
        else:
            watch.pause()
    watch.first_phase = watch.first_phase or watch.phase
    return True


def _wait_until_good(watch: _Watch) -> bool:
    """Probe until the service is healthy, the deadline passes, or the process is gone and will not be restarted."""
    gone_since: Optional[float] = None
    restarts_at_first: Optional[int] = None
    while not watch.probe():
        restarts = watch.process["restarts"] or 0
        restarts_at_first = restarts if restarts_at_first is None else restarts_at_first
        if watch.gone and watch.plan.sole_starter:
            return False
        if restarts - restarts_at_first + int(watch.gone) > _ENDS_ALLOWED:
            return False  # the service exited again after each restart
        if not watch.gone:
            gone_since = None
        elif gone_since is None:
            gone_since = watch.elapsed
        elif watch.elapsed - gone_since >= _grace(watch):
            return False
        if watch.elapsed + watch.plan.interval >= watch.plan.deadline:
            return False
        watch.pause()
    return True


def _grace(watch: _Watch) -> float:
    """Return the allowed time without a process in seconds, or 0 if systemd is not about to restart the service."""
    if not service_process.waits_for_restart(watch.properties):
        return 0.0
    return (systemd.timespan(watch.properties.get("RestartUSec", "")) or 0.0) + _RESTART_GRACE


def _hold_good(watch: _Watch) -> bool:
    """Send the planned number of probes. Return False as soon as a probe fails or the process IDs change."""
    pids: Optional[List[int]] = None
    while watch.probe():
        pids = watch.process["pids"] if pids is None else pids
        if watch.process["pids"] != pids:
            return False
        if watch.attempts >= watch.plan.count:
            return True
        watch.pause()
    return False


# Each function returns True if the service is healthy.
_MODES: Mapping[str, Callable[[_Watch], bool]] = {
    "watch": _watch_until_verdict,
    "await": _wait_until_good,
    "hold": _hold_good,
}


def ask(
    service: service_process.Service,
    targets: Sequence[Target],
    plan: Plan,
    *,
    login: Optional[Login] = None,
    endpoints_needed: bool = True,
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
    doubt: Doubt = lambda closely, pids: None,
    busy: Callable[[], bool] = lambda: False,
) -> Dict[str, Any]:
    """Check the service's health in the mode that the plan sets, and return the result of the health_probe module.

    If there are no targets and endpoints_needed is False, only the process is checked, and the result is never healthy.
    busy: a function that returns True if another run is working on the host. Raises HealthError.
    """
    if targets or endpoints_needed:
        probe_plan.check(targets, plan, login=login)
    watch = _Watch(service, targets, plan, run=run, proc_root=proc_root, doubt=doubt, busy=busy)
    healthy = _MODES[plan.mode](watch)
    logged_in = http_probe.log_in(login, timeout=plan.timeout) if login is not None and healthy else None
    healthy = healthy and (logged_in is None or logged_in["ok"])
    summary = watch.summary()
    if logged_in is not None and not logged_in["ok"]:
        summary = [_of_answer("login", logged_in)]
    elif not healthy and watch.good:
        summary = [message("reason.probe.other_process")]
    return {
        "healthy": healthy,
        "summary": messages.joined(summary),
        "messages": messages.plain(summary=summary),
        "severity": watch.severity(healthy=healthy),
        "consecutive_failures": watch.failures,
        "max_consecutive_failures": watch.most_failures,
        "process": watch.process,
        "endpoints": watch.endpoints,
        "silent": watch.silent,
        "first_failure_at": watch.first_failure_at,
        "last_success_at": watch.last_success_at,
        "first_healthy_at": watch.first_healthy_at,
        "attempts": watch.attempts,
        "duration": round(watch.elapsed, 3),
        "login": logged_in,
        "supervisor": {
            "phase": watch.first_phase,
            "waited": round(watch.waited, 3),
            "restarted": watch.by_systemd,
            "started_at": watch.process["started_at"],
        },
        "doubt": watch.doubted,
        "signs": [
            {"at": at, "kind": kind, "source": "health probe"}
            for at, kind in ((watch.last_success_at, "good"), (watch.first_failure_at, "bad"))
            if at
        ],
    }
