# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem for an incident as one self-contained HTML page, and an index page for several postmortems."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import urllib.parse
from typing import Any, Dict, List, Mapping, Optional, Sequence

import jinja2
from markupsafe import Markup

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document as composed
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import html_chart, html_template
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_ENVIRONMENT = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
_STYLE = Markup(html_template.STYLE)  # noqa: S704 - ours
_HASH = base64.b64encode(hashlib.sha256(html_template.STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
_TEMPLATES: Dict[str, jinja2.Template] = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry in the index: an incident and the name of its HTML file."""

    incident: Mapping[str, Any]
    file: str


def render(words: Words, template: str, **values: Any) -> str:
    """Return a page. template: a template of html_template. values: its variables. `footer` has a default."""
    # A template is compiled on first use, because most runs do not write a page.
    if template not in _TEMPLATES:
        _TEMPLATES[template] = _ENVIRONMENT.from_string(template)
    values = {"footer": words.say("page.written"), **values}
    return _TEMPLATES[template].render(language=words.language, policy=_POLICY, style=_STYLE, say=words.say, **values)


def page(words: Words, incident: incident_model.Incident) -> str:
    """Return the page for an incident."""
    document = composed.compose(words, incident)
    outcome = document.outcome
    values = {
        **vars(document),
        "tone": screen_report.tone(incident),
        "outcome": words.say("page.with_loss", outcome=outcome) if incident.data_loss == "suspected" else outcome,
        "next_steps": [{"text": each, "command": isinstance(each, Command)} for each in document.next_steps],
        "picture": html_chart.timeline(words, incident),
        "marks": [{**vars(mark), "times": _mark_times(words, mark)} for mark in document.marks],
        "rows_open": any(row.fewer for row in document.rows),
        "ladder": html_chart.ladder(words, incident),
        "climbs": [_climb(words, climb) for climb in document.climbs],
        "timeline": _timeline(words, document.moments, document.short),
        "every": _timeline(words, document.moments, document.steps)
        if len(document.steps) > len(document.short)
        else [],
        "changes": [{**vars(each), "times": _times(words, each.at)} for each in document.changes],
        "tellings": [{**vars(each), "times": _times(words, each.at)} for each in document.tellings],
    }
    return render(words, html_template.INCIDENT, **values)


def index(words: Words, entries: Sequence[Entry]) -> str:
    """Return the page that lists the postmortems in a folder."""
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
    return render(words, html_template.INDEX, title=words.say("page.index"), rows=rows)


def _times(words: Words, at: Optional[str]) -> List[str]:
    return [(at or words.say("unknown")).replace("T", " ").rstrip("Z"), *([words.local(at)] if words.zone else [])]


def _mark_times(words: Words, mark: composed.Mark) -> List[str]:
    times = _times(words, mark.at)
    # Put the text into the last column, because a narrow page shows only that column.
    return times if mark.at else [*[""] * (len(times) - 1), mark.missing]


def _climb(words: Words, climb: composed.Climb) -> Dict[str, Any]:
    told = words.say("list.comma").join(each for each in (climb.held, climb.took) if each)
    return {
        "name": climb.name if climb.on_rung else climb.name or words.say("doc.on_no_rung"),
        "told": words.say("label", name=told, text=climb.reason) if climb.reason else told,
        "facts": climb.facts,
    }


def _timeline(words: Words, moments: Sequence[composed.Event], steps: Sequence[composed.Event]) -> List[Dict[str, Any]]:
    told: List[Dict[str, Any]] = []
    day = ""
    for event in composed.chronological(moments, steps):
        times = _times(words, event.at)
        # Each date (in the service's time zone) is shown once, above its rows.
        if times[-1][:10] != day:
            day = times[-1][:10]
            told.append({"kind": "day", "day": day})
        told.append({**vars(event), "times": [each[11:] for each in times]})
    return told
