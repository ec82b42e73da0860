# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In a long outage, a run first notifies the leader. After half an hour and at the end, everyone is notified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, NamedTuple

import pytest
import runs
from drills import Drill
from receivers import MailServer, Receiver, Request

# This value is the same as in molecule/inventory/hosts.yml.
SECRET = b"drill-secret-of-24-bytes-and-more"


class Story(NamedTuple):
    """The messages that the runs sent, by run name."""

    mails: dict[str, list[Any]]
    posts: dict[str, list[Request]]


@pytest.fixture(scope="module")
def story(drill: Drill) -> Story:
    mail, chat = MailServer(), Receiver()
    mails, posts = {}, {}

    def run(name: str, *arguments: str, rc: int) -> None:
        seen = len(mail.mails), len(chat.requests)
        assert runs.run(drill, name, *arguments, DRILL_SMTP_PORT=str(mail.port), DRILL_CHAT=chat.url) == rc
        mails[name], posts[name] = mail.mails[seen[0] :], chat.requests[seen[1] :]

    nothing_is_tried = "--extra-vars={'outage_recover_rungs': []}"
    runs.break_start(drill)
    runs.kill_service(drill)
    run("down", rc=2)
    # Move all times in the record back by 31 minutes, to simulate an outage of more than half an hour.
    drill.host.check_output("/opt/drill/bin/age-incident 31")
    run("later", nothing_is_tried, rc=2)
    run("again", nothing_is_tried, rc=2)
    runs.repair_start(drill)
    run("resolved", rc=0)
    mail.close()
    chat.close()
    return Story(mails, posts)


def addressees(mails: list[Any]) -> list[str]:
    return [mail["To"] for mail in mails]


def text_of(mail: Any) -> str:
    return mail.get_body(("plain",)).get_content()


def alerts(posts: list[Request]) -> list[dict[str, Any]]:
    """Return the events that PagerDuty accepted."""
    return [json.loads(each.body) for each in posts if each.path == "/v2/enqueue"]


def test_all_runs_are_one_incident(drill: Drill, story: Story) -> None:
    told = drill.postmortem("resolved")
    assert {drill.postmortem(name)["incident"] for name in story.mails} == {told["incident"]}
    (record,) = runs.past_incidents(drill)
    assert (record["id"], len(record["runs"])) == (told["incident"], 4)
    assert told["durations"]["outage"] > 31 * 60
    assert told["outcome"] == "recovered"


def test_leader_is_notified_first(drill: Drill, story: Story) -> None:
    assert addressees(story.mails["down"]) == ["leader@example.com"]
    assert "unhandled_exception" in text_of(story.mails["down"][0])
    assert [alert["event_action"] for alert in alerts(story.posts["down"])] == ["trigger"]
    assert len(story.posts["down"]) == 1
    assert drill.postmortem("down")["escalation"]["to"] == ["project leader"]


def test_everyone_is_notified_after_half_an_hour(drill: Drill, story: Story) -> None:
    assert addressees(story.mails["later"]) == ["team@example.com"]
    assert "The service has been down for 3" in text_of(story.mails["later"][0])
    assert [each.path for each in story.posts["later"]] == ["/monitoring"]
    assert drill.postmortem("later")["escalation"]["to"] == ["the whole team"]


def test_no_level_is_notified_twice(story: Story) -> None:
    assert (story.mails["again"], story.posts["again"]) == ([], [])


def test_all_notified_contacts_get_the_resolution(drill: Drill, story: Story) -> None:
    assert sorted(addressees(story.mails["resolved"])) == ["leader@example.com", "team@example.com"]
    for mail in story.mails["resolved"]:
        assert "resolved" in mail["Subject"].lower()
    assert [alert["event_action"] for alert in alerts(story.posts["resolved"])] == ["resolve"]
    (facts,) = [json.loads(each.body) for each in story.posts["resolved"] if each.path == "/monitoring"]
    assert (facts["event"], facts["recovered"]) == ("resolved", True)


def test_pagerduty_alert_has_the_id_of_the_incident(drill: Drill, story: Story) -> None:
    known = {alert["dedup_key"] for posts in story.posts.values() for alert in alerts(posts)}
    assert known == {drill.postmortem("resolved")["incident"]}


def test_mails_are_one_thread(story: Story) -> None:
    mails = [mail for sent in story.mails.values() for mail in sent]
    assert len({mail["Message-ID"] for mail in mails}) == len(mails)
    assert len({mail["References"] for mail in mails}) == 1


def test_signature_is_verified(story: Story) -> None:
    for asked in (each for posts in story.posts.values() for each in posts if each.path == "/monitoring"):
        signed = f"{asked.headers['webhook-id']}.{asked.headers['webhook-timestamp']}.".encode() + asked.body
        digest = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
        assert asked.headers["webhook-signature"] == f"v1,{digest}"


def test_record_lists_each_notification(drill: Drill, story: Story) -> None:
    (record,) = runs.past_incidents(drill)
    assert all(each["ok"] for each in record["notified"])
    assert [(each["level"], each["contact"]) for each in record["notified"]] == [
        *[("not_recovered", "project_leader")] * 2,
        *[("everyone", "everyone")] * 2,
        *[("resolved", "everyone")] * 2,
        *[("resolved", "project_leader")] * 2,
    ]


def test_no_row_is_lost(drill: Drill, story: Story) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
