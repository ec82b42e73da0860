# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that is confined to a folder can write only there, and has no network."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, parallel
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import clock, confine, socket_filter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a mount namespace")


def confined(folder: Path, work: Callable[[], Any]) -> Any:
    """Run work in a confined process. Return its result."""

    def question() -> Any:
        if not confine.confine(str(folder)):
            return "not possible"
        return work()

    answer = parallel.ask({"x": question}, timeout=30)["x"]
    assert answer.error is None
    if answer.value == "not possible":
        pytest.skip("this container does not allow a mount namespace")
    return answer.value


def test_only_the_folder_is_writable(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    targets = [folder, outside, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/etc"), Path("/run")]

    def writable() -> list[str]:
        found = []
        for target in filter(Path.is_dir, targets):
            done = subprocess.run(["touch", target / "itsm-nexus-probe"], capture_output=True, check=False)
            found += [str(target)] if done.returncode == 0 else []
        return found

    assert confined(folder, writable) == [str(folder)]
    assert not (outside / "itsm-nexus-probe").exists()
    # The process of this test is not confined.
    (outside / "later").touch()


def test_a_program_in_the_folder_can_be_executed(tmp_path: Path) -> None:
    def work() -> int:
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\nexit 7\n", encoding="ascii")
        program.chmod(0o755)
        return subprocess.run([program], check=False).returncode

    assert confined(tmp_path, work) == 7


def test_there_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=2).close()

        def work() -> str:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
            except OSError as error:
                return type(error).__name__
            return "connected"

        assert confined(tmp_path, work) != "connected"


# Prints the name of each method that can reach a socket. The first argument is the folder with the sockets `stream` and
# `datagram`. The second argument is the number of the system call `socket`.
REACH = """
import ctypes, socket, sys
stream, datagram = (sys.argv[1] + "/" + name for name in ("stream", "datagram"))
def connect(kind, path):
    with socket.socket(socket.AF_UNIX, kind) as found:
        found.connect(path)
def pair(kind):
    for found in socket.socketpair(socket.AF_UNIX, kind):
        found.sendto(b"x", datagram)
def call(*arguments):
    if ctypes.CDLL(None).syscall(*map(ctypes.c_long, arguments)) < 0:
        raise OSError
ways = {
    "stream": lambda: connect(socket.SOCK_STREAM, stream),
    "datagram": lambda: connect(socket.SOCK_DGRAM, datagram),
    "datagram pair": lambda: pair(socket.SOCK_DGRAM),
    "raw pair": lambda: pair(socket.SOCK_RAW),
    "upper half of the family": lambda: call(int(sys.argv[2]), (1 << 32) + 1, 1, 0),
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
}
for name, way in ways.items():
    try:
        way()
        print(name)
    except OSError:
        pass
"""
WORKS = """
import ctypes, errno, socket
left, right = socket.socketpair()
left.sendall(b"stream ")
print(right.recv(9).decode(), end="")
right.close(), left.close()
socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].close()
for family in (socket.AF_INET, socket.AF_NETLINK):
    socket.socket(family, socket.SOCK_DGRAM).close()
call = ctypes.CDLL(None, use_errno=True).syscall
print(call(425, 1, 0), ctypes.get_errno() == errno.EPERM)
"""
NODE = """
const { fork, spawnSync } = require("child_process");
if (process.argv[2] === "child") process.send("message", () => process.disconnect());
else {
  const child = fork(process.argv[1], ["child"], { stdio: ["pipe", "pipe", "pipe", "ipc"] });
  const output = spawnSync("sh", ["-c", "cat"], { input: "output" }).stdout.toString();
  child.on("message", (text) => console.log(text, output));
}
"""
PYTHON = "/usr/bin/python3"
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}


