# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore drill with a real service in a real private network. Only systemd is simulated, with unshare(1)."""

from __future__ import annotations

import contextlib
import ctypes
import http.server
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import pytest
from sqlite_samples import closed, patch

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import drill, drill_order, listing, sandbox
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import socket_filter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan


def can_isolate() -> bool:
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_isolate(), reason="needs root, unshare, ip and permission to create namespaces")

# The service's user may be unable to run the Python interpreter of these tests, so the service uses the system's
# interpreter.
PYTHON = "/usr/bin/python3"
NOBODY = pwd.getpwnam("nobody")
SERVICE = """
import http.server, json, os, sqlite3, sys, time
database = sqlite3.connect(os.environ["DATABASE_PATH"], check_same_thread=False, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
mode = os.environ.get("MODE", "")
if mode == "crash":
    sys.exit("Error: cannot start, password=" + os.environ["SERVICE_PASSWORD"])
if mode == "lose":
    database.execute("DELETE FROM incidents WHERE id > 5")
if mode == "peek":
    for path in ("/proc/1/environ", os.environ["LIVE"], os.environ["SECRET"]):
        try:
            open(path, "rb").close()
            print("opened " + path, flush=True)
        except OSError:
            pass
    try:
        open(os.environ["LIVE"] + "-wal", "wb").close()
        print("truncated the live WAL", flush=True)
    except OSError:
        pass
if mode == "reach":
    pid = int(os.environ["TARGET"])
    for link in ("cwd", "root" + os.environ["FOLDER"]):
        try:
            open("/proc/%d/%s/itsm.db" % (pid, link), "r+b").close()
            print("opened the live database through " + link, flush=True)
        except OSError:
            pass
    for name, send in (("kill", os.kill), ("tgkill", lambda pid, number: call(234, pid, pid, number))):
        import ctypes
        call = ctypes.CDLL(None, use_errno=True).syscall
        try:
            if send(pid, 9) in (None, 0):
                print("sent a signal with " + name, flush=True)
        except OSError:
            pass
    numbers = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    if len(numbers) > 4 or not os.path.exists("/proc/self/stat"):
        print("saw processes: %s" % numbers, flush=True)
if mode == "connect":
    import socket
    def connect(kind):
        socket.socket(socket.AF_UNIX, kind).connect(os.environ["SOCKET"])
    def send():
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", os.environ["SOCKET"] + "-datagram")
    for name, way in (("connect", lambda: connect(socket.SOCK_STREAM)), ("send", send)):
        try:
            way()
            print("reached a UNIX socket with " + name, flush=True)
        except OSError:
            pass
    left, right = socket.socketpair()
    left.sendall(b"x")
    right.recv(1)
if mode == "memory":
    with open("/proc/sysvipc/shm") as segments:
        if len(segments.readlines()) > 1:
            print("saw shared memory", flush=True)
if mode == "hide":
    os.mkdir(os.path.dirname(os.environ["DATABASE_PATH"]) + "/hidden", 0)
    time.sleep(5)
if mode == "many":
    for number in range(11000):
        open("%s/%d" % (os.path.dirname(os.environ["DATABASE_PATH"]), number), "w").close()
    time.sleep(5)
if mode == "fill":
    with open(os.path.dirname(os.environ["DATABASE_PATH"]) + "/more", "wb") as more:
        for _number in range(3000):
            more.write(bytes(1 << 16))
            more.flush()
            time.sleep(0.001)
if mode != "no log":
    with open("logs/app.log", "a") as log:
        log.write("started")
database.execute("INSERT INTO users (name) VALUES (?)", ("by the drill %d" % os.getpid(),))
class Answer(http.server.BaseHTTPRequestHandler):
    def reply(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.reply(503 if mode == "sick" else 200, {"status": "ok"})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(200 if asked["password"] == "right" else 401, {})
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""


class Systemd:
    """Simulates systemctl and systemd-run. A unit has its own network and mount namespaces, and starts as root."""

    def __init__(self, top: Path, environment: Dict[str, str]) -> None:
        self.environment = environment
        self.live = {"ActiveState": "active", "MainPID": "4711", "NRestarts": "0"}
        self.process: Any = None
        self.asked: List[List[str]] = []
        self.wanted: Dict[str, str] = {}
        self.top = top
        app = top / "app"
        read_only = [f"mount --bind {app} {app}", f"mount --options remount,bind,ro {app}"]
        self.isolation = ["ip link set lo up", *read_only, 'exec "$@"']
        self.namespaces = ["--net", "--mount"]

    def run(self, argv: Sequence[str], *, timeout: float, **_more: Any) -> commands.Completed:
        self.asked.append(list(argv))
        out = ""
        if argv[0] == "systemd-run":
            self._start(list(argv))
        elif "stop" in argv and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        elif "show" in argv and str(argv[-1]).startswith("itsm-runbook-drill"):
            runs = self.process is not None and self.process.poll() is None
            out = f"LoadState=loaded\nActiveState={'active' if runs else 'inactive'}\n"
            out += f"MainPID={self.process.pid if runs else 0}\n"
        elif "show" in argv:
            words = " ".join(f"{name}={value}" for name, value in self.environment.items())
            command = f"{{ path={PYTHON} ; argv[]={PYTHON} service.py ; ignore_errors=no ; pid=1 }}"
            known = {"LoadState": "loaded", "User": "nobody", "WorkingDirectory": str(self.top / "app")}
            out = "".join(f"{name}={value}\n" for name, value in {**known, **self.live}.items())
            out += f"ExecStart={command}\nEnvironment={words}\n"
        return commands.Completed(argv=list(argv), rc=0, stdout=out, stderr="", duration=0.0)

    def _start(self, argv: List[str]) -> None:
        wanted = dict(each[len("--property=") :].split("=", 1) for each in argv if each.startswith("--property="))
        assert wanted["PrivateNetwork"] == "yes" and wanted["ProtectSystem"] == "strict"
        assert wanted["NoNewPrivileges"] == "yes" and int(wanted["MemoryMax"]) and float(wanted["RuntimeMaxSec"])
        inner = argv[argv.index("--") + 1 :]
        script = " && ".join(self.isolation)
        self.wanted = wanted
        plan = wanted["StandardInput"][len("file:") :]
        with open(plan, "rb") as stdin, open(wanted["StandardOutput"][len("file:") :], "wb") as output:
            self.process = subprocess.Popen(
                ["unshare", *self.namespaces, "sh", "-c", script, "sh", *inner],
                stdout=output,
                stderr=output,
                stdin=stdin,
                start_new_session=True,
            )


class Host:
    """An application with a live database and a backup folder, owned by the user `nobody`."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.database = str(top / "app" / "backend" / "itsm.db")
        for name in ("app", "app/backend", "app/logs"):
            (top / name).mkdir()
            os.chown(top / name, NOBODY.pw_uid, NOBODY.pw_gid)
        (top / "app" / "service.py").write_text(SERVICE)
        closed(self.database, rows=50)
        os.chown(self.database, NOBODY.pw_uid, NOBODY.pw_gid)
        self.state_dir = str(top / "state")
        self.backups = top / "state" / "backups"
        self.backups.mkdir(parents=True, mode=0o700)
        os.chmod(top / "state", 0o700)
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.systemd = Systemd(top, {"PORT": str(self.port), "SERVICE_PASSWORD": "a-secret-of-the-service"})

    def backup(self, name: str, *, rows: int = 40, age: float = 3600.0) -> str:
        path = str(self.backups / f"itsm.db.backup_{name}")
        closed(path, rows=rows)
        os.utime(path, (time.time() - age,) * 2)
        return path

    def order(self, **more: Any) -> drill_order.Order:
        url = f"http://127.0.0.1:{self.port}/api/v1/health"
        known: Dict[str, Any] = {
            "unit": "itsm-system",
            "user": "nobody",
            "app_dir": str(self.top / "app"),
            "database": self.database,
            "variable": "DATABASE_PATH",
            "targets": [probe_plan.Target("http", url)],
            "state_dir": self.state_dir,
            "folder": str(self.top),
            "dirs": [str(self.backups)],
            "writable": [str(self.top / "app" / "logs")],
            "memory": 64 << 20,
            "timeout": 20.0,
        }
        return drill_order.Order(**{**known, **more})

    def drill(self, *, check_mode: bool = False, **more: Any) -> Dict[str, Any]:
        return drill.drill(self.order(**more), check_mode=check_mode, run=self.systemd.run)

    def ids(self, result: Dict[str, Any]) -> List[str]:
        return [each["id"] for each in result["messages"].get("problems", [])]

    def seen(self) -> Dict[str, Any]:
        """Return everything in the folder except the state folder."""
        found = {}
        for path in sorted(self.top.rglob("*")):
            if not str(path).startswith(self.state_dir):
                facts = path.lstat()
                found[str(path)] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_uid, facts.st_mode)
        return found


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Host(Path(folder))


