# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage of the service: its unit, its environment, its processes, its ports and what they answer."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import socket
import ssl
import stat
import threading
import time
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_certificate
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    file,
    found,
    identity,
    read,
    service_processes,
    status_fields,
    user_name,
)

_MOST_FILES = 500
_MOST_OTHERS = 8

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
# What systemd writes for "not set" where another number is meant.
_UNSET = (1 << 64) - 1
# In microseconds: no host runs for longer.
_CENTURY = 100 * 366 * 86400 * 1_000_000

_DATABASE_NAMES = (".db", ".sqlite", ".sqlite3")
_DELETED = " (deleted)"
# Devices and the like, and temporary files that never had a name (open(2), O_TMPFILE).
_NO_NAME = re.compile(r"/(?:dev|proc)/|/memfd:|.*/#\d+\Z")

_OWN_FILES = (".env", "backend/.env")

_HEAP = re.compile(r"--max[-_]old[-_]space[-_]size[= ](\d{1,9})")


def unit(question: Question) -> Dict[str, Any]:
    """Ask systemd about the unit."""
    raw = procfs.unit_properties(question.service.unit, _UNIT_PROPERTIES, run=question.command)
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
            # Whether its paths or its user exist inside of the unit only.
            "confined": bool(raw.get("RootDirectory") or raw.get("RootImage")) or raw.get("DynamicUser") == "yes",
            # systemd marks a folder that may be missing, and a home folder, by another first character.
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
    """Return the variables that the unit sets itself, and the files it has more of them in."""
    unit_name = question.service.unit
    try:
        raw = procfs.unit_properties(unit_name, ["Environment", "EnvironmentFiles"], run=question.command)
        words = shlex.split(raw.get("Environment", ""))
    except (procfs.ProcfsError, ValueError):  # part "unit" says what is wrong with systemd
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
    paths: Sequence[str], *, optional: Sequence[str], timeout: float
) -> Tuple[List[Tuple[str, Mapping[str, str]]], List[str]]:
    """Return the variables of environment files, and what was wrong with which; one on a dead mount costs itself.

    Of the C(optional) ones, those that are not there are none.
    """

    def look(path: str) -> Dict[str, str]:
        if path in optional and not os.path.exists(path):
            return {}
        return env_file.read_environment_file(path)

    sources: List[Tuple[str, Mapping[str, str]]] = []
    problems = []
    questions = {path: functools.partial(look, path) for path in (*paths, *optional)}
    for path, part in parallel.ask(questions, timeout=timeout).items():
        if part.error is None:
            sources += [(path, part.value)] if part.value or path in paths else []
        elif part.error == parallel.TIMED_OUT:
            problems.append(f"Cannot read the environment file {path}: no answer in time")
        else:
            problems.append(part.error.partition(": ")[2])
    return sources, problems


def environment(question: Question) -> Dict[str, Any]:
    """Read which variables the service has: their names only, and the paths it takes from them."""
    service = question.service
    sources = running = _process_environments(question)
    files = [service.path(service.environment_file)] if service.environment_file else []
    if service.manager == "systemd":
        unit_sources, unit_files = _unit_environment(question)
        sources = [*sources, *unit_sources]
        files.extend(path for path in unit_files if path not in files)
    # What many applications read by themselves (dotenv); what is set already counts before it.
    own = [path for path in map(service.path, _OWN_FILES) if path not in files]
    file_sources, problems = _read_files(files, optional=own, timeout=question.left * 0.8)
    sources = [*sources, *file_sources]

    def first(wanted: Any) -> Tuple[Optional[str], Optional[str]]:
        """Return the value of the first variable whose name fits, and where it is set."""
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
    # What a file that could not be read sets is not missing.
    told = bool(running) or (bool(sources) and not problems)
    heap = _HEAP.search(first(lambda name: name == "NODE_OPTIONS")[0] or "")
    return found(
        {
            "names": sorted({name for _source, values in sources for name in values}),
            "sources": [source for source, _values in sources],
            "required_missing": sorted(set(service.required_environment) - names) if told else None,
            "database_path": database["path"],
            "database_path_source": database["source"],
            "certificate": path_of(collect_certificate.names_certificate),
            "key": path_of(collect_certificate.names_key),
            "max_old_space_size": int(heap.group(1)) if heap else None,
            "problems": problems,
        },
        secrets=[value for _source, values in sources for value in redact.secret_values(values)],
    )


