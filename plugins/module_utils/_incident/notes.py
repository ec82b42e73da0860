# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes that modules add to the record of an open incident."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window, record_update
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


def note_start(
    *,
    state_dir: str,
    run: str,
    at: Optional[str] = None,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Record that the run started or restarted the service. Return the error message if recording failed."""
    clock = clock or host_lease.Clock()
    store, seat = incident_store.pair(state_dir, clock=clock, memory=memory, writing=True)
    try:
        with incident_store.lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"]:
                record["starts"].append({"at": at or timestamps.iso(clock.wall()), "run": run})
                record["answered_at"] = None
                attempt = incident_record.under_way(record, run=run)
                if attempt is not None:
                    attempt["started"] = True
                store.write(record)
    except (incident_store.IncidentError, host_lease.LeaseError) as error:
        return f"The start was not recorded: {error}"
    return None


def note_attempts(
    *,
    state_dir: str,
    run: str,
    attempts: Sequence[Mapping[str, Any]],
    signs: Sequence[Mapping[str, Any]] = (),
    cause: Optional[str] = None,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Record the run's finished and current attempts. Return the error message if recording failed.

    cause: the most likely cause of the outage, or None to keep the recorded cause.
    """
    update = record_update.Update(attempts=attempts, signs=signs, cause=cause)
    try:
        incident_record.call(state_dir=state_dir, state="attempt", run=run, update=update, clock=clock, memory=memory)
    except incident_store.IncidentError as error:
        return f"The attempts were not recorded: {error}"
    return None


def note_answer(
    *,
    state_dir: str,
    run: str,
    at: Optional[str],
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
) -> Optional[str]:
    """Record the time of the first healthy response after the run started the service.

    `at` is None if the service failed again.

    Returns the error message if the time could not be recorded.
    """
    clock = clock or host_lease.Clock()
    store, seat = incident_store.pair(state_dir, clock=clock, memory=memory, writing=True)
    try:
        with incident_store.lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"] and record["answered_at"] != at:
                record["answered_at"] = at
                if at is None:
                    record["signs"].append(
                        {"at": timestamps.iso(clock.wall()), "kind": "bad", "source": outage_window.PROBE}
                    )
                store.write(record)
    except (incident_store.IncidentError, host_lease.LeaseError) as error:
        return f"The first healthy response was not recorded: {error}"
    return None


def note(
    *,
    state_dir: str,
    run: str,
    clock: Optional[host_lease.Clock] = None,
    memory: Optional[str] = None,
    **fields: Any,
) -> Optional[str]:
    """Set last_exit, takeover, kills or data in the record of the run's open incident.

    If this fails, return the error message.
    """
    store, seat = incident_store.pair(state_dir, clock=clock or host_lease.Clock(), memory=memory, writing=True)
    try:
        with incident_store.lock(seat, writing=True):
            record = store.open_incident()
            if record is not None and run in record["runs"] and {n: record[n] for n in fields} != fields:
                record.update(fields)
                store.write(record)
    except (incident_store.IncidentError, host_lease.LeaseError) as error:
        return f"{', '.join(fields)} of the incident were not recorded: {error}"
    return None
