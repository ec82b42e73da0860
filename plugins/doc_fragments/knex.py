# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of how knex is run, shared by the modules that run it."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of C(knex.ARGUMENTS)."""

    DOCUMENTATION = r"""
options:
  app_dir:
    description: Folder of the application, with its knexfile and C(node_modules). An absolute path.
    type: path
    required: true
  db_path:
    description:
      - The database, absolute or relative to O(app_dir).
      - knex uses it, even if the knexfile names another one.
    type: path
    required: true
  user:
    description:
      - Account that knex runs as. Only root may name another account than its own.
      - Without it, root acts as the owner of O(app_dir), and any other account as itself.
    type: str
  node_env:
    description: Section of the knexfile. By default the C(NODE_ENV) of O(environment_file), else V(production).
    type: str
  environment_file:
    description:
      - File with C(KEY=VALUE) lines, read as systemd reads an C(EnvironmentFile), on the host.
      - knex gets its values in the environment. They are removed from the output of knex.
    type: path
  timeout:
    description: Time limit of one run of knex, in seconds.
    type: float
    default: 120
  node:
    description: The node that the service runs with; a name looked up on the path, or an absolute path.
    type: str
    default: node
"""
