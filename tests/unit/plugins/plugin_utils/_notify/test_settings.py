# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Invalid notification settings."""

from __future__ import annotations

import json
import sys

import pytest
from contact_samples import CONTACTS, DOWN_TOLD, URL, plan, rules

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import contacts as notification_contacts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import settings as notification_settings

TYPES = [*notification_settings.CHANNEL_KEYS, "our_gateway"]
SETTINGS = {
    "escalation_language": "en",
    "escalation_timezone": "UTC",
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
    return notification_settings.problems(
        CONTACTS if contacts is None else contacts,
        rules=rules("down") if rows is None else rows,
        types=TYPES,
        languages=["en", "ja"],
        settings={**SETTINGS, **settings},
    )


def of_channel(channel):
    return problems({**CONTACTS, "leader": {"channels": [channel]}})


def test_valid_settings_have_no_problem():
    secret = "0123456789" * 3
    assert problems() == []
    assert of_channel({"type": "http", "url": "http://127.0.0.1:8080/x", "secret": secret}) == []
    assert of_channel({"type": "command", "argv": ["sh"], "input": "json", "name": "bell"}) == []
    assert of_channel({"type": "command", "argv": [sys.executable, "-V"]}) == []
    assert of_channel({"type": "our_gateway", "anything": 1}) == []


WHERE = "escalation_contacts.leader.channels[0]"
ALLOWED_TYPES = ", ".join(sorted(TYPES))


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        ("mail", f"{WHERE} is a string: must be a dictionary with the type of the channel"),
        ({}, f"{WHERE}.type is None: must be one of {ALLOWED_TYPES}"),
        ({"type": "fax"}, f"{WHERE}.type is 'fax': must be one of {ALLOWED_TYPES}"),
        (
            {"type": "slack"},
            f"{WHERE}.type is 'slack': must be one of {ALLOWED_TYPES}. For slack, use type: webhook and shape: slack",
        ),
        ({"type": "webhook", "shape": "slack"}, f"{WHERE}.url is missing: a channel of type webhook requires this key"),
        (
            {"type": "webhook", "shape": "discord", "url": URL},
            f"{WHERE}.shape is 'discord': must be one of mattermost, slack, teams",
        ),
        (
            {"type": "webhook", "shape": "slack", "url": "http://hooks.example.com/verysecretpath"},
            f"{WHERE}.url is not https:// (http:// is only allowed for this machine)",
        ),
        ({"type": "webhook", "shape": "slack", "url": 7}, f"{WHERE}.url is not a URL with a host"),
        ({"type": "pagerduty"}, f"{WHERE}.routing_key is missing: a channel of type pagerduty requires this key"),
        (
            {"type": "pagerduty", "routing_key": notification_contacts.UNREADABLE},
            f"{WHERE}.routing_key cannot be evaluated; check if it uses an undefined variable",
        ),
        (
            {"type": "our_gateway", "token": notification_contacts.UNREADABLE},
            f"{WHERE}.token cannot be evaluated; check if it uses an undefined variable",
        ),
        ({"type": "pagerduty", "routing_key": 12}, f"{WHERE}.routing_key is a number: must be a string"),
        ({"type": "mail", "to": "leader"}, f"{WHERE}.to is not a mail address: 'leader'"),
        (
            {"type": "mail", "to": ["a@example.com", "b@example.com\nBcc: c@example.com"]},
            f"{WHERE}.to is not text on one line: 'b@example.com\\nBcc: c@example.com'",
        ),
        ({"type": "mail", "to": "a@b.c, d@e.f"}, f"{WHERE}.to has more than one address: 'a@b.c, d@e.f'"),
        (
            {"type": "mail", "to": "a@b.c", "cc": "d@e.f"},
            f"{WHERE} has the unknown key 'cc': a channel of type mail has type, name, to",
        ),
        (
            {"type": "http", "url": URL, "secret": "verysecretkey"},
            f"{WHERE}.secret has 13 bytes, but at least 24 are required",
        ),
        (
            {"type": "http", "url": URL, "secret": "whsec_verysecretkey!"},
            f"{WHERE}.secret is invalid: the text after whsec_ is not base64",
        ),
        (
            {"type": "command", "argv": "ring --loud"},
            f"{WHERE}.argv must be a list of strings that begins with the program",
        ),
        (
            {"type": "command", "argv": ["ring", 1]},
            f"{WHERE}.argv must be a list of strings that begins with the program",
        ),
        ({"type": "command", "argv": ["sh"], "input": "xml"}, f"{WHERE}.input is 'xml': must be text or json"),
    ],
)
def test_an_invalid_channel_is_named(channel, problem):
    assert of_channel(channel) == [problem]


