# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions in a recovery: the actions that the run may take, the outcome, and the notifications.

The decisions about rungs are in rungs.py, and the next steps for a person are in steps_after_run.py.

The playbook passes the results of its roles (see facts.py). The functions in this file only make decisions. They do not
check or change anything.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, with_stop
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import facts as recovery_facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps, rungs, steps_after_run
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import DEGRADED, Facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, joined, once
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# Outcomes after which the playbook fails: the service does not work as it should, or its state is unknown.
FAILED = (DEGRADED, "login_failed", "data_in_doubt", "not_recovered", "unreachable")
# All possible outcomes of a run, in the order in which the summary shows them.
OUTCOMES = (
    *("recovered", "recovered_by_systemd", "would_recover", "warning"),
    *(DEGRADED, "data_in_doubt", "login_failed"),
    *("not_recovered", "unreachable"),
)
# If the first probe returns one of these severities, the run reports the severity, even if outage_recover_act_on does
# not list it.
_REPORTED = (DEGRADED, "warning", "critical", "emergency", "unreachable")
# Causes that can be remediated while the service answers.
_WHILE_SERVING = ("db_locked", "disk_full")
# Only a run with one of these outcomes can prevent later steps of a workflow from trying a rung.
_ENDED = ("login_failed", "not_recovered", "unreachable")

