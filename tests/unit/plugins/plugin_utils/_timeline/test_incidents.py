# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incident model, which is built from the events of the incident's runs."""

from __future__ import annotations

import pytest
from timeline_samples import OUTCOME, Recording, only

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import incidents as timeline_incidents


def test_values_of_a_verdict_are_used():
    incident = only(Recording().down().opened().add("outcome", host="node1", data=OUTCOME).ended())
    assert (incident.source, incident.outcome, incident.rung) == ("verdict", "recovered", "restart")
    assert (incident.severity, incident.durations.outage, incident.data_loss) == ("critical", 12.5, "none")
    assert [(rung.rung, rung.held) for rung in incident.rungs_tried] == [("restart", True)]


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


def test_the_cause_is_from_the_first_triage():
    first = Recording("run1").down().opened()
    first.task("triage_info", {"findings": [{"cause": "killed", "summary": "By KILL."}]}, role="triage")
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    second.task("triage_info", {"findings": [{"cause": "killed", "summary": "Gone."}]}, role="triage")
    second.add("outcome", host="node1", data={**OUTCOME, "cause": "killed", "cause_summary": "Gone."}).ended()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert (incident.cause_summary, incident.findings[0]["summary"]) == ("By KILL.", "By KILL.")
    second.events[-2]["data"] = {**OUTCOME, "cause": "hung", "cause_summary": "Silent."}
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert (incident.cause, incident.cause_summary) == ("hung", "Silent.")


def test_a_database_that_a_person_restored_is_not_called_damaged():
    first = Recording("run1").down().opened()
    damaged = {"cause": "db_corrupt", "summary": "It is damaged."}
    first.task("triage_info", {"findings": [damaged], "data_evidence": {"path": "/e/1"}}, role="triage")
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    first.task("sqlite_restore", {"evidence_dir": "/e/0"}, role="database_recovery")
    logged = {"cause": "db_corrupt", "summary": "The log contains errors."}
    second.task("triage_info", {"findings": [logged], "data_evidence": {"path": "/e/2"}}, role="triage")
    verdict = {**OUTCOME, "cause": "db_corrupt", "cause_summary": "The log contains errors."}
    second.add("outcome", host="node1", data=verdict).add("published", host="node1", data={}).ended()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert incident.cause_summary == "The log contains errors."
    assert incident.database_copies == ["/e/1", "/e/0", "/e/2"]
    assert "published" not in [step.kind for step in incident.steps]


def test_a_verdict_does_not_outlive_a_later_run_that_was_killed():
    first = Recording("run1").down().opened().add("outcome", host="node1", data=OUTCOME).ended()
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert (incident.outcome, incident.source, incident.rows_before) == ("unfinished", "events", {"users": 3})


def test_a_degraded_service_is_not_down_in_a_run_that_was_killed():
    seen = {"healthy": False, "severity": "degraded", "process": {"state": "running"}}
    recording = Recording().task("health_probe", seen, role="detection").opened()
    said = {name: each["value"] for name, each in only(recording).statements.items()}
    assert (said["still_down"], said["healthy"], said["resolved"]) == ("no", "no", "no")
    # After a stop, the service is down.
    recording.task("node_process", {"state": "stopped", "pids_after": []}, "changed", "clean_start_recovery")
    assert only(recording).statements["still_down"]["value"] == "yes"


def test_hosts_are_separated():
    recording = Recording().down().opened()
    recording.host = "node2"
    recording.down().opened("INC-2").verified()
    recording.host = "node3"
    recording.verified()
    incidents = {incident.host: incident for incident in timeline_incidents.from_events(recording.events)}
    assert {host: incident.incident for host, incident in incidents.items()} == {"node1": "INC-1", "node2": "INC-2"}
    assert len(incidents["node1"].steps) == 2
    assert list(timeline_events.without_incident(recording.events)) == ["node3"]


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


def test_findings_are_from_the_verdict():
    recording = Recording().down().opened()
    for cause in ("stopped", "hung", "stopped"):
        recording.task("triage_info", {"findings": [{"cause": cause, "summary": str(recording.second)}]})
    assert only(recording).findings[0]["cause"] == "stopped"
    recording.add("outcome", host="node1", data=OUTCOME)
    assert only(recording).findings[0]["cause"] == "hung"


NOTIFIED = {
    "level": "login_failed",
    "contact": "leader",
    "channel": "mail x",
    "at": "2026-03-02T01:00:09.000Z",
    "ok": True,
}


