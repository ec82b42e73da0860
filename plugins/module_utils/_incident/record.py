# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of an incident on the host.

Files below the state folder: incident.json (the open incident), incidents/<id>.json (closed incidents), and
last_healthy. The file last_healthy is empty, and its modification time is the last time the service was found healthy.
A write replaces the complete file, so either the old or the new record survives a power failure. An unreadable record
is renamed and does not block the run. While the state folder is not writable (for example on a full disk), records are
stored in the lease folder.

Only the run that holds the host lease may write. The incident module takes or renews the lease when it opens or updates
an incident. When the module closes an incident, it releases the lease.
"""

from __future__ import annotations

import copy
import functools
import secrets
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import (
    last_good,
    outage_window,
    record_result,
    record_update,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.record_result import Call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.record_update import Update

_POLL = 0.1
# Severities of a service that is down, and the fields of an incident's record that describe one outage.
_DOWN = ("critical", "emergency")
_OF_OUTAGE = ("detected_at", "detected_by", "last_exit", "answered_at", "mitigated_at", "mitigated_from", "outcome")


def _new_id(store: incident_store.Store) -> str:
    """Return an incident ID that no closed incident has."""
    while True:
        identity = f"INC-{timestamps.compact(store.clock.wall())}-{secrets.token_hex(2)}"
        if not store.is_over(identity):
            return identity


def _new_record(identity: str, *, clock: host_lease.Clock) -> Dict[str, Any]:
    return {
        **copy.deepcopy(incident_store.EMPTY),
        "id": identity,
        "opened_at": timestamps.iso(clock.wall()),
        "opened_boot": clock.boot(),
        "boot_id": clock.boot_id(),
    }


def under_way(record: Mapping[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the attempt that the run has begun but not finished, or None if there is none."""
    begun = [item for item in record["attempts"] if item.get("run") == run and item.get("held") is None]
    return begun[-1] if begun else None


def _step(record: Mapping[str, Any], call: Call) -> str:
    """Return the run's current step: the call's step, otherwise the rung in progress, otherwise the call's state."""
    begun = under_way(record, run=call.run)
    return call.step or (begun["rung"] if begun else call.state)


def _public(record: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return a record without its revision number, so that two records can be compared for changes."""
    return {name: value for name, value in (record or {}).items() if name != "revision"}


def _succeed(store: incident_store.Store, record: Dict[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the record if the run continues the incident.

    If an earlier run already ended the outage, close the record and return None.
    """
    kept = record["outcome"] in incident_store.UNFINISHED or incident_store.unsettled(record)
    if not record["mitigated_at"] or run in record["runs"] or kept:
        return record
    record["outcome"] = record["outcome"] or "recovered"
    record["closed_at"] = timestamps.iso(store.clock.wall())
    if store.writing:
        store.file_away(record)
        store.warnings.append(
            f"Incident {record['id']} was mitigated at {record['mitigated_at']} but not closed; it is closed now"
        )
    return None


def _before_opening(record: Dict[str, Any], update: Update, *, store: incident_store.Store) -> Update:
    """Add the detection time (by default the opening time), and the signs that earlier runs saved.

    The signs are the last time the service was found healthy, and the first failed probe after that time.
    """
    signs = list(update.signs)
    healthy = last_good.last_healthy(store.home)
    if healthy is not None and healthy <= record["opened_at"]:
        signs.append({"at": healthy, "kind": "good", "source": "last healthy run"})
    failed = last_good.first_failure(store.home, until=outage_window.opened(record))
    if failed is not None:
        signs.append({"at": failed, "kind": "bad", "source": outage_window.EARLIER_PROBE})
    return update._replace(detected_at=update.detected_at or outage_window.opened(record), signs=signs)


def _begin_outage(record: Dict[str, Any], update: Update, *, clock: host_lease.Clock) -> None:
    """If a degraded service has failed, set the start of the outage to now.

    The incident was opened earlier, when the service was only degraded.
    """
    if update.severity not in _DOWN or incident_store.DEGRADED not in (record["severity"], record["outcome"]):
        return
    record.update(down_at=timestamps.iso(clock.wall()), opened_boot=clock.boot(), boot_id=clock.boot_id())
    record.update(dict.fromkeys(_OF_OUTAGE))
    # Drop the signs of an earlier outage, because they do not show when this outage began. Keep the time of the last
    # healthy response, because this outage began later.
    record["signs"] = outage_window.last_answer(record["signs"])


_Outcome = Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]


