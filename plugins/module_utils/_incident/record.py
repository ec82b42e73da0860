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

import contextlib
import copy
import dataclasses
import json
import math
import os
import re
import secrets
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window

# Outcomes that leave the incident open, for the next run to continue: the service does not serve, lets
# nobody log in, or its data are in doubt.
UNFINISHED = ("not_recovered", "data_in_doubt", "login_failed")

# States of the data of an incident. Nobody may close it while its data are in doubt.
IN_DOUBT, SOUND, ACCEPTED = "in_doubt", "sound", "accepted"

_ID = re.compile(r"INC-\d{8}T\d{6}Z-[0-9a-f]{4}\Z")
_POLL = 0.1
# What holds more bytes than this is no record: one of an outage of a week has less.
_LARGEST = 1 << 23

_EMPTY: Dict[str, Any] = {
    "closed_at": None,
    "severity": None,
    "detected_at": None,
    "detected_by": None,
    "signs": [],
    "attempts": [],
    "starts": [],
    "cause": None,
    # How the process ended before this run took the unit over, and the takeover, see _incident/takeover.py.
    "last_exit": None,
    "takeover": None,
    # state (in_doubt, sound, accepted), reasons, rows (the last good counts by table), checked_at.
    "data": None,
    # The first good answer after a start, whatever its verification may still come to.
    "answered_at": None,
    "mitigated_at": None,
    "mitigated_from": None,
    "outcome": None,
    "told": [],
    "runs": [],
    # When it was opened on the clock since boot, which nobody sets, and which boot that was.
    "opened_boot": None,
    "boot_id": None,
    # How many times it was written: of two copies the higher one is the newer.
    "revision": 0,
}
_INSTANTS = ("detected_at", "answered_at", "mitigated_at", "closed_at")
_UNSEEN = ("runs", "opened_boot", "boot_id", "revision")
_NUMBER = (int, float)
# What may stand in a record beside the instants: the kinds of its values, and of those in its lists.
_KINDS: Dict[str, Tuple[type, ...]] = {
    **dict.fromkeys(("severity", "detected_by", "cause", "mitigated_from", "outcome", "boot_id"), (str, type(None))),
    **dict.fromkeys(("last_exit", "takeover", "data"), (dict, type(None))),
    "opened_boot": (*_NUMBER, type(None)),
    "revision": (int,),
}
_KINDS_WITHIN: Dict[str, Dict[str, Tuple[type, ...]]] = {
    "signs": {"kind": (str,), "source": (str,)},
    "attempts": {
        "rung": (str,),
        "held": (bool, type(None)),
        "halted": (bool, type(None)),
        "fell": (bool, type(None)),
        "serves": (bool, type(None)),
        "restored": (bool, type(None)),
        "started": (bool, type(None)),
        "reason": (str, type(None)),
        "seconds": (*_NUMBER, type(None)),
        "run": (str, type(None)),
    },
    "starts": {"run": (str, type(None))},
    "told": {
        "level": (str,),
        "contact": (str,),
        "channel": (str,),
        "ok": (bool, type(None)),
        "error": (str, type(None)),
    },
}


class IncidentError(Exception):
    """The record could not be read or written, or another run has the lease (C(locked_by)) or took it (C(taken_by))."""

    locked_by: Optional[Dict[str, Any]] = None
    taken_by: Optional[Dict[str, Any]] = None

    def held(self) -> Dict[str, Any]:
        """Return who has the lease and who took it, as module incident returns it."""
        return {"locked_by": self.locked_by, **({"taken_by": self.taken_by} if self.taken_by else {})}


class _HeldError(IncidentError):
    """Another run holds the lease; it may be waited for."""

    def __init__(self, held: Dict[str, Any], *, state_dir: str) -> None:
        """Say which run it is."""
        super().__init__(host_lease.refusal(held, state_dir=state_dir))
        self.locked_by = held


