# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timeline of a run: its events, and the model of an incident that is built from them.

A timeline is a file of JSON objects, one per line, appended as things happen. Every event has the keys v (version of
this format), at (UTC instant), run and kind. Kinds and their other keys:

- run_start: playbook, check (check mode), core (version of ansible-core)
- play_start: name
- started: host, task, role, action; a task of one of our modules begins
- task: host, task (its name in the playbook, templates not filled in), role, action, status (ok, changed, failed,
  ignored), start, duration (seconds); data (whitelisted keys of the result) and msg (why it failed), if they may be
  recorded; hidden if the task has no_log
- retry: host, task, role, action, attempts
- unreachable: as task, without data
- outcome: host, data; the verdict of the run, see allowlist
- summary: data; the hosts of the run by outcome, see allowlist
- stats: hosts {name: {ok, changed, failures, unreachable, rescued, ignored}}; the run ended by itself

The model of an incident is model.Incident.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import (
    CHANGE,
    DECISION,
    DETAIL,
    FAILURE,
    RUNGS,
    Durations,
    Impact,
    Incident,
    Remedy,
    Run,
    Rung,
    Skip,
    Step,
    Times,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import VERSION as _MODEL_VERSION

VERSION = 1

Event = Dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

_LOOKS = ("detection", "verification")

# If the clocks differ by at most this many seconds, the order of events is still readable.
_CLOCKS_AGREE = 2.0

# Actions that are not shown as steps if they succeed.
_PLUMBING = (
    *("include_role", "include_tasks", "import_role", "import_tasks", "validate_argument_spec"),
    *("assert", "set_fact", "set_stats", "debug", "meta"),
)


def encode(event: Mapping[str, Any]) -> bytes:
    """Return event as one line of a timeline."""
    return _ENCODER.encode(event).encode("utf-8", "replace") + b"\n"


def decode(data: bytes) -> List[Event]:
    """Return the events of a timeline. Incomplete lines and lines of another version are left out."""
    events: List[Event] = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("v") == VERSION and event.get("run") and event.get("at"):
            events.append(event)
    return events


def incidents(events: Iterable[Event]) -> List[Incident]:
    """Return the incidents in the events of any number of runs: one for each incident and host."""
    return list(each_incident(events))


def each_incident(events: Iterable[Event]) -> Iterator[Incident]:
    """Yield the same one by one, so that the incidents of many hosts need not be in memory together."""
    runs: Dict[str, List[Event]] = {}
    for event in events:
        runs.setdefault(event["run"], []).append(event)
    ordered = sorted(runs.values(), key=lambda run: str(run[0]["at"]))
    found: Dict[Tuple[str, str], List[List[Event]]] = {}
    for run in ordered:
        for host, incident in opened(run).items():
            found.setdefault((incident, host), []).append([each for each in run if each.get("host") in (None, host)])
    for (incident, host), told in found.items():
        yield model(incident, host, told)


def opened(events: Iterable[Event]) -> Dict[str, str]:
    """Return the incident that each host has in the events of one run: host -> id, opened or continued."""
    return {str(event["host"]): str(event["data"]["id"]) for event in events if opens(event)}


def opens(event: Event) -> bool:
    """Return True if event is a result of an incident module that names an incident of this run."""
    of_module = event["kind"] == "task" and _module(event) in allowlist.OF_INCIDENT
    return of_module and bool(event.get("data", {}).get("id")) and not is_left(event["data"], event.get("status"))


def is_left(data: Mapping[str, Any], status: Optional[str]) -> bool:
    """Return True if data of the incident module names an incident that was left to another run."""
    return status == "ok" and bool(data.get("id") and data.get("locked_by")) and not data.get("run")


def without_incident(events: Iterable[Event]) -> Dict[str, List[Event]]:
    """Return host -> events for hosts without an incident that a module of ours worked on, or should have."""
    told = list(events)
    with_incident = opened(told)
    told_of = (event for event in told if event["kind"] == "outcome" or _module(event) or _fits_not(event))
    hosts = dict.fromkeys(event["host"] for event in told_of)
    return {host: [event for event in told if event.get("host") == host] for host in hosts if host not in with_incident}


def _fits_not(event: Event) -> bool:
    """Return True if a variable of a role of ours is invalid or missing. The role then ends before its modules."""
    if event["kind"] != "task":
        return False
    unset = str(event.get("action")).rsplit(".", 1)[-1] == "validate_argument_spec" and event.get("msg")
    return bool(event.get("data", {}).get("problems") or unset)


def login(events: Sequence[Event]) -> Tuple[Optional[str], Optional[str], Any]:
    """Return the state of the login in the last verification of a run, why it failed, and this as a message.

    For the states, see model.Incident.
    """
    probes: List[Dict[str, Any]] = []
    for event in reversed(events):
        if event["kind"] == "task" and event.get("role") in RUNGS:
            break
        if event.get("role") == "verification":
            probes += _results([event], "health_probe")
    if not probes:
        return None, None, None
    tried = next((probe["login"] for probe in probes if probe.get("login")), None)
    if tried is None:
        return "no_password" if any(probe.get("healthy") for probe in probes) else "no_answer", None, None
    if tried.get("ok"):
        return "rate_limited" if tried.get("checked") is False else "checked", None, None
    error = _first(tried.get("error"), tried.get("status") and f"status {tried['status']}")
    return "failed", error, (tried.get("messages") or {}).get("error")


def step(event: Event) -> Optional[Step]:
    """Return the step of an event, or None for an event that only begins or ends others."""
    if event["kind"] in ("started", "stats", "play_start", "summary"):
        return None
    if event.get("status") == "ok" and str(event.get("action")).rsplit(".", 1)[-1] in _PLUMBING:
        return None
    return Step(
        at=str(event.get("start") or event["at"]),
        run=str(event["run"]),
        kind=str(event["kind"]),
        weight=_weight(event),
        role=event.get("role"),
        action=event.get("action"),
        task=event.get("task") or event.get("playbook"),
        status=event.get("status"),
        seconds=event.get("duration"),
        data=event.get("data") or {},
        message=event.get("msg"),
    )


def seconds_between(earlier: Optional[str], later: Optional[str]) -> Optional[float]:
    """Return the seconds between two instants, or None if one is unknown or the order is reversed."""
    if not earlier or not later:
        return None
    try:
        seconds = timestamps.epoch(later) - timestamps.epoch(earlier)
    except ValueError:
        return None
    return round(seconds, 3) if seconds >= 0 else None


def _steps(run: Sequence[Event]) -> Iterator[Step]:
    """Return the steps of one run. Steps after its verdict only publish it, and their failures only repeat it."""
    decided = False
    for event in run:
        told = step(event)
        decided = decided or event["kind"] == "outcome"
        if decided and event.get("role") == "postmortem" and event.get("status") in ("ok", "changed"):
            continue
        if told and decided and told.kind == "task" and told.weight == FAILURE and not _module(event):
            continue
        if told:
            yield told


def _module(event: Mapping[str, Any]) -> Optional[str]:
    return allowlist.own_module(str(event.get("action") or ""))


def _results(events: Sequence[Event], *modules: str) -> Iterator[Dict[str, Any]]:
    for event in events:
        if event["kind"] == "task" and _module(event) in modules and event.get("data"):
            yield event["data"]


def _first(*values: Any) -> Any:
    return next((value for value in values if value not in (None, "", [], {})), None)


def _counts(told: Any) -> Dict[str, float]:
    """Return the rows by table of an answer. A host may name a table without a number."""
    counted = told if isinstance(told, dict) else {}
    return {table: number for table, number in counted.items() if isinstance(number, (int, float))}


def _last_of(results: Iterable[Mapping[str, Any]], key: str) -> Any:
    return _first(*reversed([result.get(key) for result in results]))


def model(incident: str, host: str, runs: Sequence[Sequence[Event]]) -> Incident:
    """Return the model of an incident on a host from the events of its runs, oldest first."""
    events = [event for run in runs for event in run]
    outcomes = [event["data"] for event in events if event["kind"] == "outcome"]
    verdict: Dict[str, Any] = outcomes[-1] if outcomes else {}
    # The verdict of an earlier run is not the verdict of a later run that was killed.
    if verdict and not any(event["kind"] == "outcome" for event in runs[-1]):
        verdict = {}
    copied: Dict[str, Any] = _last_of(_results(events, "triage_info"), "data_evidence") or {}
    copy = _first(_last_of(_results(events, "sqlite_backup"), "evidence_dir"), copied.get("path"))
    records = list(_results(events, *allowlist.OF_INCIDENT))
    probes = list(_results(events, "health_probe"))
    checks = list(_results(events, "sqlite_info"))
    failing = [probe for probe in probes if not probe.get("healthy")]
    triages = [result["findings"] for result in _results(events, "triage_info") if result.get("findings")]
    # The first triage saw the original state. If the verdict rests on a later triage, that one is used.
    agreeing = [each for each in triages if each[0].get("cause") == verdict.get("cause")]
    findings: List[Dict[str, Any]] = _first(*agreeing, *triages) or []
    first = findings[0] if findings and verdict.get("cause") in (None, findings[0].get("cause")) else {}
    tried = [rung for run in runs for rung in _rungs(run)]
    looks = [*_results(events, "triage_info"), *checks]
    counts = [_counts(look["row_counts"]) for look in looks if look.get("row_counts")]
    # An outage that ended without a run has no statement about the data: the earlier run's statement stays valid.
    judged = [each for each in outcomes if "rows_before" in each]
    of_data = verdict if not verdict or "rows_before" in verdict else judged[-1] if judged else {}
    # If a verdict has no rows from before or after, they could not be counted. Other triages are not a substitute.
    rows_before = _counts(_first(*(each.get("rows_before") for each in outcomes), *([] if judged else counts[:1])))
    rows_after = _counts(of_data.get("rows_after")) or ({} if of_data or len(counts) < 2 else counts[-1])
    suspected = (
        of_data["data_loss"] == statements.SUSPECTED
        if of_data.get("data_loss")
        else any(look.get("data_loss_suspected") for look in looks)
    )
    seen = dataclasses.replace(
        _last_look(runs),
        outcome=str(verdict.get("outcome") or ""),
        rows_before=rows_before,
        rows_from=of_data.get("rows_from") or statements.FIRST_LOOK,
        rows_after={**rows_after, **_counts(of_data.get("rows_seeded"))},
        suspected=suspected,
        lost=of_data.get("data_loss") == statements.KNOWN,
    )
    said = statements.decide(seen)
    data_loss = said["data_loss"].value
    seeded = statements.rows_seeded(rows_before, seen.rows_after)
    times = _times(verdict, records, events, probes, failing)
    swaps = [result for result in _results(events, "npm_ci") if result.get("swapped")]
    logged_in, login_error, login_message = login(runs[-1])
    told = Incident(
        schema=_MODEL_VERSION,
        incident=incident,
        host=host,
        service=_last_of(outcomes, "service"),
        language=_last_of(outcomes, "language"),
        timezone=_last_of(outcomes, "timezone"),
        reason=_first(*(each.get("reason") for each in outcomes)),
        ticket=_last_of(outcomes, "ticket"),
        outcome=verdict.get("outcome") or _derived_outcome(runs[-1], probes, tried, login_failed=logged_in == "failed"),
        source="verdict" if verdict else "events",
        severity=_first(verdict.get("severity"), *(probe.get("severity") for probe in failing)),
        cause=_first(verdict.get("cause"), first.get("cause")),
        cause_summary=_first(first.get("summary"), _last_of(outcomes, "cause_summary")),
        rung=verdict.get("rung") if verdict else next((each.rung for each in reversed(tried) if each.held), None),
        rungs_tried=tried,
        rungs_skipped=[skip for run in runs for skip in _skips(run)],
        remedies=[remedy for run in runs for remedy in _remedies(run)],
        times=times,
        durations=_durations(verdict, records, times),
        impact=_impact(outcomes),
        data_loss=data_loss,
        rows_before=rows_before,
        rows_from=seen.rows_from,
        rows_after={table: count for table, count in rows_after.items() if table not in seeded},
        rows_seeded=seeded,
        rows_stale=seen.started_since,
        statements={
            **{name: dataclasses.asdict(each) for name, each in said.items()},
            # The run itself knows more about the service than its events.
            **{name: each for name, each in (verdict.get("statements") or {}).items() if name != "data_loss"},
        },
        login=logged_in,
        login_error=login_error,
        backup_file=_first(verdict.get("backup_file"), _last_of(_results(events, "sqlite_backup"), "backup_file")),
        database_kept=_last_of(_results(events, "sqlite_restore"), "kept"),
        modules_kept=_last_of(swaps, "previous"),
        escalation=verdict.get("escalation") or {},
        evidence=_first(verdict.get("evidence"), _last_of(_results(events, "triage_info"), "bundle")),
        database_copied=copy,
        database_not_copied=copied.get("not_copied"),
        record_in_memory=records[-1].get("record_in_memory") if records else None,
        error=verdict.get("error"),
        next_step=verdict.get("next_step") or (of_data.get("next_step") if data_loss == "suspected" else None),
        messages={
            **_messages(first, outcomes, verdict),
            **({"login_error": login_message} if login_message else {}),
        },
        held_by=verdict.get("held_by") or None,
        findings=findings,
        resources=_first(*(result.get("facts") for result in _results(events, "triage_info"))) or {},
        probe=failing[0] if failing else {},
        database=checks[-1] if checks else {},
        runs=[_run(run) for run in runs],
        steps=[each for run in runs for each in _steps(run)],
    )
    return told


def _messages(
    first: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]], verdict: Mapping[str, Any]
) -> Dict[str, Any]:
    """Return the messages of cause_summary, error and next_step, from the same source as their texts."""
    found = {name: (verdict.get("messages") or {}).get(name) for name in ("error", "next_step")}
    if first.get("summary"):
        found["cause_summary"] = (first.get("messages") or {}).get("summary")
    else:
        told = [each for each in outcomes if each.get("cause_summary")]
        found["cause_summary"] = (told[-1].get("messages") or {}).get("cause_summary") if told else None
    return {name: each for name, each in found.items() if each}


