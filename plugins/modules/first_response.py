#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: first_response
short_description: Save the evidence of a crash, start the service if it is safe to do so, and find the cause
version_added: 1.0.0
description:
  - Performs the same triage as M(itsm_nexus.runbook.triage_info). If the service process is gone, the triage has two
    steps.
  - In the first step, the module collects the facts that change when the service starts, and the facts that can rule
    out a start. The module saves these facts as evidence. If nothing rules out a start, the module starts the service.
  - In the second step, the module collects the other facts at low priority.
  - The module does not start the service if there is any doubt. For example, it does not start the service if the
    database check is incomplete, if the service is held, or if the incident already contains an attempt. It also does
    not start the service if a finding rules out a start or requires a remedy first.
  - The module does not start the service if O(run) or O(incident) is empty.
  - If the module does not start the service, it returns the same result as M(itsm_nexus.runbook.triage_info).
  - The module starts the service in the same way as M(itsm_nexus.runbook.node_process), and records the start in the
    incident.
  - After starting the service, the module waits at most O(part_timeout) seconds for the first healthy response. Use
    M(itsm_nexus.runbook.health_probe) to check whether the service is healthy.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
  - itsm_nexus.runbook.triage
attributes:
  check_mode:
    support: full
    details: The service is not started, and no evidence is saved.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: The module does not start the service if a service process exists, or if the incident contains an attempt.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  ports:
    description: See O(itsm_nexus.runbook.node_process#module:ports).
    type: list
    elements: int
    default: []
  stop_timeout:
    description: See O(itsm_nexus.runbook.node_process#module:stop_timeout).
    type: float
    default: 30.0
seealso:
  - module: itsm_nexus.runbook.triage_info
  - module: itsm_nexus.runbook.node_process
"""

EXAMPLES = r"""
- name: Start a service that has crashed, and find out why it crashed
  itsm_nexus.runbook.first_response:
    service:
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      unit: itsm-system
    ports: [6443, 8080]
    run: "{{ opened.run }}"
    incident: "{{ opened.id }}"
  register: triage
"""

RETURN = r"""
response:
  description:
    - C(started) is true if the module has started the service. Otherwise, C(why_not) is the reason, and C(messages)
      contains this reason as a translatable message. If C(started) is true, C(why_not) is V(null).
    - C(attempt) is the recorded attempt (C(rung), C(started_at)). C(process) is the result of the start, in the format
      of M(itsm_nexus.runbook.node_process). If the service was not started, C(attempt) and C(process) are V(null).
    - C(answered_at) is the time of the first healthy response, or V(null) if there was none.
    - The dictionary is empty if the service process still exists, if O(run) or O(incident) is empty, or in check mode.
  returned: success
  type: dict
findings:
  description: The findings, as in RV(itsm_nexus.runbook.triage_info#module:findings). The module also returns all other
    values of M(itsm_nexus.runbook.triage_info). The module collects the facts about the process, the unit, the ports,
    the logs and the database before it starts the service.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._response import respond
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import options as triage_options
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            **triage_options.ARGUMENTS,
            "ports": {"type": "list", "elements": "int", "default": []},
            "stop_timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = {**module.params, "service": service_process.settings(module.params)}
    lease = {name: params[name] for name in host_lease.ARGUMENTS}
    known = data_guard.known(params)
    guarded = bool(params["run"] and params["incident"]) and not module.check_mode

    def settle(result):
        data_guard.finish(params, result, known, guarded=guarded, warn=module.warn)

    first = respond.FirstResponse(
        service=service_process.Service(**params["service"], ports=params["ports"]),
        lease=lease,
        stop_timeout=params["stop_timeout"],
        settle=settle,
        warn=module.warn,
    )
    try:
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            result = triage_options.triage(
                params, known, check_mode=module.check_mode, resume=True, respond=first if guarded else None
            )
            settle(result)
            first.note_answer(result)
    except triage_run.TriageError as error:
        module.fail_json(msg=sanitize.text(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    response = result.setdefault("response", {})
    module.exit_json(changed=bool(response.get("started")), **sanitize.data(result))


if __name__ == "__main__":
    main()
