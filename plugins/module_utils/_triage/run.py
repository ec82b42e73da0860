# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In one pass, collect all facts that a person would check during an outage, within limits for time and size.

triage_pass runs the parts in child processes. This process itself does not access the service's paths, because such an
access could hang. The causes package interprets the facts.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, message, redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, service_ends
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import row_counts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    collect_changes,
    messages,
    outage_signs,
    recorded_ends,
    triage_pass,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import database as database_causes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import table as causes_table
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, Service, file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.database import Database
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# Causes that affect the data. If one of these causes prevents the service from being started, the data is in doubt.
DATA_CAUSES = ("db_corrupt", "db_unchecked")
# After a person has released the service, the message that describes the damage has one of these IDs.
_ACCEPTED, _NOT_ACCEPTED = "finding.accepted", "finding.not_accepted"
# Minimum time limit in seconds for writing the bundle to a folder. Writing takes time, because each file in the bundle
# is flushed to disk separately.
_LEAST_FOR_BUNDLE = 2.0


# A function that may start the service during a triage. See triage_pass.Triage.ask_all. The first argument is the
# result that is based on the facts collected so far, with modules_complete (see triage_pass.Triage). The second
# argument is a function that saves the evidence collected so far. The function returns the value for the key
# "response" of the result, and additional parts for the triage.
Respond = Callable[[Mapping[str, Any], Callable[[], None]], Tuple[Dict[str, Any], Mapping[str, triage_pass.Part]]]


class TriageError(Exception):
    """The evidence from a triage could not be saved."""


def is_older(
    held: Optional[Mapping[str, Any]], created_at: str, *, on_record: Mapping[str, Any], opened_at: str = ""
) -> bool:
    """Return True if a database is older than a hold that was set because of a configuration mismatch.

    Such a hold is not caused by damaged data, but by a problem such as a missing database folder. Therefore, if a
    database is older than the hold, the service used this database before the hold. If the hold has been lost, for
    example at a reboot, opened_at is used instead. opened_at: when the incident was opened. held: the current hold, or
    None. created_at: when the database was created. on_record: the `data` field of the incident's record.
    """
    if not created_at or on_record.get("state") == incident_store.IN_DOUBT:
        return False
    if held is None:
        return bool(on_record.get("unseen")) and created_at < opened_at
    return held.get("cause") == "config_mismatch" and created_at < str(held.get("at") or "")


def _hold_facts(
    facts: Mapping[str, Any],
    held: Optional[Mapping[str, Any]],
    counted: last_good.Counted,
    *,
    on_record: Mapping[str, Any],
    opened_at: str = "",
) -> Dict[str, Any]:
    """Compare the rows with the last good count. Return the result, and the hold with the reason for keeping it.

    on_record, opened_at: the `data` field of the incident's record, and when the incident was opened.
    """
    rows, database = counted.rows, facts.get("database") or {}
    created_at = last_good.Counted.of(database).created_at
    replaced = counted.is_replaced_by(created_at)
    counts = database.get("row_counts") or {}
    # A conclusive check is not sufficient. If the database is locked, a check can find damage without counting the
    # rows.
    counted_now = bool(counts) or (database.get("checks") or {}).get("row_counts") == "ok"
    comparable = bool(database.get("conclusive")) and counted_now
    missing = row_counts.missing(rows, counts) if comparable else {}
    kept: Optional[message.Message] = None
    # True if the database was not found at first and the hold has been lost since then, for example at a reboot. In
    # this case, the service may have been started and may have created the current database.
    lost_hold = held is None and on_record.get("state") == incident_store.NOT_FOUND and bool(database.get("conclusive"))
    back = is_older(held, created_at, on_record=on_record, opened_at=opened_at)
    recognized = not missing and replaced is False if rows else back
    if held is not None:
        if held.get("refused"):
            # Neither an integrity check nor the last row counts show that transactions are missing from the WAL.
            kept = message.message("reason.hold.refused", why=message.quoted(held["refused"]))
        elif not rows and back:
            kept = None
        elif not rows:
            kept = message.message("reason.hold.no_counts")
        elif not comparable or replaced is None:
            kept = message.message("reason.hold.unchecked")
        elif replaced:
            kept = message.message("reason.hold.replaced", at=created_at)
        elif missing:
            tables = [f"{name} {now} of {before}" for name, (before, now) in sorted(missing.items())]
            kept = message.message("reason.hold.rows_missing", tables=tables)
    return {
        "held": {name: held.get(name) for name in ("incident", "cause", "reason", "at")} if held is not None else None,
        "kept_by": messages.english(kept) if kept else "",
        "messages": {"kept_by": kept.to_dict()} if kept else {},
        "replaced": replaced,
        "may_be_another": lost_hold and not recognized,
        "created_at": created_at,
        "rows_missing": missing,
        "rows_collapsed": comparable and row_counts.collapsed(rows, counts),
        "rows_counted": comparable,
    }


