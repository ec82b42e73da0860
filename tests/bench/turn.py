# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run our contender for one measurement in another checkout: turn.py CHECKOUT CACHE NAME. Used by compare.py.

The benchmark is imported from the checkout, so that it matches the product in the checkout. Standard input has one
command per line: "prepare", then "run" for each round. The response to each command is one line of JSON: the figures of
the round, or {"error": text}.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKOUT, CACHE = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[0] = str(CHECKOUT / "tests" / "bench")
os.chdir(CHECKOUT)

import databases

databases.CACHE = CACHE


def measurement(name: str) -> Any:
    """Return the checkout's measurement with this name. Raises LookupError."""
    for file in sorted((CHECKOUT / "tests" / "bench" / "measurements").glob("*.py")):
        for entry in importlib.import_module(f"measurements.{file.stem}").MEASUREMENTS:
            if entry.name == name:
                return entry
    raise LookupError(f"the other commit has no measurement {name}")


def cpu() -> float:
    """Return the CPU seconds of all child processes that have exited."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def once(entry: Any, subject: Any) -> dict[str, float | None]:
    """Run our contender once. Return its figures, and the wall time and CPU seconds of the turn."""
    folder = Path(tempfile.mkdtemp(dir=CACHE / "work"))
    os.sync()
    before, started = cpu(), time.monotonic()
    try:
        measured = entry.ours[1](subject, folder)
        seconds = time.monotonic() - started
    finally:
        shutil.rmtree(folder)
    figures = getattr(measured, "figures", measured)
    named = dict(figures) if isinstance(figures, Mapping) else {"": figures}
    return {**named, "wall": seconds, "CPU": cpu() - before}


def main() -> None:
    # Only JSON may be written to standard output. All other output of the benchmark is written to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    (CACHE / "work").mkdir(parents=True, exist_ok=True)
    subject: Any = None
    entry: Any = None
    for line in sys.stdin:
        try:
            if line.strip() == "prepare":
                entry = measurement(sys.argv[3])
                subject = entry.prepare()
                print(json.dumps({}), file=answers)
            else:
                print(json.dumps(once(entry, subject)), file=answers)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"[-400:]}), file=answers)


if __name__ == "__main__":
    main()
