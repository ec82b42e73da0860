# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Triage of a running, hanging or stopped service. Some tests run only one part of triage."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse

import pytest
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    commands,
    parallel,
    path_status,
    redact,
    timestamps,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import x509
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import recovered_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    assembled_facts,
    collect_application,
    collect_host,
    collect_logs,
    collect_paths,
    collect_service,
    outage_signs,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run

CANARY = "Kanarienvogel-4711"
DAMAGED_LINE = "SqliteError: database disk image is malformed"

# A service that responds to requests, keeps a database in WAL mode open, and logs secrets.
SERVER = """
import http.server, os, sqlite3, sys, threading, time
database = sqlite3.connect("itsm.db", isolation_level=None, check_same_thread=False)
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT)")
database.execute("INSERT INTO users (name) VALUES ('a')")
secret = os.environ.get("JWT_SECRET", "")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')
    do_HEAD = do_GET
    def log_message(self, *arguments):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        print(f"{now} INFO {self.command} {self.path} 200 1 ms secret={secret} bare {secret}", flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def service(tmp_path):
    """Yield a service: its description, start() and end(), and the process that start() has started."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "server.py").write_text(SERVER)
    (app / "service.env").write_text(f"JWT_SECRET={CANARY}\nNODE_ENV=production\n")
    port = free_port()

    class Running:
        described = triage_run.Service(
            app_dir=str(app),
            command=[sys.executable, "server.py", str(port)],
            manager="process",
            unit="itsm-system",
            user="",
            db_path="itsm.db",
            db_path_variable="DATABASE_PATH",
            log_file=str(tmp_path / "server.log"),
            environment_file="service.env",
            pid_file=str(tmp_path / "service.pid"),
            tls_cert_path="",
            tls_key_path="",
            https_port=0,
            http_port=port,
            required_environment=[],
            state_dir=str(tmp_path / "state"),
        )
        process = None

        def start(self):
            with open(self.described.log_file, "ab") as log:
                self.process = subprocess.Popen(
                    self.described.command,
                    cwd=app,
                    env={"PATH": os.environ["PATH"], "JWT_SECRET": CANARY},
                    stdout=log,
                    stderr=log,
                )
            (tmp_path / "service.pid").write_text(str(self.process.pid))
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            with socket.create_connection(("127.0.0.1", port)) as link:
                link.sendall(b"GET /api/v1/health HTTP/1.0\r\n\r\n")
                while link.recv(4096):
                    pass

        def end(self, number=signal.SIGKILL):
            self.process.send_signal(number)
            self.process.wait()

    running = Running()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.end()


def look(service, **parameters):
    defaults = {"deadline": 10.0, "part_timeout": 5.0, "window": 600, "log_lines": 50, "kernel_log_command": ["true"]}
    return triage_run.triage(service=service.described, run=commands.run, **{**defaults, **parameters})


def causes(result):
    return [finding["cause"] for finding in result["findings"]]


def test_a_healthy_service_has_no_finding_and_no_unknown_fact(service):
    service.start()
    result = look(service)
    assert causes(result) == []
    facts = result["facts"]
    assert [item["pid"] for item in facts["process"]["processes"]] == [service.process.pid]
    assert facts["ports"][0]["owners"][0]["ours"] is True
    assert (facts["answer"]["http"]["answered"], facts["answer"]["http"]["status"]) == (True, 200)
    assert facts["database"]["source"] == "open in the running process"
    assert result["row_counts"] == {"users": 1}
    assert facts["environment"]["names"] == ["JWT_SECRET", "NODE_ENV", "PATH"]
    assert result["bundle"] is None
    assert [item["kind"] for item in result["signs"]] == ["good"]
    assert facts["window"]["booted_at"] < facts["log"]["written_at"]
    assert all(isinstance(seconds, float) for seconds in result["parts"].values()), result["parts"]


def test_health_is_probed_as_by_the_detection(service):
    service.start()
    described = service.described
    for words, error in ((["OK"], None), (["up"], "answered 200 with status 'ok' instead of up")):
        service.described = described._replace(health_path="/api/v1/health", health_ok_statuses=words)
        result = look(service)
        (health,) = result["facts"]["health"]
        url = f"http://localhost:{described.http_port}/api/v1/health"
        # A rule uses the message's ID to distinguish an unhealthy status from a page that is not a health check.
        values = {"status": "'ok'", "expected": "up"}
        told = {"error": {"id": "reason.probe.wrong_status", "values": values}} if error else {}
        assert health.pop("messages") == told
        assert health == {"name": "http", "url": url, "ok": error is None, "status": 200, "error": error}
        assert causes(result) == []


CANARIES = {
    "environment of the process": "Kanarienvogel-4711",
    "environment file": 'Zeisig"4712/ü',
    "own file of the application": "Stieglitz-4713",
    "command line": "Gimpel-4714",
    "log": "Girlitz-4715",
    "journal": "Kernbeisser-4716",
    "database": "Buchfink-4717",
}


def every_text(result, folder):
    """Yield (source, text) for a triage result and for each file below `folder`."""
    yield "result", json.dumps(result)
    yield "result", json.dumps(result, ensure_ascii=False)
    for place, _folders, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), encoding="utf-8") as stream:
                yield name, stream.read()


def test_no_secret_leaves_the_host_from_any_source(service, tmp_path):
    app = tmp_path / "app"
    of_file = CANARIES["environment file"]
    (app / "service.env").write_text(f"ADMIN_PASSWORD='{of_file}'\n")
    (app / ".env").write_text(f"SMTP_PASSWORD={CANARIES['own file of the application']}\n")
    command = [*service.described.command, "--api-token", CANARIES["command line"]]
    service.described = service.described._replace(command=command, manager="systemd")
    service.start()
    with contextlib.closing(sqlite3.connect(app / "itsm.db")) as base, base:
        base.execute("CREATE TABLE tokens (token TEXT)")
        base.execute("CREATE TABLE api_token (token TEXT)")
        base.execute("INSERT INTO tokens VALUES (?)", (CANARIES["database"],))
    now = timestamps.now()
    known = [CANARIES[name] for name in CANARIES if name not in ("log", "journal", "database")]
    bare = "".join(
        f"{now} ERROR Error: bare {form}\n"
        for value in known
        for form in (
            value,
            json.dumps(value),
            json.dumps(value, ensure_ascii=False),
            urllib.parse.quote(value, safe=""),
            base64.b64encode(value.encode()).decode(),
        )
    )
    statement = "insert into `tokens` (`id`, `token`) values (1, 'X')".replace("X", CANARIES["database"])
    told = (
        f"{now} WARN login with password={CANARIES['log']} refused\n"
        f"{now} ERROR Error: {statement} - SQLITE_FULL\n"
        f"{now} INFO cookie: sid={CANARIES['log']}\n    at login (auth.js:1:1)\n"
        + "x" * 1990
        + CANARIES["command line"]
    )
    with open(service.described.log_file, "a", encoding="utf-8") as log:
        log.write(bare + told + "\n")
    stamp = f"{time.time():.6f} host"
    answers = {
        "systemctl show": f"LoadState=loaded\nActiveState=active\nMainPID={service.process.pid}\n",
        "journalctl -q": f"{stamp} node[1]: Authorization: Bearer {CANARIES['journal']}\n"
        f"{stamp} node[1]: bare {CANARIES['environment of the process']}\n"
        f"{stamp} node[1]: " + "y" * 1960 + CANARIES["command line"] + "\n"
        f"{stamp} systemd[1]: Stopping with --token {CANARIES['journal']}\n",
        "true": f"Out of memory: Killed process 1 (node) token={CANARIES['journal']}\n",
    }
    # The secret on the server's command line is an additional argument, which the server ignores.
    result = triage_run.triage(
        service=service.described,
        run=asked(answers),
        deadline=20.0,
        part_timeout=10.0,
        window=600,
        log_lines=500,
        kernel_log_command=["true"],
        incident="INC-1",
    )
    found = list(every_text(result, tmp_path / "state"))
    assert {"manifest.json", "triage.json", "server.log", "journal.txt", "kernel.txt"} <= {
        name for name, _text in found
    }
    for where, text in found:
        for source, canary in CANARIES.items():
            encoded = base64.b64encode(canary.encode()).decode().rstrip("=")
            spelled = (json.dumps(canary)[1:-1], json.dumps(canary, ensure_ascii=False)[1:-1])
            for form in (canary, *spelled, urllib.parse.quote(canary, safe=""), encoded, canary[:9]):
                assert form not in text, f"{source} in {where}"
    # The names of secrets are kept, and only their values are masked.
    kept = json.loads(next(text for where, text in found if where == "triage.json"))
    assert kept["facts"]["database"]["row_counts"]["api_token"] == 0
    lines = "\n".join(result["facts"]["log"]["lines"])
    assert "bare [redacted]" in lines and "login with password=[redacted] refused" in lines


