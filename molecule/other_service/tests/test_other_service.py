# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With other variables, the playbooks recover another Node.js service with SQLite (restart and clean start)."""

from __future__ import annotations

import pytest
from drills import Drill

VISITORS = ["Ada", "Grace", "Edsger", "Barbara"]
DATABASE = "/var/lib/desk/visitors.sqlite3"


def test_it_serves_every_row(drill: Drill) -> None:
    assert drill.ask("http://host:3000/healthz") == (200, {"status": "UP"})
    assert drill.ask("http://host:3000/visitors") == (200, VISITORS)


@pytest.mark.parametrize(("run", "rung"), [("recover", "restart"), ("clean_start", "clean_start_recovery")])
def test_postmortem_names_only_this_service(drill: Drill, run: str, rung: str) -> None:
    told = drill.postmortem(run)
    assert (told["outcome"], told["severity"], told["cause"], told["rung"]) == (
        "recovered",
        "emergency",
        "killed",
        rung,
    )
    assert told["rows_before"]["visitors"] == told["rows_after"]["visitors"] == len(VISITORS)
    assert told["data_loss"] == "none"
    assert "itsm" not in drill.screen(run).replace("itsm_nexus", "").replace("itsm-runbook", "").replace(
        "itsm-nexus", ""
    )


def test_clean_start_left_a_backup_in_the_folder_of_the_database(drill: Drill) -> None:
    (backup,) = drill.host.check_output(f"ls {DATABASE}.backup_*").splitlines()
    assert drill.rows_of(backup)["visitors"] == len(VISITORS)


def test_the_other_service_is_unchanged(drill: Drill) -> None:
    before, after = drill.observation("sound"), drill.now()
    assert after["unit"] == before["unit"]
    assert [each["pid"] for each in after["processes"]] == [each["pid"] for each in before["processes"]]
    drill.assert_serves()
    drill.assert_every_row_is_there()
