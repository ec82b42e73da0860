# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the service's processes, and no others. The service runs under systemd or as a plain process.

A process belongs to the service if it runs the command's executable in the service's folder, and one of these is true:
- The pid file contains its pid and start time. If an account other than root could have written the pid file, the
  process must also run as the service's user.
- It has every argument of the command. In addition, it either listens on one of the ports or runs as the service's
  user.
"""

from __future__ import annotations

import os
import pwd
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import takeover
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.messages import ServiceError

UNIT_PROPERTIES = (
    *takeover.PROPERTIES,
    "MainPID",
    "ControlGroup",
    "TimeoutStartUSec",
    "TimeoutStopUSec",
)
_AUTO_RESTART = "auto-restart"


class NodeProcessError(ServiceError):
    """The service could not be checked, started or stopped. If a parameter is invalid, the message shows its name."""


def arguments(*, starts: bool = False) -> Dict[str, Any]:
    """Return the argument specification of the "service" documentation fragment.

    starts: True if the files needed to start the service are required.
    """
    needed = [("manager", "systemd", ["unit"])]
    if starts:
        needed.append(("manager", "process", ["log_file", "pid_file"]))
    options: Dict[str, Dict[str, Any]] = {
        "app_dir": {"type": "path", "required": True},
        "user": {"type": "str", "default": ""},
        "command": {"type": "list", "elements": "str", "required": True},
        "manager": {"type": "str", "default": "systemd", "choices": ["systemd", "process"]},
        "unit": {"type": "str"},
        "environment_file": {"type": "str", "default": ""},
        "log_file": {"type": "str"},
        "pid_file": {"type": "path"},
    }
    return {"service": {"type": "dict", "required": True, "options": options, "required_if": needed}}


def settings(params: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the `service` option from a module's parameters. A string option that is not set is empty."""
    return {name: "" if value is None else value for name, value in params["service"].items()}


class Service(NamedTuple):
    """The service: the suboptions of the `service` option, and the ports and db_path parameters."""

    app_dir: str
    command: Sequence[str]
    manager: str = "process"
    unit: str = ""
    user: str = ""
    environment_file: str = ""
    log_file: str = ""
    pid_file: str = ""
    ports: Sequence[int] = ()
    db_path: str = ""

    @property
    def database_path(self) -> str:
        """The path of the database, or an empty string if no database is configured."""
        return os.path.join(self.app_dir, self.db_path) if self.db_path else ""


class Look(NamedTuple):
    """The service's state. strays: the service's processes outside its unit. foreign: other processes on its ports."""

    main: List[procfs.Process]
    strays: List[procfs.Process]
    foreign: List[Dict[str, Any]]
    properties: Mapping[str, str]

    @property
    def pids(self) -> List[int]:
        return [process.pid for process in (*self.main, *self.strays)]

    @property
    def started_at(self) -> Optional[str]:
        return self.main[0].started_at if self.main else None