# What of a record the module returns as it is.
_RETURNED = ("id", "opened_at", *(name for name in _EMPTY if name not in _UNSEEN))


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


# The records.


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def _decode(data: bytes) -> Dict[str, Any]:
    """Return the record in C(data). Raises ValueError where it is none."""
    read = json.loads(data.decode("utf-8"))
    if not isinstance(read, dict) or not _ID.match(str(read.get("id"))):
        raise ValueError("it is no incident")
    record = {**copy.deepcopy(_EMPTY), **read}
    for name, kind in (*((name, dict) for name in _KINDS_WITHIN), ("runs", str)):
        if not isinstance(record[name], list) or not all(isinstance(item, kind) for item in record[name]):
            raise ValueError(f"its {name} are of another kind")
    _check_kinds(record, _KINDS, where="its")
    for name, kinds in _KINDS_WITHIN.items():
        for item in record[name]:
            _check_kinds(item, kinds, where=f"of its {name}, one's")
    instants = [record.get("opened_at")]
    instants += [record[name] for name in _INSTANTS if record[name] is not None]
    instants += [item.get("at") for item in (*record["signs"], *record["starts"], *record["told"])]
    instants += [item.get("started_at") for item in record["attempts"]]
    for at in instants:
        timestamps.epoch(str(at))
    return record


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, Tuple[type, ...]], *, where: str) -> None:
    """Raise ValueError where a value is of another kind; a truth is no number, nor is what has no end."""
    for name, allowed in kinds.items():
        value = values.get(name)
        fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where} {name} is of another kind")


_CURRENT = "incident.json"
_HISTORY = "incidents"


