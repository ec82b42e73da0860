# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands in docs/eda.md work for a reader with a new checkout and a new home folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest
from tcp_ports import free_port

from .conftest import ROOT, on_screen
from .test_recovery import checkout

PAGE = (ROOT / "docs/eda.md").read_text(encoding="utf-8")
PATIENCE = 180.0


def commands(chapter: int) -> list[str]:
    """Return the command blocks in a section, except those that need a separate host or server."""
    (text,) = re.findall(rf"^## {chapter}\. .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if "◇" not in block]


def wait_for(condition: Callable[[], bool], screen: Path) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, screen.read_text(encoding="utf-8")
        time.sleep(0.1)


@dataclasses.dataclass
class Reader:
    """A reader with a checkout, a home folder and terminals."""

    folder: Path
    # Maps each port on the page to a free port on this machine, which replaces it.
    ports: dict[str, int]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        # The environment after section 1 of the page.
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        config = self.folder / "runbook" / "ansible.cfg"
        return {
            **{"HOME": str(self.home), "LC_ALL": "C.UTF-8", "PATH": path},
            **{"ANSIBLE_CONFIG": str(config), "XDG_CACHE_HOME": cache},
            # Disable the buffering of the output, because output to a terminal is not buffered either.
            "PYTHONUNBUFFERED": "1",
        }

    def text(self, command: str) -> str:
        for theirs, ours in self.ports.items():
            command = command.replace(theirs, str(ours))
        return command

    def types(self, command: str) -> None:
        done = on_screen(
            ["bash", "-euc", self.text(command)], cwd=self.folder / "runbook", env=self.environment(), timeout=300
        )
        assert done.returncode == 0

    @contextlib.contextmanager
    def terminal(self, command: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command during the block. At the end of the block, Ctrl-C must end the command."""
        screen = self.folder / name
        with screen.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-euc", self.text(command)],
                cwd=self.folder / "runbook",
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        finally:
            print(screen.read_text(encoding="utf-8"))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def await_line(self, words: str, name: str) -> None:
        screen = self.folder / name
        wait_for(lambda: words in screen.read_text(encoding="utf-8"), screen)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    checkout(tmp_path / "runbook")
    (tmp_path / "home").mkdir()
    somebody = Reader(tmp_path, {port: free_port() for port in ("16443", "18080", "5050")})
    yield somebody
    # Kill the services that the recoveries have started. Otherwise, these services would continue to run.
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == str(somebody.home / "nexus" / "app"):
                    os.kill(int(entry.name), signal.SIGKILL)


def test_page_leads_to_a_first_recovery_one_by_hand_and_one_by_an_alert(reader: Reader) -> None:
    install, describe, start, watch, fall, recover = commands(2)
    listen, alert = commands(4)
    (first_fall,) = re.findall(r"kill the service: `([^`]+)`", PAGE)

    reader.types(install)
    reader.types(describe)
    # Shorten the stability check, which takes one minute. All other settings are the same as on the page.
    with (reader.home / "nexus/hosts.yml").open("a", encoding="utf-8") as inventory:
        inventory.write("      verification_stability_count: 2\n      verification_stability_interval: 1.0\n")
    with reader.terminal(f"{start}\nread -r\n{first_fall}\nread -r\n", "service") as other:
        reader.await_line('"status":"ok"', "service")
        with reader.terminal(watch, "watch"):
            reader.await_line("Loading rulebook", "watch")
            assert other.stdin
            other.stdin.write(b"\n")
            other.stdin.flush()
            reader.await_line("RECOVERED: ", "watch")
            reader.await_line("postmortem  ", "watch")

    reader.types(fall)
    reader.types(recover)

    arm, ring = commands(8)
    with reader.terminal(arm, "armed"):
        wait_for((reader.home / "nexus/alarm").exists, reader.folder / "armed")
        reader.types(ring)
        reader.await_line("RECOVERED: ", "armed")
        reader.await_line("postmortem  ", "armed")
    # Now no run is waiting, so the second command recovers the service.
    reader.types(ring)

    make_token, run = listen.splitlines()
    reader.types(make_token)
    with (reader.folder / "runbook" / "alerts.yml").open("a", encoding="utf-8") as settings:
        settings.write(f"alertmanager_port: {reader.ports['5050']}\n")
    with reader.terminal(run, "alerts"):
        wait_for(lambda: listens(reader.ports["5050"]), reader.folder / "alerts")
        reader.types(fall)
        reader.types(alert)
        reader.await_line("RECOVERED: ", "alerts")
        reader.await_line("postmortem  ", "alerts")