@pytest.fixture
def base() -> Iterator[Path]:
    """Yield a folder that other users can enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103
        yield Path(folder)


@contextlib.contextmanager
def unix_sockets(folder: Path) -> Iterator[None]:
    """Open two UNIX sockets that every account can access."""
    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        for opened, name in ((stream, "stream"), (datagram, "datagram")):
            opened.bind(str(folder / name))
            (folder / name).chmod(0o777)
        stream.listen()
        yield


def test_unix_sockets_are_out_of_reach(base: Path) -> None:
    scratch = base / "scratch"
    scratch.mkdir()
    argv = [PYTHON, "-I", "-c", REACH, str(base), str(SOCKET_CALL[os.uname().machine])]

    def work() -> list[str]:
        return [commands.run(argv, timeout=20, user=user).stdout for user in ("nobody", None)]

    with unix_sockets(base):
        outside = commands.run(argv, timeout=20, user="nobody").stdout.splitlines()
        assert {"stream", "datagram", "datagram pair", "upper half of the family"} <= set(outside)
        assert confined(scratch, work) == ["", ""]


def test_pairs_of_sockets_still_work(base: Path) -> None:
    def work() -> tuple[str, str]:
        done = commands.run([PYTHON, "-I", "-c", WORKS], timeout=20, user="nobody")
        return done.stdout, done.stderr

    assert confined(base, work) == ["stream -1 True\n", ""]


def test_shared_memory_is_out_of_reach(tmp_path: Path) -> None:
    def segments() -> int:
        return len(Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()) - 1

    library = ctypes.CDLL(None)
    segment = library.shmget(0, 4096, 0o666)
    try:
        assert segments() > 0
        assert confined(tmp_path, segments) == 0
    finally:
        library.shmctl(segment, 0, None)


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm")
def test_node_and_npm_can_use_child_processes(base: Path) -> None:
    (base / "parent.js").write_text(NODE, encoding="ascii")
    (base / "package.json").write_text('{"scripts": {"try": "node parent.js | cat"}}', encoding="ascii")

    def work() -> tuple[str, str]:
        environment = {**os.environ, "HOME": str(base / "home")}
        (base / "home").mkdir()
        os.chown(base / "home", 65534, -1)
        argv = ["npm", "run", "--silent", "try"]
        done = commands.run(argv, timeout=60, user="nobody", cwd=str(base), env=environment)
        return done.stdout, done.stderr

    assert confined(base, work) == ["message output\n", ""]


def test_an_unknown_architecture_is_not_confined(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_filter, "_MACHINES", {})

    def work() -> list[bool]:
        return [confine.confine(str(base)), os.access("/etc", os.W_OK)]

    # The other limits are in effect.
    assert parallel.ask({"x": work}, timeout=20)["x"].value == [False, False]


@contextlib.contextmanager
def service(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a separate folder, as another account that owns the folder. Yield the process."""
    folder.mkdir()
    (folder / "index.js").write_text("original", encoding="ascii")
    for path in (folder, folder / "index.js"):
        os.chown(path, 65534, 65534)
    process = subprocess.Popen(["sleep", "60"], cwd=folder, user=65534, group=65534)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_other_processes_are_out_of_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o711)
    with service(tmp_path / "app") as process:
        ways = [f"echo changed > /proc/{process.pid}/{link}/index.js" for link in ("cwd", f"root{tmp_path}/app")]
        tries = [f"({way}) 2>&- && echo written" for way in ways]
        script = "; ".join([*tries, f"kill -9 {process.pid} && echo killed"])

        def work() -> list[Any]:
            done = commands.run(["/bin/sh", "-c", script], timeout=20, user="nobody")
            with open("/proc/self/status", encoding="ascii") as stream:
                privileges = "NoNewPrivs:\t1" in stream.read()
            numbers = [name for name in os.listdir("/proc") if name.isdecimal()]
            return [done.stdout, privileges, len(numbers) < 5]

        assert confined(scratch, work) == ["", True, True]
        assert process.poll() is None
    assert (tmp_path / "app" / "index.js").read_text(encoding="ascii") == "original"


@pytest.mark.parametrize("late", [False, True])
def test_a_daemon_does_not_outlive_the_confined_process(tmp_path: Path, late: bool) -> None:
    marker = f"47.{os.getpid()}{int(late)}"

    def work() -> Any:
        if not confine.confine(str(tmp_path)):
            return "not possible"
        daemon = f"setsid sh -c 'sleep {marker} & sleep {marker}' >&- 2>&- &"
        commands.run(["/bin/sh", "-c", daemon + (" sleep 30" if late else "")], timeout=60, user="nobody")
        return "done"

    answer = parallel.ask({"x": work}, timeout=3 if late else 20)["x"]
    if answer.value == "not possible":
        pytest.skip("this container does not allow a mount namespace")
    assert (answer.value, answer.error) == ((None, parallel.TIMED_OUT) if late else ("done", None))
    give_up = time.monotonic() + 5
    while subprocess.run(["pgrep", "-f", f"sleep {marker}"], check=False, capture_output=True).returncode == 0:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_without_root_nothing_is_confined(tmp_path: Path) -> None:
    def work() -> bool:
        os.seteuid(65534)
        return confine.confine(str(tmp_path))

    assert parallel.ask({"x": work}, timeout=10)["x"].value is False


@pytest.mark.parametrize(("state", "expected"), [(0, True), (1, True), (5, False), (-1, None), (None, None)])
def test_the_state_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, state: Optional[int], expected: Optional[bool]
) -> None:
    """adjtimex(2) returns 5 (TIME_ERROR) for a clock that is not synchronized.

    Some systems do not have this function.
    """
    functions = {} if state is None else {"adjtimex": lambda _buffer: state}
    monkeypatch.setattr(clock.ctypes, "CDLL", lambda _name: types.SimpleNamespace(**functions))
    assert clock.synchronized() is expected
