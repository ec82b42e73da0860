# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database in doubt: its copy, and a file that the restarted service created."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import collect_application, data_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app" / "itsm.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO users (name) VALUES (?)", [("a" * 500,)] * 100)
    connection.close()
    age(path, seconds=60)
    return path


def age(path: Path, *, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def keep(database: Path, tmp_path: Path) -> str:
    params = {"state_dir": str(tmp_path / "state"), "incident": "INC-1", "service": {"user": ""}}
    found = sqlite_check.check(path=str(database), checks=["quick"], time_budget=10.0)
    kept = data_guard._keep_data(params, {"path": str(database), "files": found["files"]})
    assert kept["not_copied"] == ""
    return kept["path"]


def test_a_second_look_at_the_same_damage_makes_no_second_copy(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    assert keep(database, tmp_path) == first


def test_later_damage_is_copied_too(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    time.sleep(1.1)
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 100)
    second = keep(database, tmp_path)
    assert second != first
    assert Path(second, "itsm.db").read_bytes() == database.read_bytes()
    assert Path(first, "itsm.db").read_bytes() != database.read_bytes()


def test_another_size_is_copied_although_its_time_is_old(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    time.sleep(1.1)
    os.truncate(database, 0)
    age(database, seconds=60)
    assert keep(database, tmp_path) != first


ENDED, CREATED = "2026-03-02T01:00:00.500Z", "2026-03-02T01:00:13.000Z"


def seen(
    *, created_at: str | None = CREATED, restarts: int = 1, rows: int = 5, started: str = "2026-03-02T00:59:58.000Z"
) -> dict[str, Any]:
    """Return the facts of a service that ended, started seconds before, and was started again 12 s later."""
    return {
        "window": {"since": "2026-03-02T00:00:00.000Z"},
        "unit": {"name": "itsm-system", "restarts": restarts, "started_at": "2026-03-02T01:00:12.500Z"},
        "journal": {
            "exits": [{"at": ENDED, "text": "Main process exited, code=killed, status=9/KILL"}],
            "starts": [{"at": started, "text": "Started itsm-system.service"}],
        },
        "database": {"conclusive": True, "row_counts": {"users": rows}, "created_at": created_at},
    }


def held_facts(facts: dict[str, Any], *, rows: dict[str, int], on_record: dict[str, Any]) -> dict[str, Any]:
    held = {"incident": "INC-1", "cause": "db_corrupt", "reason": "x", "at": CREATED}
    return triage_run._hold_facts(facts, held, rows, on_record=on_record)


@pytest.mark.parametrize(
    ("facts", "rows", "created_at"),
    [
        (seen(), {"users": 5}, CREATED),
        # It is older than the outage, or its file system does not record the time.
        (seen(created_at="2026-03-01T00:00:00.000Z"), {"users": 5}, None),
        (seen(created_at=None), {"users": 5}, None),
        # A person started the service, and may have restored the file before.
        (seen(restarts=0), {"users": 5}, None),
        # The service has never worked: there was no database before.
        (seen(), {}, None),
        # No run has counted the rows, but the service worked for an hour.
        (seen(started="2026-03-02T00:01:00.000Z"), {}, CREATED),
    ],
)
def test_a_database_file_that_the_restarted_service_created(facts, rows, created_at) -> None:
    found = held_facts(facts, rows=rows, on_record={})
    assert found["created_at"] == created_at
    assert bool(found["kept_by"]) == bool(created_at or not rows)


def test_a_created_database_stays_in_doubt_while_its_file_is_the_same() -> None:
    stopped = {**seen(rows=9), "unit": {"name": "itsm-system", "restarts": 0}, "journal": {}}
    found = held_facts(stopped, rows={"users": 5}, on_record={"created_at": CREATED})
    assert found["kept_by"] == f"the database file was created at {CREATED}, after the service had ended"
    stopped["database"]["created_at"] = "2026-03-02T02:00:00.000Z"
    assert not held_facts(stopped, rows={"users": 5}, on_record={"created_at": CREATED})["kept_by"]


def test_a_created_database_is_in_doubt_although_no_table_has_fewer_rows(monkeypatch, tmp_path: Path) -> None:
    noted: list[dict[str, Any]] = []
    monkeypatch.setattr(data_guard.one_starter, "put_in_doubt", lambda **given: noted.append(given))
    result = {
        "findings": [],
        "facts": seen(),
        "rows_collapsed": False,
        "rows_missing": {},
        "rows_before": {"users": 5},
        "row_counts": {"users": 5},
        "database_created_at": CREATED,
    }
    params = {"state_dir": str(tmp_path), "run": "r1", "service": {"manager": "systemd", "unit": "itsm-system"}}
    data_guard._guard(params, result, {"record": {}, "held": None}, warn=pytest.fail)
    (doubt,) = noted
    assert doubt["created_at"] == CREATED
    assert doubt["reasons"] == [f"The database file was created at {CREATED}, after the service had ended"]
    assert doubt["rows"] == {"users": 5}


def test_the_time_at_which_the_database_file_was_created(database: Path) -> None:
    created = collect_application._created_at(
        SimpleNamespace(run=commands.run, left=5.0, known=SimpleNamespace(database_path=str(database)))
    )
    assert created is None or abs(timestamps.epoch(created) - time.time()) < 60
    gone = SimpleNamespace(run=commands.run, left=5.0, known=SimpleNamespace(database_path=f"{database}.gone"))
    assert collect_application._created_at(gone) is None
