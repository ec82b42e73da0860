# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from http_servers import BAD, GOOD, Server

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import detection


def detect(tmp_path, *answers, check_mode=False, **changes):
    """Probe a service that has no process and returns these responses. Return the result."""
    warnings = []
    with Server(*answers) as server:
        endpoint = {"name": "http", "url": f"http://127.0.0.1:{server.port}/health"}
        values = {
            **{"mode": "watch", "ok_statuses": ["ok"], "timeout": 1.0, "interval": 0.0, "deadline": 1.0, "count": 2},
            **{"warning_after": 3, "critical_after": 5, "endpoints": [endpoint], "login": None, "preflight": None},
            "service": {
                **{"manager": "process", "unit": None, "app_dir": str(tmp_path), "user": "", "command": ["nothing"]},
                **{"environment_file": "", "log_file": None, "pid_file": None},
            },
            **{"ports": [], "run": "", "state_dir": str(tmp_path / "state"), "remember": True},
            **{"open": True, "maintenance_until": "", "maintenance_reason": "", "readiness": None, **changes},
        }
        plain = {"ready": lambda *_: None, "see": lambda _values, _checked, _health, meanwhile: meanwhile}
        call = detection.Detection(values, check_mode=check_mode, warn=warnings.append, **plain)
        call.ask()
        return call.report(), warnings, values["state_dir"]


def test_a_healthy_service_is_remembered_and_no_incident_opened(tmp_path):
    result, warnings, state_dir = detect(tmp_path, GOOD)
    assert (result["healthy"], result["severity"], result["opened"], warnings) == (True, "none", None, [])
    assert last_good.last_healthy(state_dir) == result["last_success_at"]
    assert incident_store.current(state_dir) is None


def test_an_outage_opens_an_incident(tmp_path):
    result, _warnings, state_dir = detect(tmp_path, BAD)
    assert (result["severity"], result["open_incident"]) == ("emergency", False)
    assert incident_store.current(state_dir)["id"] == result["opened"]["id"]


def test_check_mode_changes_nothing(tmp_path):
    for answer in (GOOD, BAD):
        detect(tmp_path, answer, check_mode=True)
    assert not (tmp_path / "state").exists()


def test_the_first_failure_before_an_incident_begins_the_outage(tmp_path):
    seen = detect(tmp_path, BAD, open=False)[0]
    detect(tmp_path, BAD, open=False)
    detect(tmp_path, BAD, open=False, check_mode=True)
    opened = detect(tmp_path, BAD)[0]["opened"]
    begun = opened["outage_started"]
    assert (begun["latest"], begun["source"]) == (seen["first_failure_at"], "earlier health probe")
    # The record now contains the failure. Therefore, this failure cannot be mistaken for the start of the next outage.
    assert not (tmp_path / "state" / "first_failure.json").exists()
    detect(tmp_path, BAD, open=False)
    assert not (tmp_path / "state" / "first_failure.json").exists()


def test_a_healthy_service_has_no_first_failure(tmp_path):
    state_dir = detect(tmp_path, BAD, open=False)[2]
    assert (tmp_path / "state" / "first_failure.json").exists()
    detect(tmp_path, GOOD, open=False)
    assert not (tmp_path / "state" / "first_failure.json").exists()
    begun = detect(tmp_path, BAD)[0]["opened"]["outage_started"]
    assert begun["source"] == "health probe"
    assert last_good.first_failure(state_dir, until=begun["latest"]) is None


@pytest.mark.parametrize("severity", ["warning", "degraded"])
def test_a_service_that_answers_with_a_problem_has_no_first_failure(tmp_path, monkeypatch, severity):
    """The next outage does not begin at the earlier failure, even though no run has found the service healthy since."""
    detect(tmp_path, BAD, open=False)
    with monkeypatch.context() as patch:
        patch.setattr(detection, "mark_degraded", lambda _values, result: result.update(severity=severity))
        state_dir = detect(tmp_path, GOOD, open=False, check_mode=True)[2]
        assert (tmp_path / "state" / "first_failure.json").exists()
        detect(tmp_path, GOOD, open=False)
    assert last_good.last_healthy(state_dir) is None
    assert detect(tmp_path, BAD)[0]["opened"]["outage_started"]["source"] == "health probe"


def test_an_invalid_maintenance_window_is_a_warning_and_hides_no_outage(tmp_path):
    result, warnings, _state_dir = detect(tmp_path, BAD, open=False, maintenance_until="tomorrow")
    assert (result["severity"], result["maintenance"]) == ("emergency", None)
    assert "tomorrow" in warnings[0]


def test_damage_that_a_person_has_accepted_does_not_prevent_a_start(tmp_path):
    """After a release, a run must not kill the process that the person has just started."""
    database = tmp_path / "itsm.db"
    database.write_bytes(b"x" * 8192)
    result, _warnings, state_dir = detect(tmp_path, BAD)
    values = {"state_dir": state_dir, "service": {"user": ""}, "open": True}
    doubt = detection._doubt_of(values, {"resolved": {"database_path": str(database)}})
    assert doubt(True, []) and doubt(False, [])
    noted = {"state": incident_store.ACCEPTED, "reasons": [], "rows": {}, "accepted": ["not_a_database"]}
    assert notes.note(state_dir=state_dir, run=result["opened"]["run"], data=noted) is None
    assert (doubt(True, []), doubt(False, [])) == (None, None)


@pytest.mark.parametrize("answer", [GOOD, BAD])
def test_wrong_settings_end_the_call_only_if_the_service_is_healthy(tmp_path, answer):
    checked = {"db_path": "itsm.db", "db_path_variable": "DATABASE_PATH"}
    preflight = {**checked, "https_port": "none", "http_port": 8080}
    try:
        result, _warnings, _state_dir = detect(tmp_path, answer, preflight=preflight)
    except detection.SettingsError as error:
        assert answer == GOOD
        assert "nexus_https_port is 'none'" in str(error)
        assert error.preflight["problems"]
    else:
        assert answer == BAD
        assert "nexus_https_port is 'none'" in result["summary"]
