# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs in an incident, and the rungs that they tried."""

from __future__ import annotations

import pytest
from timeline_samples import OUTCOME, Recording, only

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents


def test_without_a_verdict_the_ladder_is_derived_from_roles():
    recording = Recording().down().opened()
    recording.task("node_process", {"state": "restarted"}, "changed", "restart").verified(healthy=False)
    recording.task("npm_ci", {"needed": False}, role="standard_recovery").verified().ended()
    incident = only(recording)
    assert incident.source == "events"
    assert [(rung.rung, rung.held, rung.seconds) for rung in incident.rungs_tried] == [
        ("restart", False, 1.0),
        ("standard_recovery", True, 1.0),
    ]
    assert (incident.outcome, incident.rung, incident.severity) == ("recovered", "standard_recovery", "emergency")
    assert incident.times.mitigated_at == "2026-03-02T01:00:06.000Z"
    assert incident.durations.outage == 6.0


@pytest.mark.parametrize(
    ("seen", "held"),
    [
        pytest.param(lambda each: each, True, id="answered"),
        pytest.param(lambda each: each.begun("health_probe"), None, id="killed during the stability check"),
        pytest.param(lambda each: each.begun("health_probe").verified(), True, id="completed the stability check"),
        pytest.param(lambda each: each.begun("health_probe").verified(healthy=False), False, id="failed"),
        pytest.param(lambda each: each.verified().begun("sqlite_info"), None, id="killed while rows were counted"),
        pytest.param(
            lambda each: each.begun("sqlite_info").task("sqlite_info", {"healthy": True}, role="verification"),
            True,
            id="counted",
        ),
    ],
)
def test_a_rung_with_an_interrupted_verification_has_no_known_result(seen, held):
    recording = Recording().down().opened().task("node_process", {"state": "restarted"}, "changed", "restart")
    (rung,) = only(seen(recording.begun("health_probe").verified())).rungs_tried
    assert rung.held is held


def test_a_run_killed_during_the_first_response_may_have_started_the_service():
    begun = {"host": "node1", "task": "Respond", "role": "triage", "action": "itsm_nexus.runbook.first_response"}
    recording = Recording().down().opened().add("started", **begun)
    (rung,) = only(recording).rungs_tried
    assert (rung.rung, rung.held) == ("restart", None)
    # The response has ended. Its result shows that nothing was started.
    assert only(recording.task("triage_info", {"findings": []}, role="triage")).rungs_tried == []


def test_a_failed_rung_has_a_reason():
    recording = Recording().down().opened()
    recording.task("npm_ci", status="failed", role="standard_recovery", msg="registry does not answer").ended()
    (rung,) = only(recording).rungs_tried
    assert (rung.held, rung.reason) == (False, "registry does not answer")


def test_two_runs_of_an_incident_are_one():
    first = Recording("run1").add("run_start", playbook="outage_recover.yml").down().opened()
    first.add("started", host="node1", task="Rebuild", role="standard_recovery", action="itsm_nexus.runbook.npm_ci")
    second = Recording("run2")
    second.second = 30
    second.add("run_start", playbook="outage_recover.yml").down().opened()
    second.add("outcome", host="node1", data=OUTCOME).ended()
    (incident,) = timeline_incidents.from_events([*second.events, *first.events])
    assert [(run.run, run.complete, run.last_task) for run in incident.runs] == [
        ("run1", False, "Rebuild"),
        ("run2", True, "incident"),
    ]
    assert [(rung.rung, rung.run) for rung in incident.rungs_tried] == [
        ("standard_recovery", "run1"),
        ("restart", "run2"),
    ]


@pytest.mark.parametrize(
    ("finish", "released"),
    [
        pytest.param(lambda each: each.task("service_hold", status="changed"), True, id="a release"),
        pytest.param(lambda each: each.task("service_hold"), False, id="nothing to release"),
        pytest.param(lambda each: each.task("service_hold", status="failed"), False, id="failed"),
        pytest.param(lambda each: each.down().task("service_hold", status="changed"), False, id="set by a recovery"),
        pytest.param(
            lambda each: each.task("service_hold", status="changed").add("outcome", host="node1", data=OUTCOME),
            False,
            id="with a verdict",
        ),
        pytest.param(
            lambda each: each.task("sqlite_restore", {"kept": "/a"}, "changed").task("service_hold", status="changed"),
            False,
            id="released by a recovery of the database",
        ),
    ],
)
def test_a_run_that_only_releases_a_hold_is_a_release(finish, released):
    (run,) = only(finish(Recording().opened()).ended()).runs
    assert run.released is released
