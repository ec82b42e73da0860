# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the parts of a triage in the required order, and pass the results of earlier parts to each part.

Each part is a function that accepts a Question and returns the result of context.found(). Each part runs in a separate
process (see parallel). If a part hangs or crashes, only its own result is lost.
"""

from __future__ import annotations

import functools
import os
import stat
import time
from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    parallel,
    path_status,
    redact,
    safe_open,
    sanitize,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    assembled_facts,
    collect_application,
    collect_certificate,
    collect_changes,
    collect_host,
    collect_logs,
    collect_paths,
    collect_ports,
    collect_process,
    collect_service,
    collect_start,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.collected import Pass
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Known,
    Question,
    found,
    rights_of,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.database import Database

Part = Callable[[Question], Dict[str, Any]]

# Fraction of the deadline for each of the first steps. These steps query systemd, /proc and small files to find the
# paths to check.
_EARLY_SHARE = 0.15
_PATHS = ("database", "log", "working directory")
# Parts of the triage that usually take the longest.
_SLOWEST = ("log", "journal", "dependencies")
# If a first response may start the service, these parts of the triage run after it. Starting the service does not
# change the facts that these parts collect. Only one of these facts could show that starting the service is useless: a
# native module cannot be loaded. All other parts run before the start, because the running service would change their
# facts or open the database that they read.
_AFTER_A_START = ("dependencies", "node", "cores", "changes")
_NICENESS = 10
# In this part of the triage, the first response waits until the service is healthy.
FIRST_ANSWER = "first_answer"
# Before the service is started, the part "modules" replaces the part "dependencies". The part "dependencies" runs Node,
# so it takes longer.
MODULES = "modules"
# Fraction of the deadline that is reserved for the findings and the bundle.
_LAST_SHARE = 0.15
# A part redacts its files that have at least this many characters, if at least this fraction of its time is left.
_LONG = 1 << 14
_SHARE_FOR_REDACTION = 0.5
# If a file cannot be read within this many seconds, its disk counts as not responding.
_SIGN_OF_LIFE = 1.0


def _app_dir(question: Question) -> Dict[str, Any]:
    return found(stat.S_ISDIR(path_status.mode_of(question.service.app_dir, user=rights_of(question.service))))


def _pid_file(question: Question) -> Dict[str, Any]:
    return found(bool(path_status.mode_of(question.service.pid_file, user=rights_of(question.service))))


def _sign_of_life(path: str) -> None:
    """Access a file. The access hangs if the disk does not respond."""
    descriptor = path_status.open_path(path)
    try:
        os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    with open(safe_open.open_file(path), "rb") as stream:
        stream.read(4096)


def _run(part: Part, question: Question, *, niceness: int) -> Dict[str, Any]:
    """Run a part in its own process. The time limit of the part starts now."""
    os.nice(niceness)
    question = question.begun_with(question.budget)
    return _with_redacted(part(question), question)


def _with_redacted(result: Dict[str, Any], question: Question) -> Dict[str, Any]:
    """Return the result of a part with the redacted texts of its long files.

    Several parts run at the same time, but only one process saves the evidence. Therefore, the redaction takes less
    time here. The result also contains the original texts, because other parts can find more secrets. See Pass.files.
    """
    # Preparing a redactor takes time, so do this only for a part that has a long file.
    if not any(len(item["text"]) >= _LONG for item in result["evidence"]):
        return result
    known = sorted({*question.known.secrets, *result["secrets"]})
    redactor = redact.Redactor(known)
    clean = [
        # If little time remains, the file is redacted later. Otherwise, the whole result of the part could be lost.
        sanitize.text(redactor.text(item["text"]))
        if len(item["text"]) >= _LONG and question.left >= question.budget * _SHARE_FOR_REDACTION
        else None
        for item in result["evidence"]
    ]
    return {**result, "known": known, "clean": clean} if any(clean) else result


def _late_parts(question: Question) -> Dict[str, Part]:
    """Return the parts that need the processes, the environment or the path of the database."""
    service = question.service
    parts: Dict[str, Part] = {
        "database": collect_application.database,
        "migrations": collect_application.migrations,
        "migrations_shipped": collect_application.migrations_shipped,
        "dependencies": collect_application.dependencies,
        "node": collect_application.node,
        "ports": collect_ports.ports,
        "answer": collect_ports.answer,
        "memory": collect_host.memory,
        "kernel": collect_host.kernel,
        "cores": collect_host.cores,
        "start": collect_start.start,
        "ownership": collect_start.ownership,
        "log": collect_logs.log,
    }
    if service.health_path:
        parts["health"] = collect_ports.health
    if service.pid_file:
        parts["pid_file"] = _pid_file
    if service.manager == "systemd":
        parts["journal"] = collect_logs.journal
    if service.tls_cert_path or (question.known.environment.get("certificate") or {}).get("path"):
        parts["certificate"] = collect_certificate.certificate
    if question.compare:
        parts["changes"] = collect_changes.changes
    if question.keep:
        parts["files"] = collect_application.files
    for use, path in _places(question).items():
        parts[f"disk:{use}"] = functools.partial(collect_host.disk, path=path, use=use)
    return parts


def _places(question: Question) -> Dict[str, str]:
    """Return the folders whose disks are examined, keyed by their purpose."""
    service = question.service
    places = {
        "application": service.app_dir,
        "database": os.path.dirname(question.known.database_path),
        "log": os.path.dirname(service.log_file),
        "state": service.state_dir,
        "temporary files": "/tmp",  # noqa: S108
    }
    # A service that logs to the journal has no log file.
    return {use: path for use, path in places.items() if path}


class Triage:
    """One pass of a triage. Runs the parts in order, and gives each part the results from earlier parts."""

    def __init__(
        self,
        base: Question,
        *,
        deadline: float,
        part_timeout: float,
        window: float,
        record: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._base = base
        self._record = record
        self._service = base.service
        self._started = time.monotonic()
        self._deadline = deadline
        self._part_timeout = part_timeout
        self._window = window
        self._known = Known()
        self._until: Optional[str] = None
        self._niceness = 0
        self._tried_in_full = False
        self.done = Pass()

    @property
    def state_dir(self) -> str:
        """The folder in which the evidence is saved."""
        return self._service.state_dir

    @property
    def _question(self) -> Question:
        """The question with the results of the early parts."""
        return self._base._replace(known=self._known)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def _ask(
        self,
        parts: Mapping[str, Part],
        *,
        timeout: float,
        after: Optional[Mapping[str, str]] = None,
        meanwhile: Callable[[], Any] = lambda: None,
    ) -> None:
        until = time.monotonic() + timeout
        question = self._base._replace(
            since=assembled_facts.window_start(self.done.facts, window=self._window),
            # The commands in a part of the triage must end before the part itself times out. Otherwise, the processes
            # of a command could keep running.
            budget=timeout * 0.9,
            until=until - timeout * 0.1,
            known=self._known._replace(secrets=self.done.secrets),
        )
        nice = self._niceness
        questions = {name: functools.partial(_run, part, question, niceness=nice) for name, part in parts.items()}
        limits: Dict[str, Any] = {"timeout": timeout, "until": until}
        self.done.take(parallel.ask(questions, after=after, first=_SLOWEST, meanwhile=meanwhile, **limits))

    def ask_all(self, database_timeout: float, *, respond: Optional[Callable[[], Mapping[str, Part]]] = None) -> None:
        """Run all parts before the deadline. Only the database check may take database_timeout seconds longer.

        respond: a function that may start the service, or None. This function is called only if the process is gone.
        Two kinds of facts are collected before the call: facts that starting the service would change, and facts that
        can block the start. The duration of the call does not count towards the deadline. The function returns
        additional parts, which run with the last parts.
        """
        self._early()
        parts = _late_parts(self._question)
        if respond is not None and self.done.of("process").get("state") == "gone":
            first = {name: part for name, part in parts.items() if name not in _AFTER_A_START}
            self._late({**first, MODULES: collect_start.modules})
            self._until, begun = timestamps.now(), time.monotonic()
            more = respond()
            self._started += time.monotonic() - begun
            # While the service is starting, it needs processor time more urgently than these parts do.
            self._niceness = _NICENESS
            parts = {**more, **{name: part for name, part in parts.items() if name in _AFTER_A_START}}
        self._late(parts)
        self._database_again(database_timeout)

    def _early(self) -> None:
        """Run the parts that find the paths for the later parts."""
        timeout = min(self._part_timeout, self._deadline * _EARLY_SHARE)
        parts: Dict[str, Part] = {"app_dir": _app_dir}
        if self._service.manager == "systemd":
            parts["unit"] = collect_service.unit
        self._ask(parts, timeout=timeout)
        self._known = Known(unit=self.done.of("unit"), app_dir_answers=self.done.answered("app_dir"))
        self._ask({"process": collect_process.process, "environment": collect_service.environment}, timeout=timeout)
        processes = self.done.of("process").get("processes", [])
        self._known = self._known._replace(environment=self.done.of("environment"), processes=processes)
        self._ask(
            {f"paths:{what}": functools.partial(collect_paths.paths, what=what) for what in _PATHS}, timeout=timeout
        )
        self._known = self._known._replace(database_path=self._database()["path"])

    def _database(self) -> Dict[str, str]:
        """Return the path of the database that the service uses, the source of that path, and the configured path."""
        for entry in self.done.facts["paths"]:
            if entry.get("what") == "database" and "effective" in entry:
                return {"path": entry["effective"], "source": entry["source"], "configured": entry["configured"]}
        # The part that follows links has timed out, perhaps because the disk does not respond. Therefore, do not follow
        # links here.
        path, source = collect_paths.used_database(self._question, links=False)
        configured = os.path.normpath(self._service.path(self._service.db_path))
        return {"path": path, "source": source, "configured": configured}

    def _late(self, parts: Mapping[str, Part]) -> None:
        """Run these parts, and list the migrations if the results show that this is needed."""
        left = self._deadline * (1 - _LAST_SHARE) - self.elapsed
        # The "migrations" part waits for the "database" part. Both parts open the database. If they ran at the same
        # time, each would report the other's process.
        timeout = max(0.1, min(self._part_timeout, left))
        # This process is idle while the parts of the triage run. Use this time to prepare the redaction.
        after = {"migrations": "database"} if "database" in parts else {}
        self._ask(parts, timeout=timeout, after=after, meanwhile=redact.prepare)
        read, shipped = self.done.of("migrations"), self.done.of("migrations_shipped")
        if "migrations" in parts and collect_application.to_be_listed(read, shipped):
            left = self._deadline * (1 - _LAST_SHARE) - self.elapsed
            listed = {"migrations_shipped": collect_application.migrations_listed}
            self._ask(listed, timeout=max(0.1, min(self._part_timeout, left)))

    def _database_again(self, timeout: float) -> None:
        """If the disk responds, allow more time for checking a large database."""
        if self.done.of("database").get("conclusive"):
            return
        if not self.done.answered("database"):
            alive = parallel.ask(
                {"alive": functools.partial(_sign_of_life, self._known.database_path)}, timeout=_SIGN_OF_LIFE
            )
            if alive["alive"].error is not None:
                return
        self._ask({"database": collect_application.database}, timeout=timeout)

    def check_database_in_full(self, timeout: float) -> bool:
        """Check the whole database, including its indexes, at most once in a pass. Return False if it was tried before.

        If the check does not end in time or is prevented, keep the earlier result.
        """
        if self._tried_in_full:
            return False
        self._tried_in_full = True
        facts, report = self.done.facts["database"], self.done.reports["database"]
        part = functools.partial(collect_application.database, checks=("quick", "integrity"))
        self._ask({"database": part}, timeout=timeout)
        if not Database.of(self.done.of("database")).settles_doubt:
            self.done.facts["database"], self.done.reports["database"] = facts, report
        return True

    @property
    def modules_complete(self) -> Optional[bool]:
        """True if node_modules contains all packages, False if one is missing or wrong, None if this is unknown."""
        complete: Optional[bool] = self.done.of(MODULES).get("complete")
        return complete

    @property
    def answered_at(self) -> Optional[str]:
        """Time when the service first became healthy after a first response started it, or None if unknown."""
        at: Optional[str] = self.done.of(FIRST_ANSWER).get("at")
        return at

    def facts(self) -> Dict[str, Any]:
        """Return the facts from all parts so far, and the facts that this process determines itself."""
        return assembled_facts.of_pass(
            self.done,
            self._service,
            own_parts=(MODULES, FIRST_ANSWER),
            database=self._database(),
            places=_places(self._question),
            record=self._record,
            window=self._window,
            until=self._until,
        )
