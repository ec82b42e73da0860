# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the figures of this checkout with the figures of another commit.

A figure is None if the measured event did not happen, for example if a version did not notice an outage. In this case,
the run ends early, so its total time is not compared. If the event happens only in the other commit, this checkout
counts as slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple, cast

LIMIT = 1.05
# The total time of a turn, which is compared with the limit in every measurement.
WALL = "wall"
# The figures that turn.py adds to each turn.
TOTALS = (WALL, "CPU")
Figures = dict[str, "float | None"]
# The figures of each turn. The last figures in a turn are from this checkout.
Turns = Sequence[Sequence[Figures]]


class Row(NamedTuple):
    """The result of the comparison for one figure."""

    figure: str
    text: str
    slower: bool


def ratios(turns: Turns, side: int) -> dict[str, list[float]]:
    """For each figure, return one ratio per turn: this checkout's figure divided by the other checkout's figure.

    If an event happened in only one of the two checkouts, the totals are omitted.
    """
    found: dict[str, list[float]] = {}
    uneven = _happened_only(turns, side, -1) or _happened_only(turns, -1, side)
    for name in turns[0][-1]:
        both = [(turn[side].get(name), turn[-1].get(name)) for turn in turns]
        values = [new / old for old, new in both if old and new and old > 0]
        if len(values) == len(turns) and not (uneven and name in TOTALS):
            found[name] = values
    return found


def slower(decides: Collection[str], found: dict[str, list[float]]) -> set[str]:
    """Return the names of those figures in `decides` whose median ratio is above the limit."""
    return {name for name, values in found.items() if name in decides and statistics.median(values) > LIMIT}


def rows(turns: Turns, side: int, decides: Collection[str]) -> list[Row]:
    """Return the rows of the table for this checkout and the other checkout `side`."""
    found = ratios(turns, side)
    worse = slower(decides, found)
    told = [Row(name, "happens only there", slower=True) for name in _happened_only(turns, side, -1)]
    told += [Row(name, "happens only here", slower=False) for name in _happened_only(turns, -1, side)]
    for name, values in found.items():
        old, new = (statistics.median(cast(float, turn[which][name]) for turn in turns) for which in (side, -1))
        spread = f"{min(values):.2f} to {max(values):.2f}"
        text = f"{old:9.3f} {new:9.3f} {statistics.median(values):6.3f}  {spread:14} {len(turns):5}"
        told.append(Row(name, text, slower=name in worse))
    return told


def _happened_only(turns: Turns, side: int, other: int) -> list[str]:
    """Return the figures that have a value in the checkout `side`, but are None in `other` in at least one turn."""
    return [
        name
        for name in turns[0][side]
        if any(turn[side][name] is not None and turn[other].get(name, 0.0) is None for turn in turns)
    ]
