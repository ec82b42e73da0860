# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statements in a notification. The documents and the screen use the same wording.

The templates of the escalation role only arrange these statements. For the `facts` parameter, see content.facts.
"""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import (
    catalogue,
    change_text,
    data_verdict,
    restarts,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import rules
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import job, statements

Words = catalogue.Words
_Facts = Mapping[str, Any]

# Files that podman and Docker create in a container, and environment variables of an AWX job and of a Kubernetes pod.
_IN_CONTAINER = ("/run/.containerenv", "/.dockerenv")
_OF_CONTAINER = (job.ENVIRONMENT, "KUBERNETES_SERVICE_HOST")
# The rule for a service that is healthy again but was started too often. The next step from this rule is shown first.
_TOO_OFTEN = "repeated_restarts"
# Next steps for a held service.
_HELD = ("next_step.held", "next_step.held_running", "next_step.held_without_unit")
# Causes that mean that a person or a program stopped the service on purpose.
_STOPPED = ("finding.stopped.normally", "finding.stopped.late")
# Next steps that are still required when the service is healthy again. Lost rows must be reported. If a person has
# accepted damage to the database, the database must be repaired.
_REMAINING = ("next_step.database.loss", "next_step.database.loss_in_evidence", "next_step.accepted.planned")
# The end of the sentence about contacts that receive only a message about an event.
_EVENTS = {rules.RESOLVED: "that the outage is over", rules.ACKNOWLEDGED: "that somebody is working on it"}
# Next steps about the checklist in the postmortem. The notification must specify the location of this checklist.
_PREVENTION = ("next_step.recovered", "next_step.recovered_by_systemd")


def texts(facts: _Facts, language: str, timezone: str = "UTC", *, documents: str = "") -> Dict[str, Any]:
    """Return the statements for a notification. Times are in UTC and in the given time zone.

    The keys are severity, lasted, began, ended, cause, stopped, change, reason, done (a list), data_loss, lost, seeded,
    asked, run_in, documents, restarts and not_copied. If there is no statement for a key, the value of the key is an
    empty string. Four keys are not statements. over: True if the message is about the end of the incident. starts: the
    number of starts if the rule for too many starts applies. report: the path of the readiness report. copied_later:
    see data_verdict.copied_later.

    documents: the folder on the controller for the postmortem of this run, or an empty string.
    """
    words = catalogue.of(language, timezone)
    not_copied = (facts.get("messages") or {}).get("not_copied")
    asked, rule, evidence = _asked(words, facts), str(facts["rule"]), str(facts.get("evidence") or "")
    return {
        "lasted": words.duration(facts["outage_seconds"]) if facts["outage_seconds"] else "",
        "began": words.when(facts["outage_started_at"]),
        "ended": words.when(facts["mitigated_at"]),
        "severity": words.name("severity", facts["severity"]) if facts["severity"] else "",
        "cause": _cause(words, facts),
        "stopped": _stopped(words, facts),
        "change": change_text.first(words, facts.get("changes") or [], facts["cause"]),
        "reason": _reason(words, facts),
        "done": _done(words, facts),
        "data_loss": _data_loss(words, facts),
        "lost": _lost(words, facts),
        "seeded": _seeded(words, facts),
        "asked": asked,
        "over": _is_over(facts),
        "starts": facts.get("starts") if rule == _TOO_OFTEN and facts["event"] == "raised" else 0,
        "report": ("" if facts.get("job") else _on_controller(words, evidence)) or evidence,
        "run_in": _folder(words) if "ansible-playbook " in asked and not facts.get("job") else "",
        "documents": _on_controller(words, documents) if documents and not facts.get("job") else "",
        "restarts": restarts.text(words, facts.get("ends")),
        "copied_later": data_verdict.copied_later(facts.get("outcome"), not_copied),
        "not_copied": words.message(not_copied, facts.get("not_copied")) if facts.get("not_copied") else "",
    }


def _folder(words: Words) -> str:
    """Return the controller and the folder in which this run was started.

    Commands contain paths relative to this folder.

    If nobody can run a command there later, return an empty string. This is the case in a container and in a temporary
    folder, such as the folder of an event rule.
    """
    try:
        folder = os.getcwd()
    except OSError:  # The folder was removed.
        return ""
    temporary = os.path.commonpath([folder, tempfile.gettempdir()]) == tempfile.gettempdir()
    return "" if temporary else _on_controller(words, folder)


def _on_controller(words: Words, path: str) -> str:
    """Return a path preceded by the name of the controller, or an empty string if the controller is a container."""
    contained = any(map(os.path.exists, _IN_CONTAINER)) or any(map(os.environ.get, _OF_CONTAINER))
    return "" if contained else words.say("notice.place", path=path, host=socket.gethostname())


def no_channel(plan: Mapping[str, Any], language: str) -> List[str]:
    """Return a sentence for each contact without a channel.

    The sentence specifies the setting that adds a channel. plan: see rules.plan().
    """
    words = catalogue.of(language)
    return [
        words.sentence(words.say("notice.no_channel", name=words.name("contact", plan["names"][key]), contact=key))
        for key in plan["without_channel"]
    ]


def announcement(plan: Mapping[str, Any], *, deferred: bool, dry: bool) -> str:
    """Return the names of the notified contacts and the reason for the notification, for the screen.

    The text is in English, like the task names.

    plan: see rules.plan(). deferred: see rules.deferred(). dry: True if this run sends nothing.
    """
    if deferred:
        notify, also = "The run that continues the recovery will notify", "That run will also notify"
    else:
        notify, also = ("Would notify", "Would also notify") if dry else ("Notifying", "Also notifying")
    # A rule from the inventory may have no reason, or a reason without a full stop.
    reason = str(plan["reason"] or "")
    event, others = rules.by_event(plan)
    more = f"{'.' if reason and not reason.endswith('.') else ''} {also} {', '.join(others)} {_EVENTS.get(event)}."
    return f"{notify} {', '.join(rules.by_rule(plan))}: {reason}{more if others else ''}"


def results(plan: Mapping[str, Any], notified: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return the result for each channel, with the name of the contact. The contacts without a channel are last.

    plan: see rules.plan(). notified: the entries (contact, channel, ok, error) that this run has added to the record.
    """
    names = plan["names"]
    by_channel = [
        f"{names.get(each['contact'], each['contact'])} by {each['channel']}: "
        + ("notified" if each["ok"] else f"NOT SENT, {each['error']}")
        for each in notified
    ]
    without = [f"{names.get(key, key)}: NOT NOTIFIED, no channel is set" for key in plan["without_channel"]]
    return [*by_channel, *without]


