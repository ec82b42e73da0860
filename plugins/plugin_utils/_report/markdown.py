# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem for an incident as GitHub-flavoured Markdown.

The document contains the seven fields from the runbook (7.1), and collapsed details.
"""

from __future__ import annotations

import html
import re
from typing import Iterable, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document as composed
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import mermaid, prose_times
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_ACTIVE = re.compile(r"[\\`*\[\]~|$]")
# The arrow " -> " does not need an escape: < is always escaped, and > has a meaning only at the start of a line.
_MARKUP = re.compile(r"[&<]|(?<! -)>|>(?! )")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
# Text that GitHub converts to links: mentions, references (owner/name#1 adds a note to that issue) and addresses.
# GitHub converts this text after rendering, so neither a backslash nor an entity prevents the conversion.
_REFERENCE = re.compile(r"(?i)(?<!\w)@(?=\w)|#(?=\w)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)")
_NUMBERED = re.compile(r"[0-9]+\. ")
_NOTHING = "&#8203;"  # A zero-width space.


def escape(text: object) -> str:
    """Return text from a host as one line of Markdown.

    Markup, HTML, mentions and references in the text have no effect.
    """
    line = " ".join(str(text).split())
    line = _MARKUP.sub(lambda found: html.escape(found.group(), quote=False), line)
    line = _ACTIVE.sub(lambda found: "\\" + found.group(), line)
    line = _UNDERSCORE.sub(r"\\_", line)
    return _REFERENCE.sub(lambda found: found.group() + _NOTHING, line)


def code(text: object) -> str:
    """Return text from a host as a code span on one line. The code span is also valid in a table."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def markdown(words: Words, incident: incident_model.Incident) -> str:
    """Return the postmortem document."""
    document = composed.compose(words, incident)
    sections = [
        _head(words, document, drawn=mermaid.gantt(words, incident)),
        _section(words.say("doc.when"), _when(words, document)),
        _section(words.say("doc.detection"), [escape(words.paragraph(document.detected))]),
        _section(words.say("doc.impact"), _impact(words, document)),
        _section(words.say("doc.cause"), _root_cause(words, document)),
        _section(words.say("doc.recovery"), _recovery(words, document)),
        _section(words.say("doc.prevention"), _prevention(words, document)),
        _section(words.say("doc.timeline"), _timeline(words, document)),
        _section(words.say("doc.changes"), _changes(words, document)),
        _section(words.say("doc.notifications"), _told(words, document)),
        _section(words.say("doc.evidence"), _evidence(words, document)),
    ]
    return "\n\n".join(sections) + "\n"


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> List[str]:
    lines: List[Sequence[str]] = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _folded(title: str, lines: Sequence[str]) -> List[str]:
    return ["", f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _items(words: Words, fields: Iterable[composed.Field]) -> List[str]:
    return [f"- {escape(words.say('label', name=name, text=text))}" for name, text in fields]


def _columns(words: Words, *names: str) -> List[str]:
    return [words.say(f"doc.column.{name}") for name in names]


def _head(words: Words, document: composed.Document, *, drawn: Sequence[str]) -> str:
    lines = [
        f"# {escape(document.title)}",
        "",
        f"**{escape(document.outcome)}**",
        "",
        *_items(words, [(words.say("doc.outage"), document.outage), *document.facts]),
    ]
    for note in document.notes:
        lines += ["", f"> {escape(note)}"]
    if document.next_steps:
        lines += ["", *_next_steps(words, document.next_steps)]
    return "\n".join([*lines, *([""] if drawn else []), *drawn])


def _next_steps(words: Words, steps: Sequence[str]) -> List[str]:
    """Return the label and the next steps. A single step follows the label on its line. Several steps become a list."""
    name = f"**{words.say('doc.next')}**"
    if len(steps) == 1:
        return [words.say("label", name=name, text=escape(steps[0]))]
    lines = [words.say("label", name=name, text="").rstrip(), ""]
    for step in steps:
        if isinstance(step, Command):
            lines.append(f"   {code(step)}")
        else:
            # Numbered steps already begin with their number.
            lines.append(escape(step) if _NUMBERED.match(step) else f"- {escape(step)}")
    return lines


def _times(words: Words, at: Optional[str]) -> List[str]:
    """Return the table cells for a time: in UTC, and also in the service's time zone if the service has one."""
    return [escape(at or words.say("unknown")), *([escape(words.local(at))] if words.zone else [])]


def _when(words: Words, document: composed.Document) -> List[str]:
    rows = []
    for mark in document.marks:
        times = _times(words, mark.at)
        if not mark.at:
            times[0] = escape(mark.missing)
        rows.append([mark.name, *times, mark.after])
    lines = _table(["", *document.time_columns, words.say("doc.after_begin")], rows)
    lines += ["", *(f"- {_measured(words, each)}" for each in document.measures)]
    for source in document.sources:
        lines += ["", escape(source)]
    return lines


def _measured(words: Words, measure: prose_times.Measure) -> str:
    return words.say("label", name=words.say("aside", text=measure.title, aside=measure.meaning), text=measure.value)


def _impact(words: Words, document: composed.Document) -> List[str]:
    lines = _items(words, document.impact)
    if document.methods:
        lines.append(f"- {words.say('label', name=words.say('doc.methods'), text='').rstrip()}")
        for each in document.methods:
            lines += [f"  - {escape(each.head)}", *(f"    - {escape(fact)}" for fact in each.facts)]
    if document.rows:
        rows = [(code(row.table), row.before, row.after) for row in document.rows]
        table = _table(_columns(words, "table", "before", "after"), rows)
        lines += _folded(words.say("doc.rows_by_table"), table)
    return lines


def _root_cause(words: Words, document: composed.Document) -> List[str]:
    lines = _findings(words, document.causes) or [escape(document.no_cause)]
    if document.noted:
        lines += _folded(escape(document.also_noted), _findings(words, document.noted))
    return lines


def _findings(words: Words, findings: Iterable[composed.Finding]) -> List[str]:
    lines: List[str] = []
    for finding in findings:
        name = f"**{escape(finding.name)}**"
        title = words.say("aside", text=name, aside=escape(finding.sure)) if finding.sure else name
        lines.append(f"- {words.say('label', name=title, text=escape(finding.summary))}")
        lines += [f"  - {': '.join(code(part) for part in each if part)}" for each in finding.evidence]
    return lines


def _recovery(words: Words, document: composed.Document) -> List[str]:
    lines: List[str] = []
    for position, climb in enumerate(document.climbs, start=1):
        lines.append(f"{position}. {_climb(words, climb)}")
        lines += [f"   - {escape(fact)}" for fact in climb.facts]
    lines = lines or [escape(document.nothing_taken)]
    lines += ["", *(f"- {escape(each)}" for each in document.skips)] if document.skips else []
    return [*lines, "", escape(document.login)] if document.login else lines


def _climb(words: Words, climb: composed.Climb) -> str:
    if not climb.on_rung:
        return f"**{words.capitalized(climb.name)}**" if climb.name else words.say("doc.on_no_rung")
    came = words.say("ladder.rung", rung=f"**{escape(climb.name)}**", came=escape(climb.held))
    told = words.say("list.comma").join(each for each in (came, climb.took) if each)
    return words.say("label", name=told, text=escape(climb.reason)) if climb.reason else told


def _prevention(words: Words, document: composed.Document) -> List[str]:
    # Do not tick any item. A tick would mean that someone has completed the item.
    lines = []
    for action in document.actions:
        title = action.title if action.wanted else words.say("action.not_needed", title=action.title)
        told = escape(
            words.say("aside", text=title, aside=action.why)
            if action.of_cause
            else words.say("label", name=title, text=action.why)
        )
        lines.append(f"- [ ] {told}" if action.wanted else f"- {told}")
    return lines


def _timeline(words: Words, document: composed.Document) -> List[str]:
    columns = [*document.time_columns, *_columns(words, "part", "what", "took")]
    # If most steps are not in the short table, show a second table with all steps.
    folded = len(document.steps) > 2 * len(document.short)
    steps = document.short if folded else document.steps
    lines = _table(columns, [_row(words, each) for each in composed.chronological(document.moments, steps)])
    if folded:
        title = words.say("doc.all_steps", number=len(document.steps))
        lines += _folded(title, _table(columns, [_row(words, each) for each in document.steps]))
    return lines


def _row(words: Words, event: composed.Event) -> List[str]:
    what = f"**{escape(event.what)}**" if event.moment else escape(event.what)
    return [*_times(words, event.at), escape(event.part), what, event.took]


def _changes(words: Words, document: composed.Document) -> List[str]:
    lines = [escape(document.changes_told)]
    if not document.changes:
        return lines
    columns = [*document.time_columns, *_columns(words, "gap", "changed", "values", "relation")]
    rows = [
        [*_times(words, each.at), *map(escape, (each.gap, each.what, each.change, each.relation))]
        for each in document.changes
    ]
    return [*lines, "", *_table(columns, rows)]


def _told(words: Words, document: composed.Document) -> List[str]:
    lines = [escape(document.told)]
    if not document.tellings:
        return lines
    columns = [*document.time_columns, *_columns(words, "who", "by", "came")]
    rows = [
        [*_times(words, each.at), escape(each.who), escape(each.by), escape(each.came)] for each in document.tellings
    ]
    return [*lines, "", *_table(columns, rows)]


def _evidence(words: Words, document: composed.Document) -> List[str]:
    lines = [f"- {escape(each)}" for each in (document.no_evidence, document.not_copied) if each]
    return [*lines, *(f"- {words.say('label', name=name, text=code(path))}" for name, path in document.evidence)]
