# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and write the files of an incident's record on the host."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import secrets
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages, start_guard

# Outcomes after which the incident stays open: the service does not answer, its data is in doubt, or nobody can log in.
# The next run continues the incident.
DEGRADED = "degraded"
UNFINISHED = (DEGRADED, "not_recovered", "data_in_doubt", "login_failed")
# States of the service's data in an incident. An incident cannot be closed while its data is in doubt.
IN_DOUBT, SOUND, ACCEPTED, NOT_FOUND = "in_doubt", "sound", "accepted", "not_found"
# The code for a database that could not be checked completely. A person accepts this code together with the damage
# codes.
UNCHECKED = "unchecked"
_ID = lazy(r"INC-\d{8}T\d{6}Z-[0-9a-f]{4}\Z")
# Maximum size of a record in bytes. The record of a week-long outage is smaller than this.
LARGEST = 1 << 23
EMPTY: Dict[str, Any] = {
    "closed_at": None,
    "severity": None,
    # The severity that the first run found, or None if it is unknown.
    "first_severity": None,
    "detected_at": None,
    "detected_by": None,
    "signs": [],
    "attempts": [],
    "starts": [],
    "cause": None,
    "cause_summary": [],
    # How a run took over the unit, and how the last process exited before the takeover. See _incident/takeover.py.
    "last_exit": None,
    "takeover": None,
    # Periods (from, until) in which a takeover killed the service's processes.
    "kills": [],
    # state (in_doubt, sound, accepted, not_found), reasons, rows (the last good counts by table), created_at (see
    # last_good.Counted), checked_at, accepted (codes for the damage that a person has accepted), accepted_at,
    # accepted_reason, unseen, loss, rows_lost, rows_first and lost_again (see starter.py).
    "data": None,
    # Time of the first healthy response after a start, even if the verification fails later.
    "answered_at": None,
    "mitigated_at": None,
    "mitigated_from": None,
    "outcome": None,
    "notified": [],
    # The causes that the last run found while the service answered but was degraded.
    "problems": [],
    "runs": [],
    # When the incident was opened, in seconds since boot, and the ID of that boot. The boot clock cannot be set.
    "opened_boot": None,
    # If earlier runs had found the service only degraded, this is the time at which a run found the service down. The
    # outage began at about this time, and opened_boot is also from that run. The value is None if the service was down
    # when the incident was opened, or if the service was never down.
    "down_at": None,
    "boot_id": None,
    # Number of times the record has been written. If there are two copies, the one with the higher number is newer.
    "revision": 0,
}
_INSTANTS = ("detected_at", "down_at", "answered_at", "mitigated_at", "closed_at")
UNSEEN = ("kills", "problems", "runs", "opened_boot", "down_at", "boot_id", "revision", "first_severity")
_NUMBER = (int, float)
# Allowed types for the fields in a record (except times), and for the fields in list items.
_KINDS: Dict[str, Tuple[type, ...]] = {
    **dict.fromkeys(
        ("severity", "first_severity", "detected_by", "cause", "mitigated_from", "outcome", "boot_id"),
        (str, type(None)),
    ),
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
        "messages": (dict, type(None)),
        "seconds": (*_NUMBER, type(None)),
        "run": (str, type(None)),
    },
    "starts": {"run": (str, type(None))},
    "kills": {"from": (str,), "until": (str,)},
    "notified": {
        "level": (str,),
        "contact": (str,),
        "channel": (str,),
        "ok": (bool, type(None)),
        "error": (str, type(None)),
    },
}


class IncidentError(MessageError):
    """The record could not be read or written, or another run holds the lease.

    locked_by: the run that holds the lease. taken_by: the run that has taken over the lease of the calling run.
    """

    templates = messages.ENGLISH
    locked_by: Optional[Dict[str, Any]] = None
    taken_by: Optional[Dict[str, Any]] = None

    def held(self) -> Dict[str, Any]:
        """Return the holder of the lease and the run that took the lease over, in the incident module's format."""
        return {"locked_by": self.locked_by, **({"taken_by": self.taken_by} if self.taken_by else {})}