@dataclasses.dataclass
class _Store:
    """The records of one state folder. Without C(writing) it changes nothing."""

    # The state folder, and where records are kept while it cannot be written to.
    home: str
    spare: str
    clock: host_lease.Clock
    writing: bool
    warnings: List[str] = dataclasses.field(default_factory=list)
    # C(spare) if the record was written there.
    in_memory: Optional[str] = None

    def _read(self, path: str) -> Optional[Dict[str, Any]]:
        """Return the record in C(path); one that is damaged is set aside and counts as none."""
        try:
            return _decode(atomic_files.read_plain(path, limit=_LARGEST))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            kept = ""
            if self.writing:
                aside = f"{path}.damaged-{timestamps.compact(self.clock.wall())}-{secrets.token_hex(2)}"
                with contextlib.suppress(OSError):
                    os.replace(path, aside)
                    kept = f"; it is kept as {aside}"
            what = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else f"is damaged ({error})"
            self.warnings.append(f"The record {path} {what}{kept}")
            return None

    def write(self, record: Dict[str, Any]) -> str:
        """Write the open record and return the folder it is in now. Raises OSError where it can be kept nowhere."""
        record["revision"] += 1
        for folder in (self.home, self.spare):
            try:
                atomic_files.private_folder(folder)
                atomic_files.write_atomically(os.path.join(folder, _CURRENT), _encode(record))
            except OSError as error:
                if folder == self.spare:
                    raise
                self.warnings.append(
                    f"The incident's record cannot be kept in {self.home} ({error.strerror}). Until it can, it is kept "
                    f"in {self.spare}, where a reboot loses it"
                )
            else:
                break
        self.in_memory = self.spare if folder == self.spare else None
        if folder == self.home:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.spare, _CURRENT))
        return folder

    def file_away(self, record: Dict[str, Any]) -> None:
        """Move the open record to those that are over."""
        folder = self.write(record)
        for home in dict.fromkeys((folder, self.spare)):
            path = os.path.join(home, _HISTORY, f"{record['id']}.json")
            # Where the move does not succeed, the next call finds the open record closed and moves it.
            with contextlib.suppress(OSError):
                atomic_files.private_folder(os.path.dirname(path))
                if home == folder:
                    os.replace(os.path.join(folder, _CURRENT), path)
                else:
                    atomic_files.write_atomically(path, _encode(record))
                    os.unlink(os.path.join(folder, _CURRENT))
                atomic_files.fsync_folder(os.path.dirname(path))
                atomic_files.fsync_folder(folder)
                break

    def rewrite(self, record: Dict[str, Any]) -> None:
        """Write a record that is over."""
        record["revision"] += 1
        name = f"{record['id']}.json"
        for home in (self.home, self.spare):
            path = os.path.join(home, _HISTORY, name)
            if os.path.exists(path):
                try:
                    atomic_files.write_atomically(path, _encode(record))
                except OSError as error:
                    self.warnings.append(f"The record {path} cannot be written: {error.strerror}")

    def past(self, *, since: float) -> List[Dict[str, Any]]:
        """Return the records that are over and were written to after C(since), the newest first."""
        found: Dict[str, Dict[str, Any]] = {}
        for home in (self.home, self.spare):
            for path in _json_files(os.path.join(home, _HISTORY), since=since):
                record = self._read(path)
                if record is not None:
                    found[record["id"]] = record
        return sorted(found.values(), key=lambda record: str(record["id"]), reverse=True)

    def open_incident(self) -> Optional[Dict[str, Any]]:
        """Return the open incident. One that a dying run closed but no longer moved is moved now."""
        known = []
        for path in (os.path.join(home, _CURRENT) for home in (self.home, self.spare)):
            record = self._read(path)
            if record is not None and self._is_over(record):
                if self.writing:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            elif record is not None:
                known.append(record)
        if not known:
            return None
        record = max(known, key=lambda item: (item["opened_at"], item["revision"]))
        if record["closed_at"]:
            if self.writing:
                self.file_away(record)
            return None
        return record

    def _is_over(self, record: Mapping[str, Any]) -> bool:
        """Whether the record is a copy left behind of one that was filed away where there was room."""
        name = f"{record['id']}.json"
        return any(os.path.exists(os.path.join(home, _HISTORY, name)) for home in (self.home, self.spare))

    def tidy(self) -> None:
        """Bring home what had to be kept elsewhere, and remove what writes that were cut off left behind."""
        for home in (self.home, self.spare):
            for folder in (home, os.path.join(home, _HISTORY)):
                with contextlib.suppress(OSError):
                    for name in os.listdir(folder):
                        if name.startswith((f".{_CURRENT}.", ".INC-")):
                            os.unlink(os.path.join(folder, name))
        for path in _json_files(os.path.join(self.spare, _HISTORY), since=0):
            with contextlib.suppress(OSError, ValueError):
                data = atomic_files.read_plain(path, limit=_LARGEST)
                atomic_files.private_folder(os.path.join(self.home, _HISTORY))
                atomic_files.write_atomically(os.path.join(self.home, _HISTORY, os.path.basename(path)), data)
                os.unlink(path)


def _json_files(folder: str, *, since: float) -> List[str]:
    """Return the records in C(folder) that were written to after C(since)."""
    try:
        with os.scandir(folder) as entries:
            return [item.path for item in entries if item.name.endswith(".json") and item.stat().st_mtime >= since]
    except OSError:
        return []


# What the instants say.


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


