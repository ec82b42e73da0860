# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An incident's record, and how its calls acquire, renew and release the lease."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import stat

import pytest
from rounds import rounds, step

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import notes as incident_notes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import record as incident_record
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.record_update import Update
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.store import IncidentError

START = timestamps.epoch("2026-03-02T01:02:03.000Z")


class Time:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.step = 0.0
        self.boot_id = "first boot"

    def clock(self) -> host_lease.Clock:
        return host_lease.Clock(
            wall=lambda: START + self.passed + self.step,
            boot=lambda: 1000 + self.passed,
            boot_id=lambda: self.boot_id,
            sleep=self.advance,
        )

    def advance(self, seconds: float) -> None:
        self.passed += seconds

    def at(self, seconds: float) -> str:
        return timestamps.iso(START + seconds)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def call(tmp_path, time):
    def call(state, **parameters):
        update = parameters.pop("update", {})
        return incident_record.call(
            state_dir=str(tmp_path / "state"),
            memory=str(tmp_path / "memory"),
            state=state,
            clock=time.clock(),
            update=Update(**update),
            **parameters,
        )

    return call


@pytest.fixture
def note_start(tmp_path, time):
    def note_start(run):
        return incident_notes.note_start(
            state_dir=str(tmp_path / "state"), memory=str(tmp_path / "memory"), run=run, clock=time.clock()
        )

    return note_start


@pytest.fixture
def note_answer(tmp_path, time):
    def note_answer(run, seconds):
        at = None if seconds is None else time.at(seconds)
        folders = {"state_dir": str(tmp_path / "state"), "memory": str(tmp_path / "memory")}
        return incident_notes.note_answer(**folders, run=run, at=at, clock=time.clock())

    return note_answer


