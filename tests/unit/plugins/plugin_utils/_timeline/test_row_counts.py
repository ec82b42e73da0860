# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Row counts before and after an outage, and data loss."""

from __future__ import annotations

import pytest
from timeline_samples import OUTCOME, Recording, only

from ansible_collections.itsm_nexus.runbook.plugins.filter import recovery
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import postmortem_options
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# The outcome of an incident that was resolved without a run. The outcome contains no statement about the data.
OVER = {"incident": "INC-1", "outcome": "resolved_manually", "escalation": {"to": [], "notified": []}}


def then_over(first):
    recording = Recording(run="run1").down().opened().add("outcome", host="node1", data=first).ended()
    later = Recording(run="run2")
    later.second = 30
    later.task("health_probe", {"healthy": True}, role="detection").opened().add("outcome", host="node1", data=OVER)
    recording.events += later.ended().events
    return only(recording)


def test_missing_rows_alone_raise_the_suspicion():
    recording = Recording().down().opened()
    recording.task("triage_info", {"findings": [{"cause": "killed"}], "row_counts": {"users": 3, "assets": 2}})
    recording.task("sqlite_info", {"healthy": True, "row_counts": {"users": 3}})
    incident = only(recording)
    assert incident.rows_lost() == {"assets": (2, 0)}
    assert incident.data_loss == "suspected"


def test_row_counts_are_from_the_verdict():
    recording = Recording().down().opened()
    for _ in range(2):
        recording.task("triage_info", {"findings": [{"cause": "killed"}], "row_counts": {"users": 3}})
    assert only(recording).rows_after == {"users": 3}
    recording.add("outcome", host="node1", data={**OUTCOME, "data_loss": "unknown", "rows_after": {}})
    assert only(recording).rows_after == {}


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
    assert (told.outcome, told.source, told.data_loss) == ("resolved_manually", "verdict", loss)
    assert (told.rows_before, told.rows_after) == ({"users": 3}, {"users": 3})
    assert told.next_step == ("Start nothing." if loss == "suspected" else None)


@pytest.mark.parametrize(
    ("loss", "process", "expected"),
    [
        ("suspected", ([7], "02:01.000"), {"value": "suspected", "why": ""}),
        ("known", ([7], "02:01.000"), {"value": "known", "why": ""}),
        ("none", ([7, 8], "02:01.040"), {"value": "none", "why": ""}),
        ("none", (["7"], None), {"value": "none", "why": ""}),
        # A person has restarted the service after the first run.
        ("none", ([9], "02:09.000"), {"value": "unknown", "why": "restarted_since"}),
        ("none", ([9], None), {"value": "unknown", "why": "restarted_since"}),
        ("none", ([7], "02:09.000"), {"value": "unknown", "why": "restarted_since"}),
        ("none", (["7"], "02:09.000"), {"value": "unknown", "why": "restarted_since"}),
    ],
)
def test_a_notification_and_the_documents_make_the_same_statement_about_the_data(
    loss, process, expected, tmp_path, monkeypatch
):
    """The notification is sent before the run has an outcome."""
    first = {**OUTCOME, "outcome": "login_failed", "data_loss": loss, "rows_after": {"users": 3}}
    recording = Recording(run="run1").down().opened()
    recording.task("health_probe", serving([7], "02:01.000"), role="verification")
    recording.add("outcome", host="node1", data=first).ended()
    later = Recording(run="run2")
    later.second = 30
    later.task("health_probe", serving(*process), role="detection").opened()
    timeline = b"".join(map(timeline_events.encode, recording.events))
    recording.events += later.events
    later.add("outcome", host="node1", data={**OVER, "outcome": "recovered"})
    recording.events += later.events[-1:]
    monkeypatch.setattr(postmortem_options, "documents_folder", lambda: str(tmp_path))
    # The events of the current run may already be in the folder.
    for current in (b"", b"".join(map(timeline_events.encode, later.events[:-1]))):
        (tmp_path / "run1.jsonl").write_bytes(timeline)
        (tmp_path / "run2.jsonl").write_bytes(current)
        said = recovery.data_loss_before("INC-1", "node1", serving(*process)["process"])
        assert said == only(recording).statements["data_loss"] == expected
    # If the runs used different controllers, there is no earlier statement.
    assert recovery.data_loss_before("INC-2", "node1") == recovery.data_loss_before("INC-1", "node2") == {}
    for folder in ("", str(tmp_path / "absent")):
        monkeypatch.setattr(postmortem_options, "documents_folder", lambda folder=folder: folder)
        assert recovery.data_loss_before("INC-1", "node1") == {}


