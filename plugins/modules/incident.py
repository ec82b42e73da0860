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
  - Holds the lock of the host for the whole run as a lease in the record. O(state=open) takes it, every call with the
    O(run) that has it renews it for O(lease) seconds, O(state=closed) frees it, and so does time where the run has
    died. A second run is refused, or waits with O(wait).
  - A record that cannot be read is set aside and reported as a warning; it never stands in the way.
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
options:
  state:
    description:
      - V(open) opens an incident, or goes on with the open one, and takes the lease.
      - V(attempt) records what was tried and learnt, and renews the lease.
      - V(closed) records the rest and frees the lease. With O(outcome=not_recovered) the incident itself stays open,
        for the outage goes on, and the next run goes on with it.
      - V(present) looks, and with O(run) renews the lease.
    type: str
    choices: [open, attempt, closed, present]
    default: present
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
      - A step that takes longer announces it here.
    type: float
    default: 60.0
  wait:
    description: With O(state=open), seconds to wait for another run's lease to end.
    type: float
    default: 0.0
  window:
    description: Seconds back from now within which RV(restarts_in_window) counts.
    type: float
    default: 3600.0
  severity:
    description: How severe it is.
    type: str
    choices: [warning, critical, emergency]
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
        description: Whether it held; unset as long as it is under way.
        type: bool
      halted:
        description: Whether it stopped before it did anything, because going on would have done harm.
        type: bool
        default: false
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
  outcome:
    description: What it came to.
    type: str
    choices: [recovered, not_recovered, warning]
  told:
    description: Who was told what and when, as dictionaries.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Open the incident, or go on with the one that is open
  itsm_nexus.runbook.incident:
    state: open
    severity: critical
    detected_by: health_probe
    wait: 30
  register: incident

- name: Announce a long step
  itsm_nexus.runbook.incident:
    state: attempt
    run: "{{ incident.run }}"
    lease: 660
    attempts:
      - rung: standard_recovery
        started_at: "2026-03-02T01:03:10.000Z"

- name: Close it
  itsm_nexus.runbook.incident:
    state: closed
    run: "{{ incident.run }}"
    outcome: recovered
    mitigated_at: "2026-03-02T01:04:00.500Z"
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
  description: The range in which it began, C(earliest) to C(latest), and the C(source) of the latter.
  returned: always
  type: dict
outage_seconds:
  description: From RV(outage_started_at) to RV(mitigated_at); V(null) until that is known.
  returned: always
  type: float
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
mitigated_at:
  description: When the service served again.
  returned: always
  type: str
cause:
  description: The cause.
  returned: always
  type: str
outcome:
  description: What it came to.
  returned: always
  type: str
signs:
  description: All instants recorded.
  returned: always
  type: list
  elements: dict
attempts:
  description: All attempts of all runs on this incident, each with its C(run).
  returned: always
  type: list
  elements: dict
told:
  description: All that was told to anyone about this incident.
  returned: always
  type: list
  elements: dict
restarts_in_window:
  description: Attempts that restarted the service within O(window), those of earlier incidents included.
  returned: always
  type: int
locked_by:
  description: The run that has the lease (C(run), C(since), C(step), C(until)); V(null) where none has.
  returned: always
  type: dict
warnings:
  description: Records that were damaged and set aside, and incidents that an earlier run had left unclosed.
  returned: when there are any
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _incident

UPDATE = {
    "severity": {"type": "str", "choices": ["warning", "critical", "emergency"]},
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
            "reason": {"type": "str", "default": ""},
            "seconds": {"type": "float"},
        },
    },
    "cause": {"type": "str"},
    "mitigated_at": {"type": "str"},
    "outcome": {"type": "str", "choices": ["recovered", "not_recovered", "warning"]},
    "told": {"type": "list", "elements": "dict", "default": []},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **UPDATE,
            "state": {"type": "str", "default": "present", "choices": ["open", "attempt", "closed", "present"]},
            "state_dir": {"type": "path", "default": "/var/lib/itsm-runbook"},
            "run": {"type": "str", "default": ""},
            "step": {"type": "str", "default": ""},
            "lease": {"type": "float", "default": 60.0},
            "wait": {"type": "float", "default": 0.0},
            "window": {"type": "float", "default": 3600.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = _incident.call(
            update=_incident.Update(**{name: params[name] for name in UPDATE}),
            check_mode=module.check_mode,
            **{name: params[name] for name in params if name not in UPDATE},
        )
    except _incident.IncidentError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
