# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The input and the result of each part of a triage, and helpers that several parts share."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
import pwd
import re
import time
from types import MappingProxyType
from typing import Any, Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

# Size limit in bytes for small files (/proc, certificates, package.json). Larger files are truncated.
_LARGEST_READ = 4 << 20

# Time limit in seconds for a response from the service if earlier probes timed out.
_SILENT = 0.5

# Programs that run other programs. The names of these programs do not identify the service.
_LAUNCHERS = re.compile(r"(?:ba|da)?sh|env|npm|npx|sudo|nohup|python[\d.]*")


class Service(NamedTuple):
    """The service as the inventory describes it. Relative paths are relative to app_dir."""

    app_dir: str
    command: Sequence[str]
    manager: str
    unit: str
    user: str
    db_path: str
    db_path_variable: str
    log_file: str
    environment_file: str
    pid_file: str
    tls_cert_path: str
    tls_key_path: str
    https_port: int
    http_port: int
    required_environment: Sequence[str]
    state_dir: str
    # Path of the health request (empty if no request is sent), and the values of `status` in the response that mean
    # healthy.
    health_path: str = ""
    health_ok_statuses: Sequence[str] = ("ok",)
    # Path patterns of additional log files, for logs that get a new name every day.
    log_patterns: Sequence[str] = ()

    def path(self, path: str) -> str:
        """Return the absolute path."""
        return os.path.join(self.app_dir, path)

    def is_log(self, path: str) -> bool:
        """Return True if the path is the configured log file, or matches one of log_patterns."""
        real = real_path(self, path)
        return (bool(self.log_file) and real_of_config(self, self.log_file) == real) or any(
            fnmatch.fnmatchcase(real, real_of_config(self, self.path(pattern))) for pattern in self.log_patterns
        )


class Known(NamedTuple):
    """The results from earlier parts of the triage. If a part could not be collected, its result is empty.

    unit, environment: the facts from these parts. processes: the processes that the "process" part found.
    database_path: the database that the service uses. app_dir_answers: true if the disk of app_dir responds. secrets:
    values to redact.
    """

    unit: Mapping[str, Any] = MappingProxyType({})
    environment: Mapping[str, Any] = MappingProxyType({})
    processes: Sequence[Mapping[str, Any]] = ()
    database_path: str = ""
    app_dir_answers: bool = True
    secrets: Collection[str] = ()


class Question(NamedTuple):
    """The input for one part of a triage: service, start of the window, time limit, results from earlier parts."""

    service: Service
    run: commands.Runner
    since: float
    budget: float
    log_lines: int
    kernel_log_command: Sequence[str]
    # True if this part of the triage must return files for the evidence bundle.
    keep: bool
    # True if earlier probes timed out.
    silent: bool = False
    # True if the host is compared with the manifest of the last healthy run.
    compare: bool = True
    known: Known = Known()
    # Time when this part of the triage started (None if it has not started), and deadline for the whole triage
    # (time.monotonic).
    asked_at: Optional[float] = None
    until: float = float("inf")

    @property
    def left(self) -> float:
        """The remaining time for this part of the triage, in seconds."""
        now = time.monotonic()
        begun = now if self.asked_at is None else self.asked_at
        return max(0.05, min(self.budget - (now - begun), self.until - now))

    @property
    def patience(self) -> float:
        """Time to wait for a response from the service, in seconds."""
        return min(_SILENT, self.left) if self.silent else self.budget * 0.5

    @property
    def redactor(self) -> redact.Redactor:
        """A redactor for the secrets that earlier parts found. Always redact text before truncating it."""
        return redact.Redactor(self.known.secrets)

    def begun_with(self, budget: float) -> Question:
        """Return a copy of this Question with a time limit of `budget` seconds from now."""
        return self._replace(budget=budget, asked_at=time.monotonic())

    def command(self, argv: Sequence[str], **_ignored: Any) -> commands.Completed:
        """Run a command within the remaining time for this part."""
        environment = {"PATH": procfs.STANDARD_PATH, "LC_ALL": "C", "TZ": "UTC"}
        return self.run(list(argv), timeout=self.left, env=environment)

    def run_as(self, argv: Sequence[str], *, timeout: float, **options: Any) -> commands.Completed:
        """Run a command with the caller's options, but within the remaining time for this part."""
        return self.run(argv, timeout=min(timeout, self.left), **options)


# Maximum numbers of secrets, and of variable names, that triage uses. The service's user can define any number of
# variables. The redactor searches each string for each secret, so it would exceed the deadline if there were more
# secrets.
MOST_SECRETS, MOST_NAMES = 200, 500


