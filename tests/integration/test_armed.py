# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An armed controller: the run starts before the outage, and recovers the service as soon as the alarm arrives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import alarm

from .conftest import ROOT, Service

ARMED = "playbooks/outage_armed.yml"


def ring(path: Path) -> subprocess.CompletedProcess[str]:
    """Send the alarm with the command from docs/eda.md."""
    curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "2", "--unix-socket", str(path)]
    return subprocess.run(
        [*curl, "--request", "POST", "http://alarm/"], capture_output=True, text=True, check=False, timeout=10
    )


def wait_for(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def armed(service: Service, path: Path) -> Iterator[subprocess.Popen[str]]:
    argv, environment = service._command(ARMED, outage_armed_alarm=str(path))
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            wait_for(path.exists, "the run waits for the alarm")
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def test_the_alarm_starts_the_recovery(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "alarms" / "desk"
    with armed(service, path) as run:
        service.kill()
        assert ring(path).stdout == "the recovery starts\n"
        screen, _nothing = run.communicate(timeout=120)
    assert run.returncode == 0, screen
    assert "RECOVERED: " in screen
    assert service.healthy()
    (document,) = service.postmortems.glob("INC-*.md")
    text = document.read_text(encoding="utf-8")
    assert "Run started: outage_armed.yml" in text
    # The outage began while the run was waiting. The length of the outage does not include this wait.
    assert "Time to mitigate" in text
    # Now no run is waiting, so the sender of the next alarm must start a recovery.
    assert ring(path).returncode == 7


def test_without_an_alarm_the_service_is_checked(service: Service, tmp_path: Path) -> None:
    alarms = {"outage_armed_alarm": str(tmp_path / "alarms" / "desk"), "outage_armed_timeout": 0.5}
    run = service.play(ARMED, **alarms)
    assert run.rc == 0, run.screen
    assert "HEALTHY: " in run.screen
    assert run.recap()["changed"] == 0
    assert list(service.postmortems.glob("*.jsonl")) == []
    service.kill()
    run = service.play(ARMED, **alarms)
    assert "RECOVERED: " in run.screen


def test_a_killed_run_accepts_no_alarm(service: Service, tmp_path: Path) -> None:
    """Ansible waits in a separate process. If the run is killed, this process continues to run."""
    path = tmp_path / "alarms" / "desk"
    with armed(service, path) as run:
        os.kill(run.pid, signal.SIGKILL)
        run.wait(10)
        assert alarm.ring(str(path)) is False
        wait_for(lambda: not path.exists(), "the remaining process ends")
    assert service.healthy()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"outage_armed_timeout": 0}, "timeout is 0: must be more than 0 seconds"),
        ({"outage_armed_alarm": "/proc/alarm"}, "/proc/alarm cannot be used: "),
    ],
)
def test_invalid_settings_are_named(service: Service, variables: dict[str, object], words: str) -> None:
    run = service.play(ARMED, **variables)
    assert run.rc == 2
    assert words in run.screen
