# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From events to the model."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

OUTCOME = {
    "incident": "INC-1",
    "severity": "critical",
    "outcome": "recovered",
    "cause": "hung",
    "rung": "restart",
    "rungs_tried": [{"rung": "restart", "held": True, "halted": False, "reason": "", "seconds": 3.0}],
    "outage_seconds": 12.5,
    "data_loss": "none",
    "rows_before": {"users": 3},
    "rows_after": {"users": 3},
}


class Recording:
    """Makes the events of runs, a second apart."""

    def __init__(self, run="run1", host="node1"):
        self.run, self.host, self.second, self.events = run, host, 0, []

    def add(self, kind, **keys):
        self.second += 1
        at = f"2026-03-02T01:00:{self.second:02d}.000Z"
        self.events.append({"v": 1, "at": at, "run": self.run, "kind": kind, **keys})
        return self

    def task(self, module, data=None, status="ok", role=None, **keys):
        return self.add(
            "task",
            host=keys.pop("host", self.host),
            task=keys.pop("task", module),
            role=role,
            action=f"itsm_nexus.runbook.{module}",
            status=status,
            **({"data": data} if data else {}),
            **keys,
        )

    def down(self):
        data = {"healthy": False, "severity": "emergency", "first_failure_at": "2026-03-02T01:00:00.000Z"}
        return self.task("health_probe", data, role="detection")

    def opened(self, identity="INC-1", **keys):
        return self.task("incident", {"id": identity, **keys})

    def begun(self, module, role="verification"):
        return self.add("started", host=self.host, task=module, role=role, action=f"itsm_nexus.runbook.{module}")

    def verified(self, healthy=True):
        at = f"2026-03-02T01:00:{self.second + 1:02d}.000Z"
        return self.task(
            "health_probe", {"healthy": healthy, "first_healthy_at": at if healthy else None}, role="verification"
        )

    def ended(self):
        return self.add("stats", hosts={})


def only(recording):
    (incident,) = timeline_events.incidents(recording.events)
    return incident


def test_values_of_a_verdict_are_used():
    incident = only(Recording().down().opened().add("outcome", host="node1", data=OUTCOME).ended())
    assert (incident.source, incident.outcome, incident.rung) == ("verdict", "recovered", "restart")
    assert (incident.severity, incident.durations.outage, incident.data_loss) == ("critical", 12.5, "none")
    assert [(rung.rung, rung.held) for rung in incident.rungs_tried] == [("restart", True)]


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
    ("finish", "outcome"),
    [
        pytest.param(lambda each: each, "unfinished", id="killed"),
        pytest.param(lambda each: each.ended(), "not_recovered", id="ended while down"),
        pytest.param(
            lambda each: each.task("node_process", role="restart").verified().ended(), "recovered", id="restarted"
        ),
        pytest.param(lambda each: each.verified().ended(), "healthy", id="came back by itself"),
    ],
)
def test_outcome_without_a_verdict(finish, outcome):
    assert only(finish(Recording().down().opened())).outcome == outcome


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


@pytest.mark.parametrize(
    ("begun", "last_good"),
    [
        pytest.param({"earliest": "A", "earliest_source": "log", "latest": "B", "source": "log"}, "A", id="range"),
        pytest.param({"earliest": "B", "earliest_source": "log", "latest": "B", "source": "journal"}, "B", id="one"),
        pytest.param({"earliest": "B", "earliest_source": "log", "latest": "B", "source": "log"}, None, id="none"),
    ],
)
def test_a_first_bad_sign_is_no_good_one(begun, last_good):
    instants = {"A": "2026-03-02T00:59:50.000Z", "B": "2026-03-02T01:00:00.000Z"}
    started = {key: instants.get(value, value) for key, value in begun.items()}
    times = only(Recording().down().opened(outage_started=started)).times
    assert times.last_good_at == (last_good and instants[last_good])


def test_the_cause_is_that_of_the_first_triage():
    first = Recording("run1").down().opened()
    first.task("triage_info", {"findings": [{"cause": "killed", "summary": "By KILL."}]}, role="triage")
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    second.task("triage_info", {"findings": [{"cause": "killed", "summary": "Gone."}]}, role="triage")
    second.add("outcome", host="node1", data={**OUTCOME, "cause": "killed", "cause_summary": "Gone."}).ended()
    (incident,) = timeline_events.incidents([*first.events, *second.events])
    assert (incident.cause_summary, incident.findings[0]["summary"]) == ("By KILL.", "By KILL.")
    second.events[-2]["data"] = {**OUTCOME, "cause": "hung", "cause_summary": "Silent."}
    (incident,) = timeline_events.incidents([*first.events, *second.events])
    assert (incident.cause, incident.cause_summary) == ("hung", "Silent.")


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
    (incident,) = timeline_events.incidents([*second.events, *first.events])
    assert [(run.run, run.complete, run.last_task) for run in incident.runs] == [
        ("run1", False, "Rebuild"),
        ("run2", True, "incident"),
    ]
    assert [(rung.rung, rung.run) for rung in incident.rungs_tried] == [
        ("standard_recovery", "run1"),
        ("restart", "run2"),
    ]


