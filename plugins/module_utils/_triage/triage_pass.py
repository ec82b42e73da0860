# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the parts of a triage in the required order, and pass the results of earlier parts to each part.

Each part is a function that accepts a Question and returns the result of context.found(). Each part runs in a separate
process (see parallel), so if a part hangs or crashes, only its own result is lost.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import time
from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel, redact, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
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
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Known, Question, found

Part = Callable[[Question], Dict[str, Any]]

# Fraction of the deadline for each of the first steps. These steps query systemd, /proc and small files to find the
# paths to check.
_EARLY_SHARE = 0.15
# Maximum time in seconds from the stop of a unit by a takeover to the recorded time of the takeover.
_OWN_STOP = 1.0

# Maximum time in seconds from the recorded start by a run to systemd's log line about this start. The run may stop the
# service first.
_OWN_START = 150.0

_PATHS = ("database", "log", "working directory")
# The parts that usually take the longest.
_SLOWEST = ("log", "journal", "dependencies")
# The parts that run only after a first response has started the service. A start changes none of their facts, and none
# of their facts can block it. All other parts run before the start: a start would change their facts, or open the
# database that they read.
_AFTER_A_START = ("dependencies", "node", "cores", "changes")
_NICENESS = 10
# The part in which a response waits for the first healthy answer.
FIRST_ANSWER = "first_answer"
# The part that replaces "dependencies" before a start, because "dependencies" runs Node, which takes longer.
MODULES = "modules"
# Fraction of the deadline that is reserved for the findings and the bundle.
_LAST_SHARE = 0.15
# If a file cannot be read within this time, in seconds, its disk counts as not responding.
_SIGN_OF_LIFE = 1.0


def _since(facts: Mapping[str, Any], *, window: float) -> float:
    """Return the start of the log window: window seconds before the unit ended, or before now."""
    unit_facts = facts.get("unit") or {}
    ended = unit_facts.get("exited_at") or unit_facts.get("inactive_enter_at")
    if unit_facts.get("active_state") in ("failed", "inactive") and ended:
        return timestamps.epoch(ended) - window
    return time.time() - window


def _app_dir(question: Question) -> Dict[str, Any]:
    return found(os.path.isdir(question.service.app_dir))


def _pid_file(question: Question) -> Dict[str, Any]:
    return found(os.path.exists(question.service.pid_file))


def _sign_of_life(path: str) -> None:
    """Access a file. The access hangs if the disk does not respond."""
    real = os.path.realpath(path)
    os.statvfs(os.path.dirname(real))
    with open(safe_open.open_file(path), "rb") as stream:
        stream.read(4096)


def _run(part: Part, question: Question, *, niceness: int) -> Dict[str, Any]:
    """Run a part in its own process. The time limit of the part starts now."""
    os.nice(niceness)
    return part(question.begun_with(question.budget))


