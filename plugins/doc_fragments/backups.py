# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the options backup_dirs and backup_patterns, shared by the modules that search for backups."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of candidates.ARGUMENTS."""

    DOCUMENTATION = r"""
options:
  backup_dirs:
    description:
      - Folders in which the module searches for backups, in addition to the database folder.
      - The module also examines the verified backups that M(itsm_nexus.runbook.scheduled_backup) has recorded in
        O(state_dir). These backups can be in any folder.
      - The module compares the first migration in a backup with the first migration in the last database that was found
        intact. If the times of these migrations differ, the backup is from another database, and the module does not
        use the backup.
    type: list
    elements: path
    default: []
  backup_patterns:
    description:
      - File name patterns for backups. A backup can have its own WAL.
      - If empty, the module uses default patterns. For a database named C(itsm.db), the default patterns are
        V(itsm.db.backup_*) and V(itsm.db.bak*). In O(backup_dirs), the module also uses the patterns V(itsm.db),
        V(itsm_*.db) and V(itsm-*.db).
    type: list
    elements: str
    default: []
"""
