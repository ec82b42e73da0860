# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect events for a short time and handle them together.

Ansible forks a worker for every task on every host. After each fork, the first write to a memory page copies that page.
In Python, even reading an object changes its reference count. As a result, handling twenty events one by one, with a
fork after each event, takes several times as long as handling all twenty together.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import threading
import time
from typing import Any, Callable, Deque, Iterator, Optional


class Burst:
    """Keeps items for a limited number of seconds.

    Items are added often, so add() modifies as little memory as possible.
    """

    def __init__(self, handle: Callable[[], None], *, seconds: float) -> None:
        """handle: a function that retrieves the items with take().

        This function is called by add() or in another thread.
        """
        self._handle = handle
        self._seconds = seconds
        self._items: Deque[Any] = collections.deque()
        # The time of the next call to `handle`, or 0 if there are no items.
        self._due = 0.0
        self._arrived = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def add(self, item: Any, now: float) -> None:
        """Keep an item. Call handle() if the first item has waited long enough.

        now: the value of time.monotonic(). The caller needs no lock.
        """
        self._items.append(item)
        if now >= self._due:
            self._begin_or_end(now)

    def take(self) -> Iterator[Any]:
        """Yield the items in order of arrival and remove them."""
        self._due = 0.0
        with contextlib.suppress(IndexError):
            while True:
                yield self._items.popleft()

    def _begin_or_end(self, now: float) -> None:
        if self._due:
            self._handle()
            return
        self._due = now + self._seconds
        self._arrived.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._late, daemon=True)
            self._thread.start()
            # If the run is interrupted, handle the remaining items.
            atexit.register(self._handle)

    def _late(self) -> None:
        # During a long task, minutes can pass without a new item. Therefore, this thread handles the waiting items.
        while True:
            self._arrived.wait()
            self._arrived.clear()
            time.sleep(self._seconds)
            self._handle()
