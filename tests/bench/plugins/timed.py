# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The postmortem callback, extended for the benchmark to measure its own cost. See measurements/callback.py.

The callback is active for a block of BENCH_CALLBACK_BLOCK tasks, and then inactive for the next block. Therefore, the
times with and without the callback are measured within the same few seconds. BENCH_CALLBACK_FIGURES: the file for the
figures.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import threading
import time
from typing import Any, Callable

from ansible_collections.itsm_nexus.runbook.plugins.callback import postmortem

DOCUMENTATION = postmortem.DOCUMENTATION.replace("name: postmortem", "name: timed")

BLOCK = int(os.environ["BENCH_CALLBACK_BLOCK"])
AWAKE, ASLEEP = "awake", "asleep"
spent = {AWAKE: 0.0, ASLEEP: 0.0, "seconds": 0.0, "events": 0, "memory before": 0.0}
state = {"now": AWAKE, "since": time.monotonic(), "tasks": 0}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def turn_to(what: str) -> None:
    now = time.monotonic()
    spent[state["now"]] += now - state["since"]
    state.update(now=what, since=now)


def timed(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def measured(*args: Any, **kwargs: Any) -> None:
        if state["now"] == ASLEEP:
            return
        began = time.perf_counter()
        method(*args, **kwargs)
        spent["seconds"] += time.perf_counter() - began
        spent["events"] += 1

    return measured


class CallbackModule(postmortem.CallbackModule):
    """The callback, which also measures the time that it spends on each event."""

    CALLBACK_NAME = "itsm_nexus.runbook.timed"

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Count the tasks, and switch the callback on or off. All hosts run the same task at the same time."""
        spent["memory before"] = spent["memory before"] or memory()
        turn_to(ASLEEP if state["tasks"] // BLOCK % 2 else AWAKE)
        state["tasks"] += 1


for name in [each for each in dir(postmortem.CallbackModule) if each.startswith("v2_")]:
    if name in vars(postmortem.CallbackModule):
        setattr(CallbackModule, name, timed(getattr(postmortem.CallbackModule, name)))


def figures(self: Any, stats: Any) -> None:
    """Write the callback's documents, then the figures."""
    turn_to(AWAKE)
    told(self, stats)
    turn_to(AWAKE)
    with open(os.environ["BENCH_CALLBACK_FIGURES"], "w", encoding="utf-8") as file:
        json.dump({**spent, "memory": memory()}, file)


def catching_up(self: Any) -> None:
    """Measure the work of other threads. The main thread's work is already measured as part of an event."""
    of_its_own = threading.current_thread() is not threading.main_thread()
    began = time.perf_counter()
    caught_up(self)
    if of_its_own:
        spent["seconds"] += time.perf_counter() - began


caught_up = postmortem.CallbackModule._catch_up
CallbackModule._catch_up = catching_up
told = CallbackModule.v2_playbook_on_stats
CallbackModule.v2_playbook_on_stats = figures
