# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that can be broken and recovered, an observer of this service, and runs of the project's playbooks."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import harness
import model
import yaml

sys.path[:0] = [str(harness.ROOT / "tests"), str(harness.ROOT / "tests" / "integration")]
from conftest import Service

POLL = 0.02  # Time between two requests of the observer, in seconds.
LONGEST = 300.0
_GAP = 0.02
INCIDENT = "itsm_nexus.runbook.incident"
# Tasks whose times are read from a run's timeline.
CONFIRMED = "Wait for the first healthy response and log in"
DETECTED = "Probe the service's health"
CLOSING = "Record the attempts"


@dataclass(frozen=True)
class Observer:
    """Polls the service's health over HTTPS every 20 ms, in the same way for each contender."""

    host: str
    port: int

    def healthy(self) -> bool:
        """Send one request. Return True if the response is healthy."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=1, context=_UNVERIFIED)
        try:
            connection.request("GET", "/api/v1/health")
            answer = connection.getresponse()
            return answer.status == 200 and json.loads(answer.read())["status"].lower() == "ok"
        except (OSError, ValueError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self, *, until: bool = True, longest: float = LONGEST) -> None:
        """Wait until the service is healthy, or unhealthy if `until` is False. Raises BenchError on a timeout."""
        give_up = time.monotonic() + longest
        while self.healthy() != until:
            if time.monotonic() > give_up:
                raise model.BenchError(f"it is {'not ' if until else ''}healthy after {longest:.0f} s")
            time.sleep(POLL)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Callable[[], float]]:
        """Poll during the block. Yield a function that returns the Unix time of the first healthy response."""
        first: list[float] = []
        over = threading.Event()

        def look() -> None:
            # Send a last request, because the contender may have received its healthy response between two requests.
            last = False
            while not first and not last:
                last = over.is_set()
                if self.healthy():
                    first.append(time.time())
                over.wait(POLL)

        watcher = threading.Thread(target=look)
        watcher.start()

        def moment() -> float:
            if not first:
                raise model.BenchError("no healthy response was received")
            return first[0]

        try:
            yield moment
        finally:
            over.set()
            watcher.join()


_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


@dataclass
class Run:
    """A finished run of a playbook, with its timeline."""

    code: int
    screen: str
    started: float  # time.time
    ended: float
    cpu: float  # CPU seconds of ansible-playbook and its children
    memory: float  # peak memory in MiB of the largest of these processes
    events: list[dict[str, Any]] = field(default_factory=list)

    def moment(self, task: str, *, end: bool = True) -> float:
        """Return the Unix time at which a task ended.

        If `end` is False, return the time at which it began. Raises BenchError.
        """
        for event in self.events:
            if event["kind"] == "task" and event.get("task") == task:
                began = _epoch(event["start"])
                return began + float(event["duration"]) if end else began
        raise model.BenchError(f"its timeline has no task {task!r}")

    def profile(self, *, until: float) -> list[tuple[float, float, str]]:
        """Return the steps that began before `until`: start, duration and name.

        A pause of at least _GAP is also returned as a step.
        """
        steps, over = [], self.started
        for event in self.events:
            if event["kind"] == "run_start":
                steps.append((0.0, _epoch(event["at"]) - self.started, "ansible-playbook starts"))
                over = _epoch(event["at"])
            elif event["kind"] == "task" and "start" in event and _epoch(event["start"]) < until:
                began, action = _epoch(event["start"]), str(event["action"])
                if began - over >= _GAP:
                    steps.append((over - self.started, began - over, "(loading and skipped tasks)"))
                what = f"`{action.rsplit('.', 1)[-1]}` {event['task']}"
                steps.append((began - self.started, float(event["duration"]), what))
                over = began + float(event["duration"])
        return steps

    def seen(self, module: str) -> dict[str, Any]:
        """Return the values recorded in a module's first result."""
        for event in self.events:
            if event["kind"] == "task" and event.get("action") == f"itsm_nexus.runbook.{module}":
                return dict(event.get("data", {}))
        raise model.BenchError(f"its timeline has no {module}")


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@dataclass
class Stand:
    """A service on a machine, for measurements."""

    observer: Observer
    inventory: Sequence[str]
    variables: dict[str, Any]

    def begin(self) -> None:
        """Make the service healthy and remove all recorded incidents."""
        raise NotImplementedError

    def crash(self) -> None:
        """Kill the service. Return as soon as the service no longer answers."""
        raise NotImplementedError

    def hang(self) -> None:
        """Make the service hang, so that it runs but does not answer."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the service with as few steps as possible."""
        raise NotImplementedError

    @contextlib.contextmanager
    def begun(
        self, playbook: str, folder: Path, *, program: str = "ansible-playbook", **changes: Any
    ) -> Iterator[Callable[[], Run]]:
        """Start a playbook that writes files to `folder`, and yield a function that waits until the playbook ends."""
        variables = folder / "variables.yml"
        variables.touch(mode=0o600)
        variables.write_text(yaml.safe_dump({**self.variables, **changes}), encoding="utf-8")
        with (folder / "screen").open("w+", encoding="utf-8") as screen:
            started = time.time()
            process = subprocess.Popen(
                [program, *self.inventory, playbook, "-e", f"@{variables}"],
                cwd=harness.ROOT,
                env=harness.environment(ITSM_NEXUS_POSTMORTEM_DIR=str(folder / "postmortems")),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
            )

            def end() -> Run:
                _pid, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                ended = time.time()
                screen.seek(0)
                return Run(
                    code=process.returncode,
                    screen=screen.read(),
                    started=started,
                    ended=ended,
                    cpu=usage.ru_utime + usage.ru_stime,
                    memory=usage.ru_maxrss / 1024,
                    events=_events(folder),
                )

            try:
                yield end
            finally:
                if process.returncode is None:
                    process.kill()
                    process.wait()

    def play(self, playbook: str, folder: Path, *, program: str = "ansible-playbook", **changes: Any) -> Run:
        """Run a playbook that writes the postmortem and other files to `folder`. The caller must check the outcome."""
        with self.begun(playbook, folder, program=program, **changes) as end:
            return end()

    @contextlib.contextmanager
    def armed(self, folder: Path) -> Iterator[Callable[[], Run]]:
        """Start a run of outage_armed.yml, and yield a function that sends the alarm and waits until the run ends."""
        socket = folder / "alarm"
        with self.begun(
            "playbooks/outage_armed.yml", folder, outage_armed_alarm=str(socket), outage_recover_rungs=["restart"]
        ) as end:
            until = time.monotonic() + LONGEST
            while not socket.exists():
                if time.monotonic() > until:
                    raise model.BenchError("the run does not wait for an alarm")
                time.sleep(POLL)

            def recover() -> Run:
                ring = [
                    "curl",
                    "--silent",
                    "--fail",
                    "--unix-socket",
                    str(socket),
                    "--request",
                    "POST",
                    "http://alarm/",
                ]
                subprocess.run(ring, stdout=subprocess.DEVNULL, check=True)
                return self._succeeded(end(), "restart")

            yield recover

    @staticmethod
    def _succeeded(run: Run, rung: str) -> Run:
        """Return the run. Raises BenchError if the rung failed."""
        if run.code != 0 or f"{rung} succeeded" not in run.screen:
            raise model.BenchError(f"it ended with code {run.code}: {run.screen.strip()[-600:]}")
        return run

    def recover(self, folder: Path, *, rung: str = "restart", program: str = "ansible-playbook", **changes: Any) -> Run:
        """Recover the service with one rung. Raises BenchError if the rung failed."""
        run = self.play("playbooks/outage_recover.yml", folder, program=program, outage_recover_rungs=[rung], **changes)
        return self._succeeded(run, rung)


