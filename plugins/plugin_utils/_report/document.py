# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a postmortem, section by section, as plain text. markdown.py and html.py render it as documents."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose,
    prose_actions,
    prose_causes,
    prose_changes,
    prose_data,
    prose_impact,
    prose_ladder,
    prose_methods,
    prose_notifications,
    prose_steps,
    prose_times,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import message_of, summed_up
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import instants
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

# The name of a field, and the text in this field.
Field = Tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A time in the incident. after: the time since the beginning of the outage.

    missing: the text to show if there is no time.
    """

    name: str
    at: Optional[str]
    after: str
    missing: str


@dataclasses.dataclass(frozen=True)
class Rows:
    """The row counts of a table before and after the outage. fewer: True if rows are missing afterwards."""

    table: str
    before: str
    after: str
    change: str
    fewer: bool


@dataclasses.dataclass(frozen=True)
class Finding:
    """A cause or a note. evidence: source and text. The source can be empty."""

    name: str
    sure: str
    summary: str
    evidence: List[Field]


@dataclasses.dataclass(frozen=True)
class Climb:
    """The changes made by a rung, or the changes made outside all rungs.

    In the second case, `held` and `took` are empty. `name` can be empty.
    """

    name: str
    on_rung: bool
    held: str
    took: str
    reason: str
    facts: List[str]


@dataclasses.dataclass(frozen=True)
class Event:
    """A row in the timeline. kind: moment (a time that is not a step), run, or the step's weight."""

    at: str
    kind: str
    what: str
    part: str = ""
    took: str = ""
    moment: bool = False


@dataclasses.dataclass(frozen=True)
class Document:
    """A postmortem. Text from the host is not escaped yet."""

    title: str
    outcome: str
    outage: str
    facts: List[Field]
    notes: List[str]
    next_steps: List[str]
    time_columns: List[str]
    marks: List[Mark]
    measures: List[prose_times.Measure]
    sources: List[str]
    detected: List[str]
    impact: List[Field]
    methods: List[prose_methods.Described]
    rows: List[Rows]
    causes: List[Finding]
    no_cause: str
    noted: List[Finding]
    also_noted: str
    changes_told: str
    changes: List[prose_changes.Change]
    climbs: List[Climb]
    nothing_taken: str
    skips: List[str]
    login: str
    actions: List[prose_actions.Action]
    moments: List[Event]
    steps: List[Event]
    short: List[Event]
    told: str
    tellings: List[prose_notifications.Telling]
    no_evidence: str
    not_copied: str
    evidence: List[Field]


def compose(words: Words, incident: incident_model.Incident) -> Document:
    """Return the content of the postmortem for an incident."""
    causes = [finding for finding in incident.findings if prose_causes.likely(finding)]
    noted = [finding for finding in incident.findings if not prose_causes.likely(finding)]
    login = prose.login(words, *prose.logged_in(incident))
    steps = [step for step in incident.steps if not prose_steps.recorded(step)]
    events = {id(step): _event(words, incident, step) for step in steps}
    return Document(
        title=words.say("doc.title", subject=prose.subject(words, incident), incident=incident.incident),
        outcome=prose.outcome(words, incident),
        outage=prose_times.lasted(words, incident),
        facts=prose.facts(words, incident),
        notes=prose.notes(words, incident),
        next_steps=prose.next_steps(words, incident),
        time_columns=["UTC", *([words.zone_name()] if words.zone else [])],
        marks=[_mark(words, incident, name, at) for name, at in prose_times.qualified_marks(words, incident)],
        measures=prose_times.measures(words, incident),
        sources=prose_times.sources(words, incident),
        detected=prose_impact.detected(words, incident),
        impact=_impact(words, incident),
        methods=prose_methods.methods(words, incident),
        rows=_rows(words, incident),
        causes=[_finding(words, finding) for finding in causes],
        no_cause=words.say("doc.not_established") if noted else words.sentence(prose_causes.cause(words, incident)),
        noted=[_finding(words, finding) for finding in noted],
        also_noted=_label(words, "doc.also_noted", prose_causes.named(words, noted)),
        changes_told=prose_changes.summary(words, incident),
        changes=prose_changes.changes(words, incident),
        climbs=[_climb(words, incident, climb) for climb in prose_ladder.climbs(words, incident)],
        nothing_taken=words.sentence(prose_ladder.nothing_taken(words, incident)),
        skips=[
            words.sentence(each)
            for each in (
                *prose_ladder.not_remedied(words, incident, (prose_ladder.LEFT,)),
                *prose_ladder.skips(words, incident),
            )
        ],
        login=words.sentence(_label(words, "doc.login", login)) if login else "",
        actions=sorted(prose_actions.actions(words, incident), key=lambda action: not action.wanted),
        moments=_moments(words, incident),
        steps=[events[id(step)] for step in steps],
        short=[events[id(step)] for step in prose_steps.short(steps)],
        told=prose_notifications.sentence(words, incident),
        tellings=prose_notifications.tellings(words, incident),
        no_evidence="" if incident.evidence else words.say("doc.no_evidence"),
        not_copied=words.capitalized(prose_data.not_copied(words, incident)),
        evidence=[
            *(_kept(words, incident, name, path) for name, path in prose_data.kept(words, incident)),
            *((words.say("doc.timeline_of_run"), f"{run.run}.jsonl") for run in incident.runs),
            *((words.say("doc.job_of_run"), run.job) for run in incident.runs if run.job),
        ],
    )