class Triage:
    """One pass of a triage. It runs the parts in order and gives each part the results of earlier parts."""

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
        self.done = Pass()

    @property
    def state_dir(self) -> str:
        """The folder for the evidence."""
        return self._service.state_dir

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
        question = dataclasses.replace(
            self._base,
            since=_since(self.done.facts, window=self._window),
            # A part's commands must end before the part itself times out, so that no process is left behind.
            budget=timeout * 0.9,
            until=until - timeout * 0.1,
            known=dataclasses.replace(self._known, secrets=self.done.secrets),
        )
        run = functools.partial(_run, niceness=self._niceness)
        questions = {name: functools.partial(run, part, question) for name, part in parts.items()}
        answers = parallel.ask(
            questions, timeout=timeout, after=after, first=_SLOWEST, until=until, meanwhile=meanwhile
        )
        self.done.take(answers)

    def ask_all(self, database_timeout: float, *, respond: Optional[Callable[[], Mapping[str, Part]]] = None) -> None:
        """Run all parts before the deadline. Only the database check is allowed database_timeout more seconds.

        respond: a function that may start the service, or None. It is called only if the process is gone, and as soon
        as the facts that a start would change, and those that can block a start, are collected. Its time does not count
        towards the deadline. It returns additional parts, which run with the last parts.
        """
        self._early()
        parts = self._late_parts()
        if respond is not None and self.done.of("process").get("state") == "gone":
            first = {name: part for name, part in parts.items() if name not in _AFTER_A_START}
            self._late({**first, MODULES: collect_start.modules})
            self._until, begun = timestamps.now(), time.monotonic()
            more = respond()
            self._started += time.monotonic() - begun
            # A service that is starting needs the processor more than these parts do.
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
        self._known = dataclasses.replace(self._known, environment=self.done.of("environment"), processes=processes)
        self._ask(
            {f"paths:{what}": functools.partial(collect_paths.paths, what=what) for what in _PATHS}, timeout=timeout
        )
        self._known = dataclasses.replace(self._known, database_path=self._database()["path"])

    def _database(self) -> Dict[str, str]:
        """Return the path of the database that the service uses, the source of that path, and the configured path."""
        for entry in self.done.facts["paths"]:
            if entry.get("what") == "database" and "effective" in entry:
                return {"path": entry["effective"], "source": entry["source"], "configured": entry["configured"]}
        # The part that follows links did not answer, perhaps because the disk does not respond. Do not follow links
        # here.
        question = dataclasses.replace(self._base, known=self._known)
        path, source = collect_paths.used_database(question, links=False)
        configured = os.path.normpath(self._service.path(self._service.db_path))
        return {"path": path, "source": source, "configured": configured}

    def _late(self, parts: Mapping[str, Part]) -> None:
        """Run these parts, and list the migrations if they show that this is needed."""
        left = self._deadline * (1 - _LAST_SHARE) - self.elapsed
        # The "migrations" part waits for the "database" part. Otherwise, each part would report the other as a process
        # that has the database open.
        timeout = max(0.1, min(self._part_timeout, left))
        # The evidence is redacted after the slowest part. While the parts are working, this process is idle.
        after = {"migrations": "database"} if "database" in parts else {}
        self._ask(parts, timeout=timeout, after=after, meanwhile=redact.prepare)
        read, shipped = self.done.of("migrations"), self.done.of("migrations_shipped")
        if "migrations" in parts and collect_application.to_be_listed(read, shipped):
            left = self._deadline * (1 - _LAST_SHARE) - self.elapsed
            listed = {"migrations_shipped": collect_application.migrations_listed}
            self._ask(listed, timeout=max(0.1, min(self._part_timeout, left)))

    def _late_parts(self) -> Dict[str, Part]:
        service = self._service
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
        if service.tls_cert_path or (self._known.environment.get("certificate") or {}).get("path"):
            parts["certificate"] = collect_certificate.certificate
        if self._base.compare:
            parts["changes"] = collect_changes.changes
        if self._base.keep:
            parts["files"] = collect_application.files
        for use, path in self._places().items():
            parts[f"disk:{use}"] = functools.partial(collect_host.disk, path=path, use=use)
        return parts

    def _places(self) -> Dict[str, str]:
        places = {
            "application": self._service.app_dir,
            "database": os.path.dirname(self._known.database_path),
            "log": os.path.dirname(self._service.log_file),
            "state": self._service.state_dir,
            "temporary files": "/tmp",  # noqa: S108
        }
        # A service that logs to the journal has no log file.
        return {use: path for use, path in places.items() if path}

    def _database_again(self, timeout: float) -> None:
        """Give a large database more time for its check if its disk responds."""
        if self.done.of("database").get("conclusive"):
            return
        if not self.done.answered("database"):
            alive = parallel.ask(
                {"alive": functools.partial(_sign_of_life, self._known.database_path)}, timeout=_SIGN_OF_LIFE
            )
            if alive["alive"].error is not None:
                return
        self._ask({"database": collect_application.database}, timeout=timeout)

    @property
    def modules_complete(self) -> Optional[bool]:
        """True if node_modules contains all packages, False if one is missing or wrong, None if this is unknown."""
        complete: Optional[bool] = self.done.of(MODULES).get("complete")
        return complete

    @property
    def answered_at(self) -> Optional[str]:
        """The time of the first healthy answer after a start by a response, or None if it was not seen."""
        at: Optional[str] = self.done.of(FIRST_ANSWER).get("at")
        return at

    def facts(self) -> Dict[str, Any]:
        """Return the facts from all parts so far, and the facts that this process determines itself."""
        service, facts = self._service, copy.deepcopy(self.done.facts)
        for name in (MODULES, FIRST_ANSWER):
            facts.pop(name, None)
        if self._record is not None:
            _as_before_the_takeover(facts, self._record)
            _mark_own_exits(facts, self._record)
        exists, pid_file = (facts.pop(name, None) for name in ("app_dir", "pid_file"))
        facts.pop("files", None)
        tables = facts["migrations"].pop("schema", None)
        read = None if tables is None else {"schema": tables, "names": facts["migrations"]["completed"]}
        version = self.done.of("node").get("version")
        facts["changes"] = collect_changes.with_schema(self.done.of("changes"), read, version)
        facts["migrations"] = collect_application.with_pending(facts["migrations"], facts.pop("migrations_shipped"))
        for item in facts["disk"]:
            item.setdefault("path", self._places()[item["use"]])
        for item in facts["paths"]:
            item.setdefault("what", item.pop("use", None))
        facts["database"] = {**facts["database"], **self._database()}
        facts["service"] = {
            "app_dir": service.app_dir,
            "app_dir_exists": exists if isinstance(exists, bool) else None,
            "manager": service.manager,
            "unit": service.unit,
            "pid_file_exists": pid_file if isinstance(pid_file, bool) else None,
            "https_port": service.https_port,
            "http_port": service.http_port,
            "health_path": service.health_path,
        }
        first = procfs.read_process(1)
        facts["window"] = {
            "since": timestamps.iso(_since(facts, window=self._window)),
            # The facts that matter for the outage are from before a start.
            "until": self._until or timestamps.now(),
            # In a container, process 1 starts with the container.
            "booted_at": first.started_at if first is not None else None,
        }
        return facts


