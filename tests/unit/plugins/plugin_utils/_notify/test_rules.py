# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is notified of what, decided from data: levels, channels, bodies, and errors in settings."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import rules as notification_rules

URL = "https://hooks.example.com/services/verysecretpath"
CONTACTS = {
    "leader": {
        "name": "the leader",
        "channels": [
            {"type": "mail", "to": "leader@example.com"},
            {"type": "pagerduty", "routing_key": "verysecretkey"},
        ],
    },
    "dba": {"name": "the DBA", "channels": [{"type": "webhook", "shape": "slack", "url": URL}]},
    "team": {"channels": [{"type": "webhook", "shape": "teams", "url": URL, "name": "war room"}]},
    "spare": "somebody",
}
MAIL, PAGER, SLACK, ROOM = "mail leader@example.com", "pagerduty", "slack hooks.example.com", "war room"


def rules(applies):
    """Return three levels, two rules of the highest among them; applies is the name of the rule that applies."""
    rows = [
        ("data", None, ["leader", "dba"]),
        ("long", "everyone", ["team"]),
        ("unknown", "everyone", ["team"]),
        ("down", None, ["leader"]),
        ("record", None, []),
    ]
    return [
        {
            "name": name,
            "when": name in (applies, "record"),
            "to": to,
            "reason": f"why {name}",
            **({"level": level} if level else {}),
        }
        for name, level, to in rows
    ]


def told(level, contact, channel, ok=True):
    return {"level": level, "contact": contact, "channel": channel, "at": "", "ok": ok, "error": ""}


def plan(applies, before=(), *, recovered=False, acknowledged=False, contacts=CONTACTS):
    return notification_rules.plan(
        rules(applies), contacts=contacts, told=list(before), recovered=recovered, acknowledged=acknowledged
    )


def due(*args, **options):
    return [(each["level"], each["contact"], each["channel"]) for each in plan(*args, **options)["deliveries"]]


DOWN = [("down", "leader", MAIL), ("down", "leader", PAGER)]
DOWN_TOLD = [told(*each) for each in DOWN]


def test_the_first_rule_that_applies_decides():
    verdict = plan("down")
    assert {name: verdict[name] for name in ("rule", "level", "to", "contacts", "reason")} == {
        "rule": "down",
        "level": "down",
        "to": ["the leader"],
        "contacts": ["leader"],
        "reason": "why down",
    }
    assert verdict["deliveries"][1] == {
        "level": "down",
        "contact": "leader",
        "name": "the leader",
        "channel": PAGER,
        "type": "pagerduty",
        "number": 1,
        "error": "",
        "same_as": {},
    }


@pytest.mark.parametrize(
    ("applies", "before", "expected"),
    [
        ("record", [], []),
        ("down", [], DOWN),
        ("down", DOWN_TOLD, []),
        # Failed notifications are tried again, and only those.
        ("down", [DOWN_TOLD[0], told("down", "leader", PAGER, ok=False)], [DOWN[1]]),
        # The level rises.
        ("unknown", DOWN_TOLD, [("everyone", "team", ROOM)]),
        ("data", DOWN_TOLD, [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK)]),
        (
            "data",
            [told("everyone", "team", ROOM)],
            [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK)],
        ),
        # Two rules with one level: a contact notified by one is not notified by the other.
        ("long", [told("everyone", "team", ROOM)], []),
        # The level falls.
        ("down", [told("everyone", "team", ROOM)], []),
        # A more severe level that reached nobody is not notified.
        ("down", [told("everyone", "team", ROOM, ok=False)], DOWN),
        # Levels of other rules have no influence.
        ("down", [told("database_not_recovered", "leader", MAIL)], DOWN),
    ],
)
def test_a_level_is_notified_once_and_again_if_it_rises(applies, before, expected):
    assert due(applies, before) == expected


def test_the_first_rule_of_a_level_gives_its_severity():
    rows = [
        {"name": "long", "level": "everyone", "when": False, "to": ["team"], "reason": ""},
        {"name": "data", "when": False, "to": ["dba"], "reason": ""},
        {"name": "unknown", "level": "everyone", "when": True, "to": ["team"], "reason": ""},
    ]
    verdict = notification_rules.plan(
        rows, contacts=CONTACTS, told=[told("data", "dba", SLACK)], recovered=False, acknowledged=False
    )
    assert [each["channel"] for each in verdict["deliveries"]] == [ROOM]


