# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the service's unit and its environment."""

from __future__ import annotations

import functools
import re
import shlex
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    parallel,
    path_status,
    redact,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    MOST_NAMES,
    Question,
    found,
    rights_of,
    service_processes,
)

_EXIT_CODES = {"1": "exited", "2": "killed", "3": "dumped"}

_UNIT_PROPERTIES = (
    "LoadState",
    "LoadError",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "ExecMainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "Restart",
    "RestartUSec",
    "StartLimitBurst",
    "StartLimitIntervalUSec",
    "TimeoutStopUSec",
    "MemoryMax",
    "MemoryHigh",
    "MemoryPeak",
    "TasksMax",
    "LimitNOFILE",
    "ControlGroup",
    "WorkingDirectory",
    "ExecStart",
    "FragmentPath",
    "DropInPaths",
    "User",
    "Group",
    "SupplementaryGroups",
    "DynamicUser",
    "RootDirectory",
    "RootImage",
    "EnvironmentFiles",
    "ActiveEnterTimestampMonotonic",
    "ActiveExitTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
)
_PROGRAM = re.compile(r"\{ path=(\S+) ;")
# systemd writes this number for "not set".
_UNSET = (1 << 64) - 1
# A century in microseconds. A longer time since boot is invalid.
_CENTURY = 100 * 366 * 86400 * 1_000_000

_HEAP = re.compile(r"--max[-_]old[-_]space[-_]size[= ](\d{1,9})")


def unit(question: Question) -> Dict[str, Any]:
    """Return the unit's properties, as systemd reports them."""
    raw = systemd.unit_properties(question.service.unit, _UNIT_PROPERTIES, run=question.command)
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def at(name: str) -> Optional[str]:
        microseconds = number(f"{name}TimestampMonotonic") or 0
        return timestamps.iso(boot + microseconds / 1e6) if 0 < microseconds < _CENTURY else None

    def number(name: str) -> Optional[int]:
        text = raw.get(name, "")
        return int(text) if text.isdecimal() and len(text) <= 20 and int(text) != _UNSET else None

    program = _PROGRAM.search(raw.get("ExecStart", ""))
    return found(
        {
            "name": question.service.unit,
            "load_state": raw.get("LoadState"),
            "load_error": raw.get("LoadError") or None,
            "active_state": raw.get("ActiveState"),
            "sub_state": raw.get("SubState"),
            "result": raw.get("Result"),
            "exit_code": _EXIT_CODES.get(raw.get("ExecMainCode", "")),
            "exit_status": number("ExecMainStatus"),
            "main_pid": number("MainPID"),
            "last_pid": number("ExecMainPID"),
            "restarts": number("NRestarts"),
            "restart": raw.get("Restart"),
            "restart_delay": raw.get("RestartUSec"),
            "start_limit_burst": number("StartLimitBurst"),
            "start_limit_interval": raw.get("StartLimitIntervalUSec"),
            "stop_timeout": raw.get("TimeoutStopUSec"),
            "memory_max": number("MemoryMax"),
            "memory_high": number("MemoryHigh"),
            "memory_peak": number("MemoryPeak"),
            "tasks_max": number("TasksMax"),
            "open_files_max": number("LimitNOFILE"),
            "control_group": raw.get("ControlGroup") or None,
            "working_directory": raw.get("WorkingDirectory", "").lstrip("!-") or None,
            "program": program.group(1) if program else None,
            "file": raw.get("FragmentPath") or None,
            "drop_ins": raw.get("DropInPaths", "").split(),
            "user": raw.get("User") or None,
            "group": raw.get("Group") or None,
            "more_groups": bool(raw.get("SupplementaryGroups")),
            # True if the unit has its own root folder or a dynamic user. In this case, the host's paths and users do
            # not apply to the unit.
            "confined": bool(raw.get("RootDirectory") or raw.get("RootImage")) or raw.get("DynamicUser") == "yes",
            # Only a value that begins with a slash is a required folder. Any other value is an optional folder, or
            # means a home folder.
            "needed_folder": raw.get("WorkingDirectory") if raw.get("WorkingDirectory", "").startswith("/") else None,
            "environment_files": env_file.required_files(raw.get("EnvironmentFiles", "")),
            "active_enter_at": at("ActiveEnter"),
            "active_exit_at": at("ActiveExit"),
            "inactive_enter_at": at("InactiveEnter"),
            "started_at": at("ExecMainStart"),
            "exited_at": at("ExecMainExit"),
        }
    )


