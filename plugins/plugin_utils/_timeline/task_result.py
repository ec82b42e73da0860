# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Convert Ansible tasks and their results to timeline entries.

An entry is an event without version, time and run. An entry does not contain arguments, loop items or rendered names.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import FIRST_RESPONSE
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import (
    allowlist,
    ansible_core,
    kinds,
    progress,
)

# Actions that publish the outcome of a run.
_PUBLISHING = ("ansible.builtin.set_stats", "set_stats")

# Actions that validate a role's variables against the role's argument specification.
_VALIDATING = ("ansible.builtin.validate_argument_spec", "validate_argument_spec")

# The messages of these actions are constants in the playbook. The dictionary maps each action to the argument that
# contains its message.
_STATIC_MESSAGES = {
    "ansible.builtin.fail": "msg",
    "ansible.builtin.assert": "fail_msg",
}

_FAILURES = ("failed", "ignored")
# The result of this module is recorded as two entries.
_FIRST_RESPONSE = "first_response"

# The key for the number of timeline lines that the host has, both in module results and in recorded entries.
SAVED = "timeline_saved"

Entry = Dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """The task data that is the same on every host, without values that are rendered at run time.

    module: the short name, if it is a module in this collection. identity: the keys that every entry for the task has.
    """

    uuid: str
    action: str
    module: Optional[str]
    identity: Mapping[str, Optional[str]]
    # The parent's memory address identifies the task and must not be reused. Therefore, this reference keeps the parent
    # in memory.
    parent: Any

    @classmethod
    def of(cls, task: Any) -> Task:
        """Return the data of an Ansible task."""
        action, source = action_of(task), task.get_ds()
        name = kinds.static(source.get("name") if isinstance(source, dict) else None)
        return cls(
            uuid=str(task._uuid),
            action=action,
            module=allowlist.own_module(action),
            identity={"task": name, "role": _role(task), "action": action},
            parent=task._parent,
        )


def host_and_task(result: Any) -> Tuple[str, Any]:
    """Return the host name and the task.

    ansible-core 2.19 adds public attributes for the host name and the task, and 2.23 removes the private attributes.
    """
    if hasattr(result, "host"):
        return str(result.host.get_name()), result.task
    return str(result._host.get_name()), result._task


def fields_of(result: Any) -> Dict[str, Any]:
    """Return the keys of a result. Avoid this call if possible: ansible-core copies all keys on the first access."""
    return result.result if hasattr(result, "host") else result._result  # type: ignore[no-any-return]


def action_of(task: Any) -> str:
    """Return the full name of a task's action or module."""
    # If meta/runtime.yml specifies an action plugin for a module, ansible-core 2.16 resolves the module to that plugin.
    named = str(task.action)
    return named if allowlist.own_module(named) else str(task.resolved_action or named)


def started(host: str, known: Task) -> Entry:
    """Return the entry for the start of a task."""
    return {"kind": "started", "host": host, **known.identity}


def retried(host: str, known: Task, fields: Mapping[str, Any]) -> Entry:
    """Return the entry for a failed attempt that is followed by another attempt."""
    attempts = kinds.pick(kinds.NUMBER, fields.get("attempts"))
    return {"kind": "retry", "host": host, **known.identity, "attempts": attempts}


def unreachable(host: str, known: Task, clock: Optional[progress.Clock]) -> Entry:
    """Return the entry for a host that could not be reached."""
    return {"kind": "unreachable", "host": host, **known.identity, **_times(clock)}