def found(
    facts: Any,
    *,
    evidence: Iterable[Mapping[str, Any]] = (),
    secrets: Iterable[str] = (),
    reports: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Return the result of one triage part: facts, files for the bundle, secrets to redact, and subparts' reports.

    Only the first MOST_SECRETS different secrets are used.
    """
    few = list(itertools.islice(dict.fromkeys(secrets), MOST_SECRETS))
    return {"facts": facts, "evidence": list(evidence), "secrets": few, "reports": dict(reports or {})}


def file(name: str, source: str, text: str, *, truncated: bool = False) -> Dict[str, Any]:
    """Return a file for the bundle: its name, source, time and text, and whether the text was truncated."""
    return {"name": name, "source": source, "at": timestamps.now(), "text": text, "truncated": truncated}


def read(path: str) -> str:
    """Return the content of a small file, or the beginning of a larger one. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        return stream.read(_LARGEST_READ).decode("utf-8", "replace")


def read_theirs(path: str) -> str:
    """Return the content of a small file that the service's user may control. See safe_open. Raises OSError."""
    return safe_open.read(path, limit=_LARGEST_READ).decode("utf-8", "replace")


def rights_of(service: Service) -> safe_open.Rights:
    """Return the account that must examine a path chosen by the service's user, for example a path in a log.

    If root examined the path, the result would show this user which files exist in folders that only root can enter.
    """
    return safe_open.account_rights(service.user)


def rights_on(service: Service, path: str) -> safe_open.Rights:
    """Return the account that must examine a path from the inventory or from the unit.

    If an account other than root could replace a part of the path, this is the service's user. Raises OSError.
    """
    rights = rights_of(service)
    return None if rights is None else safe_open.rights_on(path, user=rights)


def real_path(service: Service, path: str) -> str:
    """In a path that the service's user has chosen, resolve the links that this user can follow. Return the path."""
    with safe_open.acting(rights_of(service)):
        return os.path.realpath(path)


def real_of_config(service: Service, path: str) -> str:
    """Resolve the links in a path from the inventory. The service's user may not be able to follow root's links."""
    with contextlib.suppress(OSError):
        path = safe_open.follow_ours(path)
    return real_path(service, path)


def user_name(uid: int) -> str:
    """Return the name of a user, or the uid if the user has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def status_fields(text: str) -> Dict[str, str]:
    """Return the "Name: value" lines of a /proc file. A process name may contain any character except a line feed."""
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in text.split("\n"))}


def why(done: commands.Completed) -> str:
    """Return a short reason why a command returned no result."""
    return "no response in time" if done.timed_out else done.stderr.strip()[:200] or f"rc {done.rc}"


def end_of(text: str, *, limit: int) -> Tuple[str, bool]:
    """Return the last lines of a string (at most `limit` characters), and whether earlier lines were omitted."""
    return (text, False) if len(text) <= limit else (text[-limit:].partition("\n")[2], True)


def identity(item: procfs.Process, *, ours: bool, redactor: redact.Redactor) -> Dict[str, Any]:
    """Return facts that identify a process.

    People read these facts, and a remedy needs them to stop exactly this process.
    """
    return {
        "pid": item.pid,
        "start_ticks": item.start_ticks,
        "command": " ".join(redactor.argv(item.argv))[:300] or item.exe or "unknown",
        "exe": item.exe,
        "user": user_name(item.uid),
        "ours": ours,
    }


def service_processes(question: Question) -> List[procfs.Process]:
    """Return the service's processes: all processes that run its command, and the unit's main process."""
    service = question.service
    if question.known.app_dir_answers:
        processes = procfs.service_processes(app_dir=service.app_dir, command=service.command)
    else:
        processes = _in_unreachable_folder(service)
    main = int(question.known.unit.get("main_pid") or 0)
    if main and main not in [process.pid for process in processes]:
        process = procfs.read_process(main)
        if process is not None and process.alive:
            processes.append(process)
    return processes


def _in_unreachable_folder(service: Service) -> List[procfs.Process]:
    """Return the service's processes from /proc alone, because accessing the service's folder may hang."""
    folder = os.path.normpath(service.app_dir)
    processes = []
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") == folder:
                process = procfs.read_process(pid)
                if process is not None and process.alive and process.argv[1:] == list(service.command[1:]):
                    processes.append(process)
    return processes


def program(question: Question) -> Optional[str]:
    """Return the path of the program that runs the service, or None if no program is found.

    The path is read from the process, the unit or the command.
    """
    service = question.service
    running = [item.get("exe") for item in question.known.processes]
    for path in (*running, question.known.unit.get("program")):
        if path and not _LAUNCHERS.fullmatch(os.path.basename(path)):
            return str(path)
    search = f"{procfs.STANDARD_PATH}:{os.environ.get('PATH', '')}"
    with safe_open.acting(rights_of(service)):
        return procfs.find_program(service.command[0], app_dir=service.app_dir, path=search)
