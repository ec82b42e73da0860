# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service is busy but healthy: a run finds no problem and changes nothing, even if the run is repeated."""

from __future__ import annotations

import pytest
from drills import Drill


@pytest.mark.parametrize("run", ["first", "second"])
def test_no_run_changes_anything(drill: Drill, run: str) -> None:
    recap = drill.recap(run)
    assert {key: recap[key] for key in ("changed", "failed", "unreachable", "rescued")} == {
        "changed": 0,
        "failed": 0,
        "unreachable": 0,
        "rescued": 0,
    }
    assert (
        "HEALTHY: healthy, login not checked (outage_verify.yml checks it, if a password is set); "
        "this run did not change the service" in drill.screen(run)
    )
    assert drill.documents(run) == []


def test_a_run_takes_at_most_three_round_trips(drill: Drill) -> None:
    # Each module calls sudo once. At most 3 calls prepare the load, each of the 2 runs makes 3 calls, and triage makes
    # 2 calls.
    discovered = (drill.output / "discovered.log").stat().st_mtime
    asked = f"journalctl --no-pager --since=@{discovered:.6f} SYSLOG_IDENTIFIER=sudo"
    calls = drill.host.check_output(f"{asked} | grep -c COMMAND=")
    assert int(calls) <= 3 + 2 * 3 + 2


def test_triage_finds_nothing(drill: Drill) -> None:
    assert "NOTHING WRONG FOUND: healthy" in drill.screen("triage")
    assert drill.recap("triage")["failed"] == 0


def test_host_is_unchanged(drill: Drill) -> None:
    drill.assert_untouched(drill.observation("sound"), drill.now())


def test_service_serves(drill: Drill) -> None:
    drill.assert_serves()
