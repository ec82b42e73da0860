# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hold on a service: its files, its systemctl calls, its release, and its limits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as unit_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, record_update
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import starter as one_starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

INCIDENT = "INC-20260302T010203Z-1f3a"
REASON = "The database has 0 bytes; 100 % of it: é"


class Systemd:
    """A fake systemctl that shows the unit's state and records all other verbs. A verb in `failing` fails."""

    def __init__(self, active="inactive", sub="dead", failing=()):
        self.state = f"ActiveState={active}\nSubState={sub}\n"
        self.failing = failing
        self.verbs = []

    def __call__(self, argv, **_more):
        verb = argv[1] if argv[1] != "--no-ask-password" else argv[2]
        if verb != "show":
            self.verbs.append(verb)
        ok = verb not in self.failing
        return SimpleNamespace(ok=ok, rc=int(not ok), stdout=self.state, stderr="" if ok else "no", timed_out=False)


@pytest.fixture
def place(tmp_path):
    return unit_hold.Place(
        manager="systemd",
        unit="itsm-system",
        state_dir=str(tmp_path / "state"),
        spare=str(tmp_path / "spare"),
        folder=str(tmp_path / "etc"),
        runtime_folder=str(tmp_path / "run"),
    )


def hold(place, systemd=None):
    return unit_hold.set_hold(place, incident=INCIDENT, cause="db_corrupt", reason=REASON, run=systemd or Systemd())


def test_a_hold_prevents_automatic_and_manual_starts(place, tmp_path):
    systemd = Systemd()
    assert hold(place, systemd) == []
    path = tmp_path / "etc/itsm-system.service.d" / f"zz-held-{INCIDENT}.conf"
    lines = path.read_text().splitlines()
    # The first setting prevents a manual start, and the second setting prevents an automatic restart.
    assert f"AssertPathExists=!{path}" in lines
    assert any(line.startswith("ExecCondition=") and line.endswith("exit 1'") for line in lines)
    assert any(line.startswith("Description=") and INCIDENT in line and "do not start it" in line for line in lines)
    assert systemd.verbs == ["daemon-reload"]
    held = unit_hold.read(place)
    assert (held["incident"], held["cause"], held["reason"]) == (INCIDENT, "db_corrupt", REASON)
    assert held["enforced"] is True
    # In a unit file, a percent sign begins a specifier, and a line break would begin a new setting.
    assert "100 %% of it" in path.read_text()
    assert path.read_text().isascii()


@pytest.mark.parametrize("state", [("activating", "auto-restart"), ("activating", "start-pre")])
def test_a_start_in_progress_is_cancelled(place, state):
    systemd = Systemd(*state)
    hold(place, systemd)
    assert systemd.verbs == ["daemon-reload", "stop"]


def test_a_running_service_is_not_stopped(place):
    systemd = Systemd("active", "running")
    hold(place, systemd)
    assert "stop" not in systemd.verbs


def test_a_second_hold_changes_nothing(place):
    hold(place)
    before = unit_hold.read(place)
    unit_hold.set_hold(place, incident="INC-20260302T010203Z-ffff", cause="x", reason="y", run=Systemd())
    assert unit_hold.read(place) == before
    assert len(place.dropins()) == 1


def test_a_hold_of_the_dead_man_timer_gets_a_record(place):
    path, text = unit_hold.dropin(place, incident=INCIDENT, reason="The run has died")
    os.makedirs(os.path.dirname(path))
    Path(path).write_text(text)
    systemd = Systemd()
    hold(place, systemd)
    held = unit_hold.read(place)
    assert (held["incident"], held["cause"], held["reason"]) == (INCIDENT, "db_corrupt", REASON)
    assert held["at"] is not None
    assert (Path(path).read_text(), len(place.dropins()), systemd.verbs) == (text, 1, [])
    unit_hold.set_hold(place, incident="INC-20260302T010203Z-ffff", cause="x", reason="y", run=Systemd())
    assert unit_hold.read(place) == held


def test_with_a_read_only_folder_the_hold_ends_at_reboot(place, tmp_path):
    (tmp_path / "etc").write_text("not a folder")
    (limit,) = hold(place)
    assert "will be lost at the next reboot" in limit
    assert unit_hold.read(place)["enforced"] is True


def test_without_any_writable_folder_an_error_is_raised(place, tmp_path):
    for name in ("etc", "run"):
        (tmp_path / name).write_text("not a folder")
    with pytest.raises(unit_hold.HoldError, match="Cannot hold unit itsm-system"):
        hold(place)


def test_a_failed_reload_of_systemd_is_an_error(place):
    with pytest.raises(unit_hold.HoldError, match="reload the drop-ins"):
        hold(place, Systemd(failing=("daemon-reload",)))


def test_release_removes_the_whole_hold(place, tmp_path):
    hold(place)
    systemd = Systemd()
    assert unit_hold.release(place, run=systemd) is True
    assert systemd.verbs == ["daemon-reload"]
    assert unit_hold.read(place) is None
    assert not (tmp_path / "etc/itsm-system.service.d").exists()
    assert unit_hold.release(place, run=systemd) is False


