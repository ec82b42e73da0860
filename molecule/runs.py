# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helpers for tests that act during a playbook run. These tests also observe the host and this machine."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drills import STATE_DIR, Drill

# Timeout in seconds. A healthy run reaches every task within this time, even on a busy machine.
PATIENCE = 180.0


# The name of the task that saves the evidence and starts the service. Before this task, a run only opens the incident
# and cancels the automatic restart.
FIRST_RESPONSE = "Save the evidence, and start the service if a start is safe"


class Run:
    """A playbook run that has been started. `shared/recover` describes the files with the name of the run."""

    def __init__(
        self,
        drill: Drill,
        name: str,
        *arguments: str,
        playbook: str = "outage_recover",
        environment: dict[str, str] | None = None,
        pause_before: str = "",
    ) -> None:
        project = drill.output.parents[1]
        self.log = drill.output / f"{name}.log"
        self.process = subprocess.Popen(
            [project / "molecule/shared/recover", drill.name, name, f"playbooks/{playbook}.yml", *arguments],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {}), "DRILL_PAUSE_BEFORE": pause_before},
        )
        self.pause_before = pause_before

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def screen(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def reach(self, task: str) -> None:
        """Wait until the screen shows the given task. The task may have finished already."""
        # Ansible may show text in parentheses after the task name.
        self._show(re.compile(re.escape(task) + r"(?: \([^()\n]*\))?\] \*\*"), task)

    def pause(self) -> None:
        """Wait until the run pauses before the task `pause_before`. At this point, the previous task has finished."""
        self._show(re.compile("^PAUSED BEFORE: " + re.escape(self.pause_before) + "$", re.MULTILINE), self.pause_before)

    def _show(self, text: re.Pattern[str], task: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not text.search(self.screen()):
            assert self.running, f"the run ended before the task {task!r}\n{self.screen()}"
            assert time.monotonic() < give_up, f"the run has not reached the task {task!r}\n{self.screen()}"
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait until the run ends, and return its exit code."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill ansible-playbook and its descendants at the same time, as the removal of a job pod does."""
        family: set[int] = set()
        # Repeat until all processes are frozen, because a running process may start another process.
        while new := _family(self.process.pid) - family or {pid for pid in family if not _is_frozen(pid)}:
            family |= new
            for pid in new:
                _signal(pid, signal.SIGSTOP)
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self.process.wait()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_frozen(pid: int) -> bool:
    """Return True if a process has received SIGSTOP and cannot run program code until it receives SIGCONT.

    After a vfork call, a process is in state D until the child process runs another program. If the child process stops
    before that, the parent process remains in state D.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "DTZX"
    except OSError:
        return True


def _family(top: int) -> set[int]:
    """Return the process and its descendants."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = status.read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(status.parent.name))
    found = [top]
    for pid in found:
        found += children.get(pid, [])
    return set(found)


def instant(seconds: float) -> str:
    """Return a time in the format that the records use."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, f"timed out: {what}"
        time.sleep(0.05)


def run(drill: Drill, name: str, *arguments: str, playbook: str = "outage_recover", **environment: str) -> int:
    """Run a playbook to completion and return its exit code."""
    return Run(drill, name, *arguments, playbook=playbook, environment=environment).wait()


def podman(*arguments: str) -> str:
    """Run a podman command on this machine and return its output."""
    return subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True).stdout


def kill_service(drill: Drill) -> None:
    """Kill the service as the OOM killer does, and wait until systemd has detected the kill."""
    drill.host.check_output(f"systemctl kill --kill-whom=main --signal=SIGKILL {drill.service.unit}")
    wait_for(
        lambda: drill.host.check_output(f"systemctl show --property=MainPID --value {drill.service.unit}") == "0",
        "systemd detects the end of the service",
    )


def break_start(drill: Drill) -> None:
    """Make every start of the service fail."""
    drill.host.check_output(f"echo NEXUS_DEMO_FAULTS=start >>{drill.service.environment}")


def repair_start(drill: Drill) -> None:
    """Undo break_start, so that the service can start again."""
    drill.host.check_output(f"sed -i /NEXUS_DEMO_FAULTS/d {drill.service.environment}")


def open_incident(drill: Drill) -> dict[str, Any] | None:
    """Return the record of the open incident on the host, or None if no incident is open."""
    record = drill.host.run(f"cat {STATE_DIR}/incident.json")
    return json.loads(record.stdout) if record.rc == 0 else None


def past_incidents(drill: Drill) -> list[dict[str, Any]]:
    """Return the records of closed incidents, oldest first."""
    names = drill.host.run(f"ls {STATE_DIR}/incidents").stdout.split()
    return [json.loads(drill.host.check_output(f"cat {STATE_DIR}/incidents/{name}")) for name in names]


def lease(drill: Drill, *arguments: str) -> dict[str, Any]:
    """Run shared/host/lease. Returns `lease` (the record), `worker` (a PID or None) and `boot` (seconds since boot)."""
    return json.loads(drill.host.check_output(" ".join(["/opt/drill/bin/lease", *arguments])))


@contextlib.contextmanager
def watched_arguments() -> Iterator[set[bytes]]:
    """Collect the arguments of every process on this machine and in its containers during the block."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for arguments in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(arguments.read_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
