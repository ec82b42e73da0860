# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an incident's model says, in sentences: plain text, shared by the document and by the summary on screen."""

from __future__ import annotations

import dataclasses
import posixpath
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import timeline, whitelist

OUTCOMES: Mapping[str, str] = {
    "recovered": "RECOVERED",
    "not_recovered": "NOT RECOVERED",
    "warning": "WARNING, nothing restarted",
    "healthy": "HEALTHY",
    "would_recover": "WOULD RECOVER (check mode, nothing changed)",
    "unfinished": "UNFINISHED, the run ended before its verdict",
}

LOGINS: Mapping[str, str] = {
    "checked": "checked",
    "no_password": "not checked: no password was given",
    "no_answer": "not checked: the service did not answer",
    "failed": "failed",
}

_LIKELY = 0.5

_RESOURCE_CAUSES = {"oom_kill": "memory", "heap_oom": "memory", "disk_full": "disk"}


@dataclasses.dataclass(frozen=True)
class Action:
    """An item of the runbook's checklist (7.2) or a remedy: whether there is something to do, and why."""

    title: str
    wanted: bool
    why: str


@dataclasses.dataclass(frozen=True)
class Climb:
    """What was changed on one rung, in plain facts; C(rung) is C(None) for what was changed on none.

    C(name): of the rung, or of the part of the recovery that is none.
    """

    rung: Optional[timeline.Rung]
    name: str
    facts: List[str]


def bare(text: object) -> str:
    """Return C(text) on one line, without the punctuation at its end: for a place that puts its own there."""
    return " ".join(str(text or "").split()).rstrip(" .;")


def subject(incident: timeline.Incident) -> str:
    """Return which service on which host."""
    return f"{incident.service} on {incident.host}" if incident.service else incident.host


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
    grown = {table: count - before.get(table, 0) for table, count in after.items() if count > before.get(table, 0)}
    more = listed([f"{table} +{number(count)}" for table, count in grown.items()], limit=3)
    told = f"{told}, {number(sum(after.values()))} after" + (f" ({more})" if more else "")
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
    to = escalation.get("to") or []
    names = dict(zip(escalation.get("contacts") or [], to))
    entries = escalation.get("told") or []
    reached: Dict[str, List[str]] = {}
    for each in entries:
        if each.get("ok"):
            ways = reached.setdefault(str(names.get(each.get("contact"), each.get("contact"))), [])
            if each.get("channel") not in ways:
                ways.append(str(each.get("channel")))
    reason = f" ({bare(escalation['reason'])})" if escalation.get("reason") else ""
    if not to and not reached:
        return f"nobody, on record only{reason}"
    missing = [name for name in to if name not in reached]
    failed = [f"{each.get('channel')}: {bare(each.get('error'))}" for each in entries if each.get("ok") is False]
    parts = [f"told: {listed([f'{name} by {listed(ways)}' for name, ways in reached.items()])}"] if reached else []
    parts += [f"TO BE TOLD: {listed(missing)}"] if missing else []
    parts += [f"NOT REACHED by {listed(failed)}"] if failed else []
    return "; ".join(parts) + reason


def cause(incident: timeline.Incident) -> str:
    """Return the cause and its summary in one line."""
    if not incident.cause:
        return "unknown: triage did not get to name one"
    summary = bare(incident.cause_summary)
    return f"{incident.cause}: {summary}" if summary else incident.cause


def ladder(incident: timeline.Incident) -> str:
    """Return which rungs were tried and which one held, run by run where there were several."""
    if not incident.rungs_tried and not incident.rungs_skipped:
        return f"{incident.rung} held" if incident.rung else "none tried"
    names = run_names(incident)
    if not names:
        return _climbed(incident)
    return "; ".join(f"{name}: {_climbed(incident, run=run)}" for run, name in names.items())


def _climbed(incident: timeline.Incident, *, run: Optional[str] = None) -> str:
    tried = [
        (each.started_at or "", f"{each.rung} {held(each)}") for each in incident.rungs_tried if run in (None, each.run)
    ]
    skipped = [(each.at or "", f"{each.rung} skipped") for each in incident.rungs_skipped if run in (None, each.run)]
    return ", then ".join(text for _at, text in sorted(tried + skipped, key=lambda pair: pair[0])) or "none tried"