def test_a_lost_record_does_not_end_the_hold(place, tmp_path):
    hold(place)
    (tmp_path / "state/hold.json").unlink()
    assert unit_hold.read(place)["incident"] == INCIDENT


def test_removing_the_drop_in_manually_ends_the_hold(place):
    hold(place)
    for path in place.dropins():
        Path(path).unlink()
    assert unit_hold.read(place) is None


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"unit": "another"}'])
def test_a_damaged_record_does_not_hide_the_drop_in(place, tmp_path, content):
    hold(place)
    (tmp_path / "state/hold.json").write_text(content)
    assert unit_hold.read(place)["enforced"] is True


def test_a_plain_process_is_held_for_this_collection_only(tmp_path):
    place = unit_hold.Place(manager="process", unit="itsm-system", state_dir=str(tmp_path))
    systemd = Systemd()
    (limit,) = hold(place, systemd)
    assert "plain process" in limit
    assert systemd.verbs == []
    assert unit_hold.read(place)["enforced"] is False
    refused = one_starter.refusal(manager="process", unit="itsm-system", state_dir=str(tmp_path))
    assert refused.id == "reason.holding.held_for" and refused.values["incident"] == INCIDENT
    assert unit_hold.release(place) is True
    assert one_starter.refusal(manager="process", unit="itsm-system", state_dir=str(tmp_path)) is None


# The state of the data, as it is recorded in the incident.


@pytest.fixture
def incident(tmp_path, monkeypatch):
    monkeypatch.setattr(
        host_lease,
        "memory_folder",
        lambda: str(tmp_path / "memory"),
    )
    state_dir = str(tmp_path / "state")
    opened = incident_record.call(state_dir=state_dir, state="open")
    return {"state_dir": state_dir, "run": opened["run"]}


def close(incident, outcome="recovered"):
    return incident_record.call(**incident, state="closed", update=record_update.Update(outcome=outcome))


def fail(text):
    pytest.fail(text)


def test_an_incident_is_not_closed_while_its_data_are_in_doubt(incident):
    one_starter.put_in_doubt(**incident, reasons=["pages are damaged"], rows={"users": 4}, warn=fail)
    closed = close(incident)
    assert (closed["outcome"], closed["closed_at"]) == ("data_in_doubt", None)
    assert incident_store.in_doubt(incident_store.current(incident["state_dir"]))


def test_a_manual_fix_does_not_close_an_incident_with_data_in_doubt(incident):
    one_starter.put_in_doubt(**incident, reasons=["pages are damaged"], warn=fail)
    close(incident, outcome="not_recovered")
    looked = incident_record.call(state_dir=incident["state_dir"], state="resolved")
    assert (looked["run"], looked["closed_at"], looked["changed"]) == (None, None, False)


@pytest.mark.parametrize("state", [incident_store.SOUND, incident_store.ACCEPTED])
def test_a_check_or_a_person_ends_the_doubt(incident, state):
    one_starter.put_in_doubt(**incident, reasons=["pages are damaged"], rows={"users": 4}, warn=fail)
    one_starter.settle_doubt(
        **incident, manager="process", unit="itsm-system", state=state, reason="restored", warn=fail
    )
    record = incident_store.current(incident["state_dir"])
    assert (record["data"]["state"], record["data"]["rows"]) == (state, {"users": 4})
    assert record["data"]["reasons"] == ["pages are damaged", "restored"]
    assert close(incident)["closed_at"]


LOOK = {
    "problems": [{"code": "corrupt", "level": "error"}, {"code": "wal_pending", "level": "warning"}],
    "conclusive": True,
    "row_counts": {"users": 3},
}


@pytest.mark.parametrize(
    ("look", "accepted", "rows"),
    [
        (LOOK, ["corrupt"], {"users": 3}),
        ({**LOOK, "conclusive": False}, ["corrupt", "unchecked"], {"users": 3}),
        ({**LOOK, "problems": []}, [], {"users": 3}),
        # If the rows of a damaged database could not be counted, the last known row counts remain recorded.
        ({**LOOK, "row_counts": {}}, ["corrupt"], {"users": 4}),
        (None, [], {"users": 4}),
    ],
)
def test_a_person_accepts_only_the_current_damage_and_rows(incident, look, accepted, rows):
    one_starter.put_in_doubt(**incident, reasons=["a"], rows={"users": 4}, warn=fail)
    about = {"manager": "process", "unit": "x", "state": incident_store.ACCEPTED, "reason": "b"}
    one_starter.settle_doubt(**incident, **about, look=look, warn=fail)
    data = incident_store.current(incident["state_dir"])["data"]
    assert (data["state"], data["accepted"], data["rows"]) == (incident_store.ACCEPTED, accepted, rows)
    about = incident_store.current_acceptance(incident["state_dir"])
    assert about == (data["checked_at"], "b", accepted, True)
    assert incident_store.accepted_damage(incident["state_dir"]) == accepted


