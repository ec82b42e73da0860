# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The actions in the postmortem take every cause into account."""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import disk, memory, table
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_actions

# Causes about memory or disks that cannot be fixed with more memory or disk space, and causes for which other actions
# are proposed.
NO_LACK = {
    "disk_read_only": "the file system is full of errors, not of data",
    "disk_filling": "the service answers. The remedy proposes to free or to add space",
    "memory_pressure": "the service answers. The remedy proposes to find out what uses the memory",
}


def test_every_lack_of_memory_or_disk_space_proposes_more_of_it() -> None:
    files = {disk.__name__, memory.__name__}
    about = {
        name
        for name, cause in table.CAUSES.items()
        if cause.rule.__module__ in files or name.startswith(("disk_", "memory_"))
    }
    known = set(prose_actions._RESOURCE_CAUSES)
    assert sorted(about - known - set(NO_LACK)) == [], (
        "Add each of these causes to _RESOURCE_CAUSES in plugins/plugin_utils/_report/prose_actions.py. If more memory "
        "or disk space does not fix the cause, add it to NO_LACK"
    )
    assert known <= about
