# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements, their goals and their results."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The rival that runs an empty play, the name of its figure for the total time, and the unit that is based on this time
# (see Goal).
EMPTY = "an empty play"
WHOLE = "whole playbook"
E = "E"


class BenchError(Exception):
    """A contender did not do its work, so its figures are invalid."""


@dataclass(frozen=True)
class Goal:
    """The limit for a figure.

    at_most: the limit for our figure divided by the figure of the rival `against`. If `more` is True, at_most is the
    limit for the difference between the two figures, in `unit`. If there is no rival, at_most limits our figure, in
    `unit`. figure: the name of our figure. rivals_figure: the name of the rival's figure, if the two names differ.

    The unit E is the time for an empty play, measured in the same round. A goal in E means the same on every machine.

    A missed goal in seconds is only reported, because seconds depend on the machine as much as on the program. All
    other missed goals (ratios, memory, shares and round trips) change the exit code.
    """

    at_most: float
    against: str | None = None
    unit: str = "s"
    figure: str = ""
    more: bool = False
    rivals_figure: str | None = None

    @property
    def is_ratio(self) -> bool:
        """Return True if the goal is a ratio."""
        return self.against is not None and not self.more

    @property
    def decides(self) -> bool:
        """Return True if a missed goal changes the exit code."""
        return self.is_ratio or self.unit != "s"

    @property
    def text(self) -> str:
        """Return a short description of the goal."""
        if self.against and self.more:
            return f"{self.against} + {self.at_most:g} {self.unit}"
        return f"at most {self.at_most:g} x {self.against}" if self.against else f"at most {self.at_most:g} {self.unit}"


# A contender's figures for one round, by name. A figure is None if the measured event did not happen.
Figures = Mapping[str, "float | None"]


@dataclass(frozen=True)
class Measured:
    """The figures and steps of a contender. A step is a start and a duration, both in seconds, and a name."""

    figures: Figures
    profile: Sequence[tuple[float, float, str]] = ()


Contender = Callable[[Any, Path], "float | Figures | Measured"]


@dataclass(frozen=True)
class Measurement:
    """A benchmark entry, which compares this collection (`ours`) with alternatives (`rivals`).

    Each contender is a function that does the work once. Its arguments are the result of `prepare` and the path of an
    empty folder for files. The time for `prepare` is not measured. The function returns seconds, a value in the unit of
    the goal, or several figures by name. If the function cannot do the work, it raises BenchError. A memory goal
    uses the maximum across all rounds. Any other goal uses the median.

    headline: the name of the figure in the table of recoveries. needs_hosts: True for measurements in containers.
    """

    name: str
    what: str
    how: str
    prepare: Callable[[], Any]
    ours: tuple[str, Contender]
    goals: Sequence[Goal]
    rivals: Mapping[str, Contender] = field(default_factory=dict)
    rounds: int = 5
    headline: str | None = None
    needs_hosts: bool = False


@dataclass
class Result:
    """The figures from all rounds, by contender and name."""

    measurement: Measurement
    figures: dict[str, dict[str, list[float | None]]]
    # Our contender's steps in the last round.
    profile: Sequence[tuple[float, float, str]] = ()

    def values(self, contender: str, figure: str) -> list[float]:
        """Return a contender's figure in each round. Raises BenchError if one of these figures is None."""
        values = self.figures[contender][figure]
        happened = [value for value in values if value is not None]
        if len(happened) != len(values):
            raise BenchError(f"{contender} has no figure {figure!r} in a round that a goal is about")
        return happened

    def compared(self, goal: Goal) -> list[float]:
        """Return the values that are compared with the goal, one for each round."""
        mine = self.values(self.measurement.ours[0], goal.figure)
        if goal.against is None:
            return mine
        others = self.values(goal.against, goal.figure if goal.rivals_figure is None else goal.rivals_figure)
        if not goal.more:
            return [one / other for one, other in zip(mine, others)]
        units = self.values(EMPTY, WHOLE) if goal.unit == E else [1.0] * len(mine)
        return [(one - other) / unit for one, other, unit in zip(mine, others, units)]

    def _of_goal(self, goal: Goal) -> dict[str, Any]:
        compared, mine = self.compared(goal), self.values(self.measurement.ours[0], goal.figure)
        total = max if goal.unit == "MiB" else statistics.median
        rivals = goal.figure if goal.rivals_figure is None else goal.rivals_figure
        return {
            "goal": goal.text,
            "figure": goal.figure,
            "against": goal.against,
            "ratio": goal.is_ratio,
            "unit": goal.unit,
            # The figures are already in this unit.
            "figures_in": "s" if goal.unit == E else goal.unit,
            "at_most": goal.at_most,
            "reached": total(compared),
            "least": min(compared),
            "most": max(compared),
            "ours": total(mine),
            "rival": total(self.values(goal.against, rivals)) if goal.against else None,
            "decides": goal.decides,
            "met": total(compared) <= goal.at_most,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a dict for JSON."""
        return {
            "name": self.measurement.name,
            "what": self.measurement.what,
            "how": self.measurement.how,
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load": round(os.getloadavg()[1], 1),
            "rounds": self.figures,
            "ours": self.measurement.ours[0],
            "headline": self.measurement.headline,
            "profile": self.profile,
            "goals": [self._of_goal(goal) for goal in self.measurement.goals],
        }
