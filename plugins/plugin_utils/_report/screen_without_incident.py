# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary on the screen for a host on which a run opened no incident, for example after a check or a failure."""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import restarts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose,
    prose_causes,
    prose_data,
    prose_steps,
    screen_next_steps,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import (
    bare,
    message_of,
    messages_in,
    summed_up,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.screen_layout import (
    ATTENTION,
    BAD,
    GOOD,
    Field,
    aligned,
    headed,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import row_counts, service_state, statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import steps as timeline_steps

# The modules that outage_ready.yml uses outside of roles. The escalation role sends its messages.
_READINESS = ("fail_settings", "health_probe", "preparedness_info", "preparedness_report")


def without_incident(
    words: Words, host: str, events: Sequence[timeline_events.Event], *, check_mode: bool = False, target: str = ""
) -> Tuple[str, List[str]]:
    """Return the tone and the lines for a host without an incident. If there is nothing to report, there are no lines.

    target: see next_steps.target.
    """
    steps = [each for each in map(timeline_steps.step, events) if each]
    tone, lines = _without_incident(words, host, events, steps, check_mode=check_mode, target=target)
    return tone, headed(words, lines, check_mode=check_mode)


def already_reported(events: Sequence[timeline_events.Event], host: str) -> bool:
    """Return True if outage_ready.yml has shown its report for a host, and no other playbook of this run used the host.

    After the report, only the task that repeats the verdict as an error may have failed. events: all events of the run.
    The task that writes the report runs only once for all hosts.
    """
    written = [at for at, each in enumerate(events) if _ended(each) == "preparedness_report"]
    if not written or events[written[-1]].get("status") == "failed":
        return False
    mine = [each for each in events if each.get("host") == host]
    later = [each for each in events[written[-1] :] if each.get("host") == host]
    shown = next((at for at, each in enumerate(later) if _shows(each)), None)
    if shown is None or not all(map(_of_readiness, mine)):
        return False
    failed = [each for each in later if each.get("status") == "failed" or each["kind"] == "unreachable"]
    verdicts = [each for each in later[shown:] if _ended(each)]
    return len(verdicts) <= 1 and all(map(_not_ready, [*failed, *verdicts]))


def _of_readiness(event: timeline_events.Event) -> bool:
    """Return True if an event can be from outage_ready.yml."""
    module = _ended(event)
    return module is None or event.get("role") == "escalation" or (not event.get("role") and module in _READINESS)


def _shows(event: timeline_events.Event) -> bool:
    return event.get("action") == "ansible.builtin.debug" and event.get("status") == "ok"


def _not_ready(event: timeline_events.Event) -> bool:
    """Return True if an event is the last task of outage_ready.yml, which repeats the verdict as an error."""
    return _ended(event) == "fail_settings" and bool((event.get("data") or {}).get("shown"))


def _ended(event: timeline_events.Event) -> Optional[str]:
    """If an event records the result of a module of this collection, return the module's short name, otherwise None."""
    return timeline_events.module_of(event) if event["kind"] == "task" else None


def _without_incident(
    words: Words,
    host: str,
    events: Sequence[timeline_events.Event],
    steps: Sequence[incident_model.Step],
    *,
    check_mode: bool,
    target: str,
) -> Tuple[str, List[str]]:
    # In check mode, a step with the status "changed" is only planned.
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
        asked = any(each.get("login_asked", True) for each in looks)
        unasked = "" if asked else words.say("login.not_asked")
        state = prose.login(words, *service_state.login(events)) or unasked
        still_open = bool(looks[-1].get("open_incident"))
        fields: List[Field] = [
            ("next", screen_next_steps.close(words, target) if still_open else []),
            ("rows", _counted_rows(words, steps)),
        ]
        told = _healthy(words, host, steps, looks[-1], fields, login=state, touched=touched)
        return ATTENTION if still_open else GOOD, told
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
    if look.get("open_incident"):
        touched = words.say("screen.still_open", touched=touched)
    sound = [each.data for each in steps if each.role == "database_recovery" and each.data.get("database")]
    if sound:
        path = str(sound[-1]["database"].get("path"))
        head = words.say("screen.healthy_database", host=host, path=path, touched=touched)
        return [head, *aligned(words, fields)]
    key = "screen.healthy_login" if login else "screen.healthy"
    restarted = restarts.text(words, look.get("ends"))
    told: Field = ("restarts", words.sentence(restarted) if restarted else "")
    return [words.say(key, host=host, login=login, touched=touched), *aligned(words, [told, *fields])]


def _counted_rows(words: Words, steps: Sequence[incident_model.Step]) -> List[str]:
    """Return the text about the rows that a verification counted, and how they differ from the last good count."""
    found = [each.data for each in steps if each.role == "verification" and prose_steps.checked(each)]
    counts = found[-1].get("row_counts") if found else None
    if not counts:
        return []
    last_good = found[-1].get("last_good") or {}
    key = "screen.rows_stored" if last_good.get("replaced") else "screen.rows_counted"
    rows = words.count("rows.count", sum(counts.values()))
    told = words.say(key, rows=rows, tables=words.count("tables", len(counts)))
    before = row_counts.counts(last_good.get("rows"))
    if not before:
        return [told]
    fewer = prose_data.fewer(words, statements.rows_fewer(before, counts))
    earlier = words.count("rows.count", sum(before.values()))
    key = "screen.rows_fewer" if fewer else "screen.rows_none_fewer"
    return [told, words.say(key, at=words.short(last_good.get("at")), before=earlier, fewer=fewer)]


def _window(
    words: Words, host: str, window: Optional[Mapping[str, Any]], *, target: str, check_mode: bool
) -> List[str]:
    """Return the lines for a run that began or ended a maintenance window. window: None if the run ended the window."""
    if not window:
        return [words.say("screen.maintenance_ended", host=host)]
    head = words.say("screen.maintenance_begun", host=host, until=_until(words, window))
    # In check mode, no maintenance window begins, so no window has to be ended.
    ends = [] if check_mode else screen_next_steps.maintenance_begun(words, target)
    return [head, *aligned(words, [("next", ends)])]


def _until(words: Words, window: Mapping[str, Any]) -> str:
    """Return the end time of a maintenance window and the reason for the window."""
    until, reason = words.when(window.get("until")), window.get("reason")
    return words.say("aside", text=until, aside=reason) if reason else until


def _stopped(
    words: Words, host: str, steps: Sequence[incident_model.Step], *, touched: str, target: str
) -> Tuple[str, List[str]]:
    """Return the tone and the lines for a host on which a step failed. The first line states why the step failed."""
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
    why = (
        problems[0] if problems else prose_steps.happened(words, (prose_steps.reasons(steps) or unsound or [last])[-1])
    )
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
    return screen_next_steps.triage(words, target)


def _accepted(look: Mapping[str, Any]) -> bool:
    """Return True if a person has accepted everything that a health probe found."""
    return {each.get("id") for each in messages_in(message_of(look, "summary"))} == {"finding.accepted"}


def _login_failed(words: Words, host: str, login: str, *, touched: str) -> List[str]:
    """Return the lines for a run in which the service answered but refused the login."""
    head = words.say("screen.login_failed", host=host, login=login, touched=touched)
    return [head, *aligned(words, [("next", words.say("screen.check_login"))])]


def _unsound(step: incident_model.Step) -> bool:
    """Return True if a step is a check that found the database damaged."""
    return prose_steps.checked(step) and step.data.get("healthy") is False


def _kept_out(words: Words, host: str, other: Mapping[str, Any], *, touched: str) -> List[str]:
    """Return the lines for a blocked run: the other run's name, start time and step, and what to do."""
    fields = [
        *_other(words, other),
        ("next", words.say("screen.wait_for_it", how=_how_to_wait(words), until=words.when(other.get("until")))),
    ]
    return [words.say("screen.kept_out", host=host, touched=touched), *aligned(words, fields)]


def _left(words: Words, host: str, data: Mapping[str, Any], *, touched: str) -> List[str]:
    """Return the lines for a run that found the service healthy while another run was working on the incident."""
    other = data["locked_by"]
    fields = [
        *_other(words, other),
        ("next", words.say("screen.closes_it", how=_how_to_wait(words), until=words.when(other.get("until")))),
    ]
    head = words.say("screen.healthy_open", host=host, incident=data["id"], touched=touched)
    return [head, *aligned(words, fields)]


def _other(words: Words, other: Mapping[str, Any]) -> List[Field]:
    """Return the fields that describe the other run on the host."""
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
    # Triage never tests the login.
    login = words.say("login.not_asked")
    tone, found = GOOD, words.say("screen.nothing_wrong", host=host, login=login, touched=touched)
    # Triage continues despite an invalid setting, but detection and recovery fail.
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


def _how_to_wait(words: Words) -> str:
    """Return the text that explains how to wait for another run. An AWX job has a survey instead of a command line."""
    return words.say("screen.how_to_wait.awx" if os.environ.get("AWX_HOST") else "screen.how_to_wait")
