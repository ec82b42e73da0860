# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a host with many processes, a long log and a full journal, triage takes about as long as its slowest part."""

from __future__ import annotations

import json
from typing import Any

import pytest
import runs
from drills import RUNBOOK, STATE_DIR, Drill

# Triage may take at most this many seconds longer than its slowest part.
MOST = 1.5
DEADLINE = 10.0
INCIDENT = "INC-20260302T010203Z-0001"
TIMED_OUT = "timed out"


def look(drill: Drill, name: str, **variables: Any) -> dict[str, Any]:
    """Run triage and return the result of the triage module."""
    told = ["--extra-vars", json.dumps(variables)] if variables else []
    assert runs.run(drill, name, "-v", *told, playbook="outage_triage") == 0
    head = f"ok: [{drill.name}] => "
    found = [json.loads(line[len(head) :]) for line in drill.screen(name).splitlines() if line.startswith(head)]
    return next(result for result in found if "findings" in result)


def seconds(result: dict[str, Any]) -> dict[str, float]:
    return {name: took for name, took in result["parts"].items() if isinstance(took, float)}


@pytest.fixture(scope="module")
def passes(drill: Drill) -> list[dict[str, Any]]:
    """Run triage up to five times, until one run is fast enough. Other load on the machine can slow down a run."""
    found: list[dict[str, Any]] = []
    while len(found) < 5 and not any(beyond(result) < MOST for result in found):
        found.append(look(drill, f"pass-{len(found)}"))
    return found


def beyond(result: dict[str, Any]) -> float:
    return result["duration"] - max(seconds(result).values())


def test_the_host_is_crowded(drill: Drill) -> None:
    assert int(drill.host.check_output("ls /proc | grep -c '^[0-9]'")) > 500
    assert drill.host.file(RUNBOOK.log).size > 200 * 2**20
    assert int(drill.host.check_output("du --summarize --block-size=1M /var/log/journal | cut -f1")) >= 56


def test_triage_takes_little_longer_than_its_slowest_part(passes: list[dict[str, Any]]) -> None:
    assert min(map(beyond, passes)) < MOST, [(result["duration"], result["parts"]) for result in passes]


def test_everything_is_checked_and_nothing_is_wrong(passes: list[dict[str, Any]]) -> None:
    assert [result["findings"] for result in passes] == [[]] * len(passes)
    assert [name for name, took in passes[-1]["parts"].items() if not isinstance(took, float)] == []
    facts = passes[-1]["facts"]
    assert facts["log"]["size"] > 200 * 2**20 and len(facts["log"]["lines"]) == 100
    assert any(f"Started {RUNBOOK.unit}.service" in line for line in facts["journal"]["lines"])


def test_a_hanging_part_is_reported_and_does_not_delay_others(drill: Drill) -> None:
    drill.host.check_output("/opt/drill/bin/let-hang")
    result = look(drill, "hanging", nexus_incident=INCIDENT, nexus_log_file="/mnt/share/server.log")
    assert result["duration"] < DEADLINE
    assert result["findings"] == []
    hung = {name for name, took in result["parts"].items() if took == TIMED_OUT}
    assert hung >= {"log", "disk:log", "npm_ls"}
    assert set(seconds(result)) >= {"process", "unit", "ports", "answer", "database", "journal", "disk:application"}
    manifest = json.loads(drill.host.check_output(f"cat {STATE_DIR}/evidence/{INCIDENT}/manifest.json"))
    assert set(manifest["not_reached"]) >= hung


def test_the_service_serves(drill: Drill) -> None:
    drill.assert_serves()