@pytest.mark.parametrize(
    ("applies", "before", "expected"),
    [
        ("record", [], []),
        ("record", DOWN_TOLD, [("resolved", "leader", MAIL), ("resolved", "leader", PAGER)]),
        ("record", [DOWN_TOLD[0], told("down", "leader", PAGER, ok=False)], [("resolved", "leader", MAIL)]),
        ("record", [*DOWN_TOLD, told("resolved", "leader", MAIL)], [("resolved", "leader", PAGER)]),
        # A contact notified on several levels gets one message about the resolution.
        (
            "record",
            [*DOWN_TOLD, told("data", "leader", MAIL)],
            [("resolved", "leader", MAIL), ("resolved", "leader", PAGER)],
        ),
        # Contacts that get a more severe message now are not notified of the resolution; the others are.
        (
            "data",
            [*DOWN_TOLD, told("everyone", "team", ROOM)],
            [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK), ("resolved", "team", ROOM)],
        ),
        # A removed contact cannot be notified.
        ("record", [told("down", "gone", MAIL), told("down", "leader", "mail old@example.com")], []),
    ],
)
def test_the_resolution_is_sent_once_to_all_notified_contacts(applies, before, expected):
    assert due(applies, before, recovered=True) == expected


def test_alerts_are_acknowledged_once_while_the_outage_lasts():
    assert due("down", DOWN_TOLD, acknowledged=True) == [("acknowledged", "leader", PAGER)]
    assert due("down", [*DOWN_TOLD, told("acknowledged", "leader", PAGER)], acknowledged=True) == []
    assert due("down", [], acknowledged=True) == DOWN
    assert due("record", DOWN_TOLD, acknowledged=True, recovered=True) == [
        ("resolved", "leader", MAIL),
        ("resolved", "leader", PAGER),
    ]


def test_a_contact_without_channels_is_named_and_not_notified():
    verdict = notification_rules.plan(
        [{"name": "down", "when": "true", "to": ["spare"], "reason": ""}],
        contacts=CONTACTS,
        told=[],
        recovered=False,
        acknowledged=False,
    )
    assert (verdict["to"], verdict["deliveries"]) == (["somebody"], [])


def test_a_shared_channel_gets_one_message_per_level_and_one_resolution():
    room = {"type": "webhook", "shape": "slack", "url": URL}
    shared = {
        "leader": {"channels": [{"type": "mail", "to": "a@example.com"}, room]},
        "dba": {"channels": [{**room, "name": "war room"}]},
        "team": {"channels": [dict(room)]},
    }

    def ways(*args, **options):
        sent = plan(*args, contacts=shared, **options)["deliveries"]
        return [(each["level"], each["contact"], each["channel"], each["same_as"].get("contact")) for each in sent]

    first = [
        ("data", "leader", "mail a@example.com", None),
        ("data", "leader", SLACK, None),
        ("data", "dba", ROOM, "leader"),
    ]
    assert ways("data") == first
    before = [told(*each[:3]) for each in first]
    assert ways("data", before) == []
    # If it failed for one contact, it failed for the other, and the next run tries once.
    failed = [before[0], *(told(*each[:3], ok=False) for each in first[1:])]
    assert ways("data", failed) == first[1:]
    # A contact added later reads it in the shared channel.
    assert ways("data", before[:2]) == []
    rising = [told("down", "leader", SLACK), told("everyone", "team", SLACK)]
    over = [("resolved", "leader", SLACK, None), ("resolved", "team", SLACK, "leader")]
    assert ways("record", rising, recovered=True) == over
    assert ways("record", [*rising, *(told(*each[:3]) for each in over)], recovered=True) == []
    # A shared room does not get a resolution together with something more severe.
    assert ways("data", [told("everyone", "team", SLACK), *rising[:1]], recovered=True) == first


def test_an_unreadable_url_equals_no_other():
    broken = {"type": "webhook", "shape": "slack", "url": notification_rules.UNREADABLE}
    unlike = {"leader": {"channels": [broken]}, "dba": {"channels": [broken]}}
    assert [each["same_as"] for each in plan("data", contacts=unlike)["deliveries"]] == [{}, {}]


def test_similar_channels_are_distinguished():
    rooms = [{"type": "webhook", "shape": "slack", "url": f"{URL}{number}"} for number in (1, 2)]
    twice = {"leader": {"channels": rooms}}
    assert due("down", contacts=twice) == [("down", "leader", SLACK), ("down", "leader", f"{SLACK} #2")]
    assert due("down", [told("down", "leader", SLACK)], contacts=twice) == [("down", "leader", f"{SLACK} #2")]


