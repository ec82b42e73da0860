#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: incident
short_description: Maintain the record of an incident on the affected host, and ensure that only one run at a time works
  on that host
version_added: 0.1.0
description:
  - Records the start, the detection and the end of the outage, and all attempts and notifications. If an incident is
    still open, the next run continues this incident, and does not change the recorded start of the outage.
  - Uses a lease to reserve the host for the whole run. O(state=open) acquires the lease, and O(state=closed) releases
    the lease. A module that is called with O(run) keeps the lease while the module is running, and renews the lease
    when the module ends. If the run is killed, the lease expires after O(lease) seconds.
  - If another run holds the lease, a call fails. If O(wait) is set, the call first waits for the lease to end.
  - If a record is unreadable, the module renames the record. If the module cannot write a record to its folder, for
    example because the disk is full, it stores the record in memory. In both cases, the module shows a warning, and the
    run continues.
  - Records the maintenance window of the host. During a maintenance window, O(state=open) neither opens an incident nor
    acquires a lease.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
    details: The module does not write records and does not acquire a lease.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(state=open) and an empty O(run), every call creates a new run. The module does not report the
      renewal of a lease as a change.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.incident_info
options:
  state:
    description:
      - V(open) acquires the lease, and opens an incident or continues the open incident.
      - V(attempt) records attempts, findings and notifications, and renews the lease. After an incident is closed, the
        runs for this incident can record only O(notified).
      - V(closed) records the outcome and releases the lease. If O(outcome) is V(not_recovered), V(data_in_doubt),
        V(login_failed) or V(degraded), the incident stays open, and the next run continues this incident.
      - Use V(closed) with an empty O(run) if a probe found the service healthy. The module then closes the open
        incident with RV(outcome=resolved_manually). If an earlier run or systemd started the service, RV(outcome) has a
        different value. See O(serving_since) and O(serving_restarts). If a run is working on the incident, or if the
        service's data is in doubt, the incident stays open.
      - Use V(resolved) before V(closed) if contacts must be notified of the end of the outage. V(resolved) creates a
        run, acquires the lease for this run, and returns RV(run). The incident stays open until you call the module
        with V(closed) and this O(run). If the run is killed before this call, the next run notifies the contacts.
      - V(renewed) renews the lease of O(run) for O(lease) seconds, and records nothing. If another run has taken the
        lease, the call does not fail. See RV(locked_by).
      - V(maintenance_begun) sets the maintenance window of the host, and V(maintenance_ended) removes the maintenance
        window. A change of the maintenance window does not affect a run that is in progress.
    type: str
    choices: [open, attempt, closed, resolved, renewed, maintenance_begun, maintenance_ended]
    required: true
  state_dir:
    description: Path of the folder for the incident records. If the folder does not exist, the module creates it with
      mode V(0700).
    type: path
    default: /var/lib/itsm-runbook
  run:
    description: ID of the calling run. If empty, O(state=open) creates a new run and returns its ID in RV(run). Pass
      this ID to all later calls.
    type: str
    default: ""
  step:
    description:
      - Name of the current step of the run. If another run must wait for the lease of this run, or fails because of
        this lease, that run reports this step.
      - Defaults to the current rung of the run, or to O(state) if the run has not started a rung.
    type: str
    default: ""
  lease:
    description:
      - Duration of the lease in seconds, at most 3600. If the run does not call the module again within this time,
        another run can take over the host.
      - A module that is called with O(run) keeps the lease until the module ends. Increase this value only if the
        controller may need more than 60 seconds between two calls.
    type: float
    default: 60.0
  wait:
    description:
      - Maximum time to wait for the lease of another run to end, in seconds. Used only with O(state=open).
      - During the wait (RV(waited)), the other run may have ended the outage. Therefore, if no incident is open after
        the wait, the module neither opens an incident nor acquires the lease. In this case, probe the service again. If
        the service is still down, call the module again.
      - To wait without opening an incident, use M(itsm_nexus.runbook.incident_info).
    type: float
    default: 0.0
  window:
    description: Length of the period in which the module counts service starts, in seconds. The period ends at the time
      of the call. See RV(restarts_in_window).
    type: float
    default: 3600.0
  restart_limit:
    description: Maximum number of service starts by runs within O(window). When this number is reached, RV(crash_loop)
      reports that starting the service again would not help.
    type: int
    default: 3
    version_added: 1.0.0
  opened:
    description:
      - The value of RV(itsm_nexus.runbook.health_probe#module:opened) from a probe that has already opened the
        incident. Used only with O(state=open).
      - If this option is set, the task does not connect to the host, but returns this value as its result. If the value
        reports a failure, the task fails.
      - If this option is empty, the module runs on the host.
    type: dict
    default: {}
    version_added: 1.0.0
  known_timelines:
    description:
      - Names of the timelines that already exist on the controller. The action plugin sets this option with
        O(state=closed), so do not set it in a task.
      - The module returns all other timelines on the host that mention the incident, up to 20 timelines and 4 MiB in
        total. The action plugin writes these timelines to the folder of the postmortem callback, and removes the
        timelines from the result.
    type: list
    elements: str
    version_added: 1.0.0
  maintenance_until:
    description:
      - End of the maintenance window, with a time zone, for example V(2026-03-02T04:00:00Z) or V(2026-03-02
        13:00+09:00).
      - Required with O(state=maintenance_begun), which also accepts a duration from now, such as V(+2h) or V(+1d12h).
      - With O(state=open), the window applies only to this call. In this case, the value usually comes from an
        inventory variable.
    type: str
    default: ""
    version_added: 1.0.0
  maintenance_reason:
    description: Reason for the maintenance.
    type: str
    default: ""
    version_added: 1.0.0
  severity:
    description: Severity of the outage. V(unreachable) means that the controller cannot reach the host. In this case,
      the playbooks save the record on the controller.
    type: str
    choices: [degraded, warning, critical, emergency, unreachable]
  detected_at:
    description: Time when the outage was detected (UTC, for example V(2026-03-02T01:02:03.456Z)). Later calls do not
      change the recorded time.
    type: str
  detected_by:
    description: Who or what detected the outage.
    type: str
  signs:
    description: Observations that show when the outage began.
    type: list
    elements: dict
    default: []
    suboptions:
      at:
        description: Time of the observation.
        type: str
        required: true
      kind:
        description: Whether the service was healthy (V(good)) or unhealthy (V(bad)) at that time.
        type: str
        required: true
        choices: [good, bad]
      source:
        description: Source of the observation.
        type: str
        required: true
  attempts:
    description: The attempts of this run. An attempt replaces the recorded attempt with the same O(attempts[].rung) and
      O(attempts[].started_at).
    type: list
    elements: dict
    default: []
    suboptions:
      rung:
        description: The rung of the recovery ladder.
        type: str
        required: true
      started_at:
        description: Time when the attempt began.
        type: str
        required: true
      held:
        description:
          - Whether the attempt succeeded.
          - Do not set this option while the attempt is in progress.
          - If the connection to the host was lost before the service was checked, set O(attempts[].reason) instead of
            this option.
        type: bool
      halted:
        description: Whether the attempt was stopped before it changed anything, because a change could have caused
          damage.
        type: bool
        default: false
      fell:
        description: Whether the service responded after the attempt, but failed again during the stability check.
        type: bool
        default: false
        version_added: 1.0.0
      serves:
        description: Whether the service responded after the attempt, and only the login check failed.
        type: bool
        default: false
        version_added: 1.0.0
      restored:
        description: Whether the rung failed, and the previous state of the service was restored.
        type: bool
        default: false
        version_added: 1.0.0
      reason:
        description: Reason why the attempt failed.
        type: str
        default: ""
      messages:
        description: Reason why the attempt failed, as translatable messages. Each message contains its C(id) in the
          message catalogue, and the C(values) to insert into the message text.
        type: dict
        default: {}
        version_added: 1.0.0
      seconds:
        description: Duration of the attempt in seconds.
        type: float
  cause:
    description: The cause of the outage.
    type: str
  cause_summary:
    description: The summary of O(cause) as translatable messages. Each message contains its C(id) in the message
      catalogue, and the C(values) to insert into the message text.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
  mitigated_at:
    description: Time when the service began to serve requests again.
    type: str
  mitigated_from:
    description: The source of O(mitigated_at). If this option is not set, the module records a health probe as the
      source.
    type: str
    version_added: 1.0.0
  serving_since:
    description:
      - Start time of the process that now serves requests. Used with O(state=resolved), and with O(state=closed) if
        O(run) is empty.
      - If the process started immediately after a run started the service, that run ended the outage
        (RV(outcome=recovered)). In this case, the first recorded healthy response marks the end of the outage. If no
        healthy response is recorded, the start time of the process marks the end of the outage, and
        RV(mitigated_estimated) is true.
    type: str
    version_added: 1.0.0
  serving_restarts:
    description:
      - Number of automatic restarts by systemd since the last manual start of the unit (C(NRestarts)). Used only if
        O(serving_since) is set. If the number is greater than 0, systemd ended the outage
        (RV(outcome=recovered_by_systemd)).
    type: int
    version_added: 1.0.0
  said_at:
    description:
      - Time of the log line in which the process reports that it serves requests. Used only if O(serving_since) is set.
        If no probe received the first healthy response, this time marks the end of the outage.
    type: str
    version_added: 1.0.0
  outcome:
    description: The outcome of the run.
    type: str
    choices: [recovered, recovered_by_systemd, not_recovered, warning, degraded, data_in_doubt, login_failed]
  unit:
    description:
      - Name of the service's systemd unit, for O(state=open).
      - If systemd has scheduled a restart of the unit, the module cancels this restart. If the restart is due within
        1.5 seconds, the module waits for the restart instead.
      - After a cancelled restart, the call with O(state=closed) starts the unit if no run has started the unit. If this
        run is killed, a timer on the host starts the unit.
    type: str
    default: ""
    version_added: 1.0.0
  notified:
    description: The notifications, as returned by the P(itsm_nexus.runbook.escalation#role) role.
    type: list
    elements: dict
    default: []
    suboptions:
      level:
        description: The escalation level.
        type: str
        required: true
      contact:
        description: The contact that was notified.
        type: str
        required: true
      channel:
        description: The channel that was used for the notification.
        type: str
        required: true
      at:
        description: Time of the notification.
        type: str
        required: true
      ok:
        description: Whether the notification was sent.
        type: bool
        default: true
      error:
        description: Reason why the notification was not sent.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Open an incident or continue the open incident
  itsm_nexus.runbook.incident:
    state: open
    severity: critical
    detected_by: health_probe
    wait: 30
  register: incident

- name: Record the start of a rung
  itsm_nexus.runbook.incident:
    state: attempt
    run: "{{ incident.run }}"
    attempts:
      - rung: standard_recovery
        started_at: "2026-03-02T01:03:10.000Z"

- name: Close the incident
  itsm_nexus.runbook.incident:
    state: closed
    run: "{{ incident.run }}"
    outcome: recovered
    mitigated_at: "2026-03-02T01:04:00.500Z"

- name: Close an incident that was resolved manually
  itsm_nexus.runbook.incident:
    state: closed
  when: detection.healthy and detection.open_incident

- name: Begin a two-hour maintenance window
  itsm_nexus.runbook.incident:
    state: maintenance_begun
    maintenance_until: +2h
    maintenance_reason: Release 4.2
"""

RETURN = r"""
id:
  description: ID of the incident, or V(null) if no incident is open.
  returned: always
  type: str
  sample: INC-20260302T010203Z-1f3a
run:
  description: ID of the run, which you must pass to the next call. V(null) if the call has no run.
  returned: always
  type: str
  sample: run-20260302T010203Z-5c0ffee1
continued:
  description: True if an earlier run opened the incident, and this run continues the incident.
  returned: always
  type: bool
opened_at:
  description: Time when the incident was opened.
  returned: always
  type: str
closed_at:
  description: Time when the incident was closed, or V(null) while the incident is open.
  returned: always
  type: str
outage_started_at:
  description: The most likely start of the outage, which is C(latest) in RV(outage_started).
  returned: always
  type: str
outage_started:
  description:
    - The period in which the outage began, from C(earliest) to C(latest). C(earliest) is the last time when a check
      found the service healthy. C(latest) is the first time when a check found the service unhealthy.
      C(earliest_source) is the source of C(earliest), and C(source) is the source of C(latest).
  returned: always
  type: dict
outage_seconds:
  description: Time from RV(outage_started_at) to RV(mitigated_at) in seconds, or V(null) if either of these times is
    unknown.
  returned: always
  type: float
lasted:
  description:
    - Duration of the outage in seconds, up to RV(mitigated_at). If RV(mitigated_at) is unknown, the duration up to the
      current time. The duration does not decrease if the host clock is set back.
  returned: always
  type: float
  version_added: 1.0.0
severity:
  description: The last recorded severity.
  returned: always
  type: str
detected_at:
  description: The first recorded detection time.
  returned: always
  type: str
detected_by:
  description: Who or what detected the outage first.
  returned: always
  type: str
answered_at:
  description:
    - Time of the first healthy response after the service was started, or V(null) if the service failed again.
      M(itsm_nexus.runbook.health_probe) records this time before the stability check.
  returned: always
  type: str
  version_added: 1.0.0
mitigated_at:
  description: Time when the service began to serve requests again.
  returned: always
  type: str
mitigated_from:
  description: The source of RV(mitigated_at).
  returned: always
  type: str
  version_added: 1.0.0
mitigated_estimated:
  description: True if RV(mitigated_at) is an estimate, because no probe received the first healthy response.
  returned: always
  type: bool
  version_added: 1.0.0
record_in_memory:
  description:
    - The in-memory folder that contains the record if the module cannot write to O(state_dir). A reboot deletes this
      folder. V(null) if the record is in O(state_dir) or was not written.
  returned: always
  type: str
  sample: null
  version_added: 1.0.0
cause:
  description: The cause of the outage.
  returned: always
  type: str
cause_summary:
  description: The summary of RV(cause) as translatable messages, each with its C(id) and C(values).
  returned: always
  type: list
  elements: dict
  version_added: 1.0.0
outcome:
  description: The outcome of the incident. V(resolved_manually) means that a person ended the outage.
  returned: always
  type: str
last_exit:
  description:
    - Details of the last exit of the service process before the module took over the unit from systemd. V(null) if
      there was no takeover. The keys are C(result), C(code), C(status), C(pid), C(at) and C(restarts).
  returned: always
  type: dict
  version_added: 1.0.0
takeover:
  description: Details of the takeover of the unit from systemd, or V(null) if there was no takeover. The keys are
    C(unit), C(at), C(sub_state) and C(timer).
  returned: always
  type: dict
  version_added: 1.0.0
data:
  description:
    - The state of the service's data, or V(null) if nothing is known.
    - C(state) is V(in_doubt), V(sound), V(accepted) or V(not_found). C(reasons) lists the reasons for the state, and
      C(checked_at) is the time of the last check.
    - C(rows) contains the last good row counts of a database, by table. C(created_at) is the time of the first
      migration in that database.
    - C(accepted) lists the kinds of damage that a person has accepted. C(accepted_at) is the time of this decision, and
      C(accepted_reason) is the reason that the person gave.
    - C(unseen) is true if the triage could not count the rows because the database was not found or was damaged.
    - C(loss) states whether a database recovery lost rows (V(none), V(known) or V(unknown)). C(rows_lost) is the number
      of lost rows in the tables whose rows were counted. C(rows_first) contains the row counts before the first
      database recovery. C(lost_again) is true if more than one recovery may have lost rows.
    - Keys that do not apply are omitted.
  returned: always
  type: dict
  version_added: 1.0.0
handed_back:
  description: True if this call was the first to start the unit after the takeover from systemd.
  returned: if O(state=closed) and the unit was taken over
  type: bool
  version_added: 1.0.0
signs:
  description: All recorded observations that show when the outage began, in the format of O(signs).
  returned: always
  type: list
  elements: dict
attempts:
  description:
    - All attempts by all runs for this incident, in the format of O(attempts). Each attempt also contains C(run),
      C(started) and C(result). C(started) is true if the service was started during the attempt. C(result) is V(under
      way), V(succeeded), V(failed), V(halted) or V(unknown).
  returned: always
  type: list
  elements: dict
starts:
  description: All service starts by runs for this incident, each with C(at) and C(run).
  returned: always
  type: list
  elements: dict
notified:
  description: All notifications about this incident.
  returned: always
  type: list
  elements: dict
restarts_in_window:
  description: Number of service starts by runs within O(window), including runs for earlier incidents.
  returned: always
  type: int
blind_restarts_left:
  description: Number of service starts that are still allowed within O(window) before O(restart_limit) is reached. V(0)
    if C(looping) in RV(crash_loop) is true.
  returned: always
  type: int
crash_loop:
  description:
    - C(looping) is true if C(restarts) has reached C(limit), or if C(fell) is true. In this case, starting the service
      again would not help.
    - C(restarts) is the number of service starts within C(window) seconds. C(fell) is true if a run started the
      service, and the service failed again during the stability check.
  returned: always
  type: dict
  sample: {"looping": true, "restarts": 3, "fell": false, "limit": 3, "window": 3600.0}
waited:
  description:
    - Time in seconds that the module waited for another run. If this time is not 0, the results of earlier service
      checks may be outdated.
  returned: always
  type: float
  version_added: 1.0.0
maintenance:
  description:
    - The current maintenance window, or V(null) if there is none. The keys are C(until), C(reason) and C(source)
      (V(variable), or the path of the file that defines the window). During a maintenance window, O(state=open) does
      not open an incident, and RV(run) is V(null).
  returned: always
  type: dict
  sample: {"until": "2026-03-02T04:00:00.000Z", "reason": "Release 4.2", "source": "variable"}
locked_by:
  description:
    - The run that holds the lease, or V(null) if no run holds it. The keys are C(run), C(since), C(step), C(until) and
      C(pid). C(pid) is the process ID of the module that this run is currently executing, or V(null) if no module is
      running.
  returned: always
  type: dict
taken_by:
  description: The run that has taken the lease from this run, in the format of RV(locked_by). If the module returns
    this value, it has not recorded anything.
  returned: when this run has lost the lease
  type: dict
  version_added: 1.0.0
warnings:
  description:
    - Warnings about damaged records that the module renamed, records that the module could not write to their folder,
      and incidents that an earlier run did not close.
  returned: when there are warnings
  type: list
  elements: str
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.record.no_run", "values": {"state": "'renewed'"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    record_update,
    repeated_call,
    run_timeline,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

UPDATE = {
    "severity": {"type": "str", "choices": ["degraded", "warning", "critical", "emergency", "unreachable"]},
    "detected_at": {"type": "str"},
    "detected_by": {"type": "str"},
    "signs": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "at": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True, "choices": ["good", "bad"]},
            "source": {"type": "str", "required": True},
        },
    },
    "attempts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "rung": {"type": "str", "required": True},
            "started_at": {"type": "str", "required": True},
            "held": {"type": "bool"},
            "halted": {"type": "bool", "default": False},
            "fell": {"type": "bool", "default": False},
            "serves": {"type": "bool", "default": False},
            "restored": {"type": "bool", "default": False},
            "reason": {"type": "str", "default": ""},
            "messages": {"type": "dict", "default": {}},
            "seconds": {"type": "float"},
        },
    },
    "cause": {"type": "str"},
    "cause_summary": {"type": "list", "elements": "dict", "default": []},
    "mitigated_at": {"type": "str"},
    "mitigated_from": {"type": "str"},
    "serving_since": {"type": "str"},
    "serving_restarts": {"type": "int"},
    "said_at": {"type": "str"},
    "outcome": {
        "type": "str",
        "choices": [
            *("recovered", "recovered_by_systemd", "not_recovered", "warning"),
            *("degraded", "data_in_doubt", "login_failed"),
        ],
    },
    "notified": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "level": {"type": "str", "required": True},
            "contact": {"type": "str", "required": True},
            "channel": {"type": "str", "required": True},
            "at": {"type": "str", "required": True},
            "ok": {"type": "bool", "default": True},
            "error": {"type": "str", "default": ""},
        },
    },
}
STATES = ["open", "attempt", "closed", "resolved", "renewed", "maintenance_begun", "maintenance_ended"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **UPDATE,
            "state": {"type": "str", "required": True, "choices": STATES},
            "step": {"type": "str", "default": ""},
            "lease": {"type": "float", "default": 60.0},
            "wait": {"type": "float", "default": 0.0},
            "window": {"type": "float", "default": 3600.0},
            "restart_limit": {"type": "int", "default": 3},
            "opened": {"type": "dict", "default": {}},
            "known_timelines": {"type": "list", "elements": "str"},
            "unit": {"type": "str", "default": ""},
            "maintenance_until": {"type": "str", "default": ""},
            "maintenance_reason": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        result = incident_record.call(
            update=record_update.Update(**{name: params[name] for name in UPDATE}),
            check_mode=module.check_mode,
            **{name: params[name] for name in params if name not in (*UPDATE, "opened", "unit", "known_timelines")},
        )
    except incident_store.IncidentError as error:
        module.fail_json(**failure(error), **sanitize.data(error.held()))
    for warning in result.pop("warnings"):
        module.warn(warning)
    if not module.check_mode:
        where = {name: params[name] for name in ("state", "unit", "state_dir")}
        result.update(one_starter.follow(result, **where, warn=module.warn))
    known = params["known_timelines"]
    if known is not None and result.get("id"):
        spare = host_lease.Seat(state_dir=params["state_dir"]).folder
        found = run_timeline.of_incident(params["state_dir"], incident=str(result["id"]), known=known, spare=spare)
        result["timelines"] = found
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