@pytest.fixture
def no_flush(monkeypatch):
    """Disable flushing to disk, because it would slow down tests that write thousands of records."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def told(time, level="leader", at=0, **values):
    return {"level": level, "contact": "a", "channel": "mail", "at": time.at(at), "ok": True, "error": "", **values}


def sign(time, seconds, kind="bad", source="test"):
    return {"at": time.at(seconds), "kind": kind, "source": source}


def attempt(time, began, **values):
    return {"rung": "restart", "started_at": time.at(began), **values}


def test_the_record_keeps_the_summary_of_its_cause(call, time):
    """If a person ended the outage, the message about its end contains this summary."""
    summary = [{"id": "finding.stopped", "values": {}}]
    run = call("open", update={"severity": "critical"})["run"]
    call("attempt", run=run, update={"cause": "stopped", "cause_summary": summary})
    call("closed", run=run, update={"outcome": "not_recovered"})
    resolved = call("resolved", update={})
    assert (resolved["cause"], resolved["cause_summary"]) == ("stopped", summary)
    # The summary of an earlier cause does not describe another cause.
    other = call("attempt", run=resolved["run"], update={"cause": "killed"})
    assert (other["cause"], other["cause_summary"]) == ("killed", [])


def test_run_from_open_to_close(call, note_start, time, tmp_path):
    opened = call("open", update={"severity": "critical", "signs": [sign(time, -30), sign(time, -40, "good")]})
    assert opened["changed"] and not opened["continued"]
    assert opened["id"].startswith("INC-20260302T010203Z-")
    assert opened["locked_by"]["run"] == opened["run"]
    assert opened["detected_at"] == opened["opened_at"] == time.at(0)
    assert opened["outage_started"] == {
        "earliest": time.at(-40),
        "earliest_source": "test",
        "latest": time.at(-30),
        "source": "test",
    }

    time.advance(5)
    tried = call("attempt", run=opened["run"], update={"attempts": [attempt(time, 5)]})
    assert tried["changed"] and tried["locked_by"]["step"] == "restart"
    assert (tried["attempts"][0]["held"], tried["attempts"][0]["result"]) == (None, "under way")
    note_start(opened["run"])

    time.advance(5)
    update = {
        "attempts": [attempt(time, 5, held=True, seconds=5.0)],
        "outcome": "recovered",
        "mitigated_at": time.at(9),
    }
    closed = call("closed", run=opened["run"], update=update)
    assert closed["outage_seconds"] == 39.0
    assert closed["closed_at"] == time.at(10)
    assert closed["locked_by"] is None
    (tried,) = closed["attempts"]
    assert (tried["held"], tried["result"], tried["started"], tried["seconds"]) == (True, "succeeded", True, 5.0)
    assert closed["starts"] == [{"at": time.at(5), "run": opened["run"]}]
    assert closed["restarts_in_window"] == 1

    assert os.listdir(tmp_path / "state" / "incidents") == [f"{opened['id']}.json"]
    assert call("present")["id"] is None
    # Closing the incident again changes nothing and returns the same record.
    again = call("closed", run=opened["run"])
    assert (again["changed"], again["id"], again["outage_seconds"]) == (False, opened["id"], 39.0)


def test_only_root_can_read_the_files(call, tmp_path):
    run = call("open")["run"]
    call("closed", run=run, update={"outcome": "recovered"})
    for folder, _folders, names in [*os.walk(tmp_path / "state"), *os.walk(tmp_path / "memory")]:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_a_record_is_flushed_to_disk_before_it_replaces_the_old_one(call, tmp_path, monkeypatch):
    run = call("open")["run"]
    done, real = [], {"fsync": os.fsync, "replace": os.replace}

    def fsync(descriptor):
        done.append(("flushed", os.readlink(f"/proc/self/fd/{descriptor}")))
        real["fsync"](descriptor)

    def replace(source, target):
        done.append(("renamed", str(source), str(target)))
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    call("attempt", run=run, update={"cause": "killed"})
    state = str(tmp_path / "state")
    mine = [each for each in done if each[1].startswith(state)]
    temporary = mine[0][1]
    assert os.path.dirname(temporary) == state
    assert mine == [("flushed", temporary), ("renamed", temporary, f"{state}/incident.json"), ("flushed", state)]


def test_a_second_run_is_refused_in_one_line_until_the_lease_ends(call, time):
    first = call("open", step="triage", lease=60)
    time.advance(59)
    with pytest.raises(IncidentError) as refused:
        call("open")
    message = str(refused.value)
    assert "\n" not in message
    for part in (first["run"], f"since {time.at(0)}", "'triage'", time.at(60)):
        assert part in message
    time.advance(1)
    second = call("open")
    assert second["continued"] and second["id"] == first["id"]
    # The first run must no longer change the record, even if it is still active.
    with pytest.raises(IncidentError, match=second["run"]):
        call("attempt", run=first["run"], update={"attempts": [attempt(time, 1)]})


@pytest.mark.parametrize("state", ["open", "attempt", "present"])
def test_every_call_of_the_run_renews_its_lease(call, time, state):
    run = call("open", lease=60)["run"]
    time.advance(50)
    renewed = call(state, run=run, lease=60)
    assert renewed["locked_by"]["until"] == time.at(110)
    assert not renewed["changed"]
    time.advance(50)
    with pytest.raises(IncidentError):
        call("open")


def test_a_long_lease_is_not_shortened_within_its_step(call, time):
    run = call("open")["run"]
    call("attempt", run=run, step="standard_recovery", lease=600)
    assert call("attempt", run=run, step="standard_recovery", lease=60)["locked_by"]["until"] == time.at(600)
    assert call("attempt", run=run, step="verification", lease=60)["locked_by"]["until"] == time.at(60)


def test_waiting_for_the_lease(call, time):
    first = call("open", lease=20)
    with pytest.raises(IncidentError) as refused:
        call("open", wait=10)
    assert refused.value.locked_by["run"] == first["run"]
    went_on = call("open", wait=15)
    assert went_on["continued"]
    assert went_on["waited"] == pytest.approx(10, abs=0.2)
    assert time.passed == pytest.approx(20, abs=0.2)


def test_an_incident_that_ended_during_the_wait_is_not_reopened(call, time, monkeypatch):
    first = call("open")
    assert first["waited"] == 0

    def end_it(seconds):
        time.passed += seconds
        call("closed", run=first["run"], update={"outcome": "recovered", "mitigated_at": time.at(0)})

    monkeypatch.setattr(time, "advance", end_it)
    waited = call("open", wait=15)
    assert (waited["id"], waited["run"], waited["locked_by"], waited["changed"]) == (None, None, None, False)
    assert waited["waited"] > 0
    # If the run then finds another outage, it opens a new incident.
    again = call("open", wait=15)
    assert again["id"] != first["id"]
    assert again["waited"] == 0


def test_the_id_of_a_closed_incident_is_not_used_again(call, monkeypatch):
    drawn = iter(["b84a", "b84a", "c0de"])
    monkeypatch.setattr(incident_record.secrets, "token_hex", lambda size: next(drawn))
    first = call("open", run="run-1")
    call("closed", run="run-1", update={"outcome": "recovered"})
    second = call("open", run="run-2")
    assert (first["id"][-4:], second["id"][-4:]) == ("b84a", "c0de")
    # The record of the second incident is not mistaken for a stale record of the first incident.
    assert call("present", run="run-2")["id"] == second["id"]


def test_an_incident_still_open_after_the_wait_is_continued(call, time, monkeypatch):
    first = call("open")

    def give_up(seconds):
        time.passed += seconds
        call("closed", run=first["run"], update={"outcome": "not_recovered"})

    monkeypatch.setattr(time, "advance", give_up)
    went_on = call("open", wait=15)
    assert (went_on["id"], went_on["continued"]) == (first["id"], True)
    assert went_on["locked_by"]["run"] == went_on["run"]


def test_the_wall_clock_neither_frees_nor_extends_the_lease(call, time):
    call("open", lease=60)
    time.step = 3600
    with pytest.raises(IncidentError):
        call("open")
    time.step = -3600
    time.advance(61)
    assert call("open")["continued"]


def test_a_reboot_frees_the_lease(call, time):
    call("open", lease=60)
    time.boot_id = "second boot"
    assert call("open")["continued"]


def test_a_run_that_lost_its_lease_no_longer_records_anything(call, time):
    first = call("open")
    time.advance(61)
    second = call("open")
    call("closed", run=second["run"], update={"outcome": "not_recovered"})
    for state in ("attempt", "closed"):
        with pytest.raises(IncidentError, match=f"Run {first['run']} has lost the lease"):
            call(state, run=first["run"], update={"cause": "killed"})
    assert call("present", run=first["run"])["locked_by"] is None


def test_a_refused_run_has_not_lost_a_lease(call):
    call("open")
    with pytest.raises(IncidentError) as refused:
        call("open")
    assert refused.value.locked_by and refused.value.taken_by is None


def test_run_that_lost_its_lease_gets_the_new_holder(call, time):
    first = call("open")
    time.advance(61)
    second = call("open", step="triage")
    with pytest.raises(IncidentError) as lost:
        call("attempt", run=first["run"], update={"notified": [told(time)]})
    assert lost.value.taken_by == lost.value.locked_by == second["locked_by"]
    # The first run does not regain the lease after the other run has ended.
    call("closed", run=second["run"], update={"outcome": "not_recovered"})
    with pytest.raises(IncidentError) as lost:
        call("attempt", run=first["run"], update={"notified": [told(time)]})
    assert lost.value.locked_by is None
    assert (lost.value.taken_by["run"], lost.value.taken_by["step"]) == (second["run"], "triage")
    assert call("present")["notified"] == []


def test_a_lookup_takes_no_lease_and_changes_nothing(call, time, tmp_path):
    assert call("present")["id"] is None
    assert not (tmp_path / "state").exists() and not (tmp_path / "memory").exists()
    run = call("open")["run"]
    before = (tmp_path / "state" / "incident.json").read_bytes()
    time.advance(10)
    looked = call("present")
    assert (looked["locked_by"]["run"], looked["run"], looked["changed"]) == (run, None, False)
    assert (tmp_path / "state" / "incident.json").read_bytes() == before


def test_a_lookup_names_its_run_and_does_not_wait_for_its_own_lease(call, time, tmp_path):
    def look(**asked):
        return incident_record.look(
            state_dir=str(tmp_path / "state"), memory=str(tmp_path / "memory"), clock=time.clock(), wait=100.0, **asked
        )

    run = call("open", lease=30.0)["run"]
    own = look(run=run)
    assert (own["run"], own["locked_by"]["run"], own["waited"]) == (run, run, 0.0)
    assert not {"changed", "continued", "diff"} & set(own)
    other = look()
    assert other["run"] is None and other["locked_by"] is None and 29 <= other["waited"] <= 31


def test_only_a_run_renews_its_lease(call, time):
    with pytest.raises(IncidentError, match="option 'run' is empty"):
        call("renewed")
    run = call("open")["run"]
    time.advance(50)
    renewed = call("renewed", run=run)
    assert not renewed["changed"]
    time.advance(50)
    assert call("present")["locked_by"]["run"] == run


def test_check_mode_changes_no_file(call, tmp_path):
    planned = call("open", check_mode=True, update={"severity": "critical"})
    assert (planned["id"], planned["run"], planned["changed"], planned["locked_by"]) == (None, None, True, None)
    assert "critical" in planned["diff"]["after"] and "critical" not in planned["diff"]["before"]
    assert call("attempt", check_mode=True)["id"] is None
    assert call("closed", check_mode=True)["id"] is None
    assert not (tmp_path / "state").exists() and not (tmp_path / "memory").exists()
    opened = call("open")
    before = (tmp_path / "state" / "incident.json").read_bytes()
    planned = call("open", check_mode=True)
    assert planned["id"] == opened["id"] and planned["locked_by"]["run"] == opened["run"]
    call("closed", check_mode=True, run=opened["run"], update={"outcome": "recovered"})
    assert (tmp_path / "state" / "incident.json").read_bytes() == before


def test_a_continuing_outage_is_one_incident(call, time):
    first = call("open", update={"signs": [sign(time, -100)], "notified": [told(time)]})
    ended = call("closed", run=first["run"], update={"outcome": "not_recovered"})
    assert ended["closed_at"] is None and ended["locked_by"] is None
    time.advance(1800)
    # A later healthy response or crash within the same incident does not change the start time of the outage.
    second = call("open", update={"signs": [sign(time, 1700), sign(time, 1650, "good")]})
    assert second["continued"] and second["changed"]
    assert second["outage_started_at"] == time.at(-100)
    assert second["notified"] == [told(time)]
    assert second["detected_at"] == time.at(0)


@pytest.mark.parametrize("back", [0, 1200, 86400])
def test_duration_does_not_depend_on_the_wall_clock(call, time, back):
    run = call("open", update={"signs": [sign(time, -100)]})["run"]
    assert call("present")["lasted"] == 100
    time.advance(1800)
    time.step = -back
    assert call("attempt", run=run)["lasted"] == 1900
    # If the outage is longer by the wall clock than by the boot clock, the wall clock is used.
    time.step = 600
    assert call("present")["lasted"] == 2500
    time.step = 0
    ended = call("closed", run=run, update={"outcome": "recovered", "mitigated_at": time.at(1000)})
    assert (ended["lasted"], ended["outage_seconds"]) == (1100, 1100)


def test_after_a_reboot_the_duration_uses_the_wall_clock(call, time):
    call("open")
    time.advance(1800)
    time.boot_id = "second boot"
    assert call("present")["lasted"] == 1800
    time.step = -1200
    assert call("present")["lasted"] == 600
    assert call("present", check_mode=True)["lasted"] == 600


def test_a_mitigated_but_unclosed_incident_is_not_continued(call, time):
    first = call("open")
    call("attempt", run=first["run"], update={"mitigated_at": time.at(5)})
    time.advance(86400)
    second = call("open")
    assert second["id"] != first["id"] and not second["continued"]
    assert first["id"] in second["warnings"][0]
    assert second["outage_started_at"] == time.at(86400)


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([], ("opened", "opened", "incident opened")),
        ([(-50, "good")], (-50, "opened", "detection: probe")),
        ([(-50, "good"), (-20, "bad"), (-10, "bad")], (-50, -20, "test")),
        # If a healthy response followed a failure, this failure was not the start of the outage.
        ([(-90, "bad"), (-50, "good"), (-20, "bad")], (-50, -20, "test")),
        ([(-20, "bad")], (-20, -20, "test")),
        ([(-20, "bad"), (30, "bad"), (25, "good")], (-20, -20, "test")),
    ],
)
def test_start_of_the_outage(call, time, signs, expected):
    update = {"signs": [sign(time, seconds, kind) for seconds, kind in signs]}
    if expected[2].startswith("detection"):
        update.update(detected_by="probe")
    start = call("open", update=update)["outage_started"]
    instant = {"opened": time.at(0)}
    wanted = [instant.get(item) or time.at(item) for item in expected[:2]]
    assert [start["earliest"], start["latest"]] == wanted
    if expected[2] != "incident opened":
        assert start["source"] == expected[2]


def test_starts_are_counted_over_incidents_within_the_window(call, note_start, time):
    for begin in (0, 1000, 2000):
        time.passed = begin
        run = call("open")["run"]
        call("attempt", run=run, update={"attempts": [attempt(time, begin)]})
        assert note_start(run) is None
        # A halted rung does not count as a restart. A rung that failed before it started the service does not count
        # either.
        tried = [
            attempt(time, begin, held=True),
            {"rung": "standard_recovery", "started_at": time.at(begin + 1), "halted": True, "held": False},
            {"rung": "clean_start_recovery", "started_at": time.at(begin + 2), "held": False, "reason": "npm"},
        ]
        last = call("closed", run=run, update={"attempts": tried, "outcome": "recovered"})
    assert [item["started"] for item in last["attempts"]] == [True, False, False]
    assert [item["result"] for item in last["attempts"]] == ["succeeded", "halted", "failed"]
    assert (last["restarts_in_window"], last["blind_restarts_left"]) == (3, 0)
    assert last["crash_loop"] == {"looping": True, "restarts": 3, "fell": False, "limit": 3, "window": 3600.0}
    fewer = call("present", window=1500)
    assert (fewer["restarts_in_window"], fewer["blind_restarts_left"], fewer["crash_loop"]["looping"]) == (2, 1, False)
    assert call("present", restart_limit=5)["blind_restarts_left"] == 2
    # Until the window ends, the restarts also count for the next incident, even before it is opened.
    assert call("open", run="next")["blind_restarts_left"] == 0
    assert note_start("next") is None
    assert call("present")["restarts_in_window"] == 4
    time.passed = 2000 + 3600
    assert call("present")["restarts_in_window"] == 2


def test_attempt_is_recorded_before_it_is_made(call, note_start, time, tmp_path):
    run = call("open")["run"]

    def note(attempts, run=run):
        where = {"state_dir": str(tmp_path / "state"), "memory": str(tmp_path / "memory")}
        return incident_notes.note_attempts(
            **where, run=run, clock=time.clock(), attempts=attempts, signs=[sign(time, -9)]
        )

    first = attempt(time, 1)
    assert note([first]) is None
    assert note_start(run) is None
    # The first rung is recorded twice while it is running. The result of the first rung is recorded when the next rung
    # starts.
    assert note([first]) is None
    assert note([{**first, "held": False, "reason": "fell"}, attempt(time, 2, rung="standard_recovery")]) is None
    seen = call("present", run=run)
    told = [(each["rung"], each["result"], each["started"]) for each in seen["attempts"]]
    assert told == [("restart", "failed", True), ("standard_recovery", "under way", False)]
    assert seen["outage_started_at"] == time.at(-9)
    assert seen["locked_by"]["step"] == "standard_recovery"

    # ansible-core before version 2.19 passes computed values as text.
    texts = {"held": "False", "fell": "True", "halted": "False", "seconds": "12.5"}
    assert note([{**first, **texts}]) is None
    (seen, *_rest) = call("present", run=run)["attempts"]
    assert (seen["held"], seen["fell"], seen["halted"], seen["seconds"]) == (False, True, False, 12.5)
    assert note([{**first, **texts, "seconds": "long"}]) is None
    assert call("present", run=run)["attempts"][0]["seconds"] is None

    assert "Another run is working on this host" in note([attempt(time, 3)], run="another")
    assert "attempts[].rung is None" in note([{"started_at": time.at(3)}])


@pytest.mark.parametrize(("step", "counted"), [(0, 3), (-600, 3), (-3600, 3), (-7200, 0), (7200, 0)])
def test_a_start_with_a_wrong_time_counts_no_longer_than_the_window(call, note_start, time, step, counted):
    run = call("open")["run"]
    for _ in range(3):
        note_start(run)
    call("closed", run=run, update={"outcome": "not_recovered"})
    time.step = step
    looked = call("open")
    assert looked["restarts_in_window"] == counted
    assert looked["crash_loop"]["looping"] == bool(counted)


@pytest.mark.parametrize(
    ("outcome", "closes"),
    [
        ("recovered", True),
        ("recovered_by_systemd", True),
        ("warning", True),
        ("not_recovered", False),
        ("data_in_doubt", False),
    ],
)
def test_an_incident_stays_open_while_the_service_is_down_or_its_data_in_doubt(call, outcome, closes):
    run = call("open")["run"]
    closed = call("closed", run=run, update={"outcome": outcome})
    assert (closed["outcome"], bool(closed["closed_at"])) == (outcome, closes)
    assert bool(call("present")["id"]) is not closes


def test_after_a_failed_stability_check_a_restart_counts_as_a_crash_loop(call, note_start, time):
    run = call("open")["run"]
    note_start(run)
    tried = [attempt(time, 1, held=False, fell=True, reason="fell again"), attempt(time, 90, held=True)]
    last = call("closed", run=run, update={"attempts": tried, "outcome": "recovered"})
    assert last["crash_loop"] == {"looping": True, "restarts": 1, "fell": True, "limit": 3, "window": 3600.0}
    assert last["blind_restarts_left"] == 0
    # Until the window ends, the failure also counts for the next incident.
    time.advance(3000)
    assert call("open")["crash_loop"]["looping"]
    time.advance(700)
    assert not call("present")["crash_loop"]["looping"]


def test_a_start_without_an_incident_is_not_recorded(call, note_start, tmp_path):
    assert note_start("run-x") is None
    assert call("present")["id"] is None
    (tmp_path / "file").write_text("")
    said = incident_notes.note_start(state_dir="/x", run="run-x", memory=str(tmp_path / "file"))
    assert said.startswith("The start was not recorded: Cannot save the incident record in /x")


def test_a_repeated_call_changes_nothing(call, time):
    run = call("open")["run"]
    update = {
        "attempts": [attempt(time, 1, held=True)],
        "signs": [sign(time, -1)],
        "notified": [told(time)],
        "cause": "killed",
    }
    assert call("attempt", run=run, update=update)["changed"]
    again = call("attempt", run=run, update=update)
    assert not again["changed"]
    assert len(again["attempts"]) == len(again["signs"]) == len(again["notified"]) == 1


def test_a_truncated_record_is_set_aside_and_not_fatal(call, time, tmp_path, no_flush):
    path = tmp_path / "state" / "incident.json"
    first = call("open", update={"signs": [sign(time, -1)], "attempts": [attempt(time, 0)]})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        looked = call("present")
        assert looked["id"] in (None, first["id"])
        # Calls that write are slow. Write only for every eighth length and for the last eight lengths.
        if length % 8 and length < len(whole) - 8:
            assert "damaged" in looked["warnings"][0]
            continue
        time.advance(61)
        second = call("open")
        # A record is complete even without its final line break.
        if length == len(whole) - 1:
            assert second["id"] == first["id"]
            continue
        assert second["id"] != first["id"]
        assert "damaged" in looked["warnings"][0] and "was saved as" in second["warnings"][0]
        (aside,) = tmp_path.glob("state/incident.json.damaged-*")
        assert aside.read_bytes() == whole[:length]
        aside.unlink()


def test_a_record_with_a_flipped_bit_is_used_or_set_aside(call, note_start, time, tmp_path, no_flush):
    path = tmp_path / "state" / "incident.json"
    run = call("open", update={"signs": [sign(time, -1)], "notified": [told(time)], "cause": "killed"})["run"]
    call("attempt", run=run, update={"attempts": [attempt(time, 0)]})
    note_start(run)
    whole = path.read_bytes()
    for at in range(0, len(whole), step(5)):
        broken = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        path.write_bytes(broken)
        call("open", check_mode=True)
        if at % 16 == 0:  # Calls that write are slow, so write only here.
            time.advance(61)
            again = call("open", update={"attempts": [attempt(time, 0, held=False)]})
            note_start(again["run"])
            call("closed", run=again["run"], update={"outcome": "recovered"})
            shutil.rmtree(tmp_path / "state" / "incidents")


def test_notifications_of_an_earlier_version_are_not_forgotten(call, time, tmp_path):
    path = tmp_path / "state" / "incident.json"
    run = call("open", update={"notified": [told(time)]})["run"]
    call("closed", run=run, update={"outcome": "not_recovered"})
    path.write_bytes(path.read_bytes().replace(b'"notified"', b'"told"'))
    assert call("open")["notified"] == [told(time)]


def test_a_damaged_record_in_the_history_is_set_aside(call, tmp_path):
    closed = call("closed", run=call("open")["run"], update={"outcome": "recovered"})
    path = tmp_path / "state" / "incidents" / f"{closed['id']}.json"
    path.write_bytes(path.read_bytes()[:50])
    assert "was saved as" in call("open")["warnings"][0]
    assert not path.exists()


def test_a_folder_in_place_of_the_record_is_set_aside(call, tmp_path):
    (tmp_path / "state" / "incident.json" / "sub").mkdir(parents=True)
    opened = call("open")
    assert "was saved as" in opened["warnings"][0] and opened["id"]
    assert (tmp_path / "state" / "incident.json").is_file()


def test_the_record_is_replaced_and_never_overwritten(call, tmp_path):
    path = tmp_path / "state" / "incident.json"
    run = call("open")["run"]
    # Keep the old file open so that its inode number cannot be reused for the new file.
    with path.open("rb") as held:
        old = held.read()
        call("attempt", run=run, update={"cause": "killed"})
        held.seek(0)
        assert held.read() == old != path.read_bytes()
        assert not os.path.samestat(os.fstat(held.fileno()), path.stat())


@pytest.mark.parametrize("whole", ["old", "new"])
def test_power_loss_during_a_write_leaves_the_old_or_the_new_record(call, time, tmp_path, whole, no_flush):
    path = tmp_path / "state" / "incident.json"
    run = call("open")["run"]
    old = path.read_bytes()
    call("attempt", run=run, update={"cause": "killed"})
    new = path.read_bytes()
    for length in {*range(0, len(new), step(8)), len(new) - 1, len(new)}:
        path.write_bytes(old if whole == "old" else new)
        (tmp_path / "state" / ".incident.json.cut").write_bytes(new[:length])
        assert call("attempt", run=run)["cause"] == (None if whole == "old" else "killed")
        assert not (tmp_path / "state" / ".incident.json.cut").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc/passwd"},
        {"signs": [{"at": "yesterday", "kind": "bad", "source": "x"}]},
        {"signs": [{"at": "2026-03-02T01:02:03.000Z"}]},
        {"attempts": [{"rung": 1, "started_at": "2026-03-02T01:02:03.000Z"}]},
        {"attempts": "none"},
        {"runs": [1]},
        {"opened_at": None},
        {"starts": [{"run": "x"}]},
        {"revision": "x"},
        {"revision": True},
        {"outcome": ["recovered"]},
        {"severity": {"a": 1}},
        {"cause": 5},
        {"notified": [{"level": "leader", "contact": "a"}]},
        {"notified": [{"level": "leader", "contact": "a", "channel": "mail", "at": "soon"}]},
        {"attempts": [{"rung": "x", "started_at": "2026-03-02T01:02:03.000Z", "held": "yes"}]},
        {"attempts": [{"rung": "x", "started_at": "2026-03-02T01:02:03.000Z", "seconds": True}]},
        {"opened_boot": float("inf")},
        {"closed_at": ""},
    ],
)
def test_json_that_is_not_a_record_is_set_aside(call, time, tmp_path, change):
    call("open")
    time.advance(61)
    path = tmp_path / "state" / "incident.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "damaged" in call("open")["warnings"][0]


@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "deep"])
def test_an_impossible_record_is_set_aside_immediately(call, tmp_path, kind):
    path = tmp_path / "state" / "incident.json"
    path.parent.mkdir(mode=0o700)
    if kind == "pipe":
        os.mkfifo(path)  # a named pipe without a writer
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    else:
        path.write_text("[" * 1_000_000)
    opened = call("open")
    assert opened["id"] and "was saved as" in opened["warnings"][0]
    assert json.loads(path.read_text())["id"] == opened["id"]


def test_a_state_folder_that_is_a_link(call, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to("elsewhere")
    opened = call("open")
    assert json.loads((tmp_path / "elsewhere" / "incident.json").read_text())["id"] == opened["id"]
    assert not opened["warnings"]


def test_a_state_folder_that_is_a_dangling_link(call, time, tmp_path):
    (tmp_path / "state").symlink_to("nowhere")
    opened = call("open")
    assert "cannot be saved in" in opened["warnings"][0]
    time.advance(61)
    assert call("open")["id"] == opened["id"]


def test_a_state_folder_that_even_root_cannot_write_to(tmp_path):
    places = {"state_dir": "/proc/self/state", "memory": str(tmp_path / "memory")}
    opened = incident_record.call(**places, state="open")
    assert "cannot be saved in /proc/self/state" in opened["warnings"][0]
    closed = incident_record.call(**places, state="closed", run=opened["run"], update=Update(outcome="not_recovered"))
    assert closed["id"] == opened["id"]
    assert incident_record.call(**places, state="open")["id"] == opened["id"]
    assert incident_store.is_open(**places)


def test_a_run_that_was_killed_between_closing_and_archiving(call, tmp_path, time):
    first = call("open")
    path = tmp_path / "state" / "incident.json"
    record = {**json.loads(path.read_text()), "closed_at": time.at(1)}
    path.write_text(json.dumps(record))
    time.advance(61)
    second = call("open")
    assert second["id"] != first["id"] and not second["continued"]
    assert (tmp_path / "state" / "incidents" / f"{first['id']}.json").exists()


class Disk:
    """Simulates the disk that contains the state folder. If `full` is True, writes to this disk fail."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.full = str(folder), False
        for name in ("write_atomically", "private_folder"):
            monkeypatch.setattr(
                incident_store.atomic_files, name, self._failing(getattr(incident_store.atomic_files, name))
            )

    def _failing(self, real):
        def write(path, *rest, **more):
            if self.full and path.startswith(self.folder) and not os.path.isdir(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return real(path, *rest, **more)

        return write


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Disk(tmp_path / "state", monkeypatch)


@pytest.mark.parametrize("folder", ["missing", "there"])
def test_a_full_disk_keeps_the_record_in_memory_until_there_is_space(call, tmp_path, disk, folder):
    if folder == "there":
        (tmp_path / "state").mkdir(mode=0o700)
    disk.full = True
    opened = call("open", update={"severity": "critical"})
    assert "No space left on device" in opened["warnings"][0] and "lost at the next reboot" in opened["warnings"][0]
    with pytest.raises(IncidentError, match=opened["run"]):
        call("open")
    assert call("present")["id"] == opened["id"]
    disk.full = False
    # When there is free space again, the next call moves the record to disk, even if the call itself changes nothing.
    again = call("attempt", run=opened["run"])
    assert (again["id"], again["severity"], again["warnings"]) == (opened["id"], "critical", [])
    assert json.loads((tmp_path / "state" / "incident.json").read_text())["id"] == opened["id"]
    assert not list(tmp_path.glob("memory/*/incident.json"))


def test_a_disk_that_fills_up_while_an_incident_is_open(call, note_start, time, tmp_path, disk):
    opened = call("open", update={"signs": [sign(time, -60)]})
    disk.full = True
    call("attempt", run=opened["run"], update={"attempts": [attempt(time, 0)]})
    note_start(opened["run"])
    time.advance(61)
    second = call("open")
    assert second["continued"] and second["outage_started_at"] == time.at(-60)
    assert second["restarts_in_window"] == 1
    closed = call("closed", run=second["run"], update={"outcome": "recovered"})
    assert closed["closed_at"]
    # The full disk still contains an outdated record in which the incident is open.
    assert json.loads((tmp_path / "state" / "incident.json").read_text())["closed_at"] is None
    assert call("present")["id"] is None
    third = call("open")
    assert third["id"] != opened["id"] and not third["continued"] and third["restarts_in_window"] == 1
    disk.full = False
    closed = call("closed", run=third["run"], update={"outcome": "recovered"})
    assert closed["restarts_in_window"] == 1
    call("present", run=third["run"])
    names = sorted(path.name for path in (tmp_path / "state" / "incidents").iterdir())
    assert names == sorted(f"{item['id']}.json" for item in (opened, third))
    assert not list(tmp_path.glob("memory/*/incidents/*"))


def test_the_result_states_that_the_record_is_in_memory(call, disk, tmp_path):
    disk.full = True
    opened = call("open")
    (spare,) = (tmp_path / "memory").iterdir()
    assert opened["record_in_memory"] == str(spare)
    disk.full = False
    assert call("attempt", run=opened["run"])["record_in_memory"] is None


def test_a_healthy_run_moves_the_record_from_memory_to_disk(call, time, tmp_path, disk):
    places = {"state_dir": str(tmp_path / "state"), "memory": str(tmp_path / "memory"), "clock": time.clock()}
    disk.full = True
    over = call("open")
    call("closed", run=over["run"], update={"outcome": "recovered"})
    opened = call("open")
    incident_store.bring_home(**places)
    (spare,) = (tmp_path / "memory").iterdir()
    assert (spare / "incident.json").exists()

    disk.full = False
    # An active run's record is not moved.
    incident_store.bring_home(**places)
    assert (spare / "incident.json").exists()
    time.advance(61)
    (tmp_path / "state").mkdir(exist_ok=True)
    incident_store.bring_home(**places)
    assert not (spare / "incident.json").exists()
    assert not list(spare.glob("incidents/*"))
    assert json.loads((tmp_path / "state" / "incident.json").read_text())["id"] == opened["id"]
    assert (tmp_path / "state" / "incidents" / f"{over['id']}.json").exists()


def test_a_healthy_run_without_a_record_in_memory_creates_no_folder(time, tmp_path):
    places = {"state_dir": str(tmp_path / "state"), "memory": str(tmp_path / "memory"), "clock": time.clock()}
    incident_store.bring_home(**places)
    assert not list(tmp_path.iterdir())


def test_of_two_copies_the_newer_one_counts(call, tmp_path):
    run = call("open")["run"]
    old = (tmp_path / "state" / "incident.json").read_bytes()
    call("attempt", run=run, update={"cause": "killed"})
    (spare,) = (tmp_path / "memory").iterdir()
    (spare / "incident.json").write_bytes(old)
    assert call("attempt", run=run)["cause"] == "killed"
    assert not (spare / "incident.json").exists()


def test_a_leftover_copy_does_not_hide_the_open_incident(call, time, tmp_path, disk):
    first = call("open")
    stale = (tmp_path / "state" / "incident.json").read_bytes()
    call("closed", run=first["run"], update={"outcome": "recovered"})
    (tmp_path / "state" / "incident.json").write_bytes(stale)
    disk.full = True
    # The clock has been set back, so the open incident's record looks older than the closed incident's stale record.
    time.step = -3600
    second = call("open")
    assert second["id"] != first["id"]
    assert call("attempt", run=second["run"])["id"] == second["id"]
    assert call("present")["id"] == second["id"]


def test_if_no_folder_can_be_used_the_error_is_one_line(tmp_path):
    (tmp_path / "state").write_text("a file")
    kept = incident_record.call(state_dir=str(tmp_path / "state"), memory=str(tmp_path / "memory"), state="open")
    assert "cannot be saved" in kept["warnings"][0]
    with pytest.raises(IncidentError, match=r"Cannot save the incident record in .* or in .*: ") as failed:
        incident_record.call(state_dir=str(tmp_path / "state"), memory=str(tmp_path / "state"), state="open")
    assert "\n" not in str(failed.value)


def test_notifications_can_be_recorded_after_the_incident_is_closed(call, time):
    run = call("open", update={"notified": [told(time)]})["run"]
    call("closed", run=run, update={"outcome": "recovered"})
    late = call("attempt", run=run, update={"notified": [told(time, "resolved", at=5)]})
    assert late["changed"] and late["locked_by"] is None
    assert [item["level"] for item in late["notified"]] == ["leader", "resolved"]
    assert not call("attempt", run=run, update={"notified": [told(time, "resolved", at=5)]})["changed"]
    with pytest.raises(IncidentError, match="no incident is open"):
        call("attempt", run=run, update={"notified": [told(time)], "cause": "killed"})


def test_a_healthy_run_closes_an_incident_resolved_manually(call, time):
    opened = call("open", update={"signs": [sign(time, -10)]})
    call("closed", run=opened["run"], update={"outcome": "not_recovered", "notified": [told(time)]})
    time.advance(600)
    planned = call("closed", check_mode=True)
    assert planned["changed"] and call("present")["id"] == opened["id"]
    closed = call("closed", update={"mitigated_at": time.at(590)})
    assert closed["changed"] and closed["id"] == opened["id"]
    assert (closed["outcome"], closed["outage_seconds"]) == ("resolved_manually", 600.0)
    assert closed["notified"] == [told(time)] and closed["locked_by"] is None
    # The run that closed the incident can still record whom it notified of the resolution.
    assert call("attempt", run=closed["run"], update={"notified": [told(time, "resolved")]})["changed"]
    again = call("closed")
    assert (again["changed"], again["id"]) == (False, None)


def test_resolution_is_notified_before_the_incident_is_closed(call, time):
    opened = call("open")
    call("closed", run=opened["run"], update={"outcome": "not_recovered", "notified": [told(time)]})
    time.advance(600)
    planned = call("resolved", check_mode=True)
    assert planned["changed"] and call("present")["outcome"] == "not_recovered"
    resolved = call("resolved", update={"mitigated_at": time.at(590)})
    assert (resolved["outcome"], resolved["closed_at"], resolved["notified"]) == (
        "resolved_manually",
        None,
        [told(time)],
    )
    assert resolved["locked_by"]["run"] == resolved["run"]
    # If two runs find the service healthy at the same time, only one of the two sends notifications.
    other = call("resolved")
    assert (other["run"], other["changed"]) == (None, False)
    call("attempt", run=resolved["run"], update={"notified": [told(time, "resolved")]})
    # If this run is killed, the next run sends the remaining notifications and reports the same end time.
    time.advance(61)
    heir = call("resolved", update={"mitigated_at": time.at(9000)})
    assert (heir["outcome"], heir["mitigated_at"]) == ("resolved_manually", time.at(590))
    assert [item["level"] for item in heir["notified"]] == ["leader", "resolved"]
    closed = call("closed", run=heir["run"])
    assert (closed["outcome"], closed["locked_by"]) == ("resolved_manually", None)
    assert closed["closed_at"]


def test_a_healthy_run_reports_nothing_about_an_incident_of_an_active_run(call, time):
    opened = call("open", update={"notified": [told(time)]})
    left = call("resolved")
    assert (left["changed"], left["run"], left["locked_by"]["run"]) == (False, None, opened["run"])
    # The active run reports the resolution itself.
    mine = call("resolved", run=opened["run"], update={"outcome": "recovered", "mitigated_at": time.at(0)})
    assert (mine["outcome"], mine["closed_at"]) == ("recovered", None)
    assert call("closed", run=opened["run"])["outcome"] == "recovered"


def test_recovery_by_a_killed_run_is_closed_as_recovered(call, time):
    run = call("open")["run"]
    call("attempt", run=run, update={"mitigated_at": time.at(5)})
    time.advance(3600)
    closed = call("closed", update={"mitigated_at": time.at(3600)})
    assert (closed["outcome"], closed["mitigated_at"]) == ("recovered", time.at(5))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((4, "recovered", 5), id="the process that answered then"),
        pytest.param((30, "resolved_manually", 30), id="a later one"),
        pytest.param((None, "resolved_manually", 3600), id="process not visible"),
    ],
)
@pytest.mark.parametrize("state", ["resolved", "closed"])
def test_first_good_answer_of_a_run_killed_in_its_stability_check_ends_the_outage(call, note_answer, time, state, case):
    serving_since, outcome, seconds = case
    run = call("open", update={"attempts": [attempt(time, 1)]})["run"]
    assert note_answer(run, 5) is None
    time.advance(3600)
    update = {
        "mitigated_at": time.at(3600),
        "serving_since": None if serving_since is None else time.at(serving_since),
    }
    ended = call(state, update=update)
    assert (ended["outcome"], ended["mitigated_at"]) == (outcome, time.at(seconds))
    assert ended["outage_seconds"] == seconds


