# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller is killed in the midst of a clean start: the next run goes on with the incident and ends it.

Two kills, and the end of the lease is waited for after the first; after the other so much time passes for the lease
alone. With DRILL_THOROUGH (make nightly) it is ten, all with their wait.
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
# The tasks in which it is killed, and how many seconds after they began.
POINTS = [
    # It opens the incident where it finds the outage.
    ("Probe the service's health", 0.4),
    ("Save the evidence and find the cause", 0.5),
    ("Begin the rung", 0.0),
    ("Look at the database with nobody in it", 0.3),
    ("Back up the database and read the backup back", 0.5),
    ("Let SQLite move the WAL into the database", 0.3),
    ("Build new dependencies next to the present ones", 0.4),
    ("Wait for the first healthy answer and log in", 0.5),
    ("Watch that it stays up", 0.6),
    ("Complete the incident's record and free its lock", 0.2),
]
FEW = (5, 9)
PATIENT = range(len(POINTS)) if THOROUGH else FEW[:1]
LEASE = 60.0
# What a busy machine may add to that: the next run looks ten times a second.
SLACK = 5.0


def boot_clock() -> float:
    """The clock of the lease, which is the same on the hosts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_over(drill: Drill) -> bool:
    seen = runs.lease(drill)
    lease = seen["lease"]
    return lease is None or lease["released"] or (seen["boot"] > lease["ends"] and not seen["worker"])


def next_run(drill: Drill, name: str, *, ended_at: float, patient: bool) -> None:
    """Let the lease of the killed run end, and run the playbook until it has nothing left to do."""
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
    runs.wait_for(lambda: not following.running or runs.lease(drill)["lease"] != held, "it begins")
    if taken and following.running:
        # Neither before the lease is over nor long after it.
        begun_at = runs.lease(drill)["lease"]["renewed"]
        assert held["ends"] <= begun_at <= ended_at + LEASE + SLACK
    assert following.wait() == 0
    if runs.open_incident(drill):
        # The service was well again, so there was nothing to wait for but the end of the incident.
        assert "HEALTHY" in drill.screen(name)
        runs.wait_for(lambda: is_over(drill), "the lease ends")
        assert runs.run(drill, f"{name}-closing") == 0


@pytest.mark.parametrize("number", range(len(POINTS)) if THOROUGH else FEW)
def test_next_run_goes_on_with_the_incident(drill: Drill, number: int) -> None:
    task, delay = POINTS[number]
    fell_at = runs.instant(time.time())
    runs.kill_service(drill)
    killed = runs.Run(drill, f"{number}-killed")
    killed.reach(task)
    time.sleep(delay)
    killed.kill()
    assert "PLAY RECAP" not in killed.screen()
    # Nobody on the host tells the module that is at work: it goes on to its end.
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
    """It is the same incident, with the beginning that the killed run put on record."""
    assert (record["id"], record["opened_at"]) == (left["id"], left["opened_at"])
    assert len(record["runs"]) == 2
    assert record["outcome"] in ("recovered", "mended_by_hand")
    for sign in left["signs"]:
        assert sign in record["signs"]
    if drill.documents(run):
        told = drill.postmortem(run)
        assert told["times"]["started_at"] <= left["detected_at"]
        assert told["times"]["detected_at"] == left["detected_at"]


def test_a_killed_run_has_left_its_timeline(drill: Drill) -> None:
    (timeline,) = (drill.output / f"{FEW[0]}-killed").glob("*.jsonl")
    events = [json.loads(line) for line in timeline.read_text(encoding="utf-8").splitlines()]
    # A task or two may have begun between the point and the kill.
    assert POINTS[FEW[0]][0] in [event["task"] for event in events if event["kind"] == "started"][-3:]