def _events(folder: Path) -> list[dict[str, Any]]:
    """Return the events from the timelines in a folder."""
    return [
        json.loads(line)
        for file in sorted((folder / "postmortems").glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


@dataclass
class Local(Stand):
    """The service on this machine, started manually and managed over a local connection."""

    service: Service

    @classmethod
    def new(cls) -> Local:
        """Install a separate service, which is removed at the end of the benchmark."""
        folder = Path(tempfile.mkdtemp(prefix="itsm-nexus-bench-"))
        atexit.register(shutil.rmtree, folder)
        service = Service(folder / "service")
        service.install()
        atexit.register(service.kill)
        return cls(
            observer=Observer("127.0.0.1", service.https_port),
            inventory=["-i", "inventories/demo"],
            variables={**service.variables(), "detection_interval": 1.0},
            service=service,
        )

    def begin(self) -> None:
        shutil.rmtree(self.service.state, ignore_errors=True)
        if not self.observer.healthy():
            self.service.kill()
            self.service.start()

    def crash(self) -> None:
        self.service.kill()

    def hang(self) -> None:
        self.service.signal(signal.SIGSTOP)

    def start(self) -> None:
        with self.service.log.open("ab") as log:
            subprocess.Popen(
                ["node", "backend/server.js"],
                cwd=self.service.app,
                env={**self.service.environment(), "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def describe(self) -> Mapping[str, str]:
        """Return the environment variables that describe the service to a script."""
        service = self.service
        return {
            "APP_DIR": str(service.app),
            "ENVIRONMENT_FILE": str(service.environment_file),
            "LOG_FILE": str(service.log),
            "HTTPS_PORT": str(service.https_port),
            "HTTP_PORT": str(service.http_port),
            "DATABASE": str(service.database),
        }
