# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An incident's model in sentences: plain text, shared by the documents and the summary on screen."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements

_LIKELY = 0.5


@dataclasses.dataclass(frozen=True)
class Climb:
    """The changes on one rung, as plain facts. rung: None for changes outside of the rungs.

    name: of the rung, or of the other part of the recovery.
    """

    rung: Optional[incident_model.Rung]
    name: str
    facts: List[str]


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of the headline: its name, its value, its definition."""

    title: str
    value: str
    meaning: str


bare = prose_steps.bare
message_of = prose_steps.message_of
summed_up = prose_steps.summed_up
upper = prose_steps.upper


def subject(words: Words, incident: incident_model.Incident) -> str:
    """Return the names of the service and the host."""
    if not incident.service:
        return incident.host
    return words.say("subject", service=incident.service, host=incident.host)


def outcome(words: Words, incident: incident_model.Incident) -> str:
    """Return the outcome."""
    return words.name("outcome", incident.outcome)


def rows(words: Words, incident: incident_model.Incident) -> str:
    """Return one sentence on the rows of the database before and after."""
    before, after = incident.rows_before, incident.rows_after
    if not before and not after:
        return words.say("not_counted")
    if not before:
        return words.say(
            "rows.after_only", after=words.number(sum(after.values())), tables=words.count("tables", len(after))
        )
    numbers = {"before": words.number(sum(before.values())), "tables": words.count("tables", len(before))}
    if not after:
        return words.say("rows.before_only", **numbers)
    sum_after = words.number(sum(after.values()))
    numbers["after"] = words.say("rows.after", after=sum_after)
    grown = {table: count - before.get(table, 0) for table, count in after.items() if count > before.get(table, 0)}
    if grown:
        more = words.listed([f"{table} +{words.number(count)}" for table, count in grown.items()], limit=3)
        numbers["after"] = words.say("rows.after_grown", after=sum_after, grown=more)
    if incident.rows_seeded:
        seeded = words.listed(
            [f"{table} {words.number(count)}" for table, count in incident.rows_seeded.items()], limit=3
        )
        numbers["after"] = words.say("rows.after_seeded", after=numbers["after"], seeded=seeded)
    if incident.rows_stale:
        numbers["after"] = words.say("rows.after_stale", after=numbers["after"])
    lost = incident.rows_lost()
    if not lost:
        return words.say("rows.none_fewer", **numbers)
    fewer = [f"{table} {words.number(was)} -> {words.number(now)}" for table, (was, now) in lost.items()]
    return words.say("rows.fewer", fewer=words.listed(fewer), **numbers)


def data_loss(words: Words, incident: incident_model.Incident) -> str:
    """Return the data-loss verdict in words."""
    verdict = statements.data_loss(
        statements.Facts(
            rows_before=incident.rows_before,
            rows_from=incident.rows_from,
            rows_after=incident.rows_after,
            started_since=incident.rows_stale,
            suspected=incident.data_loss == statements.SUSPECTED,
            lost=incident.data_loss == statements.KNOWN,
        )
    )
    told = words.say(f"data_loss.{verdict.value}", why=words.say(f"uncounted.{verdict.why}") if verdict.why else "")
    untouched = verdict.value == statements.SUSPECTED and stated(incident, "nothing_started") == statements.YES
    return words.say("data_loss.untouched", verdict=told) if untouched else told


def stated(incident: incident_model.Incident, name: str) -> str:
    """Return the value of a statement about the service."""
    return str((incident.statements.get(name) or {}).get("value") or statements.UNKNOWN)


def whom(words: Words, incident: incident_model.Incident) -> str:
    """Return who has been or will be notified, and why."""
    escalation = incident.escalation
    if not escalation:
        return words.say("told.undecided")
    to, entries = escalation.get("to") or [], [each for each in escalation.get("told") or [] if isinstance(each, dict)]
    names = dict(zip(escalation.get("contacts") or [], to))
    reached: Dict[str, List[str]] = {}
    for each in entries:
        if each.get("ok"):
            ways = reached.setdefault(str(names.get(each.get("contact"), each.get("contact"))), [])
            if each.get("channel") not in ways:
                ways.append(str(each.get("channel")))
    reason = escalation_reason(words, incident)
    if not to and not reached:
        return words.say("told.nobody_why", reason=reason) if reason else words.say("told.nobody")
    done = [
        words.say("told.by", name=words.name("contact", name), ways=words.listed(ways))
        for name, ways in reached.items()
    ]
    missing = [words.name("contact", name) for name in to if name not in reached]
    failed = [
        words.say("label", name=str(each.get("channel")), text=bare(each.get("error")))
        for each in entries
        if each.get("ok") is False
    ]
    parts = [words.say("told.done", names=words.listed(done))] if done else []
    parts += [words.say("told.missing", names=words.listed(missing))] if missing else []
    parts += [words.say("told.failed", channels=words.listed(failed))] if failed else []
    return words.say("told.why", told=words.joined(parts), reason=reason) if reason else words.joined(parts)


def would_tell(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return who would be notified, and who if the recovery fails: for a run in check mode."""
    escalation: Mapping[str, Any] = incident.escalation
    if not escalation:
        return [words.say("told.undecided")]
    told = [_would_tell(words, escalation)]
    if escalation.get("otherwise"):
        told.append(words.say("told.otherwise", told=_would_tell(words, escalation["otherwise"])))
    return told


