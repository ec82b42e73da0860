# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The escalation role in real runs: every channel except one has a real receiver, and the inventory is hostile."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from receivers import MailServer, Receiver, authority
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease

from .conftest import ROOT
from .test_recovery import checkout

ANSIBLE = os.environ.get("ITSM_NEXUS_TEST_ANSIBLE_PLAYBOOK") or str(Path(sys.executable).parent / "ansible-playbook")

# Each secret must be visible only to its own receiver.
SECRETS = {
    name: f"verysecret{name}0123456789" for name in ("slack", "teams", "mattermost", "pager", "http", "smtp", "dead")
}

# Text that comes from the host. Such text must not be evaluated as a template, and must not add a line, a mail header
# or a mention.
HOSTILE = "{{ 7 * 7 }}{% raw %} <!channel> @all\nBcc: evil@example.com"

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: itsm_nexus.runbook.escalation
        tasks_from: validate
    - block:
        - ansible.builtin.command: {argv: [cat, "{{ said }}"]}
          register: host
          check_mode: false
        - itsm_nexus.runbook.incident: {state: open, state_dir: "{{ state_dir }}", severity: critical}
          register: incident
      vars: &here
        ansible_connection: local
        ansible_become: false
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
    - ansible.builtin.include_role:
        name: itsm_nexus.runbook.escalation
        # Invalid settings were reported at the start. Here, invalid settings must not stop the run.
        rolespec_validate: false
      vars:
        escalation_incident: "{{ incident.id | default('', true) }}"
        escalation_notified: "{{ incident.notified }}"
        escalation_cause: hung
        escalation_cause_summary: "{{ host.stdout }}"
        escalation_severity: critical
        escalation_statements: "{{ {'still_down': {'value': 'no' if escalation_recovered else 'yes'}} }}"
        escalation_outage_started_at: "2026-03-02T01:02:03.456Z"
        escalation_rungs_tried: [{rung: restart, held: "{{ escalation_recovered }}", reason: no answer}]
        escalation_evidence: /var/lib/itsm-runbook/evidence/INC
    - itsm_nexus.runbook.incident:
        state: closed
        state_dir: "{{ state_dir }}"
        run: "{{ incident.run | default('', true) }}"
        outcome: "{{ 'recovered' if escalation_recovered else 'not_recovered' }}"
        mitigated_at: "{{ '2026-03-02T01:32:03.456Z' if escalation_recovered else omit }}"
        notified: "{{ escalation_result.notified_now }}"
      vars: *here
    - ansible.builtin.set_stats:
        per_host: false
        data:
          outage_recover:
            node1:
              incident: "{{ incident.id | default('', true) }}"
              host: node1
              escalation: "{{ escalation_result }}"
