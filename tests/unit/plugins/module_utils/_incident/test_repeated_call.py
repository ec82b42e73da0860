# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If a call is repeated after a lost connection, the work is done only once.

The second call returns the first result.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

ROOT = Path(__file__).parents[5]
MODULES = ROOT / "plugins" / "modules"
# A module that appends one character to a file on each call, and succeeds or fails after a few seconds.
PROGRAM = """
import json, sys, time
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import repeated_call
params, work, seconds, failed = json.loads(sys.argv[1])
since = repeated_call.once(params, check_mode=False, fail=sys.exit)
with open(work, "a") as stream:
    stream.write("x")
time.sleep(seconds)
print("\\n" + json.dumps({"since": since, "failed": failed, "params": params, "at": time.time()}))
sys.exit(1 if failed else 0)
"""
RUN = "0123456789ab"
NAME = f"{RUN}.0000000000000001"
NEXT = f"{RUN}.0000000000000002"
OTHER = "ba9876543210.0000000000000001"


@pytest.fixture
def seat(tmp_path):
    seat = host_lease.Seat(state_dir=str(tmp_path / "state"))
    yield seat
    shutil.rmtree(seat.folder, ignore_errors=True)


@pytest.fixture
def begin(seat, tmp_path):
    def begin(name=NAME, *, seconds=0.0, failed=False, run="run-1"):
        params = {"call": name, "run": run, "state_dir": seat.state_dir}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([params, str(tmp_path / "work"), seconds, failed])],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "collections"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.fixture
def worked(tmp_path):
    def worked():
        work = tmp_path / "work"
        return len(work.read_text()) if work.exists() else 0

    return worked


def end(process):
    output, errors = process.communicate(timeout=30)
    assert output, errors
    return json.loads(output)


def wait_for(condition):
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("module", sorted(path.stem for path in MODULES.glob("*.py")))
def test_every_module_under_the_lease_acts_once(module):
    source = (MODULES / f"{module}.py").read_text(encoding="utf-8")
    under_lease = "**host_lease.ARGUMENTS" in source
    assert ("**repeated_call.ARGUMENTS" in source) == ("repeated_call.once(module.params, " in source) == under_lease


def test_a_repeated_call_returns_the_answer_of_the_first(begin, worked):
    first = end(begin())
    assert first["since"] is None and "call" not in first["params"]
    assert end(begin()) == first
    assert worked() == 1


def test_an_unread_answer_is_kept(begin, worked):
    cut = begin(seconds=0.3)
    wait_for(worked)
    cut.stdout.close()
    cut.wait()
    assert end(begin())["since"] is None
    assert worked() == 1


def test_a_repeated_call_waits_for_the_first(begin, worked):
    first = begin(seconds=0.7)
    wait_for(worked)
    second = begin()
    assert end(second) == end(first)
    assert worked() == 1


def test_work_continues_after_its_terminal_closes(begin, worked):
    first = begin(seconds=0.5)
    wait_for(worked)
    first.send_signal(signal.SIGHUP)
    assert end(begin()) == end(first)
    assert worked() == 1


def test_a_failure_is_repeated_like_any_answer(begin, worked):
    assert end(begin(failed=True))["failed"]
    repeated = begin()
    assert end(repeated)["failed"] and repeated.returncode == 1
    assert worked() == 1


def test_a_call_that_died_is_repeated_with_its_start_time(begin, worked):
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    died = begin(seconds=60.0)
    wait_for(worked)
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    died.kill()
    died.communicate()
    repeated = end(begin())
    assert before - 0.01 <= repeated["since"] <= after
    assert worked() == 2
    # The work is now done, so a further call only returns the same result.
    assert end(begin()) == repeated


def test_an_incomplete_answer_is_ignored(begin, worked, seat):
    end(begin())
    path = Path(seat.folder, "calls", NAME)
    path.write_bytes(path.read_bytes()[:-9])
    assert end(begin())["since"] is not None
    assert worked() == 2


def test_the_next_call_waits_for_the_previous_one_and_removes_its_answer(begin, worked, seat):
    end(begin(OTHER))
    first = begin(seconds=0.7)
    wait_for(lambda: worked() == 2)
    second = begin(NEXT)
    assert end(second)["at"] > end(first)["at"]
    assert sorted(os.listdir(os.path.join(seat.folder, "calls"))) == sorted([NEXT, OTHER])


def test_a_call_that_never_ends_is_not_waited_for_forever(begin, worked, seat, monkeypatch):
    hung = begin(seconds=60.0)
    wait_for(worked)
    monkeypatch.setattr(repeated_call, "_PATIENCE", 0.1)
    said = []
    for name in (NAME, NEXT):
        params = {"call": name, "run": "run-1", "state_dir": seat.state_dir}
        assert repeated_call.once(params, check_mode=False, fail=lambda **why: said.append(why)) is None
    hung.kill()
    hung.communicate()
    assert len(said) == 2 and all("is still running on this host" in each["msg"] for each in said)
    assert all(each["messages"]["msg"]["id"] == "reason.call.busy" for each in said)


def test_only_this_account_can_read_answers(begin, seat):
    end(begin())
    folder = os.path.join(seat.folder, "calls")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(folder, NAME)).st_mode) == 0o600


