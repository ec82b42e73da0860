#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: process_stop
short_description: Stop processes that block the service, if they are part of the application or match the policy
version_added: 1.0.0
description:
  - Stops processes that listen on a service port or lock the database. The module identifies each process by its
    process ID and start time. If another process has since reused the process ID, the module does not stop that
    process.
  - The module stops a process only if the process is part of the application or matches a rule in O(policy).
  - A process is part of the application if M(itsm_nexus.runbook.node_process) recognizes it as part of the service. A
    process is also part of the application if it runs the executable from O(service.command), its working directory is
    O(service.app_dir), and it runs as O(service.user).
  - If a process has released the port or the lock in the meantime, the module does not stop the process.
  - The module never stops processes that systemd or the PID file identifies as the running service. It also never stops
    the ancestors of its own process, such as the SSH session of this run.
  - The module sends C(SIGTERM) to a process, and then C(SIGCONT), so that a suspended process can also exit. If the
    process has not exited after O(timeout), the module sends C(SIGKILL).
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
    support: full
options:
  processes:
    description: The processes to stop.
    type: list
    elements: dict
    required: true
    suboptions:
      pid:
        description: The process ID.
        type: int
        required: true
      start_ticks:
        description: Start time of the process, in clock ticks since boot (field 22 of C(/proc/PID/stat)).
        type: int
        required: true
      port:
        description: The TCP port on which the process listens. If not set, the module does not check the port.
        type: int
  db_path:
    description: Absolute path of the database that the processes lock. If empty, the module does not check the lock.
    type: path
  policy:
    description: Rules that identify processes of other applications that the module may stop.
    type: list
    elements: dict
    default: []
    suboptions:
      user:
        description: The user that the process runs as.
        type: str
        required: true
      command:
        description: A regular expression that must match the whole command line, with the arguments joined by single
          spaces.
        type: str
        required: true
      port:
        description: The TCP port on which the process listens. If not set, the rule applies to all ports.
        type: int
  ports:
    description: The TCP ports on which the service listens. V(0) is ignored.
    type: list
    elements: int
    default: []
  timeout:
    description: Maximum time to wait for a process to exit after C(SIGTERM), in seconds. After this time, the module
      sends C(SIGKILL).
    type: float
    default: 10.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.node_process
  - module: itsm_nexus.runbook.triage_info
"""

EXAMPLES = r"""
- name: Stop an old service process or an allowed proxy on the service's port
  itsm_nexus.runbook.process_stop:
    processes:
      - pid: 4711
        start_ticks: 1234567
        port: 6443
    policy:
      - user: www-data
        command: "nginx: worker process"
        port: 6443
    service:
      app_dir: /mnt/LinuxHDD/ITSM-System
      user: itsm
      command: [node, backend/server.js]
      unit: itsm-system
"""

RETURN = r"""
stopped:
  description:
    - The stopped processes. In check mode, the processes that the module would stop. C(signal) is the last signal sent
      (V(TERM) or V(KILL)), or V(null) in check mode. C(seconds) is the time that the process took to exit. C(command)
      is the program and the script, without further arguments.
  returned: success
  type: list
  elements: dict
  sample: [{"pid": 4711, "user": "itsm", "command": "node backend/server.js", "signal": "TERM", "seconds": 0.04}]
left:
  description:
    - The processes that the module did not stop, each with the C(reason). C(messages) contains C(reason) as a
      translatable message.
  returned: success
  type: list
  elements: dict
  sample:
    - pid: 812
      user: www-data
      command: /usr/sbin/nginx
      port: 6443
      reason: it does not belong to this application, and no policy lists it
      messages: {reason: {id: reason.stop.not_named, values: {}}}
gone:
  description: IDs of processes that had already exited.
  returned: success
  type: list
  elements: int
  sample: []
remaining:
  description: The processes that still listen on the ports or lock the database. C(port) is V(null) for a process that
    locks the database.
  returned: success
  type: list
  elements: dict
  sample: [{"pid": 812, "user": "www-data", "command": "/usr/sbin/nginx", "port": 6443}]
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.09
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
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process_stop

_PROCESS = {
    "pid": {"type": "int", "required": True},
    "start_ticks": {"type": "int", "required": True},
    "port": {"type": "int"},
}
_POLICY = {
    "user": {"type": "str", "required": True},
    "command": {"type": "str", "required": True},
    "port": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **service_process.arguments(),
            "processes": {"type": "list", "elements": "dict", "required": True, "options": _PROCESS},
            "db_path": {"type": "path"},
            "policy": {"type": "list", "elements": "dict", "default": [], "options": _POLICY},
            "ports": {"type": "list", "elements": "int", "default": []},
            "timeout": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = process_stop.stop(
                service_process.Service(**service_process.settings(params), ports=params["ports"]),
                processes=[process_stop.Wanted(**process) for process in params["processes"]],
                policies=[process_stop.Policy(**row) for row in params["policy"]],
                db_path=params["db_path"],
                timeout=params["timeout"],
                check_mode=module.check_mode,
            )
    except process_stop.ProcessStopError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
