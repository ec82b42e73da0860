# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF009 - what is called makes a field of its own each time.

"""What the documents tell of one incident on one host; what M(document_schema) makes of it describes the JSON document.

Instants are UTC (ISO 8601, milliseconds, C(Z)), durations seconds, sizes bytes; C(None) stands for what is not known.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder as recovery_ladder
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

VERSION = 1

# Those of the ladder, and what a person starts.
RUNGS = (*recovery_ladder.RUNGS, "database_recovery")

# Why a step stands in the short timeline.
CHANGE, FAILURE, DECISION, DETAIL = "change", "failure", "decision", "detail"

# The service is back: by a run, by systemd's automatic restart or our timer on the host, or by a person.
BACK = ("recovered", "recovered_by_systemd", "mended_by_hand")
# The service answers, but its database is not known to be sound.
IN_DOUBT = "data_in_doubt"
OUTCOMES = (
    *BACK,
    IN_DOUBT,
    "login_failed",
    "not_recovered",
    "warning",
    "healthy",
    "would_recover",
    "unreachable",
    "unfinished",
)


def _says(doc: str) -> Any:
    # Called in the bodies of data classes only.
    return dataclasses.field(metadata={"doc": doc})  # pylint: disable=invalid-field-call


@dataclasses.dataclass
class Step:
    """Something that was done."""

    at: str = _says("When it began.")
    run: str = _says("The run that did it.")
    kind: str = _says("The kind of its event in the timeline: task, run_start, outcome, unreachable or retry.")
    weight: str = _says("Whether it changed something, failed, decided something or is a detail.")
    role: Optional[str] = _says("The outermost role that it belongs to.")
    action: Optional[str] = _says("Full name of the module.")
    task: Optional[str] = _says("The task's name as it stands in the playbook.")
    status: Optional[str] = _says("ok, changed, failed or ignored.")
    seconds: Optional[float] = _says("How long it took.")
    data: Dict[str, Any] = _says("What its result said, by the whitelist.")
    message: Optional[str] = _says("Why it failed.")


@dataclasses.dataclass
class Rung:
    """A rung of the ladder that was tried."""

    rung: str = _says("Its role.")
    held: Optional[bool] = _says("Whether the service stayed up; null where nothing says so.")
    halted: Optional[bool] = _says("Whether it ended the climb.")
    serves: Optional[bool] = _says("Whether the service answered afterwards and only the login check failed.")
    restored: Optional[bool] = _says("Whether it failed and the service holds as it was before.")
    reason: Optional[str] = _says("Why it did not hold.")
    messages: Dict[str, Any] = _says("The reason for other languages: id and values.")
    started_at: Optional[str] = _says("When it was begun.")
    seconds: Optional[float] = _says("How long it took, its verification included.")
    run: str = _says("The run that tried it.")


@dataclasses.dataclass
class Skip:
    """A rung that was not climbed."""

    rung: str = _says("Its role.")
    reason: Optional[str] = _says("Why it could not have helped.")
    messages: Dict[str, Any] = _says("The reason for other languages: id and values.")
    at: Optional[str] = _says("When that was decided.")
    run: str = _says("The run that decided it.")


@dataclasses.dataclass
class Remedy:
    """What was done about a cause before the ladder, or why nothing was."""

    cause: str = _says("The finding's cause.")
    action: Optional[str] = _says("What was done; null where nothing was allowed to be.")
    changed: bool = _says("Whether it changed something.")
    failed: bool = _says("Whether it failed.")
    detail: List[str] = _says("What it did in particular.")
    reason: Optional[str] = _says("Why nothing was done.")
    seconds: Optional[float] = _says("How long it took.")
    run: str = _says("The run that did it.")


@dataclasses.dataclass
class Run:
    """One run of a playbook on this incident."""

    run: str = _says("Its name, and that of its timeline: <run>.jsonl.")
    playbook: Optional[str] = _says("The playbook's file.")
    core: Optional[str] = _says("Version of ansible-core.")
    started_at: str = _says("When it began.")
    last_event_at: str = _says("Its verdict, else the last thing that is on record of it.")
    complete: bool = _says("False where it was killed before its verdict.")
    last_task: Optional[str] = _says("What it was doing last.")
    last_action: Optional[str] = _says("Full name of the module of last_task.")


@dataclasses.dataclass
class Times:
    """The instants of the incident. The outage began between last_good_at and started_at."""

    last_good_at: Optional[str] = _says("The last sign that the service worked.")
    started_at: Optional[str] = _says("The first sign that it did not: where durations begin.")
    started_from: Optional[str] = _says("What started_at was read from.")
    detected_at: Optional[str] = _says("When the outage was noticed.")
    mitigated_at: Optional[str] = _says("The service's first good answer after it.")
    mitigated_from: Optional[str] = _says("The source of mitigated_at.")
    mitigated_estimated: bool = _says("Whether mitigated_at is an estimate: nobody saw the first good answer.")
    resolved_at: Optional[str] = _says("When the incident was closed, after its verification.")
    clocks_apart: Optional[float] = _says(
        "Seconds by which the clock of the host is ahead of the controller's (negative: behind); null up to 2 seconds."
    )


@dataclasses.dataclass
class Durations:
    """Seconds, each counted from started_at."""

    outage: Optional[float] = _says("To the first good answer or, as long as there is none, to the verdict.")
    detect: Optional[float] = _says("Time to detect: to detected_at.")
    mitigate: Optional[float] = _says("Time to mitigate: to mitigated_at.")
    resolve: Optional[float] = _says("Time to resolve: to resolved_at.")
    uncertain: Optional[float] = _says("From last_good_at to started_at: by so much the outage may have been longer.")


@dataclasses.dataclass
class Impact:
    """Whom the outage hit, measured once it was over."""

    users: Optional[int] = _says("What the query for affected users counted.")
    users_unknown: Optional[str] = _says("Why that is not known.")
    requests: Optional[int] = _says("Requests that the access log has of the time of the outage.")
    requests_failed: Optional[int] = _says("Those of them that were answered with 5xx.")
    requests_from: Optional[str] = _says("The access log.")
    requests_unknown: Optional[str] = _says("Why they are not known.")


@dataclasses.dataclass
class Incident:
    """Everything that the documents tell of one incident on one host."""

    schema: int = _says("Version of this description; a number is added only where a reader would be misled.")
    incident: str = _says("Id of the incident.")
    host: str = _says("The host in the inventory.")
    service: Optional[str] = _says("What the host runs.")
    language: Optional[str] = _says("The language that its documents are to be in.")
    timezone: Optional[str] = _says("The time zone of the service.")
    reason: Optional[str] = _says("Why the playbook was started, as whoever started it said.")
    ticket: Optional[str] = _says("The ticket that it was started for.")
    outcome: str = _says("What it came to.")
    source: str = _says(
        "verdict where a run published its verdict, events where the rest is concluded from its events."
    )
    severity: Optional[str] = _says("warning, critical or emergency.")
    cause: Optional[str] = _says("The most likely cause.")
    cause_summary: Optional[str] = _says("That cause in a sentence.")
    rung: Optional[str] = _says("The rung that held.")
    rungs_tried: List[Rung] = _says("The rungs that were tried, in this order.")
    rungs_skipped: List[Skip] = _says("The rungs that could not have helped.")
    remedies: List[Remedy] = _says("What was done about causes before the ladder.")
    times: Times = _says("Its instants.")
    durations: Durations = _says("Its durations.")
    impact: Impact = _says("Whom it hit.")
    data_loss: str = _says("none, suspected, known or unknown.")
    rows_before: Dict[str, float] = _says("Rows by table before anything was touched.")
    rows_from: str = _says("Who counted them: first_look (the first triage) or last_good (the last verified run).")
    rows_after: Dict[str, float] = _says("Rows by table afterwards.")
    rows_seeded: Dict[str, float] = _says(
        "Rows now in tables that had none before: the service may seed them at its start."
    )
    rows_stale: bool = _says("Whether the service was started after rows_after were counted.")
    statements: Dict[str, Any] = _says("What may be stated, by docs/statements.md: value, and why it is unknown.")
    login: Optional[str] = _says("checked, failed, rate_limited, no_password or no_answer; null if not verified.")
    login_error: Optional[str] = _says("Why the login failed.")
    backup_file: Optional[str] = _says("Backup of the database on the host.")
    database_kept: Optional[str] = _says("The damaged database on the host.")
    modules_kept: Optional[str] = _says("The replaced node_modules on the host.")
    escalation: Dict[str, Any] = _says("Who must know and why: level, to, told, reason.")
    evidence: Optional[str] = _says("Folder of the evidence on the host.")
    database_copied: Optional[str] = _says("Copy of the files of a database in doubt, on the host.")
    database_not_copied: Optional[str] = _says("Why there is no copy of the files of a database in doubt.")
    record_in_memory: Optional[str] = _says("Folder in memory on the host that has the record; a reboot loses it.")
    error: Optional[str] = _says("What stopped the recovery.")
    next_step: Optional[str] = _says("What a person is to do next.")
    messages: Dict[str, Any] = _says("cause_summary, error and next_step for other languages: id and values of each.")
    held_by: Optional[str] = _says("The incident that holds the start of the service, if it is held at the end.")
    findings: List[Dict[str, Any]] = _says("Causes, the most likely first, with their evidence.")
    resources: Dict[str, Any] = _says("Disk, memory and log as the first look found them.")
    probe: Dict[str, Any] = _says("The first health probe that failed.")
    database: Dict[str, Any] = _says("The last check of the database.")
    runs: List[Run] = _says("The runs that worked on it.")
    steps: List[Step] = _says("All that was done, in order.")

    def rows_lost(self) -> Dict[str, Tuple[float, float]]:
        """Return table -> (before, after) for tables with fewer rows than before; a table that is gone counts as 0."""
        return statements.rows_fewer(self.rows_before, self.rows_after)


def to_json(incident: Incident) -> str:
    """Return C(incident) as JSON with one key a line and of a list one member a line: see M(document_schema)."""
    encode = json.JSONEncoder(default=vars, ensure_ascii=False).encode

    def told(value: Any) -> str:
        # An encoder that is to indent is a slow one.
        members = ",\n".join(f"    {encode(member)}" for member in value) if isinstance(value, list) else ""
        return f"[\n{members}\n  ]" if members else encode(value)

    return "{\n" + ",\n".join(f"  {encode(key)}: {told(value)}" for key, value in vars(incident).items()) + "\n}\n"
