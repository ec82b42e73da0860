# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the incidents, each as a model.Incident, from the events of any number of runs."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import (
    allowlist,
    instants,
    row_counts,
    service_state,
    statements,
    steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import runs as timeline_runs
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import (
    Event,
    first_value,
    last_value,
    opened,
    results,
    verdict_of,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import VERSION, Impact, Incident, Rung


def from_events(events: Iterable[Event]) -> List[Incident]:
    """Return the incidents in the events of any number of runs, one item for each incident and host."""
    return list(each_from_events(events))


def each_from_events(events: Iterable[Event]) -> Iterator[Incident]:
    """Yield the incidents one at a time, because a list of all incidents on many hosts would need too much memory."""
    for (incident, host), told in _by_incident(events).items():
        yield model(incident, host, told)


def data_loss_before(
    events: Iterable[Event],
    *,
    incident: str,
    host: str,
    process: Mapping[str, Any],
    data: Optional[Mapping[str, Any]],
) -> Dict[str, str]:
    """Return the data_loss statement (value, why) for the documents if the last run does not compare the rows.

    The result is empty if the events contain no earlier statement about the data. process: the current process of the
    service, as returned by health_probe. The probe that found it may not be in the events yet. data: the `data` field
    of the incident's record.
    """
    runs = _by_incident(events).get((incident, host)) or []
    outcomes = [event["data"] for run in runs for event in run if event["kind"] == "outcome"]
    # If a verdict contains no row counts, the earlier statement remains valid.
    without_rows = {"outcome": "recovered", "data_settled": statements.settled(data)}
    if not row_counts.data_verdict(without_rows, outcomes):
        return {}
    probe = {"healthy": True, "process": {"state": "running", **process}}
    task = {"kind": "task", "task": "", "role": None, "action": f"{allowlist.COLLECTION}.health_probe", "status": "ok"}
    now = {**runs[-1][-1], **task, "data": probe}
    said = row_counts.fields([*runs, [now]], verdict=without_rows, outcomes=outcomes)["statements"]["data_loss"]
    return {name: str(value) for name, value in said.items()}


def _by_incident(events: Iterable[Event]) -> Dict[Tuple[str, str], List[List[Event]]]:
    """Return the events of each run, oldest run first, by incident and host."""
    runs: Dict[str, List[Event]] = {}
    for event in events:
        runs.setdefault(event["run"], []).append(event)
    ordered = sorted(runs.values(), key=lambda run: str(run[0]["at"]))
    found: Dict[Tuple[str, str], List[List[Event]]] = {}
    for run in ordered:
        for host, incident in opened(run).items():
            found.setdefault((incident, host), []).append([each for each in run if each.get("host") in (None, host)])
    return found


def model(incident: str, host: str, runs: Sequence[Sequence[Event]]) -> Incident:
    """Return the model of an incident on a host. runs: the events of each run, oldest run first."""
    events = [event for run in runs for event in run]
    outcomes = [event["data"] for event in events if event["kind"] == "outcome"]
    # If a later run was killed, the verdict of an earlier run does not apply to the later run.
    verdict = verdict_of(runs[-1])
    probes = list(results(events, "health_probe"))
    tried = [rung for run in runs for rung in timeline_runs.rungs(run)]
    times = instants.times(verdict, events)
    logged_in, login_error, login_message = service_state.login(runs[-1])
    causes = _causes(events, outcomes, verdict)
    rows = row_counts.fields(runs, verdict=verdict, outcomes=outcomes)
    of_data = row_counts.data_verdict(verdict, outcomes)
    return Incident(
        schema=VERSION,
        incident=incident,
        host=host,
        outcome=verdict.get("outcome") or _derived_outcome(runs[-1], probes, tried, login_failed=logged_in == "failed"),
        source="verdict" if verdict else "events",
        rung=verdict.get("rung") if verdict else next((each.rung for each in reversed(tried) if each.held), None),
        rungs_tried=tried,
        rungs_skipped=[skip for run in runs for skip in timeline_runs.skips(run)],
        rungs_not_reached=[each for run in runs for each in timeline_runs.not_reached(run)],
        remedies=[remedy for run in runs for remedy in timeline_runs.remedies(run)],
        times=times,
        durations=instants.durations(verdict, events, times),
        impact=_impact(outcomes),
        login=logged_in,
        login_error=login_error,
        escalation=verdict.get("escalation") or _without_verdict(runs),
        error=verdict.get("error"),
        next_step=verdict.get("next_step") or _kept_step(of_data, rows),
        messages={
            **_messages(causes["findings"], outcomes, verdict),
            **({"login_error": login_message} if login_message else {}),
            **_message_of_copy(events),
        },
        held_by=verdict.get("held_by") or None,
        runs=[timeline_runs.summary(run) for run in runs],
        steps=[each for run in runs for each in steps.of_run(run)],
        **_circumstances(outcomes),
        **causes,
        **rows,
        **_kept(events, verdict),
    )


def _kept_step(of_data: Mapping[str, Any], rows: Mapping[str, Any]) -> Any:
    """While data loss is suspected, return the next step from the verdict about the data, otherwise None.

    If a person has accepted the damage since, this step no longer applies.
    """
    now, before = (statements.why_of_data_loss(each.get("statements")) for each in (rows, of_data))
    since = now == statements.ACCEPTED != before
    return of_data.get("next_step") if rows["data_loss"] == statements.SUSPECTED and not since else None


def _without_verdict(runs: Sequence[Sequence[Event]]) -> Dict[str, Any]:
    """Return the recorded notifications of an incident whose last run has no verdict. The result has no key `to`.

    If the earlier timelines are not on this controller, the incident's record at the start of the last run is used. A
    notification that was added to the record after that is from the last run.
    """
    verdicts = [verdict_of(run).get("escalation") or {} for run in runs[:-1]]
    known: Mapping[str, Any] = next((each for each in reversed(verdicts) if each), {})
    records = [each["notified"] or [] for each in results(runs[-1], *allowlist.OF_INCIDENT) if "notified" in each]
    first, latest = (records[0], records[-1]) if records else ([], [])
    before = [{**each, "new": False} for each in first or known.get("notified") or []]
    added = [{**each, "new": True} for each in latest if {**each, "new": False} not in before]
    names = {**dict(zip(known.get("contacts") or [], known.get("to") or [])), **(known.get("names") or {})}
    unreached = _unreached([*before, *added], names=names, to=known.get("to") or [])
    if not before and not added and not unreached:
        return {}
    told = {"names": names, "notified": [*before, *added]}
    return {**told, "unreached": unreached} if unreached else told


def _unreached(notified: Sequence[Mapping[str, Any]], *, names: Mapping[str, str], to: Sequence[str]) -> List[str]:
    """Return the names of the contacts that no channel has reached in this incident.

    to: the contacts to notify, according to the last verdict.
    """

    def name(entry: Mapping[str, Any]) -> str:
        return str(names.get(str(entry.get("contact")), entry.get("contact")))

    reached = {name(each) for each in notified if each.get("ok")}
    failed = [name(each) for each in notified if not each.get("ok")]
    return [each for each in dict.fromkeys([*to, *failed]) if each not in reached]


def _circumstances(outcomes: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the fields about the service, the language of the documents, and the reason for the run."""
    return {
        "service": last_value(outcomes, "service"),
        "language": last_value(outcomes, "language"),
        "timezone": last_value(outcomes, "timezone"),
        "reason": first_value(*(each.get("reason") for each in outcomes)),
        "ticket": last_value(outcomes, "ticket"),
    }


def _causes(
    events: Sequence[Event], outcomes: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]
) -> Dict[str, Any]:
    """Return the fields about the failed probe, the findings and the cause."""
    failing = [probe for probe in results(events, "health_probe") if not probe.get("healthy")]
    checks = list(results(events, "sqlite_info"))
    triages = [result["findings"] for result in results(events, "triage_info") if result.get("findings")]
    # Only the first triage saw the original state. If the verdict is based on later triage, use the later results.
    agreeing = [each for each in triages if each[0].get("cause") == verdict.get("cause")]
    # After a person has restored a database, later triage may describe the same cause differently. Therefore, the
    # summaries are also compared.
    of_data = verdict.get("cause") in ("db_corrupt", "db_unchecked")
    said = [each for each in agreeing if of_data and each[0].get("summary") == verdict.get("cause_summary")]
    # After a person has released the service, the latest triage states whether the damage was accepted.
    released = [each for each in reversed(agreeing) if _is_about_a_release(each[0])]
    findings: List[Dict[str, Any]] = first_value(*released, *said, *agreeing, *triages) or []
    changes = _changes(events, findings)
    findings = _gone_since(findings, agreeing, verdict)
    first = _first_cause(findings, verdict)
    first_facts = first_value(*(result.get("facts") for result in results(events, "triage_info"))) or {}
    return {
        "severity": first_value(verdict.get("severity"), *(probe.get("severity") for probe in failing)),
        "cause": first_value(verdict.get("cause"), first.get("cause")),
        "cause_summary": first_value(first.get("summary"), last_value(outcomes, "cause_summary")),
        "findings": findings,
        "resources": {name: facts for name, facts in first_facts.items() if name != "changes"},
        "changes": changes,
        "probe": failing[0] if failing else {},
        "database": checks[-1] if checks else {},
    }


def _gone_since(
    findings: List[Dict[str, Any]], agreeing: Sequence[Sequence[Mapping[str, Any]]], verdict: Mapping[str, Any]
) -> List[Dict[str, Any]]:
    """Return the findings.

    If the cause in the verdict no longer existed at the last triage, the first finding states this.

    For example, a person may have corrected a file after the first triage. The first triage still has the best
    evidence.

    agreeing: the findings of all triage results with this cause.
    """
    said = [each[0] for each in agreeing if each[0].get("summary") == verdict.get("cause_summary")]
    told = (said[-1].get("messages") or {}).get("summary") if said else None
    if not findings or not isinstance(told, Mapping) or not str(told.get("id")).endswith(".past"):
        return findings
    newer = {name: said[-1].get(name) for name in ("summary", "remedy", "messages", "blocks_start", "useless_rungs")}
    return [{**findings[0], **newer}, *findings[1:]]


def _changes(events: Sequence[Event], findings: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the changes from the triage with these findings, because the findings determine how changes are ranked."""
    triages = list(results(events, "triage_info"))
    agreeing = [each for each in triages if each.get("findings") == findings]
    found = [(each.get("facts") or {}).get("changes") or {} for each in (*agreeing, *triages)]
    return next((dict(each) for each in found if each.get("since")), {})


def _is_about_a_release(finding: Mapping[str, Any]) -> bool:
    """Return True if the summary of a finding states whether a person has accepted the damage."""
    told = (finding.get("messages") or {}).get("summary")
    return isinstance(told, Mapping) and told.get("id") in ("finding.accepted", "finding.not_accepted")


def _first_cause(findings: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first finding, or an empty mapping if the verdict states another cause."""
    return findings[0] if findings and verdict.get("cause") in (None, findings[0].get("cause")) else {}


def _kept(events: Sequence[Event], verdict: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields about the files that the recovery left on the host."""
    triages, backups = list(results(events, "triage_info")), list(results(events, "sqlite_backup"))
    restores = list(results(events, "sqlite_restore"))
    records = list(results(events, *allowlist.OF_INCIDENT))
    copied: Dict[str, Any] = last_value(triages, "data_evidence") or {}
    swaps = [result for result in results(events, "npm_ci") if result.get("swapped")]
    return {
        "backup_file": first_value(verdict.get("backup_file"), last_value(backups, "backup_file")),
        "database_kept": last_value(restores, "kept"),
        "modules_kept": last_value(swaps, "previous"),
        "evidence": first_value(verdict.get("evidence"), last_value(triages, "bundle")),
        "database_copied": first_value(last_value([*backups, *restores], "evidence_dir"), copied.get("path")),
        "database_copies": _copies(results(events, "triage_info", "sqlite_backup", "sqlite_restore")),
        "database_not_copied": copied.get("not_copied"),
        "record_in_memory": records[-1].get("record_in_memory") if records else None,
    }


def _message_of_copy(events: Sequence[Event]) -> Dict[str, Any]:
    """Return the message for database_not_copied, or an empty dictionary if there is none."""
    copied: Dict[str, Any] = last_value(results(events, "triage_info"), "data_evidence") or {}
    told = (copied.get("messages") or {}).get("not_copied")
    return {"database_not_copied": told} if told else {}


def _copies(told: Iterable[Mapping[str, Any]]) -> List[str]:
    """Return the copies of the database files that the modules made, without duplicates, oldest copy first."""
    made = [path for each in told for path in ((each.get("data_evidence") or {}).get("path"), each.get("evidence_dir"))]
    return list(dict.fromkeys(str(path) for path in made if path))


def _messages(
    findings: Sequence[Mapping[str, Any]], outcomes: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]
) -> Dict[str, Any]:
    """Return the messages for cause_summary, error and next_step, from the same source as the text."""
    first = _first_cause(findings, verdict)
    found = {name: (verdict.get("messages") or {}).get(name) for name in ("error", "next_step")}
    if first.get("summary"):
        found["cause_summary"] = (first.get("messages") or {}).get("summary")
    else:
        told = [each for each in outcomes if each.get("cause_summary")]
        found["cause_summary"] = (told[-1].get("messages") or {}).get("cause_summary") if told else None
    return {name: each for name, each in found.items() if each}


def _impact(outcomes: Sequence[Mapping[str, Any]]) -> Impact:
    told: Mapping[str, Any] = next((each["impact"] for each in reversed(outcomes) if each.get("impact")), {})
    values: Dict[str, Any] = {field.name: told.get(field.name) for field in dataclasses.fields(Impact)}
    values["messages"] = values["messages"] or {}
    return Impact(**values)


def _derived_outcome(
    last_run: Sequence[Event],
    probes: Sequence[Mapping[str, Any]],
    tried: Sequence[Rung],
    *,
    login_failed: bool,
) -> str:
    if not any(event["kind"] == "stats" for event in last_run):
        return "unfinished"
    if not probes:
        return "unfinished"
    if not probes[-1].get("healthy"):
        severity = probes[-1].get("severity")
        return str(severity) if severity in ("degraded", "warning") and not tried else "not_recovered"
    if login_failed:
        return "login_failed"
    return "recovered" if tried else "healthy"
