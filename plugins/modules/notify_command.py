#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_command
short_description: Tell somebody by a command of the controller
version_added: 0.2.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Runs a command on the controller, without a shell, the message as its input. What it prints is dropped; what counts
    is that it ends with 0. Its environment is that of the run, without E(ITSM_NEXUS_GITHUB_TOKEN) and E(GITHUB_TOKEN).
  - It runs in the controller's own process, whatever connection, interpreter or privilege escalation the inventory
    gives the host.
  - A message that is not taken is a result with RV(ok=false), not a failure. Give the task C(no_log=true), for its
    arguments are secrets; the result never holds one.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is sent.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every call tells again.
options:
  argv:
    description: The program and its arguments. They are seen by everybody on the controller, so no secret belongs here.
    type: list
    elements: str
    required: true
  stdin:
    description: What it reads.
    type: str
    default: ""
  timeout:
    description: Seconds after which an attempt has failed, whatever it waits for.
    type: float
    default: 10.0
  retries:
    description: How many more attempts there are where trying again may help.
    type: int
    default: 2
  retry_delay:
    description: Seconds between two attempts.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Ring the bell
  itsm_nexus.runbook.notify_command:
    argv:
      - /usr/local/bin/ring
      - --loud
    stdin: The service is down
"""

RETURN = r"""
ok:
  description: Whether the message was taken.
  returned: always
  type: bool
at:
  description: When the last attempt ended.
  returned: always
  type: str
  sample: "2026-03-02T01:02:03.456Z"
attempts:
  description: How many attempts there were.
  returned: always
  type: int
error:
  description: Why it was not taken, without anything secret; empty where it was.
  returned: always
  type: str
  sample: ended with 3
"""
