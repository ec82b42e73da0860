# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage: everything a person would look at during an outage, read in one pass, bounded in time and in size.

Each part is one function that takes a L(Question) and returns what L(_found) makes of it; it runs in a process of its
own (see L(_parts)). What the facts mean is not decided here but in L(_findings).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import stat
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import (
    _clock,
    _command,
    _environment,
    _evidence,
    _findings,
    _logtext,
    _parts,
    _procfs,
    _redact,
    _sqlite_check,
    _x509,
)

_LOG_BYTES = 512 * 1024
_JOURNAL_LINES = 2000
_MOST_FILES = 500

# The first questions tell the others where to look; they read only systemd, /proc and small files.
_EARLY_SHARE = 0.15
# What is kept back of the deadline for the findings and the bundle.
_LAST_SHARE = 0.1

_EXIT_CODES = {"1": "exited", "2": "killed", "3": "dumped"}

_UNIT_PROPERTIES = (
    "LoadState",
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
    "LimitNOFILE",
    "ControlGroup",
    "FragmentPath",
    "User",
    "ActiveEnterTimestampMonotonic",
    "ActiveExitTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
)

_KILLED = re.compile(r"[Kk]illed process (\d+),? \(([^)]*)\)")
_OOM = re.compile(r"out of memory|oom-kill|oom_kill|oom_reaper|invoked oom-killer", re.IGNORECASE)
_SECONDS_SINCE_BOOT = re.compile(r"^\[\s*(\d+\.\d+)\]")
_SECONDS_SINCE_EPOCH = re.compile(r"^(\d{9,}\.\d+) ")
_JOURNAL = re.compile(r"^(\d+\.\d+) \S+ ([^\s\[:]+)(?:\[\d+\])?: ?(.*)$")

_DATABASE_NAMES = (".db", ".sqlite", ".sqlite3")


class TriageError(Exception):
    """The pass could not be made at all."""


@dataclasses.dataclass(frozen=True)
class Service:
    """The service as its variables describe it; relative paths are seen from C(app_dir)."""

    app_dir: str
    command: Sequence[str]
    manager: str
    unit: str
    user: str
    db_path: str
    log_file: str
    environment_file: str
    pid_file: str
    tls_cert_path: str
    https_port: int
    http_port: int
    state_dir: str

    def path(self, path: str) -> str:
        """Return C(path) absolute."""
        return os.path.join(self.app_dir, path)


@dataclasses.dataclass(frozen=True)
class Question:
    """What a part needs to know: the service, since when, how long it may take, what was found before it."""

    service: Service
    run: _command.Runner
    since: float
    budget: float
    log_lines: int
    kernel_log_command: Sequence[str]
    # Whether to hand over what goes into the evidence bundle.
    keep: bool
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def command(self, argv: Sequence[str], **_ignored: Any) -> _command.Completed:
        """Run a command within this part's time."""
        environment = {"PATH": _procfs.STANDARD_PATH, "LC_ALL": "C", "TZ": "UTC"}
        return self.run(list(argv), timeout=self.budget, env=environment)


def _found(facts: Any, *, evidence: Iterable[Mapping[str, Any]] = (), secrets: Iterable[str] = ()) -> Dict[str, Any]:
    """What a part found: facts, files for the bundle, and values that must not appear anywhere."""
    return {"facts": facts, "evidence": list(evidence), "secrets": list(secrets)}


def _file(name: str, source: str, text: str, *, truncated: bool = False) -> Dict[str, Any]:
    return {"name": name, "source": source, "text": text, "truncated": truncated}