def skips(incident: timeline.Incident, *, run: Optional[str] = None) -> List[str]:
    """Return which rungs were not climbed, and why."""
    return [f"{each.rung} skipped: {bare(each.reason)}" for each in incident.rungs_skipped if run in (None, each.run)]


def run_names(incident: timeline.Incident) -> Dict[str, str]:
    """Return run -> C(run 1), C(run 2); nothing where there was only one, which needs no name."""
    runs = [each.run for each in incident.runs]
    return {run: f"run {position}" for position, run in enumerate(runs, start=1)} if len(runs) > 1 else {}


def rung_name(incident: timeline.Incident, rung: timeline.Rung) -> str:
    """Return the rung's name, with the run it was tried in where there were several."""
    run = run_names(incident).get(rung.run)
    return f"{run}, {rung.rung}" if run else rung.rung


def climbs(incident: timeline.Incident, *, run: Optional[str] = None) -> List[Climb]:
    """Return what was changed on each rung, in the order in which they were tried, then what was changed on none.

    C(run): only of this run.
    """
    told = [Climb(rung, rung_name(incident, rung), []) for rung in incident.rungs_tried if run in (None, rung.run)]
    mended = Climb(None, "remediation", remedies(incident, run=run))
    other = Climb(None, "", [])
    for step in incident.steps:
        # What the remedies themselves tell of is not told twice.
        if step.role == "remediation" and mended.facts:
            continue
        if step.weight != timeline.CHANGE or run not in (None, step.run):
            continue
        # A rung may say more than the role's name: how it was done.
        of_role = [
            each
            for each in told
            if each.rung and each.rung.run == step.run and each.rung.rung.partition(" ")[0] == step.role
        ]
        begun = [each for each in of_role if each.rung and (each.rung.started_at or "") <= step.at]
        (begun or of_role[:1] or [other])[-1].facts.append(deed(step))
    return [*([mended] if mended.facts else []), *told, *([other] if other.facts else [])]


def remedies(incident: timeline.Incident, *, run: Optional[str] = None) -> List[str]:
    """Return what was done about the causes before the ladder, and what was not allowed; C(run): in this run."""
    facts = []
    for each in incident.remedies:
        if run not in (None, each.run):
            continue
        if each.failed:
            facts.append(f"{each.cause}: {bare(each.action)}: FAILED: {listed([bare(text) for text in each.detail])}")
        elif each.changed:
            detail = listed([bare(text) for text in each.detail])
            facts.append(f"{each.cause}: {bare(each.action)}" + (f" ({detail})" if detail else ""))
        elif each.reason:
            facts.append(f"{each.cause}: left alone: {bare(each.reason)}")
    return facts


def kept(incident: timeline.Incident) -> List[Tuple[str, str]]:
    """Return what the recovery left on the host for a person to look at or to remove: name and path."""
    places = [
        ("evidence", incident.evidence),
        ("database backup", incident.backup_file),
        ("damaged database", incident.database_kept),
        ("old node_modules", incident.modules_kept),
    ]
    return [(name, path) for name, path in places if path]


def login(state: Optional[str], error: Optional[str]) -> str:
    """Return what became of the login of the last verification, empty where none was made; see timeline.login."""
    told = LOGINS.get(state or "", "")
    return f"{told}: {bare(error)}" if told and error else told


def likely(finding: Mapping[str, Any]) -> bool:
    """Say whether a finding is a root cause: as likely as not, and not the consequence of another one."""
    return float(finding.get("confidence") or 0) >= _LIKELY and not finding.get("explained_by")


