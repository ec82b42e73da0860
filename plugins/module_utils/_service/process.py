# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting and stopping the service, under systemd or as a plain process, and never anything but the service.

A process is the service when it runs the command's executable in the service's folder and, besides, either is the one
the pid file names by pid and start time, or has every argument of the command and listens on one of the ports or
belongs to the service's user. Signals are sent through a descriptor of exactly that process where the kernel
offers one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import signal
import stat
import time
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import takeover

UNIT_PROPERTIES = (
    *takeover.PROPERTIES,
    "MainPID",
    "ControlGroup",
    "TimeoutStartUSec",
    "TimeoutStopUSec",
)
# Permissions that a file with secrets must not have: reading and writing by group and others.
OPEN_TO_OTHERS = 0o066
_UP = ("active", "reloading", "refreshing")
_AUTO_RESTART = "auto-restart"
_POLL = 0.02
_AFTER_KILL = 5.0
_START_TIMEOUT = 90.0
_MARGIN = 10.0
_ROUNDS = 3


class NodeProcessError(Exception):
    """The service could not be looked at, started or stopped; where a parameter is to blame, the message names it."""


@dataclasses.dataclass(frozen=True)
class Service:
    """What the service is; each field is the parameter of the same name."""

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


@dataclasses.dataclass(frozen=True)
class _Look:
    """The service as it is: its main process or processes, those started by hand beside a unit, the port's others."""

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
    """Return the name of a user, its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise NodeProcessError(f"user: there is no user {user or os.geteuid()!r} on this host") from None


def read_pid_file(path: str) -> Optional[Tuple[int, int]]:
    """Return pid and start ticks that a pid file names, C(None) where there is none or it says something else."""
    try:
        pid, start_ticks = (int(line) for line in safe_open.read(path, limit=64).decode("ascii").splitlines())
    except (OSError, ValueError):
        return None
    return pid, start_ticks


def is_hidden(service: Service) -> bool:
    """Whether this user may not see what the service's processes run: then none found does not mean none there."""
    return os.geteuid() not in (0, _account(service.user).pw_uid)


def find(service: Service, *, proc_root: str = "/proc") -> List[procfs.Process]:
    """Return the processes proved to be the service (see the top of this file), oldest first.

    Raises NodeProcessError.
    """
    uid = _account(service.user).pw_uid
    found: Dict[int, procfs.Process] = {}
    recorded = read_pid_file(service.pid_file) if service.pid_file else None
    if recorded is not None:
        process = procfs.read_process(recorded[0], proc_root=proc_root)
        if (
            process is not None
            and process.start_ticks == recorded[1]
            and procfs.runs_program(process, app_dir=service.app_dir, command=service.command)
        ):
            found[process.pid] = process
    try:
        candidates = procfs.service_processes(app_dir=service.app_dir, command=service.command, proc_root=proc_root)
        proved = [process for process in candidates if process.uid == uid]
        # Who listens is looked for only where it decides: that means to read every descriptor of every process.
        if len(proved) < len(candidates):
            sockets = procfs.listeners(service.ports, proc_root=proc_root)
            listening = {pid for listener in sockets for pid in listener.pids}
            proved = [process for process in candidates if process.uid == uid or process.pid in listening]
    except procfs.ProcfsError as error:
        raise NodeProcessError(str(error)) from error
    found.update({process.pid: process for process in proved})
    return sorted(found.values(), key=lambda process: (process.start_ticks, process.pid))


def _foreign(service: Service, ours: Set[int], *, group: str, proc_root: str) -> List[Dict[str, Any]]:
    """Return who else listens on the service's ports: neither the service, nor its children, nor in its unit."""
    found: List[Dict[str, Any]] = []
    try:
        listeners = procfs.listeners(service.ports, proc_root=proc_root)
    except procfs.ProcfsError as error:
        raise NodeProcessError(str(error)) from error
    for listener in listeners:
        if not listener.pids and listener.uid != _account(service.user).pw_uid:
            entry = {"pid": None, "port": listener.port, "command": "unknown", "user": user_name(listener.uid)}
            found.append(entry)
        for pid in listener.pids:
            process = procfs.read_process(pid, proc_root=proc_root)
            if process is None or pid in ours or process.ppid in ours or _in_group(pid, group, proc_root=proc_root):
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


