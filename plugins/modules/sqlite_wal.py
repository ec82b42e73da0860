#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_wal
short_description: Checkpoint the WAL of a SQLite database without losing data
version_added: 0.1.0
description:
  - Runs a C(TRUNCATE) checkpoint on the database while no other process has it open, and compares the row counts before
    and after the checkpoint. The module itself never removes the WAL or the WAL index. SQLite removes these files after
    it has written all pages to the database and synced them to disk.
  - Fails without changing anything if the database is missing, empty or damaged, or if WAL frames cannot be read.
  - Also fails if a process has the database open. The error message identifies this process.
  - If the module is killed, the WAL is kept, and the next run completes the checkpoint.
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  state:
    description: The desired state. With V(checkpointed), the database contains all pages, and there is no WAL.
    type: str
    choices: [checkpointed]
    default: checkpointed
  user:
    description:
      - The user that the service runs as. If users other than root can change a folder, the module accesses the files
        in that folder with the permissions of the service user instead of root.
      - Defaults to the owner of that folder.
    type: str
    version_added: 1.0.0
  busy_timeout:
    description: Maximum time, in seconds, to wait for another process to release its lock on the database.
    type: float
    default: 5.0
  time_budget:
    description: Time limit for each check, in seconds. The checkpoint must also finish within this time, measured from
      the start of the module.
    type: float
    default: 120.0
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
  - module: itsm_nexus.runbook.sqlite_backup
"""

EXAMPLES = r"""
- name: Checkpoint the database of the stopped service
  itsm_nexus.runbook.sqlite_wal:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    state: checkpointed
  register: wal
"""

RETURN = r"""
no_room:
  description: True if the module failed because there is not enough space. In this case, the database and its WAL are
    unchanged.
  returned: failure
  type: bool
  sample: false
checkpointed:
  description:
    - True if the database now contains all pages and the WAL is empty. In check mode, false if the module would run a
      checkpoint.
  returned: success
  type: bool
  sample: true
frames_before:
  description: Number of complete frames in the WAL before the checkpoint.
  returned: success
  type: int
  sample: 773
frames_committed:
  description: Number of frames that belong to committed transactions. None of these frames is lost.
  returned: success
  type: int
  sample: 773
pages_written:
  description: Number of distinct pages that the checkpoint had to write into the database.
  returned: success
  type: int
  sample: 302
torn:
  description: True if the WAL ended with an incomplete write, which SQLite discards.
  returned: success
  type: bool
  sample: false
removed:
  description: Files that SQLite removed when it closed the database.
  returned: success
  type: list
  elements: str
  sample: [/mnt/LinuxHDD/ITSM-System/backend/itsm.db-wal, /mnt/LinuxHDD/ITSM-System/backend/itsm.db-shm]
holders:
  description: Processes that have the database open. Always empty on success, because the module fails otherwise.
  returned: success
  type: list
  elements: dict
  sample: []
row_counts:
  description: Number of rows in each table. The numbers are the same before and after the checkpoint.
  returned: success
  type: dict
  sample: {users: 12, incidents: 340}
wal_size_before:
  description: Size of the WAL before the checkpoint, in bytes.
  returned: success
  type: int
  sample: 3184792
wal_size_after:
  description: Size of the WAL after the checkpoint, in bytes.
  returned: success
  type: int
  sample: 0
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.06
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.sqlite.checkpoint_late", "values": {"path": "/srv/itsm.db"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    NoRoomError,
    SqliteError,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["checkpointed"], "default": "checkpointed"},
            "user": {"type": "str"},
            "busy_timeout": {"type": "float", "default": 5.0},
            "time_budget": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        file_problems.find_user(params["user"], option="user")
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = sqlite_checkpoint.checkpoint(
                path=params["path"],
                user=params["user"],
                busy_timeout=params["busy_timeout"],
                time_budget=params["time_budget"],
                check_mode=module.check_mode,
            )
    except SqliteError as error:
        module.fail_json(**failure(error), no_room=isinstance(error, NoRoomError))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
