# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Control who starts the service during an incident.

This code prevents restarts by systemd, puts the service on hold, and records both steps. _incident/takeover.py
implements the takeover, and _incident/hold.py implements the hold. This file decides when to take over the service and
when to put the service on hold.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts, procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as unit_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, start_guard, takeover
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

# Maximum age in seconds of a process that may be killed. A process of this age has hardly done any work. The limit is
# above the 21.5 seconds that a health check can take. The health check waits while the process is younger than 20
# seconds, then checks the database for up to 1.5 seconds.
_YOUNG = 25.0
# Possible data losses in a database recovery, the most severe last. If there were several recoveries, the most severe
# loss is recorded.
_LOSSES = ("", "none", "unknown", "known")
# Fields in a record's `data` that describe the data loss. See note_loss.
_OF_LOSS = ("loss", "rows_lost", "rows_first", "lost_again")


def take_over(
    *,
    unit: str,
    state_dir: str,
    run: str,
    warn: Callable[[str], Any],
    reason: str = "",
    database_path: str = "",
    user: str = "",
    command: commands.Runner = commands.run,
) -> Optional[Dict[str, Any]]:
    """Take a unit over from systemd if systemd is about to start it. Return the recorded takeover, or None.

    reason: the reason why the service must not start, or an empty string. If a reason is given, a start that is already
    in progress is also stopped. database_path: the database that the dead-man timer checks before it starts the unit.
    user: the account that reads the database. If the takeover fails, systemd keeps control of the unit, and warn is
    called.
    """
    seat = host_lease.Seat(state_dir=state_dir)
    try:
        properties = systemd.unit_properties(unit, takeover.PROPERTIES, run=command)
        phase = takeover.phase(properties)
        due = (takeover.PENDING, takeover.STARTING) if reason else (takeover.PENDING,)
        # Kill a process that has just started, because it must not open the database. During a normal exit, it could
        # change the database.
        kill = bool(reason) and phase == takeover.UP and _may_be_ended(properties, database_path=database_path)
        taken = None
        if kill or phase in due:
            guard = _guard(unit=unit, state_dir=state_dir, database_path=database_path, user=user)
            taken = takeover.take(unit, properties, seat=seat, kill=kill, guard=guard, run=command).as_dict()
    except (procfs.HostError, takeover.TakeoverError) as error:
        warn(f"systemd may start {unit} while this run works on it: {error}")
        return None
    if taken is not None:
        exited, killed_at = taken.pop("last_exit"), taken.pop("killed_at")
        noted: Dict[str, Any] = {"takeover": taken, "last_exit": exited}
        if killed_at:
            known = (incident_store.current(state_dir) or {}).get("kills") or []
            noted["kills"] = [*known, {"from": killed_at, "until": taken["at"]}]
        note(incident_notes.note(state_dir=state_dir, run=run, **noted), warn=warn)
    return taken


def _may_be_ended(properties: Mapping[str, str], *, database_path: str) -> bool:
    """Return True if the main process has just started and has no deleted database open, so it may be killed."""
    pid = properties.get("ExecMainPID", "")
    young = takeover.started_within(properties, seconds=_YOUNG)
    return young and not (pid.isdecimal() and procfs.holder_of_deleted([int(pid)], database_path))


def _guard(*, unit: str, state_dir: str, database_path: str, user: str) -> takeover.Guard:
    rights: safe_open.Rights = None
    try:
        rights = safe_open.rights_on(database_path, user=safe_open.account_rights(user)) if database_path else None
    except OSError:
        database_path = ""  # do not check the database, because no account that can read it is known
    place = unit_hold.place(manager="systemd", unit=unit, state_dir=state_dir)
    incident = str((incident_store.current(state_dir) or {}).get("id") or "")
    reason = "The run was killed, and the database is damaged, missing or unreadable"
    path, text = unit_hold.dropin(place, incident=incident, reason=reason)
    return takeover.Guard(database_path=database_path, rights=rights, dropin=path, text=text)


