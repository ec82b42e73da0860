# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that run as processes under a run's lease."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from ansible.module_utils import basic

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

ROOT = Path(__file__).parents[4]
NAMESPACE = "ansible_collections.itsm_nexus.runbook.plugins.modules"

# Minimum arguments for each module.
SERVICE = {"service": {"app_dir": "/nonexistent", "command": ["sleep", "60"], "manager": "process"}}
FILES = {"log_file": "/nonexistent", "pid_file": "/nonexistent"}
PARAMETERS = {
    "backup_fetch": {"path": "/nonexistent", "dest_dir": "/nonexistent"},
    "disk_reclaim": {"targets": [], "globs": []},
    "first_response": SERVICE,
    "health_probe": {**SERVICE, "endpoints": []},
    "incident": {"state": "attempt"},
    "incident_info": {},
    "knex_migrate": {"app_dir": "/", "db_path": "/nonexistent"},
    "knex_migrate_info": {"app_dir": "/", "db_path": "/nonexistent"},
    "node_process": {"service": {**SERVICE["service"], **FILES}, "state": "stopped"},
    "npm_ci": {"app_dir": "/"},
    "preparedness_info": {
        "service": {**SERVICE["service"], **FILES, "user": "root"},
        "db_path": "x",
        "https_port": 0,
        "http_port": 0,
    },
    "process_stop": {**SERVICE, "processes": []},
    "release_rollback": {"strategy": "git", "app_dir": "/nonexistent", "db_path": "/nonexistent"},
    "restore_drill": {
        **{"unit": "x", "app_dir": "/nonexistent", "user": "nobody", "path": "/nonexistent"},
        "endpoints": [{"name": "x", "url": "http://localhost/"}],
    },
    "scheduled_backup": {"path": "/nonexistent", "dest_dir": "/nonexistent"},
    "service_discovery_info": {},
    "service_hold": {"state": "released", "unit": "x", "reason": "x"},
    "service_preflight_info": {
        "service": {**SERVICE["service"], **FILES, "user": "root"},
        "db_path": "x",
        "https_port": 0,
        "http_port": 0,
    },
    "sqlite_backup": {"path": "/nonexistent", "dest": "/nonexistent"},
    "sqlite_info": {"path": "/nonexistent"},
    "sqlite_owner": {"path": "/nonexistent", "user": "nobody"},
    "sqlite_restore": {"path": "/nonexistent", "evidence_dir": "/nonexistent"},
    "sqlite_wal": {"path": "/nonexistent"},
    "start_guard_info": {"unit": "x"},
    "tls_certificate": {"cert_path": "/nonexistent"},
    "triage_info": SERVICE,
    "unit_dropin": {"unit": "x", "name": "x"},
}


@pytest.fixture
def seat(tmp_path):
    """Yield the lease for a state folder, stored in the in-memory folder that this account's modules use."""
    seat = host_lease.Seat(state_dir=str(tmp_path / "state"))
    yield seat
    shutil.rmtree(seat.folder, ignore_errors=True)


