# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the endpoint and login options, shared by the modules that send requests to the service."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of probe_plan.ARGUMENTS."""

    DOCUMENTATION = r"""
options:
  endpoints:
    description: The endpoints of the service. The service is healthy if every required endpoint is healthy.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: A short name that identifies the endpoint in messages and results.
        type: str
        required: true
      url:
        description: The URL to probe. It must begin with V(http://) or V(https://) and must not contain a user name or
          a password.
        type: str
        required: true
      required:
        description: If true, a failed probe of this endpoint makes the service unhealthy.
        type: bool
        default: true
      validate_certs:
        description: If true, the probe fails if the certificate is untrusted or expired, or was issued for another
          name.
        type: bool
        default: false
      ca_path:
        description: File with the certificates to trust. If empty, the host's trusted certificates are used.
        type: path
        default: ""
  ok_statuses:
    description: Values of C(status) that mean healthy (case-insensitive).
    type: list
    elements: str
    default: [ok]
  login:
    description:
      - A login that the module tries once, after all endpoints are healthy. The response body is discarded.
      - The password is sent only to a loopback address, or over HTTPS with O(login.validate_certs=true).
    type: dict
    suboptions:
      url:
        description: The URL to which a JSON object with C(username) and C(password) is posted.
        type: str
        required: true
      username:
        description: The account to log in with.
        type: str
        required: true
      password:
        description: Password of the account.
        type: str
        required: true
      validate_certs:
        description: See O(endpoints[].validate_certs).
        type: bool
        default: false
      ca_path:
        description: See O(endpoints[].ca_path).
        type: path
        default: ""
"""
