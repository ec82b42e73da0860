# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide which contacts receive which message through which channel, based on the rules and earlier notifications.

All functions are pure and use plain data. They do not return secrets of channels.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.contacts import (
    Channel,
    channels,
    name_of,
    why_not_type,
)

# Levels that do not need a rule: the outage has ended (RESOLVED), or someone is working on it (ACKNOWLEDGED).
RESOLVED = "resolved"
ACKNOWLEDGED = "acknowledged"
# The name of the rule for a test message.
TEST = "test"

# Channel types that receive a message when someone is working on the outage. Receivers of the other channel types do
# not need this message.
_ACKNOWLEDGING = ("pagerduty",)

# Error for a channel that accepted an earlier message but no longer exists.
_GONE = "it is no longer set in escalation_contacts"

# The level, contact and channel of each accepted message.
_Taken = Set[Tuple[str, str, str]]
# The level and channel of each message that must be sent.
_Due = List[Tuple[str, Channel]]


# Levels of the messages about a suspected data loss. See escalation_rules.
_DATA_LOSS = ("data_loss", "data_loss_everyone")


def applies(value: Any) -> bool:
    """Return True if a rule applies. value: the value of the rule's `when`, a boolean or a string."""
    return value.strip().lower() in ("true", "yes", "on", "1") if isinstance(value, str) else bool(value)


def plan(
    rules: Sequence[Mapping[str, Any]],
    *,
    contacts: Mapping[str, Any],
    notified: Sequence[Mapping[str, Any]],
    recovered: bool,
    acknowledged: bool,
    types: Sequence[str] = (),
    gone: str = _GONE,
) -> Dict[str, Any]:
    """Return the verdict of the first rule that applies, and the deliveries (contacts to notify now, with channels).

    The key `names` contains the name of each contact in the rule, and of each contact that was notified before. The key
    `without_channel` contains the keys of the rule's contacts that have no channel.

    The contacts in a level's rule are notified once, through each channel that has not accepted a notification of this
    level yet. If a notification of a higher level was accepted before, the contacts in this rule are not notified. The
    most severe rule is first, so the position of the first rule of a level defines the rank of the level. When the
    service has recovered, each channel that accepted a message is notified once. Channels that now receive the
    notification for a level are omitted. If several contacts share a destination (a room, an address), only the first
    of their deliveries is sent, and its `recipients` contains the names of all these contacts. In the other deliveries,
    `same_as` contains the contact and the channel of the first delivery. If this run sends a notification for a level
    to a destination, it does not send a message about the end of the outage there.

    types: the supported channel types, or empty. If `types` is not empty, an error is returned for each channel of
    another type. gone: the error for a channel that accepted a message but has since been removed. The message that the
    outage has ended cannot be sent through a removed channel.
    """
    rule = next(each for each in rules if applies(each["when"]))
    level = level_of(rule)
    taken = {
        (str(each.get("level")), str(each.get("contact")), str(each.get("channel")))
        for each in notified
        if each.get("ok")
    }
    before = [each["contact"] for each in notified if each.get("contact")]
    due = _due_by_rule(rules, rule, contacts=contacts, taken=taken)
    event = RESOLVED if recovered else ACKNOWLEDGED if acknowledged else None
    if event:
        due += _due_by_event(event, due, contacts=contacts, taken=taken, gone=gone)
    kept = _each_once(due, contacts=contacts, taken=taken)
    return {
        "rule": str(rule["name"]),
        "level": level,
        "to": [name_of(contacts, key) for key in rule["to"]],
        "contacts": [str(key) for key in rule["to"]],
        "names": {str(key): name_of(contacts, key) for key in dict.fromkeys([*rule["to"], *before])},
        "without_channel": [str(key) for key in rule["to"] if not list(channels(contacts, key))],
        "reason": str(rule["reason"]),
        "deliveries": [
            {
                **_delivery(each, other, types=types),
                "level": name,
                "name": name_of(contacts, each.contact),
                "recipients": _recipients(each, kept, contacts=contacts),
            }
            for name, each, other in kept
        ],
    }


def _delivery(channel: Channel, other: Optional[Channel], *, types: Sequence[str]) -> Dict[str, Any]:
    """Return the channel of a delivery.

    other: the first delivery to the same destination, if there is one, otherwise None.
    """
    return {
        "contact": channel.contact,
        "channel": channel.label,
        "type": channel.type,
        "number": channel.number,
        "error": channel.error or _why_it_is_not_there(channel.type, types),
        "same_as": {"contact": other.contact, "channel": other.label} if other else {},
    }


def _due_by_rule(
    rules: Sequence[Mapping[str, Any]], rule: Mapping[str, Any], *, contacts: Mapping[str, Any], taken: _Taken
) -> _Due:
    """Return the rule's messages that have not been accepted yet.

    If a message of a higher level was accepted, no message is returned.
    """
    level = level_of(rule)
    gravity = {name: -number for number, name in reversed(list(enumerate(map(level_of, rules))))}
    highest = max((gravity[name] for name, _contact, _channel in taken if name in gravity), default=None)
    if highest is not None and gravity[level] < highest:
        return []
    return [
        (level, each)
        for key in dict.fromkeys(rule["to"])
        for each in channels(contacts, key)
        if (level, key, each.label) not in taken
    ]


