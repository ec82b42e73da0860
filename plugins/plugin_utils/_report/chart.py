# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data for an incident chart: events, their times, and the positions of these times on the axis.

All times are in seconds since the epoch.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

# Parts of the recovery, in the order in which they run. Other roles are not drawn.
LANES = (
    *("detection", "triage", "remediation"),
    *incident_model.RUNGS,
    *("verification", "escalation"),
)

GOOD, BAD, UNSURE, WORK = "good", "bad", "unsure", "work"

# If a period without work is longer than this fraction of the total working time, this period is shortened on the axis.
_LONG_GAP = 0.4
_SHORTEST_GAP = 15.0
# Width of a cut in the axis, as a fraction of the axis width.
_CUT = 0.07


@dataclasses.dataclass
class Bar:
    """A bar in a lane of the chart: a period and its result (tone)."""

    lane: str
    begin: float
    end: float
    tone: str


@dataclasses.dataclass(frozen=True)
class Piece:
    """A segment of the axis: its times, and its position as fractions of the width.

    cut: True if the segment is shortened.
    """

    begin: float
    end: float
    left: float
    right: float
    cut: bool


def instant(text: Optional[str]) -> Optional[float]:
    """Return a time as seconds since the epoch, or None if `text` is not a valid time."""
    try:
        return timestamps.epoch(text) if text else None
    except ValueError:
        return None


def work(incident: incident_model.Incident) -> List[Bar]:
    """Return the periods in which each role ran, in the order of LANES."""
    bars: List[Bar] = []
    latest: Dict[str, Bar] = {}
    for step in incident.steps:
        begin = instant(step.at)
        if step.role not in LANES or begin is None or step.kind != "task":
            continue
        end = begin + (step.seconds or 0.0)
        span = latest.get(step.run)
        # Join two steps only if the period between them is short. Between two triage steps, a run may wait for another
        # run.
        if span is not None and span.lane == step.role and begin - span.end < _SHORTEST_GAP:
            span.end = max(span.end, end)
        else:
            span = latest[step.run] = Bar(step.role, begin, end, _tone(incident, step, begin))
            bars.append(span)
        if step.role not in incident_model.RUNGS:
            span.tone = _tone(incident, step, begin)
    return sorted(bars, key=lambda span: (LANES.index(span.lane), span.begin))


def _tone(incident: incident_model.Incident, step: incident_model.Step, begin: float) -> str:
    if step.role in incident_model.RUNGS:
        begun = [
            each
            for each in incident.rungs_tried
            if each.run == step.run
            and each.rung.partition(" ")[0] == step.role
            and (instant(each.started_at) or begin) <= begin
        ]
        return WORK if not begun or begun[-1].held is None else GOOD if begun[-1].held else BAD
    if step.role == "verification" and "healthy" in step.data:
        return GOOD if step.data["healthy"] else BAD
    return BAD if step.weight == incident_model.FAILURE else WORK


def service(incident: incident_model.Incident) -> List[Bar]:
    """Return the periods in which the service's state was up, down or unknown. If no outage is known, return []."""
    times, begin = incident.times, instant(incident.times.started_at)
    if begin is None or incident.answered:
        return []
    good, back = instant(times.last_good_at), instant(times.mitigated_at)
    until = max([begin, *(end for _begin, end in _runs(incident)), back or begin, instant(times.resolved_at) or begin])
    bars = [Bar("service", good, begin, UNSURE)] if good is not None and good < begin else []
    # If a host does not answer, the state of its service is unknown.
    tone = UNSURE if incident.outcome == "unreachable" else BAD
    bars.append(Bar("service", begin, back if back is not None and back > begin else until, tone))
    if back is not None and back < until:
        bars.append(Bar("service", back, until, GOOD))
    return bars


def _runs(incident: incident_model.Incident) -> List[Tuple[float, float]]:
    told = [(instant(run.started_at), instant(run.last_event_at)) for run in incident.runs]
    return [(begin, end) for begin, end in told if begin is not None and end is not None]


def axis(incident: incident_model.Incident) -> List[Piece]:
    """Return the segments of the axis. Long idle periods are shortened, so that the other periods remain readable."""
    times = incident.times
    marks = [times.last_good_at, times.started_at, times.detected_at, times.mitigated_at, times.resolved_at]
    points = [(at, at) for at in map(instant, marks) if at is not None]
    busy = _merged([*_runs(incident), *points])
    if not busy:
        return []
    worked = sum(end - begin for begin, end in _merged(_runs(incident)))
    longest = max(_LONG_GAP * worked, _SHORTEST_GAP)
    pieces: List[Tuple[float, float, bool]] = []
    for number, (begin, end) in enumerate(busy):
        if number:
            pieces.append((busy[number - 1][1], begin, begin - busy[number - 1][1] > longest))
        pieces.append((begin, end, False))
    return _placed([piece for piece in pieces if piece[1] > piece[0]])


def _placed(pieces: Sequence[Tuple[float, float, bool]]) -> List[Piece]:
    cuts = sum(cut for _begin, _end, cut in pieces)
    drawn = sum(end - begin for begin, end, cut in pieces if not cut)
    share = min(_CUT, 0.5 / cuts) if cuts else 0.0
    whole = 1.0 - share * cuts if drawn else 0.0
    placed: List[Piece] = []
    left = 0.0
    for begin, end, cut in pieces:
        right = left + (share if cut else whole * (end - begin) / drawn)
        placed.append(Piece(begin, end, left, right, cut))
        left = right
    return placed


def _merged(spans: Sequence[Tuple[float, float]]) -> List[Tuple[float, float]]:
    merged: List[Tuple[float, float]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def place(pieces: Sequence[Piece], at: float) -> float:
    """Return the position of a time on the axis, as a fraction of the axis width."""
    for piece in pieces:
        if at <= piece.end:
            inside = max(at - piece.begin, 0.0) / (piece.end - piece.begin)
            return piece.left + inside * (piece.right - piece.left)
    return pieces[-1].right if pieces else 0.0