def test_a_killed_service(service):
    service.start()
    service.end()
    result = look(service)
    assert causes(result)[0] == "killed"
    assert not result["blocks_start"] and not result["data_loss_suspected"]
    # Rows that are only in the WAL are counted.
    assert result["row_counts"] == {"users": 1}
    assert causes(result)[-1] == "wal_pending"


def test_a_stopped_process_is_hung(service):
    service.start()
    service.process.send_signal(signal.SIGSTOP)
    result = look(service, part_timeout=1.0)
    assert causes(result)[0] == "hung"
    assert result["facts"]["answer"]["http"]["answered"] is False


@pytest.mark.parametrize(("silent", "waited"), [(True, 0.5), (False, 2.25)])
def test_a_known_timeout_shortens_the_next_wait(service, silent, waited):
    service.start()
    service.process.send_signal(signal.SIGSTOP)
    result = look(service, silent=silent)
    assert causes(result)[0] == "hung"
    assert waited <= result["facts"]["answer"]["http"]["seconds"] < waited + 1.5


def test_a_damaged_database_blocks_the_start(service, tmp_path):
    service.start()
    service.end()
    for name in ("itsm.db-wal", "itsm.db-shm"):
        (tmp_path / "app" / name).unlink()
    (tmp_path / "app" / "itsm.db").write_bytes(b"")
    result = look(service)
    assert causes(result)[0] == "db_corrupt"
    assert result["blocks_start"] and result["data_loss_suspected"]


@pytest.mark.parametrize(
    ("accepted", "blocked"),
    [(["corrupt"], False), (["corrupt", "wal_foreign"], False), (["row_loss"], True), ([], True)],
)
def test_accepted_damage_does_not_cover_later_damage(service, tmp_path, accepted, blocked):
    service.start()
    service.end(signal.SIGTERM)
    with sqlite3.connect(tmp_path / "app" / "itsm.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with (tmp_path / "app" / "itsm.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 512)
    about = {"accepted_at": "2026-03-02T01:00:00.000Z", "accepted_reason": "CHG-4711."}
    data = {"state": "accepted", "accepted": accepted, "rows": {"users": 1}, **about}
    result = look(service, record={"data": data})
    finding = next(each for each in result["findings"] if each["cause"] == "db_corrupt")
    assert {problem["code"] for problem in result["facts"]["database"]["problems"]} == {"corrupt"}
    assert (result["blocks_start"], finding["blocks_start"]) == (blocked, blocked)
    if blocked:
        assert finding["summary"].endswith("(CHG-4711) did not accept this damage."), finding["summary"]
        assert finding["remedy"].startswith("Start nothing")
    else:
        assert finding["summary"].endswith("Accepted by a person on 2026-03-02T01:00:00.000Z: CHG-4711.")
        assert finding["remedy"].startswith("Agree with the DBA on a time for the repair or the restore")
    # Later, the data is in doubt because of new damage.
    later = look(service, record={"data": {**about, "state": "in_doubt", "rows": {"users": 1}}})
    (again,) = [each for each in later["findings"] if each["cause"] == "db_corrupt"]
    assert again["blocks_start"] and "(CHG-4711) did not accept this damage" in again["summary"]


def slow_check(monkeypatch, seconds):
    """Make each database check take `seconds` seconds, or end inconclusively at its time limit."""
    check = collect_application.sqlite_check.check

    def slowly(*, time_budget, **options):
        time.sleep(min(seconds, time_budget))
        return {**check(time_budget=5.0, **options), "conclusive": time_budget > seconds}

    monkeypatch.setattr(collect_application.sqlite_check, "check", slowly)


def test_a_slow_database_gets_more_time(service, monkeypatch):
    service.start()
    service.end()
    slow_check(monkeypatch, 0.5)
    result = look(service, part_timeout=0.4, database_timeout=20.0)
    assert "db_unchecked" not in causes(result)
    assert not result["blocks_start"]
    assert result["row_counts"] == {"users": 1}


def test_nothing_is_started_on_a_database_without_a_complete_check(service, monkeypatch):
    service.start()
    service.end()
    slow_check(monkeypatch, 30.0)
    result = look(service, part_timeout=0.4, database_timeout=0.5)
    assert "db_unchecked" in causes(result)
    assert result["blocks_start"]


