# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the times and durations in an incident."""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_ladder, prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

# Shorter durations, in seconds, are shown as 0.0 s.
_NOTICEABLE = 0.05
# The summary of an outage mentions the uncertainty of its length only if the uncertainty reaches both limits: this
# number of seconds, and this fraction of the outage.
_WORTH_SAYING, _LARGE_PART = 1.0, 0.2


@dataclasses.dataclass(frozen=True)
class Measure:
    """One of the main durations in an incident, with its name, its value and its definition."""

    title: str
    value: str
    meaning: str


def measures(words: Words, incident: incident_model.Incident) -> List[Measure]:
    """Return the durations of the incident, each with its definition.

    The durations are from this incident only and are not averages.
    """
    spans, open_ends = incident.durations, _open_ends(incident)
    return [
        Measure(
            words.say(f"measure.{name}"),
            words.say("none_yet")
            if value is None and name in open_ends
            else _with_range(words, incident, value, told=words.duration(value)),
            words.say(f"measure.{name}.meaning"),
        )
        for name, value in (("detect", spans.detect), ("mitigate", spans.mitigate), ("resolve", spans.resolve))
    ]


def _with_range(words: Words, incident: incident_model.Incident, value: Optional[float], *, told: str) -> str:
    """Return the text of a duration that starts at the first sign of the outage, with its possible additional length.

    value: the duration in seconds, or None if it is unknown.
    """
    uncertain = _uncertain(incident)
    if value is None or uncertain < max(_WORTH_SAYING, _LARGE_PART * value):
        return told
    return words.say("outage.range", outage=told, uncertain=words.duration(uncertain))


def _uncertain(incident: incident_model.Incident) -> float:
    """Return the maximum time in seconds from the start of the outage to its first sign.

    If there was no outage, return 0.0.
    """
    if incident.answered or incident.outcome == "unreachable":
        return 0.0
    return incident.durations.uncertain or 0.0


def _open_ends(incident: incident_model.Incident) -> Tuple[str, ...]:
    """Return the names of durations that have certainly not ended yet, such as "resolve"."""
    if incident.outcome in ("login_failed", incident_model.IN_DOUBT):
        return ("resolve",)
    return ("mitigate", "resolve") if incident.outcome in ("degraded", "not_recovered", "unreachable") else ()


def still_down(incident: incident_model.Incident) -> bool:
    """Return True if the outage continues after the last run."""
    return incident.outcome not in incident_model.BACK and incident.stated("still_down") == statements.YES


def lasted(words: Words, incident: incident_model.Incident) -> str:
    """Return the length of the outage as a short text. If the outage has not ended, return its length so far."""
    if incident.answered:
        return _answered(words, incident)
    told = words.duration(incident.durations.outage)
    if incident.outcome == "unreachable":
        return words.say("outage.unreached", outage=told)
    spans = incident.durations
    if spans.outage is None:
        return told
    if still_down(incident):
        return words.say("so_far", outage=told)
    if _was_degraded(incident):
        told = words.say("outage.degraded", outage=told)
    return _with_range(words, incident, spans.outage, told=told)


def _answered(words: Words, incident: incident_model.Incident) -> str:
    """For a service that never stopped answering, return which parts work and which do not."""
    if not words.knows("partial", incident.cause):
        return words.say("outage.none")
    if incident.outcome in incident_model.BACK:
        return words.name("partial_over", str(incident.cause))
    return words.name("partial", str(incident.cause))


def _was_degraded(incident: incident_model.Incident) -> bool:
    """Return True if a degraded service was stopped and is back.

    In this case, the outage is only a part of the incident.
    """
    return incident.severity == "degraded" and not incident.answered and incident.outcome in incident_model.BACK


def outage(words: Words, incident: incident_model.Incident) -> str:
    """Return the length of the outage, with its possible additional length."""
    spans = incident.durations
    if spans.outage is None:
        return words.say("unknown")
    if incident.outcome == "unreachable" or incident.answered or _was_degraded(incident):
        return lasted(words, incident)
    exact = words.say("exactly", seconds=f"{spans.outage:,.1f}")
    told = exact if spans.outage < 60 else words.say("exactly_or", exactly=exact, about=words.duration(spans.outage))
    if still_down(incident):
        told = words.say("so_far", outage=told)
    if spans.uncertain is None:
        return words.say("outage.begin_unsure", outage=told)
    if spans.uncertain < _NOTICEABLE:
        return told
    return words.say("outage.at_most", outage=told, uncertain=words.duration(spans.uncertain))


def sources(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return notes about the times: how exact the start and the end are, and the difference between the clocks."""
    times = incident.times
    source = words.name("source", (times.started_from or "").rstrip("."))
    told = []
    if source:
        told.append(
            words.say("doc.begin_read_from.degraded" if incident.answered else "doc.begin_read_from", source=source)
        )
    uncertain = _uncertain(incident)
    if uncertain >= _NOTICEABLE:
        told.append(words.say("doc.begin_earlier", uncertain=words.duration(uncertain)))
    if times.mitigated_estimated:
        told.append(words.say("doc.end_estimated", source=words.name("source", times.mitigated_from or "unknown")))
    if times.clocks_apart is not None:
        key = "doc.clock_ahead" if times.clocks_apart > 0 else "doc.clock_behind"
        told.append(words.say(key, apart=words.duration(abs(times.clocks_apart))))
    return told


def cuts(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return the time of each interruption of a run, and a text about the interrupted task."""
    names = prose_ladder.run_names(words, incident)
    told = []
    for run in incident.runs:
        if run.complete:
            continue
        task = prose_steps.label(words, run.last_action, run.last_task) if run.last_task else words.say("unknown")
        text = words.say("step.cut_short", task=task)
        told.append((run.last_event_at, words.say("label", name=names[run.run], text=text) if names else text))
    return told


def no_instant(words: Words, incident: incident_model.Incident, name: str) -> str:
    """Return the text for a time that is unknown or not reached yet. name: the name of the time, see marks()."""
    ends = {words.say(f"doc.mark.{each}d"): each for each in ("mitigate", "resolve")}
    return words.say("none_yet" if ends.get(name) in _open_ends(incident) else "unknown")


def begun(words: Words, incident: incident_model.Incident) -> str:
    """Return the label of the first sign of failure: "Outage began", "No access since" or "Degraded since"."""
    if incident.answered:
        return words.say("doc.mark.degraded")
    return words.say("doc.mark.unreached" if incident.outcome == "unreachable" else "doc.mark.started")


def qualified_marks(words: Words, incident: incident_model.Incident) -> List[Tuple[str, Optional[str]]]:
    """Return the times from marks(). The name of the start also states how much earlier the outage may have begun."""
    uncertain = _uncertain(incident)
    if uncertain < _NOTICEABLE:
        return marks(words, incident)
    start = begun(words, incident)
    unsure = words.say("doc.mark.earlier", start=start, uncertain=words.duration(uncertain))
    return [(unsure if name == start else name, at) for name, at in marks(words, incident)]


def marks(words: Words, incident: incident_model.Incident) -> List[Tuple[str, Optional[str]]]:
    """Return the name and value of each time in the incident."""
    times = incident.times
    return [
        (words.say("doc.mark.last_good"), times.last_good_at),
        (begun(words, incident), times.started_at),
        (words.say("doc.mark.detected"), times.detected_at),
        (words.say("doc.mark.mitigated"), times.mitigated_at),
        (words.say("doc.mark.resolved"), times.resolved_at),
    ]
