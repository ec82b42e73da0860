# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of an incident. All playbooks publish the same structure for artifacts, postmortem and workflows.

For the keys, see published.Outcome.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, messages_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import published, statements

# Values have the same types as in the module results. Times are UTC (ISO 8601), durations are seconds.
_Data = Mapping[str, Any]
# The outcome, severity and cause of an incident if the host cannot be reached.
UNREACHABLE = unreachable.UNREACHABLE


def of_run(seen: _Data) -> Dict[str, Any]:
    """Return the outcome of a run that handled an incident. The outcome is plain data.

    seen: host, service, reason, ticket, verdict (verdict.of_run or database_verdict.of_run), record (of the incident),
    escalation (result of the escalation role).
    """
    verdict = seen["verdict"]
    said = verdict["said"]
    return _of_record(
        seen,
        outcome=verdict["outcome"],
        severity=verdict["severity"],
        cause=verdict["cause"],
        # In check mode, no incident is opened, so the length of the outage is unknown.
        seconds=None if seen["record"].get("lasted") is None else float(seen["record"]["lasted"]),
        escalation=seen["escalation"],
        remediation=verdict["remediation"],
        rungs_tried=verdict["tried"],
        rungs_skipped=verdict["skipped"],
        rungs_not_reached=verdict["not_reached"],
        halted=verdict["halted"],
        **_started_for(seen),
        data_loss=said["data_loss"],
        **{name: value for name, value in said.items() if name.startswith("rows_")},
        statements=said["statements"],
        cause_summary=verdict["cause_summary"],
        rung=verdict["rung"],
        evidence=verdict["evidence"] or None,
        backup_file=verdict["backup_file"],
        error=verdict["error"],
        next_step=verdict["next_step"],
        messages=verdict["messages"],
        held_by=verdict["held_by"],
    )


def of_unreachable_host(seen: _Data) -> Dict[str, Any]:
    """Return the outcome of a run that could not reach the host. The outcome is plain data.

    seen: host, service, language, timezone, reason, ticket, escalation, and the record that is kept on the controller.

    - seconds: the length of the outage so far.
    - why: the reason why the host could not be reached. why_message: the same reason as a message.
    - halted: the reason why an earlier step of a workflow ended the ladder.
    """
    why = [
        each.to_dict() for each in messages_of({"why": seen["why"], "messages": {"why": seen["why_message"]}}, "why")
    ]
    return _of_record(
        # This run did not observe that the service answers again, although an earlier run may have observed it.
        {**seen, "record": {**seen["record"], "mitigated_at": None}},
        outcome=UNREACHABLE,
        severity=UNREACHABLE,
        cause=UNREACHABLE,
        seconds=float(seen["seconds"]),
        escalation=seen["escalation"],
        halted=seen["halted"],
        **_started_for(seen),
        **_documents(seen),
        # These values replace the statements of earlier runs, because this run could not check anything on the host.
        data_loss="unknown",
        cause_summary=seen["why"],
        rung=None,
        evidence=None,
        error=seen["why"],
        next_step=unreachable.next_step(str(seen["why"])),
        messages={
            **{name: list(why) for name in ("cause_summary", "error")},
            "next_step": [unreachable.reach(str(seen["why"])).to_dict()],
        },
    )


def of_closed_incident(seen: _Data) -> Dict[str, Any]:
    """Return the outcome of an incident that this run closes after the outage has ended. The outcome is plain data.

    This outcome contains no statement about the data, so that an earlier statement remains valid. data_settled states
    how an earlier doubt about the data was resolved, or is empty. seen contains host, service, language, timezone,
    record and closed_at, and also:

    - cause: the cause, if the record does not contain it.
    - escalation: the result of the escalation role, or None if no one was notified that the outage has ended.
    """
    record = seen["record"]
    # If no one was notified of the incident, no one is notified of its end.
    before = [{**each, "new": False} for each in record["notified"]]
    escalation: _Data = {"to": [], "contacts": [], "notified": before}
    if record["notified"] and seen.get("escalation"):
        escalation = {**seen["escalation"], "rule": None, "level": None, "reason": None}
    return _of_record(
        seen,
        outcome=record["outcome"],
        severity=record.get("severity") or None,
        cause=record.get("cause") or seen.get("cause") or None,
        seconds=record["outage_seconds"],
        escalation=escalation,
        **_documents(seen),
        resolved_at=seen["closed_at"],
        data_settled=statements.settled(record.get("data")),
    )


def without_documents(outcome: _Data, failure: str, settings: Sequence[str]) -> Dict[str, Any]:
    """Return an outcome with the reason why the postmortem was not written.

    failure: the error. settings: the names of the invalid settings. If settings are invalid, the reason contains only
    their names, because the error may quote a secret.
    """
    told = message(
        "reason.failure.not_written",
        why=message("reason.failure.not_usable", names=list(settings)) if settings else quoted(failure),
    )
    known = Reason.read({"error": outcome.get("error"), "messages": outcome.get("messages")}, "error")
    errors = [str(outcome["error"])] if outcome.get("error") else []
    sentences = [each.to_dict() for each in (*known.sentences, told)]
    return {
        **outcome,
        "error": "; ".join([*errors, catalogue.english(told)]),
        "messages": {**(outcome.get("messages") or {}), "error": sentences},
    }


def error_message(outcome: _Data) -> str:
    """Return the error message for a run that did not recover the service."""
    states = {
        UNREACHABLE: "in an unknown state, because its host cannot be reached",
        "login_failed": "serving, login failed",
        "degraded": "serving, but degraded",
    }
    if outcome["rungs_tried"] and str(outcome["rungs_tried"][-1]["rung"]).startswith("database_recovery"):
        why = f"Reason: {outcome['error'] or 'the service did not stay up'}"
    else:
        why = f"Cause: {outcome['cause']}: {outcome['cause_summary']}"
    state = states.get(outcome["outcome"], "not recovered")
    end = "" if why.endswith(".") else "."
    return f"{outcome['service']} on {outcome['host']} is {state}. {why}{end} Next step: {outcome['next_step']}"


def _of_record(
    seen: _Data,
    *,
    seconds: Optional[float],
    remediation: Optional[_Data] = None,
    rungs_tried: Sequence[_Data] = (),
    rungs_skipped: Sequence[_Data] = (),
    rungs_not_reached: Sequence[_Data] = (),
    halted: str = "",
    **decided: Any,
) -> Dict[str, Any]:
    """Return a published.Outcome as plain data, with the times from the incident's record."""
    record = seen["record"]
    return published.Outcome(
        incident=record["id"],
        host=seen["host"],
        service=seen["service"],
        outage_seconds=seconds,
        outage_started_at=record.get("outage_started_at"),
        detected_at=record.get("detected_at"),
        mitigated_at=record.get("mitigated_at"),
        mitigated_from=record.get("mitigated_from"),
        mitigated_estimated=bool(record.get("mitigated_estimated")),
        remediation=remediation or {"applied": [], "refused": []},
        rungs_tried=rungs_tried or [],
        rungs_skipped=rungs_skipped or [],
        rungs_not_reached=rungs_not_reached or [],
        halted=halted,
        **decided,
    ).plain()


def _started_for(seen: _Data) -> Dict[str, Any]:
    return {name: seen.get(name) or "" for name in ("reason", "ticket")}


def _documents(seen: _Data) -> Dict[str, Any]:
    """Return the language and the time zone of the documents. If the postmortem role runs, it sets these two values."""
    return {name: seen.get(name) or None for name in ("language", "timezone")}
