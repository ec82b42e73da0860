# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the notifications for an incident: contacts, channels and reasons."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_steps, prose_times
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# The messages that are sent without a rule: the outage has ended, or someone is working on it.
RESOLVED, ACKNOWLEDGED = "resolved", "acknowledged"
_EVENTS = (RESOLVED, ACKNOWLEDGED)
# Rules of database_recover.yml for a new database. If the service has recovered, their message is also about the end of
# the outage.
_NEW_DATABASE = ("database_emptied", "database_from_backup", "database_salvaged")
# Outcomes after which the contacts receive the message that the outage has ended. A run without a verdict can also have
# the outcome healthy.
_OVER = (*incident_model.BACK, "warning", "healthy")
# The rule that notifies no contacts after a recovery.
_RECORD_ONLY = "record_only"


def whom(words: Words, incident: incident_model.Incident) -> str:
    """Return the contacts and the messages that they received.

    For this run, the reason is added; for earlier runs, the times.
    """
    told = calls(words, incident)
    if told and _reason_of_calls(words, incident):
        told[-1] = words.say("notified.why", told=told[-1], reason=_reason_of_calls(words, incident))
    return words.joined([*told, *_informed(words, incident)])


def sentence(words: Words, incident: incident_model.Incident) -> str:
    """Return a sentence about the contacts and the messages that they received.

    If the sentence begins with a name, the name is not capitalized.
    """
    told = whom(words, incident)
    contacts = {words.name("contact", name) for name in _names(incident.escalation).values() if name}
    contacts |= {words.name("contact", str(name)) for name in incident.escalation.get("to") or [] if name}
    return words.sentence(told, capital=not told.startswith(tuple(contacts)))


