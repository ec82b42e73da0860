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
        description: Whether this endpoint must be healthy for the service to be healthy.
        type: bool
        default: true
      validate_certs:
        description: Whether to verify the TLS certificate. If V(true), the probe fails if the certificate is untrusted,
          expired, or issued for another name.
        type: bool
        default: false
      ca_path:
        description: Path of a file with the CA certificates to trust. If empty, the module uses the CA certificates
          that the host trusts.
        type: path
        default: ""
  ok_statuses:
    description: Values of C(status) that mean healthy (case-insensitive).
    type: list
    elements: str
    default: [ok]
  login:
    description:
      - Settings for the login check. The module tries to log in once, after all endpoints are healthy. The module
        discards the response body.
      - The module sends the password only to a loopback address, or over HTTPS with O(login.validate_certs=true).
    type: dict
    suboptions:
      url:
        description: The login URL. The module posts a JSON object with C(username) and C(password) to this URL.
        type: str
        required: true
      username:
        description: Name of the account to log in with.
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
