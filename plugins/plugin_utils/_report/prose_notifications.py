# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notifications of an incident in words: contacts, channels, and why."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


def whom(words: Words, incident: incident_model.Incident) -> str:
    """Return who has been or will be notified, and why."""
    escalation = incident.escalation
    if not escalation:
        return words.say("notified.undecided")
    to, entries = (
        escalation.get("to") or [],
        [each for each in escalation.get("notified") or [] if isinstance(each, dict)],
    )
    names = dict(zip(escalation.get("contacts") or [], to))
    reached: Dict[str, List[str]] = {}
    for each in entries:
        if each.get("ok"):
            ways = reached.setdefault(str(names.get(each.get("contact"), each.get("contact"))), [])
            if each.get("channel") not in ways:
                ways.append(str(each.get("channel")))
    reason = escalation_reason(words, incident)
    if not to and not reached:
        return words.say("notified.nobody_why", reason=reason) if reason else words.say("notified.nobody")
    done = [
        words.say("notified.by", name=words.name("contact", name), ways=words.listed(ways))
        for name, ways in reached.items()
    ]
    missing = [words.name("contact", name) for name in to if name not in reached]
    failed = [
        words.say("label", name=str(each.get("channel")), text=bare(each.get("error")))
        for each in entries
        if each.get("ok") is False
    ]
    parts = [words.say("notified.done", names=words.listed(done))] if done else []
    parts += [words.say("notified.missing", names=words.listed(missing))] if missing else []
    parts += [words.say("notified.failed", channels=words.listed(failed))] if failed else []
    return words.say("notified.why", told=words.joined(parts), reason=reason) if reason else words.joined(parts)


def would_tell(words: Words, incident: incident_model.Incident) -> List[str]:
    """For a run in check mode, return who would be notified, and who would be notified if the recovery fails."""
    escalation: Mapping[str, Any] = incident.escalation
    if not escalation:
        return [words.say("notified.undecided")]
    told = [_would_tell(words, escalation)]
    if escalation.get("otherwise"):
        told.append(words.say("notified.otherwise", told=_would_tell(words, escalation["otherwise"])))
    return told


def _would_tell(words: Words, escalation: Mapping[str, Any]) -> str:
    ways: Dict[str, List[str]] = {str(name): [] for name in escalation.get("to") or []}
    for each in escalation.get("would") or []:
        error = bare(each.get("error"))
        way = str(each.get("channel"))
        ways.setdefault(str(each.get("name")), []).append(words.say("label", name=way, text=error) if error else way)
    reason = _escalation_reason(words, escalation)
    if not ways:
        return words.say("notified.nobody_why", reason=reason) if reason else words.say("notified.nobody")
    names = [
        words.say("notified.by", name=words.name("contact", name), ways=words.listed(by))
        if by
        else words.say("notified.by_no_way", name=words.name("contact", name))
        for name, by in ways.items()
    ]
    told = words.listed(names)
    return words.say("notified.why", told=told, reason=reason) if reason else told


@dataclasses.dataclass(frozen=True)
class Telling:
    """One notification, with its time, contact, channel, result, and whether it succeeded."""

    at: Optional[str]
    who: str
    by: str
    came: str
    reached: bool


def tellings(words: Words, incident: incident_model.Incident) -> List[Telling]:
    """Return each notification of this run and of earlier runs."""
    escalation = incident.escalation
    names = dict(zip(escalation.get("contacts") or [], escalation.get("to") or []))
    return [
        Telling(
            at=each.get("at") or None,
            who=words.name("contact", str(names.get(each.get("contact"), each.get("contact")))),
            by=str(each.get("channel") or ""),
            came=words.say("doc.notified.reached")
            if each.get("ok")
            else words.say("doc.notified.not", error=words.quoted(each.get("error")) or words.say("unknown")),
            reached=bool(each.get("ok")),
        )
        for each in escalation.get("notified") or []
        if isinstance(each, dict)
    ]


def escalation_reason(words: Words, incident: incident_model.Incident) -> str:
    """Return why these contacts are notified, or an empty string if no reason is given."""
    return _escalation_reason(words, incident.escalation)


def _escalation_reason(words: Words, escalation: Mapping[str, Any]) -> str:
    # Before version 0.2.0, the rule was called level.
    rule = str(escalation.get("rule") or escalation.get("level") or "")
    if words.knows("escalation", rule):
        return words.name("escalation", rule)
    return bare(escalation.get("reason"))
