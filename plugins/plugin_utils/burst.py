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
import threading
import time
from typing import Any, Callable, List, Optional


class Burst:
    """Keeps what arrives, for so many seconds at most; not thread-safe, but for a thread of its own that only calls."""

    def __init__(self, handle: Callable[[], None], *, seconds: float) -> None:
        """C(handle) is to take what is there with M(take); it is called from M(add), or from another thread."""
        self._handle = handle
        self._seconds = seconds
        self._items: List[Any] = []
        self._since = 0.0
        self._arrived = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def add(self, item: Any) -> None:
        """Keep C(item); have everything handled where the first of it has waited long enough."""
        self._items.append(item)
        if len(self._items) == 1:
            self._since = time.monotonic()
            self._arrived.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._late, daemon=True)
                self._thread.start()
                # Of a run that is interrupted.
                atexit.register(self._handle)
        elif time.monotonic() - self._since >= self._seconds:
            self._handle()

    def take(self) -> List[Any]:
        """Return what has arrived, in its order; it is kept no longer."""
        items, self._items = self._items, []
        return items

    def _late(self) -> None:
        # For what nothing comes after: the last before a step that takes minutes.
        while True:
            self._arrived.wait()
            self._arrived.clear()
            time.sleep(self._seconds)
            self._handle()
