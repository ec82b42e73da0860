# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watch services from the machine that runs the rulebooks, and decide when to start triage or a recovery.

The watch counts consecutive failures, which ansible-rulebook's throttling cannot do. An outage is reported once. A
later failure counts as a new outage only after enough consecutive healthy probes. This module does not depend on
ansible-rulebook.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, sanitize, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import health as service_health
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import alarm

TRIAGE, RECOVER, RESTORED = "triage", "recover", "restored"
# An armed controller has accepted the alarm, so no other recovery has to be started.
ALARMED = "alarmed"
_SEVERITIES = {TRIAGE: "warning", RECOVER: "critical", RESTORED: "none"}
# How long the maintenance state is valid after it was read, and the time limit for reading a file, both in seconds.
_MAINTENANCE_AGE = 15.0
_READ_TIMEOUT = 10.0
# Matches a word that contains no characters that a shell interprets.
_PLAIN = re.compile(r"[\w@%+=:,./-]+\Z", re.ASCII)
# A group name or a pattern would start a recovery on more than one host. The alert rulebooks apply the same rule.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}\Z")
_GROUPS = ("all", "ungrouped")
_LOGGER = logging.getLogger(__name__)


class WatchError(Exception):
    """A parameter is invalid. The message contains the name of the parameter."""


class Thresholds(NamedTuple):
    """The consecutive probes for each event, and the time in seconds until a repeated recovery request (0: never)."""

    warning_after: int = 3
    critical_after: int = 5
    restored_after: int = 5
    again_after: float = 0.0


class Target(NamedTuple):
    """One service to watch. host: the name of its host in the inventory.

    - over: the prefix for commands that run on the host, or empty for this machine.
    - as_root: an additional prefix for commands that read files in the state folder.
    - process: if None, the process is not checked.
    - state_dir: if empty, the maintenance window is not read.
    - alarm: the socket of an armed controller, which recovers the service. If alarm is empty, or if no run is waiting,
      the event asks for a recovery instead.
    """

    host: str
    endpoints: Sequence[probe_plan.Target]
    process: Optional[service_process.Service] = None
    state_dir: str = ""
    over: Sequence[str] = ()
    as_root: Sequence[str] = ()
    alarm: str = ""


def _known(values: Any, kind: Any, *, parameter: str) -> Any:
    """Convert a mapping to the named tuple `kind`. Raises WatchError if a key is unknown or missing."""
    if not isinstance(values, dict):
        raise WatchError(f"{parameter}: must be a mapping, not {type(values).__name__}")
    for name in values:
        if name not in kind._fields:
            raise WatchError(f"{parameter}: {name!r} is not known; known keys: {', '.join(kind._fields)}")
    for name in kind._fields:
        if name not in values and name not in kind._field_defaults:
            raise WatchError(f"{parameter}: {name!r} is missing")
    return kind(**values)


def _target(values: Any, *, parameter: str) -> Target:
    target: Target = _known(values, Target, parameter=parameter)
    if not isinstance(target.host, str) or not _HOST.match(target.host) or target.host in _GROUPS:
        raise WatchError(
            f"{parameter}.host: must be the name of one host of the inventory (letters, digits, '_', '.' and '-'), "
            f"not {target.host!r}"
        )
    if not isinstance(target.endpoints, list):
        raise WatchError(f"{parameter}.endpoints: must be a list, not {type(target.endpoints).__name__}")
    endpoints = [
        _known(endpoint, probe_plan.Target, parameter=f"{parameter}.endpoints[{number}]")
        for number, endpoint in enumerate(target.endpoints)
    ]
    process: Optional[service_process.Service] = None
    if target.process is not None:
        process = _known(target.process, service_process.Service, parameter=f"{parameter}.process")
    for name, words in (("over", target.over), ("as_root", target.as_root)):
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise WatchError(f"{parameter}.{name}: must be a list of words, not {words!r}")
    if not isinstance(target.alarm, str) or (target.alarm and not os.path.isabs(target.alarm)):
        raise WatchError(f"{parameter}.alarm: must be an absolute path, not {target.alarm!r}")
    if target.over:
        if process is not None and process.manager != "systemd":
            raise WatchError(f"{parameter}.process.manager: must be systemd if 'over' is set, not {process.manager!r}")
        for word in (process.unit if process else "", target.state_dir):
            if word and not _PLAIN.match(word):
                raise WatchError(f"{parameter}: {word!r} must not contain blanks or quotes if 'over' is set")
    return target._replace(endpoints=endpoints, process=process)


def targets(listed: Any, thresholds: Thresholds, *, timeout: float, interval: float) -> List[Target]:
    """Return the validated targets of a rulebook. Raises WatchError."""
    if not isinstance(listed, list) or not listed:
        raise WatchError("targets: must be a list of at least one service to watch")
    if thresholds.restored_after < 1:
        raise WatchError(f"restored_after: {thresholds.restored_after} must be at least 1")
    if thresholds.again_after < 0:
        raise WatchError(f"again_after: {thresholds.again_after} must not be less than 0 seconds")
    found = [_target(values, parameter=f"targets[{number}]") for number, values in enumerate(listed)]
    if len({target.host for target in found}) < len(found):
        raise WatchError("targets: a host is listed twice")
    plan = probe_plan.Plan(
        timeout=timeout,
        interval=interval,
        warning_after=thresholds.warning_after,
        critical_after=thresholds.critical_after,
    )
    for target in found:
        try:
            probe_plan.check(target.endpoints, plan)
        except probe_plan.HealthError as error:
            raise WatchError(f"targets, {target.host}: {error}") from error
    return found


