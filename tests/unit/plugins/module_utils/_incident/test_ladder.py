# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder

# The rules for causes use these groups.
GROUPS = {
    "RUNGS": ("restart", "standard_recovery", "clean_start_recovery"),
    "ONLY_START": ("restart",),
    "NO_REPAIR": ("restart",),
    "ABOVE_THE_FIRST": ("standard_recovery", "clean_start_recovery"),
    "KEEP_MODULES": ("restart", "standard_recovery"),
    "KEEP_SCHEMA": ("restart", "standard_recovery"),
    "MIGRATE": ("clean_start_recovery",),
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_rungs(group):
    assert getattr(ladder, group) == GROUPS[group], (
        f"{group} in plugins/module_utils/_incident/ladder.py has other rungs than {group} in GROUPS in this test. "
        f"Check all rules that use it: git grep -n {group} plugins. Then correct GROUPS"
    )