def damage_index(path):
    """Change a row without changing its index. The quick check does not see this damage."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("CREATE INDEX names ON users (name)")
    (row,) = database.execute("SELECT * FROM sqlite_master WHERE name = 'names'").fetchall()
    database.execute("PRAGMA writable_schema=ON")
    database.execute("DELETE FROM sqlite_master WHERE name = 'names'")
    database.close()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE users SET name = 'b'")
    database.execute("PRAGMA writable_schema=ON")
    database.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)
    database.close()
    database = sqlite3.connect(path, isolation_level=None)
    assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    database.close()


def put_another_file(path):
    """Replace the database file with another file that has the same content."""
    kept = path.with_name("kept.db")
    kept.write_bytes(path.read_bytes())
    kept.rename(path)


@pytest.fixture
def recovered(service, tmp_path):
    """Stop the service and save a database recovery from one minute ago. Return the function for recovered_at_of."""
    service.start()
    service.end()
    clock = host_lease.Clock(wall=lambda: time.time() - 60, boot=lambda: time.clock_gettime(time.CLOCK_BOOTTIME) - 60)
    since = recovered_file.instant(clock)
    recovered_file.note(str(tmp_path / "state"), path=str(tmp_path / "app" / "itsm.db"), since=since)
    return functools.partial(recovered_file.older_before, str(tmp_path / "state"))


def write_log(service, text):
    """Write the log. older: a time before the recovery. newer: a time after it."""
    older, newer = (timestamps.iso(time.time() - age) for age in (90, 30))
    text = text.format(older=older, newer=newer, no_zone=older[:-1])
    pathlib.Path(service.described.log_file).write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "change", "blocked"),
    [
        ("{older} ERROR " + DAMAGED_LINE, None, False),
        ("[{older}] " + DAMAGED_LINE, None, False),
        ("{newer} ERROR " + DAMAGED_LINE, None, True),
        ("{older} ERROR " + DAMAGED_LINE, damage_index, True),
        ("{older} ERROR " + DAMAGED_LINE, put_another_file, True),
        # The time of the log line is uncertain.
        ("{older} INFO ready\n" + DAMAGED_LINE, None, True),
        ("{no_zone} ERROR " + DAMAGED_LINE, None, True),
        ("insert ('{older}') - " + DAMAGED_LINE, None, True),
        (DAMAGED_LINE, None, True),
    ],
)
def test_errors_from_before_a_database_recovery_do_not_block_the_start(service, recovered, line, change, blocked):
    database = pathlib.Path(service.described.app_dir, "itsm.db")
    write_log(service, line)
    if change is not None:
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        change(database)
    result = look(service, recovered_at_of=recovered)
    assert result["blocks_start"] is blocked
    assert ("db_corrupt" in causes(result)) is blocked
    # The full check takes time, so it runs only if its result can change the decision.
    assert ("integrity" in result["facts"]["database"]["checks"]) is (not blocked or change is damage_index)
    if change is damage_index:
        assert "row 1 missing from index names" in json.dumps(result["findings"])
    # A first response starts the service only after the full check.
    asked = []
    look(
        service, recovered_at_of=recovered, respond=lambda first, save: asked.append(first["blocks_start"]) or ({}, {})
    )
    assert asked == [blocked]


def test_without_the_time_of_the_recovery_or_a_full_check_the_errors_block_the_start(service, recovered, monkeypatch):
    write_log(service, "{older} ERROR " + DAMAGED_LINE)
    check = collect_application.sqlite_check.check

    def slowly(*, checks, **options):
        time.sleep(60 if "integrity" in checks else 0)
        return check(checks=checks, **options)

    monkeypatch.setattr(collect_application.sqlite_check, "check", slowly)
    for parameters in ({}, {"recovered_at_of": recovered, "database_timeout": 0.3}):
        result = look(service, **parameters)
        # The result of the quick check is kept.
        assert result["facts"]["database"]["checks"] == {"quick": "ok", "row_counts": "ok"}
        assert causes(result)[0] == "db_corrupt" and result["blocks_start"]


@pytest.mark.parametrize("prevented_by", ["time", "changes", "lock"])
def test_a_prevented_full_check_is_tried_once_and_keeps_the_result_of_the_quick_check(
    service, recovered, monkeypatch, prevented_by
):
    write_log(service, "{older} ERROR " + DAMAGED_LINE)
    check = collect_application.sqlite_check.check
    calls = pathlib.Path(service.described.log_file).with_name("full_checks")

    def prevented(*, checks, **options):
        if "integrity" not in checks:
            return check(checks=checks, **options)
        with calls.open("a", encoding="utf-8") as stream:
            stream.write("once\n")
        result = check(checks=checks, **options)
        time.sleep(60 if prevented_by == "time" else 0)
        code, text = {"changes": ("changing", "changing"), "lock": ("unreadable", "unable to open database file")}[
            prevented_by
        ]
        problem = {"code": code, "level": "error", "message": text, "messages": {}}
        return {**result, "healthy": False, "row_counts": {}, "problems": [problem], "checks": {}}

    monkeypatch.setattr(collect_application.sqlite_check, "check", prevented)
    result = look(service, recovered_at_of=recovered, database_timeout=2.0, respond=lambda first, save: ({}, {}))
    assert calls.read_text(encoding="utf-8") == "once\n"
    assert result["facts"]["database"]["checks"] == {"quick": "ok", "row_counts": "ok"}
    assert result["facts"]["database"]["row_counts"]
    assert causes(result)[0] == "db_corrupt" and result["blocks_start"]


def test_another_database_than_the_configured_one(service, tmp_path):
    service.start()
    service.end()
    (tmp_path / "app" / "service.env").write_text("DATABASE_PATH=other.db\n")
    (tmp_path / "app" / "itsm.db").rename(tmp_path / "app" / "other.db")
    (tmp_path / "app" / "itsm.db-wal").rename(tmp_path / "app" / "other.db-wal")
    result = look(service)
    assert "config_mismatch" in causes(result)
    assert result["facts"]["database"]["path"] == str(tmp_path / "app" / "other.db")
    assert result["row_counts"] == {"users": 1}


def test_a_foreign_process_on_the_port(service):
    server = f"import socket, time; s = socket.create_server(('127.0.0.1', {service.described.http_port}))"
    stranger = subprocess.Popen(
        [sys.executable, "-c", f"{server}; print(1, flush=True); time.sleep(60)", "--password", "geheim-4711"],
        stdout=subprocess.PIPE,
    )
    try:
        stranger.stdout.readline()
        result = look(service, part_timeout=1.0)
    finally:
        stranger.kill()
        stranger.communicate()
    assert "port_conflict" in causes(result)
    (owner,) = result["facts"]["ports"][0]["owners"]
    assert (owner["pid"], owner["ours"]) == (stranger.pid, False)
    assert owner["command"].startswith(f"{sys.executable} -c import socket")
    assert owner["command"].endswith("--password [redacted]") and "geheim" not in json.dumps(result)


def test_log_lines_count_within_the_window(service):
    with open(service.described.log_file, "w", encoding="utf-8") as log:
        log.write(f"{timestamps.iso(time.time() - 1200)} ERROR Error: Cannot find module 'express'\n")
    assert "modules_broken" not in causes(look(service, window=600))
    assert "modules_broken" in causes(look(service, window=1800))


def test_check_mode_names_the_folder_of_the_bundle(service, tmp_path):
    result = look(service, incident="INC-1", save=False)
    assert result["bundle"] == str(tmp_path / "state" / "evidence" / "INC-1")
    assert not (tmp_path / "state").exists()


@pytest.fixture
def dead_disk(monkeypatch):
    """Make every read of the log hang for 60 seconds, as if the disk did not respond."""
    monkeypatch.setattr(log_patterns, "tail", lambda path, **_options: time.sleep(60))


def test_a_hang_costs_only_its_own_part(service, tmp_path, dead_disk):
    service.start()
    log = tmp_path / "other.log"
    service.described = service.described._replace(log_file=str(log))
    started = time.monotonic()
    result = look(service, part_timeout=0.8, kernel_log_command=["sleep", "60"])
    assert time.monotonic() - started < 3
    assert result["parts"]["log"] == parallel.TIMED_OUT
    assert "no response in time" in result["facts"]["kernel"]["errors"][0]
    assert result["facts"]["process"]["state"] == "running"
    # The service does not write to the configured log.
    assert causes(result) == ["config_mismatch"]


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"log_file": "DEAD/server.log"}, {"database", "process", "disk:application", "paths:database"}),
        ({"db_path": "DEAD/itsm.db"}, {"log", "process", "disk:log", "environment"}),
        ({"state_dir": "DEAD/state"}, {"log", "database", "process", "disk:log"}),
        ({"app_dir": "DEAD/app", "db_path": "DEAD/itsm.db"}, {"log", "process", "disk:log", "environment"}),
    ],
)
def test_a_dead_mount_costs_only_its_own_facts(service, dead_mount, monkeypatch, options, reached):
    elsewhere = str(dead_mount.parent / "elsewhere")
    monkeypatch.setitem(triage_evidence.save.__kwdefaults__, "elsewhere", (elsewhere,))
    service.start()
    service.described = service.described._replace(
        **{name: value.replace("DEAD", str(dead_mount)) for name, value in options.items()}
    )
    started = time.monotonic()
    result = look(service, deadline=4.0, part_timeout=1.0, database_timeout=60.0, incident="INC-dead")
    assert time.monotonic() - started < 15
    assert parallel.TIMED_OUT in result["parts"].values()
    assert {name for name in reached if not isinstance(result["parts"][name], float)} == set()
    assert not str(result["bundle"]).startswith(str(dead_mount))
    with open(os.path.join(result["bundle"], "manifest.json"), encoding="utf-8") as stream:
        manifest = json.load(stream)
    assert parallel.TIMED_OUT in manifest["not_reached"].values()
    assert bool(manifest["not_in_its_place"]) == ("state_dir" in options)
    if "state_dir" in options:
        assert "does not answer" in result["warnings"][0]
        assert result["bundle"] == f"{elsewhere}/INC-dead"


def test_the_service_is_found_if_its_folder_does_not_answer(service, monkeypatch):
    service.start()
    real = os.path.realpath

    def hang(path, **options):
        if str(path).startswith(service.described.app_dir):
            time.sleep(60)
        return real(path, **options)

    monkeypatch.setattr(os.path, "realpath", hang)
    monkeypatch.setattr(path_status, "mode_of", lambda path, **_options: hang(path))
    # Here, only the functions above hang, not the disk. Therefore, the triage checks the database again.
    result = look(service, deadline=4.0, part_timeout=0.7, database_timeout=0.7)
    assert [item["pid"] for item in result["facts"]["process"]["processes"]] == [service.process.pid]
    assert result["facts"]["service"]["app_dir_exists"] is None
    assert result["facts"]["database"]["path"] == service.described.path("itsm.db")


def test_the_deadline_applies_to_the_whole_triage(service, dead_disk):
    started = time.monotonic()
    result = look(service, deadline=1.0, part_timeout=30.0)
    assert time.monotonic() - started < 1.5
    assert result["parts"]["log"] == parallel.TIMED_OUT


# The parts of triage that need systemd and the journal. Functions replace both programs.


def asked(answers):
    def run(argv, **_parameters):
        for words, text in answers.items():
            if words in " ".join(argv):
                return commands.Completed(argv=argv, rc=0, stdout=text, stderr="", duration=0.0)
        return commands.Completed(argv=argv, rc=1, stdout="", stderr="not asked for", duration=0.0)

    return run


def question(service, answers, **values):
    values = {"since": time.time() - 600, "kernel_log_command": (), **values}
    return triage_context.Question(
        service=service.described, run=asked(answers), budget=5.0, log_lines=50, keep=False, **values
    )


def test_the_unit_shows_the_exit_of_its_process(service):
    uptime = time.clock_gettime(time.CLOCK_MONOTONIC)
    text = (
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=signal\nExecMainPID=77\nExecMainCode=2\n"
        "ExecMainStatus=9\nNRestarts=1\nMemoryMax=infinity\n"
        f"ExecMainExitTimestampMonotonic={int((uptime - 30) * 1e6)}\nActiveEnterTimestampMonotonic=0\n"
    )
    facts = collect_service.unit(question(service, {"systemctl show": text}))["facts"]
    assert (facts["result"], facts["exit_code"], facts["exit_status"], facts["last_pid"]) == ("signal", "killed", 9, 77)
    assert abs(timestamps.epoch(facts["exited_at"]) - (time.time() - 30)) < 1
    assert facts["active_enter_at"] is None and facts["memory_max"] is None
    signs = outage_signs.signs({"unit": facts})
    assert signs == [{"at": facts["exited_at"], "kind": "bad", "source": "unit itsm-system: main process ended"}]


def test_the_environment_of_a_unit_and_its_files(service, tmp_path):
    (tmp_path / "unit.env").write_text("DATABASE_PATH=data/real.db\nADMIN_PASSWORD=geheim-4711\n")
    shown = 'Environment=NODE_ENV=production "JWT_SECRET=two words"\n'
    shown += f"EnvironmentFiles={tmp_path}/unit.env (ignore_errors=no)\n"
    service.described = service.described._replace(manager="systemd")
    found = collect_service.environment(question(service, {"systemctl show": shown}))
    facts = found["facts"]
    assert facts["names"] == ["ADMIN_PASSWORD", "DATABASE_PATH", "JWT_SECRET", "NODE_ENV"]
    assert facts["database_path"] == str(tmp_path / "app" / "data" / "real.db")
    assert facts["database_path_source"] == f"DATABASE_PATH, {tmp_path}/unit.env"
    assert sorted(found["secrets"]) == sorted([CANARY, "geheim-4711", "two words"])
    assert "geheim" not in json.dumps(facts)
    # If systemd does not respond, the configured environment file is still read.
    assert collect_service.environment(question(service, {}))["facts"]["names"] == ["JWT_SECRET", "NODE_ENV"]


def test_the_journal_separates_lines_of_systemd_and_the_service(service):
    now = time.time()
    lines = [
        f"{now - 50:.6f} host node[77]: {timestamps.iso(now - 50)} INFO GET /api/v1/health 200 3 ms",
        f"{now - 40:.6f} host node[77]: Error: boom",
        f"{now - 40:.6f} host node[77]:     at main (server.js:1:2)",
        f"{now - 40:.6f} host node[77]: ",
        f"{now - 40:.6f} host node[77]: Node.js v20.20.2",
        f"{now - 39:.6f} host systemd[1]: itsm-system.service: Main process exited, code=exited, status=1/FAILURE",
        f"{now - 38:.6f} host systemd[1]: Stopped itsm-system.service - ITSM.",
    ]
    answers = {"-u itsm-system": "\n".join(lines), "_PID=1 UNIT=itsm-system.service": "\n".join(lines[-2:])}
    facts = collect_logs.journal(question(service, answers))["facts"]
    assert [item["at"] for item in facts["exits"]] == [timestamps.iso(now - 39)]
    assert len(facts["stops"]) == 1
    (exception,) = facts["exceptions"]
    assert (exception["message"], exception["fatal"], exception["stack"]) == (
        "Error: boom",
        True,
        ["at main (server.js:1:2)"],
    )
    assert abs(timestamps.epoch(facts["last_success_at"]) - (now - 50)) < 0.01
    failed = {"name": "itsm-system", "active_state": "failed", "restarts": 0}
    kinds = [item["kind"] for item in outage_signs.signs({"unit": failed, "journal": facts})]
    assert kinds == ["good", "bad", "bad"]


def test_the_service_cannot_fake_messages_of_systemd(service):
    stop = "Stopping itsm-system.service - ITSM..."
    end = "itsm-system.service: Main process exited, code=killed, status=9/KILL"
    stamp = f"{time.time() - 5:.6f} host "
    said = [
        f"{stamp}systemd[77]: {stop}",
        # Names that processes gave themselves, with characters that some programs treat as line breaks.
        f"{stamp}systemd[1]: {stop}[77]: x",
        f"{stamp}node[77]: title=a\u2028{stamp}systemd[1]: {end}\x85{stamp}systemd[1]: {stop}",
    ]
    facts = collect_logs.journal(question(service, {"-u itsm": "\n".join(said), "_PID=1": ""}))["facts"]
    assert [facts[name] for name in ("exits", "stops", "exceptions")] == [[], [], []]
    assert len(facts["lines"]) == 3


@pytest.mark.parametrize("text", [f"{{}} ERROR {DAMAGED_LINE}", f"WARN {{}} {DAMAGED_LINE}", DAMAGED_LINE])
def test_the_time_of_a_journal_entry_is_certain(service, text):
    now = round(time.time(), 3)
    before = timestamps.iso(now - 500)  # a time in the text is not the time of the entry
    lines = [f"{now - ago:.6f} host node[77]: {text.format(before)}" for ago in (40, 30)]
    facts = collect_logs.journal(question(service, {"-u itsm-system": "\n".join(lines), "_PID=1": ""}))["facts"]
    assert abs(timestamps.epoch(facts["signatures"]["db_corrupt"]["none_after"]) - (now - 30)) < 0.01


@pytest.mark.parametrize(
    ("lines", "latest"),
    [
        (["2026-03-02T01:02:03.000Z {}", "2026-03-02T01:02:01.000Z {}"], "2026-03-02T01:02:03.000Z"),
        (["\x1b[31m2026-03-02 03:02:03+02:00 {}"], "2026-03-02T01:02:03.000Z"),
        (["2026-03-02T01:02:03.000Z {}", "{}"], None),
        (["2026-03-02T01:02:03.000Z INFO x", "{}"], None),
        (["2026-03-02T01:02:03.000 {}"], None),
        (['{{"level":50,"time":1772413323000,"msg":"{}"}}'], None),
        (["values ('2026-03-02T01:02:03.000Z') {}"], None),
    ],
)
def test_only_a_time_with_a_zone_at_the_beginning_of_a_line_is_certain(lines, latest):
    found = analyse("".join(line.format(DAMAGED_LINE) + "\n" for line in lines), since=0)
    assert found["signatures"]["db_corrupt"]["none_after"] == latest


def daily_logs(service):
    """Create the logs of an application that starts new log files every day. Return the folder."""
    folder = pathlib.Path(service.described.app_dir) / "backend" / "logs"
    folder.mkdir(parents=True)
    now = time.time()

    def line(ago, text):
        return f"{timestamps.iso(now - ago)} {text}\n"

    boom = line(3, "ERROR Error: boom") + "    at main (server.js:1:2)\n" + line(2, "INFO stopping")
    (folder / "app-2026-03-01.log").write_text(line(90000, "INFO yesterday"))
    (folder / "app-2026-03-02.log").write_text(line(9, "INFO started") + boom)
    (folder / "error-2026-03-02.log").write_text(boom.rpartition("\n2")[0] + "\n")
    (folder / "app-2026-03-01.log.gz").write_bytes(b"\x1f\x8b")
    os.utime(folder / "app-2026-03-01.log", (now - 90000,) * 2)
    os.utime(folder / "error-2026-03-02.log", (now - 3,) * 2)
    service.described = service.described._replace(log_patterns=["backend/logs/*.log"])
    return folder


def test_logs_with_a_new_name_every_day_are_read(service):
    folder = daily_logs(service)
    service.described = service.described._replace(log_file="")
    facts = collect_logs.log(question(service, {}))["facts"]
    assert facts["path"] == str(folder / "app-2026-03-02.log")
    assert [line.split(" ", 1)[1].strip() for line in facts["lines"]] == [
        *("INFO yesterday", "INFO started", "ERROR Error: boom", "at main (server.js:1:2)", "INFO stopping")
    ]
    assert facts["paths"] == [
        str(folder / f"{name}.log") for name in ("app-2026-03-02", "error-2026-03-02", "app-2026-03-01")
    ]
    # The error is in two files, but it occurred once.
    assert [item["times"] for item in facts["exceptions"]] == [1]


def test_logs_that_were_rotated_after_the_error_are_read(service):
    """The logs were rotated and compressed right after the crash, so the current files are empty."""
    folder = daily_logs(service)
    now = time.time()
    error = f"{timestamps.iso(now - 5)} ERROR SQLITE_FULL: database or disk is full\n"
    crash = f"{timestamps.iso(now - 5)} ERROR Error: boom\n    at main (server.js:1:2)\n"
    output = pathlib.Path(service.described.log_file)
    output.write_text("")
    output.with_name(f"{output.name}.1").write_text(error)
    output.with_name(f"{output.name}.2.gz").write_bytes(gzip.compress(b"old\n"))
    os.utime(output.with_name(f"{output.name}.2.gz"), (now - 90000,) * 2)
    for path in folder.iterdir():
        path.unlink()
    (folder / "app.log").write_text("")
    (folder / "app.log.1.gz").write_bytes(gzip.compress(crash.encode() * 3))
    facts = collect_logs.log(question(service, {}))["facts"]
    assert list(facts["signatures"]) == ["disk_full"] and len(facts["exceptions"]) == 1
    assert sorted(facts["paths"]) == sorted(
        [str(output), f"{output}.1", str(folder / "app.log"), str(folder / "app.log.1.gz")]
    )


def test_the_end_of_a_compressed_log_is_read_within_limits(tmp_path):
    path = tmp_path / "app.log.1.gz"
    path.write_bytes(gzip.compress(b"first\nsecond\nthird\n"))
    assert log_patterns.tail(str(path), limit=10)[:2] == ("third\n", True)
    assert log_patterns.tail(str(path), limit=100)[:2] == ("first\nsecond\nthird\n", False)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OSError, match="ended before"):
        log_patterns.tail(str(path), limit=100)
    path.write_bytes(gzip.compress(bytes(64 << 20)))
    with pytest.raises(OSError, match="after decompression"):
        log_patterns.tail(str(path), limit=100)


def test_a_compressed_log_that_takes_too_long_does_not_hide_the_other_logs(service):
    folder = daily_logs(service)
    service.described = service.described._replace(log_file="")
    (folder / "new.log.gz").write_bytes(gzip.compress(b"") * 1_000_000)
    asked = question(service, {})._replace(budget=0.4)
    begun = time.monotonic()
    facts = collect_logs.log(asked)["facts"]
    assert time.monotonic() - begun < 0.4
    assert str(folder / "new.log.gz") not in facts["paths"]
    assert [item["times"] for item in facts["exceptions"]] == [1]


def test_a_service_without_a_log_file_costs_no_time(service):
    service.start()
    service.described = service.described._replace(log_file="")
    result = look(service)
    assert all(isinstance(seconds, float) for seconds in result["parts"].values()), result["parts"]
    assert "disk:log" not in result["parts"]


def test_a_missing_log_file_is_no_error_if_other_logs_exist(service):
    folder = daily_logs(service)
    service.described = service.described._replace(log_file="/var/log/itsm/missing.log")
    facts = collect_logs.log(question(service, {}))["facts"]
    assert "error" not in facts and facts["path"] == str(folder / "app-2026-03-02.log")
    service.described = service.described._replace(log_patterns=["backend/none/*.log"])
    facts = collect_logs.log(question(service, {}))["facts"]
    assert facts == {"path": "/var/log/itsm/missing.log", "error": "No such file or directory"}


def test_a_log_without_times_counts_as_written_at_its_last_write():
    def line(at, text):
        return log_patterns.Line(text=text, at=at, dated=at is not None)

    logs = [(50.0, [line(None, "a"), line(None, "b")]), (90.0, [line(40.0, "c"), line(60.0, "d")])]
    assert [each.text for each in log_patterns.merged(logs)] == ["c", "a", "b", "d"]


def test_a_crash_at_the_end_of_one_log_is_found_beside_a_newer_log(service):
    """Node writes its last lines without timestamps, after an old line. The application's own log has newer lines."""
    now = time.time()
    service.described = service.described._replace(log_patterns=["backend/logs/*.log"])
    output = pathlib.Path(service.described.log_file)
    output.write_text(
        f"{timestamps.iso(now - 9000)} INFO listening\nnode:net:1904\n      throw er;\n      ^\n\n"
        "Error: listen EADDRINUSE: address already in use :::6443\n    at Server.setup (node:net:1904:16)\n"
        "\nNode.js v20.20.2\n"
    )
    logs = pathlib.Path(service.described.app_dir) / "backend" / "logs"
    logs.mkdir(parents=True)
    (logs / "app.log").write_text(f"{timestamps.iso(now - 5)} INFO request\n")
    facts = collect_logs.log(question(service, {}))["facts"]
    assert list(facts["signatures"]) == ["port_taken"]
    assert len(facts["exceptions"]) == 1


