# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a systemd unit, the takeover of its restart, and the timer that acts if a run dies."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import takeover

UNIT = "itsm-system"
# The states of a unit with Restart=always and ExecStartPre=, in the order in which systemd 257 reports them.
PENDING = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "signal", "NRestarts": "1", "Job": ""}
START_PRE = {"ActiveState": "activating", "SubState": "start-pre", "Result": "success", "NRestarts": "2", "Job": "196"}
RUNNING = {"ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "2", "Job": ""}


class Systemd:
    """A fake systemctl that records its calls. A call fails if one of its words is in `failing`."""

    def __init__(self, *failing):
        self.failing = failing
        self.asked = []

    def __call__(self, argv, **_more):
        self.asked.append(argv)
        ok = not any(word in argv for word in self.failing)
        return SimpleNamespace(ok=ok, rc=0 if ok else 1, stdout="", stderr="" if ok else "refused", timed_out=False)

    @property
    def verbs(self):
        return [argv[0] if argv[0] != "systemctl" else argv[2] for argv in self.asked]


@pytest.fixture
def seat(tmp_path):
    made = host_lease.Seat(state_dir=str(tmp_path / "state"), memory=str(tmp_path / "memory"))
    made.prepare()
    return made


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (PENDING, takeover.PENDING),
        ({**PENDING, "SubState": "auto-restart-queued"}, takeover.PENDING),
        # A person starts the unit while systemd is waiting to restart it.
        ({**PENDING, "Job": "17"}, takeover.STARTING),
        (START_PRE, takeover.STARTING),
        ({"ActiveState": "inactive", "SubState": "dead", "Job": "17"}, takeover.STARTING),
        ({"ActiveState": "deactivating", "SubState": "stop-sigterm", "Job": "17"}, takeover.STOPPING),
        (RUNNING, takeover.UP),
        ({"ActiveState": "failed", "SubState": "failed", "Job": "0"}, takeover.DOWN),
        ({"ActiveState": "inactive", "SubState": "dead"}, takeover.DOWN),
        ({}, takeover.DOWN),
    ],
)
def test_phase_of_a_unit(properties, expected):
    assert takeover.phase(properties) == expected


def due(seconds, **changes):
    """Return the properties of a unit that systemd will restart in `seconds` seconds."""
    changed = time.clock_gettime(time.CLOCK_MONOTONIC) - 10 + seconds
    return {**PENDING, "StateChangeTimestampMonotonic": str(int(changed * 1e6)), "RestartUSec": "10s", **changes}


@pytest.mark.parametrize(
    ("seconds", "changes", "expected"),
    [
        (1, {}, True),
        (5, {}, False),
        (-1, {}, True),
        # This restart should have taken place long ago.
        (-8, {}, False),
        # Since version 254, systemd can increase the delay before each further restart (RestartSteps=).
        (1, {"RestartUSecNext": "40s"}, False),
        (-29, {"RestartUSecNext": "40s"}, True),
        (1, {"RestartUSec": "infinity"}, False),
        (1, {"StateChangeTimestampMonotonic": ""}, False),
        (1, START_PRE, False),
    ],
)
def test_imminent_automatic_restart(seconds, changes, expected):
    # The properties contain the current time, so create them here and not in the parameters.
    assert takeover.is_imminent(due(seconds, **changes)) is expected


@pytest.mark.parametrize(("restarts", "expected"), [("0", False), ("", False), ("3", True), ("[not set]", False)])
def test_a_manual_start_is_not_a_restart_by_systemd(restarts, expected):
    assert takeover.restarted_by_systemd({"NRestarts": restarts}) is expected


def test_the_last_exit_is_read_before_the_stop_resets_it():
    ended = time.clock_gettime(time.CLOCK_MONOTONIC) - 5
    properties = {**PENDING, "ExecMainCode": "2", "ExecMainStatus": "9", "ExecMainPID": "295"}
    properties["ExecMainExitTimestampMonotonic"] = str(int(ended * 1e6))
    found = takeover.last_exit(properties)
    assert (found["result"], found["code"], found["status"], found["pid"]) == ("signal", "killed", 9, 295)
    assert found["restarts"] == 1
    assert found["at"].endswith("Z")
    assert takeover.last_exit({})["at"] is None


def test_the_timer_is_armed_before_the_restart_is_cancelled(seat):
    systemd = Systemd()
    taken = takeover.take(UNIT, PENDING, seat=seat, run=systemd)
    assert systemd.verbs == ["systemd-run", "stop"]
    assert (taken.unit, taken.sub_state, taken.last_exit["result"]) == (UNIT, "auto-restart", "signal")
    assert taken.killed_at is None
    assert f"--on-active={host_lease.SECONDS:.0f}" in systemd.asked[0]


def test_a_process_on_a_database_in_doubt_is_killed_before_the_stop(seat):
    systemd = Systemd()
    taken = takeover.take(UNIT, RUNNING, seat=seat, kill=True, run=systemd)
    assert systemd.verbs == ["systemd-run", "kill", "stop"]
    assert taken.killed_at is not None and taken.killed_at <= taken.at


def test_without_a_timer_nothing_is_taken_over(seat):
    systemd = Systemd("systemd-run")
    with pytest.raises(takeover.TakeoverError, match="arm the dead-man timer"):
        takeover.take(UNIT, PENDING, seat=seat, run=systemd)
    assert systemd.verbs == ["systemd-run"]


def test_a_restart_that_cannot_be_cancelled_is_reported(seat):
    with pytest.raises(takeover.TakeoverError, match="cancel the restart of itsm-system: refused"):
        takeover.take(UNIT, PENDING, seat=seat, run=Systemd("stop"))