def _last_look(runs: Sequence[Sequence[Event]]) -> statements.Facts:
    """Return facts about the service from the events. Only checks after its last start and stop count."""
    answers: Optional[bool] = None
    running: Optional[bool] = None
    stopped = started = stale = False
    for event in (event for run in runs for event in run if event["kind"] == "task"):
        module, data = _module(event), event.get("data") or {}
        if module == "node_process" and event.get("status") == "changed":
            answers, stale = None, stale or bool(data.get("pids_after"))
            stopped, started = not data.get("pids_after"), started or bool(data.get("pids_after"))
            running = bool(data.get("pids_after"))
        elif module == "health_probe" and data.get("healthy") is not None:
            login = data.get("login") or {}
            answers, stopped = bool(data["healthy"] or login.get("ok") is False), False
            state = (data.get("process") or {}).get("state")
            running = None if state is None else state == "running"
        elif module in ("sqlite_info", "triage_info") and data.get("row_counts"):
            stale = False
    last = [event for event in runs[-1] if event["kind"] != "stats"]
    steps = [each for each in map(step, last) if each]
    return statements.Facts(
        answers=answers,
        running=running,
        stopped=stopped,
        started=started,
        started_since=stale,
        changed=any(each.weight == CHANGE for each in steps),
        login=login_of(runs[-1]),
    )


