# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare our contender in this checkout with our contender in another commit: make bench AGAINST=commit.

Both commits run in turn on the same machine, so that a change of the machine affects both. Each pair of turns gives one
ratio per figure. If the median ratio of a measurement is above the limit, more pairs are run, because a few pairs
cannot separate a change of this size from noise.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import databases
import harness

PAIRS = 4
MOST_PAIRS = 12
LIMIT = 1.05
_TURN = Path(__file__).resolve().parent / "turn.py"
Figures = dict[str, "float | None"]


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit. Raises BenchError if the commit does not exist."""
    git = ["git", "-C", str(harness.ROOT)]
    with tempfile.TemporaryDirectory(prefix="itsm-nexus-bench-commit-") as folder:
        place = Path(folder) / "checkout"
        added = subprocess.run(
            [*git, "worktree", "add", "--quiet", "--detach", str(place), commit],
            capture_output=True,
            text=True,
            check=False,
        )
        if added.returncode != 0:
            raise harness.BenchError(f"AGAINST={commit}: {added.stderr.strip()}")
        try:
            # The old commit uses the same tools, so that only the product differs.
            (place / ".venv").symlink_to(harness.ROOT / ".venv")
            yield place
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(place)], check=False)


class Side:
    """A process that runs the measurement of one checkout. It prepares when it is entered."""

    def __init__(self, root: Path, name: str) -> None:
        # Each checkout has its own databases, because a commit removes databases that another commit has made.
        self._cache = databases.CACHE / "compared" / ("here" if root == harness.ROOT else "other")
        self._command = [sys.executable, str(_TURN), str(root), str(self._cache), name]

    def __enter__(self) -> Side:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.ask("prepare")
        return self

    def __exit__(self, *_raised: object) -> None:
        cast(IO[str], self._process.stdin).close()
        self._process.wait()

    def ask(self, command: str) -> Figures:
        """Send a command of turn.py and return its figures. Raises BenchError."""
        stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        print(command, file=stdin, flush=True)
        answer: dict[str, Any] = json.loads(stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            raise harness.BenchError(str(answer["error"]))
        return answer


def _in_turn(roots: Sequence[Path], name: str) -> Iterator[list[Figures]]:
    """Yield the figures of one turn of each checkout, again and again. Leave out the first turns, which fill caches."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(Side(root, name)) for root in roots]
        number = 0
        while True:
            order = sides if number % 2 else sides[::-1]
            figures = {side: side.ask("run") for side in order}
            if number:
                yield [figures[side] for side in sides]
            number += 1


def _one_by_one(roots: Sequence[Path], name: str) -> Iterator[list[Figures]]:
    """Do the same for a measurement with hosts. Both checkouts use the same host, so that only one can be prepared."""
    number = 0
    while True:
        figures: dict[Path, list[Figures]] = {}
        for root in roots if number % 2 else roots[::-1]:
            with Side(root, name) as side:
                side.ask("run")
                figures[root] = [side.ask("run") for _turn in range(2)]
        yield from ([*both] for both in zip(*(figures[root] for root in roots)))
        number += 1


def ratios(pairs: Sequence[Sequence[Figures]]) -> dict[str, list[float]]:
    """Return the ratio of the second figure to the first figure in each pair, by the name of the figure."""
    found: dict[str, list[float]] = {}
    for name in pairs[0][0]:
        both = [(pair[0].get(name), pair[1].get(name)) for pair in pairs]
        values = [new / old for old, new in both if old and new and old > 0]
        if len(values) == len(pairs):
            found[name] = values
    return found


def compare(measurement: harness.Measurement, other: Path) -> tuple[bool, list[str]]:
    """Return whether the measurement is slower than in the other checkout, and its lines. Raises BenchError."""
    turns = (_one_by_one if measurement.needs_hosts else _in_turn)([other, harness.ROOT], measurement.name)
    # A contender may return a value in seconds without a name.
    decides = {goal.figure for goal in measurement.goals} | {"wall"}
    pairs: list[list[Figures]] = []
    with contextlib.closing(turns):
        for pair in turns:
            pairs.append(pair)
            found = ratios(pairs)
            slower = {name: values for name, values in found.items() if statistics.median(values) > LIMIT}
            if len(pairs) >= MOST_PAIRS or (len(pairs) >= PAIRS and not decides & set(slower)):
                break
    lines = []
    for name, values in found.items():
        old, new = (statistics.median(cast(float, pair[side][name]) for pair in pairs) for side in (0, 1))
        mark = "  SLOWER" if name in slower and name in decides else ""
        spread = f"{min(values):.2f} to {max(values):.2f}"
        lines.append(
            f"{measurement.name:22} {name or measurement.ours[0]:34} {old:9.3f} {new:9.3f} "
            f"{statistics.median(values):6.3f}  {spread:14} {len(pairs):3}{mark}"
        )
    return bool(decides & set(slower)), lines


def main(commit: str, wanted: Sequence[harness.Measurement]) -> int:
    """Compare the measurements and print a table. Return 1 if one is slower or could not be compared."""
    slower: list[str] = []
    failed: list[str] = []
    print(f"{'measurement':22} {'figure':34} {commit[:9]:>9} {'here':>9} {'ratio':>6}  {'spread':14} pairs", flush=True)
    with checkout(commit) as other:
        for measurement in wanted:
            try:
                is_slower, lines = compare(measurement, other)
            except (harness.BenchError, OSError) as error:
                print(f"{measurement.name}: cannot compare: {error}", flush=True)
                failed.append(measurement.name)
                continue
            print("\n".join(lines), flush=True)
            if is_slower:
                slower.append(measurement.name)
    print(f"{len(wanted)} measurements, ratio above {LIMIT}: {', '.join(slower) or 'none'}")
    if failed:
        print(f"Not compared: {', '.join(failed)}")
    return int(bool(slower or failed))
