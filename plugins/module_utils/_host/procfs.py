# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about processes, from the kernel: running processes and the processes of the service.

The formats are described in proc_pid_stat(5) and proc_pid_cmdline(5). Text in these formats can contain any byte. Bytes
that are not valid UTF-8 are replaced, because the text is passed on as JSON.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message

# The service is started with this PATH. It does not inherit the PATH of this process.
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_DELETED = " (deleted)"
# Maximum number of bytes that are read from a file below /proc. A process can make its own cmdline and environ as large
# as it wants (PR_SET_MM) without allocating memory for them. The rest of a longer file is ignored.
_LARGEST_CMDLINE, _LARGEST = 1 << 17, 1 << 20
_PART = 1 << 16
# Programs whose first argument is the path of a script, unless it is an option.
_INTERPRETER = lazy(r"node(?:js)?|bun|python[\d.]*|ruby[\d.]*|perl[\d.]*|php[\d.]*|(?:ba|da|k|z)?sh")
# Limits of a search through open files. Processes can share one table of descriptors, so a user can make a search take
# thousands of times as long as necessary. A host with 2,000 processes and 100,000 descriptors takes about a second.
_MOST_SECONDS = 10.0
_MOST_DESCRIPTORS = 1_000_000


class HostError(MessageError):
    """/proc cannot be read, or systemd does not answer."""

    templates = messages.ENGLISH


class UnfinishedError(HostError):
    """A search through the open files was stopped at its limit. The files that were not searched are unknown."""


