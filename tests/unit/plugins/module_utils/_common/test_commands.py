# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A call returns when the command exits or reaches its deadline, even if the command leaves processes behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from alarms import alarm

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs


@pytest.fixture
def left(tmp_path):
    """Yield the file to which a command writes the PID of a process that it leaves behind. Kill that process later."""
    note = tmp_path / "left"
    yield note
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(note.read_text()), signal.SIGKILL)


def shell(script, *, timeout, **options):
    begun = time.monotonic()
    return commands.run(["sh", "-c", script], timeout=timeout, **options), time.monotonic() - begun


def test_output_and_exit_code():
    done, _seconds = shell("cat; echo no >&2; exit 3", timeout=20.0, stdin=b"yes" * 100_000)
    assert (done.rc, done.stdout, done.stderr, done.timed_out) == (3, "yes" * 100_000, "no\n", False)


def test_the_whole_group_is_ended_at_the_deadline(left):
    done, seconds = shell(f"echo begun; sleep 60 & echo $! >{left}; sleep 60", timeout=0.5)
    assert (done.rc, done.timed_out, done.stdout) == (None, True, "begun\n")
    assert seconds < 20
    pid = int(left.read_text())
    give_up = time.monotonic() + 10
    while (process := procfs.read_process(pid)) is not None and process.alive:
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.parametrize(("end", "rc"), [("sleep 60", None), ("exit 3", 3)])
def test_a_process_in_another_session_with_the_output_open_is_not_waited_for(left, end, rc):
    done, seconds = shell(f"echo begun; setsid sleep 60 & echo $! >{left}; {end}", timeout=1.0)
    assert (done.rc, done.stdout) == (rc, "begun\n")
    assert seconds < 20


def test_a_background_process_is_left_running(left):
    done, seconds = shell(f"sleep 60 & echo $! >{left}; echo renewed", timeout=50.0)
    assert (done.rc, done.stdout) == (0, "renewed\n")
    assert seconds < 20
    os.kill(int(left.read_text()), 0)


def test_unread_input_is_not_an_error():
    done, seconds = shell("exit 0", timeout=20.0, stdin=b"x" * 3_000_000)
    assert done.ok and seconds < 20


def test_long_output_is_cut_in_the_middle(monkeypatch):
    monkeypatch.setattr(commands, "LONGEST_OUTPUT", 1000)
    done, _seconds = shell("echo begin; yes | head -c 3000000; echo end", timeout=50.0)
    assert done.ok
    assert done.stdout.startswith("begin") and done.stdout.endswith("end\n") and "left out" in done.stdout
    assert len(done.stdout) < 1600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_user_who_stops_the_child_before_the_program_starts_delays_nothing(monkeypatch):
    """After the child has switched to the user, this user may send signals to the child."""
    stopped = []
    become = safe_open.become

    def become_and_stop(*arguments, **options):
        become(*arguments, **options)
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(safe_open, "become", become_and_stop)
    monkeypatch.setattr(os, "kill", lambda *arguments, kill=os.kill: (stopped.append(arguments), kill(*arguments)))
    with alarm(10):
        done = commands.run(["true"], timeout=0.5, user="nobody")
    assert (done.rc, done.timed_out) == (None, True)
    (pid, _number) = stopped[0]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
