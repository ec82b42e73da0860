#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: notify_http
short_description: Send a notification by posting JSON to a URL
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Posts a JSON document to a URL. Redirects are not followed, because a redirect could disclose a secret URL to
    another server.
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
  url:
    description:
      - URL to which the module posts the document. The URL must begin with C(https://). C(http://) is allowed only if
        the host name in the URL is V(localhost), V(127.0.0.1) or V(::1).
      - A webhook URL is a secret. Therefore, the module shows only the host name in the URL.
    type: str
    required: true
  body:
    description: The JSON document to post.
    type: dict
    required: true
  secret:
    description:
      - The secret for signing the body, as specified by L(Standard Webhooks, https://www.standardwebhooks.com). The
        module sends the signature in the headers C(webhook-id), C(webhook-timestamp) and C(webhook-signature).
      - The secret can be C(whsec_) followed by a Base64 string, or any other text.
    type: str
  message_id:
    description: The ID of the message. All attempts send the same ID so that the receiver can recognize duplicates.
    type: str
    default: ""
  method:
    description: The HTTP method.
    type: str
    choices: [POST, PUT]
    default: POST
  headers:
    description:
      - Additional headers. Each value must be a single line of text. The module treats the values as secrets and never
        shows them.
      - These headers cannot replace the signature headers.
    type: dict
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
- name: Notify the monitoring system
  itsm_nexus.runbook.notify_http:
    url: "{{ vault_monitoring_url }}"
    secret: "{{ vault_monitoring_secret }}"
    message_id: INC-20260302T010203Z-1f3a/long_outage
    body:
      event: raised
  no_log: true

- name: Notify a Matrix room
  itsm_nexus.runbook.notify_http:
    # The URL contains the room id and the message id.
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
  sample: answered 503 Service Unavailable
"""
