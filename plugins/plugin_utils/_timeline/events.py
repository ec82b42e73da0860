# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a run: their format in the timeline, and the incident and the module of each event.

A timeline is a file of JSON objects, one per line, in the order of the events. Every event has these keys: v (version
of this format), at (UTC time), run and kind. Kinds and their other keys:

- run_start: playbook, check (check mode), core (version of ansible-core), job (URL of the AWX job, if there is one)
- play_start: name
- started: host, task, role, action; a task that runs one of our modules begins
- task: host, task (its name in the playbook, with unrendered templates), role, action, status (ok, changed, failed,
  ignored), start, duration (seconds), data (allowlisted keys of the result), msg (why the task failed), hidden (if the
  task has no_log), timeline_saved (the number of lines that the host has, see handover.py). If data or msg must not be
  recorded, it is omitted.
- retry: host, task, role, action, attempts
- unreachable: the same keys as task, without data
- outcome: host, data; the verdict on the run, see allowlist
- summary: data; the hosts in the run by outcome, see allowlist
- stats: hosts {name: {ok, changed, failures, unreachable, rescued, ignored}}; the run ended without being killed

incidents.py builds the model of an incident from these events.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist

VERSION = 1
# Suffix of timeline file names.
SUFFIX = ".jsonl"

Event = Dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(event: Mapping[str, Any]) -> bytes:
    """Return an event as a timeline line."""
    return _ENCODER.encode(event).encode("utf-8", "replace") + b"\n"


def decode(data: bytes) -> List[Event]:
    """Return the events in a timeline. Incomplete lines and lines in another format version are omitted."""
    events: List[Event] = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and event.get("v") == VERSION and event.get("run") and event.get("at"):
            events.append(_with_new_names(event))
    return events


def _with_new_names(event: Event) -> Event:
    """Rename the data of an outcome that was recorded before version 1.0.0."""
    data = event.get("data")
    if event.get("kind") == "outcome" and isinstance(data, dict):
        if data.get("outcome") == "mended_by_hand":
            data["outcome"] = "resolved_manually"
        escalation = data.get("escalation")
        if isinstance(escalation, dict) and "told" in escalation:
            escalation.setdefault("notified", escalation.pop("told"))
    return event


def opened(events: Iterable[Event]) -> Dict[str, str]:
    """Return a mapping of host to ID: the incident that one run opened or continued on each host."""
    return {str(event["host"]): str(event["data"]["id"]) for event in events if opens(event)}


def opens(event: Event) -> bool:
    """Return True if an event is a result of incident or incident_info that contains the ID of this run's incident."""
    of_module = event["kind"] == "task" and module_of(event) in allowlist.OF_INCIDENT
    return of_module and bool(event.get("data", {}).get("id")) and not is_left(event["data"], event.get("status"))


def is_left(data: Mapping[str, Any], status: Optional[str]) -> bool:
    """Return True if the incident module's data describes an incident that another run is working on."""
    return status == "ok" and bool(data.get("id") and data.get("locked_by")) and not data.get("run")


def without_incident(events: Iterable[Event]) -> Dict[str, List[Event]]:
    """Return a mapping of host to events.

    A host is included if it has no incident and at least one of our modules ran, or should have run, on it.
    """
    told = list(events)
    with_incident = opened(told)
    told_of = (event for event in told if event["kind"] == "outcome" or module_of(event) or _fits_not(event))
    hosts = dict.fromkeys(event["host"] for event in told_of)
    return {host: [event for event in told if event.get("host") == host] for host in hosts if host not in with_incident}


def _fits_not(event: Event) -> bool:
    """Return True if a variable of one of our roles is invalid or missing.

    In this case, the role does not run any module.
    """
    if event["kind"] != "task":
        return False
    unset = str(event.get("action")).rsplit(".", 1)[-1] == "validate_argument_spec" and event.get("msg")
    return bool(event.get("data", {}).get("problems") or unset)


def module_of(event: Mapping[str, Any]) -> Optional[str]:
    """Return the short name of the event's module if it belongs to this collection, otherwise None."""
    return allowlist.own_module(str(event.get("action") or ""))


def results(events: Sequence[Event], *modules: str) -> Iterator[Dict[str, Any]]:
    """Yield the result data of the given modules. modules: short names."""
    for event in events:
        if event["kind"] == "task" and module_of(event) in modules and event.get("data"):
            yield event["data"]


def first_value(*values: Any) -> Any:
    """Return the first value that is not empty, or None. False and 0 do not count as empty."""
    return next((value for value in values if value not in (None, "", [], {})), None)


def last_value(data: Iterable[Mapping[str, Any]], key: str) -> Any:
    """Return the last non-empty value of a key, or None."""
    return first_value(*reversed([each.get(key) for each in data]))


def verdict_of(run: Sequence[Event]) -> Dict[str, Any]:
    """Return the verdict on one run, or an empty mapping if there is none."""
    return next((dict(event["data"]) for event in reversed(run) if event["kind"] == "outcome"), {})