def _read(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read().decode("utf-8", "replace")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _service_processes(question: Question) -> List[_procfs.Process]:
    """Return the service's processes: by their command, and the unit's main process whatever its command is."""
    service = question.service
    found = _procfs.service_processes(app_dir=service.app_dir, command=service.command)
    main = int(question.known.get("main_pid") or 0)
    if main and main not in [process.pid for process in found]:
        process = _procfs.read_process(main)
        if process is not None and process.alive:
            found.append(process)
    return found


def unit(question: Question) -> Dict[str, Any]:
    """Ask systemd about the unit."""
    raw = _procfs.unit_properties(question.service.unit, _UNIT_PROPERTIES, run=question.command)
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)

    def at(name: str) -> Optional[str]:
        microseconds = int(raw.get(f"{name}TimestampMonotonic") or 0)
        return _clock.iso(boot + microseconds / 1e6) if microseconds else None

    def number(name: str) -> Optional[int]:
        text = raw.get(name, "")
        return int(text) if text.isdigit() else None

    return _found(
        {
            "name": question.service.unit,
            "load_state": raw.get("LoadState"),
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
            "open_files_max": number("LimitNOFILE"),
            "control_group": raw.get("ControlGroup") or None,
            "file": raw.get("FragmentPath") or None,
            "user": raw.get("User") or None,
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
        raw = _procfs.unit_properties(unit_name, ["Environment", "EnvironmentFiles"], run=question.command)
        words = shlex.split(raw.get("Environment", ""))
    except (_procfs.ProcfsError, ValueError):  # part "unit" says what is wrong with systemd
        return [], []
    files = [re.sub(r" \(ignore_errors=\w+\)$", "", line) for line in raw.get("EnvironmentFiles", "").splitlines()]
    pairs = [word.partition("=") for word in words]
    return [(f"unit {unit_name}", {name: value for name, _equals, value in pairs})], [path for path in files if path]


def environment(question: Question) -> Dict[str, Any]:
    """Read which variables the service has: their names only, and the path of its database."""
    service = question.service
    problems = []
    sources: List[Tuple[str, Mapping[str, str]]] = []
    for process in _service_processes(question):
        values = _procfs.environment(process.pid)
        if values is not None:
            sources.append((f"environment of process {process.pid}", values))
    files = [service.path(service.environment_file)] if service.environment_file else []
    if service.manager == "systemd":
        unit_sources, unit_files = _unit_environment(question)
        sources.extend(unit_sources)
        files.extend(path for path in unit_files if path not in files)
    for path in files:
        try:
            sources.append((path, _environment.read_environment_file(path)))
        except _environment.EnvironmentFileError as error:
            problems.append(str(error))
    database = next(
        ((values["DATABASE_PATH"], source) for source, values in sources if values.get("DATABASE_PATH")), (None, None)
    )
    return _found(
        {
            "names": sorted({name for _source, values in sources for name in values}),
            "sources": [source for source, _values in sources],
            "database_path": database[0] and service.path(database[0]),
            "database_path_source": database[1],
            "problems": problems,
        },
        secrets=[value for _source, values in sources for value in _redact.secret_values(values)],
    )


def _status_fields(text: str) -> Dict[str, str]:
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in text.splitlines())}


def _open_files(pid: int) -> List[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in sorted(os.listdir(folder), key=int)[:_MOST_FILES]:
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"{folder}/{name}"))
    return found


def process(question: Question) -> Dict[str, Any]:
    """Look at the service's processes."""
    facts, evidence = [], []
    for item in _service_processes(question):
        folder = f"/proc/{item.pid}"
        with contextlib.suppress(OSError):  # it may end while it is looked at
            status = _read(f"{folder}/status")
            fields = _status_fields(status)
            wait_channel = ""
            with contextlib.suppress(OSError):
                wait_channel = _read(f"{folder}/wchan")
            files: List[str] = []
            with contextlib.suppress(OSError):
                files = _open_files(item.pid)
            databases = sorted({path for path in files if path.endswith(_DATABASE_NAMES)})
            facts.append(
                {
                    "pid": item.pid,
                    "ppid": item.ppid,
                    "exe": item.exe,
                    "cwd": item.cwd,
                    "argv": item.argv,
                    "user": _user_name(item.uid),
                    "state": item.state,
                    "started_at": item.started_at,
                    "rss": int(fields.get("VmRSS", "0 kB").split()[0]) * 1024,
                    "threads": int(fields.get("Threads", "0")),
                    "open_files": len(files),
                    "wait_channel": wait_channel if wait_channel not in ("", "0") else None,
                    "open_databases": databases,
                }
            )
            if question.keep:
                limits = ""
                with contextlib.suppress(OSError):
                    limits = _read(f"{folder}/limits")
                text = "\n".join([status, limits, "Open files:", *files, ""])
                evidence.append(_file(f"process-{item.pid}.txt", f"{folder}/{{status,limits,fd}}", text))
    return _found({"state": "running" if facts else "gone", "processes": facts}, evidence=evidence)


