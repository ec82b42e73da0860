#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_drill
short_description: Restore the newest backup to a scratch folder, start the service with this backup, and measure RPO
  and RTO
version_added: 1.0.0
description:
  - Searches for backups in the same way as M(itsm_nexus.runbook.sqlite_restore), and selects the newest intact backup
    of this service. RV(problems) lists newer backups that cannot be restored.
  - Restores the backup to a scratch folder, and starts the command from O(unit) with the unit's user, working directory
    and environment. The module changes only the environment variable in O(variable), so that the service uses the
    restored database.
  - The service runs in a transient systemd unit with a private network, in which all ports are free. The file system is
    read-only, except for the restored database. The module replaces each folder in O(writable) with an empty temporary
    folder. The service can neither see the live database nor reach other processes. If systemd cannot isolate the
    service, the module does not start the service.
  - In this private network, the module sends the health request and, if O(login) is set, the login request.
  - After these requests, the module stops the service, checks the restored database and compares the row counts. The
    module then removes everything that the drill created.
  - Writes the result to C(restore_drill.json) in O(state_dir). If the drill fails, the module does not fail, but
    returns RV(ok=false).
options:
  unit:
    description: Name of the service's systemd unit.
    type: str
    required: true
  manager:
    description: Whether the service is managed by systemd or runs as a plain process. A drill is possible only with
      V(systemd).
    type: str
    choices: [systemd, process]
    default: systemd
  app_dir:
    description: Absolute path of the application folder.
    type: path
    required: true
  user:
    description: The user that the service runs as. A drill never starts the service as root.
    type: str
    required: true
  path:
    description: Absolute path of the live database.
    type: path
    required: true
  variable:
    description: Name of the environment variable from which the service reads the database path.
    type: str
    default: DATABASE_PATH
  configured_path:
    description:
      - Absolute path of the database, as configured in the inventory. Set this option if O(path) comes from the
        environment of the service. Defaults to O(path).
      - The service can read the restored backup. Therefore, a backup that O(user) cannot read now is used only under
        the same conditions as in M(itsm_nexus.runbook.sqlite_restore). A Litestream replica is used if
        O(configured_path) is the path of its database, or if O(user) can read this database or owns its folder.
    type: str
    default: ""
  backup:
    description: Path of the backup to restore. If empty, the module uses the newest restorable backup.
    type: str
    default: ""
  litestream_config:
    description:
      - Path of the Litestream configuration file. If this file lists O(path), the replica counts as the newest backup,
        and the module restores it with C(litestream restore). If the replica cannot be restored, the module falls back
        to the newest backup file.
      - Root must own the configuration file and the litestream program.
      - If empty, the module ignores replicas.
    type: str
    default: /etc/litestream.yml
  endpoints:
    description: The endpoints of the service. All required endpoints must be healthy.
  login:
    description: Settings for the login check in the private network of the drill. The drill fails if the login fails.
      If this option is not set, the module does not try to log in.
  writable:
    description: Absolute paths of other folders to which the service writes, such as its log folder. During the drill,
      an empty temporary folder of at most 64 MiB replaces each of these folders.
    type: list
    elements: path
    default: []
  scratch_dir:
    description:
      - Path of the folder in which the module creates the scratch folder. Only root may have permission to change this
        folder, and O(user) must be able to access it.
      - Defaults to the parent of O(state_dir).
    type: path
  memory:
    description: Memory limit for the service during the drill, in bytes. The host must have at least this much free
      memory.
    type: int
    default: 1073741824
  timeout:
    description: Maximum time until the first healthy response, in seconds.
    type: float
    default: 120.0
  time_budget:
    description: Time limit for each check of a database, in seconds.
    type: float
    default: 300.0
notes:
  - The module splits the command in C(ExecStart) at spaces, and does not run C(ExecStartPre).
  - The module cannot test a service that reads its database path only from a file. In this case, the drill fails, and
    the message contains the value of O(variable). The service cannot open the live database in this case either.
attributes:
  check_mode:
    support: full
    details: In check mode, the module selects the backup, but does not restore the backup and does not write a result.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: The module changes nothing except C(restore_drill.json).
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.backups
  - itsm_nexus.runbook.endpoints
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.scheduled_backup
  - module: itsm_nexus.runbook.sqlite_restore