class Process(NamedTuple):
    """One process. Together, pid and start_ticks identify the process until the next boot, even if the pid is reused.

    exe, cwd: the paths, or None if the current user cannot read them. state: the kernel's letter (Z zombie, T stopped).
    uid: the effective user ID. started_at: a time in the format of timestamps.iso.
    """

    pid: int
    ppid: int
    exe: Optional[str]
    cwd: Optional[str]
    argv: List[str]
    uid: int
    state: str
    start_ticks: int
    started_at: str

    @property
    def began(self) -> float:
        """The time at which the process started, in seconds since boot."""
        return self.start_ticks / _TICKS_PER_SECOND

    @property
    def age(self) -> float:
        """The time since the process started, in seconds, according to a clock that cannot be set."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.began)

    @property
    def alive(self) -> bool:
        """True if the process is still running. False for a zombie, which is only waiting to be reaped."""
        return self.state not in ("Z", "X", "x")

    @property
    def command(self) -> str:
        """The program, and its script if it is an interpreter. Other arguments may be secrets and are omitted.

        The script's path is not checked. Any user can choose this path, and must not learn whether a file exists there.
        """
        if not self.argv:
            return self.exe or "unknown"
        program, script = (*self.argv, "")[:2]
        if script.startswith("-") or not script or not _INTERPRETER.fullmatch(os.path.basename(program)):
            return program
        return f"{program} {script}"


def _read(path: str, limit: int = _LARGEST) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        data = part = stream.read(min(limit, _PART))
        # Most files are small. A read can return less than requested.
        while part and len(data) < limit:
            part = stream.read(min(limit - len(data), _PART))
            data += part
        return data


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def read_text(path: str) -> str:
    """Return the content of a file below /proc as text, at most 1 MiB. Raises OSError."""
    return _text(_read(path))


def _link(path: str) -> Optional[str]:
    """Return the target of a link in /proc, or None if the link is unreadable. The marker " (deleted)" is removed."""
    try:
        target = _text(os.readlink(os.fsencode(path)))
    except OSError:
        return None
    return target[: -len(_DELETED)] if target.endswith(_DELETED) else target


def _arguments(cmdline: bytes) -> List[str]:
    """Split a command line. Each argument ends with a null byte, unless the process has overwritten the whole line."""
    parts = [_text(part) for part in cmdline.split(b"\0")]
    return parts if parts[-1] else parts[:-1]


def _started_at(start_ticks: int) -> str:
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return timestamps.iso(round(boot + start_ticks / _TICKS_PER_SECOND, 2))


def pids(*, proc_root: str = "/proc") -> List[int]:
    """Return all pids, lowest first. Raises HostError."""
    try:
        return sorted(int(name) for name in os.listdir(proc_root) if name.isdecimal())
    except OSError as error:
        raise HostError(message("reason.host.processes_unread", path=proc_root, why=str(error.strerror))) from error


class Search:
    """One search through the open files of processes, with limits that all these processes share."""

    def __init__(self, *, seconds: Optional[float] = None, proc_root: str = "/proc") -> None:
        """seconds: the time limit, which begins now, or None for the usual limit."""
        self._until = time.monotonic() + (_MOST_SECONDS if seconds is None else seconds)
        self._left = _MOST_DESCRIPTORS
        self._root = proc_root

    def descriptors(self, pid: int) -> Iterator[str]:
        """Yield the paths of a process's descriptors, in the order of their numbers.

        The time that the caller spends on each path also counts towards the time limit. Raises UnfinishedError if a
        limit is reached, PermissionError if this user has no access, and OSError if the process has exited.
        """
        folder = f"{self._root}/{pid}/fd"
        self._check(folder)
        # A list of all names could contain a million names and use too much memory.
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                self._check(folder)
                yield entry.path

    def locks(self) -> Iterator[List[str]]:
        """Yield the words of each line in /proc/locks. Raises OSError, and UnfinishedError if a limit is reached."""
        path = f"{self._root}/locks"
        # For each read, the kernel counts the lines again from the start. Therefore, read in large parts.
        with open(path, encoding="utf-8", errors="replace", buffering=_PART) as stream:
            for line in stream:
                self._left -= 1
                self._check(path)
                yield line.split()

    def _check(self, path: str) -> None:
        if self._left < 0 or time.monotonic() > self._until:
            raise UnfinishedError(message("reason.host.search_unfinished", path=path))


def descriptors(*, proc_root: str = "/proc") -> Iterator[Tuple[int, Optional[str]]]:
    """Yield (pid, path) for each descriptor of every other process.

    If this user has no access to the descriptors of a process, yield (pid, None). Raises HostError, and UnfinishedError
    if a limit of the search is reached.
    """
    search = Search(proc_root=proc_root)
    for pid in pids(proc_root=proc_root):
        if pid == os.getpid():
            continue
        try:
            for path in search.descriptors(pid):
                yield pid, path
        except PermissionError:
            yield pid, None
        except OSError:  # the process has exited
            continue


def ancestors(pid: int, *, proc_root: str = "/proc") -> List[int]:
    """Return the pids of a process's ancestors (its parent, the parent's parent, and so on), nearest first."""
    found: List[int] = []
    process = read_process(pid, proc_root=proc_root)
    while process is not None and process.ppid > 0 and process.ppid not in found:
        found.append(process.ppid)
        process = read_process(process.ppid, proc_root=proc_root)
    return found


def read_process(pid: int, *, proc_root: str = "/proc") -> Optional[Process]:
    """Return the process with this pid, or None if it does not exist or has exited."""
    folder = os.path.join(proc_root, str(pid))
    try:
        # The name of the process is in parentheses and may itself contain ")" and spaces. The other fields begin after
        # the last ")".
        fields = _read(f"{folder}/stat").rpartition(b")")[2].split()
        status = _read(f"{folder}/status")
        cmdline = _read(f"{folder}/cmdline", _LARGEST_CMDLINE)
        start_ticks = int(fields[19])
        # Split at line feeds only. The name of a process may contain a carriage return, followed by a forged Uid line.
        uid = next(int(line.split()[2]) for line in status.split(b"\n") if line.startswith(b"Uid:"))
        state, ppid = _text(fields[0]), int(fields[1])
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return Process(
        pid=pid,
        ppid=ppid,
        exe=_link(f"{folder}/exe"),
        cwd=_link(f"{folder}/cwd"),
        argv=_arguments(cmdline),
        uid=uid,
        state=state,
        start_ticks=start_ticks,
        started_at=_started_at(start_ticks),
    )


def processes(*, proc_root: str = "/proc") -> Iterator[Process]:
    """Yield all processes, except processes that exit during the call. Raises HostError."""
    for pid in pids(proc_root=proc_root):
        process = read_process(pid, proc_root=proc_root)
        if process is not None:
            yield process


def still_there(process: Process, *, proc_root: str = "/proc") -> bool:
    """Return True if the same process (pid and start tick) is still running and is not a zombie."""
    present = read_process(process.pid, proc_root=proc_root)
    return present is not None and present.start_ticks == process.start_ticks and present.alive


def environment(pid: int, *, proc_root: str = "/proc") -> Optional[Dict[str, str]]:
    """Return the environment with which a process was started, or None if it is unreadable. It contains secrets.

    Only the first 1 MiB is read.
    """
    try:
        data = _read(os.path.join(proc_root, str(pid), "environ"))
    except OSError:
        return None
    pairs = data.split(b"\0")
    if len(data) == _LARGEST:
        # The last value may be incomplete.
        pairs.pop()
    return {_text(name): _text(value) for name, equals, value in (pair.partition(b"=") for pair in pairs) if equals}


def control_groups(pid: int, *, proc_root: str = "/proc") -> List[str]:
    """Return the control groups of a process in the format of systemd's ControlGroup, or [] if it has exited."""
    try:
        lines = read_text(os.path.join(proc_root, str(pid), "cgroup")).split("\n")
    except OSError:
        return []
    return [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]