@pytest.mark.parametrize("then", ["fell", "did not hold", "was started again", "was given up"])
def test_a_good_answer_before_a_failure_does_not_end_the_outage(call, note_start, note_answer, time, then):
    run = call("open", update={"attempts": [attempt(time, 1)]})["run"]
    time.advance(3)
    note_start(run)
    note_answer(run, 5)
    time.advance(57)
    if then == "fell":
        note_answer(run, None)
    elif then == "did not hold":
        call("attempt", run=run, update={"attempts": [attempt(time, 1, held=False, seconds=59)]})
    elif then == "was started again":
        note_start(run)
    else:
        call("closed", run=run, update={"outcome": "not_recovered"})
    assert call("present")["answered_at"] is None
    time.advance(3600)
    serving = 61 if then == "was started again" else 4
    ended = call("closed", update={"mitigated_at": time.at(3660), "serving_since": time.at(serving)})
    if then == "was started again":
        # No response is recorded after the last start, as if the run had been killed before the service responded.
        assert (ended["outcome"], ended["mitigated_at"], ended["mitigated_estimated"]) == (
            "recovered",
            time.at(61),
            True,
        )
    else:
        assert (ended["outcome"], ended["mitigated_at"]) == ("resolved_manually", time.at(3660))


def test_systemd_or_a_killed_run_ended_the_outage(call, note_start, time):
    run = call("open", update={"attempts": [attempt(time, 1)]})["run"]
    time.advance(2)
    note_start(run)
    time.advance(600)
    look = {"mitigated_at": time.at(600), "serving_since": time.at(4)}
    planned = call("closed", update={**look, "serving_restarts": 1}, check_mode=True)
    assert planned["outcome"] == "recovered_by_systemd"
    ended = call("resolved", update={**look, "serving_restarts": 0})
    assert (ended["outcome"], ended["mitigated_at"]) == ("recovered", time.at(4))
    assert (ended["mitigated_estimated"], ended["mitigated_from"]) == (True, "start of the process that serves")