@contextlib.contextmanager
def live_service(port: int) -> Iterator[List[str]]:
    """Simulate the live service, on the same port but outside the drill's network. Yield the requests that reach it."""
    asked: List[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(500)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_a_drill_starts_the_service_on_the_newest_backup(host: Host) -> None:
    host.backup("older", age=7200.0)
    newest = host.backup("newest")
    before = host.seen()
    with live_service(host.port) as asked:
        result = host.drill()
    assert result["ok"], result["problems"]
    assert asked == []
    assert (result["backup"], result["problems"], result["live_unchanged"]) == (newest, [], True)
    assert 3600 <= result["rpo_seconds"] < 3700 and 0 < result["rto_seconds"] < 20
    assert result["rows"] == {"incidents": 40, "users": 2} and result["rows_after"]["users"] == 3
    # The drill created and changed nothing permanently, not even a log file.
    assert host.seen() == before
    kept = json.loads(Path(host.state_dir, "restore_drill.json").read_text(encoding="utf-8"))
    for name in ("at", "ok", "backup", "backup_at", "rpo_seconds", "rto_seconds", "rows", "problems"):
        assert kept[name] == result[name]
    assert Path(host.state_dir, "restore_drill.json").stat().st_mode & 0o777 == 0o600


def test_no_secret_is_on_a_command_line_or_in_a_file(host: Host) -> None:
    host.backup("1")
    read: List[str] = []
    answer = host.systemd.run

    def run(argv: Sequence[str], **more: Any) -> commands.Completed:
        for path in host.top.glob(".state-drill-*/**/*"):
            if path.is_file():
                read.append(path.name)
                assert b"a-secret-of-the-service" not in path.read_bytes()
        return answer(argv, **more)

    assert drill.drill(host.order(), run=run)["ok"]
    assert {"output", "itsm.db"} <= set(read)
    assert "a-secret-of-the-service" not in str(host.systemd.asked)


def what_was_said(host: Host, **more: Any) -> str:
    """Run a drill, which must succeed. Return the service's output."""
    said: List[str] = []
    answer = host.systemd.run

    def run(argv: Sequence[str], **more: Any) -> commands.Completed:
        if "stop" in argv:
            said.extend(path.read_text() for path in host.top.glob(".state-drill-*/output"))
        return answer(argv, **more)

    result = drill.drill(host.order(**more), run=run)
    assert result["ok"], result["problems"]
    assert said
    return "".join(said)


def test_the_running_service_is_out_of_reach(host: Host) -> None:
    folder = os.path.dirname(host.database)
    live = subprocess.Popen(["sleep", "60"], cwd=folder, user="nobody", group="nogroup")
    try:
        host.systemd.environment.update(MODE="reach", TARGET=str(live.pid), FOLDER=folder)
        host.backup("1")
        assert what_was_said(host) == ""
        assert live.poll() is None
    finally:
        live.kill()
        live.wait()


def test_unix_sockets_are_out_of_reach(host: Host) -> None:
    path = str(host.top / "socket")
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        for opened, name in ((stream, path), (datagram, f"{path}-datagram")):
            opened.bind(name)
            os.chmod(name, 0o777)  # noqa: S103
        stream.listen()
        host.systemd.environment.update(MODE="connect", SOCKET=path)
        host.backup("1")
        assert what_was_said(host) == ""


def test_shared_memory_is_out_of_reach(host: Host) -> None:
    library = ctypes.CDLL(None)
    segment = library.shmget(0, 4096, 0o666)
    try:
        host.systemd.environment["MODE"] = "memory"
        host.backup("1")
        assert what_was_said(host) == ""
    finally:
        library.shmctl(segment, 0, None)


def test_nothing_is_started_without_a_filter_for_unix_sockets(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_filter, "_MACHINES", {})
    host.backup("1")
    result = host.drill()
    assert not result["ok"] and host.ids(result) == ["reason.drill.not_isolated"]
    assert "could connect to UNIX sockets" in result["problems"][0]


def test_a_database_behind_a_link_is_out_of_reach(host: Host) -> None:
    real = host.top / "real"
    real.mkdir()
    os.chown(real, NOBODY.pw_uid, NOBODY.pw_gid)
    os.rename(host.database, real / "live.db")
    os.symlink(real / "live.db", host.database)
    (real / "live.db-wal").touch()
    os.chown(real / "live.db-wal", NOBODY.pw_uid, NOBODY.pw_gid)
    host.systemd.environment.update(MODE="peek", LIVE=host.database, SECRET=str(real / "live.db"))
    host.backup("1")
    assert what_was_said(host) == ""
    host.systemd.environment["SECRET"] = str(real / "live.db-wal")
    assert what_was_said(host) == ""


@pytest.mark.parametrize("mode", ["fill", "many", "hide"])
def test_a_service_that_fills_the_disk_is_stopped(host: Host, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "_MARGIN", 1 << 20)
    host.systemd.environment["MODE"] = mode
    host.backup("1")
    result = host.drill()
    assert not result["ok"] and host.ids(result) == ["reason.drill.ended"]
    assert sandbox.TOO_MUCH in result["problems"][0]
    assert list(host.top.glob(".state-drill-*")) == []


def test_the_unit_removes_the_folder_of_a_killed_drill(host: Host) -> None:
    host.backup("1")
    assert host.drill()["ok"]
    words = shlex.split(host.systemd.wanted["ExecStopPost"])
    assert words[0] == f"-+{sys.executable}"
    folder = Path(words[-2])
    assert words[-1] == str(folder / "data")
    assert folder.name.startswith(".state-drill-") and not folder.exists()
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "link").symlink_to(host.top / "app")
    (folder / "data" / "link.db").write_text("x")
    (folder / "empty").touch()
    folder.chmod(0o711)
    for path in (folder / "data", folder / "data" / "link.db"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    command = [sys.executable, *words[1:]]
    # While a drill is running, the command does not remove the folder, because the drill needs this folder.
    with listing.locked(host.state_dir, run=""):
        assert subprocess.run(command, check=False, capture_output=True).stderr == b""
    assert folder.exists()
    subprocess.run(command, check=True)
    assert not folder.exists() and (host.top / "app" / "service.py").exists()
    # The service's user has moved one of root's folders there, and root's files in this folder are not removed.
    moved = folder / "data" / "moved"
    moved.mkdir(parents=True)
    (moved / "precious").write_text("root's")
    moved.chmod(0o755)
    os.chown(folder / "data", NOBODY.pw_uid, NOBODY.pw_gid)
    subprocess.run(command, check=False)
    assert (moved / "precious").read_text() == "root's"


def test_the_live_database_and_other_files_are_out_of_reach(host: Host) -> None:
    secret = host.top / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    Path(f"{host.database}-wal").touch()
    os.chown(f"{host.database}-wal", NOBODY.pw_uid, NOBODY.pw_gid)
    host.systemd.environment.update(MODE="peek", LIVE=host.database, SECRET=str(secret))
    host.backup("1")
    assert what_was_said(host) == ""


def test_a_login_is_checked(host: Host) -> None:
    host.backup("1")
    login = probe_plan.Login(probe_plan.Target("login", f"http://127.0.0.1:{host.port}/login"), "admin", "right")
    assert host.drill(login=login)["login"] is True
    result = host.drill(login=login._replace(password="wrong"))
    assert (result["ok"], result["login"], host.ids(result)) == (False, False, ["reason.drill.login"])


@pytest.mark.parametrize(
    ("mode", "problem", "told"),
    [
        ("crash", "reason.drill.ended", "Error: cannot start"),
        ("sick", "reason.drill.not_healthy", "answered 503 instead of 200"),
        ("lose", "reason.drill.rows_lost", "incidents had 40 rows and now has 5"),
    ],
)
def test_a_service_that_cannot_use_the_backup(host: Host, mode: str, problem: str, told: str) -> None:
    host.systemd.environment["MODE"] = mode
    host.backup("1")
    before = host.seen()
    result = host.drill(timeout=3.0)
    assert not result["ok"] and host.ids(result) == [problem], result["problems"]
    assert told in result["problems"][0] and "a-secret-of-the-service" not in str(result)
    assert host.seen() == before


def test_a_service_that_ignores_the_variable(host: Host) -> None:
    host.systemd.environment["DATABASE_PATH"] = str(host.top / "app" / "logs" / "elsewhere.db")
    service = SERVICE.replace(
        'database.execute("INSERT', 'database.execute("CREATE TABLE users (name)"); database.execute("INSERT'
    )
    (host.top / "app" / "service.py").write_text(service)
    host.backup("1")
    result = host.drill(variable="OTHER_PATH")
    assert not result["ok"] and host.ids(result) == ["reason.drill.other_database"]
    assert "OTHER_PATH (nexus_db_path_variable)" in result["problems"][0]


def test_a_broken_newest_backup_is_reported_and_the_next_one_is_used(host: Host) -> None:
    good, broken = host.backup("good", age=7200.0), host.backup("broken")
    patch(broken, 4096, b"\xff" * 4096)
    result = host.drill()
    assert result["ok"] and result["backup"] == good
    assert host.ids(result) == ["reason.restore.backup_unusable"] and broken in result["problems"][0]


def test_without_a_backup_the_drill_fails(host: Host) -> None:
    result = host.drill()
    assert not result["ok"] and host.ids(result) == ["reason.restore.no_backup_in"]
    assert (result["backup"], result["rpo_seconds"], result["rto_seconds"]) == (None, None, None)
    assert host.systemd.process is None
    assert json.loads(Path(host.state_dir, "restore_drill.json").read_text())["ok"] is False


def test_a_change_of_the_running_service_is_reported(host: Host) -> None:
    host.backup("1")
    run = host.systemd.run

    def restarts(argv: Sequence[str], **more: Any) -> commands.Completed:
        if argv[0] == "systemd-run":
            host.systemd.live = {**host.systemd.live, "MainPID": "4712", "NRestarts": "1"}
        return run(argv, **more)

    result = drill.drill(host.order(), run=restarts)
    assert not result["ok"] and host.ids(result) == ["reason.drill.live_changed"]
    assert "its process ID changed from 4711 to 4712" in result["problems"][0]


def test_check_mode_starts_nothing(host: Host) -> None:
    path = host.backup("1")
    result = host.drill(check_mode=True)
    assert (result["ok"], result["backup"], result["rto_seconds"]) == (True, path, None)
    assert host.systemd.asked == [] and not os.path.exists(f"{host.state_dir}/restore_drill.json")


def test_the_folders_of_a_killed_drill_are_removed(host: Host) -> None:
    left = host.top / ".state-drill-abc"
    (left / "data").mkdir(parents=True)
    (left / "data" / "link").symlink_to(host.top / "app")
    host.backup("1")
    assert host.drill()["ok"]
    assert not left.exists() and (host.top / "app" / "service.py").exists()


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"memory": 1 << 50}, "reason.drill.no_memory"),
        ({"user": "root"}, "reason.drill.as_root"),
    ],
)
def test_a_drill_that_could_do_harm_is_not_made(host: Host, more: Dict[str, Any], problem: str) -> None:
    host.backup("1")
    result = host.drill(**more)
    assert not result["ok"] and host.ids(result) == [problem]
    assert host.systemd.process is None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"database": "itsm.db"}, "path must be an absolute path, not 'itsm.db'"),
        ({"folder": "scratch"}, "scratch_dir must be an absolute path, not 'scratch'"),
    ],
)
def test_an_invalid_path_names_its_option(host: Host, more: Dict[str, Any], told: str) -> None:
    with pytest.raises(BackupError, match=told):
        host.drill(**more)