def test_later_damage_puts_accepted_data_in_doubt_again(incident):
    one_starter.put_in_doubt(**incident, reasons=["a"], warn=fail)
    about = {"manager": "process", "unit": "x", "state": incident_store.ACCEPTED, "reason": "b"}
    one_starter.settle_doubt(**incident, **about, look=LOOK, warn=fail)
    one_starter.put_in_doubt(**incident, reasons=["c"], warn=fail)
    data = incident_store.current(incident["state_dir"])["data"]
    assert (data["state"], data["reasons"]) == (incident_store.IN_DOUBT, ["a", "b", "c"])
    assert "accepted" not in data
    # The release is still recorded, but it no longer covers any damage.
    about = incident_store.acceptance(data)
    assert (about.reason, about.codes, about.valid) == ("b", [], False)
    about = {"manager": "process", "unit": "x", "state": incident_store.SOUND, "reason": "restored"}
    one_starter.settle_doubt(**incident, **about, warn=fail)
    assert incident_store.current_acceptance(incident["state_dir"]) is None


def test_an_acceptance_of_an_older_version_has_a_reason():
    data = {"state": "accepted", "accepted": ["corrupt"], "reasons": ["damaged", "Released."], "checked_at": "10:00"}
    assert incident_store.acceptance(data) == ("10:00", "Released", ["corrupt"], True)
    assert incident_store.acceptance({"state": "accepted"}) == ("", "", [], True)
    assert incident_store.acceptance(None) is None


def test_earlier_good_row_counts_stay_in_the_record(incident):
    one_starter.note_rows(**incident, rows={"users": 4}, warn=fail)
    one_starter.put_in_doubt(**incident, reasons=["gone"], rows={"users": 1}, warn=fail)
    assert incident_store.current(incident["state_dir"])["data"]["rows"] == {"users": 4}


def test_last_good_rows_are_those_of_this_database(tmp_path):
    state_dir = str(tmp_path)
    counted = last_good.Counted({"users": 4}, "2026-03-02T01:00:00.000Z")
    assert last_good.note_rows(state_dir, path="/srv/a.db", counted=counted) is True
    found = last_good.last_good_rows(state_dir, path="/srv/a.db")
    assert found == counted._replace(at=found.at) and found.at
    assert last_good.last_good_rows(state_dir, path="/srv/b.db") == last_good.Counted()
    for content in ("{", "[]", json.dumps({"path": "/srv/a.db", "rows": [1]}), ""):
        (tmp_path / "last_good_rows.json").write_text(content)
        assert last_good.last_good_rows(state_dir, path="/srv/a.db") == last_good.Counted()


def test_a_new_count_returns_the_last_good_count_that_it_replaces(tmp_path):
    look = {"database": {"path": "/srv/a.db"}, "row_counts": {"users": 4}, "checks": {"row_counts": "ok"}}
    first = last_good.replace_rows(str(tmp_path), look=look, save=True)
    assert first == {"rows": {}, "at": "", "replaced": True}
    look["row_counts"] = {"users": 3}
    kept = last_good.replace_rows(str(tmp_path), look=look, save=False)
    assert (kept["rows"], bool(kept["at"]), kept["replaced"]) == ({"users": 4}, True, False)
    assert last_good.replace_rows(str(tmp_path), look=look, save=True) == {**kept, "replaced": True}
    # The other tables were not counted, so nothing can be said about them.
    look["checks"] = {"row_counts": "skipped: time budget"}
    assert last_good.replace_rows(str(tmp_path), look={**look, "row_counts": {"other": 1}}, save=True) is None
    assert last_good.last_good_rows(str(tmp_path), path="/srv/a.db").rows == {"users": 3}


def test_a_count_that_cannot_be_saved_does_not_replace_the_last_one(tmp_path):
    (tmp_path / "state").write_text("a file")
    look = {"database": {"path": "/srv/a.db"}, "row_counts": {"users": 4}, "checks": {"row_counts": "ok"}}
    assert last_good.replace_rows(str(tmp_path / "state"), look=look, save=True)["replaced"] is False


@pytest.mark.parametrize(
    ("exited", "cause"),
    [
        ({"result": "signal", "code": "killed", "at": None}, "killed"),
        ({"result": "oom-kill", "code": "killed", "at": None}, "oom_kill"),
        ({"result": "exit-code", "code": "exited", "at": None}, None),
        (None, None),
    ],
)
def test_recorded_exit_is_the_cause_if_no_run_reached_triage(incident, exited, cause):
    assert incident_notes.note(**incident, last_exit=exited) is None
    incident_record.call(**incident, state="closed", update=record_update.Update(outcome="not_recovered"))
    assert incident_record.call(state_dir=incident["state_dir"], state="closed")["cause"] == cause