def test_an_answer_does_not_close_an_incident_with_data_in_doubt(call, time):
    run = call("open")["run"]
    call("closed", run=run, update={"outcome": "data_in_doubt", "mitigated_at": time.at(5)})
    assert call("open")["continued"]


def test_a_run_that_waited_for_a_killed_run_knows_the_first_good_answer(call, note_answer, time):
    note_answer(call("open")["run"], 5)
    heir = call("open", wait=90)["run"]
    update = {"outcome": "recovered", "mitigated_at": time.at(61), "serving_since": time.at(4)}
    assert call("resolved", run=heir, update=update)["mitigated_at"] == time.at(5)


def test_only_a_run_of_the_incident_records_an_answer(call, note_answer, tmp_path):
    assert note_answer("run-x", 5) is None
    call("open")
    assert note_answer("run-x", 5) is None
    assert call("present")["answered_at"] is None
    (tmp_path / "file").touch()
    said = incident_notes.note_answer(state_dir="/x", run="run-x", at=None, memory=str(tmp_path / "file"))
    assert said.startswith("The first healthy response was not recorded: ")


def test_a_read_can_wait_until_no_other_run_has_the_lease(call, time):
    run = call("open", lease=30)["run"]
    assert call("present", wait=20)["locked_by"]["run"] == run
    looked = call("present", wait=20)
    assert (looked["locked_by"], looked["waited"] > 9, looked["changed"]) == (None, True, False)
    assert call("present", run=call("open")["run"], wait=20)["waited"] == 0