def login_of(run: Sequence[Event]) -> Optional[str]:
    """Return the state of the login in the last verification of a run."""
    return login(run)[0]


def _times(
    verdict: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    events: Sequence[Event],
    probes: Sequence[Mapping[str, Any]],
    failing: Sequence[Mapping[str, Any]],
) -> Times:
    opening = next((event["at"] for event in events if opens(event)), None)
    started = _first(
        verdict.get("outage_started_at"),
        _last_of(records, "outage_started_at"),
        failing[0].get("first_failure_at") if failing else None,
    )
    begun = dict(_last_of(records, "outage_started") or {})
    # If no good sign is on record, the first bad one is used instead.
    if begun.get("earliest") == begun.get("latest") and begun.get("earliest_source") in (None, begun.get("source")):
        begun["earliest"] = None
    first_good = None
    if failing:
        later = probes[probes.index(failing[-1]) + 1 :]
        first_good = _first(*(probe.get("first_healthy_at") for probe in later))
    return Times(
        last_good_at=_first(begun.get("earliest"), failing[0].get("last_success_at") if failing else None),
        started_at=started,
        started_from=begun.get("source"),
        detected_at=_first(verdict.get("detected_at"), _last_of(records, "detected_at"), opening),
        mitigated_at=_first(verdict.get("mitigated_at"), _last_of(records, "mitigated_at"), first_good),
        mitigated_from=_first(verdict.get("mitigated_from"), _last_of(records, "mitigated_from")),
        mitigated_estimated=bool(_first(verdict.get("mitigated_estimated"), _last_of(records, "mitigated_estimated"))),
        resolved_at=_first(verdict.get("resolved_at"), _last_of(records, "closed_at")),
        clocks_apart=_clocks_apart(events),
    )