def _as_before_the_takeover(facts: Dict[str, Any], record: Mapping[str, Any]) -> None:
    """Restore the unit's facts from before this incident's takeover, and omit the takeover's own stop.

    A stop resets the unit's result, exit and restart counter. In the journal, the takeover's stop looks like a stop
    by a person.
    """
    takeover, exited, unit = record.get("takeover"), record.get("last_exit"), facts.get("unit")
    if not takeover or not isinstance(unit, dict) or unit.get("active_state") != "inactive":
        return
    at = takeover["at"]
    journal = facts.get("journal")
    if isinstance(journal, dict):
        before = timestamps.iso(timestamps.epoch(at) - _OWN_STOP)
        journal["stops"] = [item for item in journal.get("stops") or () if item["at"] < before]
    unit["taken_over_at"] = at
    if exited:
        unit.update(
            active_state="activating",
            sub_state=takeover["sub_state"],
            result=exited["result"],
            exit_code=exited["code"] or None,
            exit_status=exited["status"],
            restarts=exited["restarts"],
            last_pid=exited["pid"] or unit.get("last_pid"),
            exited_at=exited["at"] or unit.get("exited_at"),
        )


def _mark_own_exits(facts: Dict[str, Any], record: Mapping[str, Any]) -> None:
    """Omit the exits that a takeover caused, and mark the exits (ours) that followed a start by a run."""
    journal = facts.get("journal")
    if not isinstance(journal, dict):
        return
    kills = [(kill["from"], kill["until"]) for kill in record.get("kills") or ()]
    exits = [item for item in journal.get("exits") or () if not any(a <= item["at"] <= b for a, b in kills)]
    starts = sorted(item["at"] for item in journal.get("starts") or ())
    own = set()
    for start in record.get("starts") or ():
        begun = timestamps.epoch(start["at"])
        own.add(next((at for at in starts if 0 <= timestamps.epoch(at) - begun <= _OWN_START), None))
    for item in exits:
        item["ours"] = max((at for at in starts if at <= item["at"]), default="") in own
    journal["exits"] = exits
