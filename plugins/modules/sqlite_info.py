#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_info
short_description: Check whether a SQLite database is intact and complete, without changing it
version_added: 0.1.0
description:
  - Reads the database and its companion files first as plain bytes, and then with SQLite in a read-only process.
  - The module does not create files in the database folder, and does not open the database or its companion files for
    writing. After the check, the module does not hold a lock.
  - The module never opens a file with SQLite if the file is missing, empty or not a database. If SQLite opened an empty
    database file that has a WAL, SQLite would delete the WAL.
  - After a crash, the module reads the database together with its WAL. If the database is in use, the module reads the
    database like any other SQLite reader.
  - The module does not fail if the database has problems, but returns the problems in RV(problems). If at least one
    problem is an error, RV(healthy) is false.
options:
  path:
    description: Absolute path of the database file. If the path is a symbolic link, the module follows the link, as
      SQLite does.
    type: path
    required: true
  checks:
    description:
      - The SQLite checks to run.
      - V(quick) checks the structure of every page.
      - V(integrity) also checks the content of indexes and UNIQUE constraints, and takes about eight times as long as
        V(quick).
      - V(foreign_keys) searches for rows whose parent row is missing. Such rows indicate an error in the application,
        not damage to the file. Therefore, the module reports such rows only as a warning.
      - If V(integrity) does not finish in time, RV(checks) contains the result of V(quick), even if you requested only
        V(integrity).
    type: list
    elements: str
    choices: [quick, integrity, foreign_keys]
    default: [quick]
  row_counts:
    description: The tables whose rows the module counts. V(true) selects all tables, and V(false) selects no tables. A
      list of table names selects only the listed tables.
    type: raw
    default: true
  baseline:
    description:
      - Earlier row counts by table, for example RV(row_counts) from an earlier run or from a backup.
      - If a table is missing now, or has fewer rows now, the module reports the problem V(row_loss).
    type: dict
  seeded:
    description:
      - Whether to report tables that contain rows now, but are empty or missing in O(baseline).
      - Many services insert rows into empty tables when they start. To find these rows, set O(baseline) to the row
        counts from before the start.
    type: bool
    default: false
    version_added: 1.0.0
  owner:
    description:
      - The user that the service runs as. If this user is not allowed to write to a database file or to the database
        folder, the module reports the problem V(ownership) as a warning. The module does not evaluate access control
        lists.
    type: str
  user:
    description:
      - The user that the service runs as. If users other than root can change a folder, the module accesses the files
        in that folder with the permissions of the service user instead of root.
      - Defaults to O(owner). If O(owner) is empty, the default is the owner of that folder.
    type: str
    version_added: 1.0.0
  time_budget:
    description: Combined time limit for all checks, in seconds. If no time remains for a check, the module skips this
      check, and RV(checks) reports it as skipped.
    type: float
    default: 30.0
  busy_timeout:
    description: Maximum time, in seconds, to wait for another process to release its lock on the database.
    type: float
    default: 5.0
  remember:
    description:
      - Whether to save the row counts in O(state_dir) as the last good row counts for this host. The module saves the
        row counts only if the database is intact. A later triage compares the database with these row counts.
    type: bool
    default: false
    version_added: 1.0.0
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
  - itsm_nexus.runbook.attributes.info_module
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.sqlite_backup
  - module: itsm_nexus.runbook.sqlite_wal
"""

EXAMPLES = r"""
- name: Check the database of the stopped service
  itsm_nexus.runbook.sqlite_info:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
  register: database

- name: Run all checks and compare the row counts with earlier row counts
  itsm_nexus.runbook.sqlite_info:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    checks: [quick, integrity, foreign_keys]
    baseline: "{{ database.row_counts }}"
    time_budget: 120
  register: after
  failed_when: not after.healthy
"""

RETURN = r"""
healthy:
  description: True if RV(problems) contains no problem with the level V(error).
  returned: always
  type: bool
  sample: true
conclusive:
  description:
    - True if the verdict is final.
    - The verdict is final if the module found an error. It is also final if the module read the whole WAL and finished
      the requested page checks and row counts.
    - If the verdict is not final, RV(healthy) covers only the parts that the module has checked.
  returned: success
  type: bool
  sample: true
