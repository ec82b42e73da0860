# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate the notification settings before an outage: contacts, channels, rules and mail server."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.contacts import (
    UNREADABLE_REASON,
    channels,
    is_unreadable,
    listed,
    why_not_type,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.content import SHAPES
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.rules import (
    ACKNOWLEDGED,
    RESOLVED,
    applies,
    level_of,
)

# Maps a channel type to its required keys in addition to type and name. Other types are not checked.
CHANNEL_KEYS = {
    "command": ["argv"],
    "http": ["url", "secret"],
    "mail": ["to"],
    "pagerduty": ["routing_key"],
    "webhook": ["url", "shape"],
}
# Maps a channel type to its optional keys.
OPTIONAL_KEYS = {"command": ["input"], "pagerduty": ["url"]}

# The minimum length of a secret in bytes, as required by Standard Webhooks.
_SHORTEST_SECRET = 24

_SECURITIES = ("none", "starttls", "tls")


def problems(
    contacts: Any,
    *,
    rules: Any,
    types: Iterable[str],
    languages: Iterable[str],
    settings: Mapping[str, Any],
) -> List[str]:
    """Return a sentence for each invalid setting.

    The sentence contains the name, the valid values and, unless it is secret, the current value.

    types: the supported channel types. settings: the other variables, by name.
    """
    if is_unreadable(contacts):
        return [f"escalation_contacts {UNREADABLE_REASON}"]
    if not isinstance(contacts, Mapping):
        return [f"escalation_contacts is {_kind(contacts)}: must be a dictionary of contacts"]
    found: List[str] = []
    for key, contact in contacts.items():
        found += _contact(f"escalation_contacts.{key}", contact, types=sorted(types))
    found += _rules(rules, contacts)
    found += _settings(settings, languages=sorted(languages))
    if any(each.type == "mail" for key in contacts if not found for each in channels(contacts, key)):
        found += _mail_server(settings)
    return found


