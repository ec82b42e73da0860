# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a run that the documents show, each with the reason why it is shown."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import Event, module_of
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import (
    CHANGE,
    DECISION,
    DETAIL,
    FAILURE,
    Step,
)

# Actions that are shown as steps only if they fail.
PLUMBING = (
    *("include_role", "include_tasks", "import_role", "import_tasks", "validate_argument_spec"),
    *("assert", "set_fact", "set_stats", "debug", "meta"),
)


def step(event: Event) -> Optional[Step]:
    """Return the step for an event, or None if the event is not shown as a step."""
    if event["kind"] in ("started", "stats", "play_start", "summary", "published"):
        return None
    if event.get("status") == "ok" and str(event.get("action")).rsplit(".", 1)[-1] in PLUMBING:
        return None
    return Step(
        at=str(event.get("start") or event["at"]),
        run=str(event["run"]),
        kind=str(event["kind"]),
        weight=_weight(event),
        role=event.get("role"),
        action=event.get("action"),
        task=event.get("task") or event.get("playbook"),
        status=event.get("status"),
        seconds=event.get("duration"),
        data=event.get("data") or {},
        message=event.get("msg"),
    )


def of_run(run: Sequence[Event]) -> Iterator[Step]:
    """Yield the steps of one run. Later steps that only publish or repeat the run's verdict are omitted."""
    decided = False
    for event in run:
        told = step(event)
        decided = decided or event["kind"] == "outcome"
        if decided and event.get("role") == "postmortem" and event.get("status") in ("ok", "changed"):
            continue
        if told and decided and told.kind == "task" and told.weight == FAILURE and not module_of(event):
            continue
        if told:
            yield told


def _weight(event: Event) -> str:
    module = module_of(event)
    if event.get("status") == "failed" or event["kind"] == "unreachable":
        return FAILURE
    if event["kind"] in ("outcome", "run_start"):
        return DECISION
    if module in ("triage_info", "health_probe") and event.get("data"):
        return DECISION
    if module == "sqlite_info" and event.get("data", {}).get("healthy") is False:
        return DECISION
    # The document shows the incident's record, and the document itself is the postmortem. Therefore, these changes are
    # only details.
    if module in allowlist.OF_INCIDENT or event.get("role") == "postmortem":
        return DETAIL
    return CHANGE if module and event.get("status") == "changed" else DETAIL
