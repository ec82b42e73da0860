# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that is confined to a folder can write only there, and has no network."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import clock, confine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a mount namespace")


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
    # This process is not affected.
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


def test_without_root_nothing_is_confined(tmp_path: Path) -> None:
    def work() -> bool:
        os.seteuid(65534)
        return confine.confine(str(tmp_path))

    assert parallel.ask({"x": work}, timeout=10)["x"].value is False


def test_the_state_of_the_clock_is_known_or_unknown() -> None:
    assert clock.synchronized() in (True, False, None)