def succeeded(result: Any, known: Task, clock: Optional[progress.Clock]) -> Iterator[Entry]:
    """Yield the entries for a successful result: the entry for the task, or the outcome that the task publishes."""
    host, task = host_and_task(result)
    if not known.module and known.action not in _PUBLISHING:
        # The keys of this result are not recorded. Do not read them, because reading takes longer than all other work
        # in this function.
        status = "changed" if result.is_changed() else "ok"
        hidden = {"hidden": True} if task.no_log else {}
        yield {"kind": "task", "host": host, **known.identity, "status": status, **_times(clock), **hidden}
        return
    fields = fields_of(result)
    published = {} if known.module else _published(task, fields)
    summary = kinds.pick(allowlist.SUMMARY, published.get(allowlist.SUMMARY_KEY) or {})
    if summary:
        yield {"kind": "summary", "data": summary}
    outcome = kinds.pick(allowlist.OUTCOME, (published.get(allowlist.OUTCOME_KEY) or {}).get(host))
    if isinstance(outcome, dict):
        yield {"kind": "outcome", "host": host, "data": outcome}
        return
    places = kinds.pick(allowlist.PUBLISHED, (published.get(allowlist.PUBLISHED_KEY) or {}).get(host))
    if isinstance(places, dict):
        yield {"kind": "published", "host": host, "data": places}
        return
    yield from _ended(host, task, known, fields, status="changed" if fields.get("changed") else "ok", clock=clock)


def failed(result: Any, known: Task, clock: Optional[progress.Clock], *, ignored: bool) -> Iterator[Entry]:
    """Yield the entries for a task that failed. ignored: True if the playbook ignores the error."""
    host, task = host_and_task(result)
    yield from _ended(host, task, known, fields_of(result), status="ignored" if ignored else "failed", clock=clock)


def _ended(
    host: str,
    task: Any,
    known: Task,
    fields: Dict[str, Any],
    *,
    status: str,
    clock: Optional[progress.Clock],
) -> Iterator[Entry]:
    entry: Entry = {"kind": "task", "host": host, **known.identity, "status": status, **_times(clock)}
    if _hidden(task, fields):
        yield {**entry, "hidden": True}
        return
    # If a task runs a module from this collection in a loop, there is one entry per item. Only the items' results
    # contain the data.
    for turn in _turns(known, fields):
        if turn.get("skipped"):
            continue
        if known.module == _FIRST_RESPONSE and turn.get("findings") is not None:
            yield from _triage_and_start(entry, turn)
            continue
        of_turn = dict(entry) if turn is fields else {**entry, "status": _status_of_turn(turn, status)}
        data = allowlist.of_result(known.action, turn) or _mismatches(task, known, turn)
        if data:
            of_turn["data"] = data
        if known.module and isinstance(turn.get(SAVED), int):
            of_turn[SAVED] = turn[SAVED]
        if of_turn["status"] in _FAILURES:
            of_turn["msg"] = _reason(task, known, turn)
        yield of_turn
        # The duration is the total for all items.
        entry.pop("duration", None)


def _triage_and_start(entry: Entry, fields: Dict[str, Any]) -> Iterator[Entry]:
    """Yield the entries for a first response: one for its triage and, if it started the service, one for the start.

    The first_response module does the work of triage_info and node_process. Therefore, the entries are recorded as
    results of these two modules.
    """
    action = f"{allowlist.COLLECTION}.triage_info"
    yield {**entry, "action": action, "status": "ok", "data": allowlist.of_result(action, fields)}
    response = fields.get("response") or {}
    if not response.get("started"):
        return
    action = f"{allowlist.COLLECTION}.node_process"
    of_start = {
        "action": action,
        "role": FIRST_RESPONSE,
        "status": "changed",
        "start": kinds.pick(kinds.TEXT, response["attempt"]["started_at"]),
        "duration": kinds.pick(kinds.NUMBER, response["process"]["duration"]),
        "data": allowlist.of_result(action, response["process"]),
    }
    yield {**entry, **of_start}


def _times(clock: Optional[progress.Clock]) -> Dict[str, Any]:
    """Return the start of a task and its duration in seconds, or {} if they are unknown."""
    return {"start": timestamps.iso(clock.began), "duration": round(clock.seconds, 3)} if clock else {}


def _turns(task: Task, fields: Dict[str, Any]) -> List[Dict[str, Any]]:
    """If a module from this collection ran in a loop, return the item results. Otherwise, return the task's result."""
    turns = fields.get("results")
    if not task.module or not isinstance(turns, list) or not turns:
        return [fields]
    return [turn for turn in turns if isinstance(turn, dict)]


