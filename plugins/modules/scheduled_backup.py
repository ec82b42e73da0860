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
  - Creates a backup with M(itsm_nexus.runbook.sqlite_backup). The service keeps running, and the backup does not block
    its writes. The module reopens the backup, checks the backup, and compares the backup with the database.
  - Records the backup in C(backups.json) in O(state_dir).
  - Removes surplus backups after the new backup has been verified. The module removes a backup only if C(backups.json)
    lists the backup, and the file name has the form C(itsm.db.backup_20260302T010203Z). The module always keeps the
    newest verified backup and the newest backup without missing rows.
  - Compares the new backup with the newest verified backup that has no missing rows. The module suspects data loss if a
    table no longer exists, or if more than half of all rows are missing. In this case, RV(problems) lists the tables,
    and the module keeps the new backup and does not remove any backups. For example, the service may have lost its
    database and filled a new database with demo data. The good backups are kept in this case.
  - A missing table is not a problem if a migration was applied after the earlier backup.
  - If O(command) is set, the module then runs this command to copy the backup to another host.
  - The module fails if it cannot create a verified backup. In this case, the module does not remove any backups. If the
    module created the backup but could not copy it, the module succeeds and reports the reason in RV(problems).
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
    description: Maximum age of backups to keep, in days. The module removes older backups. If V(0), the module keeps
      backups regardless of their age.
    type: float
    default: 0
  accept_fewer_rows:
    description: Whether a person has confirmed that the missing rows were intentionally deleted.
    type: bool
    default: false
  command:
    description:
      - A command that copies the backup to another host, as a list. The first item is the absolute path of a program.
        The module runs the command without a shell.
      - The module passes the backup to the standard input of the command.
      - The items can contain the placeholders V({path}), V({name}), V({sha256}), V({bytes}) and V({at}). Any other
        placeholder is an error.
    type: list
    elements: str
    default: []
  command_user:
    description: The account that runs O(command). This account does not need read access to the backup file.
    type: str
    default: root
  command_timeout:
    description: Time limit for O(command), in seconds. After this time, the module kills the command.
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
  - During a recovery, no other process may open the database. Therefore, the module fails if another run is working on
    the host.
  - In WAL mode, the service can write to the database during a backup. The WAL may grow during this time, because
    SQLite cannot reset it until the copy is complete.
  - If the database uses a rollback journal, the service cannot write to the database while the module copies it.
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
- name: Back up the database, keep 30 backups, and copy the new backup to the backup server
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
      description: Tables that have fewer rows than in the earlier backup, each with the earlier and the current row
        count. Empty if the module does not suspect data loss.
      type: dict
      sample: {}
    user:
      description: The value of O(user) if this user could read the database, otherwise an empty string. A recovery uses
        this value to decide whether it may restore a backup that the service user cannot read now.
      type: str
      sample: itsm
removed:
  description: The removed backups. In check mode, the backups that the module would remove.
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
  description: Problems with the new backup, for example the reason why the module could not copy the backup to another
    host.
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
