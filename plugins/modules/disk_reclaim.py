#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_reclaim
short_description: Free up space on a full file system by removing as few files as possible
version_added: 1.0.0
description:
  - Removes files that match O(globs), oldest first, until every file system in O(targets) has the requested free space.
    The module does not touch files on other file systems.
  - The module never touches a file that a process has open. If the module cannot inspect the processes of another user,
    it also keeps the newest file of each series.
  - A series consists of files in the same folder whose names differ only in numbers, times and the compression suffix.
    Examples are a log file and its rotated versions, or the logs of an application that starts a new log file every
    day.
  - The module never follows symbolic links, and skips files with more than one hard link.
  - The module does not touch files in O(state_dir), because this folder contains the evidence.
  - The module never touches databases that are in use, or their C(-wal), C(-shm) and C(-journal) files. If a glob
    matches copies of a database, the module always keeps the newest complete copy.
  - The module fails if a parameter is invalid or a file system cannot be checked. The module does not fail if it cannot
    free enough space. RV(skipped) lists files that match a glob but were not touched.
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
  targets:
    description: The file systems on which the module frees space.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path of a file or folder on the file system.
        type: path
        required: true
      available:
        description: Required free space in bytes.
        type: int
        default: 0
      inodes:
        description: Required number of free inodes. Ignored if the file system has no fixed number of inodes.
        type: int
        default: 0
  globs:
    description: The files that the module may remove.
    type: list
    elements: dict
    required: true
    suboptions:
      glob:
        description:
          - An absolute path with wildcards. C(*), C(?) and C([...]) match characters within one file or folder name,
            but not a leading dot. C(**) matches any number of folders.
          - The name of the first folder in a pattern must not contain wildcards. A pattern must not match system files
            (below V(/etc), V(/usr) and similar folders). Directly below a shared folder (V(/home), V(/var), V(/var/lib)
            and similar), the name of a subfolder must not contain wildcards.
        type: str
        required: true
      keep:
        description:
          - Number of newest files to keep in each series. If the glob matches copies of a database, the module also
            keeps the same number of complete copies, newest first, and always at least one complete copy.
        type: int
        default: 0
      as_user:
        description:
          - Whether to remove these files with the permissions of O(user) even if root owns their folder.
          - Set this option to V(true) if a part of the pattern comes from the environment of the service.
        type: bool
        default: false
  user:
    description:
      - The user that the service runs as. If an account other than root could replace the folder of a file, the module
        removes the file with the permissions of this user. If this option is empty, the module uses the permissions of
        the folder owner.
    type: str
    default: ""
  protect:
    description:
      - Absolute paths that the module never touches. If a path is a database, the module also protects its C(-wal),
        C(-shm) and C(-journal) files. If a path is a folder, the module protects all files in this folder.
    type: list
    elements: path
    default: []
  keep_databases:
    description: Whether to keep all copies of databases. Set this option to V(true) if the database may be damaged.
    type: bool
    default: false
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.triage_info
"""

EXAMPLES = r"""
- name: Ensure that the log file system has 100 MiB of free space
  itsm_nexus.runbook.disk_reclaim:
    targets:
      - path: /var/log/itsm
        available: 104857600
    globs:
      - glob: /var/log/itsm/server.log*
        keep: 1
      - glob: /mnt/LinuxHDD/ITSM-System/backend/itsm.db.backup_*
        keep: 3
    protect: [/mnt/LinuxHDD/ITSM-System/backend/itsm.db]
"""

RETURN = r"""
removed:
  description: The removed files, in the order of their removal. In check mode, the files that the module would remove.
  returned: success
  type: list
  elements: dict
  sample: [{"path": "/var/log/itsm/server.log.3", "size": 52428800, "modified": "2026-02-27T03:00:00.000Z"}]
kept:
  description:
    - The largest files that match a glob and were not removed, for example because a process has them open. At most
      five files are listed. Empty if there is enough space.
  returned: success
  type: list
  elements: dict
  sample: [{"path": "/var/log/itsm/server.log", "size": 734003200, "modified": "2026-03-02T01:02:03.000Z"}]
skipped:
  description: Files that match a glob but were not touched, each with the reason. At most 50 files are listed.
  returned: success
  type: list
  elements: dict
  sample: [{"path": "/var/log/itsm/old", "reason": "it is a symbolic link"}]
skipped_count:
  description: Total number of files that match a glob but were not touched.
  returned: success
  type: int
  sample: 1
freed:
  description: Freed space in bytes, computed from the disk blocks of the files.
  returned: success
  type: int
  sample: 52428800
enough:
  description: True if every file system in O(targets) has the requested free space.
  returned: success
  type: bool
  sample: true
targets:
  description:
    - State of each file system. All sizes are in bytes.
    - C(wanted) is the required free space, and C(wanted_inodes) is the required number of free inodes.
      C(available_before) is the free space before the module ran. C(freed) is the freed space, and C(inodes_freed) is
      the number of freed inodes. C(enough) is true if the file system has the required free space.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /var/log/itsm
      wanted: 104857600
      wanted_inodes: 0
      available_before: 61440
      freed: 104861696
      inodes_freed: 3
      enough: true
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.08
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.lease.lost", "values": {"run": "run-1", "other": "run-2"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import disk_reclaim, reclaim_patterns


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "targets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "available": {"type": "int", "default": 0},
                    "inodes": {"type": "int", "default": 0},
                },
            },
            "globs": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "glob": {"type": "str", "required": True},
                    "keep": {"type": "int", "default": 0},
                    "as_user": {"type": "bool", "default": False},
                },
            },
            "user": {"type": "str", "default": ""},
            "protect": {"type": "list", "elements": "path", "default": []},
            "keep_databases": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = disk_reclaim.reclaim(
                rules=[
                    reclaim_patterns.Rule(pattern=rule["glob"], keep=rule["keep"], as_user=rule["as_user"])
                    for rule in params["globs"]
                ],
                targets=[reclaim_patterns.Target(**target) for target in params["targets"]],
                protect=params["protect"],
                keep_databases=params["keep_databases"],
                state_dir=params["state_dir"],
                user=params["user"],
                check_mode=module.check_mode,
            )
    except reclaim_patterns.DiskReclaimError as error:
        module.fail_json(msg=sanitize.text(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
