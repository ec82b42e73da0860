#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_fetch
short_description: Copy a verified backup from the host to the controller
version_added: 1.0.0
description:
  - Copies a backup from the host to the controller. The module copies only backups that
    M(itsm_nexus.runbook.scheduled_backup) has recorded in C(backups.json). The module transfers the backup in
    compressed chunks, so the backup can be larger than the memory of the host or the controller.
  - The copy has mode 0600. The module renames the copy to its final name only if the SHA-256 checksum of the copy
    matches that of the verified backup.
  - After that, the module records the copy in C(backups.json) on the host, and removes surplus copies from the
    controller.
options:
  path:
    description: Path of the backup on the host. The backup must be listed in C(backups.json) in O(state_dir).
    type: path
    required: true
  dest_dir:
    description:
      - Path of the folder on the controller. If the folder does not exist, the module creates it with mode 0700. Each
        host has its own subfolder.
    type: path
    required: true
  keep:
    description: Number of copies to keep on the controller for this host and database. If V(0), all copies are kept.
    type: int
    default: 14
  limit:
    description: Maximum size of a backup to copy, in bytes.
    type: int
    default: 10737418240
  offset:
    description: The action plugin sets this option, so do not set it in a task.
    type: int
    default: -1
  where:
    description: The action plugin sets this option, so do not set it in a task.
    type: str
    default: ""
  user:
    description: The user that the service runs as. See O(itsm_nexus.runbook.sqlite_backup#module:user).
    type: str
notes:
  - Set C(no_log=true) for the task, because the module output contains database rows. Otherwise, Ansible prints the
    output if you run Ansible with C(-vvv).
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.scheduled_backup
"""

EXAMPLES = r"""
- name: Copy the new backup to the controller
  itsm_nexus.runbook.backup_fetch:
    path: "{{ backup_result.backup.path }}"
    dest_dir: /srv/backups/itsm
  no_log: true
"""

RETURN = r"""
dest:
  description: Path of the file on the controller.
  returned: success
  type: str
  sample: /srv/backups/itsm/host1/itsm.db.backup_20260302T010203Z
sha256:
  description: The SHA-256 checksum of the file, which matches the checksum of the verified backup on the host.
  returned: success
  type: str
  sample: 5b8991a5f9ee33367057d676263f0f53e52fa128f1c4c9f1b8d8d887045fde9b
size:
  description: The size of the file in bytes.
  returned: success
  type: int
  sample: 1048576
removed:
  description: Copies that the module removed from the controller.
  returned: success
  type: list
  elements: str
  sample: []
messages:
  description: Reason for the failure, as a translatable message.
  returned: failure
  type: dict
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import off_host
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


def main() -> None:
    """Return one part of the backup's data, or record the location of the copy.

    The action plugin of the same name creates the copy.
    """
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "dest_dir": {"type": "path", "required": True},
            "keep": {"type": "int", "default": off_host.KEEP},
            "limit": {"type": "int", "default": off_host.LIMIT},
            "offset": {"type": "int", "default": -1},
            "where": {"type": "str", "default": ""},
            "user": {"type": "str"},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    given = module.params
    lease = {name: given[name] for name in host_lease.ARGUMENTS}
    try:
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            result = off_host.answer(
                given["path"],
                offset=given["offset"],
                where=given["where"],
                user=given["user"],
                state_dir=given["state_dir"],
                check_mode=module.check_mode,
            )
    except (BackupError, SqliteError) as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