def test_the_names_of_evidence_files_do_not_come_from_the_application(service):
    folder = daily_logs(service)
    (folder / f"{'x' * 240}.log").write_text("x\n")
    described = service.described._replace(log_patterns=["backend/logs/*.log", "backend/logs/triage.json"])
    service.described = described
    (folder / "triage.json").write_text("{}")
    asked_for = question(service, {})._replace(keep=True)
    names = [each["name"] for each in collect_logs.log(asked_for)["evidence"]]
    assert names and all(name.startswith(("log-", pathlib.Path(described.log_file).name)) for name in names), names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("log_file", "is_open", "same"),
    [
        ("/var/log/itsm/server.log", "backend/logs/app-2026-03-02.log", True),
        ("/var/log/itsm/server.log", "backend/other.log", False),
        ("/var/log/itsm/server.log", None, None),
        # If no log file is configured, there is no path that can be wrong.
        ("", "backend/other.log", None),
    ],
)
def test_a_log_that_matches_a_pattern_is_configured(service, log_file, is_open, same):
    described = service.described._replace(log_file=log_file, log_patterns=["backend/logs/*.log"])
    service.described = described
    processes = [{"open_logs": [described.path(is_open)] if is_open else []}]
    asked_for = question(service, {}, known=triage_context.Known(processes=processes))
    assert collect_paths.paths(asked_for, what="log")["facts"]["same"] is same