EARLIER, LATER = "2026-03-02T01:00:00.000Z", "2026-03-02T01:00:20.000Z"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, ("suspected", "")),
        ({"state": "in_doubt", "checked_at": LATER, "accepted_at": LATER}, ("suspected", "")),
        ({"state": "accepted", "accepted": ["corrupt"], "accepted_at": LATER}, ("suspected", "accepted")),
        # Written before version 1.0.0.
        ({"state": "accepted", "accepted": ["corrupt"], "checked_at": LATER}, ("suspected", "accepted")),
        # The release accepted no damage.
        ({"state": "accepted", "accepted": [], "accepted_at": LATER}, ("suspected", "")),
        # After the release, a run found missing rows.
        ({"state": "accepted", "accepted": ["corrupt"], "accepted_at": EARLIER}, ("suspected", "")),
        ({"state": "sound", "checked_at": LATER}, ("unknown", "not_after")),
        ({"state": "sound", "checked_at": EARLIER}, ("suspected", "")),
        ({"state": "sound", "checked_at": ""}, ("suspected", "")),
    ],
)
@pytest.mark.parametrize("rows_after", [{"users": 3}, {"users": 2}, {}])
def test_a_suspicion_that_has_ended_is_not_repeated(data, expected, rows_after, tmp_path, monkeypatch):
    step = "Start nothing."
    first = {**OUTCOME, "outcome": "not_recovered", "data_loss": "suspected", "rows_after": rows_after}
    recording = Recording(run="run1").down().opened().add("outcome", host="node1", data={**first, "next_step": step})
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, recording.ended().events)))
    monkeypatch.setattr(postmortem_options, "documents_folder", lambda: str(tmp_path))
    said = recovery.data_loss_before("INC-1", "node1", data=data)
    later = Recording(run="run2")
    later.second = 30
    over = {**OVER, "data_settled": statements.settled(data)}
    recording.events += later.opened().add("outcome", host="node1", data=over).ended().events
    told = only(recording)
    assert (said["value"], said["why"]) == expected
    assert said == told.statements["data_loss"]
    assert told.next_step == (step if expected == ("suspected", "") else None)


@pytest.mark.parametrize(
    "invalid",
    [
        {"host": "node1"},
        {"kind": "outcome", "host": "node1"},
        {"kind": "outcome", "host": "node1", "data": None},
        {"kind": "outcome", "host": "node1", "data": {**OUTCOME, "statements": "none"}},
        {
            "kind": "task",
            "host": "node1",
            "action": "itsm_nexus.runbook.health_probe",
            "data": {"process": {"pids": 7}},
        },
    ],
)
def test_an_invalid_event_does_not_prevent_the_notification(invalid, tmp_path, monkeypatch):
    recording = Recording(run="run1").down().opened().add("outcome", host="node1", data=OUTCOME).ended()
    events = [*recording.events, {**recording.events[-1], **invalid}]
    if "kind" not in invalid:
        del events[-1]["kind"]
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, events)))
    monkeypatch.setattr(postmortem_options, "documents_folder", lambda: str(tmp_path))
    assert recovery.data_loss_before("INC-1", "node1", serving([7], None)["process"]) == {}


def serving(pids, began):
    started_at = began and f"2026-03-02T00:{began}Z"
    return {"healthy": True, "process": {"state": "running", "pids": pids, "started_at": started_at}}


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
