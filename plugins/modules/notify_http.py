#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_http
short_description: Tell somebody by posting JSON
version_added: 0.2.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Posts a JSON document to a URL. Redirects are not followed, for they would take a secret URL elsewhere.
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
  url:
    description:
      - Where to post to, C(https://), or C(http://) on this machine.
      - The URL of a webhook is a secret. Of it the host alone is ever shown.
    type: str
    required: true
  body:
    description: What to post.
    type: dict
    required: true
  secret:
    description:
      - Signs the body as L(Standard Webhooks, https://www.standardwebhooks.com) lay down, with the headers
        C(webhook-id), C(webhook-timestamp) and C(webhook-signature).
      - Base64 after C(whsec_), or any other text.
    type: str
  message_id:
    description: The id of the message, the same for every attempt, by which the receiver knows one that comes twice.
    type: str
    default: ""
  method:
    description: How to send it.
    type: str
    choices: [POST, PUT]
    default: POST
  headers:
    description:
      - Further headers, each a text of one line. They are secrets, as an authorization is, and never shown.
      - A header of the signature is not replaced by one of these.
    type: dict
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
- name: Tell the monitoring
  itsm_nexus.runbook.notify_http:
    url: "{{ vault_monitoring_url }}"
    secret: "{{ vault_monitoring_secret }}"
    message_id: INC-20260302T010203Z-1f3a/long_outage
    body:
      event: raised
  no_log: true

- name: Tell a room of Matrix
  itsm_nexus.runbook.notify_http:
    # The room and an id of the message are parts of it.
    url: "{{ vault_matrix_url }}"
    method: PUT
    headers:
      Authorization: "Bearer {{ vault_matrix_token }}"
    body:
      msgtype: m.text
      body: The service is down.
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
  sample: answered 503 Service Unavailable
"""
