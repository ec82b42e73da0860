# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release was installed without its migration: the run makes a backup and applies the migration.

A restart does not help.
"""

from __future__ import annotations

from drills import Drill


def test_migration_is_named_and_not_applied(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="migration_pending")
    assert [each["rung"] for each in told["rungs_skipped"]] == ["restart", "standard_recovery"]
    assert "20260301090000_add_due_at" in str(told["findings"][0]["evidence"])


def test_migration_is_applied_if_policy_allows_it(drill: Drill) -> None:
    told = drill.assert_remedied(cause="migration_pending", migrations=1)
    assert "backup" in str(told["remedies"][-1]["detail"])
