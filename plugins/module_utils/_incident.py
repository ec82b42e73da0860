# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incident's record on the host, and the lease within it that lets one run at a time work on the host.

Files below the state folder: C(lock) (locked with flock(2) for the length of one call, never removed), C(incident.json)
(the open incident) and C(incidents/<id>.json) (those that are over). A record is replaced as a whole, so that a power
cut leaves the old or the new one; one that cannot be read is set aside and never stands in the way.

No process of a run lives from its first task to its last, so the lock for the whole run is a lease: the record names
the run that works and until when. Every call of that run renews it; when the run dies it ends by itself. It is
measured on the kernel's clock since boot (a step of the wall clock neither frees nor extends it) and is void after a
reboot.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import fcntl
import json
import os
import re
import secrets
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock, _files

# Outcomes after which the service still does not serve: the incident stays open, and the next run goes on with it.
UNFINISHED = ("not_recovered",)

# Rungs that are no restart of the service.
_NO_RESTART = ("remediation",)

_ID = re.compile(r"INC-\d{8}T\d{6}Z-[0-9a-f]{4}\Z")
_POLL = 0.1
# How long one call may hold the kernel lock is a matter of milliseconds; longer means that the disk hangs.
_LOCK_TIMEOUT = 10.0
# However a record came to be, it never keeps other runs out for longer than this.
LONGEST_LEASE = 3600.0

_EMPTY: Dict[str, Any] = {
    "closed_at": None,
    "severity": None,
    "detected_at": None,
    "detected_by": None,
    "signs": [],
    "attempts": [],
    "cause": None,
    "mitigated_at": None,
    "outcome": None,
    "told": [],
    "runs": [],
    "lease": None,
}


class IncidentError(Exception):
    """The record could not be read or written, or another run holds the lease."""


class _HeldError(IncidentError):
    """Another run holds the lease."""


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


# What of a record the module returns as it is.
_RETURNED = ("id", "opened_at", *(name for name in _EMPTY if name not in ("runs", "lease")))


@dataclasses.dataclass(frozen=True)
class Clock:
    """The clocks used: of the wall for the record, since boot for the lease, and which boot this is."""

    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    boot_id: Callable[[], str] = _boot_id
    sleep: Callable[[float], None] = time.sleep


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
    outcome: Optional[str] = None
    told: Sequence[Mapping[str, Any]] = ()


# Where the files are.


def _paths(state_dir: str) -> Tuple[str, str, str]:
    return (
        os.path.join(state_dir, "lock"),
        os.path.join(state_dir, "incident.json"),
        os.path.join(state_dir, "incidents"),
    )


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def _decode(data: bytes) -> Dict[str, Any]:
    """Return the record in C(data). Raises ValueError where it is none."""
    read = json.loads(data.decode("utf-8"))
    if not isinstance(read, dict) or not _ID.match(str(read.get("id"))):
        raise ValueError("it is no incident")
    record = {**copy.deepcopy(_EMPTY), **read}
    for name, kind in (("signs", dict), ("attempts", dict), ("told", dict), ("runs", str)):
        if not isinstance(record[name], list) or not all(isinstance(item, kind) for item in record[name]):
            raise ValueError(f"its {name} are of another kind")
    instants = [record.get("opened_at")]
    instants += [record[name] for name in ("detected_at", "mitigated_at", "closed_at") if record[name] is not None]
    for sign in record["signs"]:
        instants.append(sign.get("at"))
        if not isinstance(sign.get("kind"), str) or not isinstance(sign.get("source"), str):
            raise ValueError("a sign has no kind or no source")
    for attempt in record["attempts"]:
        instants.append(attempt.get("started_at"))
        if not isinstance(attempt.get("rung"), str):
            raise ValueError("an attempt names no rung")
    for at in instants:
        _clock.epoch(str(at))
    if record["lease"] is not None:
        _check_lease(record["lease"])
    return record


def _check_lease(lease: Any) -> None:
    if not isinstance(lease, dict):
        raise ValueError("its lease is of another kind")
    for name in ("run", "since", "step", "until", "boot_id"):
        if not isinstance(lease.get(name), str):
            raise ValueError(f"its lease has no {name}")
    for name in ("renewed", "ends"):
        if isinstance(lease.get(name), bool) or not isinstance(lease.get(name), (int, float)):
            raise ValueError(f"its lease has no {name}")


