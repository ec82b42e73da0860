# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postmortem
type: aggregate
short_description: Records an outage as it happens, and writes its postmortem
version_added: 0.1.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Records the events of a run on each host that has an incident, including the events before
    M(itsm_nexus.runbook.incident) opens the incident. The callback writes these events to the timeline
    C(<dir>/<run>.jsonl). Each line of this file is a JSON object, so the file is readable at any time, even after
    ansible-playbook has been killed.
  - At the end of the run, the callback writes the postmortem of each host to C(<dir>/<incident>.md), C(.json) and
    C(.html), and shows a closing summary on the screen. C(<dir>/index.html) lists all postmortems. Each postmortem
    covers all runs for one incident.
  - While a task is running, the callback writes a progress line to standard error every O(progress) seconds.
  - The callback does not write files in check mode, or if the run does not open an incident.
  - The timeline contains only allowlisted keys from the results of this collection's own modules. For tasks with
    C(no_log), the timeline contains only the status, the time and the task name as written in the playbook. The
    timeline never contains task arguments, loop items, or the values of variables in task names and play names.
requirements:
  - enabled in the configuration (C(callbacks_enabled))
options:
  dir:
    description:
      - Path of the folder on the controller for timelines and postmortems. The callback creates this folder when it
        first needs the folder. Only the owner of the folder can read it.
    type: path
    default: ~/.local/state/itsm-runbook/postmortems
    env:
      - name: ITSM_NEXUS_POSTMORTEM_DIR
    ini:
      - section: callback_postmortem
        key: dir
  language:
    description:
      - Language of the postmortems and of the closing summary. The playbook variable C(postmortem_language) takes
        precedence.
    type: str
    choices: [en, ja]
    default: en
    version_added: 1.0.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_LANGUAGE
    ini:
      - section: callback_postmortem
        key: language
  timezone:
    description:
      - Time zone in which the callback shows times in addition to UTC, for example V(Asia/Tokyo). The playbook variable
        C(postmortem_timezone) takes precedence.
    type: str
    default: UTC
    version_added: 1.0.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_TIMEZONE
    ini:
      - section: callback_postmortem
        key: timezone
  progress:
    description: Interval between two progress lines for a running task, in seconds. If V(0), the callback does not
      write progress lines.
    type: float
    default: 10
    version_added: 1.0.0
    env:
      - name: ITSM_NEXUS_POSTMORTEM_PROGRESS
    ini:
      - section: callback_postmortem
        key: progress
