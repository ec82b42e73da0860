# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service answers its health endpoint but has a problem that this endpoint hides: the run reports DEGRADED."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import ROOT, Run, Service

SLOW = """
for (const {Server} of [require('http'), require('https')]) {
  const emit = Server.prototype.emit;
  Server.prototype.emit = function (name, ...rest) {
    if (name !== 'request') return emit.call(this, name, ...rest);
    setTimeout(() => emit.call(this, name, ...rest), 1500);
    return true;
  };
}
"""
NO_MEMORY = "require('os').freemem = () => 0;"


def corrupt(service: Service) -> contextlib.AbstractContextManager[None]:
    """Overwrite a page of the incidents table, as a failing disk does."""
    with contextlib.closing(sqlite3.connect(service.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'incidents'").fetchone()[0]
    with service.database.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xa5" * size)
    return contextlib.nullcontext()


@contextlib.contextmanager
def lock(service: Service) -> Iterator[None]:
    """Hold the write lock in another process, as a forgotten shell does."""
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
    # Descriptors that are already open stay open.
    open_files = len(os.listdir(f"/proc/{pid}/fd"))
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files + 1, hard))
    yield


def expire(service: Service) -> contextlib.AbstractContextManager[None]:
    """Start the service with a certificate that has expired."""
    service.kill()
    subprocess.run([ROOT / "demo/certificate", service.app / "backend/ssl", "32 days ago", "2 days ago"], check=True)
    service.start()
    return contextlib.nullcontext()


def changed(service: Service, program: str) -> contextlib.AbstractContextManager[None]:
    """Start the service with a program that Node runs first."""
    service.kill()
    hook = service.folder / "hook.js"
    hook.write_text(program, encoding="utf-8")
    with service.environment_file.open("a", encoding="utf-8") as stream:
        stream.write(f"NODE_OPTIONS=--require={hook}\n")
    service.start()
    return contextlib.nullcontext()


CASES = {
    "db_corrupt": (corrupt, "is not sound"),
    "db_locked": (lock, "python3"),
    "too_many_files": (few_files, "files and connections open"),
    "tls_expired": (expire, "expired on"),
    "not_ready": (lambda service: changed(service, NO_MEMORY), "memory"),
    "slow": (lambda service: changed(service, SLOW), "s for an answer"),
}


def outcome(run: Run) -> dict[str, Any]:
    return dict(json.loads(run.documents(".json")[-1].read_text(encoding="utf-8")))


@pytest.mark.parametrize("cause", CASES)
def test_a_problem_that_the_health_endpoint_hides_is_reported_and_nothing_is_restarted(
    service: Service, cause: str
) -> None:
    break_it, words = CASES[cause]
    with break_it(service):
        before = service.pids()
        run = service.play("playbooks/outage_recover.yml", detection_timeout=5.0)
        assert run.rc == 2
        assert "DEGRADED" in run.screen
        told = outcome(run)
        assert (told["outcome"], told["severity"], told["cause"]) == ("degraded", "degraded", cause)
        assert words in told["cause_summary"]
        assert told["rungs_tried"] == []
        assert service.pids() == before
        again = service.play("playbooks/outage_recover.yml", detection_timeout=5.0)
        assert again.rc == 2
        # The same people are not notified again.
        assert outcome(again)["incident"] == told["incident"]
        assert [each for each in outcome(again)["escalation"]["notified"] if each["new"]] == []
        assert service.pids() == before


def test_detection_and_check_mode_report_the_problem(service: Service) -> None:
    with lock(service):
        seen = service.play("playbooks/outage_detect.yml")
        planned = service.play("playbooks/outage_recover.yml", "--check")
    assert (seen.rc, planned.rc) == (2, 2)
    assert re.search(r"^DEGRADED: localhost, Process \d+ \(python3\) has blocked all writes", seen.screen, re.MULTILINE)
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
        # Another problem is not yet known.
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