@dataclasses.dataclass
class _Store:
    """The records below one state folder. To be used under the lock; without C(writing) it changes nothing."""

    state_dir: str
    clock: Clock
    writing: bool
    warnings: List[str] = dataclasses.field(default_factory=list)

    @property
    def current(self) -> str:
        return _paths(self.state_dir)[1]

    @property
    def history(self) -> str:
        return _paths(self.state_dir)[2]

    def read(self, path: str) -> Optional[Dict[str, Any]]:
        """Return the record in C(path); one that is damaged is set aside and counts as none."""
        try:
            with open(path, "rb") as stream:
                return _decode(stream.read())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            aside = f"{path}.damaged-{_clock.compact(self.clock.wall())}"
            if self.writing:
                os.replace(path, aside)
                self.warnings.append(f"The record {path} was damaged ({error}); it is kept as {aside}")
            else:
                self.warnings.append(f"The record {path} is damaged ({error})")
            return None

    def write(self, record: Mapping[str, Any]) -> None:
        _files.write_atomically(self.current, _encode(record))

    def file_away(self, record: Mapping[str, Any]) -> None:
        """Move the open record to those that are over."""
        _files.private_folder(self.history)
        self.write(record)
        os.replace(self.current, os.path.join(self.history, f"{record['id']}.json"))
        _files.fsync_folder(self.history)
        _files.fsync_folder(self.state_dir)

    def past(self, *, since: float) -> List[Dict[str, Any]]:
        """Return the records that are over and were written to after C(since), the newest first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.history) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and entry.stat().st_mtime >= since:
                    record = self.read(entry.path)
                    if record is not None:
                        found.append(record)
        return sorted(found, key=lambda record: str(record["id"]), reverse=True)

    def open_incident(self) -> Optional[Dict[str, Any]]:
        """Return the open incident. One that a dying run closed but no longer moved is moved now."""
        record = self.read(self.current)
        if record is not None and record.get("closed_at"):
            if self.writing:
                self.file_away(record)
            return None
        return record

    def tidy(self) -> None:
        """Remove what writes that were cut off left behind."""
        prefix = f".{os.path.basename(self.current)}."
        for name in os.listdir(self.state_dir):
            if name.startswith(prefix):
                os.unlink(os.path.join(self.state_dir, name))


@contextlib.contextmanager
def _locked(state_dir: str, *, clock: Clock) -> Iterator[None]:
    """Hold the kernel lock of the state folder. Raises IncidentError where it is not to be had."""
    path = _paths(state_dir)[0]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        give_up = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise IncidentError(
                        f"Cannot lock {path}: another call has held it for {_LOCK_TIMEOUT:.0f} s"
                    ) from None
                clock.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


# The lease.


def lease_of(record: Optional[Mapping[str, Any]], *, clock: Clock) -> Optional[Dict[str, Any]]:
    """Return who works on the incident: C(run), C(since), C(step), C(until); C(None) where nobody (any more) does."""
    lease = (record or {}).get("lease")
    if lease is None or lease["boot_id"] != clock.boot_id():
        return None
    if not lease["renewed"] <= clock.boot() < min(lease["ends"], lease["renewed"] + LONGEST_LEASE):
        return None
    return {name: lease[name] for name in ("run", "since", "step", "until")}


def _take_lease(record: Dict[str, Any], *, run: str, step: str, seconds: float, clock: Clock) -> None:
    """Give the lease to C(run), or renew it: it is never made shorter by a call that asks for less."""
    wall, boot = clock.wall(), clock.boot()
    held = lease_of(record, clock=clock)
    mine = held is not None and held["run"] == run
    old = record["lease"] if mine else None
    ends = boot + seconds
    if old is not None and old["step"] == step:
        ends = max(ends, old["ends"])
    record["lease"] = {
        "run": run,
        "since": old["since"] if old is not None else _clock.iso(wall),
        "step": step,
        "until": _clock.iso(wall + ends - boot),
        "boot_id": clock.boot_id(),
        "renewed": boot,
        "ends": ends,
    }


def _refusal(held: Mapping[str, Any], *, state_dir: str) -> str:
    return (
        f"Another run works on this host: {held['run']}, since {held['since']}, at step {held['step']!r}, "
        f"its lease in {state_dir} ends {held['until']} unless renewed"
    )


# What the instants say.


def outage_start(record: Mapping[str, Any]) -> Dict[str, str]:
    """Return when the outage began: the range C(earliest) to C(latest), and whose word C(latest) is (C(source)).

    The earliest is the last good sign, the latest the first bad sign after it; later than the incident's opening no
    sign says anything about its beginning. The best single instant is the latest: something had failed by then.
    """
    opened = str(record["opened_at"])
    signs = [item for item in record["signs"] if item["at"] <= opened]
    detected = record.get("detected_at")
    if detected and detected <= opened:
        signs.append({"at": detected, "kind": "bad", "source": f"detection: {record.get('detected_by') or 'unknown'}"})
    good = max((item["at"] for item in signs if item["kind"] == "good"), default=None)
    bad = sorted((item["at"], item["source"]) for item in signs if item["kind"] == "bad" and item["at"] >= (good or ""))
    at, source = bad[0] if bad else (opened, "incident opened")
    return {"earliest": good or at, "latest": at, "source": source}


def _between(earlier: str, later: str) -> float:
    return round(max(0.0, _clock.epoch(later) - _clock.epoch(earlier)), 3)


def _restarts(records: Sequence[Mapping[str, Any]], *, since: float) -> int:
    return sum(
        1
        for record in records
        for attempt in record["attempts"]
        if attempt["rung"] not in _NO_RESTART
        and not attempt.get("halted")
        and _clock.epoch(attempt["started_at"]) >= since
    )


# What a call does.


def _new_record(*, clock: Clock) -> Dict[str, Any]:
    wall = clock.wall()
    return {
        **copy.deepcopy(_EMPTY),
        "id": f"INC-{_clock.compact(wall)}-{secrets.token_hex(2)}",
        "opened_at": _clock.iso(wall),
    }


def _apply(record: Dict[str, Any], update: Update, *, run: str) -> None:
    """Put C(update) on record. What is there twice is there once."""
    for name in ("severity", "cause", "mitigated_at", "outcome"):
        value = getattr(update, name)
        if value:
            record[name] = value
    # The first detection is the one that counts.
    for name in ("detected_at", "detected_by"):
        record[name] = record[name] or getattr(update, name) or None
    for name in ("signs", "told"):
        for item in getattr(update, name):
            if dict(item) not in record[name]:
                record[name].append(dict(item))
    for item in update.attempts:
        attempt = {"held": None, "halted": False, "reason": "", "seconds": None, **item, "run": run}
        same = [
            number
            for number, known in enumerate(record["attempts"])
            if (known["rung"], known["started_at"]) == (attempt["rung"], attempt["started_at"])
        ]
        if same:
            record["attempts"][same[0]] = {**attempt, "run": record["attempts"][same[0]].get("run", run)}
        else:
            record["attempts"].append(attempt)


def _checked(update: Update) -> None:
    """Refuse what would make the record unreadable. Raises IncidentError."""

    def instant(name: str, text: Any) -> None:
        try:
            _clock.epoch(str(text))
        except ValueError:
            raise IncidentError(
                f"{name} is {text!r}: an instant is written like 2026-03-02T01:02:03.456Z (UTC)"
            ) from None

    for name in ("detected_at", "mitigated_at"):
        if getattr(update, name):
            instant(name, getattr(update, name))
    for item in update.signs:
        instant("signs[].at", item.get("at"))
    for item in update.attempts:
        instant("attempts[].started_at", item.get("started_at"))


def _step(record: Mapping[str, Any], step: str, *, run: str, state: str) -> str:
    """Return the name of the step a run is at: the one it says, the attempt it has begun, or the kind of call."""
    begun = [item["rung"] for item in record["attempts"] if item.get("run") == run and item.get("held") is None]
    return step or (begun[-1] if begun else state)


def _result(
    record: Optional[Mapping[str, Any]], *, store: _Store, run: Optional[str], window: float, continued: bool
) -> Dict[str, Any]:
    since = store.clock.wall() - window
    restarts = _restarts(store.past(since=since), since=since)
    result: Dict[str, Any] = {name: copy.deepcopy((record or _EMPTY).get(name)) for name in _RETURNED}
    result.update(outage_started_at=None, outage_started=None, outage_seconds=None)
    if record is not None:
        start, mitigated = outage_start(record), record["mitigated_at"]
        result.update(
            outage_started_at=start["latest"],
            outage_started=start,
            outage_seconds=_between(start["latest"], mitigated) if mitigated else None,
        )
        if not record["closed_at"]:
            restarts += _restarts([record], since=since)
    result.update(
        run=run,
        restarts_in_window=restarts,
        locked_by=lease_of(record, clock=store.clock),
        continued=continued,
        warnings=store.warnings,
    )
    return result


def _public(record: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return what counts as a change: all but the lease."""
    return {name: value for name, value in (record or {}).items() if name != "lease"}