def hold(
    *,
    manager: str,
    unit: str,
    state_dir: str,
    run: str,
    incident: str,
    cause: str,
    reason: str,
    rows: Optional[Mapping[str, int]] = None,
    created_at: Optional[str] = None,
    data: bool = True,
    damaged: bool = False,
    warn: Callable[[str], Any],
) -> Optional[Dict[str, Any]]:
    """Put the service on hold, and return the hold. If `data` is True, also record that the service's data is in doubt.

    damaged: see put_in_doubt.
    """
    place = unit_hold.place(manager=manager, unit=unit, state_dir=state_dir)
    try:
        for limit in unit_hold.set_hold(place, incident=incident, cause=cause, reason=reason):
            warn(limit)
    except unit_hold.HoldError as error:
        warn(str(error))
    if data:
        where = {"state_dir": state_dir, "run": run}
        put_in_doubt(**where, reasons=[reason], rows=rows, created_at=created_at, damaged=damaged, warn=warn)
    return unit_hold.read(place)


def held(*, manager: str, unit: str, state_dir: str) -> Optional[Dict[str, Any]]:
    """Return the service's hold, or None if there is none."""
    return unit_hold.read(unit_hold.place(manager=manager, unit=unit, state_dir=state_dir))


def refused_by_guard(*, manager: str, unit: str, state_dir: str) -> Optional[Dict[str, Any]]:
    """Return the start guard's refusal in the format of a hold, or None if the guard would allow a start now."""
    refusal = start_guard.verdict(unit) if manager == "systemd" else None
    if refusal is None:
        return None
    incident = str((incident_store.current(state_dir) or {}).get("id") or "")
    about = {"incident": incident, "cause": start_guard.CAUSE, "reason": refusal.reason, "at": None}
    return {**about, "unit": unit, "enforced": True}


def hand_back(*, unit: str, state_dir: str, command: commands.Runner = commands.run) -> bool:
    """Start a unit that was taken over but has not been started. Do nothing if the unit is on hold.

    Return True if the unit was started.
    """
    if held(manager="systemd", unit=unit, state_dir=state_dir) is not None:
        takeover.disarm(unit, run=command)
        return False
    return takeover.hand_back(unit, run=command)


def follow(
    result: Mapping[str, Any], *, state: str, unit: str, state_dir: str, warn: Callable[[str], Any]
) -> Dict[str, Any]:
    """Take the unit over after an incident was opened. Hand the unit back after an incident has been closed.

    result: the result of the incident module for `state`. Returns the changed keys of `result`, with their new values.
    """
    if state == "open" and unit and result["run"]:
        taken = take_over(unit=unit, state_dir=state_dir, run=result["run"], warn=warn)
        return {"takeover": taken or result["takeover"]}
    if state == "closed" and result["takeover"]:
        return {"handed_back": hand_back(unit=result["takeover"]["unit"], state_dir=state_dir)}
    return {}


def refusal(*, manager: str, unit: str, state_dir: str) -> Optional[Message]:
    """Return the reason why the service must not be started, or None if it may be started."""
    found = held(manager=manager, unit=unit, state_dir=state_dir)
    return unit_hold.refusal(found) if found is not None else None


def arm(
    *,
    unit: str,
    state_dir: str,
    run: str,
    database_path: str = "",
    user: str = "",
    command: commands.Runner = commands.run,
) -> Optional[str]:
    """Arm the dead-man timer before the run stops a unit that is not held. Return the error message or None."""
    if held(manager="systemd", unit=unit, state_dir=state_dir) is not None:
        return None
    try:
        guard = _guard(unit=unit, state_dir=state_dir, database_path=database_path, user=user)
        timer = takeover.arm(unit, seat=host_lease.Seat(state_dir=state_dir), run=command, guard=guard)
    except takeover.TakeoverError as error:
        return f"If this run is killed, {unit} is not started: {error}"
    taken = {"unit": unit, "at": timestamps.now(), "sub_state": "stopped by the run", "timer": timer}
    known = (incident_store.current(state_dir) or {}).get("takeover")
    return None if known else incident_notes.note(state_dir=state_dir, run=run, takeover=taken)


