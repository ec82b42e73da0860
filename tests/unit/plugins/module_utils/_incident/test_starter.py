# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If the database is in doubt, a takeover kills any new process, except one that has the deleted database open."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


class Systemd:
    """A fake systemctl. The unit is active, and its main process is this test, which started `age` seconds ago."""

    def __init__(self, age):
        started = int((time.clock_gettime(time.CLOCK_MONOTONIC) - age) * 1e6)
        self.shown = "ActiveState=active\nSubState=running\nJob=\n"
        self.shown += f"ExecMainPID={os.getpid()}\nExecMainStartTimestampMonotonic={started}\n"
        self.verbs = []

    def __call__(self, argv, **_more):
        verb = argv[0] if argv[0] != "systemctl" else argv[1] if argv[1] == "show" else argv[2]
        if verb != "show":
            self.verbs.append(verb)
        return SimpleNamespace(ok=True, rc=0, stdout=self.shown, stderr="", timed_out=False)


@pytest.mark.parametrize(
    ("age", "opened", "ended"),
    [
        pytest.param(2.0, "nothing", True, id="a process that has just been started"),
        pytest.param(2.0, "there", True, id="one that has opened the file that is there"),
        pytest.param(2.0, "deleted", False, id="one that holds the file that was deleted"),
        pytest.param(3600.0, "nothing", False, id="one that has run for long"),
    ],
)
def test_only_a_young_process_without_the_deleted_file_is_killed(tmp_path, monkeypatch, age, opened, ended):
    monkeypatch.setattr(host_lease, "memory_folder", lambda: str(tmp_path / "memory"))
    database = tmp_path / "itsm.db"
    database.write_bytes(b"x")
    systemd = Systemd(age)
    opened_by = incident_record.call(state_dir=str(tmp_path / "state"), state="open")["run"]
    stream = open(database, "rb") if opened != "nothing" else None  # noqa: SIM115 - it is open while the unit is taken over
    try:
        if opened == "deleted":
            database.unlink()
        taken = one_starter.take_over(
            unit="itsm-system",
            state_dir=str(tmp_path / "state"),
            run=opened_by,
            reason="it is missing beside its WAL",
            database_path=str(database),
            warn=lambda text: None,
            command=systemd,
        )
    finally:
        if stream is not None:
            stream.close()
    assert (taken is not None) == ended
    assert systemd.verbs == (["systemd-run", "kill", "stop"] if ended else [])
    # If the takeover caused the process to exit, this exit does not count as the service's own exit.
    kills = incident_store.current(str(tmp_path / "state"))["kills"]
    assert [kill["from"] <= kill["until"] == taken["at"] for kill in kills] == [True] * ended


@pytest.mark.parametrize(
    ("state", "unit", "result", "changes"),
    [
        ("open", "itsm", {"run": "run-1", "takeover": None}, {"takeover": {"unit": "itsm"}}),
        ("open", "", {"run": "run-1", "takeover": None}, {}),
        ("open", "itsm", {"run": None, "takeover": None}, {}),
        ("attempt", "itsm", {"run": "run-1", "takeover": {"unit": "itsm"}}, {}),
        ("closed", "", {"run": "run-1", "takeover": {"unit": "itsm"}}, {"handed_back": True}),
        ("closed", "itsm", {"run": "run-1", "takeover": None}, {}),
    ],
)
def test_a_unit_is_taken_over_at_the_opening_and_handed_back_at_the_close(monkeypatch, state, unit, result, changes):
    monkeypatch.setattr(one_starter, "take_over", lambda **_asked: {"unit": "itsm"})
    monkeypatch.setattr(one_starter, "hand_back", lambda **_asked: True)
    found = one_starter.follow(result, state=state, unit=unit, state_dir="/none", warn=lambda text: None)
    assert found == changes
