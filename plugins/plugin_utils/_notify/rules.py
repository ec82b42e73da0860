# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is notified about what through which channel: decided from rules, contacts and earlier notifications.

Pure functions over plain data. Their results hold no secret of a channel, except body, which is sent.
"""

from __future__ import annotations

import os
import re
from typing import Any, Container, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds

# Levels without a rule: the outage has ended; somebody works on it.
RESOLVED = "resolved"
ACKNOWLEDGED = "acknowledged"

# Types of channels that get a message when somebody works on the outage. For others it is only one more message to
# read.
_ACKNOWLEDGING = ("pagerduty",)

# Required and optional keys of each channel type, in addition to type and name. Other types are not checked.
_SHAPES = ("mattermost", "slack", "teams")
# Type of a channel -> the keys that it needs.
CHANNEL_KEYS = {
    "command": ["argv"],
    "http": ["url", "secret"],
    "mail": ["to"],
    "pagerduty": ["routing_key"],
    "webhook": ["url", "shape"],
}
_MAY_HAVE = {"command": ["input"], "pagerduty": ["url"]}

# The minimum length by the Standard Webhooks, in bytes.
_SHORTEST_SECRET = 24

_SECURITIES = ("none", "starttls", "tls")

# Maximum characters of a text: Teams accepts 28 KB for the whole card, Mattermost 16383 characters for a message.
_TEAMS_TEXT, _MATTERMOST_TEXT = 6000, 16000


# Stands for a value that could not be evaluated.
UNREADABLE = object()
_UNREADABLE = "can not be evaluated, look for a variable in it that is not defined"


class Channel(NamedTuple):
    """A channel of a contact: the contact, the number among the contact's channels, the type, and its displayed name.

    error: why the channel cannot be used.
    """

    contact: str
    number: int
    type: str
    label: str
    error: str


def name_of(contacts: Mapping[str, Any], key: str) -> str:
    """Return the display name of a contact."""
    contact = contacts.get(key, key)
    return str(contact.get("name") or key) if isinstance(contact, Mapping) else str(contact)


def channels(contacts: Mapping[str, Any], key: str) -> Iterator[Channel]:
    """Return the channels of a contact; a contact that is only a name has none."""
    contact = contacts.get(key)
    listed = contact.get("channels") if isinstance(contact, Mapping) else None
    seen: Dict[str, int] = {}
    for number, channel in enumerate(listed or []):
        label = _label(channel)
        seen[label] = seen.get(label, 0) + 1
        yield Channel(
            contact=key,
            number=number,
            type=str(channel.get("type")),
            label=label if seen[label] == 1 else f"{label} #{seen[label]}",
            error=next((f"its {name} {_UNREADABLE}" for name, value in channel.items() if _unreadable(value)), ""),
        )


def _unreadable(value: Any) -> bool:
    return value is UNREADABLE or (isinstance(value, (list, tuple)) and any(map(_unreadable, value)))


def _label(channel: Mapping[str, Any]) -> str:
    """Return a name without secrets: the host of a URL, the program of a command."""
    kind = str(channel.get("type"))
    if channel.get("name"):
        return str(channel["name"])
    where = ""
    if kind == "mail":
        where = ", ".join(map(str, _listed(channel.get("to"))))
    elif kind == "command":
        where = os.path.basename(str((_listed(channel.get("argv")) or [""])[0]))
    elif channel.get("url") and kind != "pagerduty":
        where = transports.host(str(channel["url"]))
    return f"{channel.get('shape') or kind} {where}".strip()


def _listed(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _true(value: Any) -> bool:
    return value.strip().lower() in ("true", "yes", "on", "1") if isinstance(value, str) else bool(value)


# Who is notified now.


def plan(
    rules: Sequence[Mapping[str, Any]],
    *,
    contacts: Mapping[str, Any],
    told: Sequence[Mapping[str, Any]],
    recovered: bool,
    acknowledged: bool,
    types: Sequence[str] = (),
) -> Dict[str, Any]:
    """Return the verdict of the first rule that applies, and deliveries: the contacts to notify now, with the channels.

    A level is sent once to the contacts of its rule, through each channel that has not accepted it yet. It is not sent
    if a graver level was sent before. The gravest rule is first, so the first rule of a level defines how grave the
    level is. When the service has recovered, the channels that accepted a message are notified once, unless they get a
    graver level now. A place that two contacts share (a room, an address) is one channel: same_as is the delivery, by
    contact and channel, that serves for this one. If types lists the channel types, a channel of another type has an
    error.
    """
    rule = next(each for each in rules if _true(each["when"]))
    level = _level(rule)
    gravity = {name: -number for number, name in reversed(list(enumerate(map(_level, rules))))}
    taken = {
        (str(each.get("level")), str(each.get("contact")), str(each.get("channel"))) for each in told if each.get("ok")
    }
    highest = max((gravity[name] for name, _contact, _channel in taken if name in gravity), default=None)
    due: List[Tuple[str, Channel]] = []
    if highest is None or gravity[level] >= highest:
        for key in dict.fromkeys(rule["to"]):
            due += [(level, each) for each in channels(contacts, key) if (level, key, each.label) not in taken]
    rising = {(each.contact, each.label) for _name, each in due}
    event = RESOLVED if recovered else ACKNOWLEDGED if acknowledged else None
    if event:
        informed = {(contact, label) for name, contact, label in taken if name not in (RESOLVED, ACKNOWLEDGED)}
        for key in sorted({contact for contact, _channel in informed}):
            due += [
                (event, each)
                for each in channels(contacts, key)
                if (key, each.label) in informed - rising
                and (event, key, each.label) not in taken
                and (event == RESOLVED or each.type in _ACKNOWLEDGING)
            ]
    sent = _each_once(due, contacts=contacts, taken=taken)
    return {
        "rule": str(rule["name"]),
        "level": level,
        "to": [name_of(contacts, key) for key in rule["to"]],
        "contacts": [str(key) for key in rule["to"]],
        "reason": str(rule["reason"]),
        "deliveries": [
            {
                "level": name,
                "contact": each.contact,
                "name": name_of(contacts, each.contact),
                "channel": each.label,
                "type": each.type,
                "number": each.number,
                "error": each.error or _why_it_is_not_there(each.type, types),
                "same_as": {"contact": other.contact, "channel": other.label} if other else {},
            }
            for name, each, other in sent
        ],
    }


def _each_once(
    due: Sequence[Tuple[str, Channel]], *, contacts: Mapping[str, Any], taken: Container[Tuple[str, str, str]]
) -> List[Tuple[str, Channel, Optional[Channel]]]:
    """Return due, each with the earlier one in it that goes to the same place, if any.

    A message that this place has already accepted is left out. The message about the end is also left out if the place
    gets a graver level now.
    """
    every = [each for key in contacts for each in channels(contacts, key)]
    kept: List[Tuple[str, Channel, Optional[Channel]]] = []
    for level, each in due:
        same = [other for other in every if other != each and _is_same(contacts, each, other)]
        now = [(name, other) for name, other, served_by in kept if other in same and served_by is None]
        if now and now[0][0] == level:
            kept.append((level, each, now[0][1]))
        elif not now and not any((level, other.contact, other.label) in taken for other in same):
            kept.append((level, each, None))
    return kept


def _is_same(contacts: Mapping[str, Any], one: Channel, other: Channel) -> bool:
    """Return True if two channels lead to the same place, even if their names differ."""

    def way(channel: Channel) -> Dict[str, Any]:
        settings = contacts[channel.contact]["channels"][channel.number]
        return {name: value for name, value in settings.items() if name != "name"}

    return not one.error and not other.error and way(one) == way(other)


def _why_it_is_not_there(kind: str, types: Sequence[str]) -> str:
    reason = _why_not_type(kind, sorted(types)) if types else ""
    return f"its {reason}" if reason else ""


def _level(rule: Mapping[str, Any]) -> str:
    return str(rule.get("level") or rule["name"])


# The content of a notification.


def facts(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the facts of a message for sending: each text is one line of limited length, with credentials masked."""
    return {name: _fit(value) for name, value in values.items()}


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(kinds.text(value).split())
    if isinstance(value, Mapping):
        return {str(name): _fit(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fit(each) for each in value]
    return value


def body(message: Mapping[str, Any], shape: str) -> Dict[str, Any]:
    """Return the JSON for an incoming webhook of that shape: a subject, and the text below it.

    The text contains output of hosts: nothing in it may become a mention, a link or a heading.
    """
    return _BODIES[shape](str(message["subject"]), str(message["text"]))


def _slack(subject: str, text: str) -> Dict[str, Any]:
    """Blocks of plain text, without interpretation; text appears in notifications, with < > & escaped."""
    escaped = subject.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        "text": escaped,
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": _cut(subject, 150), "emoji": False}},
            {"type": "section", "text": {"type": "plain_text", "text": _cut(text, 3000), "emoji": False}},
        ],
    }


