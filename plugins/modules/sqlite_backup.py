#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_backup
short_description: Create a verified backup of a SQLite database and its WAL, while the database is in use or after a
  crash
version_added: 0.1.0
description:
  - Copies the database with the SQLite backup API, as one snapshot that includes the content of the WAL. The module
    then syncs the copy to disk, reopens it, checks it with C(integrity_check), and compares its row counts with those
    of the snapshot.
  - After these checks, the module renames the copy to its final name. The module never replaces an existing file.
  - The module does not change the database. The module reads the database in a process that has no write access to the
    database. The module leaves no files in the database folder.
  - With O(evidence=true), the module copies the database, its WAL, its WAL index and its journal byte for byte,
    regardless of their state. The module fails if a process has one of these files open, because the copies would be
    inconsistent.
  - With O(evidence=false), the module fails if the database is damaged or cannot be opened, or if its WAL has lost
    frames. In this case, the module leaves no files at the destination.
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  dest:
    description:
      - Absolute path of the backup file. If the folder of the file does not exist, the module creates it with mode
        0700.
      - Exactly one of O(dest) and O(dest_dir) is required.
    type: path
  dest_dir:
    description:
      - Absolute path of the folder in which the module creates the backup or, if O(evidence=true), the evidence folder.
        If O(dest_dir) does not exist, the module creates it with mode 0700.
    type: path
  prefix:
    description:
      - Prefix of the backup file name. Used only if O(dest_dir) is set. The module appends the current time to the
        prefix, for example C(itsm.db.backup_20260302T010203Z).
      - Defaults to the name of the database followed by V(.backup_), or by V(.evidence_) if O(evidence=true).
    type: str
  evidence:
    description: Whether to copy the files byte for byte into a new folder.
    type: bool
    default: false
  room_only:
    description:
      - Whether to only check that there is enough space for the copy. If V(true), the module returns RV(room_needed)
        and does not copy any files.
      - If there is not enough space, the module fails with RV(no_room=true).
    type: bool
    default: false
    version_added: 1.0.0
  keep:
    description:
      - Maximum number of backups to keep in O(dest_dir), including the new backup. The number applies to backups whose
        names begin with O(prefix). If V(0), the module keeps all backups.
      - The module removes old backups only after it has verified the new backup.
    type: int
    default: 0
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
  timeout:
    description: Time limit for the copy and its verification, in seconds.
    type: float
    default: 600.0
notes:
  - The module is not idempotent. Every call creates another backup.
  - The backup has mode 0600 and is owned by O(user). However, if only root can change the destination folder, a backup
    is owned by the owner of the database, and evidence is owned by root.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details: Every call creates another copy.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.sqlite_info
  - module: itsm_nexus.runbook.sqlite_wal
"""

EXAMPLES = r"""
- name: Back up the database and keep the last seven backups
  itsm_nexus.runbook.sqlite_backup:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    dest_dir: /var/lib/itsm-runbook/backups
    prefix: itsm.db.backup_
    keep: 7
  register: backup

- name: Save unchanged copies of the files of a damaged database
  itsm_nexus.runbook.sqlite_backup:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    dest_dir: /var/lib/itsm-runbook/evidence
    evidence: true
"""

RETURN = r"""
no_room:
  description: True if the module failed because there is not enough space. In this case, no files were copied.
  returned: failure
  type: bool
  sample: false
backup_file:
  description: Path of the backup. In check mode, the path that the module would use now. V(null) if O(evidence=true).
  returned: success
  type: str
  sample: /var/lib/itsm-runbook/backups/itsm.db.backup_20260302T010203Z
sha256:
  description: SHA-256 checksum of the backup, computed during verification.
  returned: success
  type: str
  sample: 5b8991a5f9ee33367057d676263f0f53e52fa128f1c4c9f1b8d8d887045fde9b
size:
  description: Size of the backup in bytes.
  returned: success
  type: int
  sample: 1048576
room_needed:
  description:
    - Free space that the copy requires, in bytes. The module fails if less space is available. It returns this value
      even if O(room_only=true), and in check mode.
  returned: success
  type: int
  sample: 9437184
integrity:
  description: Result of C(integrity_check) on the backup. Always V(ok), because the module fails otherwise.
  returned: success
  type: str
  sample: ok
row_counts:
  description: Number of rows in each table. The numbers are the same in the database and in the backup.
  returned: success
  type: dict
  sample: {users: 12, incidents: 340}
evidence_dir:
  description: The folder that contains the copied files. V(null) if O(evidence=false).
  returned: success
  type: str
  sample: /var/lib/itsm-runbook/evidence/itsm.db.evidence_20260302T010203Z
files:
  description: The files that the module copied with O(evidence=true).
  returned: success
  type: list
  elements: dict
  sample: []
  contains:
    name:
      description: V(database), V(wal), V(shm) or V(journal).
      type: str
      sample: wal
    path:
      description: Path of the copy.
      type: str
      sample: /var/lib/itsm-runbook/evidence/itsm.db.evidence_20260302T010203Z/itsm.db-wal
    size:
      description: Size in bytes.
      type: int
      sample: 3184792
    sha256:
      description: SHA-256 checksum of the copied bytes.
      type: str
      sample: 22e8fab747417d385c3213ee381d1764d1d45ec127327001b0d11a068cfbeaa0
removed:
  description: The removed backups. In check mode, the backups that the module would remove.
  returned: success
  type: list
  elements: str
  sample: []
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.31
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.sqlite.folder_locked", "values": {"path": "/srv/backups"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
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
            "dest": {"type": "path"},
            "dest_dir": {"type": "path"},
            "prefix": {"type": "str"},
            "evidence": {"type": "bool", "default": False},
            "room_only": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 0},
            "user": {"type": "str"},
            "busy_timeout": {"type": "float", "default": 5.0},
            "timeout": {"type": "float", "default": 600.0},
        },
        mutually_exclusive=[("dest", "dest_dir")],
        required_one_of=[("dest", "dest_dir")],
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    parameters = dict(module.params)
    lease = {name: parameters.pop(name) for name in host_lease.ARGUMENTS}
    try:
        file_problems.find_user(parameters["user"], option="user")
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            result = sqlite_backup.backup(**parameters, check_mode=module.check_mode)
    except SqliteError as error:
        module.fail_json(**failure(error), no_room=isinstance(error, NoRoomError))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
