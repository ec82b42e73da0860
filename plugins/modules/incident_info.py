#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_info
short_description: Read the record of the open incident, optionally after waiting for another run
version_added: 1.0.0
description:
  - Returns the record of the open incident on this host, the run that is working on the host, and the maintenance
    window.
  - The module does not change the record. To change the record, use M(itsm_nexus.runbook.incident).
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
options:
  wait:
    description:
      - Maximum time to wait for the lease of another run to end, in seconds. The module reads the record after the
        wait. The module does not acquire the lease.
      - If another run is still working on the host after this time, RV(locked_by) describes that run.
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
seealso:
  - module: itsm_nexus.runbook.incident
"""

EXAMPLES = r"""
- name: Read the record of the open incident
  itsm_nexus.runbook.incident_info:
  register: incident

- name: Wait up to five minutes for another run on this host
  itsm_nexus.runbook.incident_info:
    wait: 300
  register: incident
"""

RETURN = r"""
id:
  description: ID of the open incident, or V(null) if no incident is open.
  returned: always
  type: str
  sample: INC-20260302T010203Z-1f3a
run:
  description: The value of O(run), or V(null) if O(run) is not given.
  returned: always
  type: str
  sample: null
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
mitigated_at:
  description: Time when the service began to serve requests again.
  returned: always
  type: str
mitigated_from:
  description: The source of RV(mitigated_at).
  returned: always
  type: str
mitigated_estimated:
  description: True if RV(mitigated_at) is an estimate, because no probe received the first healthy response.
  returned: always
  type: bool
record_in_memory:
  description:
    - The in-memory folder that contains the record if the module cannot write to O(state_dir). A reboot deletes this
      folder. V(null) if the record is in O(state_dir) or was not written.
  returned: always
  type: str
  sample: null
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
  description: The outcome of the last run for the incident, or V(null) if no run has recorded an outcome.
  returned: always
  type: str
last_exit:
  description:
    - Details of the last exit of the service process before a run took over the unit from systemd. V(null) if there was
      no takeover. The keys are C(result), C(code), C(status), C(pid), C(at) and C(restarts).
  returned: always
  type: dict
takeover:
  description: Details of the takeover of the unit from systemd, or V(null) if there was no takeover. The keys are
    C(unit), C(at), C(sub_state) and C(timer).
  returned: always
  type: dict
data:
  description:
    - The state of the service's data, or V(null) if nothing is known.
    - The keys are the same as in RV(itsm_nexus.runbook.incident#module:data).
  returned: always
  type: dict
signs:
  description: All recorded observations that show when the outage began.
  returned: always
  type: list
  elements: dict
attempts:
  description:
    - All attempts by all runs for this incident, in the format of O(itsm_nexus.runbook.incident#module:attempts). Each
      attempt also contains C(run), C(started) and C(result). C(started) is true if the service was started during the
      attempt. C(result) is V(under way), V(succeeded), V(failed), V(halted) or V(unknown).
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
  description: Time in seconds that the module waited for another run. If this time is not 0, the results of earlier
    service checks may be outdated.
  returned: always
  type: float
maintenance:
  description:
    - The current maintenance window, or V(null) if there is none. The keys are C(until), C(reason) and C(source) (the
      path of the file that defines the window).
  returned: always
  type: dict
  sample: {"until": "2026-03-02T04:00:00.000Z", "reason": "Release 4.2", "source": "maintenance.json"}
locked_by:
  description:
    - The run that holds the lease, or V(null) if no run holds it. The keys are C(run), C(since), C(step), C(until) and
      C(pid). C(pid) is the process ID of the module that this run is currently executing, or V(null) if no module is
      running.
  returned: always
  type: dict
warnings:
  description: Warnings about records that the module could not read.
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
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "wait": {"type": "float", "default": 0.0},
            "window": {"type": "float", "default": 3600.0},
            "restart_limit": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    asked = {name: value for name, value in module.params.items() if name not in ("run", "call")}
    run = module.params["run"]
    try:
        with host_lease.held(run=run, state_dir=asked["state_dir"], warn=module.warn, fail=module.fail_json):
            result = incident_record.look(run=run, check_mode=module.check_mode, **asked)
    except incident_store.IncidentError as error:
        module.fail_json(**failure(error), **sanitize.data(error.held()))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
