# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Consecutive readiness checks. Each check can use the measurements from earlier checks."""

from __future__ import annotations

import os
import pwd
import time

import pytest
from http_servers import Server

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import examine, limits, measure
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import Target

NOW = 1_800_000_000.0
URL = "http://localhost/health"


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Return a function that checks a service with a given latency in milliseconds.

    Each check takes place ten minutes after the previous one.
    """
    clock = {"now": NOW, "boot": "b1", "offset": 100.0}
    monkeypatch.setattr(measure, "clock", lambda: dict(clock))

    def check(latency_ms=1.0, *, jump=0.0, forget=(), **changes):
        clock["now"] += 600 + jump
        clock["offset"] += jump
        endpoint = {"url": URL, "required": True, "ok": True, "latency_ms": latency_ms, "certificate": None}
        monkeypatch.setattr(http_probe, "probe", lambda *_args, **_options: [endpoint])
        question = examine.Question(
            endpoints=[endpoint],
            targets=[Target("http", URL)],
            pids=[],
            restarts=None,
            database_path="",
            user="",
            folders={},
            login=None,
            timeout=1.0,
            state_dir=str(tmp_path),
        )._replace(**changes)
        found = examine.examine(question, limits.Limits(ready_path=""), remember=True, forget=forget)
        return [each["cause"] for each in found["problems"]]

    return check


def test_a_service_that_stays_slow_stays_degraded(check):
    """Slow responses must not count as normal. Otherwise, the service would soon be reported as healthy again."""
    assert [check(1500.0) for _time in range(12)] == [["slow"]] * 12


def test_a_service_that_becomes_slow_stays_degraded(check):
    assert [check(20.0) for _time in range(10)] == [[]] * 10
    assert [check(1500.0) for _time in range(60)] == [["slow"]] * 60
    assert check(20.0) == []


@pytest.mark.parametrize("days", [-400, -1, 1, 400])
def test_a_clock_that_is_changed_by_days_is_reported_once(check, days):
    assert check() == []
    assert check(jump=days * 86400.0) == ["clock_jump"]
    assert check() == []


def test_a_check_that_opens_no_incident_leaves_a_changed_clock_to_the_next_run(check):
    assert check() == []
    assert check(jump=7200.0, forget=["clock_jump"]) == ["clock_jump"]
    assert check() == ["clock_jump"]
    assert check() == []


@pytest.mark.parametrize(
    ("status", "before", "causes"),
    [
        (429, "", []),
        (429, "slow", []),
        (429, "not_ready", ["not_ready"]),
        # The service no longer has this endpoint.
        (404, "not_ready", []),
        (200, "not_ready", []),
        (503, "not_ready", ["not_ready"]),
    ],
)
def test_a_problem_that_is_not_checked_again_is_not_gone(tmp_path, status, before, causes):
    with Server((status, b"{}")) as server:
        question = examine.Question(
            **{"endpoints": [], "targets": [Target("http", f"http://127.0.0.1:{server.port}/health")], "pids": []},
            **{"restarts": None, "database_path": "", "user": "", "folders": {}, "login": None, "timeout": 1.0},
            **{"state_dir": str(tmp_path), "before": before},
        )
        found = examine.examine(question, limits.Limits(ready_path="/health/ready"), remember=False)
    assert [each["cause"] for each in found["problems"]] == causes


def test_a_database_that_is_not_checked_again_may_still_be_locked(check):
    assert check(before="db_locked") == ["db_locked"]
    assert check(before="too_many_files") == ["too_many_files"]


def test_a_hanging_disk_hides_no_damage_and_a_hanging_database_no_full_disk(check, monkeypatch, tmp_path):
    database = tmp_path / "itsm.db"
    database.write_bytes(b"not a database" * 100)
    place = {"database_path": str(database), "user": pwd.getpwuid(os.geteuid()).pw_name}
    monkeypatch.setattr(examine, "_MORE", -1.5)
    with monkeypatch.context() as patch:
        patch.setattr(measure, "disks", lambda _paths, **_options: time.sleep(60))
        assert check(**place) == ["db_corrupt"]
    monkeypatch.setattr(measure, "database", lambda *_args, **_options: time.sleep(60))
    full = {"mount": "/", "uses": ["database"], "bytes": 0, "used_percent": 100, "inodes": 1000, "inodes_percent": 1}
    monkeypatch.setattr(measure, "disks", lambda _paths, **_options: [full])
    assert check(**place) == ["disk_full"]
