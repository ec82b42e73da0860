# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running "make bench ONLY=name" replaces the figures of one measurement and detects measurements without figures.

The benchmark identifies the phases of a run by the names of tasks.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench import figures, model, ratios

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["first", "second"]


def told(*entries, failed=()):
    return {"measurements": [{"name": name, "seconds": seconds} for name, seconds in entries], "failed": list(failed)}


def test_new_figures_replace_those_of_the_same_name_only():
    before = told(("first", 1), ("second", 2), ("dropped", 3))
    assert figures.merged(before, told(("second", 4)), within=NAMES) == told(("first", 1), ("second", 4))


def test_failure_is_kept_until_the_measurement_succeeds():
    failed = figures.merged(told(("first", 1)), told(failed=["second"]), within=NAMES)
    assert failed == told(("first", 1), failed=["second"])
    assert figures.merged(failed, told(("first", 5)), within=NAMES)["failed"] == ["second"]
    assert figures.merged(failed, told(("second", 2)), within=NAMES) == told(("first", 1), ("second", 2))


def test_only_rows_never_measured_are_missing():
    assert figures.missing(told(("second", 2)), within=NAMES) == ["first"]
    assert figures.missing(told(("second", 2), failed=["first"]), within=NAMES) == []


@pytest.mark.parametrize("constant", ["CONFIRMED", "DETECTED", "CLOSING"])
def test_the_benchmark_knows_the_names_of_tasks(constant):
    stand = (ROOT / "tests" / "bench" / "stand.py").read_text("utf-8")
    found = re.search(rf'^{constant} = "(.+)"$', stand, re.MULTILINE)
    assert found
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    assert any(f"name: {found[1]}\n" in path.read_text("utf-8") for path in files)


def measured(goal):
    entry = model.Measurement("crash", "Crash", "", lambda: None, ("ours", lambda *_: 0.0), [goal])
    figures = {"ours": {"": [2.5, 4.5]}, "limit": {"": [0.5, 0.5]}, model.EMPTY: {model.WHOLE: [0.5, 1.0]}}
    return model.Result(entry, figures)


def test_a_goal_in_e_is_measured_in_empty_plays_of_the_same_round():
    goal = model.Goal(4.0, against="limit", more=True, unit=model.E)
    result = measured(goal)
    assert result.compared(goal) == [4.0, 4.0]
    (told,) = result.as_dict()["goals"]
    assert (told["met"], told["decides"], told["goal"]) == (True, True, "limit + 4 E")
    assert (told["reached"], told["ours"], told["rival"], told["figures_in"]) == (4.0, 3.5, 0.5, "s")
    missed = model.Goal(3.9, against="limit", more=True, unit=model.E)
    assert [each["met"] for each in measured(missed).as_dict()["goals"]] == [False]


def test_a_goal_in_seconds_does_not_depend_on_the_empty_play():
    goal = model.Goal(3.0, against="limit", more=True)
    assert measured(goal).compared(goal) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("old", "new", "compared", "rows"),
    [
        ({"seen": 2.0, "wall": 4.0}, {"seen": 3.0, "wall": 4.0}, {"seen": [1.5], "wall": [1.0]}, {}),
        ({"seen": 2.0, "wall": 2.0}, {"seen": 2.0, "wall": 3.0}, {"seen": [1.0], "wall": [1.5]}, {"wall": True}),
        # The other version did not notice the outage, so it ended early.
        ({"seen": None, "wall": 2.0}, {"seen": 7.0, "wall": 8.0}, {}, {"seen": False}),
        ({"seen": 7.0, "wall": 8.0}, {"seen": None, "wall": 2.0}, {}, {"seen": True}),
        # No version noticed the outage.
        ({"seen": None, "wall": 3.0}, {"seen": None, "wall": 3.0}, {"wall": [1.0]}, {}),
        # The other version does not have this figure.
        ({"wall": 3.0}, {"seen": None, "wall": 3.0}, {"wall": [1.0]}, {}),
    ],
)
def test_a_version_that_misses_the_outage_is_not_faster(old, new, compared, rows):
    found = ratios.rows([[old, new]], 0, {"wall"})
    assert ratios.ratios([[old, new]], 0) == compared
    assert {row.figure: row.slower for row in found if row.slower or row.figure not in compared} == rows