def ports(question: Question) -> Dict[str, Any]:
    """See who listens on the configured ports, and on which ports the service itself does."""
    configured = (question.service.https_port, question.service.http_port)
    ours = {item.pid for item in _service_processes(question)}
    facts = []
    for listener in _procfs.listeners(range(1, 65536) if ours else configured):
        if listener.port not in configured and not ours.intersection(listener.pids):
            continue
        owners = []
        for pid in listener.pids:
            owner = _procfs.read_process(pid)
            if owner is not None:
                line = " ".join(_redact.Redactor().argv(owner.argv))[:300] or owner.command
                owners.append({"pid": pid, "command": line, "user": _user_name(owner.uid), "ours": pid in ours})
        facts.append({"port": listener.port, "address": listener.address, "owners": owners})
    return _found(facts)


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
                    result["certificate"] = _certificate(der)
                link = secure
            link.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = link.recv(64)
            match = re.match(rb"HTTP/[\d.]+ (\d{3})", answer)
            result["answered"] = bool(answer)
            result["status"] = int(match.group(1)) if match else None
    except (OSError, ValueError, _x509.CertificateError) as error:
        result["error"] = str(error)
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def answer(question: Question) -> Dict[str, Any]:
    """See whether the ports that are listened on give an answer."""
    service = question.service
    ports_asked = {name: port for name, port in (("https", service.https_port), ("http", service.http_port)) if port}
    facts: Dict[str, Any] = {}

    def look(name: str, port: int) -> None:
        listening = _procfs.listeners([port])
        seen: Dict[str, Any] = {"port": port, "listening": bool(listening)}
        if listening:
            address = listening[0].address
            seen.update(_ask_port(address, port, tls=name == "https", timeout=question.budget * 0.5))
        facts[name] = seen

    threads = [threading.Thread(target=look, args=asked) for asked in ports_asked.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _found(facts)


def _mounts() -> List[Tuple[str, str, str]]:
    """Return (mount point, device, type) of every mount; later ones hide earlier ones at the same point."""
    found = []
    for line in _read("/proc/self/mounts").splitlines():
        device, point, kind = line.split()[:3]
        found.append((re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), point), device, kind))
    return found


def _existing(path: str) -> str:
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def disk(question: Question, *, path: str, use: str) -> Dict[str, Any]:
    """See how much room the file system that holds C(path) has; C(use) says what it is for."""
    place = os.path.realpath(_existing(path))
    room = os.statvfs(place)
    points = [mount for mount in _mounts() if place == mount[0] or place.startswith(mount[0].rstrip("/") + "/")]
    point, device, kind = max(points, key=lambda mount: len(mount[0]), default=("/", "", ""))
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    available = room.f_bavail * room.f_frsize
    return _found(
        {
            "use": use,
            "path": path,
            "mount": point,
            "device": device,
            "type": kind,
            "size": room.f_blocks * room.f_frsize,
            "available": available,
            "used_percent": round(100 * used / (used + available), 1) if used + available else 0.0,
            "inodes": room.f_files,
            "inodes_available": room.f_favail,
            "read_only": bool(room.f_flag & os.ST_RDONLY),
        }
    )


def memory(question: Question) -> Dict[str, Any]:
    """See how much memory there is, for the host and for the unit's control group."""
    fields = _status_fields(_read("/proc/meminfo"))

    def size(name: str) -> int:
        return int(fields.get(name, "0").split()[0]) * 1024

    facts: Dict[str, Any] = {
        "total": size("MemTotal"),
        "available": size("MemAvailable"),
        "swap_total": size("SwapTotal"),
        "swap_free": size("SwapFree"),
        "pressure": None,
        "control_group": {},
    }
    with contextlib.suppress(OSError):
        facts["pressure"] = _read("/proc/pressure/memory").splitlines()[0]
    group = question.known.get("control_group")
    for name in ("max", "current", "peak", "events"):
        with contextlib.suppress(OSError):
            if group:
                facts["control_group"][name] = _read(f"/sys/fs/cgroup{group}/memory.{name}").strip()
    return _found(facts)


