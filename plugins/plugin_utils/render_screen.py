# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The closing summary on screen: a few aligned lines that answer what a tired person asks first."""

from __future__ import annotations

import textwrap
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import prose, timeline

WIDTH = 100
_LABEL = 14

GOOD, ATTENTION, BAD = "good", "attention", "bad"
# A label, and its value: a line, or several.
_Field = Tuple[str, Union[str, List[str]]]

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
        return [f"{outcome}: {prose.subject(incident)}", *_aligned(_rehearsal(incident))]
    spans, times = incident.durations, incident.times
    since = f", since {times.started_at}" if times.started_at else ""
    still = "" if times.mitigated_at or incident.outcome in ("warning", "recovered") else ", still down"
    fields: List[_Field] = [
        ("severity", incident.severity or "unknown"),
        ("cause", prose.cause(incident)),
        ("rung", [prose.ladder(incident), *prose.skips(incident, run=incident.runs[-1].run)]),
        ("done", _done(incident) or f"nothing was changed{_in_last_run(incident)}"),
        ("outage", prose.duration(spans.outage) + since + still),
        ("login", prose.login(incident.login, incident.login_error)),
        ("rows", prose.rows(incident)),
        ("data loss", prose.data_loss(incident)),
        ("escalation", prose.told(incident)),
    ]
    if incident.outcome != "recovered":
        fields.append(("why", _why(incident)))
    if incident.next_step and (incident.outcome != "recovered" or incident.data_loss in ("suspected", "known")):
        fields.append(("next step", incident.next_step))
    fields.append(("kept", [f"{name} on the host: {path}" for name, path in prose.kept(incident)]))
    fields.append(("postmortem", document or "not written"))
    return [f"{outcome}: {prose.subject(incident)}, incident {incident.incident or 'none'}", *_aligned(fields)]


def _rehearsal(incident: timeline.Incident) -> List[_Field]:
    """Return the fields of a run in check mode: only what was looked at is known, the rest is what would be done."""
    return [
        ("severity", incident.severity or "unknown"),
        ("cause", prose.cause(incident)),
        ("would climb", [", ".join(each.rung for each in incident.rungs_tried) or "no rung", *prose.skips(incident)]),
        ("would do", _done(incident) or "nothing"),
        ("next step", incident.next_step or ""),
    ]


def without_incident(host: str, events: Sequence[timeline.Event]) -> Tuple[str, List[str]]:
    """Return tone and lines for a host without an incident: no lines where there is nothing to say."""
    steps = [each for each in map(timeline.step, events) if each]
    changed = [prose.deed(each) for each in steps if each.status == "changed"]
    touched = f"changed: {prose.listed(changed)}" if changed else "nothing changed"
    stopped = [each for each in steps if each.weight == timeline.FAILURE]
    looks = [each.data for each in steps if prose.probed(each)]
    if stopped:
        problems = [problem for each in steps for problem in prose.refused(each)]
        if len(problems) > 1:
            counted = prose.counted(len(problems), "problem")
            return BAD, [f"STOPPED: {host}, {counted}; {touched}", *(f"  - {problem}" for problem in problems)]
        # A playbook that fails by itself after the service was found down says just that.
        if looks and not looks[-1]["healthy"] and not problems and not prose.broken(stopped[-1]):
            return BAD, [f"{_down(looks[-1])}: {host}, {prose.seen(looks[-1])}; {touched}"]
        return BAD, [f"STOPPED: {host}, {problems[0] if problems else prose.happened(stopped[-1])}; {touched}"]
    if looks and looks[-1]["healthy"]:
        login = prose.login(*timeline.login(events))
        return GOOD, [f"HEALTHY: {host}, {f'login {login}; ' if login else ''}{touched}"]
    triages = [each.data for each in steps if prose.triaged(each)]
    return _triage(host, triages[-1]) if triages else (GOOD, [])


def _down(look: Mapping[str, Any]) -> str:
    return "DOWN" if look.get("severity") in ("critical", "emergency") else "NOT HEALTHY"


def _triage(host: str, data: Mapping[str, Any]) -> Tuple[str, List[str]]:
    kept = f"; evidence on the host: {prose.bare(data['bundle'])}" if data.get("bundle") else ""
    if not data["findings"]:
        return GOOD, [f"NOTHING WRONG FOUND: {host}{kept}"]
    first, *others = data["findings"]
    likely = [finding for finding in others if prose.likely(finding)]
    sure, more = prose.sure(first), f" (and {prose.counted(len(likely), 'cause')} more)" if likely else ""
    cause = f"{first.get('cause') or 'unknown'}{f' ({sure})' if sure else ''}"
    return ATTENTION, [f"CAUSE: {host}, {cause}: {prose.bare(first.get('summary'))}{more}{kept}"]


def _why(incident: timeline.Incident) -> Union[str, List[str]]:
    if incident.error:
        return incident.error
    reasons = [
        f"{prose.rung_name(incident, each)}: {each.reason}"
        for each in incident.rungs_tried
        if each.reason and each.run == incident.runs[-1].run
    ]
    if reasons:
        return reasons
    if incident.outcome == "unfinished":
        return "the run ended before its verdict"
    failures = [step for step in incident.steps if step.weight == timeline.FAILURE]
    return prose.happened(failures[-1]) if failures else prose.cause(incident)


def _in_last_run(incident: timeline.Incident) -> str:
    name = prose.run_names(incident).get(incident.runs[-1].run)
    return f" in {name}" if name else ""


def _done(incident: timeline.Incident) -> List[str]:
    """Return what was changed, a line a rung; of earlier runs the document tells."""
    last = incident.runs[-1].run
    return [
        (f"{climb.name}: " if climb.name else "") + "; ".join(climb.facts)
        for climb in prose.climbs(incident, run=last)
        if climb.facts
    ]


def _aligned(fields: Sequence[_Field]) -> List[str]:
    """Return the fields' lines; one without a value is left out."""
    lines: List[str] = []
    for label, value in fields:
        # Paths are not broken: they are copied from the screen.
        wrapped = [
            line
            for part in ([value] if isinstance(value, str) else value)
            for line in textwrap.wrap(part, WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False)
        ]
        heads = [f"  {label:<{_LABEL - 2}}", *[" " * _LABEL] * len(wrapped)]
        lines += [head + line for head, line in zip(heads, wrapped)]
    return lines
