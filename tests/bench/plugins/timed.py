# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The callback postmortem, and what it costs the run: a callback of the benchmark, see measurements/callback.py.

C(BENCH_CALLBACK_FIGURES) names the file that the figures go to. With C(BENCH_CALLBACK_ASLEEP) nothing is recorded, so
that what is left is the run alone.
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

ASLEEP = bool(os.environ.get("BENCH_CALLBACK_ASLEEP"))
spent = {"seconds": 0.0, "events": 0, "began": time.monotonic()}


def timed(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def measured(*args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        if not ASLEEP:
            method(*args, **kwargs)
        spent["seconds"] += time.perf_counter() - began
        spent["events"] += 1

    return measured


class CallbackModule(postmortem.CallbackModule):
    """Times every event that it gets."""

    CALLBACK_NAME = "itsm_nexus.runbook.timed"


for name in [each for each in dir(postmortem.CallbackModule) if each.startswith("v2_")]:
    if name in vars(postmortem.CallbackModule):
        setattr(CallbackModule, name, timed(getattr(postmortem.CallbackModule, name)))


def figures(self: Any, stats: Any) -> None:
    """Tell what it came to, after the documents are written."""
    told(self, stats)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with open(os.environ["BENCH_CALLBACK_FIGURES"], "w", encoding="utf-8") as file:
        json.dump({**spent, "run": time.monotonic() - spent["began"], "memory": most}, file)


def catching_up(self: Any) -> None:
    """Count what is done beside the events; within one of them it is counted with that."""
    of_its_own = threading.current_thread() is not threading.main_thread()
    began = time.perf_counter()
    caught_up(self)
    if of_its_own:
        spent["seconds"] += time.perf_counter() - began


caught_up = postmortem.CallbackModule._catch_up
CallbackModule._catch_up = catching_up
told = CallbackModule.v2_playbook_on_stats
CallbackModule.v2_playbook_on_stats = figures
