# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incident's record and the lease of the run that works on it."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _clock, _incident
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import IncidentError, Update

START = _clock.epoch("2026-03-02T01:02:03.000Z")


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.step = 0.0
        self.boot_id = "first boot"

    def clock(self) -> _incident.Clock:
        return _incident.Clock(
            wall=lambda: START + self.passed + self.step,
            boot=lambda: 1000 + self.passed,
            boot_id=lambda: self.boot_id,
            sleep=self.advance,
        )

    def advance(self, seconds: float) -> None:
        self.passed += seconds

    def at(self, seconds: float) -> str:
        return _clock.iso(START + seconds)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def call(tmp_path, time):
    def call(state, **parameters):
        update = parameters.pop("update", {})
        return _incident.call(
            state_dir=str(tmp_path / "state"), state=state, clock=time.clock(), update=Update(**update), **parameters
        )

    return call


def sign(time, seconds, kind="bad", source="test"):
    return {"at": time.at(seconds), "kind": kind, "source": source}


def attempt(time, began, **values):
    return {"rung": "restart", "started_at": time.at(began), **values}


def test_a_run_from_opening_to_closing(call, time, tmp_path):
    opened = call("open", update={"severity": "critical", "signs": [sign(time, -30), sign(time, -40, "good")]})
    assert opened["changed"] and not opened["continued"]
    assert opened["id"].startswith("INC-20260302T010203Z-")
    assert opened["locked_by"]["run"] == opened["run"]
    assert opened["detected_at"] == opened["opened_at"] == time.at(0)
    assert opened["outage_started"] == {"earliest": time.at(-40), "latest": time.at(-30), "source": "test"}

    time.advance(5)
    tried = call("attempt", run=opened["run"], update={"attempts": [attempt(time, 5)]})
    assert tried["changed"] and tried["locked_by"]["step"] == "restart"
    assert tried["attempts"][0]["held"] is None

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
    assert [item["held"] for item in closed["attempts"]] == [True]
    assert closed["restarts_in_window"] == 1

    assert os.listdir(tmp_path / "state" / "incidents") == [f"{opened['id']}.json"]
    assert call("present")["id"] is None
    # Closing twice is no change, and still tells the same.
    again = call("closed", run=opened["run"])
    assert (again["changed"], again["id"], again["outage_seconds"]) == (False, opened["id"], 39.0)


def test_everything_is_for_root_alone(call, tmp_path):
    run = call("open")["run"]
    call("closed", run=run, update={"outcome": "recovered"})
    for folder, _folders, names in os.walk(tmp_path / "state"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


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
    # The first one is still alive after all: it may no longer act.
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


def test_a_lease_announced_long_is_not_cut_short_within_its_step(call, time):
    run = call("open")["run"]
    call("attempt", run=run, step="standard_recovery", lease=600)
    assert call("attempt", run=run, step="standard_recovery", lease=60)["locked_by"]["until"] == time.at(600)
    assert call("attempt", run=run, step="verification", lease=60)["locked_by"]["until"] == time.at(60)


def test_waiting_for_the_lease(call, time):
    call("open", lease=20)
    with pytest.raises(IncidentError):
        call("open", wait=10)
    assert call("open", wait=15)["continued"]
    assert time.passed == pytest.approx(20, abs=0.2)


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


def test_a_look_takes_no_lease_and_changes_nothing(call, time, tmp_path):
    assert call("present")["id"] is None
    assert not (tmp_path / "state").exists()
    run = call("open")["run"]
    before = (tmp_path / "state" / "incident.json").read_bytes()
    time.advance(10)
    looked = call("present")
    assert (looked["locked_by"]["run"], looked["run"], looked["changed"]) == (run, None, False)
    assert (tmp_path / "state" / "incident.json").read_bytes() == before


def test_check_mode_touches_nothing(call, tmp_path):
    planned = call("open", check_mode=True, update={"severity": "critical"})
    assert (planned["id"], planned["run"], planned["changed"], planned["locked_by"]) == (None, None, True, None)
    assert "critical" in planned["diff"]["after"] and "critical" not in planned["diff"]["before"]
    assert call("attempt", check_mode=True)["id"] is None
    assert call("closed", check_mode=True)["id"] is None
    assert not (tmp_path / "state").exists()
    opened = call("open")
    before = (tmp_path / "state" / "incident.json").read_bytes()
    planned = call("open", check_mode=True)
    assert planned["id"] == opened["id"] and planned["locked_by"]["run"] == opened["run"]
    call("closed", check_mode=True, run=opened["run"], update={"outcome": "recovered"})
    assert (tmp_path / "state" / "incident.json").read_bytes() == before


def test_an_outage_that_goes_on_is_one_incident(call, time):
    first = call("open", update={"signs": [sign(time, -100)], "told": [{"level": "leader"}]})
    ended = call("closed", run=first["run"], update={"outcome": "not_recovered"})
    assert ended["closed_at"] is None and ended["locked_by"] is None
    time.advance(1800)
    # The crash of the second run's own attempt is no beginning.
    second = call("open", update={"signs": [sign(time, 1700), sign(time, 1650, "good")]})
    assert second["continued"] and second["changed"]
    assert second["outage_started_at"] == time.at(-100)
    assert second["told"] == [{"level": "leader"}]
    assert second["detected_at"] == time.at(0)


def test_an_incident_that_was_mitigated_but_not_closed_is_no_longer_the_outage(call, time):
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
        # A failure after which all was well again began nothing.
        ([(-90, "bad"), (-50, "good"), (-20, "bad")], (-50, -20, "test")),
        ([(-20, "bad")], (-20, -20, "test")),
        ([(-20, "bad"), (30, "bad"), (25, "good")], (-20, -20, "test")),
    ],
)
def test_when_the_outage_began(call, time, signs, expected):
    update = {"signs": [sign(time, seconds, kind) for seconds, kind in signs]}
    if expected[2].startswith("detection"):
        update.update(detected_by="probe")
    start = call("open", update=update)["outage_started"]
    instant = {"opened": time.at(0)}
    wanted = [instant.get(item) or time.at(item) for item in expected[:2]]
    assert [start["earliest"], start["latest"]] == wanted
    if expected[2] != "incident opened":
        assert start["source"] == expected[2]


