# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare this checkout with earlier commits: make bench AGAINST="commit ...".

Each measurement runs only this collection, not the alternatives. The checkout and the commits are measured alternately
on the same machine, so that a change in the machine's speed affects all measurements. Each turn produces one ratio per
figure. If a median ratio is above the limit, more turns follow, because a real change cannot be distinguished from
noise after a few turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import databases
import harness
import hosts
import model
import ratios
from ratios import Figures

TURNS = 3
MOST_TURNS = 9
_TURN = Path(__file__).resolve().parent / "turn.py"


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit. Raises BenchError if the commit does not exist."""
    git = ["git", "-C", str(harness.ROOT)]
    with tempfile.TemporaryDirectory(prefix="itsm-nexus-bench-commit-") as folder:
        place = Path(folder) / commit
        added = subprocess.run(
            [*git, "worktree", "add", "--quiet", "--detach", str(place), commit],
            capture_output=True,
            text=True,
            check=False,
        )
        if added.returncode != 0:
            raise model.BenchError(f"AGAINST={commit}: {added.stderr.strip()}")
        try:
            # The old commit uses the same tools. Therefore, only the product differs.
            (place / ".venv").symlink_to(harness.ROOT / ".venv")
            yield place
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(place)], check=False)


class Side:
    """A process that measures one checkout.

    The measurement is prepared at the start of the with block.
    """

    def __init__(self, root: Path, name: str) -> None:
        # Each checkout has its own databases, because the benchmark removes databases that another commit has created.
        self._cache = databases.CACHE / "compared" / ("here" if root == harness.ROOT else root.name)
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
            raise model.BenchError(str(answer["error"]))
        return answer


def _in_turn(roots: Sequence[Path], name: str) -> Iterator[list[Figures]]:
    """For each turn, yield the figures of all checkouts. Omit the first turn, which fills the caches."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(Side(root, name)) for root in roots]
        number = 0
        while True:
            turn = number % len(sides)
            order = [*sides[turn:], *sides[:turn]]
            figures = {side: side.ask("run") for side in order}
            if number:
                yield [figures[side] for side in sides]
            number += 1


def _one_by_one(roots: Sequence[Path], name: str) -> Iterator[list[Figures]]:
    """Yield the figures like _in_turn(), but for a measurement that needs hosts.

    The checkouts share a host. Therefore, they are prepared one after the other.
    """
    number = 0
    while True:
        figures: dict[Path, list[Figures]] = {}
        turn = number % len(roots)
        for root in [*roots[turn:], *roots[:turn]]:
            with Side(root, name) as side:
                side.ask("run")
                figures[root] = [side.ask("run") for _turn in range(TURNS)]
        yield from ([*turns] for turns in zip(*(figures[root] for root in roots)))
        number += 1


def compare(measurement: model.Measurement, others: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """Return the commits that are faster than this checkout, and the lines of the table. Raises BenchError."""
    turns: list[list[Figures]] = []
    # Only the wall time and figures with a goal are compared with the limit.
    decides = {goal.figure for goal in measurement.goals} | {ratios.WALL}
    run = _one_by_one if measurement.needs_hosts else _in_turn
    with contextlib.closing(run([*others.values(), harness.ROOT], measurement.name)) as more:
        for turn in more:
            turns.append(turn)
            found = [ratios.ratios(turns, side) for side in range(len(others))]
            if len(turns) >= (MOST_TURNS if any(ratios.slower(decides, each) for each in found) else TURNS):
                break
    faster, lines = [], []
    for side, commit in enumerate(others):
        rows = ratios.rows(turns, side, decides)
        faster += [commit] if any(row.slower for row in rows) else []
        for row in rows:
            told = f"{measurement.name:22} {row.figure or measurement.ours[0]:30} {commit:9.9} {row.text}"
            lines.append(f"{told}{'  SLOWER' if row.slower else ''}")
    return faster, lines


def main(commits: Sequence[str], wanted: Sequence[model.Measurement]) -> int:
    """Compare the measurements and print a table. Return 1 if a measurement is slower or could not be compared."""
    worse: list[str] = []
    failed: list[str] = []
    print(f"{'measurement':22} {'figure':30} commit       before      here  ratio  spread         turns", flush=True)
    if any(measurement.needs_hosts for measurement in wanted):
        # All commits use the same image. Otherwise, an older commit would first build its own image, and more than the
        # product would differ.
        os.environ.setdefault("DRILL_IMAGE", hosts.run(hosts.DRILLS / "hosts" / "build-image").splitlines()[-1])
    with contextlib.ExitStack() as stack:
        others = {commit: stack.enter_context(checkout(commit)) for commit in commits}
        for measurement in wanted:
            try:
                faster, lines = compare(measurement, others)
            except (model.BenchError, OSError) as error:
                print(f"{measurement.name}: cannot compare: {error}", flush=True)
                failed.append(measurement.name)
                continue
            print("\n".join(lines), flush=True)
            worse += [f"{measurement.name} ({commit:.9})" for commit in faster]
    print(f"Compared: {len(wanted) - len(failed)}")
    print(f"Slower by more than {ratios.LIMIT - 1:.0%}: {', '.join(worse) or 'none'}")
    if failed:
        print(f"Not compared: {', '.join(failed)}")
    return int(bool(worse or failed))
