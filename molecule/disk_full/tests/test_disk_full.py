# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups fill the disk: a restart cannot help until space is freed. Only as many files as needed are deleted."""

from __future__ import annotations

from drills import Drill

APP = "/mnt/LinuxHDD/ITSM-System"


def test_cause_is_named_and_nothing_is_deleted(drill: Drill) -> None:
    assert APP in drill.assert_left_alone(cause="disk_full")["cause_summary"]


def test_space_is_freed_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(cause="disk_full")


def test_only_the_oldest_backups_are_deleted(drill: Drill) -> None:
    before, after = (drill.observation(name)["files"] for name in ("broken", "allowed-after"))
    gone = sorted(path for path in before if path not in after)
    backups = sorted(path for path in before if ".backup_" in path)
    assert 0 < len(gone) <= 3
    assert gone == backups[: len(gone)]
    assert after[f"{APP}/uploads.bin"] == before[f"{APP}/uploads.bin"]
