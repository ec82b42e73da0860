# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder


def test_the_groups_of_rungs():
    """The rules for causes use these groups. If you add a rung, decide to which groups it belongs."""
    groups = ("RUNGS", "ONLY_START", "NO_REPAIR", "ABOVE_THE_FIRST", "KEEP_MODULES", "KEEP_SCHEMA", "MIGRATE")
    assert {group: getattr(ladder, group) for group in groups} == {
        "RUNGS": ("restart", "standard_recovery", "clean_start_recovery"),
        "ONLY_START": ("restart",),
        "NO_REPAIR": ("restart",),
        "ABOVE_THE_FIRST": ("standard_recovery", "clean_start_recovery"),
        "KEEP_MODULES": ("restart", "standard_recovery"),
        "KEEP_SCHEMA": ("restart", "standard_recovery"),
        "MIGRATE": ("clean_start_recovery",),
    }
