# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postmortem
type: aggregate
short_description: Writes the postmortem of an outage while it happens
version_added: 0.1.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Records what a run does on a host from the moment M(itsm_nexus.runbook.incident) opens an incident there, and what
    led to it, as one JSON object a line in C(<dir>/<run>.jsonl). The file can be read at any time, also after the
    controller was killed.
  - At the end of the run the postmortem is written to C(<dir>/<incident>.md), C(.json) and C(.html), one of each for
    every host, C(<dir>/index.html) names them all, and a summary is shown on screen. All runs on the same incident are
    told in one document.
  - While a task takes long, a line on the error output says so every O(progress) seconds.
  - A run that opens no incident writes no file. In check mode nothing is written.
  - Of results, only named keys of this collection's own modules are recorded; of tasks with C(no_log), only the name as
    it stands in the playbook, the status and the time. Arguments, loop items and filled-in names are never recorded.
requirements:
  - enabled in the configuration (C(callbacks_enabled))
options:
  dir:
    description:
      - Folder on the controller for timelines and postmortems. It is created, readable by its owner alone, when it is
        first needed.
    type: path
    default: ~/.local/state/itsm-runbook/postmortems
    env:
      - name: ITSM_NEXUS_POSTMORTEM_DIR
    ini:
      - section: callback_postmortem
        key: dir
  language:
    description:
      - Language of the documents and of the summary, unless the playbook names one for its incident (variable
        C(postmortem_language)).
    type: str
    choices: [en, ja]
    default: en
    version_added: 0.2.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_LANGUAGE
    ini:
      - section: callback_postmortem
        key: language
  timezone:
    description:
      - Time zone in which times are given beside UTC, for example V(Asia/Tokyo), unless the playbook names one for its
        incident (variable C(postmortem_timezone)).
    type: str
    default: UTC
    version_added: 0.2.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_TIMEZONE
    ini:
      - section: callback_postmortem
        key: timezone
  progress:
    description: Seconds between two lines about a task that is not done yet; V(0) shows none.
    type: float
    default: 10
    version_added: 0.2.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_PROGRESS
    ini:
      - section: callback_postmortem
        key: progress
