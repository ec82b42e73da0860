# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem of an incident as GitHub-flavoured Markdown: the runbook's seven fields (7.1), the details folded."""

from __future__ import annotations

import re
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import prose, timeline

_ACTIVE = re.compile(r"[\\`*\[\]~|$]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_REFERENCE = re.compile(r"(?<!\w)([@#])(?=\w)")


def escape(text: object) -> str:
    """Return text of a host as inert Markdown on one line: markup, HTML, mentions and references have no effect."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _ACTIVE.sub(lambda found: "\\" + found.group(), line)
    line = _UNDERSCORE.sub(r"\\_", line)
    return _REFERENCE.sub(lambda found: f"&#{ord(found.group(1))};", line)


def code(text: object) -> str:
    """Return text of a host as a code span on one line, also within a table."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def markdown(incident: timeline.Incident) -> str:
    """Return the postmortem document."""
    sections = [
        _head(incident),
        _section("1. When", _when(incident)),
        _section("2. How it was detected", [_sentence(prose.detection(incident))]),
        _section("3. Impact", _impact(incident)),
        _section("4. Root cause", _root_cause(incident)),
        _section("5. Recovery steps actually done", _recovery(incident)),
        _section("6. Prevention", _prevention(incident)),
        _section("7. Timeline", _timeline(incident)),
        _section("Who is to be told", [_sentence(prose.told(incident))]),
        _section("Evidence", _evidence(incident)),
    ]
    return "\n\n".join(sections) + "\n"


def _sentence(text: str) -> str:
    return f"{escape(prose.bare(text[:1].upper() + text[1:]))}."


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


_COLUMNS = ("UTC", "part", "what", "took")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> List[str]:
    lines: List[Sequence[str]] = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _head(incident: timeline.Incident) -> str:
    lines = [
        f"# Postmortem: {escape(prose.subject(incident))}, incident {escape(incident.incident)}",
        "",
        f"**{prose.OUTCOMES.get(incident.outcome, escape(incident.outcome))}**, "
        f"outage {prose.duration(incident.durations.outage)}, severity {escape(incident.severity or 'unknown')}.",
        f"Cause: {escape(prose.cause(incident))}.",
        f"Ladder: {escape(prose.ladder(incident))}. Data loss: {escape(prose.data_loss(incident))}.",
    ]
    if incident.source == "events":
        lines += ["", "> No verdict of the last run is on record; this is concluded from its timeline."]
    for run in incident.runs:
        if not run.complete:
            lines += [
                "",
                f"> Run {code(run.run)} was cut short; its last sign is of {run.last_event_at}"
                + (f", at {code(run.last_task)}." if run.last_task else "."),
            ]
    if incident.error:
        lines += ["", f"> The recovery was stopped by an error: {escape(incident.error)}"]
    if incident.next_step:
        lines += ["", f"**Next step:** {escape(incident.next_step)}"]
    return "\n".join(lines)


def _marks(times: timeline.Times) -> List[Tuple[str, Optional[str]]]:
    return [
        ("Last good sign", times.last_good_at),
        ("Outage began", times.started_at),
        ("Detected", times.detected_at),
        ("First good answer", times.mitigated_at),
        ("Closed", times.resolved_at),
    ]


def _when(incident: timeline.Incident) -> List[str]:
    rows = []
    for name, at in _marks(incident.times):
        seconds = timeline.seconds_between(incident.times.started_at, at) if name != "Outage began" else None
        rows.append((name, escape(at or "unknown"), "" if seconds is None else prose.duration(seconds)))
    lines = _table(["", "UTC", "after the begin"], rows)
    if incident.times.started_from:
        lines += ["", f"The begin was read from: {escape(incident.times.started_from)}."]
    return lines


def _impact(incident: timeline.Incident) -> List[str]:
    lines = [
        f"- Outage: {_exactly(incident.durations.outage)}",
        "- Affected users: unknown",
        f"- Rows: {escape(prose.rows(incident))}",
        f"- Data loss: {escape(prose.data_loss(incident))}",
    ]
    if incident.rows_before:
        tables = list(dict.fromkeys([*incident.rows_before, *incident.rows_after]))
        lines += [
            "",
            "<details><summary>Rows by table</summary>",
            "",
            *_table(
                ["table", "before", "after"],
                [
                    (code(name), _count(incident.rows_before.get(name)), _count(incident.rows_after.get(name)))
                    for name in tables
                ],
            ),
            "",
            "</details>",
        ]
    return lines


def _exactly(seconds: Optional[float]) -> str:
    if seconds is None or seconds < 60:
        return "unknown" if seconds is None else f"{seconds:.1f} seconds"
    return f"{seconds:.1f} seconds ({prose.duration(seconds)})"


def _count(value: Optional[float]) -> str:
    return "not counted" if value is None else prose.number(value)


def _root_cause(incident: timeline.Incident) -> List[str]:
    if not incident.findings:
        return [_sentence(prose.cause(incident))]
    causes = [finding for finding in incident.findings if prose.likely(finding)]
    noted = [finding for finding in incident.findings if not prose.likely(finding)]
    lines = _findings(causes) or ["Not established: nothing that was found is as likely as not."]
    return [*lines, "", "Also noted:", "", *_findings(noted)] if noted else lines


def _findings(findings: Iterable[Mapping[str, Any]]) -> List[str]:
    lines: List[str] = []
    for finding in findings:
        sure = prose.sure(finding)
        lines.append(
            f"- **{escape(finding.get('cause') or 'unknown')}**"
            + (f" ({escape(sure)})" if sure else "")
            + f": {escape(finding.get('summary') or '')}"
        )
        for item in finding.get("evidence") or []:
            said = [code(item[part]) for part in ("source", "text") if item.get(part)]
            lines.append(f"  - {': '.join(said)}")
    return lines


def _recovery(incident: timeline.Incident) -> List[str]:
    lines: List[str] = []
    for position, climb in enumerate(prose.climbs(incident), start=1):
        rung = climb.rung
        if rung:
            lines.append(
                f"{position}. **{escape(climb.name)}** {prose.held(rung)}"
                + (f", {prose.duration(rung.seconds)}" if rung.seconds is not None else "")
                + (f": {escape(rung.reason)}" if rung.reason else "")
            )
        else:
            lines.append(f"{position}. **{climb.name.capitalize()}**" if climb.name else f"{position}. On no rung")
        lines += [f"   - {escape(fact)}" for fact in climb.facts]
    login = prose.login(incident.login, incident.login_error)
    lines = lines or ["Nothing was changed."]
    skipped = prose.skips(incident)
    lines += ["", *(f"- {escape(each[:1].upper() + each[1:])}." for each in skipped)] if skipped else []
    return [*lines, "", f"Login: {escape(login)}."] if login else lines


def _prevention(incident: timeline.Incident) -> List[str]:
    # A tick would say that somebody has done it.
    actions = sorted(prose.actions(incident), key=lambda action: not action.wanted)
    return [
        f"- {'[ ]' if action.wanted else 'Not needed:'} {escape(action.title)}: {escape(action.why)}"
        for action in actions
    ]


def _timeline(incident: timeline.Incident) -> List[str]:
    steps = [step for step in incident.steps if not prose.recorded(step)]
    told = [step for step in steps if step.weight != timeline.DETAIL]
    marks = [(at, "", f"**{name}**", "") for name, at in _marks(incident.times) if at]
    # A second table is worth its room where most of it is new.
    folded = len(steps) > 2 * len(told)
    lines = _table(_COLUMNS, sorted([*marks, *map(_row, told if folded else steps)], key=lambda row: row[0]))
    if folded:
        lines += [
            "",
            f"<details><summary>All {len(steps)} steps</summary>",
            "",
            *_table(_COLUMNS, map(_row, steps)),
            "",
            "</details>",
        ]
    return lines


def _row(step: timeline.Step) -> Tuple[str, str, str, str]:
    took = "" if step.seconds is None else prose.duration(step.seconds)
    return step.at, escape(step.role or ""), escape(prose.happened(step)), took


def _evidence(incident: timeline.Incident) -> List[str]:
    lines = [] if incident.evidence else ["- No evidence was saved."]
    lines += [f"- {name[:1].upper() + name[1:]} on the host: {code(path)}" for name, path in prose.kept(incident)]
    lines += [f"- Timeline of the run: {code(run.run + '.jsonl')}" for run in incident.runs]
    return lines
