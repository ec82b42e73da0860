#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_wal
short_description: Checkpoint the WAL of a SQLite database without data loss
version_added: 0.1.0
description:
  - Lets SQLite checkpoint the database (C(TRUNCATE)) while no other process has it open, and compares the row counts
    before and after. The module itself never removes the WAL or its index. SQLite removes them after all pages are in
    the database and on disk.
  - Fails without any change if the database is missing, empty or damaged, or if frames of the WAL cannot be read. The
    same applies if a process has the database open. The message then names the process.
  - If the module is killed, the WAL still exists, and the next run completes the checkpoint.
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  state:
    description: V(checkpointed) is the only state. This state means that all pages are in the database and that there
      is no WAL.
    type: str
    choices: [checkpointed]
    default: checkpointed
  user:
    description:
      - The user that the service runs as. If users other than root can change a folder, the module uses files in that
        folder with the permissions of this user, never as root.
      - Defaults to the owner of that folder.
    type: str
    version_added: 0.2.0
  busy_timeout:
    description: Maximum time in seconds to wait until another process releases its lock.
    type: float
    default: 5.0
  time_budget:
    description: Time limit for each check, and for all steps up to the end of the checkpoint, in seconds.
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
  description: True if the module failed because there is not enough space. The database and its WAL are then unchanged.
  returned: failure
  type: bool
  sample: false
checkpointed:
  description:
    - True if the database now contains all pages and the WAL is empty. In check mode, false if a checkpoint is needed.
  returned: success
  type: bool
  sample: true
frames_before:
  description: Number of complete frames that were in the WAL.
  returned: success
  type: int
  sample: 773
frames_committed:
  description: Number of frames of finished transactions. All of them are kept.
  returned: success
  type: int
  sample: 773
pages_written:
  description: Number of distinct pages that the checkpoint had to write into the database.
  returned: success
  type: int
  sample: 302
torn:
  description: True if the WAL ended in an unfinished write. SQLite drops such a write.
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
  description: Processes that have the database open. Empty on success, because the module otherwise fails.
  returned: success
  type: list
  elements: dict
  sample: []
row_counts:
  description: Number of rows of each table, which is equal before and after.
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
  description: Duration of the module's work on the host, in seconds.
  returned: success
  type: float
  sample: 0.06
messages:
  description:
    - Why the module failed, as a translatable message. C(msg) has the C(id) of its text in the message catalogue
      and the C(values) for that text.
  returned: failure
  type: dict
  version_added: 0.2.0
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