@pytest.mark.parametrize("record", [{}, {"notified": [NOTIFIED]}, {"notified": []}])
def test_a_run_without_a_verdict_keeps_the_notifications_of_earlier_runs(record):
    first = Recording("run1").down().opened()
    escalation = {"to": ["Ms Sato"], "contacts": ["leader"], "notified": [{**NOTIFIED, "new": True}]}
    first.add("outcome", host="node1", data={**OUTCOME, "escalation": escalation}).ended()
    second = Recording("run2")
    second.second = 30
    second.opened(**record).verified(healthy=True).ended()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert incident.escalation == {"names": {"leader": "Ms Sato"}, "notified": [{**NOTIFIED, "new": False}]}
    # The timeline of the first run may be on another controller.
    alone = only(second).escalation
    assert alone == ({"names": {}, "notified": [{**NOTIFIED, "new": False}]} if record.get("notified") else {})


FAILED = {**NOTIFIED, "contact": "dba", "ok": False, "error": "no answer"}


@pytest.mark.parametrize(
    ("to", "notified", "later", "unreached"),
    [
        ({"leader": "Ms Sato", "dba": "DBA"}, [NOTIFIED, FAILED], [], ["DBA"]),
        ({"dba": "DBA"}, [FAILED], [], ["DBA"]),
        # Another channel has reached the contact.
        ({"dba": "DBA"}, [FAILED, {**FAILED, "channel": "chat", "ok": True}], [], None),
        # The second run has reached the contact before it ended.
        ({"dba": "DBA"}, [FAILED], [{**FAILED, "ok": True}], None),
        # Only the second run has tried to reach the contact.
        ({"leader": "Ms Sato"}, [NOTIFIED], [{**FAILED, "contact": "chief"}], ["chief"]),
        # A contact without a channel has no entry.
        ({"leader": "Ms Sato", "dba": "DBA"}, [NOTIFIED], [], ["DBA"]),
        ({"leader": "Ms Sato"}, [], [], ["Ms Sato"]),
    ],
)
def test_a_run_without_a_verdict_names_the_contacts_that_were_not_reached(to, notified, later, unreached):
    first = Recording("run1").down().opened()
    escalation = {
        "to": list(to.values()),
        "contacts": list(to),
        "notified": [{**each, "new": True} for each in notified],
    }
    first.add("outcome", host="node1", data={**OUTCOME, "escalation": escalation}).ended()
    second = Recording("run2")
    second.second = 30
    second.opened(notified=notified).task("incident", {"id": "INC-1", "notified": [*notified, *later]}).ended()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert incident.escalation.get("unreached") == unreached
    new = [each["new"] for each in incident.escalation["notified"]]
    assert new == [False] * len(notified) + [True] * len(later)
    # The timeline of the first run may be on another controller. In this case, only the failed notifications are known.
    failed = [each["contact"] for each in (*notified, *later) if not each["ok"]]
    assert only(second).escalation.get("unreached") == (failed if failed and unreached else None)


def test_a_cause_that_no_longer_existed_is_described_in_the_past():
    texts = {name: f"Node {name}." for name in ("cannot parse", "could not parse")}
    now, past = ({"id": f"finding.syntax_error.{name}", "values": {}} for name in ("now", "past"))
    changed = {"since": "2026-03-02T00:00:00.000Z", "items": [{"what": "server.js"}]}
    first = Recording("run1").down().opened()
    broken = {
        "cause": "syntax_error",
        "summary": texts["cannot parse"],
        "messages": {"summary": now},
        "remedy": "Fix it.",
    }
    data = {"findings": [{**broken, "evidence": [{"source": "log", "text": "first"}]}], "facts": {"changes": changed}}
    first.task("triage_info", data, role="triage").ended()
    second = Recording("run2")
    second.second = 30
    second.down().opened()
    repaired = {**broken, "summary": texts["could not parse"], "messages": {"summary": past}, "remedy": "Start it."}
    second.task("triage_info", {"findings": [repaired]}, role="triage")
    verdict = {**OUTCOME, "cause": "syntax_error", "cause_summary": texts["could not parse"]}
    second.add("outcome", host="node1", data=verdict).ended()
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert (incident.cause_summary, incident.messages["cause_summary"]) == (texts["could not parse"], past)
    (finding,) = incident.findings
    assert (finding["remedy"], finding["evidence"][0]["text"]) == ("Start it.", "first")
    assert incident.changes["items"] == changed["items"]
    # If the run itself has removed the cause, its verdict describes the cause as it was before.
    second.events[-2]["data"] = {**verdict, "cause_summary": texts["cannot parse"]}
    (incident,) = timeline_incidents.from_events([*first.events, *second.events])
    assert (incident.cause_summary, incident.findings[0]["remedy"]) == (texts["cannot parse"], "Fix it.")
