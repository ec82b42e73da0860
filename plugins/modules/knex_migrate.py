#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: knex_migrate
short_description: Apply pending migrations to the service's database, or release a stale migration lock
version_added: 0.1.0
description:
  - Applies the pending migrations, or releases the lock that a killed migration left behind.
  - Runs only the application's own C(node_modules/.bin/knex), so that no other version of knex is downloaded.
  - The checks do not open the database for writing, and do not change other files in its folder. For the checks, the
    module copies the tables that knex uses for itself into a temporary database. knex then reads this temporary
    database.
  - Fails if the file O(db_path) is missing, empty or not a SQLite database. Otherwise, knex would create a missing
    file, and would open an existing file regardless of its content.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.knex
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(latest) applies the pending migrations. The module fails if another process has the database open.
      - V(unlocked) releases the migration lock that a killed migration left behind. The module fails if a process of
        the application is running knex, or if any process has the database open. Back up the database first.
    type: str
    choices: [latest, unlocked]
    default: latest
notes:
  - A killed migration does not release knex's migration lock. The module reports such a lock, but releases it only with
    O(state=unlocked), which was added in version 1.0.0.
seealso:
  - module: itsm_nexus.runbook.knex_migrate_info
  - module: itsm_nexus.runbook.npm_ci
"""

EXAMPLES = r"""
- name: Apply the pending migrations
  itsm_nexus.runbook.knex_migrate:
    app_dir: /mnt/LinuxHDD/ITSM-System
    db_path: backend/itsm.db
    user: itsm
    environment_file: /etc/itsm/itsm.env
    state: latest

- name: Release the lock of a killed migration
  itsm_nexus.runbook.knex_migrate:
    app_dir: /mnt/LinuxHDD/ITSM-System
    db_path: backend/itsm.db
    user: itsm
    environment_file: /etc/itsm/itsm.env
    state: unlocked
"""

RETURN = r"""
completed:
  description: Names of all applied migrations, including RV(applied).
  returned: success
  type: list
  elements: str
  sample: [20240401090000_create_users.js]
pending:
  description: Names of the migrations that have not been applied.
  returned: success
  type: list
  elements: str
  sample: []
applied:
  description:
    - Names of the migrations that this call applied. Empty in check mode.
    - If a migration failed, the list contains the migrations that were applied before the failure.
  returned: always
  type: list
  elements: str
  sample: [20240506090000_link_incidents_to_assets.js]
batch:
  description: Number of the last migration batch that was applied.
  returned: success
  type: int
  sample: 3
locked:
  description:
    - True if knex's migration lock is held. If the lock is held and migrations are pending, O(state=latest) fails.
    - In check mode with O(state=unlocked), this is the current state of the lock.
  returned: always
  type: bool
  sample: false
duration:
  description: Run time of the module on the host, in seconds.
  returned: always
  type: float
  sample: 0.41
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
  returned: failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.knex.lock_taken", "values": {"path": "/mnt/LinuxHDD/ITSM-System/backend/itsm.db"}}}
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex, knex_tables


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            **knex.ARGUMENTS,
            "timeout": {"type": "float", "default": 120},
            "state": {"type": "str", "choices": ["latest", "unlocked"], "default": "latest"},
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    parameters = module.params
    started = time.monotonic()

    def duration() -> float:
        return round(time.monotonic() - started, 3)

    try:
        with host_lease.held(
            run=parameters["run"], state_dir=parameters["state_dir"], warn=module.warn, fail=module.fail_json
        ):
            migrator = knex.Migrator(**{name: parameters[name] for name in (*knex.ARGUMENTS, "timeout")})
            result = knex.migrate(migrator, state=parameters["state"], check_mode=module.check_mode)
    except knex_tables.KnexError as error:
        told = {
            "locked": error.locked,
            "applied": error.applied,
            "duration": duration(),
        }
        module.fail_json(**failure(error), **told)
    module.exit_json(**sanitize.data(result), duration=duration())


if __name__ == "__main__":
    main()