def _kernel_commands(question: Question) -> List[Sequence[str]]:
    if question.kernel_log_command:
        return [question.kernel_log_command]
    since = f"@{question.since:.0f}"
    return [["journalctl", "-k", "-q", "--no-pager", "-o", "short-unix", "--since", since], ["dmesg"]]


def kernel(question: Question) -> Dict[str, Any]:
    """Look for the out-of-memory killer in the kernel's log."""
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    text, source, errors = "", None, []
    for argv in _kernel_commands(question):
        try:
            done = question.command(argv)
        except _command.CommandError as error:
            errors.append(str(error))
            continue
        if done.ok and done.stdout.strip():
            text, source = done.stdout, " ".join(argv)
            break
        if not done.ok:
            why = "no answer in time" if done.timed_out else done.stderr.strip()[:200] or f"rc {done.rc}"
            errors.append(f"{argv[0]}: {why}")
    lines = []
    for line in text.splitlines():
        since_boot, since_epoch = _SECONDS_SINCE_BOOT.match(line), _SECONDS_SINCE_EPOCH.match(line)
        at = (
            boot + float(since_boot.group(1))
            if since_boot
            else float(since_epoch.group(1))
            if since_epoch
            else _logtext.instant(line)
        )
        if _OOM.search(line) and (at is None or at >= question.since):
            killed = _KILLED.search(line)
            lines.append(
                {
                    "at": None if at is None else _clock.iso(at),
                    "text": line.strip()[:400],
                    "pid": int(killed.group(1)) if killed else None,
                    "name": killed.group(2) if killed else None,
                }
            )
    kept = [_file("kernel.txt", source, text[-_LOG_BYTES:], truncated=len(text) > _LOG_BYTES)] if source else []
    return _found(
        {"source": source, "out_of_memory": lines[-20:], "errors": [] if source else errors},
        evidence=kept if question.keep else (),
    )


def log(question: Question) -> Dict[str, Any]:
    """Read the end of the log file."""
    path = question.service.log_file
    try:
        status = os.stat(path)
        text, truncated = _logtext.tail(path, limit=_LOG_BYTES)
    except OSError as error:
        return _found({"path": path, "error": error.strerror})
    lines = _logtext.dated(text.splitlines())
    facts = {
        "path": path,
        "size": status.st_size,
        "written_at": _clock.iso(status.st_mtime),
        "lines": [line.text for line in lines[-question.log_lines :]],
        **_logtext.analyse(lines, since=question.since, written_at=status.st_mtime),
    }
    evidence = [_file(os.path.basename(path), path, text, truncated=truncated)] if question.keep else []
    return _found(facts, evidence=evidence)


def journal(question: Question) -> Dict[str, Any]:
    """Read the unit's journal."""
    service = question.service
    argv = ["journalctl", "-q", "--no-pager", "-o", "short-unix", "-n", str(_JOURNAL_LINES), "-u", service.unit]
    argv += ["--since", f"@{question.since:.0f}"]
    done = question.command(argv)
    if not done.ok:
        return _found({"error": "no answer in time" if done.timed_out else done.stderr.strip()[:200]})
    lines, managed = [], []
    shown = []
    for text in done.stdout.splitlines():
        match = _JOURNAL.match(text)
        if not match:
            continue
        at, who, message = float(match.group(1)), match.group(2), match.group(3)
        shown.append(f"{_clock.iso(at)} {who}: {message}"[:2000])
        if who == "systemd":
            managed.append({"at": _clock.iso(at), "text": message})
        else:
            lines.append(_logtext.Line(text=message[:2000], at=at, dated=True))
    facts = {
        "lines": shown[-question.log_lines :],
        "exits": [item for item in managed if "Main process exited" in item["text"]][-20:],
        "stops": [item for item in managed if re.match(r"(Stopping|Stopped) ", item["text"])][-20:],
        "results": [item for item in managed if "Failed with result" in item["text"]][-20:],
        "start_limit": [item for item in managed if "Start request repeated too quickly" in item["text"]][-1:],
        **_logtext.analyse(lines, since=question.since),
    }
    kept = [_file("journal.txt", " ".join(argv), "\n".join(shown) + "\n", truncated=len(shown) >= _JOURNAL_LINES)]
    return _found(facts, evidence=kept if question.keep else ())


