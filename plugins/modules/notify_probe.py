#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_probe
short_description: Check whether the contact channels can be reached, without sending a message
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Checks all channels at the same time. For a mail channel, the module connects to the mail server and logs in. For a
    channel with a URL, the module connects to the server or to the proxy and verifies the certificate. For a command
    channel, the module checks whether the program exists.
  - Runs on the controller. The module does not fail if a channel cannot be reached.
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
  contacts:
    description: The contacts, as in O(itsm_nexus.runbook.escalation#role:main:escalation_contacts).
    type: dict
    required: true
  smtp_host:
    description: Host name or IP address of the mail server.
    type: str
    default: localhost
  smtp_port:
    description: The port of the mail server.
    type: int
    default: 25
  smtp_security:
    description: How the connection to the mail server is encrypted. See
      O(itsm_nexus.runbook.notify_mail#module:security).
    type: str
    choices: [none, starttls, tls]
    default: none
  smtp_username:
    description: User name for the mail server. If empty, the module does not log in.
    type: str
    default: ""
  smtp_password:
    description: Password for the mail server.
    type: str
    default: ""
  ca_path:
    description: Path of a file or folder with the CA certificates to trust. Defaults to the CA certificates of the
      system.
    type: path
  timeout:
    description: Time limit for each channel, in seconds.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: Check whether the contact channels can be reached
  itsm_nexus.runbook.notify_probe:
    contacts: "{{ escalation_contacts }}"
  delegate_to: localhost
  no_log: true
  register: _reached
"""

RETURN = r"""
contacts:
  description: The keys of all contacts.
  returned: success
  type: list
  elements: str
  sample: [project_leader, dba, everyone]
channels:
  description: The results for all channels of all contacts.
  returned: success
  type: list
  elements: dict
  contains:
    contact:
      description: Key of the contact.
      type: str
      sample: project_leader
    name:
      description: Name of the contact.
      type: str
      sample: project leader
    channel:
      description: Name of the channel, without secrets.
      type: str
      sample: slack hooks.slack.com
    type:
      description: Type of the channel.
      type: str
      sample: webhook
    error:
      description: Reason why the channel cannot be reached, or an empty string.
      type: str
      sample: "cannot be reached: Connection refused"
    checked:
      description: False if the module does not know the channel type.
      type: bool
      sample: true
without_channel:
  description: The names of the contacts that have no channel.
  returned: success
  type: list
  elements: str
  sample: [DBA]
"""
