#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_preflight_info
short_description: Check whether the service settings in the inventory are valid on this host
version_added: 0.1.0
description:
  - Checks whether the variables of the P(itsm_nexus.runbook.nexus#role) role match the host, in one round trip, before
    a playbook changes anything.
  - Each option and each suboption of O(service) has the name of the variable that it checks, without the prefix
    C(nexus_).
  - If a value is invalid, the module does not fail, but returns the problem in RV(problems). Therefore, the options
    accept values of any type.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.settings
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  state_dir:
    description: Absolute path of the state folder of this collection. The module must be able to write to this folder
      or to create it.
    type: str
"""

EXAMPLES = r"""
- name: Check the service settings in the inventory
  itsm_nexus.runbook.service_preflight_info:
    service:
      app_dir: "{{ nexus_app_dir }}"
      user: "{{ nexus_user }}"
      manager: "{{ nexus_manager }}"
      unit: "{{ nexus_unit }}"
      command: "{{ nexus_command }}"
      environment_file: "{{ nexus_environment_file }}"
      log_file: "{{ nexus_log_file }}"
      pid_file: "{{ nexus_pid_file }}"
    db_path: "{{ nexus_db_path }}"
    state_dir: "{{ nexus_state_dir }}"
    https_port: "{{ nexus_https_port }}"
    http_port: "{{ nexus_http_port }}"
  register: _preflight
"""

RETURN = r"""
ok:
  description: True if no value is invalid.
  returned: success
  type: bool
  sample: false
problems:
  description:
    - The invalid values, each with a C(message) that states the allowed values. C(messages) contains C(message) as a
      translatable message.
  returned: success
  type: list
  elements: dict
  sample:
    - variable: nexus_app_dir
      value: ITSM-System
      message: "nexus_app_dir is 'ITSM-System': must be an absolute path"
      messages:
        message:
          id: reason.setting.is
          values: {variable: nexus_app_dir, value: "'ITSM-System'", why: {id: reason.setting.absolute, values: {}}}
mismatches:
  description:
    - Settings whose value in the inventory differs from the value that the service uses (C(found)). An example is a
      database path that differs from the path in the environment variable O(db_path_variable).
  returned: success
  type: list
  elements: dict
  sample:
    - variable: nexus_db_path
      value: backend/itsm.db
      found: /srv/itsm/data/itsm.db
      message: the service uses another database, set by DATABASE_PATH in its environment
      messages: {message: {id: reason.setting.other_database, values: {name: DATABASE_PATH}}}
silent:
  description: The variables whose paths are on a disk that does not respond.
  returned: success
  type: list
  elements: str
  sample: [nexus_app_dir]
  version_added: 1.0.0
resolved:
  description: Values that the module found on the host.
  returned: success
  type: dict
  contains:
    node:
      description: C(path) and C(version) of Node.js, or V(null) if it is not found.
      type: dict
      sample: {"path": "/usr/bin/node", "version": "20.19.2"}
    database_path:
      description: The absolute path of the database that the service uses.
      type: str
      sample: /srv/itsm/data/itsm.db
    user:
      description: The user that the service runs as. If O(service.user) does not exist on the host, the user in the
        unit.
      type: str
      sample: itsm
      version_added: 1.0.0
    uid:
      description: User ID of the service user.
      type: int
      sample: 990
    gid:
      description: Group ID of the primary group of the service user.
      type: int
      sample: 990
    environment_names:
      description: The names of the variables that are set in the environment file and in the unit, without their
        values.
      type: list
      elements: str
      sample: [JWT_SECRET, NODE_ENV]
    state_dir_writable:
      description: True if the module can write to O(state_dir), or can create this folder.
      type: bool
      sample: true
      version_added: 1.0.0
    https_suspended:
      description: True if a drop-in from this collection has temporarily disabled HTTPS.
      type: bool
      sample: false
      version_added: 1.0.0
python:
  description: Tag of the host's Python version, as in the names of C(.pyc) files. The controller compiles cached
    modules for this version.
  returned: success
  type: str
  version_added: 1.0.0
  sample: cpython-313
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.lease.lost", "values": {"run": "run-1", "other": "run-2"}}}
"""

import sys

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight as service_preflight
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **preflight_findings.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    values = dict(module.params)
    run, service = values.pop("run"), values.pop("service")
    with host_lease.held(run=run, state_dir=values["state_dir"], warn=module.warn, fail=module.fail_json):
        result = service_preflight.examine(preflight_findings.Config(**service, **values))
    for warning in service_preflight.warnings(result, state_dir=values["state_dir"]):
        module.warn(sanitize.text(warning))
    module.exit_json(changed=False, python=sys.implementation.cache_tag, **sanitize.data(result))


if __name__ == "__main__":
    main()