@pytest.mark.parametrize("lacking", ["network", "file system"])
def test_nothing_is_started_if_systemd_ignores_a_setting(host: Host, lacking: str) -> None:
    """If systemd ignores PrivateNetwork=, as in some containers, a drill would use the live service's ports."""
    host.backup("1")
    if lacking == "network":
        host.systemd.namespaces = ["--mount"]
    else:
        host.systemd.isolation = ["ip link set lo up", 'exec "$@"']
    result = host.drill()
    assert not result["ok"] and host.ids(result) == ["reason.drill.not_isolated"]
    told = "network is not private" if lacking == "network" else f"could write to {host.top}/app"
    assert told in result["problems"][0]


def test_the_scratch_folder_must_be_safe(host: Host) -> None:
    host.backup("1")
    result = host.drill(folder=str(host.top / "app"))
    assert host.ids(result) == ["reason.drill.not_prepared"]
    closed_folder = host.top / "closed"
    closed_folder.mkdir(mode=0o700)
    result = host.drill(folder=str(closed_folder))
    assert host.ids(result) == ["reason.drill.folder_closed"]
    assert list(closed_folder.iterdir()) == []


LITESTREAM = """#!/bin/sh
# Behaves as described in Litestream's documentation: litestream COMMAND [-config PATH] [-o PATH] DB_PATH
command=$1
shift
while [ $# -gt 1 ]; do
    case $1 in
    -config) config=$2 ;;
    -o) output=$2 ;;
    *) echo "flag provided but not defined: $1" >&2; exit 1 ;;
    esac
    shift 2
done
grep -q "path: $1\\$" "$config" || { echo "database not found in config: $1" >&2; exit 1; }
case $command in
restore) [ ! -e "$output" ] || { echo "cannot restore, output path already exists" >&2; exit 1; }
    cp "$(dirname "$0")/replica" "$output" ;;
wal) printf 'replica generation index offset size created\\ns3 abc 1 0 4152 2026-03-02T01:02:03Z\\n'
    printf 's3 abc 1 4152 4152 2026-03-02T01:02:09Z\\n' ;;
*) echo "unknown command: $command" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def replica(host: Host) -> Dict[str, str]:
    """Create a fake Litestream with a replica of 45 rows.

    Return the arguments of drill_order.Order for this replica.
    """
    (host.top / "bin").mkdir()
    program, config = host.top / "bin" / "litestream", host.top / "litestream.yml"
    program.write_text(LITESTREAM)
    program.chmod(0o755)
    closed(str(host.top / "bin" / "replica"), rows=45)
    config.write_text(f"dbs:\n  - path: {host.database}\n    replicas:\n      - url: s3://store/itsm\n")
    return {"litestream_config": str(config), "litestream_program": str(program)}


class Both:
    """Runs Litestream, and passes all other commands to the simulated systemd."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __call__(self, argv: Sequence[str], **how: Any) -> commands.Completed:
        return (commands.run if "litestream" in argv[0] else self.host.systemd.run)(argv, **how)


