# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database that may be damaged is copied. The data guard detects a new database that replaced the earlier one."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good, starter
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.last_good import Counted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import data_guard
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts


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
    assert (kept["not_copied"], kept["messages"]) == ("", {})
    return kept["path"]


def test_a_second_check_of_the_same_damage_makes_no_second_copy(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    assert keep(database, tmp_path) == first


def test_later_damage_is_also_copied(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    time.sleep(1.1)
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 100)
    second = keep(database, tmp_path)
    assert second != first
    assert Path(second, "itsm.db").read_bytes() == database.read_bytes()
    assert Path(first, "itsm.db").read_bytes() != database.read_bytes()


def test_the_reason_for_a_missing_copy_is_a_message(tmp_path: Path) -> None:
    params = {"state_dir": str(tmp_path / "state"), "incident": "INC-1", "service": {"user": ""}}
    kept = data_guard._keep_data(params, {"path": str(tmp_path / "gone.db"), "files": []})
    assert kept["path"] is None and str(tmp_path / "gone.db") in kept["not_copied"]
    assert kept["messages"]["not_copied"]["id"] == "reason.sqlite.no_files"


def test_many_copies_leave_room_on_the_disk(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's user could change the database before each triage run, until the copies fill the disk."""
    backup, shares = data_guard.sqlite_backup.backup, []

    def recorded(**options: Any) -> Any:
        shares.append(options["leave"])
        return backup(**options)

    monkeypatch.setattr(data_guard.sqlite_backup, "backup", recorded)
    for number in range(4):
        keep(database, tmp_path)
        os.truncate(database, 8192 * number)
    assert shares == [0.0, 0.0, 0.1, 0.1]


def test_another_size_is_copied_although_its_time_is_old(database: Path, tmp_path: Path) -> None:
    first = keep(database, tmp_path)
    time.sleep(1.1)
    os.truncate(database, 0)
    age(database, seconds=60)
    assert keep(database, tmp_path) != first


BEFORE, NEW = "2026-03-01T00:00:00.000Z", "2026-03-02T01:00:13.000Z"
COUNTED = Counted({"users": 5}, BEFORE)


def seen(created_at: str | None, *, rows: int = 5) -> dict[str, Any]:
    """Return the facts about an undamaged database. created_at: when it was created, or None if this is unknown."""
    facts: dict[str, Any] = dict.fromkeys(Facts._fields)
    database = {"conclusive": True, "row_counts": {"users": rows}, "database": {"first_migration_at": created_at}}
    return {**facts, "database": database}


def judged(
    created_at: str | None,
    *,
    counted: Counted = COUNTED,
    held: Any = None,
    on_record: Any = None,
    opened_at: str = "",
) -> dict[str, Any]:
    """Return the triage result for a database that was created at `created_at` (None: at an unknown time)."""
    facts = seen(created_at)
    facts["hold"] = triage_run._hold_facts(facts, held, counted, on_record=on_record or {}, opened_at=opened_at)
    return triage_run._judge(facts, counted=counted, on_record=on_record or {})


def causes(result: dict[str, Any]) -> list[str]:
    return [each["cause"] for each in result["findings"] if each["blocks_start"]]


def test_a_new_database_blocks_the_start_although_no_table_has_fewer_rows() -> None:
    result = judged(NEW)
    (finding,) = result["findings"]
    assert finding["summary"] == (
        f"The database the database was created at {NEW}, so it does not contain the earlier rows."
    )
    assert causes(result) == ["db_corrupt"]
    assert (result["data_loss_suspected"], result["database_replaced"], result["rows_missing"]) == (True, True, {})


def test_a_database_that_could_not_be_counted_has_not_lost_its_rows() -> None:
    """If the database is locked, a check can be conclusive without counting the rows."""
    facts = seen(BEFORE)
    facts["database"].update(row_counts={}, checks={"quick": "skipped"})
    known = triage_run._hold_facts(facts, None, COUNTED, on_record={})
    assert (known["rows_collapsed"], known["rows_counted"], known["rows_missing"]) == (False, False, {})
    held = {"incident": "INC-1", "cause": "db_corrupt"}
    facts["hold"] = triage_run._hold_facts(facts, held, COUNTED, on_record={})
    assert "was not checked" in facts["hold"]["kept_by"] or "checked" in facts["hold"]["kept_by"]
    assert triage_run._judge(facts, counted=COUNTED, on_record={})["rows_counted"] is False


def test_a_database_without_most_of_its_rows_blocks_the_start() -> None:
    facts = seen(BEFORE, rows=1)
    facts["hold"] = triage_run._hold_facts(facts, None, COUNTED, on_record={})
    result = triage_run._judge(facts, counted=COUNTED, on_record={})
    assert causes(result) == ["db_corrupt"]
    assert "users 1 of 5" in result["findings"][0]["summary"]
    # A person has accepted these rows, and the rows were counted again at that time.
    accepted = {"state": "accepted", "accepted": []}
    assert causes(triage_run._judge(facts, counted=COUNTED, on_record=accepted)) == ["db_corrupt"]
    facts["hold"] = triage_run._hold_facts(facts, None, Counted({"users": 1}, BEFORE), on_record=accepted)
    assert causes(triage_run._judge(facts, counted=Counted({"users": 1}, BEFORE), on_record=accepted)) == []


@pytest.mark.parametrize(
    ("created_at", "counted", "replaced"),
    [
        (BEFORE, COUNTED, False),
        # A backup of an older database was restored.
        ("2026-02-01T00:00:00.000Z", COUNTED, False),
        # The earlier database or its creation time is unknown.
        (NEW, Counted(), False),
        (NEW, Counted({"users": 5}), False),
        # The migrations cannot be read, so the creation time is unknown.
        (None, COUNTED, None),
    ],
)
def test_a_database_that_is_not_known_to_be_new(created_at, counted, replaced) -> None:
    result = judged(created_at, counted=counted)
    assert (result["database_replaced"], causes(result)) == (replaced, [])


def test_a_hold_remains_while_the_database_is_new_or_unknown() -> None:
    held = {"incident": "INC-1", "cause": "db_corrupt", "reason": "x", "at": NEW}
    kept = {at: judged(at, held=held)["facts"]["hold"]["kept_by"] for at in (BEFORE, NEW, None)}
    assert kept == {
        BEFORE: "",
        NEW: f"the database is a new one, created at {NEW}",
        None: "the database could not be checked",
    }


def test_a_database_created_after_a_person_accepted_damage_blocks_the_start() -> None:
    accepted = {"state": "accepted", "accepted": ["empty_beside_wal"]}
    assert causes(judged(NEW, on_record=accepted)) == ["db_corrupt"]
    assert causes(judged(BEFORE, on_record=accepted)) == []


@pytest.fixture
def guard(tmp_path: Path, monkeypatch):
    """Return a function that runs the guard with a real record and hold, and returns the record's `data` field."""
    monkeypatch.setattr(data_guard, "_keep_data", lambda *given: None)
    monkeypatch.setattr(host_lease, "memory_folder", lambda: str(tmp_path / "memory"))
    state_dir = str(tmp_path / "state")
    opened = incident_record.call(state_dir=state_dir, state="open")
    service = {"manager": "process", "unit": "itsm-system", "user": ""}
    params = {"state_dir": state_dir, "run": opened["run"], "incident": opened["id"], "service": service}

    def run(created_at: str | None) -> dict[str, Any]:
        known = data_guard.known(params)
        on_record = (known["record"] or {}).get("data") or {}
        counted = Counted(on_record.get("rows") or {}, on_record.get("created_at") or "")
        counted = counted if counted.rows else known["last_good_of"]("/srv/itsm.db")
        opened_at = known["record"]["opened_at"]
        result = judged(created_at, counted=counted, held=known["held"], on_record=on_record, opened_at=opened_at)
        data_guard._guard(params, result, known, warn=lambda text: None)
        data: dict[str, Any] = incident_store.current(state_dir)["data"]
        return data

    run.state_dir, run.id = state_dir, opened["run"]
    run.place = {"manager": "process", "unit": "itsm-system", "state_dir": state_dir}
    return run


def test_a_new_database_stays_in_doubt_for_each_later_run(guard) -> None:
    last_good.note_rows(guard.state_dir, path="/srv/itsm.db", counted=COUNTED)
    assert guard(NEW)["state"] == "in_doubt"
    # The migrations cannot be read, or the database was replaced again.
    for later in (None, "2026-03-03T00:00:00.000Z", NEW):
        data = guard(later)
        assert (data["state"], data["rows"], data["created_at"]) == ("in_doubt", {"users": 5}, BEFORE)
    # The earlier database has been restored.
    data = guard(BEFORE)
    assert (data["state"], data["created_at"]) == ("sound", BEFORE)
    assert starter.held(**guard.place) is None


def test_an_unknown_time_does_not_replace_a_known_one(guard) -> None:
    last_good.note_rows(guard.state_dir, path="/srv/itsm.db", counted=COUNTED)
    data = guard(None)
    assert (data["state"], data["created_at"]) == ("sound", BEFORE)
    assert guard(NEW)["state"] == "in_doubt"


def test_a_person_who_accepts_a_new_database_makes_it_the_last_good_one(guard) -> None:
    last_good.note_rows(guard.state_dir, path="/srv/itsm.db", counted=COUNTED)
    guard(NEW)
    look = {"database": {"path": "/srv/itsm.db", "first_migration_at": NEW}, "row_counts": {"users": 1}}
    given = {"state": "accepted", "reason": "known", "look": look, "warn": pytest.fail}
    starter.settle_doubt(**guard.place, run=guard.id, **given)
    data = guard(NEW)
    assert (data["state"], data["created_at"], starter.held(**guard.place)) == ("accepted", NEW, None)
    assert last_good.last_good_rows(guard.state_dir, path="/srv/itsm.db")[:2] == ({"users": 1}, NEW)


def hold_for(guard, cause: str) -> None:
    """Hold the service, and set the time of the hold to a time between BEFORE and NEW."""
    given = {"incident": "INC-1", "cause": cause, "reason": "The disk is not mounted", "data": False}
    starter.hold(**guard.place, run=guard.id, **given, warn=lambda text: None)
    path = Path(guard.state_dir, "hold.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "at": "2026-03-02T00:00:00.000Z"}))


@pytest.mark.parametrize(
    ("cause", "created_at", "released"),
    [
        ("config_mismatch", BEFORE, True),
        # The service may have created this database in place of the missing one.
        ("config_mismatch", NEW, False),
        ("config_mismatch", None, False),
        ("db_unchecked", BEFORE, False),
        ("db_corrupt", BEFORE, False),
        # The record of the hold has been lost.
        ("", BEFORE, False),
    ],
)
def test_without_earlier_rows_only_a_database_that_is_found_again_is_released(
    guard, cause: str, created_at: str | None, released: bool
) -> None:
    hold_for(guard, cause)
    starter.note_unseen(state_dir=guard.state_dir, run=guard.id, warn=pytest.fail)
    data = guard(created_at)
    assert (starter.held(**guard.place) is None) is released
    assert data["state"] == ("sound" if released else "in_doubt")


def test_a_hold_because_of_settings_ends_if_the_database_is_older_and_sound(guard) -> None:
    hold_for(guard, "config_mismatch")
    guard(NEW)
    assert starter.held(**guard.place) is not None
    # Only a finding about the data puts the data in doubt.
    assert incident_store.in_doubt(incident_store.current(guard.state_dir)) is False
    guard(BEFORE)
    assert starter.held(**guard.place) is None


@pytest.mark.parametrize(("created_at", "state"), [(BEFORE, "sound"), ("2999-01-01T00:00:00.000Z", "in_doubt")])
def test_a_lost_hold_does_not_release_another_database(guard, created_at: str, state: str) -> None:
    """The hold was stored in memory and was lost when the host rebooted.

    Starting the service may have created the current database.
    """
    starter.note_unseen(state_dir=guard.state_dir, run=guard.id, warn=pytest.fail)
    assert incident_store.unsettled(incident_store.current(guard.state_dir))
    assert guard(created_at)["state"] == state
    assert (starter.held(**guard.place) is not None) is (state == "in_doubt")
    recovered = incident_record.Update(outcome="recovered")
    closed = incident_record.call(state_dir=guard.state_dir, state="closed", run=guard.id, update=recovered)
    assert bool(closed["closed_at"]) is (state == "sound")


def test_a_lost_hold_is_a_finding_so_that_no_remedy_touches_the_database() -> None:
    lost = {"on_record": {"state": "not_found", "unseen": True}, "opened_at": "2026-03-02T00:00:00.000Z"}
    assert causes(judged(NEW, counted=Counted(), **lost)) == ["db_corrupt"]
    assert causes(judged(BEFORE, counted=Counted(), **lost)) == []
    assert causes(judged(BEFORE, counted=Counted({"users": 6}, BEFORE), **lost)) == ["db_corrupt"]
    assert causes(judged(BEFORE, **lost)) == []


def test_a_hold_because_of_settings_stays_if_the_data_are_in_doubt() -> None:
    held = {"incident": "INC-1", "cause": "config_mismatch", "reason": "x", "at": NEW}
    result = judged(BEFORE, counted=Counted(), held=held, on_record={"state": "in_doubt"})
    assert causes(result) == ["start_held"]


def test_a_missing_database_has_no_damage_that_a_person_could_accept() -> None:
    look = {"problems": [{"code": "not_mounted", "level": "error"}], "conclusive": False}
    assert starter.damage(look) == []
    assert starter.damage({**look, "problems": []}) == ["unchecked"]


def test_damage_is_recorded_as_not_counted(guard) -> None:
    given = {"state_dir": guard.state_dir, "run": guard.id, "reasons": ["damaged"], "warn": pytest.fail}
    starter.put_in_doubt(**given)
    assert not incident_store.current(guard.state_dir)["data"].get("unseen")
    starter.put_in_doubt(**given, damaged=True)
    starter.put_in_doubt(**given)
    assert incident_store.current(guard.state_dir)["data"]["unseen"] is True


@pytest.mark.parametrize("cause", ["config_mismatch", "db_corrupt", ""])
def test_a_database_with_fewer_rows_than_before_stays_held(guard, cause: str) -> None:
    hold_for(guard, cause)
    last_good.note_rows(guard.state_dir, path="/srv/itsm.db", counted=Counted({"users": 6}, BEFORE))
    guard(BEFORE)
    assert starter.held(**guard.place) is not None
    last_good.note_rows(guard.state_dir, path="/srv/itsm.db", counted=COUNTED)
    guard(None)
    assert starter.held(**guard.place) is not None
    guard(BEFORE)
    assert starter.held(**guard.place) is None


def test_a_hold_names_the_cause_that_explains_the_finding() -> None:
    findings = [
        {"cause": "config_mismatch", "explained_by": None},
        {"cause": "db_corrupt", "explained_by": "config_mismatch"},
    ]
    assert data_guard._root(findings[1], findings) is findings[0]
    assert data_guard._root(findings[0], findings) is findings[0]


def test_the_record_states_that_the_first_triage_did_not_find_the_database(guard) -> None:
    where = {"state_dir": guard.state_dir, "run": guard.id, "warn": pytest.fail}
    starter.note_unseen(**where)
    assert guard(BEFORE)["unseen"] is True
    starter.put_in_doubt(**where, reasons=["damaged"])
    # A failed replacement has not lost any rows.
    starter.note_loss(**where, loss="known")()
    assert not incident_store.current(guard.state_dir)["data"].get("loss")
    starter.note_loss(**where, loss="known", before={"users": 9})()
    assert not incident_store.current(guard.state_dir)["data"].get("rows_lost")
    for loss in ("known", "of a later version", "none"):
        starter.note_loss(**where, loss=loss, before={"users": 9}, after={"users": 3})
    starter.settle_doubt(**guard.place, run=guard.id, state="sound", reason="restored", warn=pytest.fail)
    data = incident_store.current(guard.state_dir)["data"]
    assert (data["state"], data["unseen"], data["loss"], data["rows_lost"]) == ("sound", True, "known", 6)


@pytest.mark.parametrize(
    ("recoveries", "lost"),
    [
        ([(100, 90)], (10, False)),
        # The first run was killed, and the second run restored the old database.
        ([(100, 90), (100, 90)], (10, True)),
        # The database was emptied, and then restored from a backup.
        ([(100, 0), (100, 80)], (20, True)),
        ([(100, 90), (90, 95)], (5, True)),
        ([(100, 90), (90, 85)], (15, True)),
        ([(100, 100), (100, 90)], (10, False)),
    ],
)
def test_the_lost_rows_of_several_recoveries_are_not_counted_twice(guard, recoveries, lost) -> None:
    for before, after in recoveries:
        loss = "known" if before > after else "none"
        where = {"state_dir": guard.state_dir, "run": guard.id, "warn": pytest.fail}
        starter.note_loss(**where, loss=loss, before={"users": before}, after={"users": after})
    data = incident_store.current(guard.state_dir)["data"]
    assert (data["rows_lost"], data["lost_again"]) == lost


@pytest.mark.parametrize(("created_at", "state"), [(BEFORE, "sound"), (NEW, "in_doubt"), (None, "in_doubt")])
def test_another_database_in_place_of_the_one_that_was_not_found_is_in_doubt(guard, created_at, state) -> None:
    hold_for(guard, "config_mismatch")
    starter.note_unseen(state_dir=guard.state_dir, run=guard.id, warn=pytest.fail)
    assert guard(created_at)["state"] == state


def test_damage_is_not_explained_by_a_missing_folder_of_the_application() -> None:
    """The application's folder is missing. The damaged database is in another folder, so it was found."""
    facts = seen(BEFORE)
    damage = {"code": "not_a_database", "message": "It is no database", "level": "error"}
    facts["database"].update(problems=[damage], data_loss_suspected=True, row_counts={})
    facts["service"] = {"app_dir": "/srv/itsm", "app_dir_exists": False}
    facts["hold"] = triage_run._hold_facts(facts, None, Counted(), on_record={})
    result = triage_run._judge(facts, counted=Counted(), on_record={})
    explained = {each["cause"]: each["explained_by"] for each in result["findings"]}
    assert explained == {"db_corrupt": None, "config_mismatch": None}
    assert result["data_loss_suspected"] is True
