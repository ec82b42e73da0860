# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: the documents that are written, the content of the summary, and the language of both."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import closing, screen_layout
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import wording as run_wording
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events

AT = "2026-03-02T01:00:00.000Z"


def event(kind, run="run2", **keys):
    return {"v": 1, "at": AT, "run": run, "kind": kind, **keys}


def result(module, data, *, run="run2", host="node1"):
    return event(
        "task", run, host=host, action=f"itsm_nexus.runbook.{module}", task="Do it", role=None, status="ok", data=data
    )


def incident(run="run2"):
    return [event("run_start", run), result("incident", {"id": "INC-1", "opened_at": AT}, run=run)]


def outcome(host="node1", **data):
    return event("outcome", host=host, data={"incident": "INC-1", "outcome": "recovered", **data})


HEALTHY = {"healthy": True, "severity": "none"}


class Screen:
    """Records the titles, lines and warnings that are shown."""

    def __init__(self):
        self.titles, self.lines, self.warnings = [], [], []

    def title(self, text):
        self.titles.append(text)

    def say(self, line, tone=None):
        self.lines.append((line, tone))

    def warn(self, text):
        self.warnings.append(text)

    @property
    def text(self):
        return "\n".join(line for line, _tone in self.lines)


@pytest.fixture
def screen():
    return Screen()


def conclude(folder, screen, events, *, check=False):
    wording = run_wording.Wording(language="en", timezone="UTC")
    for each in events:
        if each["kind"] == "outcome":
            wording.follow(each["data"])
    closing.Closing(
        "run2",
        folder=str(folder),
        check=check,
        wording=wording,
        screen=screen,
        inventories=["inventories/mine"],
    ).conclude(events)


def test_an_incident_gets_documents_an_index_and_a_summary(tmp_path, screen):
    conclude(tmp_path, screen, [*incident(), outcome()])
    assert {path.name for path in tmp_path.iterdir()} == {"INC-1.md", "INC-1.json", "INC-1.html", "index.html"}
    assert screen.titles == ["OUTAGE SUMMARY"]
    assert screen.lines[0] == ("RECOVERED: node1, incident INC-1", screen_report.GOOD)
    assert "INC-1.md" in screen.text
    assert screen.warnings == []


def test_earlier_runs_on_the_incident_are_in_its_document(tmp_path, screen):
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, incident("run1"))))
    conclude(tmp_path, screen, [*incident(), outcome()])
    runs = json.loads((tmp_path / "INC-1.json").read_text(encoding="utf-8"))["runs"]
    assert [run["run"] for run in runs] == ["run1", "run2"]


def test_check_mode_writes_nothing(tmp_path, screen):
    conclude(tmp_path, screen, [*incident(), outcome()], check=True)
    assert list(tmp_path.iterdir()) == []
    assert screen.titles == ["OUTAGE SUMMARY"]
    assert screen.lines[0][0] == "RECOVERED (check mode, nothing changed): node1, incident INC-1"


NOTIFIED = {"level": "login_failed", "contact": "leader", "channel": "mail x", "at": AT, "ok": True}


def left_open(**record):
    """Return the events of a check that finds the service healthy and the incident open."""
    known = {"id": "INC-1", "opened_at": AT, "cause": "killed", **record}
    read = result("incident_info", known)
    resolved = result("incident", {**known, "outcome": "resolved_manually"})
    return [event("run_start"), result("health_probe", HEALTHY), read, resolved, event("stats", hosts={})]


def test_a_check_of_a_healthy_service_says_what_closes_the_incident(tmp_path, screen):
    conclude(tmp_path, screen, left_open(outcome="login_failed", notified=[NOTIFIED]), check=True)
    (head, tone), *_others = screen.lines
    assert head == "HEALTHY, INCIDENT STILL OPEN (check mode, nothing changed): node1, incident INC-1"
    assert tone == screen_layout.ATTENTION
    told = " ".join(screen.text.split())
    for text in (
        "next step Run the playbook without --check. It checks the login. If the login works, the playbook closes",
        "cause killed login failed in an earlier run; not checked in check mode",
        "to notify leader by mail x (that the outage is over, if a run closes the incident) recap",
    ):
        assert text in told
    assert "unknown" not in told


