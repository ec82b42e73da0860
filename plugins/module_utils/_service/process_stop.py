# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop processes that block the service, but only if they are part of this application or match the policy.

Before a process is stopped, the triage findings are checked again. The process must still have the same pid and start
time, and must still use the port or the database.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Pattern, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, labelled, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import knex, messages, process_signals
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders


class ProcessStopError(messages.ServiceError):
    """A parameter is invalid, the host could not be checked, or a process could not be stopped."""


class Wanted(NamedTuple):
    """A process to stop: its pid, its start time in clock ticks, and the port on which it was found, or None."""

    pid: int
    start_ticks: int
    port: Optional[int] = None


class Policy(NamedTuple):
    """Conditions under which another application's process may be stopped.

    command: a regular expression that must match the whole command line. port: the port that the process uses. None
    means any port.
    """

    user: str
    command: str
    port: Optional[int] = None


def _checked(policies: Sequence[Policy]) -> List[Tuple[Policy, int, Pattern[str]]]:
    checked = []
    for policy in policies:
        if not policy.user or not policy.command:
            raise ProcessStopError(message("reason.stop.empty_policy"))
        try:
            pattern = re.compile(policy.command, re.DOTALL)
        except re.error as error:
            told = message("reason.stop.no_pattern", command=repr(policy.command), why=str(error))
            raise ProcessStopError(told) from error
        with contextlib.suppress(KeyError):  # a nonexistent user has no processes
            checked.append((policy, pwd.getpwnam(policy.user).pw_uid, pattern))
    return checked


def _ancestors(proc_root: str) -> Set[int]:
    """Return the pids of this process, its ancestors (such as the run's SSH session) and init."""
    own = os.getpid()
    return {1, own, *procfs.ancestors(own, proc_root=proc_root)}


class _Judge:
    """Decides whether a process may be stopped."""

    def __init__(
        self,
        service: service_process.Service,
        *,
        policies: Sequence[Policy],
        db_path: Optional[str],
        run: commands.Runner,
        proc_root: str,
    ) -> None:
        self._service = service
        self._policies = _checked(policies)
        self._proc_root = proc_root
        self._untouchable = _ancestors(proc_root)
        self._group = ""
        if service.manager == "systemd":
            try:
                properties = systemd.unit_properties(service.unit, ["ControlGroup"], run=run)
            except procfs.HostError as error:
                raise ProcessStopError(error) from error
            self._group = properties.get("ControlGroup", "")
        try:
            self._ours = {process.pid for process in service_process.find(service, proc_root=proc_root)}
            self._uid = pwd.getpwnam(service.user).pw_uid if service.user else os.geteuid()
        except service_process.NodeProcessError as error:
            raise ProcessStopError(error) from error
        self._blocking = _blocking(db_path, user=service.user, proc_root=proc_root) if db_path else None

    def _is_the_service(self, process: procfs.Process) -> bool:
        """Return True if the service's manager started this process.

        Such a process is not a second copy of the service.
        """
        if self._service.manager == "systemd":
            groups = procfs.control_groups(process.pid, proc_root=self._proc_root)
            inside = (self._group, f"{self._group}/")
            return bool(self._group) and any(name == inside[0] or name.startswith(inside[1]) for name in groups)
        recorded = service_process.read_pid_file(self._service.pid_file) if self._service.pid_file else None
        return recorded == (process.pid, process.start_ticks)

    def _of_this_app(self, process: procfs.Process) -> bool:
        """Return True if a process is part of this application.

        This is the service itself, or the same program in the same folder, run by the same user.
        """
        mine = process.uid == self._uid and procfs.runs_program(
            process, app_dir=self._service.app_dir, command=self._service.command
        )
        return process.pid in self._ours or mine

    def _named(self, process: procfs.Process, port: Optional[int]) -> bool:
        line = " ".join(process.argv)
        return any(
            process.uid == uid and policy.port in (None, port) and pattern.fullmatch(line)
            for policy, uid, pattern in self._policies
        )

    def why_not(self, process: procfs.Process, wanted: Wanted) -> Optional[Message]:
        """Return the reason why this process must not be stopped, or None if it may be stopped."""
        port = wanted.port
        checks: Sequence[Tuple[Callable[[], bool], Message]] = (
            (lambda: process.start_ticks != wanted.start_ticks, message("reason.stop.other_process")),
            (
                lambda: process.pid in self._untouchable or not process.argv,  # kernel threads have no arguments
                message("reason.stop.of_system"),
            ),
            (lambda: self._is_the_service(process), message("reason.stop.the_service")),
            (
                lambda: port is not None and process.pid not in _listening(port, proc_root=self._proc_root),
                message("reason.stop.port_free", port=port or 0),
            ),
            (
                lambda: self._blocking is not None and process.pid not in self._blocking,
                message("reason.stop.database_free"),
            ),
            (
                lambda: (
                    self._blocking is not None and knex.may_migrate(process.argv) and not self._named(process, port)
                ),
                message("reason.stop.migrates"),
            ),
            (
                lambda: not self._of_this_app(process) and not self._named(process, port),
                message("reason.stop.not_named"),
            ),
        )
        return next((reason for speaks_against, reason in checks if speaks_against()), None)


