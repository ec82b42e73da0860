# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packing in advance may affect only the duration of a run."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch


def test_a_packing_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While packing hangs, it holds the lock on the module. The task that needs the module waits for this lock."""
    monkeypatch.setattr(module_prefetch, "_LONGEST", 1)
    monkeypatch.setattr(module_prefetch, "_pack", lambda _name: time.sleep(60))
    begun = time.monotonic()
    _child, status = os.waitpid(module_prefetch._fork(["sqlite_info"]), 0)
    assert os.WTERMSIG(status) == signal.SIGALRM
    assert time.monotonic() - begun < 30