def _in_group(pid: int, group: str, *, proc_root: str) -> bool:
    return bool(group) and any(
        name == group or name.startswith(f"{group}/") for name in procfs.control_groups(pid, proc_root=proc_root)
    )


def require_loaded(service: Service, properties: Mapping[str, str]) -> None:
    """Raise NodeProcessError where the unit that has these properties cannot be started."""
    load_state = properties.get("LoadState", "")
    if load_state != "loaded":
        what = "there is no such unit on this host" if load_state == "not-found" else f"it is {load_state or 'unknown'}"
        raise NodeProcessError(f"unit: {service.unit!r} must be a loaded unit; {what}")


def _unit_state(service: Service, *, run: commands.Runner) -> Dict[str, str]:
    try:
        properties = procfs.unit_properties(service.unit, UNIT_PROPERTIES, run=run)
    except procfs.ProcfsError as error:
        raise NodeProcessError(str(error)) from error
    require_loaded(service, properties)
    return properties


def main_pid(properties: Mapping[str, str]) -> int:
    """Return the pid of a unit's main process, 0 where none runs (a unit that waits to be restarted has none)."""
    pid = properties.get("MainPID", "0")
    return int(pid) if pid.isdecimal() and not waits_for_restart(properties) else 0


def waits_for_restart(properties: Mapping[str, str]) -> bool:
    """Whether systemd itself will start the unit again after its C(RestartSec)."""
    return properties.get("SubState", "").startswith(_AUTO_RESTART)


def _look(service: Service, *, run: commands.Runner, proc_root: str) -> _Look:
    found = find(service, proc_root=proc_root)
    properties: Dict[str, str] = {}
    main = found
    strays: List[procfs.Process] = []
    group = ""
    if service.manager == "systemd":
        properties = _unit_state(service, run=run)
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
    return _Look(
        main=main,
        strays=strays,
        foreign=_foreign(service, ours, group=group, proc_root=proc_root),
        properties=properties,
    )


def _refuse_foreign(look: _Look) -> None:
    if look.foreign:
        who = ", ".join(
            f"port {entry['port']} by pid {entry['pid'] or 'unknown'} ({entry['command']}, user {entry['user']})"
            for entry in look.foreign
        )
        raise NodeProcessError(
            f"Cannot start the service, another process listens on its port and is left alone: {who}"
        )


# Stopping


def _refuse_lost_database(service: Service) -> None:
    """Raise NodeProcessError where the service would throw away what only the WAL of its database holds.

    Opening an empty or new database file through SQLite deletes the WAL beside it, and services do that at their start.
    """
    if not service.db_path:
        return
    path = os.path.realpath(os.path.join(service.app_dir, service.db_path))
    sizes = []
    for name in (path, f"{path}-wal"):
        try:
            sizes.append(os.stat(name).st_size)
        except FileNotFoundError:
            sizes.append(0)
        except OSError as error:
            raise NodeProcessError(f"Cannot look at the database before the start: {error}") from error
    if sizes[0] == 0 and sizes[1] > 0:
        raise NodeProcessError(
            f"The service is not started: its database {path} is missing or empty, and the {sizes[1]} bytes in the "
            "-wal beside it would be lost"
        )


def _refuse_only_copy(service: Service, look: _Look) -> None:
    """Raise NodeProcessError if a process of the service holds the only copy of its database: its file was deleted."""
    if not service.db_path:
        return
    path = os.path.realpath(os.path.join(service.app_dir, service.db_path))
    for pid in look.pids:
        if procfs.holds_deleted(pid, path):
            raise NodeProcessError(
                f"The service is not stopped: process {pid} holds the only copy of its database {path}, whose file was "
                f"deleted. Copy it from /proc/{pid}/fd and the -wal with it, then stop the service by hand"
            )