def test_a_verdict_does_not_outlive_a_later_run_that_was_killed():
    first = Recording("run1").down().opened().add("outcome", host="node1", data=OUTCOME).ended()
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    (incident,) = timeline_events.incidents([*first.events, *second.events])
    assert (incident.outcome, incident.source, incident.rows_before) == ("unfinished", "events", {"users": 3})


def test_a_run_that_left_the_incident_to_another_one_does_not_belong_to_it():
    other = {"run": "run-7", "until": "2026-03-02T01:04:00.000Z"}
    recording = Recording("run2").opened(run=None, locked_by=other).ended()
    assert timeline_events.opened(recording.events) == {}
    assert list(timeline_events.without_incident(recording.events)) == ["node1"]
    # A dry run belongs to it, whoever holds the lease.
    recording.events[-2]["status"] = "changed"
    assert list(timeline_events.opened(recording.events)) == ["node1"]


def test_hosts_are_separated():
    recording = Recording().down().opened()
    recording.host = "node2"
    recording.down().opened("INC-2").verified()
    recording.host = "node3"
    recording.verified()
    incidents = {incident.host: incident for incident in timeline_events.incidents(recording.events)}
    assert {host: incident.incident for host, incident in incidents.items()} == {"node1": "INC-1", "node2": "INC-2"}
    assert len(incidents["node1"].steps) == 2
    assert list(timeline_events.without_incident(recording.events)) == ["node3"]


def test_missing_rows_alone_raise_the_suspicion():
    recording = Recording().down().opened()
    recording.task("triage_info", {"findings": [{"cause": "killed"}], "row_counts": {"users": 3, "assets": 2}})
    recording.task("sqlite_info", {"healthy": True, "row_counts": {"users": 3}})
    incident = only(recording)
    assert incident.rows_lost() == {"assets": (2, 0)}
    assert incident.data_loss == "suspected"


def rung_of(login, healthy=True):
    def add(recording):
        recording.task("node_process", {"state": "restarted"}, "changed", "restart")
        recording.task("health_probe", {"healthy": healthy, "login": login}, role="verification")
        # The stability check never logs in.
        return recording.verified() if healthy else recording

    return add


@pytest.mark.parametrize(
    ("rungs", "told"),
    [
        pytest.param([], (None, None), id="nothing verified"),
        pytest.param([rung_of(None)], ("no_password", None), id="no password"),
        pytest.param([rung_of(None, healthy=False)], ("no_answer", None), id="no answer"),
        pytest.param([rung_of({"ok": True, "status": 200})], ("checked", None), id="checked"),
        pytest.param(
            [rung_of({"ok": True, "checked": False, "status": 429, "error": "rate limited"})],
            ("rate_limited", None),
            id="rate limit",
        ),
        pytest.param(
            [rung_of({"ok": False, "status": 401}, healthy=False)], ("failed", "status 401"), id="failed by status"
        ),
        pytest.param(
            [rung_of({"ok": False, "error": "wrong password"}, healthy=False)],
            ("failed", "wrong password"),
            id="failed",
        ),
        pytest.param(
            [rung_of({"ok": False, "error": "x"}, healthy=False), rung_of({"ok": True})],
            ("checked", None),
            id="at last",
        ),
        pytest.param(
            [rung_of({"ok": True}), rung_of(None, healthy=False)], ("no_answer", None), id="an earlier one is no proof"
        ),
    ],
)
def test_login_result_is_that_of_the_last_verification(rungs, told):
    recording = Recording().down().opened()
    for add in rungs:
        add(recording)
    incident = only(recording.ended())
    assert (incident.login, incident.login_error) == told


def test_a_login_that_failed_is_no_recovery_although_the_service_stays_up():
    recording = Recording().down().opened()
    recording.task("node_process", {"state": "restarted"}, "changed", "restart")
    recording.task("health_probe", {"healthy": False, "login": {"ok": False, "status": 401}}, role="verification")
    incident = only(recording.verified().ended())
    assert (incident.outcome, incident.login) == ("login_failed", "failed")


def test_kept_files_and_the_service():
    recording = Recording().down().opened()
    recording.task("npm_ci", {"swapped": True, "previous": "/app/node_modules.previous"}, "changed", "restart")
    recording.task("npm_ci", {"swapped": False, "previous": "/app/of-another-time"}, role="standard_recovery")
    recording.task("sqlite_restore", {"kept": "/app/itsm.db.damaged"}, "changed", "database_recovery")
    recording.add("outcome", host="node1", data={**OUTCOME, "service": "itsm-system"}).ended()
    incident = only(recording)
    assert (incident.modules_kept, incident.database_kept) == ("/app/node_modules.previous", "/app/itsm.db.damaged")
    assert incident.service == "itsm-system"
    assert only(Recording().down().opened()).service is None


