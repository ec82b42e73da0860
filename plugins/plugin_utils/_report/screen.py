# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary on the screen at the end of a run: a few aligned lines with what the person on call needs first."""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import restarts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable
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
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import bare, message_of, summed_up
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
    wrap,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, service_state
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import steps as timeline_steps

_INDENT = 24
# For a run on several hosts, the outcomes that are not errors.
_FINE = ("healthy", "recovered", "recovered_by_systemd", "would_recover", "warning")

_TONES: Mapping[str, str] = {
    **dict.fromkeys((*incident_model.BACK, "healthy"), GOOD),
    **dict.fromkeys(("warning", "would_recover", "login_failed", "degraded"), ATTENTION),
}


def tone(incident: incident_model.Incident) -> str:
    """Return the tone of the summary: screen_layout's GOOD, ATTENTION or BAD."""
    return tone_of(incident.outcome, incident.data_loss)


def tone_of(outcome: Optional[str], data_loss: Optional[str]) -> str:
    """Return the tone for an outcome and a data-loss verdict."""
    return BAD if data_loss == "suspected" else _TONES.get(str(outcome), BAD)


def summary(
    words: Words, incident: incident_model.Incident, *, document: Optional[str], check_mode: bool = False
) -> List[str]:
    """Return the lines for one incident. document: the path of its postmortem, or None if none was written.

    check_mode: True for a run in check mode.
    """
    outcome = prose.outcome(words, incident)
    if check_mode and incident.outcome == "not_recovered":
        outcome = words.say("outcome.would_not_recover")
    elif check_mode and incident.outcome != "would_recover":
        outcome = words.say("outcome.in_check_mode", outcome=outcome)
    if incident.outcome == "would_recover" or (check_mode and incident.outcome == "not_recovered"):
        return [_head(words, incident, outcome=outcome), *aligned(words, _rehearsal(words, incident))]
    back = incident.outcome in incident_model.BACK
    error = words.message(incident.messages.get("error"), incident.error) if incident.error else ""
    kept, others = _kept(words, incident)
    why = error if back else _why(words, incident)
    # First list what the reader has to do, then the reasons.
    cause = prose_causes.cause(words, incident)
    rungs = _rungs(words, incident, brief=document is not None)
    calls = prose_notifications.calls(words, incident)
    fields: List[Field] = [
        ("next", prose.next_steps(words, incident) if not back or prose.is_open(incident) else []),
        *([] if back else _methods(words, incident)),
        ("why", why),
        ("cause", cause),
        ("change", prose_changes.nearest(words, incident)),
        ("severity", words.name("severity", incident.severity or "unknown")),
        ("restarts", prose_impact.restarted(words, incident)),
        # A run in check mode may not know the length of the outage, because it opens no incident.
        ("outage", "" if check_mode and incident.durations.outage is None else _outage(words, incident)),
        ("rung", [*rungs, *_not_climbed(words, incident, why=why, cause=cause)]),
        ("done", _done(words, incident) or _nothing_done(words, incident)),
        ("data_loss", prose_data.data_loss(words, incident)),
        ("rows", prose_data.rows(words, incident)),
        ("seeded", prose_data.seeded(words, incident)),
        ("database", _database(incident, cause=cause)),
        ("login", prose.login(words, *prose.logged_in(incident))),
        # In check mode, nobody is notified.
        ("would_tell", prose_notifications.would_tell(words, incident))
        if check_mode
        else ("escalation", [*calls, *prose_notifications.informed(words, incident)]),
        ("settings", _invalid_settings(words, incident)),
        ("kept", [*kept, *others]),
        ("postmortem", document or words.say("screen.not_written")),
    ]
    if check_mode:
        fields.append(_counted(words))
    head = _head(words, incident, outcome=outcome)
    # If there is no postmortem, nothing is shortened, because the text is not saved anywhere else.
    whole = {"rung": len(rungs), "escalation": len(calls), "kept": len(kept)}
    return [head, *aligned(words, fields, most=LINES - 1 if document else None, whole=whole)]