def _send(process: procfs.Process, number: signal.Signals, *, proc_root: str) -> None:
    """Send a signal to exactly this process; nothing happens where it has ended, whoever has its pid now."""
    descriptor: Optional[int] = None
    try:
        if hasattr(os, "pidfd_open"):  # Python 3.9, Linux 5.3: closes the gap between the look and the signal
            with contextlib.suppress(OSError):
                descriptor = os.pidfd_open(process.pid)
        if not procfs.still_there(process, proc_root=proc_root):
            return
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise NodeProcessError(
            f"Cannot send {number.name} to pid {process.pid} of user {user_name(process.uid)}: {error.strerror}"
        ) from error
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for_end(pending: List[procfs.Process], *, until: float, ended: Dict[int, float], proc_root: str) -> None:
    """Wait until all of C(pending) have ended or the clock is past C(until); those that ended move to C(ended)."""
    while True:
        for process in list(pending):
            if not procfs.still_there(process, proc_root=proc_root):
                pending.remove(process)
                ended[process.pid] = time.monotonic()
        if not pending or time.monotonic() >= until:
            return
        time.sleep(_POLL)


def stop_processes(
    processes: Sequence[procfs.Process], *, timeout: float, proc_root: str = "/proc"
) -> List[Dict[str, Any]]:
    """End processes: TERM and CONT (a stopped one must run to see it), KILL after C(timeout) seconds.

    Returns C(pid), C(signal) (the last one sent) and C(seconds) of each. Raises NodeProcessError.
    """
    begun = time.monotonic()
    pending = list(processes)
    ended: Dict[int, float] = {}
    for process in pending:
        _send(process, signal.SIGTERM, proc_root=proc_root)
        _send(process, signal.SIGCONT, proc_root=proc_root)
    _wait_for_end(pending, until=begun + timeout, ended=ended, proc_root=proc_root)
    killed = {process.pid for process in pending}
    for process in pending:
        _send(process, signal.SIGKILL, proc_root=proc_root)
    _wait_for_end(pending, until=time.monotonic() + _AFTER_KILL, ended=ended, proc_root=proc_root)
    if pending:
        left = ", ".join(str(process.pid) for process in pending)
        raise NodeProcessError(f"Cannot stop pid {left}: still there {_AFTER_KILL:.0f} s after SIGKILL")
    return [
        {
            "pid": process.pid,
            "signal": "KILL" if process.pid in killed else "TERM",
            "seconds": round(ended[process.pid] - begun, 3),
        }
        for process in processes
    ]


# Starting a plain process


def read_environment(path: str) -> Dict[str, str]:
    """Return what an environment file sets. It holds secrets: one that others may read or change is refused.

    Raises NodeProcessError, which names the parameter.
    """
    try:
        values = env_file.read_environment_file(path)
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except env_file.EnvironmentFileError as error:
        raise NodeProcessError(f"environment_file: {error}") from error
    except OSError as error:
        raise NodeProcessError(f"environment_file: cannot read {path}: {error.strerror}") from error
    if mode & OPEN_TO_OTHERS:
        raise NodeProcessError(
            f"environment_file: {path} has mode {mode:04o}; it holds secrets, "
            "so neither group nor others may read or write it (0600)"
        )
    return values


@dataclasses.dataclass(frozen=True)
class _Launch:
    """All that a start needs, found out beforehand so that nothing is stopped for a start that cannot succeed."""

    program: str
    environment: Mapping[str, str]
    account: pwd.struct_passwd
    become: Optional[Callable[[], None]]


