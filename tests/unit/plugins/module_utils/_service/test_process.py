# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from alarms import alarm
from tcp_ports import free_port

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, sockets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import start_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    desired_state,
    process_signals,
    process_start,
    process_unit,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process

NodeProcessError = service_process.NodeProcessError

SERVER = """
import os, signal, socket, sys, time
if len(sys.argv) > 2 and sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
print("listening", os.environ.get("SECRET"), flush=True)
while True:
    time.sleep(60)
"""

# On SIGTERM, this service starts a second copy of itself and then exits.
HANDS_OVER = SERVER.replace(
    "server = socket",
    """
def hand_over(*_arguments):
    import subprocess
    server.close()
    subprocess.Popen([sys.executable, "-IS", *sys.argv], env={"LAST": "1"})
    os._exit(0)
if "LAST" not in os.environ:
    signal.signal(signal.SIGTERM, hand_over)
server = socket""",
    1,
)


def eventually(condition, *, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("the condition was not met in time")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def service(tmp_path, port):
    """Yield a service that has not been started yet. Kill the service's remaining processes after the test."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "server.py").write_text(SERVER)
    (tmp_path / "log").mkdir()
    environment_file = tmp_path / "env"
    environment_file.write_text("SECRET=hunter2\n")
    environment_file.chmod(0o600)
    yield service_process.Service(
        app_dir=str(app),
        command=[sys.executable, "-IS", "server.py", str(port)],  # The option -IS halves the start time.
        environment_file=str(environment_file),
        log_file=str(tmp_path / "log" / "server.log"),
        pid_file=str(tmp_path / "state" / "server.pid"),
        ports=[port],
    )
    for process in procfs.processes():
        if process.cwd == str(app):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def sleeper(service):
    """Return a service that starts quickly and has no port."""
    return service._replace(command=["sleep", "60"], ports=[])


def variant(service, *words, **changes):
    """Return the service with additional arguments or changed fields."""
    return service._replace(command=[*service.command, *words], **changes)


def listening(port):
    return eventually(lambda: sockets.listeners([port]))


@contextlib.contextmanager
def started(arguments, **more):
    """Start a child process. The process is killed after the block, even if the test fails."""
    with subprocess.Popen(arguments, **more) as child:
        try:
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def by_hand(service):
    """Start the service manually, without a service manager."""
    with started(list(service.command), cwd=service.app_dir) as child:
        listening(service.ports[0])
        yield child


def ensure(service, state, **more):
    return desired_state.ensure(service, state=state, **more)


def alive(pid):
    process = procfs.read_process(pid)
    return process is not None and process.alive


# Starting


def test_a_start_is_announced_only_right_before_it_happens(sleeper):
    starts = []

    def start(state, service=sleeper, **more):
        return ensure(
            service, state, on_start=lambda: starts.append([process.pid for process in procfs.processes()]), **more
        )

    start("started", check_mode=True)
    with pytest.raises(NodeProcessError):
        start("started", service=sleeper._replace(command=["no-such-program"]))
    assert starts == []
    (pid,) = start("started")["pids_after"]
    assert len(starts) == 1 and pid not in starts[0]
    start("started")
    start("stopped")
    assert len(starts) == 1
    start("restarted")
    assert len(starts) == 2


def test_start_then_start_again_then_stop_then_stop_again(sleeper):
    first = ensure(sleeper, "started")
    assert (first["changed"], first["state"], first["pids_before"], len(first["pids_after"])) == (
        True,
        "started",
        [],
        1,
    )
    second = ensure(sleeper, "started")
    assert (second["changed"], second["pids_after"]) == (False, first["pids_after"])
    assert second["started_at"] == first["started_at"]
    third = ensure(sleeper, "stopped")
    assert (third["changed"], third["pids_after"]) == (True, [])
    assert [(entry["pid"], entry["signal"]) for entry in third["stopped"]] == [(first["pids_after"][0], "TERM")]
    assert not os.path.exists(sleeper.pid_file)
    fourth = ensure(sleeper, "stopped")
    assert (fourth["changed"], fourth["stopped"], fourth["started_at"]) == (False, [], None)


def test_restart_starts_another_process_after_the_end_of_the_first(service, port):
    (old,) = ensure(service, "started")["pids_after"]
    listening(port)
    result = ensure(service, "restarted")
    (new,) = result["pids_after"]
    assert result["changed"] and new != old and not alive(old)
    assert listening(port)[0].pids == [new]
    assert result["diff"] == {
        "before": {"state": "started", "pids": [old]},
        "after": {"state": "started", "pids": [new]},
    }


def test_restart_of_a_stopped_service_starts_it(sleeper):
    result = ensure(sleeper, "restarted")
    assert (result["changed"], result["stopped"], len(result["pids_after"])) == (True, [], 1)


@pytest.mark.parametrize("state", ["started", "stopped", "restarted"])
@pytest.mark.parametrize("running", [False, True])
def test_check_mode_reports_and_changes_nothing(sleeper, state, running):
    if running:
        ensure(sleeper, "started")
    before = service_process.find(sleeper)
    told = ensure(sleeper, state, check_mode=True)
    # Ignore the scheduling state of the processes (running or sleeping).
    assert [process._replace(state="S") for process in service_process.find(sleeper)] == [
        process._replace(state="S") for process in before
    ]
    assert os.path.exists(sleeper.pid_file) == running
    assert told["changed"] == ensure(sleeper, state)["changed"]
    assert told["pids_before"] == [process.pid for process in before]


def children():
    """Return the PIDs of this process's children, including zombies, as strings."""
    with open(f"/proc/self/task/{os.getpid()}/children") as stream:
        return set(stream.read().split())


def test_daemon_has_no_parent_and_inherits_nothing(sleeper, monkeypatch):
    monkeypatch.setenv("LEAKED", "from the caller")
    before = children()
    inherited = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        (pid,) = ensure(sleeper, "started")["pids_after"]
    finally:
        os.close(inherited)
        signal.signal(signal.SIGUSR1, ignored)
    process = procfs.read_process(pid)
    assert process.ppid != os.getpid()
    assert os.getsid(pid) not in (os.getsid(0), pid)  # A separate session without a terminal.
    descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert descriptors == {"0": "/dev/null", "1": sleeper.log_file, "2": sleeper.log_file}
    assert process.cwd == sleeper.app_dir
    assert set(procfs.environment(pid)) == {"PATH", "HOME", "LANG", "SECRET"}
    with open(f"/proc/{pid}/status") as stream:
        signals = dict(line.split() for line in stream if line.startswith("Sig") and "/" not in line)
    assert int(signals["SigIgn:"], 16) == 0
    assert int(signals["SigBlk:"], 16) == 0
    assert children() == before


def test_log_is_appended_to(service, port):
    with open(service.log_file, "w") as stream:
        stream.write("before\n")
    ensure(service, "started")
    listening(port)
    ensure(service, "restarted")
    expected = "before\nlistening hunter2\nlistening hunter2\n"
    assert eventually(lambda: Path(service.log_file).read_text() == expected)


def test_pid_file_names_pid_and_start(sleeper):
    (pid,) = ensure(sleeper, "started")["pids_after"]
    with open(sleeper.pid_file) as stream:
        assert stream.read() == f"{pid}\n{procfs.read_process(pid).start_ticks}\n"


def test_program_is_found_in_the_path_of_the_environment_file(tmp_path, service):
    tools = tmp_path / "tools"
    tools.mkdir()
    shutil.copy(shutil.which("sleep"), tools / "mynode")
    named = service._replace(command=["mynode", "60"])
    with pytest.raises(NodeProcessError, match=r"^command: there is no program 'mynode' in /usr/local/sbin:"):
        ensure(named, "started")
    with open(service.environment_file, "a") as stream:
        stream.write(f"PATH={tools}:/usr/bin:/bin\n")
    (pid,) = ensure(named, "started")["pids_after"]
    assert procfs.read_process(pid).exe == str(tools / "mynode")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_service_runs_as_its_user(sleeper):
    with tempfile.TemporaryDirectory() as app_dir:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(app_dir, 0o755)  # noqa: S103
        named = sleeper._replace(user="nobody", app_dir=app_dir)
        (pid,) = ensure(named, "started")["pids_after"]
        try:
            check_identity(pid, log_file=sleeper.log_file)
        finally:
            stopped = ensure(named, "stopped")["stopped"]
    assert [entry["pid"] for entry in stopped] == [pid]


def check_identity(pid, *, log_file):
    with open(f"/proc/{pid}/status") as stream:
        ids = {line.split()[0]: set(line.split()[1:]) for line in stream if line.startswith(("Uid", "Gid", "Groups"))}
    owner = os.stat(log_file)
    assert ids["Uid:"] == {str(owner.st_uid)} and owner.st_uid != 0
    assert ids["Gid:"] == ids["Groups:"] == {str(owner.st_gid)}


# Invalid input is rejected before any change


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"environment_file": "/nowhere/env"}, r"^environment_file: .*/nowhere/env: No such file"),
        ({"environment_file": "/"}, r"^environment_file: .*/: Is a directory"),
        ({"user": "nobody-of-that-name"}, r"^user: there is no user 'nobody-of-that-name'"),
        ({"app_dir": "/nowhere"}, r"^app_dir: '/nowhere' is not a folder"),
        ({"command": ["no-such-node", "x"]}, r"^command: there is no program 'no-such-node'"),
        ({"log_file": "/nowhere/server.log"}, r"^log_file: the folder /nowhere "),
        ({"log_file": "server.log"}, r"^log_file: 'server.log' must be the absolute path of a file"),
        ({"pid_file": "/tmp"}, r"^pid_file: '/tmp' must be the absolute path of a file"),
    ],
)
def test_invalid_parameter_is_named_and_the_running_service_is_not_stopped(sleeper, changes, said):
    (pid,) = ensure(sleeper, "started")["pids_after"]
    bad = sleeper._replace(**changes)
    for check_mode in (True, False):
        with pytest.raises(NodeProcessError, match=said) as failure:
            ensure(bad, "restarted", check_mode=check_mode)
        assert "\n" not in str(failure.value)
    assert alive(pid)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_environment_file_open_to_others_is_refused_without_showing_it(service, mode):
    os.chmod(service.environment_file, mode)
    with pytest.raises(NodeProcessError, match=rf"^environment_file: .* has mode {mode:04o}; .*\(0600\)$") as failure:
        ensure(service, "started")
    assert "hunter2" not in str(failure.value)
    assert not os.path.exists(service.log_file)