class HeldError(IncidentError):
    """Another run holds the lease. The caller may wait until the lease is free."""

    def __init__(self, held: Dict[str, Any], *, state_dir: str) -> None:
        """Store the run that holds the lease."""
        super().__init__(host_lease.refusal(held, state_dir=state_dir))
        self.locked_by = held


def encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def _decode(data: bytes) -> Dict[str, Any]:
    """Parse a record file and return the record. Raises ValueError if the content is not a record."""
    read = json.loads(data.decode("utf-8"))
    if not isinstance(read, dict) or not _ID.match(str(read.get("id"))):
        raise ValueError("it is not an incident")
    # Convert a record that was written before version 1.0.0.
    if "told" in read:
        read.setdefault("notified", read.pop("told"))
    if read.get("outcome") == "mended_by_hand":
        read["outcome"] = "resolved_manually"
    record = {**copy.deepcopy(EMPTY), **read}
    for name, kind in (*((name, dict) for name in (*_KINDS_WITHIN, "cause_summary")), ("problems", str), ("runs", str)):
        if not isinstance(record[name], list) or not all(isinstance(item, kind) for item in record[name]):
            raise ValueError(f"its {name} have the wrong type")
    _check_kinds(record, _KINDS, where="its")
    for name, kinds in _KINDS_WITHIN.items():
        for item in record[name]:
            _check_kinds(item, kinds, where=f"in an item of its {name},")
    instants = [record.get("opened_at")]
    instants += [record[name] for name in _INSTANTS if record[name] is not None]
    instants += [item.get("at") for item in (*record["signs"], *record["starts"], *record["notified"])]
    instants += [item.get("started_at") for item in record["attempts"]]
    instants += [item[name] for item in record["kills"] for name in ("from", "until")]
    for at in instants:
        timestamps.epoch(str(at))
    return record


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, Tuple[type, ...]], *, where: str) -> None:
    """Raise ValueError if a value has the wrong type.

    Booleans are not accepted as numbers, and numbers must be finite.
    """
    for name, allowed in kinds.items():
        value = values.get(name)
        fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where} {name} has the wrong type")


_CURRENT = "incident.json"
_HISTORY = "incidents"


