# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the facts about a host from the results of the playbook's tasks."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import checks
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.document import Host
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    Channel,
    Contacts,
    Facts,
    Limits,
    Login,
    known_message,
    limits_of,
)


def host(name: str, seen: Mapping[str, Any], *, now: float) -> Host:
    """Return a host with its checks. seen: see the `seen` option of the preparedness_report module.

    Raises ValueError if a limit of the host is invalid.
    """
    facts = _facts(seen, limits=limits_of(name, _mapping(seen.get("limits"))), now=now)
    return Host(host=name, service=str(seen.get("service") or "the service"), checks=checks.evaluate(facts))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _facts(seen: Mapping[str, Any], *, limits: Limits, now: float) -> Facts:
    result = _mapping(seen.get("result"))
    duration, took = result.get("duration"), result.get("elapsed")
    both = isinstance(duration, (int, float)) and isinstance(took, (int, float))
    return Facts(
        host=_mapping(result.get("facts")),
        parts=_mapping(result.get("parts")),
        error=_error(seen, result),
        unreachable=bool(result.get("unreachable_host") or result.get("unreachable") or not result),
        round_trip=max(float(str(took)) - float(str(duration)), 0.0) if both else None,
        answered_at=str(result.get("answered_at") or ""),
        contacts=_contacts(seen),
        https=bool(seen.get("https")),
        login=_login(_mapping(seen.get("login"))),
        limits=limits,
        now=now,
    )


def _login(seen: Mapping[str, Any]) -> Login:
    result = _mapping(seen.get("result"))
    # If the task was skipped, no login was tried.
    tried = bool(result) and not result.get("skipped")
    return Login(
        configured=bool(seen.get("configured")),
        declined=bool(seen.get("declined")),
        check_mode=bool(seen.get("check_mode")),
        result=result if tried else None,
    )


def _error(seen: Mapping[str, Any], result: Mapping[str, Any]) -> Optional[Message]:
    if "facts" in result and not result.get("failed"):
        return None
    told = _mapping(result.get("messages"))
    known = known_message(told.get("why")) or known_message(told.get("msg"))
    text = result.get("msg") or seen.get("error")
    return known or (quoted(text) if text else message("ready.no_answer"))


def names(seen: Mapping[str, Any]) -> Dict[str, str]:
    """Return the names of the contacts that have a channel, by key."""
    channels = _mapping(seen.get("contacts")).get("channels") or []
    return {str(each["contact"]): str(each["name"]) for each in channels}


def _contacts(seen: Mapping[str, Any]) -> Optional[Contacts]:
    if seen.get("contact_problems"):
        return Contacts(problems=[str(each) for each in seen["contact_problems"]])
    found = seen.get("contacts")
    if not isinstance(found, Mapping) or "channels" not in found:
        return None
    channels: List[Channel] = [
        Channel(
            str(each["name"]),
            str(each["channel"]),
            str(each.get("error") or ""),
            checked=bool(each.get("checked", True)),
        )
        for each in found["channels"]
    ]
    # If a test message was sent through a channel, the result of the test message replaces the result of the channel's
    # check.
    tested = {(str(each["contact"]), str(each["channel"])): each for each in seen.get("tested") or []}
    known = {(str(each["contact"]), str(each["channel"])): number for number, each in enumerate(found["channels"])}
    for key, each in tested.items():
        if key in known:
            error = "" if each.get("ok") else str(each.get("error") or "the message was not accepted")
            channels[known[key]] = channels[known[key]]._replace(error=error, tested=True)
    there = set(map(str, found.get("contacts") or []))
    return Contacts(
        channels=channels,
        without=[str(each) for each in found.get("without_channel") or []],
        unknown=[str(each) for each in seen.get("notify") or [] if str(each) not in there],
    )