def _teams(subject: str, text: str) -> Dict[str, Any]:
    """An Adaptive Card for the Workflows app. TextBlocks interpret Markdown, TextRuns do not."""

    def line(words: str, **look: str) -> Dict[str, Any]:
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": words, **look}]}

    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "fallbackText": subject,
                    "msteams": {"width": "Full"},
                    "body": [
                        line(subject, size="Large", weight="Bolder"),
                        *(line(each) for each in _cut(text, _TEAMS_TEXT).splitlines() if each.strip()),
                    ],
                },
            }
        ],
    }


def _mattermost(subject: str, text: str) -> Dict[str, Any]:
    """A code block with a fence longer than any in the text: Markdown and mentions (@all) have no effect in it."""
    words = _cut(f"{subject}\n\n{text}", _MATTERMOST_TEXT)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return {"text": f"{fence}text\n{words}\n{fence}"}


_BODIES = {"mattermost": _mattermost, "slack": _slack, "teams": _teams}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# Validation of the settings, before an outage.


def problems(
    contacts: Any,
    *,
    rules: Any,
    types: Iterable[str],
    languages: Iterable[str],
    settings: Mapping[str, Any],
) -> List[str]:
    """Return one sentence for each invalid setting: the variable, its value unless secret, and the allowed values.

    types: the existing channel types. settings: the other variables, by their names.
    """
    if _unreadable(contacts):
        return [f"escalation_contacts {_UNREADABLE}"]
    if not isinstance(contacts, Mapping):
        return [f"escalation_contacts is {_kind(contacts)}, it must be a dictionary of contacts"]
    found: List[str] = []
    for key, contact in contacts.items():
        found += _contact(f"escalation_contacts.{key}", contact, types=sorted(types))
    found += _rules(rules, contacts)
    found += _settings(settings, languages=sorted(languages))
    if any(each.type == "mail" for key in contacts if not found for each in channels(contacts, key)):
        found += _mail_server(settings)
    return found