def _transact(call: Call, *, store: incident_store.Store, seat: host_lease.Seat) -> _Outcome:
    """Carry out one call and return (result, before, after).

    If the call writes, the caller must hold the lease's lock.
    """
    clock, run, writing = store.clock, call.run, store.writing
    if writing:
        store.tidy()
    record = store.open_incident()
    if call.state == "present":
        # A lookup renews the lease only if the calling run holds the lease.
        last = seat.last() if writing else None
        if last is not None and last["run"] == run and not last["released"]:
            seat.take(run=run, step=call.step, seconds=call.lease)
        before = _public(record)
        return record_result.result(record, call, store=store, seat=seat), before, before

    held = seat.holder() if writing else None
    if held is not None and held["run"] != run:
        raise incident_store.HeldError(held, state_dir=store.home)
    before = copy.deepcopy(_public(record))

    continued, update = False, call.update
    if call.state == "open":
        record = _succeed(store, record, run=run) if record is not None else None
        before = copy.deepcopy(_public(record))
        if record is None and call.waited:
            # The caller detected an outage, but the run that held the lease may have ended this outage in the meantime.
            # Therefore, do not open an incident.
            call.run = ""
            return record_result.result(record, call, store=store, seat=seat), before, before
        continued = record is not None and run not in record["runs"]
        record = record or _new_record(_new_id(store), clock=clock)
        record["runs"] += [] if run in record["runs"] else [run]
        _begin_outage(record, update, clock=clock)
        update = _before_opening(record, update, store=store)
    if record is None or run not in record["runs"]:
        return _absent(record, call, store=store, seat=seat)
    if writing and call.state != "open":
        seat.require(run=run)

    update = (
        record_update.with_its_end(record, update, seen_at=timestamps.iso(clock.wall()))
        if call.state == "resolved"
        else update
    )
    record_update.apply(record, update, run=run)
    if writing and call.state != "closed":
        seat.take(run=run, step=_step(record, call), seconds=call.lease)
    if call.state == "closed":
        _close(store, record)
    if writing and call.state == "closed":
        seat.release(run=run)
    elif writing and (_public(record) != before or not incident_store.is_kept(store)):
        _write(store, record, call)
    after = copy.deepcopy(_public(record))
    return record_result.result(record, call, store=store, seat=seat, continued=continued), before, after


def _write(store: incident_store.Store, record: Dict[str, Any], call: Call) -> None:
    store.write(record)
    if call.state == "open":  # the record contains the first failure now
        last_good.forget_failure(store.home)


def _close(store: incident_store.Store, record: Dict[str, Any]) -> None:
    """Close the incident and move its record, unless the outcome is in UNFINISHED or the data is in doubt."""
    if incident_store.unsettled(record) and record["outcome"] not in incident_store.UNFINISHED:
        record["outcome"] = "data_in_doubt"
    over = record["outcome"] not in incident_store.UNFINISHED
    if over:
        record["closed_at"] = timestamps.iso(store.clock.wall())
    else:
        record["answered_at"] = None
        if record["outcome"] == "not_recovered":
            # Record a sign of failure: the service's current process does not answer, so it did not end the outage.
            record["signs"].append(
                {"at": timestamps.iso(store.clock.wall()), "kind": "bad", "source": "run ended: not recovered"}
            )
    if store.writing:
        if over:
            store.file_away(record)
        else:
            store.write(record)