def _prepare(service: Service) -> _Launch:
    account = _account(service.user)
    try:
        # As without us: node may have a capability of its own, to listen on a low port.
        become = commands.drop_to(service.user, new_privileges=True)
    except commands.CommandError as error:
        raise NodeProcessError(f"user: {error}") from error
    if not os.path.isdir(service.app_dir):
        raise NodeProcessError(f"app_dir: {service.app_dir!r} is not a folder on this host")
    environment = {"PATH": procfs.STANDARD_PATH, "HOME": account.pw_dir, "LANG": "C.UTF-8"}
    if service.environment_file:
        environment.update(read_environment(service.environment_file))
    program = procfs.find_program(service.command[0], app_dir=service.app_dir, path=environment["PATH"])
    if program is None:
        raise NodeProcessError(f"command: there is no program {service.command[0]!r} in {environment['PATH']}")
    for name, path in (("log_file", service.log_file), ("pid_file", service.pid_file)):
        if not os.path.isabs(path) or os.path.isdir(path):
            raise NodeProcessError(f"{name}: {path!r} must be the absolute path of a file")
    folder = os.path.dirname(service.log_file)
    if not os.path.isdir(folder):
        raise NodeProcessError(f"log_file: the folder {folder} of {service.log_file} does not exist")
    return _Launch(program=program, environment=environment, account=account, become=become)


