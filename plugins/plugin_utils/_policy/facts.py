# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts on which the decisions in a recovery are based. The facts come from the results of roles.

A time is a string in UTC (ISO 8601).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.outage_window import PROBE
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, messages_of

# The severity and the outcome if the service answers but is not ready.
DEGRADED = "degraded"
# The causes that put the data in doubt (see _triage/run.py).
DATA_CAUSES = ("db_corrupt", "db_unchecked")
# Message IDs for the summary of a finding about damage after a person has released the service.
ACCEPTED, NOT_ACCEPTED = "finding.accepted", "finding.not_accepted"
UNKNOWN_CAUSE: Mapping[str, Any] = {
    "cause": "unknown",
    "summary": "No cause was found.",
    "messages": {"summary": message("reason.no_cause").to_dict()},
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """The observations and actions of a run. Rungs, findings and remedies are in the roles' format."""

    # The detection result.
    severity: str
    healthy: bool = False
    restarted_by_systemd: bool = False
    answers_since: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # Problems that the first probe found, if the service answers. After a rung, the problems are from the
    # verification.
    degraded: Sequence[Reason] = ()
    # True if the service was degraded until a remedy of this run made a change.
    was_degraded: bool = False
    # True if any probe in this incident has found the service down.
    was_down: bool = False
    # True if the open incident's data was in doubt before this run.
    was_in_doubt: bool = False
    # The cause that an earlier run recorded for the open incident, or an empty string.
    cause_before: str = ""
    # True if the database was not found, and no later check has shown that the current database is the same one.
    not_found: bool = False
    # The result of the last triage, and the result of the triage that found the cause of the outage.
    findings: Sequence[Mapping[str, Any]] = ()
    diagnosis: Sequence[Mapping[str, Any]] = ()
    in_doubt: bool = False
    # True if the verification after a rung found database damage that nobody has accepted.
    damaged_since: bool = False
    # When (at) and why (reason) a person accepted all damage that was found, or empty.
    accepted: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # True if a check in this run, or in an earlier step of the workflow, suspects lost rows.
    loss_suspected: bool = False
    # The rungs that this run has tried or skipped.
    tried: Sequence[Mapping[str, Any]] = ()
    skipped: Sequence[Mapping[str, Any]] = ()
    # The attempts by all runs in this incident, from the incident's record.
    attempts: Sequence[Mapping[str, Any]] = ()
    remedies: Sequence[Mapping[str, Any]] = ()
    crash_loop: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    check_mode: bool = False
    # Why the connection to the host was lost, why the recovery stopped, and why an earlier step ended the ladder. Each
    # can be empty.
    lost: str = ""
    error: str = ""
    halted_before: str = ""
    # The reasons as translatable messages, if available.
    messages: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    first_healthy_at: Optional[str] = None
    # The outcome of the previous run, from the incident's record.
    outcome_before: str = ""
    # ID of the incident whose hold prevents the service from being started, or an empty string.
    held_by: str = ""
    act_on: Sequence[str] = ()
    # The rungs that this run is allowed to try.
    rungs: Sequence[str] = ()
    # How the host stores releases, or an empty string if it is unknown. If the value is "none", the playbook cannot
    # roll back.
    release_strategy: str = ""
    # The ansible-playbook options that select the host (see next_steps.target), and the value of nexus_manager. Unknown
    # values are empty.
    target: str = ""
    manager: str = ""
    # The unit if the service is down but systemd will start it, otherwise an empty string. handed_back: True if systemd
    # will start the service because this run took over the unit and hands it back at the end.
    starts_again: str = ""
    handed_back: bool = False

    @property
    def finding(self) -> Mapping[str, Any]:
        """The first finding of the diagnosis, or UNKNOWN_CAUSE if there is none."""
        return next(iter(self.diagnosis), UNKNOWN_CAUSE)

    @property
    def settled(self) -> Mapping[str, Any]:
        """The cause for which an earlier run held the service, if the database is intact now. Otherwise, empty.

        The verification after a rung is the last check. If this check found damage or missing rows, the database is not
        intact.
        """
        still = any(each["cause"] in DATA_CAUSES for each in (*self.diagnosis, *self.findings))
        doubtful = still or self.loss_suspected or self.damaged_since
        if not self.was_in_doubt or doubtful or self.cause_before not in DATA_CAUSES:
            return {}
        told = message("reason.data_sound_again")
        return {
            "cause": self.cause_before,
            "summary": catalogue.english(told),
            "messages": {"summary": told.to_dict()},
        }

    @property
    def not_accepted(self) -> Facts:
        """Return a copy of the facts without the accepted damage and without findings that this damage explains."""
        accepted = [each["cause"] for each in self.diagnosis if acceptance((each,))]
        rest = [each for each in self.diagnosis if not {each["cause"], each.get("explained_by")} & set(accepted)]
        return dataclasses.replace(self, diagnosis=rest, loss_suspected=False, accepted={})

    @property
    def answers(self) -> bool:
        """True if the service answered at the first probe."""
        return self.healthy or self.severity == DEGRADED

    @property
    def held(self) -> str:
        """The rung that succeeded, or an empty string if no rung succeeded."""
        return next((str(each["rung"]) for each in self.tried if each.get("held")), "")

    @property
    def restored(self) -> List[Reason]:
        """The failure reasons of the rungs that returned the service to its previous state."""
        return [Reason.read(each, "reason") for each in self.tried if each.get("restored")]

    def why(self, name: str) -> Reason:
        """Return the field with this name (lost, error or halted_before) as a Reason."""
        return Reason.read({name: getattr(self, name), "messages": self.messages}, name)

    @property
    def started_in_vain(self) -> bool:
        """True if this run has tried a rung, or if a rung of an earlier run started the service but failed."""
        return bool(self.tried) or any(each.get("held") is False and each.get("started") for each in self.attempts)

    @property
    def remediated(self) -> List[str]:
        """The causes for which a remedy in this run succeeded and made a change."""
        return [str(each["cause"]) for each in self.remedies if each.get("changed") and not each.get("failed")]

    @property
    def standing(self) -> List[Mapping[str, Any]]:
        """The current findings. In check mode, findings that a remedy would fix are omitted."""
        would = {each["cause"] for each in self.remedies if self.check_mode and not each.get("failed")}
        return [each for each in self.findings if each["cause"] not in would]


def of_run(seen: Mapping[str, Any]) -> Facts:
    """Return the facts about an outage_recover.yml run.

    seen contains role results: detection, remediation, clean_start, verification. If a role did not run, its result is
    empty.

    - triage, first, diagnosis: the latest triage, the first triage, and the triage that found the cause of the outage.
    - opened: the record of the incident from the time when this run opened or continued the incident.
    - record: the record of the incident, or empty until it is known. hold: the hold that this run has set.
    - before, verified_before: the results that earlier steps of a workflow published.
    - Other keys: check_mode, act_on, rungs, release_strategy, target, manager, tried, skipped, crash_loop, lost, error.
    """
    detection, triage = seen["detection"], seen.get("triage") or {}
    before = seen.get("before") or {}
    state = (triage.get("data") or {}).get("state")
    in_doubt = state == "in_doubt"
    # After a rung, only the verification shows whether the service is ready.
    ready = (seen.get("verification") or detection).get("readiness") or {}
    record = seen.get("record") or {}
    verified = seen.get("verification") or {}
    damaged_since = any(map(_is_new_damage, (verified.get("readiness") or {}).get("problems") or ()))
    doubtful = in_doubt or damaged_since or verified.get("data_loss_suspected")
    return Facts(
        severity=detection["severity"],
        healthy=bool(detection.get("healthy")),
        restarted_by_systemd=bool((detection.get("supervisor") or {}).get("restarted")),
        degraded=[Reason.read(each, "summary") for each in ready.get("problems") or ()],
        answers_since=detection.get("answers_since") or {},
        was_degraded=bool(seen.get("was_degraded")),
        was_down=any(each.get("kind") == "bad" and each.get("source") == PROBE for each in record.get("signs") or ()),
        was_in_doubt=bool(detection.get("data_in_doubt")),
        cause_before=str((seen.get("opened") or {}).get("cause") or ""),
        not_found=state == "not_found",
        findings=triage.get("findings") or [],
        diagnosis=(seen.get("diagnosis") or {}).get("findings") or [],
        in_doubt=in_doubt,
        damaged_since=damaged_since,
        accepted={} if doubtful else acceptance(triage.get("findings") or ()),
        loss_suspected=in_doubt or _suspected(seen),
        tried=seen.get("tried") or [],
        skipped=seen.get("skipped") or [],
        attempts=record.get("attempts") or [],
        remedies=(seen.get("remediation") or {}).get("applied") or [],
        crash_loop=seen.get("crash_loop") or {},
        check_mode=bool(seen.get("check_mode")),
        messages=_messages(seen, before),
        lost=str(seen.get("lost") or ""),
        error=str(seen.get("error") or ""),
        halted_before=str(before.get("halted") or (seen.get("verified_before") or {}).get("halted") or ""),
        first_healthy_at=(seen.get("verification") or {}).get("first_healthy_at"),
        outcome_before=str(record.get("outcome") or ""),
        held_by=str((seen.get("hold") or triage.get("hold") or {}).get("incident") or ""),
        act_on=seen.get("act_on") or [],
        rungs=seen.get("rungs") or [],
        release_strategy=str(seen.get("release_strategy") or ""),
        target=str(seen.get("target") or ""),
        manager=str(seen.get("manager") or ""),
        **_starts_again(triage, record),
    )


def _suspected(seen: Mapping[str, Any]) -> bool:
    """Return True if a role in this run or an earlier step of the workflow suspects data loss."""
    looks = [seen.get(name) or {} for name in ("triage", "clean_start", "verification")]
    before = (seen.get("before") or {}).get("data_loss") == "suspected"
    return before or any(each.get("data_loss_suspected") for each in looks)


def _starts_again(triage: Mapping[str, Any], record: Mapping[str, Any]) -> Dict[str, Any]:
    """Return Facts.starts_again and Facts.handed_back, according to the last triage.

    If a run has taken over a unit that is still stopped, the unit facts show the state before the takeover. A start by
    the run ends the takeover. The first probe and the probe after a rung can take over the unit.
    """
    unit = (triage.get("facts") or {}).get("unit") or {}
    taken = str(unit.get("taken_over_at") or "")
    waits = str(unit.get("sub_state") or "").startswith("auto-restart") and not taken
    # If the unit was taken over before this run began, an earlier run took it over and has already handed it back.
    since = str((record.get("locked_by") or {}).get("since") or "")
    begun = any(str(each.get("at")) >= taken for each in record.get("starts") or ())
    handed_back = bool(taken and since) and taken >= since and not begun
    return {"starts_again": str(unit.get("name") or "") if waits or handed_back else "", "handed_back": handed_back}


def acceptance(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return when and why a person accepted the damage in the findings (at, reason).

    Return an empty mapping if no damage was accepted, or if some of the damage was not accepted.
    """
    told = [sentence for each in findings for sentence in messages_of(each, "summary")]
    if any(each.id == NOT_ACCEPTED for each in told):
        return {}
    accepted = [{name: each.values.get(name) for name in ("at", "reason")} for each in told if each.id == ACCEPTED]
    return next(iter(accepted), {})


def _is_new_damage(problem: Mapping[str, Any]) -> bool:
    """Return True if a problem is database damage that nobody has accepted. problem: from the readiness checks."""
    return problem.get("cause") == "db_corrupt" and not acceptance((problem,))


def _messages(seen: Mapping[str, Any], before: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the messages for `lost`, `error` and `halted_before`, if the run or the earlier steps provide them."""
    told = before if before.get("halted") else seen.get("verified_before") or {}
    return {
        "lost": seen.get("lost_message"),
        "error": seen.get("error_messages"),
        "halted_before": (told.get("messages") or {}).get("halted"),
    }