# The last parts of the message IDs for next steps. The first five next steps have conditions. If none of these
# conditions is met, the outcome determines the next step.
NEXT_STEPS = (
    *("data_loss", "login_failed", "degraded_database", "halted", "helpless"),
    *(each for each in OUTCOMES if each != "login_failed"),
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of a run."""

    outcome: str
    recovered: bool
    failed: bool
    severity: str
    cause: str
    cause_summary: str
    rung: Optional[str]
    halted: str
    loss_suspected: bool
    error: Optional[str]
    next_step: str
    # cause_summary, error, halted and next_step, each as a list of translatable messages.
    messages: Dict[str, List[Dict[str, Any]]]
    held_by: str
    # The time when the service began to serve requests again, and the source of this time. The time and the source are
    # None if this run did not observe the end of the outage.
    mitigated_at: Optional[str]
    mitigated_from: Optional[str]


@dataclasses.dataclass(frozen=True)
class Course:
    """The decision after the first probe.

    idle: True if the run ends now. acting: True if rungs are allowed. remedying: True if remedies are allowed. If
    outage_recover_act_on is empty, a run only notifies the contacts. It does not change anything, not even on a
    degraded service.
    """

    idle: bool
    acting: bool
    remedying: bool


def course(detection: Mapping[str, Any], act_on: Sequence[str], halted_before: str = "") -> Dict[str, Any]:
    """Return the Course of a run as plain data.

    If systemd has restarted the service, the run does not stop or start it again, even if the outage was severe.
    """
    severity = detection["severity"]
    open_matter = halted_before or detection.get("data_in_doubt") or detection.get("hold")
    restarted = (detection.get("supervisor") or {}).get("restarted")
    acting = severity in act_on and not restarted
    decided = Course(
        idle=severity not in (*act_on, *_REPORTED) and not open_matter,
        acting=acting,
        remedying=acting or (severity == DEGRADED and bool(act_on)),
    )
    return dataclasses.asdict(decided)


def remediable(findings: Sequence[Mapping[str, Any]], severity: str) -> List[Mapping[str, Any]]:
    """Return the findings for the remediation role.

    A degraded service is not stopped, so only some of the causes can be remediated. Findings that block the start of
    the service have no remedy, but limit the other remedies. For example, if the database is damaged, no remedy removes
    a copy of the database.
    """
    if severity != DEGRADED:
        return list(findings)
    return [each for each in findings if each["cause"] in _WHILE_SERVING or each.get("blocks_start")]


def judge(facts: Facts) -> Verdict:
    """Return the verdict of the run."""
    outcome = _outcome(facts)
    halted = _halted(facts, outcome)
    by_itself = outcome in ("recovered", "warning", "recovered_by_systemd") and not facts.tried
    by_a_rung = outcome in ("recovered", "login_failed", DEGRADED) and bool(facts.tried)
    # After a person has repaired the database, triage may find only that the service is stopped. This finding is not
    # the cause of the incident.
    finding = (facts.settled if outcome == "recovered" else {}) or facts.finding
    steps, summary = steps_after_run.of_outcome(facts, outcome, halted=halted), rungs.summary(finding)
    error = facts.why("lost") if facts.lost else facts.why("error") if facts.error else _kept_down(facts)
    if outcome == DEGRADED:
        accepted = joined([rungs.summary(each) for each in facts.diagnosis if recovery_facts.acceptance((each,))])
        error = joined(facts.degraded) if facts.degraded else error if error.text else accepted
    at = facts.first_healthy_at if by_a_rung else facts.answers_since.get("at") if by_itself else None
    return Verdict(
        outcome=outcome,
        recovered=outcome not in FAILED,
        failed=outcome in FAILED,
        severity=_severity(facts, outcome),
        cause=str(finding["cause"]),
        cause_summary=summary.text,
        rung=facts.held or None,
        halted=halted.text,
        loss_suspected=facts.loss_suspected,
        error=error.text or None,
        next_step="\n".join(with_stop(catalogue.english(each)) for each in steps),
        messages={
            "cause_summary": summary.plain(),
            "error": error.plain(),
            "halted": halted.plain(),
            "next_step": [each.to_dict() for each in steps],
        },
        held_by=facts.held_by,
        mitigated_at=at,
        mitigated_from=facts.answers_since.get("source") if by_itself else None,
    )


def _severity(facts: Facts, outcome: str) -> str:
    if outcome == "unreachable":
        return outcome
    return DEGRADED if facts.was_degraded else facts.severity


def _outcome(facts: Facts) -> str:
    """Return the outcome, which is determined by the first rule that applies."""
    nothing_before = not facts.halted_before
    # True if an earlier verdict still applies: the earlier run stopped the service because the database is in doubt,
    # and this run has not tried a rung.
    doubted_before = facts.outcome_before == "data_in_doubt" and not facts.tried
    # A degraded service still answers. Therefore, the run does not stop it, even if the database is damaged.
    degraded = facts.severity == DEGRADED and not facts.tried
    # False if an earlier run found the service down and its data in doubt. The earlier run may have been killed before
    # its verdict.
    answered = facts.outcome_before in ("", DEGRADED) and not (facts.was_down and facts.was_in_doubt)
    back = bool(facts.held or facts.restored)
    rules = (
        ("would_recover", facts.check_mode and bool(facts.held)),
        # A healthy response after a start does not show whether rows are missing.
        ("data_in_doubt", facts.in_doubt and back),
        # If a person has accepted the damage, the record shows the acceptance as long as the incident is open.
        (DEGRADED, back and bool(facts.degraded or facts.accepted)),
        ("recovered", back),
        ("unreachable", bool(facts.lost)),
        (DEGRADED, (degraded or (facts.was_degraded and facts.healthy and facts.in_doubt)) and answered),
        (DEGRADED, facts.answers and facts.outcome_before == DEGRADED and facts.in_doubt),
        ("data_in_doubt", (facts.in_doubt or facts.not_found) and (facts.answers or doubted_before)),
        (DEGRADED, degraded or bool(facts.healthy and facts.restarted_by_systemd and facts.degraded)),
        ("recovered_by_systemd", facts.healthy and facts.restarted_by_systemd and nothing_before),
        ("recovered", facts.healthy and (facts.was_in_doubt or facts.was_degraded)),
        ("login_failed", any(each.get("serves") for each in facts.tried)),
        ("warning", facts.healthy and not facts.tried and nothing_before),
    )
    return next((outcome for outcome, applies in rules if applies), "not_recovered")


def _halted(facts: Facts, outcome: str) -> Reason:
    """Return the reason why later steps must not try a rung. If they may try one, the reason is empty."""
    if outcome == DEGRADED:
        return Reason.of(message("reason.degraded"))
    if outcome not in _ENDED:
        return rungs.NO_REASON
    if facts.halted_before:
        return facts.why("halted_before")
    reasons = [Reason.read(each, "reason") for each in facts.tried if each.get("halted")]
    if reasons and reasons[-1].text:
        return reasons[-1]
    suspected = facts.loss_suspected and not facts.accepted
    return Reason.of(message("reason.data_loss_suspected")) if suspected else rungs.NO_REASON


def _kept_down(facts: Facts) -> Reason:
    """If a rung failed and restored the previous state, return the reason for its failure.

    Otherwise, return why no rung was tried.
    """
    restored = next(iter(facts.restored), rungs.NO_REASON)
    return restored if restored.text else rungs.why_no_rung(facts)


def of_run(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the results of judge() and rung() as plain data, with the statements from statements.of_run().

    seen contains the keys that facts.of_run expects, and also:

    - rung: the name of the next rung, or empty if there is none.
    - was_degraded: True if the service was degraded until a remedy in this run made a change.
    - responded: True if a first response was sent to the host.
    - stopped: True if this run stopped the service because the data is in doubt.
    - policy_problem: why the remedy policy is invalid, or empty if it is valid.
    - continued: True if a later step of a workflow is allowed to try one of the rungs.
    """
    facts = recovery_facts.of_run(seen)
    verdict = judge(facts)
    record, triage, detection = seen.get("record") or {}, seen.get("triage") or {}, seen["detection"]
    remedies = seen.get("remediation") or {"applied": [], "refused": _policy(facts, seen.get("policy_problem"))}
    changes = [facts.tried, [each for each in remedies["applied"] if each.get("changed")], triage.get("hold")]
    changes += [triage.get("released")]
    changes += [detection.get("takeover"), seen.get("stopped")]
    said = statements.of_run(
        {
            "outcome": verdict.outcome,
            "healthy": facts.answers,
            "tried": facts.tried,
            "verification": seen.get("verification"),
            "clean_start": seen.get("clean_start"),
            "first": seen.get("first"),
            "last": triage,
            "starts": record.get("starts"),
            "attempts": record.get("attempts"),
            "data": record.get("data"),
            "suspected": facts.loss_suspected,
            "accepted": facts.accepted,
            "stopped": seen.get("stopped"),
            "responded": seen.get("responded"),
            "changes": [] if facts.check_mode else changes,
        }
    )
    return {
        **dataclasses.asdict(verdict),
        **dataclasses.asdict(rungs.rung(facts, str(seen.get("rung") or ""))),
        "notified_next_step": notified_next_step(verdict),
        "notified_messages": {
            **notified_messages(verdict),
            "data_loss": _why_suspected(facts, said),
            **((triage.get("data_evidence") or {}).get("messages") or {}),
        },
        "later": bool(seen.get("continued")),
        "tried": list(facts.tried),
        "skipped": list(facts.skipped),
        "not_reached": rungs.not_reached(facts, failed=verdict.failed),
        # Only the first triage shows when the outage began. Later triage runs after a failed rung and finds the service
        # down again.
        "signs": (seen.get("first") or {}).get("signs") or [],
        "said": said,
        "remediation": remedies,
        "backup_file": (seen.get("clean_start") or {}).get("backup_file"),
        "lost": lost_before(record),
        "evidence": re.sub(r"/pass-[0-9]+$", "", str(triage.get("bundle") or "")),
    }


def lost_before(record: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the number of counted rows that were lost in the database recoveries of this incident.

    exact: always False, because more rows may have been lost.
    """
    return {"rows": int((record.get("data") or {}).get("rows_lost") or 0), "exact": False}


def notified_next_step(verdict: Verdict) -> str:
    """Return the next step for a notification.

    If the service is held, this step also mentions the hold, because no other line of the notification does.
    """
    held = [with_stop(catalogue.english(_held(verdict)))] if verdict.held_by else []
    return "\n".join([verdict.next_step, *held])


def notified_messages(verdict: Verdict) -> Dict[str, List[Dict[str, Any]]]:
    """Return the messages of a notification: cause_summary, and next_step with the hold."""
    held = [_held(verdict).to_dict()] if verdict.held_by else []
    return {
        "cause_summary": verdict.messages["cause_summary"],
        "next_step": [*verdict.messages["next_step"], *held],
    }


def _why_suspected(facts: Facts, said: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the findings and the row counts that suggest data loss. said: the result of statements.of_run.

    If no data loss is suspected, or if only another check suggests it, return an empty list.
    """
    if said["data_loss"] != statements.SUSPECTED:
        return []
    found = [
        rungs.summary(each)
        for each in (*facts.findings, *facts.diagnosis)
        if each["cause"] in recovery_facts.DATA_CAUSES and each.get("blocks_start") and not each.get("explained_by")
    ]
    if said["rows_from"] == statements.FIRST_LOOK:
        fewer = statements.rows_fewer(said["rows_before"], said["rows_after"])
        tables = [f"{table} {int(was)} -> {int(now)}" for table, (was, now) in fewer.items()]
        found += [Reason.of(message("reason.fewer_rows", tables=tables))] if tables else []
    return joined(once(found)).plain()


def _held(verdict: Verdict) -> Message:
    running = verdict.outcome == DEGRADED
    return next_steps.held(verdict.messages["next_step"], incident=verdict.held_by, running=running)


def summary(ended: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the number of hosts in a run, and the names of the hosts by outcome.

    ended: hosts (all names), outcomes (each with host and outcome), failed (names of hosts that ended with an error). A
    host without an outcome and without an error was healthy.
    """
    names = {
        outcome: [each["host"] for each in ended["outcomes"] if each["outcome"] == outcome] for outcome in OUTCOMES
    }
    decided = {each["host"] for each in ended["outcomes"]}
    stopped = sorted(set(ended["failed"]) - decided, key=str.lower)
    healthy = sorted(set(ended["hosts"]) - decided - set(stopped), key=str.lower)
    return {"hosts": len(ended["hosts"]), "healthy": healthy, **names, "stopped": stopped}


def _policy(facts: Facts, problem: Optional[str]) -> List[Dict[str, Any]]:
    """Return a list with one refused remedy, whose reason is the problem with the remedy policy.

    The list is empty if the policy is valid, or if the severity is not in outage_recover_act_on.
    """
    if not problem or facts.severity not in facts.act_on:
        return []
    return [{"cause": facts.finding["cause"], "reason": problem}]
