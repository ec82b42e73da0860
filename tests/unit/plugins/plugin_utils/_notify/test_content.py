# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a notification: its facts, and the request bodies for webhooks."""

from __future__ import annotations

import json

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import content as notification_content


def test_facts_are_one_line_each_without_secrets():
    assert notification_content.facts(
        {
            "cause": "line\nforged: yes\r\n\x1b[31m\u202e red",
            "tried": [{"reason": "PASSWORD=hunter2hunter2 was refused", "held": False}],
            "seconds": 1.5,
            "rows": None,
        }
    ) == {
        "cause": "line forged: yes red",
        "tried": [{"reason": "PASSWORD=[redacted] was refused", "held": False}],
        "seconds": 1.5,
        "rows": None,
    }
    assert len(notification_content.facts({"cause": "x" * 10_000})["cause"]) == 600


def test_the_next_step_keeps_its_commands_on_their_own_lines():
    told = "Do this:\nansible-playbook x.yml -e PASSWORD=hunter2hunter2\r\n\x1b[31mThen " + "x" * 700
    sent = notification_content.facts({"next_step": told})["next_step"]
    assert sent == "Do this:\nansible-playbook x.yml -e PASSWORD=[redacted]\nThen " + "x" * 700
    assert len(notification_content.facts({"next_step": "x" * 10_000})["next_step"]) == 4000


HOSTILE = "<!channel> <https://evil.example|click> *bold* @all ```\n# heading & [link](https://evil.example)"


def test_slack_text_contains_no_markup():
    body = notification_content.body({"subject": "<!channel> & co", "text": HOSTILE}, "slack")
    assert body["text"] == "&lt;!channel&gt; &amp; co"
    assert [(block["type"], block["text"]["type"]) for block in body["blocks"]] == [
        ("header", "plain_text"),
        ("section", "plain_text"),
    ]
    assert [block["text"]["text"] for block in body["blocks"]] == ["<!channel> & co", HOSTILE]


def test_slack_text_is_limited():
    body = notification_content.body({"subject": "s" * 200, "text": "t" * 5000}, "slack")
    assert [len(block["text"]["text"]) for block in body["blocks"]] == [150, 3000]


def test_teams_gets_an_adaptive_card_without_markdown():
    body = notification_content.body({"subject": "Down", "text": f"{HOSTILE}\n\nlast"}, "teams")
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"], card["fallbackText"]) == ("AdaptiveCard", "1.4", "Down")
    assert {part["type"] for part in card["body"]} == {"RichTextBlock"}
    lines = [run["text"] for part in card["body"] for run in part["inlines"] if run["type"] == "TextRun"]
    assert lines == ["Down", *HOSTILE.splitlines(), "last"]


def test_teams_and_mattermost_texts_are_limited():
    long = {"subject": "停止", "text": "\n".join("実施: 再起動 → 失敗" + "x" * 600 for _ in range(300))}
    card = json.dumps(notification_content.body(long, "teams"), ensure_ascii=False).encode()
    assert len(card) < 28_000
    assert len(notification_content.body(long, "mattermost")["text"]) < 16_383
    # Characters of three bytes are the worst case.
    worst = {"subject": "停止", "text": "\n".join(["止" * 70] * 400)}
    assert len(json.dumps(notification_content.body(worst, "teams"), ensure_ascii=False).encode()) < 28_000


def test_mattermost_gets_a_code_block_that_its_text_cannot_end():
    body = notification_content.body({"subject": "Down", "text": HOSTILE}, "mattermost")
    first, *inner, last = body["text"].split("\n")
    assert (first, last) == ("````text", "````")
    assert "````" not in "\n".join(inner)
    assert "\n".join(inner) == f"Down\n\n{HOSTILE}"
