# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sqlite_restore module saves the time at which it replaced the database file. No other module saves this time."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlite_samples import closed

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import recovered_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard
from ansible_collections.itsm_nexus.runbook.plugins.modules import sqlite_restore

from .test_lease_modules import begin, end


class Place:
    """A database, and the modules that read or change it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "itsm.db", folder / "state"
        self.evidence = str(folder / "evidence")
        closed(str(self.path))
        self.run = incident_record.call(state_dir=str(self.state), state="open")["run"]

    def damage(self) -> None:
        content = bytearray(self.path.read_bytes())
        content[4096:4608] = b"\xff" * 512
        self.path.write_bytes(bytes(content))

    def call(self, module: str, **parameters: Any) -> dict[str, Any]:
        result: dict[str, Any] = end(begin(module, run=self.run, state_dir=str(self.state), **parameters))
        assert not result.get("failed"), result
        return result

    def restore(self, **parameters: Any) -> dict[str, Any]:
        return self.call("sqlite_restore", path=str(self.path), evidence_dir=self.evidence, **parameters)

    def older_before(self) -> str:
        """Return the time that triage uses. See recovered_file.older_before."""
        service = {"manager": "process", "unit": "itsm", "pid_file": ""}
        known = data_guard.known({"state_dir": str(self.state), "service": service, "incident": ""})
        look = {"real_path": os.path.realpath(self.path), "inode": self.path.stat().st_ino}
        time: str = known["recovered_at_of"](look)
        return time


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("method", "more"),
    [("salvage", {}), ("backup", {"backup_patterns": ["*.good"]}), ("empty", {"confirm_empty": True})],
)
def test_the_time_of_a_new_file_is_saved(place, method, more):
    closed(str(place.path) + ".good")
    place.damage()
    begun = timestamps.now()
    result = place.restore(state="recovered", method=method, backup_dirs=[str(place.path.parent)], **more)
    assert (result["changed"], result["method"]) == (True, method)
    saved = timestamps.epoch(place.older_before())
    # The margin covers small changes of the clock.
    assert timestamps.epoch(begun) - 2 <= saved <= timestamps.epoch(timestamps.now()) - 2
    if method == "empty":
        return
    # A later checkpoint does not replace the file.
    database = sqlite3.connect(place.path)
    assert place.restore(state="planned")["healthy_before"]
    database.close()
    place.restore(state="recovered")
    assert timestamps.epoch(place.older_before()) == saved


def test_a_checkpoint_replaces_no_file_so_it_saves_no_time(place):
    database = sqlite3.connect(place.path)
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("DELETE FROM incidents WHERE id = 1")
    database.commit()
    copies = {name: Path(f"{place.path}{name}").read_bytes() for name in ("", "-wal")}
    database.close()
    for name, content in copies.items():
        Path(f"{place.path}{name}").write_bytes(content)
    result = place.restore(state="recovered")
    assert (result["changed"], result["method"]) == (True, "checkpoint")
    assert not (place.state / "recovered_file.json").exists()


@pytest.mark.parametrize(
    ("method", "code", "level", "saved"),
    [
        ("salvage", "foreign_keys", "warning", True),
        ("salvage", "corrupt", "error", False),
        ("salvage", "no_tables", "error", False),
        ("empty", "no_tables", "error", True),
        ("empty", "corrupt", "error", False),
    ],
)
def test_no_time_is_saved_if_the_check_of_the_new_file_found_an_error(method, code, level, saved):
    result = {"changed": True, "method": method, "problems_after": [{"code": code, "level": level}]}
    assert sqlite_restore._is_new_and_sound(result) is saved


@pytest.mark.parametrize("more", [{"state": "planned"}, {"state": "recovered", "_ansible_check_mode": True}])
def test_a_plan_saves_no_time(place, more):
    place.damage()
    assert place.restore(**more)["method"] == "salvage"
    assert not (place.state / "recovered_file.json").exists()


@pytest.mark.parametrize("statement", ["sound", "accepted"])
def test_a_release_saves_no_time(place, statement):
    service = {"manager": "process", "unit": "itsm", "reason": "CHG-4711"}
    place.call("service_hold", state="held", **service)
    look = place.call("sqlite_info", path=str(place.path), checks=["quick", "integrity"], remember=True)
    place.call("service_hold", state="released", **service, statement=statement, look=look)
    assert (place.state / "last_good_rows.json").exists()
    assert not (place.state / "recovered_file.json").exists()
    assert recovered_file.older_before(str(place.state), look["database"]) == ""