def _limits(text: str) -> Dict[str, Optional[int]]:
    """Return the soft limits that a file C(/proc/PID/limits) tells; C(None) is unlimited."""
    limits = {}
    for line in text.splitlines()[1:]:
        name, soft = line[:26].strip(), line[26:].split()
        if soft:
            limits[name] = int(soft[0]) if soft[0].isdecimal() else None
    return limits


def _open_files(pid: int) -> Tuple[int, List[Tuple[str, str]]]:
    """Return how many descriptors a process has, and (number, target) of the first of them."""
    folder = f"/proc/{pid}/fd"
    numbers = sorted(os.listdir(folder), key=int)
    files = []
    for name in numbers[:_MOST_FILES]:
        with contextlib.suppress(OSError):
            files.append((name, os.readlink(f"{folder}/{name}")))
    return len(numbers), files


def _written(pid: int, descriptor: str) -> bool:
    """Whether a descriptor is open for writing (proc_pid_fdinfo(5): C(flags) in octal, as for open(2))."""
    with contextlib.suppress(OSError, ValueError):
        flags = int(status_fields(read(f"/proc/{pid}/fdinfo/{descriptor}")).get("flags", "0"), 8)
        return flags & os.O_ACCMODE != os.O_RDONLY
    return False


def _kinds_of_files(pid: int, files: Sequence[Tuple[str, str]]) -> Dict[str, Any]:
    """Tell apart what a process has open: databases, logs, and files that are gone but still take room.

    Only what /proc says itself is asked for: to look at the file may mean to wait for a dead disk.
    """
    databases, logs, deleted = set(), set(), []
    for descriptor, target in files:
        path = target[: -len(_DELETED)] if target.endswith(_DELETED) else target
        if not path.startswith("/") or _NO_NAME.match(path):
            continue
        if path.endswith(_DATABASE_NAMES):
            databases.add(path)
        elif _written(pid, descriptor) and (path.endswith(".log") or descriptor in ("1", "2")):
            logs.add(path)
        if target != path:
            deleted.append({"path": path, "descriptor": int(descriptor)})
    return {"open_databases": sorted(databases), "open_logs": sorted(logs), "deleted_files": deleted}


def _sizes(pid: int, deleted: Sequence[Dict[str, Any]]) -> Dict[str, Optional[int]]:
    sizes: Dict[str, Optional[int]] = {}
    for item in deleted:
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/fd/{item['descriptor']}")
            sizes[str(item["descriptor"])] = status.st_size if stat.S_ISREG(status.st_mode) else None
    return sizes


def _look_at(item: procfs.Process, *, keep: bool) -> Tuple[Dict[str, Any], List[Dict[str, Any]]]:
    """Return the facts of one process and its files for the bundle. Raises OSError where it has ended meanwhile."""
    folder = f"/proc/{item.pid}"
    status = read(f"{folder}/status")
    fields = status_fields(status)
    texts = {}
    for name in ("wchan", "limits", "oom_score", "stack"):
        texts[name] = ""
        with contextlib.suppress(OSError):  # not everything is everybody's to read
            texts[name] = read(f"{folder}/{name}")
    count: Optional[int] = None
    files: List[Tuple[str, str]] = []
    with contextlib.suppress(OSError):
        count, files = _open_files(item.pid)
    kinds = _kinds_of_files(item.pid, files)
    if kinds["deleted_files"]:
        sizes = parallel.ask({"sizes": functools.partial(_sizes, item.pid, kinds["deleted_files"])}, timeout=0.5)[
            "sizes"
        ]
        kinds["deleted_files"] = [
            {"path": entry["path"], "size": (sizes.value or {}).get(str(entry["descriptor"]))}
            for entry in kinds["deleted_files"]
        ]
    limits = _limits(texts["limits"])

    def size(name: str) -> int:
        return int(fields.get(name, "0 kB").split()[0]) * 1024

    facts = {
        "pid": item.pid,
        "start_ticks": item.start_ticks,
        "ppid": item.ppid,
        "exe": item.exe,
        "cwd": item.cwd,
        "argv": item.argv,
        "user": user_name(item.uid),
        "state": item.state,
        "started_at": item.started_at,
        "rss": size("VmRSS"),
        "rss_peak": size("VmHWM"),
        "swap": size("VmSwap"),
        "threads": int(fields.get("Threads", "0")),
        "open_files": count,
        "open_files_max": limits.get("Max open files"),
        "core_max": limits.get("Max core file size"),
        "wait_channel": texts["wchan"] if texts["wchan"] not in ("", "0") else None,
        "oom_score": int(texts["oom_score"]) if texts["oom_score"].strip().isdecimal() else None,
        **kinds,
    }
    if not keep:
        return facts, []
    names = "\n".join(target for _descriptor, target in files)
    parts = [status, *(f"{name}:\n{text}" for name, text in texts.items() if text), f"open files:\n{names}\n"]
    source = f"{folder}/{{status,{','.join(texts)},fd}}"
    return facts, [file(f"process-{item.pid}.txt", source, "\n".join(parts))]


