# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In the same call as the health probe, check whether a service that answers is also ready.

A service that answers can still have a damaged or locked database, an expired certificate or a full disk.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import time
import urllib.parse
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, from_dict, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import history, measure, problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import limits as readiness_limits
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness.limits import Limits
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness.problems import Problem, Unchecked
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection, http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Login, Target

# A slow response is reported only if this many further responses are also slow.
_AGAIN = 2
# File checks may take this many seconds longer than their time limits.
_MORE = 1.0


class Question(NamedTuple):
    """The service whose readiness is checked.

    endpoints, pids, restarts: as in health_probe's result. targets: the requests that the probe sent. folders: maps
    each use to a folder of the service. login: a login that must succeed, or None. timeout: the time limit of a
    request, in seconds. before: if the service was degraded, the cause of the open incident, otherwise an empty string.
    """

    endpoints: Sequence[Mapping[str, Any]]
    targets: Sequence[Target]
    pids: Sequence[int]
    restarts: Optional[int]
    database_path: str
    user: str
    folders: Mapping[str, str]
    login: Optional[Login]
    timeout: float
    state_dir: str
    before: str = ""

    @property
    def required(self) -> List[Target]:
        """The requests that must succeed."""
        return [target for target in self.targets if target.required]


class _Check:
    """The checks of one call: the problems that they found, and the checks that could not be run."""

    def __init__(self, question: Question, limits: Limits) -> None:
        self.question = question
        self.limits = limits
        self.found: List[Problem] = []
        self.unchecked: List[Unchecked] = []
        self.clock = measure.clock()
        self.known = history.read(question.state_dir, now=self.clock["now"])
        self.latency: Optional[float] = None
        self.open_files: Optional[int] = None

    def answers(self) -> None:
        """Run the checks that do not require the service's files: responses, certificates, process and host."""
        question = self.question
        self.found += problems.of_certificates(question.endpoints, self.limits, self.clock["now"])
        self._check_latency()
        if self.limits.ready_path and question.required:
            first = question.required[0]
            url = urllib.parse.urljoin(first.url, self.limits.ready_path)
            self._ask_ready(first._replace(name="ready", url=url))
        if question.login is not None:
            self._log_in(question.login)
        hidden = Unchecked("open_files", message("reason.unready.process"), ("too_many_files",))
        if not question.pids:
            self.unchecked.append(hidden)
        search = procfs.Search()
        for pid in question.pids:
            files = measure.open_files(pid, search=search)
            self.found += problems.of_open_files(*files, self.limits)
            if files.open_files is None:
                self.unchecked.append(hidden)
            else:
                self.open_files = (self.open_files or 0) + files.open_files
        self.found += problems.of_host(
            clock=self.clock,
            restarts=question.restarts,
            pressure=max((measure.memory_pressure(pid) or 0.0 for pid in question.pids), default=None),
            known=self.known,
            limits=self.limits,
        )

    def _check_latency(self) -> None:
        answered = [each for each in self.question.endpoints if each["required"] and each["ok"]]
        if not answered or not self.limits.slow_after:
            return
        latency = max(each["latency_ms"] for each in answered) / 1000
        slow = functools.partial(problems.is_slow, known=self.known, limits=self.limits)
        for _time in range(_AGAIN if slow(latency) else 0):
            again = http_probe.probe(self.question.required, timeout=self.question.timeout, ok_statuses=())
            latency = min(latency, max((each["latency_ms"] for each in again), default=0.0) / 1000)
        if not slow(latency):
            # Slow responses would raise the usual latency, so they are not saved.
            self.latency = latency
        else:
            self.found.append(problems.of_latency(latency, self.known, answered[0]["url"]))

    def _ask_ready(self, target: Target) -> None:
        answer = http_probe.fetch(target, timeout=self.question.timeout)
        path = urllib.parse.urlsplit(target.url).path
        if answer.error is not None:
            told = message("finding.not_ready.silent", path=path, why=answer.error)
            self.found.append(Problem("not_ready", told, target.url))
        elif answer.status is not None and 200 <= answer.status < 300:
            return
        elif answer.status == http.client.SERVICE_UNAVAILABLE or (answer.status or 0) >= 500:
            self.found.append(Problem("not_ready", _not_ready(path, answer.status, answer.body), target.url))
        else:
            # The service does not provide this endpoint (404), or limits the number of requests (429).
            told = message("reason.unready.status", path=path, status=str(answer.status))
            exists = answer.status != http.client.NOT_FOUND
            self.unchecked.append(Unchecked("ready", told, ("not_ready",) if exists else ()))

    def _log_in(self, login: Login) -> None:
        answer = http_probe.log_in(login, timeout=self.question.timeout)
        path = urllib.parse.urlsplit(login.target.url).path
        if not answer["ok"]:
            why = from_dict(answer["messages"]["error"])
            self.found.append(Problem("login_refused", message("finding.login_refused", why=why), path))
        elif not answer["checked"]:
            told = message("reason.unready.status", path=path, status=str(answer["status"]))
            self.unchecked.append(Unchecked("login", told, ("login_refused",)))

    def files(self, answers: Mapping[str, parallel.Answer]) -> Optional[Mapping[str, Any]]:
        """Check the database and the file systems. Return the facts about the database, or None if it is unknown."""
        now, disks = self.clock["now"], answers["disks"]
        if disks.error is None:
            self.found += problems.of_disks(disks.value, self.known, self.limits, now)
        else:
            self.unchecked.append(Unchecked("disks", self._why_not(disks), ("disk_full", "disk_filling")))
        database = answers.get("database")
        if database is None or database.error is not None:
            told = message("reason.unready.path") if database is None else self._why_not(database)
            self.unchecked.append(Unchecked("database", told, ("db_corrupt", "db_locked", "wal_growing")))
            return None
        seen: Mapping[str, Any] = database.value
        accepted = incident_store.current_acceptance(self.question.state_dir) if seen["damage"] else None
        self.found += problems.of_database(
            self.question.database_path,
            seen,
            self.known,
            self.limits,
            now,
            pids=self.question.pids,
            acceptance=accepted,
        )
        if self.limits.check_budget and not seen["checked"]:
            late = message("reason.unready.late", seconds=f"{self.limits.check_budget:g}")
            self.unchecked.append(Unchecked("database", late, ("db_corrupt",)))
        return seen

    def _why_not(self, answer: parallel.Answer) -> Message:
        if answer.error == parallel.TIMED_OUT:
            return message("reason.unready.late", seconds=f"{answer.seconds:.1f}")
        return message("reason.unready.error", why=str(answer.error))


