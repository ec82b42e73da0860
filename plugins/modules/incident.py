#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: incident
short_description: Keep the record of an incident on its host, and let one run at a time work on it
version_added: 0.1.0
description:
  - Keeps when the outage began, was detected and ended, what was tried, and who was told. An incident that is open is
    gone on with by the next run, and its beginning stays what it was.
  - Holds the host for the whole run by a lease. O(state=open) takes it, O(state=closed) frees it. Every module of the
    collection that is called with its O(run) keeps it for as long as the module works and renews it at the end. Where
    the run has died it is over O(lease) seconds after that. A second run is refused, or waits with O(wait).
  - A record that cannot be read is set aside, and one that cannot be written where it belongs (a full disk) is kept in
    memory until it can. Both are reported as warnings and never stand in the way.
  - Keeps the maintenance of the host, during which O(state=open) opens nothing and takes no lease.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is written and no lease is taken.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(state=open) and no O(run) every call is a run of its own. Renewing a lease is no change.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.incident_info
options:
  state:
    description:
      - V(open) opens an incident, or goes on with the open one, and takes the lease.
      - V(attempt) records what was tried and learnt and who was told, and renews the lease. When the incident is closed
        already, only O(told) can still be recorded, by one of its runs.
      - V(closed) records the rest and frees the lease. With O(outcome=not_recovered), O(outcome=data_in_doubt) or
        O(outcome=login_failed) the incident itself stays open, and the next run continues it.
      - V(closed) without O(run) is for a service that was found healthy. The incident that is still open, because a
        person mended it, is closed with RV(outcome) V(mended_by_hand), unless a run is at work on it. If a start by an
        earlier run or by systemd ended the outage, RV(outcome) says so, see O(serving_since).
      - V(mended) is V(closed) in two steps, for those who have to be told of the end. It names the run, which then has
        the lease; the incident is open until V(closed) with that O(run). A run that dies in between leaves the end to
        be told by the next one.
      - V(renewed) renews the lease of O(run) for O(lease) seconds and records nothing. It does not fail if another run
        has the lease by then, see RV(locked_by).
      - V(maintenance_begun) and V(maintenance_ended) set and remove the maintenance of the host. A run at work is not
        touched by it.
    type: str
    choices: [open, attempt, closed, mended, renewed, maintenance_begun, maintenance_ended]
    required: true
  state_dir:
    description: The folder that holds the records. It is made with mode V(0700) where it is missing.
    type: path
    default: /var/lib/itsm-runbook
  run:
    description: The run that calls. Without it O(state=open) names one and returns it; the other calls hand it on.
    type: str
    default: ""
  step:
    description: Where the run is, for those it keeps out. By default the rung it has begun, else the kind of call.
    type: str
    default: ""
  lease:
    description:
      - Seconds after which other runs may take over unless this one calls again, at most 3600.
      - What works on the host for longer under O(run) keeps it by itself. More is needed only where the controller is
        at work between two calls.
    type: float
    default: 60.0
  wait:
    description:
      - With O(state=open), seconds to wait for another run's lease to end.
      - When there was one (RV(waited)) and no incident is open after it, none is opened and no lease is taken, for that
        run may have ended the outage. Look at the service again, and call again where it is still down.
      - To wait without opening an incident, use M(itsm_nexus.runbook.incident_info).
    type: float
    default: 0.0
  window:
    description: Seconds back from now within which RV(restarts_in_window) counts.
    type: float
    default: 3600.0
  restart_limit:
    description: Starts within O(window) from which on RV(crash_loop) says that one more is no remedy.
    type: int
    default: 3
    version_added: 0.2.0
  opened:
    description:
      - With O(state=open), RV(itsm_nexus.runbook.health_probe#module:opened) of a probe that has opened it in its own
        round trip. It is what this task returns, or fails with, and the host is not asked. Empty, it is asked.
    type: dict
    default: {}
    version_added: 0.2.0
  maintenance_until:
    description:
      - When the maintenance ends, with its time zone, like V(2026-03-02T04:00:00Z) or V(2026-03-02 13:00+09:00). Then
        it is void by itself.
      - Required with O(state=maintenance_begun), where it may also be a time from now, like V(+2h) or V(+1d12h).
      - With O(state=open) it is a maintenance of this call alone, as an inventory may say it.
    type: str
    default: ""
    version_added: 0.2.0
  maintenance_reason:
    description: What the maintenance is for.
    type: str
    default: ""
    version_added: 0.2.0
  severity:
    description: How severe it is. For a host that cannot be reached, the record is kept on the controller.
    type: str
    choices: [warning, critical, emergency, unreachable]
  detected_at:
    description: When it was detected (UTC, like V(2026-03-02T01:02:03.456Z)). The first time recorded stays.
    type: str
  detected_by:
    description: What detected it.
    type: str
  signs:
    description: Instants that tell when the outage began.
    type: list
    elements: dict
    default: []
    suboptions:
      at:
        description: The instant.
        type: str
        required: true
      kind:
        description: Whether the service was well then.
        type: str
        required: true
        choices: [good, bad]
      source:
        description: What says so.
        type: str
        required: true
  attempts:
    description: What this run has tried. An attempt recorded before, by its rung and beginning, is replaced.
    type: list
    elements: dict
    default: []
    suboptions:
      rung:
        description: The rung of the ladder.
        type: str
        required: true
      started_at:
        description: When it began.
        type: str
        required: true
      held:
        description:
          - Whether it held; unset as long as it is under way, or if the host was lost before the service was looked at.
            O(attempts[].reason) tells the two apart.
        type: bool
      halted:
        description: Whether it stopped before it did anything, because going on would have done harm.
        type: bool
        default: false
      fell:
        description: Whether the service answered and fell again while it was watched.
        type: bool
        default: false
        version_added: 0.2.0
      serves:
        description: Whether the service answered afterwards and only the login check failed.
        type: bool
        default: false
        version_added: 0.2.0
      restored:
        description: Whether the rung failed and the service holds as it was before it.
        type: bool
        default: false
        version_added: 0.2.0
      reason:
        description: Why it did not hold.
        type: str
        default: ""
      seconds:
        description: How long it took.
        type: float
  cause:
    description: The cause found.
    type: str
  mitigated_at:
    description: When the service served again.
    type: str
  mitigated_from:
    description: The source of O(mitigated_at), a health probe by default.
    type: str
    version_added: 0.2.0
  serving_since:
    description:
      - With O(state=mended), and with O(state=closed) without O(run), when the process started that serves now.
      - If it started right after a start on record, that run ended the outage, RV(outcome) V(recovered). The outage
        ended with the first good answer on record or, if there is none, at the start of the process,
        RV(mitigated_estimated).
    type: str
    version_added: 0.2.0
  serving_restarts:
    description:
      - With O(serving_since), how often systemd has restarted the unit by itself since somebody last started it
        (C(NRestarts)). If it is more than 0, systemd ended the outage, RV(outcome) V(recovered_by_systemd).
    type: int
    version_added: 0.2.0
  said_at:
    description:
      - With O(serving_since), when the log of that process says that it serves. If nobody saw the first good answer,
        the outage ended there.
    type: str
    version_added: 0.2.0
  outcome:
    description: What it came to.
    type: str
    choices: [recovered, recovered_by_systemd, not_recovered, warning, data_in_doubt, login_failed]
  unit:
    description:
      - The service's unit under systemd, for O(state=open). If systemd is about to restart it by itself, the restart is
        cancelled, and a timer on the host starts the unit if this run dies. The closing call starts a unit that was
        taken over and not started since.
    type: str
    default: ""
    version_added: 0.2.0
  told:
    description: Who was told what and when, as role P(itsm_nexus.runbook.escalation#role) hands it on.
    type: list
    elements: dict
    default: []
    suboptions:
      level:
        description: The level of escalation.
        type: str
        required: true
      contact:
        description: Who.
        type: str
        required: true
      channel:
        description: By which way.
        type: str
        required: true
      at:
        description: When.
        type: str
        required: true
      ok:
        description: Whether it went out.
        type: bool
        default: true
      error:
        description: Why it did not.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Open the incident, or go on with the one that is open
  itsm_nexus.runbook.incident:
    state: open
    severity: critical
    detected_by: health_probe
    wait: 30
  register: incident

- name: Begin a step
  itsm_nexus.runbook.incident:
    state: attempt
    run: "{{ incident.run }}"
    attempts:
      - rung: standard_recovery
        started_at: "2026-03-02T01:03:10.000Z"

- name: Close it
  itsm_nexus.runbook.incident:
    state: closed
    run: "{{ incident.run }}"
    outcome: recovered
    mitigated_at: "2026-03-02T01:04:00.500Z"

- name: Close the incident that a person has mended
  itsm_nexus.runbook.incident:
    state: closed
  when: detection.healthy and detection.open_incident

- name: Let nothing act for two hours
  itsm_nexus.runbook.incident:
    state: maintenance_begun
    maintenance_until: +2h
    maintenance_reason: Release 4.2
"""

RETURN = r"""
id:
  description: The incident; V(null) where none is open.
  returned: always
  type: str
  sample: INC-20260302T010203Z-1f3a
run:
  description: The run, to be handed to the next call; V(null) where none was given or made.
  returned: always
  type: str
  sample: run-20260302T010203Z-5c0ffee1
continued:
  description: Whether the incident was opened by an earlier run and this one goes on with it.
  returned: always
  type: bool
opened_at:
  description: When the incident was opened.
  returned: always
  type: str
closed_at:
  description: When it was closed; V(null) as long as it is open.
  returned: always
  type: str
outage_started_at:
  description: The best single instant for the beginning of the outage, C(latest) of RV(outage_started).
  returned: always
  type: str
outage_started:
  description:
    - The range in which it began, C(earliest) (last good sign) to C(latest) (first bad sign), and the sources of both,
      C(earliest_source) and C(source).
  returned: always
  type: dict
outage_seconds:
  description: From RV(outage_started_at) to RV(mitigated_at); V(null) until that is known.
  returned: always
  type: float
lasted:
  description:
    - Seconds that the outage has lasted, by the clock of the host, up to now or to RV(mitigated_at). A clock that was
      set back meanwhile makes it no shorter.
  returned: always
  type: float
  version_added: 0.2.0
severity:
  description: As recorded last.
  returned: always
  type: str
detected_at:
  description: As recorded first.
  returned: always
  type: str
detected_by:
  description: As recorded first.
  returned: always
  type: str
answered_at:
  description:
    - The first good answer after a start, as M(itsm_nexus.runbook.health_probe) put it on record for its run before the
      service was watched; V(null) where it fell again.
  returned: always
  type: str
  version_added: 0.2.0
mitigated_at:
  description: When the service served again.
  returned: always
  type: str
mitigated_from:
  description: The source of RV(mitigated_at).
  returned: always
  type: str
  version_added: 0.2.0
mitigated_estimated:
  description: True if nobody saw the first good answer, so that RV(mitigated_at) is an estimate.
  returned: always
  type: bool
  version_added: 0.2.0
record_in_memory:
  description:
    - The folder in memory that has the record, because O(state_dir) cannot be written to. A reboot loses it. V(null) if
      the record is in O(state_dir), or was not written.
  returned: always
  type: str
  sample: null
  version_added: 0.2.0
cause:
  description: The cause.
  returned: always
  type: str
outcome:
  description: What it came to; V(mended_by_hand) where it ended without a run of ours.
  returned: always
  type: str
last_exit:
  description:
    - How the process ended before the unit was taken over from systemd, V(null) if it was not. C(result), C(code),
      C(status), C(pid), C(at), C(restarts).
  returned: always
  type: dict
  version_added: 0.2.0
takeover:
  description: What was taken over from systemd. C(unit), C(at), C(sub_state), C(timer). V(null) if nothing is.
  returned: always
  type: dict
  version_added: 0.2.0
data:
  description:
    - What is known of the data. C(state) is V(in_doubt), V(sound) or V(accepted). C(reasons), C(rows) (last good counts
      by table), C(checked_at). V(null) if nothing is known.
  returned: always
  type: dict
  version_added: 0.2.0
handed_back:
  description: Whether the unit was started because it had been taken over and was not started since.
  returned: if O(state=closed) and the unit was taken over
  type: bool
  version_added: 0.2.0
signs:
  description: All instants recorded.
  returned: always
  type: list
  elements: dict
attempts:
  description:
    - All attempts of all runs on this incident, as given, each with its C(run), whether a start of the service is on
      record within it (C(started)), and in a word its C(result), V(under way), V(held), V(did not hold), V(halted) or
        V(unknown).
  returned: always
  type: list
  elements: dict
starts:
  description: Every start of the service by a run on this incident, C(at) and C(run).
  returned: always
  type: list
  elements: dict
told:
  description: All that was told to anyone about this incident.
  returned: always
  type: list
  elements: dict
restarts_in_window:
  description: How often runs started the service within O(window), those on earlier incidents included.
  returned: always
  type: int
blind_restarts_left:
  description: How many more starts O(restart_limit) leaves within O(window); none where RV(crash_loop) says so.
  returned: always
  type: int
crash_loop:
  description:
    - Whether one more start is no remedy (C(looping)), because there were too many within C(window) (C(restarts), of
      C(limit)), or because the service fell again while it was watched after one (C(fell)).
  returned: always
  type: dict
  sample: {"looping": true, "restarts": 3, "fell": false, "limit": 3, "window": 3600.0}
waited:
  description: Seconds that it waited for another run; what was seen of the service before may not be true any more.
  returned: always
  type: float
  version_added: 0.2.0
maintenance:
  description:
    - The maintenance that is on, C(until), C(reason) and C(source) (V(variable), or the file it stands in); V(null)
      where there is none. While there is one, O(state=open) opens nothing, and RV(run) is V(null).
  returned: always
  type: dict
  sample: {"until": "2026-03-02T04:00:00.000Z", "reason": "Release 4.2", "source": "variable"}
locked_by:
  description:
    - The run that has the host, C(run), C(since), C(step), C(until), and C(pid) of a process of it that is at work,
      V(null) where none is. V(null) where no run has it.
  returned: always
  type: dict
taken_by:
  description: The run that has taken the lease from this one, as RV(locked_by). Nothing was recorded.
  returned: when this run has lost the lease
  type: dict
  version_added: 0.2.0
warnings:
  description:
    - Records that were damaged and set aside or could not be kept where they belong, and incidents that an earlier run
      had left unclosed.
  returned: when there are any
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record_update, repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

UPDATE = {
    "severity": {"type": "str", "choices": ["warning", "critical", "emergency", "unreachable"]},
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
            "seconds": {"type": "float"},
        },
    },
    "cause": {"type": "str"},
    "mitigated_at": {"type": "str"},
    "mitigated_from": {"type": "str"},
    "serving_since": {"type": "str"},
    "serving_restarts": {"type": "int"},
    "said_at": {"type": "str"},
    "outcome": {
        "type": "str",
        "choices": ["recovered", "recovered_by_systemd", "not_recovered", "warning", "data_in_doubt", "login_failed"],
    },
    "told": {
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
STATES = ["open", "attempt", "closed", "mended", "renewed", "maintenance_begun", "maintenance_ended"]


def _see_to_the_unit(module: AnsibleModule, result: dict) -> None:
    """Take the unit over from systemd when an incident is opened; give it back at the end if it was not started."""
    state, unit, state_dir = (module.params[name] for name in ("state", "unit", "state_dir"))
    if state == "open" and unit and result["run"]:
        taken = one_starter.take_over(unit=unit, state_dir=state_dir, run=result["run"], warn=module.warn)
        result["takeover"] = taken or result["takeover"]
    elif state == "closed" and result["takeover"]:
        result["handed_back"] = one_starter.hand_back(unit=result["takeover"]["unit"], state_dir=state_dir)


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
            **{name: params[name] for name in params if name not in (*UPDATE, "opened", "unit")},
        )
    except incident_store.IncidentError as error:
        module.fail_json(msg=sanitize.text(error), **sanitize.data(error.held()))
    for warning in result.pop("warnings"):
        module.warn(warning)
    if not module.check_mode:
        _see_to_the_unit(module, result)
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
