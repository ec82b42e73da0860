# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The charts on the HTML page as inline SVG: the timeline and the ladder.

The colours are defined in the page's style.
"""

from __future__ import annotations

import datetime
from typing import List, Mapping, Optional, Sequence, Tuple

from markupsafe import Markup, escape

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import ladder as recovery_ladder
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import chart, prose_ladder, prose_times
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_WIDTH, _LEFT, _RIGHT = 960, 150, 24
_LANE, _BAR = 30, 18
_MARK_ROW = 17
# Width of a normal character and of a wide (for example Japanese) character in a label, in drawing units.
_CHARACTER, _WIDE = 6.6, 12.5
_TICK = 78
_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def _tag(name: str, content: str = "", **attributes: object) -> Markup:
    # Markup.format takes ten times as long, and a page has many elements.
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")  # noqa: S704 - names of elements are ours


def _number(value: object) -> object:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _group(parts: Sequence[Markup]) -> Markup:
    return Markup("\n").join(parts)


def _long(text: str) -> float:
    return sum(_WIDE if ord(character) > 0x2E7F else _CHARACTER for character in text)


def timeline(words: Words, incident: incident_model.Incident) -> Optional[Markup]:
    """Return the incident timeline, or None if there is nothing to draw."""
    pieces = chart.axis(incident)
    if not pieces:
        return None
    lanes = [(words.say("page.service"), chart.service(incident))]
    bars = chart.work(incident)
    for role in dict.fromkeys(span.lane for span in bars):
        lanes.append((words.part(role), [span for span in bars if span.lane == role]))
    lanes = [lane for lane in lanes if lane[1]]
    down = prose_times.still_down(incident)
    marked, rows = _marks(words, incident, pieces)
    top = rows * _MARK_ROW + 12
    bottom = top + len(lanes) * _LANE
    parts = [_tag("title", words.say("page.picture.alt")), *_cuts(pieces, top, bottom)]
    for number, (name, worked) in enumerate(lanes):
        middle = top + number * _LANE + _LANE / 2
        parts.append(_tag("line", class_="rule", x1=0, x2=_WIDTH, y1=middle + _LANE / 2, y2=middle + _LANE / 2))
        parts.append(_tag("text", name, class_="lane", x=_LEFT - 12, y=middle + 4, text_anchor="end"))
        ends = [*(_x(pieces, span.begin) for span in worked[1:]), _WIDTH]
        parts += [
            _bar(words, pieces, name, span, middle, free=end, over=not (span.lane == "service" and down))
            for span, end in zip(worked, ends)
        ]
    parts += _breaks(pieces, top)
    parts += [_mark(name, x, row, bottom) for name, x, row in marked]
    parts += _axis(words, pieces, bottom)
    labels = _cut_labels(words, pieces, bottom)
    parts += labels
    height = bottom + 28 + len(labels) * 14
    return _tag(
        "svg",
        _group(parts),
        class_="timeline",
        viewBox=f"0 0 {_WIDTH} {height:.0f}",
        role="img",
        xmlns="http://www.w3.org/2000/svg",
    )


def _x(pieces: Sequence[chart.Piece], at: float) -> float:
    return _LEFT + chart.place(pieces, at) * (_WIDTH - _LEFT - _RIGHT)


def _bar(
    words: Words,
    pieces: Sequence[chart.Piece],
    name: str,
    span: chart.Bar,
    middle: float,
    *,
    free: float,
    over: bool,
) -> Markup:
    """Return a bar and its duration.

    free: the position where the free space in the lane ends. over: True if the period has ended.
    """
    left, right = _x(pieces, span.begin), _x(pieces, span.end)
    wide = max(right - left, 2.5)
    took = words.duration(span.end - span.begin)
    state = {chart.GOOD: "page.up", chart.BAD: "page.down", chart.UNSURE: "page.unsure"}
    called = words.say(state[span.tone]) if span.lane == "service" else name
    title = _tag("title", words.say("label", name=called, text=took) if over else called)
    shape = _tag("rect", title, class_=f"bar {span.tone}", x=left, y=middle - _BAR / 2, width=wide, height=_BAR, rx=3)
    # A bar without an end does not have a duration yet.
    down = f"{called} {took}" if over else called
    told = down if span.lane == "service" and span.tone == chart.BAD else took
    if _long(told) + 12 < wide:
        return _group([shape, _tag("text", told, class_="in", x=left + wide / 2, y=middle + 4, text_anchor="middle")])
    # If a label is too long for its bar and there is free space to the right of the bar, place the label there.
    if span.lane != "service" and left + wide + 6 + _long(took) < free:
        return _group([shape, _tag("text", took, class_="beside", x=left + wide + 6, y=middle + 4)])
    return shape


def _marks(
    words: Words, incident: incident_model.Incident, pieces: Sequence[chart.Piece]
) -> Tuple[List[Tuple[str, float, int]], int]:
    """Return the name, position and row for each time label, and the number of rows.

    Labels in the same row do not overlap.
    """
    placed: List[Tuple[str, float, int]] = []
    free: List[float] = []
    for name, at in prose_times.marks(words, incident):
        moment = chart.instant(at)
        if moment is None:
            continue
        x, half = _x(pieces, moment), _long(name) / 2
        begin = min(max(x - half, 0), _WIDTH - 2 * half)
        row = next((number for number, until in enumerate(free) if until < begin), len(free))
        free[row : row + 1] = [begin + 2 * half + 10]
        placed.append((name, x, row))
    return placed, len(free)


def _mark(name: str, x: float, row: int, bottom: float) -> Markup:
    half = _long(name) / 2
    y = row * _MARK_ROW + 12
    centre = min(max(x, half), _WIDTH - half)
    return _group(
        [
            _tag("line", class_="mark", x1=x, x2=x, y1=y + 4, y2=bottom),
            _tag("text", name, class_="marked", x=centre, y=y, text_anchor="middle"),
        ]
    )


def _axis(words: Words, pieces: Sequence[chart.Piece], bottom: float) -> List[Markup]:
    width = _WIDTH - _LEFT - _RIGHT
    drawn = [piece for piece in pieces if not piece.cut]
    seconds = sum(piece.end - piece.begin for piece in drawn)
    room = sum(piece.right - piece.left for piece in drawn) * width
    step = next((each for each in _STEPS if seconds and each / seconds * room >= _TICK), _STEPS[-1])
    parts: List[Markup] = []
    last = -1e9
    for piece in pieces:
        if piece.cut:
            last = _LEFT + piece.right * width
            continue
        at = -(-piece.begin // step) * step
        while at <= piece.end:
            x = _x(pieces, at)
            # Leave space to the left of the first label for the name of the time zone.
            if x - last >= _TICK * 0.75 and _LEFT + 20 <= x <= _WIDTH - 20:
                parts.append(_tag("line", class_="tick", x1=x, x2=x, y1=bottom, y2=bottom + 5))
                parts.append(_tag("text", _clock(words, at), class_="axis", x=x, y=bottom + 19, text_anchor="middle"))
                last = x
            at += step
    zone = words.zone_name() if words.zone else "UTC"
    parts.append(_tag("text", zone, class_="axis", x=_LEFT - 12, y=bottom + 19, text_anchor="end"))
    return parts


def _edges(piece: chart.Piece) -> Tuple[float, float]:
    width = _WIDTH - _LEFT - _RIGHT
    return _LEFT + piece.left * width, _LEFT + piece.right * width


def _cuts(pieces: Sequence[chart.Piece], top: float, bottom: float) -> List[Markup]:
    return [
        _tag("rect", class_="cut", x=left, y=top, width=right - left, height=bottom - top)
        for left, right in (_edges(piece) for piece in pieces if piece.cut)
    ]


def _breaks(pieces: Sequence[chart.Piece], top: float) -> List[Markup]:
    """Return a line at each cut in the axis. The line shows that a part of the service's bar is omitted."""
    middles = [sum(_edges(piece)) / 2 for piece in pieces if piece.cut]
    return [_tag("path", class_="break", d=f"M{middle + 7:.0f} {top + 2:.0f}l-14 {_LANE - 4}") for middle in middles]