def test_a_healthy_run_leaves_an_incident_of_an_active_run_alone(call, time):
    opened = call("open")
    left = call("closed")
    assert (left["changed"], left["id"], left["locked_by"]["run"]) == (False, opened["id"], opened["run"])
    assert call("closed", run=opened["run"], update={"outcome": "recovered"})["outcome"] == "recovered"


def test_checking_for_an_open_incident_is_fast(call, tmp_path, disk):
    folders = {"state_dir": str(tmp_path / "state"), "memory": str(tmp_path / "memory")}
    assert not incident_store.is_open(**folders)
    disk.full = True
    run = call("open")["run"]
    assert incident_store.is_open(**folders)
    disk.full = False
    call("attempt", run=run)
    assert incident_store.is_open(**folders)
    call("closed", run=run, update={"outcome": "recovered"})
    assert not incident_store.is_open(**folders)


def test_the_last_healthy_run_is_the_last_good_sign(call, time, tmp_path):
    state = tmp_path / "state"
    last_good.note_healthy(str(state), at=time.at(-300))
    last_good.note_healthy(str(state), at=time.at(-60))
    assert stat.S_IMODE((state / "last_healthy").stat().st_mode) == 0o600
    start = call("open", update={"signs": [sign(time, -20)]})["outage_started"]
    assert (start["earliest"], start["earliest_source"]) == (time.at(-60), "last healthy run")
    (tmp_path / "file").write_text("")
    last_good.note_healthy(str(tmp_path / "file"), at=time.at(0))  # A missing folder is not an error.