def process(question: Question) -> Dict[str, Any]:
    """Look at the service's processes."""
    facts, evidence, secrets = [], [], []
    for item in service_processes(question):
        values = procfs.environment(item.pid) or {}
        secrets += redact.secret_values(values) + redact.secret_arguments(item.argv)
        with contextlib.suppress(OSError):  # it may end while it is looked at
            facts_of_it, files = _look_at(item, keep=question.keep)
            facts.append(facts_of_it)
            evidence.extend(files)
    return found(
        {"state": "running" if facts else "gone", "processes": facts},
        evidence=evidence,
        secrets=secrets,
    )


def _opened(question: Question, kind: str) -> List[str]:
    """Return the files of that kind that the service has open."""
    return [path for item in question.known.get("processes", ()) for path in item[kind]]


def used_database(question: Question, *, links: bool) -> Tuple[str, str]:
    """Return the database that the service really uses, and how that is known.

    A database that it has open comes before that of its variables, and that before the configured one. Links of the
    service's user stay in the path, so that the next step sees them. The user may name the database of somebody else,
    to have us work on that one: such a name does not count. C(links): whether links may be looked at; not on a disk
    that does not answer.
    """
    service, known = question.service, question.known
    real: Callable[[str], str] = os.path.realpath if links else os.path.normpath
    place: Callable[[str], str] = safe_open.follow_ours if links else os.path.normpath
    configured = service.path(service.db_path)
    names = _opened(question, "open_databases")
    if real(configured) in names:
        return place(configured), "open in the running process"
    claims = [(name, "open in the running process") for name in names]
    if known.get("database_path"):
        claims.append((place(known["database_path"]), str(known.get("database_path_source"))))
    for path, source in claims:
        if not links or real(path) == real(configured) or _may_be_theirs(path, user=service.user):
            return path, source
    return place(configured), "db_path"


def _may_be_theirs(path: str, *, user: str) -> bool:
    """Whether the service's user can exchange a file, or can at least write to it."""
    rights = safe_open.account_rights(user)
    if rights is None:
        return True
    with contextlib.suppress(OSError):
        if safe_open.rights_on(path, user=rights) is not None:
            return True
    with safe_open.acting(rights):
        return os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def _used_log(question: Question) -> Tuple[Optional[str], str]:
    names, configured = _opened(question, "open_logs"), os.path.realpath(question.service.log_file)
    return configured if configured in names else next(iter(names), None), "open in the running process"


def _used_folder(question: Question) -> Tuple[Optional[str], str]:
    processes = question.known.get("processes", ())
    folder, source = question.known.get("working_directory"), "the unit"
    if processes:
        folder, source = processes[0]["cwd"], "the running process"
    return (os.path.realpath(folder) if folder else None), source


def paths(question: Question, *, what: str) -> Dict[str, Any]:
    """See which path the service really uses, against the one that is configured here."""
    service = question.service
    if what == "database":
        effective: Optional[str]
        configured = service.path(service.db_path)
        effective, source = used_database(question, links=True)
    elif what == "log":
        configured = service.log_file
        effective, source = _used_log(question)
    else:
        configured = service.app_dir
        effective, source = _used_folder(question)
    same = None if effective is None else os.path.realpath(effective) == os.path.realpath(configured)
    return found(
        {
            "what": what,
            "configured": safe_open.follow_ours(configured),
            "effective": effective,
            "source": source,
            "same": same,
        }
    )


