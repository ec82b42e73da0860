# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes in what arrives in a burst and has it handled together, soon.

Ansible forks a worker for every task on every host. After each fork, the first write to a page of memory copies that
page, and in Python to look at an object is to write to it. So what is handled by itself between two forks costs several
times of what it costs among twenty others.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import threading
import time
from typing import Any, Callable, Deque, Iterator, Optional


class Burst:
    """Keeps what arrives, for so many seconds at most. For the same reason little is done for each of it."""

    def __init__(self, handle: Callable[[], None], *, seconds: float) -> None:
        """C(handle) is to take what is there with M(take); it is called from M(add), or from another thread."""
        self._handle = handle
        self._seconds = seconds
        self._items: Deque[Any] = collections.deque()
        # When it is time to handle them; as long as there are none, any time is.
        self._due = 0.0
        self._arrived = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def add(self, item: Any, now: float) -> None:
        """Keep C(item); have everything handled where the first of it has waited long enough.

        C(now): seconds of C(time.monotonic). Nothing has to be locked for it.
        """
        self._items.append(item)
        if now >= self._due:
            self._begin_or_end(now)

    def take(self) -> Iterator[Any]:
        """Yield what has arrived, in its order; it is kept no longer."""
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
            # Of a run that is interrupted.
            atexit.register(self._handle)

    def _late(self) -> None:
        # For what nothing comes after: the last before a step that takes minutes.
        while True:
            self._arrived.wait()
            self._arrived.clear()
            time.sleep(self._seconds)
            self._handle()