def test_a_replica_of_litestream_is_the_newest_backup(host: Host, replica: Dict[str, str]) -> None:
    host.backup("1")
    result = drill.drill(host.order(**replica), run=Both(host))
    assert result["ok"] and result["problems"] == [], result["problems"]
    assert (result["backup"], result["rows"]["incidents"]) == (f"litestream:{host.database}", 45)
    assert result["backup_at"] == "2026-03-02T01:02:09.000Z" and result["rpo_seconds"] > 0 and result["rto_seconds"] > 0
    assert list(host.top.glob(".state-drill-*")) == []


def test_a_replica_needs_no_other_backup(host: Host, replica: Dict[str, str]) -> None:
    program = Path(replica["litestream_program"])
    program.write_text(program.read_text().replace("wal)", "none)"))
    result = drill.drill(host.order(**replica), run=Both(host))
    assert result["ok"] and result["problems"] == []
    assert (result["backup_at"], result["rpo_seconds"]) == (None, None)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda top: (top / "bin" / "replica").unlink(), "reason.litestream.not_restored"),
        (lambda top: (top / "bin" / "litestream").unlink(), "reason.litestream.unusable"),
        (lambda top: os.chown(top / "bin" / "litestream", NOBODY.pw_uid, -1), "reason.litestream.unusable"),
        (lambda top: os.chown(top / "litestream.yml", NOBODY.pw_uid, -1), "reason.litestream.unusable"),
        (lambda top: patch(str(top / "bin" / "replica"), 4096, b"\xff" * 4096), "reason.restore.backup_unusable"),
    ],
)
def test_a_backup_is_used_if_the_replica_cannot_be(
    host: Host, replica: Dict[str, str], spoil: Any, problem: str
) -> None:
    path = host.backup("1")
    spoil(host.top)
    result = drill.drill(host.order(**replica), run=Both(host))
    assert result["ok"] and result["backup"] == path, result["problems"]
    assert host.ids(result) == [problem]