def dead_man(seat, tmp_path, database="", user="", *, scratch=None, program=takeover._DEAD_MAN, limit="60"):
    """Run the program that the timer starts, with a fake systemctl. Return the systemctl calls as strings."""
    log = tmp_path / "asked"
    fake = tmp_path / "bin" / "systemctl"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    fake.chmod(0o755)
    argv = [sys.executable, "-I", "-S", "-c", program]
    argv += [os.path.join(seat.folder, "lease.json"), os.path.join(seat.folder, "work"), UNIT, "x.timer"]
    argv += [database, user, scratch or str(tmp_path), str(tmp_path / "etc/x.service.d/zz-held.conf"), "[Unit]", limit]
    subprocess.run(argv, check=True, env={"PATH": f"{fake.parent}:/usr/bin:/bin"}, stdout=subprocess.DEVNULL)
    return log.read_text().splitlines() if log.exists() else []


STARTED = ["reset-failed -- itsm-system", "start --no-block -- itsm-system", "stop --no-block -- x.timer"]


def test_the_timer_waits_for_a_live_run(seat, tmp_path):
    with seat.locked():
        seat.take(run="run-1")
    assert dead_man(seat, tmp_path) == []


@pytest.mark.parametrize("end", ["over", "released", "another boot", "no lease", "damaged"])
def test_the_timer_starts_the_unit_if_the_run_has_died(seat, tmp_path, end):
    with seat.locked():
        seat.take(run="run-1")
        path = os.path.join(seat.folder, "lease.json")
        with open(path, encoding="utf-8") as stream:
            lease = json.load(stream)
        if end == "no lease":
            os.unlink(path)
        else:
            changed = {"over": {"ends": 1.0}, "released": {"released": True}, "another boot": {"boot_id": "x"}}.get(end)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write("{" if changed is None else json.dumps({**lease, **changed}))
    assert dead_man(seat, tmp_path) == STARTED


def test_the_timer_waits_for_a_module_that_works_longer_than_the_lease(seat, tmp_path):
    descriptor = seat.show_work()
    try:
        assert dead_man(seat, tmp_path) == []
    finally:
        seat.hide_work(descriptor)
    assert dead_man(seat, tmp_path) == STARTED


@pytest.mark.parametrize("damage", ["none", "empty", "deleted", "nothing left", "no folder", "unreadable", "pages"])
def test_the_timer_holds_a_unit_whose_database_is_damaged(seat, tmp_path, damage):
    path = tmp_path / "itsm.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE users (name TEXT)")
    connection.executemany("INSERT INTO users VALUES (?)", [("x" * 900,)] * 50)
    if damage == "pages":
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(path, "r+b") as stream:
            stream.seek(4096)
            stream.write(b"\xa5" * 4096)
    elif damage != "none":
        path.write_bytes(b"")
    if damage == "deleted":
        path.unlink()
    if damage in ("nothing left", "no folder"):
        path.with_name("itsm.db-wal").unlink()
        path.unlink()
    elif damage == "unreadable":
        path.unlink()
        path.mkdir()
    before = sorted(os.listdir(tmp_path))
    asked = dead_man(seat, tmp_path, str(tmp_path / "away" / "itsm.db" if damage == "no folder" else path))
    held = tmp_path / "etc/x.service.d/zz-held.conf"
    if damage == "none":
        assert asked == STARTED
    else:
        assert asked == ["daemon-reload", "stop --no-block -- x.timer"]
        assert held.read_text() == "[Unit]"
    # The program has removed its copy of the database and left no other files behind.
    assert set(os.listdir(tmp_path)) - set(before) <= {"asked", "bin", "etc"}
    connection.close()


def test_a_problem_with_its_own_folder_does_not_hold_the_unit(seat, tmp_path):
    path = tmp_path / "itsm.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    assert dead_man(seat, tmp_path, str(path), scratch=str(tmp_path / "away")) == STARTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["", "65534:65534"])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_timer_reads_the_database_with_the_rights_of_its_user(seat, tmp_path, user, mode):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        path = Path(folder, "itsm.db")
        path.write_bytes(b"\xa5" * 8192)
        path.chmod(mode)
        asked = dead_man(seat, tmp_path, str(path), user, scratch="/var/tmp")
    readable = not user or mode == 0o644
    assert asked == (["daemon-reload", "stop --no-block -- x.timer"] if readable else STARTED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("user", ["", "65534:65534"])
def test_the_timer_does_not_wait_for_a_check_that_another_process_stopped(seat, tmp_path, user):
    stops = "def damage():\n    os.kill(os.getpid(), signal.SIGSTOP)"
    program = takeover._DEAD_MAN.replace("def damage():", stops)
    assert dead_man(seat, tmp_path, str(tmp_path / "itsm.db"), user, program=program, limit="0.5") == STARTED


def test_the_name_of_the_timer_is_that_of_the_unit():
    assert takeover.timer_name("itsm-system.service") == takeover.timer_name("itsm-system")
    assert "/" not in takeover.timer_name("a/../b@c")


def test_a_start_by_others_is_waited_for():
    states = [START_PRE, START_PRE, RUNNING]

    def run(_argv, **_more):
        state = states.pop(0)
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        return SimpleNamespace(ok=True, rc=0, stdout=text, stderr="", timed_out=False)

    found = takeover.settle(UNIT, limit=5, run=run, poll=0.01)
    assert found["ActiveState"] == "active"
    assert states == []
