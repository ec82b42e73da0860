# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage: everything a person would look at during an outage, read in one pass, bounded in time and in size.

Each part is one function that takes a L(Question) and returns what L(found) makes of it. It runs in a process of its
own (see L(parallel)), so a part that hangs or crashes costs only itself. This process itself touches no path of the
service. The package causes decides what the facts mean.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    commands,
    message,
    parallel,
    redact,
    safe_open,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import row_counts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    collect_application,
    collect_certificate,
    collect_host,
    collect_logs,
    collect_service,
    collect_start,
    messages,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import table as causes_table
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    Service,
    file,
    found,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

Part = Callable[[Question], Dict[str, Any]]

# The first questions tell the others where to look; they read only systemd, /proc and small files.
_EARLY_SHARE = 0.15
# Causes that are about the data: what blocks a start because of one of them puts the data in doubt.
DATA_CAUSES = ("db_corrupt", "db_unchecked")
# Seconds before a takeover was noted in which the stop of the unit is its own.
_OWN_STOP = 1.0

_PATHS = ("database", "log", "working directory")
# What is kept back of the deadline for the findings and the bundle.
_LAST_SHARE = 0.15
# Seconds that a place for the bundle is given at least: it is written to disk file by file.
_LEAST_FOR_BUNDLE = 2.0
# A file of which nothing is heard by then is on a disk that does not answer.
_SIGN_OF_LIFE = 1.0


# A start after which the unit lives for so many seconds counts as one that served.
_SERVES_AFTER = 30.0
# A process that has run for longer than so many seconds has served: an end before its start began no outage of now.
_YOUNG = 90.0
# How long before its end a process may have written what it ended of.
_LAST_WORDS = 5.0


class TriageError(Exception):
    """The pass could not be made at all."""


