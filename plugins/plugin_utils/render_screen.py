# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The closing summary on screen: a few aligned lines that answer what a tired person asks first."""

from __future__ import annotations

import textwrap
from typing import List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import prose, timeline

WIDTH = 100
_LABEL = 14

GOOD, ATTENTION, BAD = "good", "attention", "bad"
_TONES: Mapping[str, str] = {"recovered": GOOD, "healthy": GOOD, "warning": ATTENTION, "would_recover": ATTENTION}


def tone(incident: timeline.Incident) -> str:
    """Return whether the summary is good news, wants attention, or is bad news."""
    if incident.data_loss == "suspected":
        return BAD
    return _TONES.get(incident.outcome, BAD)


def summary(incident: timeline.Incident, *, document: Optional[str]) -> List[str]:
    """Return the lines for one incident; C(document) is where its postmortem was written, C(None) where it was not."""
    outcome = prose.OUTCOMES.get(incident.outcome, incident.outcome)
    if incident.outcome == "would_recover":
        return [f"{outcome}: {incident.host}", *_aligned(_rehearsal(incident))]
    spans, times = incident.durations, incident.times
    since = f", since {times.started_at}" if times.started_at else ""
    still = "" if times.mitigated_at or incident.outcome in ("warning", "recovered") else ", still down"
    fields: List[Tuple[str, str]] = [
        ("severity", incident.severity or "unknown"),
        ("cause", prose.cause(incident)),
        ("rung", _rung(incident)),
        ("outage", prose.duration(spans.outage) + since + still),
        ("rows", prose.rows(incident)),
        ("data loss", prose.data_loss(incident)),
        ("escalation", prose.told(incident)),
    ]
    if incident.outcome != "recovered":
        fields += [("why", _why(incident)), ("done", _done(incident))]
    if incident.next_step and (incident.outcome != "recovered" or incident.data_loss == "suspected"):
        fields.append(("next step", incident.next_step))
    if incident.evidence:
        fields.append(("evidence", f"{incident.evidence} (on the host)"))
    fields.append(("postmortem", document or "not written"))
    return [f"{outcome}: {incident.host}, incident {incident.incident or 'none'}", *_aligned(fields)]


def _rehearsal(incident: timeline.Incident) -> List[Tuple[str, str]]:
    """Return the fields of a run in check mode: only what was looked at is known, the rest is what would be done."""
    return [
        ("severity", incident.severity or "unknown"),
        ("cause", prose.cause(incident)),
        ("would climb", ", ".join(each.rung for each in incident.rungs_tried) or "no rung"),
        ("would do", _done(incident)),
        ("next step", incident.next_step or ""),
    ]


def without_incident(host: str, events: Sequence[timeline.Event]) -> Optional[Tuple[str, str]]:
    """Return tone and line for a host without an incident, C(None) where there is nothing to say."""
    steps = [each for each in map(timeline.step, events) if each]
    changed = [prose.happened(each) for each in steps if each.status == "changed"]
    touched = f"changed: {prose.listed(changed)}" if changed else "nothing changed"
    stopped = [each for each in steps if each.weight == timeline.FAILURE]
    if stopped:
        problems = [prose.refused(each) for each in steps if prose.refused(each)]
        return BAD, f"STOPPED: {host}, {problems[-1] if problems else prose.happened(stopped[-1])}; {touched}"
    looks = [each.data["healthy"] for each in steps if prose.probed(each)]
    return (GOOD, f"HEALTHY: {host}, {touched}") if looks and looks[-1] else None


def _rung(incident: timeline.Incident) -> str:
    if incident.rung and len(incident.rungs_tried) <= 1:
        return f"{incident.rung} held"
    return prose.ladder(incident)


def _why(incident: timeline.Incident) -> str:
    if incident.error:
        return incident.error
    reasons = [f"{each.rung}: {each.reason}" for each in incident.rungs_tried if each.reason]
    if reasons:
        return "; ".join(reasons)
    if incident.outcome == "unfinished":
        return "the run ended before its verdict"
    failures = [step for step in incident.steps if step.weight == timeline.FAILURE]
    return prose.happened(failures[-1]) if failures else prose.cause(incident)


def _done(incident: timeline.Incident) -> str:
    changes = [prose.happened(step) for step in incident.steps if step.weight == timeline.CHANGE]
    return "; ".join(changes) if changes else "nothing was changed"


def _aligned(fields: Sequence[Tuple[str, str]]) -> List[str]:
    lines: List[str] = []
    for label, value in fields:
        # Paths are not broken: they are copied from the screen.
        wrapped = textwrap.wrap(value, WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"  {label:<{_LABEL - 2}}{wrapped[0]}")
        lines += [" " * _LABEL + line for line in wrapped[1:]]
    return lines
