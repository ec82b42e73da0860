# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that child processes do while this process continues with other work."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel


def test_an_answer_in_time_is_read_after_a_longer_wait_for_something_else():
    answers = parallel.ask({"quick": lambda: "x" * 10_000}, timeout=0.1, meanwhile=lambda: time.sleep(0.4))
    assert answers["quick"].value == "x" * 10_000


def test_a_question_that_hangs_is_given_up_after_the_wait():
    begun = time.monotonic()
    answers = parallel.ask({"hangs": lambda: time.sleep(60)}, timeout=0.1, meanwhile=lambda: time.sleep(0.3))
    assert answers["hangs"].error == parallel.TIMED_OUT
    assert time.monotonic() - begun < 5


def test_an_error_in_this_process_ends_the_questions():
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        parallel.ask({"hangs": lambda: time.sleep(10)}, timeout=60, meanwhile=lambda: 1 / 0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    assert time.monotonic() - begun < 5
