# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incident's record on the host.

Files below the state folder: C(incident.json) (the open incident), C(incidents/<id>.json) (those that are over) and
C(last_healthy) (empty; its time of change is when the service was last found healthy). A record is replaced as a
whole, so that a power cut leaves the old or the new one; one that cannot be read is set aside and never stands in the
way. Where the state folder cannot be written to (a full disk, say), records are kept in the folder of the lease until
it can.

Who may write is the run that has the lease of the host; every call here takes or renews it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import secrets
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, outage_window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

_POLL = 0.1
# What of a record the module returns as it is.
_RETURNED = ("id", "opened_at", *(name for name in incident_store.EMPTY if name not in incident_store.UNSEEN))


@dataclasses.dataclass(frozen=True)
class Update:
    """What a call puts on record; C(None) and empty lists leave what is there."""

    severity: Optional[str] = None
    detected_at: Optional[str] = None
    detected_by: Optional[str] = None
    signs: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    cause: Optional[str] = None
    mitigated_at: Optional[str] = None
    mitigated_from: Optional[str] = None
    outcome: Optional[str] = None
    told: Sequence[Mapping[str, Any]] = ()
    # When the process started that serves now, and how often systemd restarted it: compared with the record, not kept.
    serving_since: Optional[str] = None
    serving_restarts: Optional[int] = None
    said_at: Optional[str] = None


outage_start = outage_window.start


def _between(earlier: str, later: str) -> float:
    return round(max(0.0, timestamps.epoch(later) - timestamps.epoch(earlier)), 3)


def _lasted(record: Mapping[str, Any], *, start: str, clock: host_lease.Clock) -> float:
    """Return how many seconds the outage has lasted by now.

    The wall clock may have been set back since: it has lasted as long as the clock since boot has gone on, at least.
    """
    opened = str(record["opened_at"])
    by_wall = _between(start, timestamps.iso(clock.wall()))
    if record["opened_boot"] is None or record["boot_id"] != clock.boot_id():
        return by_wall
    by_boot = _between(start, opened) + clock.boot() - float(record["opened_boot"])
    return round(max(by_wall, by_boot), 3)