def _head(words: Words, incident: incident_model.Incident, *, outcome: str) -> str:
    """Return the first line. A run in check mode opens no incident, so there may be no incident ID."""
    named = {"outcome": outcome, "subject": prose.subject(words, incident)}
    if not incident.incident:
        return words.say("screen.would", **named)
    return words.say("screen.head", incident=incident.incident, **named)


def _not_remedied(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the remedies that failed in the last run or were not applied."""
    came = (prose_ladder.FAILED, prose_ladder.LEFT)
    return prose_ladder.not_remedied(words, incident, came, run=incident.runs[-1].run)


def _rungs(words: Words, incident: incident_model.Incident, *, brief: bool) -> List[str]:
    """Return the rungs of all runs, oldest run first. brief: True to shorten the list of earlier runs."""
    *earlier, last = prose_ladder.by_run(words, incident)
    before = _earlier_runs(words, earlier) if brief else words.joined(earlier)
    together = words.joined([before, last])
    if before and brief and columns(together) <= WIDTH - LABEL:
        return [together]
    return [*([before] if before else []), last]


def _not_climbed(
    words: Words, incident: incident_model.Incident, *, why: Union[str, List[str]], cause: str
) -> List[str]:
    """Return why rungs and remedies of the last run were not applied. why, cause: the fields that are already shown."""
    texts = {"why": why if isinstance(why, str) else words.joined(why), "cause": cause}
    shown = {words.say(f"screen.{name}"): text for name, text in texts.items()}
    skipped = prose_ladder.skips(words, incident, run=incident.runs[-1].run, shown=shown)
    return [*skipped, *_not_remedied(words, incident)]


def _earlier_runs(words: Words, told: Sequence[str]) -> str:
    """Return the latest runs that fit on a line, and the number of runs before them."""
    omitting = range(1, len(told) + 1)
    lines = [words.joined([words.count("earlier_runs", omitted), *told[omitted:]]) for omitted in omitting]
    lines = [words.joined(told), *lines]
    return next((line for line in lines if columns(line) <= WIDTH - LABEL), lines[-1])


def _kept(words: Words, incident: incident_model.Incident) -> Tuple[List[str], List[str]]:
    """Return the lines about the evidence and the incident's record, and the lines of the other files.

    The files in the evidence folder share a line.
    """
    evidence: List[str] = []
    lines: List[str] = []
    inside: List[str] = []
    for name, path in prose_data.kept(words, incident):
        if incident.evidence and path.startswith(f"{incident.evidence}/"):
            inside.append(words.say("aside", text=path[len(incident.evidence) + 1 :], aside=name))
        else:
            told = words.say("screen.on_host", name=name, path=path)
            (evidence if path in (incident.evidence, incident.record_in_memory) else lines).append(told)
    if inside:
        evidence.insert(1, words.say("screen.in_evidence", files=words.listed(inside)))
    return [*evidence, *filter(None, [prose_data.not_copied(words, incident)])], lines


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
    return words.say("screen.still_down", outage=told) if down else told


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
    """Return the fields for a run in check mode, in which checks are run and all other actions are only listed."""
    rungs = words.say("list.comma").join(words.part(each.rung) for each in incident.rungs_tried)
    return [
        ("next", prose.next_steps(words, incident)),
        *_methods(words, incident),
        ("why", _why(words, incident) if incident.outcome == "not_recovered" else ""),
        ("cause", prose_causes.cause(words, incident)),
        ("severity", words.name("severity", incident.severity or "unknown")),
        (
            "would_climb",
            [
                rungs or words.say("screen.no_rung"),
                *_not_remedied(words, incident),
                *prose_ladder.skips(words, incident),
            ],
        ),
        ("would_do", _done(words, incident, planned=True) or words.say("screen.nothing")),
        ("database", _database(incident, cause="")),
        ("would_tell", prose_notifications.would_tell(words, incident)),
        ("settings", _invalid_settings(words, incident)),
        _counted(words),
    ]


def _methods(words: Words, incident: incident_model.Incident) -> List[Field]:
    """Return the methods that database_recover.yml assessed, and the options that choose one."""
    return [
        ("methods", prose_methods.methods(words, incident)),
        ("options", prose_methods.choices(words, incident)),
    ]


def _invalid_settings(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the invalid settings that did not stop the last run, such as those of a notification channel."""
    last_run = incident.runs[-1].run
    found = [step for step in incident.steps if step.run == last_run and prose_steps.validated_settings(step)]
    return prose_steps.refusals(words, found)


def _counted(words: Words) -> Field:
    """Return the line about Ansible's recap, which in check mode counts changes that were not made."""
    return "recap", words.say("screen.counted")


def without_incident(
    words: Words, host: str, events: Sequence[timeline_events.Event], *, check_mode: bool = False, target: str = ""
) -> Tuple[str, List[str]]:
    """Return the tone and lines for a host without an incident. There are no lines if there is nothing to report.

    target: see next_steps.target.
    """
    steps = [each for each in map(timeline_steps.step, events) if each]
    if _reported_ready(steps):
        return BAD, []
    tone, lines = _without_incident(words, host, events, steps, check_mode=check_mode, target=target)
    return tone, _headed(words, lines, check_mode=check_mode)


def _headed(words: Words, lines: List[str], *, check_mode: bool) -> List[str]:
    """Return the lines. In check mode, the first line says so."""
    return [words.say("screen.in_check_mode", head=lines[0]), *lines[1:]] if check_mode and lines else lines


def _without_incident(
    words: Words,
    host: str,
    events: Sequence[timeline_events.Event],
    steps: Sequence[incident_model.Step],
    *,
    check_mode: bool,
    target: str,
) -> Tuple[str, List[str]]:
    # In check mode, a changed step is only planned.
    changed = [prose_steps.deed(words, each) for each in steps if each.status == "changed" and not check_mode]
    touched = words.say("screen.changed", what=words.listed(changed)) if changed else words.say("screen.unchanged")
    looks = [each.data for each in steps if prose_steps.probed(each)]
    if any(each.weight == incident_model.FAILURE for each in steps):
        login = service_state.login(events)
        failures = [each for each in steps if each.weight == incident_model.FAILURE]
        worse = any(map(prose_steps.broken, failures)) or any(map(_unsound, steps))
        if login[0] == "failed" and not worse and looks[-1]["healthy"]:
            return ATTENTION, _login_failed(words, host, prose.login(words, *login), touched=touched)
        return _stopped(words, host, steps, touched=touched, target=target)
    windows = [each.data for each in steps if prose_steps.scheduled(each)]
    if windows:
        return GOOD, _window(words, host, windows[-1]["maintenance"], target=target, check_mode=check_mode)
    if looks and looks[-1]["healthy"]:
        left = [each.data for each in steps if timeline_events.is_left(each.data, each.status)]
        if left:
            return ATTENTION, _left(words, host, left[-1], touched=touched)
        state = prose.login(words, *service_state.login(events))
        fields: List[Field] = [("rows", _counted_rows(words, steps, check_mode=check_mode))]
        return GOOD, _healthy(words, host, steps, looks[-1], fields, login=state, touched=touched)
    triages = [each.data for each in steps if prose_steps.triaged(each)]
    return _triage(words, host, triages[-1], steps, touched=touched, target=target) if triages else (GOOD, [])


def _healthy(
    words: Words,
    host: str,
    steps: Sequence[incident_model.Step],
    look: Mapping[str, Any],
    fields: Sequence[Field],
    *,
    login: str,
    touched: str,
) -> List[str]:
    """Return the lines for a healthy service. look: the result of the health probe. login: the result of the login."""
    sound = [each.data for each in steps if each.role == "database_recovery" and each.data.get("database")]
    if sound:
        path = str(sound[-1]["database"].get("path"))
        return [words.say("screen.healthy_database", host=host, path=path, touched=touched)]
    key = "screen.healthy_login" if login else "screen.healthy"
    restarted = restarts.text(words, look.get("ends"))
    told: Field = ("restarts", words.sentence(restarted) if restarted else "")
    return [words.say(key, host=host, login=login, touched=touched), *aligned(words, [told, *fields])]


def _counted_rows(words: Words, steps: Sequence[incident_model.Step], *, check_mode: bool) -> str:
    """Return the text about the rows that a verification counted. If rows are missing, the counts are not stored."""
    found = [each.data for each in steps if each.role == "verification" and prose_steps.checked(each)]
    counts = found[-1].get("row_counts") if found else None
    if not counts:
        return ""
    sound = found[-1].get("healthy") and not found[-1].get("data_loss_suspected")
    key = "screen.rows_stored" if sound and not check_mode else "screen.rows_counted"
    rows = words.count("rows.count", sum(counts.values()))
    return words.say(key, rows=rows, tables=words.count("tables", len(counts)))


def _window(
    words: Words, host: str, window: Optional[Mapping[str, Any]], *, target: str, check_mode: bool
) -> List[str]:
    """Return the lines for a run that began or ended a maintenance window. window: None if the run ended it."""
    if not window:
        return [words.say("screen.maintenance_ended", host=host)]
    head = words.say("screen.maintenance_begun", host=host, until=_until(words, window))
    # In check mode, there is no maintenance to end.
    ends = [] if check_mode else screen_next_steps.maintenance_begun(words, target)
    return [head, *aligned(words, [("next", ends)])]


def _until(words: Words, window: Mapping[str, Any]) -> str:
    """Return the end of a maintenance window, and its reason."""
    until, reason = words.when(window.get("until")), window.get("reason")
    return words.say("aside", text=until, aside=reason) if reason else until


def hosts(words: Words, ended: Mapping[str, Sequence[str]], *, check_mode: bool = False) -> Tuple[str, List[str]]:
    """Return the tone, and the lines for all hosts in a run, grouped by outcome. Healthy hosts are only counted."""
    counts = {name: ended.get(name) or [] for name in allowlist.SUMMARY}
    number = sum(map(len, counts.values()))
    what = [
        words.say("screen.hosts_of", number=words.number(len(names)), ended=_ended(words, name))
        for name, names in counts.items()
        if names
    ]
    head = words.say("screen.hosts", number=words.number(number), what=words.say("list.comma").join(what))
    lines: List[str] = []
    for name, names in counts.items():
        if name == "healthy" or not names:
            continue
        wrapped = wrap(" ".join(names), WIDTH - _INDENT)
        label = f"  {_ended(words, name)}"
        heads = [label + " " * max(_INDENT - columns(label), 1), *[" " * _INDENT] * len(wrapped)]
        lines += [before + line for before, line in zip(heads, wrapped)]
    bad = [name for name in counts if counts[name] and name not in _FINE]
    return BAD if bad else ATTENTION if counts["warning"] or counts["would_recover"] else GOOD, _headed(
        words, [head, *lines], check_mode=check_mode
    )


def _ended(words: Words, name: str) -> str:
    return words.name("ended", name)


def _reported_ready(steps: Sequence[incident_model.Step]) -> bool:
    """Return True if the last failure only repeats the result of outage_ready.yml, which is already on the screen."""
    modules = [allowlist.own_module(each.action or "") for each in steps]
    return "preparedness_report" in modules and modules[-1] == "fail_settings"


def _stopped(
    words: Words, host: str, steps: Sequence[incident_model.Step], *, touched: str, target: str
) -> Tuple[str, List[str]]:
    """Return the tone and the lines for a host on which a step failed. The first line is the reason."""
    for each in steps:
        if prose_steps.kept_out(each):
            return BAD, _kept_out(words, host, prose_steps.kept_out(each), touched=touched)
    last = [each for each in steps if each.weight == incident_model.FAILURE][-1]
    looks = [each.data for each in steps if prose_steps.probed(each)]
    agreed = [prose_steps.maintenance(each) for each in steps if prose_steps.maintenance(each)]
    if agreed and looks and not prose_steps.broken(last):
        return ATTENTION, _maintenance(words, host, agreed[-1], looks[-1], target=target)
    problems = prose_steps.refusals(words, steps)
    if len(problems) > 1:
        counted = words.count("problems", len(problems))
        head = words.say("screen.stopped_many", host=host, problems=counted, touched=touched)
        return BAD, [head, *(f"  - {problem}" for problem in problems), *_corrections(words, steps, target=target)]
    # If a playbook found the service down, the playbook's own failure only repeats this result.
    lost = [each for each in steps if prose_steps.lost(each)]
    if lost:
        text = prose_steps.lost(lost[-1])
        why = words.message(prose_steps.lost_message(lost[-1]), text)
        head = words.say("screen.unreachable", host=host, why=why, touched=touched)
        step = words.sentence(words.message(unreachable.reach(text).to_dict()))
        return BAD, [head, *aligned(words, [("next", step)])]
    if looks and not looks[-1]["healthy"] and not problems and not prose_steps.broken(last):
        seen = prose_steps.seen(words, looks[-1])
        head = words.say(_down(looks[-1]), host=host, seen=seen, touched=touched)
        return BAD, [head, *aligned(words, [("next", _after_a_check(words, looks[-1], target=target))])]
    unsound = [each for each in steps if _unsound(each)]
    why = problems[0] if problems else prose_steps.happened(words, (_reasons(steps) or unsound or [last])[-1])
    head = words.say("screen.stopped", host=host, why=why, touched=touched)
    return BAD, [head, *_corrections(words, steps, target=target)]


def _corrections(words: Words, steps: Sequence[incident_model.Step], *, target: str) -> List[str]:
    """Return the next step if variables do not match the host."""
    variables = prose_steps.mismatched(steps)
    return aligned(words, [("next", screen_next_steps.correct(words, variables, target))]) if variables else []


def _after_a_check(words: Words, look: Mapping[str, Any], *, target: str) -> List[str]:
    """Return the next step after a check that found an outage. look: the result of the health probe."""
    if look.get("hold"):
        return screen_next_steps.held(words, look["hold"], target)
    if _accepted(look):
        return screen_next_steps.accepted(words, target)
    return [words.say("screen.triage_it")]


def _accepted(look: Mapping[str, Any]) -> bool:
    """Return True if a person has accepted everything that a health probe found."""
    told = message_of(look, "summary")
    known = told if isinstance(told, list) else [told]
    return {each.get("id") for each in known if isinstance(each, Mapping)} == {"finding.accepted"}


def _login_failed(words: Words, host: str, login: str, *, touched: str) -> List[str]:
    """Return the lines for a run in which the service answered but refused the login."""
    head = words.say("screen.login_failed", host=host, login=login, touched=touched)
    return [head, *aligned(words, [("next", words.say("screen.check_login"))])]


def _unsound(step: incident_model.Step) -> bool:
    """Return True if a step is a check that found the database damaged."""
    return prose_steps.checked(step) and step.data.get("healthy") is False


def _kept_out(words: Words, host: str, other: Mapping[str, Any], *, touched: str) -> List[str]:
    """Return the lines for a blocked run: the name, start and step of the other run, and what to do."""
    fields = [
        *_other(words, other),
        ("next", words.say("screen.wait_for_it", how=_how_to_wait(words), until=words.when(other.get("until")))),
    ]
    return [words.say("screen.kept_out", host=host, touched=touched), *aligned(words, fields)]


def _left(words: Words, host: str, data: Mapping[str, Any], *, touched: str) -> List[str]:
    """Return the lines for a run that found the service healthy while another run was working on its incident."""
    other = data["locked_by"]
    fields = [
        *_other(words, other),
        ("next", words.say("screen.closes_it", how=_how_to_wait(words), until=words.when(other.get("until")))),
    ]
    head = words.say("screen.healthy_open", host=host, incident=data["id"], touched=touched)
    return [head, *aligned(words, fields)]


def _other(words: Words, other: Mapping[str, Any]) -> List[Field]:
    """Return the fields that name the other run on the host."""
    at_work = "screen.step_idle" if other.get("pid") is None else "screen.step_at_work"
    return [
        ("run", words.say("screen.since", outage=other.get("run"), at=words.when(other.get("since")))),
        ("step", words.say(at_work, step=other.get("step"), pid=other.get("pid"))),
    ]


def _maintenance(
    words: Words, host: str, window: Mapping[str, Any], look: Mapping[str, Any], *, target: str
) -> List[str]:
    """Return the lines for a run that found an outage during a maintenance window and changed nothing."""
    of_variable = window.get("source") == "variable"
    ends = [words.say("screen.end_variable")] if of_variable else screen_next_steps.end_maintenance(words, target)
    seen, until = prose_steps.seen(words, look), _until(words, window)
    return [words.say("screen.maintenance", host=host, seen=seen, until=until), *aligned(words, [("next", ends)])]


def _down(look: Mapping[str, Any]) -> str:
    if look.get("severity") == "degraded":
        return "screen.degraded"
    return "screen.down" if look.get("severity") in ("critical", "emergency") else "screen.not_healthy"


def _triage(
    words: Words,
    host: str,
    data: Mapping[str, Any],
    steps: Sequence[incident_model.Step],
    *,
    touched: str,
    target: str,
) -> Tuple[str, List[str]]:
    tone, found = GOOD, words.say("screen.nothing_wrong", host=host, touched=touched)
    # Triage continues with an invalid setting, but a detection or a recovery would not.
    problems = prose_steps.refusals(words, steps)
    if problems and not data["findings"]:
        counted = words.count("problems", len(problems))
        tone, found = ATTENTION, words.say("screen.invalid", host=host, problems=counted, touched=touched)
    if data["findings"]:
        first, *others = data["findings"]
        named, sure = str(first.get("cause") or "unknown"), prose_causes.sure(words, first)
        cause = words.name("cause", named)
        summary = summed_up(words, named, first.get("summary"), message_of(first, "summary"))
        cause = words.say("aside", text=cause, aside=sure) if sure else cause
        tone, found = ATTENTION, words.say("screen.found", host=host, cause=cause, summary=summary)
        likely = [finding for finding in others if prose_causes.likely(finding)]
        if likely:
            found = words.say("screen.and_more", found=found, causes=words.count("causes", len(likely)))
    if data.get("bundle"):
        found = words.say("screen.evidence", found=found, path=bare(data["bundle"]))
    return tone, [found, *aligned(words, [("settings", problems)]), *_corrections(words, steps, target=target)]


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
    failures = _reasons([step for step in incident.steps if step.run == last_run])
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


def _reasons(steps: Sequence[incident_model.Step]) -> List[incident_model.Step]:
    """Return the failures that can be the reason for the outcome.

    The final failure of a playbook is omitted, because it repeats another failure. Failed notifications are omitted,
    and so are invalid settings that do not stop a recovery. They are not reasons for an outage.
    """
    return [
        step
        for step in steps
        if step.weight == incident_model.FAILURE
        and step.role != "escalation"
        and not prose_steps.refused(step)
        and (prose_steps.broken(step) or step.message)
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


def _done(words: Words, incident: incident_model.Incident, *, planned: bool = False) -> List[str]:
    """Return the changes, one line per rung. Changes made by earlier runs are in the document.

    planned: True for a run in check mode, which only lists the changes.
    """
    last = incident.runs[-1].run
    climbs = prose_ladder.climbs(words, incident, run=last, came=(prose_ladder.APPLIED,), planned=planned)
    told = [climb for climb in climbs if climb.facts]
    return [
        words.say("label", name=climb.name, text=words.joined(climb.facts)) if climb.name else words.joined(climb.facts)
        for climb in told
    ]


def _how_to_wait(words: Words) -> str:
    """Return the text that explains how to wait for another run. A job of AWX has a survey and no command line."""
    return words.say("screen.how_to_wait.awx" if os.environ.get("AWX_HOST") else "screen.how_to_wait")