def _listening(port: int, *, proc_root: str) -> Set[int]:
    try:
        return {pid for listener in sockets.listeners([port], proc_root=proc_root) for pid in listener.pids}
    except procfs.HostError as error:
        raise ProcessStopError(error) from error


def _blocking(db_path: str, *, user: str, proc_root: str) -> Set[int]:
    """Return the pids of the processes that prevent others from writing to the database."""
    try:
        _found, holders = sqlite_holders.survey(db_path, user=user, proc_root=proc_root)
    except sqlite_files.SqliteError as error:
        raise ProcessStopError(labelled("db_path", error.told)) from error
    return {holder.pid for holder in holders.found if holder.role in sqlite_holders.BLOCKING}


def _told(process: procfs.Process) -> Dict[str, Any]:
    return {"pid": process.pid, "user": service_process.user_name(process.uid), "command": process.command}


def _remaining(
    ports: Sequence[int], db_path: Optional[str], *, user: str, ended: Set[int], proc_root: str
) -> List[Dict[str, Any]]:
    """Return the processes that currently block the ports or the database, except those in `ended`.

    New processes may have started in the meantime.
    """
    pairs = {(port, pid) for port in ports for pid in _listening(port, proc_root=proc_root)}
    if db_path:
        pairs |= {(0, pid) for pid in _blocking(db_path, user=user, proc_root=proc_root)}
    found = []
    for port, pid in sorted(pairs):
        process = procfs.read_process(pid, proc_root=proc_root)
        if process is not None and pid not in ended:
            found.append({**_told(process), "port": port or None})
    return found


def stop(
    service: service_process.Service,
    *,
    processes: Sequence[Wanted],
    policies: Sequence[Policy] = (),
    db_path: Optional[str] = None,
    timeout: float = 10.0,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Stop each of the given processes that may be stopped, and return the result of the process_stop module.

    Raises ProcessStopError.
    """
    begun = time.monotonic()
    if timeout <= 0:
        raise ProcessStopError(message("reason.stop.timeout", seconds=f"{timeout:g}"))
    judge = _Judge(service, policies=policies, db_path=db_path, run=run, proc_root=proc_root)
    chosen: List[procfs.Process] = []
    left: List[Dict[str, Any]] = []
    gone: List[int] = []
    for wanted in processes:
        process = procfs.read_process(wanted.pid, proc_root=proc_root)
        if process is None or not process.alive:
            gone.append(wanted.pid)
            continue
        reason = judge.why_not(process, wanted)
        if reason is not None:
            why = {"reason": messages.english(reason), "messages": messages.plain(reason=reason)}
            left.append({**_told(process), "port": wanted.port, **why})
        elif process not in chosen:
            chosen.append(process)
    told = {process.pid: _told(process) for process in chosen}
    try:
        ended = [] if check_mode else process_signals.stop_processes(chosen, timeout=timeout, proc_root=proc_root)
    except service_process.NodeProcessError as error:
        raise ProcessStopError(error) from error
    how = {entry["pid"]: entry for entry in ended}
    unsent: Dict[str, Any] = {"signal": None, "seconds": 0.0}
    stopped = [{**told[process.pid], **unsent, **how.get(process.pid, {})} for process in chosen]
    lines = [f"pid {entry['pid']} of {entry['user']}: {entry['command']}\n" for entry in stopped]
    return {
        "changed": bool(stopped),
        "stopped": stopped,
        "left": left,
        "gone": gone,
        "remaining": _remaining(
            [wanted.port for wanted in processes if wanted.port],
            db_path,
            user=service.user,
            ended=set(told),
            proc_root=proc_root,
        ),
        "duration": round(time.monotonic() - begun, 3),
        "diff": {"before": "".join(lines), "after": ""},
    }
