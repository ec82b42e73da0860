# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start, stop or restart the service if this is safe."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, path_status, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    process_signals,
    process_start,
    process_unit,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import Look, NodeProcessError, Service
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process_start import Launch

_UP = ("active", "reloading", "refreshing")
_ROUNDS = 3


def _refuse_foreign(look: Look) -> None:
    if look.foreign:
        who = [
            message(
                "reason.process.port_taken",
                port=str(entry["port"]),
                pid=str(entry["pid"] or "unknown"),
                command=str(entry["command"]),
                user=str(entry["user"]),
            )
            for entry in look.foreign
        ]
        raise NodeProcessError(message("reason.process.foreign", processes=who))


def _refuse_lost_database(service: Service) -> None:
    """Raise NodeProcessError if starting the service would destroy data that is only in the database's WAL.

    The service opens its database when it starts. When SQLite opens an empty or new database file, it deletes the WAL
    next to that file.
    """
    if not service.database_path:
        return
    sizes = []
    user = safe_open.account_rights(service.user)
    try:
        path, rights = path_status.resolve(service.database_path, user=user)
        for name in (path, f"{path}-wal"):
            sizes.append(0)
            with contextlib.suppress(FileNotFoundError), safe_open.acting(rights):
                sizes[-1] = path_status.status(name, user=user).st_size
    except OSError as error:
        raise NodeProcessError(message("reason.process.database_unread", why=quoted(error))) from error
    if sizes[0] == 0 and sizes[1] > 0:
        raise NodeProcessError(message("reason.process.lost_database", path=path, bytes=sizes[1]))


def _refuse_only_copy(service: Service, look: Look) -> None:
    """Raise NodeProcessError if the database file was deleted and remains only while the service has it open."""
    if not service.database_path:
        return
    path = os.path.realpath(service.database_path)
    pid = procfs.holder_of_deleted(look.pids, path)
    if pid is not None:
        raise NodeProcessError(message("reason.process.only_copy", pid=pid, path=path))


def _is_up(service: Service, look: Look) -> bool:
    if service.manager == "systemd":
        return look.properties.get("ActiveState") in _UP
    return bool(look.main)


def _is_down(service: Service, look: Look) -> bool:
    if service.manager == "systemd" and look.properties.get("ActiveState") not in ("inactive", "failed"):
        return False  # a unit that is waiting for its restart has no process but must still be stopped
    return not look.pids


def _has_begun(service: Service, look: Look, *, since: Optional[float]) -> bool:
    """Return True if the service is up and all its processes started after `since` (seconds since boot)."""
    return since is not None and _is_up(service, look) and all(process.began >= since for process in look.main)


def _act_process(
    service: Service,
    look: Look,
    *,
    launch: Optional[Launch],
    state: str,
    stop_timeout: float,
    on_start: Callable[[], None],
    proc_root: str,
) -> List[Dict[str, Any]]:
    stopped: List[Dict[str, Any]] = []
    if state != "started":
        remaining = look.main
        for _round in range(_ROUNDS):  # repeat, because a process may have started another one before it exited
            stopped += process_signals.stop_processes(remaining, timeout=stop_timeout, proc_root=proc_root)
            remaining = service_process.find(service, proc_root=proc_root)
            if not remaining:
                break
        else:
            again = remaining[0]
            raise NodeProcessError(message("reason.process.came_back", times=_ROUNDS, pid=again.pid, parent=again.ppid))
        with contextlib.suppress(OSError):
            rights = safe_open.rights_on(service.pid_file, user=safe_open.account_rights(service.user))
            with safe_open.acting(rights):
                os.unlink(service.pid_file)
    if launch is not None:
        on_start()
        process_start.start(service, launch, proc_root=proc_root)
    return stopped


def ensure(
    service: Service,
    *,
    state: str,
    stop_timeout: float = 30.0,
    on_start: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
    refused: Optional[Message] = None,
    since: Optional[float] = None,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Start, stop or restart the service if needed, and return the result of the node_process module.

    Returns as soon as the process or unit is up, without waiting for the service to answer requests. Raises
    NodeProcessError.

    on_start: called after all preparations, right before the service is started. The start may still fail. on_stop: if
    state is stopped, called before the service is stopped. refused: the reason why the service must not be started, or
    None. since: the start time (in seconds since boot) of an earlier attempt at this call that was killed, or None. If
    the earlier attempt restarted the service, this call does not restart it again.
    """
    begun = time.monotonic()
    before = service_process.look(service, run=run, proc_root=proc_root)
    has_begun = state == "restarted" and _has_begun(service, before, since=since)
    if has_begun:
        state = "started"
    changed = {
        "started": not _is_up(service, before),
        "stopped": not _is_down(service, before),
        "restarted": True,
    }[state]
    launch: Optional[Launch] = None
    if changed:
        _refuse_loss(service, before, state=state, refused=refused)
        if state == "stopped" and not check_mode:
            on_stop()
        if state != "stopped":
            launch = _prepare_start(service, before)
    stopped: List[Dict[str, Any]] = []
    after = before
    if changed and not check_mode:
        order: Any = {"state": state, "stop_timeout": stop_timeout, "on_start": on_start, "proc_root": proc_root}
        if service.manager == "systemd":
            stopped = process_unit.act_systemd(service, before, run=run, **order)
        else:
            stopped = _act_process(service, before, launch=launch, **order)
        after = service_process.look(service, run=run, proc_root=proc_root)
        if service.manager == "systemd" and state != "stopped":
            process_unit.require_up(service, after, run=run)
    return {
        "changed": changed or has_begun,
        "stopped": stopped,
        **_change(before, after, state=state, would=check_mode and changed),
        "duration": round(time.monotonic() - begun, 3),
    }


def _refuse_loss(service: Service, look: Look, *, state: str, refused: Optional[Message]) -> None:
    """Raise NodeProcessError if the service must not be started, or if stopping it would destroy its database."""
    if refused is not None and state != "stopped":
        raise NodeProcessError(message("reason.process.start_refused", why=refused))
    if state != "started":
        _refuse_only_copy(service, look)


def _prepare_start(service: Service, look: Look) -> Optional[Launch]:
    """Return the launch parameters of a plain process, or None if systemd manages the service.

    Raises NodeProcessError if the service must not be started.
    """
    launch = process_start.prepare(service) if service.manager == "process" else None
    _refuse_foreign(look)
    _refuse_lost_database(service)
    return launch


def _change(before: Look, after: Look, *, state: str, would: bool) -> Dict[str, Any]:
    """Return the states before and after the call as result values. would: True if check mode prevented a change."""
    final = "stopped" if state == "stopped" else "started"
    return {
        "state": final,
        "pids_before": before.pids,
        "pids_after": [] if would else after.pids,
        "foreign": after.foreign,
        "started_at": None if would else after.started_at,
        "diff": {
            "before": {"state": "started" if before.pids else "stopped", "pids": before.pids},
            "after": {"state": final, "pids": "not known yet" if would else after.pids},
        },
    }