def calls(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the contacts that no channel has reached, so that somebody can call them. whom() lists them first."""
    return [each for each in (_not_of_the_end(words, incident), *_missing(words, incident)) if each]


def _reason_of_calls(words: Words, incident: incident_model.Incident) -> str:
    """If contacts were not reached and this run sent no notification, return the reason for the notifications."""
    new = any(each.get("new", True) for each in _entries(incident.escalation))
    return escalation_reason(words, incident) if not new and _missing(words, incident) else ""


def informed(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the text that whom() returns, without the part that calls() returns.

    The text names the notified contacts, the channels that failed in this run, and the reason.
    """
    reason = _reason_of_calls(words, incident)
    return [*([words.say("notified.reason", reason=reason)] if reason else []), *_informed(words, incident)]


def names(words: Words, incident: incident_model.Incident, told: Sequence[str]) -> List[str]:
    """Return the beginning of the text from informed(), up to the channels of the last contact that this run notified.

    told: the text from informed(). If this run notified nobody, the list is empty.
    """
    new = [each for each in _entries(incident.escalation) if each.get("new", True)]
    contacts = _names(incident.escalation)
    sent = words.joined(_sent(words, _by_message(incident, new), names=contacts, lost=_lost(incident)))
    if not sent or not told or not told[-1].startswith(sent):
        return []
    channels = [str(each.get("channel")) for each in new if each.get("ok")]
    # Each contact is followed by its channels. The punctuation after the last channel is on the same line.
    end = max(sent.rfind(each) + len(each) for each in channels)
    return [*told[:-1], told[-1][: end + 1].rstrip()]


def _informed(words: Words, incident: incident_model.Incident) -> List[str]:
    escalation = incident.escalation
    if not escalation:
        return [words.say("notified.undecided")]
    to, entries, names = escalation.get("to") or [], _entries(escalation), _names(escalation)
    if "to" not in escalation and not any(each.get("new", True) for each in entries):
        told = [_unrecorded(words, incident), _before(words, entries, names=names)]
        return [words.joined([each for each in told if each])]
    new, old = ([each for each in entries if each.get("new", True) is now] for now in (True, False))
    reason = escalation_reason(words, incident)
    if not to and not entries:
        return [words.say("notified.nobody_why", reason=reason) if reason else words.say("notified.nobody")]
    parts = [
        *_sent(words, _by_message(incident, new), names=names, lost=_lost(incident)),
        *_failed(words, new, names=names, unaware=_unaware(incident, entries)),
    ]
    if "to" not in escalation:
        parts.append(words.say("notified.others_unknown"))
    if parts:
        why = _why_key(escalation, new)
        this_run = words.say(why, told=words.joined(parts), reason=reason) if reason else words.joined(parts)
    elif _missing(words, incident):
        this_run = ""
    elif to:
        this_run = words.say("notified.nothing_new")
    else:
        this_run = words.say("notified.nobody_now", reason=reason) if reason else ""
    known = {_name(each, names) for each in new if each.get("ok")}
    before = _before(words, [each for each in old if _name(each, names) not in known], names=names)
    return [text for text in [words.joined([each for each in (this_run, before) if each])] if text]


def _why_key(escalation: Mapping[str, Any], new: Sequence[Mapping[str, Any]]) -> str:
    """Return the ID of the message that adds the reason.

    The rule that was applied may report more than the end of the outage. Its reason is then not the reason for the
    message about the end of the outage.
    """
    levels = {each.get("level") for each in new if each.get("ok")}
    return "notified.also" if levels == {RESOLVED} and escalation.get("rule") != _RECORD_ONLY else "notified.why"


def _unrecorded(words: Words, incident: incident_model.Incident) -> str:
    """Return the text for a run that recorded no notifications."""
    return words.say("notified.undecided" if _may_have_notified(incident) else "notified.nobody_new")


def _may_have_notified(incident: incident_model.Incident) -> bool:
    """Return True if the last run has no verdict, but may have notified contacts.

    It is certain that a run notified nobody only if two conditions are met: the run is complete, and none of its steps
    in the escalation role can notify a contact.
    """
    last = incident.runs[-1].run if incident.runs else None
    sending = any(each.run == last and prose_steps.notifying(each) for each in incident.steps)
    return incident.outcome == "unfinished" or sending


def _lost(incident: incident_model.Incident) -> str:
    """Return the content of the message about the end of the outage: lost rows, possibly lost rows, or neither ("")."""
    why = statements.why_of_data_loss(incident.statements)
    if incident.data_loss == statements.KNOWN or why == statements.ALREADY_LOST:
        return "_lost"
    return "_perhaps_lost" if why == statements.UNCOUNTED else ""


def _by_message(incident: incident_model.Incident, entries: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the notifications with the level of the message that was sent.

    The rules of _NEW_DATABASE use the same message as the end of the incident, so the level of both is called resolved.
    """
    if incident.outcome not in incident_model.BACK:
        return list(entries)
    return [
        {**each, "level": RESOLVED}
        if each.get("ok") and each.get("new", True) and each.get("level") in _NEW_DATABASE
        else each
        for each in entries
    ]


def _entries(escalation: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """Return the notifications from all runs."""
    return [each for each in escalation.get("notified") or [] if isinstance(each, dict)]


def _name(entry: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the name of the notified contact."""
    return names.get(str(entry.get("contact")), str(entry.get("contact")))


def _sent(words: Words, new: Sequence[Mapping[str, Any]], *, names: Mapping[str, str], lost: str) -> List[str]:
    """Return the contacts notified in this run: first about the outage, then about its end or acknowledgement."""
    raised = _ways(words, [each for each in new if each.get("level") not in _EVENTS], names=names)
    parts = [words.say("notified.done", names=words.listed(list(raised.values())))] if raised else []
    for event in _EVENTS:
        told = _ways(words, [each for each in new if each.get("level") == event], names=names)
        if told:
            message = _message(words, event, lost=lost)
            parts.append(words.say("notified.event", message=message, names=words.listed(list(told.values()))))
    return parts


def _message(words: Words, level: str, *, lost: str) -> str:
    """Return the name of a message. lost: see _lost."""
    return words.name("message", f"{level}{lost}" if level == RESOLVED else level)


def _missing(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the contacts that no channel has reached in this incident.

    If the last run has no verdict and may have notified contacts, only its recorded attempts are known. In this case,
    the text about all other contacts covers only earlier runs.
    """
    escalation, names = incident.escalation, _names(incident.escalation)
    entries = _entries(escalation)
    reached = {_name(each, names) for each in entries if each.get("ok")}
    wanted = escalation["to"] if "to" in escalation else escalation.get("unreached")
    missing = [name for name in wanted or [] if name not in reached]
    partial = "to" not in escalation and _may_have_notified(incident)
    tried = {_name(each, names) for each in entries if each.get("new", True)}
    before = [name for name in missing if partial and name not in tried]
    return [
        words.say(key, names=words.listed([words.name("contact", name) for name in of_key]))
        for key, of_key in (
            ("notified.missing", [name for name in missing if name not in before]),
            ("notified.missing_before", before),
        )
        if of_key
    ]


def _failed(
    words: Words,
    new: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[str, str],
    unaware: Sequence[Mapping[str, Any]],
) -> List[str]:
    """Return the channels that failed in this run, with their contacts. unaware: entries that calls() returns."""
    failed = [
        words.say("label", name=_by(words, each, names=names), text=bare(each.get("error")))
        for each in new
        if each.get("ok") is False and each not in unaware
    ]
    return [words.say("notified.failed", channels=words.listed(failed))] if failed else []


def _before(words: Words, old: Sequence[Mapping[str, Any]], *, names: Mapping[str, str]) -> str:
    """Return the contacts, messages and times of the notifications in earlier runs.

    If no one was notified, return an empty string.
    """
    told: List[str] = []
    for level in dict.fromkeys(str(each.get("level") or "") for each in old):
        of_level = [each for each in old if str(each.get("level") or "") == level]
        for name, by in _ways(words, of_level, names=names).items():
            at = next((each.get("at") for each in of_level if each.get("ok") and _name(each, names) == name), None)
            about = [words.name("message", level) if level else "", words.short(at) if at else ""]
            aside = words.sentences["list.comma"].join(filter(None, about))
            told.append(words.say("aside", text=by, aside=aside) if aside else by)
    return words.say("notified.before", names=words.listed(told)) if told else ""


def _unaware(incident: incident_model.Incident, entries: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the messages about the end of the outage that could not be sent.

    If the outage continues, return no messages. Omit contacts that another message has informed about the recovery.
    """
    if not _is_over(incident):
        return []
    names = _names(incident.escalation)
    of_the_end = [each for each in entries if each.get("level") == RESOLVED]
    # Any other message of this run also states that the service has recovered.
    latest = [each for each in entries if each.get("ok") and each.get("new", True)]
    aware = {_name(each, names) for each in (*of_the_end, *latest) if each.get("ok")}
    return [each for each in of_the_end if each.get("ok") is False and _name(each, names) not in aware]


def _is_over(incident: incident_model.Incident) -> bool:
    """Return True if the outage has ended.

    If the last run was killed, the verdict of an earlier run decides, unless the killed run found the service down. If
    no run has a verdict, the outage has ended if the last run sent the message about its end.
    """
    if prose_times.still_down(incident) or _may_be_down(incident):
        return False
    if incident.outcome != "unfinished":
        return incident.outcome in _OVER
    # If a playbook only includes the escalation role, its result has no outcome.
    verdicts = [each.data["outcome"] for each in incident.steps if each.kind == "outcome" and each.data.get("outcome")]
    if verdicts:
        return verdicts[-1] in _OVER
    return any(each.get("level") == RESOLVED and each.get("new", True) for each in _entries(incident.escalation))


def _may_be_down(incident: incident_model.Incident) -> bool:
    """Return True if a killed run found the service down and started it, but did not check it after that."""
    if incident.outcome != "unfinished" or incident.stated("still_down") != statements.UNKNOWN:
        return False
    last = incident.runs[-1].run if incident.runs else None
    looks = [each.data for each in incident.steps if each.run == last and prose_steps.probed(each)]
    return bool(looks) and not looks[-1]["healthy"]


def _not_of_the_end(words: Words, incident: incident_model.Incident) -> str:
    """Return the contacts that do not know that the outage has ended, with their channels, or an empty string."""
    failures: Dict[str, List[str]] = {}
    names = _names(incident.escalation)
    for each in _unaware(incident, _entries(incident.escalation)):
        failures.setdefault(words.name("contact", _name(each, names)), []).append(_failure(words, each))
    told = [words.say("aside", text=name, aside=words.listed(by)) for name, by in failures.items()]
    return words.say("notified.unaware", names=words.listed(told)) if told else ""


def _by(words: Words, entry: Mapping[str, Any], *, names: Mapping[str, str]) -> str:
    """Return the contact and the channel of a notification."""
    name = words.name("contact", _name(entry, names))
    return words.say("notified.by", name=name, ways=str(entry.get("channel")))


def _failure(words: Words, entry: Mapping[str, Any]) -> str:
    """Return the channel of a failed notification, and the error."""
    return words.say("label", name=str(entry.get("channel")), text=bare(entry.get("error")))


def _names(escalation: Mapping[str, Any]) -> Dict[str, str]:
    """Return the names of the contacts. An old timeline contains only the contact names of the last rule."""
    names = dict(zip(escalation.get("contacts") or [], escalation.get("to") or []))
    return {str(key): str(name) for key, name in {**names, **(escalation.get("names") or {})}.items()}


def _ways(words: Words, entries: Sequence[Mapping[str, Any]], *, names: Mapping[str, str]) -> Dict[str, str]:
    """Map the name of each notified contact to a text with the name and the channels."""
    ways: Dict[str, List[str]] = {}
    for each in entries:
        known = ways.setdefault(_name(each, names), [])
        if each.get("ok") and str(each.get("channel")) not in known:
            known.append(str(each.get("channel")))
    return {
        name: words.say("notified.by", name=words.name("contact", name), ways=words.listed(by))
        for name, by in ways.items()
        if by
    }


def would_tell(words: Words, incident: incident_model.Incident) -> List[str]:
    """For a run in check mode, return the contacts that would be notified now or after a failed recovery."""
    escalation: Mapping[str, Any] = incident.escalation
    if "to" not in escalation:
        return [words.say("notified.not_planned")]
    before = _ways(words, list(escalation.get("notified") or []), names=_names(escalation))
    told = [_would_tell(words, escalation, before=before)]
    if escalation.get("otherwise"):
        told = [words.say("notified.if_recovered", told=told[0])]
        told.append(words.say("notified.otherwise", told=_would_tell(words, escalation["otherwise"], before=before)))
    return told


def would_close(words: Words, incident: incident_model.Incident) -> str:
    """Return the contacts that would be notified of the end of the outage if a run closed the incident."""
    entries = [each for each in _entries(incident.escalation) if each.get("ok")]
    aware = {(each.get("contact"), each.get("channel")) for each in entries if each.get("level") == RESOLVED}
    due = [
        each
        for each in entries
        if each.get("level") not in _EVENTS and (each.get("contact"), each.get("channel")) not in aware
    ]
    ways = _ways(words, due, names=_names(incident.escalation))
    if not ways:
        return words.say("notified.nobody")
    return words.say("notified.if_closed", names=words.listed(list(ways.values())))


def _would_tell(words: Words, escalation: Mapping[str, Any], *, before: Mapping[str, str]) -> str:
    """Return the contacts that would be notified. before: the contacts that have already been notified, by name."""
    ways: Dict[str, List[str]] = {str(name): [] for name in escalation.get("to") or []}
    for each in escalation.get("would") or []:
        error = bare(each.get("error"))
        way = str(each.get("channel"))
        ways.setdefault(str(each.get("name")), []).append(words.say("label", name=way, text=error) if error else way)
    reason = _escalation_reason(words, escalation)
    if escalation.get("rule") == _RECORD_ONLY:
        # In check mode, the service has not recovered yet.
        reason = words.say("notified.over" if ways else "notified.only_recorded")
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
    if escalation.get("rule") == _RECORD_ONLY:
        return words.say("aside", text=told, aside=reason)
    return words.say("notified.why", told=told, reason=reason) if reason else told


@dataclasses.dataclass(frozen=True)
class Telling:
    """A notification: its time, contact, channel and result, and True if it succeeded."""

    at: Optional[str]
    who: str
    by: str
    came: str
    reached: bool


def tellings(words: Words, incident: incident_model.Incident) -> List[Telling]:
    """Return the notifications from this run and from earlier runs."""
    escalation = incident.escalation
    names, lost, over = _names(escalation), _lost(incident), _is_over(incident)
    return [
        Telling(
            at=each.get("at") or None,
            who=words.name("contact", _name(each, names)),
            by=str(each.get("channel") or ""),
            came=_result(words, each, lost=lost, over=over),
            reached=bool(each.get("ok")),
        )
        for each in _by_message(incident, _entries(escalation))
    ]


def _result(words: Words, entry: Mapping[str, Any], *, lost: str, over: bool) -> str:
    """Return the result of a notification, with the message that was sent. lost: see _lost. over: see _is_over."""
    message = _message(words, str(entry.get("level") or ""), lost=lost)
    if entry.get("ok"):
        told = words.say("doc.notified.reached")
        return words.say("aside", text=told, aside=message) if message else told
    error = words.quoted(entry.get("error")) or words.say("unknown")
    if entry.get("level") != RESOLVED:
        return words.say("doc.notified.not", error=error)
    if over:
        return words.say("doc.notified.unaware", error=error)
    return words.say("aside", text=words.say("doc.notified.not", error=error), aside=message)


def escalation_reason(words: Words, incident: incident_model.Incident) -> str:
    """Return the reason why these contacts are notified, or an empty string if no reason is given."""
    return _escalation_reason(words, incident.escalation)


def _escalation_reason(words: Words, escalation: Mapping[str, Any]) -> str:
    # Before version 1.0.0, the rule was called level.
    rule = str(escalation.get("rule") or escalation.get("level") or "")
    if words.knows("escalation", rule):
        return words.name("escalation", rule)
    return bare(escalation.get("reason"))
