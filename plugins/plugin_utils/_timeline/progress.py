# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Report long tasks while they are running. Ansible itself reports a task only after the task has finished."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Dict, Hashable, List, NamedTuple, Optional, Tuple

# This function is called with the name of a task, the hosts on which it is still running, and the seconds since it
# began on the first of these hosts.
Say = Callable[[str, List[str], float], None]

# The time for which the thread sleeps, as a fraction of the interval.
_NAP = 0.1


class Moment(NamedTuple):
    """A point in time, as seconds since the epoch and as seconds on a monotonic clock."""

    time: float
    steady: float

    @classmethod
    def now(cls) -> Moment:
        """Return the current time."""
        return cls(time.time(), time.monotonic())


class Clock(NamedTuple):
    """The time when a task began (seconds since the epoch), and its duration in seconds."""

    began: float
    seconds: float


class _Running(NamedTuple):
    host: str
    # The value is None if the task is not reported.
    task: Optional[str]
    since: Moment


class Watch:
    """Records the start of each running task, and reports tasks that have been running for at least one interval.

    Thread-safe.
    """

    def __init__(self, say: Say, *, before: Callable[[], None] = lambda: None) -> None:
        """Create a watch that reports by calling say(). The first task after begin() starts the watch's thread.

        before: called before each check for long tasks, so that ended tasks are removed first.
        """
        self._say = say
        self._before = before
        self._interval = 0.0
        self._lock = threading.Lock()
        self._running: Dict[Hashable, _Running] = {}
        self._done = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def begin(self, interval: float) -> None:
        """Start watching, and report every `interval` seconds. If `interval` is 0, report nothing."""
        self.end()
        self._interval = interval

    def started(self, key: Hashable, host: str, task: Optional[str], now: Moment, *, reported: bool = True) -> None:
        """Record that a task begins on a host. reported: False if progress lines must not name the task."""
        running = _Running(host, (task or "…") if reported else None, now)
        with self._lock:
            self._running[key] = running
        if self._thread is None and self._interval > 0:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._tell, args=(self._done,), daemon=True)
            # At interpreter shutdown, no new thread can be started, and nothing is left to report.
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def ended(self, key: Hashable, now: Moment) -> Optional[Clock]:
        """Record that the task has ended, and return its times. If the task never began, return None."""
        with self._lock:
            running = self._running.pop(key, None)
        return Clock(running.since.time, now.steady - running.since.steady) if running else None

    def end(self) -> None:
        """Stop watching."""
        with self._lock:
            self._running.clear()
        self._done.set()
        self._thread = None

    def _tell(self, done: threading.Event) -> None:
        last = time.monotonic()
        # The thread wakes up more often than it reports, because a task can begin between two reports. If a report is
        # due before the next wake-up, it is shown now, so that no report is late.
        while not done.wait(self._interval * _NAP):
            now = time.monotonic()
            if now - last < self._interval * (1 - _NAP):
                continue
            self._before()
            for task, (hosts, began) in self._long(now).items():
                last = now
                # If a line cannot be written, the run must continue.
                with contextlib.suppress(Exception):
                    self._say(task, hosts, now - began)

    def _long(self, now: float) -> Dict[str, Tuple[List[str], float]]:
        """Map each task that has been running for at least one interval to (hosts, begin)."""
        told: Dict[str, Tuple[List[str], float]] = {}
        with self._lock:
            running = list(self._running.values())
        for each in running:
            if each.task is not None and now - each.since.steady >= self._interval * (1 - _NAP):
                hosts, first = told.setdefault(each.task, ([], each.since.steady))
                hosts.append(each.host)
                told[each.task] = (hosts, min(first, each.since.steady))
        return told