# What a call does.


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
        **copy.deepcopy(_EMPTY),
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
    known = record["outcome"] if record["outcome"] not in UNFINISHED else None
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
            raise IncidentError(
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
                    raise IncidentError(f"{kind}[].{name} is {item.get(name)!r}: allowed is a word")


def _under_way(record: Mapping[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the attempt that C(run) has begun and not ended."""
    begun = [item for item in record["attempts"] if item.get("run") == run and item.get("held") is None]
    return begun[-1] if begun else None


def _step(record: Mapping[str, Any], call: _Call) -> str:
    """Return the name of the step a run is at: the one it says, the attempt it has begun, or the kind of call."""
    begun = _under_way(record, run=call.run)
    return call.step or (begun["rung"] if begun else call.state)


def _result(
    record: Optional[Mapping[str, Any]], call: _Call, *, store: _Store, seat: host_lease.Seat, continued: bool = False
) -> Dict[str, Any]:
    now = store.clock.wall()
    records = store.past(since=now - call.window)
    result: Dict[str, Any] = {name: copy.deepcopy((record or _EMPTY).get(name)) for name in _RETURNED}
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


def _succeed(store: _Store, record: Dict[str, Any], *, run: str) -> Optional[Dict[str, Any]]:
    """Return the record to go on with; one that was mitigated but never closed by its run is closed, and is none."""
    kept = record["outcome"] in UNFINISHED or in_doubt(record)
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


def _before_opening(record: Dict[str, Any], update: Update, *, store: _Store) -> Update:
    """Add what is known without being told: it is detected by now, and when the service was last found healthy."""
    signs = list(update.signs)
    healthy = last_healthy(store.home)
    if healthy is not None and healthy <= record["opened_at"]:
        signs.append({"at": healthy, "kind": "good", "source": "last healthy run"})
    return dataclasses.replace(update, detected_at=update.detected_at or record["opened_at"], signs=signs)


_Outcome = Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]


def _transact(call: _Call, *, store: _Store, seat: host_lease.Seat) -> _Outcome:
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
        raise _HeldError(held, state_dir=store.home)
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
    elif writing and (_public(record) != before or not _is_kept(store)):
        store.write(record)
    after = copy.deepcopy(_public(record))
    return _result(record, call, store=store, seat=seat, continued=continued), before, after


def _is_kept(store: _Store) -> bool:
    """Whether the open record is where it belongs."""
    return not os.path.exists(os.path.join(store.spare, _CURRENT))


def _close(store: _Store, record: Dict[str, Any]) -> None:
    """File the record away unless the outage goes on, or its data are in doubt."""
    if in_doubt(record) and record["outcome"] not in UNFINISHED:
        record["outcome"] = "data_in_doubt"
    over = record["outcome"] not in UNFINISHED
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


def in_doubt(record: Optional[Mapping[str, Any]]) -> bool:
    """Whether the data of an incident are in doubt: only a check of the database or a person ends that."""
    return ((record or {}).get("data") or {}).get("state") == IN_DOUBT


def _absent(record: Optional[Dict[str, Any]], call: _Call, *, store: _Store, seat: host_lease.Seat) -> _Outcome:
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
    raise IncidentError(f"Cannot record {call.state} for run {call.run!r} in {store.home}: {where}; open one first")


def _cause_of_exit(record: Mapping[str, Any]) -> Optional[str]:
    """Return the cause that the exit before a takeover proves, C(None) if it proves none: no run came to its triage."""
    exited = record["last_exit"] or {}
    if exited.get("result") == "oom-kill":
        return "oom_kill"
    return "killed" if exited.get("code") in ("killed", "dumped") else None


def _end_by_hand(call: _Call, *, store: _Store, seat: host_lease.Seat) -> _Outcome:
    """Say of the incident that is open although the service is well how it ended, unless a run is at work on it.

    With C(closed) it is over. With C(mended) it stays open under the lease of the run that is named, which closes it.
    """
    if store.writing:
        store.tidy()
    record = store.open_incident()
    before = copy.deepcopy(_public(record))
    # If its data are in doubt, whoever asks has to check the database first.
    if record is None or seat.holder() is not None or in_doubt(record):
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


@contextlib.contextmanager
def _lock(seat: host_lease.Seat, *, writing: bool) -> Iterator[None]:
    if not writing:
        yield
        return
    try:
        seat.prepare()
        with seat.locked():
            yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        raise IncidentError(
            f"Cannot keep the incident of {seat.state_dir}, neither there nor in {seat.folder}: {what}"
        ) from error


def _pair(
    state_dir: str, *, clock: host_lease.Clock, memory: Optional[str], writing: bool
) -> Tuple[_Store, host_lease.Seat]:
    seat = host_lease.Seat(state_dir=state_dir, clock=clock, memory=memory)
    return _Store(home=state_dir, spare=seat.folder, clock=clock, writing=writing), seat


def _check_numbers(*, lease: float, wait: float, window: float, restart_limit: int) -> None:
    """Raise IncidentError where a number is none that is allowed."""
    for name, value, fits, allowed in (
        ("lease", lease, 0 < lease <= host_lease.LONGEST, f"seconds above 0 and at most {host_lease.LONGEST:g}"),
        ("wait", wait, wait >= 0, "seconds, 0 or more"),
        ("window", window, window > 0, "seconds above 0"),
        ("restart_limit", restart_limit, restart_limit >= 0, "0 or more"),
    ):
        if not fits:
            raise IncidentError(f"{name} is {value:g}, allowed are {allowed}")


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

    C(wait) is for C(state=open) and C(state=present): how many seconds to wait for another run's lease. In check mode
    nothing is written or locked. C(memory) is the folder of the leases, by default that of this account. Raises
    IncidentError.
    """
    clock, update = clock or host_lease.Clock(), update or Update()
    if state == "attempt" and not run and not check_mode:
        raise IncidentError("run is empty: state 'attempt' is for the run that opened the incident")
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
        state=state,
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
        store, seat = _pair(state_dir, clock=clock, memory=memory, writing=writing)
        store.warnings += warnings
        try:
            with _lock(seat, writing=writing):
                result, before, after = act(plan, store=store, seat=seat)
            break
        except _HeldError as held:
            if plan.state != "open":
                held.taken_by = held.locked_by  # this run had it before
                raise
            if clock.boot() >= begun + wait:
                raise
        except host_lease.LeaseError as error:
            failed = IncidentError(str(error))
            failed.taken_by = error.taken_by
            raise failed from error
        clock.sleep(_POLL)
        plan.waited = round(clock.boot() - begun, 3)
    if check_mode and not before:
        result["id"] = result["run"] = None  # what would be opened has no name yet
    result["changed"] = before != after
    result["diff"] = {"before": _encode(before).decode(), "after": _encode(after).decode()}
    result.update(kept)
    return result


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
        raise IncidentError(str(error)) from error


# What other modules put on record, or look up.


def note_start(
    *,
    state_dir: str,
    run: str,
    at: Optional[str] = None,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Put on record that C(run) (re)started the service; return what kept it from being recorded."""
    clock = clock or host_lease.Clock()
    store, seat = _pair(state_dir, clock=clock, memory=memory, writing=True)
    try:
        with _lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"]:
                record["starts"].append({"at": at or timestamps.iso(clock.wall()), "run": run})
                record["answered_at"] = None
                attempt = _under_way(record, run=run)
                if attempt is not None:
                    attempt["started"] = True
                store.write(record)
    except (IncidentError, host_lease.LeaseError) as error:
        return f"The start is not on record: {error}"
    return None


def note_attempts(
    *,
    state_dir: str,
    run: str,
    attempts: Sequence[Mapping[str, Any]],
    signs: Sequence[Mapping[str, Any]] = (),
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Put on record what C(run) has tried and is about to try; return what kept it from being recorded."""
    update = Update(attempts=attempts, signs=signs)
    try:
        call(state_dir=state_dir, state="attempt", run=run, update=update, clock=clock, memory=memory)
    except IncidentError as error:
        return f"What is tried is not on record: {error}"
    return None


def note_answer(
    *,
    state_dir: str,
    run: str,
    at: Optional[str],
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Put on record when the service first answered after C(run) started it, C(None) where it fell again.

    Returns what kept it from being recorded.
    """
    clock = clock or host_lease.Clock()
    store, seat = _pair(state_dir, clock=clock, memory=memory, writing=True)
    try:
        with _lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"] and record["answered_at"] != at:
                record["answered_at"] = at
                if at is None:
                    record["signs"].append(
                        {"at": timestamps.iso(clock.wall()), "kind": "bad", "source": outage_window.PROBE}
                    )
                store.write(record)
    except (IncidentError, host_lease.LeaseError) as error:
        return f"The first good answer is not on record: {error}"
    return None


def note(
    *,
    state_dir: str,
    run: str,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
    **fields: Optional[Dict[str, Any]],
) -> Optional[str]:
    """Put C(last_exit), C(takeover) or C(data) on the record of C(run); return what kept them from being recorded."""
    store, seat = _pair(state_dir, clock=clock or host_lease.Clock(), memory=memory, writing=True)
    try:
        with _lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"] and {n: record[n] for n in fields} != fields:
                record.update(fields)
                store.write(record)
    except (IncidentError, host_lease.LeaseError) as error:
        return f"{', '.join(fields)} of the incident are not on record: {error}"
    return None


def current(state_dir: str, *, memory: Optional[str] = None) -> Optional[Dict[str, Any]]:
    """Return the record of the open incident, C(None) if none is open; a cheap look that changes nothing."""
    return _pair(state_dir, clock=host_lease.Clock(), memory=memory, writing=False)[0].open_incident()


def bring_home(state_dir: str, *, clock: Optional[host_lease.Clock] = None, memory: Optional[str] = None) -> None:
    """Move what had to be kept in memory to C(state_dir), if it can be written to again.

    While a run is at work it does nothing: the calls of that run do the same.
    """
    store, seat = _pair(state_dir, clock=clock or host_lease.Clock(), memory=memory, writing=True)
    if not any(os.path.exists(os.path.join(store.spare, name)) for name in (_CURRENT, _HISTORY)):
        return
    with contextlib.suppress(IncidentError, host_lease.LeaseError, OSError), _lock(seat, writing=True):
        if seat.holder() is not None:
            return
        store.tidy()
        record = store.open_incident()
        if record is not None and not _is_kept(store) and os.access(state_dir, os.W_OK):
            store.write(record)


def is_open(state_dir: str, *, memory: Optional[str] = None) -> bool:
    """Tell whether an incident is open; a cheap look that changes nothing."""
    return current(state_dir, memory=memory) is not None


def note_healthy(state_dir: str, *, at: str) -> None:
    """Remember that the service was healthy C(at). Where that is not possible it is not worth a word."""
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        path = os.path.join(state_dir, "last_healthy")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.utime(path, (timestamps.epoch(at), timestamps.epoch(at)), follow_symlinks=False)


_ROWS = "last_good_rows.json"


def note_rows(state_dir: str, *, path: str, rows: Mapping[str, int], at: Optional[str] = None) -> None:
    """Remember the rows of the tables of a database that was found sound. Failing to do so is not worth a word."""
    known = {"at": at or timestamps.now(), "path": os.path.realpath(path), "rows": dict(rows)}
    data = json.dumps(known, sort_keys=True).encode()
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(os.path.join(state_dir, _ROWS), data + b"\n")


def last_good_rows(state_dir: str, *, path: str) -> Dict[str, int]:
    """Return the rows by table that were counted last in the database C(path) while it was sound; empty if unknown."""
    try:
        known = json.loads(atomic_files.read_plain(os.path.join(state_dir, _ROWS), limit=_LARGEST).decode("utf-8"))
        rows = known["rows"] if known["path"] == os.path.realpath(path) else {}
        return {str(name): int(number) for name, number in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def last_healthy(state_dir: str) -> Optional[str]:
    try:
        return timestamps.iso(os.lstat(os.path.join(state_dir, "last_healthy")).st_mtime)
    except (OSError, ValueError, OverflowError):
        return None