def signs(facts: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return the instants that say when the service was last well and when it no longer was, oldest first."""
    found: List[Dict[str, str]] = []

    def sign(at: Optional[str], kind: str, source: str) -> None:
        if at:
            found.append({"at": at, "kind": kind, "source": source})

    unit_facts = facts.get("unit") or {}
    if unit_facts.get("active_state") not in (None, "active", "reloading"):
        ended_at = unit_facts.get("exited_at") or unit_facts.get("active_exit_at")
        sign(ended_at, "bad", f"unit {unit_facts['name']}: main process ended")
    ends = _ends(facts)
    # The first of them began the outage, unless something says that the service served in between: then the last did.
    started = [item["at"] for item in (facts.get("journal") or {}).get("starts", ())]
    again = ends[-1:] if any(ends[0]["at"] <= at <= ends[-1]["at"] for at in started if ends) else []
    for item in [*ends[:1], *again]:
        sign(item["at"], "bad", f"journal: {item['text'][:120]}")
    since = timestamps.iso(timestamps.epoch(ends[0]["at"]) - _LAST_WORDS) if ends else ""
    for name in ("log", "journal"):
        part = facts.get(name) or {}
        sign(part.get("last_success_at"), "good", f"{name}: last request answered well")
        fatal = [item for item in part.get("exceptions", ()) if item["fatal"] and str(item["at"] or "") >= since]
        for item in fatal[:1]:
            sign(item["at"], "bad", f"{name}: {item['message'][:120]}")
    return sorted(found, key=lambda item: item["at"])


def _ends(facts: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """Return the ends and stops of the unit that belong to this outage, oldest first.

    The counter NRestarts does not say which: it also counts restarts of earlier weeks, and a stop sets it to 0. Ends
    belong together if the start in between lasted for seconds only. If the unit has been active for minutes, the outage
    did not begin with an end.
    """
    unit_facts, journal_facts = facts.get("unit") or {}, facts.get("journal") or {}
    state = unit_facts.get("active_state")
    if state is None:
        return []
    gap = _SERVES_AFTER + (procfs.timespan(str(unit_facts.get("restart_delay") or "")) or 0.0)
    ends = sorted([*journal_facts.get("exits", ()), *journal_facts.get("stops", ())], key=lambda item: str(item["at"]))
    starts = [str(item["at"]) for item in journal_facts.get("starts", ())]
    started, until = unit_facts.get("started_at"), (facts.get("window") or {}).get("until")
    if state in ("active", "reloading"):
        ends = [item for item in ends if started and item["at"] <= started]
        if not ends or not until or timestamps.epoch(until) - timestamps.epoch(str(started)) > _YOUNG:
            return []
    first = len(ends)
    while first > 0 and (first == len(ends) or _belong(ends[first - 1], ends[first], starts=starts, gap=gap)):
        first -= 1
    return ends[first:]


def _belong(earlier: Mapping[str, Any], later: Mapping[str, Any], *, starts: Sequence[str], gap: float) -> bool:
    """Whether two ends are of one outage: what was started between them lasted too short to serve."""
    between = [at for at in starts if earlier["at"] <= at <= later["at"]]
    if between:
        return timestamps.epoch(later["at"]) - timestamps.epoch(max(between)) <= _SERVES_AFTER
    return timestamps.epoch(later["at"]) - timestamps.epoch(earlier["at"]) <= gap


@dataclasses.dataclass
class _Pass:
    """What one pass has gathered so far."""

    facts: Dict[str, Any] = dataclasses.field(default_factory=dict)
    reports: Dict[str, Any] = dataclasses.field(default_factory=dict)
    evidence: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    secrets: Set[str] = dataclasses.field(default_factory=set)

    def take(self, answers: Mapping[str, parallel.Answer]) -> None:
        for name, part in answers.items():
            self.reports[name] = part.report
            answer = part.value if part.error is None else None
            kind, _colon, use = name.partition(":")
            if answer is not None:
                self.evidence.extend(answer["evidence"])
                self.secrets.update(answer["secrets"])
                self.reports.update(answer["reports"])
            facts = answer["facts"] if answer is not None else {"error": part.error}
            if use:
                self.facts.setdefault(kind, []).append(facts if answer is not None else {"use": use, **facts})
            else:
                self.facts[kind] = facts

    def of(self, name: str) -> Mapping[str, Any]:
        """Return a part's facts, none where it was not asked or not reached."""
        facts = self.facts.get(name)
        return facts if isinstance(facts, dict) else {}

    def answered(self, name: str) -> bool:
        return isinstance(self.reports.get(name), float)


def _since(facts: Mapping[str, Any], *, window: float) -> float:
    """Return the instant from which on logs matter: C(window) seconds before the unit ended, or before now."""
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
    """Do to a file what does not come back where its disk does not answer."""
    real = os.path.realpath(path)
    os.statvfs(os.path.dirname(real))
    with open(safe_open.open_file(path), "rb") as stream:
        stream.read(4096)


def _run(part: Part, question: Question) -> Dict[str, Any]:
    """Run in the part's own process: its time begins now."""
    return part(question.begun_with(question.budget))


class _Triage:
    """One pass: which parts are asked when, and what each is told of those before it."""

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
        self._known: Dict[str, Any] = {}
        self.done = _Pass()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def _ask(self, parts: Mapping[str, Part], *, timeout: float, after: Optional[Mapping[str, str]] = None) -> None:
        until = time.monotonic() + timeout
        question = dataclasses.replace(
            self._base,
            since=_since(self.done.facts, window=self._window),
            # A part's own commands end before the part is given up, so that nothing is left running.
            budget=timeout * 0.9,
            until=until - timeout * 0.1,
            known={**self._known, "secrets": self.done.secrets},
        )
        questions = {name: functools.partial(_run, part, question) for name, part in parts.items()}
        self.done.take(parallel.ask(questions, timeout=timeout, after=after, until=until))

    def early(self) -> None:
        """Ask what tells the other parts where to look."""
        timeout = min(self._part_timeout, self._deadline * _EARLY_SHARE)
        parts: Dict[str, Part] = {"app_dir": _app_dir}
        if self._service.manager == "systemd":
            parts["unit"] = collect_service.unit
        self._ask(parts, timeout=timeout)
        unit = self.done.of("unit")
        self._known.update(
            {name: unit.get(name) for name in ("main_pid", "last_pid", "control_group", "working_directory")},
            unit_program=unit.get("program"),
            unit=unit,
            app_dir_answers=self.done.answered("app_dir"),
        )
        self._ask({"process": collect_service.process, "environment": collect_service.environment}, timeout=timeout)
        environment = self.done.of("environment")
        self._known["processes"] = self.done.of("process").get("processes", [])
        names = ("database_path", "database_path_source", "certificate", "key")
        self._known.update({name: environment.get(name) for name in names})
        self._ask(
            {f"paths:{what}": functools.partial(collect_service.paths, what=what) for what in _PATHS}, timeout=timeout
        )
        self._known["database"] = self._database()["path"]

    def _database(self) -> Dict[str, str]:
        """Return the database in use, how that is known, and the configured one."""
        for entry in self.done.facts["paths"]:
            if entry.get("what") == "database" and "effective" in entry:
                return {"path": entry["effective"], "source": entry["source"], "configured": entry["configured"]}
        # Links could not be followed: its disk does not answer.
        question = dataclasses.replace(self._base, known=self._known)
        path, source = collect_service.used_database(question, links=False)
        configured = os.path.normpath(self._service.path(self._service.db_path))
        return {"path": path, "source": source, "configured": configured}

    def late(self) -> None:
        """Ask everything else."""
        left = self._deadline * (1 - _LAST_SHARE) - self.elapsed
        # The migrations are read in the database: there one reader is told from a stranger, two would see each other.
        self._ask(self._late_parts(), timeout=max(0.1, min(self._part_timeout, left)), after={"migrations": "database"})
        if collect_application.to_be_listed(self.done.of("migrations"), self.done.of("migrations_shipped")):
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
            "ports": collect_service.ports,
            "answer": collect_service.answer,
            "memory": collect_host.memory,
            "kernel": collect_host.kernel,
            "cores": collect_host.cores,
            "start": collect_start.start,
            "ownership": collect_start.ownership,
            "log": collect_logs.log,
        }
        if service.health_path:
            parts["health"] = collect_service.health
        if service.pid_file:
            parts["pid_file"] = _pid_file
        if service.manager == "systemd":
            parts["journal"] = collect_logs.journal
        if service.tls_cert_path or (self._known.get("certificate") or {}).get("path"):
            parts["certificate"] = collect_certificate.certificate
        if self._base.keep:
            parts["files"] = collect_application.files
        for use, path in self._places().items():
            parts[f"disk:{use}"] = functools.partial(collect_host.disk, path=path, use=use)
        return parts

    def _places(self) -> Dict[str, str]:
        return {
            "application": self._service.app_dir,
            "database": os.path.dirname(self._known["database"]),
            "log": os.path.dirname(self._service.log_file),
            "state": self._service.state_dir,
            "temporary files": "/tmp",  # noqa: S108
        }

    def database_again(self, timeout: float) -> None:
        """Give a database that was too large for the pass more time; one that gives no sign of life is given none."""
        if self.done.of("database").get("conclusive"):
            return
        if not self.done.answered("database"):
            alive = parallel.ask(
                {"alive": functools.partial(_sign_of_life, self._known["database"])}, timeout=_SIGN_OF_LIFE
            )
            if alive["alive"].error is not None:
                return
        self._ask({"database": collect_application.database}, timeout=timeout)

    def facts(self) -> Dict[str, Any]:
        """Return what was found, by part, with what this process knows itself."""
        service, facts = self._service, self.done.facts
        if self._record is not None:
            _as_before_the_takeover(facts, self._record)
        exists, pid_file = (facts.pop(name, None) for name in ("app_dir", "pid_file"))
        facts.pop("files", None)
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
            "until": timestamps.now(),
            # Of a container, when that was started.
            "booted_at": first.started_at if first is not None else None,
        }
        return facts


