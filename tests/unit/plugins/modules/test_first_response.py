# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first_response module on a real service: evidence first, then one start, or no start if the data is in doubt."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record

from .test_lease_modules import begin, end

# A service that keeps its database open. The database has rows that are only in its WAL.
SERVER = """
import sqlite3, time
database = sqlite3.connect("itsm.db", isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE IF NOT EXISTS users (name TEXT)")
database.execute("INSERT INTO users VALUES ('a')")
print("ready", flush=True)
time.sleep(600)
"""
CALL = "0123456789ab.0123456789abcdef"


class Crashed:
    """A service that was killed, and the incident that was opened for this crash."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.app.mkdir()
        (self.app / "server.py").write_text(SERVER)
        self.pid_file = folder / "pid"
        self.state = folder / "state"
        self.service = {
            "app_dir": str(self.app),
            "command": [sys.executable, "server.py"],
            "manager": "process",
            "log_file": str(folder / "server.log"),
            "pid_file": str(self.pid_file),
        }
        with (folder / "server.log").open("ab") as log:
            process = subprocess.Popen(self.service["command"], cwd=self.app, stdout=log)
        while not (self.app / "itsm.db-wal").exists() or b"ready" not in (folder / "server.log").read_bytes():
            time.sleep(0.01)
        process.kill()
        process.wait()
        self.pid_file.write_text(f"{process.pid}\n1\n")
        opened = incident_record.call(state_dir=str(self.state), state="open")
        self.run, self.incident = opened["run"], opened["id"]

    def respond(self, module: str = "first_response", **more: Any) -> subprocess.Popen[str]:
        """Start the module."""
        asked = {
            **{"run": self.run, "incident": self.incident, "state_dir": str(self.state), "service": self.service},
            **{"db_path": "itsm.db", "https_port": 0, "http_port": 0, "kernel_log_command": ["true"]},
        }
        return begin(module, **{**asked, **more})

    def processes(self) -> list[procfs.Process]:
        return procfs.service_processes(app_dir=str(self.app), command=self.service["command"])

    def starts(self) -> int:
        looked = incident_record.call(state_dir=str(self.state), state="present")
        return len(looked["starts"])


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Crashed]:
    crashed = Crashed(tmp_path)
    yield crashed
    for process in crashed.processes():
        os.kill(process.pid, signal.SIGKILL)
    shutil.rmtree(host_lease.Seat(state_dir=str(crashed.state)).folder, ignore_errors=True)


def test_the_evidence_is_saved_before_the_start_and_is_complete(crashed: Crashed) -> None:
    result = end(crashed.respond())
    assert result["changed"] and result["response"]["started"], result
    (process,) = crashed.processes()
    assert result["response"]["process"]["pids_after"] == [process.pid]
    assert crashed.starts() == 1
    assert result["started_by_run"] == result["response"]["attempt"]["started_at"]

    # The first bundle was written before the service was started. Like the final result, the first bundle contains the
    # facts of the crash.
    folder = crashed.state / "evidence" / crashed.incident
    assert result["bundle"] == str(folder)
    before = json.loads((folder / "triage.json").read_text())
    after = json.loads((folder / "pass-2" / "triage.json").read_text())
    assert (folder / "triage.json").stat().st_mtime < time.time() - process.age
    for seen in (before, after, result):
        assert seen["findings"][0]["cause"] == "killed"
        assert seen["facts"]["process"] == {"state": "gone", "processes": []}
        assert seen["facts"]["database"]["row_counts"] == {"users": 1}
    assert before["facts"].keys() ^ after["facts"].keys() <= {"dependencies", "node", "cores"}
    # All parts of the triage facts were collected.
    triaged = end(begin("triage_info", service=crashed.service, db_path="itsm.db", https_port=0, http_port=0))
    assert triaged["parts"].keys() <= result["parts"].keys()
    assert all(isinstance(report, float) for report in result["parts"].values()), result["parts"]
    assert {"server.log", "files.txt"} <= {each.name for each in folder.iterdir()}


def test_the_rows_before_the_start_are_on_record(crashed: Crashed) -> None:
    end(crashed.respond())
    record = json.loads((crashed.state / "incident.json").read_text())
    assert record["data"]["rows"] == {"users": 1}
    assert record["cause"] == "killed"
    assert [(each["rung"], each["started"], each["held"]) for each in record["attempts"]] == [("restart", True, None)]


def test_a_database_in_doubt_is_not_started(crashed: Crashed) -> None:
    (crashed.app / "itsm.db").write_bytes(b"")
    result = end(crashed.respond())
    assert not result["changed"] and result["response"]["why_not"], result["response"]
    assert result["blocks_start"] and result["hold"]["cause"] == "db_corrupt"
    assert crashed.processes() == [] and crashed.starts() == 0
    assert (crashed.app / "itsm.db-wal").stat().st_size > 0
    assert result["data_evidence"]["path"]


def test_a_database_that_is_not_checked_in_time_is_not_started(crashed: Crashed) -> None:
    with contextlib.closing(sqlite3.connect(crashed.app / "itsm.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = end(crashed.respond(part_timeout=2.0))
    assert not result["response"]["started"] and crashed.processes() == []


@pytest.mark.parametrize("more", [{"_ansible_check_mode": True}, {"run": ""}, {"incident": ""}])
def test_without_a_run_or_in_check_mode_nothing_is_started(crashed: Crashed, more: dict[str, Any]) -> None:
    result = end(crashed.respond(**more))
    assert result["response"] == {} and not result["changed"]
    assert crashed.processes() == [] and crashed.starts() == 0
    assert not (crashed.state / "evidence").exists() or "_ansible_check_mode" not in more


def test_a_repeated_call_gets_the_same_answer_and_starts_nothing(crashed: Crashed) -> None:
    first = end(crashed.respond(call=CALL))
    assert end(crashed.respond(call=CALL)) == first
    assert crashed.starts() == 1 and len(crashed.processes()) == 1


def test_after_a_killed_call_the_service_is_not_started_again(crashed: Crashed) -> None:
    before = crashed.pid_file.read_text()
    killed = crashed.respond(call=CALL)
    while crashed.pid_file.read_text() == before:
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    (process,) = crashed.processes()

    result = end(crashed.respond(call=CALL))
    assert not result["changed"] and result["response"] == {}
    # The host knows that this run has started the service, so the run only has to verify it.
    assert result["started_by_run"]
    assert result["findings"][0]["cause"] == "killed"
    # After a failed rung, triage in this run examines the current state, because there may be new damage.
    assert end(crashed.respond("triage_info", resume=True))["findings"][0]["cause"] == "killed"
    now = end(crashed.respond("triage_info"))
    assert now["started_by_run"] and "killed" not in [finding["cause"] for finding in now["findings"]]
    assert result["row_counts"] == {"users": 1}
    assert [each.pid for each in crashed.processes()] == [process.pid] and crashed.starts() == 1


def test_a_process_that_cannot_be_started_is_reported(crashed: Crashed) -> None:
    crashed.service["log_file"] = "/nonexistent/folder/log"
    result = end(crashed.respond())
    assert not result["changed"] and "the start failed" in result["response"]["why_not"]
    record = json.loads((crashed.state / "incident.json").read_text())
    assert [(each["rung"], each["held"]) for each in record["attempts"]] == [("restart", False)]