def _crash_loop(records: Sequence[Mapping[str, Any]], *, now: float, window: float, limit: int) -> Dict[str, Any]:
    """Return whether starts within C(window) have not helped: too many of them, or one that fell while it was watched.

    An instant from before the clock was set back may lie ahead, but no further than the window is long: one that a
    wrong clock wrote would else count for years.
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
    # Its host was lost before the service was looked at.
    if attempt.get("held") is None and attempt.get("reason"):
        return "unknown"
    return {None: "under way", True: "held"}.get(attempt.get("held"), "did not hold")


@dataclasses.dataclass
class _Call:
    """One call: who makes it, and with what."""

    state: str
    run: str
    step: str
    lease: float
    update: Update
    window: float
    restart_limit: int
    maintenance: Optional[Dict[str, str]]
    # Seconds that it has waited for another run.
    waited: float = 0.0


def _new_record(*, clock: host_lease.Clock) -> Dict[str, Any]:
    wall = clock.wall()
    return {
        **copy.deepcopy(incident_store.EMPTY),
        "id": f"INC-{timestamps.compact(wall)}-{secrets.token_hex(2)}",
        "opened_at": timestamps.iso(wall),
        "opened_boot": clock.boot(),
        "boot_id": clock.boot_id(),
    }


def _apply(record: Dict[str, Any], update: Update, *, run: str) -> None:
    """Put C(update) on record. What is there twice is there once."""
    for name in ("severity", "cause", "mitigated_at", "outcome"):
        value = getattr(update, name)
        if value:
            record[name] = value
    if update.mitigated_at:
        record["mitigated_from"] = update.mitigated_from or outage_window.PROBE
    # The first detection is the one that counts.
    for name in ("detected_at", "detected_by"):
        record[name] = record[name] or getattr(update, name) or None
    for name in ("signs", "told"):
        for item in getattr(update, name):
            if dict(item) not in record[name]:
                record[name].append(dict(item))
    for item in update.attempts:
        attempt = {
            **{"held": None, "halted": False, "fell": False, "reason": "", "seconds": None, "started": False},
            **_as_typed(item),
            "run": run,
        }
        known = _attempt(record, attempt["rung"], attempt["started_at"])
        if known is None:
            record["attempts"].append(attempt)
        else:
            known.update({**attempt, **{name: known[name] for name in ("run", "started") if name in known}})
    if update.attempts and record["attempts"][-1].get("held") is False:
        record["answered_at"] = None


def _with_its_end(record: Mapping[str, Any], update: Update, *, seen_at: str) -> Update:
    """Return C(update), of a service that is well, with how its outage ended; what it says itself stands."""
    ended = outage_window.ending(
        record,
        seen_at=update.mitigated_at or seen_at,
        serving_since=update.serving_since,
        restarts=update.serving_restarts,
        said_at=update.said_at,
    )
    known = record["outcome"] if record["outcome"] not in incident_store.UNFINISHED else None
    return dataclasses.replace(
        update,
        cause=update.cause or record["cause"] or _cause_of_exit(record),
        mitigated_at=ended.at,
        mitigated_from=ended.source,
        outcome=update.outcome or known or ended.outcome,
    )


def _as_typed(attempt: Mapping[str, Any]) -> Dict[str, Any]:
    """Return an attempt with values of their kinds: before 2.19, ansible-core hands on as text what it worked out."""

    def truth(value: Any) -> Optional[bool]:
        return (
            value.lower() in ("true", "yes", "1") if isinstance(value, str) else None if value is None else bool(value)
        )

    def number(value: Any) -> Optional[float]:
        try:
            return float(value) if math.isfinite(float(value)) else None
        except (TypeError, ValueError):
            return None

    kinds: Dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("held", "halted", "fell", "serves", "restored"), truth),
        "seconds": number,
    }
    return {**attempt, **{name: kinds[name](attempt[name]) for name in kinds if name in attempt}}


def _attempt(record: Mapping[str, Any], rung: str, started_at: str) -> Optional[Dict[str, Any]]:
    same = [item for item in record["attempts"] if (item["rung"], item["started_at"]) == (rung, started_at)]
    return same[0] if same else None


def _checked(update: Update) -> None:
    """Refuse what would make the record unreadable. Raises IncidentError."""

    def instant(name: str, text: Any) -> None:
        try:
            timestamps.epoch(str(text))
        except ValueError:
            raise incident_store.IncidentError(
                f"{name} is {text!r}: an instant is written like 2026-03-02T01:02:03.456Z (UTC)"
            ) from None

    for name in ("detected_at", "mitigated_at", "serving_since", "said_at"):
        if getattr(update, name):
            instant(name, getattr(update, name))
    for kind, at, words in (
        ("signs", "at", ("kind", "source")),
        ("attempts", "started_at", ("rung",)),
        ("told", "at", ("level", "contact", "channel")),
    ):
        for item in getattr(update, kind):
            instant(f"{kind}[].{at}", item.get(at))
            for name in words:
                if not isinstance(item.get(name), str):
                    raise incident_store.IncidentError(f"{kind}[].{name} is {item.get(name)!r}: allowed is a word")


def under_way(record: Mapping[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the attempt that C(run) has begun and not ended."""
    begun = [item for item in record["attempts"] if item.get("run") == run and item.get("held") is None]
    return begun[-1] if begun else None


def _step(record: Mapping[str, Any], call: _Call) -> str:
    """Return the name of the step a run is at: the one it says, the attempt it has begun, or the kind of call."""
    begun = under_way(record, run=call.run)
    return call.step or (begun["rung"] if begun else call.state)