def _cause(words: Words, facts: _Facts) -> str:
    named = words.name("cause", str(facts["cause"]))
    summary = words.message((facts.get("messages") or {}).get("cause_summary"), facts["cause_summary"])
    return words.say("label", name=named, text=summary) if summary else named


def _stopped(words: Words, facts: _Facts) -> str:
    """Return the words "stopped on request" for the subject if the cause is a stop on request. Otherwise, return ""."""
    told = (facts.get("messages") or {}).get("cause_summary") or []
    ids = [each.get("id") for each in (told if isinstance(told, list) else [told]) if isinstance(each, Mapping)]
    return words.say("notice.stopped") if any(each in _STOPPED for each in ids) else ""


def _reason(words: Words, facts: _Facts) -> str:
    """Return the reason for the notification.

    If the inventory defines the rule, the text of the rule is not translated.
    """
    rule = str(facts["rule"] or "")
    return words.name("escalation", rule) if words.knows("escalation", rule) else str(facts["reason"])


def _done(words: Words, facts: _Facts) -> List[str]:
    """Return one line for each remedy and each rung."""
    lines = []
    for each in facts["remedies"]:
        told = words.message((each.get("messages") or {}).get("action"), each.get("action"))
        told = told or words.name("cause", each.get("cause"))
        lines.append(words.say("notice.failed", action=told) if each.get("failed") else told)
    for each in facts["rungs_tried"]:
        # If only the login failed in an earlier run, a successful login in this run completes the verification of the
        # rung.
        verified = each is facts["rungs_tried"][-1] and _login_again(facts)
        name, came = words.part(str(each.get("rung"))), words.say(f"held.{'held' if verified else _held(each)}")
        told = words.say("ladder.rung", rung=name, came=came)
        why = "" if verified else words.message((each.get("messages") or {}).get("reason"), each.get("reason"))
        lines.append(words.say("label", name=told, text=why) if why else told)
    if lines and _login_again(facts):
        lines.append(words.say("notice.login_again"))
    if not lines:
        done = "taken.only_held" if _is_held(facts) else "taken.none"
        lines.append(words.say("screen.nothing_changed" if facts["nothing_changed"] == "yes" else done))
    return lines


def _is_held(facts: _Facts) -> bool:
    """Return True if one of the next steps is for a held service."""
    told = (facts.get("messages") or {}).get("next_step") or []
    return any(isinstance(each, Mapping) and each.get("id") in _HELD for each in told)


def _login_again(facts: _Facts) -> bool:
    """Return True if only the login failed in an earlier run, and the login succeeded in this run."""
    tried = facts["rungs_tried"] or [{}]
    return _is_over(facts) and bool(tried[-1].get("serves")) and facts.get("login_checked") == "yes"


def _is_over(facts: _Facts) -> bool:
    """Return True if the message is about the end of the incident, even if a rule also asks the receiver to act."""
    acts = facts.get("outcome") in ("warning", "data_in_doubt")
    return facts["event"] == "resolved" or (facts["event"] == "raised" and bool(facts.get("recovered")) and not acts)


def _held(rung: _Facts) -> str:
    """Return the last part of the catalogue key for a rung's result."""
    known = next((name for name in ("held", "serves", "restored") if rung.get(name)), None)
    return known or ("unknown" if rung.get("held", False) is None else "not")