@pytest.mark.parametrize(
    "case",
    [
        ([(-600, -590), (-300, -290)], -900, (-600, "earlier health probe")),
        # The service answered after the failure.
        ([(-600, -590)], -100, (-20, "test")),
        # After the failure, no probe ran for a long time. The service may have answered during this time.
        ([(-9000, -8990)], -9500, (-20, "test")),
        ([(-9000, -8990), (-300, -290)], -9500, (-300, "earlier health probe")),
        # The clock was set back.
        ([(600, 610)], -900, (-20, "test")),
    ],
)
def test_a_failure_before_the_incident_is_a_sign(call, time, tmp_path, case):
    failures, healthy, expected = case
    state = tmp_path / "state"
    for first, last in failures:
        last_good.note_failure(str(state), first_at=time.at(first), last_at=time.at(last))
    (state / "last_healthy").touch()
    os.utime(state / "last_healthy", (START + healthy,) * 2)
    start = call("open", update={"signs": [sign(time, -20)]})["outage_started"]
    assert (start["latest"], start["source"]) == (time.at(expected[0]), expected[1])
    assert not (state / "first_failure.json").exists()


def test_a_first_failure_is_kept_until_a_record_contains_it(call, time, tmp_path):
    """While an incident for a degraded service is open, a health probe may fail.

    In this case, a run may write the incident's record.
    """
    opened = call("open", update={"severity": "degraded"})
    last_good.note_failure(str(tmp_path / "state"), first_at=time.at(0), last_at=time.at(0))
    call("attempt", run=opened["run"], update={"cause": "killed"})
    assert (tmp_path / "state" / "first_failure.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"first_at": 1, "last_at": 2}', "x" * 5000, "[" * 4000])
def test_an_unreadable_first_failure_is_ignored(call, time, tmp_path, content):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "first_failure.json").write_text(content)
    start = call("open", update={"signs": [sign(time, -20)]})["outage_started"]
    assert (start["latest"], start["source"]) == (time.at(-20), "test")


def test_no_incident_is_opened_during_a_maintenance(call, time, tmp_path):
    begun = call("maintenance_begun", maintenance_until="+2h", maintenance_reason="Release 4.2")
    until = {"until": time.at(7200), "reason": "Release 4.2", "source": str(tmp_path / "state" / "maintenance.json")}
    assert begun["changed"] and begun["maintenance"] == until
    for run in ("", "run-x"):
        held = call("open", run=run)
        assert (held["maintenance"], held["id"], held["run"], held["changed"]) == (until, None, None, False)
    assert held["locked_by"] is None
    time.advance(7200)
    opened = call("open")
    assert opened["maintenance"] is None and opened["id"]


def test_a_maintenance_does_not_affect_the_active_run(call, time):
    run = call("open")["run"]
    assert call("maintenance_begun", maintenance_until="+2h")["locked_by"]["run"] == run
    assert call("attempt", run=run, update={"cause": "killed"})["changed"]
    held = call("open")
    assert held["maintenance"] and held["id"] and held["run"] is None
    ended = call("maintenance_ended")
    assert ended["changed"] and ended["maintenance"] is None
    assert not call("maintenance_ended")["changed"]


def test_a_maintenance_that_starts_during_the_wait_stops_the_run(call, time, monkeypatch):
    first = call("open")

    def begin(seconds):
        time.passed += seconds
        if time.passed < 1:
            call("maintenance_begun", maintenance_until="+2h")
            call("closed", run=first["run"], update={"outcome": "not_recovered"})

    monkeypatch.setattr(time, "advance", begin)
    waited = call("open", wait=15)
    assert waited["maintenance"]["until"] and waited["waited"] > 0
    assert (waited["run"], waited["locked_by"]) == (None, None)


def test_a_maintenance_window_that_a_variable_defines(call, time):
    held = call("open", maintenance_until="2026-03-02T11:00:00+09:00", maintenance_reason="power")
    assert held["maintenance"] == {"until": "2026-03-02T02:00:00.000Z", "reason": "power", "source": "variable"}
    # The later of the two end times is used. A window that has already ended is ignored.
    call("maintenance_begun", maintenance_until="+2h")
    assert call("open", maintenance_until=time.at(60))["maintenance"]["until"] == time.at(7200)
    call("maintenance_ended")
    assert call("open", maintenance_until=time.at(-1))["maintenance"] is None


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"state": "attempt"}, "option 'run' is empty"),
        ({"state": "closed", "run": "run-x"}, "no incident is open"),
        ({"state": "open", "restart_limit": -1}, "restart_limit is -1"),
        ({"state": "open", "maintenance_reason": "x"}, "a maintenance window must have an end"),
        (
            {"state": "open", "update": {"notified": [{"at": "2026-03-02T01:02:03.000Z"}]}},
            r"notified\[\].level is None",
        ),
        ({"state": "open", "lease": 0}, "option 'lease' is 0"),
        ({"state": "open", "lease": 4000}, "at most 3600"),
        ({"state": "open", "wait": -1}, "option 'wait' is -1"),
        ({"state": "open", "window": 0}, "option 'window' is 0"),
        ({"state": "open", "update": {"mitigated_at": "now"}}, "mitigated_at is 'now'"),
        ({"state": "open", "update": {"signs": [{"at": "1"}]}}, r"signs\[\].at is '1'"),
    ],
)
def test_invalid_parameters(call, parameters, words):
    with pytest.raises(IncidentError, match=words):
        call(**parameters)


