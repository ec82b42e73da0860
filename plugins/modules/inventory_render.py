#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_render
short_description: Compare a discovered service with the inventory, and write the host variables
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Compares the result of M(itsm_nexus.runbook.service_discovery_info) with the host variables in the inventory and
    with the role defaults.
  - Writes a YAML file with the variables that are missing from the inventory or have a different value in the
    inventory. A comment states the source of each value. If a value is unknown, a comment asks the reader to add the
    value.
  - The module changes an existing file only if O(update=true). In this case, the module changes the variables whose
    values differ from the values on the host, and adds the missing variables. All other lines and comments remain
    unchanged.
  - Runs on the controller.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  discovery:
    description: The result of M(itsm_nexus.runbook.service_discovery_info).
    type: dict
    required: true
  dest:
    description:
      - Path of the file to write, absolute or relative to the inventory folder. The folder of the file must exist.
      - If empty, the file is C(host_vars/<host>.yml) in the inventory folder. If the folder C(host_vars) does not
        exist, the module creates it. If the folder C(host_vars/<host>) exists, the file is C(discovered.yml) in that
        folder. If there is no inventory file, the module does not write a file.
    type: str
    default: ""
  update:
    description: Whether to change an existing file so that its variables match the host.
    type: bool
    default: false
  language:
    description: Language of the comments and of RV(screen).
    type: str
    choices: [en, ja]
    default: en
"""

EXAMPLES = r"""
- name: Find the service
  itsm_nexus.runbook.service_discovery_info:
  register: _discovery

- name: Write the host variables
  itsm_nexus.runbook.inventory_render:
    discovery: "{{ _discovery }}"
"""

RETURN = r"""
dest:
  description: Path of the file, or V(null) if there is no inventory file.
  returned: success
  type: str
  sample: /home/ops/inventories/mine/host_vars/itsm-prod-01.yml
written:
  description: True if the file was written.
  returned: success
  type: bool
  sample: true
text:
  description: The content of a new file. The content of an existing file is not returned.
  returned: success
  type: str
show_text:
  description:
    - True if the playbook must show RV(text) on the screen, because a person cannot read the file after the run.
    - This is the case if there is no inventory file, or if check mode prevents the module from writing a new file. It
      is also the case in an AWX job, because AWX deletes the file when the job ends.
  returned: success
  type: bool
  sample: false
differences:
  description: The variables that were missing from the inventory or had a different value in the inventory before the
    module wrote the file.
  returned: success
  type: list
  elements: dict
  contains:
    variable:
      description: The name of the variable.
      type: str
      sample: nexus_http_port
    inventory:
      description: The value in the inventory, or the default if the inventory does not set the variable.
      type: raw
      sample: 8080
    host:
      description: The value that was found on the host.
      type: raw
      sample: 8081
    source:
      description: The place on the host where the value was found.
      type: str
      sample: PORT in /etc/itsm/itsm.env
questions:
  description: Questions about values that neither the host nor the inventory provides.
  returned: success
  type: list
  elements: str
screen:
  description: The screen output, as a list of lines.
  returned: success
  type: list
  elements: str
"""