problems:
  description: The problems that the module found, with file problems first.
  returned: always
  type: list
  elements: dict
  sample: []
  contains:
    code:
      description:
        - Problems with the files are V(missing), V(not_a_file), V(empty), V(empty_beside_wal), V(not_a_database),
          V(unreadable) and V(no_tables).
        - V(folder_missing) means that the database folder does not exist. V(not_mounted) means that the file system of
          the database is listed in C(/etc/fstab), but is not mounted. In these two cases, the module cannot check the
          database, and RV(conclusive) and RV(data_loss_suspected) are false.
        - Problems with the WAL are V(wal_torn) (a warning, which is normal if the service was killed), V(wal_damaged)
          and V(wal_foreign).
        - Problems with the content are V(corrupt), V(schema_too_new), V(foreign_keys) (a warning), V(row_loss) and
          V(no_such_table).
        - Problems caused by other processes or users are V(locked), V(open_deleted), V(changing), V(hot_journal) (a
          warning) and V(ownership) (a warning).
      type: str
      sample: wal_damaged
    message:
      description: The problem in one sentence.
      type: str
      sample: There is no database /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    messages:
      description: Dictionary that contains C(message) as a translatable message.
      type: dict
      sample: {message: {id: reason.sqlite.missing, values: {path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db}}}
    level:
      description: V(error) or V(warning).
      type: str
      sample: error
database:
  description: Properties of the database. If the module cannot read a number, the number is V(null).
  returned: always
  type: dict
  contains:
    path:
      description: The value of O(path).
      type: str
      sample: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    real_path:
      description: The path with all symbolic links resolved.
      type: str
      sample: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    exists:
      description: True if the path exists.
      type: bool
      sample: true
    size:
      description: Size in bytes.
      type: int
      sample: 1048576
    inode:
      description: Inode number. The inode number changes if the file is replaced.
      type: int
      sample: 3407874
    uid:
      description: User ID of the owner.
      type: int
      sample: 998
    gid:
      description: Group ID of the file.
      type: int
      sample: 998
    mode:
      description: Permissions in octal notation.
      type: str
      sample: "0640"
    page_size:
      description: Size of a page in bytes.
      type: int
      sample: 4096
    page_count:
      description: Number of pages, including those in the WAL.
      type: int
      sample: 256
    freelist_count:
      description: Number of unused pages.
      type: int
      sample: 0
    first_migration_at:
      description:
        - Time when knex applied the first migration, or V(null) if this time is unknown.
        - All copies of a database have the same time. If the service creates a new database, the new database has a
          later time.
      returned: always
      type: str
      version_added: 1.0.0
    user_version:
      description: Version number that the application stored in the database (C(PRAGMA user_version)).
      type: int
      sample: 0
    journal_mode:
      description: V(wal) or V(rollback).
      type: str
      sample: wal
    sqlite_version:
      description: Version of the SQLite library that last wrote to the database.
      type: str
      sample: 3.44.2
    library_version:
      description: Version of the SQLite library that the module used for the check.
      type: str
      sample: 3.46.1
    wal_reset_bug:
      description:
        - True if the database is in WAL mode, and was last written by an SQLite library with the WAL-reset bug.
          Versions 3.7.0 to 3.51.2 have this bug, except for 3.44.6 and later 3.44.x versions, and 3.50.7 and later
          3.50.x versions. With such a library, the database may lose pages if a second process runs a checkpoint while
          the database is in use.
      type: bool
      sample: true
files:
  description: The database files that exist.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: V(database), V(wal), V(shm) or V(journal).
      type: str
      sample: database
    path:
      description: Path of the file.
      type: str
      sample: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    size:
      description: Size in bytes.
      type: int
      sample: 1048576
    owner:
      description: Name of the owner, or the user ID if the owner has no name.
      type: str
      sample: itsm
    group:
      description: Name of the group, or the group ID if the group has no name.
      type: str
      sample: itsm
    mode:
      description: Permissions in octal notation.
      type: str
      sample: "0640"
    modified_at:
      description: Time of the last write.
      type: str
      sample: "2026-03-02T01:02:03.456Z"
wal:
  description: Properties of the write-ahead log (WAL), read directly from the file.
  returned: always
  type: dict
  contains:
    exists:
      description: True if the WAL exists.
      type: bool
      sample: true
    size:
      description: Size in bytes.
      type: int
      sample: 3184792
    page_size:
      description: Size of a page in bytes.
      type: int
      sample: 4096
    frames_total:
      description: Number of complete frames in the file, including old frames that were written before the last restart
        of the WAL.
      type: int
      sample: 773
    frames_valid:
      description: Number of frames whose salt and checksum SQLite accepts.
      type: int
      sample: 773
    frames_committed:
      description: Number of frames that SQLite would recover because they belong to committed transactions.
      type: int
      sample: 773
    frames_lost:
      description: Number of frames that SQLite silently ignores because a frame is damaged, including the damaged
        frame.
      type: int
      sample: 0
    frames_backfilled:
      description: Number of committed frames that have already been copied into the database.
      type: int
      sample: 0
    pages_pending:
      description: Number of distinct pages that a checkpoint would write to the database.
      type: int
      sample: 302
    database_pages:
      description: Number of database pages after the last commit in the WAL.
      type: int
      sample: 310
    torn:
      description: True if the WAL ends with an incomplete write.
      type: bool
      sample: false
    damaged:
      description: True if the WAL may have lost frames of committed transactions.
      type: bool
      sample: false
    checkpoint_sequence:
      description: Checkpoint sequence number in the WAL header.
      type: int
      sample: 0
    complete:
      description: True if the module read the whole WAL within O(time_budget).
      type: bool
      sample: true
