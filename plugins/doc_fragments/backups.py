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
      - Folders in which to search for backups, in addition to the database's folder.
      - The module also examines the verified backups that M(itsm_nexus.runbook.scheduled_backup) has recorded in
        O(state_dir), regardless of their folder.
      - The module compares the time of the first migration in a backup with that in the last database that was found
        intact. If the times differ, the backup is from another database and is not used.
    type: list
    elements: path
    default: []
  backup_patterns:
    description:
      - Patterns for the file names of backups. A backup may have its own WAL.
      - If empty, the module uses default patterns. For a database C(itsm.db), these are V(itsm.db.backup_*) and
        V(itsm.db.bak*). In O(backup_dirs), they also include V(itsm.db), V(itsm_*.db) and V(itsm-*.db).
    type: list
    elements: str
    default: []
"""
