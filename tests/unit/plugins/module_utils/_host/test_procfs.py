# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

COMMAND = ["node", "backend/server.js"]


class FakeProc:
    """A fake /proc folder, for states that tests cannot reproduce reliably with real processes."""

    def __init__(self, root):
        self.root = root
        (root / "net").mkdir(parents=True)
        self.sockets("tcp", [])

    def process(self, pid, *, comm="node", argv=(), exe="/usr/bin/node", cwd="/app", uid=990, state="S", ticks=100):
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        fields = [state, "1", *["0"] * 17, str(ticks), "0", "0"]
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
        (folder / "status").write_text(f"Name:\t{comm}\nUid:\t0\t{uid}\t0\t0\n")
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in argv))
        for name, target in (("exe", exe), ("cwd", cwd)):
            if target:
                (folder / name).symlink_to(target)
        return folder

    def sockets(self, name, lines):
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        rows = [
            f"   {at}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 100 0\n"
            for at, (local, remote, state, uid, inode) in enumerate(lines)
        ]
        (self.root / "net" / name).write_text(head + "".join(rows))


def settled(child):
    """Wait until the arguments and environment of a child process are readable. Return the child."""
    while not procfs.environment(child.pid):
        time.sleep(0.001)
    return child


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def sleeper(tmp_path):
    child = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    yield child
    child.kill()
    child.wait()


def read(proc, pid):
    return procfs.read_process(pid, proc_root=str(proc.root))


def test_own_process_is_read_correctly():
    me = procfs.read_process(os.getpid())
    assert (me.pid, me.ppid, me.uid, me.alive) == (os.getpid(), os.getppid(), os.geteuid(), True)
    assert me.exe == os.path.realpath(sys.executable)
    assert me.cwd == os.getcwd()
    with open("/proc/self/cmdline") as stream:
        assert "\0".join(me.argv) + "\0" == stream.read()


def test_start_time_of_a_process_is_exact_to_the_tick(sleeper):
    process = procfs.read_process(sleeper.pid)
    assert abs(timestamps.epoch(process.started_at) - time.time()) < 2
    assert process.start_ticks > procfs.read_process(1).start_ticks


@pytest.mark.parametrize("comm", ["a) S 1", "((", "two words", ") R 7 7 7", "))))"])
def test_name_with_parentheses_and_spaces_does_not_shift_the_fields(proc, comm):
    proc.process(7, comm=comm, argv=["x"], state="T", ticks=4242)
    process = read(proc, 7)
    assert (process.state, process.ppid, process.start_ticks, process.uid) == ("T", 1, 4242, 990)


def test_a_process_name_cannot_fake_another_user(proc):
    proc.process(5, comm="a\rUid:\t0\t0\t0", uid=990)
    assert procfs.read_process(5, proc_root=str(proc.root)).uid == 990


def test_deleted_executable_and_folder_keep_their_names(proc):
    proc.process(7, argv=COMMAND, exe="/usr/bin/node (deleted)", cwd="/app (deleted)")
    assert (read(proc, 7).exe, read(proc, 7).cwd) == ("/usr/bin/node", "/app")


def test_an_unreadable_field_is_none(proc):
    proc.process(7, argv=COMMAND, exe=None, cwd=None)
    assert (read(proc, 7).exe, read(proc, 7).cwd) == (None, None)


@pytest.mark.parametrize(
    ("raw", "argv"),
    [
        (b"node\0server.js\0", ["node", "server.js"]),
        (b"node\0\0", ["node", ""]),
        (b"", []),
        (b"itsm server", ["itsm server"]),  # a process that sets its own title
        (b"node\0caf\xe9.js\0", ["node", "caf\ufffd.js"]),
    ],
)
def test_arguments(proc, raw, argv):
    folder = proc.process(7)
    (folder / "cmdline").write_bytes(raw)
    assert read(proc, 7).argv == argv