class Outage:
    """The state of one service: the probe results and the requested actions. Times are always passed as arguments."""

    def __init__(self, thresholds: Thresholds) -> None:
        """Create the object with an unknown state of the service."""
        self._thresholds = thresholds
        self.failures = 0
        self._good = 0
        self._called: Optional[str] = None
        self._recovery_called_at = 0.0

    def see(self, *, good: bool, gone: bool, now: float) -> Optional[str]:
        """Add the result of one probe. Return the action to request, or None for no action.

        The action is returned again until called() confirms it. now: a time in seconds from any monotonic clock.
        """
        if good:
            self.failures = 0
            self._good += 1
            return RESTORED if self._called and self._good >= self._thresholds.restored_after else None
        self._good = 0
        self.failures += 1
        if gone or self.failures >= self._thresholds.critical_after:
            return RECOVER if self._recovery_is_due(now) else None
        return TRIAGE if self.failures >= self._thresholds.warning_after and self._called is None else None

    def _recovery_is_due(self, now: float) -> bool:
        again = self._thresholds.again_after
        return self._called != RECOVER or (again > 0 and now - self._recovery_called_at >= again)

    def called(self, act: str, *, now: float) -> None:
        """Record that the action was requested."""
        self._called = None if act == RESTORED else act
        if act == RECOVER:
            self._recovery_called_at = now


class Watch:
    """Probes one target and returns the action to request."""

    def __init__(
        self,
        target: Target,
        thresholds: Thresholds,
        *,
        timeout: float,
        ok_statuses: Sequence[str],
        run: commands.Runner = commands.run,
    ) -> None:
        """Use the target without further validation, because targets() has validated it."""
        self.target = target
        self._outage = Outage(thresholds)
        self._timeout = timeout
        self._ok_statuses = ok_statuses
        self._run = run
        self._first_failure_at: Optional[str] = None
        # The end of the maintenance window in seconds since the epoch, and the monotonic time of the next check for a
        # window.
        self._maintenance_until = 0.0
        self._ask_maintenance_at = 0.0

    def look(self) -> Optional[Dict[str, Any]]:
        """Probe once and return the event to send, or None if there is none. Takes at most the sum of the timeouts."""
        began_at = timestamps.now()
        answers = http_probe.probe(self.target.endpoints, timeout=self._timeout, ok_statuses=self._ok_statuses)
        wrong = [f"{each['name']}: {each['error']}" for each in answers if each["required"] and not each["ok"]]
        state = self._process_state() if wrong else "running"
        if wrong and not self._outage.failures:
            self._first_failure_at = began_at
        now = time.monotonic()
        act = self._outage.see(good=not wrong, gone=state == "gone", now=now)
        if act is None or (act != RESTORED and self._under_maintenance()):
            return None
        self._outage.called(act, now=now)
        alarmed = act == RECOVER and bool(self.target.alarm) and alarm.ring(self.target.alarm)
        if state == "gone":
            wrong.append("the process is gone")
        return {
            "outage": {
                "host": self.target.host,
                "act": ALARMED if alarmed else act,
                "severity": "emergency" if state == "gone" else _SEVERITIES[act],
                "consecutive_failures": self._outage.failures,
                "process": state,
                "summary": sanitize.text("; ".join(wrong) or "answers"),
                "first_failure_at": self._first_failure_at,
            },
            # ansible-rulebook limits an action to these hosts.
            "meta": {"hosts": self.target.host},
        }

    def _warn(self, text: str) -> None:
        """Log text without terminal control characters, because the text may contain output from the host."""
        _LOGGER.warning("%s: %s", self.target.host, sanitize.text(text))

    def _over(self, argv: Sequence[str], **options: Any) -> commands.Completed:
        return self._run([*self.target.over, *argv], **options)

    def _process_state(self) -> str:
        """Return the state of the process: "running", "gone" or "unknown"."""
        service = self.target.process
        if service is None:
            return "unknown"
        try:
            if not self.target.over:
                return str(service_health.look_at_process(service, run=self._run)[0]["state"])
            properties = systemd.unit_properties(service.unit, service_process.UNIT_PROPERTIES, run=self._over)
            service_process.require_loaded(service, properties)
        except (probe_plan.HealthError, service_process.NodeProcessError, procfs.HostError) as error:
            self._warn(f"cannot check whether the process is running: {error}")
            return "unknown"
        return "running" if service_process.main_pid(properties) else "gone"

    def _read(self, path: str) -> bytes:
        """Return the content of a file on the host. Raises OSError."""
        try:
            # The error message is compared with English text below, so it must not be localized.
            done = self._over(["env", "LC_ALL=C", *self.target.as_root, "cat", "--", path], timeout=_READ_TIMEOUT)
        except commands.CommandError as error:
            raise OSError(0, str(error)) from error
        if done.ok:
            return done.stdout.encode()
        if "No such file" in done.stderr:
            raise FileNotFoundError(path)
        raise OSError(0, "no response in time" if done.timed_out else done.stderr.strip() or f"rc {done.rc}")

    def _under_maintenance(self) -> bool:
        """Return True if a maintenance window is active.

        If the answer is unknown, return False, so that recoveries are allowed.
        """
        if not self.target.state_dir:
            return False
        if time.monotonic() >= self._ask_maintenance_at:
            found, warnings = host_maintenance.current(
                state_dir=self.target.state_dir, now=time.time(), read=self._read
            )
            for warning in warnings:
                self._warn(warning)
            if found:
                self._warn(f"under maintenance until {found['until']}, nothing is done")
            self._maintenance_until = timestamps.epoch(found["until"]) if found else 0.0
            self._ask_maintenance_at = time.monotonic() + _MAINTENANCE_AGE
        return time.time() < self._maintenance_until