def _kind(value: Any) -> str:
    """Return the type of a value, in words."""
    names = {bool: "a boolean", int: "a number", float: "a number", type(None): "empty"}
    return (
        "a text"
        if isinstance(value, str)
        else "a list"
        if isinstance(value, (list, tuple))
        else "a dictionary"
        if isinstance(value, Mapping)
        else next((name for kind, name in names.items() if isinstance(value, kind)), "something else")
    )


def _contact(where: str, contact: Any, *, types: Sequence[str]) -> List[str]:
    if isinstance(contact, str):
        return []
    if _unreadable(contact):
        return [f"{where} {_UNREADABLE}"]
    if not isinstance(contact, Mapping):
        return [f"{where} is {_kind(contact)}, allowed are a name or a dictionary with name and channels"]
    found = [
        f"{where} has the unknown key {key!r}, allowed are name and channels"
        for key in contact
        if key not in ("name", "channels")
    ]
    listed = contact.get("channels") or []
    if not isinstance(listed, (list, tuple)):
        return [*found, f"{where}.channels is {_kind(listed)}, it must be a list of channels"]
    for number, channel in enumerate(listed):
        found += _channel(f"{where}.channels[{number}]", channel, types=types)
    return found


def _channel(where: str, channel: Any, *, types: Sequence[str]) -> List[str]:
    if not isinstance(channel, Mapping):
        return [f"{where} is {_kind(channel)}, it must be a dictionary with the type of the channel"]
    kind = channel.get("type")
    if kind not in types:
        return [f"{where}.{_why_not_type(kind, types)}"]
    if kind not in CHANNEL_KEYS:
        return [f"{where}.{key} {_UNREADABLE}" for key, value in channel.items() if _unreadable(value)]
    needs, may = CHANNEL_KEYS[kind], _MAY_HAVE.get(kind, [])
    found = [f"{where}.{key} is missing, a channel of type {kind} needs it" for key in needs if not channel.get(key)]
    found += [
        f"{where} has the unknown key {key!r}, a channel of type {kind} has {', '.join(['type', 'name', *needs, *may])}"
        for key in channel
        if key not in ("type", "name", *needs, *may)
    ]
    for key, value in channel.items():
        judge = _JUDGES.get(key) if key in (*needs, *may) else None
        if _unreadable(value) or (value and judge):
            reason = _UNREADABLE if _unreadable(value) or not judge else judge(value)
            found += [f"{where}.{key} {reason}"] if reason else []
    return found


def _why_not_type(kind: Any, types: Sequence[str]) -> str:
    return "" if kind in types else f"type is {kind!r}, allowed are {', '.join(types)}"


def _why_not_shape(shape: Any) -> str:
    return "" if shape in _SHAPES else f"is {shape!r}, allowed are {', '.join(_SHAPES)}"


def _why_not_input(kind: Any) -> str:
    return "" if kind in ("text", "json") else f"is {kind!r}, allowed are text and json"


