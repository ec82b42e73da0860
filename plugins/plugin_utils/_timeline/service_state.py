# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the service and of its login, as found by the last checks of the runs."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import statements, steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import (
    Event,
    first_value,
    module_of,
    results,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import CHANGE, RUNGS


def login(events: Sequence[Event]) -> Tuple[Optional[str], Optional[str], Any]:
    """Return the login state in a run's last verification, why the login failed, and this reason as a message.

    For the states, see model.Incident.
    """
    probes: List[Dict[str, Any]] = []
    for event in reversed(events):
        if event["kind"] == "task" and event.get("role") in RUNGS:
            break
        if event.get("role") == "verification":
            probes += results([event], "health_probe")
    if not probes:
        return None, None, None
    tried = next((probe["login"] for probe in probes if probe.get("login")), None)
    if tried is None:
        return "no_password" if any(probe.get("healthy") for probe in probes) else "no_answer", None, None
    if tried.get("ok"):
        return "rate_limited" if tried.get("checked") is False else "checked", None, None
    error = first_value(tried.get("error"), tried.get("status") and f"status {tried['status']}")
    return "failed", error, (tried.get("messages") or {}).get("error")


def last_look(runs: Sequence[Sequence[Event]]) -> statements.Facts:
    """Return facts about the service, from the events. Checks before the service's last start or stop are ignored.

    The outcome is "degraded" if the last check found the service degraded, and empty in all other cases.
    """
    answers: Optional[bool] = None
    running: Optional[bool] = None
    stopped = started = stale = degraded = False
    for event in (event for run in runs for event in run if event["kind"] == "task"):
        module, data = module_of(event), event.get("data") or {}
        if module == "node_process" and event.get("status") == "changed":
            answers, degraded, stale = None, False, stale or bool(data.get("pids_after"))
            stopped, started = not data.get("pids_after"), started or bool(data.get("pids_after"))
            running = bool(data.get("pids_after"))
        elif module == "health_probe" and data.get("healthy") is not None:
            tried = data.get("login") or {}
            # A degraded service answers.
            degraded = data.get("severity") == statements.DEGRADED
            answers, stopped = bool(data["healthy"] or tried.get("ok") is False or degraded), False
            state = (data.get("process") or {}).get("state")
            running = None if state is None else state == "running"
        elif module in ("sqlite_info", "triage_info") and data.get("row_counts"):
            stale = False
    last = [event for event in runs[-1] if event["kind"] != "stats"]
    # A first response without a result may have started the service.
    lost = any(module_of(event) == "first_response" for run in runs for event in run if event["kind"] == "task")
    changed = any(each.weight == CHANGE for each in map(steps.step, last) if each)
    return statements.Facts(
        outcome=statements.DEGRADED if degraded else "",
        answers=answers,
        running=running,
        stopped=stopped,
        started=True if started else None if lost else False,
        started_since=stale,
        changed=True if changed else None if lost else False,
        login=login(runs[-1])[0],
    )