def _accepted(finding: Finding, facts: Mapping[str, Any], acceptance: incident_store.Acceptance) -> Finding:
    """Return the finding. If a person has accepted the reported damage, the finding no longer blocks the start.

    Accepted damage is still reported, with the reason why it was accepted. Damage with another code occurred after
    the acceptance. Such damage still blocks the start, and the summary states that the damage was not accepted.
    """
    # If the health probe reported the damage, the probe's summary already states whether the damage was accepted.
    said = finding.summary.id in (_ACCEPTED, _NOT_ACCEPTED)
    covered = acceptance.valid and finding.summary.id != _NOT_ACCEPTED and _is_covered(finding, facts, acceptance.codes)
    if covered:
        finding = finding._replace(blocks_start=False, useless_rungs=())
    if finding.cause not in DATA_CAUSES or not (covered or finding.blocks_start):
        return finding
    about: Dict[str, Any] = {"at": acceptance.at, "reason": acceptance.reason, "summary": finding.summary}
    summary = finding.summary if said else message.message(_ACCEPTED if covered else _NOT_ACCEPTED, **about)
    remedy = message.message("remedy.accepted") if covered else finding.remedy
    return finding._replace(summary=summary, remedy=remedy)


def _is_covered(finding: Finding, facts: Mapping[str, Any], accepted: Sequence[str]) -> bool:
    """Return True if a person has accepted everything that the finding reports.

    accepted: the codes of the accepted problems.
    """
    damages = Database.of(facts.get("database")).damages
    # If damage was accepted, the last good row counts may be older than this damage. If a person accepted only the
    # state of the rows, the counts are from the time of that decision, so rows that are missing now were lost after the
    # decision.
    lost_later = facts["hold"]["rows_collapsed"] and not accepted
    covered = {
        # If the service created a new database later, the acceptance does not apply to the new database.
        "db_corrupt": {item["code"] for item in damages} <= set(accepted)
        and not (facts["hold"]["replaced"] or lost_later),
        "db_unchecked": incident_store.UNCHECKED in accepted,
        "start_held": True,
    }
    return bool(covered.get(finding.cause))


