# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd and a run try to restart the service at the same time: the service starts only once.

The run begins long before systemd's restart, just before it, or just after it. With DRILL_THOROUGH (make nightly), the
delay between the kill and the run ranges from 0 to 15 seconds in steps of half a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import outside
import pytest
import runs
from drills import RUNBOOK, Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
DELAYS = [number / 2 for number in range(31)] if THOROUGH else [0.0, 9.0, 12.5]
# Maximum difference in seconds between the recorded outage and the outage that the client observed. If parallel drills
# share the cores, the first probe of a run is later, so the difference may be larger.
AGREES = 1.0 * int(os.environ.get("DRILL_JOBS", "1"))


@pytest.fixture(scope="module")
def client(drill: Drill) -> Iterator[outside.Client]:
    client = outside.Client(drill)
    runs.wait_for(lambda: client.healthy, "the client gets an answer")
    yield client
    client.close()


@pytest.mark.parametrize("delay", DELAYS)
def test_service_is_started_once(drill: Drill, client: outside.Client, delay: float) -> None:
    outside.forget_restarts(drill)
    name = f"after-{delay}"
    killed_at = time.time()
    runs.kill_service(drill)
    time.sleep(max(0.0, killed_at + delay - time.time()))
    began_at = time.time()
    assert runs.run(drill, name) == 0
    ended_at = time.time()

    events = outside.unit_events(drill, killed_at)
    assert events.count("exited") == 1, events
    assert [events.count(each) for each in ("starting", "started", "stopping")] == [1, 1, 0], events
    runs.wait_for(lambda: client.healthy_since(ended_at) is not None, "the client gets an answer after the run")
    outages = client.outages(killed_at)
    assert len(outages) == 1, [[instant - killed_at for instant in outage] for outage in outages]
    ((fell_at, back_at),) = outages
    by_systemd = "restart scheduled" in events
    told = drill.postmortem(name)
    outcome, rung = ("recovered_by_systemd", None) if by_systemd else ("recovered", "restart")
    assert (told["outcome"], told["rung"], told["cause"]) == (outcome, rung, "killed")
    assert abs(told["durations"]["outage"] - (back_at - fell_at)) <= AGREES
    assert abs(outside.seconds_of(told["times"]["started_at"]) - fell_at) <= AGREES
    assert abs(outside.seconds_of(told["times"]["mitigated_at"]) - back_at) <= AGREES
    assert began_at < outside.seconds_of(told["times"]["resolved_at"]) < ended_at
    # If systemd restarted the service, the rows were not counted before the restart. In this case, the run cannot
    # detect a loss.
    assert told["data_loss"] == ("unknown" if by_systemd else "none")
    record = runs.past_incidents(drill)[-1]
    assert record["id"] == told["incident"]
    if by_systemd:
        assert record["takeover"] is None
        assert told["rungs_tried"] == []
        return
    # When the service starts, systemd resets the information about the last exit. Therefore, the run records this
    # information when it takes over the restart.
    last_exit = record["last_exit"]
    assert (last_exit["result"], last_exit["code"], last_exit["status"]) == ("signal", "killed", 9)
    assert abs(outside.seconds_of(last_exit["at"]) - killed_at) <= AGREES


def test_no_timer_remains(drill: Drill) -> None:
    assert outside.units_of_the_recovery(drill) == ""


@pytest.mark.parametrize("delay", [0.0, 1.0, 3.0] if THOROUGH else [1.0])
def test_planned_restart_is_not_an_incident(drill: Drill, client: outside.Client, delay: float) -> None:
    """A person restarts the service. The service finishes starting `delay` seconds after the run's first probe."""
    outside.forget_restarts(drill)
    name = f"planned-{delay}"
    before = runs.past_incidents(drill)
    drill.host.check_output("/opt/drill/bin/hold-start")
    restarted_at = time.time()
    drill.host.check_output(f"systemctl restart --no-block {RUNBOOK.unit}")
    run = runs.Run(drill, name)
    runs.wait_for(lambda: outside.first_probe(drill, restarted_at) is not None, "the first probe")
    assert not client.healthy
    time.sleep(delay)
    drill.host.check_output("rm /run/hold-start")
    assert run.wait() == 0

    runs.wait_for(lambda: client.healthy, "the client gets an answer")
    events = outside.unit_events(drill, restarted_at)
    assert [events.count(each) for each in ("stopping", "starting", "started")] == [1, 1, 1], events
    assert drill.documents(name) == []
    assert runs.open_incident(drill) is None
    assert runs.past_incidents(drill) == before
    assert "HEALTHY" in drill.screen(name)


def test_no_row_is_lost(drill: Drill) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