def _clocks_apart(events: Sequence[Event]) -> Optional[float]:
    """Return how many seconds the clock of the host is ahead of the controller's, or None up to 2 seconds.

    A probe's instant (clock of the host) lies between the begin and the end of its task (clock of the controller).
    """
    apart = 0.0
    for event in events:
        if event["kind"] != "task" or _module(event) != "health_probe" or not event.get("start"):
            continue
        for name in ("first_failure_at", "first_healthy_at"):
            seen = (event.get("data") or {}).get(name)
            if not seen:
                continue
            try:
                instant, begun, ended = map(timestamps.epoch, (seen, str(event["start"]), str(event["at"])))
            except ValueError:
                continue
            found = instant - ended if instant > ended else min(0.0, instant - begun)
            apart = found if abs(found) > abs(apart) else apart
    return round(apart, 1) if abs(apart) > _CLOCKS_AGREE else None


def _durations(verdict: Mapping[str, Any], records: Sequence[Mapping[str, Any]], times: Times) -> Durations:
    mitigate = seconds_between(times.started_at, times.mitigated_at)
    return Durations(
        outage=_first(verdict.get("outage_seconds"), _last_of(records, "outage_seconds"), mitigate),
        detect=seconds_between(times.started_at, times.detected_at),
        mitigate=mitigate,
        resolve=seconds_between(times.started_at, times.resolved_at),
        uncertain=seconds_between(times.last_good_at, times.started_at),
    )


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
        return "not_recovered" if tried else "warning" if probes[-1].get("severity") == "warning" else "not_recovered"
    if login_failed:
        return "login_failed"
    return "recovered" if tried else "healthy"