def triage(
    *,
    service: Service,
    run: commands.Runner,
    deadline: float,
    part_timeout: float,
    window: float,
    log_lines: int,
    silent: bool = False,
    kernel_log_command: Sequence[str] = (),
    incident: str = "",
    save: bool = True,
    database_timeout: float = 300.0,
    evidence_limit: int = triage_evidence.LIMIT,
    evidence_keep: int = 0,
    evidence_keep_days: float = 0.0,
    record: Optional[Mapping[str, Any]] = None,
    held: Optional[Mapping[str, Any]] = None,
    last_good_of: Callable[[str], last_good.Counted] = lambda path: last_good.Counted(),
    recovered_at_of: Callable[[Mapping[str, Any]], str] = lambda database: "",
    settings: Sequence[Mapping[str, Any]] = (),
    readiness: Sequence[Mapping[str, Any]] = (),
    ends: Optional[Mapping[str, Any]] = None,
    changes: bool = True,
    respond: Optional[Respond] = None,
) -> Dict[str, Any]:
    """Collect all facts once and return the result of the triage_info module.

    record: the record of the open incident. held: the service's hold, or None. last_good_of: returns a database's row
    counts from the last check that found the database sound. recovered_at_of: returns the time before which no logged
    error is about the current database file (see recovered_file.older_before). settings: problems that the preflight
    found with the service's variables. readiness: problems that the health probe found in a service that answers. ends:
    how the processes of the service exited recently (see service_ends.of_service). changes: True to compare the host
    with the manifest of the last healthy run. respond: see Respond.

    If the database check does not finish by the deadline, it is repeated for at most database_timeout seconds. The
    service must not be started with an unchecked database. The check is also repeated if only a full check can show
    that the service may be started (see causes.database.needs_full_check).

    If `incident` is set, the evidence is written below service.state_dir. If `save` is False, nothing is written and
    the planned path is returned. Raises TriageError if the evidence cannot be written anywhere.
    """
    base = Question(
        service=service,
        run=run,
        since=time.time() - window,
        budget=part_timeout,
        log_lines=log_lines,
        kernel_log_command=kernel_log_command,
        keep=bool(incident) and save,
        silent=silent,
        compare=changes,
    )
    asking = triage_pass.Triage(base, deadline=deadline, part_timeout=part_timeout, window=window, record=record)
    saved: Dict[str, Any] = {"last_good_of": last_good_of, "recovered_at_of": recovered_at_of, "ends": ends}
    case = _Case(record=record, held=held, settings=settings, readiness=readiness, **saved)
    bundle = _Bundle(
        asking,
        incident=incident,
        deadline=deadline,
        limit=evidence_limit,
        keep=triage_evidence.Keep(incidents=evidence_keep, days=evidence_keep_days),
        dry_run=not save,
    )
    response: Dict[str, Any] = {}
    if ends:
        text = json.dumps(ends["ends"], indent=1, sort_keys=True)
        asking.done.evidence.append(file("ends.json", messages.english(recorded_ends.SOURCE), text))

    def answer() -> Mapping[str, triage_pass.Part]:
        first = {**_judged(case, asking, database_timeout), "modules_complete": asking.modules_complete}
        said, more = respond(first, lambda: bundle.save(first)) if respond is not None else ({}, {})
        response.update(said)
        return more

    asking.ask_all(database_timeout, respond=answer if respond is not None else None)
    result = _judged(case, asking, database_timeout)
    if response:
        result["response"] = {**response, "answered_at": asking.answered_at}
    if incident:
        try:
            bundle.save(result)
        except TriageError as error:
            # If the first response has already saved its evidence, only warn, so that its result is not lost.
            if bundle.path is None:
                raise
            bundle.warnings.append(str(error))
        result["bundle"], result["warnings"] = bundle.path, bundle.warnings
    result["duration"] = round(asking.elapsed, 3)
    return result


class _Case(NamedTuple):
    """Data about the incident and the service that a triage uses in addition to its facts. See triage."""

    record: Optional[Mapping[str, Any]]
    held: Optional[Mapping[str, Any]]
    last_good_of: Callable[[str], last_good.Counted]
    recovered_at_of: Callable[[Mapping[str, Any]], str]
    settings: Sequence[Mapping[str, Any]]
    readiness: Sequence[Mapping[str, Any]]
    ends: Optional[Mapping[str, Any]]

    def judge(self, asking: triage_pass.Triage) -> Dict[str, Any]:
        """Return the result without secrets, based on the facts that have been collected so far."""
        record = self.record or {}
        redactor = redact.Redactor(asking.done.secrets)
        facts = {**asking.facts(), "settings": list(self.settings), "readiness": list(self.readiness)}
        facts["ends"] = service_ends.public(self.ends, commands=True)
        on_record = record.get("data") or {}
        counted = last_good.Counted(on_record.get("rows") or {}, on_record.get("created_at") or "")
        if not counted.rows:
            counted = self.last_good_of(facts["database"]["path"])
        opened_at = str(record.get("opened_at") or "")
        facts["database"]["recovered_at"] = self.recovered_at_of(facts["database"].get("database") or {})
        facts["hold"] = _hold_facts(facts, self.held, counted, on_record=on_record, opened_at=opened_at)
        result = _judge(redactor.value(facts), counted=counted, on_record=on_record, record=self.record)
        result["parts"] = redactor.value(asking.done.reports)
        return result


