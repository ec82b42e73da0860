# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the other playbooks on a degraded service.

The `degraded` drill tests the main playbook with each problem.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import resource
import subprocess
from collections.abc import Iterator
from typing import Any

from .conftest import Run, Service


@contextlib.contextmanager
def lock(service: Service) -> Iterator[None]:
    """Hold the write lock in another process, as a forgotten sqlite3 shell would."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", program, service.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        yield
        holder.kill()


@contextlib.contextmanager
def few_files(service: Service) -> Iterator[None]:
    """Lower the limit for open files to the number of files that the service has open."""
    (pid,) = service.pids()
    # Descriptors that are already open remain open.
    open_files = len(os.listdir(f"/proc/{pid}/fd"))
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files + 1, hard))
    yield


def outcome(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.documents(".json")[-1].read_text(encoding="utf-8")))


def test_detection_and_check_mode_report_the_problem(service: Service) -> None:
    with lock(service):
        seen = service.play("playbooks/outage_detect.yml")
        planned = service.play("playbooks/outage_recover.yml", "--check")
    assert (seen.rc, planned.rc) == (2, 2)
    blocked = r"^DEGRADED: localhost, Process \d+ \(python3, user \w+, age \d+ s\) has blocked all writes"
    assert re.search(blocked, seen.screen, re.MULTILINE)
    assert "DEGRADED, the service answers (check mode, nothing changed)" in planned.screen
    assert not (service.state / "incident.json").exists()


def test_a_timer_does_not_start_a_recovery_for_a_problem_that_was_reported(service: Service) -> None:
    excused = {"outage_detect_excuses_reported": True}
    with lock(service):
        assert service.play("playbooks/outage_detect.yml", **excused).rc == 2
        assert service.play("playbooks/outage_recover.yml").rc == 2
        known = service.play("playbooks/outage_detect.yml", **excused)
        assert known.rc == 0
        assert "has already been opened for this problem: this is not an error" in known.screen
        # No run has reported the other problem yet.
        with few_files(service):
            assert service.play("playbooks/outage_detect.yml", **excused).rc == 2
    service.kill()
    assert service.play("playbooks/outage_detect.yml", **excused).rc == 2


def test_a_process_that_holds_the_lock_is_stopped_if_the_policy_names_it(service: Service) -> None:
    before = service.pids()
    user = pwd.getpwuid(os.geteuid()).pw_name
    with lock(service):
        run = service.play(
            "playbooks/outage_recover.yml",
            remediation_stop_policy=[{"user": user, "command": "python3 -c import sqlite3.*"}],
        )
    assert run.rc == 0, run.screen
    told = outcome(run)
    assert (told["outcome"], told["severity"], told["cause"]) == ("recovered", "degraded", "db_locked")
    assert [(each["cause"], each["changed"]) for each in told["remedies"]] == [("db_locked", True)]
    assert told["rungs_tried"] == []
    assert service.pids() == before
    assert service.play("playbooks/outage_recover.yml").rc == 0


def test_a_run_that_only_notifies_stops_no_process(service: Service) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    with lock(service):
        run = service.play(
            "playbooks/outage_recover.yml",
            outage_recover_act_on=[],
            remediation_stop_policy=[{"user": user, "command": "python3 -c import sqlite3.*"}],
        )
    assert run.rc == 2, run.screen
    told = outcome(run)
    assert (told["outcome"], told["cause"], told["remedies"]) == ("degraded", "db_locked", [])