def test_an_earlier_swap_does_not_belong_to_this_recovery():
    data = {"swapped": False, "previous": "/app/node_modules.previous"}
    assert only(Recording().down().opened().task("npm_ci", data)).modules_kept is None


def test_row_counts_are_those_of_the_verdict():
    recording = Recording().down().opened()
    for _ in range(2):
        recording.task("triage_info", {"findings": [{"cause": "killed"}], "row_counts": {"users": 3}})
    assert only(recording).rows_after == {"users": 3}
    recording.add("outcome", host="node1", data={**OUTCOME, "data_loss": "unknown", "rows_after": {}})
    assert only(recording).rows_after == {}


def test_a_failure_after_the_verdict_only_repeats_it():
    failure = {"host": "node1", "task": "End", "action": "ansible.builtin.fail", "status": "failed", "msg": "… on …"}
    recording = Recording().down().opened().add("task", **failure)
    recording.add("outcome", host="node1", data=OUTCOME).add("task", **failure)
    (before,) = [step for step in only(recording).steps if step.status == "failed"]
    assert (before.weight, before.message) == (incident_model.FAILURE, "… on …")


def test_findings_are_those_of_the_verdict():
    recording = Recording().down().opened()
    for cause in ("stopped", "hung", "stopped"):
        recording.task("triage_info", {"findings": [{"cause": cause, "summary": str(recording.second)}]})
    assert only(recording).findings[0]["cause"] == "stopped"
    recording.add("outcome", host="node1", data=OUTCOME)
    assert only(recording).findings[0]["cause"] == "hung"


def test_internal_tasks_are_no_steps_unless_they_fail():
    recording = Recording().down().opened()
    for status in ("ok", "failed"):
        recording.add("task", host="node1", task=status, role=None, action="ansible.builtin.assert", status=status)
    assert [step.task for step in only(recording).steps] == ["health_probe", "incident", "failed"]


def test_truncated_or_foreign_lines_are_ignored():
    good = timeline_events.encode(Recording().down().events[0])
    data = good + b"not json\n" + b'{"v":99,"run":"r","at":"x"}\n' + b"[]\n" + b"\xff\xfe\n" + good[:-10]
    assert len(timeline_events.decode(data)) == 1


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_timeline_is_readable_with_any_ending(cut):
    recording = Recording().add("run_start", playbook="x.yml").down().opened()
    recording.add("outcome", host="node1", data=OUTCOME).ended()
    data = b"".join(map(timeline_events.encode, recording.events))
    for end in range(0, len(data), cut):
        for incident in timeline_events.incidents(timeline_events.decode(data[:end])):
            json.loads(incident_model.to_json(incident))


@pytest.mark.parametrize(
    ("earlier", "later", "seconds"),
    [
        ("2026-03-02T01:00:00.000Z", "2026-03-02T01:00:01.250Z", 1.25),
        ("2026-03-02T01:00:01.000Z", "2026-03-02T01:00:00.000Z", None),
        (None, "2026-03-02T01:00:00.000Z", None),
        ("yesterday", "2026-03-02T01:00:00.000Z", None),
    ],
)
def test_seconds_between(earlier, later, seconds):
    assert timeline_events.seconds_between(earlier, later) == seconds


# The verdict on an incident that ended without a run makes no statement about the data.
OVER = {"incident": "INC-1", "outcome": "mended_by_hand", "escalation": {"to": [], "told": []}}


def then_over(first):
    recording = Recording(run="run1").down().opened().add("outcome", host="node1", data=first).ended()
    later = Recording(run="run2")
    later.second = 30
    later.task("health_probe", {"healthy": True}, role="detection").opened().add("outcome", host="node1", data=OVER)
    recording.events += later.ended().events
    return only(recording)


@pytest.mark.parametrize("loss", ["suspected", "none"])
def test_statements_about_the_data_are_kept_after_the_close(loss):
    first = {
        **OUTCOME,
        "outcome": "not_recovered",
        "data_loss": loss,
        "rows_after": {"users": 3},
        "next_step": "Start nothing.",
    }
    told = then_over(first)
    assert (told.outcome, told.source, told.data_loss) == ("mended_by_hand", "verdict", loss)
    assert (told.rows_before, told.rows_after) == ({"users": 3}, {"users": 3})
    assert told.next_step == ("Start nothing." if loss == "suspected" else None)


def test_counts_of_an_interrupted_run_are_kept_after_the_close():
    recording = Recording(run="run1").down().opened().task("triage_info", {"row_counts": {"users": 3}}, role="triage")
    later = Recording(run="run2")
    later.second = 30
    later.opened().add("outcome", host="node1", data={**OVER, "outcome": "recovered"})
    recording.events += later.ended().events
    told = only(recording)
    assert (told.outcome, told.rows_before, told.rows_after, told.data_loss) == (
        "recovered",
        {"users": 3},
        {},
        "unknown",
    )
