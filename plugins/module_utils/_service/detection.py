# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first steps of a run: check the settings and the service, open an incident, and take over the unit from systemd.

In each function, the `values` argument contains the parameters of the health_probe module.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import leftovers, sanitize, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, failure, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    last_good,
    outage_window,
    record_update,
    service_ends,
    start_guard,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import health as service_health
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    messages,
    preflight_findings,
    probe_plan,
    serving_since,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight as service_preflight
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Plan, Target
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import start_safety

Values = Mapping[str, Any]
Warn = Callable[[str], Any]
# A function that checks the readiness of a service that answers. The function takes the parameters, the preflight
# result and the health. The function returns the `readiness` result of health_probe, or None if this check is not
# requested.
Ready = Callable[[Values, Optional[Dict[str, Any]], Mapping[str, Any]], Optional[Dict[str, Any]]]
# A function that collects data about the host. During the next outage, the host is compared with this data. The
# function takes the parameters, the preflight result, the health, and a function to call during the collection. The
# result is another function, which saves the data. The caller saves the data only if the service is healthy.
See = Callable[[Values, Optional[Dict[str, Any]], Mapping[str, Any], Callable[[], None]], Callable[[], None]]

# The service answers, but it is not ready, for example because its database is damaged.
DEGRADED = "degraded"
_DOWN = ("critical", "emergency")
_REPORTED = (DEGRADED, "warning", *_DOWN)


class SettingsError(Exception):
    """Settings are invalid. preflight: the result of service_preflight.examine."""

    def __init__(self, preflight: Dict[str, Any]) -> None:
        super().__init__("; ".join(problem["message"] for problem in preflight["problems"]))
        self.preflight = preflight
        self.told = [of(problem, "message") for problem in preflight["problems"]]


def check_settings(values: Values, *, warn: Warn) -> Optional[Dict[str, Any]]:
    """Check the inventory against this host. Return the preflight result, or None if no preflight is requested.

    Raises SettingsError if the service cannot be checked with these settings.
    """
    if values["preflight"] is None:
        return None
    config = preflight_findings.Config(**values["service"], **values["preflight"], state_dir=values["state_dir"])
    checked: Dict[str, Any] = sanitize.data(service_preflight.examine(config))
    for warning in service_preflight.warnings(checked, state_dir=values["state_dir"]):
        warn(sanitize.text(warning))
    wrong = _wrong_settings(checked)
    # If disks do not respond and there is no other problem, stop here, because all other checks need these disks.
    silent = bool(wrong) and wrong <= set(checked["silent"])
    if silent or wrong & {"nexus_state_dir", "nexus_manager"} or not values["service"]["command"]:
        raise SettingsError(checked)
    return checked


def _wrong_settings(checked: Optional[Dict[str, Any]]) -> Set[str]:
    return {problem["variable"] for problem in (checked or {}).get("problems", ())}


