# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events that arrive together are handled together and in order, and no event is lost."""

from __future__ import annotations

import subprocess
import sys
import threading

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import event_batch


class Handler:
    """Handles waiting events. Records the events, and whether the main thread handled them."""

    def __init__(self, *, seconds: float) -> None:
        self.handled: list[tuple[list[int], bool]] = []
        self.done = threading.Event()
        self.burst = event_batch.Burst(self.handle, seconds=seconds)

    def handle(self) -> None:
        items = list(self.burst.take())
        if items:
            self.handled.append((items, threading.current_thread() is threading.main_thread()))
            self.done.set()


def test_the_last_event_of_a_burst_is_handled_without_a_later_one():
    handler = Handler(seconds=0.05)
    for number in range(3):
        handler.burst.add(number, 1.0 + number / 100)
    assert handler.handled == []
    assert handler.done.wait(10)
    assert handler.handled == [([0, 1, 2], False)]
    handler.done.clear()
    handler.burst.add(3, 1.0)
    assert handler.done.wait(10)
    assert handler.handled[1:] == [([3], False)]


def test_a_continuing_burst_is_handled_continuously(monkeypatch):
    clock = [1.0]
    monkeypatch.setattr(event_batch.time, "sleep", lambda _seconds: threading.Event().wait(60))
    handler = Handler(seconds=0.2)
    for number in range(10):
        handler.burst.add(number, clock[0])
        clock[0] += 0.07
    assert handler.handled == [([0, 1, 2, 3], True), ([4, 5, 6, 7], True)]
    assert list(handler.burst.take()) == [8, 9]


def test_no_event_is_lost_at_the_end_of_the_process():
    program = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        f"from {event_batch.__name__} import Burst\n"
        "kept = Burst(lambda: print(*kept.take(), flush=True), seconds=60)\n"
        "kept.add(1, 1.0); kept.add(2, 1.5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "1 2\n"