def test_a_replica_of_another_database_is_ignored(host: Host, replica: Dict[str, str]) -> None:
    config = Path(replica["litestream_config"])
    config.write_text(config.read_text().replace("itsm.db", "other.db"))
    path = host.backup("1")
    assert drill.drill(host.order(**replica), run=Both(host))["backup"] == path
    named = drill.drill(host.order(**{**replica, "backup": path}), run=Both(host))
    assert named["backup"] == path


def test_links_of_the_user_lead_root_nowhere(host: Host) -> None:
    """The user has replaced the log folder and the live database with links to root's files."""
    roots = host.top / "roots"
    roots.mkdir(mode=0o700)
    (roots / "itsm.db").write_text("of root")
    (host.top / "app" / "logs").rmdir()
    (host.top / "app" / "logs").symlink_to(roots)
    Path(host.database).unlink()
    Path(host.database).symlink_to(roots / "itsm.db")
    host.backup("1")
    before = host.seen()
    result = host.drill()
    # The service's user is not allowed to enter the folder, so the service cannot write its log.
    assert (
        not result["ok"] and host.ids(result) == ["reason.drill.ended"] and "PermissionError" in result["problems"][0]
    )
    assert host.seen() == before


def test_a_pipe_in_place_of_the_database_does_not_block_a_drill(host: Host) -> None:
    Path(host.database).unlink()
    os.mkfifo(host.database)
    host.backup("1")
    result = host.drill()
    assert result["ok"], result["problems"]


def test_two_drills_do_not_run_at_the_same_time(host: Host) -> None:
    with listing.locked(host.state_dir, run=""), pytest.raises(BackupError, match="Another backup or restore drill"):
        host.drill()


def test_tables_are_known_from_the_listed_backups(host: Host) -> None:
    host.backup("good", age=7200.0)
    listing.write(host.state_dir, [Entry("x", "/gone", rows={"incidents": 1, "users": 1}, verified=True)])
    other = sqlite3.connect(host.backups / "itsm.db.backup_other")
    other.execute("CREATE TABLE posts (id)")
    other.execute("CREATE TABLE tags (id)")
    other.commit()
    other.close()
    result = host.drill()
    assert result["ok"] and result["backup"].endswith("_good")
    assert "it is the database of another service, with the tables posts, tags" in result["problems"][0]


def test_the_network_of_this_process_is_never_asked() -> None:
    assert sandbox.in_network_of(os.getpid(), lambda: "answered", timeout=5) is None