def sure(finding: Mapping[str, Any]) -> str:
    """Return how sure a finding is, and what explains it: C(90% sure, explained by disk_full); empty if unknown."""
    confidence, by = finding.get("confidence"), finding.get("explained_by")
    parts = [f"{confidence:.0%} sure"] if confidence is not None else []
    return ", ".join([*parts, f"explained by {by}"] if by else parts)


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
    """Return the checklist of the runbook's 7.2, each item argued from this incident, and what the findings ask for."""
    causes = [str(each.get("cause")) for each in incident.findings] or [incident.cause or "unknown"]
    # What is merely possible, or follows from another finding, is no item to settle.
    settled = [each for each in incident.findings if likely(each)]
    to_do = [
        Action(bare(each["remedy"]), True, f"remedy of the finding {each.get('cause') or 'unknown'}")
        for each in settled
        # On a service that is back the remedy was applied.
        if each.get("remedy") and incident.outcome != "recovered"
    ]
    to_prevent = [
        Action(bare(each["prevention"]), True, f"so that {each.get('cause') or 'unknown'} does not come back")
        for each in settled
        if each.get("prevention")
    ]
    return [
        _thresholds(incident),
        _automation(incident),
        _rotation(incident, causes),
        _resources(incident, causes),
        *to_do,
        *to_prevent,
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
    return Action(title, False, "no full file system was found")


def _resources(incident: timeline.Incident, causes: Sequence[str]) -> Action:
    title = "Consider more memory or disk"
    short = sorted({_RESOURCE_CAUSES[each] for each in causes if each in _RESOURCE_CAUSES})
    if short:
        return Action(
            title, True, f"{listed(short)} ran out ({listed([each for each in causes if each in _RESOURCE_CAUSES])})"
        )
    if not incident.findings:
        return Action(title, True, "triage has no findings on record, so memory and disk were not shown to suffice")
    return Action(title, False, "neither memory nor disk was found short")


def happened(step: timeline.Step) -> str:
    """Return what a step did, in one line: of a change the plain fact, else its name and what came of it."""
    if step.kind == "run_start":
        return f"Run begins: {step.task or 'playbook'}"
    if step.kind == "outcome":
        return f"Verdict: {OUTCOMES.get(str(step.data.get('outcome')), str(step.data.get('outcome')))}"
    name = _name(step)
    if step.kind == "unreachable":
        return f"Host unreachable: {name}"
    if step.kind == "retry":
        return f"Tried again: {name}"
    came = _came(step)
    of_process = whitelist.own_module(step.action or "") == "node_process" and step.weight == timeline.DETAIL
    # The name of the task that starts and stops is the same for both.
    if came and (step.weight == timeline.CHANGE or of_process):
        return came[:1].upper() + came[1:]
    return f"{name}: {came}" if came else name


def deed(step: timeline.Step) -> str:
    """Return what a step changed: the plain fact, or its name where nothing says more."""
    return bare(_came(step)) or _name(step)


def _name(step: timeline.Step) -> str:
    return (step.task or step.action or "task").strip()


def _came(step: timeline.Step) -> str:
    """Return what came of a step: what its result says, or why it failed."""
    if step.status in ("failed", "ignored"):
        return f"{step.status}: {bare(step.message)}" if step.message else str(step.status)
    teller = _TELLERS.get(whitelist.own_module(step.action or "") or "")
    return teller({**step.data, "changed": step.status == "changed"}) if teller and step.data else ""


def recorded(step: timeline.Step) -> bool:
    """Say whether a step only wrote to the incident's record, which the document tells as a whole."""
    return whitelist.own_module(step.action or "") == "incident" and step.weight == timeline.DETAIL


def probed(step: timeline.Step) -> bool:
    """Say whether a step is a look at the service's health that gave an answer."""
    return whitelist.own_module(step.action or "") == "health_probe" and "healthy" in step.data


def seen(look: Mapping[str, Any]) -> str:
    """Return how bad it is and what is wrong, of a look that did not find the service healthy."""
    failing = [endpoint(each) for each in look.get("endpoints") or [] if each.get("ok") is False]
    wrong = bare(look.get("summary") or listed(failing))
    severity = str(look.get("severity") or "unknown")
    return f"{severity}: {wrong}" if wrong else severity


def broken(step: timeline.Step) -> bool:
    """Say whether a step failed because something could not be done, not because its playbook says so."""
    return step.kind == "unreachable" or str(step.action).rsplit(".", 1)[-1] not in ("fail", "assert")


def triaged(step: timeline.Step) -> bool:
    """Say whether a step is a triage that came to its end."""
    return whitelist.own_module(step.action or "") == "triage_info" and "findings" in step.data


def refused(step: timeline.Step) -> List[str]:
    """Return what a step found wrong with the configuration, nothing for other steps."""
    checked = whitelist.own_module(step.action or "") == "service_preflight"
    return [bare(each.get("message")) for each in step.data.get("problems") or []] if checked else []


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
    return f"{first.get('cause') or 'unknown'}: {bare(first.get('summary'))}{more}"


def _tell_check(data: Mapping[str, Any]) -> str:
    if data.get("healthy"):
        counts = data.get("row_counts") or {}
        return f"sound, {number(sum(counts.values()))} rows in {counted(len(counts), 'table')}" if counts else "sound"
    messages = [str(each.get("message") or each.get("code")) for each in data.get("problems") or []]
    return f"not sound: {listed(messages, limit=3)}" if messages else "not sound"


def _tell_process(data: Mapping[str, Any]) -> str:
    before = [str(pid) for pid in data.get("pids_before") or []]
    parts = [
        f"stopped pid {each.get('pid')}"
        + (f" with KILL after {duration(each.get('seconds'))}" if each.get("signal") == "KILL" else "")
        for each in data.get("stopped") or []
    ]
    begun = [str(pid) for pid in data.get("pids_after") or [] if str(pid) not in before]
    if begun:
        parts.append(f"started pid {listed(begun)}")
    if not parts:
        state = str(data.get("state") or "")
        if not data["changed"]:
            state = f"already {state}"
        # In check mode the result tells only what the service was and what it would be. Without a process, stopping
        # it called off a restart that its manager was about to make.
        elif before or state != "stopped":
            state = (
                f"would be restarted (pid {listed(before)})" if before and state == "started" else f"would be {state}"
            )
        parts = [state]
    parts += [
        f"port {each.get('port')} is held by {each.get('command')} (pid {each.get('pid')})"
        for each in data.get("foreign") or []
    ]
    return ", ".join(parts)


def _tell_backup(data: Mapping[str, Any]) -> str:
    # The names alone: whole paths stand where it is told what was kept.
    if data.get("backup_file"):
        return f"database backed up as {posixpath.basename(data['backup_file'])}"
    return f"database files copied as {posixpath.basename(data['evidence_dir'])}" if data.get("evidence_dir") else ""


def _tell_wal(data: Mapping[str, Any]) -> str:
    frames = data.get("frames_committed", data.get("frames_before"))
    return f"{counted(int(frames), 'frame')} of the WAL moved into the database" if frames else ""


def _tell_restore(data: Mapping[str, Any]) -> str:
    if not data.get("method"):
        return f"no method is possible: {bare(data.get('reason'))}"
    return f"{data['method']}: {bare(data.get('reason'))}; lost: {bare(data.get('statement'))}"


def _tell_npm(data: Mapping[str, Any]) -> str:
    why = listed([str(each) for each in data.get("reasons") or []], limit=3) or "asked for"
    if data.get("swapped"):
        return f"dependencies rebuilt: {why}"
    if data.get("needed"):
        return f"dependencies to be rebuilt: {why}"
    return "" if data["changed"] else "not needed"


def _tell_knex(data: Mapping[str, Any]) -> str:
    applied, pending = data.get("applied") or [], data.get("pending") or []
    if applied:
        return f"migrations applied: {listed([str(each) for each in applied], limit=3)}"
    held = "; another migration holds the lock, or died with it" if data.get("locked") else ""
    return (f"{counted(len(pending), 'migration')} pending" if pending else "no migration pending") + held


def _tell_incident(data: Mapping[str, Any]) -> str:
    return f"incident {data['id']}" if data.get("id") else ""


def _tell_preflight(data: Mapping[str, Any]) -> str:
    return "; ".join(bare(each.get("message")) for each in data.get("problems") or [])


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