def _not_ready(path: str, status: Optional[int], body: bytes) -> Message:
    """Return the message for a response that lists the failed checks, as in {"checks": {"disk": {"ok": false}}}."""
    checks: Any = None
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        checks = json.loads(body.decode("utf-8"))["checks"]
    failed = [str(name)[:40] for name, each in checks.items() if _has_failed(each)] if isinstance(checks, dict) else []
    if not failed:
        return message("finding.not_ready.status", path=path, status=str(status))
    return message("finding.not_ready.checks", path=path, checks=failed[:10])


def _has_failed(check: Any) -> bool:
    value = check.get("ok", check.get("status")) if isinstance(check, dict) else check
    return value is False or (isinstance(value, str) and value.casefold() not in ("ok", "healthy", "up", "pass"))


def examine(question: Question, limits: Limits, *, remember: bool, forget: Sequence[str] = ()) -> Dict[str, Any]:
    """Return the `readiness` result of health_probe.

    If `remember` is true, the measurements are saved for trends, unless a problem has one of the causes in `forget`.
    """
    begun = time.monotonic()
    check = _Check(question, limits)
    asked: Dict[str, Any] = {"disks": functools.partial(measure.disks, question.folders, user=question.user)}
    if question.database_path:
        asked["database"] = functools.partial(
            measure.database,
            question.database_path,
            user=question.user,
            budget=limits.check_budget,
            lock_after=limits.lock_after,
        )
    limit = _MORE + limits.check_budget + limits.lock_after
    answers = parallel.ask(asked, timeout=limit, first=("database",), meanwhile=check.answers)
    seen = check.files(answers)
    if question.before not in [each.cause for each in check.found]:
        check.found += problems.unconfirmed(question.before, check.unchecked)
    if remember and not any(each.cause in forget for each in check.found):
        disks = answers["disks"].value or []
        new = history.sample(
            at=check.clock["now"],
            boot=check.clock["boot"],
            offset=check.clock["offset"],
            latency=check.latency,
            restarts=question.restarts,
            wal=seen["wal"] if seen else None,
            disks={disk["mount"]: {name: disk[name] for name in ("bytes", "inodes")} for disk in disks},
            open_files=check.open_files,
        )
        history.write(question.state_dir, check.known, new)
    return {
        "problems": [each.as_dict() for each in problems.first_of_each(check.found)],
        "unchecked": [each.as_dict() for each in check.unchecked],
        "seconds": round(time.monotonic() - begun, 3),
    }


def _degraded_incident(state_dir: str) -> Mapping[str, Any]:
    """If the service was degraded, return the record of the open incident, otherwise an empty mapping."""
    record = incident_store.current(state_dir) or {}
    degraded = incident_store.DEGRADED in (record.get("severity"), record.get("outcome"))
    return record if degraded else {}


def _reported(report: Mapping[str, Any], record: Mapping[str, Any]) -> Optional[str]:
    """Return the incident's ID if an earlier, completed run has already reported all problems, otherwise None."""
    causes = {problem["cause"] for problem in report["problems"]}
    known = record.get("outcome") == incident_store.DEGRADED and causes <= set(record["problems"])
    return str(record["id"]) if causes and known else None


def of_detection(
    values: Mapping[str, Any], checked: Optional[Dict[str, Any]], health: Mapping[str, Any], *, check_mode: bool
) -> Optional[Dict[str, Any]]:
    """Return the readiness for health_probe, or None if its `readiness` option is not set. See detection.Ready.

    Raises HealthError if a parameter is invalid.
    """
    if not values["readiness"]:
        return None
    service, path = values["service"], detection.database_path_of(checked)
    login = probe_plan.login_of(values["login"]) if values["mode"] == "watch" else None
    if login is not None:
        probe_plan.check_login(login)
    folders = {"application": service["app_dir"], "state": values["state_dir"]}
    folders.update({"database": os.path.dirname(path)} if path else {})
    folders.update({"log": os.path.dirname(service["log_file"])} if service["log_file"] else {})
    record = _degraded_incident(values["state_dir"]) if values["mode"] == "watch" else {}
    question = Question(
        endpoints=health["endpoints"],
        targets=detection.targets_of(values["endpoints"], checked),
        pids=health["process"]["pids"],
        restarts=health["process"]["restarts"],
        database_path=path,
        user=((checked or {}).get("resolved") or {}).get("user") or service["user"],
        folders=folders,
        login=login,
        timeout=values["timeout"],
        state_dir=values["state_dir"],
        before=str(record.get("cause") or ""),
    )
    remember = values["mode"] == "watch" and values["remember"] and not check_mode
    # A clock change is reported only once, by the run that opens an incident.
    forget = () if values["open"] else ("clock_jump",)
    report = examine(question, readiness_limits.of(values["readiness"]), remember=remember, forget=forget)
    return {**report, "reported": _reported(report, record)}
