# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect the facts about the service on this host, and propose the variables of the inventory. Nothing is changed."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, parallel, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, from_dict, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import environment as settings
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery import files, network, propose, units
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.messages import DiscoveryError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, run_as
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names, open_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

# Time limit in seconds for access to the service's files, because they may be on a disk that does not respond.
_PATIENCE = 20.0
# The group "nogroup". No file should belong to this group.
_NO_GROUP = 65534


class _Running(NamedTuple):
    """The service's processes. node: the process that runs node. ancestor: the process that the unit started."""

    node: Optional[procfs.Process]
    ancestor: Optional[procfs.Process]
    pids: Sequence[int]
    databases: Sequence[str]
    logs: Sequence[str]
    outputs: Sequence[str]
    # True if this account cannot inspect the open files of the processes.
    hidden: bool = False


def _running(found: units.Found, *, proc_root: str) -> _Running:
    main = found.process
    group = ""
    if found.unit is not None:
        pid = service_process.main_pid(found.unit.properties)
        main = procfs.read_process(pid, proc_root=proc_root) if pid else None
        group = found.unit.properties.get("ControlGroup", "")
    if main is None or not main.alive:
        return _Running(None, None, [], [], [], [])
    processes = network.family(main, group, proc_root=proc_root)
    node = next((each for each in processes if units.is_node(each)), main)
    opened: Dict[str, Set[str]] = {"open_databases": set(), "open_logs": set()}
    outputs: List[str] = []
    hidden = False
    search = open_files.search()
    for process in processes:
        try:
            _count, listed = open_files.descriptors(process.pid, search)
        except OSError as error:  # the process has just exited, or this account cannot inspect it
            hidden = hidden or isinstance(error, PermissionError)
            continue
        for kind, paths in opened.items():
            paths.update(open_files.kinds(process.pid, listed)[kind])
        if process.pid == node.pid:
            outputs = [target for descriptor, target in listed if descriptor in ("1", "2")]
    logs = sorted(opened["open_logs"])
    return _Running(
        node=node,
        ancestor=main,
        pids=[process.pid for process in processes],
        databases=sorted(opened["open_databases"]),
        logs=logs,
        outputs=[path for path in dict.fromkeys(outputs) if path in logs],
        hidden=hidden,
    )


def _app_dir(found: units.Found, running: _Running) -> str:
    """Return the working directory of the service.

    The path from the unit is preferred, because it may be a link. If there is only a process, only the link's target is
    known.
    """
    if found.unit is not None and found.unit.folder.startswith("/"):
        return os.path.normpath(found.unit.folder)
    if running.node is not None and running.node.cwd:
        return running.node.cwd
    return found.folder


def _user(found: units.Found, running: _Running, app_dir: str) -> str:
    if running.node is not None:
        return run_as.name_of(running.node.uid)
    if found.unit is not None:
        named = found.unit.properties.get("User", "") or "root"
        return run_as.name_of(int(named)) if named.isdecimal() else named
    try:
        return run_as.name_of(_owner(app_dir))
    except OSError:
        return run_as.name_of(os.geteuid())


def _owner(folder: str) -> int:
    """Return the uid of a folder's owner. Raises OSError.

    If an account replaced the folder or one of its parents with a link, return this account. The owner of the link's
    target must not be returned, because the recovery would then run the account's programs as that owner.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        opened = os.readlink(f"/proc/self/fd/{descriptor}")
        stranger = safe_open.rights_on(folder) if opened != safe_open.follow_ours(folder) else None
        return stranger[0] if stranger else os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def _rights(user: str, running: _Running) -> safe_open.Rights:
    """Return the rights of the service's user. See safe_open.account_rights."""
    rights = safe_open.account_rights(user)
    if rights is None and running.node is not None and running.node.uid != 0 and os.getuid() == 0:
        return running.node.uid, _NO_GROUP  # the uid has no name
    return rights


def _read_environment(path: str) -> Dict[str, Any]:
    """Return the variables in a file, and whether only root can change the file.

    If the file cannot be read, return the reason and whether the file exists.
    """
    try:
        values = env_file.read_environment_file(path)
    except env_file.EnvironmentFileError as error:
        return {"why": error.told.to_dict(), "exists": os.path.lexists(path)}
    return {"values": values, "of_root": _is_of_root(path)}


def _is_of_root(path: str) -> bool:
    """Return True if only root can replace or change a file. Return False if this process does not run as root."""
    if os.getuid() != 0:
        return False
    with contextlib.suppress(OSError):  # several accounts could replace the file
        if safe_open.rights_on(path) is None:
            status = os.stat(path)
            return status.st_uid == 0 and not status.st_mode & 0o022
    return False


