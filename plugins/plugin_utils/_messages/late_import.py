# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import modules only when they are needed, so that the first task starts earlier.

Ansible forks a worker for each task. At that moment, another thread may be importing a module. The worker then inherits
the lock of this module, but not the thread that would release the lock. If the worker imported the same module, it
would wait forever. Therefore, a fork waits until the import has finished.
"""

from __future__ import annotations

import importlib
import os
import threading
from types import ModuleType
from typing import Any, Callable

_PLUGIN_UTILS = __package__.rpartition(".")[0]

_LOCK = threading.RLock()
os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


def module(name: str) -> ModuleType:
    """Return a module of plugin_utils. name: the name relative to plugin_utils. This function is thread-safe."""
    with _LOCK:
        return importlib.import_module(f"{_PLUGIN_UTILS}.{name}")


def function(name: str, attribute: str) -> Callable[..., Any]:
    """Return a function that imports a module from plugin_utils and calls a function of this module."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(module(name), attribute)(*arguments, **options)

    return call
