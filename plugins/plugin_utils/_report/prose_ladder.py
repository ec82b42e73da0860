# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the rungs and remedies in a recovery: their results, and the changes that each of them made."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import messages_in
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

_NOTHING: Mapping[str, str] = MappingProxyType({})
# Possible results of a remedy: succeeded, failed, or not applied.
APPLIED, FAILED, LEFT = "applied", "failed", "left"


@dataclasses.dataclass(frozen=True)
class Climb:
    """The changes made by one rung, as plain facts. rung: None for changes outside the rungs.

    name: the name of the rung or of another part of the recovery.
    """

    rung: Optional[incident_model.Rung]
    name: str
    facts: List[str]


def ladder(words: Words, incident: incident_model.Incident) -> str:
    """Return the rungs with their results, grouped by run if there were several runs."""
    return words.joined(by_run(words, incident))


def by_run(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the rungs of each run with their results, oldest run first."""
    if not incident.rungs_tried and not incident.rungs_skipped and not any(run.released for run in incident.runs):
        if not incident.rung:
            return [words.say("ladder.none")]
        return [words.say("ladder.rung", rung=words.part(incident.rung), came=words.say("held.held"))]
    names = run_names(words, incident)
    told = [
        words.say("ladder.released") if run.released else _climbed(words, incident, run=run.run)
        for run in incident.runs
    ]
    if not names:
        return told
    return [words.say("label", name=names[run.run], text=text) for run, text in zip(incident.runs, told)]


def _climbed(words: Words, incident: incident_model.Incident, *, run: Optional[str] = None) -> str:
    # List skipped rungs first, because the next rung may start in the same millisecond.
    told = [
        (each.at or "", words.say("ladder.rung", rung=words.part(each.rung), came=words.say("held.skipped")))
        for each in incident.rungs_skipped
        if run in (None, each.run)
    ]
    told += [
        (each.started_at or "", words.say("ladder.rung", rung=words.part(each.rung), came=held(words, each)))
        for each in incident.rungs_tried
        if run in (None, each.run)
    ]
    ordered = [text for _at, text in sorted(told, key=lambda pair: pair[0])]
    if not ordered and _only_checked_login(incident, run):
        return words.say("notice.login_again")
    if not ordered and _login_failed_again(incident, run):
        return words.say("ladder.login_again_failed")
    return words.say("ladder.then").join(ordered) or words.say("ladder.none")


def _only_checked_login(incident: incident_model.Incident, run: Optional[str]) -> bool:
    """Return True if this run closed the incident because the login, which had failed in an earlier run, succeeded."""
    earlier = [each for each in incident.rungs_tried if each.run != run]
    last = bool(incident.runs) and run == incident.runs[-1].run and len(earlier) == len(incident.rungs_tried)
    checked = incident.outcome == "recovered" and incident.login == "checked"
    return last and checked and bool(earlier) and bool(earlier[-1].serves)


def _login_failed_again(incident: incident_model.Incident, run: Optional[str]) -> bool:
    """Return True if the login had failed in an earlier run, and failed again in this run without a rung."""
    if not any(each.serves and each.run != run for each in incident.rungs_tried):
        return False
    looks = [each.data for each in incident.steps if each.run == run and prose_steps.probed(each)]
    return any((each.get("login") or {}).get("ok") is False for each in looks)


def skips(
    words: Words, incident: incident_model.Incident, *, run: Optional[str] = None, shown: Mapping[str, str] = _NOTHING
) -> List[str]:
    """Return the rungs that were skipped or not reached, with the reasons.

    Rungs with the same reason share a line. run: the run, or None for all runs. If there were several runs, each line
    also lists the runs to which it applies. shown: maps the labels of the fields that are already on the screen to
    their text. If one of these fields contains a reason, the reason is not repeated. A rung that was skipped for this
    reason is omitted, because ladder() already shows it. For a rung that was not reached, the line refers to the field
    that contains the reason.
    """
    names = run_names(words, incident)
    if run is not None or not names:
        return _skips(words, incident, run=run, shown=shown)
    told: Dict[str, List[str]] = {}
    skipped = [each.run for each in incident.rungs_skipped]
    not_reached = [each.run for each in incident.rungs_not_reached]
    for each in dict.fromkeys([*names, *skipped, *not_reached]):
        for line in _skips(words, incident, run=each, shown=shown):
            told.setdefault(line, []).append(names.get(each, each))
    return [words.say("label", name=words.listed(of), text=line) for line, of in told.items()]


def _skips(
    words: Words, incident: incident_model.Incident, *, run: Optional[str], shown: Mapping[str, str]
) -> List[str]:
    lines = []
    for reason, rungs in _by_reason(words, incident.rungs_skipped, run=run).items():
        if not _shown(reason, shown):
            lines.append(words.say("ladder.skipped_why", rung=rungs, reason=reason))
    for reason, rungs in _by_reason(words, incident.rungs_not_reached, run=run).items():
        field = _shown(reason, shown)
        told = words.say("ladder.see", field=field) if field else reason
        lines.append(words.say("ladder.not_reached_why" if told else "ladder.not_reached", rung=rungs, reason=told))
    return lines


def _shown(reason: str, shown: Mapping[str, str]) -> str:
    """Return the label of the field that contains a reason, or an empty string."""
    return next((label for label, text in shown.items() if reason and reason in text), "")


def _by_reason(
    words: Words,
    rungs: Sequence[Union[incident_model.Skip, incident_model.NotReached]],
    *,
    run: Optional[str],
) -> Dict[str, str]:
    """Map each reason to the names of the rungs with this reason. The order of reasons and rungs is kept."""
    grouped: Dict[str, List[str]] = {}
    for each in rungs:
        if run in (None, each.run):
            grouped.setdefault(why(words, each), []).append(words.part(each.rung))
    return {reason: words.listed(list(dict.fromkeys(names))) for reason, names in grouped.items()}


def why(words: Words, of: Any) -> str:
    """Return the reason why a rung failed or was skipped, or why a remedy was not applied."""
    return words.message(of.messages.get("reason"), of.reason)


def run_names(words: Words, incident: incident_model.Incident) -> Dict[str, str]:
    """Return the names of the runs, such as "run 1", or an empty mapping if there was only one run."""
    runs = [each.run for each in incident.runs]
    if len(runs) < 2:
        return {}
    return {run: words.say("run", number=position) for position, run in enumerate(runs, start=1)}


def rung_name(words: Words, incident: incident_model.Incident, rung: incident_model.Rung) -> str:
    """Return the rung's name, together with its run if there were several runs."""
    run = run_names(words, incident).get(rung.run)
    name = words.part(rung.rung)
    return words.say("rung_of_run", run=run, rung=name) if run else name


def climbs(
    words: Words,
    incident: incident_model.Incident,
    *,
    run: Optional[str] = None,
    came: Sequence[str] = (APPLIED, FAILED),
    planned: bool = False,
) -> List[Climb]:
    """Return the changes that each rung made, in the order of the attempts, followed by the changes outside the rungs.

    run: only changes of this run. came: include only remedies with these results (see remedies()). planned: see
    prose_steps.deed.
    """
    tried = [
        Climb(rung, rung_name(words, incident, rung), []) for rung in incident.rungs_tried if run in (None, rung.run)
    ]
    remediated = Climb(None, words.name("part", "remediation"), remedies(words, incident, came, run=run))
    other = Climb(None, "", [])
    for step in incident.steps:
        # Notifications have a separate section, and the changes made by the remedies are already listed.
        if step.role == "escalation" or (step.role == "remediation" and remediated.facts):
            continue
        if step.weight != incident_model.CHANGE or run not in (None, step.run):
            continue
        # The name of a rung can include the method, so it can be longer than the name of the rung's role.
        of_role = [
            each
            for each in tried
            if each.rung and each.rung.run == step.run and each.rung.rung.partition(" ")[0] == step.role
        ]
        begun = [each for each in of_role if each.rung and (each.rung.started_at or "") <= step.at]
        climb = (begun or of_role[:1] or [other])[-1]
        name = climb.rung.rung if climb.rung else ""
        climb.facts.append(prose_steps.deed(words, step, rung=name, planned=planned))
    return [*([remediated] if remediated.facts else []), *tried, *([other] if other.facts else [])]


def held(words: Words, rung: incident_model.Rung) -> str:
    """Return a short description of a rung's result."""
    if rung.held:
        return words.say("held.held")
    if rung.serves:
        return words.say("held.serves")
    if rung.restored:
        return words.say("held.restored")
    if rung.halted:
        return words.say("held.halted")
    return words.say("held.not" if rung.held is False else "held.unknown")


def remedies(
    words: Words, incident: incident_model.Incident, came: Sequence[str], *, run: Optional[str] = None
) -> List[str]:
    """Return a sentence for each remedy with one of these results: APPLIED, FAILED or LEFT.

    run: the run whose remedies are returned, or None for all runs.
    """
    names = run_names(words, incident) if run is None else {}
    facts: List[str] = []
    for each in incident.remedies:
        fact = _remedy(words, each) if run in (None, each.run) and _came(each) in came else ""
        if fact:
            facts.append(words.say("label", name=names[each.run], text=fact) if names else fact)
    return facts


def _came(remedy: incident_model.Remedy) -> str:
    return FAILED if remedy.failed else APPLIED if remedy.changed else LEFT


def _remedy(words: Words, remedy: incident_model.Remedy) -> str:
    """Return a sentence about a remedy, or an empty string if there was nothing to do."""
    named, detail = words.name("cause", remedy.cause), words.listed(_details(words, remedy))
    action = words.message(remedy.messages.get("action"), remedy.action)
    if remedy.failed:
        return words.say("remedied.failed", cause=named, action=action, detail=detail)
    if remedy.changed and detail:
        return words.say("remedied.detail", cause=named, action=action, detail=detail)
    if remedy.changed:
        return words.say("label", name=named, text=action)
    if _is_gone(remedy):
        return words.say("remedied.gone", cause=named)
    return words.say("remedied.left", cause=named, reason=why(words, remedy)) if remedy.reason else ""


def _is_gone(remedy: incident_model.Remedy) -> bool:
    """Return True if no remedy was applied, and the only reason is that the cause no longer existed."""
    return [each.get("id") for each in messages_in(remedy.messages.get("reason"))] == ["reason.remedy.past"]


def not_remedied(
    words: Words, incident: incident_model.Incident, came: Sequence[str], *, run: Optional[str] = None
) -> List[str]:
    """Return a line for each remedy that failed or was not applied. For the parameters, see remedies()."""
    name = words.name("part", "remediation")
    return [words.say("label", name=name, text=fact) for fact in remedies(words, incident, came, run=run)]


def _details(words: Words, remedy: incident_model.Remedy) -> List[str]:
    """Return the details of a remedy. Each detail has a message, except in an old timeline."""
    told = remedy.messages.get("detail") or []
    known = told if len(told) == len(remedy.detail) else [None] * len(remedy.detail)
    return [words.message(each, text) for each, text in zip(known, remedy.detail)]


def nothing_taken(words: Words, incident: incident_model.Incident) -> str:
    """Return the text for a run without rungs or remedies. A hold or a takeover of the unit also counts as a change."""
    value = (incident.statements.get("nothing_changed") or {}).get("value")
    if value == statements.UNKNOWN:
        return words.say("taken.unknown")
    if incident.runs and _only_checked_login(incident, incident.runs[-1].run):
        return words.say("notice.login_again")
    if value != statements.NO:
        return words.say("screen.nothing_changed")
    return words.say("taken.only_held" if incident.held_by else "taken.none")
