# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A killed migration has left its lock behind, so every start fails until the lock is released."""

from __future__ import annotations

from drills import Drill


def test_lock_is_named_and_not_released(drill: Drill) -> None:
    assert "lock" in drill.assert_left_alone(cause="migration_pending")["cause_summary"]


def test_lock_is_released_if_policy_allows_it(drill: Drill) -> None:
    told = drill.assert_remedied(cause="migration_pending")
    locked = "SELECT is_locked FROM knex_migrations_lock"
    assert drill.host.check_output(f"sqlite3 -readonly {drill.service.database} '{locked}'") == "0"
    assert "backup" in str(told["remedies"][-1]["detail"])
