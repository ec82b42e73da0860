# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every part of a triage is asked with and answers with, and what several of them need."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import re
import time
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

# Files of /proc, certificates, a package.json: whatever stands in their place, this is enough of it.
_LARGEST_READ = 4 << 20

# Programs that run other programs: what they are says nothing about the service.
# Seconds for an answer of a service that others have waited for in vain.
_SILENT = 0.5

_LAUNCHERS = re.compile(r"(?:ba|da)?sh|env|npm|npx|sudo|nohup|python[\d.]*")


@dataclasses.dataclass(frozen=True)
class Service:
    """The service as its variables describe it; relative paths are seen from C(app_dir)."""

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
    # Where it is asked for its health, and the words that are good; empty not to ask.
    health_path: str = ""
    health_ok_statuses: Sequence[str] = ("ok",)

    def path(self, path: str) -> str:
        """Return C(path) absolute."""
        return os.path.join(self.app_dir, path)


@dataclasses.dataclass(frozen=True)
class Question:
    """What a part needs to know: the service, since when, how long it may take, what was found before it."""

    service: Service
    run: commands.Runner
    since: float
    budget: float
    log_lines: int
    kernel_log_command: Sequence[str]
    # Whether to hand over what goes into the evidence bundle.
    keep: bool
    # Whether those who asked the service before got no answer at all.
    silent: bool = False
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # When this part was begun, and by when the whole pass is to be over (time.monotonic).
    asked_at: float = dataclasses.field(default_factory=time.monotonic)
    until: float = float("inf")

    @property
    def left(self) -> float:
        """Seconds that are left of this part's time."""
        now = time.monotonic()
        return max(0.05, min(self.budget - (now - self.asked_at), self.until - now))

    @property
    def patience(self) -> float:
        """Seconds that the service is given for an answer."""
        return min(_SILENT, self.left) if self.silent else self.budget * 0.5

    @property
    def redactor(self) -> redact.Redactor:
        """A redactor that knows the secrets found before this part was asked: for text that is then cut."""
        return redact.Redactor(self.known.get("secrets", ()))

    def begun_with(self, budget: float) -> Question:
        """Return the question as asked now, with so many seconds for the answer."""
        return dataclasses.replace(self, budget=budget, asked_at=time.monotonic())

    def command(self, argv: Sequence[str], **_ignored: Any) -> commands.Completed:
        """Run a command within what is left of this part's time."""
        environment = {"PATH": procfs.STANDARD_PATH, "LC_ALL": "C", "TZ": "UTC"}
        return self.run(list(argv), timeout=self.left, env=environment)

    def run_as(self, argv: Sequence[str], *, timeout: float, **options: Any) -> commands.Completed:
        """Run a command as somebody else asks for it, but within what is left of this part's time."""
        return self.run(argv, timeout=min(timeout, self.left), **options)


def found(
    facts: Any,
    *,
    evidence: Iterable[Mapping[str, Any]] = (),
    secrets: Iterable[str] = (),
    reports: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """What a part found: facts, files for the bundle, values that must not appear anywhere, reports of parts of it."""
    return {"facts": facts, "evidence": list(evidence), "secrets": list(secrets), "reports": dict(reports or {})}


def file(name: str, source: str, text: str, *, truncated: bool = False) -> Dict[str, Any]:
    """Return a file for the bundle: its name there, where its text is from, when it was read, whether it is all."""
    return {"name": name, "source": source, "at": timestamps.now(), "text": text, "truncated": truncated}


def read(path: str) -> str:
    """Return a small file's text, the beginning of one that is not small. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        return stream.read(_LARGEST_READ).decode("utf-8", "replace")


def read_theirs(path: str) -> str:
    """Return the text of a small file that the service's user may have put there, see L(safe_open). Raises OSError."""
    return safe_open.read(path, limit=_LARGEST_READ).decode("utf-8", "replace")


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def status_fields(text: str) -> Dict[str, str]:
    """Return the C(Name: value) lines of a file of /proc. A name of a process there may hold all but a line feed."""
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in text.split("\n"))}


def why(done: commands.Completed) -> str:
    """Return in a few words why a command gave nothing."""
    return "no answer in time" if done.timed_out else done.stderr.strip()[:200] or f"rc {done.rc}"


def end_of(text: str, *, limit: int) -> Tuple[str, bool]:
    """Return the last C(limit) characters from the beginning of a line on, and whether something was left out."""
    return (text, False) if len(text) <= limit else (text[-limit:].partition("\n")[2], True)


def identity(item: procfs.Process, *, ours: bool, redactor: redact.Redactor) -> Dict[str, Any]:
    """Return who a process is: enough to name it to a person, and to end exactly this one."""
    return {
        "pid": item.pid,
        "start_ticks": item.start_ticks,
        "command": " ".join(redactor.argv(item.argv))[:300] or item.exe or "unknown",
        "exe": item.exe,
        "user": user_name(item.uid),
        "ours": ours,
    }


def service_processes(question: Question) -> List[procfs.Process]:
    """Return the service's processes: by their command, and the unit's main process whatever its command is."""
    service = question.service
    if question.known.get("app_dir_answers", True):
        processes = procfs.service_processes(app_dir=service.app_dir, command=service.command)
    else:
        processes = _in_unreachable_folder(service)
    main = int(question.known.get("main_pid") or 0)
    if main and main not in [process.pid for process in processes]:
        process = procfs.read_process(main)
        if process is not None and process.alive:
            processes.append(process)
    return processes


def _in_unreachable_folder(service: Service) -> List[procfs.Process]:
    """Return the service's processes without touching its folder: what /proc says does not wait for a disk."""
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
    """Return the program that runs the service, as far as it is known: running, in its unit, by its command."""
    service = question.service
    running = [item.get("exe") for item in question.known.get("processes", ())]
    for path in (*running, question.known.get("unit_program")):
        if path and not _LAUNCHERS.fullmatch(os.path.basename(path)):
            return str(path)
    search = f"{procfs.STANDARD_PATH}:{os.environ.get('PATH', '')}"
    return procfs.find_program(service.command[0], app_dir=service.app_dir, path=search)
