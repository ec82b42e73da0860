# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo service on this machine, started manually, and runs of the project's playbooks against it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import jsonschema
import pytest
import yaml
from tcp_ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def on_screen(argv: Sequence[str | Path], *, timeout: float, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to completion.

    `stdout` of the result contains the output and the errors, so that a failed test shows both.
    """
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
        **more,
    )
    print(done.stdout)
    return done


def assert_as_documented(published: dict[str, Any]) -> None:
    """Assert that the variables that a run published match docs/published-schema.json."""
    schema = json.loads((ROOT / "docs" / "published-schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(published)


@dataclasses.dataclass
class Run:
    """A finished run of a playbook, from the point of view of its user."""

    rc: int
    screen: str
    postmortems: Path

    def documents(self, suffix: str) -> list[Path]:
        return sorted(self.postmortems.glob(f"*{suffix}"))

    def recap(self) -> dict[str, int]:
        line = next(line for line in self.screen.splitlines() if "unreachable=" in line)
        return {key: int(value) for key, value in (pair.split("=") for pair in line.split(":", 1)[1].split())}


@dataclasses.dataclass
class Service:
    """The demo service, installed in its own folder."""

    folder: Path
    https_port: int = dataclasses.field(default_factory=free_port)
    http_port: int = dataclasses.field(default_factory=free_port)

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def environment_file(self) -> Path:
        return self.folder / "itsm.env"

    @property
    def database(self) -> Path:
        return self.app / "backend" / "itsm.db"

    @property
    def log(self) -> Path:
        return self.folder / "log" / "server.log"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def install(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.log.parent.mkdir()
        subprocess.run(
            [
                ROOT / "demo" / "install-service",
                self.app,
                self.environment_file,
                f"HTTPS_PORT={self.https_port}",
                f"PORT={self.http_port}",
                "HOST=127.0.0.1",
            ],
            check=True,
            timeout=300,
        )

    def install_copy(self, template: Service) -> None:
        """Copy `template`, which was never started. The copy uses its own ports.

        The files in node_modules are hard links. A test can remove or replace these files, but must not write to them.
        """
        shutil.copytree(template.app, self.app, symlinks=True, ignore=shutil.ignore_patterns("node_modules"))
        subprocess.run(["cp", "-al", template.app / "node_modules", self.app], check=True)
        self.log.parent.mkdir()
        own = {**template.environment(), "HTTPS_PORT": self.https_port, "PORT": self.http_port}
        self.environment_file.touch(mode=0o600)
        lines = [f"{name}={value}\n" for name, value in own.items()]
        self.environment_file.write_text("".join(lines), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        lines = self.environment_file.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def start(self) -> None:
        """Start the service manually, as the runbook describes, and wait until it answers."""
        with self.log.open("ab") as log:
            subprocess.Popen(
                ["node", "backend/server.js"],
                cwd=self.app,
                env={**self.environment(), "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self.healthy():
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            time.sleep(0.1)

    def pids(self) -> list[int]:
        """Return the processes whose working directory is the application's folder, except zombies."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "cwd") == str(self.app):
                        found.append(int(entry.name))
        return found

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        # The kernel closes the sockets of a killed process shortly after the process has disappeared from /proc.
        while self.pids() or self.listens():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def listens(self) -> bool:
        for port in (self.https_port, self.http_port):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return True
        return False

    def request(self, path: str, body: Any = None) -> Any:
        context = ssl._create_unverified_context()
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.https_port}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=3, context=context) as answer:
            return json.load(answer)

    def healthy(self) -> bool:
        try:
            return self.request("/health")["status"].lower() == "ok"
        except (OSError, urllib.error.URLError):
            return False

    def write(self, title: str) -> None:
        self.request("/incidents", {"title": title})

    def variables(self) -> dict[str, Any]:
        return {
            "nexus_manager": "process",
            "nexus_user": os.environ.get("USER") or "root",
            "nexus_app_dir": str(self.app),
            "nexus_environment_file": str(self.environment_file),
            "nexus_log_file": str(self.log),
            "nexus_state_dir": str(self.state),
            "nexus_https_port": self.https_port,
            "nexus_http_port": self.http_port,
            "nexus_login_password": self.environment()["ADMIN_PASSWORD"],
            "detection_interval": 0.2,
            "detection_timeout": 1.0,
            "verification_stability_count": 2,
            "verification_stability_interval": 0.5,
        }

    @property
    def postmortems(self) -> Path:
        return self.folder / "postmortems"

    def play(self, playbook: str, *arguments: str, project: Path = ROOT, **changes: Any) -> Run:
        """Run a playbook against the service. `changes` overrides service variables."""
        argv, environment = self._command(playbook, *arguments, **changes)
        done = on_screen(argv, cwd=project, env=environment, timeout=300)
        return Run(rc=done.returncode, screen=done.stdout, postmortems=self.postmortems)

    def interrupt(self, playbook: str, *, at: str, **changes: Any) -> None:
        """Run a playbook against the service, and interrupt the run with Ctrl-C during the task `at`."""

        self.end(playbook, when=lambda: self.begun(at), by=signal.SIGINT, **changes)

    def begun(self, task: str) -> bool:
        """Return True if the given task of a run has begun."""
        return any(f'"{task}"' in path.read_text(encoding="utf-8") for path in self.postmortems.glob("*.jsonl"))

    def end(self, playbook: str, *, when: Callable[[], bool], by: signal.Signals, **changes: Any) -> None:
        """Run a playbook against the service. As soon as `when` returns True, send a signal to the run's processes."""
        argv, environment = self._command(playbook, **changes)
        with subprocess.Popen(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True) as run:
            deadline = time.monotonic() + 120
            while not when():
                assert run.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(run.pid, by)
            assert run.wait(60) != 0

    def _command(self, playbook: str, *arguments: str, **changes: Any) -> tuple[list[str | Path], dict[str, str]]:
        variables = self.folder / "variables.yml"
        variables.touch(mode=0o600)
        variables.write_text(yaml.safe_dump({**self.variables(), **changes}), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment.update(LC_ALL="C.UTF-8", ITSM_NEXUS_POSTMORTEM_DIR=str(self.postmortems))
        inventory = ROOT / "inventories" / "demo"
        return ["ansible-playbook", "-i", inventory, playbook, "-e", f"@{variables}", *arguments], environment


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return an installed service that is never started.

    Tests copy it, because this is faster than installing a service.
    """

    def modules() -> dict[Path, tuple[int, int, int]]:
        found = {path: path.lstat() for path in (service.app / "node_modules").rglob("*") if not path.is_dir()}
        return {path: (status.st_size, status.st_mtime_ns, status.st_mode) for path, status in found.items()}

    service = Service(tmp_path_factory.mktemp("template"))
    service.install()
    before = modules()
    yield service
    assert modules() == before, "a test has written to a file in node_modules, which all tests share"


@pytest.fixture
def laid(tmp_path: Path, template: Service) -> Iterator[Service]:
    """Install the service without starting it. Yield the service."""
    service = Service(tmp_path)
    service.install_copy(template)
    yield service
    service.kill()


@pytest.fixture
def service(laid: Service) -> Service:
    """Return the running service with three rows."""
    laid.start()
    for number in range(3):
        laid.write(f"row {number}")
    return laid