def _would_tell(words: Words, escalation: Mapping[str, Any]) -> str:
    ways: Dict[str, List[str]] = {str(name): [] for name in escalation.get("to") or []}
    for each in escalation.get("would") or []:
        error = bare(each.get("error"))
        way = str(each.get("channel"))
        ways.setdefault(str(each.get("name")), []).append(words.say("label", name=way, text=error) if error else way)
    reason = _escalation_reason(words, escalation)
    if not ways:
        return words.say("told.nobody_why", reason=reason) if reason else words.say("told.nobody")
    names = [
        words.say("told.by", name=words.name("contact", name), ways=words.listed(by))
        if by
        else words.say("told.by_no_way", name=words.name("contact", name))
        for name, by in ways.items()
    ]
    told = words.listed(names)
    return words.say("told.why", told=told, reason=reason) if reason else told


@dataclasses.dataclass(frozen=True)
class Telling:
    """One notification: when it ended, contact, channel, result, and whether it succeeded."""

    at: Optional[str]
    who: str
    by: str
    came: str
    reached: bool


def tellings(words: Words, incident: incident_model.Incident) -> List[Telling]:
    """Return each notification of this run and of earlier runs."""
    escalation = incident.escalation
    names = dict(zip(escalation.get("contacts") or [], escalation.get("to") or []))
    return [
        Telling(
            at=each.get("at") or None,
            who=words.name("contact", str(names.get(each.get("contact"), each.get("contact")))),
            by=str(each.get("channel") or ""),
            came=words.say("doc.told.reached")
            if each.get("ok")
            else words.say("doc.told.not", error=words.quoted(each.get("error")) or words.say("unknown")),
            reached=bool(each.get("ok")),
        )
        for each in escalation.get("told") or []
        if isinstance(each, dict)
    ]


def escalation_reason(words: Words, incident: incident_model.Incident) -> str:
    """Return why these contacts are notified, or an empty text if no reason is given."""
    return _escalation_reason(words, incident.escalation)


def _escalation_reason(words: Words, escalation: Mapping[str, Any]) -> str:
    # Before version 0.2.0 the rule was called level.
    rule = str(escalation.get("rule") or escalation.get("level") or "")
    if words.knows("escalation", rule):
        return words.name("escalation", rule)
    return bare(escalation.get("reason"))


def cause(words: Words, incident: incident_model.Incident) -> str:
    """Return the cause and its summary in one line."""
    if not incident.cause:
        return words.say("cause_unknown")
    summary = summed_up(words, incident.cause, incident.cause_summary, incident.messages.get("cause_summary"))
    name = words.name("cause", incident.cause)
    return words.say("label", name=name, text=summary) if summary else name


def original(words: Words, finding: Mapping[str, Any]) -> str:
    """Return the English summary of a finding if its cause alone says less, see summed_up; else empty."""
    told_less = not words.message(message_of(finding, "summary")) and words.knows("summary", finding.get("cause"))
    return words.quoted(finding.get("summary")) if told_less else ""


def ladder(words: Words, incident: incident_model.Incident) -> str:
    """Return which rungs were tried and which one succeeded, by run if there were several."""
    if not incident.rungs_tried and not incident.rungs_skipped:
        if not incident.rung:
            return words.say("ladder.none")
        return words.say("ladder.rung", rung=words.part(incident.rung), came=words.say("held.held"))
    names = run_names(words, incident)
    if not names:
        return _climbed(words, incident)
    return words.joined(
        [words.say("label", name=name, text=_climbed(words, incident, run=run)) for run, name in names.items()]
    )


