#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: knex_migrate_info
short_description: List the completed and pending migrations of the service's database
version_added: 1.0.0
description:
  - Lists the completed and pending migrations, and reports whether knex's migration lock is held.
  - Runs only the application's own C(node_modules/.bin/knex), so that no other version of knex is downloaded.
  - Does not open the database for writing, and does not change other files in its folder. The module copies the tables
    that knex uses for itself into a temporary database. knex then reads this temporary database.
  - Fails if the file O(db_path) is missing, empty or not a SQLite database. Otherwise, knex would create a missing
    file, and would open an existing file regardless of its content.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.attributes.info_module
  - itsm_nexus.runbook.knex
  - itsm_nexus.runbook.lease
seealso:
  - module: itsm_nexus.runbook.knex_migrate
"""

EXAMPLES = r"""
- name: List the pending migrations
  itsm_nexus.runbook.knex_migrate_info:
    app_dir: /mnt/LinuxHDD/ITSM-System
    db_path: backend/itsm.db
    user: itsm
    environment_file: /etc/itsm/itsm.env
"""

RETURN = r"""
completed:
  description: Names of the applied migrations.
  returned: success
  type: list
  elements: str
  sample: [20240401090000_create_users.js]
pending:
  description: Names of the migrations that have not been applied.
  returned: success
  type: list
  elements: str
  sample: [20240506090000_link_incidents_to_assets.js]
batch:
  description: Number of the last migration batch that was applied.
  returned: success
  type: int
  sample: 3
locked:
  description: True if knex's migration lock is held.
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
        },
        supports_check_mode=True,
    )
    numbers.require_finite(module.params, fail=module.fail_json)
    repeated_call.once(module.params, check_mode=module.check_mode, fail=module.fail_json)
    parameters = module.params
    started = time.monotonic()
    try:
        with host_lease.held(
            run=parameters["run"], state_dir=parameters["state_dir"], warn=module.warn, fail=module.fail_json
        ):
            result = knex.look(knex.Migrator(**{name: parameters[name] for name in (*knex.ARGUMENTS, "timeout")}))
    except knex_tables.KnexError as error:
        spent = round(time.monotonic() - started, 3)
        module.fail_json(**failure(error), locked=error.locked, duration=spent)
    module.exit_json(changed=False, **sanitize.data(result), duration=round(time.monotonic() - started, 3))


if __name__ == "__main__":
    main()
