# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alarm for an armed controller. Only a run that is going to recover the service accepts an alarm."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import alarm


@contextlib.contextmanager
def waiting(
    path: Path, *, timeout: float = 30.0, needed: Callable[[], bool] = lambda: True
) -> Iterator[concurrent.futures.Future[object]]:
    """Wait for the alarm in another thread.

    As soon as the socket exists, yield the object that will hold the result.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as threads:
        done = threads.submit(alarm.wait, str(path), timeout=timeout, needed=needed)
        until = time.monotonic() + 5
        while not listens(path) and time.monotonic() < until:
            time.sleep(0.005)
        yield done


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_the_alarm_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "alarms" / "node1"
    with waiting(path) as done:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert (mode & 0o077, stat.S_IMODE(path.parent.stat().st_mode)) == (0, 0o700)
        assert alarm.ring(str(path)) is True
        assert done.result(timeout=5) is True
    assert not path.exists()
    # When the next alarm arrives, no run is waiting.
    assert alarm.ring(str(path)) is False


def test_curl_can_send_the_alarm(tmp_path: Path) -> None:
    path = tmp_path / "node1"
    curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "2", "--unix-socket", str(path)]
    with waiting(path) as done:
        # A request that only checks for a waiting run is not an alarm.
        looked = subprocess.run([*curl, "http://alarm/"], capture_output=True, text=True, check=True)
        assert looked.stdout == "waiting for an alarm\n"
        rung = subprocess.run([*curl, "--request", "POST", "http://alarm/"], capture_output=True, text=True, check=True)
        assert rung.stdout == "the recovery starts\n"
        assert done.result(timeout=5) is True
    assert (
        subprocess.run([*curl, "--request", "POST", "http://alarm/"], capture_output=True, check=False).returncode == 7
    )


def test_the_wait_ends_after_the_timeout(tmp_path: Path) -> None:
    began = time.monotonic()
    assert alarm.wait(str(tmp_path / "node1"), timeout=0.3, needed=lambda: True) is False
    assert 0.3 <= time.monotonic() - began < 3


def test_a_run_that_has_ended_accepts_no_alarm(tmp_path: Path) -> None:
    path, ended = tmp_path / "node1", threading.Event()
    with waiting(path, needed=lambda: not ended.is_set()) as done:
        ended.set()
        assert alarm.ring(str(path)) is False
        assert done.result(timeout=5) is None


def test_a_client_that_sends_nothing_does_not_end_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm._Handler, "timeout", 0.2)
    path = tmp_path / "node1"
    with waiting(path) as done:
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as rude:
            silent.connect(str(path))
            rude.connect(str(path))
            rude.sendall(b"\0" * 100_000)
            assert alarm.ring(str(path), timeout=5) is True
        assert done.result(timeout=5) is True


def test_a_socket_that_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "node1"
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            alarm.wait(str(path), timeout=60, needed=lambda: True)
        os._exit(1)
    while not path.exists():
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert path.exists()
    assert alarm.ring(str(path)) is False
    with waiting(path) as done:
        assert alarm.ring(str(path)) is True
        assert done.result(timeout=5) is True


def test_two_runs_cannot_wait_at_one_socket(tmp_path: Path) -> None:
    path = tmp_path / "node1"
    with waiting(path) as done:
        with pytest.raises(alarm.AlarmError, match=f"another run is waiting at {path}"):
            alarm.wait(str(path), timeout=1, needed=lambda: True)
        assert alarm.ring(str(path)) is True
        assert done.result(timeout=5) is True


def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "node1"
    path.write_text("mine")
    with pytest.raises(alarm.AlarmError, match="is not a socket"):
        alarm.wait(str(path), timeout=1, needed=lambda: True)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("where", "mode", "words"),
    [
        ("open/node1", 0o777, "only this user may own .*/open and write to it"),
        ("relative", None, "must be an absolute path"),
        ("x" * 200, 0o700, "cannot be used: AF_UNIX path too long"),
        ("file/node1", None, "cannot be used: File exists"),
    ],
)
def test_an_unusable_path_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, mode: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(where) if where == "relative" else tmp_path / where
    if mode:
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(mode)
    (tmp_path / "file").touch()
    with pytest.raises(alarm.AlarmError, match=words):
        alarm.wait(str(path), timeout=1, needed=lambda: True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_accept_an_alarm() -> None:
    """The service's user could otherwise suppress a recovery."""
    nobody = 65534
    # Other users cannot enter pytest's folders.
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, nobody, nobody)
        path = Path(folder) / "node1"
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setgid(nobody)
                os.setuid(nobody)
                alarm.wait(str(path), timeout=60, needed=lambda: True)
            os._exit(1)
        try:
            while not listens(path):
                time.sleep(0.005)
            assert alarm.ring(str(path)) is False
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