def _as_before_the_takeover(facts: Dict[str, Any], record: Mapping[str, Any]) -> None:
    """Put back what a takeover of this incident changed: the unit as systemd had it, and no stop but those of others.

    A stop resets the result, the exit and the counter of the unit. In the journal it looks as if a person had asked
    for it.
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


def _hold_facts(facts: Mapping[str, Any], held: Optional[Mapping[str, Any]], rows: Mapping[str, int]) -> Dict[str, Any]:
    """Return what is known of the rows since the last good count, and of a hold and what keeps it in force."""
    database = facts.get("database") or {}
    counts = database.get("row_counts") or {}
    missing = row_counts.missing(rows, counts) if database.get("conclusive") else {}
    kept: Optional[message.Message] = None
    if held is not None and held.get("cause") in DATA_CAUSES:
        if not rows:
            kept = message.message("reason.hold.no_counts")
        elif not database.get("conclusive"):
            kept = message.message("reason.hold.unchecked")
        elif missing:
            tables = [f"{name} {now} of {before}" for name, (before, now) in sorted(missing.items())]
            kept = message.message("reason.hold.rows_missing", tables=tables)
    return {
        "held": {name: held.get(name) for name in ("incident", "cause", "reason", "at")} if held is not None else None,
        "kept_by": messages.english(kept) if kept else "",
        "messages": {"kept_by": kept.to_dict()} if kept else {},
        "rows_missing": missing,
        "rows_collapsed": bool(database.get("conclusive")) and row_counts.collapsed(rows, counts),
    }


def _accepted(finding: Finding) -> Finding:
    """Return a finding about the data that a person has accepted: it is still there, and blocks nothing."""
    if finding.cause not in (*DATA_CAUSES, "start_held"):
        return finding
    return dataclasses.replace(finding, blocks_start=False, useless_rungs=())


def triage(
    *,
    service: Service,
    run: commands.Runner,
    deadline: float,
    part_timeout: float,
    window: float,
    log_lines: int,
    silent: bool = False,
    kernel_log_command: Sequence[str] = (),
    incident: str = "",
    save: bool = True,
    database_timeout: float = 300.0,
    evidence_limit: int = triage_evidence.LIMIT,
    evidence_keep: int = 0,
    evidence_keep_days: float = 0.0,
    record: Optional[Mapping[str, Any]] = None,
    held: Optional[Mapping[str, Any]] = None,
    last_good: Callable[[str], Mapping[str, int]] = lambda path: {},
    settings: Sequence[Mapping[str, Any]] = (),
) -> Dict[str, Any]:
    """Look at everything once and return what module triage_info returns.

    C(record): what stands on record of the open incident. C(held): the hold of the service. C(last_good) returns the
    rows by table that a database had when it was found sound last.

    The database alone is given longer, C(database_timeout) seconds, where it could not be judged by the deadline:
    nothing may be started on one that nobody has looked through.

    C(settings) are the problems that the preflight found with the variables of the service.

    With C(incident) the evidence is written below C(service.state_dir); C(save=False) only says where it would be.
    Raises TriageError where the evidence cannot be written anywhere.
    """
    base = Question(
        service=service,
        run=run,
        since=time.time() - window,
        budget=part_timeout,
        log_lines=log_lines,
        kernel_log_command=kernel_log_command,
        keep=bool(incident) and save,
        silent=silent,
    )
    asking = _Triage(base, deadline=deadline, part_timeout=part_timeout, window=window, record=record)
    asking.early()
    asking.late()
    asking.database_again(database_timeout)
    done = asking.done
    redactor = redact.Redactor(done.secrets)
    facts = {**asking.facts(), "settings": list(settings)}
    on_record = (record or {}).get("data") or {}
    rows = on_record.get("rows") or last_good(facts["database"]["path"])
    facts["hold"] = _hold_facts(facts, held, rows)
    facts = redactor.value(facts)
    found = causes_table.evaluate(facts)
    if on_record.get("state") == "accepted":
        found = [_accepted(finding) for finding in found]
    findings = [finding.as_dict() for finding in found]
    result: Dict[str, Any] = {
        "findings": findings,
        "blocks_start": any(finding["blocks_start"] for finding in findings),
        "facts": facts,
        "bundle": None,
        "warnings": [],
        "parts": redactor.value(done.reports),
        "signs": signs(facts),
        "row_counts": facts["database"].get("row_counts") or {},
        "data_loss_suspected": bool(facts["database"].get("data_loss_suspected")),
        "rows_missing": facts["hold"]["rows_missing"],
        "rows_collapsed": facts["hold"]["rows_collapsed"],
        "rows_before": dict(rows),
    }
    if incident:
        summary = {name: result[name] for name in ("findings", "facts", "parts", "signs")}
        # Redacted as data: as text, a number beside a name that tells of secrets would be taken out with its JSON.
        told = json.dumps(redactor.value(summary), indent=1, sort_keys=True)
        kept = [{**file("triage.json", "this pass", told), "redacted": True}, *done.evidence]
        not_reached = {name: report for name, report in result["parts"].items() if not isinstance(report, float)}
        try:
            saved = triage_evidence.save(
                files=kept,
                incident=incident,
                state_dir=service.state_dir,
                redact=redactor.text,
                about={"host": socket.gethostname(), "window": facts["window"], "not_reached": not_reached},
                keep=triage_evidence.Keep(incidents=evidence_keep, days=evidence_keep_days),
                limit=evidence_limit,
                timeout=max(_LEAST_FOR_BUNDLE, deadline - asking.elapsed),
                home_answers=done.answered("disk:state"),
                dry_run=not save,
            )
        except triage_evidence.EvidenceError as error:
            raise TriageError(str(error)) from error
        result["bundle"], result["warnings"] = saved.path, saved.warnings
    result["duration"] = round(asking.elapsed, 3)
    return result