ROUNDS, RUNS = rounds(20, thorough=60), 8


def _round(folder, number):
    """Prepare a round with no lease, an expired lease from a dead run, or a released lease.

    Return the round's folders.
    """
    places = {"state_dir": f"{folder}/{number}/state", "memory": f"{folder}/{number}/memory"}
    os.mkdir(f"{folder}/{number}")
    if number % 3:
        run = incident_record.call(**places, state="open", lease=0.001)["run"]
    if number % 3 == 2:
        incident_record.call(**places, state="closed", run=run, update=Update(outcome="not_recovered"))
    return places


def _open(folder, number, barrier, results):
    places = {"state_dir": f"{folder}/{number}/state", "memory": f"{folder}/{number}/memory"}
    barrier.wait(timeout=20)
    try:
        return results.put((number, incident_record.call(**places, state="open")["run"], None))
    except IncidentError as error:
        return results.put((number, None, error.locked_by["run"]))


def _race(folder, barrier, results):
    for number in range(ROUNDS):
        _open(folder, number, barrier, results)


def test_exactly_one_of_several_simultaneous_runs_wins(tmp_path):
    for number in range(ROUNDS):
        _round(tmp_path, number)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(RUNS), context.Queue()
    runs = [context.Process(target=_race, args=(str(tmp_path), barrier, results)) for _ in range(RUNS)]
    for run in runs:
        run.start()
    answers = [results.get(timeout=60) for _ in range(RUNS * ROUNDS)]
    for run in runs:
        run.join()
    for number in range(ROUNDS):
        won = [run for at, run, _other in answers if at == number and run]
        refused_by = [other for at, _run, other in answers if at == number and other]
        assert len(won) == 1
        assert refused_by == won * (RUNS - 1)
        record = json.loads((tmp_path / str(number) / "state" / "incident.json").read_text())
        assert (len(record["runs"]), record["runs"][-1]) == (2 if number % 3 else 1, won[0])