def _certificate(der: bytes) -> Dict[str, Any]:
    facts = _x509.describe(der)
    begin, end = float(str(facts["not_before"])), float(str(facts["not_after"]))
    return {
        "not_before": _clock.iso(begin),
        "not_after": _clock.iso(end),
        "subject": facts["subject"],
        "expired": end < time.time(),
        "not_yet_valid": begin > time.time(),
    }


def certificate(question: Question) -> Dict[str, Any]:
    """Read the certificate's file, at last as the user the service runs as."""
    service = question.service
    path = service.path(service.tls_cert_path)
    facts: Dict[str, Any] = {"path": path, "error": None, "readable_by_service": None}
    try:
        facts.update(_certificate(_x509.from_pem(_read(path))))
    except OSError as error:
        facts["error"] = f"Cannot read {path}: {error.strerror}"
        return _found(facts)
    except _x509.CertificateError as error:
        facts["error"] = f"Cannot use {path}: {error}"
        return _found(facts)
    with contextlib.suppress(_command.CommandError):  # not root: what another user can read is not ours to try
        become = _command.drop_to(service.user)
        if become is not None:
            become()  # this process answers this one question and ends
        facts["readable_by_service"] = os.access(path, os.R_OK)
    return _found(facts)


def database_path(service: Service, known: Mapping[str, Any]) -> Tuple[str, str]:
    """Return the database the service really uses, and how that is known: what it has open beats what is configured."""
    configured = os.path.realpath(service.path(service.db_path))
    opened = [path for item in known.get("processes", ()) for path in item["open_databases"]]
    if opened:
        return (configured if configured in opened else opened[0]), "open in the running process"
    variable = known.get("database_path")
    if variable:
        return os.path.realpath(variable), f"DATABASE_PATH, {known.get('database_path_source')}"
    return configured, "db_path"


def database(question: Question) -> Dict[str, Any]:
    """Check the database the service really uses, the quick way, and count its rows."""
    path = question.known["database"][0]
    # A little less than this part has: what is found by then is an answer, a part given up is none.
    budget = question.budget * 0.9
    return _found(
        _sqlite_check.check(
            path=path, checks=["quick"], row_counts=True, time_budget=budget, busy_timeout=min(1.0, budget)
        )
    )


def cores(question: Question) -> Dict[str, Any]:
    """List core dumps."""
    places = [os.path.join(question.service.app_dir, "core"), os.path.join(question.service.app_dir, "core.*")]
    places += ["/tmp/core.*", "/var/lib/systemd/coredump/core.*"]  # noqa: S108
    facts = []
    for path in (found for place in places for found in glob.glob(place)):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_mtime >= question.since:
                facts.append({"path": path, "size": status.st_size, "at": _clock.iso(status.st_mtime)})
    return _found(sorted(facts, key=lambda item: str(item["at"]))[-20:])


def node(question: Question) -> Dict[str, Any]:
    """See which Node runs the service, and whether what it is to run is there."""
    service = question.service
    program = _procfs.find_program(service.command[0], app_dir=service.app_dir) or shutil.which(service.command[0])
    facts: Dict[str, Any] = {
        "path": program,
        "version": None,
        "engines": None,
        "script": None,
        "script_exists": None,
        "modules_exist": os.path.isdir(service.path("node_modules")),
        "dependencies": 0,
    }
    if program:
        done = question.command([program, "--version"])
        facts["version"] = done.stdout.strip()[:40] if done.ok else None
    script = next((word for word in service.command[1:] if not word.startswith("-")), None)
    if script:
        facts["script"] = service.path(script)
        facts["script_exists"] = os.path.isfile(service.path(script))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        package = json.loads(_read(service.path("package.json")))
        facts["engines"] = (package.get("engines") or {}).get("node")
        facts["dependencies"] = len(package.get("dependencies") or {})
    return _found(facts)


