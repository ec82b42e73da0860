# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logs and backups fill the disk: a restart does not help until the run has deleted the oldest files."""

from __future__ import annotations

from drills import Drill


def logs(drill: Drill) -> str:
    return f"{drill.service.app}/backend/logs"


def test_cause_is_named_and_nothing_is_deleted(drill: Drill) -> None:
    assert drill.service.app in drill.assert_left_alone(cause="disk_full")["cause_summary"]


def test_space_is_freed_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(cause="disk_full")


def test_only_as_many_of_the_oldest_files_as_needed_are_deleted(drill: Drill) -> None:
    before, after = (drill.observation(name)["files"] for name in ("broken", "allowed-after"))
    gone = sorted(path for path in before if path not in after)
    backups = sorted(path for path in before if ".backup_" in path)
    assert gone == [backups[0], *(f"{logs(drill)}/app-2026-02-{day}.log" for day in (26, 27, 28))]
    assert after[f"{drill.service.app}/uploads.bin"] == before[f"{drill.service.app}/uploads.bin"]


def test_the_log_that_is_being_written_is_not_touched(drill: Drill) -> None:
    before, after = (drill.observation(name)["files"] for name in ("broken", "allowed-after"))
    assert after[f"{logs(drill)}/app-2026-03-06.log"] == before[f"{logs(drill)}/app-2026-03-06.log"]
