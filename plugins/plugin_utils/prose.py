# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an incident's model says, in sentences: plain text, shared by the document and by the summary on screen."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import timeline, whitelist

OUTCOMES: Mapping[str, str] = {
    "recovered": "RECOVERED",
    "not_recovered": "NOT RECOVERED",
    "warning": "WARNING, nothing restarted",
    "healthy": "HEALTHY",
    "would_recover": "WOULD RECOVER (check mode, nothing changed)",
    "unfinished": "UNFINISHED, the run ended before its verdict",
}

_LIKELY = 0.5

_RESOURCE_CAUSES = {"oom_kill": "memory", "heap_oom": "memory", "disk_full": "disk"}


@dataclasses.dataclass(frozen=True)
class Action:
    """An item of the runbook's checklist (7.2) or a remedy: whether there is something to do, and why."""

    title: str
    wanted: bool
    why: str


def duration(seconds: Optional[float]) -> str:
    """Return seconds as a person says them: C(0.4 s), C(12 s), C(3 min 5 s), C(2 h 1 min); C(unknown) for C(None)."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def number(value: float) -> str:
    """Return a count with thousands separated."""
    return f"{value:,.0f}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return C(1 row), C(2 rows)."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], *, limit: int = 5) -> str:
    """Return C(a, b and c), C(a, b and 7 more)."""
    shown = list(names[:limit])
    if len(names) > limit:
        return f"{', '.join(shown)} and {len(names) - limit} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def rows(incident: timeline.Incident) -> str:
    """Return one sentence on the rows of the database before and after."""
    before, after = incident.rows_before, incident.rows_after
    if not before:
        return "not counted"
    told = f"{number(sum(before.values()))} in {counted(len(before), 'table')} before"
    if not after:
        return f"{told}, not counted after"
    lost = incident.rows_lost()
    told = f"{told}, {number(sum(after.values()))} after"
    if not lost:
        return f"{told}; no table has fewer rows"
    tables = [f"{table} {number(was)} -> {number(now)}" for table, (was, now) in lost.items()]
    return f"{told}; FEWER IN {listed(tables)}"


def data_loss(incident: timeline.Incident) -> str:
    """Return the data-loss verdict in words."""
    return {
        "none": "none: every row counted before is there",
        "suspected": "SUSPECTED: stop and hand over to the DBA",
        "known": "KNOWN: the recovery of the database cost the rows named above",
    }.get(incident.data_loss, "unknown: rows were not counted before and after")


def told(incident: timeline.Incident) -> str:
    """Return who has been told, or is to be told, and why."""
    escalation = incident.escalation
    if not escalation:
        return "not decided: the run ended before escalation"
    to, done = escalation.get("to") or [], escalation.get("told") or []
    reason = f" ({escalation['reason']})" if escalation.get("reason") else ""
    if not to and not done:
        return f"nobody, on record only{reason}"
    missing = [name for name in to if name not in done]
    parts = [f"told: {listed(done)}"] if done else []
    parts += [f"TO BE TOLD: {listed(missing)}"] if missing else []
    return "; ".join(parts) + reason


def cause(incident: timeline.Incident) -> str:
    """Return the cause and its summary in one line."""
    if not incident.cause:
        return "unknown: triage did not get to name one"
    summary = (incident.cause_summary or "").rstrip(". ")
    return f"{incident.cause}: {summary}" if summary else incident.cause


def ladder(incident: timeline.Incident) -> str:
    """Return which rungs were tried and which one held."""
    if not incident.rungs_tried:
        return "none tried"
    verdicts = [f"{each.rung} {held(each)}" for each in incident.rungs_tried]
    return ", then ".join(verdicts)


def held(rung: timeline.Rung) -> str:
    """Return what became of a rung in one or two words."""
    if rung.held:
        return "held"
    if rung.halted:
        return "stopped the climb"
    return "did not hold" if rung.held is False else "not verified"


def detection(incident: timeline.Incident) -> str:
    """Return how the outage was noticed."""
    probe = incident.probe
    if not probe:
        return "by a run of this playbook; no failing health probe is on record"
    parts = []
    failing = [each for each in probe.get("endpoints") or [] if each.get("ok") is False]
    if (probe.get("process") or {}).get("state") == "gone":
        parts.append("the process was gone")
    failures = probe.get("max_consecutive_failures") or probe.get("consecutive_failures")
    if failures:
        parts.append(f"{counted(int(failures), 'health probe')} failed in a row")
    if failing:
        parts.append(listed([endpoint(each) for each in failing]))
    return "health probe: " + ("; ".join(parts) or f"severity {probe.get('severity') or 'unknown'}")


def endpoint(each: Mapping[str, Any]) -> str:
    """Return an endpoint's name and what it answered."""
    answer = each.get("error") or (f"status {each['status']}" if each.get("status") else "")
    name = str(each.get("name") or "endpoint")
    return f"{name}: {answer}" if answer else name


