# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contacts that are notified of an event, depending on levels, channels and earlier notifications."""

from __future__ import annotations

import pytest
from contact_samples import CONTACTS, DOWN, DOWN_TOLD, MAIL, PAGER, ROOM, SLACK, URL, plan, rules, told

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import contacts as notification_contacts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import rules as notification_rules


def due(*args, **options):
    return [(each["level"], each["contact"], each["channel"]) for each in plan(*args, **options)["deliveries"]]


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
        "recipients": ["the leader"],
    }


def test_the_names_of_all_contacts_that_the_result_mentions():
    """The rule that applies has no contacts, but the result lists the contacts that were notified earlier."""
    verdict = plan("record", [told("down", "leader", MAIL)])
    assert (verdict["to"], verdict["names"]) == ([], {"leader": CONTACTS["leader"].get("name", "leader")})


@pytest.mark.parametrize(
    ("applies", "before", "expected"),
    [
        ("record", [], []),
        ("down", [], DOWN),
        ("down", DOWN_TOLD, []),
        # Only failed notifications are sent again.
        ("down", [DOWN_TOLD[0], told("down", "leader", PAGER, ok=False)], [DOWN[1]]),
        # The level is higher than before.
        ("unknown", DOWN_TOLD, [("everyone", "team", ROOM)]),
        ("data", DOWN_TOLD, [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK)]),
        (
            "data",
            [told("everyone", "team", ROOM)],
            [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK)],
        ),
        # Two rules have the same level, so the second rule does not notify the same contact again.
        ("long", [told("everyone", "team", ROOM)], []),
        # The level is lower than before.
        ("down", [told("everyone", "team", ROOM)], []),
        # A higher level counts as notified only if at least one contact was reached.
        ("down", [told("everyone", "team", ROOM, ok=False)], DOWN),
        # A level without a rule is ignored.
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
        rows, contacts=CONTACTS, notified=[told("data", "dba", SLACK)], recovered=False, acknowledged=False
    )
    assert [each["channel"] for each in verdict["deliveries"]] == [ROOM]


@pytest.mark.parametrize(
    ("applies", "before", "expected"),
    [
        ("record", [], []),
        ("record", DOWN_TOLD, [("resolved", "leader", MAIL), ("resolved", "leader", PAGER)]),
        ("record", [DOWN_TOLD[0], told("down", "leader", PAGER, ok=False)], [("resolved", "leader", MAIL)]),
        ("record", [*DOWN_TOLD, told("resolved", "leader", MAIL)], [("resolved", "leader", PAGER)]),
        # A contact that was notified at several levels receives one message about the resolution.
        (
            "record",
            [*DOWN_TOLD, told("data", "leader", MAIL)],
            [("resolved", "leader", MAIL), ("resolved", "leader", PAGER)],
        ),
        # Contacts that are now notified at a higher level are not notified of the resolution. All other contacts are
        # notified of it.
        (
            "data",
            [*DOWN_TOLD, told("everyone", "team", ROOM)],
            [("data", "leader", MAIL), ("data", "leader", PAGER), ("data", "dba", SLACK), ("resolved", "team", ROOM)],
        ),
        # A removed contact or channel cannot be notified, but it remains in the record.
        (
            "record",
            [told("down", "gone", MAIL), told("down", "leader", "mail old@example.com")],
            [("resolved", "gone", MAIL), ("resolved", "leader", "mail old@example.com")],
        ),
    ],
)
def test_the_resolution_is_sent_once_to_all_notified_contacts(applies, before, expected):
    assert due(applies, before, recovered=True) == expected


def test_a_removed_channel_is_reported_when_the_outage_is_over():
    before = [told("down", "gone", MAIL), told("down", "leader", MAIL)]
    gone, there = plan("record", before, recovered=True)["deliveries"]
    assert (gone["error"], there["error"]) == ("it is no longer set in escalation_contacts", "")
    assert plan("down", before, acknowledged=True)["deliveries"] == [
        each for each in plan("down", before)["deliveries"] if each["channel"] == PAGER
    ]
    # The display name of a channel contains a part of the URL. If the URL cannot be evaluated, the display name
    # changes.
    unread = [{"type": "webhook", "shape": "slack", "url": notification_contacts.UNREADABLE}]
    contacts = {**CONTACTS, "dba": {"name": "the DBA", "channels": unread}}
    (lost,) = plan("record", [told("data", "dba", SLACK)], recovered=True, contacts=contacts)["deliveries"]
    assert (lost["channel"], lost["error"]) == (SLACK, f"its url {notification_contacts.UNREADABLE_REASON}")
    given = {"contacts": {}, "notified": before, "recovered": True, "acknowledged": False}
    lost = notification_rules.plan(rules("record"), **given, gone="it is unreadable")["deliveries"]
    assert {each["error"] for each in lost} == {"it is unreadable"}


