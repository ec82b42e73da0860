# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runbook's checklist (7.2) and the remedies for the findings, with a reason for each item."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Sequence, Set

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import start_remedies
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import messages_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import (
    prose_causes,
    prose_ladder,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report.phrases import message_of, messages_in
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist, statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

# An outage counts as detected late if its detection takes more than this number of seconds.
_LATE = 60
# A log of more than this number of bytes is not rotated often enough.
_LARGE = 1 << 30
# If less than this fraction of the memory or of the disk space is free, it may run out within a day.
_SCARCE = 0.1

# The remedy that only recommends not changing the database until the DBA has decided.
_LEAVE_IT = "remedy.db_corrupt"
# The finding if only the log reports damage, and the check of the database found no damage.
_ONLY_REPORTED = "finding.db_corrupt.reported"
# The item about preventing damage to the database. Backups have a separate item.
_FIND_DAMAGE = "prevention.db_corrupt"
# Causes that need no remedy after a recovery of the database.
_OF_DATABASE = ("db_corrupt", "db_unchecked")

_RESOURCE_CAUSES = {"oom_kill": "memory", "heap_oom": "memory", "disk_full": "disk"}


@dataclasses.dataclass(frozen=True)
class Action:
    """An item from the runbook's checklist (7.2), or a remedy.

    wanted: True if action is needed. why: the reason. of_cause: True if the reason only states the cause of the outage.
    """

    title: str
    wanted: bool
    why: str
    of_cause: bool = False


def actions(words: Words, incident: incident_model.Incident) -> List[Action]:
    """Return the items. The runbook's items are listed first."""
    causes = [str(each.get("cause")) for each in incident.findings] or [incident.cause or "unknown"]
    # If a cause is unlikely, or if another finding explains it, no action is required.
    settled = [each for each in incident.findings if prose_causes.likely(each)]
    fixed = _OF_DATABASE if _is_database_recovered(incident) else ()
    to_do = [
        Action(
            _remedy(words, incident, each),
            True,
            words.say(
                "action.unsettled" if incident.outcome == "unfinished" else "action.remedy",
                cause=words.name("cause", each.get("cause") or "unknown"),
            ),
            of_cause=True,
        )
        for each in settled
        # If the service is healthy again, the remedy is no longer needed.
        if each.get("remedy") and incident.outcome not in incident_model.BACK and each.get("cause") not in fixed
        if _remedy(words, incident, each)
    ]
    to_prevent = [
        Action(
            title,
            True,
            words.say("action.prevention", cause=words.name("cause", each.get("cause") or "unknown")),
            of_cause=True,
        )
        for each in settled
        if each.get("prevention")
        for title in _preventions(words, each)
    ]
    return [
        _thresholds(words, incident),
        _automation(words, incident),
        _rotation(words, incident, causes),
        _resources(words, incident, causes),
        *_login(words, incident),
        *to_do,
        *to_prevent,
        *_left(words, incident),
    ]


def _preventions(words: Words, finding: Mapping[str, Any]) -> List[str]:
    told = message_of(finding, "prevention")
    also = [words.say("action.backups")] if _FIND_DAMAGE in _ids(told) else []
    return [words.message(told, finding["prevention"]), *also]


def _remedy(words: Words, incident: incident_model.Incident, finding: Mapping[str, Any]) -> str:
    """Return the remedy for a finding.

    If the service must not be started and the remedy only proposes to start it, the result is an empty string. A remedy
    that also proposes other actions is deferred. If the service was started but did not recover, the remedy omits the
    restart, as in the next step. If a start alone cannot help because of another finding, a remedy that
    only proposes a start is omitted too.
    """
    told = message_of(finding, "remedy")
    if _started_without_success(incident):
        if _ids(told) and _ids(told) <= set(start_remedies.ONLY_A_START):
            return ""
        told = [start_remedies.after_a_start(each).to_dict() for each in messages_of(finding, "remedy")]
    text = words.message(told, finding["remedy"])
    held = incident.held_by or incident.data_loss == statements.SUSPECTED
    blocked = bool(held) or any(each.get("blocks_start") for each in incident.findings)
    others = [each for each in incident.findings if each is not finding and prose_causes.likely(each)]
    vain = any("restart" in (each.get("useless_rungs") or ()) for each in others)
    if not blocked and not vain:
        return text
    ids = _ids(told)
    # Like the next step, the item must be an action that somebody can complete.
    if ids == {_LEAVE_IT}:
        reported = _ids(message_of(finding, "summary")) == {_ONLY_REPORTED}
        return text if reported else words.say("action.recover_database")
    if ids and ids <= set(start_remedies.ONLY_A_START):
        return ""
    starts = blocked and ids & {*start_remedies.ONLY_A_START, *start_remedies.ALSO_A_START}
    return words.say("action.after_recovery", remedy=text) if starts else text


def _started_without_success(incident: incident_model.Incident) -> bool:
    return incident.outcome == "not_recovered" and any(each.held is False for each in incident.rungs_tried)


def _ids(told: object) -> Set[str]:
    return {str(each.get("id")) for each in messages_in(told)}


def _is_database_recovered(incident: incident_model.Incident) -> bool:
    """Return True if the database was recovered, and no later check found a problem with the database."""
    recovered = False
    for step in incident.steps:
        module, data = allowlist.own_module(step.action or ""), step.data
        if module == "sqlite_restore":
            recovered = step.status == "changed" or (recovered and data.get("healthy_before") is not False)
        elif module == "sqlite_info":
            recovered = recovered and data.get("healthy") is not False and not data.get("data_loss_suspected")
        elif module == "triage_info":
            found = {each.get("cause") for each in data.get("findings") or []}
            recovered = recovered and not found.intersection(_OF_DATABASE)
    return recovered


def _thresholds(words: Words, incident: incident_model.Incident) -> Action:
    title = words.say("action.thresholds")
    detect, probe = incident.durations.detect, incident.probe
    if detect is None:
        return Action(title, True, words.say("action.thresholds.unknown"))
    took = words.duration(detect)
    if detect > _LATE:
        return Action(title, True, words.say("action.thresholds.late", took=took))
    gone = (probe.get("process") or {}).get("state") == "gone"
    return Action(title, False, words.say("action.thresholds.gone" if gone else "action.thresholds.soon", took=took))


def _automation(words: Words, incident: incident_model.Incident) -> Action:
    title = words.say("action.automation")
    ladder = prose_ladder.ladder(words, incident)
    # A service that a rung started may be degraded.
    if incident.outcome == "recovered" or (incident.outcome == "degraded" and incident.rungs_tried):
        late = incident.durations.detect is not None and incident.durations.detect > _LATE
        key = "failed_before" if _failed_before(incident) else "late" if late else "done"
        key = "database" if _is_database_recovered(incident) else key
        took = words.duration(incident.durations.mitigate)
        return Action(title, key == "late", words.say(f"action.automation.{key}", ladder=ladder, took=took))
    if incident.outcome == "recovered_by_systemd":
        took = words.duration(incident.durations.mitigate)
        return Action(title, False, words.say("action.automation.systemd", took=took))
    if incident.outcome in ("degraded", "warning", "unreachable", "unfinished", incident_model.IN_DOUBT):
        return Action(title, incident.outcome == "unfinished", words.say(f"action.automation.{incident.outcome}"))
    for_a_person = [each for each in incident.findings if prose_causes.likely(each) and each.get("blocks_start")]
    if for_a_person:
        return Action(
            title, False, words.say("action.automation.person", causes=prose_causes.named(words, for_a_person))
        )
    refused = [each for each in incident.remedies if each.reason and each.run == incident.runs[-1].run]
    if refused and not incident.rungs_tried:
        why = [
            words.say("label", name=words.name("cause", each.cause), text=prose_ladder.why(words, each))
            for each in refused
        ]
        return Action(title, True, words.say("action.automation.left", why=words.joined(why)))
    return Action(title, False, words.say("action.automation.failed", ladder=ladder))


def _failed_before(incident: incident_model.Incident) -> bool:
    """Return True if the rung that recovered the service failed in an earlier run.

    A person may have fixed the cause between these runs.
    """
    last = next((each for each in reversed(incident.rungs_tried) if each.held), None)
    return last is not None and any(
        each.held is False and not each.serves and each.rung == last.rung and each.run != last.run
        for each in incident.rungs_tried
    )


def _rotation(words: Words, incident: incident_model.Incident, causes: Sequence[str]) -> Action:
    title = words.say("action.rotation")
    seen = words.joined([*_room(words, incident), *_log(words, incident)])
    if "disk_full" in causes:
        return Action(title, True, _with(words, "action.rotation.full", seen))
    if ((incident.resources.get("log") or {}).get("size") or 0) > _LARGE:
        return Action(title, True, _with(words, "action.rotation.large", seen))
    if not (incident.findings or _room(words, incident)):
        return Action(title, True, words.say("action.rotation.unknown"))
    return Action(title, False, _with(words, "action.rotation.fine", seen))


def _resources(words: Words, incident: incident_model.Incident, causes: Sequence[str]) -> Action:
    title = words.say("action.resources")
    seen = words.joined([*_memory(words, incident), *_room(words, incident)])
    short = sorted({_RESOURCE_CAUSES[each] for each in causes if each in _RESOURCE_CAUSES})
    if short:
        what = words.listed([words.name("resource", each) for each in short])
        named = words.listed([words.name("cause", each) for each in causes if each in _RESOURCE_CAUSES])
        return Action(title, True, _with(words, "action.resources.short", seen, what=what, causes=named))
    if not (incident.findings or (_memory(words, incident) and _room(words, incident))):
        return Action(title, True, words.say("action.resources.unknown"))
    scarce = _scarce(incident)
    if scarce:
        what = words.listed([words.name("resource", each) for each in scarce])
        return Action(title, True, _with(words, "action.resources.scarce", seen, what=what))
    return Action(title, False, _with(words, "action.resources.fine", seen))


def _scarce(incident: incident_model.Incident) -> List[str]:
    """Return the resources that were almost exhausted."""
    memory, disks = incident.resources.get("memory") or {}, incident.resources.get("disk") or []
    measured = [("memory", memory), *(("disk", each) for each in disks)]
    return list(
        dict.fromkeys(
            what
            for what, each in measured
            if (whole := each.get("total") or each.get("size"))
            and each.get("available") is not None
            and float(each["available"]) / float(whole) < _SCARCE
        )
    )


def _with(words: Words, key: str, seen: str, **values: object) -> str:
    """Return a sentence. If the measured value was recorded, the sentence contains it."""
    told = words.say(key, **values)
    return words.say("aside", text=told, aside=seen) if seen else told


def _login(words: Words, incident: incident_model.Incident) -> List[Action]:
    """Return the item for a login that failed after a rung. If the login has worked since then, no action is needed."""
    failed = [each for each in incident.rungs_tried if each.serves]
    if not failed:
        return []
    if incident.login == "checked":
        return [Action(words.say("action.login"), False, words.say("notice.login_again"))]
    why = prose_ladder.why(words, failed[-1]) or words.say("login.failed")
    return [Action(words.say("action.login"), True, why)]


def _left(words: Words, incident: incident_model.Incident) -> List[Action]:
    """Return the item about the damaged database that was replaced, if the service is healthy again."""
    path = incident.database_kept
    if not path or incident.outcome not in incident_model.BACK:
        return []
    return [Action(words.say("action.damaged", path=path), True, words.say("action.damaged.kept"))]


def _room(words: Words, incident: incident_model.Incident) -> List[str]:
    """Return the free space on the service's fullest file system."""
    disks = [
        each for each in incident.resources.get("disk") or [] if each.get("size") and each.get("available") is not None
    ]
    if not disks:
        return []
    fullest = min(disks, key=lambda each: float(each["available"]) / float(each["size"]))
    sizes = {name: words.size(fullest[name]) for name in ("available", "size")}
    return [words.say("action.seen.disk", mount=fullest.get("mount"), **sizes)]


def _log(words: Words, incident: incident_model.Incident) -> List[str]:
    log = incident.resources.get("log") or {}
    if log.get("size") is None:
        return []
    return [words.say("action.seen.log", path=log.get("path"), size=words.size(log["size"]))]


def _memory(words: Words, incident: incident_model.Incident) -> List[str]:
    memory = incident.resources.get("memory") or {}
    if not memory.get("total") or memory.get("available") is None:
        return []
    return [words.say("action.seen.memory", **{name: words.size(memory[name]) for name in ("available", "total")})]