def _data_loss(words: Words, facts: _Facts) -> str:
    verdict, why = str(facts["data_loss"]), str(facts["data_loss_why"])
    told = data_verdict.text(words, verdict, why)
    lost = facts.get("rows_lost") or {}
    number = _number(lost.get("rows"))
    if verdict == statements.KNOWN and number:
        key = "data_loss.known_exact" if lost.get("exact") else "data_loss.known_least"
        return words.say(key, rows=words.count("rows.count", number))
    if verdict == statements.NONE and _is_over(facts) and facts.get("suspected_before"):
        return words.say("notice.not_confirmed", verdict=told)
    if verdict != statements.SUSPECTED:
        return told
    # The DBA may receive this message. Therefore, the message, unlike the screen, does not contain the instruction to
    # call the DBA.
    if why != statements.ACCEPTED:
        told = words.say("notice.suspected_again" if why == statements.ALREADY_LOST else "notice.suspected")
    known = words.message((facts.get("messages") or {}).get("data_loss"))
    if known and why != statements.ACCEPTED:
        same = known == words.message((facts.get("messages") or {}).get("cause_summary"))
        told = words.say("notice.because", verdict=told, why=words.say("notice.see_cause") if same else known)
    return words.say("data_loss.untouched", verdict=told) if facts["nothing_started"] == "yes" else told


def _lost(words: Words, facts: _Facts) -> str:
    """Return the part of the subject that reports the rows lost in this incident's database recoveries, or ""."""
    counted = facts["data_loss"] == statements.KNOWN or facts["data_loss_why"] == statements.ALREADY_LOST
    if facts["event"] == "acknowledged" or not (counted or facts["data_loss_why"] == statements.UNCOUNTED):
        return ""
    lost = facts.get("rows_lost") or {}
    rows = _number(lost.get("rows")) if counted else 0
    if not rows:
        return words.say("notice.lost_unknown")
    return words.say("notice.lost" if lost.get("exact") else "notice.lost_least", rows=words.count("rows.count", rows))


def _number(value: Any) -> int:
    """Return a number of rows, or 0 if the value is not a number.

    ansible-core 2.18 and earlier pass a number as text if it is the value of an expression in a dictionary.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _seeded(words: Words, facts: _Facts) -> str:
    """Return the rows that the service created in empty tables, and the step before lost rows can be imported."""
    counted = {table: _number(rows) for table, rows in (facts.get("rows_seeded") or {}).items()}
    rows = [f"{table} {words.number(number)}" for table, number in counted.items() if number]
    return words.say("notice.seeded", rows=words.listed(rows)) if rows else ""


def _step(words: Words, step: Any) -> str:
    prevention = isinstance(step, Mapping) and step.get("id") in _PREVENTION
    return words.say("notice.prevention") if prevention else words.message(step)


def _at_the_end(facts: _Facts) -> str:
    """Return the ID of the next step after an outage if neither a rule nor a message of the run specifies one."""
    unknown, why = facts["data_loss"] == statements.UNKNOWN, facts["data_loss_why"]
    if facts["data_loss"] == statements.SUSPECTED and why != statements.ACCEPTED:
        return "asked.data_in_doubt"
    if unknown and why == statements.RESTARTED_SINCE:
        return "asked.count_rows_again"
    uncounted = unknown and facts.get("outcome") == "resolved_manually" and why != statements.NOT_COMPARED
    return "asked.count_rows" if uncounted else "asked.nothing"


def _asked(words: Words, facts: _Facts) -> str:
    """Return the next steps for the notified person, one per line. Each command is on its own line.

    Return an empty string if the outage has been acknowledged.
    """
    rule, suspected = str(facts["rule"]), facts["data_loss"] == "suspected"
    by_rule = f"asked.{rule}"
    if facts["event"] == "acknowledged":
        return ""
    told = (facts.get("messages") or {}).get("next_step") or []
    told = told if isinstance(told, list) else [told]
    steps = [_step(words, each) for each in told]
    first = [words.sentence(words.say(by_rule))] if rule == _TOO_OFTEN else []
    if facts["event"] == "resolved" and facts["severity"] == "unreachable" and facts["still_down"] != "no":
        return words.sentence(words.say("asked.reachable_again"))
    if facts["event"] == "resolved" and not first:
        due = suspected and by_rule in words.sentences
        # All contacts receive the same next step, even if they have received an earlier message.
        known = (*_REMAINING, *_PREVENTION)
        remaining = any(isinstance(each, Mapping) and each.get("id") in known for each in told)
        if due or not (remaining and all(steps)):
            return words.sentence(words.say(by_rule if due else _at_the_end(facts)))
    if steps and all(steps):
        return "\n".join([*first, *(line for step in steps for line in words.lines(step))])
    if facts["next_step"]:
        return "\n".join([*first, words.sentence(words.quoted(facts["next_step"]))])
    return words.sentence(words.say(by_rule if by_rule in words.sentences else "asked.find_out"))
