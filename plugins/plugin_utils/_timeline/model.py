# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF009 - each call makes a new field.

"""The data that the documents show for one incident on one host.

The schema of the JSON document is generated from these classes.

Times are UTC (ISO 8601, milliseconds, Z), durations are in seconds, sizes in bytes. None means unknown.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder as recovery_ladder
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

VERSION = 1

# The rungs of the ladder, and the recovery that only a person can start.
RUNGS = (*recovery_ladder.RUNGS, "database_recovery")

# Possible weights of a step. A step with the weight DETAIL is not in the short timeline.
CHANGE, FAILURE, DECISION, DETAIL = "change", "failure", "decision", "detail"

# Outcomes after which the service is healthy again: a run recovered it, systemd or our timer on the host restarted it,
# or a person repaired it.
BACK = ("recovered", "recovered_by_systemd", "resolved_manually")
# The outcome if the service answers, but its database is not known to be intact.
IN_DOUBT = "data_in_doubt"
OUTCOMES = (
    *BACK,
    IN_DOUBT,
    "login_failed",
    "degraded",
    "not_recovered",
    "warning",
    "healthy",
    "would_recover",
    "unreachable",
    "unfinished",
)


def _says(doc: str) -> Any:
    # This function is called only in the bodies of data classes, so the linter's warning does not apply.
    return dataclasses.field(metadata={"doc": doc})  # pylint: disable=invalid-field-call


@dataclasses.dataclass
class Step:
    """A step of a run."""

    at: str = _says("When the step began.")
    run: str = _says("The run that contains the step.")
    kind: str = _says("The kind of the event in the timeline: task, run_start, outcome, unreachable or retry.")
    weight: str = _says("The type of step: a change, a failure, a decision or a detail.")
    role: Optional[str] = _says("The outermost role that contains the step.")
    action: Optional[str] = _says("Full name of the module.")
    task: Optional[str] = _says("The task's name in the playbook.")
    status: Optional[str] = _says("ok, changed, failed or ignored.")
    seconds: Optional[float] = _says("The duration of the step.")
    data: Dict[str, Any] = _says("The allowlisted keys of the result.")
    message: Optional[str] = _says("The reason why the step failed.")


@dataclasses.dataclass
class Rung:
    """A rung of the ladder that was tried."""

    rung: str = _says("The role of the rung.")
    held: Optional[bool] = _says("True if the rung succeeded, or null if unknown.")
    halted: Optional[bool] = _says("True if the rung ended the ladder.")
    serves: Optional[bool] = _says("True if the service answered afterwards and only the login check failed.")
    restored: Optional[bool] = _says("True if the rung failed and the service runs in its previous state.")
    reason: Optional[str] = _says("The reason why the rung failed.")
    messages: Dict[str, Any] = _says("The reason as translatable messages, each with id and values.")
    started_at: Optional[str] = _says("When the rung began.")
    seconds: Optional[float] = _says("The duration of the rung, including its verification.")
    run: str = _says("The run that tried the rung.")


@dataclasses.dataclass
class Skip:
    """A rung that was skipped."""

    rung: str = _says("The role of the rung.")
    reason: Optional[str] = _says("The reason why the rung could not have helped.")
    messages: Dict[str, Any] = _says("The reason as translatable messages, each with id and values.")
    at: Optional[str] = _says("When the rung was skipped.")
    run: str = _says("The run that skipped the rung.")


@dataclasses.dataclass
class NotReached:
    """A rung that was neither tried nor skipped."""

    rung: str = _says("The role of the rung.")
    reason: Optional[str] = _says("The reason why the run did not reach the rung.")
    messages: Dict[str, Any] = _says("The reason as translatable messages, each with id and values.")
    run: str = _says("The run that did not reach the rung.")


@dataclasses.dataclass
class Remedy:
    """The remedy that was applied to a cause before the ladder, or the reason why no remedy was applied."""

    cause: str = _says("The finding's cause.")
    action: Optional[str] = _says("The action, or null if no action was allowed.")
    changed: bool = _says("True if the action changed something.")
    failed: bool = _says("True if the action failed.")
    detail: List[str] = _says("The details of the action.")
    reason: Optional[str] = _says("The reason why no action was taken.")
    messages: Dict[str, Any] = _says("action, detail and reason as translatable messages, each with id and values.")
    seconds: Optional[float] = _says("The duration of the action.")
    run: str = _says("The run that decided on the remedy.")


@dataclasses.dataclass
class Run:
    """One run of a playbook on this incident."""

    run: str = _says("The name of the run. Its timeline is <run>.jsonl.")
    playbook: Optional[str] = _says("The playbook's file.")
    core: Optional[str] = _says("Version of ansible-core.")
    job: Optional[str] = _says("URL of the AWX job, or null if the run was not an AWX job.")
    started_at: str = _says("When the run began.")
    last_event_at: str = _says("The time of the run's verdict or, without a verdict, of the last recorded event.")
    complete: bool = _says("False if the run was killed before it reached a verdict.")
    released: bool = _says("True if the run only released a hold, without trying a rung.")
    last_task: Optional[str] = _says("The last task that began.")
    last_action: Optional[str] = _says("Full name of the module of last_task.")


@dataclasses.dataclass
class Times:
    """The times in the incident. The outage began between last_good_at and started_at."""

    last_good_at: Optional[str] = _says("The time of the last sign that the service worked.")
    started_at: Optional[str] = _says(
        "The time of the first sign of the outage. The durations of the outage and its phases begin at this time."
    )
    started_from: Optional[str] = _says("The source of started_at.")
    detected_at: Optional[str] = _says("When the outage was detected.")
    mitigated_at: Optional[str] = _says("The time of the service's first healthy response after the outage.")
    mitigated_from: Optional[str] = _says("The source of mitigated_at.")
    mitigated_estimated: bool = _says(
        "True if mitigated_at is an estimate, because no run saw the first healthy response."
    )
    resolved_at: Optional[str] = _says("When the incident was closed, after the verification.")
    clocks_apart: Optional[float] = _says(
        "Seconds by which the host's clock is ahead of the controller's clock. The value is negative if the host's "
        "clock is behind, and null if the difference is at most 2 seconds."
    )


@dataclasses.dataclass
class Durations:
    """Durations in seconds, each measured from started_at."""

    outage: Optional[float] = _says(
        "From started_at to the first healthy response or, if there is none yet, to the verdict."
    )
    detect: Optional[float] = _says("Time to detect: to detected_at.")
    mitigate: Optional[float] = _says("Time to mitigate: to mitigated_at.")
    resolve: Optional[float] = _says("Time to resolve: to resolved_at.")
    uncertain: Optional[float] = _says(
        "The time from last_good_at to started_at. The outage may have been longer by this time."
    )


@dataclasses.dataclass
class Impact:
    """The users and requests that the outage affected, measured after it ended."""

    users: Optional[int] = _says("The number that the query for affected users returned.")
    users_unknown: Optional[str] = _says("The reason why the number of affected users is not known.")
    requests: Optional[int] = _says("Number of requests in the logs during the outage.")
    requests_failed: Optional[int] = _says("Number of requests that were answered with 5xx.")
    requests_from: Optional[str] = _says("The logs in which the requests were counted, separated by commas.")
    requests_unknown: Optional[str] = _says("The reason why the numbers of requests are not known.")
    messages: Dict[str, Any] = _says(
        "users_unknown and requests_unknown as translatable messages, each with id and values."
    )


@dataclasses.dataclass
class Incident:
    """The data that the documents show for one incident on one host."""

    schema: int = _says("Version of this schema. It changes only if an old program would misread the document.")
    incident: str = _says("ID of the incident.")
    host: str = _says("The host's name in the inventory.")
    service: Optional[str] = _says("The service on the host.")
    language: Optional[str] = _says("The language of the documents.")
    timezone: Optional[str] = _says("The time zone of the service.")
    reason: Optional[str] = _says(
        "The reason for starting the playbook, as specified by the person or rule that started it."
    )
    ticket: Optional[str] = _says("The ticket that was specified when the playbook started.")
    outcome: str = _says("The outcome.")
    source: str = _says("verdict if a run published its verdict, events if the outcome is derived from the events.")
    severity: Optional[str] = _says("degraded, warning, critical or emergency.")
    cause: Optional[str] = _says("The most likely cause.")
    cause_summary: Optional[str] = _says("A sentence that describes the cause.")
    rung: Optional[str] = _says("The rung that succeeded.")
    rungs_tried: List[Rung] = _says("The rungs that were tried, in chronological order.")
    rungs_skipped: List[Skip] = _says("The rungs that were skipped because they could not have helped.")
    rungs_not_reached: List[NotReached] = _says(
        "After a failed recovery that tried or skipped a rung: the rungs that the recovery did not reach."
    )
    remedies: List[Remedy] = _says("The remedies for the causes, before the ladder.")
    times: Times = _says("The times in the incident.")
    durations: Durations = _says("The durations of the incident.")
    impact: Impact = _says("The users and requests that were affected.")
    data_loss: str = _says("none, suspected, known or unknown.")
    rows_before: Dict[str, float] = _says("Number of rows in each table before the first change.")
    rows_from: str = _says("Source of rows_before: first_look (the first triage) or last_good (the last verified run).")
    rows_after: Dict[str, float] = _says("Number of rows in each table afterwards.")
    rows_seeded: Dict[str, float] = _says(
        "Current row counts of tables that were empty before the outage. After a database recovery: row counts of "
        "tables that were empty before the service started. The service may have filled these tables when it started."
    )
    rows_seeded_removal: List[str] = _says(
        "The command to run on the host to remove the rows that the service created when it started."
    )
    rows_replaced: bool = _says("True if rows_after was counted in a new database that replaced the earlier one.")
    rows_stale: bool = _says("True if the service was started after rows_after was counted.")
    statements: Dict[str, Any] = _says("The statements of docs/statements.md, with their values and any reasons.")
    login: Optional[str] = _says("checked, failed, rate_limited, no_password or no_answer, or null if not verified.")
    login_error: Optional[str] = _says("The reason why the login failed.")
    backup_file: Optional[str] = _says("Path of the database backup on the host.")
    database_kept: Optional[str] = _says("The damaged database on the host.")
    modules_kept: Optional[str] = _says("The replaced node_modules on the host.")
    escalation: Dict[str, Any] = _says(
        "The notifications: level, to (contacts to notify), names (by contact), `notified` (each notification; new is"
        " true if the last run sent it), reason. If the last run has no verdict: `unreached` (contacts that no"
        " notification has reached)."
    )
    evidence: Optional[str] = _says("The evidence folder on the host.")
    database_copied: Optional[str] = _says(
        "The folder on the host that contains the latest copy of the files of a database in doubt."
    )
    database_copies: List[str] = _says(
        "All folders on the host that contain copies of the files of a database in doubt, oldest copy first."
    )
    database_not_copied: Optional[str] = _says("The reason why the files of a database in doubt were not copied.")
    record_in_memory: Optional[str] = _says(
        "The folder in the host's memory that contains the record. A reboot deletes this folder."
    )
    error: Optional[str] = _says("The error that stopped the recovery.")
    next_step: Optional[str] = _says("The next step for a person.")
    messages: Dict[str, Any] = _says(
        "cause_summary, database_not_copied, error, login_error and next_step as translatable messages, each with id"
        " and values."
    )
    held_by: Optional[str] = _says("The incident that still holds the service at the end of the run, if any.")
    findings: List[Dict[str, Any]] = _says("Causes, most likely first, with their evidence.")
    resources: Dict[str, Any] = _says("The state of the disk, the memory and the log at the first triage.")
    changes: Dict[str, Any] = _says(
        "The changes since the last healthy run (since), most likely cause first. See RETURN of triage_info."
    )
    probe: Dict[str, Any] = _says("The first health probe that failed.")
    database: Dict[str, Any] = _says("The last check of the database.")
    runs: List[Run] = _says("The runs that worked on this incident.")
    steps: List[Step] = _says("All steps, in chronological order.")

    def rows_lost(self) -> Dict[str, Tuple[float, float]]:
        """Map each table that has fewer rows than before to its counts (before, after).

        A missing table counts as 0 rows.
        """
        return statements.rows_fewer(self.rows_before, self.rows_after)

    @property
    def answered(self) -> bool:
        """True if the incident is not an outage: the service never stopped answering, but is or was degraded."""
        degraded = self.severity == "degraded" and not self.rungs_tried
        return degraded and self.outcome in ("degraded", "recovered", "resolved_manually")

    def stated(self, name: str) -> str:
        """Return the value of a statement about the service."""
        return str((self.statements.get(name) or {}).get("value") or statements.UNKNOWN)


def to_json(incident: Incident) -> str:
    """Return an incident as JSON, with one key or one list item per line. See _report/schema.py."""
    encode = json.JSONEncoder(default=vars, ensure_ascii=False).encode

    def told(value: Any) -> str:
        # The encoder of the json module is slow if indentation is enabled.
        members = ",\n".join(f"    {encode(member)}" for member in value) if isinstance(value, list) else ""
        return f"[\n{members}\n  ]" if members else encode(value)

    return "{\n" + ",\n".join(f"  {encode(key)}: {told(value)}" for key, value in vars(incident).items()) + "\n}\n"
