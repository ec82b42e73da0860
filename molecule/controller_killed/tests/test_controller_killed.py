# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller is killed during a clean start: the next run continues the incident and closes it.

The controller is killed twice. After the first kill, the drill waits until the lease expires. After the second kill,
the drill backdates the lease so that the lease has already expired. With DRILL_THOROUGH (make nightly), the controller
is killed ten times, and the drill waits each time.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import runs
from drills import Drill

THOROUGH = bool(os.environ.get("DRILL_THOROUGH"))
# The test kills the controller during each of these tasks. The number is the time in seconds from the start of the task
# to the kill.
POINTS = [
    # This task opens the incident as soon as it detects the outage.
    ("Probe the service's health", 0.4),
    ("Save the evidence and find the cause", 0.5),
    ("2.2 and 4 Ladder: try the rungs in order", 0.0),
    ("Check the database while the service is stopped", 0.3),
    ("Back up the database and verify the backup", 0.5),
    ("Checkpoint the WAL", 0.3),
    ("Build the new dependencies in a separate folder", 0.4),
    ("Wait for the first healthy response and log in", 0.5),
    ("Check that the service stays up", 0.6),
    ("Complete the incident record and release the lock", 0.2),
]
FEW = (5, 9)
PATIENT = range(len(POINTS)) if THOROUGH else FEW[:1]
LEASE = 60.0
# Additional seconds for a busy machine. On an idle machine, 0.1 seconds would be enough, because the next run checks
# the lease ten times a second.
SLACK = 5.0


def boot_clock() -> float:
    """Return the time of the clock that leases use, in seconds. All hosts on this machine share this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_over(drill: Drill) -> bool:
    seen = runs.lease(drill)
    lease = seen["lease"]
    return lease is None or lease["released"] or (seen["boot"] > lease["ends"] and not seen["worker"])


def next_run(drill: Drill, name: str, *, ended_at: float, patient: bool) -> None:
    """Wait until the lease of the killed run expires, and run the playbook until the incident is closed.

    ended_at: the time when the killed run ended, according to the lease clock. patient: if False, backdate the lease
    instead.
    """
    held = runs.lease(drill)["lease"]
    taken = held is not None and not held["released"]
    if taken:
        assert held["ends"] - ended_at <= LEASE
    if not patient:
        if taken:
            runs.lease(drill, "--age", str(LEASE))
        assert runs.run(drill, name) == 0
        return
    following = runs.Run(drill, name, "--extra-vars=outage_recover_wait=300")
    runs.wait_for(lambda: not following.running or runs.lease(drill)["lease"] != held, "the next run begins")
    if taken and following.running:
        # The next run must begin when the lease expires, neither earlier nor much later.
        begun_at = runs.lease(drill)["lease"]["renewed"]
        assert held["ends"] <= begun_at <= ended_at + LEASE + SLACK
    assert following.wait() == 0
    if runs.open_incident(drill):
        # The incident is still open although the service is healthy. Another run closes the incident.
        assert "HEALTHY" in drill.screen(name)
        runs.wait_for(lambda: is_over(drill), "the lease ends")
        assert runs.run(drill, f"{name}-closing") == 0


@pytest.mark.parametrize("number", range(len(POINTS)) if THOROUGH else FEW)
def test_next_run_continues_the_incident(drill: Drill, number: int) -> None:
    task, delay = POINTS[number]
    fell_at = runs.instant(time.time())
    runs.kill_service(drill)
    killed = runs.Run(drill, f"{number}-killed")
    killed.reach(task)
    time.sleep(delay)
    killed.kill()
    assert "PLAY RECAP" not in killed.screen()
    # If the controller is killed, a module that is running on the host continues to completion.
    runs.wait_for(
        lambda: drill.host.run("pgrep -f 'echo BECOME-SUCCES[S]'").rc != 0, "the killed run's last module ends"
    )
    left = runs.open_incident(drill)

    next_run(drill, f"{number}-next", ended_at=boot_clock(), patient=number in PATIENT)

    assert runs.open_incident(drill) is None
    record = runs.past_incidents(drill)[-1]
    assert fell_at <= record["detected_at"]
    if left is not None:
        assert_continued(drill, f"{number}-next", left, record)
    drill.assert_serves()
    drill.assert_every_row_is_there()


def assert_continued(drill: Drill, run: str, left: dict[str, Any], record: dict[str, Any]) -> None:
    """Assert that the next run continued the incident and kept the times and signs that the killed run recorded."""
    assert (record["id"], record["opened_at"]) == (left["id"], left["opened_at"])
    assert len(record["runs"]) == 2
    assert record["outcome"] in ("recovered", "resolved_manually")
    for sign in left["signs"]:
        assert sign in record["signs"]
    if drill.documents(run):
        told = drill.postmortem(run)
        assert told["times"]["started_at"] <= left["detected_at"]
        assert told["times"]["detected_at"] == left["detected_at"]


def test_a_killed_run_leaves_its_timeline(drill: Drill) -> None:
    (timeline,) = (drill.output / f"{FEW[0]}-killed").glob("*.jsonl")
    events = [json.loads(line) for line in timeline.read_text(encoding="utf-8").splitlines()]
    # After the chosen moment, one or two more tasks may have started before the controller was killed.
    assert POINTS[FEW[0]][0] in [event["task"] for event in events if event["kind"] == "started"][-3:]
