#!/usr/bin/python
# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_ci
short_description: Install C(node_modules) from the lock file, and keep the old modules until the new modules can be
  loaded
version_added: 0.1.0
description:
  - Checks whether the installed Node.js modules match the lock file, and whether the native modules can be loaded. If
    one of these checks fails, the Node.js modules are reinstalled.
  - C(npm ci) deletes C(node_modules) before it downloads packages. This module therefore runs C(npm ci) in a temporary
    folder below O(app_dir), loads the native modules from there, and then renames the new C(node_modules) tree into
    place. If one of these steps fails, the old tree remains in use.
  - The module keeps only the most recently replaced tree, in C(node_modules.previous).
  - If a run was killed, the next run restores the old tree if necessary, and removes temporary files.
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
extends_documentation_fragment:
  - itsm_nexus.runbook.attributes
  - itsm_nexus.runbook.lease
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(mode=always), every call installs the modules.
options:
  app_dir:
    description: Absolute path of the application folder, which contains C(package.json) and C(package-lock.json).
    type: path
    required: true
  user:
    description:
      - Account that runs npm, node and the install scripts of packages. If the module does not run as root, it must run
        as this account.
      - Defaults to the owner of O(app_dir) if the module runs as root, otherwise to the account that runs the module.
    type: str
  mode:
    description:
      - V(auto) installs the modules if RV(needed) is true.
      - V(always) installs the modules even if RV(needed) is false.
    type: str
    choices: [auto, always]
    default: auto
  omit_dev:
    description: Whether to omit development dependencies. If the installed modules contain development dependencies,
      this alone does not cause a reinstallation.
    type: bool
    default: true
  offline:
    description: Whether npm uses only its cache. By default, npm downloads packages that are not in its cache from the
      registry.
    type: bool
    default: false
  cache:
    description:
      - Absolute path of npm's cache folder. O(user) must have permission to write to this folder.
      - Defaults to the cache in the home folder of O(user), or to a temporary folder if O(user) cannot write there.
    type: path
  load_test:
    description:
      - Names of packages that Node.js must be able to load before and after the new tree replaces the old tree. These
        packages must be in the lock file.
      - Defaults to C(better-sqlite3), C(sqlite3) and C(bcrypt), except those that are optional or not in the lock file.
    type: list
    elements: str
  timeout:
    description: Time limit for C(npm ci), in seconds. After this time, the module kills C(npm ci).
    type: float
    default: 600
  build_only:
    description:
      - Whether to build a new tree without replacing the current tree. If a new tree is needed, the module builds this
        tree in a temporary folder below O(app_dir), and loads the native modules of the new tree. The next call without
        this option replaces the current tree with the new tree, unless C(package.json) or C(package-lock.json) has
        changed.
      - Use this option to keep the service running until the build has succeeded.
    type: bool
    default: false
    version_added: 1.0.0
  reserve:
    description: Free space, in bytes, that the file system must have in addition to the space for the new tree.
    type: int
    default: 0
    version_added: 1.0.0
  node:
    description: The Node.js program of the service. Either an absolute path, or a program name to look up in E(PATH).
    type: str
    default: node
  npm:
    description: The npm program. Either an absolute path, or a program name to look up in E(PATH).
    type: str
    default: npm
notes:
  - The lock file may link to folders in the application (workspaces, C(file:) folders). C(npm ci) would change these
    folders in place. Therefore, if the lock file contains such links, this module checks the Node.js modules, but does
    not install them.
  - Scripts in the application's C(package.json) may read other files of the application. Therefore, the temporary
    folder contains links to these files.
seealso:
  - module: itsm_nexus.runbook.knex_migrate
"""

EXAMPLES = r"""
- name: Install missing modules
  itsm_nexus.runbook.npm_ci:
    app_dir: /mnt/LinuxHDD/ITSM-System
    user: itsm

- name: Reinstall the modules from a cache, without the registry
  itsm_nexus.runbook.npm_ci:
    app_dir: /mnt/LinuxHDD/ITSM-System
    user: itsm
    mode: always
    offline: true
    cache: /var/cache/itsm-npm
"""

RETURN = r"""
needed:
  description: True if a check of the installed modules failed.
  returned: success
  type: bool
  sample: true
reasons:
  description: The problems, one per item. If there are more than 20 problems, the last item states how many more there
    are.
  returned: success
  type: list
  elements: str
  sample:
    - "express: node_modules/express/package.json is missing or unreadable"
    - "better-sqlite3 does not load: Could not locate the bindings file."
installed:
  description: Number of packages in the new tree, or 0 if the tree was not replaced.
  returned: success
  type: int
  sample: 429
swapped:
  description: True if a new tree has replaced the old tree.
  returned: success
  type: bool
  sample: true
built:
  description: With O(build_only=true), the folder that contains the new tree. V(null) if no new tree is needed.
  returned: success
  type: str
  sample: null
previous:
  description: Folder that contains the most recently replaced tree.
  returned: success
  type: str
  sample: /mnt/LinuxHDD/ITSM-System/node_modules.previous
restored:
  description: The repairs that the module made because an earlier run was killed. In check mode, the repairs that the
    module would make.
  returned: success
  type: list
  elements: str
  sample: ["move node_modules.previous back to node_modules"]
leftovers:
  description: Folders from earlier runs that the module could not remove.
  returned: success
  type: list
  elements: str
  sample: []
duration:
  description: Run time of the module on the host, in seconds.
  returned: success
  type: float
  sample: 57.2
messages:
  description:
    - Reason for the failure, as a translatable message. C(msg) contains the C(id) of the message in the message
      catalogue, and the C(values) to insert into the message text.
    - On success, C(reasons) and C(restored) contain RV(reasons) and RV(restored) as translatable messages.
  returned: success, and failure
  type: dict
  version_added: 1.0.0
  sample: {"msg": {"id": "reason.npm.no_lock_file", "values": {"folder": "/mnt/LinuxHDD/ITSM-System"}}}
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import failure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    npm,
    npm_application,
    npm_lock,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **host_lease.ARGUMENTS,
            **repeated_call.ARGUMENTS,
            "app_dir": {"type": "path", "required": True},
            "user": {"type": "str"},
            "mode": {"type": "str", "choices": ["auto", "always"], "default": "auto"},
            "omit_dev": {"type": "bool", "default": True},
            "offline": {"type": "bool", "default": False},
            "cache": {"type": "path"},
            "load_test": {"type": "list", "elements": "str"},
            "timeout": {"type": "float", "default": 600},
            "build_only": {"type": "bool", "default": False},
            "reserve": {"type": "int", "default": 0},
            "node": {"type": "str", "default": "node"},
            "npm": {"type": "str", "default": "npm"},
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
            application = npm_application.Application(
                app_dir=parameters["app_dir"],
                user=parameters["user"],
                node=parameters["node"],
                npm=parameters["npm"],
                omit_dev=parameters["omit_dev"],
                load_test=parameters["load_test"],
            )
            result = npm.npm_ci(
                application,
                always=parameters["mode"] == "always",
                offline=parameters["offline"],
                cache=parameters["cache"],
                timeout=parameters["timeout"],
                build_only=parameters["build_only"],
                reserve=parameters["reserve"],
                check_mode=module.check_mode,
            )
    except npm_lock.NpmError as error:
        module.fail_json(**failure(error))
    module.exit_json(**sanitize.data(result), duration=round(time.monotonic() - started, 3))


if __name__ == "__main__":
    main()
