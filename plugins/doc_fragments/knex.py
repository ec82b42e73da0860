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
    description: Absolute path of the application folder, which contains the knexfile and C(node_modules).
    type: path
    required: true
  db_path:
    description:
      - Path of the database, absolute or relative to O(app_dir).
      - knex uses this database even if the knexfile specifies a different path.
    type: path
    required: true
  user:
    description:
      - Account that runs knex. If the module does not run as root, it must run as this account.
      - Defaults to the owner of O(app_dir) if the module runs as root, otherwise to the account that runs the module.
    type: str
  node_env:
    description: Name of the knexfile section to use. If empty, the module uses C(NODE_ENV) from O(environment_file). If
      that variable is not set either, the module uses V(production).
    type: str
  environment_file:
    description:
      - Path of a file on the host with C(KEY=VALUE) lines, in the format that systemd uses for C(EnvironmentFile=).
      - The module passes the variables in this file to knex, and removes their values from the knex output.
    type: path
  timeout:
    description: Time limit for each knex command, in seconds.
    type: float
    default: 120
  node:
    description: The Node.js program of the service. Either an absolute path, or a program name to look up in E(PATH).
    type: str
    default: node
"""