def started(*, unit: str, state_dir: str, run: str, command: commands.Runner = commands.run) -> Optional[str]:
    """Record that the run has started the unit, and end the takeover. Return the error message if recording failed."""
    if not takeover.is_armed(unit):
        return None
    takeover.disarm(unit, run=command)
    return incident_notes.note(state_dir=state_dir, run=run, takeover=None)


def put_in_doubt(
    *,
    state_dir: str,
    run: str,
    reasons: List[str],
    rows: Optional[Mapping[str, int]] = None,
    created_at: Optional[str] = None,
    damaged: bool = False,
    warn: Callable[[str], Any],
) -> None:
    """Record in the open incident that the service's data is in doubt. Earlier good row counts remain in the record.

    created_at: when the database with the good row counts was created. See last_good.Counted. damaged: True if damage
    to the database was found. If a damaged database is later found to be sound, it has been replaced.
    """
    known = (incident_store.current(state_dir) or {}).get("data") or {}
    noted = {
        **_kept(known),
        # Nobody has accepted this damage. However, if a person has accepted earlier damage, keep the time and the
        # reason. The people on call must know about this decision.
        **{name: known[name] for name in ("accepted_at", "accepted_reason") if known.get(name)},
        **({"unseen": True} if damaged else {}),
        "state": incident_store.IN_DOUBT,
        "reasons": list(dict.fromkeys([*known.get("reasons", ()), *reasons])),
        "rows": known.get("rows") or dict(rows or {}),
        "created_at": (known if known.get("rows") else {"created_at": created_at}).get("created_at"),
        "checked_at": known.get("checked_at"),
    }
    note(incident_notes.note(state_dir=state_dir, run=run, data=noted), warn=warn)