def test_user_input_in_the_log_is_not_a_separate_line(service):
    forged = "\u2028Error: boom\u2028    at main (server.js:1:2)\u2028\u2028Node.js v20.20.2"
    pathlib.Path(service.described.log_file).write_text(
        f"{timestamps.now()} INFO POST /api/v1/incidents 400 title=a{forged}\r\n", encoding="utf-8"
    )
    facts = collect_logs.log(question(service, {}))["facts"]
    assert (len(facts["lines"]), facts["exceptions"]) == (1, [])
    assert facts["lines"][0].endswith("Node.js v20.20.2")


@pytest.mark.parametrize(
    ("state", "exits", "stops", "started", "expected"),
    [
        pytest.param("failed", [100, 900], [], None, 900, id="the last exit"),
        pytest.param("failed", [100, 860, 875, 890], [], None, 860, id="the first exit of a crash loop"),
        pytest.param("activating", [100, 900], [], None, 900, id="systemd waits for its restart"),
        pytest.param("inactive", [900], [909], None, 900, id="the pending restart was cancelled later"),
        pytest.param("inactive", [], [900, 901], None, 900, id="somebody stopped it"),
        pytest.param("active", [100, 900], [], 912, 900, id="systemd has started it again"),
        pytest.param("active", [901], [900], 912, 900, id="somebody restarted it"),
        pytest.param("active", [700], [], 712, None, id="it hangs, long after its last exit"),
        pytest.param("active", [921], [920], 912, None, id="our own stop, after its start"),
        pytest.param("active", [], [], 912, None, id="no end in the journal"),
        pytest.param(None, [900], [900], None, None, id="no unit"),
    ],
)
def test_exits_of_this_outage_are_separated_from_earlier_ones(state, exits, stops, started, expected):
    def of(text, instants):
        return [{"at": timestamps.iso(each), "text": text} for each in instants]

    unit = {
        "name": "itsm-system",
        "active_state": state,
        # NRestarts must not affect the result. The counter NRestarts includes restarts from earlier weeks, and stopping
        # the unit resets the counter to 0.
        "restarts": 7,
        "restart_delay": "10s",
        "started_at": started and timestamps.iso(started),
    }
    journal = {"exits": of("Main process exited", exits), "stops": of("Stopping itsm", stops)}
    found = outage_signs.signs({"unit": unit, "journal": journal, "window": {"until": timestamps.iso(930)}})
    assert [item["at"] for item in found] == ([] if expected is None else [timestamps.iso(expected)])