def test_a_check_of_a_healthy_service_uses_the_timelines_of_earlier_runs(tmp_path, screen):
    escalation = {"to": ["Ms Sato"], "contacts": ["leader"], "notified": [NOTIFIED]}
    said = outcome(outcome="not_recovered", cause="hung", escalation=escalation)
    found = result("triage_info", {"findings": [{"cause": "hung", "summary": "It is silent."}]}, run="run1")
    earlier = [*incident("run1"), found, {**said, "run": "run1"}]
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, earlier)))
    conclude(tmp_path, screen, left_open(outcome="not_recovered"), check=True)
    told = " ".join(screen.text.split())
    assert "If the service is still healthy, the playbook closes the incident. cause hung: " in told
    assert "Ms Sato by mail x (that the outage is over, if a run closes the incident)" in told and "login" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["run1.jsonl"]


def test_a_login_that_fails_again_shows_the_command(tmp_path, screen):
    probe = {
        **result("health_probe", {**HEALTHY, "login": {"ok": False, "error": "answered 401"}}),
        "role": "verification",
    }
    failed = {**result("health_probe", {}), "role": "verification", "status": "failed", "msg": "login: answered 401"}
    read = result("incident_info", {"id": "INC-1", "opened_at": AT, "outcome": "login_failed", "notified": [NOTIFIED]})
    conclude(tmp_path, screen, [event("run_start"), read, probe, failed, event("stats", hosts={})])
    told = " ".join(screen.text.split())
    command = "ansible-playbook -i inventories/mine --limit node1 playbooks/outage_recover.yml"
    assert screen.lines[0][0].startswith("SERVING, LOGIN FAILED: node1")
    assert f"it checks the login and closes the incident. The command is: {command}" in told
    assert "notified nobody in this run; before this run: leader by mail x (login failed, " in told


def test_a_failed_login_without_an_incident_names_the_playbook_that_checks_it_again(tmp_path, screen):
    probe = {
        **result("health_probe", {**HEALTHY, "login": {"ok": False, "error": "answered 401"}}),
        "role": "verification",
    }
    failed = {
        **result("health_probe", {}),
        "action": "ansible.builtin.fail",
        "role": "verification",
        "status": "failed",
    }
    conclude(tmp_path, screen, [event("run_start"), probe, failed, event("stats", hosts={})])
    told = " ".join(screen.text.split())
    assert screen.lines[0][0].startswith("SERVING, LOGIN FAILED: node1")
    assert "Then run outage_verify.yml, which checks the login again." in told


def test_a_check_that_finds_an_outage_shows_only_its_own_plan(tmp_path, screen):
    earlier = [*incident("run1"), {**outcome(cause="hung"), "run": "run1"}]
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, earlier)))
    down = result("health_probe", {"healthy": False, "severity": "emergency"})
    conclude(tmp_path, screen, [*incident(), down, event("stats", hosts={})], check=True)
    assert "STILL OPEN" not in screen.text and "hung" not in screen.text


def test_check_mode_is_named_on_every_first_line(tmp_path, screen):
    hosts = [result("health_probe", HEALTHY, host=host) for host in ("node1", "node2")]
    together = {"healthy": ["node1"], "warning": ["node2"]}
    conclude(tmp_path, screen, [event("run_start"), *hosts, event("summary", data=together)], check=True)
    heads = [line for line, _tone in screen.lines if not line.startswith(" ")]
    assert heads == [
        "HEALTHY: node2, this run did not change the service (check mode)",
        "2 HOSTS: 1 healthy, 1 warning (check mode)",
    ]


def release(status="changed"):
    return {**result("service_hold", {}), "status": status}


def test_a_release_does_not_show_the_outcome_of_an_earlier_run(tmp_path, screen):
    earlier = [*incident("run1"), {**outcome(), "run": "run1"}]
    (tmp_path / "run1.jsonl").write_bytes(b"".join(map(timeline_events.encode, earlier)))
    conclude(tmp_path, screen, [*incident(), release()])
    assert screen.lines[0] == (
        "RELEASED: node1, incident INC-1; the hold is removed, and nothing was started",
        screen_layout.ATTENTION,
    )
    assert "To start the service with the database as it is now:" in " ".join(screen.text.split())
    assert "  ansible-playbook -i inventories/mine --limit node1 playbooks/outage_recover.yml\n" in screen.text
    assert "RECOVERED" not in screen.text and "data loss" not in screen.text
    assert (tmp_path / "INC-1.md").exists()


