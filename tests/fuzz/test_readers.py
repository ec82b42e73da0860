# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Input from a broken or hostile host: each reader returns a value or raises its documented error."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import time
from pathlib import Path

from hypothesis import assume, example, given
from hypothesis import strategies as st
from sqlite_samples import crashed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, redact, semver, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import (
    env_file,
    procfs,
    run_as,
    sockets,
    systemd,
    x509,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window, record_result
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    knex_tables,
    log_patterns,
    migration_names,
    npm_build,
    npm_load,
    npm_lock,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import (
    collect_host,
    collect_logs,
    collect_service,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import context as triage_context

# Arbitrary JSON, and lines that look like log lines. The lines contain control characters and words for which the
# readers search.
WORDS = [
    *(
        "Error: x",
        "    at f (x.js:1:1)",
        "Node.js v20.1.0",
        "    ^",
        "GET /x 200",
        '"time":9999999999999',
        "SQLITE_BUSY",
    ),
    *("2026-03-02T01:02:03.456Z", "0001-01-01 00:00:00", "9999-12-31 23:59:59 -1200", "[01/Jan/0001:00:00:00 +0000]"),
    *("Found 2 Completed Migration file/files.", "No Pending Migration files Found.", "npm error code", "npm ERR! x"),
    *("Killed process 1 (node)", "out of memory", "[ 1.5]", "99999999999999999999.5 h node[1]: x"),
    "Main process exited",
]
LINES = st.lists(
    st.one_of(st.text(max_size=80), st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)),
    max_size=30,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def wal_of_a_crash() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        crashed(f"{folder}/itsm.db")
        return Path(folder, "itsm.db-wal").read_bytes()


WAL = wal_of_a_crash()


def read_wal(data: bytes) -> sqlite_wal.Wal:
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        stream.flush()
        return sqlite_wal.read_wal(stream.fileno(), deadline=time.monotonic() + 20)


@given(st.binary(max_size=200_000))
@example(b"")
@example(struct.pack(">8I", 0x377F0682, 3007000, 512, 0, 1, 2, 3, 4) * 400)
def test_any_bytes_as_a_wal(data):
    wal = read_wal(data)
    assert 0 <= wal.frames_committed <= wal.frames_valid <= wal.frames_total
    assert wal.frames_valid == 0 or wal.header_valid


@given(st.lists(st.tuples(st.integers(0, len(WAL) - 1), st.integers(1, 255)), max_size=8), st.integers(0, len(WAL)))
def test_a_damaged_wal_never_has_more_valid_frames(flips, length):
    whole = read_wal(WAL)
    data = bytearray(WAL)
    for place, bits in flips:
        data[place] ^= bits
    wal = read_wal(bytes(data[:length]))
    assert wal.frames_committed <= whole.frames_committed
    if length == len(WAL) and bytes(data) != WAL:
        assert wal.frames_valid <= whole.frames_valid


@given(st.binary(max_size=300))
def test_any_bytes_as_an_index_a_header_or_a_certificate(data):
    sqlite_wal.parse_index(data)
    sqlite_files.parse_header(data)
    sqlite_files.parse_header(sqlite_files.MAGIC + data)
    with contextlib.suppress(x509.CertificateError):
        x509.describe(data)
    with contextlib.suppress(x509.CertificateError):
        x509.from_pem(data.decode("latin-1"))


@given(st.recursive(st.binary(max_size=12), lambda inner: st.lists(inner, max_size=4).map(b"".join), max_leaves=30))
def test_any_nesting_as_a_certificate(data):
    for tag in (0x30, 0x17, 0xA3):
        data = bytes([tag, min(len(data), 0x7F)]) + data[:0x7F]
        with contextlib.suppress(x509.CertificateError):
            x509.describe(data)


PROC_NAMES = st.sampled_from(["stat", "status", "cmdline", "environ", "cgroup"])
PROC_FILES = st.dictionaries(PROC_NAMES, st.binary(max_size=200))


@given(PROC_FILES, st.binary(max_size=400), st.binary(max_size=400))
@example({"stat": b"7 (a) b) S 1 " + b"1 " * 20, "status": b"Uid:\t1 1\n", "cmdline": b""}, b"", b"")
@example({}, b"h\n 0: 0100007F:1F90 0:0 0A 0:0 0:0 0 1000 0 77 1\n", b"h\n 0: 01:1F90 0:0 0A 0:0 0:0 0 x 0 77 1\n")
def test_any_bytes_in_proc(files, tcp, tcp6):
    with tempfile.TemporaryDirectory() as root:
        for folder in ("7/fd", "net"):
            os.makedirs(f"{root}/{folder}")
        for name, data in files.items():
            Path(root, "7", name).write_bytes(data)
        Path(root, "net/tcp").write_bytes(tcp)
        Path(root, "net/tcp6").write_bytes(tcp6)
        process = procfs.read_process(7, proc_root=root)
        if process is not None:
            json.dumps([process.command, process.argv]).encode()
            procfs.runs_command(process, app_dir="/srv", command=["node", "server.js"])
        procfs.environment(7, proc_root=root)
        procfs.control_groups(7, proc_root=root)
        with contextlib.suppress(procfs.HostError):
            sockets.listeners([8080], proc_root=root)


def answering(text: str):
    def run(argv, **_how):
        return commands.Completed(argv=argv, rc=0, stdout=text, stderr=text, duration=0.0)

    return run


def question(text: str) -> triage_context.Question:
    service = triage_context.Service(
        **dict.fromkeys(("user", "environment_file", "pid_file", "tls_cert_path", "tls_key_path"), ""),
        app_dir="/nowhere",
        command=["node", "server.js"],
        manager="systemd",
        unit="itsm-system",
        db_path="itsm.db",
        db_path_variable="DATABASE_PATH",
        log_file="/nowhere/server.log",
        https_port=0,
        http_port=0,
        required_environment=(),
        state_dir="/nowhere/state",
    )
    return triage_context.Question(
        service=service, run=answering(text), since=0.0, budget=5.0, log_lines=50, kernel_log_command=(), keep=True
    )


ODD = ["[not set]", "infinity", "\u0663", "\u00b2", "18446744073709551615", "9" * 300]
NAMES = st.sampled_from([*collect_service._UNIT_PROPERTIES, "Environment", "EnvironmentFiles"])
VALUES = st.one_of(st.text(max_size=30), st.integers().map(str), st.sampled_from(ODD))
PROPERTIES = st.lists(st.tuples(NAMES, VALUES).map("=".join), max_size=40).map("\n".join)


@given(PROPERTIES)
def test_any_answer_of_systemctl(text):
    told = collect_service.unit(question(text))
    json.dumps(told).encode("utf-8", "replace")
    env_file.unit_environment({"Environment": text, "EnvironmentFiles": ""})
    systemd.timespan(text)


@given(LINES)
@example(["0001-01-01 00:00:00 GET /x 200", "x"])
@example(["9999-12-31 23:59:59 -1200 GET /x 200"])
def test_any_log(lines):
    dated = log_patterns.dated(lines)
    json.dumps(log_patterns.analyse(dated, since=0.0, written_at=time.time()))
    assert all(len(line.text) <= 2000 for line in dated)


@given(LINES)
@example(["99999999999999999999.5 h node[1]: x"])
def test_any_journal_and_kernel_log(lines):
    for part in (collect_logs.journal, collect_host.kernel, collect_host._core_records):
        json.dumps(part(question("\n".join(lines))))


@given(LINES)
def test_any_output_of_knex_and_npm(lines):
    text = "\n".join(lines)
    with contextlib.suppress(knex_tables.KnexError):
        completed, pending = migration_names.parse_list(text)
        assert len(completed) + len(pending) <= len(text.splitlines())
    assert "\n" not in npm_build.npm_message(text, redactor=redact.Redactor())


@given(st.lists(st.one_of(JSON.map(json.dumps), st.text(max_size=20)), max_size=6))
@example(["[]", "{}", '{"name": 1}', "1"])
def test_any_output_of_a_loaded_package(lines):
    text = "\n".join(f"@npm_ci {line}" for line in lines)
    account = run_as.resolve(None, folder="/")
    with contextlib.suppress(npm_lock.NpmError):
        npm_load.ask_node("/", names=["x"], node="/usr/bin/node", account=account, run=answering(text))


@given(st.dictionaries(st.sampled_from(["packages", "lockfileVersion"]), JSON | st.dictionaries(st.text(), JSON)))
@example({"packages": {"node_modules/a": {"version": 1, "os": 7, "cpu": [{}]}}})
def test_any_lock_file(value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "package-lock.json")
        path.write_text(json.dumps(value))
        (Path(folder) / "node_modules").mkdir()
        (Path(folder) / "node_modules" / ".package-lock.json").write_text(json.dumps(value))
        with contextlib.suppress(npm_lock.NpmError):
            wanted = npm_lock.installable(npm_lock.read_packages(str(path)), omit_dev=True)
            npm_lock.differences(folder, wanted=wanted, platform="linux", arch="x64")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_version(version, wanted):
    assert semver.satisfies(version, wanted) in (True, False, None)
    assert semver.satisfies("v20.1.0", wanted) in (True, False, None)


@given(st.text(max_size=400))
def test_any_environment_file(text):
    for name, value in env_file.parse_environment(text).items():
        assert "\0" in text or (name.isascii() and name.isidentifier() and isinstance(value, str))


RECORD = {
    **incident_record._new_record("INC-20260302T010203Z-0000", clock=host_lease.Clock()),
    "signs": [{"at": "2026-03-02T01:02:03.456Z", "kind": "good", "source": "x"}],
    "attempts": [{"rung": "restart", "started_at": "2026-03-02T01:02:03.456Z"}],
    "starts": [{"at": "2026-03-02T01:02:03.456Z"}],
}


@given(st.one_of(JSON, st.dictionaries(st.sampled_from(sorted(RECORD)), JSON).map(lambda other: {**RECORD, **other})))
def test_any_record_of_an_incident(value):
    data = json.dumps(value).encode()
    with contextlib.suppress(ValueError):
        record = incident_store._decode(data)
        outage_window.start(record)
        for attempt in record["attempts"]:
            record_result._result_of(attempt)
    with contextlib.suppress(ValueError):
        host_lease._decode(data)


@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
@example(b"[" * 100_000)
@example(b'{"until": "0001-01-01T00:00:00+14:00"}')
def test_any_bytes_as_a_record_a_lease_or_a_maintenance(data):
    with tempfile.TemporaryDirectory() as folder:
        for name in ("incident.json", "maintenance.json", "lease.json"):
            Path(folder, name).write_bytes(data)
        store = incident_store.Store(home=folder, spare=f"{folder}/spare", clock=host_lease.Clock(), writing=False)
        store.open_incident()
        host_maintenance.current(state_dir=folder, now=time.time())
        seat = host_lease.Seat(state_dir=folder, memory=f"{folder}/memory")
        os.makedirs(seat.folder)
        Path(seat.folder, "lease.json").write_bytes(data)
        seat.last()


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_time(seconds):
    assume(-1e10 < seconds < 1e11)
    assert abs(timestamps.epoch(timestamps.iso(seconds)) - seconds) < 0.01