def actions(incident: timeline.Incident) -> List[Action]:
    """Return the checklist of the runbook's 7.2, each item argued from this incident, and the findings' remedies."""
    causes = [str(each.get("cause")) for each in incident.findings] or [incident.cause or "unknown"]
    remedies = [
        Action(
            title=str(each["remedy"]).rstrip(". "),
            wanted=True,
            why=f"remedy of the finding {each.get('cause') or 'unknown'}",
        )
        for each in incident.findings
        # What is merely possible, or follows from another finding, is no item to settle.
        if each.get("remedy") and float(each.get("confidence") or 0) >= _LIKELY
    ]
    return [
        _thresholds(incident),
        _automation(incident),
        _rotation(incident, causes),
        _resources(incident, causes),
        *remedies,
    ]


def _thresholds(incident: timeline.Incident) -> Action:
    title = "Review the alert thresholds"
    detect, probe = incident.durations.detect, incident.probe
    gone = (probe.get("process") or {}).get("state") == "gone"
    if detect is None:
        return Action(title, True, "when the outage began is not known, so nothing shows how long it went unnoticed")
    if detect > 60:
        return Action(
            title, True, f"the outage went unnoticed for {duration(detect)}: probe more often or alert sooner"
        )
    if gone:
        return Action(
            title, False, f"noticed after {duration(detect)}, as the process was gone; no threshold was waited for"
        )
    return Action(title, False, f"noticed after {duration(detect)}; the thresholds cost no time worth saving")


def _automation(incident: timeline.Incident) -> Action:
    title = "Consider automatic recovery"
    if incident.outcome == "recovered":
        why = f"recovered by this playbook ({ladder(incident)}) in {duration(incident.durations.mitigate)}"
        late = incident.durations.detect is not None and incident.durations.detect > 60
        return Action(title, late, f"{why}; run it by schedule or from the alert, not by hand" if late else why)
    if incident.outcome == "warning":
        return Action(title, False, "a warning is looked into and not acted upon")
    return Action(title, True, f"the playbook did not bring the service back: {ladder(incident)}")


def _rotation(incident: timeline.Incident, causes: Sequence[str]) -> Action:
    title = "Check log rotation"
    if "disk_full" in causes:
        return Action(title, True, "a file system was full: see what grew, and that logs are rotated and compressed")
    if not incident.findings:
        return Action(title, True, "triage has no findings on record, so the disk was not shown to have room")
    return Action(title, False, f"triage found {listed(causes)}, and no full file system among it")


def _resources(incident: timeline.Incident, causes: Sequence[str]) -> Action:
    title = "Consider more memory or disk"
    short = sorted({_RESOURCE_CAUSES[each] for each in causes if each in _RESOURCE_CAUSES})
    if short:
        return Action(
            title, True, f"{listed(short)} ran out ({listed([each for each in causes if each in _RESOURCE_CAUSES])})"
        )
    if not incident.findings:
        return Action(title, True, "triage has no findings on record, so memory and disk were not shown to suffice")
    return Action(title, False, f"triage found {listed(causes)}, and neither memory nor disk short")


def happened(step: timeline.Step) -> str:
    """Return what a step did, in one line; what failed says why."""
    if step.kind == "run_start":
        return f"Run begins: {step.task or 'playbook'}"
    if step.kind == "outcome":
        return f"Verdict: {OUTCOMES.get(str(step.data.get('outcome')), str(step.data.get('outcome')))}"
    name = (step.task or step.action or "task").strip()
    if step.kind == "unreachable":
        return f"Host unreachable: {name}"
    if step.kind == "retry":
        return f"Tried again: {name}"
    module = whitelist.own_module(step.action or "")
    teller = _TELLERS.get(module or "")
    told_of = teller(step.data) if teller and step.data and step.status not in ("failed", "ignored") else ""
    if step.status in ("failed", "ignored"):
        told_of = f"{step.status}: {step.message}" if step.message else str(step.status)
    return f"{name}: {told_of}" if told_of else name