def _succeed(store: _Store, record: Dict[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the record to go on with; one that was mitigated but never closed by its run is closed, and is none."""
    if not record["mitigated_at"] or run in record["runs"]:
        return record
    record["outcome"] = record["outcome"] or "recovered"
    record["closed_at"] = _clock.iso(store.clock.wall())
    record["lease"] = None
    if store.writing:
        store.file_away(record)
        store.warnings.append(
            f"Incident {record['id']} was mitigated at {record['mitigated_at']} but not closed; it is closed now"
        )
    return None


def _transact(
    store: _Store, *, state: str, run: str, step: str, lease: float, update: Update, window: float
) -> Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]:
    """Do one call under the lock. Return (result, before, after)."""
    clock, writing = store.clock, store.writing
    if writing:
        store.tidy()
    record = store.open_incident()
    held = lease_of(record, clock=clock)
    if held is not None and held["run"] != run and state != "present" and writing:
        raise _HeldError(_refusal(held, state_dir=store.state_dir))
    before = copy.deepcopy(_public(record))

    if state == "present":
        # A look renews the lease of the run that has it, and does nothing else.
        last = (record or {}).get("lease")
        if record is not None and last is not None and last["run"] == run and writing:
            _take_lease(record, run=run, step=step or last["step"], seconds=lease, clock=clock)
            store.write(record)
        return _result(record, store=store, run=run or None, window=window, continued=False), before, before

    continued = False
    if state == "open":
        record = _succeed(store, record, run=run) if record is not None else None
        before = copy.deepcopy(_public(record))
        continued = record is not None and run not in record["runs"]
        record = record or _new_record(clock=clock)
        record["runs"] += [] if run in record["runs"] else [run]
        # Whoever opens an incident has detected the outage, at the latest by now.
        update = dataclasses.replace(update, detected_at=update.detected_at or record["opened_at"])
    if record is None or run not in record["runs"]:
        return _absent(store, record, state=state, run=run, window=window)

    _apply(record, update, run=run)
    if state == "closed":
        _close(store, record)
    elif writing:
        _take_lease(record, run=run, step=_step(record, step, run=run, state=state), seconds=lease, clock=clock)
        store.write(record)
    after = copy.deepcopy(_public(record))
    return _result(record, store=store, run=run, window=window, continued=continued), before, after


def _close(store: _Store, record: Dict[str, Any]) -> None:
    """Free the lease; file the record away unless the outage goes on."""
    record["lease"] = None
    over = record["outcome"] not in UNFINISHED
    if over:
        record["closed_at"] = _clock.iso(store.clock.wall())
    if store.writing:
        (store.file_away if over else store.write)(record)


def _absent(
    store: _Store, record: Optional[Mapping[str, Any]], *, state: str, run: str, window: float
) -> Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]:
    """Answer a call of a run that has no open incident: already closed is well, anything else is an error."""
    if not store.writing:
        return _result(record, store=store, run=run or None, window=window, continued=False), {}, {}
    mine = [item for item in store.past(since=0) if run in item["runs"]]
    if state == "closed" and mine:
        before = _public(mine[0])
        return _result(mine[0], store=store, run=run, window=window, continued=False), before, before
    where = f"incident {record['id']} is of other runs" if record is not None else "no incident is open"
    raise IncidentError(f"Cannot record {state} for run {run!r} in {store.state_dir}: {where}; open one first")


def call(
    *,
    state_dir: str,
    state: str,
    run: str = "",
    step: str = "",
    lease: float = 60.0,
    wait: float = 0.0,
    window: float = 3600.0,
    update: Optional[Update] = None,
    check_mode: bool = False,
    clock: Optional[Clock] = None,
) -> Dict[str, Any]:
    """Open, go on with, close or look at the incident of this host; return what module incident returns.

    C(wait) is for C(state=open): how many seconds to wait for another run's lease. In check mode nothing is written or
    locked. Raises IncidentError.
    """
    clock, update = clock or Clock(), update or Update()
    if state in ("attempt", "closed") and not run and not check_mode:
        raise IncidentError(f"run is empty: state {state!r} is for the run that opened the incident")
    for name, value, fits, allowed in (
        ("lease", lease, 0 < lease <= LONGEST_LEASE, f"above 0 and at most {LONGEST_LEASE:g}"),
        ("wait", wait, wait >= 0, "0 or more"),
        ("window", window, window > 0, "above 0"),
    ):
        if not fits:
            raise IncidentError(f"{name} is {value:g}, allowed are seconds {allowed}")
    _checked(update)
    writing = not check_mode and (state != "present" or bool(run))
    if state == "open" and not run and writing:
        run = f"run-{_clock.compact(clock.wall())}-{secrets.token_hex(4)}"
    give_up = clock.boot() + wait
    try:
        if writing:
            _files.private_folder(state_dir)
        while True:
            try:
                with _locked(state_dir, clock=clock) if writing else contextlib.nullcontext():
                    result, before, after = _transact(
                        _Store(state_dir=state_dir, clock=clock, writing=writing),
                        state=state,
                        run=run,
                        step=step,
                        lease=lease,
                        update=update,
                        window=window,
                    )
                break
            except _HeldError:
                if state != "open" or clock.boot() >= give_up:
                    raise
            clock.sleep(_POLL)
    except OSError as error:
        raise IncidentError(f"Cannot keep the incident's record in {state_dir}: {error.strerror}") from error
    if check_mode and not before:
        result["id"] = result["run"] = None  # what would be opened has no name yet
    result["changed"] = before != after
    result["diff"] = {"before": _encode(before).decode(), "after": _encode(after).decode()}
    return result
