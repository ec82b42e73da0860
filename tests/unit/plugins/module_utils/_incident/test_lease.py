# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lease on a host: who holds it, how it is renewed, and when it expires."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess

import pytest
from rounds import step

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import english
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages as incident_messages

START = timestamps.epoch("2026-03-02T01:02:03.000Z")


class Time:
    """A clock that the test advances."""

    passed = 0.0

    def clock(self) -> host_lease.Clock:
        return host_lease.Clock(
            wall=lambda: START + self.passed,
            boot=lambda: 1000 + self.passed,
            boot_id=lambda: "boot",
            sleep=self.advance,
        )

    def advance(self, seconds: float) -> None:
        self.passed += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def seat(tmp_path, time):
    seat = host_lease.Seat(state_dir=str(tmp_path / "state"), clock=time.clock(), memory=str(tmp_path / "memory"))
    seat.prepare()
    return seat


@pytest.fixture
def held(seat, time):
    def held(run, **parameters):
        return host_lease.held(state_dir=seat.state_dir, run=run, memory=seat.memory, clock=time.clock(), **parameters)

    return held


class Worker:
    """A process that uses the lease until end() or kill().

    If `child` is given, the process starts a child that keeps running after the process has exited.
    """

    def __init__(self, seat, *, run, child=""):
        self._ending, ending = os.pipe()[::-1]
        started, report = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(20)  # Stop the process even if the test fails.
            try:
                with host_lease.held(state_dir=seat.state_dir, run=run, memory=seat.memory, clock=seat.clock):
                    os.write(report, b"%d" % self._start(child))
                    os.read(ending, 1)
            finally:
                os._exit(0)
        os.close(report)
        os.close(ending)
        self.child = int(os.read(started, 20))

    def _start(self, child):
        if child == "exec":
            return subprocess.Popen(["sleep", "20"]).pid
        pid = os.fork() if child == "fork" else -1
        if pid == 0:
            signal.alarm(20)
            signal.pause()
        return pid

    def end(self):
        os.write(self._ending, b".")
        return os.waitpid(self.pid, 0)[1]

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_without_a_run_no_lease_is_checked(held, seat):
    with held(""):
        assert seat.last() is None
    assert os.listdir(seat.folder) == []


def test_work_renews_the_lease_at_its_start_and_end(held, seat, time):
    seat.take(run="a", step="restart")
    time.advance(50)
    with held("a"):
        assert seat.last()["until"] == timestamps.iso(START + 110)
        time.advance(40)
    held_by = seat.holder()
    assert (held_by["run"], held_by["step"], held_by["since"]) == ("a", "restart", timestamps.iso(START))
    assert held_by["until"] == timestamps.iso(START + 150)
    time.advance(59.9)
    assert seat.holder()["run"] == "a"
    time.advance(0.1)
    assert seat.holder() is None


def test_failed_work_renews_the_lease(held, seat, time):
    seat.take(run="a")
    with pytest.raises(SystemExit), held("a"):
        time.advance(300)
        raise SystemExit(1)
    assert seat.holder()["until"] == timestamps.iso(START + 360)


def test_a_long_step_keeps_the_lease_only_while_it_runs(seat, time):
    seat.take(run="a", step="restart")
    worker = Worker(seat, run="a")
    time.advance(1800)
    holder = seat.holder()
    assert (holder["run"], holder["pid"]) == ("a", worker.pid)
    refusal = english(host_lease.refusal(holder, state_dir=seat.state_dir), incident_messages.ENGLISH)
    for part in ("a, since 2026-03-02T01:02:03.000Z", "'restart'", f"process {worker.pid}"):
        assert part in refusal
    worker.kill()
    assert seat.holder() is None


def test_the_lease_remains_if_one_of_two_workers_ends(seat, time):
    seat.take(run="a")
    first, second = Worker(seat, run="a"), Worker(seat, run="a")
    first.end()
    time.advance(1800)
    assert seat.holder()["pid"] == second.pid
    second.kill()
    assert seat.holder() is None


@pytest.mark.parametrize("child", ["fork", "exec"])
@pytest.mark.parametrize("end", ["end", "kill"])
def test_a_started_service_does_not_keep_the_lease(seat, time, child, end):
    seat.take(run="a")
    worker = Worker(seat, run="a", child=child)
    time.advance(61)
    assert seat.holder()["pid"] == worker.pid
    getattr(worker, end)()
    time.advance(61)
    try:
        os.kill(worker.child, 0)  # Raises an error if the child is not running.
        assert seat.holder() is None
    finally:
        os.kill(worker.child, signal.SIGKILL)


def test_work_continues_after_the_connection_hangs_up(seat, time):
    seat.take(run="a")
    worker = Worker(seat, run="a", child="exec")
    os.kill(worker.pid, signal.SIGHUP)
    time.advance(1800)
    assert seat.holder()["pid"] == worker.pid
    # The worker ignores SIGHUP, but a service that the worker starts does not.
    with open(f"/proc/{worker.child}/status", encoding="ascii") as stream:
        (ignored,) = [line.split()[1] for line in stream if line.startswith("SigIgn:")]
    assert not int(ignored, 16) & 1 << signal.SIGHUP - 1
    assert os.WIFEXITED(worker.end())
    os.kill(worker.child, signal.SIGKILL)