def probed(step: timeline.Step) -> bool:
    """Say whether a step is a look at the service's health that gave an answer."""
    return whitelist.own_module(step.action or "") == "health_probe" and "healthy" in step.data


def refused(step: timeline.Step) -> str:
    """Return what a step found wrong with the configuration, empty for other steps."""
    return _tell_preflight(step.data) if whitelist.own_module(step.action or "") == "service_preflight" else ""


def _tell_probe(data: Mapping[str, Any]) -> str:
    if data.get("healthy"):
        return f"healthy after {counted(int(data.get('attempts') or 1), 'probe')}"
    parts = [str(data.get("severity") or "unhealthy")]
    if (data.get("process") or {}).get("state") == "gone":
        parts.append("process gone")
    parts += [endpoint(each) for each in data.get("endpoints") or [] if each.get("ok") is False]
    login = data.get("login") or {}
    if login.get("ok") is False:
        parts.append(f"login: {login.get('error') or login.get('status')}")
    return ", ".join(parts)


def _tell_triage(data: Mapping[str, Any]) -> str:
    findings = data.get("findings") or []
    if not findings:
        return "no cause found"
    first = findings[0]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{first.get('cause') or 'unknown'}: {first.get('summary') or ''}{more}"


def _tell_check(data: Mapping[str, Any]) -> str:
    if data.get("healthy"):
        counts = data.get("row_counts") or {}
        return f"sound, {number(sum(counts.values()))} rows in {counted(len(counts), 'table')}" if counts else "sound"
    messages = [str(each.get("message") or each.get("code")) for each in data.get("problems") or []]
    return f"not sound: {listed(messages, limit=3)}" if messages else "not sound"


def _tell_process(data: Mapping[str, Any]) -> str:
    parts = [
        f"stopped pid {each.get('pid')} with {each.get('signal')} in {duration(each.get('seconds'))}"
        for each in data.get("stopped") or []
    ]
    begun = [str(pid) for pid in data.get("pids_after") or [] if pid not in (data.get("pids_before") or [])]
    if begun:
        parts.append(f"started pid {listed(begun)}")
    parts += [
        f"port {each.get('port')} is held by {each.get('command')} (pid {each.get('pid')})"
        for each in data.get("foreign") or []
    ]
    return "; ".join(parts) or str(data.get("state") or "")


def _tell_backup(data: Mapping[str, Any]) -> str:
    where = data.get("backup_file") or data.get("evidence_dir")
    return f"kept as {where}" if where else ""


def _tell_wal(data: Mapping[str, Any]) -> str:
    frames = data.get("frames_committed", data.get("frames_before"))
    return f"{counted(int(frames), 'frame')} moved into the database" if frames else ""


def _tell_restore(data: Mapping[str, Any]) -> str:
    if not data.get("method"):
        return f"no method is possible: {data.get('reason') or ''}"
    return f"{data['method']}: {data.get('reason') or ''}; lost: {data.get('statement') or ''}"


def _tell_npm(data: Mapping[str, Any]) -> str:
    why = listed([str(each) for each in data.get("reasons") or []], limit=3) or "asked for"
    if data.get("swapped"):
        return f"rebuilt: {why}"
    return f"to be rebuilt: {why}" if data.get("needed") else "not needed"


def _tell_knex(data: Mapping[str, Any]) -> str:
    applied, pending = data.get("applied") or [], data.get("pending") or []
    if applied:
        return f"applied {listed([str(each) for each in applied], limit=3)}"
    held = "; another migration holds the lock, or died with it" if data.get("locked") else ""
    return (f"{len(pending)} pending" if pending else "nothing pending") + held


def _tell_incident(data: Mapping[str, Any]) -> str:
    return f"incident {data['id']}" if data.get("id") else ""


def _tell_preflight(data: Mapping[str, Any]) -> str:
    return listed([str(each.get("message")) for each in data.get("problems") or []], limit=3)


_TELLERS: Dict[str, Callable[[Mapping[str, Any]], str]] = {
    "health_probe": _tell_probe,
    "triage_info": _tell_triage,
    "sqlite_check": _tell_check,
    "sqlite_backup": _tell_backup,
    "sqlite_wal": _tell_wal,
    "sqlite_restore": _tell_restore,
    "node_process": _tell_process,
    "npm_ci": _tell_npm,
    "knex_migrate": _tell_knex,
    "incident": _tell_incident,
    "service_preflight": _tell_preflight,
}