"""

INVENTORY = {
    "all": {
        "hosts": {"node1": {"ansible_host": "192.0.2.1"}},
        "vars": {
            "ansible_connection": "ssh",
            "ansible_become": True,
            "ansible_become_method": "su",
            "ansible_python_interpreter": "/nonexistent/python",
        },
    }
}


@dataclasses.dataclass
class Run:
    rc: int
    screen: str


class Desk:
    """All contacts with their receivers, and the runs that notify them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.home = folder, folder / "state", folder / "home"
        self.home.mkdir()
        (folder / "said.txt").write_text(HOSTILE, encoding="utf-8")
        (folder / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
        (folder / "inventory.yml").write_text(yaml.safe_dump(INVENTORY), encoding="utf-8")
        context = authority(folder / "ca")
        self.https = {name: Receiver(context=context) for name in ("slack", "teams", "mattermost", "pager", "http")}
        self.smtp = MailServer(login=("runbook", SECRETS["smtp"]), context=context)
        self.text, self.json = folder / "notified.txt", folder / "notified.json"
        self.seen: set[str] = set()
        self.screens: list[str] = []

    def close(self) -> None:
        for each in (*self.https.values(), self.smtp):
            each.close()

    def url(self, name: str) -> str:
        return f"{self.https[name].url}/{SECRETS[name]}"

    def variables(self) -> dict[str, Any]:
        chat = [{"type": "webhook", "shape": name, "url": self.url(name)} for name in ("teams", "mattermost")]
        return {
            "said": str(self.folder / "said.txt"),
            "state_dir": str(self.state),
            "escalation_recovered": False,
            "escalation_ca_path": str(self.folder / "ca" / "ca.pem"),
            "escalation_retry_delay": 0,
            "escalation_smtp_host": "127.0.0.1",
            "escalation_smtp_port": self.smtp.port,
            "escalation_smtp_security": "starttls",
            "escalation_smtp_username": "runbook",
            "escalation_smtp_password": SECRETS["smtp"],
            "escalation_smtp_from": "runbook@example.com",
            "escalation_contacts": {
                "project_leader": {
                    "name": "the leader",
                    "channels": [
                        {
                            "type": "webhook",
                            "shape": "slack",
                            "url": f"https://127.0.0.1:{free_port()}/{SECRETS['dead']}",
                        },
                        {"type": "webhook", "shape": "slack", "url": self.url("slack"), "name": "slack"},
                        {"type": "mail", "to": "leader@example.com"},
                        {
                            "type": "pagerduty",
                            "routing_key": SECRETS["pager"],
                            "url": f"{self.https['pager'].url}/v2/enqueue",
                        },
                        {"type": "http", "url": self.https["http"].url, "secret": SECRETS["http"]},
                        {"type": "command", "argv": ["tee", "-a", str(self.text)]},
                        {"type": "command", "argv": ["tee", "-a", str(self.json)], "input": "json", "name": "json"},
                    ],
                },
                "dba": "the DBA",
                "everyone": {"name": "the team", "channels": chat},
            },
        }

    def play(self, *arguments: str, watch: bool = False, project: Path = ROOT, **changes: Any) -> Run:
        variables = self.folder / "variables.yml"
        variables.write_text(yaml.safe_dump({**self.variables(), **changes}), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        process = subprocess.Popen(
            [
                ANSIBLE,
                "-vvv",
                "-i",
                self.folder / "inventory.yml",
                self.folder / "play.yml",
                "-e",
                f"@{variables}",
                *arguments,
            ],
            cwd=project,
            env={
                **environment,
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.home),
                "ANSIBLE_KEEP_REMOTE_FILES": "true",
                "ANSIBLE_PIPELINING": "false",
                "ITSM_NEXUS_POSTMORTEM_DIR": str(self.folder / "postmortems"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if watch:
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        screen, _nothing = process.communicate(timeout=300)
        print(screen)
        self.screens.append(screen)
        return Run(process.returncode, screen)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Collect the arguments of all processes until the run ends."""
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_text(encoding="utf-8", errors="replace"))
                except OSError:
                    continue
            time.sleep(0.01)

    def told(self) -> list[tuple[str, str, bool]]:
        """Return the notifications in the incident's record: the level, the channel, and True if they were accepted."""
        records = [self.state / "incident.json", *(self.state / "incidents").glob("*.json")]
        (record,) = [path for path in records if path.exists()]
        return [
            (each["level"], each["channel"], each["ok"])
            for each in json.loads(record.read_text(encoding="utf-8"))["notified"]
        ]

    def counts(self) -> dict[str, int]:
        taken = {name: len(each.requests) for name, each in self.https.items()}
        return {**taken, "mail": len(self.smtp.mails)}

    def last(self, name: str) -> Any:
        return json.loads(self.https[name].requests[-1].body)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    found = Desk(tmp_path_factory.mktemp("desk"))
    yield found
    found.close()


DEAD = "slack 127.0.0.1"
LEADER = ["slack", "mail leader@example.com", "pagerduty", "http 127.0.0.1", "command tee", "json"]
TEAM = ["teams 127.0.0.1", "mattermost 127.0.0.1"]


# The following tests cover one incident from start to end, so their order matters.


def test_invalid_settings_are_refused_at_the_start(desk: Desk) -> None:
    contacts = desk.variables()["escalation_contacts"]
    contacts["everyone"]["channels"][0]["shape"] = "discord"
    del contacts["dba"]
    run = desk.play(escalation_contacts=contacts, escalation_language="fr")
    assert run.rc != 0
    for problem in (
        "escalation_contacts.everyone.channels[0].shape is 'discord': must be one of mattermost, slack, teams",
        "escalation_contacts lacks 'dba', which these rules list in 'to': data_in_doubt, ",
        "escalation_language is 'fr': must be one of en, ja",
    ):
        assert problem in run.screen
    assert not desk.state.exists()
    assert "Traceback" not in run.screen


def test_a_missing_secret_is_reported_at_the_start(desk: Desk) -> None:
    contacts = desk.variables()["escalation_contacts"]
    contacts["project_leader"]["channels"][1]["url"] = desk.url("slack") + "{{ nowhere_defined }}"
    run = desk.play(escalation_contacts=contacts)
    assert run.rc != 0
    # ansible-core before version 2.19 does not show which part of a variable is invalid.
    part = r"escalation_contacts(\.project_leader\.channels\[1\]\.url)? cannot be evaluated"
    assert re.search(part, run.screen)
    assert not desk.state.exists()


@pytest.mark.parametrize(
    ("arguments", "changes", "condition"),
    [
        (["--check"], {}, ""),
        ([], {"escalation_dry_run": True}, ""),
        (["--check"], {"escalation_simulated": True}, "If the recovery succeeds: "),
    ],
)
def test_a_dry_run_lists_the_contacts_and_notifies_nobody(
    desk: Desk, arguments: list[str], changes: dict[str, Any], condition: str
) -> None:
    run = desk.play(*arguments, state_dir=str(desk.folder / "dry"), **changes)
    assert run.rc == 0
    for channel in (DEAD, *LEADER):
        assert f'"{condition}Would notify the leader by {channel}: DOWN: the service on node1' in run.screen
    # The screen also shows the message that would be sent.
    assert "Done: restart failed: no answer" in run.screen
    assert set(desk.counts().values()) == {0}
    assert not desk.text.exists()


def test_everybody_is_notified_although_one_channel_is_down(desk: Desk) -> None:
    run = desk.play(watch=True)
    assert run.rc == 0
    assert desk.told() == [("not_recovered", DEAD, False), *(("not_recovered", each, True) for each in LEADER)]
    assert desk.counts() == {"slack": 1, "teams": 0, "mattermost": 0, "pager": 1, "http": 1, "mail": 1}
    assert f"the leader by {DEAD}: NOT SENT, cannot be reached: Connection refused" in run.screen
    documents = [path.read_text(encoding="utf-8") for path in (desk.folder / "postmortems").glob("*.md")]
    assert any(f"NOT SENT to the leader by {DEAD}: cannot be reached: Connection refused" in text for text in documents)
    for text in (desk.text.read_text(encoding="utf-8"), desk.smtp.mails[0].get_content().replace("\r", "")):
        assert "Cause: hung: {{ 7 * 7 }}{% raw %} <!channel> @all Bcc: evil@example.com\n" in text
        assert "Since: 2026-03-02 01:02:03 UTC\n" in text
        assert "Done: restart failed: no answer\n" in text
        assert "Next step: Fix the cause, then run the playbook again.\n" in text
        assert "Evidence: node1:/var/lib/itsm-runbook/evidence/INC\n" in text
        # The files of a container are removed after the run, so their folder is not shown.
        in_container = any(map(os.path.exists, ("/run/.containerenv", "/.dockerenv")))
        place = f"{desk.folder / 'postmortems'} on the controller {socket.gethostname()} (named after their incidents)"
        assert (f"{place}\n" in text) != in_container


def test_the_mail_is_sent_by_the_logged_in_account(desk: Desk) -> None:
    (mail,) = desk.smtp.mails
    assert mail["Subject"] == "DOWN: the service on node1"
    assert (mail["To"], mail["Bcc"]) == ("leader@example.com", None)
    assert [login.login for login in desk.smtp.logins] == [b"runbook"]


def test_slack_gets_plain_text(desk: Desk) -> None:
    body = desk.last("slack")
    assert body["text"] == "DOWN: the service on node1"
    assert {block["text"]["type"] for block in body["blocks"]} == {"plain_text"}
    assert desk.https["slack"].requests[0].path == f"/{SECRETS['slack']}"


def test_pagerduty_is_triggered_with_the_id_of_the_incident(desk: Desk) -> None:
    event = desk.last("pager")
    assert event["event_action"] == "trigger"
    assert event["dedup_key"].startswith("INC-")
    assert event["routing_key"] == SECRETS["pager"]
    payload = event["payload"]
    assert (payload["source"], payload["severity"], payload["class"]) == ("node1", "error", "hung")
    assert payload["summary"] == "DOWN: the service on node1"


def test_the_signed_document_is_valid_and_fresh(desk: Desk) -> None:
    (request,) = desk.https["http"].requests
    moment, name = request.headers["webhook-timestamp"], request.headers["webhook-id"]
    expected = hmac.new(SECRETS["http"].encode(), f"{name}.{moment}.".encode() + request.body, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert abs(time.time() - int(moment)) < 300
    document = json.loads(request.body)
    assert document["id"] == name == f"{document['incident']}/not_recovered/project_leader"
    assert (document["event"], document["level"], document["recovered"]) == ("raised", "not_recovered", False)
    assert document["cause_summary"] == "{{ 7 * 7 }}{% raw %} <!channel> @all Bcc: evil@example.com"
    by_command = json.loads(desk.json.read_text(encoding="utf-8"))
    unlike = {name for name in document if document[name] != by_command[name]}
    assert unlike <= {"sent_at"}


def test_a_second_run_notifies_nobody(desk: Desk) -> None:
    before = desk.counts()
    assert desk.play().rc == 0
    assert desk.counts() == before
    # Only the channel that failed before is tried again.
    assert desk.told()[len(LEADER) + 1 :] == [("not_recovered", DEAD, False)]


def test_an_acknowledgement_stops_only_the_pager(desk: Desk) -> None:
    opened, before = desk.last("pager"), desk.counts()
    assert desk.play(escalation_acknowledged_by="Tanaka").rc == 0
    assert desk.told()[-1] == ("acknowledged", "pagerduty", True)
    assert desk.counts() == {**before, "pager": 2}
    event = desk.last("pager")
    assert (event["event_action"], event["dedup_key"]) == ("acknowledge", opened["dedup_key"])
    assert event["payload"]["summary"] == "ACKNOWLEDGED: Tanaka is working on the service on node1"


def test_a_higher_level_is_notified_in_japanese(desk: Desk) -> None:
    before = desk.counts()
    assert desk.play(escalation_outage_seconds=1920, escalation_language="ja").rc == 0
    assert desk.told()[-2:] == [("everyone", each, True) for each in TEAM]
    assert desk.counts() == {**before, "teams": 1, "mattermost": 1}
    card = desk.last("teams")["attachments"][0]["content"]
    lines = [part["inlines"][0]["text"] for part in card["body"]]
    assert lines[0] == "【停止】node1 の the service（32分経過）"
    assert "理由：停止時間がエスカレーションの基準を超えたため" in lines
    assert "原因：応答不能（ハング）：「{{ 7 * 7 }}{% raw %} <!channel> @all Bcc: evil@example.com」" in lines
    assert desk.last("mattermost")["text"].startswith("```text\n【停止】node1")


def test_the_resolution_is_sent_to_all_notified_contacts(desk: Desk) -> None:
    opened = desk.last("pager")
    before, known = desk.counts(), len(desk.told())
    assert desk.play(escalation_recovered=True, escalation_outage_seconds=1800).rc == 0
    assert sorted(desk.told()[known:]) == sorted(("resolved", each, True) for each in (*LEADER, *TEAM))
    assert desk.counts() == {name: count + 1 for name, count in before.items()}
    closed = desk.last("pager")
    assert (closed["event_action"], closed["dedup_key"]) == ("resolve", opened["dedup_key"])
    assert desk.smtp.mails[-1]["Subject"] == "RESOLVED: the service on node1 is back after 30 min"
    assert desk.smtp.mails[-1]["References"] == desk.smtp.mails[0]["References"]


def test_an_invalid_channel_does_not_stop_the_end_of_a_recovery(desk: Desk) -> None:
    (desk.folder / "play.yml").write_text(
        PLAYBOOK.replace("tasks_from: validate", "tasks_from: validate\n      when: false"), encoding="utf-8"
    )
    contacts = desk.variables()["escalation_contacts"]
    contacts["project_leader"]["channels"][1]["url"] = desk.url("slack") + "{{ nowhere_defined }}"
    contacts["project_leader"]["channels"].append({"type": "fax"})
    before = desk.counts()
    run = desk.play(state_dir=str(desk.folder / "another"), escalation_contacts=contacts)
    assert run.rc == 0
    assert desk.counts()["slack"] == before["slack"]
    if "Notifying the leader: " in run.screen:
        assert "the leader by slack: NOT SENT, its url cannot be evaluated" in run.screen
        allowed = ", ".join(sorted(path.stem for path in (ROOT / "roles/escalation/tasks/channels").glob("*.yml")))
        assert f"the leader by fax: NOT SENT, its type is 'fax': must be one of {allowed}" in run.screen
        assert "Could not find or access" not in run.screen
        assert desk.counts() == {**before, **{name: before[name] + 1 for name in ("pager", "http", "mail")}}
    else:
        # ansible-core before version 2.19 evaluates a variable either completely or not at all.
        assert "Notifying project_leader: " in run.screen


def test_the_documented_channels_notify_from_the_controller(desk: Desk, tmp_path: Path) -> None:
    project = checkout(tmp_path / "project")
    page = (ROOT / "docs/escalation.md").read_text(encoding="utf-8")
    files = re.findall(
        r"^```yaml\n# (roles/escalation/tasks/channels/\w+\.yml)\n(.+?)^```$", page, re.MULTILINE | re.DOTALL
    )
    for name, text in files:
        (project / name).write_text(f"---\n{text}", encoding="utf-8")
    before = {name: len(receiver.requests) for name, receiver in desk.https.items()}
    channels = [
        {"type": "ntfy", "url": desk.https["slack"].url, "topic": "outages", "token": SECRETS["slack"]},
        {"type": "siren", "url": desk.https["teams"].url + "/3", "token": SECRETS["teams"]},
        {
            "type": "siren",
            "url": f"https://127.0.0.1:{free_port()}/3",
            "token": SECRETS["dead"],
            "name": "broken siren",
        },
    ]
    contacts = {**desk.variables()["escalation_contacts"], "project_leader": {"channels": channels}}
    run = desk.play(project=project, state_dir=str(desk.folder / "documented"), escalation_contacts=contacts)
    assert run.rc == 0
    (ntfy,) = desk.https["slack"].requests[before["slack"] :]
    assert (ntfy.method, ntfy.headers["authorization"]) == ("POST", f"Bearer {SECRETS['slack']}")
    document = json.loads(ntfy.body)
    assert (document["topic"], document["title"]) == ("outages", "DOWN: the service on node1")
    event, message = document["tags"]
    assert event == "raised" and message.endswith("/not_recovered/project_leader")
    (siren,) = desk.https["teams"].requests[before["teams"] :]
    assert (siren.method, siren.path, siren.headers["x-relay-key"]) == ("PUT", "/3", SECRETS["teams"])
    assert json.loads(siren.body) == {"id": message, "event": "raised", "reason": "DOWN: the service on node1"}
    assert "project_leader by ntfy 127.0.0.1: notified; project_leader by siren 127.0.0.1: notified; " in run.screen
    assert "project_leader by broken siren: NOT SENT, answered -1" in run.screen


# Each run records each notification immediately.


def at_once(desk: Desk, name: str, *channels: dict[str, Any]) -> dict[str, Any]:
    """Return the variables for a run with its own state folder on this host. `channels`: the leader's channels."""
    playbook = PLAYBOOK.replace(
        'escalation_incident: "{{ inc',
        """escalation_run: "{{ incident.run | default('', true) }}"\n        escalation_incident: "{{ inc""",
    )
    assert playbook != PLAYBOOK
    (desk.folder / "play.yml").write_text(playbook, encoding="utf-8")
    state = str(desk.folder / name)
    return {
        "state_dir": state,
        "nexus_state_dir": state,
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "escalation_contacts": {
            "project_leader": {"channels": list(channels)},
            "dba": "the DBA",
            "everyone": "the team",
        },
    }


def open_record(desk: Desk, name: str) -> dict[str, Any]:
    return json.loads((desk.folder / name / "incident.json").read_text(encoding="utf-8"))


def test_a_run_killed_while_it_notifies_keeps_its_record(desk: Desk) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    reached = desk.folder / "reached"
    # This channel kills the run. Therefore, the run cannot record whether the notification was sent.
    killer = {"type": "command", "argv": ["sh", "-c", f"touch {reached}; kill -9 $PPID; sleep 60"], "name": "ring"}
    before = desk.counts()["slack"]
    screen = desk.play(**at_once(desk, "killed", slack, killer), escalation_retries=0, escalation_timeout=5).screen
    assert reached.exists() and "PLAY RECAP" not in screen
    assert desk.counts()["slack"] == before + 1
    assert [(each["channel"], each["ok"]) for each in open_record(desk, "killed")["notified"]] == [("chat", True)]

    host_lease.Seat(state_dir=str(desk.folder / "killed")).release(run=open_record(desk, "killed")["runs"][0])
    ring = {"type": "command", "argv": ["true"], "name": "ring"}
    assert desk.play(**at_once(desk, "killed", slack, ring), watch=True).rc == 0
    assert desk.counts()["slack"] == before + 1
    assert [(each["channel"], each["ok"]) for each in open_record(desk, "killed")["notified"]] == [
        ("chat", True),
        ("ring", True),
    ]


def test_a_run_that_lost_the_host_leaves_notification_to_the_other(desk: Desk) -> None:
    state = desk.folder / "lost"
    takes = f"""
import sys
sys.path.insert(0, {str(ROOT / "collections")!r})
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
host_lease.Seat(state_dir={str(state)!r}).take(run="run-other")
"""
    thief = {"type": "command", "argv": [sys.executable, "-c", takes], "name": "thief"}
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    before = desk.counts()["slack"]
    run = desk.play(**at_once(desk, "lost", thief, slack))
    assert run.rc != 0
    assert "Another run is working on this host: run-other" in run.screen
    assert desk.counts()["slack"] == before
    assert open_record(desk, "lost")["notified"] == []


def test_a_shared_room_gets_one_message(desk: Desk) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    variables = at_once(desk, "shared", slack)
    variables["escalation_contacts"]["dba"] = {"channels": [{**slack, "name": "room"}]}
    before = desk.counts()["slack"]
    run = desk.play(**variables, escalation_data_loss=True)
    assert run.rc == 0
    assert desk.counts()["slack"] == before + 1
    assert [(each["contact"], each["channel"], each["ok"]) for each in open_record(desk, "shared")["notified"]] == [
        ("project_leader", "chat", True),
        ("dba", "room", True),
    ]


@pytest.mark.parametrize(
    ("language", "subject"),
    [
        ("en", "ATTENTION: the database of the service on node1 is in doubt, the service answers"),
        ("ja", "【要対応】node1 の the service のデータベースに疑いがあります（サービスは応答中）"),
    ],
)
def test_the_dba_is_notified_at_once_if_the_database_is_in_doubt(desk: Desk, language: str, subject: str) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    name = f"doubt-{language}"
    variables = at_once(desk, name, slack)
    variables["escalation_contacts"]["dba"] = {"channels": [slack]}
    variables["escalation_contacts"]["project_leader"] = "nobody"
    before = desk.counts()["slack"]
    run = desk.play(
        **variables,
        escalation_outcome="data_in_doubt",
        escalation_statements={"still_down": {"value": "no"}},
        escalation_data_loss=True,
        escalation_cause="unknown",
        escalation_deferred=True,
        escalation_language=language,
    )
    assert run.rc == 0
    assert desk.counts()["slack"] == before + 1
    assert desk.last("slack")["text"] == subject
    assert [(each["level"], each["contact"]) for each in open_record(desk, name)["notified"]] == [
        ("data_in_doubt", "dba")
    ]


@pytest.mark.parametrize(("language", "begins"), [("en", "TEST: "), ("ja", "【テスト】")])
def test_a_test_message_says_so_in_every_channel(desk: Desk, language: str, begins: str) -> None:
    desk.text.touch()
    before, written = desk.counts(), len(desk.text.read_text(encoding="utf-8"))
    variables = {**at_once(desk, f"test-{language}"), "escalation_contacts": desk.variables()["escalation_contacts"]}
    # The documented command also works without an open incident.
    variables |= {"escalation_severity": "", "escalation_incident": ""}
    run = desk.play(**variables, escalation_test=True, escalation_language=language)
    assert run.rc == 0
    assert desk.counts() == {name: number + 1 for name, number in before.items()}
    subjects = [desk.last("slack")["text"], desk.smtp.mails[-1]["Subject"], desk.last("pager")["payload"]["summary"]]
    subjects += [desk.last("http")["subject"], desk.last("teams")["attachments"][0]["content"]["fallbackText"]]
    subjects += [desk.last("mattermost")["text"].splitlines()[1], desk.text.read_text(encoding="utf-8")[written:]]
    assert [subject for subject in subjects if not subject.startswith(begins)] == []
    assert desk.last("pager")["payload"]["severity"] == "info"
    told = desk.last("http")
    assert (told["test"], told["outcome"], told["recovered"]) == (True, "test", False)
    assert told["incident"].startswith("TEST-") and told["id"] == f"{told['incident']}/test/project_leader"
    assert "Notifying the team, the leader: This is a test." in run.screen
    assert "the DBA: NOT NOTIFIED, no channel is set" in run.screen
    assert "escalation_contacts.dba.channels" in run.screen


def test_a_test_reports_a_missing_contact(desk: Desk) -> None:
    variables = {**at_once(desk, "test-lacks"), "escalation_contacts": desk.variables()["escalation_contacts"]}
    del variables["escalation_contacts"]["dba"]
    variables |= {"escalation_severity": "", "escalation_incident": ""}
    before = desk.counts()
    run = desk.play(**variables, escalation_test=True)
    assert run.rc == 2
    assert "escalation_contacts lacks 'dba'" in run.screen
    assert desk.counts() == before


@pytest.mark.parametrize("way", ["variable", "rule"])
def test_a_notification_about_an_outage_is_never_a_test_message(desk: Desk, way: str) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    rule = {"name": "test", "when": True, "to": ["project_leader"], "reason": "The service is down."}
    left = {"escalation_test": True} if way == "variable" else {"escalation_rules": [rule]}
    before = desk.counts()["slack"]
    run = desk.play(**at_once(desk, f"no-test-{way}", slack), **left)
    assert run.rc == 0
    assert desk.counts()["slack"] == before + 1
    assert desk.last("slack")["text"].startswith("DOWN: ")


def test_a_removed_channel_is_reported_when_the_outage_is_over(desk: Desk) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    variables = at_once(desk, "removed", slack)
    assert desk.play(**variables).rc == 0
    variables["escalation_contacts"]["project_leader"]["channels"] = []
    run = desk.play(**variables, escalation_recovered=True)
    assert run.rc == 0
    assert "project_leader by chat: NOT SENT, it is no longer set in escalation_contacts" in run.screen
    end = " ".join(run.screen[run.screen.index("OUTAGE SUMMARY") :].split())
    assert "NOT NOTIFIED that the outage is over, call them:" in end


def skip_validation(desk: Desk) -> None:
    """Notify the contacts even if the settings are invalid, as a recovery does."""
    play = desk.folder / "play.yml"
    text, skip = play.read_text(encoding="utf-8"), "tasks_from: validate\n      when: false"
    play.write_text(text if skip in text else text.replace("tasks_from: validate", skip), encoding="utf-8")


def test_a_notification_is_not_left_to_a_later_run_if_a_setting_is_invalid(desk: Desk) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    variables = at_once(desk, "deferred-invalid", slack)
    skip_validation(desk)
    before = desk.counts()["slack"]
    run = desk.play(**variables, escalation_deferred=True, escalation_everyone_after="{{ nowhere_defined }}")
    assert run.rc == 0
    assert desk.counts()["slack"] == before + 1


@pytest.mark.parametrize("contacts", ["right", "wrong"])
def test_without_rules_everybody_is_notified(desk: Desk, contacts: str) -> None:
    slack = {"type": "webhook", "shape": "slack", "url": desk.url("slack"), "name": "chat"}
    name = f"ruleless-{contacts}"
    variables = at_once(desk, name, slack)
    skip_validation(desk)
    if contacts == "wrong":
        variables["escalation_contacts"] = "{{ nowhere_defined }}"
    before = desk.counts()["slack"]
    run = desk.play(
        **variables, escalation_rules=[{"name": "x", "when": "{{ nowhere_defined }}", "to": [], "reason": ""}]
    )
    assert run.rc == 0
    assert "The escalation rules cannot be evaluated, so everyone is notified." in run.screen
    assert desk.counts()["slack"] == before + (contacts == "right")
    assert [each["level"] for each in open_record(desk, name)["notified"]] == ["rules_unusable"] * (contacts == "right")


def test_no_secret_is_visible(desk: Desk) -> None:
    places = {f"screen {number}": screen for number, screen in enumerate(desk.screens)}
    places["arguments"] = "\n".join(desk.seen)
    for top in ("state", "another", "dry", "killed", "lost", "shared", "documented", "postmortems", "home"):
        for path in (desk.folder / top).rglob("*"):
            if path.is_file():
                places[str(path)] = path.read_bytes().decode("utf-8", "replace")
    assert any(name.endswith(".jsonl") for name in places)
    assert any("incidents" in name for name in places)
    assert "ansible-playbook" in places["arguments"]
    for place, text in places.items():
        for name, secret in SECRETS.items():
            assert secret not in text, f"the secret of {name} is visible in {place}"
