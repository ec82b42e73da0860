# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes that are stopped, and those that are not stopped. All processes are real."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process_stop
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process_stop import (
    Policy,
    ProcessStopError,
    Wanted,
)

ME = pwd.getpwuid(os.geteuid()).pw_name
SERVER = """
import signal, socket, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
while True:
    time.sleep(60)
"""
WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("ready", flush=True)
time.sleep(60)
"""


def eventually(condition, *, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def service(tmp_path, port):
    app = tmp_path / "app"
    app.mkdir()
    (app / "server.py").write_text(SERVER)
    # Give the service its own executable, like node. Otherwise, every Python process would count as the service.
    shutil.copy(sys.executable, tmp_path / "node")
    return service_process.Service(
        app_dir=str(app),
        command=[str(tmp_path / "node"), "-IS", "server.py", str(port)],
        manager="process",
        pid_file=str(tmp_path / "service.pid"),
        ports=[port],
    )


@contextlib.contextmanager
def running(*arguments, **more):
    with subprocess.Popen([str(argument) for argument in arguments], **more) as child:
        try:
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def listening(service, *, cwd=None, program=None, words=()):
    """Yield a process that listens on the service's port. By default, the process runs in the service's folder."""
    script = str(Path(service.app_dir) / "server.py") if cwd else "server.py"
    arguments = [program or service.command[0], "-IS", script, *service.command[3:], *words]
    with running(*arguments, cwd=cwd or service.app_dir) as child:
        eventually(lambda: any(child.pid in found.pids for found in sockets.listeners(service.ports)))
        yield child


def wanted(child, port=None) -> Wanted:
    return Wanted(pid=child.pid, start_ticks=procfs.read_process(child.pid).start_ticks, port=port)


def stop(service, *processes, **more):
    return process_stop.stop(service, processes=list(processes), **{"timeout": 5.0, **more})


def why(result) -> str:
    assert (result["changed"], result["stopped"]) == (False, [])
    return result["left"][0]["reason"]


# Processes that are stopped


def test_a_stale_process_of_this_app_is_stopped_and_its_port_is_free(service, port):
    with listening(service) as child:
        named = wanted(child, port)
        result = stop(service, named)
        assert child.wait(timeout=5) == -signal.SIGTERM
        entry = result["stopped"][0]
        assert (entry["pid"], entry["user"], entry["signal"]) == (child.pid, ME, "TERM")
        assert result["changed"] and result["left"] == result["remaining"] == []
        assert result["diff"]["before"] == f"pid {child.pid} of {ME}: {entry['command']}\n"
        assert sockets.listeners([port]) == []
        again = stop(service, named)
        assert (again["changed"], again["gone"]) == (False, [child.pid])


def test_another_program_in_the_folder_of_the_app_belongs_to_it(service, tmp_path):
    with running(service.command[0], "-c", "import time; time.sleep(60)", cwd=service.app_dir) as child:
        # Wait for the arguments. A process that is just starting has no arguments yet, so it looks like a kernel
        # thread.
        eventually(lambda: procfs.read_process(child.pid).argv)
        assert stop(service, wanted(child))["changed"]
        assert child.wait(timeout=5) == -signal.SIGTERM


def test_a_suspended_process_is_continued_before_it_ends(service, port):
    with listening(service) as child:
        os.kill(child.pid, signal.SIGSTOP)
        result = stop(service, wanted(child, port))
        assert child.wait(timeout=5) == -signal.SIGTERM
        assert result["stopped"][0]["signal"] == "TERM"


def test_a_process_that_does_not_end_is_killed(service, port):
    with listening(service, words=["stubborn"]) as child:
        result = stop(service, wanted(child, port), timeout=0.2)
        assert child.wait(timeout=5) == -signal.SIGKILL
        assert result["stopped"][0]["signal"] == "KILL"


def test_check_mode_reports_and_stops_nothing(service, port):
    with listening(service) as child:
        result = stop(service, wanted(child, port), check_mode=True)
        assert (result["changed"], result["stopped"][0]["pid"]) == (True, child.pid)
        assert result["stopped"][0]["signal"] is None
        assert child.poll() is None
        assert sockets.listeners([port])


@pytest.mark.parametrize(
    ("command", "port_of_policy", "stopped"),
    [
        (r"\S+ -IS \S+server.py \d+", None, True),
        (r"\S+ -IS \S+server.py \d+", "same", True),
        (r"\S+ -IS \S+server.py \d+", 1, False),
        (r"server.py", None, False),  # The pattern must match the whole command line.
        (r"\S+ -IS \S+other.py \d+", None, False),
    ],
)
def test_a_foreign_process_is_stopped_only_if_a_policy_names_it(service, port, command, port_of_policy, stopped):
    row = Policy(user=ME, command=command, port=port if port_of_policy == "same" else port_of_policy)
    with listening(service, cwd=Path(service.app_dir).parent, program=sys.executable) as child:
        assert (
            why(stop(service, wanted(child, port))) == "it does not belong to this application, and no policy lists it"
        )
        result = stop(service, wanted(child, port), policies=[row])
        assert result["changed"] == stopped == (sockets.listeners([port]) == [])
        assert result["remaining"] == ([] if stopped else [{**told(child), "port": port}])


def told(child) -> dict:
    process = procfs.read_process(child.pid)
    return {"pid": child.pid, "user": ME, "command": process.command}


def test_a_policy_for_another_user_does_not_match(service, port, tmp_path):
    with listening(service, cwd=tmp_path, program=sys.executable) as child:
        for user in ("nobody", "no-such-user"):
            result = stop(service, wanted(child, port), policies=[Policy(user=user, command=".*")])
            assert why(result) == "it does not belong to this application, and no policy lists it"
        assert child.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_program_of_the_service_run_by_another_user_is_not_of_this_app(service, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    become = commands.drop_to("nobody")
    script = "import time; time.sleep(60)"
    with running(service.command[0], "-IS", "-c", script, cwd=service.app_dir, preexec_fn=become) as child:
        eventually(lambda: procfs.read_process(child.pid).exe == service.command[0])
        assert why(stop(service, wanted(child))) == "it does not belong to this application, and no policy lists it"


# Processes that are not stopped


def test_another_process_with_the_same_pid_is_not_stopped(service, port):
    with listening(service) as child:
        other = wanted(child, port)._replace(start_ticks=wanted(child).start_ticks - 1)
        assert why(stop(service, other)) == "another process has this pid now"
        assert child.poll() is None


def test_a_process_that_released_the_port_is_not_stopped(service, port):
    with listening(service) as child:
        assert why(stop(service, wanted(child, port + 1 if port < 65535 else 1))).startswith("it no longer listens")
        assert child.poll() is None


def test_the_service_itself_is_not_stopped_if_the_pid_file_names_it(service, port):
    with listening(service) as child:
        start = wanted(child).start_ticks
        Path(service.pid_file).write_text(f"{child.pid}\n{start}\n")
        result = stop(service, wanted(child, port), policies=[Policy(user=ME, command=".*")])
        assert why(result) == "it is the service itself, which is restarted instead"
        assert child.poll() is None
        Path(service.pid_file).write_text(f"{child.pid}\n{start - 1}\n")
        assert stop(service, wanted(child, port))["changed"]


@pytest.mark.parametrize(
    ("group", "left"),
    [("/system.slice/itsm.service", True), ("/system.slice", True), ("/system.slice/itsm", False), ("", False)],
)
def test_the_service_itself_is_not_stopped_if_it_runs_in_the_unit(service, port, monkeypatch, group, left):
    service = service._replace(manager="systemd", unit="itsm")

    def systemctl(argv, **_more):
        assert argv[-1] == "itsm"
        return commands.Completed(argv=argv, rc=0, stdout=f"ControlGroup={group}\n", stderr="", duration=0)

    monkeypatch.setattr(procfs, "control_groups", lambda pid, proc_root: ["/", "/system.slice/itsm.service"])
    with listening(service) as child:
        result = stop(service, wanted(child, port), run=systemctl)
        assert result["changed"] != left
        if left:
            assert why(result) == "it is the service itself, which is restarted instead"


def test_our_ancestors_and_the_init_process_are_not_stopped(service):
    policy = [Policy(user=ME, command=".*"), Policy(user="root", command=".*")]
    for pid in (os.getpid(), os.getppid(), 1):
        process = procfs.read_process(pid)
        result = stop(service, Wanted(pid=pid, start_ticks=process.start_ticks), policies=policy, check_mode=True)
        assert why(result) == "it is a system process, or part of this connection"


# Locks


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "itsm.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
    return path


@contextlib.contextmanager
def in_database(service, path, statement):
    with running(
        service.command[0], "-IS", "-c", WRITER, path, statement, cwd=service.app_dir, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        yield child


def test_only_the_process_that_locks_the_database_is_stopped(service, database):
    with in_database(service, database, "SELECT * FROM t") as reader, in_database(
        service, database, "BEGIN IMMEDIATE"
    ) as writer:
        result = stop(service, wanted(reader), wanted(writer), db_path=str(database))
        assert [entry["pid"] for entry in result["stopped"]] == [writer.pid]
        assert [(entry["pid"], entry["reason"]) for entry in result["left"]] == [
            (reader.pid, "it no longer locks the database")
        ]
        assert result["remaining"] == []
        with contextlib.closing(sqlite3.connect(database, timeout=0.1)) as connection:
            connection.execute("BEGIN IMMEDIATE")


def test_a_foreign_writer_is_reported_and_not_stopped(service, database, tmp_path):
    with in_database(service._replace(app_dir=str(tmp_path)), database, "BEGIN IMMEDIATE") as writer:
        result = stop(service, wanted(writer), db_path=str(database))
        assert why(result) == "it does not belong to this application, and no policy lists it"
        assert result["remaining"] == [{**told(writer), "port": None}]


def test_a_migration_is_left_running_unless_policy_names_it(service, database):
    argv = [service.command[0], "-IS", "-c", WRITER, str(database), "BEGIN IMMEDIATE", "node_modules/.bin/knex"]
    line = [*argv, "migrate:latest"]
    with running(*line, cwd=service.app_dir, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        assert why(stop(service, wanted(child), db_path=str(database))).startswith("it may be migrating the database")
        named = Policy(user=ME, command=re.escape(" ".join(line)))
        result = stop(service, wanted(child), db_path=str(database), policies=[named])
        assert [entry["pid"] for entry in result["stopped"]] == [child.pid]


# Parameters that are rejected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"policies": [Policy(user="", command="x")]}, "policy: each entry must contain a user and a command"),
        ({"policies": [Policy(user=ME, command="")]}, "policy: each entry must contain a user and a command"),
        ({"policies": [Policy(user=ME, command="(")]}, "policy: command '(' is not a regular expression"),
        ({"policies": [Policy(user="no-such-user", command="(")]}, "policy: command '(' is not a regular expression"),
        ({"timeout": 0}, "timeout is 0: must be more than 0 seconds"),
        ({"db_path": "relative"}, "db_path: path must be an absolute path"),
    ],
)
def test_invalid_parameters(service, more, message):
    with pytest.raises(ProcessStopError) as caught:
        stop(service, **more)
    assert message in str(caught.value)


def test_no_argument_of_a_process_is_shown(service, port, tmp_path):
    with listening(service, cwd=tmp_path, program=sys.executable, words=["--password", "CANARY"]) as child:
        assert "CANARY" not in str(stop(service, wanted(child, port)))