def _status_of_turn(turn: Dict[str, Any], status: str) -> str:
    if turn.get("failed"):
        return status if status in _FAILURES else "failed"
    return "changed" if turn.get("changed") else "ok"


def _role(task: Any) -> Optional[str]:
    """Return the outermost role of a task. This role is the runbook step that the task belongs to."""
    outermost: Optional[str] = None
    part = task
    while part is not None:
        role = getattr(part, "_role", None)
        if role is not None:
            outermost = str(role.get_name())
        part = getattr(part, "_parent", None)
    prefix = allowlist.COLLECTION + "."
    return outermost[len(prefix) :] if outermost and outermost.startswith(prefix) else outermost


def _hidden(task: Any, fields: Dict[str, Any]) -> bool:
    """Return True if no_log applies to the task or to one of its results."""
    items = fields.get("results")
    parts = [fields, *(item for item in (items if isinstance(items, list) else []) if isinstance(item, dict))]
    return bool(task.no_log) or any(part.get("_ansible_no_log") or "censored" in part for part in parts)


def _published(task: Any, fields: Dict[str, Any]) -> Dict[str, Any]:
    """Return the data that a task publishes with set_stats."""
    if _hidden(task, fields):
        return {}
    published: Dict[str, Any] = (fields.get("ansible_stats") or {}).get("data") or {}
    return published


def _reason(task: Any, known: Task, fields: Dict[str, Any]) -> Optional[str]:
    """Return the reason why a task failed, or None if the reason must not be recorded.

    The reason is a message from our modules or a constant in a playbook.
    """
    if known.module:
        return kinds.pick(kinds.TEXT, fields.get("msg")) if _is_of_module(fields) else _undefined(fields)
    if known.action in _VALIDATING:
        return _undefined(fields)
    source, key = task.get_ds(), _STATIC_MESSAGES.get(known.action)
    if key is None or not isinstance(source, dict):
        return None
    arguments = source.get(known.action) or source.get(known.action.rsplit(".", 1)[-1])
    return kinds.static(arguments.get(key)) if isinstance(arguments, dict) else None


def _undefined(fields: Dict[str, Any]) -> Optional[str]:
    """Return a reason that contains only the name of the variable that ansible-core reports as undefined, or None."""
    name = re.search(r"'([A-Za-z_][A-Za-z0-9_]{0,99})' is undefined", str(fields.get("msg")))
    return f"the variable {name[1]} is not defined" if name else None


def _mismatches(task: Any, known: Task, fields: Dict[str, Any]) -> Dict[str, Any]:
    """Return one problem for each variable of our roles that does not match its specification.

    The problems contain no values.
    """
    role = getattr(task, "_role", None)
    if known.action not in _VALIDATING or role is None or not allowlist.own_module(str(role.get_name())):
        return {}
    specified: Dict[str, Any] = fields.get("argument_spec_data") or {}
    problems = []
    for error in map(str, fields.get("argument_errors") or []):
        for name in [name for name in re.findall(r"\w+", error) if name in specified]:
            choices = specified[name].get("choices")
            allowed = (
                f"one of {', '.join(map(str, choices))}" if choices else f"of type {specified[name].get('type', 'str')}"
            )
            problems.append(f"{name} is missing" if error.startswith("missing") else f"{name} must be {allowed}")
    return allowlist.of_result(f"{allowlist.COLLECTION}.fail_settings", {"problems": problems}) if problems else {}


def _is_of_module(fields: Dict[str, Any]) -> bool:
    """Return True if a failure message is from the module, not from ansible-core.

    A message from ansible-core can quote arguments and exceptions. Since version 2.19, ansible-core adds a prefix to
    its own messages. In earlier versions, a result with such a message does not have the "invocation" key.
    """
    if ansible_core.release() >= (2, 19):
        return not str(fields.get("msg")).startswith("Task failed:")
    return "invocation" in fields
