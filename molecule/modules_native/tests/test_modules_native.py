# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The native driver does not load, and the policy forbids the remedy: the run tries the first rung that can help."""

from __future__ import annotations

from drills import Drill


def test_restart_is_skipped_and_modules_are_rebuilt(drill: Drill) -> None:
    drill.assert_recovered(severity="emergency", cause="modules_broken", rung="standard_recovery", skipped=("restart",))


def test_damaged_driver_is_kept(drill: Drill) -> None:
    driver = "better-sqlite3/build/Release/better_sqlite3.node"
    modules = f"{drill.service.app}/node_modules"
    assert drill.host.file(f"{modules}.previous/{driver}").content_string == "not a shared object"
    assert drill.host.file(f"{modules}/{driver}").size > 1000000


def test_modules_are_replaced_while_the_service_is_stopped(drill: Drill) -> None:
    steps = [str(step["action"]).rpartition(".")[2] for step in drill.postmortem()["steps"]]
    assert [each for each in steps if each in ("npm_ci", "node_process")] == [
        "npm_ci",  # Builds the new modules.
        "node_process",
        "npm_ci",  # Replaces the old modules.
        "node_process",
    ]
