# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem of an incident as one HTML page that needs nothing else, and the index of several."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import urllib.parse
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import jinja2
from markupsafe import Markup

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    html_chart,
    html_template,
    prose,
    prose_actions,
    prose_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_ENVIRONMENT = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
_STYLE = Markup(html_template.STYLE)  # noqa: S704 - ours
_HASH = base64.b64encode(hashlib.sha256(html_template.STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
_TEMPLATES: Dict[str, jinja2.Template] = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the index: an incident and the file of its page."""

    incident: Mapping[str, Any]
    file: str


def _render(words: Words, template: str, **values: Any) -> str:
    # Compiled when it is first needed: most runs write no page.
    if template not in _TEMPLATES:
        _TEMPLATES[template] = _ENVIRONMENT.from_string(template)
    return _TEMPLATES[template].render(language=words.language, policy=_POLICY, style=_STYLE, say=words.say, **values)


def page(words: Words, incident: incident_model.Incident) -> str:
    """Return the page of an incident."""
    causes = [finding for finding in incident.findings if prose.likely(finding)]
    noted = [finding for finding in incident.findings if not prose.likely(finding)]
    steps = [step for step in incident.steps if not prose_steps.recorded(step)]
    told = prose_steps.short(steps)
    actions = sorted(prose_actions.actions(words, incident), key=lambda action: not action.wanted)
    login = prose.login(words, incident.login, incident.login_error)
    return _render(
        words,
        html_template.INCIDENT,
        title=words.say("doc.title", subject=prose.subject(words, incident), incident=incident.incident),
        tone=screen_report.tone(incident),
        outcome=_verdict(words, incident),
        outage=prose.lasted(words, incident),
        facts=prose.facts(words, incident),
        next_step=prose.next_step(words, incident),
        notes=prose.notes(words, incident),
        picture=html_chart.timeline(words, incident),
        time_columns=["UTC", *([words.zone_name()] if words.zone else [])],
        marks=[_mark(words, incident, name, at) for name, at in prose.marks(words, incident)],
        sources=prose.sources(words, incident),
        measures=prose.measures(words, incident),
        detected=prose.detected(words, incident),
        impact=[
            (words.say("doc.outage"), prose.outage(words, incident)),
            (words.say("doc.users"), prose.users(words, incident)),
            (words.say("doc.requests"), prose.requests(words, incident)),
            (words.say("doc.rows"), prose.rows(words, incident)),
            (words.say("doc.data_loss"), prose.data_loss(words, incident)),
        ],
        rows=_rows(words, incident),
        rows_open=bool(incident.rows_lost()),
        causes=[_finding(words, finding) for finding in causes],
        noted=[_finding(words, finding) for finding in noted],
        also_noted=words.say("label", name=words.say("doc.also_noted"), text=prose.named(words, noted)),
        no_cause=words.say("doc.not_established") if noted else words.sentence(prose.cause(words, incident)),
        ladder=html_chart.ladder(words, incident),
        nothing_taken=words.sentence(prose.nothing_taken(words, incident)),
        climbs=[_climb(words, climb) for climb in prose.climbs(words, incident)],
        skips=[words.sentence(each) for each in prose.skips(words, incident)],
        login=words.sentence(words.say("label", name=words.say("doc.login"), text=login)) if login else "",
        actions=actions,
        timeline=_timeline(words, incident, told),
        every=_timeline(words, incident, steps) if len(steps) > len(told) else [],
        number_of_steps=len(steps),
        told=words.sentence(prose.whom(words, incident)),
        tellings=[
            {**dataclasses.asdict(each), "times": _times(words, each.at)} for each in prose.tellings(words, incident)
        ],
        evidence=[
            *((words.say("doc.on_host", name=prose.upper(name)), path) for name, path in prose.kept(words, incident)),
            *((words.say("doc.timeline_of_run"), f"{run.run}.jsonl") for run in incident.runs),
        ],
        no_evidence="" if incident.evidence else words.say("doc.no_evidence"),
        not_copied=prose.upper(prose.not_copied(words, incident)),
    )


def index(words: Words, entries: Sequence[Entry]) -> str:
    """Return the page that names the postmortems of a folder."""
    rows = []
    for entry in entries:
        told = entry.incident
        spans, times = told.get("durations") or {}, told.get("times") or {}
        rows.append(
            {
                "at": words.short(times.get("started_at")) or words.say("unknown"),
                "host": told.get("host"),
                "outcome": words.name("outcome", told.get("outcome")),
                "tone": screen_report.tone_of(told.get("outcome"), told.get("data_loss")),
                "data_loss": told.get("data_loss") in ("suspected", "known"),
                "outage": words.duration(spans.get("outage")),
                "cause": words.name("cause", told.get("cause") or "unknown"),
                "incident": told.get("incident"),
                "file": urllib.parse.quote(entry.file),
            }
        )
    return _render(words, html_template.INDEX, title=words.say("page.index"), rows=rows)


def _verdict(words: Words, incident: incident_model.Incident) -> str:
    outcome = prose.outcome(words, incident)
    return words.say("page.with_loss", outcome=outcome) if incident.data_loss == "suspected" else outcome


def _times(words: Words, at: Optional[str]) -> List[str]:
    return [(at or words.say("unknown")).replace("T", " ").rstrip("Z"), *([words.local(at)] if words.zone else [])]


def _mark(words: Words, incident: incident_model.Incident, name: str, at: Optional[str]) -> Dict[str, Any]:
    began = incident.times.started_at
    after = timeline_events.seconds_between(began, at) if at != began else None
    times = _times(words, at)
    if not at:
        # In the column that a narrow page shows.
        times = [*[""] * (len(times) - 1), prose.no_instant(words, incident, name)]
    return {"name": name, "times": times, "after": "" if after is None else words.duration(after)}


def _rows(words: Words, incident: incident_model.Incident) -> List[Dict[str, Any]]:
    before, after = incident.rows_before, incident.rows_after

    def count(value: Optional[float]) -> str:
        return words.say("not_counted") if value is None else words.number(value)

    def change(table: str) -> str:
        if not after or table not in before:
            return ""
        grown = after.get(table, 0) - before[table]
        return f"{grown:+,.0f}" if grown else "±0"

    return [
        {
            "name": table,
            "before": count(before.get(table)),
            "after": count(after.get(table)),
            "change": change(table),
            "fewer": table in incident.rows_lost(),
        }
        for table in (dict.fromkeys([*before, *after]) if before else ())
    ]


def _finding(words: Words, finding: Mapping[str, Any]) -> Dict[str, Any]:
    named = str(finding.get("cause") or "unknown")
    evidence = [(item.get("source") or "", item.get("text") or "") for item in finding.get("evidence") or []]
    original = prose.original(words, named, finding.get("summary"))
    if original:
        evidence.insert(0, ("", original))
    return {
        "name": words.name("cause", named),
        "sure": prose.sure(words, finding),
        "summary": words.sentence(prose.summed_up(words, named, finding.get("summary"))),
        "evidence": evidence,
    }


def _climb(words: Words, climb: prose.Climb) -> Dict[str, Any]:
    rung = climb.rung
    if rung is None:
        return {"name": climb.name or words.say("doc.on_no_rung"), "told": "", "facts": climb.facts}
    parts = [prose.held(words, rung), *([words.duration(rung.seconds)] if rung.seconds is not None else [])]
    told = words.say("list.comma").join(parts)
    return {
        "name": climb.name,
        "told": words.say("label", name=told, text=words.said(rung.reason)) if rung.reason else told,
        "facts": climb.facts,
    }


def _timeline(
    words: Words, incident: incident_model.Incident, steps: Sequence[incident_model.Step]
) -> List[Dict[str, Any]]:
    rows: List[Tuple[str, Dict[str, Any]]] = []
    for name, at in prose.marks(words, incident):
        if at:
            rows.append((at, {"kind": "moment", "part": "", "what": name, "took": ""}))
    for at, text in prose.cuts(words, incident):
        rows.append((at, {"kind": incident_model.FAILURE, "part": "", "what": prose.upper(text), "took": ""}))
    for step in steps:
        row = {
            "kind": "run" if step.kind == "run_start" and len(incident.runs) > 1 else step.weight,
            "part": prose.part(words, step.role),
            "what": prose_steps.happened(words, step),
            "took": "" if step.seconds is None else words.duration(step.seconds),
        }
        rows.append((step.at, row))
    told: List[Dict[str, Any]] = []
    day = ""
    for at, row in sorted(rows, key=lambda pair: pair[0]):
        times = _times(words, at)
        # The day, of the zone that people live by, stands once above its rows.
        if times[-1][:10] != day:
            day = times[-1][:10]
            told.append({"kind": "day", "day": day})
        told.append({**row, "times": [each[11:] for each in times]})
    return told
