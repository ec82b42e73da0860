# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary on the screen at the end of a run: a few aligned lines for the person on call."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose,
    prose_causes,
    prose_changes,
    prose_data,
    prose_impact,
    prose_ladder,
    prose_methods,
    prose_notifications,
    prose_steps,
    prose_times,
    screen_next_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import (
    ATTENTION,
    BAD,
    GOOD,
    LABEL,
    LINES,
    WIDTH,
    Field,
    aligned,
    columns,
    lines_until_cut,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import job
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

_TONES: Mapping[str, str] = {
    **dict.fromkeys((*incident_model.BACK, "healthy"), GOOD),
    **dict.fromkeys(("warning", "would_recover", "login_failed", "degraded"), ATTENTION),
}


def tone(incident: incident_model.Incident) -> str:
    """Return the tone for the summary: screen_layout's GOOD, ATTENTION or BAD."""
    return tone_of(incident.outcome, incident.data_loss)


def tone_of(outcome: Optional[str], data_loss: Optional[str]) -> str:
    """Return the tone for an outcome and a data-loss verdict."""
    return BAD if data_loss == "suspected" else _TONES.get(str(outcome), BAD)


def summary(
    words: Words,
    incident: incident_model.Incident,
    *,
    document: Optional[str],
    places: Mapping[str, Any] = MappingProxyType({}),
    check_mode: bool = False,
    target: str = "",
) -> List[str]:
    """Return the lines for one incident. document: the path of its postmortem, or None if none was written.

    places: see allowlist.PUBLISHED. check_mode: True for a run in check mode. target: see next_steps.target.
    """
    outcome = _outcome(words, incident, check_mode=check_mode)
    if incident.outcome == "would_recover" or (check_mode and incident.outcome == "not_recovered"):
        return [_head(words, incident, outcome=outcome), *aligned(words, _rehearsal(words, incident))]
    back = incident.outcome in incident_model.BACK
    error = words.message(incident.messages.get("error"), incident.error) if incident.error else ""
    kept, others = _kept(words, incident)
    why = error if back else _why(words, incident)
    # First list the required actions, then the reasons.
    cause = prose_causes.cause(words, incident)
    rungs = _rungs(words, incident, brief=document is not None)
    refused = _not_remedied(words, incident, prose_ladder.LEFT)
    calls, informed = prose_notifications.calls(words, incident), prose_notifications.informed(words, incident)
    fields: List[Field] = [
        ("next", _next_steps(words, incident, target)),
        *([] if back else _methods(words, incident, check_mode=check_mode)),
        ("why", why),
        ("cause", cause),
        ("change", prose_changes.nearest(words, incident)),
        ("severity", words.name("severity", incident.severity or "unknown")),
        ("restarts", prose_impact.restarted(words, incident)),
        # A run in check mode opens no incident, so the length of the outage may be unknown.
        ("outage", "" if check_mode and incident.durations.outage is None else _outage(words, incident)),
        ("rung", [*rungs, *refused, *_not_climbed(words, incident, why=why, cause=cause)]),
        ("done", [] if check_mode else _done(words, incident) or _nothing_done(words, incident)),
        ("would_do", _planned(words, incident) if check_mode else []),
        ("data_loss", prose_data.data_loss(words, incident)),
        ("rows", prose_data.rows(words, incident)),
        ("seeded", prose_data.seeded(words, incident)),
        ("database", _database(incident, cause=cause)),
        ("login", prose.login(words, *prose.logged_in(incident))),
        # In check mode, no contact is notified.
        ("would_tell", prose_notifications.would_tell(words, incident))
        if check_mode
        else ("escalation", [*calls, *informed]),
        ("settings", _invalid_settings(words, incident)),
        ("kept", [*kept, *others]),
        ("postmortem", _published(words, incident, document, places) or words.say("screen.not_written")),
    ]
    if check_mode:
        fields.append(_counted(words))
    head = _head(words, incident, outcome=outcome)
    # If there is no postmortem, no text is shortened, because the text is not saved anywhere else.
    whole = {"rung": len(rungs) + len(refused), "escalation": len(calls), "kept": len(kept)}
    # The names of the notified contacts are more important than the text of other fields.
    names = prose_notifications.names(words, incident, informed)
    late = {"escalation": lines_until_cut([*calls, *names]) if names else 0}
    return [head, *aligned(words, fields, most=LINES - 1 if document else None, whole=whole, late=late)]


def _outcome(words: Words, incident: incident_model.Incident, *, check_mode: bool) -> str:
    outcome = prose.outcome(words, incident)
    if check_mode and incident.outcome == "not_recovered":
        return words.say("outcome.would_not_recover")
    if check_mode and incident.outcome != "would_recover":
        return words.say("outcome.in_check_mode", outcome=outcome)
    return outcome


def _next_steps(words: Words, incident: incident_model.Incident, target: str) -> List[str]:
    """Return the next steps. The prevention items are listed only in the postmortem.

    If the login failed again, the run has no verdict. The command that continues the incident is then added here.
    """
    if incident.outcome in incident_model.BACK and not prose.is_open(incident):
        return prose.check_data(words, incident, target)
    again = screen_next_steps.again(words, target) if incident.outcome == "login_failed" else []
    return [*prose.next_steps(words, incident, target), *(again if incident.source == "events" and target else [])]


def _head(words: Words, incident: incident_model.Incident, *, outcome: str) -> str:
    """Return the first line. A run in check mode does not open an incident, so there may be no incident ID."""
    named = {"outcome": outcome, "subject": prose.subject(words, incident)}
    if not incident.incident:
        return words.say("screen.would", **named)
    return words.say("screen.head", incident=incident.incident, **named)


def _not_remedied(words: Words, incident: incident_model.Incident, *came: str) -> List[str]:
    """Return the remedies with these results in the last run: FAILED or LEFT of prose_ladder."""
    return prose_ladder.not_remedied(words, incident, came, run=incident.runs[-1].run)


def _rungs(words: Words, incident: incident_model.Incident, *, brief: bool) -> List[str]:
    """Return the rungs from all runs, oldest run first. brief: True to shorten the list of earlier runs."""
    *earlier, last = prose_ladder.by_run(words, incident)
    if not brief:
        return [*([words.joined(earlier)] if earlier else []), last]
    # If the last run tried no rung, the latest run that tried one is shown in full.
    with_rungs = {each.run for each in incident.rungs_tried}
    tried = [number for number, run in enumerate(incident.runs) if run.run in with_rungs]
    whole = earlier[tried[-1] :] if earlier and tried and tried[-1] < len(earlier) else []
    before = _earlier_runs(words, earlier[: len(earlier) - len(whole)])
    lines = [each for each in (before, *whole, last) if each]
    together = words.joined(lines)
    return [together] if columns(together) <= WIDTH - LABEL else lines


def _not_climbed(
    words: Words, incident: incident_model.Incident, *, why: Union[str, List[str]], cause: str
) -> List[str]:
    """Return the reasons why rungs were not tried and remedies failed in the last run.

    why, cause: the fields that are already shown.
    """
    texts = {"why": why if isinstance(why, str) else words.joined(why), "cause": cause}
    shown = {words.say(f"screen.{name}"): text for name, text in texts.items()}
    skipped = prose_ladder.skips(words, incident, run=incident.runs[-1].run, shown=shown)
    return [*skipped, *_not_remedied(words, incident, prose_ladder.FAILED)]


def _earlier_runs(words: Words, told: Sequence[str]) -> str:
    """Return the latest runs that fit on a line, and the number of runs before them."""
    omitting = range(1, len(told) + 1)
    lines = [words.joined([words.count("earlier_runs", omitted), *told[omitted:]]) for omitted in omitting]
    lines = [words.joined(told), *lines]
    return next((line for line in lines if columns(line) <= WIDTH - LABEL), lines[-1])


def _kept(words: Words, incident: incident_model.Incident) -> Tuple[List[str], List[str]]:
    """Return the lines about the evidence and the incident's record, and the lines about the other files.

    The files in the evidence folder are shown on a single line.
    """
    evidence: List[str] = []
    lines: List[str] = []
    inside: Dict[str, List[str]] = {}
    for name, path in prose_data.kept(words, incident):
        if incident.evidence and path.startswith(f"{incident.evidence}/"):
            inside.setdefault(name, []).append(path[len(incident.evidence) + 1 :])
        else:
            told = words.say("screen.on_host", name=name, path=path)
            (evidence if path in (incident.evidence, incident.record_in_memory) else lines).append(told)
    if inside:
        # Only the database files can have several copies.
        files = [
            words.say("aside", text=words.listed(paths), aside=words.say("kept.copies") if len(paths) > 1 else name)
            for name, paths in inside.items()
        ]
        evidence.insert(1, words.say("screen.in_evidence", files=words.listed(files)))
    return [*evidence, *filter(None, [prose_data.not_copied(words, incident)])], lines


def _published(
    words: Words, incident: incident_model.Incident, document: Optional[str], places: Mapping[str, Any]
) -> List[str]:
    """Return the locations of the postmortem. The path on the controller is last.

    The container of an AWX job is deleted together with its files. Therefore, the path is shown for a job only if the
    postmortem is stored nowhere else.
    """
    found = [words.say("screen.issue", url=places["issue"])] if places.get("issue") else []
    found += places.get("copies") or []
    if os.environ.get(job.ENVIRONMENT) and document:
        if places.get("on_host"):
            path = os.path.join(str(places["on_host"]), os.path.basename(document))
            found.append(words.say("screen.on_that_host", host=incident.host, path=path))
        if places.get("artifact"):
            found.append(words.say("screen.in_artifacts"))
        if found:
            return found
    return [*found, *([document] if document else [])]


def _outage(words: Words, incident: incident_model.Incident) -> str:
    if incident.answered:
        return prose_times.lasted(words, incident)
    down = prose_times.still_down(incident)
    told = words.duration(incident.durations.outage) if down else prose_times.lasted(words, incident)
    if incident.times.started_at:
        told = words.say("screen.since", outage=told, at=words.when(incident.times.started_at))
    if incident.outcome == "unreachable":
        return prose_times.lasted(words, incident)
    if incident.times.mitigated_estimated:
        told = words.say("screen.estimated", outage=told)
    if not down:
        return told
    answering = _answering(incident)
    key = "screen.partly_down" if answering else "screen.still_down"
    return words.say(key, outage=told, endpoints=words.listed(answering))


def _answering(incident: incident_model.Incident) -> List[str]:
    """Return the names of the endpoints that answered the last probe, such as http if only HTTPS is down."""
    last = incident.runs[-1].run if incident.runs else None
    probes = [each.data for each in incident.steps if each.run == last and prose_steps.probed(each)]
    endpoints = (probes[-1].get("endpoints") or []) if probes else []
    return [str(each.get("name")) for each in endpoints if each.get("ok")]


def _database(incident: incident_model.Incident, *, cause: str) -> str:
    """Return the path of the database that database_recover.yml recovers, so that a person can check it.

    cause: the text of the cause field. If the database is damaged, this text may already show the path. For any other
    cause, such as a mismatch, the text may name several databases.
    """
    its_own = any(each.rung.startswith("database_recovery") for each in incident.rungs_tried)
    path = str((incident.database.get("database") or {}).get("path") or "")
    shown = incident.cause == "db_corrupt" and path in cause
    return path if its_own and not shown else ""


def _rehearsal(words: Words, incident: incident_model.Incident) -> List[Field]:
    """Return the fields for a run in check mode. Such a run performs only the checks and lists all other actions."""
    rungs = words.say("list.comma").join(words.part(each.rung) for each in incident.rungs_tried)
    others = prose_causes.others(words, incident)
    of_database = bool(prose_methods.assessment(incident))
    hindered = prose_causes.may_prevent_a_recovery(incident, of_database=of_database)
    first = ["screen.hold_it"] if _would_hold(incident) else ["screen.fix_first"] if hindered and rungs else []
    return [
        ("next", [*map(words.say, first), *prose.next_steps(words, incident)]),
        *_methods(words, incident, check_mode=True),
        ("why", _why(words, incident) if incident.outcome == "not_recovered" else ""),
        ("cause", prose_causes.cause(words, incident)),
        ("also", others),
        ("severity", words.name("severity", incident.severity or "unknown")),
        (
            "would_climb",
            [
                rungs or words.say("screen.no_rung"),
                *_not_remedied(words, incident, prose_ladder.LEFT, prose_ladder.FAILED),
                *prose_ladder.skips(words, incident),
            ],
        ),
        ("would_do", _planned(words, incident)),
        ("database", _database(incident, cause="")),
        ("would_tell", prose_notifications.would_tell(words, incident)),
        ("settings", _invalid_settings(words, incident)),
        _counted(words),
    ]


def _methods(words: Words, incident: incident_model.Incident, *, check_mode: bool = False) -> List[Field]:
    """Return the methods that database_recover.yml assessed, and the options that choose one."""
    described = prose_methods.methods(words, incident, check_mode=check_mode)
    return [
        ("methods", [line for each in described for line in (each.head, *(f"- {fact}" for fact in each.facts))]),
        ("options", prose_methods.choices(words, incident, check_mode=check_mode)),
    ]


def _invalid_settings(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the invalid settings that did not stop the last run, such as those of a notification channel."""
    last_run = incident.runs[-1].run
    found = [step for step in incident.steps if step.run == last_run and prose_steps.validated_settings(step)]
    return prose_steps.refusals(words, found)


def _counted(words: Words) -> Field:
    """Return the line about Ansible's recap. In check mode, the recap counts changes that were not made."""
    return "recap", words.say("screen.counted")


def _why(words: Words, incident: incident_model.Incident) -> Union[str, List[str]]:
    if incident.error and bare(incident.error) == bare(incident.cause_summary):
        return "" if incident.outcome in ("unreachable", "degraded") else words.say("screen.that_cause")
    if incident.error:
        return words.message(incident.messages.get("error"), incident.error)
    tried = [each for each in incident.rungs_tried if each.reason]
    last_run = incident.runs[-1].run
    reasons = _did_not_hold(words, incident, [each for each in tried if each.run == last_run])
    if reasons:
        return reasons
    if incident.outcome == "unfinished":
        return words.say("screen.unfinished")
    failures = prose_steps.reasons([step for step in incident.steps if step.run == last_run])
    if failures:
        return prose_steps.happened(words, failures[-1])
    # If the last run has no reason, use the reasons of the latest run that has one.
    return _did_not_hold(words, incident, [each for each in tried if each.run == tried[-1].run]) or prose_causes.cause(
        words, incident
    )


def _did_not_hold(words: Words, incident: incident_model.Incident, tried: Sequence[incident_model.Rung]) -> List[str]:
    return [
        words.say("label", name=prose_ladder.rung_name(words, incident, each), text=prose_ladder.why(words, each))
        for each in tried
    ]


def _nothing_done(words: Words, incident: incident_model.Incident) -> str:
    last_run = incident.runs[-1].run
    # If the connection to the host was lost during a rung, the changes of that rung are unknown.
    tried = any(each.run == last_run for each in incident.rungs_tried)
    if incident.outcome == "unreachable" and tried:
        return words.say("screen.changes_unknown")
    # A rung or a remedy may have failed before it changed anything.
    if tried or any(each.failed for each in incident.remedies if each.run == last_run):
        return words.say("screen.no_change_recorded")
    name = prose_ladder.run_names(words, incident).get(last_run)
    text = prose_ladder.nothing_taken(words, incident)
    return words.say("label", name=name, text=text) if name else text


def _planned(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return what a run would change.

    Check mode does not set a hold, so a planned hold is derived from the findings.
    """
    running = incident.outcome == "degraded"
    hold = [words.say("screen.would_hold_running" if running else "screen.would_hold")] if _would_hold(incident) else []
    return [*_done(words, incident, planned=True), *hold] or [words.say("screen.nothing")]


def _would_hold(incident: incident_model.Incident) -> bool:
    """Return True if outage_recover.yml would hold the service. database_recover.yml does not set a hold."""
    if incident.held_by or prose_methods.assessment(incident):
        return False
    return any(each.get("blocks_start") for each in incident.findings)


def _done(words: Words, incident: incident_model.Incident, *, planned: bool = False) -> List[str]:
    """Return the changes, one line per rung. Changes made by earlier runs are in the document.

    planned: True for a run in check mode, which only lists the changes.
    """
    last = incident.runs[-1].run
    climbs = prose_ladder.climbs(words, incident, run=last, came=(prose_ladder.APPLIED,), planned=planned)
    told = [climb for climb in climbs if climb.facts]
    triages = [each.data for each in incident.steps if each.run == last and prose_steps.triaged(each)]
    released = any(each.get("released") for each in triages) and not incident.held_by
    hold = [words.say("screen.hold_removed")] if released else []
    return hold + [
        words.say("label", name=climb.name, text=words.joined(climb.facts)) if climb.name else words.joined(climb.facts)
        for climb in told
    ]
