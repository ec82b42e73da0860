# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""During a run, a second run either fails or waits for its turn. A dry run needs no lock."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import runs
from drills import RUNBOOK, Drill


class Story(NamedTuple):
    """The exit codes and states observed during the drill."""

    codes: dict[str, int]
    # During the first run, two other runs must not take the lease. The drill reads the lease before, between and after
    # these two runs.
    leases: list[dict[str, Any]]
    resolved: dict[str, Any]


@pytest.fixture(scope="module")
def story(drill: Drill) -> Story:
    runs.kill_service(drill)
    drill.host.check_output("/opt/drill/bin/hold-start")
    first = runs.Run(drill, "first")
    runs.wait_for(lambda: at_work(drill, "restart"), "the first run starts the service")

    codes, leases = {}, [runs.lease(drill)]
    for name, *arguments in (("second",), ("rehearsal", "--check")):
        codes[name] = runs.run(drill, name, *arguments)
        leases.append(runs.lease(drill))
        assert first.running

    waiting = start_waiting(drill, "waiting")
    assert first.running
    drill.host.check_output("rm /run/hold-start")
    codes["first"] = first.wait()
    codes["waiting"] = waiting.wait()
    return Story(codes, leases, drill.observation("first-after"))


def start_waiting(drill: Drill, name: str) -> runs.Run:
    """Start a run that must wait for the active run. Return the new run as soon as it is waiting."""
    # A module writes its arguments to the journal.
    asked = "journalctl --no-pager SYSLOG_IDENTIFIER=ansible-itsm_nexus.runbook.incident | grep -c wait=600"
    before = drill.host.run(asked).stdout
    waiting = runs.Run(drill, name, "--extra-vars", "outage_recover_wait=600")
    runs.wait_for(lambda: drill.host.run(asked).stdout != before, f"{name} waits")
    return waiting


def at_work(drill: Drill, step: str) -> bool:
    seen = runs.lease(drill)
    return bool(seen["lease"] and seen["lease"]["step"] == step and seen["worker"])


def test_second_run_is_refused_during_the_first(drill: Drill, story: Story) -> None:
    assert story.codes["second"] == 2
    assert drill.documents("second") == []
    assert drill.recap("second")["changed"] == 0


def test_second_run_names_the_first_with_its_start_and_step(drill: Drill, story: Story) -> None:
    lease = story.leases[0]["lease"]
    closing = drill.screen("second")[drill.screen("second").index("PLAY RECAP") :]
    for words in (
        "STOPPED: second_run_refused, another run",
        lease["run"],
        # The summary shows 2026-03-02T01:02:03.456Z as "2026-03-02 01:02:03 UTC".
        f"since {lease['since'][:19].replace('T', ' ')} UTC",
        "restart; process",
    ):
        assert words in closing, closing


def test_dry_run_takes_no_lock(drill: Drill, story: Story) -> None:
    assert story.codes["rehearsal"] == 0
    assert "WOULD TRY TO RECOVER" in drill.screen("rehearsal")
    # Only the first run held or renewed the lease.
    assert [each["lease"] for each in story.leases] == [story.leases[0]["lease"]] * 3


def test_first_run_is_not_disturbed(drill: Drill, story: Story) -> None:
    assert story.codes["first"] == 0
    told = drill.postmortem("first")
    assert (told["outcome"], told["rung"], len(told["runs"])) == ("recovered", "restart", 1)


def test_third_run_waits_and_then_has_nothing_to_do(drill: Drill, story: Story) -> None:
    assert story.codes["waiting"] == 0
    assert "HEALTHY: second_run_refused" in drill.screen("waiting")
    assert drill.documents("waiting") == []
    # The process that the first run started is still running, so the waiting run did not restart the service.
    assert drill.now()["processes"] == story.resolved["processes"]
    assert len(runs.past_incidents(drill)) == 1
    assert runs.open_incident(drill) is None


def test_incident_of_a_dead_run_is_closed_as_resolved_manually(drill: Drill, story: Story) -> None:
    runs.kill_service(drill)
    dead = runs.Run(drill, "dead", pause_before=runs.FIRST_RESPONSE)
    dead.pause()
    dead.kill()
    waiting = start_waiting(drill, "heir")
    drill.host.check_output(f"systemctl start {RUNBOOK.unit}")
    runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")
    running = drill.now()["processes"]
    left = runs.open_incident(drill)
    runs.wait_for(lambda: not runs.lease(drill)["worker"], "the dead run's last module ends")
    runs.lease(drill, "--age 60")
    assert waiting.wait() == 0
    assert drill.now()["processes"] == running
    assert runs.open_incident(drill) is None
    closed = runs.past_incidents(drill)[-1]
    # Neither the killed run nor its timer had started the service.
    assert (closed["id"], closed["outcome"], closed["cause"]) == (left["id"], "resolved_manually", "killed")
    assert closed["mitigated_at"]
    assert drill.recap("heir")["failed"] == 0


def test_no_row_is_lost(drill: Drill, story: Story) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
