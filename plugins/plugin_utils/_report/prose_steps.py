# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line of text for each step of the recovery. If a step changed something, its line states the change."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_results
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import (
    bare,
    message_of,
    text_of,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import steps as timeline_steps


def happened(words: Words, step: incident_model.Step) -> str:
    """Return the line for a step: the change if the step made one, otherwise the step's name and result."""
    if step.kind == "run_start":
        return words.say("step.run", playbook=step.task or "playbook")
    if step.kind == "outcome":
        return words.say("step.verdict", outcome=words.name("outcome", str(step.data.get("outcome"))))
    name = _name(words, step)
    if step.kind == "unreachable":
        return words.say("step.unreachable", task=name)
    if step.kind == "retry":
        return words.say("step.retry", task=name)
    came = _came(words, step)
    of_process = allowlist.own_module(step.action or "") == "node_process" and step.weight == incident_model.DETAIL
    # The tasks that start and the tasks that stop the service have the same name, so the name alone would be ambiguous.
    if came and (step.weight == incident_model.CHANGE or of_process):
        return words.capitalized(came)
    return words.say("label", name=name, text=came) if came else name


def deed(words: Words, step: incident_model.Step, *, rung: str = "", planned: bool = False) -> str:
    """Return the change that a step made, or the step's name if there is no text for the change.

    rung: the name that precedes this text. If the name contains the method, as in "database_recovery by salvage", the
    method is not repeated. planned: True for a run in check mode, which only lists the changes.
    """
    data = {**step.data, "planned": True} if planned and step.data else step.data
    method = step.data.get("method")
    if method and rung.partition(" by ")[2] == method and allowlist.own_module(step.action or "") == "sqlite_restore":
        return bare(prose_results.restored(words, data, text_of(words, step.data, "reason")))
    return bare(_came(words, dataclasses.replace(step, data=data))) or _name(words, step)


def recorded(step: incident_model.Step) -> bool:
    """Return True if a step only updated the incident's record, which the document shows in full."""
    return allowlist.own_module(step.action or "") in allowlist.OF_INCIDENT and step.weight == incident_model.DETAIL


def short(steps: Sequence[incident_model.Step]) -> List[incident_model.Step]:
    """Return the steps for the short timeline: changes, failures and decisions, without duplicates."""
    told: List[incident_model.Step] = []
    for step in steps:
        if step.weight == incident_model.DETAIL or recorded(step):
            continue
        # The failure at the end of a playbook only repeats the preceding decision.
        repeats = step.weight == incident_model.FAILURE and not broken(step) and not step.message
        seen = told[-1] if told else None
        if (
            repeats
            and seen
            and seen.weight == incident_model.DECISION
            and (seen.run, seen.role) == (step.run, step.role)
        ):
            continue
        told.append(step)
    return told


def probed(step: incident_model.Step) -> bool:
    """Return True if a step is a health probe that returned a result."""
    return allowlist.own_module(step.action or "") == "health_probe" and "healthy" in step.data


def seen(words: Words, look: Mapping[str, Any]) -> str:
    """Return the severity and the problem from a health probe that did not find the service healthy.

    For a degraded service, return only the problem.
    """
    failing = [prose_results.endpoint(words, each) for each in look.get("endpoints") or [] if each.get("ok") is False]
    wrong = bare(words.message(message_of(look, "summary"), look.get("summary")) or words.listed(failing))
    severity = words.name("severity", str(look.get("severity") or "unknown"))
    if wrong and look.get("severity") == "degraded":
        return wrong  # Most lines already begin with the severity DEGRADED.
    return words.say("label", name=severity, text=wrong) if wrong else severity


def checked(step: incident_model.Step) -> bool:
    """Return True if a step is a database check."""
    return allowlist.own_module(step.action or "") == "sqlite_info" and bool(step.data)


def broken(step: incident_model.Step) -> bool:
    """Return True if the action of a step failed. If a fail or assert task failed, return False."""
    return step.kind == "unreachable" or str(step.action).rsplit(".", 1)[-1] not in ("fail", "assert")


def unreached(step: incident_model.Step) -> bool:
    """Return True if a step is a health probe that could not reach its host."""
    return probed(step) and step.data.get("severity") == "unreachable"


def lost(step: incident_model.Step) -> str:
    """Return the reason, in English, why a module in this collection could not reach its host, or an empty string."""
    if unreached(step):
        return bare(step.data.get("summary"))
    return bare(step.message) if step.data.get("unreachable_host") else ""


def lost_message(step: incident_model.Step) -> object:
    """Return a message that states why a module could not reach its host, or None if the timeline is old."""
    return message_of(step.data, "summary" if unreached(step) else "why")


def triaged(step: incident_model.Step) -> bool:
    """Return True if a step is a triage step that reported findings."""
    return allowlist.own_module(step.action or "") == "triage_info" and "findings" in step.data


def validated(step: incident_model.Step) -> bool:
    """Return True if a step validates a role's variables against the role's argument specification."""
    return str(step.action).rsplit(".", 1)[-1] == "validate_argument_spec"


def notifying(step: incident_model.Step) -> bool:
    """Return True if a step may have notified a contact. A custom channel may use any module."""
    internal = str(step.action).rsplit(".", 1)[-1] in timeline_steps.PLUMBING or validated_settings(step)
    return step.role == "escalation" and not internal


def validated_settings(step: incident_model.Step) -> bool:
    """Return True if a step validates settings, such as those of the notification channels, before they are needed."""
    return allowlist.own_module(step.action or "") == "fail_settings"


def refused(step: incident_model.Step) -> List[Mapping[str, Any]]:
    """Return the invalid settings that a step found, or [] for other steps.

    Each item has the keys `message` and `messages`, see text_of.
    """
    module = allowlist.own_module(step.action or "")
    if validated_settings(step) or validated(step):
        found, told = step.data.get("problems") or [], message_of(step.data, "problems")
        known = told if isinstance(told, list) and len(told) == len(found) else [None] * len(found)
        return [{"message": text, "messages": {"message": each}} for text, each in zip(found, known)]
    if module not in ("service_preflight_info", "health_probe"):
        return []
    # A probe that succeeded reports invalid settings in its summary.
    if module == "health_probe" and step.status not in ("failed", "ignored"):
        return []
    checked = (step.data if module == "service_preflight_info" else step.data.get("preflight")) or {}
    return list(checked.get("problems") or [])


def refusals(words: Words, steps: Sequence[incident_model.Step]) -> List[str]:
    """Return the invalid settings that these steps found, in this language and without duplicates."""
    return list(dict.fromkeys(text_of(words, each, "message") for step in steps for each in refused(step)))


def mismatched(steps: Sequence[incident_model.Step]) -> List[str]:
    """Return the variables that do not match the host, without duplicates."""
    found = [str(each["variable"]) for step in steps for each in refused(step) if each.get("variable")]
    return list(dict.fromkeys(found))


def kept_out(step: incident_model.Step) -> Mapping[str, Any]:
    """Return the run that blocked this run, or an empty mapping for other steps."""
    opening = allowlist.own_module(step.action or "") == "incident" and step.status == "failed"
    return (step.data.get("locked_by") if opening else None) or {}


def maintenance(step: incident_model.Step) -> Mapping[str, Any]:
    """Return the maintenance window that prevented a run from opening an incident.

    For other steps, return an empty mapping.
    """
    return (
        step.data.get("maintenance") if allowlist.own_module(step.action or "") in allowlist.OF_INCIDENT else None
    ) or {}


def scheduled(step: incident_model.Step) -> bool:
    """Return True if a step began or ended a maintenance window. Only one task of the nexus role does this."""
    of_role = step.role == "nexus" and allowlist.own_module(step.action or "") == "incident"
    return of_role and "maintenance" in step.data


def label(words: Words, action: Optional[str], task: Optional[str], variant: str = "") -> str:
    """Return a task's label: in English, its name in the playbook; in other languages, its module's label.

    Task names are not used as keys, because they may change at any time. If the module is unknown, the name of the task
    is quoted.
    """
    module = allowlist.own_module(action or "") or str(action).rsplit(".", 1)[-1]
    known = [key for key in (f"{module}.{variant}", module) if words.knows("module", key)]
    return words.name("module", known[0]) if known else words.quoted(task or action or "task")


def _variant(step: incident_model.Step) -> str:
    """Return the action of a module if the module's label depends on the action, otherwise an empty string."""
    module, data = allowlist.own_module(step.action or ""), step.data
    if module == "health_probe":
        return step.role or ""
    if module == "incident" and step.status == "changed":
        return "closed" if data.get("closed_at") else "opened" if data.get("opened_at") else ""
    done = {
        "npm_ci": ("swapped", data.get("swapped")),
        "service_hold": (_hold_state(data), step.status == "changed"),
        "sqlite_backup": ("evidence", data.get("evidence_dir") and not data.get("backup_file")),
        "sqlite_restore": ("recovered" if step.status == "changed" else "failed", step.status in ("changed", "failed")),
    }
    variant, applies = done.get(str(module), ("", None))
    return variant if applies else ""


def _hold_state(data: Mapping[str, Any]) -> str:
    """Return the text that a hold was set or released.

    Timelines from earlier versions do not contain this information.
    """
    state = str(data.get("state"))
    return state if state in ("held", "released") else "changed"


def _name(words: Words, step: incident_model.Step) -> str:
    return label(words, step.action, (step.task or "").strip(), _variant(step))


def _came(words: Words, step: incident_model.Step) -> str:
    """Return the result of a step or the reason for its failure, and the time for which the connection was lost."""
    lost_for = (step.data.get("connection_lost") or {}).get("seconds")
    told = _said(words, step)
    parted = [] if lost_for is None else [words.say("came.lost", seconds=words.duration(lost_for))]
    return words.joined([*filter(None, [told]), *parted])


def _said(words: Words, step: incident_model.Step) -> str:
    if step.status in ("failed", "ignored"):
        status = words.name("status", step.status)
        if not step.message:
            return status
        return words.say("label", name=status, text=words.message(message_of(step.data, "msg"), step.message))
    teller = prose_results.TELLERS.get(allowlist.own_module(step.action or "") or "")
    return teller(words, {**step.data, "changed": step.status == "changed"}) if teller and step.data else ""


def reasons(steps: Sequence[incident_model.Step]) -> List[incident_model.Step]:
    """Return the failures that can be the reason for the outcome.

    A playbook's final failure is omitted, because it only repeats another failure. Failed notifications are also
    omitted, and so are invalid settings that do not stop a recovery. Neither of these two causes an outage.
    """
    return [
        step
        for step in steps
        if step.weight == incident_model.FAILURE
        and step.role != "escalation"
        and not refused(step)
        and (broken(step) or step.message)
    ]
