#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scheduled_backup
short_description: Create a verified backup of the running service's database, and remove surplus backups
version_added: 1.0.0
description:
  - Creates a backup with M(itsm_nexus.runbook.sqlite_backup). The service keeps running, and its writes are not
    blocked. The module reopens the backup, checks it and compares it with the database.
  - Records the backup in C(backups.json) in O(state_dir).
  - Removes surplus backups after the new backup has been verified. A backup is removed only if it is recorded in this
    file and its name has the form C(itsm.db.backup_20260302T010203Z). The newest verified backup and the newest backup
    without missing rows are always kept.
  - The new backup is compared with the newest verified backup that has no missing rows. Data loss is suspected if a
    table no longer exists, or if more than half of all rows are missing. In this case, RV(problems) lists the tables,
    the new backup is kept, and no backups are removed. Therefore, if the service has lost its database and filled a new
    one with demo data, the good backups are kept. A missing table is not a problem if a migration was applied after the
    earlier backup.
  - If O(command) is set, the module then runs this command, which copies the backup to another host.
  - The module fails if it cannot create a verified backup. In this case, no backups are removed. If the backup was
    created but not copied, the module succeeds and reports the reason in RV(problems).
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  dest_dir:
    description: Absolute path of the folder for the backups. If the folder does not exist, the module creates it with
      mode 0700.
    type: path
    required: true
  user:
    description:
      - The user that the service runs as. See O(itsm_nexus.runbook.sqlite_backup#module:user).
    type: str
  keep:
    description: Maximum number of backups to keep, including the new one. The value must be between 2 and 500.
    type: int
    default: 14
  keep_days:
    description: Remove backups that are older than this number of days. If V(0), backups are kept regardless of their
      age.
    type: float
    default: 0
  accept_fewer_rows:
    description: Whether a person has confirmed that the missing rows were deleted intentionally.
    type: bool
    default: false
  command:
    description:
      - A command that copies the backup to another host, as a list. The first item is the absolute path of a program.
        The command is run without a shell.
      - The command reads the backup from standard input. The items can contain the placeholders V({path}), V({name}),
        V({sha256}), V({bytes}) and V({at}). Any other placeholder is an error.
    type: list
    elements: str
    default: []
  command_user:
    description: The account that runs O(command). This account does not need read access to the backup file.
    type: str
    default: root
  command_timeout:
    description: Time limit for O(command), in seconds. After this time, the command is killed.
    type: float
    default: 3600.0
  busy_timeout:
    description: Maximum time, in seconds, to wait for another process to release its lock on the database.
    type: float
    default: 5.0
  timeout:
    description: Time limit for the backup and its verification, in seconds.
    type: float
    default: 600.0
notes:
  - The database must not be open during a recovery. Therefore, the module fails if another run is working on the host.
  - In WAL mode, the service can write during a backup. Until the copy is complete, the WAL cannot be emptied, so it may
    grow. If the database uses a rollback journal, the service cannot write to it while it is being copied.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details: Every call creates another backup.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.backup_fetch
  - module: itsm_nexus.runbook.restore_drill
  - module: itsm_nexus.runbook.sqlite_backup
"""

EXAMPLES = r"""
- name: Back up the database, keep 30 backups, and copy the new one to the backup server
  itsm_nexus.runbook.scheduled_backup:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    dest_dir: /var/lib/itsm-runbook/backups
    user: itsm
    keep: 30
    command: [/usr/bin/ssh, backup@store.example, "cat > itsm/{name}"]
    command_user: backup
"""

RETURN = r"""
backup:
  description: Properties of the new backup. V(null) in check mode.
  returned: success
  type: dict
  contains:
    at:
      description: Time when the backup began.
      type: str
      sample: "2026-03-02T01:02:03.000Z"
    path:
      description: Path of the backup.
      type: str
      sample: /var/lib/itsm-runbook/backups/itsm.db.backup_20260302T010203Z
    bytes:
      description: Size of the backup in bytes.
      type: int
      sample: 1048576
    rows:
      description: Number of rows in each table.
      type: dict
      sample: {users: 12, incidents: 340}
    verified:
      description: True if the module has reopened the backup, checked it and compared it with the database.
      type: bool
      sample: true
    off_host:
      description: Location of the copy on another host, or V(null) if there is no such copy.
      type: str
      sample: null
    sha256:
      description: SHA-256 checksum of the backup.
      type: str
      sample: 5b8991a5f9ee33367057d676263f0f53e52fa128f1c4c9f1b8d8d887045fde9b
    fewer:
      description: Tables that have fewer rows than in the earlier backup, each with the earlier and the current number
        of rows. The dictionary is empty if no data loss is suspected.
      type: dict
      sample: {}
    user:
      description: The value of O(user) if this user could read the database, otherwise empty. If the service's user
        cannot read a backup now, a recovery restores this backup only if the same user could read the database when the
        backup was created.
      type: str
      sample: itsm
removed:
  description: The removed backups. In check mode, the backups that would be removed.
  returned: success
  type: list
  elements: str
  sample: []
room_needed:
  description: Free space that the backup requires, in bytes.
  returned: success
  type: int
  sample: 9437184
problems:
  description: Problems with the new backup, for example the reason why it was not copied to another host.
  returned: success
  type: list
  elements: str
  sample: []
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.41
messages:
  description: RV(problems) or the reason for the failure, as translatable messages.
  returned: always
  type: dict
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import off_host, retention, scheduled
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "dest_dir": {"type": "path", "required": True},
            "user": {"type": "str"},
            "keep": {"type": "int", "default": 14},
            "keep_days": {"type": "float", "default": 0},
            "accept_fewer_rows": {"type": "bool", "default": False},
            "command": {"type": "list", "elements": "str", "default": []},
            "command_user": {"type": "str", "default": "root"},
            "command_timeout": {"type": "float", "default": 3600.0},
            "busy_timeout": {"type": "float", "default": 5.0},
            "timeout": {"type": "float", "default": 600.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    given = module.params
    command = off_host.Command(given["command"], given["command_user"], given["command_timeout"])
    order = scheduled.Order(
        path=given["path"],
        folder=given["dest_dir"],
        limits=retention.Limits(given["keep"], given["keep_days"]),
        state_dir=given["state_dir"],
        user=given["user"],
        busy_timeout=given["busy_timeout"],
        timeout=given["timeout"],
        accept_fewer=given["accept_fewer_rows"],
        command=command if given["command"] else None,
        run=given["run"],
    )
    lease = {name: given[name] for name in host_lease.ARGUMENTS}
    try:
        file_problems.find_user(given["user"], option="user")
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            result = scheduled.make(order, check_mode=module.check_mode)
    except (SqliteError, BackupError) as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
