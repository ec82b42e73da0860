#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: start_guard_info
short_description: Show a service's start guard, the starts that it refused, and how the service's processes ended
version_added: 1.0.0
description:
  - Reports whether the start guard and the restart recorder are installed, and whether the guard would allow the
    service to start now. Also lists the starts that the guard refused, and how the service's processes ended.
  - To install or remove the start guard and the restart recorder, use the P(itsm_nexus.runbook.start_guard#role) role.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
options:
  manager:
    description: Whether the service is managed by systemd or runs as a plain process. For a plain process, there is no
      start guard.
    type: str
    choices: [systemd, process]
    default: systemd
  unit:
    description: Name of the service's systemd unit.
    type: str
    required: true
  window:
    description: Length of the period that RV(ends) covers, in seconds. The period ends at the current time.
    type: float
    default: 86400.0
seealso:
  - module: itsm_nexus.runbook.service_hold
  - module: itsm_nexus.runbook.triage_info
"""

EXAMPLES = r"""
- name: Show the start guard
  itsm_nexus.runbook.start_guard_info:
    unit: itsm-system
  register: guard
"""

RETURN = r"""
installed:
  description: True if the start guard for this unit is installed.
  returned: success
  type: bool
allowed:
  description:
    - True if the guard would allow the service to start now, and false if not. V(null) if the result is unknown, or if
      systemd does not call the guard.
    - While the service is running, this value is not reliable, because the service keeps changing its files.
  returned: success
  type: bool
reason:
  description: Reason why the guard would not allow the service to start now, or V(null) if there is no such reason.
  returned: success
  type: str
  sample: /srv/itsm.db is missing, and its WAL has 3184792 bytes
milliseconds:
  description: Time that the guard took to decide, in milliseconds, excluding the startup time of Python.
  returned: success
  type: float
refusals:
  description:
    - The refused starts that no run has recorded in an incident yet, each with C(incident), C(first_at), C(at),
      C(times), C(code), C(reason) and C(evidence) (the folder with the evidence). The next run adds these refusals to
      its incident.
  returned: success
  type: list
  elements: dict
ends:
  description: How the service's processes ended, in the format of RV(itsm_nexus.runbook.health_probe#module:ends), or
    V(null).
  returned: success
  type: dict
text:
  description: A short summary of the result, in English.
  returned: success
  type: list
  elements: str
  sample: ["The start guard of itsm-system is installed and would allow a start."]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call, start_guard_report


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "manager": {"type": "str", "default": "systemd", "choices": ["systemd", "process"]},
            "unit": {"type": "str", "required": True},
            "window": {"type": "float", "default": 86400.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    lease = {name: params[name] for name in host_lease.ARGUMENTS}
    with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
        about = {name: params[name] for name in ("manager", "unit", "state_dir", "window")}
        result = start_guard_report.report(**about)
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
