# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions in a database recovery: the outcome, the cause and the next step.

The playbook passes the results of its roles (see of_run). The functions in this file only make decisions. They do not
check or change anything. The result has the keys of verdict.of_run that are needed to close an incident.
"""

from __future__ import annotations

import dataclasses
import posixpath
from typing import Any, Dict, List, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    message,
    with_stop,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps, unreachable, verdict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import UNKNOWN_CAUSE
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, messages_of, names
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# The message in the result of a recovery if all lost rows were counted.
_COUNTED = "reason.loss.rows"
# The reason if a method could not be examined because the database is open. In check mode, the service keeps the
# database open.
_OPEN = "reason.restore.open_in"


def of_run(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the verdict on a database_recover.yml run as plain data.

    seen contains role results: detection, triage, recovery, verification. If a role did not run, its result is empty.

    - severity, record: the severity and the record of the incident. The record is empty if it is not known yet.
    - held: True if the verification succeeded. started_at: when the recovery began. check_mode: True in check mode.
    - target: see next_steps.target. options: see next_steps.options. manager: the value of nexus_manager.
    - error, lost: reasons, or empty. error_messages, lost_message: the same reasons as translatable messages.
    """
    recovery, verified = seen.get("recovery") or {}, seen.get("verification") or {}
    triage, record = seen.get("triage") or {}, seen.get("record") or {}
    held, lost = bool(seen.get("held")), str(seen.get("lost") or "")
    serves = not held and bool(verified.get("serves"))
    outcome = _outcome(seen, serves=serves, lost=lost)
    finding = next(iter(triage.get("findings") or []), UNKNOWN_CAUSE)
    error = lost or str(seen.get("error") or "")
    told = seen.get("lost_message") if lost else seen.get("error_messages")
    why = Reason.read({"error": error, "messages": {"error": told}}, "error")
    steps, summary = _next_steps(outcome, seen, lost=lost), Reason.read(finding, "summary")
    tried = [_tried(seen, recovery, serves=serves, why=why)]
    decided = verdict.Verdict(
        outcome=outcome,
        recovered=outcome not in verdict.FAILED,
        failed=outcome in verdict.FAILED,
        severity="unreachable" if outcome == "unreachable" else str(seen["severity"]),
        cause=str(finding["cause"]),
        cause_summary=summary.text,
        rung=str(tried[0]["rung"]) if held else None,
        halted="",
        # If the recovery did not run, the rows were not counted. Therefore, data loss cannot be ruled out.
        loss_suspected=recovery.get("data_loss", statements.UNKNOWN) != statements.NONE,
        error=error or None,
        next_step="\n".join(with_stop(catalogue.english(each)) for each in steps),
        messages={
            "cause_summary": summary.plain(),
            "error": why.plain(),
            "halted": [],
            "next_step": [each.to_dict() for each in steps],
        },
        held_by="",
        mitigated_at=verified.get("first_healthy_at") if outcome in ("recovered", "login_failed") else None,
        mitigated_from=None,
    )
    notified = _as_notified(decided, recovery)
    return {
        **dataclasses.asdict(decided),
        "notified_next_step": verdict.notified_next_step(notified),
        "notified_messages": verdict.notified_messages(notified),
        "later": False,
        "tried": tried,
        "skipped": [],
        "not_reached": [],
        "signs": triage.get("signs") or [],
        "remediation": {"applied": [], "refused": []},
        "evidence": posixpath.dirname(recovery.get("evidence_dir") or "") or triage.get("bundle") or "",
        "backup_file": recovery.get("source"),
        "lost": _lost(recovery, record),
        "said": _statements(seen, outcome, tried, record),
    }


def _as_notified(decided: verdict.Verdict, recovery: Mapping[str, Any]) -> verdict.Verdict:
    """Return the verdict for the notification. In check mode, next_step is the step after a successful recovery."""
    if decided.outcome != "would_recover":
        return decided
    lossless = recovery.get("data_loss") == statements.NONE
    step = message("next_step.recovered") if lossless else _loss(recovery)
    messages = {**decided.messages, "next_step": [step.to_dict()]}
    return dataclasses.replace(decided, next_step=with_stop(catalogue.english(step)), messages=messages)


def _tried(seen: Mapping[str, Any], recovery: Mapping[str, Any], *, serves: bool, why: Reason) -> Dict[str, Any]:
    """Return the database recovery as an entry for the list of tried rungs. why: the error, or an empty reason."""
    held = bool(seen.get("held"))
    return {
        "rung": f"database_recovery by {recovery.get('method') or 'no method'}",
        "started_at": seen.get("started_at"),
        "held": held,
        "halted": not (held or recovery.get("replaced")),
        "serves": serves,
        "reason": why.text,
        "messages": {"reason": why.plain()},
    }


def _rows_are_missing(seen: Mapping[str, Any]) -> bool:
    """Return True if triage found fewer rows in an undamaged database, and the recovery did not replace it."""
    recovery = seen.get("recovery") or {}
    kept = bool(recovery.get("healthy_before")) and not recovery.get("replaced")
    return kept and bool((seen.get("triage") or {}).get("rows_missing"))


