# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem of an incident as GitHub-flavoured Markdown: the runbook's seven fields (7.1), the details folded."""

from __future__ import annotations

import re
from typing import Any, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    mermaid,
    prose,
    prose_actions,
    prose_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_ACTIVE = re.compile(r"[\\`*\[\]~|$]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
# What GitHub makes more of in text that is rendered already, so that neither a backslash nor an entity for its sign
# helps: mentions, references (owner/name#1 leaves a note over there), addresses.
_REFERENCE = re.compile(r"(?i)(?<!\w)@(?=\w)|#(?=\w)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)")
_NOTHING = "&#8203;"  # a space without width


def escape(text: object) -> str:
    """Return text of a host as inert Markdown on one line: markup, HTML, mentions and references have no effect."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _ACTIVE.sub(lambda found: "\\" + found.group(), line)
    line = _UNDERSCORE.sub(r"\\_", line)
    return _REFERENCE.sub(lambda found: found.group() + _NOTHING, line)


def code(text: object) -> str:
    """Return text of a host as a code span on one line, also within a table."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def markdown(words: Words, incident: incident_model.Incident) -> str:
    """Return the postmortem document."""
    sections = [
        _head(words, incident),
        _section(words.say("doc.when"), _when(words, incident)),
        _section(words.say("doc.detection"), [escape(" ".join(prose.detected(words, incident)))]),
        _section(words.say("doc.impact"), _impact(words, incident)),
        _section(words.say("doc.cause"), _root_cause(words, incident)),
        _section(words.say("doc.recovery"), _recovery(words, incident)),
        _section(words.say("doc.prevention"), _prevention(words, incident)),
        _section(words.say("doc.timeline"), _timeline(words, incident)),
        _section(words.say("doc.told"), _told(words, incident)),
        _section(words.say("doc.evidence"), _evidence(words, incident)),
    ]
    return "\n\n".join(sections) + "\n"


def _sentence(words: Words, text: str) -> str:
    return escape(words.sentence(text))


def _label(words: Words, key: str, text: str) -> str:
    return words.say("label", name=words.say(key), text=text)


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> List[str]:
    lines: List[Sequence[str]] = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _folded(title: str, lines: Sequence[str]) -> List[str]:
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _head(words: Words, incident: incident_model.Incident) -> str:
    title = words.say("doc.title", subject=escape(prose.subject(words, incident)), incident=escape(incident.incident))
    outage = (words.say("doc.outage"), prose.lasted(words, incident))
    lines = [
        f"# {title}",
        "",
        f"**{escape(prose.outcome(words, incident))}**",
        "",
        *(
            f"- {escape(words.say('label', name=name, text=text))}"
            for name, text in (outage, *prose.facts(words, incident))
        ),
    ]
    for note in prose.notes(words, incident):
        lines += ["", f"> {escape(note)}"]
    step = prose.next_step(words, incident)
    if step:
        lines += ["", words.say("label", name=f"**{words.say('doc.next')}**", text=escape(step))]
    drawn = mermaid.gantt(words, incident)
    return "\n".join([*lines, *([""] if drawn else []), *drawn])


def _times_of(words: Words, at: Optional[str]) -> List[str]:
    """Return the cells for an instant: UTC, and that of the service's zone where there is one."""
    return [escape(at or words.say("unknown")), *([escape(words.local(at))] if words.zone else [])]


def _time_columns(words: Words) -> List[str]:
    return ["UTC", *([words.zone_name()] if words.zone else [])]


def _when(words: Words, incident: incident_model.Incident) -> List[str]:
    rows = []
    for name, at in prose.marks(words, incident):
        after = (
            timeline_events.seconds_between(incident.times.started_at, at) if at != incident.times.started_at else None
        )
        times = _times_of(words, at)
        if not at:
            times[0] = escape(prose.no_instant(words, incident, name))
        rows.append([name, *times, "" if after is None else words.duration(after)])
    lines = _table(["", *_time_columns(words), words.say("doc.after_begin")], rows)
    lines += ["", *(f"- {_measured(words, each)}" for each in prose.measures(words, incident))]
    for source in prose.sources(words, incident):
        lines += ["", escape(source)]
    return lines


def _measured(words: Words, measure: prose.Measure) -> str:
    return words.say("label", name=words.say("aside", text=measure.title, aside=measure.meaning), text=measure.value)


def _impact(words: Words, incident: incident_model.Incident) -> List[str]:
    told = [
        ("doc.outage", prose.outage(words, incident)),
        ("doc.users", prose.users(words, incident)),
        ("doc.requests", prose.requests(words, incident)),
        ("doc.rows", prose.rows(words, incident)),
        ("doc.data_loss", prose.data_loss(words, incident)),
    ]
    lines = [f"- {escape(_label(words, key, text))}" for key, text in told]
    if incident.rows_before:
        header = [words.say(f"doc.column.{name}") for name in ("table", "before", "after")]
        tables = list(dict.fromkeys([*incident.rows_before, *incident.rows_after]))
        rows = [
            (
                code(name),
                _count(words, incident.rows_before.get(name)),
                _count(words, incident.rows_after.get(name)),
            )
            for name in tables
        ]
        lines += _folded(words.say("doc.rows_by_table"), _table(header, rows))
    return lines


def _count(words: Words, value: Optional[float]) -> str:
    return words.say("not_counted") if value is None else words.number(value)


def _root_cause(words: Words, incident: incident_model.Incident) -> List[str]:
    if not incident.findings:
        return [_sentence(words, prose.cause(words, incident))]
    causes = [finding for finding in incident.findings if prose.likely(finding)]
    noted = [finding for finding in incident.findings if not prose.likely(finding)]
    lines = _findings(words, causes) or [words.say("doc.not_established")]
    return [*lines, *_folded(_noted(words, noted), _findings(words, noted))] if noted else lines


def _noted(words: Words, noted: Sequence[Mapping[str, Any]]) -> str:
    return escape(_label(words, "doc.also_noted", prose.named(words, noted)))


def _findings(words: Words, findings: Iterable[Mapping[str, Any]]) -> List[str]:
    lines: List[str] = []
    for finding in findings:
        named, sure = str(finding.get("cause") or "unknown"), prose.sure(words, finding)
        name = f"**{escape(words.name('cause', named))}**"
        title = words.say("aside", text=name, aside=escape(sure)) if sure else name
        summary = prose.summed_up(words, named, finding.get("summary"))
        lines.append(f"- {words.say('label', name=title, text=escape(words.sentence(summary)))}")
        original = prose.original(words, named, finding.get("summary"))
        lines += [f"  - {code(original)}"] if original else []
        for item in finding.get("evidence") or []:
            said = [code(item[part]) for part in ("source", "text") if item.get(part)]
            lines.append(f"  - {': '.join(said)}")
    return lines


def _recovery(words: Words, incident: incident_model.Incident) -> List[str]:
    lines: List[str] = []
    for position, climb in enumerate(prose.climbs(words, incident), start=1):
        rung = climb.rung
        if rung:
            came = words.say("ladder.rung", rung=f"**{escape(climb.name)}**", came=escape(prose.held(words, rung)))
            parts = [came, *([words.duration(rung.seconds)] if rung.seconds is not None else [])]
            told = words.say("list.comma").join(parts)
            lines.append(
                f"{position}. "
                + (words.say("label", name=told, text=escape(words.said(rung.reason))) if rung.reason else told)
            )
        else:
            name = f"**{prose.upper(climb.name)}**" if climb.name else words.say("doc.on_no_rung")
            lines.append(f"{position}. {name}")
        lines += [f"   - {escape(fact)}" for fact in climb.facts]
    login = prose.login(words, incident.login, incident.login_error)
    lines = lines or [_sentence(words, prose.nothing_taken(words, incident))]
    skipped = prose.skips(words, incident)
    lines += ["", *(f"- {_sentence(words, each)}" for each in skipped)] if skipped else []
    return [*lines, "", _sentence(words, _label(words, "doc.login", login))] if login else lines


def _prevention(words: Words, incident: incident_model.Incident) -> List[str]:
    # A tick would say that somebody has done it.
    lines = []
    for action in sorted(prose_actions.actions(words, incident), key=lambda action: not action.wanted):
        title = action.title if action.wanted else words.say("action.not_needed", title=action.title)
        told = escape(words.say("label", name=title, text=action.why))
        lines.append(f"- [ ] {told}" if action.wanted else f"- {told}")
    return lines


def _timeline(words: Words, incident: incident_model.Incident) -> List[str]:
    steps = [step for step in incident.steps if not prose_steps.recorded(step)]
    told = prose_steps.short(steps)
    columns = [*_time_columns(words), *(words.say(f"doc.column.{name}") for name in ("part", "what", "took"))]
    rows = [(at, ["", f"**{name}**", ""]) for name, at in prose.marks(words, incident) if at]
    rows += [(at, ["", f"**{escape(prose.upper(text))}**", ""]) for at, text in prose.cuts(words, incident)]
    # A second table is worth its room where most of it is new.
    folded = len(steps) > 2 * len(told)
    rows += [(step.at, _row(words, step)) for step in (told if folded else steps)]
    ordered = [[*_times_of(words, at), *cells] for at, cells in sorted(rows, key=lambda row: row[0])]
    lines = _table(columns, ordered)
    if folded:
        every = [[*_times_of(words, step.at), *_row(words, step)] for step in steps]
        lines += _folded(words.say("doc.all_steps", number=len(steps)), _table(columns, every))
    return lines


def _row(words: Words, step: incident_model.Step) -> List[str]:
    took = "" if step.seconds is None else words.duration(step.seconds)
    return [escape(prose.part(words, step.role)), escape(prose_steps.happened(words, step)), took]


def _told(words: Words, incident: incident_model.Incident) -> List[str]:
    lines = [_sentence(words, prose.whom(words, incident))]
    tries = prose.tellings(words, incident)
    if not tries:
        return lines
    columns = [*_time_columns(words), *(words.say(f"doc.column.{name}") for name in ("who", "by", "came"))]
    rows = [[*_times_of(words, each.at), escape(each.who), escape(each.by), escape(each.came)] for each in tries]
    return [*lines, "", *_table(columns, rows)]


def _evidence(words: Words, incident: incident_model.Incident) -> List[str]:
    told = [(words.say("doc.on_host", name=prose.upper(name)), path) for name, path in prose.kept(words, incident)]
    told += [(words.say("doc.timeline_of_run"), f"{run.run}.jsonl") for run in incident.runs]
    lines = [] if incident.evidence else [f"- {words.say('doc.no_evidence')}"]
    lines += [f"- {escape(prose.upper(text))}" for text in [prose.not_copied(words, incident)] if text]
    return [*lines, *(f"- {words.say('label', name=name, text=code(path))}" for name, path in told)]
