#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_restore
short_description: Report the rows that each recovery method would lose, and replace a damaged database with an intact
  one
version_added: 0.1.0
description:
  - Checks the following four recovery methods, in this order.
  - V(checkpoint) makes SQLite write the WAL of an intact database into the database.
  - V(salvage) creates a new database from all readable rows of the damaged database. This method uses the C(.recover)
    command of the sqlite3 shell. If the shell is missing or does not restore any rows, V(salvage) falls back to a dump
    that skips the damaged parts.
  - V(backup) uses the intact backup that would lose the fewest rows. If several backups would lose the same number of
    rows, V(backup) uses the newest of these backups.
  - V(empty) creates a database without tables. The migrations then create the tables. This method requires
    O(confirm_empty=true).
  - O(method=auto) uses the first applicable method. However, if the backup contains more rows than can be salvaged,
    O(method=auto) uses V(backup) instead of V(salvage).
  - With O(state=planned) and in check mode, the module does not change anything. To count the rows that a salvage would
    lose, the module salvages the database into a temporary folder.
  - Fails if a process has the database open.
  - Before the module changes anything, it copies the database files to O(evidence_dir). Later, the module moves the
    original files to a subfolder of the database folder.
  - The module completes the new database, checks it with C(integrity_check), counts its rows and syncs it to disk. The
    module then renames the new database to replace the old database. The new database gets the owner and the mode of
    the old database. The new database is never in the same folder as the old WAL.
  - If the module is killed, O(path) may be the old database, the new database, or a symbolic link to a path in a folder
    that does not exist. With this link, no process can open or create a database at O(path). In all three cases, the
    next run continues the recovery.
  - After V(salvage), V(backup) or V(empty), the module saves the time of the replacement on the host.
    M(itsm_nexus.runbook.triage_info) uses this time to recognize errors in the log that refer to the old database file.
