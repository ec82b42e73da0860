# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No rung can end these outages: the run finds each cause within 25 s and tries no rung. A fix ends the outage."""

from __future__ import annotations

import os

import pytest
from drills import RUNBOOK, Drill

APP = RUNBOOK.app
# Maps each cause to the words that must occur in the next step of the summary.
CAUSES = {
    "environment_missing": f"{RUNBOOK.environment} does not exist",
    "unit_masked": f"systemctl unmask {RUNBOOK.unit}",
    "exec_failed": "/usr/bin/nodex does not exist",
    "syntax_error": f"{APP}/backend/incidents.js:1",
    "database_owner": RUNBOOK.database,
}
# Maximum duration of the playbook in seconds: 25 if a drill runs alone, and more if parallel drills share the cores.
VERDICT = 25.0 * int(os.environ.get("DRILL_JOBS", "1"))


@pytest.mark.parametrize("cause", CAUSES)
def test_cause_is_named_and_no_rung_is_tried(drill: Drill, cause: str) -> None:
    told = drill.postmortem(cause)
    assert (told["outcome"], told["cause"], told["severity"]) == ("not_recovered", cause, "emergency")
    assert (told["rungs_tried"], [each for each in told["remedies"] if each["changed"]]) == ([], [])
    found = told["findings"][0]
    assert CAUSES[cause] in found["summary"] + found["remedy"]


@pytest.mark.parametrize("cause", CAUSES)
def test_people_are_notified(drill: Drill, cause: str) -> None:
    assert drill.postmortem(cause)["escalation"]["to"] == ["project leader"]


@pytest.mark.parametrize("cause", CAUSES)
def test_verdict_is_in_time_and_states_the_next_step(drill: Drill, cause: str) -> None:
    seconds = float((drill.output / f"{cause}.seconds").read_text(encoding="utf-8"))
    assert seconds < VERDICT
    # Join the lines, because long lines are wrapped in the summary.
    closing = " ".join(drill.screen(cause)[-4000:].split())
    assert CAUSES[cause] in closing
    assert "next step" in closing


@pytest.mark.parametrize("cause", CAUSES)
def test_service_stays_down_and_its_files_are_unchanged(drill: Drill, cause: str) -> None:
    before, after = drill.observation(f"{cause}-broken"), drill.observation(f"{cause}-after")
    assert after["rows"] == before["rows"]
    # systemd starts the unit repeatedly, so the unit may be active for a moment. However, the service is never healthy.
    assert after["ports"] == []
    assert [path for path in after["files"] if path.startswith(APP)] == [
        path for path in before["files"] if path.startswith(APP)
    ]


@pytest.mark.parametrize("cause", CAUSES)
def test_incident_is_closed_after_the_cause_is_corrected(drill: Drill, cause: str) -> None:
    after = drill.observation(f"{cause}-again-after")
    assert (after["unit"]["ActiveState"], after["ports"]) == ("active", [6443, int(RUNBOOK.http_port)])
    assert drill.recap(f"{cause}-again")["failed"] == 0


def test_variable_and_reason_are_in_the_finding(drill: Drill) -> None:
    for cause, variable in (("environment_missing", "nexus_environment_file"), ("unit_masked", "nexus_unit")):
        sources = {each["source"]: each["text"] for each in drill.postmortem(cause)["findings"][0]["evidence"]}
        assert "must be" in sources[variable]


def test_restoring_the_owner_of_the_database_and_a_restart_are_enough(drill: Drill) -> None:
    told = drill.postmortem("owner_restored")
    assert (told["outcome"], told["cause"], told["rung"]) == ("recovered", "database_owner", "restart")
    (remedy,) = [each for each in drill.of_last_run(told, "remedies") if each["changed"]]
    assert (remedy["cause"], remedy["failed"]) == ("database_owner", False)
    assert drill.host.check_output(f"find {APP} ! -user {RUNBOOK.user}") == ""


def test_no_row_is_lost(drill: Drill) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
