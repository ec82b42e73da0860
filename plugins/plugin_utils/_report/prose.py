# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Describe an incident in plain-text sentences, for the documents and the summary on the screen.

This file contains the text about the incident as a whole. Each prose_*.py contains the text about one subject.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps as policy_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose_actions,
    prose_causes,
    prose_data,
    prose_ladder,
    prose_notifications,
    prose_steps,
    prose_times,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare, messages_in
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# If the next step is one of these, only the checklist in the postmortem must still be completed.
_PREVENTION = ("next_step.recovered", "next_step.recovered_by_systemd")
# The rule for a service that was started too often. The notification begins with the same next step.
_TOO_OFTEN = "repeated_restarts"


def subject(words: Words, incident: incident_model.Incident) -> str:
    """Return the names of the service and the host."""
    if not incident.service:
        return incident.host
    return words.say("subject", service=incident.service, host=incident.host)


def outcome(words: Words, incident: incident_model.Incident) -> str:
    """Return the outcome."""
    return words.name("outcome", incident.outcome)


def logged_in(incident: incident_model.Incident) -> Tuple[Optional[str], Optional[str], object]:
    """Return the login state (see model.Incident), why the login failed, and the reason as a message."""
    return incident.login, incident.login_error, incident.messages.get("login_error")


def login(words: Words, state: Optional[str], error: Optional[str], message: object) -> str:
    """Return the result of the login, or an empty string if there was no verification. See logged_in."""
    if state not in ("checked", "rate_limited", "no_password", "no_answer", "failed"):
        return ""
    told = words.say(f"login.{state}")
    return words.say("label", name=told, text=words.message(message, error)) if error else told


def next_steps(words: Words, incident: incident_model.Incident, target: str = "") -> List[str]:
    """Return the next steps for a person, one sentence each. Each command is a separate element (Command).

    If an incident blocks the start of the service, the last step mentions this incident. target: see next_steps.target.
    """
    told = incident.messages.get("next_step")
    steps = messages_in(told)
    held: List[str] = []
    if incident.held_by:
        step = policy_steps.held(steps, incident=incident.held_by, running=incident.outcome == "degraded")
        held = [words.message(step.to_dict())]
    first = [words.say(f"asked.{_TOO_OFTEN}")] if _started_too_often(incident) else []
    lines = [line for step in (*first, *_next_steps(words, incident), *held) for line in words.lines(step)]
    return [*lines, *check_data(words, incident, target or policy_steps.target(incident.host, ()))]


def check_data(words: Words, incident: incident_model.Incident, target: str) -> List[str]:
    """Return the next step if the service works again, but it is unknown whether rows were lost. Otherwise, return [].

    target: see next_steps.target.
    """
    if incident.outcome not in incident_model.BACK or incident.data_loss != statements.UNKNOWN:
        return []
    if statements.rows_to_count(incident.statements):
        step = message("next_step.count_rows", command=policy_steps.command("outage_verify.yml", target))
        return words.lines(words.message(step.to_dict()))
    # If there are other steps, they already state what to do about the data, for example after a database recovery.
    unknown = statements.data_to_check(incident.statements) and not is_open(incident)
    return words.lines(words.message(message("next_step.check_data").to_dict())) if unknown else []


def _started_too_often(incident: incident_model.Incident) -> bool:
    """Return True if a person must find out why the service was started so often. A planned recovery does not count."""
    return incident.escalation.get("rule") == _TOO_OFTEN and incident.outcome != "would_recover"


def is_open(incident: incident_model.Incident) -> bool:
    """Return True if the service has recovered, but a person must still act."""
    if incident.data_loss in ("suspected", "known") or _started_too_often(incident):
        return True
    told = incident.messages.get("next_step") if incident.next_step else None
    steps = messages_in(told)
    return any(each.get("id") not in _PREVENTION for each in steps)


def _next_steps(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the next steps in this language, or in quotation marks if there is no translation."""
    if incident.outcome == "unfinished":
        return [words.name("next", "unfinished")]
    told = incident.messages.get("next_step")
    steps = told if isinstance(told, list) else [told]
    # In a timeline from an older version, the next step may refer to the cause of the outage instead of the login.
    about_login = any(each.get("id") == "next_step.login_failed" for each in messages_in(told))
    if incident.outcome == "login_failed" and incident.data_loss != "suspected" and not about_login:
        return [words.name("next", "login_failed")]
    if not incident.next_step:
        # A run that only closes an incident records no next step.
        back = incident.outcome in incident_model.BACK
        items = prose_actions.actions(words, incident) if back else []
        return [words.say(_PREVENTION[0])] if any(each.wanted for each in items) else []
    known = [words.message(each) for each in steps]
    if known and all(known):
        return known
    state = incident.outcome
    if state != incident_model.IN_DOUBT and incident.data_loss == "suspected":
        state = "data_loss"
    elif incident.outcome == "recovered" and incident.data_loss == "known":
        state = "loss"
    elif incident.outcome == "not_recovered" and any(each.halted for each in incident.rungs_tried):
        state = "halted"
    elif incident.outcome == "not_recovered" and incident.rungs_tried and incident.cause == "unknown":
        state = "helpless"
    return [words.name("next", state) if words.knows("next", state) else words.quoted(incident.next_step)]


def facts(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return the names and values of the facts that are shown at the top of the documents."""
    told = [
        ("doc.severity", words.name("severity", incident.severity or "unknown")),
        ("doc.cause_label", prose_causes.cause(words, incident)),
        ("doc.ladder", prose_ladder.ladder(words, incident)),
        ("doc.data_loss", prose_data.data_loss(words, incident)),
        ("doc.notified", prose_notifications.whom(words, incident)),
        ("doc.ticket", incident.ticket or ""),
    ]
    since = words.when(incident.times.started_at) or words.say("unknown")
    return [(prose_times.begun(words, incident), since), *((words.say(key), text) for key, text in told if text)]


def notes(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the notes that a reader needs to assess the rest of the document."""
    told = [words.say("doc.no_verdict")] if incident.source == "events" else []
    for run in incident.runs:
        if not run.complete and run.last_task:
            told.append(
                words.say(
                    "doc.cut_short_at",
                    run=run.run,
                    at=words.when(run.last_event_at),
                    task=prose_steps.label(words, run.last_action, run.last_task),
                )
            )
        elif not run.complete:
            told.append(words.say("doc.cut_short", run=run.run, at=words.when(run.last_event_at)))
    # If the error is the same as the cause, the text of the error is already shown.
    if incident.error and bare(incident.error) != bare(incident.cause_summary):
        error = words.message(incident.messages.get("error"), incident.error)
        told.append(error if incident.outcome in incident_model.BACK else words.say("doc.stopped_by", error=error))
    return told