def test_restarts_are_counted_over_incidents_within_the_window(call, time):
    for begin in (0, 1000, 2000):
        time.passed = begin
        run = call("open")["run"]
        tried = [attempt(time, begin, held=True), {"rung": "remediation", "started_at": time.at(begin)}]
        tried.append(attempt(time, begin + 1, halted=True, held=False))
        last = call("closed", run=run, update={"attempts": tried, "outcome": "recovered"})
    assert last["restarts_in_window"] == 3
    assert call("present", window=1500)["restarts_in_window"] == 2


def test_the_same_twice_is_no_change(call, time):
    run = call("open")["run"]
    update = {
        "attempts": [attempt(time, 1, held=True)],
        "signs": [sign(time, -1)],
        "told": [{"level": "leader", "to": "a"}],
        "cause": "killed",
    }
    assert call("attempt", run=run, update=update)["changed"]
    again = call("attempt", run=run, update=update)
    assert not again["changed"]
    assert len(again["attempts"]) == len(again["signs"]) == len(again["told"]) == 1


def test_a_record_cut_off_anywhere_is_set_aside_and_never_fatal(call, time, tmp_path):
    path = tmp_path / "state" / "incident.json"
    first = call("open", update={"signs": [sign(time, -1)], "attempts": [attempt(time, 0)]})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        looked = call("present")
        assert looked["id"] in (None, first["id"])
        if looked["id"] is None:
            assert "damaged" in looked["warnings"][0]
    path.write_bytes(whole[: len(whole) // 2])
    second = call("open")
    assert second["id"] != first["id"] and "is kept as" in second["warnings"][0]
    (aside,) = tmp_path.glob("state/incident.json.damaged-*")
    assert aside.read_bytes() == whole[: len(whole) // 2]


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
        {"lease": {"run": "x"}},
        {"lease": 5},
    ],
)
def test_a_record_that_is_json_but_no_record_is_set_aside(call, tmp_path, change):
    call("open")
    path = tmp_path / "state" / "incident.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "damaged" in call("open")["warnings"][0]


def test_no_record_keeps_others_out_for_ever(call, tmp_path, time):
    call("open")
    path = tmp_path / "state" / "incident.json"
    record = json.loads(path.read_text())
    record["lease"]["ends"] = 1e12
    path.write_text(json.dumps(record))
    time.advance(_incident.LONGEST_LEASE)
    assert call("open")["continued"]


def test_a_run_that_died_between_closing_and_filing_away(call, tmp_path, time):
    first = call("open")
    path = tmp_path / "state" / "incident.json"
    record = {**json.loads(path.read_text()), "closed_at": time.at(1), "lease": None}
    path.write_text(json.dumps(record))
    (tmp_path / "state" / ".incident.json.cut-off").write_text("{")
    second = call("open")
    assert second["id"] != first["id"] and not second["continued"]
    assert (tmp_path / "state" / "incidents" / f"{first['id']}.json").exists()
    assert not (tmp_path / "state" / ".incident.json.cut-off").exists()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"state": "attempt"}, "run is empty"),
        ({"state": "closed", "run": "run-x"}, "no incident is open"),
        ({"state": "open", "lease": 0}, "lease is 0"),
        ({"state": "open", "lease": 4000}, "at most 3600"),
        ({"state": "open", "wait": -1}, "wait is -1"),
        ({"state": "open", "window": 0}, "window is 0"),
        ({"state": "open", "update": {"mitigated_at": "now"}}, "mitigated_at is 'now'"),
        ({"state": "open", "update": {"signs": [{"at": "1"}]}}, r"signs\[\].at is '1'"),
    ],
)
def test_bad_parameters(call, parameters, words):
    with pytest.raises(IncidentError, match=words):
        call(**parameters)


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(IncidentError, match=r"Cannot keep the incident's record in .*: "):
        _incident.call(state_dir=str(tmp_path / "state"), state="open")


def _open(state_dir, barrier, results):
    barrier.wait()
    try:
        results.put(_incident.call(state_dir=state_dir, state="open")["run"])
    except IncidentError as error:
        results.put(str(error))


def test_of_runs_that_start_at_once_exactly_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    runs = [context.Process(target=_open, args=(str(tmp_path / "state"), barrier, results)) for _ in range(6)]
    for run in runs:
        run.start()
    answers = [results.get(timeout=20) for _ in runs]
    for run in runs:
        run.join()
    winners = [answer for answer in answers if answer.startswith("run-")]
    assert len(winners) == 1
    assert all(winners[0] in answer for answer in answers)