def _work(places, run, begin, ended, results):
    begin.wait(timeout=20)
    try:
        with host_lease.held(**places, run=run):
            results.put("old")
            ended.wait(timeout=20)
    except host_lease.LeaseError:
        results.put("lost")


def _take_over(places, begin, ended, results):
    begin.wait(timeout=20)
    try:
        results.put(incident_record.call(**places, state="open") and "new")
    except IncidentError:
        results.put("refused")
    ended.wait(timeout=20)


def test_a_run_with_a_lost_lease_never_works_together_with_the_next(tmp_path):
    context = multiprocessing.get_context("fork")
    seen = set()
    for number in range(rounds(10, thorough=30)):
        places = {"state_dir": f"{tmp_path}/{number}/state", "memory": f"{tmp_path}/{number}/memory"}
        os.mkdir(tmp_path / str(number))
        run = incident_record.call(**places, state="open", lease=0.001)["run"]
        begin, ended, results = context.Barrier(2), context.Event(), context.Queue()
        both = [
            context.Process(target=_work, args=(places, run, begin, ended, results)),
            context.Process(target=_take_over, args=(places, begin, ended, results)),
        ]
        for each in both[:: -1 if number % 2 else 1]:
            each.start()
        answers = {results.get(timeout=20), results.get(timeout=20)}
        ended.set()
        for each in both:
            each.join()
        assert answers in ({"old", "refused"}, {"lost", "new"})
        seen |= answers
    assert "old" in seen or "new" in seen


def degraded(call, time, at, *signs):
    """Report a degraded service at the given time. The service answered, so the sign of the probe is "good"."""
    time.passed = at
    signs = [*signs, sign(time, at - 1, "good", "health probe")]
    opened = call("open", update={"severity": "degraded", "signs": signs})
    call("closed", run=opened["run"], update={"outcome": "degraded"})
    return opened


def test_the_outage_of_a_degraded_service_begins_when_it_fails(call, time):
    first = degraded(call, time, 0)
    degraded(call, time, 3600)
    time.passed = 28_810
    down = {"severity": "emergency", "signs": [sign(time, 28_800, "bad", "health probe")]}
    opened = call("open", update=down)
    assert opened["id"] == first["id"]
    assert opened["outage_started"]["earliest"] == time.at(3599)
    assert opened["outage_started_at"] == time.at(28_800)
    assert opened["detected_at"] == time.at(28_810)
    assert opened["lasted"] == 10
    call("closed", run=opened["run"], update={"outcome": "not_recovered"})
    time.passed = 28_900
    again = call("open", update={"severity": "critical", "signs": [sign(time, 28_890, "bad", "health probe")]})
    assert (again["outage_started_at"], again["lasted"]) == (time.at(28_800), 100)


def test_an_earlier_stop_does_not_begin_the_outage_if_a_run_stops_a_degraded_service(call, time):
    """A person restarted the service. After that, a run stopped it to repair the database. The service never failed."""
    stopped = sign(time, -40, "bad", "journal: Stopping itsm.service")
    first = degraded(call, time, 0, stopped)
    time.passed = 3600
    opened = call("open", update={"severity": "degraded"})
    attempts = [attempt(time, 3605, held=True)]
    ended = call("attempt", run=opened["run"], update={"mitigated_at": time.at(3610), "attempts": attempts})
    assert (first["outage_started_at"], ended["outage_started_at"]) == (time.at(0), time.at(0))


def test_a_crash_begins_the_outage_of_a_service_that_later_is_only_degraded(call, time):
    """systemd restarted the service before the first probe, so no probe failed and no run started the service."""
    exited = [sign(time, -40, "bad", "journal: exited"), sign(time, -1, "good", "health probe")]
    first = call("open", update={"severity": "emergency", "signs": exited})
    call("closed", run=first["run"], update={"outcome": "degraded"})
    time.passed = 600
    again = call("open", update={"severity": "degraded"})
    assert (first["outage_started_at"], again["outage_started_at"]) == (time.at(-40), time.at(-40))


def test_the_end_of_the_first_outage_is_not_the_end_of_the_second_one(call, time):
    """A rung ended the first outage, but the service was degraded and failed again."""
    opened = call("open", update={"severity": "emergency", "signs": [sign(time, -5, "bad", "health probe")]})
    call("attempt", run=opened["run"], update={"mitigated_at": time.at(10), "attempts": [attempt(time, 1, held=True)]})
    call("closed", run=opened["run"], update={"outcome": "degraded"})
    degraded(call, time, 600)
    time.passed = 7200
    again = call("open", update={"severity": "critical", "signs": [sign(time, 7195, "bad", "health probe")]})
    assert (again["id"], again["mitigated_at"]) == (opened["id"], None)
    assert (again["outage_started_at"], again["lasted"]) == (time.at(7195), 5)


def test_a_service_is_degraded_until_a_probe_finds_it_healthy(call, time):
    degraded(call, time, 0)
    degraded(call, time, 60)
    time.passed = 28_800
    ended = call("resolved", update={"mitigated_at": time.at(28_799), "serving_since": time.at(-90_000)})
    assert (ended["outage_started_at"], ended["mitigated_at"]) == (time.at(0), time.at(28_799))
    assert (ended["outcome"], ended["mitigated_estimated"]) == ("resolved_manually", True)