def test_a_release_in_check_mode_is_only_announced(tmp_path, screen):
    conclude(tmp_path, screen, [*incident(), release()], check=True)
    assert screen.lines[0][0] == "WOULD RELEASE (check mode, nothing changed): node1, incident INC-1"
    assert (
        screen.lines[1][0]
        == "  next step   To release the service, run the same command without --check. This does not start the"
    )
    assert screen.lines[2][0] == "              service"
    assert screen.lines[3][0] == "  accepts     nothing, because the database could not be checked"


def test_a_release_shows_the_damage_that_it_accepts(tmp_path, screen):
    look = result("sqlite_info", {"healthy": False, "problems": [{"code": "corrupt", "message": "Pages are damaged."}]})
    conclude(tmp_path, screen, [*incident(), look, release()])
    assert "  accepts     Pages are damaged" in [line for line, _tone in screen.lines]
    conclude(tmp_path, screen, [*incident(), result("sqlite_info", {"healthy": True, "problems": []}), release()])
    assert "  accepts     the rows as they are now; no damage was found" in [line for line, _tone in screen.lines]
    assert "UNFINISHED" not in screen.text


@pytest.mark.parametrize("damaged", [True, False])
def test_a_release_in_check_mode_shows_how_to_assess_the_damage(tmp_path, screen, damaged):
    """The error from the check does not mention a table, so a person cannot use it to assess the damage."""
    problems = [{"code": "corrupt", "message": "Pages are damaged."}] if damaged else []
    look = result("sqlite_info", {"healthy": not damaged, "problems": problems})
    conclude(tmp_path, screen, [*incident(), look, release()], check=True)
    lines = [line for line, _tone in screen.lines]
    command = "ansible-playbook -i inventories/mine --limit node1 playbooks/database_recover.yml --check"
    assert (f"              {command}" in lines) is damaged
    assert ("see in which tables each recovery method would lose" in screen.text) is damaged


def test_other_runs_with_a_hold_show_their_outcome(tmp_path, screen):
    conclude(tmp_path, screen, [*incident(), release(), outcome(outcome="data_in_doubt")])
    assert screen.lines[0][0].startswith("DATA IN DOUBT")


def test_an_unwritable_folder_is_a_warning_and_the_summary_is_shown(tmp_path, screen):
    conclude(tmp_path / "missing", screen, [*incident(), outcome()])
    of_documents, _of_index = screen.warnings
    assert of_documents.startswith(f"Cannot write the postmortem to {tmp_path / 'missing'}: ")
    assert screen.lines[0] == ("RECOVERED: node1, incident INC-1", screen_report.GOOD)
    assert "not written" in screen.text


def test_an_incident_that_cannot_be_shown_does_not_hide_the_others(tmp_path, screen, monkeypatch):
    first = json.dumps([*incident(), outcome()])
    of_two = [*json.loads(first), *json.loads(first.replace("node1", "node2").replace("INC-1", "INC-2"))]
    documents = closing.document_store.documents

    def failing(folder, words, told):
        if told.host == "node1":
            raise OverflowError("date value out of range")
        return documents(folder, words, told)

    monkeypatch.setattr(closing.document_store, "documents", failing)
    with pytest.raises(OverflowError):
        conclude(tmp_path, screen, of_two)
    assert "RECOVERED: node1, incident INC-1" not in screen.text
    assert "RECOVERED: node2, incident INC-2" in screen.text
    assert {path.name for path in tmp_path.iterdir()} == {"INC-2.md", "INC-2.json", "INC-2.html", "index.html"}


@pytest.mark.parametrize(
    ("at", "zone"), [("0001-01-01T00:00:00.000Z", "America/New_York"), ("9999-12-31T23:59:59.999Z", "Asia/Tokyo")]
)
def test_an_instant_that_does_not_exist_in_the_time_zone_is_shown_in_utc(at, zone):
    words = run_wording.Wording(language="en", timezone=zone).of_run()
    assert words.when(at) == words.utc(at)
    assert (words.local(at), words.zone_name(at)) == ("", "")


def test_the_language_is_set_by_the_incident_or_else_by_the_configuration(tmp_path, screen):
    conclude(tmp_path, screen, [*incident(), outcome(language="ja", timezone="Asia/Tokyo")])
    assert "復旧" in screen.text
    wording = run_wording.Wording(language="en", timezone="UTC")
    wording.follow({"language": "ja", "timezone": None})
    wording.follow({"language": None, "timezone": "Asia/Tokyo"})
    assert wording.of_run().language == "ja"
    assert wording.of("en", None).language == "en"