def test_alerts_are_acknowledged_once_while_the_outage_lasts():
    assert due("down", DOWN_TOLD, acknowledged=True) == [("acknowledged", "leader", PAGER)]
    assert due("down", [*DOWN_TOLD, told("acknowledged", "leader", PAGER)], acknowledged=True) == []
    assert due("down", [], acknowledged=True) == DOWN
    assert due("record", DOWN_TOLD, acknowledged=True, recovered=True) == [
        ("resolved", "leader", MAIL),
        ("resolved", "leader", PAGER),
    ]


def test_contacts_without_a_channel_are_listed():
    everybody = [{"name": "test", "when": True, "to": list(CONTACTS), "reason": "This is a test."}]
    given = {"contacts": CONTACTS, "notified": [], "recovered": True, "acknowledged": False}
    assert notification_rules.plan(everybody, **given)["without_channel"] == ["spare"]


def test_a_contact_without_channels_is_named_and_not_notified():
    verdict = notification_rules.plan(
        [{"name": "down", "when": "true", "to": ["spare"], "reason": ""}],
        contacts=CONTACTS,
        notified=[],
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
    # If a message cannot be sent through a shared channel, it counts as failed for both contacts. The next run sends
    # the message only once.
    failed = [before[0], *(told(*each[:3], ok=False) for each in first[1:])]
    assert ways("data", failed) == first[1:]
    # A contact that is added later can already read the message in the shared channel.
    assert ways("data", before[:2]) == []
    rising = [told("down", "leader", SLACK), told("everyone", "team", SLACK)]
    over = [("resolved", "leader", SLACK, None), ("resolved", "team", SLACK, "leader")]
    assert ways("record", rising, recovered=True) == over
    assert ways("record", [*rising, *(told(*each[:3]) for each in over)], recovered=True) == []
    # If a shared channel receives a notification at a higher level, it does not also receive the resolution. The
    # contact that was notified before receives the notification, too. The resolution is sent later.
    before = [told("everyone", "team", SLACK), *rising[:1]]
    served = [*first, ("data", "team", SLACK, "leader")]
    assert ways("data", before, recovered=True) == served
    after = [*before, *(told(*each[:3]) for each in served)]
    assert ("resolved", "team", SLACK, "dba") in ways("record", after, recovered=True)


def test_a_message_in_a_shared_channel_names_all_its_recipients():
    room = {"type": "webhook", "shape": "slack", "url": URL}
    shared = {
        "leader": {"name": "Ms Sato", "channels": [{"type": "mail", "to": "a@example.com"}, room]},
        "dba": {"name": "the DBA", "channels": [dict(room)]},
    }
    sent = plan("data", contacts=shared)["deliveries"]
    assert [each["recipients"] for each in sent] == [["Ms Sato"], ["Ms Sato", "the DBA"], ["the DBA"]]


def test_an_unreadable_url_does_not_equal_any_other():
    broken = {"type": "webhook", "shape": "slack", "url": notification_contacts.UNREADABLE}
    unlike = {"leader": {"channels": [broken]}, "dba": {"channels": [broken]}}
    assert [each["same_as"] for each in plan("data", contacts=unlike)["deliveries"]] == [{}, {}]


def test_similar_channels_are_distinguished():
    rooms = [{"type": "webhook", "shape": "slack", "url": f"{URL}{number}"} for number in (1, 2)]
    twice = {"leader": {"channels": rooms}}
    assert due("down", contacts=twice) == [("down", "leader", SLACK), ("down", "leader", f"{SLACK} #2")]
    assert due("down", [told("down", "leader", SLACK)], contacts=twice) == [("down", "leader", f"{SLACK} #2")]


def test_a_channel_of_an_unknown_type_is_not_tried():
    contacts = {"leader": {"channels": [{"type": "matrx", "room": "verysecret"}, *CONTACTS["leader"]["channels"]]}}
    types = ["webhook", "mail", "pagerduty"]
    found = notification_rules.plan(
        rules("down"), contacts=contacts, notified=[], recovered=False, acknowledged=False, types=types
    )
    assert [(each["contact"], each["channel"], each["error"]) for each in found["deliveries"]] == [
        ("leader", "matrx", "its type is 'matrx': must be one of mail, pagerduty, webhook"),
        ("leader", MAIL, ""),
        ("leader", PAGER, ""),
    ]


def test_an_unreadable_channel_is_not_tried():
    broken = {
        "leader": {
            "channels": [
                {"type": "webhook", "shape": "slack", "url": notification_contacts.UNREADABLE},
                *CONTACTS["leader"]["channels"],
            ]
        }
    }
    assert [each["error"] for each in plan("down", contacts=broken)["deliveries"]] == [
        "its url cannot be evaluated; check if it uses an undefined variable",
        "",
        "",
    ]


STILL_DOWN = {
    **{"wanted": True, "recovered": False, "data_loss": False, "outcome": "not_recovered"},
    **{"outage_seconds": 1799.9, "everyone_after": 1800.0},
}


@pytest.mark.parametrize(
    ("changes", "deferred"),
    [
        pytest.param({}, True, id="a later run continues the recovery"),
        pytest.param({"wanted": False}, False, id="no later run"),
        pytest.param({"recovered": True}, False, id="the outage is over"),
        pytest.param({"data_loss": True}, False, id="data loss is suspected"),
        pytest.param({"outcome": "data_in_doubt"}, False, id="the service answers on a database in doubt"),
        pytest.param({"outage_seconds": 1800.0}, False, id="the outage is long"),
        pytest.param({"outage_seconds": 0, "everyone_after": 0}, False, id="every outage is long"),
        pytest.param({"outcome": "login_failed"}, True, id="only the login failed"),
    ],
)
def test_an_urgent_notification_is_not_left_to_a_later_run(changes, deferred):
    assert notification_rules.deferred({**STILL_DOWN, **changes}) is deferred


@pytest.mark.parametrize("notified", [[], [{"level": "not_recovered"}]])
@pytest.mark.parametrize("severity", ["", "emergency"])
@pytest.mark.parametrize(
    ("asked", "rule", "test"), [(True, "", True), (True, "test", True), (False, "test", True), (False, "x", False)]
)
def test_a_message_about_an_outage_is_never_a_test(asked, rule, test, severity, notified):
    seen = {"asked": asked, "rule": rule, "severity": severity, "notified": notified}
    assert notification_rules.is_test(seen) is (test and not severity and not notified)


@pytest.mark.parametrize(
    ("notified", "suspected"),
    [
        ([{"level": "data_loss", "ok": True}], True),
        ([{"level": "data_loss_everyone", "ok": True}], True),
        ([{"level": "data_loss", "ok": False}, {"level": "not_recovered", "ok": True}, {"ok": True}], False),
        # If another program wrote an entry, the key `ok` may be missing. The contacts must still be notified.
        ([{"level": "data_loss"}], False),
        ([], False),
    ],
)
def test_an_earlier_message_suspected_data_loss_if_it_was_sent(notified, suspected):
    assert notification_rules.suspected_before(notified) is suspected


def test_contacts_without_a_channel_are_named_only_if_nobody_has_one():
    known = {"to": ["Ms Lead", "the DBA"], "contacts": ["lead", "dba"], "names": {"lead": "Ms Lead", "dba": "the DBA"}}
    assert notification_rules.by_rule({**known, "without_channel": ["dba"]}) == ["Ms Lead"]
    assert notification_rules.by_rule({**known, "without_channel": ["lead", "dba"]}) == ["Ms Lead", "the DBA"]


def test_contacts_that_only_get_a_message_about_the_event():
    known = {"to": [], "contacts": [], "names": {}, "without_channel": []}
    sent = {"level": "resolved", "name": "the DBA", "error": ""}
    assert notification_rules.by_event({**known, "deliveries": [sent, sent]}) == ("resolved", ["the DBA"])
    for other in ({**sent, "error": "it was removed"}, {**sent, "level": "not_recovered"}):
        assert notification_rules.by_event({**known, "deliveries": [other]}) == ("", [])
    assert notification_rules.by_event({**known, "to": ["the DBA"], "deliveries": [sent]}) == ("", [])