def _impact(words: Words, incident: incident_model.Incident) -> List[Field]:
    seeded = prose_data.seeded(words, incident)
    return [
        (words.say("doc.outage"), prose_times.outage(words, incident)),
        (words.say("doc.users"), prose_impact.users(words, incident)),
        (words.say("doc.requests"), prose_impact.requests(words, incident)),
        (words.say("doc.rows"), prose_data.rows(words, incident)),
        *([(words.say("doc.seeded"), words.paragraph(seeded))] if seeded else []),
        (words.say("doc.data_loss"), prose_data.data_loss(words, incident)),
    ]


def _moments(words: Words, incident: incident_model.Incident) -> List[Event]:
    """Return the times of the incident and the times when the connection was lost, as events."""
    marks = prose_times.qualified_marks(words, incident)
    return [
        *(Event(at, "moment", name, moment=True) for name, at in marks if at),
        *(
            Event(at, incident_model.FAILURE, words.capitalized(text), moment=True)
            for at, text in prose_times.cuts(words, incident)
        ),
    ]


def chronological(*events: Sequence[Event]) -> List[Event]:
    """Return events sorted by time. Events with the same time keep their order."""
    return sorted((event for each in events for event in each), key=lambda event: event.at)


def _kept(words: Words, incident: incident_model.Incident, name: str, path: str) -> Field:
    """Return the label and path of a kept file. The path omits the evidence folder, which is listed first."""
    folder = f"{incident.evidence}/"
    if incident.evidence and path.startswith(folder):
        return words.say("doc.in_evidence", name=words.capitalized(name)), path[len(folder) :]
    return words.say("doc.on_host", name=words.capitalized(name)), path


def _label(words: Words, key: str, text: str) -> str:
    return words.say("label", name=words.say(key), text=text)


def _mark(words: Words, incident: incident_model.Incident, name: str, at: Optional[str]) -> Mark:
    began = incident.times.started_at
    after = instants.seconds_between(began, at) if at != began else None
    return Mark(
        name=name,
        at=at,
        after="" if after is None else words.duration(after),
        missing=prose_times.no_instant(words, incident, name),
    )


def _rows(words: Words, incident: incident_model.Incident) -> List[Rows]:
    before, after, seeded = incident.rows_before, incident.rows_after, incident.rows_seeded

    def count(value: Optional[float]) -> str:
        return words.say("not_counted") if value is None else words.number(value)

    def count_after(table: str) -> str:
        if table in seeded and table not in after:
            return words.say("doc.rows_seeded", number=words.number(seeded[table]))
        return count(after.get(table))

    def change(table: str) -> str:
        if not after or table not in before:
            return ""
        grown = after.get(table, 0) - before[table]
        return f"{grown:+,.0f}" if grown else "±0"

    tables = dict.fromkeys([*before, *after]) if before else ()
    fewer = incident.rows_lost()
    return [Rows(each, count(before.get(each)), count_after(each), change(each), each in fewer) for each in tables]


def _evidence(words: Words, item: Mapping[str, Any], name: str) -> str:
    """Return the source or the text of a piece of evidence. Quoted text, such as a log line, is not translated."""
    told = message_of(item, name)
    return words.message(told, "") if told else str(item.get(name) or "")


def _finding(words: Words, finding: Mapping[str, Any]) -> Finding:
    named = str(finding.get("cause") or "unknown")
    original = prose_causes.original(words, finding)
    summary = summed_up(words, named, finding.get("summary"), message_of(finding, "summary"))
    evidence = [
        (_evidence(words, item, "source"), _evidence(words, item, "text")) for item in finding.get("evidence") or []
    ]
    return Finding(
        name=words.name("cause", named),
        sure=prose_causes.sure(words, finding),
        summary=words.sentence(summary),
        evidence=[*([("", original)] if original else []), *evidence],
    )


def _climb(words: Words, incident: incident_model.Incident, climb: prose_ladder.Climb) -> Climb:
    rung = climb.rung
    return Climb(
        name=climb.name,
        on_rung=rung is not None,
        held=prose_ladder.held(words, rung) if rung else "",
        took=_took(words, incident, rung) if rung else "",
        reason=prose_ladder.why(words, rung) if rung else "",
        facts=climb.facts,
    )


def _took(words: Words, incident: incident_model.Incident, rung: incident_model.Rung) -> str:
    """Return the duration of a rung, and a note if this duration includes a verification."""
    if rung.seconds is None:
        return ""
    checks = [each.at for each in incident.steps if each.run == rung.run and each.role == "verification"]
    after = [instants.seconds_between(rung.started_at, at) for at in checks]
    verified = any(each is not None and each <= rung.seconds for each in after)
    return words.say("doc.rung_took.verified" if verified else "doc.rung_took", took=words.duration(rung.seconds))


def _event(words: Words, incident: incident_model.Incident, step: incident_model.Step) -> Event:
    return Event(
        at=step.at,
        kind="run" if step.kind == "run_start" and len(incident.runs) > 1 else step.weight,
        what=prose_steps.happened(words, step),
        part=words.part(step.role),
        took="" if step.seconds is None else words.duration(step.seconds),
    )