"""

import contextlib
import dataclasses
import functools
import os
import re
import secrets
import threading
import time
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, TypeVar

from ansible import constants, context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document_store, prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import progress as task_progress
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import event_batch

_Method = TypeVar("_Method", bound=Callable[..., None])

_CORE = tuple(int(part) for part in ansible_version.split(".")[:2])

# Writings kept of a run that has not opened an incident (yet).
_BACKLOG = 2000

# Seconds that the beginning of a task and its good end wait at most, to be written together with what comes after.
_TOGETHER = 0.2

# Tasks that ask somebody: a line in between would stand in the answer.
_ASKING = ("ansible.builtin.pause", "pause")

# What reads the timeline of its own run.
_READING = ("postmortem_render",)

# What publishes the verdict of a run.
_PUBLISHING = ("ansible.builtin.set_stats", "set_stats")

# What compares the variables of a role with its specification.
_VALIDATING = ("ansible.builtin.validate_argument_spec", "validate_argument_spec")

_STATIC_MESSAGES = {
    "ansible.builtin.fail": "msg",
    "ansible.builtin.assert": "fail_msg",
}
# Output that a program reads: nothing may stand between its lines.
_MACHINE_OUTPUT = ("json", "jsonl", "junit")
_COLORS = {
    screen_report.GOOD: constants.COLOR_OK,
    screen_report.ATTENTION: constants.COLOR_WARN,
    screen_report.BAD: constants.COLOR_ERROR,
}


def _guarded(method: _Method) -> _Method:
    """Keep an error of ours from being overlooked; one event at a time, as retries arrive on another thread."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        with self.lock:
            try:
                method(self, *args, **kwargs)
            # The recovery must go on whatever is wrong here: this is the outermost place.
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                # The text of other errors may quote a result.
                reason = str(error) if isinstance(error, OSError) else error.__class__.__name__
                where = f"{method.__name__} failed in {place.name}, line {place.lineno}"
                self._display.warning(f"The postmortem misses something: {where}: {reason}")

    return guarded  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class _Task:
    """What a task is on every host, without anything that was filled in at run time: C(identity) is recorded."""

    uuid: str
    action: str
    module: Optional[str]
    identity: Mapping[str, Optional[str]]
    # Kept, so that no other part of a playbook gets its place in memory, by which it is known.
    parent: Any

    @classmethod
    def of(cls, task: Any) -> _Task:
        action, source = _action(task), task.get_ds()
        name = allowlist.static(source.get("name") if isinstance(source, dict) else None)
        return cls(
            uuid=str(task._uuid),
            action=action,
            module=allowlist.own_module(action),
            identity={"task": name, "role": _role(task), "action": action},
            parent=task._parent,
        )


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Events in, file out."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "itsm_nexus.runbook.postmortem"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None) -> None:
        super().__init__(display=display)
        self.lock = threading.RLock()
        self._run: Optional[str] = None
        self._lines: List[bytes] = []
        self._waiting: List[timeline_events.Event] = []
        self._open = False
        self._recorder: Optional[document_store.Recorder] = None
        self._tasks: Dict[Tuple[str, int], _Task] = {}
        self._language: Optional[str] = None
        self._timezone: Optional[str] = None
        self._watch = task_progress.Watch(self._say_progress, before=self._catch_up)
        # The module of each task by the task's name: in Japanese a task is called by its module.
        self._actions: Dict[str, str] = {}
        self._packer: Any = None
        self._speed_up()
        self._burst = event_batch.Burst(self._catch_up, seconds=_TOGETHER)

    @_guarded
    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._close()
        self._run = f"{timestamps.compact(time.time())}-{secrets.token_hex(3)}"
        self._lines, self._waiting, self._open = [], [], False
        self._language = self._timezone = None
        self._watch.begin(float(self.get_option("progress")))
        self._record(
            kind="run_start",
            playbook=os.path.basename(str(playbook._file_name)),
            check=bool(context.CLIARGS.get("check")),
            core=ansible_version,
        )

    @_guarded
    def v2_playbook_on_play_start(self, play: Any) -> None:
        source = play.get_ds()
        self._speed_up("play", source, play.get_loader())
        self._record(kind="play_start", name=allowlist.static(source.get("name") if isinstance(source, dict) else None))
        self._tasks = {}

    # Of the thousands of these in a large run only what has to be is done at once, see M(event_batch).

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        now = time.monotonic()
        self._burst.add((self._began, now, host, task), now)
        module = allowlist.own_module(_action(task))
        if module:
            self._begins(module)

    def v2_runner_on_ok(self, result: Any) -> None:
        now = time.monotonic()
        self._burst.add((self._went_well, now, result), now)

    def v2_runner_on_skipped(self, result: Any) -> None:
        now = time.monotonic()
        self._burst.add((self._ended, now, result), now)

    @_guarded
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._settle()
        now = task_progress.Moment.now()
        host, task, clock = self._ended(now, result)
        status = "ignored" if ignore_errors else "failed"
        self._task(host, task, _fields(result), at=now.time, status=status, clock=clock)
        self._write_lines()

    @_guarded
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._settle()
        host, task, clock = self._ended(task_progress.Moment.now(), result)
        self._record(kind="unreachable", host=host, **self._known(task).identity, **_clocked(clock))

    @_guarded
    def v2_runner_retry(self, result: Any) -> None:
        (host, task), fields = _whose(result), _fields(result)
        self._record(
            kind="retry",
            host=host,
            **self._known(task).identity,
            attempts=allowlist.pick(allowlist.NUMBER, fields.get("attempts")),
        )

    @_guarded
    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._settle()
        self._watch.end()
        if self._run is None:
            self._speed_up("end")
            return
        self._record(kind="stats", hosts={str(host): stats.summarize(host) for host in stats.processed})
        try:
            self._conclude()
        finally:
            self._close()
            self._run, self._lines, self._open = None, [], False
        # After all that somebody waits for.
        self._speed_up("run_ended")

    def _speed_up(self, event: str = "", *arguments: Any) -> None:
        """Pass an event on to what packs modules ahead, see M(module_prefetch); without an event, load it.

        It uses names of ansible-core that may be gone in the next version. Whatever fails there costs seconds only.
        """
        try:
            if not event:
                from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch  # noqa: PLC0415

                self._packer = module_prefetch.Packer()
            elif self._packer is not None:
                getattr(self._packer, event)(*arguments)
        except Exception as error:
            self._packer = None
            self._display.v(f"Modules are not packed ahead, so this run takes some seconds more: {error!r}")

    def _ended(self, now: task_progress.Moment, result: Any) -> Tuple[str, Any, Optional[task_progress.Clock]]:
        """Note that a task has ended on a host; return the host's name, the task, and its times."""
        host, task = _whose(result)
        return host, task, self._watch.ended((host, str(task._uuid)), now)

    @_guarded
    def _begins(self, module: str) -> None:
        self._speed_up("begun", module)
        # Its worker does not run yet.
        if module in _READING:
            self._catch_up()

    @_guarded
    def _began(self, now: task_progress.Moment, host: Any, task: Any) -> None:
        known, name = self._known(task), str(host.get_name())
        self._actions[str(known.identity["task"])] = known.action
        self._watch.started((name, known.uuid), name, known.identity["task"], now, told=known.action not in _ASKING)
        if known.module:
            self._note(now.time, kind="started", host=name, **known.identity)

    @_guarded
    def _went_well(self, now: task_progress.Moment, result: Any) -> None:
        host, task, clock = self._ended(now, result)
        known, at = self._known(task), now.time
        if not known.module and known.action not in _PUBLISHING:
            # Nothing of what it answered is recorded, and to ask for it would cost more than all the rest.
            event = {**known.identity, "status": "changed" if result.is_changed() else "ok"}
            hidden = {"hidden": True} if task.no_log else {}
            self._note(at, kind="task", host=host, **event, **_clocked(clock), **hidden)
            return
        fields = _fields(result)
        if known.module:
            self._speed_up("ended", known.module, fields)
        published = {} if known.module else _published(task, fields)
        summary = allowlist.pick(allowlist.SUMMARY, published.get(allowlist.SUMMARY_KEY) or {})
        if summary:
            self._note(at, kind="summary", data=summary)
        verdict = allowlist.pick(allowlist.OUTCOME, (published.get(allowlist.OUTCOME_KEY) or {}).get(host))
        if isinstance(verdict, dict):
            self._note(at, kind="outcome", host=host, data=verdict)
            self._language = verdict.get("language") or self._language
            self._timezone = verdict.get("timezone") or self._timezone
        else:
            self._task(host, task, fields, at=at, status="changed" if fields.get("changed") else "ok", clock=clock)

    def _task(
        self,
        host: str,
        task: Any,
        fields: Dict[str, Any],
        *,
        at: float,
        status: str,
        clock: Optional[task_progress.Clock],
    ) -> None:
        known = self._known(task)
        event: Dict[str, Any] = {"host": host, **known.identity, "status": status, **_clocked(clock)}
        if _hidden(task, fields):
            self._note(at, kind="task", **event, hidden=True)
            return
        # Of a loop over a module of ours each turn is told: what it did stands nowhere else.
        for turn in _turns(known, fields):
            if turn.get("skipped"):
                continue
            told = dict(event) if turn is fields else {**event, "status": _status_of_turn(turn, status)}
            data = allowlist.of_result(known.action, turn) or _misfits(task, known, turn)
            if data:
                told["data"] = data
            if told["status"] in ("failed", "ignored"):
                told["msg"] = _reason(task, known, turn)
            self._note(at, kind="task", **told)
            event.pop("duration", None)

    def _known(self, task: Any) -> _Task:
        """Return what is the same for a task on every host; a role that is used twice has one task in two places."""
        key = (str(task._uuid), id(task._parent))
        known = self._tasks.get(key)
        if known is None:
            known = self._tasks[key] = _Task.of(task)
        return known

    @_guarded
    def _catch_up(self) -> None:
        self._settle()
        self._write_lines()

    def _settle(self) -> None:
        """Make events of what has arrived."""
        apart = time.time() - time.monotonic()
        for handle, steady, *arrived in self._burst.take():
            handle(task_progress.Moment(steady + apart, steady), *arrived)

    def _record(self, *, kind: str, **keys: Any) -> None:
        """Write an event, and before it what has arrived before it."""
        self._settle()
        self._note(time.time(), kind=kind, **keys)
        self._write_lines()

    def _note(self, at: float, *, kind: str, **keys: Any) -> None:
        if self._run is not None:
            event = {"v": timeline_events.VERSION, "at": timestamps.iso(at), "run": self._run, "kind": kind, **keys}
            self._waiting.append(event)

    def _write_lines(self) -> None:
        events, self._waiting = self._waiting, []
        if not events:
            return
        data = b"".join(map(timeline_events.encode, events))
        opens = any(map(timeline_events.opens, events))
        if self._recorder:
            durable = opens or any(event["kind"] in ("outcome", "stats") for event in events)
            self._append(self._recorder, data, durable=durable)
            return
        self._lines.append(data)
        if opens and not self._open:
            self._open = True
            if not context.CLIARGS.get("check"):
                self._recorder = document_store.Recorder(self.get_option("dir"), self._run)
                lines, self._lines = self._lines, []
                self._append(self._recorder, b"".join(lines), durable=True)
        elif not self._open and len(self._lines) > _BACKLOG:
            # The first line says what run this is.
            del self._lines[1 : _BACKLOG // 2]

    def _append(self, recorder: document_store.Recorder, data: bytes, *, durable: bool) -> None:
        try:
            recorder.append(data, durable=durable)
        except OSError:
            # Said once; the summary and the documents are made of what is in the file and what is kept from here on.
            self._lines = [self._content(), data]
            with contextlib.suppress(OSError):
                self._close()
            raise

    def _content(self) -> bytes:
        """Return the timeline as far as it is in its file: what memory holds, each worker copies."""
        if not self._recorder:
            return b""
        try:
            return self._recorder.content()
        except OSError as error:
            self._display.warning(f"The postmortem misses what was recorded up to now: {error}")
            return b""

    def _close(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder:
            recorder.close()

    def _conclude(self) -> None:
        events = timeline_events.decode(b"".join([self._content(), *self._lines]))
        shown = False
        for incident in self._incidents(events):
            shown = self._show(incident, self._write(incident), first=not shown)
        if shown and not context.CLIARGS.get("check"):
            self._write_index(self._words())
        summaries = [event["data"] for event in events if event["kind"] == "summary"]
        together = summaries[-1] if summaries and sum(map(len, summaries[-1].values())) > 1 else {}
        for host, of_host in timeline_events.without_incident(events).items():
            if any(event["kind"] == "outcome" for event in of_host):
                shown = self._show(timeline_events.model("", host, [of_host]), None, first=not shown)
                continue
            tone, lines = screen_report.without_incident(self._words(), host, of_host)
            # Of many hosts those on which all is well are counted.
            if together and tone == screen_report.GOOD and host in together.get("healthy", []):
                continue
            for line in lines:
                self._say(line, color=_COLORS[tone])
        if together:
            tone, lines = screen_report.hosts(self._words(), together)
            for line in lines:
                self._say(line, color=_COLORS[tone])

    def _words(self, incident: Optional[incident_model.Incident] = None) -> catalogue.Words:
        """Return the words that the playbook wants for its incident, else those of the configuration.

        What is told of the run as a whole is told as the playbook wants it for the last of its incidents.
        """
        language = incident.language if incident else self._language
        timezone = incident.timezone if incident else self._timezone
        return catalogue.of(language or self.get_option("language"), timezone or self.get_option("timezone"))

    def _incidents(self, events: List[timeline_events.Event]) -> Iterator[incident_model.Incident]:
        """Yield this run's incidents, with what earlier runs on them left in the folder."""
        mine = timeline_events.opened(events)
        if not mine:
            return
        records = [event["data"] for event in events if timeline_events.opens(event)]
        opened_at = [record["opened_at"] for record in records if record.get("opened_at")]
        earlier: List[timeline_events.Event] = []
        if not context.CLIARGS.get("check") and os.path.isdir(self.get_option("dir")):
            earlier = document_store.read(
                self.get_option("dir"),
                incidents=mine.values(),
                since=min(opened_at) if opened_at else None,
                besides=str(self._run),
            )
        for incident in timeline_events.each_incident([*earlier, *events]):
            if mine.get(incident.host) == incident.incident:
                yield incident

    def _write(self, incident: incident_model.Incident) -> Optional[str]:
        if context.CLIARGS.get("check"):
            return None
        documents = document_store.documents(self.get_option("dir"), self._words(incident), incident)
        try:
            document_store.write(documents)
        except OSError as error:
            self._display.warning(f"Cannot write the postmortem to {self.get_option('dir')}: {error}")
            return None
        return documents[0].path

    def _write_index(self, spoken: catalogue.Words) -> None:
        try:
            document_store.index(self.get_option("dir"), spoken).write()
        except OSError as error:
            self._display.warning(f"Cannot write the index of the postmortems: {error}")

    def _show(self, incident: incident_model.Incident, document: Optional[str], *, first: bool) -> bool:
        spoken = self._words(incident)
        if first and not _read_by_a_program():
            self._display.banner(spoken.say("screen.title"))
        rehearsed = bool(context.CLIARGS.get("check"))
        head, *fields = screen_report.summary(spoken, incident, document=document, rehearsed=rehearsed)
        self._say(head, color=_COLORS[screen_report.tone(incident)])
        for line in fields:
            self._say(line)
        return True

    def _say(self, line: str, color: Optional[str] = None) -> None:
        self._display.display(screen_report.one_line(line), color=color, stderr=_read_by_a_program())

    def _say_progress(self, task: str, hosts: List[str], seconds: float) -> None:
        """Say what is still being done. On the error output: whatever reads the other one is not disturbed."""
        spoken = self._words()
        told = {
            "took": spoken.duration(seconds),
            "what": prose_steps.label(spoken, self._actions.get(task), task),
            "hosts": spoken.listed(hosts, limit=3),
        }
        self._display.display(spoken.say("screen.progress", **told), color=constants.COLOR_VERBOSE, stderr=True)


def _read_by_a_program() -> bool:
    return str(constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK")).rsplit(".", 1)[-1] in _MACHINE_OUTPUT


def _whose(result: Any) -> Tuple[str, Any]:
    """Return host name and task; ansible-core 2.19 made the names public, 2.23 drops the old ones."""
    if hasattr(result, "host"):
        return str(result.host.get_name()), result.task
    return str(result._host.get_name()), result._task


def _clocked(clock: Optional[task_progress.Clock]) -> Dict[str, Any]:
    """Return when a task began and how long it took, where that is known."""
    return {"start": timestamps.iso(clock.began), "duration": round(clock.seconds, 3)} if clock else {}


def _fields(result: Any) -> Dict[str, Any]:
    """Return what it answered."""
    return result.result if hasattr(result, "host") else result._result  # type: ignore[no-any-return]


def _action(task: Any) -> str:
    # ansible-core 2.16 resolves a module that meta/runtime.yml sends to an action plugin to that plugin.
    named = str(task.action)
    return named if allowlist.own_module(named) else str(task.resolved_action or named)


def _turns(task: _Task, fields: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the results of a loop's turns, that of the task itself where it does not loop or is not ours."""
    turns = fields.get("results")
    if not task.module or not isinstance(turns, list) or not turns:
        return [fields]
    return [turn for turn in turns if isinstance(turn, dict)]


def _status_of_turn(turn: Dict[str, Any], status: str) -> str:
    if turn.get("failed"):
        return status if status in ("failed", "ignored") else "failed"
    return "changed" if turn.get("changed") else "ok"


def _role(task: Any) -> Optional[str]:
    """Return the outermost role that a task runs in: the step of the runbook it belongs to."""
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
    """Say whether no_log holds; a no_log that was not resolved for the whole task counts."""
    items = fields.get("results")
    parts = [fields, *(item for item in (items if isinstance(items, list) else []) if isinstance(item, dict))]
    return bool(task.no_log) or any(part.get("_ansible_no_log") or "censored" in part for part in parts)


def _published(task: Any, fields: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a task publishes with set_stats."""
    if _hidden(task, fields):
        return {}
    published: Dict[str, Any] = (fields.get("ansible_stats") or {}).get("data") or {}
    return published


def _reason(task: Any, known: _Task, fields: Dict[str, Any]) -> Optional[str]:
    """Return why a task failed, where that may be told: what a module of ours says, or constant words of a playbook."""
    if known.module:
        return allowlist.pick(allowlist.TEXT, fields.get("msg")) if _module_speaks(fields) else _unset(fields)
    if known.action in _VALIDATING:
        return _unset(fields)
    source, key = task.get_ds(), _STATIC_MESSAGES.get(known.action)
    if key is None or not isinstance(source, dict):
        return None
    arguments = source.get(known.action) or source.get(known.action.rsplit(".", 1)[-1])
    return allowlist.static(arguments.get(key)) if isinstance(arguments, dict) else None


def _unset(fields: Dict[str, Any]) -> Optional[str]:
    """Return which variable ansible-core missed where it was to put it in: its name, and nothing around it."""
    name = re.search(r"'([A-Za-z_][A-Za-z0-9_]{0,99})' is undefined", str(fields.get("msg")))
    return f"the variable {name[1]} is not defined" if name else None


def _misfits(task: Any, known: _Task, fields: Dict[str, Any]) -> Dict[str, Any]:
    """Return which variables of a role of ours are not of the kind that it specifies: its words, never a value."""
    role = getattr(task, "_role", None)
    if known.action not in _VALIDATING or role is None or not allowlist.own_module(str(role.get_name())):
        return {}
    specified: Dict[str, Any] = fields.get("argument_spec_data") or {}
    problems = []
    for error in map(str, fields.get("argument_errors") or []):
        for name in [name for name in re.findall(r"\w+", error) if name in specified]:
            choices = specified[name].get("choices")
            kind = f"none of {', '.join(map(str, choices))}" if choices else f"no {specified[name].get('type', 'str')}"
            problems.append(f"{name} is {'missing' if error.startswith('missing') else kind}")
    return allowlist.of_result(f"{allowlist.COLLECTION}.fail_settings", {"problems": problems}) if problems else {}


def _module_speaks(fields: Dict[str, Any]) -> bool:
    """Say whether a failure's text is the module's own; that of ansible-core may quote arguments and exceptions.

    ansible-core 2.19+ begins its own texts alike; before, its results lack what a module adds to each of its own.
    """
    return not str(fields.get("msg")).startswith("Task failed:") if _CORE >= (2, 19) else "invocation" in fields