def _due_by_event(event: str, rising: _Due, *, contacts: Mapping[str, Any], taken: _Taken, gone: str) -> _Due:
    """Return a message about the event for each channel that accepted an earlier message.

    A channel is omitted if another message to the channel is due. If a channel has been removed, the message about the
    end of the outage is returned for this channel with an error.
    """
    now = {(each.contact, each.label) for _name, each in rising}
    informed = {(contact, label) for name, contact, label in taken if name not in (RESOLVED, ACKNOWLEDGED)}
    there: _Due = []
    for key in sorted({contact for contact, _channel in informed}):
        due = {label for contact, label in informed - now if contact == key and (event, key, label) not in taken}
        known = list(channels(contacts, key))
        there += [
            (event, each) for each in known if each.label in due and (event == RESOLVED or each.type in _ACKNOWLEDGING)
        ]
        if event == RESOLVED:
            # If a setting of a channel cannot be evaluated, the channel may now have another display name.
            why = next((each.error for each in known if each.error and each.label not in due), gone)
            missing = sorted(due - {each.label for each in known})
            there += [(event, Channel(contact=key, number=-1, type="", label=label, error=why)) for label in missing]
    return there


def _each_once(
    due: _Due, *, contacts: Mapping[str, Any], taken: _Taken
) -> List[Tuple[str, Channel, Optional[Channel]]]:
    """Return the due messages as (level, channel, same_as).

    same_as is the channel of an earlier due message to the same destination, or None.

    A message is omitted if its destination has already accepted it.
    """
    every = [each for key in contacts for each in channels(contacts, key)]
    kept: List[Tuple[str, Channel, Optional[Channel]]] = []
    for level, each in due:
        same = [other for other in every if other != each and _is_same(contacts, each, other)]
        now = [(name, other) for name, other, served_by in kept if other in same and served_by is None]
        if now:
            # Use the level of the message that is sent. If this message is not about the event, the message about the
            # event is sent later.
            kept.append((now[0][0], each, now[0][1]))
        elif not any((level, other.contact, other.label) in taken for other in same):
            kept.append((level, each, None))
    return kept


def _recipients(
    channel: Channel, kept: Sequence[Tuple[str, Channel, Optional[Channel]]], *, contacts: Mapping[str, Any]
) -> List[str]:
    """Return the names of the contacts that receive the message in a channel, each name once."""
    others = [each.contact for _level, each, same_as in kept if same_as == channel]
    return list(dict.fromkeys(name_of(contacts, key) for key in [channel.contact, *others]))


def _is_same(contacts: Mapping[str, Any], one: Channel, other: Channel) -> bool:
    """Return True if two channels have the same destination, even if their names differ."""

    def way(channel: Channel) -> Dict[str, Any]:
        settings = contacts[channel.contact]["channels"][channel.number]
        return {name: value for name, value in settings.items() if name != "name"}

    return not one.error and not other.error and way(one) == way(other)


def _why_it_is_not_there(kind: str, types: Sequence[str]) -> str:
    reason = why_not_type(kind, sorted(types)) if types else ""
    return f"its {reason}" if reason else ""


def deferred(seen: Mapping[str, Any]) -> bool:
    """Return True if a later run sends the notification, because it continues the recovery.

    The message is sent now, not by a later run, if the service has recovered, if the data may be damaged, or if the
    outage is long.

    seen: wanted (the value of escalation_deferred), recovered, data_loss (True if data loss is suspected), outcome,
    outage_seconds, and everyone_after (an outage of at least this number of seconds is long).
    """
    urgent = (
        bool(seen["recovered"]),
        bool(seen["data_loss"]),
        seen["outcome"] == "data_in_doubt",
        float(seen["outage_seconds"]) >= float(seen["everyone_after"]),
    )
    return bool(seen["wanted"]) and not any(urgent)


def is_test(seen: Mapping[str, Any]) -> bool:
    """Return True if the message is a test.

    A message about an outage must never state that there is no outage, even if escalation_test is still set in the
    inventory.

    seen: asked (the value of escalation_test), severity and notified (of the incident, empty for a test), and rule (the
    name of the applicable rule, or empty if it is not known yet).
    """
    of_outage = bool(seen["severity"] or seen["notified"])
    return (bool(seen["asked"]) or seen["rule"] == TEST) and not of_outage


def suspected_before(notified: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if a message about a suspected data loss was accepted. notified: the recorded messages."""
    return any(each.get("ok") and each.get("level") in _DATA_LOSS for each in notified)


def by_rule(plan: Mapping[str, Any]) -> List[str]:
    """Return the names of the rule's contacts that have a channel.

    If none of these contacts has a channel, return the names of all contacts in the rule. plan: see plan().
    """
    reached = [str(plan["names"][key]) for key in plan["contacts"] if key not in plan["without_channel"]]
    return reached or [str(name) for name in plan["to"]]


def by_event(plan: Mapping[str, Any]) -> Tuple[str, List[str]]:
    """Return the event (RESOLVED or ACKNOWLEDGED), and the names of the contacts that are notified only of this event.

    If there are no such contacts, both values are empty. plan: see plan(). A delivery with an error is not sent, for
    example because its channel was removed.
    """
    of_rule = by_rule(plan)
    sent = [each for each in plan["deliveries"] if each["level"] in (RESOLVED, ACKNOWLEDGED) and not each["error"]]
    names = list(dict.fromkeys(str(each["name"]) for each in sent if each["name"] not in of_rule))
    return (str(sent[0]["level"]), names) if names else ("", [])


def level_of(rule: Mapping[str, Any]) -> str:
    """Return the level of a rule, or the name of the rule if it has no level."""
    return str(rule.get("level") or rule["name"])