def _read_usual(path: str, rights: safe_open.Rights, *, given: bool) -> Dict[str, Any]:
    """Read a file as _read_environment does. Return {} if the file does not exist for the service's user.

    given: True for the file in the inventory. Other files are read with the rights of the service's user. Nothing
    proves that root chose them, because any account can start a process in a root-owned folder.
    """
    with safe_open.acting(rights):
        if not os.path.isfile(path):
            return {}
        if not given:
            return {**_read_environment(path), "exists": True, "of_root": False}
    return {**_read_environment(path), "exists": True}


class _Environment(NamedTuple):
    known: settings.Environment
    listed: List[str]
    own: List[str]
    unread: List[Tuple[str, Message]]


def _environment(
    found: units.Found, running: _Running, app_dir: str, *, given: str, rights: safe_open.Rights
) -> _Environment:
    """Read the environment from the process, the unit and the files, in this order of priority.

    given: the environment file in the inventory, or empty. This file is used only if there is no unit.
    """
    sources: List[settings.Source] = []
    process = procfs.environment(running.node.pid) if running.node else None
    if process:
        sources.append(settings.Source(settings.PROCESS, "", process))
    properties: Mapping[str, str] = found.unit.properties if found.unit else {}
    lines = properties.get("EnvironmentFiles", "").splitlines()
    required = env_file.required_files(properties.get("EnvironmentFiles", ""))
    listed = list(dict.fromkeys(path for line in lines for path in env_file.files_of(line)))
    usual = {name: os.path.normpath(os.path.join(app_dir, name)) for name in settings.USUAL_FILES}
    if given and found.unit is None:
        path = os.path.normpath(os.path.join(app_dir, given))
        usual = {path: path, **{name: each for name, each in usual.items() if each != path}}
    questions: Dict[str, Callable[[], Any]] = {path: functools.partial(_read_environment, path) for path in listed}
    questions.update(
        {
            name: functools.partial(_read_usual, path, rights, given=name == path)
            for name, path in usual.items()
            if path not in listed
        }
    )
    unread: List[Tuple[str, Message]] = []
    of_files: Dict[str, settings.Source] = {}
    answers = parallel.ask(questions, timeout=_PATIENCE)
    own = [name for name in usual if name in answers and answers[name].value]
    for path, answer in answers.items():
        if answer.error is not None:
            # For the usual files, add a single entry for the folder, because most of these files do not exist.
            late = (path if path in listed else app_dir, message("reason.host.late"))
            unread += [late] if late not in unread else []
        elif not answer.value:
            continue
        elif "why" in answer.value:
            if path in required or answer.value["exists"]:
                unread.append((path, from_dict(answer.value["why"])))
        else:
            of_files[path] = settings.Source(
                settings.FILE, path, answer.value["values"], of_root=answer.value["of_root"]
            )
    # systemd reads EnvironmentFile= after Environment=, and a later file overrides an earlier one.
    sources += [of_files[path] for path in reversed(listed) if path in of_files]
    inline = env_file.unit_environment({"Environment": properties.get("Environment", "")})
    if inline:
        sources.append(settings.Source(settings.UNIT, "", inline, of_root=True))
    sources += [of_files[name] for name in own if name in of_files]
    return _Environment(settings.Environment(sources), listed, own, unread)


def _paths(known: settings.Environment) -> Tuple[List[str], List[str], List[str]]:
    """Return paths from the environment: files to check, folders of logs, and folders of backups."""
    checked = [
        each.value
        for each in (known.first(environment_names.names_certificate), known.first(environment_names.names_key))
        if each is not None
    ]
    folders: Dict[str, List[str]] = {"LOG": [], "BACKUP": []}
    for kind, found in folders.items():
        for name in known.names:
            variable = known.get(name) if name.startswith(kind) else None
            if variable is not None:
                is_file = name.endswith("_FILE") or variable.value.endswith(".log")
                found.append(os.path.dirname(variable.value) if is_file else variable.value)
    return checked, folders["LOG"], folders["BACKUP"]


def _examined(running: _Running, environment: _Environment, app_dir: str) -> List[str]:
    """Return the paths that the service's user could have chosen, except those that the survey finds itself."""
    written = [*running.outputs, *running.logs]
    database = environment.known.get("DATABASE_PATH")
    named = [*environment.own, *([database.value] if database else [])]
    return [
        *written,
        *map(os.path.dirname, written),
        *running.databases,
        *(os.path.normpath(os.path.join(app_dir, each)) for each in named),
    ]


def _is_certain(found: units.Found, folder: str, *, configured: str) -> bool:
    """Return True if the unit or the inventory (configured) contains the application's folder."""
    of_unit = found.unit is not None and found.unit.folder.startswith("/")
    return of_unit or (configured != "" and os.path.normpath(configured) == folder)