def _rungs(run: Sequence[Event]) -> List[Rung]:
    """Return the rungs of one run: from its verdict, else concluded from the roles of its tasks."""
    identity = str(run[0]["run"])
    verdict = _verdict(run)
    if verdict:
        return [
            Rung(
                rung=str(each.get("rung") or ""),
                held=each.get("held"),
                halted=each.get("halted"),
                serves=each.get("serves"),
                restored=each.get("restored"),
                reason=each.get("reason"),
                messages=each.get("messages") or {},
                started_at=each.get("started_at"),
                seconds=each.get("seconds"),
                run=identity,
            )
            for each in verdict.get("rungs_tried") or []
        ]
    tried: List[Rung] = []
    healthy: Optional[bool] = None
    for event in run:
        if event["kind"] not in ("task", "started"):
            continue
        role = event.get("role")
        if role in RUNGS and (not tried or tried[-1].rung != role):
            begun = str(event.get("start") or event["at"])
            tried.append(
                Rung(
                    rung=role,
                    held=None,
                    halted=None,
                    serves=None,
                    restored=None,
                    reason=None,
                    messages={},
                    started_at=begun,
                    seconds=None,
                    run=identity,
                )
            )
            healthy = None
        if not tried or role not in (*RUNGS, *_LOOKS):
            continue
        tried[-1].seconds = seconds_between(tried[-1].started_at, event["at"])
        if event.get("status") == "failed":
            # A rung may have succeeded if the connection to its host was lost.
            tried[-1].held = None if (event.get("data") or {}).get("unreachable_host") else False
            tried[-1].reason = event.get("msg") or event.get("task")
            told = ((event.get("data") or {}).get("messages") or {}).get("msg") if event.get("msg") else None
            tried[-1].messages = {"reason": told} if told else {}
        elif event["kind"] == "started":
            # A check that was running when the run was killed has no result.
            tried[-1].held = None
        elif _module(event) == "health_probe" and event.get("data"):
            healthy = tried[-1].held = bool(event["data"].get("healthy"))
        elif tried[-1].held is None:
            tried[-1].held = healthy
    return tried


