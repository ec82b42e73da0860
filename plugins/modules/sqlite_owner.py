#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_owner
short_description: Restore the owner of a SQLite database that root now owns
version_added: 1.0.0
description:
  - Changes the owner of a database, its C(-wal) file and its C(-shm) file from root to O(user). Changes the group of
    these files to the primary group of O(user). The module does not change anything else.
  - Each of these files must be a regular file with a SQLite header and only one hard link. Symbolic links are not
    allowed. The file's owner must have read and write permission, and O(user) must be able to read the file. Otherwise,
    the module fails without changing anything.
  - Root or O(user) must own these files. O(user) must own the folder and everything else in the folder. Otherwise, the
    module also fails.
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  user:
    description: The user that the service runs as.
    type: str
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.sqlite_info
"""

EXAMPLES = r"""
- name: Restore the owner of the database
  itsm_nexus.runbook.sqlite_owner:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    user: itsm
"""

RETURN = r"""
files:
  description: The files whose owner the module changed. In check mode, the files whose owner the module would change.
  returned: success
  type: list
  elements: str
  sample: [/mnt/LinuxHDD/ITSM-System/backend/itsm.db]
owner:
  description: The owner of the files after the module has run.
  returned: success
  type: str
  sample: itsm
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.owner.not_root", "values": {}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import owner as sqlite_owner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = sqlite_owner.restore(path=params["path"], user=params["user"], check_mode=module.check_mode)
    except sqlite_owner.SqliteOwnerError as error:
        module.fail_json(**failure(error))
    if not module._diff:
        del result["diff"]
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