def test_missing_and_half_vanished_processes_are_none(proc):
    assert read(proc, 8) is None
    for name in ("stat", "status", "cmdline"):
        folder = proc.process(9, argv=["x"])
        (folder / name).unlink()
        assert read(proc, 9) is None
        for entry in sorted(folder.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        folder.rmdir()


def test_a_truncated_file_is_none(proc):
    folder = proc.process(7)
    (folder / "stat").write_text("7 (node) S 1\n")
    assert read(proc, 7) is None


def test_zombie_is_not_alive(tmp_path):
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    process = procfs.read_process(child.pid)
    assert (process.state, process.alive, procfs.still_there(process)) == ("Z", False, False)
    child.wait()
    assert procfs.read_process(child.pid) is None


def test_a_reused_pid_is_a_different_process(proc):
    proc.process(7, argv=["x"], ticks=100)
    process = read(proc, 7)
    assert procfs.still_there(process, proc_root=str(proc.root))
    (proc.root / "7" / "stat").write_text((proc.root / "7" / "stat").read_text().replace(" 100 ", " 101 "))
    assert not procfs.still_there(process, proc_root=str(proc.root))


@pytest.mark.parametrize(
    ("ours", "changes"),
    [
        (True, {}),
        (True, {"argv": ["/usr/bin/node", "backend/server.js"]}),
        (True, {"argv": ["node", "./backend/server.js"]}),
        (True, {"argv": ["node", "/app/backend/server.js"]}),
        (True, {"exe": "/opt/node-20/bin/node (deleted)"}),
        (True, {"state": "T"}),
        (False, {"state": "Z"}),
        (False, {"cwd": "/app2"}),
        (False, {"cwd": None}),
        (False, {"exe": None}),
        (False, {"exe": "/usr/bin/vim", "argv": ["vim", "backend/server.js"]}),
        (False, {"exe": "/usr/bin/bash", "argv": ["node", "backend/server.js"]}),
        (False, {"exe": "/usr/bin/pgrep", "argv": ["pkill", "-f", "node backend/server.js"]}),
        (False, {"argv": ["node", "backend/server.js", "--once"]}),
        (False, {"argv": ["node", "backend/migrate.js"]}),
        (False, {"argv": ["node"]}),
        (False, {"argv": []}),
    ],
)
def test_processes_of_the_service(proc, ours, changes):
    proc.process(7, **{"argv": COMMAND, **changes})
    found = procfs.service_processes(app_dir="/app", command=COMMAND, proc_root=str(proc.root))
    assert [process.pid for process in found] == ([7] if ours else [])


def test_service_processes_are_found_through_a_link_oldest_first(proc, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "current").symlink_to("app")
    proc.process(7, argv=COMMAND, cwd=tmp_path / "app", ticks=200)
    proc.process(8, argv=COMMAND, cwd=tmp_path / "app", ticks=100)
    found = procfs.service_processes(app_dir=str(tmp_path / "current"), command=COMMAND, proc_root=str(proc.root))
    assert [process.pid for process in found] == [8, 7]


def test_command_for_messages_has_no_argument_except_the_script(proc, tmp_path):
    (tmp_path / "server.js").touch()
    proc.process(7, argv=["node", "server.js", "--password=hunter2"], cwd=tmp_path)
    proc.process(8, argv=["mysql", "-phunter2"], cwd=tmp_path)
    proc.process(9, argv=[], exe="/usr/bin/node")
    assert [read(proc, pid).command for pid in (7, 8, 9)] == ["node server.js", "mysql", "/usr/bin/node"]


def test_environment():
    child = settled(subprocess.Popen(["sleep", "60"], env={"A": "1=2", "B": ""}))
    try:
        assert procfs.environment(child.pid) == {"A": "1=2", "B": ""}
    finally:
        child.kill()
        child.wait()
    assert procfs.environment(child.pid) is None


def test_control_groups(proc):
    folder = proc.process(7)
    (folder / "cgroup").write_text("1:name=systemd:/system.slice/a.service\n0::/system.slice/a:b.service\n")
    assert procfs.control_groups(7, proc_root=str(proc.root)) == [
        "/system.slice/a.service",
        "/system.slice/a:b.service",
    ]
    assert procfs.control_groups(8, proc_root=str(proc.root)) == []


def listen(family, address):
    server = socket.socket(family)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not address.startswith("::ffff")))
    server.bind((address, 0))
    server.listen()
    return server, server.getsockname()[1]