def test_a_host_without_an_incident_has_a_line_but_no_title(tmp_path, screen):
    conclude(tmp_path, screen, [event("run_start"), result("health_probe", HEALTHY)])
    assert screen.lines == [("HEALTHY: node1, this run did not change the service", screen_report.GOOD)]
    assert screen.titles == []
    assert list(tmp_path.iterdir()) == []


def test_with_several_hosts_healthy_hosts_are_only_counted(tmp_path, screen):
    hosts = [result("health_probe", HEALTHY, host=host) for host in ("node1", "node2")]
    together = {"healthy": ["node1", "node2"], "would_recover": ["node3"]}
    conclude(tmp_path, screen, [event("run_start"), *hosts, event("summary", data=together)])
    assert "HEALTHY: node1" not in screen.text
    assert screen.lines[0][0].startswith("3 HOSTS: 2 healthy, ")
    assert "node3" in screen.text


def test_an_outcome_without_an_incident_is_shown_but_not_written(tmp_path, screen):
    conclude(tmp_path, screen, [event("run_start"), outcome(incident="", outcome="unreachable")])
    assert screen.titles == ["OUTAGE SUMMARY"]
    assert list(tmp_path.iterdir()) == []


def task(action, host, status="ok"):
    return event("task", host=host, action=action, task="Do it", role=None, status=status)


REPORT = task("itsm_nexus.runbook.preparedness_report", "node1")
SHOWN = [task("ansible.builtin.debug", host) for host in ("node1", "node2")]
NOT_READY = [
    {
        **task("itsm_nexus.runbook.fail_settings", host, "failed"),
        "data": {"problems": ["NOT READY: contacts"], "shown": True},
    }
    for host in ("node1", "node2")
]
FOUND = {"findings": [{"cause": "disk_full", "confidence": 0.9, "summary": "Disk full"}]}
TRIAGED = {**result("triage_info", FOUND), "role": "triage"}
LOST = {
    **task("itsm_nexus.runbook.preparedness_info", "node2", "failed"),
    **{"data": {"unreachable_host": True}, "msg": "the host cannot be reached: gone"},
}
REFUSED = {**NOT_READY[0], "data": {"problems": ["clean_start_recovery cannot help"]}}


@pytest.mark.parametrize(
    ("later", "summarized"),
    [
        ([REPORT, *SHOWN], []),
        ([REPORT, *SHOWN, *NOT_READY], []),
        # The report states that node2 cannot be reached.
        ([LOST, REPORT, *SHOWN, *NOT_READY], []),
        ([LOST, REPORT, SHOWN[0], NOT_READY[0]], ["node2"]),
        # The report was written, but not shown on node2.
        ([REPORT, SHOWN[0]], ["node2"]),
        ([{**REPORT, "status": "failed"}], ["node1", "node2"]),
        ([REPORT, *SHOWN, task("ansible.builtin.set_stats", "node1", "failed")], ["node1"]),
        ([], ["node1", "node2"]),
        # Other playbooks in the same run, for example with import_playbook.
        ([REPORT, *SHOWN, TRIAGED], ["node1"]),
        ([TRIAGED, REPORT, *SHOWN], ["node1"]),
        ([result("triage_info", FOUND), REPORT, *SHOWN], ["node1"]),
        ([REPORT, *SHOWN, {**result("health_probe", HEALTHY), "role": "detection"}], ["node1"]),
        ([{**result("health_probe", HEALTHY), "role": "verification"}, REPORT, *SHOWN], ["node1"]),
        ([REPORT, *SHOWN, *NOT_READY, REFUSED], ["node1"]),
        ([REPORT, *SHOWN, REFUSED], ["node1"]),
        ([REPORT, *SHOWN, {**event("unreachable", host="node2"), "task": "x", "role": None, "action": "y"}], ["node2"]),
    ],
)
def test_the_readiness_report_replaces_the_summary(tmp_path, screen, later, summarized):
    hosts = ("node1", "node2")
    looks = [result("health_probe", HEALTHY, host=host) for host in hosts]
    sent = [{**task("itsm_nexus.runbook.notify_command", host, "changed"), "role": "escalation"} for host in hosts]
    conclude(tmp_path, screen, [event("run_start"), *looks, *sent, *later])
    assert [host for host in hosts if host in screen.text] == summarized
    assert ("UNREACHABLE: node2, the host cannot be reached: gone" in screen.text) is (
        LOST in later and "node2" in summarized
    )