"""

import functools
import os
import secrets
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from ansible import context

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import terminal, wording
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import (
    allowlist,
    ansible_core,
    event_batch,
    job,
    kinds,
    recorder,
    task_result,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import progress as task_progress

try:
    from ansible.plugins.callback import CallbackBase
# An uncaught error would end the run. If the callback class has another base class, Ansible only shows a warning.
except ImportError:
    CallbackBase = object

_Method = TypeVar("_Method", bound=Callable[..., None])

# Events of started and successful tasks are collected for up to this number of seconds, and then written together.
_TOGETHER = 0.2

# Actions that wait for a person's input. A progress line would interfere with the prompt.
_ASKING = ("ansible.builtin.pause", "pause")

# Modules that read the timeline of the current run.
_READING = ("postmortem_render", "postmortem_archive")

# Modules that may run for a long time. The start of such a task is recorded before the timeline is copied to the host.
# If the run is cancelled, the host's copy then shows the step that was running.
_LONG = (
    *("incident", "first_response", "node_process", "npm_ci", "knex_migrate", "release_rollback"),
    *("sqlite_backup", "sqlite_restore", "sqlite_wal"),
)


def _guarded(method: _Method) -> _Method:
    """Wrap a method so that errors become warnings and only one event is handled at a time."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        # Retries are reported by another thread.
        with self.lock:
            try:
                method(self, *args, **kwargs)
            # Catch every error, because an error in this callback must not end the recovery.
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                # Show the error's text only if the error is an OSError. The text of other errors may quote a result.
                reason = str(error) if isinstance(error, OSError) else error.__class__.__name__
                where = f"{method.__name__} failed in {place.name}, line {place.lineno}"
                self._display.warning(f"The postmortem is incomplete: {where}: {reason}")

    return guarded  # type: ignore[return-value]


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes the events of a run to its timeline."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "itsm_nexus.runbook.postmortem"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None) -> None:
        super().__init__(display=display)
        self.lock = threading.RLock()
        self._terminal = terminal.Terminal(self._display)
        self._recorder: Optional[recorder.Recorder] = None
        self._tasks: Dict[Tuple[str, int], task_result.Task] = {}
        self._wording = wording.Wording(language="en", timezone="UTC")
        # Maps the name of each task to its module. A progress line in Japanese shows the label of the module
        # instead of the name of the task.
        self._actions: Dict[str, str] = {}
        self._watch = task_progress.Watch(self._say_progress, before=self._catch_up)
        self._burst = event_batch.Burst(self._catch_up, seconds=_TOGETHER)

    @_guarded
    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._close()
        self._recorder = recorder.Recorder(
            f"{timestamps.compact(time.time())}-{secrets.token_hex(3)}",
            folder=None if _check_mode() else self.get_option("dir"),
            warn=self._terminal.warn,
        )
        self._wording = wording.Wording(language=self.get_option("language"), timezone=self.get_option("timezone"))
        self._watch.begin(float(self.get_option("progress")))
        self._record(
            kind="run_start",
            playbook=os.path.basename(str(playbook._file_name)),
            check=_check_mode(),
            core=ansible_core.VERSION,
            **_job(),
        )

    @_guarded
    def v2_playbook_on_play_start(self, play: Any) -> None:
        source = play.get_ds()
        self._record(kind="play_start", name=kinds.static(source.get("name") if isinstance(source, dict) else None))
        self._tasks = {}

    # A large run has thousands of task events, so the following methods only store them for later processing.

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        now = time.monotonic()
        self._burst.add((self._began, now, host, task), now)
        if allowlist.own_module(task_result.action_of(task)) in (*_READING, *_LONG):
            # The module has not started yet, so the stored events can still be written before the module reads the
            # timeline.
            self._catch_up()

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
        known, clock = self._ended(now, result)
        self._note(now.time, *task_result.failed(result, known, clock, ignored=ignore_errors))
        self._write()

    @_guarded
    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._settle()
        known, clock = self._ended(task_progress.Moment.now(), result)
        self._record(**task_result.unreachable(task_result.host_and_task(result)[0], known, clock))

    @_guarded
    def v2_runner_retry(self, result: Any) -> None:
        host, task = task_result.host_and_task(result)
        self._record(**task_result.retried(host, self._known(task), task_result.fields_of(result)))

    @_guarded
    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._settle()
        self._watch.end()
        if self._recorder is None:
            return
        try:
            self._record(kind="stats", hosts={str(host): stats.summarize(host) for host in stats.processed})
        finally:
            self._conclude(self._recorder)

    def _conclude(self, timeline: recorder.Recorder) -> None:
        """Write the documents and show the summary."""
        # Import this module late, so that the first task starts sooner.
        from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import closing  # noqa: PLC0415

        try:
            closing.Closing(
                timeline.run,
                folder=self.get_option("dir"),
                check=_check_mode(),
                wording=self._wording,
                screen=self._terminal,
                inventories=[str(each) for each in context.CLIARGS.get("inventory") or ()],
            ).conclude(timeline.events())
        finally:
            self._close()

    @_guarded
    def _began(self, now: task_progress.Moment, host: Any, task: Any) -> None:
        known, name = self._known(task), str(host.get_name())
        self._actions[str(known.identity["task"])] = known.action
        self._watch.started((name, known.uuid), name, known.identity["task"], now, reported=known.action not in _ASKING)
        if known.module:
            self._note(now.time, task_result.started(name, known))

    @_guarded
    def _went_well(self, now: task_progress.Moment, result: Any) -> None:
        known, clock = self._ended(now, result)
        self._note(now.time, *task_result.succeeded(result, known, clock))

    def _ended(self, now: task_progress.Moment, result: Any) -> Tuple[task_result.Task, Optional[task_progress.Clock]]:
        """Record that a task has ended on a host. Return the task and its times."""
        host, task = task_result.host_and_task(result)
        return self._known(task), self._watch.ended((host, str(task._uuid)), now)

    def _known(self, task: Any) -> task_result.Task:
        """Return the task data that is the same on every host.

        If a role is used twice, the tasks of each use are stored separately.
        """
        key = (str(task._uuid), id(task._parent))
        known = self._tasks.get(key)
        if known is None:
            known = self._tasks[key] = task_result.Task.of(task)
        return known

    @_guarded
    def _catch_up(self) -> None:
        self._settle()
        self._write()

    def _settle(self) -> None:
        """Convert the stored events to timeline entries."""
        apart = time.time() - time.monotonic()
        for handle, steady, *arrived in self._burst.take():
            handle(task_progress.Moment(steady + apart, steady), *arrived)

    def _record(self, **entry: Any) -> None:
        """Write an entry to the timeline, after the entries of earlier events."""
        self._settle()
        self._note(time.time(), entry)
        self._write()

    def _note(self, at: float, *entries: task_result.Entry) -> None:
        for entry in entries:
            if self._recorder is not None:
                self._recorder.note(at, entry)
            if entry["kind"] == "outcome":
                self._wording.follow(entry["data"])

    def _write(self) -> None:
        if self._recorder is not None:
            self._recorder.write()

    def _close(self) -> None:
        closed, self._recorder = self._recorder, None
        if closed is not None:
            closed.close()

    def _say_progress(self, task: str, hosts: List[str], seconds: float) -> None:
        self._terminal.progress(self._wording.of_run(), self._actions.get(task, ""), task, hosts, seconds)


def _job() -> Dict[str, str]:
    """Return the URL of this run's AWX job under the key "job", or an empty dictionary."""
    url = job.of_run(ansible_core.extra_vars(), os.environ)
    return {"job": url} if url else {}


def _check_mode() -> bool:
    return bool(context.CLIARGS.get("check"))
