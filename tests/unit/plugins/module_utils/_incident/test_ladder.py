# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder


def test_the_groups_of_rungs():
    """The rules for causes use these groups. If you add a rung, decide which of the groups it belongs to."""
    assert ladder.RUNGS == ("restart", "standard_recovery", "clean_start_recovery")
    assert ladder.ONLY_START == ("restart",)
    assert ladder.ABOVE_THE_FIRST == ("standard_recovery", "clean_start_recovery")
    assert ladder.KEEP_MODULES == ladder.KEEP_SCHEMA == ("restart", "standard_recovery")
    assert ladder.MIGRATE == ("clean_start_recovery",)
