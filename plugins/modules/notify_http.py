#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_http
short_description: Send a notification by posting JSON
version_added: 0.2.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Posts a JSON document to a URL. Redirects are not followed, because they would send a secret URL to another server.
  - It runs in the controller's own process, independent of the connection, interpreter and privilege escalation that
    the inventory sets for the host.
  - If the message is not accepted, the result is RV(ok=false), not a failure. Give the task C(no_log=true), because its
    arguments are secrets. The result never contains one.
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
    details: Every call notifies again.
options:
  url:
    description:
      - The URL to post to, C(https://), or C(http://) on this machine.
      - The URL of a webhook is a secret. Only its host is shown.
    type: str
    required: true
  body:
    description: The document to post.
    type: dict
    required: true
  secret:
    description:
      - Signs the body by L(Standard Webhooks, https://www.standardwebhooks.com), with the headers C(webhook-id),
        C(webhook-timestamp) and C(webhook-signature).
      - Base64 after C(whsec_), or any other text.
    type: str
  message_id:
    description: The id of the message, the same for every attempt. By it the receiver recognizes a duplicate.
    type: str
    default: ""
  method:
    description: The HTTP method.
    type: str
    choices: [POST, PUT]
    default: POST
  headers:
    description:
      - Further headers, each a text of one line. They are treated as secrets and never shown.
      - They cannot replace a header of the signature.
    type: dict
  ca_path:
    description:
      - File or folder of the certificate authorities to trust, instead of those of the system. Certificates are always
        verified.
    type: path
  timeout:
    description: Time limit of an attempt, in seconds.
    type: float
    default: 10.0
  retries:
    description: Maximum number of retries after a temporary error.
    type: int
    default: 2
  retry_delay:
    description: Interval between two attempts, in seconds.
    type: float
    default: 3.0
"""

EXAMPLES = r"""
- name: Notify the monitoring system
  itsm_nexus.runbook.notify_http:
    url: "{{ vault_monitoring_url }}"
    secret: "{{ vault_monitoring_secret }}"
    message_id: INC-20260302T010203Z-1f3a/long_outage
    body:
      event: raised
  no_log: true

- name: Notify a room of Matrix
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
  description: True if the message was accepted.
  returned: always
  type: bool
at:
  description: When the last attempt ended.
  returned: always
  type: str
  sample: "2026-03-02T01:02:03.456Z"
attempts:
  description: Number of attempts.
  returned: always
  type: int
error:
  description: Why it was not accepted, without secrets. Empty if it was accepted.
  returned: always
  type: str
  sample: answered 503 Service Unavailable
"""