def _result(
    record: Optional[Mapping[str, Any]],
    call: _Call,
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


def _public(record: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return what counts as a change."""
    return {name: value for name, value in (record or {}).items() if name != "revision"}


def _succeed(store: incident_store.Store, record: Dict[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the record to go on with; one that was mitigated but never closed by its run is closed, and is none."""
    kept = record["outcome"] in incident_store.UNFINISHED or incident_store.in_doubt(record)
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
    """Add what is known without being told: it is detected by now, and when the service was last found healthy."""
    signs = list(update.signs)
    healthy = last_good.last_healthy(store.home)
    if healthy is not None and healthy <= record["opened_at"]:
        signs.append({"at": healthy, "kind": "good", "source": "last healthy run"})
    return dataclasses.replace(update, detected_at=update.detected_at or record["opened_at"], signs=signs)


_Outcome = Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]


def _transact(call: _Call, *, store: incident_store.Store, seat: host_lease.Seat) -> _Outcome:
    """Do one call, under the lock of the lease where it writes. Return (result, before, after)."""
    clock, run, writing = store.clock, call.run, store.writing
    if writing:
        store.tidy()
    record = store.open_incident()
    if call.state == "present":
        # A look renews the lease of the run that has it, and does nothing else.
        last = seat.last() if writing else None
        if last is not None and last["run"] == run and not last["released"]:
            seat.take(run=run, step=call.step, seconds=call.lease)
        before = _public(record)
        return _result(record, call, store=store, seat=seat), before, before

    held = seat.holder() if writing else None
    if held is not None and held["run"] != run:
        raise incident_store.HeldError(held, state_dir=store.home)
    before = copy.deepcopy(_public(record))

    continued, update = False, call.update
    if call.state == "open":
        record = _succeed(store, record, run=run) if record is not None else None
        before = copy.deepcopy(_public(record))
        if record is None and call.waited:
            # The run that was waited for may have ended the outage: what the caller has seen is from before that.
            call.run = ""
            return _result(record, call, store=store, seat=seat), before, before
        continued = record is not None and run not in record["runs"]
        record = record or _new_record(clock=clock)
        record["runs"] += [] if run in record["runs"] else [run]
        update = _before_opening(record, update, store=store)
    if record is None or run not in record["runs"]:
        return _absent(record, call, store=store, seat=seat)
    if writing and call.state != "open":
        seat.require(run=run)

    update = _with_its_end(record, update, seen_at=timestamps.iso(clock.wall())) if call.state == "mended" else update
    _apply(record, update, run=run)
    if writing and call.state != "closed":
        seat.take(run=run, step=_step(record, call), seconds=call.lease)
    if call.state == "closed":
        _close(store, record)
    if writing and call.state == "closed":
        seat.release(run=run)
    elif writing and (_public(record) != before or not incident_store.is_kept(store)):
        store.write(record)
    after = copy.deepcopy(_public(record))
    return _result(record, call, store=store, seat=seat, continued=continued), before, after


def _close(store: incident_store.Store, record: Dict[str, Any]) -> None:
    """File the record away unless the outage goes on, or its data are in doubt."""
    if incident_store.in_doubt(record) and record["outcome"] not in incident_store.UNFINISHED:
        record["outcome"] = "data_in_doubt"
    over = record["outcome"] not in incident_store.UNFINISHED
    if over:
        record["closed_at"] = timestamps.iso(store.clock.wall())
    else:
        record["answered_at"] = None
        if record["outcome"] == "not_recovered":
            # A process that was there by now did not end the outage by its start.
            record["signs"].append(
                {"at": timestamps.iso(store.clock.wall()), "kind": "bad", "source": "run ended: not recovered"}
            )
    if store.writing:
        if over:
            store.file_away(record)
        else:
            store.write(record)


def _absent(
    record: Optional[Dict[str, Any]], call: _Call, *, store: incident_store.Store, seat: host_lease.Seat
) -> _Outcome:
    """Answer a call of a run that has no open incident.

    To close it again is well, and who was told of its end can still be put on record; anything else is an error.
    """
    if not store.writing:
        return _result(record, call, store=store, seat=seat), {}, {}
    mine = [item for item in store.past(since=0) if call.run in item["runs"]]
    only_told = not any(
        getattr(call.update, field.name) for field in dataclasses.fields(Update) if field.name != "told"
    )
    if mine and (call.state == "closed" or (call.update.told and only_told)):
        before = copy.deepcopy(_public(mine[0]))
        _apply(mine[0], Update(told=call.update.told), run=call.run)
        if _public(mine[0]) != before:
            store.rewrite(mine[0])
        return _result(mine[0], call, store=store, seat=seat), before, _public(mine[0])
    where = f"incident {record['id']} is of other runs" if record is not None else "no incident is open"
    raise incident_store.IncidentError(
        f"Cannot record {call.state} for run {call.run!r} in {store.home}: {where}; open one first"
    )


def _cause_of_exit(record: Mapping[str, Any]) -> Optional[str]:
    """Return the cause that the exit before a takeover proves, C(None) if it proves none: no run came to its triage."""
    exited = record["last_exit"] or {}
    if exited.get("result") == "oom-kill":
        return "oom_kill"
    return "killed" if exited.get("code") in ("killed", "dumped") else None


def _end_by_hand(call: _Call, *, store: incident_store.Store, seat: host_lease.Seat) -> _Outcome:
    """Say of the incident that is open although the service is well how it ended, unless a run is at work on it.

    With C(closed) it is over. With C(mended) it stays open under the lease of the run that is named, which closes it.
    """
    if store.writing:
        store.tidy()
    record = store.open_incident()
    before = copy.deepcopy(_public(record))
    # If its data are in doubt, whoever asks has to check the database first.
    if record is None or seat.holder() is not None or incident_store.in_doubt(record):
        return _result(record, call, store=store, seat=seat), before, before
    run = call.run = _new_run(store.clock) if store.writing else ""
    record["runs"] += [run] if run else []
    update = _with_its_end(record, call.update, seen_at=timestamps.iso(store.clock.wall()))
    _apply(record, update, run=run)
    if call.state == "closed":
        _close(store, record)
    elif store.writing:
        seat.take(run=run, step=call.step or call.state, seconds=call.lease)
        store.write(record)
    return _result(record, call, store=store, seat=seat), before, copy.deepcopy(_public(record))


def _new_run(clock: host_lease.Clock) -> str:
    return f"run-{timestamps.compact(clock.wall())}-{secrets.token_hex(4)}"


def _check_numbers(*, lease: float, wait: float, window: float, restart_limit: int) -> None:
    """Raise IncidentError where a number is none that is allowed."""
    for name, value, fits, allowed in (
        ("lease", lease, 0 < lease <= host_lease.LONGEST, f"seconds above 0 and at most {host_lease.LONGEST:g}"),
        ("wait", wait, wait >= 0, "seconds, 0 or more"),
        ("window", window, window > 0, "seconds above 0"),
        ("restart_limit", restart_limit, restart_limit >= 0, "0 or more"),
    ):
        if not fits:
            raise incident_store.IncidentError(f"{name} is {value:g}, allowed are {allowed}")


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
    """Open, go on with, close or look at the incident of this host; return what module incident returns.

    C(wait) is for C(state=open) and C(state=present), which is a look: how many seconds to wait for another run's
    lease. In check mode nothing is written or locked. C(memory) is the folder of the leases, by default that of this
    account. Raises IncidentError.
    """
    clock, update = clock or host_lease.Clock(), update or Update()
    if state in ("attempt", "renewed") and not run and not check_mode:
        raise incident_store.IncidentError(f"run is empty: state {state!r} is for the run that opened the incident")
    _check_numbers(lease=lease, wait=wait, window=window, restart_limit=restart_limit)
    _checked(update)
    kept: Dict[str, Any] = {}
    said = {"until": maintenance_until, "reason": maintenance_reason}
    if state in ("maintenance_begun", "maintenance_ended"):
        begin = state == "maintenance_begun"
        kept = _maintained(
            host_maintenance.keep, state_dir=state_dir, now=clock.wall(), begin=begin, check_mode=check_mode, **said
        )
    plan = _Call(
        # With a run, a look renews its lease.
        state="present" if state == "renewed" else state,
        run=run,
        step=step,
        lease=lease,
        update=update,
        window=window,
        restart_limit=restart_limit,
        maintenance=kept.get("maintenance"),
        waited=_wait_for_others(host_lease.Seat(state_dir=state_dir, clock=clock, memory=memory), run=run, seconds=wait)
        if state == "present" and not check_mode
        else 0.0,
    )
    if kept:
        plan.state, plan.run = "present", ""
    elif state == "open" and not run and not check_mode:
        plan.run = _new_run(clock)
    act = _end_by_hand if plan.state in ("closed", "mended") and not run else _transact
    begun = clock.boot()
    while True:
        warnings: List[str] = []
        if not kept:
            # One that was begun while another run was waited for counts, too.
            plan.maintenance, warnings = _maintained(
                host_maintenance.current, state_dir=state_dir, now=clock.wall(), **said
            )
        if plan.state == "open" and plan.maintenance:
            plan.state, plan.run = "present", ""
        writing = not check_mode and (plan.state != "present" or bool(plan.run))
        store, seat = incident_store.pair(state_dir, clock=clock, memory=memory, writing=writing)
        store.warnings += warnings
        try:
            with incident_store.lock(seat, writing=writing):
                result, before, after = act(plan, store=store, seat=seat)
            break
        except incident_store.HeldError as held:
            if plan.state != "open":
                held.taken_by = held.locked_by  # this run had it before
                raise
            if clock.boot() >= begun + wait:
                raise
        except host_lease.LeaseError as error:
            failed = incident_store.IncidentError(str(error))
            failed.taken_by = error.taken_by
            raise failed from error
        clock.sleep(_POLL)
        plan.waited = round(clock.boot() - begun, 3)
    if check_mode and not before:
        result["id"] = result["run"] = None  # what would be opened has no name yet
    result["changed"] = before != after
    result["diff"] = {"before": incident_store.encode(before).decode(), "after": incident_store.encode(after).decode()}
    result.update(kept)
    return result


def look(*, run: str = "", wait: float = 0.0, **asked: Any) -> Dict[str, Any]:
    """Return what module incident_info returns: the open incident of this host. Nothing is written.

    C(asked) are the other arguments of L(call). Raises IncidentError.
    """
    # A run that has the host waits for nobody.
    found = call(state="present", wait=0.0 if run else wait, **asked)
    return {**{name: found[name] for name in found if name not in ("changed", "continued", "diff")}, "run": run or None}


def _wait_for_others(seat: host_lease.Seat, *, run: str, seconds: float) -> float:
    """Wait until no other run has the host, for C(seconds) at most; return how long that took."""
    begun = now = seat.clock.boot()
    while now < begun + seconds and (seat.holder() or {"run": run})["run"] != run:
        seat.clock.sleep(_POLL)
        now = seat.clock.boot()
    return round(now - begun, 3)


def _maintained(ask: Callable[..., Any], **question: Any) -> Any:
    """Return what C(ask) of the maintenance answers. Raises IncidentError."""
    try:
        return ask(**question)
    except host_maintenance.MaintenanceError as error:
        raise incident_store.IncidentError(str(error)) from error
