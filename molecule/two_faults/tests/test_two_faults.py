# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A foreign process uses the port, and a package is missing: the run finds both causes."""

from __future__ import annotations

from drills import Drill


def test_both_are_found(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="modules_broken")
    found = {each["cause"]: each["explained_by"] for each in told["findings"]}
    assert (found["port_conflict"], found["modules_broken"]) == (None, None)


def test_both_are_remedied_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(cause="modules_broken", also=("port_conflict",))