@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_log_that_is_not_a_regular_file_is_refused(service, tmp_path, kind):
    (tmp_path / "precious").write_text("precious")
    if kind == "link":
        os.symlink(tmp_path / "precious", service.log_file)
    elif kind == "second name":
        os.link(tmp_path / "precious", service.log_file)
    else:
        os.mkfifo(service.log_file)
    with pytest.raises(NodeProcessError, match=r"^log_file: "):
        ensure(service, "started")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.fixture
def theirs(sleeper):
    """Yield a service of the user "nobody". Its files are in a folder of the same user."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:  # Do not use pytest's own folder, which other users cannot enter.
        os.chmod(folder, 0o755)  # noqa: S103
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        yield sleeper._replace(
            user="nobody", app_dir=folder, environment_file=f"{folder}/.env", log_file=f"{folder}/server.log"
        )


def put(path, *, owner, mode):
    """Write a file that root or "nobody" owns."""
    with open(path, "w") as stream:
        stream.write("SECRET=of-root\n")
    os.chmod(path, mode)
    os.chown(path, pwd.getpwnam(owner).pw_uid, pwd.getpwnam("nobody").pw_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_root_file_that_the_user_renamed_is_not_passed_to_the_service(theirs):
    put(theirs.environment_file, owner="root", mode=0o600)
    with pytest.raises(NodeProcessError, match=r"^environment_file: .*/\.env as nobody: permission denied") as failure:
        ensure(theirs, "started")
    assert "of-root" not in str(failure.value)
    os.chown(theirs.environment_file, pwd.getpwnam("nobody").pw_uid, 0)
    assert process_start.prepare(theirs).environment["SECRET"] == "of-root"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(
    ("owner", "mode", "accepted"),
    [
        ("nobody", 0o640, True),
        ("nobody", 0o440, True),
        ("root", 0o660, True),
        ("root", 0o640, True),
        ("root", 0o600, False),
        ("daemon", 0o644, False),
    ],
)
def test_a_log_that_the_user_renamed_is_not_appended_to(theirs, owner, mode, accepted):
    put(theirs.log_file, owner=owner, mode=mode)
    account = pwd.getpwnam("nobody")
    if accepted:
        os.close(process_start._open_log(theirs.log_file, account=account))
        return
    with pytest.raises(
        NodeProcessError, match=rf"^log_file: .*/server.log is owned by {owner}, and nobody may not write"
    ):
        process_start._open_log(theirs.log_file, account=account)
    os.chown(theirs.app_dir, 0, 0)
    os.close(process_start._open_log(theirs.log_file, account=account))


def test_program_that_cannot_run_is_reported(service, tmp_path):
    script = tmp_path / "broken"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(NodeProcessError, match=r"^Cannot start .*broken.*: No such file or directory"):
        ensure(service._replace(command=[str(script)]), "started")
    assert not os.path.exists(service.pid_file)


# Stopping


def test_suspended_process_is_continued_and_ends_by_term(service, port):
    (pid,) = ensure(service, "started")["pids_after"]
    listening(port)
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: procfs.read_process(pid).state == "T")
    (entry,) = ensure(service, "stopped", stop_timeout=10)["stopped"]
    assert entry["signal"] == "TERM" and entry["seconds"] < 2 and not alive(pid)


def test_process_that_ignores_term_is_killed_after_the_timeout(service, port):
    stubborn = variant(service, "stubborn")
    (pid,) = ensure(stubborn, "started")["pids_after"]
    listening(port)
    (entry,) = ensure(stubborn, "stopped", stop_timeout=0.3)["stopped"]
    assert entry["signal"] == "KILL" and 0.3 <= entry["seconds"] < 2 and not alive(pid)


def test_manually_started_process_is_found_by_its_port(service):
    with by_hand(service) as child:
        assert ensure(service, "started")["changed"] is False
        assert ensure(service, "stopped")["stopped"][0]["pid"] == child.pid


def test_process_that_hands_over_while_it_ends_is_followed(service, port):
    with open(os.path.join(service.app_dir, "server.py"), "w") as stream:
        stream.write(HANDS_OVER)
    (first,) = ensure(service, "started")["pids_after"]
    listening(port)
    stopped = [entry["pid"] for entry in ensure(service, "stopped")["stopped"]]
    assert len(stopped) == 2 and stopped[0] == first
    assert not any(alive(pid) for pid in stopped)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("serves", [False, True])
def test_same_command_of_another_user_is_ours_only_on_our_port(service, sleeper, serves):
    def become() -> None:
        os.setuid(pwd.getpwnam("nobody").pw_uid)

    asked = sleeper
    arguments = list(sleeper.command)
    inherited = ()
    with socket.socket() as listener:
        if serves:
            listener.bind(("127.0.0.1", service.ports[0]))
            listener.listen()
            asked = sleeper._replace(ports=service.ports)
            inherited = (listener.fileno(),)
        other = subprocess.Popen(  # The argument user= was added in Python 3.9.
            arguments,
            cwd=sleeper.app_dir,
            pass_fds=inherited,
            preexec_fn=become,  # noqa: PLW1509
        )
    try:
        eventually(lambda: procfs.read_process(other.pid).argv == arguments)
        stopped = ensure(asked, "stopped")["stopped"]
        assert [entry["pid"] for entry in stopped] == ([other.pid] if serves else [])
    finally:
        other.kill()
        other.wait()


def test_pid_file_proves_a_process_that_changed_its_title(service):
    # The process's arguments differ from the service's command, but its PID, start time, program and folder match.
    child = subprocess.Popen(["sleep", "61"], cwd=service.app_dir)
    titled = service._replace(command=["sleep", "60"])
    os.makedirs(os.path.dirname(service.pid_file))
    with open(service.pid_file, "w") as stream:
        stream.write(f"{child.pid}\n{procfs.read_process(child.pid).start_ticks}\n")
    assert ensure(titled, "stopped")["stopped"][0]["pid"] == child.pid
    child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("writable", ["file", "folder", "mode"])
def test_a_pid_file_of_the_user_does_not_prove_a_process_of_another_account(sleeper, writable):
    """The service's user could use the PID of any process that runs the same program in a folder with the same path."""
    os.makedirs(os.path.dirname(sleeper.pid_file))
    asked = sleeper._replace(user="nobody", command=["sleep", "61"])
    with started(["sleep", "60"], cwd=sleeper.app_dir) as theirs:  # runs as root
        with open(sleeper.pid_file, "w") as stream:
            stream.write(f"{theirs.pid}\n{procfs.read_process(theirs.pid).start_ticks}\n")
        assert [process.pid for process in service_process.find(asked)] == [theirs.pid]
        if writable == "mode":
            os.chmod(sleeper.pid_file, 0o666)  # noqa: S103
        else:
            path = sleeper.pid_file if writable == "file" else os.path.dirname(sleeper.pid_file)
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        assert service_process.find(asked) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("linked", [True, False])
def test_the_pid_file_is_written_with_the_rights_of_a_user_who_could_replace_its_folder(theirs, tmp_path, linked):
    folder = f"{theirs.app_dir}/run"
    if linked:
        (tmp_path / "run.pid").write_text("root's")
        os.symlink(tmp_path, folder)
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1, follow_symlinks=False)
    service = theirs._replace(pid_file=f"{folder}/run.pid", environment_file="")
    (pid,) = ensure(service, "started")["pids_after"]
    with open(service.pid_file) as stream:
        written, owner = stream.read(), os.fstat(stream.fileno()).st_uid
    ensure(service, "stopped")
    if linked:
        assert (tmp_path / "run.pid").read_text() == written == "root's"
    else:
        assert (written.splitlines()[0], owner) == (str(pid), pwd.getpwnam("nobody").pw_uid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_user_who_stops_the_child_before_the_program_starts_delays_nothing(sleeper, monkeypatch):
    """After the child has switched to the service's user, this user may send signals to the child."""
    become = safe_open.become

    def become_and_stop(*arguments, **options):
        become(*arguments, **options)
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(safe_open, "become", become_and_stop)
    monkeypatch.setattr(process_start, "_STARTS_WITHIN", 0.5)
    with alarm(10), pytest.raises(NodeProcessError, match="no program after"):
        ensure(sleeper._replace(user="nobody"), "started")


@pytest.mark.parametrize("case", ["reused pid", "another folder", "another program", "no start", "nonsense"])
def test_process_that_a_stale_pid_file_names_is_never_signalled(sleeper, tmp_path, case):
    folder = str(tmp_path) if case == "another folder" else sleeper.app_dir
    program = "tail" if case == "another program" else "sleep"
    arguments = ["-f", "/dev/null"] if case == "another program" else ["61"]
    with started([program, *arguments], cwd=folder) as innocent:
        ticks = procfs.read_process(innocent.pid).start_ticks + (case == "reused pid")
        content = {"no start": f"{innocent.pid}\n", "nonsense": "pid\nstart\n"}.get(case, f"{innocent.pid}\n{ticks}\n")
        os.makedirs(os.path.dirname(sleeper.pid_file))
        with open(sleeper.pid_file, "w") as stream:
            stream.write(content)
        assert ensure(sleeper, "stopped")["changed"] is False
        assert ensure(sleeper, "started")["pids_before"] == []
        assert ensure(sleeper, "stopped")["changed"]
        assert innocent.poll() is None


def test_client_of_the_port_is_not_stopped(service, port):
    ensure(service, "started")
    listening(port)
    script = (
        f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); time.sleep(60)"
    )
    with started([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=service.app_dir) as client:
        client.stdout.readline()
        result = ensure(service, "stopped")
        assert result["changed"] and result["foreign"] == [] and client.poll() is None


def test_foreign_listener_is_named_not_stopped_and_prevents_a_start(service, port):
    script = (
        "import socket, time; s = socket.socket(); "
        f"s.bind(('127.0.0.1', {port})); s.listen(); print(flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", script]
    with started(arguments, stdout=subprocess.PIPE, cwd=service.app_dir) as other:
        other.stdout.readline()
        result = ensure(service, "stopped")
        assert (result["changed"], result["stopped"]) == (False, [])
        me = service_process.user_name(os.geteuid())
        assert result["foreign"] == [{"pid": other.pid, "port": port, "command": sys.executable, "user": me}]
        for state in ("started", "restarted"):
            with pytest.raises(
                NodeProcessError, match=rf"port {port} by pid {other.pid} \({sys.executable}, user {me}\)"
            ):
                ensure(service, state)
        assert other.poll() is None and not os.path.exists(service.log_file)


@pytest.mark.parametrize(("command", "pids"), [(["sleep", "60"], 2), (["sh", "-c", "sleep 60; true"], 3)])
def test_descendant_that_shares_our_port_is_not_foreign(service, tmp_path, port, command, pids):
    (tmp_path / "app" / "server.py").write_text(
        SERVER.replace(
            "print(",
            "import subprocess; os.set_inheritable(server.fileno(), True); "
            f"subprocess.Popen({command}, close_fds=False); print(",
        )
    )
    ensure(service, "started")
    eventually(lambda: len(listening(port)[0].pids) == pids)
    assert ensure(service, "started")["foreign"] == []


def test_process_that_others_restart_is_given_up_and_named(service, port, monkeypatch):
    look = service_process.find
    monkeypatch.setattr(service_process, "find", lambda *args, **more: eventually(lambda: look(*args, **more)))
    keeper = "import subprocess, sys\nwhile True: subprocess.run(sys.argv[1:])"
    with started([sys.executable, "-c", keeper, *service.command], cwd=service.app_dir) as supervisor:
        listening(port)
        with pytest.raises(
            NodeProcessError, match=rf"restarted 3 times.* pid {supervisor.pid}, seems to be restarting it"
        ):
            ensure(service, "stopped")


def test_signal_without_permission_is_reported(sleeper, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    (pid,) = ensure(sleeper, "started")["pids_after"]
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", refuse, raising=False)
        patch.setattr(os, "kill", refuse)
        with pytest.raises(
            NodeProcessError, match=rf"^Cannot send SIGTERM to pid {pid} of user .*: Operation not permitted"
        ):
            ensure(sleeper, "stopped")


def test_without_pidfd_the_signal_still_arrives(sleeper, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    (pid,) = ensure(sleeper, "started")["pids_after"]
    assert ensure(sleeper, "stopped")["stopped"][0]["signal"] == "TERM" and not alive(pid)


def test_no_signal_is_sent_to_the_pid_of_an_ended_process(monkeypatch):
    with started(["sleep", "60"]) as child:
        process = procfs.read_process(child.pid)
        stale = process._replace(start_ticks=process.start_ticks - 1)
        assert process_signals.stop_processes([stale], timeout=0.1)[0]["signal"] == "TERM"
        assert child.poll() is None


# Under systemd, with a fake systemctl


class Systemd:
    """A fake systemctl for one unit. It records all calls. After a call, the unit has the properties in `after`."""

    def __init__(self, before, after=None, *, fails=None):
        self.properties = before
        self.after = after or before
        self.fails = fails or {}
        self.calls = []
        self.timeouts = {}

    def __call__(self, argv, *, timeout, **_more):
        assert argv[0] == "systemctl" and argv[-2:] == ["--", "itsm-system"]
        if argv[1] == "show":
            return self.answer(argv, stdout="".join(f"{name}={value}\n" for name, value in self.properties.items()))
        verb = argv[2]
        self.calls.append(verb)
        self.timeouts[verb] = timeout
        if verb in self.fails:
            return self.answer(argv, **self.fails[verb])
        if verb != "reset-failed":
            self.properties = self.after
        return self.answer(argv)

    @staticmethod
    def answer(argv, *, rc=0, stdout="", stderr=""):
        return commands.Completed(argv=argv, rc=rc, stdout=stdout, stderr=stderr, duration=0.0)


def unit(active="active", sub="running", pid=0, **more):
    return {
        "LoadState": "loaded",
        "ActiveState": active,
        "SubState": sub,
        "Result": "success",
        "ExecMainStatus": "0",
        "MainPID": str(pid),
        "NRestarts": "0",
        "ControlGroup": "",
        "TimeoutStopUSec": "45s",
        "TimeoutStartUSec": "1min 30s",
        **more,
    }


DEAD = unit("inactive", "dead")
WAITING = unit("activating", "auto-restart", Result="signal")


@pytest.fixture
def managed(service):
    return service._replace(manager="systemd", unit="itsm-system", environment_file="", log_file="", pid_file="")


@pytest.mark.parametrize(
    ("state", "before", "after", "calls"),
    [
        ("started", unit(), unit(), []),
        ("started", DEAD, unit(), ["reset-failed", "start"]),
        ("started", WAITING, unit(), ["reset-failed", "start"]),
        ("started", unit("failed", "failed"), unit(), ["reset-failed", "start"]),
        ("restarted", unit(), unit(), ["reset-failed", "restart"]),
        ("restarted", WAITING, unit(), ["reset-failed", "restart"]),
        ("stopped", unit(), DEAD, ["stop"]),
        ("stopped", WAITING, DEAD, ["stop"]),
        ("stopped", DEAD, DEAD, []),
        ("stopped", unit("failed", "failed"), DEAD, []),
    ],
)
def test_unit(managed, state, before, after, calls):
    told = ensure(managed, state, check_mode=True, run=Systemd(before, after))
    systemd = Systemd(before, after)
    result = ensure(managed, state, run=systemd)
    assert systemd.calls == calls
    assert result["changed"] == told["changed"] == bool(calls)
    assert result["state"] == ("stopped" if state == "stopped" else "started")


def test_unit_that_systemd_has_unloaded_is_started(managed):
    systemd = Systemd(DEAD, unit(), fails={"reset-failed": {"rc": 1, "stderr": "Unit itsm-system.service not loaded."}})
    assert ensure(managed, "started", run=systemd)["changed"]
    assert systemd.calls == ["reset-failed", "start"]


def test_unit_in_check_mode_is_only_read(managed):
    systemd = Systemd(unit())
    ensure(managed, "restarted", check_mode=True, run=systemd)
    assert systemd.calls == []


def test_main_process_of_the_unit_is_reported(managed):
    with started(["sleep", "60"]) as old, started(["sleep", "60"]) as new:
        result = ensure(managed, "restarted", run=Systemd(unit(pid=old.pid), unit(pid=new.pid)))
        assert (result["pids_before"], result["pids_after"]) == ([old.pid], [new.pid])
        assert [(entry["pid"], entry["signal"]) for entry in result["stopped"]] == [(old.pid, "systemd")]
        assert result["started_at"] == procfs.read_process(new.pid).started_at
        assert old.poll() is None  # Only systemd may stop this process.


def test_timeouts_follow_those_of_the_unit(managed):
    systemd = Systemd(unit(), DEAD)
    ensure(managed, "stopped", run=systemd)
    assert systemd.timeouts["stop"] == 55
    systemd = Systemd(unit(TimeoutStopUSec="infinity", TimeoutStartUSec="infinity"))
    ensure(managed, "restarted", stop_timeout=7, run=systemd)
    assert systemd.timeouts["restart"] == 7 + 90 + 10


@pytest.mark.parametrize(("state", "verb"), [("started", "start"), ("restarted", "restart"), ("stopped", "stop")])
def test_process_outside_the_unit_is_stopped(managed, state, verb):
    with by_hand(managed) as stray:
        order = []

        class Ordered(Systemd):
            def __call__(self, argv, **more):
                if argv[1] != "show":
                    order.append((argv[2], alive(stray.pid)))
                return super().__call__(argv, **more)

        before = DEAD if state == "started" else unit()
        result = ensure(managed, state, run=Ordered(before, DEAD if state == "stopped" else unit()))
        assert result["pids_before"] == [stray.pid]
        assert [(entry["pid"], entry["signal"]) for entry in result["stopped"]] == [(stray.pid, "TERM")]
        assert (verb, state == "stopped") in order  # A stray process is stopped before a start or after a stop.
        assert stray.wait(5) == -signal.SIGTERM


def test_workers_of_the_unit_belong_to_it(managed):
    with by_hand(managed) as worker:
        group = procfs.control_groups(worker.pid)[0].rpartition("/")[0]
        group = group or procfs.control_groups(worker.pid)[0]
        result = ensure(managed, "restarted", run=Systemd(unit(ControlGroup=group)))
        assert (result["stopped"], result["foreign"], worker.poll()) == ([], [], None)


@pytest.mark.parametrize(
    ("load_state", "said"),
    [
        ("not-found", r"^unit: this host has no unit 'itsm-system'$"),
        ("masked", r"^unit: 'itsm-system' must be a loaded unit; it is masked$"),
    ],
)
def test_unit_that_is_not_loaded_is_named(managed, load_state, said):
    with pytest.raises(NodeProcessError, match=said):
        ensure(managed, "restarted", run=Systemd({**DEAD, "LoadState": load_state}))


def test_failed_start_job_gives_the_reason_and_the_place_to_look(managed):
    broken = unit("failed", "failed", Result="exit-code", ExecMainStatus="203")
    fails = {"restart": {"rc": 1, "stderr": "Job for itsm-system.service failed.\nSee more\n"}}
    with pytest.raises(NodeProcessError) as failure:
        ensure(managed, "restarted", run=Systemd(broken, fails=fails))
    assert str(failure.value) == (
        "Cannot restart unit itsm-system: Job for itsm-system.service failed. "
        "(ActiveState=failed Result=exit-code ExecMainStatus=203); see journalctl -u itsm-system"
    )


@pytest.mark.parametrize(
    "after",
    [unit("failed", "failed", Result="exit-code", ExecMainStatus="1"), WAITING, DEAD, unit(pid=2**22 + 1)],
)
def test_unit_that_does_not_stay_up_is_an_error(managed, after):
    with pytest.raises(
        NodeProcessError, match=r"^Unit itsm-system did not stay up: it exited immediately \(ActiveState="
    ):
        ensure(managed, "started", run=Systemd(DEAD, after))


def test_a_start_that_the_guard_refuses_is_an_error_with_its_reason(managed, monkeypatch):
    refusal = start_guard.Refusal("wal_missing", "itsm.db-wal is missing", of_data=True)
    monkeypatch.setattr(process_unit.start_guard, "verdict", lambda unit, run: refusal)
    with pytest.raises(process_unit.StartSkippedError, match=r"to start: itsm.db-wal is missing") as failure:
        ensure(managed, "restarted", run=Systemd(unit(), DEAD))
    assert failure.value.refusal == "itsm.db-wal is missing"


def test_a_start_that_another_condition_prevents_says_nothing_about_the_data(managed):
    skipped = unit("inactive", "dead", Result="exec-condition")
    with pytest.raises(process_unit.StartSkippedError, match=r"a condition \(ExecCondition=\) is not met") as failure:
        ensure(managed, "started", run=Systemd(DEAD, skipped))
    assert failure.value.refusal == ""


def test_endless_job_has_a_time_limit(managed):
    with pytest.raises(NodeProcessError, match=r"^Cannot stop unit itsm-system: it did not finish within 55 s"):
        ensure(managed, "stopped", run=Systemd(unit(), fails={"stop": {"rc": None}}))


def test_systemd_that_does_not_answer_is_an_error(managed):
    def run(argv, *, timeout, **_more):
        return Systemd.answer(argv, rc=1, stderr="System has not been booted with systemd")

    with pytest.raises(NodeProcessError, match="Cannot query systemd about unit 'itsm-system': System has not"):
        ensure(managed, "stopped", run=run)


def test_log_is_not_readable_by_others(sleeper):
    ensure(sleeper, "started")
    assert stat.S_IMODE(os.stat(sleeper.log_file).st_mode) == 0o640


@pytest.mark.parametrize("exists", [True, False], ids=["empty", "missing"])
def test_nothing_is_started_on_a_database_that_is_only_in_its_wal(tmp_path, exists):
    (tmp_path / "itsm.db-wal").write_bytes(b"rows")
    if exists:
        (tmp_path / "itsm.db").touch()
    service = service_process.Service(
        app_dir=str(tmp_path),
        command=["node", "server.js"],
        db_path="itsm.db",
        log_file=str(tmp_path / "log"),
        pid_file=str(tmp_path / "pid"),
    )
    for state in ("started", "restarted"):
        with pytest.raises(service_process.NodeProcessError, match="not started"):
            desired_state.ensure(service, state=state)


@pytest.mark.parametrize("state", ["stopped", "restarted"])
def test_a_process_with_the_only_copy_of_the_database_open_is_not_stopped(service, state):
    holder = service._replace(command=["tail", "-f", "itsm.db"], ports=[], db_path="itsm.db")
    database = Path(service.app_dir) / "itsm.db"
    database.write_bytes(b"every row")
    (pid,) = ensure(holder, "started")["pids_after"]
    deadline = time.monotonic() + 10
    while str(database) not in [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    database.unlink()
    with pytest.raises(service_process.NodeProcessError, match=f"process {pid} has the only copy"):
        ensure(holder, state)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