def _absent(
    record: Optional[Dict[str, Any]], call: Call, *, store: incident_store.Store, seat: host_lease.Seat
) -> _Outcome:
    """Return the result if the calling run has no open incident.

    If the run's incident is already closed, the run can still record notifications or repeat the call that closes the
    incident. Any other call that writes fails.
    """
    if not store.writing:
        return record_result.result(record, call, store=store, seat=seat), {}, {}
    mine = [item for item in store.past(since=0) if call.run in item["runs"]]
    only_notified = not any(value for name, value in call.update._asdict().items() if name != "notified")
    if mine and (call.state == "closed" or (call.update.notified and only_notified)):
        before = copy.deepcopy(_public(mine[0]))
        record_update.apply(mine[0], Update(notified=call.update.notified), run=call.run)
        if _public(mine[0]) != before:
            store.rewrite(mine[0])
        return record_result.result(mine[0], call, store=store, seat=seat), before, _public(mine[0])
    asked = {"state": call.state, "run": repr(call.run), "folder": store.home}
    if record is None:
        raise incident_store.IncidentError(message("reason.record.none_open", **asked))
    raise incident_store.IncidentError(message("reason.record.of_others", incident=str(record["id"]), **asked))


def _end_by_hand(call: Call, *, store: incident_store.Store, seat: host_lease.Seat) -> _Outcome:
    """If no run is working on the open incident of a healthy service, record how this incident ended.

    If the state is "closed", the incident is closed. If the state is "resolved", the incident stays open under the
    lease of a new run. That run closes the incident later.
    """
    if store.writing:
        store.tidy()
    record = store.open_incident()
    before = copy.deepcopy(_public(record))
    # If the data is in doubt, the caller must check the database first.
    if record is None or seat.holder() is not None or incident_store.unsettled(record):
        return record_result.result(record, call, store=store, seat=seat), before, before
    run = call.run = _new_run(store.clock) if store.writing else ""
    record["runs"] += [run] if run else []
    update = record_update.with_its_end(record, call.update, seen_at=timestamps.iso(store.clock.wall()))
    record_update.apply(record, update, run=run)
    if call.state == "closed":
        _close(store, record)
    elif store.writing:
        seat.take(run=run, step=call.step or call.state, seconds=call.lease)
        store.write(record)
    return record_result.result(record, call, store=store, seat=seat), before, copy.deepcopy(_public(record))


def _new_run(clock: host_lease.Clock) -> str:
    return f"run-{timestamps.compact(clock.wall())}-{secrets.token_hex(4)}"


def _check_numbers(*, lease: float, wait: float, window: float, restart_limit: int) -> None:
    """Raise IncidentError if a numeric argument is out of range."""
    for name, value, fits in (
        ("lease", lease, 0 < lease <= host_lease.LONGEST),
        ("wait", wait, wait >= 0),
        ("window", window, window > 0),
        ("restart_limit", restart_limit, restart_limit >= 0),
    ):
        if not fits:
            limit = {"most": f"{host_lease.LONGEST:g}"} if name == "lease" else {}
            raise incident_store.IncidentError(message(f"reason.record.number.{name}", value=f"{value:g}", **limit))


