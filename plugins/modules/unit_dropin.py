#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_dropin
short_description: Set a memory limit, a heap size or environment variables for the service's unit
version_added: 1.0.0
description:
  - Writes a drop-in for a systemd unit, reloads systemd, and checks that the settings apply to the unit. If another
    drop-in or the command in the unit overrides a setting, the module fails. The error message identifies this setting.
  - The module does not restart the service. The settings take effect at the next start of the service.
  - If O(until) is set, a timer removes the drop-in at this time. If the service is running at that time, the timer
    restarts the service, so that the previous settings apply again. The timer survives a reboot.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  unit:
    description: Name of the service's systemd unit.
    type: str
    required: true
  name:
    description: The purpose of the drop-in, in one word. This word becomes part of the file name.
    type: str
    required: true
  state:
    description: Whether the drop-in should exist.
    type: str
    choices: [present, absent]
    default: present
  memory_max:
    description: Memory limit of the unit (C(MemoryMax=)), in bytes. If V(0), the module keeps an existing value in the
      drop-in.
    type: int
    default: 0
  max_old_space_size:
    description:
      - Size of the old space in the V8 heap, in MiB. If V(0), the module keeps an existing value in the drop-in.
      - The drop-in sets this size in E(NODE_OPTIONS), together with the other options that the unit sets in this
        variable.
    type: int
    default: 0
  environment:
    description: Environment variables for the service. These variables override those of the unit. Do not use this
      option for secrets.
    type: dict
    default: {}
  until:
    description: UTC time when a timer removes the drop-in, such as V(2026-03-02T05:00:00Z). If empty, the drop-in is
      permanent.
    type: str
    default: ""
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.node_process
"""

EXAMPLES = r"""
- name: Limit the memory and the heap size of the service
  itsm_nexus.runbook.unit_dropin:
    unit: itsm-system
    name: memory
    memory_max: 1073741824
    max_old_space_size: 768

- name: Serve plain HTTP until 05:00 UTC
  itsm_nexus.runbook.unit_dropin:
    unit: itsm-system
    name: https
    environment:
      ENABLE_HTTPS: "false"
    until: "2026-03-02T05:00:00Z"
"""

RETURN = r"""
files:
  description: Paths of the drop-in, of the file with the environment variables (if there are any), and of the unit
    files of the timer (if O(until) is set). Empty if the drop-in is absent.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/itsm-system.service.d/90-itsm-nexus-memory.conf]
memory_max:
  description: The unit's C(MemoryMax) in bytes, or V(null) if there is no limit. In check mode, the current value.
  returned: success
  type: int
  sample: 1073741824
variables:
  description: The environment variables that the drop-in sets.
  returned: success
  type: dict
  sample: {NODE_OPTIONS: "--enable-source-maps --max-old-space-size=768"}
until:
  description: Time when a timer removes the drop-in, or V(null) if the drop-in is permanent.
  returned: success
  type: str
  sample: "2026-03-02T05:00:00.000Z"
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.4
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.dropin.not_written", "values": {"why": "Read-only file system"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import unit_dropin


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "unit": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "memory_max": {"type": "int", "default": 0},
            "max_old_space_size": {"type": "int", "default": 0},
            "environment": {"type": "dict", "default": {}},
            "until": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    dropin = unit_dropin.Dropin(
        unit=params["unit"],
        name=params["name"],
        memory_max=params["memory_max"],
        max_old_space_size=params["max_old_space_size"],
        environment={name: str(value) for name, value in params["environment"].items()},
        until=params["until"],
    )
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = unit_dropin.ensure(dropin, state=params["state"], check_mode=module.check_mode)
    except unit_dropin.UnitDropinError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
