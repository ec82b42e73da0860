# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The problems of a service that answers, and the limits above which these problems are reported."""

from __future__ import annotations

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import history, limits, messages, problems
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import HealthError

NOW = 1_800_000_000.0
LIMITS = limits.Limits()
SOUND = {"damage": None, "checked": True, "lock": None, "wal": 0}
MIB = 1 << 20
LOCK = {"pid": 7, "parents": [], "command": "sqlite3", "user": "alice", "age": 10800.0, "seconds": 2.0}


def told(found):
    return [(each.cause, messages.english(each.told)) for each in found]


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"damage": {"code": "corrupt", "message": "x"}}, "db_corrupt", "pages are damaged"),
        ({"lock": LOCK}, "db_locked", "Process 7 (sqlite3, user alice, age 3 hours) has blocked all writes"),
        ({"lock": LOCK}, "db_locked", "for at least 2.0 s"),
        ({"lock": {**LOCK, "user": None, "age": None}}, "db_locked", "(sqlite3, user unknown, age unknown)"),
        ({"lock": {**LOCK, "pid": 4711}}, "db_locked", "The service itself (process 4711)"),
        # The unit starts a program that starts node.
        ({"lock": {**LOCK, "parents": [12, 4711]}}, "db_locked", "The service itself (process 7)"),
        ({"lock": {**LOCK, "parents": [12, 1]}}, "db_locked", "Process 7 (sqlite3, user alice, age 3 hours)"),
        ({"lock": {**LOCK, "pid": 0, "user": None, "age": None}}, "db_locked", "not visible on this host"),
        ({"wal": 100 * MIB}, "wal_growing", "100 MiB"),
    ],
)
def test_database(changes, cause, words):
    sample = {"boot": "", "offset": 0, "latency": None, "restarts": None, "disks": {}}
    known = [history.sample(at=NOW - 600, wal=50 * MIB, **sample)]
    assert told(problems.of_database("/db", SOUND, known, LIMITS, NOW)) == []
    ((found, text),) = told(problems.of_database("/db", {**SOUND, **changes}, known, LIMITS, NOW, pids=[4711]))
    assert found == cause and words in text


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (["corrupt"], "pages are damaged. Accepted by a person on 10:00: CHG-4711"),
        (["row_loss"], "The person who released the service on 10:00 (CHG-4711) did not accept this damage"),
    ],
)
def test_damage_after_a_person_has_released_the_service(codes, words):
    acceptance = incident_store.Acceptance("10:00", "CHG-4711", codes, True)
    damaged = {**SOUND, "damage": {"code": "corrupt", "message": "x"}}
    ((cause, text),) = told(problems.of_database("/db", damaged, [], LIMITS, NOW, acceptance=acceptance))
    assert cause == "db_corrupt" and text.endswith(words)


def disk(**changes):
    room = {"bytes": 100 * MIB, "used_percent": 50.0, "inodes": 1000, "inodes_percent": 50.0}
    return {"mount": "/srv", "uses": ["database"], **room, **changes}


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({}, []),
        ({"used_percent": 96.0}, ["disk_filling"]),
        ({"used_percent": 94.9}, []),
        ({"used_percent": 96.0, "bytes": 200 * MIB}, []),
        ({"used_percent": 99.0}, ["disk_full"]),
        ({"inodes_percent": 96.0}, ["disk_filling"]),
        ({"inodes_percent": 100.0}, ["disk_full"]),
    ],
)
def test_disks(changes, causes):
    sample = {"boot": "", "offset": 0, "latency": None, "restarts": None, "wal": None}
    known = [history.sample(at=NOW - 600, disks={"/srv": {"bytes": 200 * MIB, "inodes": 2000}}, **sample)]
    assert [cause for cause, _text in told(problems.of_disks([disk(**changes)], known, LIMITS, NOW))] == causes
    # If there is no trend, only a full file system is reported as a problem.
    alone = [cause for cause, _text in told(problems.of_disks([disk(**changes)], [], LIMITS, NOW))]
    assert alone == [cause for cause in causes if cause == "disk_full"]


@pytest.mark.parametrize(
    ("open_files", "limit", "reported"), [(89, 100, 0), (90, 100, 1), (90, None, 0), (None, 100, 0)]
)
def test_open_files(open_files, limit, reported):
    assert len(told(problems.of_open_files(1, open_files, limit, LIMITS))) == reported


@pytest.mark.parametrize(("days", "causes"), [(-1, ["tls_expired"]), (6.9, ["tls_expiring"]), (7.1, [])])
def test_certificates(days, causes):
    endpoint = {"url": "https://localhost", "certificate": {"not_after": timestamps.iso(NOW + days * 86400)}}
    none = {"url": "http://localhost", "certificate": None}
    assert [cause for cause, _text in told(problems.of_certificates([endpoint, none], LIMITS, NOW))] == causes


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({}, []),
        ({"restarts": 3}, ["frequent_restarts"]),
        ({"restarts": 2}, []),
        ({"pressure": 20.0}, ["memory_pressure"]),
        ({"offset": 59.0}, []),
        ({"offset": -61.0}, ["clock_jump"]),
    ],
)
def test_host(changes, causes):
    values = {"restarts": 0, "pressure": 0.0, "offset": 0.0, **changes}
    sample = {"boot": "b", "offset": 0.0, "latency": None, "wal": None, "disks": {}}
    found = problems.of_host(
        clock={"now": NOW, "boot": "b", "offset": values["offset"]},
        restarts=values["restarts"],
        pressure=values["pressure"],
        known=[history.sample(at=NOW - 60, restarts=0, **sample)],
        limits=LIMITS,
    )
    assert [cause for cause, _text in told(found)] == causes


def test_a_limit_of_zero_switches_a_check_off():
    off = limits.Limits(*[type(value)() for value in LIMITS])
    full = disk(used_percent=96.0)
    assert list(problems.of_disks([full], [], off, NOW)) == []
    assert list(problems.of_open_files(1, 100, 100, off)) == []
    assert not problems.is_slow(60.0, [], off)
    assert list(problems.of_database("/db", {**SOUND, "wal": 1 << 40}, [], off, NOW)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slow_after": -1.0}, "readiness.slow_after: -1.0 must be from 0 to 60"),
        ({"lock_after": 11.0}, "readiness.lock_after: 11.0 must be from 0 to 10"),
        ({"restarts": -1}, "readiness.restarts: -1 must be at least 0"),
        ({"ready_path": "ready"}, "readiness.ready_path: 'ready' must begin with /, or be empty"),
    ],
)
def test_limits_are_validated(changes, words):
    with pytest.raises(HealthError) as raised:
        limits.of({**LIMITS._asdict(), **changes})
    assert str(raised.value) == words


def test_the_slow_limit_follows_the_usual_latency():
    sample = {"boot": "", "offset": 0, "restarts": None, "wal": None, "disks": {}}
    assert [problems.is_slow(seconds, [], LIMITS) for seconds in (0.99, 1.0)] == [False, True]
    usual = [history.sample(at=NOW, latency=0.5, **sample)] * 5
    assert [problems.is_slow(seconds, usual, LIMITS) for seconds in (4.9, 5.0)] == [False, True]
    assert "instead of the usual 0.500 s" in messages.english(problems.of_latency(6.0, usual, "url").told)
