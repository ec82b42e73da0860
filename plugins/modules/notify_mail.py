#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_mail
short_description: Tell somebody by mail
version_added: 0.2.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Sends a mail of plain text in UTF-8. With TLS the server's certificate and name are verified, which
    M(community.general.mail) does not do; line breaks do not get into the headers.
  - No password is sent over a connection that is not protected, unless the server is this machine.
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
  host:
    description: The mail server.
    type: str
    default: localhost
  port:
    description: Its port.
    type: int
    default: 25
  security:
    description: V(tls) from the first byte, V(starttls), which must be offered then, or V(none).
    type: str
    choices: [none, starttls, tls]
    default: starttls
  username:
    description: Who logs in; nobody where it is empty.
    type: str
    default: ""
  password:
    description: The password.
    type: str
    default: ""
  sender:
    description: From whom it is.
    type: str
    required: true
  to:
    description: Whom it is for.
    type: list
    elements: str
    required: true
  subject:
    description: The subject.
    type: str
    required: true
  text:
    description: The text.
    type: str
    required: true
  message_id:
    description: The id of the message, the same for every attempt.
    type: str
    required: true
  thread:
    description: What the mails of one matter have in common, so that mailboxes show them together.
    type: str
    required: true
  ca_path:
    description:
      - File or folder of the certificate authorities that are trusted, instead of those of the system. Certificates are
        always verified.
    type: path
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
- name: Tell the leader
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
  sample: refused all recipients (550)
"""