@pytest.mark.parametrize(
    ("channel", "label"),
    [
        ({"type": "mail", "to": ["a@example.com", "b@example.com"]}, "mail a@example.com, b@example.com"),
        ({"type": "webhook", "shape": "teams", "url": URL}, "teams hooks.example.com"),
        ({"type": "http", "url": "https://[verysecretpath", "secret": "verysecretkey"}, "http"),
        ({"type": "pagerduty", "routing_key": "verysecretkey"}, "pagerduty"),
        ({"type": "command", "argv": ["/usr/local/bin/ring", "verysecretkey"]}, "command ring"),
        ({"type": "sms", "number": 1}, "sms"),
    ],
)
def test_a_channel_is_named_without_secrets(channel, label):
    (found,) = notification_rules.channels({"leader": {"channels": [channel]}}, "leader")
    assert found.label == label


def test_a_channel_of_an_unknown_type_is_not_tried():
    contacts = {"leader": {"channels": [{"type": "matrx", "room": "verysecret"}, *CONTACTS["leader"]["channels"]]}}
    types = ["webhook", "mail", "pagerduty"]
    found = notification_rules.plan(
        rules("down"), contacts=contacts, told=[], recovered=False, acknowledged=False, types=types
    )
    assert [(each["contact"], each["channel"], each["error"]) for each in found["deliveries"]] == [
        ("leader", "matrx", "its type is 'matrx', allowed are mail, pagerduty, webhook"),
        ("leader", MAIL, ""),
        ("leader", PAGER, ""),
    ]


def test_an_unreadable_channel_is_not_tried():
    broken = {
        "leader": {
            "channels": [
                {"type": "webhook", "shape": "slack", "url": notification_rules.UNREADABLE},
                *CONTACTS["leader"]["channels"],
            ]
        }
    }
    assert [each["error"] for each in plan("down", contacts=broken)["deliveries"]] == [
        "its url can not be evaluated, look for a variable in it that is not defined",
        "",
        "",
    ]


# The message.