def _kind(value: Any) -> str:
    """Return the type of a value in words, such as "a list"."""
    names = {bool: "a boolean", int: "a number", float: "a number", type(None): "empty"}
    return (
        "a string"
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
    if is_unreadable(contact):
        return [f"{where} {UNREADABLE_REASON}"]
    if not isinstance(contact, Mapping):
        return [f"{where} is {_kind(contact)}: must be a name or a dictionary with name and channels"]
    found = [
        f"{where} has the unknown key {key!r}; known keys: name, channels"
        for key in contact
        if key not in ("name", "channels")
    ]
    configured = contact.get("channels") or []
    if not isinstance(configured, (list, tuple)):
        return [*found, f"{where}.channels is {_kind(configured)}: must be a list of channels"]
    for number, channel in enumerate(configured):
        found += _channel(f"{where}.channels[{number}]", channel, types=types)
    return found


def _channel(where: str, channel: Any, *, types: Sequence[str]) -> List[str]:
    if not isinstance(channel, Mapping):
        return [f"{where} is {_kind(channel)}: must be a dictionary with the type of the channel"]
    kind = channel.get("type")
    if kind not in types:
        return [f"{where}.{why_not_type(kind, types)}"]
    if kind not in CHANNEL_KEYS:
        return [f"{where}.{key} {UNREADABLE_REASON}" for key, value in channel.items() if is_unreadable(value)]
    needs, may = CHANNEL_KEYS[kind], OPTIONAL_KEYS.get(kind, [])
    found = [
        f"{where}.{key} is missing: a channel of type {kind} requires this key" for key in needs if not channel.get(key)
    ]
    found += [
        f"{where} has the unknown key {key!r}: a channel of type {kind} has {', '.join(['type', 'name', *needs, *may])}"
        for key in channel
        if key not in ("type", "name", *needs, *may)
    ]
    for key, value in channel.items():
        judge = _JUDGES.get(key) if key in (*needs, *may) else None
        if is_unreadable(value) or (value and judge):
            reason = UNREADABLE_REASON if is_unreadable(value) or not judge else judge(value)
            found += [f"{where}.{key} {reason}"] if reason else []
    return found


def _why_not_shape(shape: Any) -> str:
    return "" if shape in SHAPES else f"is {shape!r}: must be one of {', '.join(SHAPES)}"


def _why_not_input(kind: Any) -> str:
    return "" if kind in ("text", "json") else f"is {kind!r}: must be text or json"


def _why_not_argv(argv: Any) -> str:
    if not (isinstance(argv, (list, tuple)) and argv and all(isinstance(each, str) for each in argv)):
        return "must be a list of strings that begins with the program"
    program = argv[0]
    # A relative path depends on the folder in which ansible-playbook is started.
    if shutil.which(program) and os.path.isabs(program) == bool(os.path.dirname(program)):
        return ""
    return (
        f"begins with {program!r}: must begin with the name of a program in the PATH of the controller, or with the "
        "absolute path of an executable file on the controller"
    )


def _why_not_recipients(to: Any) -> str:
    return next(
        (f"{reason}: {each!r}" for each in listed(to) for reason in [transports.why_not_address(each)] if reason), ""
    )


def _why_not_secret(secret: Any) -> str:
    if not isinstance(secret, str):
        return f"is {_kind(secret)}: must be a string"
    try:
        length = len(transports.signing_key(secret))
    except ValueError as error:
        return f"is invalid: {error}"
    return "" if length >= _SHORTEST_SECRET else f"has {length} bytes, but at least {_SHORTEST_SECRET} are required"


def _why_not_key(key: Any) -> str:
    return "" if isinstance(key, str) else f"is {_kind(key)}: must be a string"


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
    if is_unreadable(rules):
        return [f"escalation_rules {UNREADABLE_REASON}"]
    if not isinstance(rules, (list, tuple)) or not rules:
        return [f"escalation_rules is {_kind(rules)}: must be a list of at least one rule"]
    found = []
    for number, rule in enumerate(rules):
        where = f"escalation_rules[{number}]"
        if not isinstance(rule, Mapping):
            found.append(f"{where} is {_kind(rule)}: must be a dictionary")
            continue
        found += [f"{where}.{key} is missing" for key in ("name", "when", "to", "reason") if key not in rule]
        if rule.get("level", rule.get("name")) in (RESOLVED, ACKNOWLEDGED):
            found.append(f"{where} has the level {level_of(rule)!r}, which rules must not use")
        if not isinstance(rule.get("to", []), (list, tuple)):
            found.append(f"{where}.to is {_kind(rule['to'])}: must be a list of contacts")
    found += _missing_contacts(rules, contacts)
    last = rules[-1]
    if isinstance(last, Mapping) and "when" in last and not applies(last["when"]):
        found.append(f"escalation_rules[{len(rules) - 1}].when is false; the last rule must always apply")
    return found


def _missing_contacts(rules: Sequence[Any], contacts: Mapping[str, Any]) -> List[str]:
    """Return a sentence for each undefined contact. The sentence lists the rules that refer to this contact."""
    needed: Dict[str, List[str]] = {}
    for number, rule in enumerate(rules):
        keys = rule.get("to") if isinstance(rule, Mapping) else None
        for key in keys if isinstance(keys, (list, tuple)) else ():
            if key not in contacts:
                needed.setdefault(repr(key), []).append(str(rule.get("name", f"escalation_rules[{number}]")))
    return [
        f"escalation_contacts lacks {key}, which these rules list in 'to': {', '.join(dict.fromkeys(names))}. "
        f"Add the contact, or list only existing contacts ({', '.join(map(str, contacts))})"
        for key, names in needed.items()
    ]


def _number(value: Any) -> Optional[float]:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _settings(settings: Mapping[str, Any], *, languages: Sequence[str]) -> List[str]:
    found = [f"{name} {UNREADABLE_REASON}" for name, value in settings.items() if is_unreadable(value)]
    if found:
        return found
    language = settings["escalation_language"]
    if language not in languages:
        found.append(f"escalation_language is {language!r}: must be one of {', '.join(languages)}")
    timezone = settings["escalation_timezone"]
    if not catalogue.knows_zone(timezone):
        found.append(f"escalation_timezone is {timezone!r}: must be a name from the tz database, such as Asia/Tokyo")
    for name, least, words in (
        ("escalation_timeout", 0.1, "at least 0.1 seconds"),
        ("escalation_retries", 0, "0 or more"),
        ("escalation_retry_delay", 0, "0 or more seconds"),
    ):
        number = _number(settings[name])
        if number is None or not least <= number < float("inf"):
            found.append(f"{name} is {settings[name]!r}: must be {words}")
    ca_path = settings["escalation_ca_path"]
    if ca_path and not os.path.exists(str(ca_path)):
        found.append(f"escalation_ca_path is {ca_path!r}, which does not exist on this machine")
    return found


def _mail_server(settings: Mapping[str, Any]) -> List[str]:
    found = []
    security, port = settings["escalation_smtp_security"], _number(settings["escalation_smtp_port"])
    if security not in _SECURITIES:
        found.append(f"escalation_smtp_security is {security!r}: must be one of {', '.join(_SECURITIES)}")
    if port is None or not 1 <= port <= 65535:
        found.append(f"escalation_smtp_port is {settings['escalation_smtp_port']!r}: must be a number from 1 to 65535")
    reason = transports.why_not_address(settings["escalation_smtp_from"])
    if reason:
        found.append(f"escalation_smtp_from is {settings['escalation_smtp_from']!r}, which {reason}")
    if settings["escalation_smtp_password"]:
        if security == "none" and settings["escalation_smtp_host"] not in transports.LOOPBACK:
            found.append(
                "escalation_smtp_password would be sent unprotected: escalation_smtp_security is 'none' "
                "but must be starttls or tls"
            )
        if not settings["escalation_smtp_username"]:
            found.append("escalation_smtp_username is missing, but escalation_smtp_password is set")
    return found