def _kept(data: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of `data` that stay in the record until the incident ends.

    unseen: True if a triage could not count the rows (the database was not found, or was damaged). loss: the data loss
    in a database recovery. For the other fields, see note_loss.
    """
    return {name: data[name] for name in ("unseen", *_OF_LOSS) if data.get(name)}


def note_unseen(*, state_dir: str, run: str, warn: Callable[[str], Any]) -> None:
    """Record in the open incident that the first triage did not find the database."""
    if not (incident_store.current(state_dir) or {}).get("data"):
        data = {"state": incident_store.NOT_FOUND, "reasons": [], "rows": {}, "unseen": True}
        note(incident_notes.note(state_dir=state_dir, run=run, data=data), warn=warn)


def note_loss(
    *,
    state_dir: str,
    run: str,
    loss: str,
    before: Mapping[str, int] = MappingProxyType({}),
    after: Mapping[str, int] = MappingProxyType({}),
    warn: Callable[[str], Any],
) -> Callable[[], None]:
    """If an incident is open, record that a database recovery lost data. For the values of loss, see _LOSSES.

    before, after: the row counts before and after the recovery, as far as they are known. The number of lost rows is
    calculated over the whole incident: the rows before its first recovery (rows_first) minus the rows now. A later
    recovery may restore lost rows, or repeat a killed recovery. Therefore, the whole incident is considered.
    lost_again: True if an earlier recovery may also have lost rows. After an earlier loss, the number is a minimum,
    because the service may have written rows between the recoveries.

    Returns a function that removes this loss from the record again. Call that function if the recovery did not change
    the database.
    """
    record = incident_store.current(state_dir)
    if record is None:
        return lambda: None
    known = record.get("data") or {}
    # If no state is recorded yet, the data is in doubt until the service is released. A loss that is not in _LOSSES is
    # recorded as unknown.
    losses = [each if each in _LOSSES else "unknown" for each in (str(known.get("loss") or ""), loss)]
    first = dict(known.get("rows_first") or {})
    for table, rows in before.items():
        first[table] = max(rows, first.get(table, 0))
    data = {
        "state": incident_store.IN_DOUBT,
        "reasons": [],
        "rows": {},
        **known,
        "loss": max(losses, key=_LOSSES.index),
        "rows_first": first,
        "rows_lost": sum(max(rows - after.get(table, 0), 0) for table, rows in first.items()),
        "lost_again": bool(known.get("lost_again")) or losses[0] in ("unknown", "known"),
    }
    note(incident_notes.note(state_dir=state_dir, run=run, data=data), warn=warn)
    undone = {**data, **{name: known.get(name) for name in _OF_LOSS}}
    return lambda: note(incident_notes.note(state_dir=state_dir, run=run, data=undone), warn=warn)


def note_rows(
    *, state_dir: str, run: str, rows: Mapping[str, int], created_at: str = "", warn: Callable[[str], Any]
) -> None:
    """Record a sound database's row counts and creation time in the open incident."""
    data = {"state": incident_store.SOUND, "reasons": [], "rows": dict(rows), "created_at": created_at}
    data["checked_at"] = timestamps.now()
    note(incident_notes.note(state_dir=state_dir, run=run, data=data), warn=warn)


def settle_doubt(
    *,
    manager: str,
    unit: str,
    state_dir: str,
    run: str,
    state: str,
    reason: str,
    warn: Callable[[str], Any],
    rows: Optional[Mapping[str, int]] = None,
    created_at: str = "",
    look: Optional[Mapping[str, Any]] = None,
) -> bool:
    """Release the hold and record the reason why the doubt is settled. Return True if the service was held.

    state: either SOUND (after a check) or ACCEPTED (if a person accepts the damage). reason: the reason why the data
    can be trusted, or the reason that the person gave. look: the result of sqlite_info. ACCEPTED covers only the damage
    and the row counts in this result. Raises HoldError.
    """
    was_held = unit_hold.release(unit_hold.place(manager=manager, unit=unit, state_dir=state_dir))
    if manager == "systemd":
        accepted = damage(look or {}) if state == incident_store.ACCEPTED else []
        note(start_guard.release(unit, accepted=accepted), warn=warn)
    record = incident_store.current(state_dir)
    if record is not None and (was_held or record.get("data")):
        known = record.get("data") or {}
        seen = last_good.Counted.of(look or {})
        noted = {
            **_kept(known),
            "state": state,
            "reasons": [*(known.get("reasons") or ()), reason],
            "rows": dict(rows or seen.rows or known.get("rows") or {}),
            "created_at": created_at or seen.created_at,
            "checked_at": timestamps.now(),
        }
        if state == incident_store.ACCEPTED:
            noted["accepted"] = damage(look or {})
            noted.update(accepted_at=noted["checked_at"], accepted_reason=reason)
        path = ((look or {}).get("database") or {}).get("path")
        if path and seen.rows:
            # In the next incident, these row counts are the baseline.
            last_good.note_rows(state_dir, path=str(path), counted=seen)
        note(incident_notes.note(state_dir=state_dir, run=run, data=noted), warn=warn)
    return was_held


def damage(look: Mapping[str, Any]) -> List[str]:
    """Return the codes of the damage that sqlite_info reports, plus UNCHECKED if the check was incomplete.

    If the database was not found, the list is empty, because a person cannot accept a missing database.
    """
    found = {str(each["code"]) for each in look.get("problems") or () if each.get("level", "error") == "error"}
    if found & set(mounts.AWAY):
        return []
    return sorted(found | (set() if look.get("conclusive", True) else {incident_store.UNCHECKED}))


def note(problem: Optional[str], *, warn: Callable[[str], Any]) -> None:
    """Warn about a note that could not be recorded. problem: the error message, or None."""
    if problem:
        warn(problem)