def begin(name, /, **parameters):
    command = [sys.executable, "-m", f"{NAMESPACE}.{name}"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "collections"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": parameters}))
    process.stdin.close()
    return process


def end(process):
    with process:
        return json.loads(process.stdout.read())


def on_the_host():
    return yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["host"]


def test_every_module_that_works_under_a_lease_is_in_the_group():
    with_lease = [
        path.stem
        for path in (ROOT / "plugins" / "modules").glob("*.py")
        if "**host_lease.ARGUMENTS" in path.read_text()
    ]
    assert sorted(with_lease) == on_the_host() == sorted(PARAMETERS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_with_a_lost_lease_a_module_does_nothing(seat, monkeypatch, capsys, name):
    seat.prepare()
    seat.take(run="another")
    parameters = {"run": "mine", "state_dir": seat.state_dir, **PARAMETERS[name]}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": parameters}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    with pytest.raises(SystemExit):
        importlib.import_module(f"{NAMESPACE}.{name}").main()
    result = json.loads(capsys.readouterr().out)
    assert result["failed"]
    kept_out = "Another run is working on this host: another" if name == "incident" else "Run mine has lost the lease"
    assert result["msg"].startswith(kept_out)


def test_a_started_service_does_not_keep_the_lease_and_the_start_is_recorded(seat, tmp_path):
    run = incident_record.call(state_dir=seat.state_dir, state="open")["run"]
    (tmp_path / "app").mkdir()
    files = {"app_dir": str(tmp_path / "app"), "log_file": str(tmp_path / "log"), "pid_file": str(tmp_path / "pid")}
    started = end(
        begin(
            "node_process",
            run=run,
            state_dir=seat.state_dir,
            service={**SERVICE["service"], **files},
            state="started",
        )
    )
    try:
        looked = incident_record.call(state_dir=seat.state_dir, state="present")
        assert looked["restarts_in_window"] == 1 and looked["starts"][0]["run"] == run
        assert looked["locked_by"]["pid"] is None
        os.kill(started["pids_after"][0], 0)  # raises an error if the process is not running
    finally:
        os.kill(started["pids_after"][0], signal.SIGKILL)


def test_the_host_is_free_when_the_lease_of_a_killed_module_ends(seat, tmp_path):
    run = incident_record.call(state_dir=seat.state_dir, state="open", lease=0.01)["run"]
    # This server accepts connections but never responds, so the module runs until its timeout.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = {"name": "x", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        asked = {"endpoints": [endpoint], "mode": "await", "timeout": 60, "deadline": 60}
        probe = begin("health_probe", run=run, state_dir=seat.state_dir, **SERVICE, **asked)
        while seat.worker() is None:
            assert probe.poll() is None
        with pytest.raises(incident_store.IncidentError, match=f"process {probe.pid} of that run is running"):
            incident_record.call(state_dir=seat.state_dir, state="open")
        probe.kill()
        probe.wait()
        probe.stdout.close()
    assert seat.worker() is None


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def endpoint():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield {"name": "http", "url": f"http://127.0.0.1:{server.server_port}/"}
        server.shutdown()
        thread.join()


def test_a_healthy_probe_is_recorded_and_reports_an_open_incident(seat, tmp_path, endpoint):
    def probe(**more):
        result = end(begin("health_probe", state_dir=seat.state_dir, **SERVICE, endpoints=[endpoint], **more))
        assert result["healthy"]
        return result

    assert probe(remember=True, _ansible_check_mode=True)["open_incident"] is False
    assert not os.path.exists(seat.state_dir)
    healthy = probe(remember=True)
    opened = incident_record.call(state_dir=seat.state_dir, state="open")
    assert opened["outage_started"]["earliest"] == healthy["last_success_at"]
    assert opened["outage_started"]["earliest_source"] == "last healthy run"
    assert probe()["open_incident"] is True


def test_the_first_good_answer_is_recorded_during_the_stability_check(seat, endpoint):
    run = incident_record.call(state_dir=seat.state_dir, state="open")["run"]
    where = {"state_dir": seat.state_dir, "run": run, **SERVICE}

    def probe(mode, target=endpoint, **more):
        return end(begin("health_probe", **where, mode=mode, endpoints=[target], interval=0.0, deadline=1.0, **more))

    def on_record():
        return incident_record.call(state_dir=seat.state_dir, state="present")["answered_at"]

    nobody = {"name": "x", "url": "http://127.0.0.1:9/"}
    probe("await", nobody)
    probe("await", _ansible_check_mode=True)
    probe("watch")
    assert on_record() is None
    answered = probe("await")["first_healthy_at"]
    probe("hold")
    assert on_record() == answered
    probe("hold", nobody)
    assert on_record() is None


def test_a_probe_that_finds_an_outage_opens_its_incident(seat, tmp_path):
    nobody = {"name": "x", "url": "http://127.0.0.1:9/"}

    def probe(**more):
        return end(
            begin(
                "health_probe", state_dir=seat.state_dir, **SERVICE, endpoints=[nobody], interval=0.0, open=True, **more
            )
        )

    rehearsed = probe(_ansible_check_mode=True)["opened"]
    assert rehearsed["changed"] and rehearsed["id"] is None
    assert not os.path.exists(seat.state_dir)

    seen = probe()
    opened = seen["opened"]
    assert not seen["open_incident"] and opened["severity"] == seen["severity"] == "emergency"
    assert opened["outage_started"]["latest"] == seen["first_failure_at"]
    assert opened["outage_started"]["source"] == "health probe"
    looked = incident_record.call(state_dir=seat.state_dir, state="present")
    assert looked["id"] == opened["id"] and looked["locked_by"]["run"] == opened["run"]

    # The first run now holds the lease, so another run cannot open an incident.
    kept_out = probe()["opened"]
    assert kept_out["failed"] and kept_out["locked_by"]["run"] == opened["run"]
    assert kept_out["msg"].startswith(f"Another run is working on this host: {opened['run']}")


def test_a_probe_opens_no_incident_during_a_maintenance_or_if_healthy(seat, tmp_path, endpoint):
    def probe(target, **more):
        return end(begin("health_probe", state_dir=seat.state_dir, **SERVICE, endpoints=[target], open=True, **more))

    assert probe(endpoint)["opened"] is None
    nobody = {"name": "x", "url": "http://127.0.0.1:9/"}
    until = "2099-01-01T00:00:00Z"
    opened = probe(nobody, maintenance_until=until)["opened"]
    assert opened["id"] is None and opened["maintenance"]["until"].startswith("2099-01-01T00:00:00")
    assert incident_record.call(state_dir=seat.state_dir, state="present")["id"] is None