def _open_log(path: str, *, account: pwd.struct_passwd) -> int:
    """Open the log for appending; a new one belongs to the service's user.

    A link, a pipe or a file with a second name is refused: as root, we would write where that user may not.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
    try:
        try:
            descriptor = safe_open.open_any(path, flags | os.O_CREAT | os.O_EXCL, mode=0o640)
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        except FileExistsError:
            descriptor = safe_open.open_any(path, flags)
    except OSError as error:
        raise NodeProcessError(f"log_file: cannot append to {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not (stat.S_ISCHR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)):
        os.close(descriptor)
        raise NodeProcessError(f"log_file: {path} must be a plain file with one name")
    os.set_blocking(descriptor, True)
    return descriptor


def _exec(service: Service, launch: _Launch, *, log: int, report: int) -> NoReturn:
    """Become the service: own session, nobody's child, nothing inherited. What fails is written to C(report)."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(report, b"%d\n" % os.getpid())
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != report:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        for number in signal.valid_signals():  # Python ignores SIGPIPE, a session over ssh perhaps more
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        if launch.become is not None:
            launch.become()
        os.chdir(service.app_dir)
        os.execve(launch.program, list(service.command), dict(launch.environment))  # noqa: S606 - no shell is what we want
    except OSError as error:
        os.write(report, f"{error.strerror}: {error.filename or launch.program}".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _start(service: Service, launch: _Launch, *, proc_root: str) -> procfs.Process:
    """Start the service as a process of its own that outlives us, and record it in the pid file."""
    log = _open_log(service.log_file, account=launch.account)
    outcome, report = os.pipe()
    child = os.fork()
    if child == 0:
        _exec(service, launch, log=log, report=report)
    os.close(log)
    os.close(report)
    os.waitpid(child, 0)
    with os.fdopen(outcome, "rb") as stream:  # ends when the program runs: the descriptor is closed by exec
        pid, _separator, failure = stream.read().partition(b"\n")
    what = f"Cannot start {' '.join(service.command)!r} in {service.app_dir}"
    if failure or not pid:
        raise NodeProcessError(f"{what}: {failure.decode('utf-8', 'replace') or 'no process came up'}")
    process = procfs.read_process(int(pid), proc_root=proc_root)
    if process is None or not process.alive:
        raise NodeProcessError(f"{what}: it ended at once; see {service.log_file}")
    # Without it the process is found by what it runs: no reason to fail with a service that runs.
    with contextlib.suppress(OSError):
        atomic_files.private_folder(os.path.dirname(service.pid_file))
        atomic_files.write_atomically(
            service.pid_file, f"{process.pid}\n{process.start_ticks}\n".encode("ascii"), mode=0o644
        )
    return process


# systemd


def _systemctl(verb: str, service: Service, *, run: commands.Runner, timeout: float) -> None:
    try:
        done = run(["systemctl", "--no-ask-password", verb, "--", service.unit], timeout=timeout)
    except commands.CommandError as error:
        raise NodeProcessError(str(error)) from error
    if not done.ok:
        said = done.stderr.strip().splitlines()
        what = f"not done within {timeout:.0f} s" if done.timed_out else (said[0] if said else f"rc {done.rc}")
        raise _unit_error(verb, service, what, _unit_state(service, run=run))


def _unit_error(verb: str, service: Service, what: str, properties: Mapping[str, str]) -> NodeProcessError:
    state = " ".join(f"{name}={properties.get(name, '')}" for name in ("ActiveState", "Result", "ExecMainStatus"))
    return NodeProcessError(f"Cannot {verb} unit {service.unit}: {what} ({state}); see journalctl -u {service.unit}")


def _act_systemd(
    service: Service,
    look: _Look,
    *,
    state: str,
    stop_timeout: float,
    on_start: Callable[[], None],
    run: commands.Runner,
    proc_root: str,
) -> List[Dict[str, Any]]:
    """Start, stop or restart the unit; the service's processes beside it are ended, before it starts."""
    stop = procfs.timespan(look.properties.get("TimeoutStopUSec", "")) or stop_timeout
    start = procfs.timespan(look.properties.get("TimeoutStartUSec", "")) or _START_TIMEOUT
    if state == "stopped":
        stopped = _unit_stopped(service, look, "stop", run=run, timeout=stop + _MARGIN)
        return stopped + stop_processes(look.strays, timeout=stop_timeout, proc_root=proc_root)
    stopped = stop_processes(look.strays, timeout=stop_timeout, proc_root=proc_root)
    # Starts by hand count against the unit's start limit as well, so the count is cleared before each. Whether this
    # works is not asked: systemd refuses it for a stopped unit that it has dropped from memory, and with it the count.
    with contextlib.suppress(commands.CommandError):
        run(["systemctl", "--no-ask-password", "reset-failed", "--", service.unit], timeout=_MARGIN)
    verb = "restart" if state == "restarted" else "start"
    on_start()
    stopped += _unit_stopped(service, look, verb, run=run, timeout=stop + start + _MARGIN)
    return stopped


def _require_up(service: Service, look: _Look) -> None:
    """Raise NodeProcessError where the unit that was started a moment ago has ended already."""
    ended = look.properties.get("ActiveState") in ("failed", "inactive") or waits_for_restart(look.properties)
    if ended or (main_pid(look.properties) and not look.main):
        raise _unit_error("keep up", service, "it ended at once", look.properties)


def _unit_stopped(
    service: Service, look: _Look, verb: str, *, run: commands.Runner, timeout: float
) -> List[Dict[str, Any]]:
    """Run C(systemctl verb) and return what it ended: the unit's main process, by systemd's own signals."""
    begun = time.monotonic()
    _systemctl(verb, service, run=run, timeout=timeout)
    seconds = round(time.monotonic() - begun, 3)
    return [] if verb == "start" else [{"pid": p.pid, "signal": "systemd", "seconds": seconds} for p in look.main]


# The one question


def _is_up(service: Service, look: _Look) -> bool:
    if service.manager == "systemd":
        return look.properties.get("ActiveState") in _UP
    return bool(look.main)


def _is_down(service: Service, look: _Look) -> bool:
    if service.manager == "systemd" and look.properties.get("ActiveState") not in ("inactive", "failed"):
        return False  # a unit that waits for its restart has no process, and yet has to be stopped
    return not look.pids


def _has_begun(service: Service, look: _Look, *, since: Optional[float]) -> bool:
    """Say whether the service is up by a start after the second C(since) of the clock since boot."""
    return since is not None and _is_up(service, look) and all(process.began >= since for process in look.main)


def _act_process(
    service: Service,
    look: _Look,
    *,
    launch: Optional[_Launch],
    state: str,
    stop_timeout: float,
    on_start: Callable[[], None],
    proc_root: str,
) -> List[Dict[str, Any]]:
    stopped: List[Dict[str, Any]] = []
    if state != "started":
        remaining = look.main
        for _round in range(_ROUNDS):  # again for what a process started while it was ending
            stopped += stop_processes(remaining, timeout=stop_timeout, proc_root=proc_root)
            remaining = find(service, proc_root=proc_root)
            if not remaining:
                break
        else:
            again = remaining[0]
            raise NodeProcessError(
                f"Cannot stop the service: it came back {_ROUNDS} times, now as pid {again.pid}; "
                f"its parent, pid {again.ppid}, seems to restart it"
            )
        with contextlib.suppress(OSError):
            rights = safe_open.rights_on(service.pid_file, user=safe_open.account_rights(service.user))
            with safe_open.acting(rights):
                os.unlink(service.pid_file)
    if launch is not None:
        on_start()
        _start(service, launch, proc_root=proc_root)
    return stopped


def ensure(
    service: Service,
    *,
    state: str,
    stop_timeout: float = 30.0,
    on_start: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
    refused: str = "",
    since: Optional[float] = None,
    check_mode: bool = False,
    run: commands.Runner = commands.run,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """See to it that the service is C(started), C(stopped) or C(restarted), and return what the module returns.

    Returns once the process or unit is up, without waiting for it to answer. C(on_start) is called when everything is
    ready and the service is about to be started, whatever comes of it; C(on_stop) before it is stopped to stay so.
    C(refused): why it may not be started. C(since), on the clock since boot, is when an earlier call with the same
    purpose began that was ended before its answer: what it has restarted is not restarted again. Raises
    NodeProcessError.
    """
    begun = time.monotonic()
    before = _look(service, run=run, proc_root=proc_root)
    has_begun = state == "restarted" and _has_begun(service, before, since=since)
    if has_begun:
        state = "started"
    changed = {
        "started": not _is_up(service, before),
        "stopped": not _is_down(service, before),
        "restarted": True,
    }[state]
    launch: Optional[_Launch] = None
    if refused and state != "stopped" and changed:
        raise NodeProcessError(f"The service is not started. {refused}")
    if changed and state != "started":
        _refuse_only_copy(service, before)
    if changed and state == "stopped" and not check_mode:
        on_stop()
    if changed and state != "stopped":
        launch = _prepare(service) if service.manager == "process" else None
        _refuse_foreign(before)
        _refuse_lost_database(service)
    stopped: List[Dict[str, Any]] = []
    after = before
    if changed and not check_mode:
        if service.manager == "systemd":
            stopped = _act_systemd(
                service,
                before,
                state=state,
                stop_timeout=stop_timeout,
                on_start=on_start,
                run=run,
                proc_root=proc_root,
            )
        else:
            stopped = _act_process(
                service,
                before,
                launch=launch,
                state=state,
                stop_timeout=stop_timeout,
                on_start=on_start,
                proc_root=proc_root,
            )
        after = _look(service, run=run, proc_root=proc_root)
        if service.manager == "systemd" and state != "stopped":
            _require_up(service, after)
    would = check_mode and changed
    final = "stopped" if state == "stopped" else "started"
    return {
        "changed": changed or has_begun,
        "state": final,
        "pids_before": before.pids,
        "pids_after": [] if would else after.pids,
        "stopped": stopped,
        "foreign": after.foreign,
        "started_at": None if would else after.started_at,
        "duration": round(time.monotonic() - begun, 3),
        "diff": {
            "before": {"state": "started" if before.pids else "stopped", "pids": before.pids},
            "after": {"state": final, "pids": "not known yet" if would else after.pids},
        },
    }
