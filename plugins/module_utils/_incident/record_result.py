# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incident module's result, built from an incident's record."""

from __future__ import annotations

import copy
from typing import Any, Dict, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.record_update import Update

# Fields of the incident's record that the module returns unchanged.
_RETURNED = ("id", "opened_at", *(name for name in incident_store.EMPTY if name not in incident_store.UNSEEN))


def _between(earlier: str, later: str) -> float:
    return round(max(0.0, timestamps.epoch(later) - timestamps.epoch(earlier)), 3)


def _lasted(record: Mapping[str, Any], *, start: str, clock: host_lease.Clock) -> float:
    """Return the duration of the outage so far, in seconds.

    The wall clock may have been set back. Therefore, the result is at least the duration that the host's boot clock has
    measured.
    """
    opened = outage_window.opened(record)
    by_wall = _between(start, timestamps.iso(clock.wall()))
    if record["opened_boot"] is None or record["boot_id"] != clock.boot_id():
        return by_wall
    by_boot = _between(start, opened) + clock.boot() - float(record["opened_boot"])
    return round(max(by_wall, by_boot), 3)


def _crash_loop(records: Sequence[Mapping[str, Any]], *, now: float, window: float, limit: int) -> Dict[str, Any]:
    """Return data about recent service starts.

    looping: True if there were too many starts in the window, or a failure during a stability check.

    A recorded time may be in the future if the clock was set back. Such a time is used only if it is at most `window`
    seconds in the future. Otherwise, a time from a wrong clock could affect the result for years.
    """

    def recent(at: str) -> bool:
        return abs(timestamps.epoch(at) - now) <= window

    restarts = sum(recent(start["at"]) for record in records for start in record["starts"])
    tried = [item for record in records for item in record["attempts"]]
    fell = any(item.get("fell") and recent(item["started_at"]) for item in tried)
    return {
        "looping": fell or restarts >= limit,
        "restarts": restarts,
        "fell": fell,
        "limit": limit,
        "window": window,
    }


def _result_of(attempt: Mapping[str, Any]) -> str:
    if attempt.get("halted"):
        return "halted"
    # The connection to the host was lost before the service was checked.
    if attempt.get("held") is None and attempt.get("reason"):
        return "unknown"
    return {None: "under way", True: "succeeded"}.get(attempt.get("held"), "failed")


class Call:
    """One call of the incident module: the calling run and its arguments.

    waited: the number of seconds for which the call has waited for another run.
    """

    __slots__ = ("lease", "maintenance", "restart_limit", "run", "state", "step", "update", "waited", "window")

    def __init__(
        self,
        *,
        state: str,
        run: str,
        step: str,
        lease: float,
        update: Update,
        window: float,
        restart_limit: int,
        maintenance: Optional[Dict[str, str]],
    ) -> None:
        self.state = state
        self.run = run
        self.step = step
        self.lease = lease
        self.update = update
        self.window = window
        self.restart_limit = restart_limit
        self.maintenance = maintenance
        self.waited = 0.0


def result(
    record: Optional[Mapping[str, Any]],
    call: Call,
    *,
    store: incident_store.Store,
    seat: host_lease.Seat,
    continued: bool = False,
) -> Dict[str, Any]:
    now = store.clock.wall()
    records = store.past(since=now - call.window)
    result: Dict[str, Any] = {name: copy.deepcopy((record or incident_store.EMPTY).get(name)) for name in _RETURNED}
    result.update(outage_started_at=None, outage_started=None, outage_seconds=None, lasted=None)
    for attempt in result["attempts"]:
        attempt["result"] = _result_of(attempt)
    if record is not None:
        start, mitigated = outage_window.start(record), record["mitigated_at"]
        seconds = _between(start["latest"], mitigated) if mitigated else None
        result.update(
            outage_started_at=start["latest"],
            outage_started=start,
            outage_seconds=seconds,
            lasted=_lasted(record, start=start["latest"], clock=store.clock) if seconds is None else seconds,
        )
        if record["id"] not in [item["id"] for item in records]:
            records.append(dict(record))
    loop = _crash_loop(records, now=now, window=call.window, limit=call.restart_limit)
    result.update(
        run=call.run or None,
        mitigated_estimated=bool(record) and (record or {})["mitigated_from"] in outage_window.ESTIMATES,
        restarts_in_window=loop["restarts"],
        blind_restarts_left=0 if loop["looping"] else call.restart_limit - loop["restarts"],
        crash_loop=loop,
        locked_by=seat.holder(),
        maintenance=call.maintenance,
        waited=call.waited,
        continued=continued,
        record_in_memory=store.in_memory,
        warnings=list(dict.fromkeys(store.warnings + seat.warnings)),
    )
    return result
