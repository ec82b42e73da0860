# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts about the notifications of an incident: contacts, channels and reasons."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

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
    names = _names(escalation)
    sent = _ways(words, [each for each in entries if each.get("new", True)], names=names)
    before = _ways(words, [each for each in entries if not each.get("new", True)], names=names)
    reached = [*sent, *before]
    before = {name: by for name, by in before.items() if name not in sent}
    reason = escalation_reason(words, incident)
    if not to and not reached:
        return words.say("notified.nobody_why", reason=reason) if reason else words.say("notified.nobody")
    missing = [words.name("contact", name) for name in to if name not in reached]
    failed = [
        words.say("label", name=str(each.get("channel")), text=bare(each.get("error")))
        for each in entries
        if each.get("ok") is False and each.get("new", True)
    ]
    parts = [words.say("notified.done", names=words.listed(list(sent.values())))] if sent else []
    parts += [words.say("notified.before", names=words.listed(list(before.values())))] if before else []
    parts += [words.say("notified.missing", names=words.listed(missing))] if missing else []
    parts += [words.say("notified.failed", channels=words.listed(failed))] if failed else []
    return words.say("notified.why", told=words.joined(parts), reason=reason) if reason else words.joined(parts)


def _names(escalation: Mapping[str, Any]) -> Dict[str, str]:
    """Return the names of the contacts. An old timeline contains only the contact names of the last rule."""
    names = dict(zip(escalation.get("contacts") or [], escalation.get("to") or []))
    return {str(key): str(name) for key, name in {**names, **(escalation.get("names") or {})}.items()}


def _ways(words: Words, entries: Sequence[Mapping[str, Any]], *, names: Mapping[str, str]) -> Dict[str, str]:
    """Map the name of each notified contact to a text with the name and the channels."""
    ways: Dict[str, List[str]] = {}
    for each in entries:
        known = ways.setdefault(names.get(str(each.get("contact")), str(each.get("contact"))), [])
        if each.get("ok") and str(each.get("channel")) not in known:
            known.append(str(each.get("channel")))
    return {
        name: words.say("notified.by", name=words.name("contact", name), ways=words.listed(by))
        for name, by in ways.items()
        if by
    }


def would_tell(words: Words, incident: incident_model.Incident) -> List[str]:
    """For a run in check mode, return who would be notified now, and who would be notified if the recovery fails."""
    escalation: Mapping[str, Any] = incident.escalation
    if not escalation:
        return [words.say("notified.undecided")]
    before = _ways(words, list(escalation.get("notified") or []), names=_names(escalation))
    told = [_would_tell(words, escalation, before=before)]
    if escalation.get("otherwise"):
        told.append(words.say("notified.otherwise", told=_would_tell(words, escalation["otherwise"], before=before)))
    return told


def _would_tell(words: Words, escalation: Mapping[str, Any], *, before: Mapping[str, str]) -> str:
    """Return who would be notified. before: the contacts that have already been notified, by name."""
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
        else words.say(
            "notified.is_notified" if name in before else "notified.by_no_way", name=words.name("contact", name)
        )
        for name, by in ways.items()
    ]
    told = words.listed(names)
    return words.say("notified.why", told=told, reason=reason) if reason else told


@dataclasses.dataclass(frozen=True)
class Telling:
    """A notification, with its time, contact, channel, result, and whether it succeeded."""

    at: Optional[str]
    who: str
    by: str
    came: str
    reached: bool


def tellings(words: Words, incident: incident_model.Incident) -> List[Telling]:
    """Return the notifications of this run and of earlier runs."""
    escalation = incident.escalation
    names = _names(escalation)
    return [
        Telling(
            at=each.get("at") or None,
            who=words.name("contact", names.get(str(each.get("contact")), str(each.get("contact")))),
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