holders:
  description: Processes that have the database or any of its companion files open.
  returned: always
  type: list
  elements: dict
  sample: []
  contains:
    pid:
      description: Process ID, or V(0) for a process in another PID namespace.
      type: int
      sample: 4711
    command:
      description: Program and script, without further arguments.
      type: str
      sample: node backend/server.js
    role:
      description: V(writer), V(checkpointer), V(recovering), V(reader), or V(open). V(open) means that the process has
        the database open, but is not using it at the moment.
      type: str
      sample: open
    files:
      description: The files that the process has open (V(database), V(wal), V(shm), V(journal)).
      type: list
      elements: str
      sample: [database, shm, wal]
holders_complete:
  description: True if the module could check all processes. Only root has permission to check all processes.
  returned: always
  type: bool
  sample: true
row_counts:
  description: Exact number of rows in each table. Virtual tables and SQLite's internal tables are omitted.
  returned: always
  type: dict
  sample: {users: 12, incidents: 340}
seeded:
  description:
    - Tables that contain rows now, but are empty or missing in O(baseline). Tables that belong to knex are omitted.
      Always empty unless O(seeded=true).
  returned: always
  type: list
  elements: dict
  version_added: 1.0.0
  contains:
    table:
      description: Name of the table.
      type: str
      sample: incidents
    rows:
      description: Number of rows.
      type: int
      sample: 3
    statement:
      description: SQL statement that removes these rows, or V(null) if the table has no row IDs.
      type: str
      sample: DELETE FROM "incidents" WHERE rowid BETWEEN 1 AND 3;
checks:
  description:
    - The result of each requested check and of the row count (V(row_counts)). Each result is V(ok), the number of
      problems, V(skipped) with the reason, or V(failed) with the reason.
  returned: always
  type: dict
  sample: {quick: ok, row_counts: ok, integrity: "skipped: time budget"}
last_good:
  description: The last good row counts before this call. V(null) if O(remember=false), or if the module did not count
    all rows.
  returned: always
  type: dict
  version_added: 1.0.0
  contains:
    rows:
      description: Number of rows in each table. Empty if there are no earlier row counts for this database.
      type: dict
      sample: {users: 12, incidents: 338}
    at:
      description: Time when these rows were counted, or an empty string.
      type: str
      sample: "2026-05-04T01:02:03.456Z"
    replaced:
      description: True if this call replaced the saved row counts with RV(row_counts).
      type: bool
      sample: true
data_loss_suspected:
  description: True if any observation indicates that rows were lost.
  returned: always
  type: bool
  sample: false
data_loss_reasons:
  description: The observations that indicate lost rows.
  returned: always
  type: list
  elements: str
  sample: []
duration:
  description: Duration of the check in seconds.
  returned: always
  type: float
  sample: 0.041
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.sqlite.cannot.work_on", "values": {"path": "/srv/a.db", "why": "Permission denied"}}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import file_problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": ["quick", "integrity", "foreign_keys"],
                "default": ["quick"],
            },
            "row_counts": {"type": "raw", "default": True},
            "baseline": {"type": "dict"},
            "seeded": {"type": "bool", "default": False},
            "owner": {"type": "str"},
            "user": {"type": "str"},
            "time_budget": {"type": "float", "default": 30.0},
            "busy_timeout": {"type": "float", "default": 5.0},
            "remember": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    params = module.params
    try:
        file_problems.find_user(params["user"], option="user")
        with host_lease.held(run=params["run"], state_dir=params["state_dir"], warn=module.warn, fail=module.fail_json):
            result = sqlite_check.check(
                path=params["path"],
                checks=params["checks"],
                row_counts=sqlite_check.tables_wanted(params["row_counts"]),
                baseline=sqlite_check.baseline_of(params["baseline"]),
                seeded=params["seeded"],
                owner=params["owner"],
                user=params["user"],
                time_budget=params["time_budget"],
                busy_timeout=params["busy_timeout"],
            )
        result["last_good"] = None
        if params["remember"]:
            save = result["healthy"] and not result["data_loss_suspected"] and not module.check_mode
            result["last_good"] = last_good.replace_rows(params["state_dir"], look=result, save=save)
    except SqliteError as error:
        module.fail_json(**failure(error))
    module.exit_json(changed=False, **sanitize.data(result))


if __name__ == "__main__":
    main()