class Store:
    """The records in one state folder. If `writing` is False, no file is changed.

    home, spare: the state folder, and the folder that is used for records while the state folder is not writable.
    in_memory: the spare folder if the open record was written there, otherwise None.
    """

    __slots__ = ("clock", "home", "in_memory", "spare", "warnings", "writing")

    def __init__(self, *, home: str, spare: str, clock: host_lease.Clock, writing: bool) -> None:
        self.home = home
        self.spare = spare
        self.clock = clock
        self.writing = writing
        self.warnings: List[str] = []
        self.in_memory: Optional[str] = None

    def _read(self, path: str) -> Optional[Dict[str, Any]]:
        """Return the record in a file. If the record is damaged, rename the file and return None."""
        try:
            return _decode(atomic_files.read_plain(path, limit=LARGEST))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            kept = ""
            if self.writing:
                aside = f"{path}.damaged-{timestamps.compact(self.clock.wall())}-{secrets.token_hex(2)}"
                with contextlib.suppress(OSError):
                    os.replace(path, aside)
                    kept = f"; it was saved as {aside}"
            what = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else f"is damaged ({error})"
            self.warnings.append(f"The record {path} {what}{kept}")
            return None

    def write(self, record: Dict[str, Any]) -> str:
        """Write the open record and return its folder. Raises OSError if no folder can be written to."""
        record["revision"] += 1
        for folder in (self.home, self.spare):
            try:
                atomic_files.private_folder(folder)
                atomic_files.write_atomically(os.path.join(folder, _CURRENT), encode(record))
            except OSError as error:
                if folder == self.spare:
                    raise
                self.warnings.append(
                    f"The incident's record cannot be saved in {self.home} ({error.strerror}). For now, it is "
                    f"in {self.spare} and will be lost at the next reboot"
                )
            else:
                break
        self.in_memory = self.spare if folder == self.spare else None
        if folder == self.home:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.spare, _CURRENT))
        return folder

    def file_away(self, record: Dict[str, Any]) -> None:
        """Move the open record to the folder for closed records."""
        folder = self.write(record)
        for home in dict.fromkeys((folder, self.spare)):
            path = os.path.join(home, _HISTORY, f"{record['id']}.json")
            # If the move fails, a later call of open_incident() finds the closed record and moves it.
            with contextlib.suppress(OSError):
                atomic_files.private_folder(os.path.dirname(path))
                if home == folder:
                    os.replace(os.path.join(folder, _CURRENT), path)
                else:
                    atomic_files.write_atomically(path, encode(record))
                    os.unlink(os.path.join(folder, _CURRENT))
                atomic_files.fsync_folder(os.path.dirname(path))
                atomic_files.fsync_folder(folder)
                break

    def rewrite(self, record: Dict[str, Any]) -> None:
        """Replace a closed record with this new version."""
        record["revision"] += 1
        name = f"{record['id']}.json"
        for home in (self.home, self.spare):
            path = os.path.join(home, _HISTORY, name)
            if os.path.exists(path):
                try:
                    atomic_files.write_atomically(path, encode(record))
                except OSError as error:
                    self.warnings.append(f"The record {path} cannot be written: {error.strerror}")

    def past(self, *, since: float) -> List[Dict[str, Any]]:
        """Return the closed records that were written after a given time, newest first."""
        found: Dict[str, Dict[str, Any]] = {}
        for home in (self.home, self.spare):
            for path in _json_files(os.path.join(home, _HISTORY), since=since):
                record = self._read(path)
                if record is not None:
                    found[record["id"]] = record
        return sorted(found.values(), key=lambda record: str(record["id"]), reverse=True)

    def open_incident(self) -> Optional[Dict[str, Any]]:
        """Return the open incident, or None. Move the record if a killed run closed the record but did not move it."""
        known = []
        for path in (os.path.join(home, _CURRENT) for home in (self.home, self.spare)):
            record = self._read(path)
            if record is not None and self.is_over(record["id"]):
                if self.writing:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            elif record is not None:
                known.append(record)
        if not known:
            return self._with_refusals(None)
        record = max(known, key=lambda item: (item["opened_at"], item["revision"]))
        if record["closed_at"]:
            if self.writing:
                self.file_away(record)
            return self._with_refusals(None)
        return self._with_refusals(record)

    def _with_refusals(self, record: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        """Add the start guard's refusals to the open incident. If no incident is open, a refusal opens one."""
        refusals = start_guard.refusals(self.home)
        if not refusals:
            return record
        first = refusals[0]
        if record is None:
            record = {**copy.deepcopy(EMPTY), "id": first.incident, "opened_at": first.first_at}
            record.update(severity="emergency", detected_at=first.first_at, detected_by=start_guard.NAME)
        for refusal in refusals:
            start_guard.note_refusal(record, refusal, in_doubt=IN_DOUBT)
        if self.writing:
            self.write(record)
            for refusal in refusals:
                start_guard.forget(refusal)
        return record

    def is_over(self, incident: str) -> bool:
        """Return True if there is a closed record with this incident ID. An open record is then a leftover copy."""
        return any(os.path.exists(os.path.join(home, _HISTORY, f"{incident}.json")) for home in (self.home, self.spare))

    def tidy(self) -> None:
        """Move closed records from the spare folder to the state folder. Remove the leftovers of interrupted writes."""
        for home in (self.home, self.spare):
            for folder in (home, os.path.join(home, _HISTORY)):
                with contextlib.suppress(OSError):
                    for name in os.listdir(folder):
                        if name.startswith((f".{_CURRENT}.", ".INC-")):
                            os.unlink(os.path.join(folder, name))
        for path in _json_files(os.path.join(self.spare, _HISTORY), since=0):
            with contextlib.suppress(OSError, ValueError):
                data = atomic_files.read_plain(path, limit=LARGEST)
                atomic_files.private_folder(os.path.join(self.home, _HISTORY))
                atomic_files.write_atomically(os.path.join(self.home, _HISTORY, os.path.basename(path)), data)
                os.unlink(path)


def _json_files(folder: str, *, since: float) -> List[str]:
    """Return the paths of the records in a folder that were written after a given time."""
    try:
        with os.scandir(folder) as entries:
            return [item.path for item in entries if item.name.endswith(".json") and item.stat().st_mtime >= since]
    except OSError:
        return []


def is_kept(store: Store) -> bool:
    """Return True if the open record is in the state folder."""
    return not os.path.exists(os.path.join(store.spare, _CURRENT))


def in_doubt(record: Optional[Mapping[str, Any]]) -> bool:
    """Return True if an incident's data is in doubt. Only a database check or a person can settle this doubt."""
    return ((record or {}).get("data") or {}).get("state") == IN_DOUBT


def unsettled(record: Optional[Mapping[str, Any]]) -> bool:
    """Return True if an incident's data is in doubt, or if the database has not been found again."""
    return ((record or {}).get("data") or {}).get("state") in (IN_DOUBT, NOT_FOUND)


class Acceptance(NamedTuple):
    """A person's decision to accept the damage to the database and release the service.

    at: the time (UTC). reason: the reason that the person gave. codes: the codes of the accepted problems. valid: True
    if no other damage was found later.
    """

    at: str
    reason: str
    codes: Sequence[str]
    valid: bool


def acceptance(data: Optional[Mapping[str, Any]]) -> Optional[Acceptance]:
    """Return the acceptance in the `data` field of a record, or None if nobody has accepted damage."""
    known = data or {}
    valid = known.get("state") == ACCEPTED
    if not valid and not known.get("accepted_at"):
        return None
    # In a record that was written before version 1.0.0, only these fields contain the reason and the time of the
    # release.
    reason = known.get("accepted_reason") or next(reversed(known.get("reasons") or ()), "")
    at = known.get("accepted_at") or known.get("checked_at") or ""
    return Acceptance(str(at), str(reason).strip(" .。"), list(known.get("accepted") or ()) if valid else [], valid)


def current_acceptance(state_dir: str) -> Optional[Acceptance]:
    """Return the acceptance in the open incident, or None if nobody has accepted damage."""
    return acceptance((current(state_dir) or {}).get("data"))


def accepted_damage(state_dir: str) -> List[str]:
    """Return the codes of the database problems that a person has accepted in the open incident."""
    accepted = current_acceptance(state_dir)
    return list(accepted.codes) if accepted else []


@contextlib.contextmanager
def lock(seat: host_lease.Seat, *, writing: bool) -> Iterator[None]:
    if not writing:
        yield
        return
    try:
        seat.prepare()
        with seat.locked():
            yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        where = {"folder": seat.state_dir, "spare": seat.folder}
        raise IncidentError(message("reason.record.not_kept", why=what, **where)) from error


def pair(
    state_dir: str, *, clock: host_lease.Clock, memory: Optional[str], writing: bool
) -> Tuple[Store, host_lease.Seat]:
    seat = host_lease.Seat(state_dir=state_dir, clock=clock, memory=memory)
    return Store(home=state_dir, spare=seat.folder, clock=clock, writing=writing), seat


def current(state_dir: str, *, memory: Optional[str] = None) -> Optional[Dict[str, Any]]:
    """Return the record of the open incident, or None if none is open. This check is fast and changes nothing."""
    return pair(state_dir, clock=host_lease.Clock(), memory=memory, writing=False)[0].open_incident()


def bring_home(state_dir: str, *, clock: Optional[host_lease.Clock] = None, memory: Optional[str] = None) -> None:
    """Move a record that was stored in memory to the state folder, if that folder is writable again.

    Does nothing while a run is working on the host, because that run moves the record itself.
    """
    store, seat = pair(state_dir, clock=clock or host_lease.Clock(), memory=memory, writing=True)
    if not any(os.path.exists(os.path.join(store.spare, name)) for name in (_CURRENT, _HISTORY)):
        return
    with contextlib.suppress(IncidentError, host_lease.LeaseError, OSError), lock(seat, writing=True):
        if seat.holder() is not None:
            return
        store.tidy()
        record = store.open_incident()
        if record is not None and not is_kept(store) and os.access(state_dir, os.W_OK):
            store.write(record)


def is_open(state_dir: str, *, memory: Optional[str] = None) -> bool:
    """Return True if an incident is open. This check is fast and changes nothing."""
    return current(state_dir, memory=memory) is not None
