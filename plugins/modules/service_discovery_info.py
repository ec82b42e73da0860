#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_discovery_info
short_description: Find out how the service is deployed on this host
version_added: 1.0.0
description:
  - Reads the unit, its environment, the running process, its listening sockets and open files, and the application
    folder, in one round trip.
  - Proposes values for the variables of the P(itsm_nexus.runbook.nexus#role) role, each with its source. If no fact
    confirms a value, the module returns a question.
  - The service user could have chosen some of the paths that the module finds. The module proposes such a path only if
    the path is below the application folder, or if the service user has all permissions that a recovery requires for
    the path. Otherwise, the module returns a question with the path and the reason.
  - The module also works while the service is down. In this case, the values come from the unit, the environment and
    files.
  - Never returns the values of environment variables, except for C(NODE_ENV), C(ENABLE_HTTPS), and the ports and paths
    that the inventory requires. The module does not run application code, such as the knexfile.
  - If the service is running, the module sends at most two health requests to each of its ports, and at most four
    additional requests to one of these ports.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
options:
  unit:
    description:
      - Name of the systemd unit. If this option is empty or the host has no such unit, the module searches for a unit
        that runs a script named C(server.js) with Node.js. The module also searches for a unit with one of the names
        V(itsm-nexus-prod), V(itsm-sec-nexus-prod), V(itsm-system) and V(itsm-system-https).
      - If the module does not find a unit, it searches for a process that runs a script named C(server.js) with
        Node.js.
    type: str
    default: ""
  app_dir:
    description: Path of the application folder. The module uses this option only if it finds several units or no unit.
      If there is no unit and this folder exists, the module considers only processes in this folder.
    type: str
    default: ""
  environment_file:
    description: Path of the environment file that the inventory specifies. If the host has no such file, and no fact
      confirms that the service uses another file, the module returns a question.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Find the service
  itsm_nexus.runbook.service_discovery_info:
  register: _discovery

- name: Show the questions
  ansible.builtin.debug:
    msg: "{{ _discovery.questions | map(attribute='question') }}"
"""

RETURN = r"""
service:
  description: The service that was found.
  returned: success
  type: dict
  contains:
    manager:
      description: V(systemd) if the service has a unit, otherwise V(process).
      type: str
      sample: systemd
    unit:
      description: Name of the unit, or V(null) if there is no unit.
      type: str
      sample: itsm-nexus-prod
    running:
      description: True if the service is running.
      type: bool
      sample: true
    app_dir:
      description: Working directory of the service.
      type: str
      sample: /srv/itsm
variables:
  description:
    - Variables whose value is known, each with its C(value) and its C(source). C(messages) contains the source as a
      translatable message.
  returned: success
  type: list
  elements: dict
  sample:
    - variable: nexus_db_path
      value: backend/itsm_nexus.db
      source: open in the running process
      messages: {source: {id: discovery.source.open, values: {}}}
questions:
  description:
    - Questions that a person must answer. C(variable) is the variable that the person must set, or V("") if the
      question does not refer to a single variable. C(messages) contains the question as a translatable message.
  returned: success
  type: list
  elements: dict
  sample:
    - variable: nexus_tls_cert_path
      question: Which certificate does the service use? No variable in the service's environment contains the path
      messages: {question: {id: discovery.question.certificate, values: {}}}
information:
  description:
    - Other useful facts, for example proxies in front of the service and the unit's restart policy.
      C(messages) contains the text as a translatable message.
  returned: success
  type: list
  elements: dict
  sample:
    - text: Backups are in backend/backups/daily
      messages: {text: {id: discovery.information.backups, values: {folders: [backend/backups/daily]}}}
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  sample: {"msg": {"id": "reason.discovery.none", "values": {}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import discover as service_discovery
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.messages import DiscoveryError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "unit": {"type": "str", "default": ""},
            "app_dir": {"type": "str", "default": ""},
            "environment_file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    values = dict(module.params)
    run, state_dir = values.pop("run"), values.pop("state_dir")
    with host_lease.held(run=run, state_dir=state_dir, warn=module.warn, fail=module.fail_json):
        try:
            result = service_discovery.discover(**values)
        except DiscoveryError as error:
            module.fail_json(**failure(error))
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
