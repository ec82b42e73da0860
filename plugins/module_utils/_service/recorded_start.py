# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start, stop or restart the service, and record this in the incident of the run.

Call these functions only while the run holds its lease.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import desired_state, process_unit
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import Service

Warn = Callable[[str], Any]


def ensure(
    service: Service,
    *,
    state: str,
    stop_timeout: float,
    lease: Mapping[str, Any],
    warn: Warn,
    attempts: Sequence[Mapping[str, Any]] = (),
    signs: Sequence[Mapping[str, Any]] = (),
    cause: Optional[str] = None,
    since: Optional[float] = None,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
) -> Dict[str, Any]:
    """Start, stop or restart the service if needed, and return the result of the node_process module.

    lease: run and state_dir. If there is no run, or in check mode, nothing is recorded. attempts, signs, cause:
    recorded before anything is changed. since: see desired_state.ensure. If the start guard refuses the start, the
    service is held. Raises NodeProcessError.
    """
    unit = service.unit if service.manager == "systemd" else ""

    def record(note: Callable[..., Optional[str]], **what: Any) -> None:
        problem = note(**lease, **what) if lease["run"] and not check_mode else None
        if problem:
            warn(problem)

    def arm() -> None:
        if unit:
            record(one_starter.arm, unit=unit, database_path=service.database_path, user=service.user)

    if attempts:
        record(incident_notes.note_attempts, attempts=attempts, signs=signs, cause=cause)
    try:
        result = desired_state.ensure(
            service,
            state=state,
            stop_timeout=stop_timeout,
            on_start=lambda: record(incident_notes.note_start),
            on_stop=arm,
            refused=one_starter.refusal(manager=service.manager, unit=service.unit, state_dir=lease["state_dir"]),
            since=since,
            check_mode=check_mode,
            run=run,
        )
    except process_unit.StartSkippedError as error:
        if error.refusal and lease["run"]:
            # Nobody may start the service with this database, even if the guard is removed.
            incident = str((incident_store.current(lease["state_dir"]) or {}).get("id") or "")
            about: Dict[str, Any] = {"incident": incident, "cause": "db_corrupt", "reason": error.refusal}
            one_starter.hold(manager=service.manager, unit=unit, warn=warn, **lease, **about)
        raise
    if unit and state != "stopped":
        record(one_starter.started, unit=unit)
    return result