def _verdict(run: Sequence[Event]) -> Dict[str, Any]:
    """Return the verdict of one run, or an empty mapping if it has none."""
    return next((dict(event["data"]) for event in reversed(run) if event["kind"] == "outcome"), {})


def _skips(run: Sequence[Event]) -> List[Skip]:
    identity = str(run[0]["run"])
    return [
        Skip(
            rung=str(each.get("rung") or ""),
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            at=each.get("at"),
            run=identity,
        )
        for each in _verdict(run).get("rungs_skipped") or []
    ]


def _remedies(run: Sequence[Event]) -> List[Remedy]:
    told = _verdict(run).get("remediation") or {}
    return [
        Remedy(
            cause=str(each.get("cause") or "unknown"),
            action=each.get("action"),
            changed=bool(each.get("changed")),
            failed=bool(each.get("failed")),
            detail=each.get("detail") or [],
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            seconds=each.get("seconds"),
            run=str(run[0]["run"]),
        )
        for each in [*(told.get("applied") or []), *(told.get("refused") or [])]
    ]


def _run(events: Sequence[Event]) -> Run:
    first = events[0]
    tasks = [event for event in events if event["kind"] in ("task", "started", "unreachable")]
    verdicts = [event for event in events if event["kind"] == "outcome"]
    return Run(
        run=str(first["run"]),
        playbook=first.get("playbook"),
        core=first.get("core"),
        started_at=str(first["at"]),
        # Events after the verdict only publish it.
        last_event_at=str((verdicts or events)[-1]["at"]),
        complete=any(event["kind"] in ("outcome", "stats") for event in events),
        last_task=_first(tasks[-1].get("task"), tasks[-1].get("action")) if tasks else None,
        last_action=tasks[-1].get("action") if tasks else None,
    )


def _weight(event: Event) -> str:
    module = _module(event)
    if event.get("status") == "failed" or event["kind"] == "unreachable":
        return FAILURE
    if event["kind"] in ("outcome", "run_start"):
        return DECISION
    if module in ("triage_info", "health_probe") and event.get("data"):
        return DECISION
    if module == "sqlite_info" and event.get("data", {}).get("healthy") is False:
        return DECISION
    # The document shows the content of the incident's record anyway, and it shows that it was written.
    if module in allowlist.OF_INCIDENT or event.get("role") == "postmortem":
        return DETAIL
    return CHANGE if module and event.get("status") == "changed" else DETAIL