@pytest.mark.parametrize(
    ("family", "address", "told"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0"),  # noqa: S104
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_real_listeners(family, address, told):
    server, port = listen(family, address)
    with server:
        # Another process may be listening on the same port number at another address.
        (found,) = (each for each in procfs.listeners([port, 0]) if os.getpid() in each.pids)
        assert (found.port, found.address, found.pids, found.uid) == (port, told, [os.getpid()], os.geteuid())
    assert not any(os.getpid() in each.pids for each in procfs.listeners([port]))


def test_clients_of_a_port_are_not_listeners():
    server, port = listen(socket.AF_INET, "127.0.0.1")
    script = (
        f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); print(flush=True); time.sleep(60)"
    )
    with server, subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as client:
        try:
            client.stdout.readline()
            assert [found.pids for found in procfs.listeners([port])] == [[os.getpid()]]
        finally:
            client.kill()


def test_all_processes_of_a_shared_socket_are_named():
    server, port = listen(socket.AF_INET, "127.0.0.1")
    with server, subprocess.Popen(["sleep", "60"], pass_fds=[server.fileno()]) as child:
        try:
            assert [found.pids for found in procfs.listeners([port])] == [sorted([os.getpid(), child.pid])]
        finally:
            child.kill()


def test_only_listening_sockets_count_and_their_processes_may_be_hidden(proc):
    port = f"{6443:04X}"
    proc.sockets(
        "tcp",
        [
            (f"0100007F:{port}", "00000000:0000", "0A", 990, 11),
            (f"0100007F:{port}", "0100007F:9999", "01", 990, 12),
            ("0100007F:9999", f"0100007F:{port}", "01", 990, 13),
            (f"0100007F:{port}", "0100007F:9999", "06", 0, 0),
            ("0100007F:1F90", "00000000:0000", "0A", 990, 14),
        ],
    )
    found = procfs.listeners([6443], proc_root=str(proc.root))
    assert found == [procfs.Listener(port=6443, address="127.0.0.1", inode=11, pids=[], uid=990)]


def test_a_missing_proc_is_an_error(tmp_path):
    with pytest.raises(procfs.ProcfsError, match="Cannot read the listening sockets"):
        procfs.listeners([1], proc_root=str(tmp_path))
    with pytest.raises(procfs.ProcfsError, match=r"Cannot list processes in .*nowhere"):
        procfs.pids(proc_root=str(tmp_path / "nowhere"))


def answer(*, rc=0, stdout="", stderr=""):
    def run(argv, *, timeout, **_more):
        run.argv = argv
        return commands.Completed(argv=argv, rc=rc, stdout=stdout, stderr=stderr, duration=0.0)

    return run


def test_unit_properties():
    run = answer(
        stdout="MainPID=7\nExecStart={ path=/a ; argv[]=/a b=c }\nEnvironmentFiles=/a\nEnvironmentFiles=/b\n\n"
    )
    assert procfs.unit_properties("x", ["MainPID", "ExecStart"], run=run) == {
        "MainPID": "7",
        "ExecStart": "{ path=/a ; argv[]=/a b=c }",
        "EnvironmentFiles": "/a\n/b",
    }
    assert run.argv == ["systemctl", "show", "--property=MainPID,ExecStart", "--", "x"]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (answer(rc=1, stderr="Failed to connect to bus\nmore\n"), "Failed to connect to bus$"),
        (answer(rc=4), "exit code 4$"),
        (answer(rc=None), "no answer in time$"),
    ],
)
def test_systemd_that_does_not_answer_is_an_error(run, said):
    with pytest.raises(procfs.ProcfsError, match=f"Cannot query systemd about unit 'x': {said}"):
        procfs.unit_properties("x", ["MainPID"], run=run)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1min 30s", 90),
        ("1h 2min", 3720),
        ("100ms", 0.1),
        ("1.5s", 1.5),
        ("500us", 0.0005),
        ("1w 1d", 691200),
        ("0", 0),
        ("infinity", None),
        ("", None),
    ],
)
def test_timespan(text, seconds):
    assert procfs.timespan(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_stopped_process_is_alive(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    for _ in range(100):
        process = procfs.read_process(sleeper.pid)
        if process.state == "T":
            break
        time.sleep(0.01)
    assert (process.state, process.alive) == ("T", True)
