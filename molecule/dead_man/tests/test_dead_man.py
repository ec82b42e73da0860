# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller is killed just after a run has cancelled the automatic restart: the host itself starts the service.

The controller is killed once. With DRILL_THOROUGH (make nightly), the controller is killed ten times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import outside
import pytest
import runs
from drills import RUNBOOK, Drill

ROUNDS = 10 if os.environ.get("DRILL_THOROUGH") else 1
LEASE = 60.0
SLACK = 10.0


@pytest.fixture(scope="module")
def client(drill: Drill) -> Iterator[outside.Client]:
    client = outside.Client(drill)
    runs.wait_for(lambda: client.healthy, "the client gets an answer")
    yield client
    client.close()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_service_recovers_without_a_controller(drill: Drill, client: outside.Client, number: int) -> None:
    outside.forget_restarts(drill)
    # The run must reach the host before systemd restarts the service. On a busy machine, this can take more than 10
    # seconds.
    drill.host.check_output("/opt/drill/bin/restart-after 30")
    killed_at = time.time()
    runs.kill_service(drill)
    dead = runs.Run(drill, f"{number}-dead", pause_before=runs.FIRST_RESPONSE)
    dead.pause()
    dead.kill()
    died_at = time.time()
    assert "PLAY RECAP" not in dead.screen()

    # systemd no longer restarts the service automatically. A timer on the host will start the service.
    assert outside.show(drill, "SubState") == {"SubState": "dead"}
    assert "itsm-runbook-dead-man" in outside.units_of_the_recovery(drill)
    left = runs.open_incident(drill)
    assert left is not None
    assert left["takeover"]["unit"].startswith(RUNBOOK.unit)
    assert left["takeover"]["timer"].startswith("itsm-runbook-dead-man")

    time.sleep(LEASE - 20)
    assert not client.healthy, "the run still held the lease"
    runs.wait_for(lambda: client.healthy or time.time() > died_at + LEASE + SLACK, "the service is started")
    back_at = client.healthy_since(died_at)
    assert back_at is not None and back_at <= died_at + LEASE + SLACK
    events = outside.unit_events(drill, killed_at)
    assert [events.count(each) for each in ("starting", "started", "stopping")] == [1, 1, 0], events

    assert runs.run(drill, f"{number}-next") == 0
    assert runs.open_incident(drill) is None
    record = runs.past_incidents(drill)[-1]
    assert (record["id"], record["opened_at"]) == (left["id"], left["opened_at"])
    assert record["cause"] == "killed"
    assert outside.unit_events(drill, killed_at) == events
    assert outside.units_of_the_recovery(drill) == ""


def test_no_row_is_lost(drill: Drill) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
