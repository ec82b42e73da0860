# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service fails four times: after the third outage, a run notifies the leader. The fourth run tries no restart."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import runs
from drills import Drill
from receivers import MailServer, Receiver

FALLS = ("first", "second", "third")
# These values are the same as in molecule/inventory/hosts.yml.
WEBHOOK = "/services/T0DRILL/B0DRILL/drill-webhook-token"
PASSWORD = "drill-smtp-password"
SECRETS = ("drill-webhook-token", PASSWORD)


class Told(NamedTuple):
    """The number of messages that each channel had received when a run ended."""

    mails: int
    posts: int


class Story(NamedTuple):
    """The messages and process arguments observed during the drill."""

    mail: MailServer
    chat: Receiver
    told: dict[str, Told]
    arguments: set[bytes]


@pytest.fixture(scope="module")
def story(drill: Drill) -> Story:
    mail, chat = MailServer(login=("runbook", PASSWORD)), Receiver()
    told = {}
    with runs.watched_arguments() as arguments:
        for name in (*FALLS, "fourth"):
            runs.kill_service(drill)
            verbosely = ["-vvv"] if name == "third" else []
            assert runs.run(drill, name, *verbosely, DRILL_SMTP_PORT=str(mail.port), DRILL_CHAT=chat.url) == 0
            told[name] = Told(len(mail.mails), len(chat.requests))
    mail.close()
    chat.close()
    return Story(mail, chat, told, arguments)


def test_every_outage_is_recovered(drill: Drill, story: Story) -> None:
    for name in FALLS:
        told = drill.postmortem(name)
        assert (told["outcome"], told["rung"], told["rungs_skipped"]) == ("recovered", "restart", [])
    # Each outage was a separate incident.
    assert len({drill.postmortem(name)["incident"] for name in FALLS}) == len(FALLS)


def test_leader_is_notified_once_about_the_third_outage(drill: Drill, story: Story) -> None:
    assert [story.told[name] for name in FALLS] == [Told(0, 0), Told(0, 0), Told(1, 1)]
    assert [drill.postmortem(name)["escalation"]["to"] for name in FALLS] == [[], [], ["project leader"]]


def test_mail_is_received(drill: Drill, story: Story) -> None:
    mail, incident = story.mail.mails[0], drill.postmortem("third")["incident"]
    assert story.mail.recipients[0] == ["leader@example.com"]
    text = mail.get_body(("plain",)).get_content()
    count = "started the service 3 times within the last 60 minutes, 2 of them in earlier incidents"
    for words in (incident, count, "Complete the open prevention items"):
        assert words in text


def test_webhook_is_received(drill: Drill, story: Story) -> None:
    asked = story.chat.requests[0]
    assert asked.path == WEBHOOK
    shown = json.loads(asked.body)["blocks"][1]["text"]["text"]
    for words in (
        drill.postmortem("third")["incident"],
        "started the service 3 times within the last 60 minutes, 2 of them in earlier incidents",
        "Complete the open prevention items",
    ):
        assert words in shown


def test_fourth_run_tries_no_restart(drill: Drill, story: Story) -> None:
    told = drill.postmortem("fourth")
    assert [each["rung"] for each in told["rungs_skipped"]] == ["restart"]
    assert [(each["rung"], each["held"]) for each in told["rungs_tried"]] == [("standard_recovery", True)]
    closing = " ".join(drill.screen("fourth")[-3000:].split())
    assert "recovery runs started the service 3 times in the last 60 minutes (all incidents together)" in closing
    assert "restart skipped (cannot help), then standard_recovery succeeded" in closing


def test_fourth_is_a_new_incident_notified_once(drill: Drill, story: Story) -> None:
    assert story.told["fourth"] == Told(2, 2)
    assert drill.postmortem("fourth")["incident"] in story.mail.mails[1].get_body(("plain",)).get_content()


def test_records_name_the_notified_contacts(drill: Drill, story: Story) -> None:
    told = [record["notified"] for record in runs.past_incidents(drill)]
    assert [len(each) for each in told] == [0, 0, 2, 2]
    assert [(each["contact"], each["channel"], each["ok"]) for each in told[2]] == [
        ("project_leader", "mail leader@example.com", True),
        ("project_leader", "slack 127.0.0.1", True),
    ]
    assert runs.open_incident(drill) is None


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_on_the_controller(drill: Drill, story: Story, secret: str) -> None:
    written = [path for path in drill.output.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".log", ".jsonl", ".json", ".md", ".html"}
    assert [path for path in written if secret.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_on_the_host(drill: Drill, story: Story, secret: str) -> None:
    found = drill.host.run(f"grep -rlF {secret} /var/lib/itsm-runbook /run/itsm-runbook /var/log /tmp /home /root")
    assert found.rc == 1, found.stdout
    assert secret not in drill.host.check_output("journalctl --no-pager")


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_an_argument(story: Story, secret: str) -> None:
    # If the collected arguments did not contain these sudo commands, the check for secrets would be meaningless.
    assert any(b"BECOME-SUCCESS" in each for each in story.arguments)
    assert [each for each in story.arguments if secret.encode() in each] == []


def test_no_row_is_lost(drill: Drill, story: Story) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