def test_a_crash_soon_after_a_planned_restart_is_a_separate_sign():
    def of(text, *instants):
        return [{"at": timestamps.iso(each), "text": text} for each in instants]

    unit = {"name": "itsm-system", "active_state": "active", "restart_delay": "10s", "started_at": timestamps.iso(930)}
    journal = {"exits": of("Main process exited", 916), "stops": of("Stopping itsm", 903)}
    journal["starts"] = of("Started itsm", 905, 930)
    found = outage_signs.signs({"unit": unit, "journal": journal, "window": {"until": timestamps.iso(935)}})
    assert [item["at"] for item in found] == [timestamps.iso(903), timestamps.iso(916)]


@pytest.mark.parametrize(("written", "expected"), [(907.0, 907.0), (899.997, 900.0)])
def test_an_exception_without_a_time_is_dated_by_the_time_when_it_was_surely_logged(written, expected):
    """Node writes an exception without a timestamp. The line before the exception may be a successful request."""
    crash = ["SyntaxError: bad", "    at wrap (/srv/x.js:1:1)", "", "Node.js v20.1.0"]
    lines = log_patterns.dated([f"{timestamps.iso(900)} INFO GET /api/tickets 200", *crash])
    log = log_patterns.analyse(lines, since=0, written_at=written)
    found = outage_signs.signs({"log": log})
    assert [(item["at"], item["kind"]) for item in found] == [
        (timestamps.iso(900), "good"),
        (timestamps.iso(expected), "bad"),
    ]


def test_an_exception_without_a_time_was_logged_before_the_next_line_with_a_time():
    crash = "SyntaxError: bad\n    at wrap (/srv/x.js:1:1)\n\nNode.js v20.1.0"
    text = f"{timestamps.iso(900)} INFO listening\n{crash}\n{timestamps.iso(930)} INFO listening"
    (error,) = log_patterns.analyse(log_patterns.dated(text.splitlines()), since=0, written_at=990)["exceptions"]
    assert error["logged_by"] == timestamps.iso(930)


def test_a_fatal_exception_of_an_earlier_outage_is_not_the_start_of_this_one():
    def fatal(seconds):
        at = timestamps.iso(seconds)
        return {"at": at, "logged_by": at, "message": "Error: boom", "fatal": True, "last": False, "stack": []}

    unit = {"name": "itsm-system", "active_state": "failed", "restart_delay": "10s"}
    journal = {
        "exits": [{"at": timestamps.iso(900), "text": "Main process exited"}],
        "exceptions": [fatal(100), fatal(899.9)],
    }
    found = outage_signs.signs({"unit": unit, "journal": journal})
    assert [item["at"] for item in found] == [timestamps.iso(899.9), timestamps.iso(900)]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("{recent:.6f} host kernel: Out of memory: Killed process 77 (node) total-vm:1kB", 1),
        ("{old:.6f} host kernel: Out of memory: Killed process 77 (node) total-vm:1kB", 0),
        ("[{recent_boot:.6f}] Memory cgroup out of memory: Killed process 77 (node) total-vm:1kB", 1),
        ("[    0.000001] Out of memory: Killed process 77 (node) total-vm:1kB", 0),
        ("[{recent_boot:.6f}] EXT4-fs (vda): mounted filesystem", 0),
    ],
)
def test_the_kernel_log_within_the_window(service, line, counts):
    uptime = time.clock_gettime(time.CLOCK_MONOTONIC)
    text = line.format(recent=time.time() - 60, old=time.time() - 7200, recent_boot=uptime - 1)
    window = min(600, uptime / 2)
    facts = collect_host.kernel(question(service, {"journalctl -k": text}, since=time.time() - window))["facts"]
    assert [(item["pid"], item["name"]) for item in facts["out_of_memory"]] == [(77, "node")] * counts


def test_an_oom_kill_is_found_in_a_crowded_kernel_log(service):
    now = time.time()
    killed = f"{now - 500:.6f} host kernel: Out of memory: Killed process 77 (node) total-vm:1kB"
    # A firewall logs every packet, and another service repeatedly reaches its memory limit.
    packets = [f"{now - 60:.6f} host kernel: DROP SRC=192.0.2.{number % 256}" for number in range(5000)]
    others = [
        f"{now - 90:.6f} host kernel: Memory cgroup out of memory: Killed process {number} (java)"
        for number in range(1000, 1050)
    ]
    asked_for = []

    def run(argv, **_parameters):
        asked_for.append(argv)
        found = [killed, *others] if any(word.startswith("--grep") for word in argv) else packets
        return commands.Completed(argv=argv, rc=0, stdout="\n".join([*found, ""]), stderr="", duration=0.0)

    facts = collect_host.kernel(question(service, {}, since=now - 600)._replace(run=run))["facts"]
    assert [item["pid"] for item in facts["out_of_memory"]] == [77, *range(1030, 1050)]
    # Each call limits the number of lines.
    assert len(asked_for) == 2 and all("-n" in argv for argv in asked_for)


def test_the_kernel_log_is_read_with_another_command(service):
    answers = {"cat /tmp/kernel": "Out of memory: Killed process 5 (node) total-vm:1kB"}
    facts = collect_host.kernel(question(service, answers, kernel_log_command=["cat", "/tmp/kernel"]))["facts"]
    assert (facts["source"], len(facts["out_of_memory"])) == ("cat /tmp/kernel", 1)


def test_the_window_begins_before_the_end_of_the_unit():
    ended = {"active_state": "failed", "exited_at": timestamps.iso(1000000.0)}
    assert assembled_facts.window_start({"unit": ended}, window=600) == 999400.0
    running = {"active_state": "active", "exited_at": timestamps.iso(1000000.0)}
    assert assembled_facts.window_start({"unit": running}, window=600) == pytest.approx(time.time() - 600, abs=5)


# Functions that run in parallel.


def test_each_function_has_its_own_result():
    def hang():
        time.sleep(60)

    def crash():
        os.kill(os.getpid(), signal.SIGSEGV)

    def fail():
        raise ValueError("no such thing")

    started = time.monotonic()
    answers = parallel.ask(
        {"good": lambda: {"a": 1}, "long": lambda: "x" * 5_000_000, "hang": hang, "crash": crash, "fail": fail},
        timeout=1.5,
    )
    assert time.monotonic() - started < 3
    assert list(answers) == ["good", "long", "hang", "crash", "fail"]
    assert answers["good"].value == {"a": 1} and isinstance(answers["good"].report, float)
    assert len(answers["long"].value) == 5_000_000
    assert answers["hang"].report == "timed out"
    assert answers["crash"].report == "ended without a result"
    assert answers["fail"].report == "ValueError: no such thing"


def test_a_function_does_not_write_to_our_output(capfd):
    parallel.ask({"loud": lambda: os.write(1, b"loud") and print("loud", file=sys.stderr)}, timeout=5)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_without_functions_there_are_no_results():
    assert parallel.ask({}, timeout=1) == {}


# Logs.

BOOM = """/srv/app/server.js:12
    throw new Error('boom');
    ^

Error: boom
    at main (/srv/app/server.js:12:11)
    at node:internal/main/run_main_module:28:49 {
  code: 'E_BOOM'
}

Node.js v20.20.2
"""
HANDLED = "2026-03-02T01:02:03.000Z ERROR Error: handled\n    at save (/srv/app/save.js:1:1)\n"
ACCESS = "2026-03-02T01:02:0{}.500Z INFO GET /api/v1/health 200 3 ms\n"
AT = timestamps.epoch("2026-03-02T01:02:03.000Z")


def analyse(text, *, since=AT - 600, written_at=AT + 10):
    return log_patterns.analyse(log_patterns.dated(text.splitlines()), since=since, written_at=written_at)


def test_an_exception_that_ended_node():
    found = analyse(ACCESS.format(1) + BOOM)
    (exception,) = found["exceptions"]
    assert (exception["message"], exception["fatal"], exception["last"]) == ("Error: boom", True, False)
    assert exception["stack"][0] == "at main (/srv/app/server.js:12:11)"
    assert exception["at"] == found["last_success_at"] == "2026-03-02T01:02:01.500Z"


def test_an_exception_of_long_ago_in_a_log_without_times():
    assert analyse(BOOM, written_at=AT - 7200)["exceptions"] == []
    assert len(analyse(BOOM)["exceptions"]) == 1
    # The service has served requests since the exception.
    assert analyse(BOOM + "GET /api/v1/health 200 3 ms\n")["exceptions"] == []