def _why_not_argv(argv: Any) -> str:
    fits = isinstance(argv, (list, tuple)) and argv and all(isinstance(each, str) for each in argv)
    return "" if fits else "must be a list of texts, the program first"


def _why_not_recipients(to: Any) -> str:
    return next(
        (f"{reason}: {each!r}" for each in _listed(to) for reason in [transports.why_not_address(each)] if reason), ""
    )


def _why_not_secret(secret: Any) -> str:
    if not isinstance(secret, str):
        return f"is {_kind(secret)}, it must be a text"
    try:
        length = len(transports.signing_key(secret))
    except ValueError as error:
        return f"is of no use: {error}"
    return "" if length >= _SHORTEST_SECRET else f"has {length} bytes, at least {_SHORTEST_SECRET} are needed"


def _why_not_key(key: Any) -> str:
    return "" if isinstance(key, str) else f"is {_kind(key)}, it must be a text"


_JUDGES = {
    "argv": _why_not_argv,
    "input": _why_not_input,
    "routing_key": _why_not_key,
    "secret": _why_not_secret,
    "shape": _why_not_shape,
    "to": _why_not_recipients,
    "url": transports.why_not_url,
}


def _rules(rules: Any, contacts: Mapping[str, Any]) -> List[str]:
    if _unreadable(rules):
        return [f"escalation_rules {_UNREADABLE}"]
    if not isinstance(rules, (list, tuple)) or not rules:
        return [f"escalation_rules is {_kind(rules)}, it must be a list of at least one rule"]
    found = []
    for number, rule in enumerate(rules):
        where = f"escalation_rules[{number}]"
        if not isinstance(rule, Mapping):
            found.append(f"{where} is {_kind(rule)}, it must be a dictionary")
            continue
        found += [f"{where}.{key} is missing" for key in ("name", "when", "to", "reason") if key not in rule]
        if rule.get("level", rule.get("name")) in (RESOLVED, ACKNOWLEDGED):
            found.append(f"{where} has the level {_level(rule)!r}, which is not for rules")
        if not isinstance(rule.get("to", []), (list, tuple)):
            found.append(f"{where}.to is {_kind(rule['to'])}, it must be a list of contacts")
            continue
        found += [
            f"{where}.to names {key!r}, allowed are the keys of escalation_contacts: {', '.join(map(str, contacts))}"
            for key in rule.get("to", [])
            if key not in contacts
        ]
    last = rules[-1]
    if isinstance(last, Mapping) and "when" in last and not _true(last["when"]):
        found.append(f"escalation_rules[{len(rules) - 1}].when is false, the last rule must always apply")
    return found


def _number(value: Any) -> Optional[float]:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _settings(settings: Mapping[str, Any], *, languages: Sequence[str]) -> List[str]:
    found = [f"{name} {_UNREADABLE}" for name, value in settings.items() if _unreadable(value)]
    if found:
        return found
    language = settings["escalation_language"]
    if language not in languages:
        found.append(f"escalation_language is {language!r}, allowed are {', '.join(languages)}")
    for name, least, words in (
        ("escalation_timeout", 0.1, "seconds, at least 0.1"),
        ("escalation_retries", 0, "0 or more"),
        ("escalation_retry_delay", 0, "seconds, 0 or more"),
    ):
        number = _number(settings[name])
        if number is None or not least <= number < float("inf"):
            found.append(f"{name} is {settings[name]!r}, allowed are {words}")
    ca_path = settings["escalation_ca_path"]
    if ca_path and not os.path.exists(str(ca_path)):
        found.append(f"escalation_ca_path is {ca_path!r}, which does not exist on this machine")
    return found


def _mail_server(settings: Mapping[str, Any]) -> List[str]:
    found = []
    security, port = settings["escalation_smtp_security"], _number(settings["escalation_smtp_port"])
    if security not in _SECURITIES:
        found.append(f"escalation_smtp_security is {security!r}, allowed are {', '.join(_SECURITIES)}")
    if port is None or not 1 <= port <= 65535:
        found.append(f"escalation_smtp_port is {settings['escalation_smtp_port']!r}, allowed are 1 to 65535")
    reason = transports.why_not_address(settings["escalation_smtp_from"])
    if reason:
        found.append(f"escalation_smtp_from is {settings['escalation_smtp_from']!r}, which {reason}")
    if settings["escalation_smtp_password"]:
        if security == "none" and settings["escalation_smtp_host"] not in transports.LOOPBACK:
            found.append(
                "escalation_smtp_password would be sent unprotected: escalation_smtp_security is 'none', "
                "allowed are starttls and tls"
            )
        if not settings["escalation_smtp_username"]:
            found.append("escalation_smtp_username is missing, escalation_smtp_password is set")
    return found