options:
  path:
    description: Absolute path of the database file.
    type: path
    required: true
  state:
    description:
      - V(planned) reports how many rows each method would restore and lose.
      - V(recovered) applies O(method).
    type: str
    choices: [planned, recovered]
    default: planned
  method:
    description: The recovery method to apply. The module applies V(salvage), V(backup) and V(empty) even if the
      database is intact.
    type: str
    choices: [auto, checkpoint, salvage, backup, empty]
    default: auto
  confirm_empty:
    description:
      - Whether you accept that all rows may be lost. If V(false), the module does not use V(empty), and uses V(salvage)
        only if it can restore at least one row.
    type: bool
    default: false
  evidence_dir:
    description:
      - Absolute path of the folder for the copies of the damaged files. If the folder does not exist, the module
        creates it with mode 0700.
    type: path
    required: true
  configured_path:
    description:
      - Absolute path of the database, as configured in the inventory. Set this option if O(path) comes from the
        environment of the service. Defaults to O(path).
      - After a restore, the service user can read the content of the backup. Therefore, if this user cannot read a
        backup now, the module uses the backup only if O(state_dir) lists the backup, or if its file name matches
        O(backup_patterns) or a default pattern.
      - The default patterns apply only if O(path) and O(configured_path) have the same file name. RV(plan[].backups)
        lists the refused backups.
    type: str
    default: ""
    version_added: 1.0.0
  expected:
    description: Row counts from before the damage, by table.
    type: dict
    default: {}
  last_good:
    description:
      - Row counts from the last good check, by table, as in RV(itsm_nexus.runbook.triage_info#module:rows_before).
      - The module uses these row counts for tables whose rows cannot be counted now. If O(replaced=true), or if a whole
        table or more than half of all rows are missing, the module uses these row counts for all tables.
      - If a table has fewer rows now, the missing rows may have been deleted or lost. In this case, RV(statement) lists
        the missing rows, and RV(data_loss) is not V(none).
    type: dict
    default: {}
    version_added: 1.0.0
  replaced:
    description:
      - Whether the database is a new database that replaced an earlier database and does not contain its rows. See
        RV(itsm_nexus.runbook.triage_info#module:database_replaced).
      - If V(true), O(method=auto) uses neither V(checkpoint) nor V(salvage).
    type: bool
    default: false
    version_added: 1.0.0
  owner:
    description:
      - The user that the service runs as. If the old database file is missing, this user becomes the owner of the new
        file. If users other than root can change a folder, the module accesses the files in that folder with the
        permissions of the service user instead of root.
      - Defaults to the owner of that folder.
    type: str
  shell:
    description: The sqlite3 shell. Either an absolute path, or a program name to look up in the standard folders.
    type: str
    default: sqlite3
  time_budget:
    description: Time limit for each check of a database, in seconds.
    type: float
    default: 300.0
  timeout:
    description: Time limit for the whole module, in seconds.
    type: float
    default: 1800.0
notes:
  - A salvage runs SQL statements from the damaged file. Therefore, the salvage runs as O(owner). If only root can
    change the database folder, the salvage runs as the owner of the database.
  - The module saves rows that cannot be assigned to a table in a separate file in O(evidence_dir).
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(method=auto) or O(method=checkpoint), the module does not change an intact database without a WAL.
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.backups
  - itsm_nexus.runbook.lease
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
seealso:
  - module: itsm_nexus.runbook.sqlite_info
  - module: itsm_nexus.runbook.sqlite_backup
  - module: itsm_nexus.runbook.sqlite_wal
"""

EXAMPLES = r"""
- name: Report how many rows each method would lose
  itsm_nexus.runbook.sqlite_restore:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    evidence_dir: /var/lib/itsm-runbook/evidence/manual
  register: plan

- name: Recover the database with the planned method
  itsm_nexus.runbook.sqlite_restore:
    path: /mnt/LinuxHDD/ITSM-System/backend/itsm.db
    evidence_dir: /var/lib/itsm-runbook/evidence/manual
    state: recovered
    method: "{{ plan.method }}"
"""

RETURN = r"""
method:
  description: The applied method. With O(state=planned) and in check mode, the method that the module would apply.
    V(null) if no method is applicable.
  returned: success
  type: str
  sample: salvage
reason:
  description: Reason why the module selected this method, or why no method is applicable.
  returned: success
  type: str
  sample: "328 rows in 2 tables, read with the sqlite3 shell's .recover"
needed:
  description: True if a change is needed. False if the database is intact and has no WAL.
  returned: success
  type: bool
  sample: true
healthy_before:
  description: True if the database was intact before the module changed it.
  returned: success
  type: bool
  sample: false
problems:
  description: The problems with the database, in the format of RV(itsm_nexus.runbook.sqlite_info#module:problems).
  returned: success
  type: list
  elements: dict
  sample:
    - code: corrupt
      message: "The quick check of /srv/itsm.db found problems: Tree 5 page 9: btreeInitPage() returns error code 11"
      level: error
plan:
  description: Results for each method that the module checked.
  returned: success
  type: list
  elements: dict
  contains:
    method:
      description: The name of the method.
      type: str
      sample: backup
    possible:
      description: True if the method can be applied.
      type: bool
      sample: true
    reason:
      description: The reason why the method can or cannot be applied.
      type: str
      sample: the latest good backup is /srv/itsm.db.backup_20260302T010203Z, 3 hours older than the last write
    rows:
      description: Number of rows in each table after the method is applied.
      type: dict
      sample: {users: 12, incidents: 331}
    lost:
      description: Number of rows that each table would lose compared with RV(rows_before). Tables that would not lose
        rows are omitted.
      type: dict
      sample: {incidents: 9}
    statement:
      description: A description of the lost rows.
      type: str
      sample: "9 rows: incidents 9 of 340; changes to rows since 2026-03-02T01:02:03.000Z"
    messages:
      description: C(reason) and C(statement), each as a list of translatable messages.
      type: dict
      sample: {reason: [{id: reason.restore.sound, values: {}}], statement: [{id: reason.loss.nothing, values: {}}]}
    source:
      description: Path of the backup.
      type: str
      sample: /srv/itsm.db.backup_20260302T010203Z
    source_at:
      description: Time of the backup.
      type: str
      sample: "2026-03-02T01:02:03.000Z"
    age:
      description: Time between the backup and the last write to the database, in seconds.
      type: float
      sample: 10800.0
    backups:
      description:
        - The backups that the module examined for V(backup), newest first. The module stops at the first backup whose
          row counts show no data loss.
        - The keys of each backup are C(path), C(at) (the time of the backup), C(usable), C(rows), C(lost), C(reason)
          and C(messages). C(rows) and C(lost) have the format of RV(plan[].rows) and RV(plan[].lost). C(reason) is the
          reason why the backup cannot be used, or states that the backup has an older schema. C(messages) contains
          C(reason) as a translatable message.
      type: list
      elements: dict
      sample: []
      version_added: 1.0.0
    tool:
      description: Tool used for the salvage, V(shell) or V(dump).
      type: str
      sample: shell
    orphans:
      description: Number of salvaged rows that cannot be assigned to a table.
      type: int
      sample: 0
    refused:
      description: SQL statements that failed during the salvage, each with its reason.
      type: list
      elements: str
      sample: []
rows_before:
  description: Number of rows in each table, as counted in the damaged database or specified in O(expected) or
    O(last_good).
  returned: success
  type: dict
  sample: {users: 12, incidents: 340}
rows_uncounted:
  description: Tables in the damaged database whose rows could not be counted.
  returned: success
  type: list
  elements: str
  sample: []
rows_after:
  description: Number of rows in each table of the new database, counted after the replacement. With O(state=planned) or
    in check mode, the expected number of rows.
  returned: success
  type: dict
  sample: {users: 12, incidents: 328}
rows_lost:
  description: Number of rows that each table lost. Tables that did not lose rows are omitted.
  returned: success
  type: dict
  sample: {incidents: 12}
data_loss:
  description:
    - V(none) means that no rows were lost.
    - V(known) means that the module counted the lost rows. RV(statement) states whether more rows may have been lost.
    - V(unknown) means that the available row counts show no loss, although rows may have been lost.
  returned: success
  type: str
  sample: known
statement:
  description: A description of the lost rows.
  returned: success
  type: str
  sample: "12 rows: incidents 12 of 340"
source:
  description: Path of the backup that was used.
  returned: success
  type: str
  sample: null
evidence_dir:
  description: Path of the folder that contains copies of the damaged files.
  returned: success
  type: str
  sample: /var/lib/itsm-runbook/evidence/manual/itsm.db.evidence_20260302T010203Z
evidence:
  description: The copies of the damaged files, each with C(name), C(path), C(size) and C(sha256).
  returned: success
  type: list
  elements: dict
  sample: []
kept:
  description: Path of the folder to which the module moved the damaged files. This folder is in the database folder.
  returned: success
  type: str
  sample: /srv/itsm.db.damaged_20260302T010203Z
orphans_file:
  description: Path of the database that contains the rows that cannot be assigned to a table.
  returned: success
  type: str
  sample: null
problems_after:
  description: Problems that the database still has after the recovery, for example rows whose parent row is lost.
  returned: success
  type: list
  elements: dict
  sample: []
put_back:
  description: >-
    True if this run moved the original files back, because an earlier run was killed after it had moved these files.
  returned: success
  type: bool
  sample: false
holders:
  description: Processes that have the database open. If the list is not empty, O(state=recovered) fails.
  returned: success
  type: list
  elements: dict
  sample: []
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 0.42
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
    - On success, C(reason) and C(statement) contain RV(reason) and RV(statement), each as a list of translatable
      messages.
  returned: success, and failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.sqlite.recovery_running", "values": {"path": "/srv/itsm.db"}}}
"""

from typing import Any, Callable, Dict, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    last_good,
    recovered_file,
    repeated_call,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import candidates, file_problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import restore as sqlite_restore
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError


def _is_new_and_sound(result: Mapping[str, Any]) -> bool:
    """Return True if a new file has replaced the database, and the check of the new file found no problem.

    A checkpoint does not replace the file. Errors that were logged earlier can therefore refer to the current file.
    """
    # After the method `empty`, the new database has no tables yet. The migrations create them later.
    expected = ("no_tables",) if result["method"] == "empty" else ()
    errors = [item for item in result["problems_after"] if item["level"] == "error" and item["code"] not in expected]
    return result["changed"] and result["method"] != "checkpoint" and not errors


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["planned", "recovered"], "default": "planned"},
            "method": {"type": "str", "choices": ["auto", *sqlite_restore.METHODS], "default": "auto"},
            "confirm_empty": {"type": "bool", "default": False},
            "evidence_dir": {"type": "path", "required": True},
            **candidates.ARGUMENTS,
            "configured_path": {"type": "str", "default": ""},
            "expected": {"type": "dict", "default": {}},
            "last_good": {"type": "dict", "default": {}},
            "replaced": {"type": "bool", "default": False},
            "owner": {"type": "str"},
            "shell": {"type": "str", "default": "sqlite3"},
            "time_budget": {"type": "float", "default": 300.0},
            "timeout": {"type": "float", "default": 1800.0},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    parameters = dict(module.params)
    lease = {name: parameters.pop(name) for name in host_lease.ARGUMENTS}
    try:
        for name in ("expected", "last_good"):
            parameters[name] = sqlite_check.baseline_of(parameters[name])
        file_problems.find_user(parameters["owner"])
        act = parameters.pop("state") == "recovered"
        with host_lease.held(**lease, warn=module.warn, fail=module.fail_json):
            begun: Dict[str, Any] = {}

            def note(loss: str, before: Mapping[str, int], after: Mapping[str, int]) -> Callable[[], None]:
                begun.update(recovered_file.instant())
                return one_starter.note_loss(**lease, loss=loss, before=before, after=after, warn=module.warn)

            # Record the loss before the replacement, because the check after the replacement may fail or be killed.
            # Later runs see only the rows that remain.
            result = sqlite_restore.restore(
                **parameters,
                recorded=listing.recorded(lease["state_dir"]),
                created_at=last_good.last_good_rows(lease["state_dir"], path=parameters["path"]).created_at,
                act=act,
                check_mode=module.check_mode,
                on_replace=note,
            )
            if begun and _is_new_and_sound(result):
                recovered_file.note(lease["state_dir"], path=parameters["path"], since=begun)
    except SqliteError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result))


if __name__ == "__main__":
    main()
