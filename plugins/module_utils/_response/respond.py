# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If the service's process is gone and no obstacle is found, start the service immediately (see decision.py)."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import FIRST_RESPONSE
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._response import decision, messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import health as service_health
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import recorded_start
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Plan, Target
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import NodeProcessError, Service
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import triage_pass
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Question, found
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.run import TriageError

Warn = Callable[[str], Any]

# While waiting for the first response: the timeout of a request and the time between two requests, both in seconds.
_ANSWER, _INTERVAL = 1.0, 0.1


class FirstResponse(NamedTuple):
    """A first response. It runs between the two groups of triage parts, while the run holds its lease.

    service: the service, without the path of its database, because triage finds this path. lease: run and state_dir.
    settle: adds the state of the data to a triage result (see data_guard.finish).
    """

    service: Service
    lease: Mapping[str, Any]
    stop_timeout: float
    settle: Callable[[Dict[str, Any]], None]
    warn: Warn

    def __call__(
        self, result: Mapping[str, Any], save: Callable[[], None]
    ) -> Tuple[Dict[str, Any], Mapping[str, triage_pass.Part]]:
        """Start the service if no obstacle is found. Return the `response` result of first_response.

        If the service was started, also return the part that waits for its first response. result, save: see
        triage_run.Respond.
        """
        record = incident_store.current(self.lease["state_dir"])
        told = decision.obstacle(result, record=record)
        if told is not None:
            return _nothing(told), {}
        try:
            save()
        except TriageError as error:
            return _nothing(message("reason.response.evidence", why=quoted(error))), {}
        self.settle(dict(result))
        response = self._start(result)
        waiting = {triage_pass.FIRST_ANSWER: functools.partial(_first_answer, self.service)}
        return response, waiting if response["started"] else {}

    def note_answer(self, result: Mapping[str, Any]) -> None:
        """Record the time of the first healthy response now. The run may be killed before the verification."""
        at = (result.get("response") or {}).get("answered_at")
        problem = incident_notes.note_answer(**self.lease, at=at) if at else None
        if problem:
            self.warn(problem)

    def _start(self, result: Mapping[str, Any]) -> Dict[str, Any]:
        attempt = {"rung": FIRST_RESPONSE, "started_at": timestamps.now()}
        cause = next((str(finding["cause"]) for finding in result["findings"]), None)
        service = self.service._replace(db_path=str(result["facts"]["database"]["path"]))
        problem = incident_notes.note_attempts(**self.lease, attempts=[attempt], signs=result["signs"], cause=cause)
        if problem:
            # If the result of this module is lost, only the record shows that the run has started the service.
            return _nothing(message("reason.response.unrecorded", why=quoted(problem)))
        try:
            started = recorded_start.ensure(
                service, state="started", stop_timeout=self.stop_timeout, lease=self.lease, warn=self.warn
            )
        except NodeProcessError as error:
            return self._failed(attempt, message("reason.response.not_started", why=error.told))
        if not started["changed"]:
            return self._failed(attempt, message("reason.response.running"))
        return {
            "started": True,
            "why_not": None,
            "messages": {},
            "attempt": attempt,
            "process": started,
        }

    def _failed(self, attempt: Mapping[str, Any], why: Message) -> Dict[str, Any]:
        """Record that the attempt has failed, and return the response."""
        failed = {**attempt, "held": False, "reason": messages.english(why)}
        problem = incident_notes.note_attempts(**self.lease, attempts=[failed])
        if problem:
            self.warn(problem)
        return _nothing(why)


def _first_answer(service: Service, question: Question) -> Dict[str, Any]:
    """Wait for a healthy response, or until the service's process is gone. at: the time of the response, or None."""
    asked = question.service
    targets = [
        Target(name, f"{name}://localhost:{port}{asked.health_path}", required=name == "https" or not asked.https_port)
        for name, port in (("https", asked.https_port), ("http", asked.http_port))
        if port
    ]
    if not asked.health_path or not targets:
        return found({"at": None})
    plan = Plan(
        mode="await",
        ok_statuses=asked.health_ok_statuses,
        timeout=_ANSWER,
        interval=_INTERVAL,
        deadline=question.left * 0.9,
        sole_starter=True,
    )
    seen = service_health.ask(service, targets, plan)
    return found({"at": seen["first_healthy_at"] if seen["healthy"] else None})


def _nothing(told: Message) -> Dict[str, Any]:
    """Return the response that states why the service was not started."""
    return {
        "started": False,
        "why_not": messages.english(told),
        "messages": {"why_not": told.to_dict()},
        "attempt": None,
        "process": None,
    }