def test_facts_are_one_line_each_without_secrets():
    assert notification_rules.facts(
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
    assert len(notification_rules.facts({"cause": "x" * 10_000})["cause"]) == 600


HOSTILE = "<!channel> <https://evil.example|click> *bold* @all ```\n# heading & [link](https://evil.example)"


def test_slack_text_has_no_markup():
    body = notification_rules.body({"subject": "<!channel> & co", "text": HOSTILE}, "slack")
    assert body["text"] == "&lt;!channel&gt; &amp; co"
    assert [(block["type"], block["text"]["type"]) for block in body["blocks"]] == [
        ("header", "plain_text"),
        ("section", "plain_text"),
    ]
    assert [block["text"]["text"] for block in body["blocks"]] == ["<!channel> & co", HOSTILE]


def test_slack_text_is_limited():
    body = notification_rules.body({"subject": "s" * 200, "text": "t" * 5000}, "slack")
    assert [len(block["text"]["text"]) for block in body["blocks"]] == [150, 3000]


def test_teams_gets_an_adaptive_card_without_markdown():
    body = notification_rules.body({"subject": "Down", "text": f"{HOSTILE}\n\nlast"}, "teams")
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"], card["fallbackText"]) == ("AdaptiveCard", "1.4", "Down")
    assert {part["type"] for part in card["body"]} == {"RichTextBlock"}
    lines = [run["text"] for part in card["body"] for run in part["inlines"] if run["type"] == "TextRun"]
    assert lines == ["Down", *HOSTILE.splitlines(), "last"]


def test_teams_and_mattermost_texts_are_limited():
    long = {"subject": "停止", "text": "\n".join("実施: 再起動 → 復旧せず" + "x" * 600 for _ in range(300))}
    card = json.dumps(notification_rules.body(long, "teams"), ensure_ascii=False).encode()
    assert len(card) < 28_000
    assert len(notification_rules.body(long, "mattermost")["text"]) < 16_383
    # Characters of three bytes each are the worst case.
    worst = {"subject": "停止", "text": "\n".join(["止" * 70] * 400)}
    assert len(json.dumps(notification_rules.body(worst, "teams"), ensure_ascii=False).encode()) < 28_000


def test_mattermost_gets_a_code_block_that_its_text_cannot_end():
    body = notification_rules.body({"subject": "Down", "text": HOSTILE}, "mattermost")
    first, *inner, last = body["text"].split("\n")
    assert (first, last) == ("````text", "````")
    assert "````" not in "\n".join(inner)
    assert "\n".join(inner) == f"Down\n\n{HOSTILE}"


# Invalid settings.

SETTINGS = {
    "escalation_language": "en",
    "escalation_timeout": 10,
    "escalation_retries": "2",
    "escalation_retry_delay": 0,
    "escalation_ca_path": "",
    "escalation_smtp_host": "localhost",
    "escalation_smtp_port": 25,
    "escalation_smtp_security": "none",
    "escalation_smtp_username": "",
    "escalation_smtp_password": "",
    "escalation_smtp_from": "runbook@example.com",
}


def problems(contacts=None, *, rows=None, **settings):
    return notification_rules.problems(
        CONTACTS if contacts is None else contacts,
        rules=rules("down") if rows is None else rows,
        types=["mail", "webhook", "pagerduty", "http", "command", "sms"],
        languages=["en", "ja"],
        settings={**SETTINGS, **settings},
    )


def of_channel(channel):
    return problems({**CONTACTS, "leader": {"channels": [channel]}})


def test_valid_settings_have_no_problem():
    secret = "0123456789" * 3
    assert problems() == []
    assert of_channel({"type": "http", "url": "http://127.0.0.1:8080/x", "secret": secret}) == []
    assert of_channel({"type": "command", "argv": ["ring"], "input": "json", "name": "bell"}) == []
    assert of_channel({"type": "sms", "anything": 1}) == []


WHERE = "escalation_contacts.leader.channels[0]"
ALLOWED_TYPES = "command, http, mail, pagerduty, sms, webhook"


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        ("mail", f"{WHERE} is a text, it must be a dictionary with the type of the channel"),
        ({}, f"{WHERE}.type is None, allowed are {ALLOWED_TYPES}"),
        ({"type": "fax"}, f"{WHERE}.type is 'fax', allowed are {ALLOWED_TYPES}"),
        ({"type": "webhook", "shape": "slack"}, f"{WHERE}.url is missing, a channel of type webhook needs it"),
        (
            {"type": "webhook", "shape": "discord", "url": URL},
            f"{WHERE}.shape is 'discord', allowed are mattermost, slack, teams",
        ),
        (
            {"type": "webhook", "shape": "slack", "url": "http://hooks.example.com/verysecretpath"},
            f"{WHERE}.url is not https:// (http:// is for this machine alone)",
        ),
        ({"type": "webhook", "shape": "slack", "url": 7}, f"{WHERE}.url is not a URL with a host"),
        ({"type": "pagerduty"}, f"{WHERE}.routing_key is missing, a channel of type pagerduty needs it"),
        (
            {"type": "pagerduty", "routing_key": notification_rules.UNREADABLE},
            f"{WHERE}.routing_key can not be evaluated, look for a variable in it that is not defined",
        ),
        (
            {"type": "sms", "token": notification_rules.UNREADABLE},
            f"{WHERE}.token can not be evaluated, look for a variable in it that is not defined",
        ),
        ({"type": "pagerduty", "routing_key": 12}, f"{WHERE}.routing_key is a number, it must be a text"),
        ({"type": "mail", "to": "leader"}, f"{WHERE}.to is not a mail address: 'leader'"),
        (
            {"type": "mail", "to": ["a@example.com", "b@example.com\nBcc: c@example.com"]},
            f"{WHERE}.to is not a text of one line: 'b@example.com\\nBcc: c@example.com'",
        ),
        ({"type": "mail", "to": "a@b.c, d@e.f"}, f"{WHERE}.to is more than one address: 'a@b.c, d@e.f'"),
        (
            {"type": "mail", "to": "a@b.c", "cc": "d@e.f"},
            f"{WHERE} has the unknown key 'cc', a channel of type mail has type, name, to",
        ),
        (
            {"type": "http", "url": URL, "secret": "verysecretkey"},
            f"{WHERE}.secret has 13 bytes, at least 24 are needed",
        ),
        (
            {"type": "http", "url": URL, "secret": "whsec_verysecretkey!"},
            f"{WHERE}.secret is of no use: what follows whsec_ is not base64",
        ),
        ({"type": "command", "argv": "ring --loud"}, f"{WHERE}.argv must be a list of texts, the program first"),
        ({"type": "command", "argv": ["ring", 1]}, f"{WHERE}.argv must be a list of texts, the program first"),
        ({"type": "command", "argv": ["ring"], "input": "xml"}, f"{WHERE}.input is 'xml', allowed are text and json"),
    ],
)
def test_an_invalid_channel_is_named(channel, problem):
    assert of_channel(channel) == [problem]


