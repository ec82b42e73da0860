#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_mail
short_description: Send a notification by email
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Sends a plain-text email in UTF-8. Unlike M(community.general.mail), the module verifies the server's certificate
    and host name if TLS is used. Line breaks are removed from the headers.
  - The password is sent only over TLS, unless O(host) is V(localhost) or a loopback address.
  - The module runs on the controller, in the ansible-playbook process. The module ignores the connection, interpreter
    and privilege escalation settings of the host in the inventory.
  - If the message is not accepted, the module does not fail, but returns RV(ok=false). Set C(no_log=true) for the task,
    because the task arguments contain secrets. The result never contains secrets.
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
  host:
    description: Host name or IP address of the mail server.
    type: str
    default: localhost
  port:
    description: Port of the mail server.
    type: int
    default: 25
  security:
    description: V(tls) uses TLS from the start of the connection. V(starttls) upgrades the connection to TLS. If the
      server does not support the upgrade, the email is not sent. V(none) does not encrypt the connection.
    type: str
    choices: [none, starttls, tls]
    default: starttls
  username:
    description: The account to log in with. If empty, the module does not log in.
    type: str
    default: ""
  password:
    description: Password of the account.
    type: str
    default: ""
  sender:
    description: The sender's address.
    type: str
    required: true
  to:
    description: The recipients' addresses.
    type: list
    elements: str
    required: true
  subject:
    description: Subject of the email.
    type: str
    required: true
  text:
    description: Text of the email.
    type: str
    required: true
  message_id:
    description: The ID of the message. All attempts send the same ID.
    type: str
    required: true
  thread:
    description: ID that all emails about one incident have in common. Mail programs use this ID to group these emails.
    type: str
    required: true
  ca_path:
    description:
      - Path of a file or folder with the CA certificates to trust instead of the CA certificates of the system.
        Certificates are always verified.
    type: path
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
- name: Notify the project leader by email
  itsm_nexus.runbook.notify_mail:
    host: smtp.example.com
    port: 587
    username: runbook
    password: "{{ vault_smtp_password }}"
    sender: runbook@example.com
    to:
      - leader@example.com
    subject: The service is down
    text: Since 01:02.
    message_id: INC-20260302T010203Z-1f3a/not_recovered
    thread: INC-20260302T010203Z-1f3a
  no_log: true
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
  sample: refused all recipients (550)
"""
