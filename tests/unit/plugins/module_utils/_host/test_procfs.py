# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

COMMAND = ["node", "backend/server.js"]


def settled(child):
    """Wait until the arguments and environment of a child process are readable. Return the child."""
    while not procfs.environment(child.pid):
        time.sleep(0.001)
    return child


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


def test_a_process_that_makes_its_files_large_uses_no_memory_here(proc):
    """With PR_SET_MM, any user can give a process a command line and an environment of any size."""
    folder = proc.process(7)
    (folder / "cmdline").write_bytes(b"node\0server.js\0" + bytes(3 << 20))
    (folder / "environ").write_bytes(b"HOME=/app\0" + b"A=b\0" * (1 << 20) + b"LAST=1\0")
    (folder / "status").write_bytes((folder / "status").read_bytes() + b"x" * (3 << 20))
    process = read(proc, 7)
    assert process.argv[:3] == ["node", "server.js", ""] and len(process.argv) <= 1 << 17
    assert procfs.environment(7, proc_root=str(proc.root)) == {"HOME": "/app", "A": "b"}


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
    commands = {
        "node server.js": ["node", "server.js", "--password=hunter2"],
        "/usr/bin/python3.11 /opt/tool": ["/usr/bin/python3.11", "/opt/tool", "hunter2"],
        "python3": ["python3", "-chunter2"],
        "mysql": ["mysql", "-phunter2"],
        "sign": ["sign", "hunter2"],
        "/usr/bin/node": [],
    }
    for pid, argv in enumerate(commands.values(), start=7):
        proc.process(pid, argv=argv, cwd=tmp_path)
    assert [read(proc, pid).command for pid in range(7, 13)] == list(commands)


def test_command_for_messages_does_not_depend_on_a_file(proc, tmp_path):
    """Any user can start a process with the path of a file in a folder that only root can enter."""
    proc.process(7, argv=["node", f"{tmp_path}/secret"], cwd=tmp_path)
    proc.process(8, argv=["sign", f"{tmp_path}/secret"], cwd=tmp_path)
    before = [read(proc, pid).command for pid in (7, 8)]
    (tmp_path / "secret").touch()
    assert [read(proc, pid).command for pid in (7, 8)] == before


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


def test_a_missing_proc_is_an_error(tmp_path):
    with pytest.raises(procfs.HostError, match=r"Cannot list processes in .*nowhere"):
        procfs.pids(proc_root=str(tmp_path / "nowhere"))


def test_stopped_process_is_alive(sleeper):
    sleeper.send_signal(signal.SIGSTOP)
    for _ in range(100):
        process = procfs.read_process(sleeper.pid)
        if process.state == "T":
            break
        time.sleep(0.01)
    assert (process.state, process.alive) == ("T", True)


@pytest.fixture
def many_files(sleeper, proc):
    """Yield the PIDs of two fake processes. Each process has ten descriptors."""
    for pid in (7, 8):
        folder = proc.process(pid) / "fd"
        for number in range(10):
            (folder / str(number)).symlink_to("/dev/null")
    return [7, 8]


def test_descriptors_of_all_processes_are_found(proc, many_files):
    found = list(procfs.descriptors(proc_root=str(proc.root)))
    assert sorted(found) == [(pid, f"{proc.root}/{pid}/fd/{number}") for pid in many_files for number in range(10)]


def test_a_search_stops_at_the_number_of_descriptors_of_all_processes(proc, many_files, monkeypatch):
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 15)
    seen = []
    with pytest.raises(procfs.UnfinishedError, match=r"the limits were reached at .*/fd\. Reduce the number"):
        seen.extend(pid for pid, _path in procfs.descriptors(proc_root=str(proc.root)))
    search = procfs.Search(proc_root=str(proc.root))
    assert len(list(search.descriptors(7))) == 10
    with pytest.raises(procfs.UnfinishedError):
        list(search.descriptors(8))


def test_the_deadline_of_a_search_holds_while_descriptors_keep_coming(proc, many_files):
    search = procfs.Search(seconds=0.2, proc_root=str(proc.root))
    found = 0
    with pytest.raises(procfs.UnfinishedError):
        for pid in many_files:
            for _path in search.descriptors(pid):
                found += 1
                time.sleep(0.03)
    assert 0 < found < 10


def test_a_process_that_was_not_searched_counts_as_a_holder(tmp_path, monkeypatch):
    path = tmp_path / "itsm.db"
    path.touch()
    pids = [os.getpid()]
    assert not procfs.holds(pids, str(path))
    assert procfs.holder_of_deleted(pids, str(path)) is None
    with path.open("rb"):
        assert procfs.holds(pids, str(path))
        path.unlink()
        assert procfs.holder_of_deleted(pids, str(path)) == pids[0]
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 2)
    assert procfs.holds(pids, str(path))
    assert procfs.holder_of_deleted(pids, str(path)) == pids[0]


def test_locks_are_read_up_to_a_limit(proc, monkeypatch):
    (proc.root / "locks").write_text("1: POSIX  ADVISORY  WRITE 7 fe:00:11 0 EOF\n" * 20)
    assert len(list(procfs.Search(proc_root=str(proc.root)).locks())) == 20
    monkeypatch.setattr(procfs, "_MOST_DESCRIPTORS", 10)
    with pytest.raises(procfs.UnfinishedError, match="/locks"):
        list(procfs.Search(proc_root=str(proc.root)).locks())