@pytest.mark.parametrize(
    ("contacts", "problem"),
    [
        (
            notification_rules.UNREADABLE,
            "escalation_contacts can not be evaluated, look for a variable in it that is not defined",
        ),
        (["leader"], "escalation_contacts is a list, it must be a dictionary of contacts"),
        (
            {**CONTACTS, "dba": 7},
            "escalation_contacts.dba is a number, allowed are a name or a dictionary with name and channels",
        ),
        (
            {**CONTACTS, "dba": {"chanels": []}},
            "escalation_contacts.dba has the unknown key 'chanels', allowed are name and channels",
        ),
        (
            {**CONTACTS, "dba": {"channels": {"type": "mail"}}},
            "escalation_contacts.dba.channels is a dictionary, it must be a list of channels",
        ),
    ],
)
def test_an_invalid_contact_is_named(contacts, problem):
    assert problems(contacts) == [problem]


ROW = {"name": "down", "when": True, "to": ["leader"], "reason": "x"}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "escalation_rules is a list, it must be a list of at least one rule"),
        (
            notification_rules.UNREADABLE,
            "escalation_rules can not be evaluated, look for a variable in it that is not defined",
        ),
        (["down"], "escalation_rules[0] is a text, it must be a dictionary"),
        ([{"name": "down", "when": True, "to": []}], "escalation_rules[0].reason is missing"),
        ([{**ROW, "to": "leader"}], "escalation_rules[0].to is a text, it must be a list of contacts"),
        (
            [{**ROW, "to": ["boss"]}],
            "escalation_rules[0].to names 'boss', "
            "allowed are the keys of escalation_contacts: leader, dba, team, spare",
        ),
        ([{**ROW, "level": "resolved"}], "escalation_rules[0] has the level 'resolved', which is not for rules"),
        ([ROW, {**ROW, "when": "False"}], "escalation_rules[1].when is false, the last rule must always apply"),
    ],
)
def test_an_invalid_rule_is_named(rows, problem):
    assert problems(rows=rows) == [problem]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("language", "fr", "escalation_language is 'fr', allowed are en, ja"),
        ("timeout", 0, "escalation_timeout is 0, allowed are seconds, at least 0.1"),
        ("timeout", float("nan"), "escalation_timeout is nan, allowed are seconds, at least 0.1"),
        ("retries", "often", "escalation_retries is 'often', allowed are 0 or more"),
        ("retry_delay", -1, "escalation_retry_delay is -1, allowed are seconds, 0 or more"),
        (
            "smtp_password",
            notification_rules.UNREADABLE,
            "escalation_smtp_password can not be evaluated, look for a variable in it that is not defined",
        ),
        ("ca_path", "/nonexistent/ca", "escalation_ca_path is '/nonexistent/ca', which does not exist on this machine"),
        ("smtp_security", "ssl", "escalation_smtp_security is 'ssl', allowed are none, starttls, tls"),
        ("smtp_port", 70000, "escalation_smtp_port is 70000, allowed are 1 to 65535"),
        ("smtp_from", "runbook", "escalation_smtp_from is 'runbook', which is not a mail address"),
        (
            "smtp_password",
            "verysecretkey",
            "escalation_smtp_username is missing, escalation_smtp_password is set",
        ),
    ],
)
def test_an_invalid_setting_is_named(name, value, problem):
    assert problems(**{f"escalation_{name}": value}) == [problem]


def test_the_mail_server_is_checked_only_if_mail_is_used():
    nobody = {"leader": "x", "dba": "y", "team": "z"}
    assert problems(nobody, escalation_smtp_port=0) == []


def test_a_password_needs_protection():
    (problem,) = problems(
        escalation_smtp_password="verysecretkey", escalation_smtp_username="u", escalation_smtp_host="mail.example.com"
    )
    assert problem.startswith("escalation_smtp_password would be sent unprotected")


def test_no_secret_is_in_a_decision_or_a_message():
    wrong = {
        key: {"channels": [{**channel, "extra": 1} for channel in contact["channels"]]}
        for key, contact in CONTACTS.items()
        if isinstance(contact, dict)
    }
    said = json.dumps(
        [plan("data", DOWN_TOLD, recovered=True), problems(wrong, escalation_smtp_password="verysecretkey")]
    )
    assert "extra" in said
    assert "verysecret" not in said
