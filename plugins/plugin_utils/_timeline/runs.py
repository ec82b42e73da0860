# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs for an incident: the rungs that each run tried or skipped, and its remedies."""

from __future__ import annotations

from typing import List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import FIRST_RESPONSE
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import job
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import (
    Event,
    first_value,
    module_of,
    verdict_of,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.instants import seconds_between
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import (
    RUNGS,
    NotReached,
    Remedy,
    Run,
    Rung,
    Skip,
)

_LOOKS = ("detection", "verification")
# A run that only releases a hold does not use these modules.
_RECOVERS = ("health_probe", "sqlite_restore")


def rungs(run: Sequence[Event]) -> List[Rung]:
    """Return the rungs that a run tried, as stated in its verdict.

    If there is no verdict, use the roles of the run's tasks.
    """
    verdict = verdict_of(run)
    if not verdict:
        return _concluded_rungs(run)
    return [
        Rung(
            rung=str(each.get("rung") or ""),
            held=each.get("held"),
            halted=each.get("halted"),
            serves=each.get("serves"),
            restored=each.get("restored"),
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            started_at=each.get("started_at"),
            seconds=each.get("seconds"),
            run=str(run[0]["run"]),
        )
        for each in verdict.get("rungs_tried") or []
    ]


def _concluded_rungs(run: Sequence[Event]) -> List[Rung]:
    """Return the rungs that a run tried before it ended without a verdict. The roles of its tasks show these rungs."""
    tried: List[Rung] = []
    healthy: Optional[bool] = None
    steps = [event for event in run if event["kind"] in ("task", "started")]
    for event in steps:
        # If the run was killed during the first response, it is unknown whether the service was started.
        cut_off = event is steps[-1] and event["kind"] == "started" and module_of(event) == "first_response"
        role = FIRST_RESPONSE if cut_off else event.get("role")
        if role in RUNGS and (not tried or tried[-1].rung != role):
            begun = str(event.get("start") or event["at"])
            tried.append(
                Rung(
                    rung=role,
                    held=None,
                    halted=None,
                    serves=None,
                    restored=None,
                    reason=None,
                    messages={},
                    started_at=begun,
                    seconds=None,
                    run=str(run[0]["run"]),
                )
            )
            healthy = None
        if not tried or role not in (*RUNGS, *_LOOKS):
            continue
        tried[-1].seconds = seconds_between(tried[-1].started_at, event["at"])
        if event.get("status") == "failed":
            # If the connection to the host was lost, the rung may have succeeded, so its result is unknown.
            tried[-1].held = None if (event.get("data") or {}).get("unreachable_host") else False
            tried[-1].reason = event.get("msg") or event.get("task")
            told = ((event.get("data") or {}).get("messages") or {}).get("msg") if event.get("msg") else None
            tried[-1].messages = {"reason": told} if told else {}
        elif event["kind"] == "started":
            # If the run was killed during a check, the check has no result.
            tried[-1].held = None
        elif module_of(event) == "health_probe" and event.get("data"):
            healthy = tried[-1].held = bool(event["data"].get("healthy"))
        elif tried[-1].held is None:
            tried[-1].held = healthy
    return tried


def skips(run: Sequence[Event]) -> List[Skip]:
    """Return the rungs that one run skipped, as stated in its verdict."""
    identity = str(run[0]["run"])
    return [
        Skip(
            rung=str(each.get("rung") or ""),
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            at=each.get("at"),
            run=identity,
        )
        for each in verdict_of(run).get("rungs_skipped") or []
    ]


def not_reached(run: Sequence[Event]) -> List[NotReached]:
    """Return the rungs that one run did not reach, as stated in its verdict."""
    identity = str(run[0]["run"])
    return [
        NotReached(
            rung=str(each.get("rung") or ""),
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            run=identity,
        )
        for each in verdict_of(run).get("rungs_not_reached") or []
    ]


def remedies(run: Sequence[Event]) -> List[Remedy]:
    """Return the remedies that a run applied or refused, as stated in its verdict."""
    told = verdict_of(run).get("remediation") or {}
    return [
        Remedy(
            cause=str(each.get("cause") or "unknown"),
            action=each.get("action"),
            changed=bool(each.get("changed")),
            failed=bool(each.get("failed")),
            detail=each.get("detail") or [],
            reason=each.get("reason"),
            messages=each.get("messages") or {},
            seconds=each.get("seconds"),
            run=str(run[0]["run"]),
        )
        for each in [*(told.get("applied") or []), *(told.get("refused") or [])]
    ]


def is_release(events: Sequence[Event]) -> bool:
    """Return True if the run only released a hold or, in check mode, would only have released a hold.

    A run that recovers the service may also change a hold, but it probes the service first.
    """
    holds = [event for event in events if event["kind"] == "task" and module_of(event) == "service_hold"]
    failed = any(event.get("status") == "failed" or event["kind"] == "unreachable" for event in events)
    recovers = verdict_of(events) or any(module_of(event) in _RECOVERS for event in events)
    return not failed and not recovers and any(event.get("status") == "changed" for event in holds)


def summary(events: Sequence[Event]) -> Run:
    """Return the data of the run itself, such as its playbook, start and end."""
    first = events[0]
    tasks = [event for event in events if event["kind"] in ("task", "started", "unreachable")]
    verdicts = [event for event in events if event["kind"] == "outcome"]
    return Run(
        run=str(first["run"]),
        playbook=first.get("playbook"),
        core=first.get("core"),
        # A timeline that a host provides can contain any text.
        job=first.get("job") if job.valid(first.get("job")) else None,
        started_at=str(first["at"]),
        # Events after the verdict only publish the verdict.
        last_event_at=str((verdicts or events)[-1]["at"]),
        complete=any(event["kind"] in ("outcome", "stats") for event in events),
        released=is_release(events),
        last_task=first_value(tasks[-1].get("task"), tasks[-1].get("action")) if tasks else None,
        last_action=tasks[-1].get("action") if tasks else None,
    )
