# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time at which a database recovery replaced the database file, and the cases in which this time is uncertain."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import recovered_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.lease import Clock

WALL, BOOT = 1772416923.0, 5000.0


def clock(passed: float = 0.0, *, moved: float = 0.0, boot_id: str = "boot-1") -> Clock:
    """Return the clock after `passed` seconds.

    moved: the number of seconds by which somebody has adjusted the wall clock.
    """
    return Clock(wall=lambda: WALL + passed + moved, boot=lambda: BOOT + passed, boot_id=lambda: boot_id)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder in which a recovery of itsm.db was saved."""
    (tmp_path / "itsm.db").write_bytes(b"x")
    since = recovered_file.instant(clock())
    recovered_file.note(str(tmp_path / "state"), path=str(tmp_path / "itsm.db"), since=since)
    return tmp_path / "state"


def database(state: Path, **other: Any) -> dict[str, Any]:
    path = os.path.realpath(state.parent / "itsm.db")
    return {"real_path": path, "inode": os.stat(path).st_ino, **other}


@pytest.mark.parametrize(
    ("now", "other", "known"),
    [
        (clock(), {}, True),
        (clock(3600.0), {}, True),
        (clock(3600.0, moved=1.0), {}, True),  # a leap second
        (clock(3600.0, moved=-60.0), {}, False),
        (clock(3600.0, moved=60.0), {}, False),
        (clock(30.0, moved=-60.0), {}, False),  # the saved time is in the future
        (clock(-1.0), {}, False),
        (clock(3600.0, boot_id="boot-2"), {}, False),
        (clock(3600.0, boot_id=""), {}, False),
        (clock(3600.0), {"inode": 1}, False),  # another file has replaced the recovered file
        (clock(3600.0), {"inode": None}, False),
        (clock(3600.0), {"real_path": "/srv/other.db"}, False),
        (clock(3600.0), {"real_path": None}, False),
    ],
)
def test_the_time_is_known_only_if_nothing_has_changed_since_the_recovery(state, now, other, known):
    time = recovered_file.older_before(str(state), database(state, **other), clock=now)
    # An error that was logged at about this time may be about the new file.
    assert time == (timestamps.iso(WALL - 2) if known else "")


def test_a_file_that_was_replaced_again_is_not_the_recovered_file(state):
    path = state.parent / "itsm.db"
    (state.parent / "kept.db").write_bytes(b"x")
    (state.parent / "kept.db").rename(path)
    assert recovered_file.older_before(str(state), database(state), clock=clock(5)) == ""


def test_an_unknown_boot_is_not_the_same_boot(state):
    since = recovered_file.instant(clock(boot_id=""))
    recovered_file.note(str(state), path=str(state.parent / "itsm.db"), since=since)
    assert recovered_file.older_before(str(state), database(state), clock=clock(5, boot_id="")) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"at": "now"},
        {"at": None},
        {"boot": float("nan")},
        {"boot": float("inf")},
        {"boot": "x"},
        {"boot": None},
        {"path": None},
        {"boot_id": None},
    ],
)
def test_a_saved_time_that_is_not_complete_is_unknown(state, change):
    file = state / "recovered_file.json"
    assert recovered_file.older_before(str(state), database(state), clock=clock(5))
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, **change}))
    assert recovered_file.older_before(str(state), database(state), clock=clock(5)) == ""


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", "[" * 4000, "x" * (1 << 17)])
def test_a_damaged_file_is_no_time(state, content):
    (state / "recovered_file.json").write_text(content)
    assert recovered_file.older_before(str(state), database(state), clock=clock(5)) == ""


def test_a_state_folder_of_an_older_version_has_no_time(tmp_path):
    (tmp_path / "itsm.db").write_bytes(b"x")
    assert recovered_file.older_before(str(tmp_path / "state"), database(tmp_path / "state")) == ""


def test_only_this_account_can_read_the_time_and_a_write_error_is_ignored(state):
    assert stat.S_IMODE((state / "recovered_file.json").stat().st_mode) == 0o600
    since = recovered_file.instant()
    for path, folder in ((str(state / "no.db"), state), (str(state.parent / "itsm.db"), state.parent / "itsm.db")):
        recovered_file.note(str(folder), path=path, since=since)
    assert recovered_file.older_before(str(state), database(state), clock=clock(5))
