# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recovery as a Mermaid Gantt chart, which GitHub renders. The chart contains no text from a host."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import List, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import chart, prose_ladder
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_TAGS = {chart.GOOD: "done", chart.BAD: "crit", chart.WORK: "active"}
# Maximum number of seconds that the chart shows before the recovery, and between two runs. If the chart showed hours of
# an undetected outage, the recovery would be too small to read.
_BEFORE = 120.0
_BETWEEN = 300.0


def gantt(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the lines of the fenced block, or an empty list if there is nothing to draw."""
    runs = _drawn(incident)
    down = [span for span in chart.service(incident) if span.tone == chart.BAD]
    if not runs:
        return []
    first = min(span.begin for _name, bars in runs for span in bars)
    lines = [
        "```mermaid",
        "gantt",
        f"    title {_inert(words.say('gantt.title'))}",
        "    dateFormat YYYY-MM-DD HH:mm:ss.SSS",
        "    axisFormat %H:%M:%S",
    ]
    if down:
        lines.append(f"    section {_inert(words.say('gantt.service'))}")
        begin = max(down[0].begin, first - _BEFORE)
        lines.append(_bar(words.say("gantt.down"), "crit", begin, down[0].end))
    names = prose_ladder.run_names(words, incident)
    for run, bars in runs:
        lines.append(f"    section {_inert(names.get(run) or words.say('gantt.recovery'))}")
        called = _names(words, bars)
        lines += [_bar(name, _TAGS[span.tone], span.begin, span.end) for name, span in zip(called, bars)]
    return [*lines, "```"]


def _drawn(incident: incident_model.Incident) -> List[Tuple[str, List[chart.Bar]]]:
    """Return the last run and the runs shortly before it, each with its bars."""
    drawn: List[Tuple[str, List[chart.Bar]]] = []
    for run in reversed(incident.runs):
        steps = [step for step in incident.steps if step.run == run.run]
        bars = chart.work(dataclasses.replace(incident, steps=steps))
        if not bars:
            continue
        if drawn and min(span.begin for span in drawn[-1][1]) - max(span.end for span in bars) > _BETWEEN:
            break
        drawn.append((run.run, bars))
    return drawn[::-1]


def _names(words: Words, bars: Sequence[chart.Bar]) -> List[str]:
    """Return the name of each bar. If several bars belong to the same part of the recovery, they are numbered."""
    lanes = [span.lane for span in bars]
    return [
        words.part(lane) + (f" {lanes[: position + 1].count(lane)}" if lanes.count(lane) > 1 else "")
        for position, lane in enumerate(lanes)
    ]


def _bar(name: str, tag: str, begin: float, end: float) -> str:
    return f"    {_inert(name)} :{tag}, {_time(begin)}, {_time(max(end, begin + 0.1))}"


def _time(at: float) -> str:
    # Omit the time zone, because Mermaid would show it.
    moment = datetime.datetime.fromtimestamp(at, tz=datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _inert(text: str) -> str:
    return re.sub(r"[^\w ()\uff08\uff09.-]", " ", text)