def ask_health(values: Values, checked: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the service's health.

    Raises SettingsError if settings are invalid, unless the service is certainly unhealthy.
    """
    service, targets = _service(values, checked), targets_of(values["endpoints"], checked)
    refused = checked is not None and bool(checked["problems"])
    plan = {name: values[name] for name in Plan.__slots__ if name in values}
    found: Dict[str, Any] = service_health.ask(
        service,
        targets,
        Plan(**plan, sole_starter=bool(values["run"])),
        # In watch mode, the login is one of the readiness checks.
        login=None if values["mode"] == "watch" and values["readiness"] else probe_plan.login_of(values["login"]),
        endpoints_needed=not refused,
        doubt=_doubt_of(values, checked),
        busy=lambda: _is_busy(values),
    )
    unknown = not targets and found["process"]["state"] != "gone"
    if checked is None or not refused:
        return found
    if found["healthy"] or unknown:
        raise SettingsError(checked)
    for problem in checked["problems"]:
        add_to_summary(found, of(problem, "message"))
    return found


def add_to_summary(result: Dict[str, Any], told: Message) -> None:
    """Add a problem to the summary of a health check."""
    result["summary"] = f"{result['summary']}; {messages.english(told)}"
    result["messages"]["summary"] += messages.plain(told=[told])["told"]


def _service(values: Values, checked: Optional[Dict[str, Any]]) -> service_process.Service:
    """Return the service to check. Omit an invalid nexus_user. If nexus_unit is invalid, set manager to "process"."""
    service = service_process.Service(**values["service"], ports=values["ports"])
    wrong = _wrong_settings(checked)
    if "nexus_user" in wrong:
        service = service._replace(user="")
    return service._replace(manager="process") if "nexus_unit" in wrong else service


def targets_of(endpoints: List[Dict[str, Any]], checked: Optional[Dict[str, Any]]) -> List[Target]:
    targets = [Target(**endpoint) for endpoint in endpoints]
    if checked is None or not checked["resolved"]["https_suspended"]:
        return targets
    plain = [target for target in targets if not target.url.startswith("https://")]
    return [target._replace(required=True) for target in plain] or targets


def database_path_of(checked: Optional[Dict[str, Any]]) -> str:
    """Return the database path that the preflight found, or an empty string if the path is unknown."""
    return str(((checked or {}).get("resolved") or {}).get("database_path") or "")


def _doubt_of(values: Values, checked: Optional[Dict[str, Any]]) -> service_health.Doubt:
    """Return a function for the health check. It returns the reason why the service must not start, or None."""
    path, user = database_path_of(checked), values["service"]["user"]
    unit = values["service"]["unit"] if values["service"].get("manager") == "systemd" else ""

    def doubt(closely: bool, pids: Sequence[int]) -> Optional[str]:
        accepted = incident_store.accepted_damage(values["state_dir"])
        found = start_safety.doubt(path, accepted=accepted)
        if not found and not pids:
            # While a process has the database open, the files are in use and change during the check.
            refusal = start_guard.verdict(unit)
            found = refusal.reason if refusal is not None else None
        if found or not closely:
            return found
        return start_safety.quick_doubt(path, user=user, pids=pids, accepted=accepted)

    return doubt if values["open"] else lambda closely, pids: None


def _is_busy(values: Values) -> bool:
    """Return True if another run is working on the host."""
    holder = host_lease.Seat(state_dir=values["state_dir"]).holder()
    return holder is not None and holder["run"] != values["run"]


def find_maintenance(values: Values, *, warn: Warn) -> Optional[Dict[str, str]]:
    """Return the active maintenance window, or None.

    If the window is invalid, only warn, so that outages are still detected.
    """
    given = {name: values[f"maintenance_{name}"] for name in ("until", "reason")}
    try:
        found, warnings = host_maintenance.current(state_dir=values["state_dir"], now=time.time(), **given)
    except host_maintenance.MaintenanceError as error:
        found, warnings = None, [str(error)]
    for warning in warnings:
        warn(sanitize.text(warning))
    return found


def mark_restart(values: Values, result: Dict[str, Any]) -> None:
    """Report an emergency if systemd recently restarted the service and no run has found it healthy since then."""
    restarted, last = result["supervisor"]["restarted"], last_good.last_healthy(values["state_dir"])
    started = result["supervisor"]["started_at"] or ""
    if restarted and values["open"] and result["severity"] != "warning" and not (last and last >= started):
        result["severity"] = "emergency"
    else:
        result["supervisor"]["restarted"] = False


def mark_degraded(values: Values, result: Dict[str, Any]) -> None:
    """Report a service as degraded if it answers but a readiness check found a problem."""
    problems = (result["readiness"] or {}).get("problems") or []
    if values["mode"] != "watch" or result["severity"] != "none" or not problems:
        return
    told = [of(problem, "summary") for problem in problems]
    result.update(
        healthy=False,
        severity=DEGRADED,
        summary="; ".join(problem["summary"] for problem in problems),
        messages={**result["messages"], "summary": [each.to_dict() for each in told]},
    )


def find_end_of_outage(values: Values, result: Dict[str, Any], *, unseen: bool) -> Dict[str, Any]:
    """Determine when a healthy service started to answer. If no probe observed this moment, search the logs for it."""
    if values["mode"] != "watch" or not result["healthy"]:
        return {"serving_said_at": None, "answers_since": None}
    before_first_probe = result["supervisor"]["restarted"] and not result["first_failure_at"]
    said_at = _began_to_serve(values, result) if unseen or before_first_probe else None
    answers_since = outage_window.first_answer(
        first_failure_at=None if before_first_probe else result["first_healthy_at"],
        first_healthy_at=result["first_healthy_at"],
        process_started_at=result["process"]["started_at"],
        said_at=said_at,
    )
    return {"serving_said_at": said_at, "answers_since": answers_since}


def _began_to_serve(values: Values, seen: Dict[str, Any]) -> Optional[str]:
    """Return the time at which the answering process logged that it was serving, or None.

    If no run observed the end of an outage, this time is used as the end.
    """
    service, started_at = values["service"], seen["process"]["started_at"]
    if not started_at:
        return None
    return serving_since.since_start(
        started_at,
        ports=values["ports"],
        unit=service["unit"] if service["manager"] == "systemd" else "",
        log_file=service["log_file"],
    )


def open_incident(values: Values, seen: Dict[str, Any], *, check_mode: bool) -> Dict[str, Any]:
    """Open an incident for a detected outage. Return the incident module's result, which may be a failure."""
    causes = [problem["cause"] for problem in (seen["readiness"] or {}).get("problems") or ()]
    try:
        result = incident_record.call(
            state="open",
            state_dir=values["state_dir"],
            run=values["run"],
            maintenance_until=values["maintenance_until"],
            maintenance_reason=values["maintenance_reason"],
            update=record_update.Update(severity=seen["severity"], signs=seen["signs"], problems=causes),
            check_mode=check_mode,
        )
    except incident_store.IncidentError as error:
        result = {"failed": True, "changed": False, **failure(error), **error.held()}
    opened: Dict[str, Any] = sanitize.data(result)
    return opened


def take_over(
    values: Values, result: Dict[str, Any], opened: Dict[str, Any], *, warn: Warn
) -> Optional[Dict[str, Any]]:
    """If systemd is about to start the service, take over the unit. From then on, only this run starts the service.

    Returns the recorded takeover, or None.
    """
    service, doubt = values["service"], result["doubt"]
    if service["manager"] != "systemd" or not opened.get("run") or result["healthy"]:
        return None
    where = {"unit": service["unit"], "state_dir": values["state_dir"], "run": opened["run"], "warn": warn}
    taken: Optional[Dict[str, Any]] = one_starter.take_over(
        **where, reason=doubt or "", database_path=database_path_of(result.get("preflight")), user=service["user"]
    )
    if doubt:
        # This cause is precise enough at this point, because triage reports the details afterwards.
        one_starter.hold(**where, manager="systemd", incident=opened["id"], cause="db_corrupt", reason=doubt)
    return taken


class Detection:
    """One call to the health_probe module. Call ask() while the run holds its lease, and report() afterwards."""

    def __init__(self, values: Values, *, check_mode: bool, warn: Warn, ready: Ready, see: See) -> None:
        self._values = {**values, "service": service_process.settings(values)}
        self._check_mode = check_mode
        self._warn = warn
        self._ready = ready
        self._see = see
        self._save_seen: Callable[[], None] = lambda: None
        self._checked: Optional[Dict[str, Any]] = None
        self._result: Dict[str, Any] = {}

    @property
    def lease(self) -> Dict[str, Any]:
        """The lease arguments (run and state_dir) for this call."""
        return {name: self._values[name] for name in host_lease.ARGUMENTS}

    def ask(self) -> None:
        """Check the settings and the service's health. Raises SettingsError and HealthError."""
        self._checked = check_settings(self._values, warn=self._warn)
        self._result = ask_health(self._values, self._checked)
        self._result["readiness"] = None
        if self._result["healthy"] and self._values["mode"] != "await":
            self._save_seen = self._see(self._values, self._checked, self._result, self._ask_ready)
        if self._values["run"] and not self._check_mode:
            self._note_answer()

    def _ask_ready(self) -> None:
        self._result["readiness"] = self._ready(self._values, self._checked, self._result)

    def _note_answer(self) -> None:
        """Immediately record the first response after a start, or the renewed failure of the service.

        The run may be killed before it calls report(), so do not wait for that call.
        """
        mode, healthy = self._values["mode"], self._result["healthy"]
        if (mode, healthy) not in (("await", True), ("hold", False)):
            return
        problem = incident_notes.note_answer(**self.lease, at=self._result["first_healthy_at"] if healthy else None)
        if problem:
            self._warn(sanitize.text(problem))

    def report(self) -> Dict[str, Any]:
        """Open an incident if the service is down, and return the result of the health_probe module."""
        values, result = self._values, self._result
        mark_restart(values, result)
        mark_degraded(values, result)
        self._remember_healthy()
        result["maintenance"] = find_maintenance(values, warn=self._warn)
        before = incident_store.current(values["state_dir"])
        unseen = before is not None and result["severity"] == "none"
        self._remember_failure(before)
        result.update(find_end_of_outage(values, result, unseen=unseen))
        due = values["open"] and result["severity"] in _REPORTED
        opened = open_incident(values, result, check_mode=self._check_mode) if due else None
        result["preflight"] = self._checked
        owner = opened or ({"run": values["run"], "id": (before or {}).get("id")} if values["mode"] == "await" else {})
        result["takeover"] = None if self._check_mode else take_over(values, result, owner, warn=self._warn)
        if opened and result["supervisor"]["restarted"] and not self._check_mode:
            # This run reports the outage, so the next run must not report the same outage again.
            last_good.note_healthy(values["state_dir"], at=result["last_success_at"])
        if values["open"] and not self._check_mode:
            leftovers.remove()
        service = values["service"]
        held = one_starter.held(manager=service["manager"], unit=service["unit"], state_dir=values["state_dir"])
        if held is not None:
            add_to_summary(result, message("reason.probe.held", incident=str(held["incident"] or "unknown")))
        return {
            **result,
            "open_incident": before is not None,
            "data_in_doubt": incident_store.unsettled(before),
            "ends": service_ends.public(service_ends.of_service(service, state_dir=values["state_dir"])),
            "hold": held,
            "opened": opened,
            "python": sys.implementation.cache_tag,
        }

    def _remember_healthy(self) -> None:
        """If recording is requested, and a check in watch or hold mode found the service healthy, record the time."""
        values, result = self._values, self._result
        watched = values["mode"] == "watch" and result["severity"] == "none"
        seen = watched or (values["mode"] == "hold" and result["healthy"])
        if not values["remember"] or self._check_mode or not seen:
            return
        last_good.note_healthy(values["state_dir"], at=result["last_success_at"])
        if not (result["readiness"] or {}).get("problems"):
            self._save_seen()
        if watched:
            incident_store.bring_home(values["state_dir"])

    def _remember_failure(self, record: Optional[Mapping[str, Any]]) -> None:
        """Record the first failed probe of an outage, if no run has opened an incident for the outage yet.

        That outage ends as soon as the service answers, even if the service is degraded. record: the open incident, or
        None.
        """
        values, result = self._values, self._result
        if not values["remember"] or values["open"] or self._check_mode or values["mode"] != "watch":
            return
        if result["healthy"]:
            last_good.forget_failure(values["state_dir"])
        known = record is not None and incident_store.DEGRADED not in (record["severity"], record["outcome"])
        if known or result["healthy"] or result["severity"] not in _DOWN:
            return
        first_at = result["first_failure_at"]
        if first_at:
            last_good.note_failure(values["state_dir"], first_at=first_at, last_at=timestamps.now())