def _climbed(words: Words, incident: incident_model.Incident, *, run: Optional[str] = None) -> str:
    told = [
        (each.started_at or "", words.say("ladder.rung", rung=words.part(each.rung), came=held(words, each)))
        for each in incident.rungs_tried
        if run in (None, each.run)
    ]
    told += [
        (each.at or "", words.say("ladder.rung", rung=words.part(each.rung), came=words.say("held.skipped")))
        for each in incident.rungs_skipped
        if run in (None, each.run)
    ]
    ordered = [text for _at, text in sorted(told, key=lambda pair: pair[0])]
    return words.say("ladder.then").join(ordered) or words.say("ladder.none")


def skips(words: Words, incident: incident_model.Incident, *, run: Optional[str] = None) -> List[str]:
    """Return which rungs were skipped, and why."""
    return [
        words.say("ladder.skipped_why", rung=words.part(each.rung), reason=why(words, each))
        for each in incident.rungs_skipped
        if run in (None, each.run)
    ]


def why(words: Words, of: Any) -> str:
    """Return the reason of a rung, a skipped rung or a remedy."""
    return words.message(of.messages.get("reason"), of.reason)


def run_names(words: Words, incident: incident_model.Incident) -> Dict[str, str]:
    """Return the names of the runs, such as "run 1", or an empty mapping if there was only one."""
    runs = [each.run for each in incident.runs]
    if len(runs) < 2:
        return {}
    return {run: words.say("run", number=position) for position, run in enumerate(runs, start=1)}


def rung_name(words: Words, incident: incident_model.Incident, rung: incident_model.Rung) -> str:
    """Return the rung's name, with its run if there were several."""
    run = run_names(words, incident).get(rung.run)
    name = words.part(rung.rung)
    return words.say("rung_of_run", run=run, rung=name) if run else name


def climbs(words: Words, incident: incident_model.Incident, *, run: Optional[str] = None) -> List[Climb]:
    """Return the changes on each rung, in the order of the tries, then the changes outside of the rungs.

    run: only changes of this run.
    """
    tried = [
        Climb(rung, rung_name(words, incident, rung), []) for rung in incident.rungs_tried if run in (None, rung.run)
    ]
    mended = Climb(None, words.name("part", "remediation"), remedies(words, incident, run=run))
    other = Climb(None, "", [])
    for step in incident.steps:
        # The remedies list their changes themselves, and notifications are listed elsewhere.
        if step.role == "escalation" or (step.role == "remediation" and mended.facts):
            continue
        if step.weight != incident_model.CHANGE or run not in (None, step.run):
            continue
        # A rung may say more than the role's name: the method.
        of_role = [
            each
            for each in tried
            if each.rung and each.rung.run == step.run and each.rung.rung.partition(" ")[0] == step.role
        ]
        begun = [each for each in of_role if each.rung and (each.rung.started_at or "") <= step.at]
        (begun or of_role[:1] or [other])[-1].facts.append(prose_steps.deed(words, step))
    return [*([mended] if mended.facts else []), *tried, *([other] if other.facts else [])]


def remedies(words: Words, incident: incident_model.Incident, *, run: Optional[str] = None) -> List[str]:
    """Return the remedies of the causes before the ladder, and those that were not allowed. run: only this run."""
    facts: List[str] = []
    names = run_names(words, incident) if run is None else {}
    for each in incident.remedies:
        if run not in (None, each.run):
            continue
        before = len(facts)
        named, detail = words.name("cause", each.cause), words.listed(_details(words, each))
        action = words.message(each.messages.get("action"), each.action)
        if each.failed:
            facts.append(words.say("remedied.failed", cause=named, action=action, detail=detail))
        elif each.changed and detail:
            facts.append(words.say("remedied.detail", cause=named, action=action, detail=detail))
        elif each.changed:
            facts.append(words.say("label", name=named, text=action))
        elif each.reason:
            facts.append(words.say("remedied.left", cause=named, reason=why(words, each)))
        facts[before:] = [
            words.say("label", name=names[each.run], text=fact) if names else fact for fact in facts[before:]
        ]
    return facts


