#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alarm_wait
short_description: Wait on the controller for an alarm
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Waits for an HTTP POST request on a Unix socket. The playbook C(outage_armed.yml) uses this module so that Ansible
    is already running when the alarm arrives.
  - Responds with status 202 only if the run is still active. If the sender receives another status or no response, the
    sender must start a recovery itself.
  - Runs on the controller.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: The module makes no changes.
  idempotent:
    support: full
options:
  path:
    description:
      - Absolute path of the socket. The module creates the folder of the socket if needed, and removes the socket
        before it returns.
      - The user who runs Ansible must own this folder, and no other user may have write permission for the folder.
    type: path
    required: true
  timeout:
    description: Maximum time to wait for the alarm, in seconds.
    type: float
    default: 900
"""

EXAMPLES = r"""
- name: Wait for an alarm
  itsm_nexus.runbook.alarm_wait:
    path: "{{ lookup('ansible.builtin.env', 'HOME') }}/.cache/itsm-nexus-runbook/alarms/itsm-prod-01"
  delegate_to: localhost
  register: _alarm
"""

RETURN = r"""
alarmed:
  description: True if an alarm arrived within O(timeout), otherwise false.
  returned: success
  type: bool
  sample: true
waited:
  description: Time that the module waited, in seconds.
  returned: success
  type: float
  sample: 512.3
"""
