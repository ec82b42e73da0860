#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_process
short_description: Start, stop or restart the service, either with systemd or as a plain process
version_added: 0.1.0
description:
  - Starts, stops or restarts the service with systemd or as a plain process. After a start, the module returns as soon
    as the unit or the process is running. Use M(itsm_nexus.runbook.health_probe) to check whether the service answers.
  - Sends signals only to processes that are verified to be part of the service. If a process is suspended (C(SIGSTOP)),
    the module resumes the process so that it can exit.
  - A process is part of the service only if it runs the executable from O(service.command) and its working directory is
    O(service.app_dir). The process must also meet at least one of the following three conditions.
  - >-
    Condition 1: O(service.pid_file) contains the process ID and the start time of the process.
  - >-
    Condition 2: The process runs as O(service.user) and has exactly the arguments from O(service.command).
  - >-
    Condition 3: The process listens on one of O(ports) and has exactly the arguments from O(service.command).
  - The module also stops service processes that a person started manually, outside the unit. The module stops these
    processes before it starts or restarts the unit, and after it stops the unit.
  - The module does not stop other processes that listen on one of O(ports), but lists these processes in RV(foreign).
    If RV(foreign) is not empty, the module does not start the service.
  - If O(run) is set, the module records each start of the service in the incident. M(itsm_nexus.runbook.incident)
    counts these starts.
  - With O(service.manager=process), the module starts the service as a daemon that appends its output to
    O(service.log_file). The daemon's environment contains the default E(PATH), E(HOME) and E(LANG), and the variables
    from O(service.environment_file).
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.service
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(state=restarted), every call restarts the service.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  state:
    description: State that the service has when the module returns.
    type: str
    required: true
    choices: [started, stopped, restarted]
  ports:
    description: The TCP ports on which the service listens. V(0) is ignored.
    type: list
    elements: int
    default: []
  db_path:
    description:
      - Path of the service's SQLite database, absolute or relative to O(service.app_dir).
      - The module does not start the service if the C(-wal) file of a missing or empty database contains data. Starting
        the service would delete the C(-wal) file.
    type: str
    default: ""
  stop_timeout:
    description:
      - Time in seconds between C(SIGTERM) and C(SIGKILL) for a process that does not exit.
      - For the main process of a unit, the unit's own C(TimeoutStopSec) applies instead.
    type: float
    default: 30.0
  attempts:
    description:
      - The finished and current attempts of O(run), in the format of O(itsm_nexus.runbook.incident#module:attempts).
        The module records these attempts in the incident before it changes anything.
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
  signs:
    description: Observations that show when the service was healthy or had failed, in the format of
      O(itsm_nexus.runbook.incident#module:signs). The module records these observations together with O(attempts).
    type: list
    elements: dict
    default: []
    version_added: 1.0.0
seealso:
  - module: itsm_nexus.runbook.health_probe
  - module: itsm_nexus.runbook.incident
"""

EXAMPLES = r"""
- name: Restart the unit
  itsm_nexus.runbook.node_process:
    state: restarted
    service:
      manager: systemd
      unit: itsm-system
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
    ports: [6443, 8080]

- name: Start the service without a unit
  itsm_nexus.runbook.node_process:
    state: started
    service:
      manager: process
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      environment_file: /etc/itsm/itsm.env
      log_file: /var/log/itsm/server.log
      pid_file: /var/lib/itsm-runbook/itsm-system.pid
    ports: [6443, 8080]
"""

RETURN = r"""
state:
  description: State that the service has when the module returns. In check mode, the state that the service would have
    after the changes.
  returned: success
  type: str
  sample: started
pids_before:
  description: Process IDs of the service before the module ran.
  returned: success
  type: list
  elements: int
  sample: [812]
pids_after:
  description: Process IDs of the service when the module returns. In check mode, the list is empty if the module would
    change anything.
  returned: success
  type: list
  elements: int
  sample: [9034]
stopped:
  description:
    - The stopped processes. C(signal) is the last signal sent (V(TERM) or V(KILL)), or V(systemd) for the main process
      of a unit. C(seconds) is the time that the process took to exit.
  returned: success
  type: list
  elements: dict
  sample: [{"pid": 812, "signal": "TERM", "seconds": 0.041}]
foreign:
  description:
    - Other processes that listen on the service's ports. C(command) is the program and the script, without further
      arguments. C(pid) is V(null) if the module's user is not allowed to see the process.
  returned: success
  type: list
  elements: dict
  sample: [{"pid": 4711, "port": 8080, "command": "/usr/sbin/nginx", "user": "www-data"}]
started_at:
  description: Start time of the service, or V(null) if the service is not running.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.450Z"
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.312
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.process.not_stopped", "values": {"pids": "812", "seconds": "5"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import recorded_start


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(starts=True),
            "state": {"type": "str", "required": True, "choices": ["started", "stopped", "restarted"]},
            "ports": {"type": "list", "elements": "int", "default": []},
            "db_path": {"type": "str", "default": ""},
            "stop_timeout": {"type": "float", "default": 30.0},
            "attempts": {"type": "list", "elements": "dict", "default": []},
            "signs": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    begun = repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    lease = {name: params[name] for name in host_lease.ARGUMENTS}
    service = service_process.Service(
        **service_process.settings(params), ports=params["ports"], db_path=params["db_path"]
    )
    try:
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            result = recorded_start.ensure(
                service,
                lease=lease,
                warn=module.warn,
                since=begun,
                check_mode=module.check_mode,
                **{name: params[name] for name in ("state", "stop_timeout", "attempts", "signs")},
            )
    except service_process.NodeProcessError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