def test_an_answer_that_is_too_large_is_not_kept(begin, seat, monkeypatch, capsys):
    monkeypatch.setattr(repeated_call, "_LARGEST", 20)
    params = {"call": NAME, "run": "run-1", "state_dir": seat.state_dir}
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    repeated_call.once(params, check_mode=False, fail=pytest.fail)
    print(json.dumps({"long": "x" * 40}))
    for descriptor in repeated_call._open:
        os.close(descriptor)
    repeated_call._open.clear()
    assert "xxxx" in capsys.readouterr().out
    assert end(begin())["since"] is not None


@pytest.mark.parametrize("more", [{"call": ""}, {"run": "", "mode": "watch"}, {"check_mode": True}])
def test_a_read_only_call_leaves_no_file(seat, more):
    check_mode = more.pop("check_mode", False)
    params = {"call": NAME, "run": "run-1", "state_dir": seat.state_dir, **more}
    assert repeated_call.once(params, check_mode=check_mode, fail=pytest.fail) is None
    assert "call" not in params and not os.path.exists(seat.folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "x", f"{NAME}/x", f"{NAME}\n"])
def test_an_invalid_name_is_refused(seat, name):
    said = []
    params = {"call": name, "run": "run-1", "state_dir": seat.state_dir}
    assert repeated_call.once(params, check_mode=False, fail=lambda **why: said.append(why)) is None
    assert len(said) == 1 and repr(name) in said[0]["msg"] and not os.path.exists(seat.folder)


def test_without_a_folder_in_memory_the_work_is_done(tmp_path):
    (tmp_path / "memory").write_text("no folder")
    params = {"call": NAME, "run": "run-1", "state_dir": str(tmp_path)}
    assert repeated_call.once(params, check_mode=False, fail=pytest.fail, memory=str(tmp_path / "memory")) is None


def module(name, **parameters):
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.itsm_nexus.runbook.plugins.modules.{name}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "collections"},
        input=json.dumps({"ANSIBLE_MODULE_ARGS": parameters}),
        check=False,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_an_opened_incident_is_not_refused_to_its_own_run(seat):
    opened = module("incident", state="open", state_dir=seat.state_dir, call=NAME)
    assert module("incident", state="open", state_dir=seat.state_dir, call=NAME) == opened
    other = module("incident", state="open", state_dir=seat.state_dir, call=OTHER)
    assert other["failed"] and opened["run"] in other["msg"]


def test_the_outage_that_a_probe_found_belongs_to_its_own_run(seat):
    endpoint = {"name": "x", "url": "http://127.0.0.1:9/"}
    service = {"app_dir": "/nonexistent", "command": ["sleep", "60"], "manager": "process"}
    asked = {"state_dir": seat.state_dir, "service": service, "endpoints": [endpoint], "interval": 0.0, "open": True}
    seen = module("health_probe", **asked, call=NAME)
    assert module("health_probe", **asked, call=NAME) == seen and seen["opened"]["run"]


@pytest.fixture
def process(seat, tmp_path):
    """Yield a function that restarts a service without a systemd unit. Kill the service's processes after the test."""
    (tmp_path / "app").mkdir()
    files = {"log_file": str(tmp_path / "log"), "pid_file": str(tmp_path / "pid")}
    service = {"app_dir": str(tmp_path / "app"), "command": ["sleep", "60"], "manager": "process", **files}
    run = incident_record.call(state_dir=seat.state_dir, state="open")["run"]

    def restart(name):
        return module("node_process", state="restarted", run=run, state_dir=seat.state_dir, call=name, service=service)

    yield restart
    for each in service_process.find(service_process.Service(**service)):
        os.kill(each.pid, signal.SIGKILL)


def test_a_service_is_restarted_once(seat, process):
    started = process(NAME)
    assert process(NAME) == started
    assert len(incident_record.call(state_dir=seat.state_dir, state="present")["starts"]) == 1
    again = process(NEXT)
    assert again["pids_before"] == started["pids_after"] != again["pids_after"]


def test_a_service_restarted_by_a_dead_call_is_left_running(seat, process):
    started = process(NAME)
    path = Path(seat.folder, "calls", NAME)
    # Simulate a call that died after it had started the service but before it returned its result.
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")
    repeated = process(NAME)
    assert (repeated["pids_after"], repeated["changed"], repeated["stopped"]) == (started["pids_after"], True, [])


def test_a_service_older_than_the_dead_call_is_restarted(seat, process):
    before = process(NAME)
    seat.prepare()
    time.sleep(0.02)
    begun = time.clock_gettime(time.CLOCK_BOOTTIME)
    Path(seat.folder, "calls", NEXT).write_text(f"{begun:.2f}\n")
    restarted = process(NEXT)
    assert restarted["pids_before"] == before["pids_after"] != restarted["pids_after"]


def test_a_long_answer_that_nobody_reads_is_saved_once(tmp_path):
    """A stream without a reader raises an error as soon as more data is written than fits into its buffer."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    path = tmp_path / "answer"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    kept = repeated_call._Kept(Closed(), descriptor)
    print(json.dumps({"changed": True, "long": "x" * 10000}), file=kept, flush=True)
    os.close(descriptor)
    assert json.loads(path.read_text())["changed"] is True