def ports(question: Question) -> Dict[str, Any]:
    """See who listens on the configured ports, and on which ports the service itself does."""
    configured = (question.service.https_port, question.service.http_port)
    ours = {item.pid for item in service_processes(question)}
    redactor = question.redactor
    facts = []
    for listener in procfs.listeners(range(1, 65536) if ours else configured):
        if listener.port not in configured and not ours.intersection(listener.pids):
            continue
        owners = []
        for pid in listener.pids:
            owner = procfs.read_process(pid)
            if owner is not None:
                owners.append(identity(owner, ours=pid in ours, redactor=redactor))
        facts.append({"port": listener.port, "address": listener.address, "owners": owners})
    return found(facts)


def _ask_port(address: str, port: int, *, tls: bool, timeout: float) -> Dict[str, Any]:
    """Send one request, see whether anything comes back (any status will do), and with TLS keep the certificate."""
    started = time.monotonic()
    result: Dict[str, Any] = {"answered": False, "status": None, "error": None, "certificate": None}
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104
    try:
        with contextlib.ExitStack() as stack:
            link: socket.socket = stack.enter_context(socket.create_connection((target, port), timeout=timeout))
            if tls:
                # What is served is looked at, not trusted.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                secure = stack.enter_context(context.wrap_socket(link))
                der = secure.getpeercert(binary_form=True)
                if der:
                    result["certificate"] = collect_certificate.described(der)
                link = secure
            link.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = link.recv(64)
            match = re.match(rb"HTTP/[\d.]+ (\d{3})", answer)
            result["answered"] = bool(answer)
            result["status"] = int(match.group(1)) if match else None
    except (OSError, ValueError, x509.CertificateError) as error:
        result["error"] = str(error)
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def answer(question: Question) -> Dict[str, Any]:
    """See whether the ports that are listened on give an answer."""
    service = question.service
    ports_asked = {name: port for name, port in (("https", service.https_port), ("http", service.http_port)) if port}
    listening = {listener.port: listener for listener in reversed(procfs.listeners(ports_asked.values()))}
    facts: Dict[str, Any] = {}

    def look(name: str, port: int) -> None:
        seen: Dict[str, Any] = {"port": port, "listening": port in listening}
        if port in listening:
            address = listening[port].address
            seen.update(_ask_port(address, port, tls=name == "https", timeout=question.patience))
        facts[name] = seen

    def look_elsewhere(address: str, port: int) -> None:
        # Whoever shows a certificate speaks TLS.
        if _ask_port(address, port, tls=True, timeout=question.patience)["certificate"]:
            facts["tls_elsewhere"].append(port)

    threads = [threading.Thread(target=look, args=asked) for asked in ports_asked.items()]
    if service.https_port and service.https_port not in listening:
        facts["tls_elsewhere"] = []
        others = {item.port: item.address for item in _others(question, configured=ports_asked.values())}
        threads += [threading.Thread(target=look_elsewhere, args=(others[port], port)) for port in sorted(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found(facts)


def _others(question: Question, *, configured: Collection[int]) -> List[procfs.Listener]:
    """Return the first sockets of the service itself that listen on other ports than the configured ones."""
    ours = {item.pid for item in service_processes(question)}
    every = procfs.listeners(range(1, 65536)) if ours else []
    return [item for item in every if item.port not in configured and ours.intersection(item.pids)][:_MOST_OTHERS]


def health(question: Question) -> Dict[str, Any]:
    """Ask for its health what the detection asks, as it asks: that is what the service is called down by."""
    service = question.service
    ports_asked = (("https", service.https_port), ("http", service.http_port))
    targets = [
        probe_plan.Target(name=name, url=f"{name}://localhost:{port}{service.health_path}")
        for name, port in ports_asked
        if port
    ]
    answers = http_probe.probe(targets, timeout=question.patience, ok_statuses=service.health_ok_statuses)
    return found([{name: item[name] for name in ("name", "url", "ok", "status", "error")} for item in answers])