def test_an_exception_of_long_ago_in_a_log_with_times():
    later = "".join(f"2026-03-02T01:02:0{number}.500Z INFO tick\n" for number in range(4, 9))
    assert analyse(HANDLED + later, since=AT + 2)["exceptions"] == []
    assert [item["fatal"] for item in analyse(HANDLED + later)["exceptions"]] == [False]


def test_the_cause_of_an_earlier_exit_has_ended_if_requests_are_answered_again():
    for text in (BOOM, "FATAL ERROR: Reached heap limit\n", "Error: Cannot find module 'x'\n"):
        found = analyse(ACCESS.format(1) + text + ACCESS.format(5))
        assert (found["exceptions"], found["signatures"]) == ([], {}), text
    # A healthy response shortly after the error does not prove that the lock is gone. A healthy response one minute
    # later does.
    locked = "2026-03-02T01:02:03.000Z ERROR SqliteError: database is locked\n"
    assert list(analyse(locked + ACCESS.format(5))["signatures"]) == ["db_locked"]
    assert analyse(locked + "2026-03-02T01:03:03.000Z GET /api/v1/health 200 1 ms\n")["signatures"] == {}


def test_an_exception_that_ended_node_is_found_among_many_handled_ones():
    found = analyse(ACCESS.format(1) + BOOM + HANDLED * 20 + "2026-03-02T01:02:04.000Z INFO tick\n" * 9)
    assert [item["message"] for item in found["exceptions"]] == ["Error: boom"]


KNOWN_ERRORS = [
    ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "heap_oom"),
    ("Error: ENOSPC: no space left on device, write", "disk_full"),
    ("SqliteError: database or disk is full", "disk_full"),
    ("Error: EMFILE: too many open files, open '/srv/app/views/index.html'", "too_many_files"),
    ("Error: listen EADDRINUSE: address already in use :::6443", "port_taken"),
    ("HTTPS is not available, continuing with HTTP", "tls"),
    ("Error: EACCES: permission denied, open 'server.key' - SSL falling back to HTTP", "tls"),
    ("SqliteError: database is locked", "db_locked"),
    ("SqliteError: database disk image is malformed", "db_corrupt"),
    ("Error: Cannot find module 'express'", "module_missing"),
    ("Error: /srv/app/node_modules/x.node: invalid ELF header", "module_missing"),
    ("Error: /srv/app/node_modules/x.node: file too short", "module_missing"),
    ("Error: libstdc++.so.6: cannot open shared object file: No such file or directory", "module_missing"),
    ("SqliteError: select `due_at` from `incidents` - no such column: due_at", "migration_missing"),
    ("SqliteError: insert into `incidents` - table incidents has no column named due_at", "migration_missing"),
    ("MigrationLocked: Migration table is already locked", "migration_locked"),
]


def test_every_known_error_has_a_case():
    with_case = {name for _text, name in KNOWN_ERRORS}
    lacks = [
        f"test_run.py lacks a case of {name} in KNOWN_ERRORS"
        for name in log_patterns.SIGNATURES
        if name not in with_case
    ]
    assert lacks == [], "\n".join(lacks)


@pytest.mark.parametrize(("text", "name"), KNOWN_ERRORS)
def test_known_errors(text, name):
    found = analyse(f"2026-03-02T01:02:03.000Z ERROR {text}\n")
    assert list(found["signatures"]) == [name]
    assert found["signatures"][name]["count"] == 1
    assert analyse(f"2026-03-02T01:02:03.000Z ERROR {text}\n", since=AT + 1)["signatures"] == {}


def test_a_part_of_a_line_with_a_known_error_is_quoted():
    words = "word " * 300
    found = analyse(f"2026-03-02T01:02:03.000Z ERROR {words}SqliteError: database is locked {words}\n")
    quoted = found["signatures"]["db_locked"]["text"]
    assert "word SqliteError: database is locked word" in quoted and 400 < len(quoted) < 600
    assert set(quoted.split()) == {"word", "SqliteError:", "database", "is", "locked"}


def test_a_known_error_is_found_in_masked_text_and_not_quoted():
    lines = ["2026-03-02T01:02:03.000Z WARN login with password: geheim SQLITE_BUSY database is locked"]
    clean = redact.Redactor().text("\n".join(lines)).split("\n")
    found = log_patterns.analyse(log_patterns.dated(clean, unmasked=lines), since=AT - 600)
    assert found["signatures"]["db_locked"]["text"] == "2026-03-02T01:02:03.000Z WARN login with password: [redacted]"
    assert "geheim" not in json.dumps(found)


def test_a_secret_over_two_lines_is_neither_in_the_facts_nor_in_the_evidence(service, tmp_path):
    known, halves = "Kanarienvogel-4711-am-Fenster", ("q7ZkT0pXv9LmB2nRw4sY", "c6dHf8gJ1aEu3iOxPzVt")
    app = pathlib.Path(service.described.app_dir)
    (app / ".env").write_text(f"SMTP_PASSWORD={known}\n")
    service.described = service.described._replace(manager="systemd")
    service.start()
    now = timestamps.now()
    with open(service.described.log_file, "a", encoding="utf-8") as log:
        log.write(f"{now} INFO Authorization: Bearer\n{now} INFO {halves[0]}{halves[1]}\n")
        log.write(f"{now} INFO sent {known[:11]}\n{now} INFO {known[11:]} to mail\n")
    stamp = f"{time.time():.6f} host node[1]:"
    answers = {
        "systemctl show": f"LoadState=loaded\nActiveState=active\nMainPID={service.process.pid}\n",
        "journalctl -q": f"{stamp} token={halves[0]}\n{stamp} {halves[1]}\n"
        f"{stamp} {known[:11]}\n{stamp} {known[11:]}\n",
    }
    result = triage_run.triage(
        service=service.described,
        run=asked(answers),
        deadline=20.0,
        part_timeout=10.0,
        window=600,
        log_lines=500,
        incident="INC-1",
    )
    found = list(every_text(result, tmp_path / "state"))
    assert {"triage.json", "server.log", "journal.txt"} <= {name for name, _text in found}
    for where, text in found:
        for piece in (*halves, known[:11], known[11:]):
            assert piece not in text, where
    assert sum("[redacted]" in line for line in result["facts"]["journal"]["lines"]) == 4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-03-02T01:02:03.456Z INFO x", AT + 0.456),
        ("[2026-03-02T10:02:03+09:00] x", AT),
        ("2026-03-02 01:02:03,456 +0000 x", AT + 0.456),
        ('{"level":30,"time":1772413323456,"msg":"x"}', 1772413323.456),
        ('::1 - - [02/Mar/2026:10:02:03 +0900] "GET / HTTP/1.1" 200 5', AT),
        ("no time here", None),
        ("2026-13-45T99:99:99Z", None),
        ("[02/Xyz/2026:10:02:03 +0900]", None),
    ],
)
def test_times_of_log_lines(line, expected):
    found = log_patterns.instant(line)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("line", "success"),
    [
        ('::1 - - [02/Mar/2026:01:02:03 +0000] "GET / HTTP/1.1" 200 5', True),
        ("2026-03-02T01:02:03.000Z GET /api/v1/health 304 1.2 ms - -", True),
        ("2026-03-02T01:02:03.000Z \x1b[0mGET / \x1b[32m200\x1b[0m 1 ms", True),
        ('{"time":1772413323000,"req":{"method":"GET"},"res":{"statusCode":201}}', True),
        ("2026-03-02T01:02:03.000Z GET /api/v1/health 503 1.2 ms", False),
        ("2026-03-02T01:02:03.000Z INFO waited 200 ms", False),
    ],
)
def test_successful_requests(line, success):
    assert (analyse(line + "\n")["last_success_at"] == "2026-03-02T01:02:03.000Z") == success


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path):
    path = tmp_path / "long.log"
    path.write_text("".join(f"PASSWORD=geheim-{number:04d}\n" for number in range(100)))
    text, cut, _status = log_patterns.tail(str(path), limit=100)
    assert cut and text.splitlines()[0].startswith("PASSWORD=") and text.endswith("0099\n")
    assert log_patterns.tail(str(path), limit=10**6)[1] is False


# Certificates created with openssl. One certificate uses UTCTime, and the other one uses GeneralizedTime.