def _outcome(seen: Mapping[str, Any], *, serves: bool, lost: str) -> str:
    """Return the outcome, which is determined by the first rule that applies."""
    held, check_mode = bool(seen.get("held")), bool(seen.get("check_mode"))
    # If a person must first decide about missing rows, a healthy service is not stopped.
    not_stopped = check_mode or (seen.get("recovery") or {}).get("stopped") is False
    serves_still = not_stopped and bool((seen.get("detection") or {}).get("healthy"))
    rules = (
        ("would_recover", held and check_mode),
        ("recovered", held),
        ("login_failed", serves),
        ("unreachable", bool(lost)),
        ("data_in_doubt", serves_still and _rows_are_missing(seen)),
    )
    return next((outcome for outcome, applies in rules if applies), "not_recovered")


def _next_steps(outcome: str, seen: Mapping[str, Any], *, lost: str) -> List[Message]:
    recovery = seen.get("recovery") or {}
    if outcome == "unreachable":
        return [unreachable.reach(lost)]
    chosen, manager = str(seen.get("target") or ""), str(seen.get("manager") or "")
    if outcome == "data_in_doubt":
        return next_steps.to_database("fewer_rows", target=chosen, manager=manager)
    if outcome == "would_recover":
        run = next_steps.command(next_steps.DATABASE, chosen, str(seen.get("options") or ""))
        return next_steps.guarded([message("next_step.database.would_recover", command=run)], manager=manager)
    if outcome == "not_recovered":
        return _other_method(seen, recovery, target=chosen, manager=manager)
    if outcome == "recovered" and recovery.get("data_loss") != statements.NONE:
        return [_loss(recovery)]
    again = message("next_step.command", command=next_steps.command("outage_recover.yml", chosen))
    return [message(f"next_step.{outcome}"), *([again] if outcome == "login_failed" else [])]


def _loss(recovery: Mapping[str, Any]) -> Message:
    statement, kept = messages_of(recovery, "statement"), recovery.get("kept")
    if kept:
        return message("next_step.database.loss", statement=statement, kept=str(kept))
    return message("next_step.database.loss_in_evidence", statement=statement)


def _other_method(seen: Mapping[str, Any], recovery: Mapping[str, Any], *, target: str, manager: str) -> List[Message]:
    """Return the next steps after an unsuccessful recovery. recovery.possible: the methods that the plan allows."""
    undecided = _rows_are_missing(seen)
    possible = [each for each in recovery.get("possible") or [] if undecided or each != recovery.get("method")]
    run = next_steps.command(next_steps.DATABASE, target)
    if seen.get("check_mode") and not undecided and names(recovery.get("messages"), _OPEN):
        run = next_steps.command(next_steps.DATABASE, target, str(seen.get("options") or ""))
        return next_steps.guarded([message("next_step.database.examine_again", command=run)], manager=manager)
    if possible:
        # A checkpoint does not restore missing rows, but a backup may contain them.
        method = next(each for each in ("backup", *possible) if each in possible) if undecided else possible[0]
        options = next_steps.options({"database_recovery_method": method}, "")
        if undecided:
            return next_steps.to_database("fewer_rows_possible", target=target, manager=manager, options=options)
        run = next_steps.command(next_steps.DATABASE, target, options)
    which = "other_method" if possible else "not_recovered" if recovery.get("possible") is None else "no_other_method"
    values = {} if which == "no_other_method" else {"command": run}
    return next_steps.guarded([message(f"next_step.database.{which}", **values)], manager=manager)


def _lost(recovery: Mapping[str, Any], record: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the number of rows that this run and earlier runs lost, and whether the number is exact."""
    lost = verdict.lost_before(record)
    if not recovery.get("replaced"):
        return lost
    rows = int(sum((recovery.get("rows_lost") or {}).values()))
    told = {each.id for each in messages_of(recovery, "statement")}
    # If the record could be written, it already includes the rows that this run lost.
    exact = rows >= lost["rows"] and told == {_COUNTED} and not (record.get("data") or {}).get("lost_again")
    return {"rows": max(rows, lost["rows"]), "exact": exact}


def _statements(
    seen: Mapping[str, Any], outcome: str, tried: List[Dict[str, Any]], record: Mapping[str, Any]
) -> Dict[str, Any]:
    recovery = seen.get("recovery") or {}
    return statements.of_run(
        {
            "outcome": outcome,
            "healthy": (seen.get("detection") or {}).get("healthy"),
            "tried": tried,
            "verification": seen.get("verification"),
            "last": seen.get("triage"),
            "starts": record.get("starts"),
            "attempts": record.get("attempts"),
            "data": record.get("data"),
            "recovery": recovery,
            "suspected": _rows_are_missing(seen),
            "changes": [] if seen.get("check_mode") else [recovery],
        }
    )