def _unit_environment(question: Question) -> Tuple[List[Tuple[str, Mapping[str, str]]], List[str]]:
    """Return the variables that the unit itself sets, and the paths of its environment files."""
    unit_name = question.service.unit
    try:
        raw = systemd.unit_properties(unit_name, ["Environment", "EnvironmentFiles"], run=question.command)
        words = shlex.split(raw.get("Environment", ""))
    except (procfs.HostError, ValueError):  # the `unit` part reports the problem with systemd
        return [], []
    files = [re.sub(r" \(ignore_errors=\w+\)$", "", line) for line in raw.get("EnvironmentFiles", "").splitlines()]
    pairs = [word.partition("=") for word in words]
    return [(f"unit {unit_name}", {name: value for name, _equals, value in pairs})], [path for path in files if path]


def _process_environments(question: Question) -> List[Tuple[str, Mapping[str, str]]]:
    sources: List[Tuple[str, Mapping[str, str]]] = []
    for process in service_processes(question):
        values = procfs.environment(process.pid)
        if values is not None:
            sources.append((f"environment of process {process.pid}", values))
    return sources


def _read_files(
    paths: Sequence[str], *, optional: Sequence[str], user: safe_open.Rights, timeout: float
) -> Tuple[List[Tuple[str, Mapping[str, str]]], List[str]]:
    """Return the variables in environment files, and the problems. An inaccessible file does not block the others.

    An optional file that does not exist is not a problem.
    """

    def look(path: str) -> Dict[str, str]:
        if path in optional and not path_status.mode_of(path, user=user):
            return {}
        return env_file.read_environment_file(path)

    sources: List[Tuple[str, Mapping[str, str]]] = []
    problems = []
    questions = {path: functools.partial(look, path) for path in (*paths, *optional)}
    for path, part in parallel.ask(questions, timeout=timeout).items():
        if part.error is None:
            sources += [(path, part.value)] if part.value or path in paths else []
        elif part.error == parallel.TIMED_OUT:
            problems.append(f"Cannot read the environment file {path}: no response in time")
        else:
            problems.append(part.error.partition(": ")[2])
    return sources, problems


def environment(question: Question) -> Dict[str, Any]:
    """Return the names of the service's variables, without the values, and the paths that the variables define."""
    service = question.service
    sources = running = _process_environments(question)
    files = [service.path(service.environment_file)] if service.environment_file else []
    if service.manager == "systemd":
        unit_sources, unit_files = _unit_environment(question)
        sources = [*sources, *unit_sources]
        files.extend(path for path in unit_files if path not in files)
    # Many applications read a .env file themselves (dotenv). Variables that are already set take precedence over this
    # file.
    own = [path for path in map(service.path, environment_names.OWN_FILES) if path not in files]
    file_sources, problems = _read_files(files, optional=own, user=rights_of(service), timeout=question.left * 0.8)
    sources = [*sources, *file_sources]

    def first(wanted: Any) -> Tuple[Optional[str], Optional[str]]:
        """Return the value of the first variable with a matching name, and its source."""
        for source, values in sources:
            for name, value in values.items():
                if value and wanted(name):
                    return value, f"{name}, {source}"
        return None, None

    def path_of(wanted: Any) -> Dict[str, Optional[str]]:
        value, source = first(wanted)
        return {"path": service.path(value) if value else None, "source": source}

    database = path_of(lambda name: name == service.db_path_variable)
    names = {name for _source, values in sources for name, value in values.items() if value}
    # Report missing variables only if all variables are known. This is the case if the process is running, or if every
    # file was read.
    told = bool(running) or (bool(sources) and not problems)
    heap = _HEAP.search(first(lambda name: name == "NODE_OPTIONS")[0] or "")
    return found(
        {
            "names": sorted({name for _source, values in sources for name in values})[:MOST_NAMES],
            "sources": [source for source, _values in sources],
            "required_missing": sorted(set(service.required_environment) - names) if told else None,
            "database_path": database["path"],
            "database_path_source": database["source"],
            "certificate": path_of(environment_names.names_certificate),
            "key": path_of(environment_names.names_key),
            "max_old_space_size": int(heap.group(1)) if heap else None,
            "problems": problems,
        },
        secrets=[value for _source, values in sources for value in redact.secret_values(values)],
    )