def _details(words: Words, remedy: incident_model.Remedy) -> List[str]:
    """Return the details of a remedy. There is a message for each of them, except in an old timeline."""
    told = remedy.messages.get("detail") or []
    known = told if len(told) == len(remedy.detail) else [None] * len(remedy.detail)
    return [words.message(each, text) for each, text in zip(known, remedy.detail)]


def kept(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return the files that the recovery left on the host for a person to check or remove: name and path."""
    places = [
        ("kept.evidence", incident.evidence),
        ("kept.copy", incident.database_copied),
        ("kept.backup", incident.backup_file),
        ("kept.database", incident.database_kept),
        ("kept.modules", incident.modules_kept),
        ("kept.record", incident.record_in_memory),
    ]
    return [(words.say(name), path) for name, path in places if path]


def nothing_taken(words: Words, incident: incident_model.Incident) -> str:
    """Return the words for no rung and no remedy. A hold and a takeover are changes, too, see statements.py."""
    if (incident.statements.get("nothing_changed") or {}).get("value") != statements.NO:
        return words.say("screen.nothing_changed")
    return words.say("taken.only_held" if incident.held_by else "taken.none")


def not_copied(words: Words, incident: incident_model.Incident) -> str:
    """Return why the evidence lacks the files of a database in doubt, or an empty text if it has them or needs none."""
    if incident.database_copied or not incident.database_not_copied:
        return ""
    return words.say("kept.not_copied", reason=words.quoted(incident.database_not_copied))


def logged_in(incident: incident_model.Incident) -> Tuple[Optional[str], Optional[str], object]:
    """Return the state of the login, why it failed, and this as a message, as service_state.login does."""
    return incident.login, incident.login_error, incident.messages.get("login_error")


def login(words: Words, state: Optional[str], error: Optional[str], message: object) -> str:
    """Return the result of the login, or an empty text if there was no verification. For the rest, see logged_in."""
    if state not in ("checked", "rate_limited", "no_password", "no_answer", "failed"):
        return ""
    told = words.say(f"login.{state}")
    return words.say("label", name=told, text=words.message(message, error)) if error else told


def named(words: Words, findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of the causes that were found."""
    return words.listed([words.name("cause", str(each.get("cause") or "unknown")) for each in findings])


def likely(finding: Mapping[str, Any]) -> bool:
    """Return True if a finding is a root cause: confidence of 50 % or more, and not a consequence of another one."""
    return float(finding.get("confidence") or 0) >= _LIKELY and not finding.get("explained_by")


def sure(words: Words, finding: Mapping[str, Any]) -> str:
    """Return the confidence and the explaining cause: "confidence 90%, explained by disk_full". Empty if unknown."""
    confidence, by = finding.get("confidence"), finding.get("explained_by")
    parts = [words.say("sure", percent=f"{confidence:.0%}")] if confidence is not None else []
    parts += [words.say("explained_by", cause=words.name("cause", by))] if by else []
    return words.say("list.comma").join(parts)


def held(words: Words, rung: incident_model.Rung) -> str:
    """Return the result of a rung in one or two words."""
    if rung.held:
        return words.say("held.held")
    if rung.serves:
        return words.say("held.serves")
    if rung.restored:
        return words.say("held.restored")
    if rung.halted:
        return words.say("held.halted")
    return words.say("held.not" if rung.held is False else "held.unknown")


def detection(words: Words, incident: incident_model.Incident) -> str:
    """Return how the outage was noticed."""
    probe = incident.probe
    if not probe:
        return words.say("detection.no_probe")
    if probe.get("severity") == "unreachable":
        return words.say(
            "detection.unreached",
            why=words.message(incident.messages.get("cause_summary"), incident.cause_summary) or words.say("unknown"),
        )
    parts = []
    if (probe.get("process") or {}).get("state") == "gone":
        parts.append(words.say("detection.gone"))
    failures = probe.get("max_consecutive_failures") or probe.get("consecutive_failures")
    if failures and failures > 1:
        parts.append(words.say("detection.failures", number=words.number(failures)))
    failing = [each for each in probe.get("endpoints") or [] if each.get("ok") is False]
    if failing:
        parts.append(words.listed([prose_steps.endpoint(words, each) for each in failing]))
    severity = words.name("severity", probe.get("severity") or "unknown")
    return words.say("detection.probe", found=words.joined(parts) or words.say("detection.severity", severity=severity))


def next_step(words: Words, incident: incident_model.Incident) -> str:
    """Return the next step for a person, and whether the service is held."""
    held = words.sentence(words.say("next_step.held", incident=incident.held_by)) if incident.held_by else ""
    step = _next_step(words, incident)
    return " ".join(part for part in (words.sentence(step) if step else "", held) if part)


def _next_step(words: Words, incident: incident_model.Incident) -> str:
    """Return the playbook's text, or the same in a language that the playbook does not have."""
    if incident.outcome == "unfinished":
        return words.name("next", "unfinished")
    if incident.outcome == "login_failed" and incident.data_loss != "suspected":
        return words.name("next", "login_failed")
    if not incident.next_step:
        return ""
    known = words.message(incident.messages.get("next_step"))
    if known:
        return known
    state = incident.outcome
    if state != incident_model.IN_DOUBT and incident.data_loss == "suspected":
        state = "data_loss"
    elif incident.outcome == "recovered" and incident.data_loss == "known":
        state = "loss"
    elif incident.outcome == "not_recovered" and any(each.halted for each in incident.rungs_tried):
        state = "halted"
    elif incident.outcome == "not_recovered" and incident.rungs_tried and incident.cause == "unknown":
        state = "helpless"
    return words.name("next", state) if words.knows("next", state) else words.quoted(incident.next_step)


def measures(words: Words, incident: incident_model.Incident) -> List[Measure]:
    """Return the durations of the incident, each with its definition. None of them is a mean: it is one incident."""
    spans, open_ends = incident.durations, _open_ends(incident)
    return [
        Measure(
            words.say(f"measure.{name}"),
            words.say("none_yet") if value is None and name in open_ends else words.duration(value),
            words.say(f"measure.{name}.meaning"),
        )
        for name, value in (("detect", spans.detect), ("mitigate", spans.mitigate), ("resolve", spans.resolve))
    ]


def _open_ends(incident: incident_model.Incident) -> Tuple[str, ...]:
    """Return the ends that have not been reached yet, if that is certain."""
    if incident.outcome == "login_failed":
        return ("resolve",)
    return ("mitigate", "resolve") if incident.outcome in ("not_recovered", "unreachable") else ()


def still_down(incident: incident_model.Incident) -> bool:
    """Return True if the outage continues after the last run."""
    return incident.outcome not in incident_model.BACK and stated(incident, "still_down") == statements.YES


def lasted(words: Words, incident: incident_model.Incident) -> str:
    """Return the length of the outage in one or two words. If it has not ended, the length so far."""
    told = words.duration(incident.durations.outage)
    if incident.outcome == "unreachable":
        return words.say("outage.unreached", outage=told)
    known = incident.durations.outage is not None
    return words.say("so_far", outage=told) if known and still_down(incident) else told


def outage(words: Words, incident: incident_model.Incident) -> str:
    """Return the length of the outage, and by how much it may have been longer."""
    spans = incident.durations
    if spans.outage is None:
        return words.say("unknown")
    if incident.outcome == "unreachable":
        return lasted(words, incident)
    exact = words.say("exactly", seconds=f"{spans.outage:,.1f}")
    told = exact if spans.outage < 60 else words.say("exactly_or", exactly=exact, about=words.duration(spans.outage))
    if still_down(incident):
        told = words.say("so_far", outage=told)
    if spans.uncertain is None:
        return words.say("outage.begin_unsure", outage=told)
    if spans.uncertain < 0.05:
        return told
    return words.say("outage.at_most", outage=told, uncertain=words.duration(spans.uncertain))


def _unmeasured(incident: incident_model.Incident) -> bool:
    """Return True if no run reached the step that measures the impact."""
    return incident.source == "events" and not any(value for value in dataclasses.astuple(incident.impact))


def users(words: Words, incident: incident_model.Incident) -> str:
    """Return how many users were affected, or why that is not known."""
    impact = incident.impact
    if _unmeasured(incident):
        return words.say("unmeasured")
    if impact.users is not None:
        return words.say("users", users=words.count("users.count", impact.users))
    return _unknown(words, impact, "users_unknown")


def requests(words: Words, incident: incident_model.Incident) -> str:
    """Return how many requests failed, or why that is not known."""
    impact = incident.impact
    if _unmeasured(incident):
        return words.say("unmeasured")
    if impact.requests == 0:
        return words.say("requests.nothing", log=impact.requests_from)
    if impact.requests is not None and impact.requests_failed is not None:
        return words.say(
            "requests" if impact.requests_failed else "requests.none",
            failed=words.number(impact.requests_failed),
            requests=words.count("requests.count", impact.requests),
            log=impact.requests_from,
        )
    return _unknown(words, impact, "requests_unknown")


def _unknown(words: Words, impact: incident_model.Impact, name: str) -> str:
    """Return that a number is unknown, and why."""
    why = words.message(impact.messages.get(name), getattr(impact, name))
    return words.say("unknown_why", why=why) if why else words.say("unknown")


def facts(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return the facts at the top of the documents: name and value of each."""
    told = [
        ("doc.severity", words.name("severity", incident.severity or "unknown")),
        ("doc.cause_label", cause(words, incident)),
        ("doc.ladder", ladder(words, incident)),
        ("doc.data_loss", data_loss(words, incident)),
        ("doc.told", whom(words, incident)),
        ("doc.ticket", incident.ticket or ""),
    ]
    since = words.when(incident.times.started_at) or words.say("unknown")
    return [(begun(words, incident), since), *((words.say(key), text) for key, text in told if text)]


def detected(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return how the outage was noticed and, if a reason was given, why the playbook was started."""
    why = [words.say("label", name=words.say("doc.reason"), text=bare(incident.reason))] if incident.reason else []
    return [words.sentence(each) for each in (detection(words, incident), *why)]


def notes(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return notes that a reader needs to judge the rest."""
    told = [words.say("doc.no_verdict")] if incident.source == "events" else []
    for run in incident.runs:
        if not run.complete and run.last_task:
            told.append(
                words.say(
                    "doc.cut_short_at",
                    run=run.run,
                    at=words.when(run.last_event_at),
                    task=prose_steps.label(words, run.last_action, run.last_task),
                )
            )
        elif not run.complete:
            told.append(words.say("doc.cut_short", run=run.run, at=words.when(run.last_event_at)))
    # If the error is the cause itself, it is shown already.
    if incident.error and bare(incident.error) != bare(incident.cause_summary):
        error = words.message(incident.messages.get("error"), incident.error)
        told.append(error if incident.outcome in incident_model.BACK else words.say("doc.stopped_by", error=error))
    return told


def cuts(words: Words, incident: incident_model.Incident) -> List[Tuple[str, str]]:
    """Return when runs were interrupted, and at which task."""
    names = run_names(words, incident)
    told = []
    for run in incident.runs:
        if run.complete:
            continue
        task = prose_steps.label(words, run.last_action, run.last_task) if run.last_task else words.say("unknown")
        text = words.say("step.cut_short", task=task)
        told.append((run.last_event_at, words.say("label", name=names[run.run], text=text) if names else text))
    return told


def sources(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the sources of the instants: source of the begin, an estimated end, different clocks."""
    times, told = incident.times, []
    if times.started_from:
        told.append(words.say("doc.begin_read_from", source=words.name("source", times.started_from)))
    if times.mitigated_estimated:
        told.append(words.say("doc.end_estimated", source=words.name("source", times.mitigated_from or "unknown")))
    if times.clocks_apart is not None:
        key = "doc.clock_ahead" if times.clocks_apart > 0 else "doc.clock_behind"
        told.append(words.say(key, apart=words.duration(abs(times.clocks_apart))))
    return told


def no_instant(words: Words, incident: incident_model.Incident, name: str) -> str:
    """Return the text for a missing instant of marks: it is not known, or it is still to come."""
    later = [words.say(f"doc.mark.{each}") for each in ("mitigated", "resolved")]
    return words.say("none_yet" if _open_ends(incident) and name in later else "unknown")


def begun(words: Words, incident: incident_model.Incident) -> str:
    """Return the name of the first bad sign. If the host gives no answer, it is only a sign."""
    return words.say("doc.mark.unreached" if incident.outcome == "unreachable" else "doc.mark.started")


def marks(words: Words, incident: incident_model.Incident) -> List[Tuple[str, Optional[str]]]:
    """Return the instants of the incident: name and time of each."""
    times = incident.times
    return [
        (words.say("doc.mark.last_good"), times.last_good_at),
        (begun(words, incident), times.started_at),
        (words.say("doc.mark.detected"), times.detected_at),
        (words.say("doc.mark.mitigated"), times.mitigated_at),
        (words.say("doc.mark.resolved"), times.resolved_at),
    ]