EXPIRED = """-----BEGIN CERTIFICATE-----
MIIBuTCCAV+gAwIBAgIUTRM2lomRDvDYjNOhc7BSaKW4AbMwCgYIKoZIzj0EAwIw
MjELMAkGA1UEBhMCSlAxDDAKBgNVBAoMA09wczEVMBMGA1UEAwwMaXRzbS5leGFt
cGxlMB4XDTI0MDEwMTAwMDAwMFoXDTI1MDEwMTEyMDAwMFowMjELMAkGA1UEBhMC
SlAxDDAKBgNVBAoMA09wczEVMBMGA1UEAwwMaXRzbS5leGFtcGxlMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEVh9bAFZ9sjY2E1+IQSFo1BSlTPIXHIuroFA1DAcj
bycmqox6S7KjJCLu1VCTuD+KotwMzLHPxxKdJXGRmLQa86NTMFEwHQYDVR0OBBYE
FFYZ3Hjl0wFW2odLYyrPTP2jX4d8MB8GA1UdIwQYMBaAFFYZ3Hjl0wFW2odLYyrP
TP2jX4d8MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhALkJvKO7
AOFaS6SW4kNlA51dgJz9yHtJh98wwJEcCN1vAiAtVEKcJF16nqt1lavI3qDGKgF0
ZAV/3DsntCUQuZe0Sw==
-----END CERTIFICATE-----
"""
FAR = """-----BEGIN CERTIFICATE-----
MIIBhjCCASugAwIBAgIUKye+m86s4mkve5MAHbWBAKEefYswCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMaXRzbS5leGFtcGxlMCAXDTI0MDEwMTAwMDAwMFoYDzIwNjAw
MTAxMTIwMDAwWjAXMRUwEwYDVQQDDAxpdHNtLmV4YW1wbGUwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQTtybaxw+EY9Snh14+bbG+Lsb7a9BuLtvKtLBeOvr4sGt5
srKasVVTHjpuIn+tCDNqYf0hZeWrrg6QBsCXQS0Eo1MwUTAdBgNVHQ4EFgQUySoE
RoE7rGYjOhTKz4mfwCFpZ7EwHwYDVR0jBBgwFoAUySoERoE7rGYjOhTKz4mfwCFp
Z7EwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA9FH8st7ZwVL0
mMzqMxN3Kd/r6VF+zIpolsWTSizwWXICIQClb/1+IFAHjdL91Ngld3J91udcPfYR
nPCSGJekZfmouA==
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    ("pem", "subject", "ends"),
    [
        (EXPIRED, "C=JP, O=Ops, CN=itsm.example", "2025-01-01T12:00:00.000Z"),
        (FAR, "CN=itsm.example", "2060-01-01T12:00:00.000Z"),
        # A file with text, a certificate, and the certificate of its issuer.
        ("Certificate:\n" + FAR + EXPIRED, "CN=itsm.example", "2060-01-01T12:00:00.000Z"),
    ],
)
def test_a_certificate_has_names_and_an_end(pem, subject, ends):
    facts = x509.describe(x509.from_pem(pem))
    assert (facts["subject"], timestamps.iso(facts["not_after"])) == (subject, ends)
    assert timestamps.iso(facts["not_before"]) == "2024-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----", FAR.replace("MII", "MI!"), FAR.replace("MII", "AAA")]
)
def test_other_files_are_reported_as_no_certificate(text):
    with pytest.raises(x509.CertificateError):
        x509.describe(x509.from_pem(text))


def test_a_truncated_certificate_is_not_a_certificate():
    der = x509.from_pem(FAR)
    for length in range(len(der)):
        with pytest.raises(x509.CertificateError):
            x509.describe(der[:length])


def test_the_certificate_file(service, tmp_path):
    (tmp_path / "app" / "server.crt").write_text(EXPIRED)
    service.described = service.described._replace(tls_cert_path="server.crt")
    result = look(service)
    assert result["facts"]["certificate"]["expired"] is True
    assert "tls_expired" in causes(result)


# Errors in the format that Node 20 uses.
NODE_20 = {
    "syntax error": (
        "/srv/app/a.js:2\nconst x = ;\n          ^\n\nSyntaxError: Unexpected token ';'\n"
        "    at wrapSafe (node:internal/modules/cjs/loader:1464:18)\n"
        "    at Module._compile (node:internal/modules/cjs/x:1:2)\n"
        "    at Object.<anonymous> (/srv/app/server.js:1:1)\n\nNode.js v20.20.2\n",
        ("/srv/app/a.js", 2, True),
    ),
    "syntax error in a module": (
        "file:///srv/app/a.mjs:1\nexport const = 3;\n             ^\n\nSyntaxError: Unexpected token '='\n"
        "    at compileSourceTextModule (node:internal/modules/esm/utils:346:16)\n\nNode.js v20.20.2\n",
        ("/srv/app/a.mjs", 1, True),
    ),
    "JSON": (
        "node:internal/modules/cjs/loader:1644\n    throw err;\n    ^\n\n"
        "SyntaxError: /srv/app/bad.json: Unexpected token '}', \"{\" is not valid JSON\n    at parse (<anonymous>)\n"
        "\nNode.js v20.20.2\n",
        ("/srv/app/bad.json", None, True),
    ),
    "JSON that was parsed": (
        "<anonymous_script>:1\n<a>\n^\n\nSyntaxError: Unexpected token '<', \"<a>\" is not valid JSON\n"
        "    at JSON.parse (<anonymous>)\n    at load (/srv/app/jp.js:7:6)\n\nNode.js v20.20.2\n",
        ("/srv/app/jp.js", 7, False),
    ),
    "thrown": (
        '/srv/app/b.js:2\n  throw new TypeError("boom");\n  ^\n\nTypeError: boom\n    at f (/srv/app/b.js:2:9)\n'
        "\nNode.js v20.20.2\n",
        ("/srv/app/b.js", 2, False),
    ),
    "thrown in a package": (
        "/srv/app/node_modules/knex/a.js:9\n  throw e;\n  ^\n\nError: no\n"
        "    at f (/srv/app/node_modules/knex/a.js:9:1)\n"
        "    at main (/srv/app/server.js:41:3)\n\nNode.js v20.20.2\n",
        ("/srv/app/server.js", 41, False),
    ),
    "logged": (
        "2026-03-02T01:02:03.000Z ERROR Error: boom\n    at main (/srv/app/server.js:97:11)\n",
        ("/srv/app/server.js", 97, False),
    ),
}


@pytest.mark.parametrize("name", NODE_20)
def test_an_exception_names_its_file_and_line(name):
    text, (path, line, compiling) = NODE_20[name]
    (found,) = analyse("2026-03-02T01:02:02.000Z INFO up\n" + text)["exceptions"]
    assert (found["place"], found["compiling"]) == ({"file": path, "line": line}, compiling)


def test_repeated_exceptions_are_counted():
    text, _place = NODE_20["thrown"]
    other = text.replace("boom", "another")
    assert {item["message"]: item["times"] for item in analyse(text * 2 + other)["exceptions"]} == {
        "TypeError: boom": 2,
        "TypeError: another": 1,
    }
    # Exceptions that differ only in times and numbers count as identical. A served request resets the count.
    at = "2026-03-02T01:02:{}.000Z ERROR Error: port {} refused\n    at main (/srv/app/server.js:97:11)\n"
    found = analyse(at.format("03", 8080) + at.format("09", 9090))["exceptions"]
    assert [item["times"] for item in found] == [2, 2]
    served = analyse(at.format("03", 1) + ACCESS.format(5) + at.format("09", 1))["exceptions"]
    assert [item["times"] for item in served] == [1]


def test_exits_that_a_run_caused_are_omitted_or_marked():
    def at(second):
        return f"2026-03-02T01:00:{second:02}.000Z"

    starts = [{"at": at(second), "text": "Started itsm."} for second in (0, 13, 40)]
    exits = [{"at": at(second), "text": "Main process exited"} for second in (5, 20, 30, 50)]
    facts = {"journal": {"starts": starts, "exits": exits}}
    record = {"starts": [{"at": at(11), "run": "r"}], "kills": [{"from": at(29), "until": at(31)}]}
    assembled_facts._mark_own_exits(facts, record)
    found = [(item["at"], item["ours"]) for item in facts["journal"]["exits"]]
    assert found == [(at(5), False), (at(20), True), (at(50), False)]
    for journal in (None, {}, {"error": "no journal"}):
        assembled_facts._mark_own_exits({"journal": journal}, {})