def _judged(case: _Case, asking: triage_pass.Triage, database_timeout: float) -> Dict[str, Any]:
    """Return the result. If the result depends on a full check of the database, first run this check."""
    result = case.judge(asking)
    if not database_causes.needs_full_check(Facts.of(result["facts"])):
        return result
    return case.judge(asking) if asking.check_database_in_full(database_timeout) else result


class _Bundle:
    """The evidence from a triage. A second save adds the files that were collected since the first save.

    path: the bundle that was written first, or None.
    """

    def __init__(self, asking: triage_pass.Triage, *, incident: str, deadline: float, **options: Any) -> None:
        self._asking = asking
        self._incident = incident
        self._deadline = deadline
        self._options = options
        self._saved = 0
        self.path: Optional[str] = None
        self.warnings: List[str] = []

    def save(self, result: Mapping[str, Any]) -> None:
        """Write the result and the evidence that has not been saved yet. Raises TriageError."""
        done = self._asking.done
        redactor = redact.Redactor(done.secrets)
        left = max(_LEAST_FOR_BUNDLE, self._deadline - self._asking.elapsed)
        try:
            saved = triage_evidence.save(
                files=[_result_file(result, redactor), *done.files(self._saved)],
                state_dir=self._asking.state_dir,
                redact=redactor.text,
                about=_about(result),
                home_answers=done.answered("disk:state"),
                timeout=left,
                incident=self._incident,
                **self._options,
            )
        except triage_evidence.EvidenceError as error:
            raise TriageError(str(error)) from error
        self._saved = len(done.evidence)
        self.path = self.path or saved.path
        self.warnings += saved.warnings


def _judge(
    facts: Dict[str, Any],
    *,
    counted: last_good.Counted,
    on_record: Mapping[str, Any],
    record: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Return the findings and other values derived from the facts. on_record: the `data` field of the record."""
    found = causes_table.evaluate(facts)
    acceptance = incident_store.acceptance(on_record)
    if acceptance:
        found = [_accepted(finding, facts, acceptance) for finding in found]
    found = [recorded_ends.with_evidence(finding, facts.get("ends")) for finding in found]
    findings = [finding.as_dict() for finding in found]
    facts["changes"] = collect_changes.ranked(facts, findings, record=record)
    return {
        "findings": findings,
        "blocks_start": any(finding["blocks_start"] for finding in findings),
        "facts": facts,
        "bundle": None,
        "warnings": [],
        "signs": outage_signs.signs(facts),
        "row_counts": facts["database"].get("row_counts") or {},
        "data_loss_suspected": bool(facts["database"].get("data_loss_suspected") or facts["hold"]["replaced"]),
        "database_replaced": facts["hold"]["replaced"],
        "rows_missing": facts["hold"]["rows_missing"],
        "rows_collapsed": facts["hold"]["rows_collapsed"],
        "rows_counted": facts["hold"]["rows_counted"],
        "rows_before": dict(counted.rows),
        "created_before": counted.created_at,
    }


def _result_file(result: Mapping[str, Any], redactor: redact.Redactor) -> Dict[str, Any]:
    """Return the evidence file with the result of this triage."""
    summary = {name: result[name] for name in ("findings", "facts", "parts", "signs")}
    # Redact the result as data, not as text. If it were redacted as text, a number after a name like "token" would be
    # masked, and the JSON would become invalid.
    text = json.dumps(redactor.value(summary), indent=1, sort_keys=True)
    return {**file(triage_evidence.RESULT, "this pass", text), "redacted": True}


def _about(result: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the information about this triage for the manifest of the evidence."""
    not_reached = {name: report for name, report in result["parts"].items() if not isinstance(report, float)}
    return {"host": socket.gethostname(), "window": result["facts"]["window"], "not_reached": not_reached}