def files(question: Question) -> Dict[str, Any]:
    """List the folders of the application, its database and its log: names, sizes, owners, times. No content."""
    service = question.service
    folders = [service.app_dir, os.path.dirname(question.known["database"][0]), os.path.dirname(service.log_file)]
    text = []
    for folder in dict.fromkeys(folders):
        text.append(f"{folder}:")
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda item: item.name)[:_MOST_FILES]:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    owner = _user_name(status.st_uid)
                    text.append(
                        f"{stat.filemode(status.st_mode)} {owner:>12} {status.st_size:>12} "
                        f"{_clock.iso(status.st_mtime)} {entry.name}"
                    )
        text.append("")
    return _found({}, evidence=[_file("files.txt", ", ".join(dict.fromkeys(folders)), "\n".join(text))])


def signs(facts: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return the instants that say when the service was last well and when it no longer was, oldest first."""
    found: List[Dict[str, str]] = []

    def sign(at: Optional[str], kind: str, source: str) -> None:
        if at:
            found.append({"at": at, "kind": kind, "source": source})

    unit_facts, journal_facts = facts.get("unit") or {}, facts.get("journal") or {}
    state = unit_facts.get("active_state")
    if state not in (None, "active", "reloading"):
        name = unit_facts["name"]
        sign(unit_facts.get("exited_at") or unit_facts.get("active_exit_at"), "bad", f"unit {name}: main process ended")
    if state == "inactive":
        stops = journal_facts.get("stops", ())
        for item in ([item for item in stops if item["text"].startswith("Stopping ")] or stops)[-1:]:
            sign(item["at"], "bad", f"journal: {item['text'][:120]}")
    if state is not None:
        # systemd counts restarts since somebody last started the unit: the falls of this outage, not of earlier ones.
        falls = (unit_facts.get("restarts") or 0) + (state not in ("active", "reloading", "inactive"))
        for item in journal_facts.get("exits", ())[-falls:][: 1 if falls else 0]:
            sign(item["at"], "bad", f"journal: {item['text'][:120]}")
    for name in ("log", "journal"):
        part = facts.get(name) or {}
        sign(part.get("last_success_at"), "good", f"{name}: last request answered well")
        fatal = [item for item in part.get("exceptions", ()) if item["fatal"]]
        for item in fatal[:1]:
            sign(item["at"], "bad", f"{name}: {item['message'][:120]}")
    return sorted(found, key=lambda item: item["at"])


@dataclasses.dataclass
class _Pass:
    """What one pass has gathered so far."""

    facts: Dict[str, Any] = dataclasses.field(default_factory=dict)
    reports: Dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    secrets: List[str] = dataclasses.field(default_factory=list)

    def take(self, answers: Mapping[str, _parts.Answer]) -> None:
        for name, part in answers.items():
            self.reports[name] = part.report
            found = part.value if part.error is None else None
            kind, _colon, use = name.partition(":")
            if found is not None:
                self.evidence.extend(found["evidence"])
                self.secrets.extend(found["secrets"])
            facts = found["facts"] if found is not None else {"error": part.error}
            if use:
                self.facts.setdefault(kind, []).append(facts if found is not None else {"use": use, **facts})
            else:
                self.facts[kind] = facts


def _since(facts: Mapping[str, Any], *, window: float) -> float:
    """Return the instant from which on logs matter: C(window) seconds before the unit ended, or before now."""
    unit_facts = facts.get("unit") or {}
    ended = unit_facts.get("exited_at") or unit_facts.get("inactive_enter_at")
    if unit_facts.get("active_state") in ("failed", "inactive") and ended:
        return _clock.epoch(ended) - window
    return time.time() - window


def _late_parts(service: Service, *, folder: str) -> Dict[str, Callable[[Question], Dict[str, Any]]]:
    """Return the parts that need to know what the first ones found; C(folder) is the database's."""
    parts: Dict[str, Callable[[Question], Dict[str, Any]]] = {
        "ports": ports,
        "answer": answer,
        "memory": memory,
        "kernel": kernel,
        "log": log,
        "database": database,
        "cores": cores,
        "node": node,
        "files": files,
    }
    if service.manager == "systemd":
        parts["journal"] = journal
    if service.tls_cert_path:
        parts["certificate"] = certificate
    places = {
        "application": service.app_dir,
        "database": folder,
        "log": os.path.dirname(service.log_file),
        "state": service.state_dir,
        "temporary files": "/tmp",  # noqa: S108
    }
    for use, path in places.items():
        parts[f"disk:{use}"] = functools.partial(disk, path=path, use=use)
    return parts


def triage(
    *,
    service: Service,
    run: _command.Runner,
    deadline: float,
    part_timeout: float,
    window: float,
    log_lines: int,
    kernel_log_command: Sequence[str] = (),
    incident: str = "",
    save: bool = True,
    database_timeout: float = 300.0,
) -> Dict[str, Any]:
    """Look at everything once and return what module triage_info returns.

    The database alone is given longer, C(database_timeout) seconds, where it could not be judged by the deadline:
    nothing may be started on one that nobody has looked through.

    With C(incident) the evidence is written below C(service.state_dir); C(save=False) only says where it would be.
    Raises TriageError where the evidence cannot be written anywhere.
    """
    started = time.monotonic()
    done = _Pass()
    base = Question(
        service=service,
        run=run,
        since=time.time() - window,
        budget=part_timeout,
        log_lines=log_lines,
        kernel_log_command=kernel_log_command,
        keep=bool(incident) and save,
    )

    def ask(
        parts: Mapping[str, Callable[[Question], Dict[str, Any]]],
        *,
        timeout: float,
        known: Mapping[str, Any],
    ) -> None:
        # A part's own commands end before the part is given up, so that nothing is left running.
        question = dataclasses.replace(
            base, since=_since(done.facts, window=window), budget=timeout * 0.9, known=dict(known)
        )
        done.take(
            _parts.ask({name: functools.partial(part, question) for name, part in parts.items()}, timeout=timeout)
        )

    early = min(part_timeout, deadline * _EARLY_SHARE)
    known: Dict[str, Any] = {}
    if service.manager == "systemd":
        ask({"unit": unit}, timeout=early, known=known)
        known = {name: done.facts["unit"].get(name) for name in ("main_pid", "control_group")}
    ask({"process": process, "environment": environment}, timeout=early, known=known)
    known.update({name: done.facts["environment"].get(name) for name in ("database_path", "database_path_source")})
    known["processes"] = done.facts["process"].get("processes", [])
    path, source = database_path(service, known)
    known["database"] = (path, source)
    left = deadline * (1 - _LAST_SHARE) - (time.monotonic() - started)
    late = max(0.1, min(part_timeout, left))
    ask(_late_parts(service, folder=os.path.dirname(path)), timeout=late, known=known)
    if not done.facts["database"].get("conclusive"):
        ask({"database": database}, timeout=database_timeout, known=known)
    done.facts.pop("files", None)
    facts = done.facts
    facts["database"] = {
        **facts["database"],
        "path": path,
        "source": source,
        "configured": service.path(service.db_path),
    }
    facts["service"] = {
        "app_dir": service.app_dir,
        "app_dir_exists": os.path.isdir(service.app_dir),
        "manager": service.manager,
        "unit": service.unit,
        "pid_file_exists": os.path.exists(service.pid_file) if service.pid_file else None,
        "https_port": service.https_port,
        "http_port": service.http_port,
    }
    facts["window"] = {"since": _clock.iso(_since(facts, window=window)), "until": _clock.now()}
    redactor = _redact.Redactor(done.secrets)
    facts = redactor.value(facts)
    findings = [finding.as_dict() for finding in _findings.evaluate(facts)]
    result: Dict[str, Any] = {
        "findings": findings,
        "blocks_start": any(finding["blocks_start"] for finding in findings),
        "facts": facts,
        "bundle": None,
        "warnings": [],
        "parts": done.reports,
        "signs": signs(facts),
        "row_counts": facts["database"].get("row_counts") or {},
        "data_loss_suspected": bool(facts["database"].get("data_loss_suspected")),
    }
    if incident:
        summary = {name: result[name] for name in ("findings", "facts", "parts", "signs")}
        kept = [_file("triage.json", "this pass", json.dumps(summary, indent=2, sort_keys=True)), *done.evidence]
        try:
            saved = _evidence.save(
                files=kept, incident=incident, state_dir=service.state_dir, redact=redactor.text, dry_run=not save
            )
        except _evidence.EvidenceError as error:
            raise TriageError(str(error)) from error
        result["bundle"], result["warnings"] = saved.path, saved.warnings
    result["duration"] = round(time.monotonic() - started, 3)
    return result
