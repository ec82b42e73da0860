# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the knex options, shared by the modules that run knex."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of knex.ARGUMENTS."""

    DOCUMENTATION = r"""
options:
  app_dir:
    description: Absolute path of the application's folder, which contains the knexfile and C(node_modules).
    type: path
    required: true
  db_path:
    description:
      - Path of the database, absolute or relative to O(app_dir).
      - knex uses this database, even if the knexfile contains another path.
    type: path
    required: true
  user:
    description:
      - Account that runs knex. If the module does not run as root, it must run as this account.
      - Defaults to the owner of O(app_dir) if the module runs as root, otherwise to the account that runs the module.
    type: str
  node_env:
    description: Section of the knexfile to use. If empty, the module uses C(NODE_ENV) from O(environment_file). If that
      variable is not set either, the module uses V(production).
    type: str
  environment_file:
    description:
      - File on the host with C(KEY=VALUE) lines, in the format of systemd's C(EnvironmentFile=).
      - The module passes these variables to knex, and removes their values from the output of knex.
    type: path
  timeout:
    description: Time limit for each run of knex, in seconds.
    type: float
    default: 120
  node:
    description: The node program of the service, as an absolute path or as a name that is looked up in E(PATH).
    type: str
    default: node
"""
