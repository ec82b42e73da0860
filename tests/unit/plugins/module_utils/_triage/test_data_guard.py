# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copy of a database in doubt: one for each damage, not one for each look."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard


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