def _cut_labels(words: Words, pieces: Sequence[chart.Piece], bottom: float) -> List[Markup]:
    """Return labels with the durations of the cuts in the axis.

    Each label has its own row, so that labels do not overlap.
    """
    cuts = [piece for piece in pieces if piece.cut]
    labels = []
    for row, piece in enumerate(cuts):
        told = words.say("page.break", duration=words.duration(piece.end - piece.begin))
        middle = max(sum(_edges(piece)) / 2, _long(told) / 2)
        labels.append(_tag("text", told, class_="axis", x=middle, y=bottom + 33 + row * 14, text_anchor="middle"))
    return labels


def _clock(words: Words, at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, tz=datetime.timezone.utc)
    return (moment.astimezone(words.zone) if words.zone else moment).strftime("%H:%M:%S")


_RUNG_HEIGHT = 58
_SIGNS: Mapping[str, str] = {"held": "M-5 0l4 4 7-9", "not": "M-5-5l10 10M5-5l-10 10", "skipped": "M-6 0h12"}


def ladder(words: Words, incident: incident_model.Incident) -> Markup:
    """Return the ladder with the result of each rung. The first rung is at the bottom."""
    tried = {each.rung.partition(" ")[0]: each for each in incident.rungs_tried}
    skipped = {each.rung for each in incident.rungs_skipped}
    rungs = [*recovery_ladder.RUNGS, *(name for name in tried if name not in recovery_ladder.RUNGS)]
    held = any(each.held for each in incident.rungs_tried)
    parts: List[Markup] = []
    height = len(rungs) * _RUNG_HEIGHT + 16
    parts += [_tag("line", class_="rail", x1=x, x2=x, y1=4, y2=height - 4) for x in (14, 70)]
    for number, name in enumerate(reversed(rungs)):
        y = number * _RUNG_HEIGHT + _RUNG_HEIGHT / 2 + 8
        rung = tried.get(name)
        if rung is not None:
            state = "held" if rung.held else "not" if rung.held is False else "open"
            told = prose_ladder.held(words, rung)
            if rung.seconds is not None:
                told = words.say("list.comma").join([told, words.duration(rung.seconds)])
        elif name in skipped:
            state, told = "skipped", words.say("held.skipped")
        else:
            state = "rest"
            told = words.say("page.ladder.not_needed" if held else "page.ladder.not_climbed")
        parts.append(_tag("rect", class_=f"rung {state}", x=8, y=y - 7, width=68, height=14, rx=5))
        if state in _SIGNS:
            parts.append(_tag("path", class_="sign", d=_SIGNS[state], transform=f"translate(42 {y:.0f})"))
        parts.append(_tag("text", words.part(rung.rung if rung else name), class_="name", x=92, y=y - 2))
        parts.append(_tag("text", told, class_=f"told {state}", x=92, y=y + 15))
    return _tag(
        "svg",
        _group([_tag("title", words.say("page.ladder")), *parts]),
        class_="ladder",
        viewBox=f"0 0 330 {height}",
        role="img",
        xmlns="http://www.w3.org/2000/svg",
    )