@pytest.mark.parametrize("program", ["no-such-bell", "/nonexistent/ring", "/etc/passwd", "/", "./ring", ""])
def test_a_program_that_the_controller_cannot_run_is_named(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ring").touch(mode=0o755)
    assert of_channel({"type": "command", "argv": [program, "verysecretkey"]}) == [
        f"{WHERE}.argv begins with {program!r}: must begin with the name of a program in the PATH of the controller, "
        "or with the absolute path of an executable file on the controller"
    ]


@pytest.mark.parametrize(
    ("contacts", "problem"),
    [
        (
            notification_contacts.UNREADABLE,
            "escalation_contacts cannot be evaluated; check if it uses an undefined variable",
        ),
        (["leader"], "escalation_contacts is a list: must be a dictionary of contacts"),
        (
            {**CONTACTS, "dba": 7},
            "escalation_contacts.dba is a number: must be a name or a dictionary with name and channels",
        ),
        (
            {**CONTACTS, "dba": {"chanels": []}},
            "escalation_contacts.dba has the unknown key 'chanels'; known keys: name, channels",
        ),
        (
            {**CONTACTS, "dba": {"channels": {"type": "mail"}}},
            "escalation_contacts.dba.channels is a dictionary: must be a list of channels",
        ),
    ],
)
def test_an_invalid_contact_is_named(contacts, problem):
    assert problems(contacts) == [problem]


ROW = {"name": "down", "when": True, "to": ["leader"], "reason": "x"}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "escalation_rules is a list: must be a list of at least one rule"),
        (
            notification_contacts.UNREADABLE,
            "escalation_rules cannot be evaluated; check if it uses an undefined variable",
        ),
        (["down"], "escalation_rules[0] is a string: must be a dictionary"),
        ([{"name": "down", "when": True, "to": []}], "escalation_rules[0].reason is missing"),
        ([{**ROW, "to": "leader"}], "escalation_rules[0].to is a string: must be a list of contacts"),
        (
            [{**ROW, "to": ["boss"]}],
            "escalation_contacts lacks 'boss', which these rules list in 'to': down. Add the contact, or list only "
            "existing contacts (leader, dba, team, spare)",
        ),
        ([{**ROW, "level": "resolved"}], "escalation_rules[0] has the level 'resolved', which rules must not use"),
        ([ROW, {**ROW, "when": "False"}], "escalation_rules[1].when is false; the last rule must always apply"),
    ],
)
def test_an_invalid_rule_is_named(rows, problem):
    assert problems(rows=rows) == [problem]


def test_a_missing_contact_is_reported_once_with_all_rules_that_need_it():
    rows = [{**ROW, "name": "worse", "to": ["boss", "leader"]}, {**ROW, "to": ["boss", "night"]}]
    boss, night = problems(rows=rows)
    assert boss.startswith("escalation_contacts lacks 'boss', which these rules list in 'to': worse, down. ")
    assert night.startswith("escalation_contacts lacks 'night', which these rules list in 'to': down. ")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("language", "fr", "escalation_language is 'fr': must be one of en, ja"),
        (
            "timezone",
            "Asia/Tokio",
            "escalation_timezone is 'Asia/Tokio': must be a name from the tz database, such as Asia/Tokyo",
        ),
        ("timeout", 0, "escalation_timeout is 0: must be at least 0.1 seconds"),
        ("timeout", float("nan"), "escalation_timeout is nan: must be at least 0.1 seconds"),
        ("retries", "often", "escalation_retries is 'often': must be 0 or more"),
        ("retry_delay", -1, "escalation_retry_delay is -1: must be 0 or more seconds"),
        (
            "smtp_password",
            notification_contacts.UNREADABLE,
            "escalation_smtp_password cannot be evaluated; check if it uses an undefined variable",
        ),
        ("ca_path", "/nonexistent/ca", "escalation_ca_path is '/nonexistent/ca', which does not exist on this machine"),
        ("smtp_security", "ssl", "escalation_smtp_security is 'ssl': must be one of none, starttls, tls"),
        ("smtp_port", 70000, "escalation_smtp_port is 70000: must be a number from 1 to 65535"),
        ("smtp_from", "runbook", "escalation_smtp_from is 'runbook', which is not a mail address"),
        (
            "smtp_password",
            "verysecretkey",
            "escalation_smtp_username is missing, but escalation_smtp_password is set",
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
