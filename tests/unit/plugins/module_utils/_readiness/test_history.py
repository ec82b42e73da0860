# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trends from earlier measurements."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import history

NOW = 1_000_000.0
GIB = 1 << 30


def sample(age: float, **changes):
    """Return a measurement from `age` seconds before NOW."""
    values = {"boot": "b1", "offset": 100.0, "latency": 0.01, "restarts": 0, "wal": 0, "disks": {}, **changes}
    return history.sample(at=NOW - age, **values)


def disk(age: float, free: int):
    return sample(age, disks={"/srv": {"bytes": free, "inodes": 1000}})


def test_measurements_of_the_last_day_are_kept(tmp_path):
    known = [sample(90_000), sample(80_000), sample(100)]
    (tmp_path / "readiness.json").write_text(json.dumps({"samples": known}), encoding="utf-8")
    read = history.read(str(tmp_path), now=NOW)
    assert [NOW - each["at"] for each in read] == [80_000, 100]
    history.write(str(tmp_path), read, sample(0))
    assert len(history.read(str(tmp_path), now=NOW)) == 3


def test_a_second_measurement_within_seconds_is_not_saved(tmp_path):
    history.write(str(tmp_path), [sample(5)], sample(0))
    assert history.read(str(tmp_path), now=NOW) == []


def test_the_file_stays_small_and_describes_the_whole_day(tmp_path):
    known = [sample(86_000 - number * 200) for number in range(300)]
    for number in range(300):
        history.write(str(tmp_path), history.read(str(tmp_path), now=NOW), known[number])
    read = history.read(str(tmp_path), now=NOW)
    assert len(read) <= 200
    assert read[0]["at"] == known[0]["at"] and read[-1]["at"] == known[-1]["at"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"samples": 3}', '{"samples": [{"at": "x"}]}', "[" * 5000])
def test_an_unusable_file_is_ignored(tmp_path, text):
    (tmp_path / "readiness.json").write_text(text, encoding="utf-8")
    assert history.read(str(tmp_path), now=NOW) == []


def test_measurements_after_a_clock_that_was_set_back_are_dropped(tmp_path):
    read = [sample(100), sample(-7200)]
    assert history.clock_jump(read, boot="b1", offset=100.0 - 7200) == -7200
    history.write(str(tmp_path), read, sample(0))
    assert [NOW - each["at"] for each in history.read(str(tmp_path), now=NOW)] == [100, 0]


@pytest.mark.parametrize(
    ("known", "hours"),
    [
        pytest.param([], None, id="no measurement"),
        pytest.param([disk(30, 2 * GIB)], None, id="too young"),
        pytest.param([disk(3600, GIB)], None, id="it does not fill"),
        pytest.param([disk(3600, GIB // 2)], None, id="it becomes empty"),
        pytest.param([disk(3600, 2 * GIB)], 1.0, id="one GiB in an hour"),
        pytest.param([disk(36_000, 2 * GIB)], 10.0, id="one GiB in ten hours"),
        pytest.param([disk(36_000, GIB), disk(1800, 2 * GIB)], 0.5, id="it began to fill half an hour ago"),
    ],
)
def test_hours_until_full(known, hours):
    assert history.hours_until_full(known, mount="/srv", what="bytes", free=GIB, now=NOW) == hours


@pytest.mark.parametrize(
    ("sizes", "grows"),
    [
        pytest.param([], False, id="no measurement"),
        pytest.param([80], False, id="the same size, because it is reused"),
        pytest.param([40, 60], True, id="it grows"),
        pytest.param([60, 80], True, id="it grew, and nothing is written now"),
        pytest.param([40, 90], False, id="a checkpoint emptied it since then"),
        pytest.param([40, 0], False, id="it was empty, and a large transaction was just written"),
        pytest.param([70, 2, 60], True, id="it grows since the service was restarted"),
    ],
)
def test_a_wal_that_grows(sizes, grows):
    known = [sample(1000 - 100 * number, wal=size) for number, size in enumerate(sizes)]
    assert history.grows(known, wal_bytes=80, now=NOW) == grows


@pytest.mark.parametrize(
    ("known", "restarts", "times"),
    [
        pytest.param([], 7, 0, id="no measurement"),
        pytest.param([sample(600, restarts=4)], 7, 3, id="three since then"),
        pytest.param([sample(7200, restarts=0)], 7, 0, id="too long ago"),
        pytest.param([sample(600, restarts=5)], 2, 2, id="a person started the unit in between"),
        pytest.param([sample(600, restarts=5, boot="b0")], 7, 0, id="the host booted in between"),
    ],
)
def test_restarts(known, restarts, times):
    assert history.restarts_since(known, restarts=restarts, boot="b1", seconds=3600, now=NOW) == times


def test_the_usual_latency_needs_some_measurements():
    assert history.usual_latency([sample(100, latency=0.1)] * 4) is None
    assert history.usual_latency([sample(100, latency=0.1)] * 5) == 0.1


@pytest.mark.parametrize(("boot", "jump"), [("b1", 3600.0), ("b2", 0.0)])
def test_a_clock_that_was_changed(boot, jump):
    assert history.clock_jump([sample(100)], boot=boot, offset=3700.0) == jump