"""

EXAMPLES = r"""
- name: Check that the newest backup can be restored
  itsm_nexus.runbook.restore_drill:
    unit: itsm-system
    app_dir: /mnt/LinuxHDD/ITSM-System
    user: itsm
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    backup_dirs: [/var/lib/itsm-runbook/backups]
    endpoints:
      - {name: https, url: "https://localhost:6443/api/v1/health"}
    writable: [/mnt/LinuxHDD/ITSM-System/backend/logs]
"""

RETURN = r"""
ok:
  description: True if the service was healthy with the restored backup, no rows were lost, and the running service was
    not affected. In check mode, true if a backup can be restored.
  returned: success
  type: bool
  sample: true
at:
  description: Time when the drill began.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.000Z"
backup:
  description: Path of the restored backup, or V(null) if no backup can be restored. For a replica, V(litestream:)
    followed by the database path.
  returned: success
  type: str
  sample: /var/lib/itsm-runbook/backups/itsm.db.backup_20260302T010203Z
backup_at:
  description: Time of the last write that the backup contains, or V(null) if this time is unknown.
  returned: success
  type: str
  sample: "2026-03-02T01:02:03.000Z"
rpo_seconds:
  description: Age of the backup at the beginning of the drill, in seconds. A recovery would lose the writes from this
    period. V(null) if the age is unknown.
  returned: success
  type: float
  sample: 3600.0
rto_seconds:
  description: Time from the beginning of the restore to the first healthy response, in seconds. V(null) if the service
    was not healthy.
  returned: success
  type: float
  sample: 4.2
rows:
  description: Number of rows in each table of the backup.
  returned: success
  type: dict
  sample: {users: 12, incidents: 340}
rows_after:
  description: Number of rows in each table of the restored database, counted after the service was stopped.
  returned: success
  type: dict
  sample: {users: 12, incidents: 340}
login:
  description: True if the login succeeded, or V(null) if the module did not try to log in.
  returned: success
  type: bool
  sample: true
live_unchanged:
  description: True if the running service has the same process and the same database file as before the drill.
  returned: success
  type: bool
  sample: true
problems:
  description: The reasons why the drill failed, and the newer backups that cannot be restored.
  returned: success
  type: list
  elements: str
  sample: []
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 6.1
messages:
  description: RV(problems) or the reason for the failure, as translatable messages.
  returned: always
  type: dict
  sample: {}
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import drill, drill_order, litestream
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates, file_problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "unit": {"type": "str", "required": True},
            "manager": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
            "app_dir": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "variable": {"type": "str", "default": "DATABASE_PATH"},
            "backup": {"type": "str", "default": ""},
            **candidates.ARGUMENTS,
            "configured_path": {"type": "str", "default": ""},
            **probe_plan.ARGUMENTS,
            "litestream_config": {"type": "str", "default": litestream.CONFIG},
            "writable": {"type": "list", "elements": "path", "default": []},
            "scratch_dir": {"type": "path"},
            "memory": {"type": "int", "default": 1 << 30},
            "timeout": {"type": "float", "default": 120.0},
            "time_budget": {"type": "float", "default": 300.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    given = module.params
    lease = {name: given[name] for name in host_lease.ARGUMENTS}
    order = drill_order.Order(
        unit=given["unit"],
        user=given["user"],
        app_dir=given["app_dir"],
        database=given["path"],
        variable=given["variable"],
        targets=[probe_plan.Target(**endpoint) for endpoint in given["endpoints"]],
        state_dir=given["state_dir"],
        folder=given["scratch_dir"] or os.path.dirname(given["state_dir"].rstrip("/")),
        ok_statuses=given["ok_statuses"],
        login=probe_plan.login_of(given["login"]),
        backup=given["backup"],
        configured=given["configured_path"],
        dirs=given["backup_dirs"],
        patterns=given["backup_patterns"],
        writable=given["writable"],
        memory=given["memory"],
        timeout=given["timeout"],
        time_budget=given["time_budget"],
        litestream_config=given["litestream_config"],
        run=given["run"],
    )
    try:
        file_problems.find_user(given["user"], option="user")
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            if given["manager"] != "systemd":
                raise BackupError(message("reason.drill.no_systemd", manager=given["manager"]))
            result = drill.drill(order, check_mode=module.check_mode)
    except (BackupError, SqliteError, probe_plan.HealthError) as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