def _missing_folder(configured: str, folder: str) -> str:
    """If the folder in the inventory (`configured`) does not exist, return its path. Otherwise, return an empty string.

    folder: the folder that was found.
    """
    if not configured or os.path.normpath(configured) == folder:
        return ""
    # The folder may be on a disk that does not respond.
    answer = parallel.ask({"configured": functools.partial(os.path.isdir, configured)}, timeout=_PATIENCE)
    return configured if answer["configured"].value is False else ""


def _missing_file(configured: str, folder: str) -> str:
    """If the file in the inventory (`configured`) does not exist, return its path. Otherwise, return an empty string.

    folder: the service's folder.
    """
    path = os.path.normpath(os.path.join(folder or "/", configured)) if configured else ""
    # The file may be on a disk that does not respond.
    answer = parallel.ask({"configured": functools.partial(os.path.isfile, path)}, timeout=_PATIENCE)
    return path if path and answer["configured"].value is False else ""


def _argv(found: units.Found, running: _Running) -> List[str]:
    """Return the command of the unit or of the process.

    The unit's command does not show which spaces are part of an argument.
    """
    of_unit = found.unit.argv if found.unit else []
    of_process = running.ancestor.argv if running.ancestor else []
    if not of_unit:
        return of_process
    same = " ".join(of_process[1:]) == " ".join(of_unit[1:])
    return [of_unit[0], *of_process[1:]] if of_process and same else of_unit


class _Answers(NamedTuple):
    """The ports on which the service listens, and the health and readiness responses. See Facts."""

    ports: Sequence[network.Port]
    health: Optional[Tuple[str, Optional[str]]]
    ready: Optional[str]


def _answers(running: _Running, known: settings.Environment, *, proc_root: str) -> _Answers:
    """Send requests to the ports of the running service. Raises DiscoveryError."""
    try:
        numbers = network.listening(running.pids, proc_root=proc_root) if running.pids else {}
    except procfs.HostError as error:
        raise DiscoveryError(error) from error
    https = known.get("HTTPS_PORT")
    ports = network.ports(numbers, tls_first={443, 6443, 8443, *([int(https.value)] if https else [])})
    speaking = sorted((port for port in ports if port.scheme), key=lambda port: port.scheme != "https")
    health = network.health_path(speaking[0]) if speaking else None
    return _Answers(ports, health, network.ready_path(speaking[0], health[0]) if health else None)


def discover(
    *,
    unit: str = "",
    app_dir: str = "",
    environment_file: str = "",
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
    root: str = "",
) -> Dict[str, Any]:
    """Return the proposed variables, the questions and the information. Raises DiscoveryError.

    unit, app_dir, environment_file: the values in the inventory, or empty. root: the folder that is searched for the
    configuration of proxies, "/" except in tests.
    """
    found = units.find(unit, app_dir=app_dir, run=run, proc_root=proc_root)
    running = _running(found, proc_root=proc_root)
    folder = _app_dir(found, running)
    user = _user(found, running, folder)
    rights = _rights(user, running)
    environment = _environment(found, running, folder, given=environment_file, rights=rights)
    known = environment.known
    checked, log_folders, backup_folders = _paths(known)
    node_env = known.get("NODE_ENV")
    survey = functools.partial(
        files.survey,
        files.Place(folder, rights, user),
        section=node_env.value if node_env else "development",
        known=known,
        paths=checked,
        unit=found.unit.name if found.unit else "",
        log_folders=log_folders,
        backup_folders=backup_folders,
        examined=_examined(running, environment, folder),
    )
    disk = parallel.ask({"disk": survey}, timeout=_PATIENCE)["disk"].value
    answers = _answers(running, known, proc_root=proc_root)
    facts = Facts(
        unit=found.unit,
        others=found.others,
        missing_unit=found.missing,
        running=running.node is not None,
        hidden=running.hidden,
        app_dir=folder,
        user=user,
        argv=_argv(found, running),
        program=(running.ancestor.exe if running.ancestor else None) or "",
        launcher=running.node is not None and running.ancestor is not None and not units.is_node(running.ancestor),
        environment=known,
        environment_files=environment.listed,
        own_files=environment.own,
        unread=environment.unread,
        databases=running.databases,
        logs=running.logs,
        outputs=running.outputs,
        ports=answers.ports,
        answer=answers.health,
        ready=answers.ready,
        proxies=network.proxies(propose.ports_to_find(answers.ports, known), root=root),
        disk=disk,
        missing_folder=_missing_folder(app_dir, folder),
        missing_environment_file=_missing_file(environment_file, folder),
        certain_folder=_is_certain(found, folder, configured=app_dir),
    )
    return {
        "service": {
            "manager": "systemd" if found.unit else "process",
            "unit": found.unit.name if found.unit else None,
            "running": facts.running,
            "app_dir": folder,
        },
        **propose.propose(facts).to_dict(),
    }