def user_name(uid: int) -> str:
    """Return the name of a user, or the uid if the user has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise NodeProcessError(message("reason.process.no_user", user=repr(user or os.geteuid()))) from None


def read_pid_file(path: str) -> Optional[Tuple[int, int]]:
    """Return the pid and start ticks in a pid file, or None if the file is missing or invalid."""
    try:
        pid, start_ticks = (int(line) for line in safe_open.read(path, limit=64).decode("ascii").splitlines())
    except (OSError, ValueError):
        return None
    return pid, start_ticks


def _only_root_wrote(path: str) -> bool:
    """Return True if no account other than root, or the account of this process, could have written a file."""
    try:
        status = os.lstat(path)
        theirs = safe_open.rights_on(path)
    except OSError:
        return False
    return theirs is None and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def is_hidden(service: Service) -> bool:
    """Return True if the service's processes may be hidden from this user.

    If processes are hidden, an empty result proves nothing.
    """
    return os.geteuid() not in (0, account(service.user).pw_uid)


def find(service: Service, *, proc_root: str = "/proc") -> List[procfs.Process]:
    """Return the processes that verifiably belong to the service (see the top of this file), oldest first.

    Raises NodeProcessError.
    """
    uid = account(service.user).pw_uid
    found: Dict[int, procfs.Process] = {}
    recorded = read_pid_file(service.pid_file) if service.pid_file else None
    if recorded is not None:
        process = procfs.read_process(recorded[0], proc_root=proc_root)
        if (
            process is not None
            and process.start_ticks == recorded[1]
            and (process.uid == uid or _only_root_wrote(service.pid_file))
            and procfs.runs_program(process, app_dir=service.app_dir, command=service.command)
        ):
            found[process.pid] = process
    try:
        candidates = procfs.service_processes(app_dir=service.app_dir, command=service.command, proc_root=proc_root)
        proved = [process for process in candidates if process.uid == uid]
        # Search for listeners only if the result depends on them, because the search reads every descriptor of every
        # process.
        if len(proved) < len(candidates):
            listeners = sockets.listeners(service.ports, proc_root=proc_root)
            listening = {pid for listener in listeners for pid in listener.pids}
            proved = [process for process in candidates if process.uid == uid or process.pid in listening]
    except procfs.HostError as error:
        raise NodeProcessError(error) from error
    found.update({process.pid: process for process in proved})
    return sorted(found.values(), key=lambda process: (process.start_ticks, process.pid))


def _foreign(service: Service, ours: Set[int], *, group: str, proc_root: str) -> List[Dict[str, Any]]:
    """Return the listeners on the service's ports, except those of the service, its descendants and its unit."""
    found: List[Dict[str, Any]] = []
    try:
        listeners = sockets.listeners(service.ports, proc_root=proc_root)
    except procfs.HostError as error:
        raise NodeProcessError(error) from error
    for listener in listeners:
        if not listener.pids and listener.uid != account(service.user).pw_uid:
            entry = {"pid": None, "port": listener.port, "command": "unknown", "user": user_name(listener.uid)}
            found.append(entry)
        for pid in listener.pids:
            process = procfs.read_process(pid, proc_root=proc_root)
            if process is None or _is_ours(pid, ours, group=group, proc_root=proc_root):
                continue
            entry = {
                "pid": pid,
                "port": listener.port,
                "command": process.command,
                "user": user_name(process.uid),
            }
            if entry not in found:
                found.append(entry)
    return found


def _is_ours(pid: int, ours: Set[int], *, group: str, proc_root: str) -> bool:
    return not ours.isdisjoint((pid, *procfs.ancestors(pid, proc_root=proc_root))) or _in_group(
        pid, group, proc_root=proc_root
    )


def _in_group(pid: int, group: str, *, proc_root: str) -> bool:
    return bool(group) and any(
        name == group or name.startswith(f"{group}/") for name in procfs.control_groups(pid, proc_root=proc_root)
    )


def require_loaded(service: Service, properties: Mapping[str, str]) -> None:
    """Raise NodeProcessError if these properties show that the unit is not loaded."""
    load_state = properties.get("LoadState", "")
    if load_state != "loaded":
        if load_state == "not-found":
            raise NodeProcessError(message("reason.process.no_unit", unit=repr(service.unit)))
        state = load_state or "unknown"
        raise NodeProcessError(message("reason.process.unit_not_loaded", unit=repr(service.unit), state=state))


def unit_state(service: Service, *, run: commands.Runner) -> Dict[str, str]:
    try:
        properties = systemd.unit_properties(service.unit, UNIT_PROPERTIES, run=run)
    except procfs.HostError as error:
        raise NodeProcessError(error) from error
    require_loaded(service, properties)
    return properties


def main_pid(properties: Mapping[str, str]) -> int:
    """Return the pid of a unit's main process, or 0 if there is none, for example while the unit awaits a restart."""
    pid = properties.get("MainPID", "0")
    return int(pid) if pid.isdecimal() and not waits_for_restart(properties) else 0


def waits_for_restart(properties: Mapping[str, str]) -> bool:
    """Return True if systemd will automatically restart the unit after its RestartSec."""
    return properties.get("SubState", "").startswith(_AUTO_RESTART)


def look(service: Service, *, run: commands.Runner, proc_root: str) -> Look:
    found = find(service, proc_root=proc_root)
    properties: Dict[str, str] = {}
    main = found
    strays: List[procfs.Process] = []
    group = ""
    if service.manager == "systemd":
        properties = unit_state(service, run=run)
        group = properties.get("ControlGroup", "")
        process = procfs.read_process(main_pid(properties), proc_root=proc_root)
        main = [process] if process is not None and process.alive else []
        known = {process.pid for process in main}
        strays = [
            process
            for process in found
            if process.pid not in known and not _in_group(process.pid, group, proc_root=proc_root)
        ]
    ours = {process.pid for process in (*main, *strays)}
    return Look(
        main=main,
        strays=strays,
        foreign=_foreign(service, ours, group=group, proc_root=proc_root),
        properties=properties,
    )
