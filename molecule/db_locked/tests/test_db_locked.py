# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another process holds the write lock, so every start fails until that process exits."""

from __future__ import annotations

from drills import Drill


def test_lock_holder_is_named_and_not_stopped(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="db_locked")
    assert "hold-lock" in str(told["findings"][0]["evidence"])
    assert "no policy lists it" in str(told["remedies"][0]["reason"])


def test_lock_holder_is_stopped_if_policy_names_it(drill: Drill) -> None:
    drill.assert_remedied(cause="db_locked")
    assert drill.host.run("systemctl is-active report").stdout.strip() == "inactive"