def call(
    *,
    state_dir: str,
    state: str,
    run: str = "",
    step: str = "",
    lease: float = host_lease.SECONDS,
    wait: float = 0.0,
    window: float = 3600.0,
    restart_limit: int = 3,
    maintenance_until: str = "",
    maintenance_reason: str = "",
    update: Optional[Update] = None,
    check_mode: bool = False,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Dict[str, Any]:
    """Open, continue, close or look up this host's incident. Return the incident module's result.

    wait: if state is open or present (lookup), the maximum time in seconds to wait for the end of another run's lease.
    memory: the folder that contains the leases, by default this account's folder. In check mode, nothing is written or
    locked. Raises IncidentError.
    """
    clock, update = clock or host_lease.Clock(), update or Update()
    host: Dict[str, Any] = {"clock": clock, "memory": memory}
    if state in ("attempt", "renewed") and not run and not check_mode:
        raise incident_store.IncidentError(message("reason.record.no_run", state=repr(state)))
    if state == "renewed":
        state = "present"  # a lookup renews the lease of the calling run
    _check_numbers(lease=lease, wait=wait, window=window, restart_limit=restart_limit)
    record_update.checked(update)
    said: Dict[str, Any] = {"until": maintenance_until, "reason": maintenance_reason}
    kept: Dict[str, Any] = {}
    if state in ("maintenance_begun", "maintenance_ended"):
        begin = state == "maintenance_begun"
        kept = _maintained(
            host_maintenance.keep, state_dir=state_dir, now=clock.wall(), begin=begin, check_mode=check_mode, **said
        )
    plan = Call(
        state=state,
        run=run,
        step=step,
        lease=lease,
        update=update,
        window=window,
        restart_limit=restart_limit,
        maintenance=kept.get("maintenance"),
    )
    if state == "present" and not check_mode:
        plan.waited = _wait_for_others(host_lease.Seat(state_dir=state_dir, **host), run=run, seconds=wait)
    if kept:
        plan.state, plan.run = "present", ""
    elif state == "open" and not run and not check_mode:
        plan.run = _new_run(clock)
    act = _end_by_hand if plan.state in ("closed", "resolved") and not run else _transact
    current = None if kept else functools.partial(host_maintenance.current, state_dir=state_dir, **said)
    begun = clock.boot()
    while True:
        done = _try_once(act, plan, state_dir, until=begun + wait, maintenance=current, check_mode=check_mode, **host)
        if done is not None:
            break
        clock.sleep(_POLL)
        plan.waited = round(clock.boot() - begun, 3)
    return {**_compared(done, check_mode=check_mode), **kept}


def _compared(done: _Outcome, *, check_mode: bool) -> Dict[str, Any]:
    """Return the result of a call, with the changes to the record as a diff."""
    result, before, after = done
    if check_mode and not before:
        result["id"] = result["run"] = None  # the new incident and the new run do not have IDs yet
    result["changed"] = before != after
    result["diff"] = {"before": incident_store.encode(before).decode(), "after": incident_store.encode(after).decode()}
    return result


def look(*, run: str = "", wait: float = 0.0, **asked: Any) -> Dict[str, Any]:
    """Return the result of the incident_info module: the open incident of this host. Nothing is written.

    asked: the other arguments of call(). Raises IncidentError.
    """
    # A run does not wait for its own lease.
    found = call(state="present", wait=0.0 if run else wait, **asked)
    return {**{name: found[name] for name in found if name not in ("changed", "continued", "diff")}, "run": run or None}


def _try_once(
    act: Callable[..., _Outcome],
    plan: Call,
    state_dir: str,
    *,
    clock: host_lease.Clock,
    memory: Optional[str],
    check_mode: bool,
    maintenance: Optional[Callable[..., Any]],
    until: float,
) -> Optional[_Outcome]:
    """Carry out a call while holding the lease's lock. Return None if the caller must wait for another run's lease.

    maintenance: a function that returns the current maintenance window. A window may begin while the call waits.
    Therefore, the function is called at each attempt. Raises HeldError when the waiting time is over.
    """
    warnings: List[str] = []
    if maintenance is not None:
        plan.maintenance, warnings = _maintained(maintenance, now=clock.wall())
    if plan.state == "open" and plan.maintenance:
        plan.state, plan.run = "present", ""
    writing = not check_mode and (plan.state != "present" or bool(plan.run))
    store, seat = incident_store.pair(state_dir, clock=clock, memory=memory, writing=writing)
    store.warnings += warnings
    try:
        with incident_store.lock(seat, writing=writing):
            return act(plan, store=store, seat=seat)
    except incident_store.HeldError as held:
        if plan.state != "open":
            held.taken_by = held.locked_by  # the other run has taken over the lease that this run held
            raise
        if clock.boot() >= until:
            raise
        return None
    except host_lease.LeaseError as error:
        failed = incident_store.IncidentError(error)
        failed.taken_by = error.taken_by
        raise failed from error


def _wait_for_others(seat: host_lease.Seat, *, run: str, seconds: float) -> float:
    """Wait until no other run holds the lease, or the time is up. Return the number of seconds waited."""
    begun = now = seat.clock.boot()
    while now < begun + seconds and (seat.holder() or {"run": run})["run"] != run:
        seat.clock.sleep(_POLL)
        now = seat.clock.boot()
    return round(now - begun, 3)


def _maintained(ask: Callable[..., Any], **question: Any) -> Any:
    """Call a function that reads the maintenance window, and return its result. Raises IncidentError."""
    try:
        return ask(**question)
    except host_maintenance.MaintenanceError as error:
        raise incident_store.IncidentError(error) from error
