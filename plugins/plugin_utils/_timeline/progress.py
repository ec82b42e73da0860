# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says while tasks run what takes long: the controller itself hears nothing of a task before it ends."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Dict, Hashable, List, NamedTuple, Optional, Tuple

# Called with a task's name, the hosts it still runs on and the seconds since the first of them began.
Say = Callable[[str, List[str], float], None]

# How long it sleeps at a time, as a share of the interval.
_NAP = 0.1


class Moment(NamedTuple):
    """Now: seconds since the epoch, and those of a clock that nobody sets."""

    time: float
    steady: float

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        return cls(time.time(), time.monotonic())


class Clock(NamedTuple):
    """When a task began (seconds since the epoch) and how many seconds it took."""

    began: float
    seconds: float


class _Running(NamedTuple):
    host: str
    # None: it is not told of.
    task: Optional[str]
    since: Moment


class Watch:
    """Knows which tasks run since when, and tells of those that have run for an interval; thread-safe."""

    def __init__(self, say: Say, *, before: Callable[[], None] = lambda: None) -> None:
        """Make a watch that tells through C(say); nothing runs before M(begin) and the first task.

        C(before) is called before it looks for what runs long, so that it can be told of what has ended meanwhile.
        """
        self._say = say
        self._before = before
        self._interval = 0.0
        self._lock = threading.Lock()
        self._running: Dict[Hashable, _Running] = {}
        self._done = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def begin(self, interval: float) -> None:
        """Watch from now on, and tell every C(interval) seconds; with 0 never."""
        self.end()
        self._interval = interval

    def started(self, key: Hashable, host: str, task: Optional[str], now: Moment, *, told: bool = True) -> None:
        """Note that a task begins on a host; C(told): whether it may be told of."""
        running = _Running(host, (task or "…") if told else None, now)
        with self._lock:
            self._running[key] = running
        if self._thread is None and self._interval > 0:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._tell, args=(self._done,), daemon=True)
            # At the end of the process there is none to be had, and nothing to tell of.
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def ended(self, key: Hashable, now: Moment) -> Optional[Clock]:
        """Note that it ended there, and return its times; C(None) where it had not begun."""
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
        # Woken more often than it speaks, so that a task which begins late waits no longer than the others; what is due
        # before it is woken again is said now, so that never more than the interval passes.
        while not done.wait(self._interval * _NAP):
            now = time.monotonic()
            if now - last < self._interval * (1 - _NAP):
                continue
            self._before()
            for task, (hosts, began) in self._long(now).items():
                last = now
                # Never the end of a run because a line could not be written.
                with contextlib.suppress(Exception):
                    self._say(task, hosts, now - began)

    def _long(self, now: float) -> Dict[str, Tuple[List[str], float]]:
        """Return task -> hosts, begin of those that have run for the interval."""
        told: Dict[str, Tuple[List[str], float]] = {}
        with self._lock:
            running = list(self._running.values())
        for each in running:
            if each.task is not None and now - each.since.steady >= self._interval * (1 - _NAP):
                hosts, first = told.setdefault(each.task, ([], each.since.steady))
                hosts.append(each.host)
                told[each.task] = (hosts, min(first, each.since.steady))
        return told
