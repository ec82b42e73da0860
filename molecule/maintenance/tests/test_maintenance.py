# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""During a maintenance window, a run only reports an outage. The window ends automatically."""

from __future__ import annotations

import pytest
import runs
from drills import RUNBOOK, STATE_DIR, Drill

FILE = f"{STATE_DIR}/maintenance.json"
# An end time that cannot belong to a window of one hour.
FAR = "2099-12-31T09:00:00+09:00"


@pytest.fixture(scope="module")
def codes(drill: Drill) -> dict[str, int]:
    codes = {}

    def run(name: str, *arguments: str, playbook: str = "outage_recover") -> None:
        codes[name] = runs.run(drill, name, *arguments, playbook=playbook)

    run(
        "begin",
        "--extra-vars={'outage_maintenance_until': '+1h', 'outage_maintenance_reason': 'Release 4.2'}",
        playbook="outage_maintenance",
    )
    # Stop the unit, as a person does before a release. If a signal killed the service, systemd would restart it.
    drill.host.check_output(f"systemctl stop {RUNBOOK.unit}")
    drill.host.check_output("/opt/drill/bin/observe.py >/opt/drill/output/broken.json")
    run("during")
    run("detection", playbook="outage_detect")
    run("end", "--extra-vars=outage_maintenance_state=absent", playbook="outage_maintenance")
    run("variable", f"--extra-vars=nexus_maintenance_until={FAR}")
    # A maintenance window that has already ended.
    drill.host.check_output(f"""echo '{{"until": "2026-03-02T13:00+09:00", "reason": "Release 4.1"}}' >{FILE}""")
    run("over")
    return codes


def closing(drill: Drill, run: str) -> str:
    return " ".join(drill.screen(run)[drill.screen(run).index("PLAY RECAP") :].split())


def test_playbook_reports_the_end_of_the_window(drill: Drill, codes: dict[str, int]) -> None:
    assert codes["begin"] == 0
    assert "MAINTENANCE STARTED: maintenance; no recovery will start until" in closing(drill, "begin")
    assert FILE in drill.observation("begin-after")["files"]


@pytest.mark.parametrize("run", ["during", "variable"])
def test_outage_is_only_reported(drill: Drill, codes: dict[str, int], run: str) -> None:
    assert codes[run] == 2
    assert "MAINTENANCE: maintenance, emergency:" in closing(drill, run)
    assert "no recovery will start until" in closing(drill, run)
    assert drill.recap(run)["changed"] == 0
    assert drill.documents(run) == []
    drill.assert_untouched(drill.observation("broken"), drill.observation(f"{run}-after"))


def test_no_incident_is_opened(drill: Drill, codes: dict[str, int]) -> None:
    for run in ("during", "variable"):
        kept = [path for path in drill.observation(f"{run}-after")["files"] if path.startswith(STATE_DIR)]
        assert [path for path in kept if "incident" in path or "evidence" in path] == []
    assert len(runs.past_incidents(drill)) == 1


def test_screen_shows_the_reason_and_how_to_end_it(drill: Drill, codes: dict[str, int]) -> None:
    assert "(Release 4.2)" in closing(drill, "during")
    assert "playbooks/outage_maintenance.yml -e outage_maintenance_state=absent" in closing(drill, "during")
    # End of the window in UTC. The setting gives the time in another time zone.
    assert "2099-12-31 00:00:00 UTC" in closing(drill, "variable")
    assert "nexus_maintenance_until" in closing(drill, "variable")


def test_detection_continues(drill: Drill, codes: dict[str, int]) -> None:
    assert codes["detection"] == 2
    assert "DOWN: maintenance, emergency" in closing(drill, "detection")


def test_playbook_ends_the_window(drill: Drill, codes: dict[str, int]) -> None:
    assert codes["end"] == 0
    assert "MAINTENANCE ENDED: maintenance, recovery is enabled again" in closing(drill, "end")
    assert FILE not in drill.observation("end-after")["files"]


def test_window_ends_by_itself(drill: Drill, codes: dict[str, int]) -> None:
    assert codes["over"] == 0
    assert FILE in drill.observation("over-after")["files"]
    told = drill.postmortem("over")
    assert (told["outcome"], told["rung"]) == ("recovered", "restart")
    # The run opens the incident only after the window ends, but the incident contains the actual start of the outage.
    assert told["times"]["started_at"] < told["times"]["detected_at"]


def test_no_row_is_lost(drill: Drill, codes: dict[str, int]) -> None:
    drill.assert_serves()
    drill.assert_every_row_is_there()
