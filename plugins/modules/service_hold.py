#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_hold
short_description: Hold a service so that it is not started by accident, or release the hold
version_added: 1.0.0
description:
  - If systemd manages the service, a hold is a drop-in for the unit. While the hold exists, systemd refuses C(systemctl
    start), automatic restarts and starts at boot. C(systemctl status) shows the incident's ID. The hold survives a
    reboot.
  - If the service runs as a plain process, only this collection respects the hold, and the module shows a warning.
  - O(state=held) records in the open incident that the data is in doubt. The incident can be closed only after
    O(state=released) with O(statement=sound) or O(statement=accepted).
  - If the start guard (P(itsm_nexus.runbook.start_guard#role) role) is installed, O(state=released) makes the guard
    accept the current database files. If the start guard refuses to start the service, this counts as a hold with the
    cause V(start_guard).
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
  state:
    description: V(held) holds the service. V(released) releases the hold.
    type: str
    choices: [held, released]
    required: true
  manager:
    description: Whether the service is managed by systemd or runs as a plain process.
    type: str
    choices: [systemd, process]
    default: systemd
  unit:
    description: Name of the service's systemd unit.
    type: str
    required: true
  reason:
    description: Reason for the hold or the release. The module records this reason. While the service is held,
      C(systemctl cat) shows the reason.
    type: str
    required: true
  cause:
    description: Cause of the hold in one word, with O(state=held).
    type: str
    default: db_corrupt
  statement:
    description:
      - Reason why the data is no longer in doubt, with O(state=released).
      - V(sound) means that a check has found no damage in the database. V(accepted) means that a person accepts the
        current state of the database.
    type: str
    choices: [sound, accepted]
    default: sound
  rows:
    description: Number of rows in each table of the checked database. The module saves these numbers as the last good
      row counts.
    type: dict
    default: {}
  look:
    description:
      - The current result of M(itsm_nexus.runbook.sqlite_info). The module saves the row counts in this result as the
        last good row counts.
      - With O(statement=accepted), the person accepts the damage that this result reports. If a later check finds
        another kind of damage, the service is held again. If this option is not set, the person does not accept any
        damage.
    type: dict
    default: {}
seealso:
  - module: itsm_nexus.runbook.triage_info
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
"""

EXAMPLES = r"""
- name: Hold the service
  itsm_nexus.runbook.service_hold:
    state: held
    unit: itsm-system
    reason: The database is empty, but its WAL contains data

- name: Check the manually restored database
  itsm_nexus.runbook.sqlite_info:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
  register: look

- name: Release the hold
  itsm_nexus.runbook.service_hold:
    state: released
    unit: itsm-system
    reason: Restored manually, CHG-4711
    statement: accepted
    look: "{{ look }}"
"""

RETURN = r"""
hold:
  description:
    - The current hold, or V(null) if there is none. The keys are C(incident), C(cause), C(reason), C(unit), C(at), and
      C(enforced) (true if systemd refuses to start the service).
  returned: success
  type: dict
  sample: {"incident": "INC-20260302T010203Z-1f3a", "cause": "db_corrupt", "unit": "itsm-system", "enforced": true}
state:
  description: The requested state. In check mode, the state that the service would have after the changes.
  returned: success
  type: str
  sample: released
  version_added: 1.0.0
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.holding.not_held", "values": {"unit": "itsm", "why": ["/etc: Read-only file system"]}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as unit_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

_EMPTY_REASON = "reason is empty: it must state why the service is held or released"


def _set(module: AnsibleModule, service: dict) -> None:
    """Hold or release the service, depending on the state parameter. Raises HoldError."""
    params = module.params
    if params["state"] == "held":
        incident = (incident_store.current(params["state_dir"]) or {}).get("id") or ""
        about = {name: params[name] for name in ("run", "cause", "reason", "rows")}
        one_starter.hold(**service, **about, incident=incident, warn=module.warn)
        return
    about = {name: params[name] for name in ("run", "reason", "rows", "look")}
    one_starter.settle_doubt(**service, **about, state=params["statement"], warn=module.warn)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "state": {"type": "str", "required": True, "choices": ["held", "released"]},
            "manager": {"type": "str", "default": "systemd", "choices": ["systemd", "process"]},
            "unit": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
            "cause": {"type": "str", "default": "db_corrupt"},
            "statement": {"type": "str", "default": "sound", "choices": ["sound", "accepted"]},
            "rows": {"type": "dict", "default": {}},
            "look": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    if not params["reason"].strip():
        module.fail_json(msg=sanitize.text(_EMPTY_REASON))
    service = {name: params[name] for name in ("manager", "unit", "state_dir")}
    lease = {name: params[name] for name in host_lease.ARGUMENTS}
    try:
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            wanted = params["state"] == "held"
            before = one_starter.held(**service)
            if not wanted:
                before = before or one_starter.refused_by_guard(**service)
            changed = wanted != (before is not None)
            if not module.check_mode:
                _set(module, service)
            after = before if module.check_mode else one_starter.held(**service)
    except unit_hold.HoldError as error:
        module.fail_json(**failure(error))
    result = {"changed": changed, "hold": after, "state": params["state"]}
    if module._diff:
        result["diff"] = {"before": {"held": before is not None}, "after": {"held": wanted}}
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
