#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate
short_description: Check whether the service can use its certificate and private key, and renew them if necessary
version_added: 1.0.0
description:
  - Checks whether the certificate is valid now, whether the private key matches the certificate, and whether the
    service's user may read both files.
  - If a check fails, the module first sets the owner, group and mode of the private key to the required values. If a
    check still fails, the module runs O(command), sets the owner, group and mode again, and repeats the checks. If no
    check fails, the module changes nothing.
  - If a check still fails after these steps, the module does not fail, but returns RV(valid=false) and RV(problems).
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  cert_path:
    description: Absolute path of the certificate file (PEM).
    type: path
    required: true
  key_path:
    description:
      - Path of the private key file (PEM). Defaults to O(cert_path) with the extension C(.key), such as
        C(/etc/tls/server.key) for C(/etc/tls/server.crt). If the default file does not exist, the module does not check
        a key.
    type: path
    default: ""
  user:
    description: The user that the service runs as. Defaults to the user that runs the module. If the module runs as
      root, it reads the certificate and the key with this user's permissions.
    type: str
    default: ""
  command:
    description: The command that renews the certificate, as a list with one item per argument. The module runs the
      command without a shell.
    type: list
    elements: str
    default: []
  timeout:
    description: Time limit for the command, in seconds. After this time, the module kills the command.
    type: float
    default: 120.0
  key_owner:
    description: The required owner of the private key. If empty, the module does not change the owner.
    type: str
    default: ""
  key_group:
    description: The required group of the private key. If empty, the module does not change the group.
    type: str
    default: ""
  key_mode:
    description: The required octal mode of the private key, such as V(0640). The mode must not grant write permission
      to the group or any permission to others. If empty, the module does not change the mode.
    type: str
    default: ""
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.triage_info
"""

EXAMPLES = r"""
- name: Renew an invalid certificate
  itsm_nexus.runbook.tls_certificate:
    cert_path: /etc/itsm/tls/server.crt
    key_path: /etc/itsm/tls/server.key
    user: itsm
    command: [certbot, renew, --non-interactive, --cert-name, itsm.example.org]
  register: certificate
  failed_when: not certificate.valid
"""

RETURN = r"""
valid:
  description: True if the service can use the certificate now.
  returned: success
  type: bool
  sample: true
problems:
  description: The problems that still exist, one sentence per problem.
  returned: success
  type: list
  elements: str
  sample: []
subject:
  description: Subject of the certificate. V(null) if O(user) cannot read the certificate.
  returned: success
  type: str
  sample: CN=itsm.example.org
not_before:
  description: Start of the certificate's validity period.
  returned: success
  type: str
  sample: "2026-03-02T00:00:00.000Z"
not_after:
  description: End of the certificate's validity period.
  returned: success
  type: str
  sample: "2026-05-31T00:00:00.000Z"
repaired:
  description: True if the module changed the owner, group or mode of the private key. In check mode, true if the module
    would change the owner, group or mode.
  returned: success
  type: bool
  sample: false
renewed:
  description: True if the command changed the certificate or the private key. In check mode, true if the module would
    run the command.
  returned: success
  type: bool
  sample: true
command_rc:
  description: Exit code of the command. V(null) if the module did not run the command, or killed it because it exceeded
    O(timeout).
  returned: success
  type: int
  sample: 0
output:
  description: The last part of the command output, without secrets.
  returned: success
  type: str
  sample: "Congratulations, all renewals succeeded"
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 4.2
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
    - On success, C(problems) contains RV(problems) as translatable messages.
  returned: success, and failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.certificate.no_owner", "values": {"user": "'itsm'"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import certificate as service_certificate


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "cert_path": {"type": "path", "required": True},
            "key_path": {"type": "path", "default": "", "no_log": False},
            "user": {"type": "str", "default": ""},
            "command": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 120.0},
            "key_owner": {"type": "str", "default": "", "no_log": False},
            "key_group": {"type": "str", "default": "", "no_log": False},
            "key_mode": {"type": "str", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = service_certificate.ensure(
                service_certificate.Pair(certificate=params["cert_path"], key=params["key_path"], user=params["user"]),
                command=params["command"],
                permissions=service_certificate.Permissions(
                    owner=params["key_owner"], group=params["key_group"], mode=params["key_mode"]
                ),
                timeout=params["timeout"],
                check_mode=module.check_mode,
            )
    except service_certificate.CertificateError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