def test_signal_handler_is_restored_after_the_work(held, seat):
    before = signal.getsignal(signal.SIGHUP)
    with held("a"):
        assert signal.getsignal(signal.SIGHUP) != before
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_lost_lease_prevents_the_work(held, seat, time):
    seat.take(run="a")
    time.advance(61)
    seat.take(run="b", step="triage")
    with pytest.raises(
        host_lease.LeaseError, match=r"Run a has lost the lease of .*: run b took it at .*; nothing was done"
    ), held("a"):
        pytest.fail("it worked")

    def fail(msg, messages):
        assert messages["msg"]["id"] == "reason.lease.lost"
        raise SystemExit(msg)

    with pytest.raises(SystemExit, match="Run a has lost"), held("a", fail=fail):
        pytest.fail("it worked")
    # The facts of the first run may be outdated. Therefore, this run does not regain the lease after the other run has
    # ended.
    seat.release(run="b")
    with pytest.raises(host_lease.LeaseError), held("a"):
        pytest.fail("it worked")
    assert seat.last()["run"] == "b"


def test_a_run_with_an_expired_unused_lease_continues(held, seat, time):
    seat.take(run="a")
    time.advance(3000)
    with held("a"):
        assert seat.holder()["until"] == timestamps.iso(START + 3060)


def test_a_run_continues_after_a_reboot(held, seat):
    with held("a"):
        assert seat.holder()["run"] == "a"


def test_work_after_the_run_has_ended_takes_no_new_lease(held, seat, time):
    seat.take(run="a")
    seat.release(run="a")
    with held("a"):
        time.advance(1)
    assert seat.holder() is None
    worker = Worker(seat, run="a")
    assert seat.holder()["pid"] == worker.pid
    worker.end()
    assert seat.holder() is None


def test_two_names_of_a_folder_share_the_lease(seat, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    for name in ("link", "state/", "other/../state"):
        assert host_lease.Seat(state_dir=str(tmp_path / name), memory=seat.memory).folder == seat.folder
    assert host_lease.Seat(state_dir=str(tmp_path / "b/state"), memory=seat.memory).folder != seat.folder


def test_a_missing_or_unusable_state_folder_does_not_prevent_a_lease(held, seat, tmp_path):
    (tmp_path / "state").write_text("a file")
    warnings = []
    with held("a", warn=warnings.append):
        assert seat.last()["run"] == "a"
    assert warnings == []


def test_unusable_shared_memory_is_a_warning(seat, tmp_path, time):
    (tmp_path / "file").write_text("")
    warnings, worked = [], []
    with host_lease.held(state_dir=seat.state_dir, run="a", memory=str(tmp_path / "file"), warn=warnings.append):
        worked.append(True)
    assert worked and len(warnings) == 1
    assert "another run may start now" in warnings[0] and "File exists" in warnings[0]


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path):
    memory = tmp_path / "memory"
    memory.mkdir()
    memory.chmod(0o777)
    with pytest.raises(PermissionError):
        host_lease.Seat(state_dir="/x", memory=str(memory)).prepare()
    memory.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    memory.symlink_to("elsewhere")
    with pytest.raises(PermissionError):
        host_lease.Seat(state_dir="/x", memory=str(memory)).prepare()


def test_only_this_account_can_read_the_files(held, seat):
    with held("a"):
        pass
    for folder, _folders, names in os.walk(seat.memory):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert all(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600 for name in names)


def test_a_truncated_or_changed_lease_is_not_fatal(held, seat):
    seat.take(run="a", step="restart")
    path = os.path.join(seat.folder, "lease.json")
    with open(path, "rb") as stream:
        whole = stream.read()
    broken = [whole[:length] for length in range(len(whole))]
    changes = range(0, 8 * len(whole), step(9))
    broken += [whole[: at // 8] + bytes([whole[at // 8] ^ 1 << at % 8]) + whole[at // 8 + 1 :] for at in changes]
    for data in broken:
        with open(path, "wb") as stream:
            stream.write(data)
        before = len(seat.warnings)
        assert (seat.last() is None) == (len(seat.warnings) > before)
        holder = seat.holder()
        assert holder is None or isinstance(holder["run"], str)
    with open(path, "wb") as stream:
        stream.write(whole[:40])
    warnings = []
    with held("b", warn=warnings.append):
        assert seat.holder()["run"] == "b"
    assert "cannot be read" in warnings[0]


def test_an_interrupted_write_leaves_no_file(seat):
    with open(os.path.join(seat.folder, ".lease.json.x"), "w") as stream:
        json.dump({}, stream)
    seat.take(run="a")
    assert sorted(os.listdir(seat.folder)) == ["lease.json"]


def without_end(seat):
    path = os.path.join(seat.folder, "lease.json")
    with open(path, encoding="utf-8") as stream:
        lease = json.load(stream)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump({**lease, "ends": 1e300}, stream)


@pytest.mark.parametrize("how", ["asked for", "found", "renewed"])
def test_every_lease_expires(seat, time, how):
    seat.take(run="a", seconds=1e12 if how == "asked for" else 60)
    if how != "asked for":
        without_end(seat)
    if how == "renewed":
        seat.take(run="a")
    time.advance(host_lease.LONGEST - 1)
    assert seat.holder() is not None
    time.advance(1)
    assert seat.holder() is None


def seen_by_another(seat):
    """Return the PID of the active worker as a string. Other processes see the worker under this PID."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        host_lease._at_work.clear()
        os.write(writing, str(seat.worker()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        return stream.read()


def test_a_worker_that_checks_for_workers_stays_a_worker(seat, held):
    with held("a"):
        assert seat.worker() is None
        assert seat.holder()["run"] == "a"
        assert seen_by_another(seat) == str(os.getpid())
    assert seen_by_another(seat) == "None"
