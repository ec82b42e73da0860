# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run starts a crashed service before the cause is known, and the evidence is still complete.

If the data is in doubt, the run does not start the service.

The drill compares the evidence from two crashes. After one crash, a first response starts the service. After the other
crash, the run starts the service only when triage is complete. Then the drill damages the database, and a run must not
start the service.
"""

from __future__ import annotations

import json
import time
from typing import Any

import outside
import pytest
import runs
from drills import STATE_DIR, Drill

# Facts that change at a service start. The evidence must contain the values from before the start.
CHANGED_BY_A_START = ("unit", "process", "ports", "answer")


def evidence(drill: Drill, folder: str, name: str = "triage.json") -> Any:
    return json.loads(drill.host.check_output(f"cat {folder}/{name}"))


def names_in(drill: Drill, folder: str) -> set[str]:
    """Return the names of all evidence files in a folder and its subfolders, without the paths."""
    return set(drill.host.check_output(f"find {folder} -type f -printf '%f\\n'").split())


def crash(drill: Drill, name: str, *arguments: str) -> tuple[dict[str, Any], float]:
    """Kill the service and run the playbook.

    Return the postmortem, and the Unix time at which the service was killed.
    """
    outside.forget_restarts(drill)
    killed_at = time.time()
    runs.kill_service(drill)
    assert runs.run(drill, name, *arguments) == 0
    drill.assert_serves()
    told = drill.postmortem(name)
    assert (told["outcome"], told["rung"], told["cause"]) == ("recovered", "restart", "killed")
    assert told["data_loss"] == "none"
    return told, killed_at


@pytest.fixture(scope="module")
def with_first_response(drill: Drill) -> tuple[dict[str, Any], float]:
    return crash(drill, "responded")


@pytest.fixture(scope="module")
def without(drill: Drill, with_first_response: Any) -> tuple[dict[str, Any], float]:
    return crash(drill, "investigated", "--extra-vars=outage_recover_first_response=false")


def test_the_service_is_started_once_and_before_the_triage_ends(
    drill: Drill, with_first_response: tuple[dict[str, Any], float]
) -> None:
    told, killed_at = with_first_response
    events = outside.unit_events(drill, killed_at)[:3]
    assert [events.count(each) for each in ("exited", "starting", "started")] == [1, 1, 1], events
    actions = [str(step["action"]).rpartition(".")[2] for step in told["steps"]]
    assert actions.index("triage_info") < actions.index("node_process") < actions.index("sqlite_info")
    assert "Start or stop the service" not in drill.screen("responded")
    assert outside.units_of_the_recovery(drill) == ""
    record = runs.past_incidents(drill)[-1]
    assert len(record["starts"]) == 1
    assert [(each["rung"], each["held"]) for each in record["attempts"]] == [("restart", True)]


def test_the_evidence_was_saved_before_the_start(
    drill: Drill, with_first_response: tuple[dict[str, Any], float]
) -> None:
    told, killed_at = with_first_response
    started = f"journalctl --unit={drill.service.unit} --since=@{killed_at:.6f} --output=short-unix"
    lines = [line for line in drill.host.check_output(started).splitlines() if " Starting " in line]
    saved = float(drill.host.check_output(f"stat --format=%.Y {told['evidence']}/triage.json"))
    assert killed_at < saved < float(lines[0].split()[0])


def test_the_evidence_is_as_complete_as_without_a_first_response(
    drill: Drill, with_first_response: tuple[dict[str, Any], float], without: tuple[dict[str, Any], float]
) -> None:
    responded, investigated = with_first_response[0], without[0]
    first = evidence(drill, responded["evidence"])
    complete = evidence(drill, f"{responded['evidence']}/pass-2")
    triaged = evidence(drill, investigated["evidence"])
    assert complete["parts"].keys() >= triaged["parts"].keys()
    assert all(isinstance(report, float) for report in complete["parts"].values()), complete["parts"]
    assert complete["facts"].keys() == triaged["facts"].keys()
    assert [each["cause"] for each in complete["findings"]] == [each["cause"] for each in triaged["findings"]]
    assert names_in(drill, responded["evidence"]) == names_in(drill, investigated["evidence"])
    # Starting the service resets these values.
    for seen in (first, complete):
        unit = seen["facts"]["unit"]
        assert (unit["result"], unit["exit_code"], unit["exit_status"]) == ("signal", "killed", 9)
        assert seen["facts"]["process"]["state"] == "gone"
        assert any("status=9/KILL" in each["text"] for each in seen["facts"]["journal"]["exits"])
        assert seen["facts"]["database"]["row_counts"]["incidents"] > 0
    for name in CHANGED_BY_A_START:
        assert complete["facts"][name] == first["facts"][name], name
    for field in ("causes", "findings"):
        assert (responded.get(field) is None) == (investigated.get(field) is None)


def test_check_mode_starts_nothing(drill: Drill) -> None:
    outside.forget_restarts(drill)
    drill.host.check_output(f"systemctl stop {drill.service.unit}")
    before = drill.now()
    assert runs.run(drill, "checked", "--check") == 0
    drill.assert_untouched(before, drill.now())
    assert drill.now()["processes"] == []
    drill.host.check_output(f"systemctl start {drill.service.unit}")
    runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")


def test_a_database_in_doubt_is_not_started(drill: Drill) -> None:
    outside.forget_restarts(drill)
    drill.host.check_output("/opt/drill/bin/rows-into-wal")
    runs.wait_for(lambda: drill.ask("https://host:6443/api/v1/health")[0] == 200, "the service answers")
    damaged_at = time.time()
    drill.host.check_output("/opt/drill/bin/put-in-doubt pages")
    assert runs.run(drill, "in-doubt") == 2
    told = drill.postmortem("in-doubt")
    assert (told["outcome"], told["cause"], told["rungs_tried"]) == ("not_recovered", "db_corrupt", [])
    assert set(outside.unit_events(drill, damaged_at)) <= {"exited"}
    assert drill.now()["processes"] == []
    assert drill.host.file(f"{STATE_DIR}/hold.json").exists
    assert runs.open_incident(drill)["starts"] == []