def find_program(name: str, *, app_dir: str, path: str = STANDARD_PATH) -> Optional[str]:
    """Return the path of a program, or None if it does not exist. A name with a slash is relative to app_dir."""
    if "/" in name:
        name = os.path.join(app_dir, name)
    return shutil.which(name, path=path)


def _program_names(command: Sequence[str], *, app_dir: str) -> Set[str]:
    """Return the possible names of the command's executable: the given name, and the name with links resolved."""
    found = find_program(command[0], app_dir=app_dir, path=f"{STANDARD_PATH}:{os.environ.get('PATH', '')}")
    names = {os.path.basename(command[0])}
    if found:
        names.add(os.path.basename(os.path.realpath(found)))
    return names


def _same_argument(first: str, second: str, *, folder: str) -> bool:
    """Return True if two arguments are equal or are the same path relative to folder (./server.js, /app/server.js)."""
    return first == second or os.path.normpath(os.path.join(folder, first)) == os.path.normpath(
        os.path.join(folder, second)
    )


def runs_program(process: Process, *, app_dir: str, command: Sequence[str]) -> bool:
    """Return True if a process runs the command's executable in the service's folder, with any arguments."""
    if not process.alive or process.exe is None or process.cwd != os.path.realpath(app_dir):
        return False
    return os.path.basename(process.exe) in _program_names(command, app_dir=app_dir)


def runs_command(process: Process, *, app_dir: str, command: Sequence[str]) -> bool:
    """Return True if a process is the service: it has the same executable, working directory and arguments."""
    folder = os.path.realpath(app_dir)
    return (
        len(process.argv) == len(command)
        and all(_same_argument(*pair, folder=folder) for pair in zip(process.argv[1:], command[1:]))
        and runs_program(process, app_dir=app_dir, command=command)
    )


def service_processes(*, app_dir: str, command: Sequence[str], proc_root: str = "/proc") -> List[Process]:
    """Return the running processes for which runs_command is true, oldest first. Raises HostError."""
    folder = os.path.realpath(app_dir)
    found = []
    for pid in pids(proc_root=proc_root):
        # Most processes run in other folders. Reading this link is ten times as fast as read_process.
        if _link(os.path.join(proc_root, str(pid), "cwd")) != folder:
            continue
        process = read_process(pid, proc_root=proc_root)
        if process is not None and runs_command(process, app_dir=folder, command=command):
            found.append(process)
    return sorted(found, key=lambda process: (process.start_ticks, process.pid))


def holds(pids_of_service: Iterable[int], path: str) -> bool:
    """Return True if one of these processes has the file at `path` open, or if one cannot be inspected completely."""
    return _holder_of(os.path.realpath(path), pids_of_service) is not None


def holder_of_deleted(pids_of_service: Iterable[int], path: str) -> Optional[int]:
    """Return the pid of a process that still has the deleted file at `path` open, or None.

    The file's space is freed when the process exits. A process that cannot be inspected completely is also returned.
    """
    return _holder_of(f"{os.path.realpath(path)}{_DELETED}", pids_of_service)


def _holder_of(target: str, pids_of_service: Iterable[int]) -> Optional[int]:
    """Return the first process that has a descriptor for `target` or cannot be inspected, or None."""
    search = Search()
    for pid in pids_of_service:
        try:
            for path in search.descriptors(pid):
                with contextlib.suppress(FileNotFoundError):  # the process has closed the file in the meantime
                    if os.readlink(path) == target:
                        return pid
        except FileNotFoundError:  # the process has exited in the meantime
            continue
        except (OSError, UnfinishedError):
            return pid
    return None
