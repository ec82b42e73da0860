#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_command
short_description: Send a notification by running a command on the controller
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Runs a command on the controller, without a shell, and passes the message to the standard input of the command. The
    module discards the output of the command. Exit code 0 means success.
  - The command inherits the environment of ansible-playbook, except for E(ITSM_NEXUS_GITHUB_TOKEN) and E(GITHUB_TOKEN).
  - The module runs on the controller, in the ansible-playbook process. The module ignores the connection, interpreter
    and privilege escalation settings of the host in the inventory.
  - If the message is not accepted, the module does not fail, but returns RV(ok=false). Set C(no_log=true) for the task
    if O(stdin) is confidential. The result never contains secrets.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
    details: No message is sent.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every call sends the notification again.
options:
  argv:
    description:
      - The program and its arguments, as a list. The arguments must not contain secrets, because every user on the
        controller can see the arguments.
    type: list
    elements: str
    required: true
  stdin:
    description: Text to pass to the standard input of the command.
    type: str
    default: ""
  timeout:
    description: Time limit for each attempt, in seconds.
    type: float
    default: 10.0
  retries:
    description: Maximum number of retries after a temporary error.
    type: int
    default: 2
  retry_delay:
    description: Time between two attempts, in seconds.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Send a notification with an alarm program
  itsm_nexus.runbook.notify_command:
    argv:
      - /usr/local/bin/ring
      - --loud
    stdin: The service is down
"""

RETURN = r"""
ok:
  description: True if the message was accepted.
  returned: always
  type: bool
at:
  description: Time when the last attempt ended.
  returned: always
  type: str
  sample: "2026-03-02T01:02:03.456Z"
attempts:
  description: Number of attempts.
  returned: always
  type: int
error:
  description: Reason why the message was not accepted. Empty if the message was accepted. The reason never contains
    secrets.
  returned: always
  type: str
  sample: exited with code 3
"""
