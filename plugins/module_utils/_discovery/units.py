# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the service by its systemd unit. If there is no unit, find the service by its process."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.messages import DiscoveryError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd

# Usual names for the service's unit.
NAMES = ("itsm-nexus-prod", "itsm-sec-nexus-prod", "itsm-system", "itsm-system-https")
NODE = ("node", "nodejs")

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "MainPID", "ControlGroup", "FragmentPath", "DropInPaths"),
    *("User", "DynamicUser", "RootDirectory", "RootImage", "WorkingDirectory", "ExecStart", "ExecStartPre"),
    *("Environment", "EnvironmentFiles", "StandardOutput", "StandardError"),
    *("Restart", "RestartUSec", "StartLimitBurst", "StartLimitIntervalUSec", "TimeoutStopUSec", "KillMode"),
)
_ARGV = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
# A command line that runs node with a server.js. The command may be in quotation marks, after sh -c.
_SERVES = re.compile(r"""(?:^|[\s/"'])node(?:js)?\s[^;]*\bserver\.[cm]?js\b""")
_SCRIPT = re.compile(r"server\.[cm]?js\Z")


class Unit(NamedTuple):
    """A systemd unit: its name without .service, and its properties."""

    name: str
    properties: Mapping[str, str]

    @property
    def argv(self) -> List[str]:
        """The command, split at spaces, because systemctl shows no other separator."""
        found = _ARGV.search(self.properties.get("ExecStart", ""))
        return found.group(1).split(" ") if found else []

    @property
    def folder(self) -> str:
        """The working directory, or an empty string if the unit sets none."""
        return self.properties.get("WorkingDirectory", "").lstrip("!-")

    @property
    def active(self) -> bool:
        return self.properties.get("ActiveState") == "active"


class Found(NamedTuple):
    """The service that was found. unit: the unit, or None if there is only a process.

    others: other candidates for the service: the names of units, or the folders of processes.
    missing: the configured unit, if the host has no such unit.
    """

    unit: Optional[Unit]
    process: Optional[procfs.Process]
    others: List[str]
    missing: str
    # The application's folder if neither a unit nor a process was found.
    folder: str = ""


def _short(name: str) -> str:
    return name[: -len(".service")] if name.endswith(".service") else name


def _units(names: Sequence[str], *, run: commands.Runner) -> List[Unit]:
    """Return those units that have one of these names and are loaded. Raises HostError."""
    found: Dict[str, Unit] = {}
    for properties in systemd.units_properties(names, _PROPERTIES, run=run):
        unit = Unit(_short(properties.get("Id", "")), properties)
        if unit.name and properties.get("LoadState") == "loaded":
            found[unit.name] = unit
    return list(found.values())


def _alike(unit: Unit) -> bool:
    return unit.name in NAMES or _SERVES.search(" ".join(unit.argv)) is not None


def _only(candidates: Sequence[Unit], *, app_dir: str) -> Optional[Unit]:
    """Return the unit that is certainly the service, or None if more than one unit may be the service."""
    in_folder = [unit for unit in candidates if app_dir and os.path.normpath(unit.folder or "/") == app_dir]
    for group in (candidates, in_folder, [unit for unit in candidates if unit.active]):
        if len(group) == 1:
            return group[0]
    return None


def _same_namespace(pid: int, *, proc_root: str) -> bool:
    """Return True if a process is not in a container. A container has its own PID namespace."""
    try:
        return os.readlink(f"{proc_root}/{pid}/ns/pid") == os.readlink(f"{proc_root}/self/ns/pid")
    except OSError:
        return False


def is_node(process: procfs.Process) -> bool:
    return os.path.basename(process.exe or (process.argv or [""])[0]) in NODE


def _processes(*, proc_root: str) -> List[procfs.Process]:
    """Return the processes that run node with a server.js. Raises HostError."""
    found = []
    for process in procfs.processes(proc_root=proc_root):
        serves = any(_SCRIPT.match(os.path.basename(word)) for word in process.argv[1:])
        if process.alive and is_node(process) and serves and _same_namespace(process.pid, proc_root=proc_root):
            found.append(process)
    return found


def find(unit: str, *, app_dir: str, run: commands.Runner, proc_root: str) -> Found:
    """Find the service. unit, app_dir: the values in the inventory, or empty strings. Raises DiscoveryError.

    If the host has the unit from the inventory, this unit is used. Otherwise, all units are searched. If several units
    may be the service, the choice depends on app_dir and on the units' states. If there is no unit, the processes are
    searched. If app_dir exists, only processes in this folder are considered.
    """
    app_dir = os.path.normpath(app_dir) if app_dir else ""
    try:
        named = _units([unit], run=run) if unit else []
        if named and named[0].active:
            return Found(named[0], None, [], "")
        names = systemd.service_units(run=run)
        candidates = [each for each in (_units(names, run=run) if names else []) if _alike(each)]
        if named:
            # The unit in the inventory may no longer be in use.
            others = sorted(each.name for each in candidates if each.active and each.name != named[0].name)
            return Found(named[0], None, others, "")
    except procfs.HostError:  # this host does not run systemd
        candidates = []
    missing = _short(unit)
    if candidates:
        chosen = _only(candidates, app_dir=app_dir)
        if chosen is None:
            raise DiscoveryError(
                message("reason.discovery.several_units", names=sorted(each.name for each in candidates))
            )
        return Found(chosen, None, sorted(each.name for each in candidates if each is not chosen), missing)
    return _without_unit(app_dir, missing=missing, proc_root=proc_root)


def _without_unit(app_dir: str, *, missing: str, proc_root: str) -> Found:
    """Find the process of the service, or its folder. Raises DiscoveryError."""
    try:
        processes = _processes(proc_root=proc_root)
    except procfs.HostError as error:
        raise DiscoveryError(error) from error
    here = [process for process in processes if app_dir and process.cwd == os.path.realpath(app_dir)]
    folders = sorted({str(process.cwd) for process in processes if process not in here})
    if here:
        return Found(None, here[0], [], missing)
    if app_dir and os.path.isdir(app_dir):
        # The service may be down, or the folder in the inventory may no longer be in use.
        return Found(None, None, folders, missing, app_dir)
    if len(folders) > 1:
        raise DiscoveryError(message("reason.discovery.several_processes", folders=folders))
    if processes:
        return Found(None, processes[0], [], missing)
    if app_dir:
        raise DiscoveryError(message("reason.discovery.no_folder", path=app_dir))
    raise DiscoveryError(message("reason.discovery.none"))
