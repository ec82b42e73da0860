# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the figures to a table on the screen and to docs/benchmarks.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import psutil
from rich.console import Console
from rich.table import Table

DIGITS = {"s": 2, "x": 2, "E": 2, "%": 1}
SHORT = 0.1  # seconds; shorter steps share one row
HEAD = ("what", "measured", "goal", "", "ours", "rival", "range")


def machine() -> dict[str, Any]:
    """Return a description of the machine and the program versions."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    shell = subprocess.run(["sqlite3", "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": platform.python_version(),
        "sqlite_library": sqlite3.sqlite_version,
        "sqlite_shell": shell,
        "ansible_core": importlib.metadata.version("ansible-core"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def rows(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows for the table of goals, with ratios first."""
    found = []
    for entry in told["measurements"]:
        for goal in entry["goals"]:
            verdict = "met" if goal["met"] else "MISSED" if goal["decides"] else "missed"
            unit = goal.get("figures_in", goal["unit"])
            rival = "" if goal["rival"] is None else f"{goal['against']} {_in_unit(goal['rival'], unit)}"
            row = (
                entry["what"] + (f": {goal['figure']}" if goal["figure"] else ""),
                _reached(goal, goal["reached"]),
                goal["goal"],
                verdict,
                _in_unit(goal["ours"], unit) if goal["against"] else "",
                rival,
                _range(_reached(goal, goal["least"]), _reached(goal, goal["most"], rival="")),
            )
            found.append((not goal["ratio"], row))
    return [row for _later, row in sorted(found, key=lambda each: each[0])]


def _reached(goal: dict[str, Any], value: float, *, rival: str | None = None) -> str:
    if goal["ratio"]:
        return f"{value:.2f} x"
    against = goal["against"] if rival is None else rival
    return f"{against} + {_in_unit(value, goal['unit'])}" if against else _in_unit(value, goal["unit"])


def _range(least: str, most: str) -> str:
    return least if least == most or least.endswith(f" + {most}") else f"{least} to {most}"


def _in_unit(value: float, unit: str) -> str:
    number = f"{value:.{DIGITS.get(unit, 0)}f}"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}"


def figures(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows with the figures of every contender, including figures without a goal."""
    found = []
    for entry in told["measurements"]:
        for contender, of_contender in entry["rounds"].items():
            for figure, values in of_contender.items():
                units = {goal["unit"] for goal in entry["goals"] if goal["figure"] == figure and not goal["against"]}
                unit = "MiB" if "memory" in figure else next(iter(units), "s")
                happened = [value for value in values if value is not None]
                if happened:
                    numbers = [statistics.median(happened), min(happened), max(happened)]
                    middle, least, most = (_in_unit(value, unit) for value in numbers)
                else:
                    middle, least, most = "never", "", ""
                span = _range(least, most) if len(happened) > 1 else ""
                often = str(len(values)) + (
                    f", {len(values) - len(happened)} never" if 0 < len(happened) < len(values) else ""
                )
                found.append((entry["what"], contender, figure, middle, span, often))
    return found


def show(told: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(*HEAD)
    for row in rows(told):
        style = {"met": "", "MISSED": "bold red"}.get(row[3], "yellow")
        table.add_row(*row, style=style)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def failed(told: dict[str, Any]) -> bool:
    """Return True if a missed goal changes the exit code."""
    return any(goal["decides"] and not goal["met"] for entry in told["measurements"] for goal in entry["goals"])


def document(told: dict[str, Any]) -> str:
    """Return the content of docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "<!-- Generated by `make bench`: do not edit. -->",
        "",
        *_environments(told["measurements"]),
        "",
        "Our code and its rivals are the contenders. In each round, all contenders do the same work, one after "
        "another, on the same machine and within a few minutes. Each ratio, difference and time is the median of all "
        "rounds. Each memory value is the maximum of all rounds. The column *range* shows the lowest and the highest "
        "value. Before the first contender starts, all files are cached in memory. Our code runs as on a managed host: "
        "in a new Python process each time, from a zip file and without precompiled code. **E** is the time that "
        "ansible-playbook needs in the same round for a play that does nothing.",
        "",
        *_recoveries(told),
        "## Goals",
        "",
        *_table(tuple(name or "goal met" for name in HEAD), rows(told)),
        "",
        "The exit code of `make bench` does not depend on goals in seconds, because times also depend on the machine.",
        "",
        *([f"This run could not measure: {', '.join(told['failed'])}.", ""] if told.get("failed") else []),
        *_seen(told),
        "## Measurements",
        "",
    ]
    for entry in told["measurements"]:
        lines.append(f"- `{entry['name']}`, {entry['what']}: {entry['how']}. {_hour(entry)}.")
    lines += [
        "",
        "## All figures",
        "",
        *_table(("what", "who", "figure", "median", "range", "rounds"), figures(told)),
    ]
    lines += _profiles(told)
    return "\n".join(lines) + "\n"


def _environments(entries: list[dict[str, Any]]) -> list[str]:
    """Return a line for each combination of machine and programs.

    If there are several lines, each line lists the measurements made with this combination.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        facts = entry["machine"]
        described = (
            f"{facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB of memory, {facts['system']}, "
            f"Linux {facts['kernel']}, Python {facts['python']} with SQLite {facts['sqlite_library']}, sqlite3 shell "
            f"{facts['sqlite_shell']}, ansible-core {facts['ansible_core']}"
        )
        measured.setdefault(described, []).append(entry)
    if len(measured) == 1:
        return [f"Measured on {_days(entries)}: {described}." for described in measured]
    lines = []
    for described, rows in measured.items():
        names = ", ".join(f"`{entry['name']}`" for entry in rows)
        lines.append(f"- Measured on {_days(rows)}: {described}: {names}.")
    return lines


def _days(entries: list[dict[str, Any]]) -> str:
    days = sorted({entry["measured_at"][:10] for entry in entries})
    return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))


def _hour(entry: dict[str, Any]) -> str:
    return f"Measured at {entry['measured_at'].replace('T', ' ').rstrip('Z')} UTC, load average {entry['load']}"


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body)]


def _recoveries(told: dict[str, Any]) -> list[str]:
    """Return the lines of the recovery table, or an empty list if recoveries were not measured."""
    entries = [entry for entry in told["measurements"] if entry["headline"]]
    if not entries:
        return []
    contenders = list(dict.fromkeys(name for entry in entries for name in entry["rounds"]))

    def cell(figures: dict[str, list[float | None]], headline: str) -> str:
        first, confirmed = (
            [value for value in figures.get(name, ()) if value is not None] for name in (headline, "confirmed")
        )
        parts = [f"{statistics.median(first):.2f} s"] if first else []
        return ", ".join([*parts, *([f"confirmed {statistics.median(confirmed):.2f} s"] if confirmed else [])])

    body = [
        (entry["what"], *(cell(entry["rounds"].get(contender, {}), entry["headline"]) for contender in contenders))
        for entry in entries
    ]
    return [
        "## From the failure to the first healthy response",
        "",
        "All times are medians. *Confirmed* means that the health check and the login succeeded.",
        "",
        *_table(("outage", *contenders), body),
        "",
    ]


def _seen(told: dict[str, Any]) -> list[str]:
    """Return the lines of the table of detected outages, or an empty list if outages were not measured."""
    entries = [entry for entry in told["measurements"] if entry["name"].startswith("seen-")]
    if not entries:
        return []
    contenders = list(dict.fromkeys(name for entry in entries for name in entry["rounds"]))
    body = []
    for entry in entries:
        cells = []
        for contender in contenders:
            served, *noticed = (
                [value for value in values if value is not None] for values in entry["rounds"][contender].values()
            )
            cells.append(
                f"{statistics.median(served):.1f} s"
                if served
                else "detected, not fixed"
                if any(noticed)
                else "not detected"
            )
        body.append((entry["what"], *cells))
    return [
        "## Detected outages",
        "",
        "Each value is the time from the failure until the service answers again and accepts a write. If no restart "
        "can help, the value is the time until the contender reports the cause. `outage_triage.yml` only reports the "
        "cause.",
        "",
        *_table(("outage", *contenders), body),
        "",
    ]


def _profiles(told: dict[str, Any]) -> list[str]:
    """Return the lines of the tables that show how long each step of a run took."""
    lines: list[str] = []
    for entry in told["measurements"]:
        if entry.get("profile"):
            lines += [
                "",
                f"## Time by step: {entry['what']}",
                "",
                _shares(entry["profile"]),
                "",
            ]
            short = [took for _at, took, _step in entry["profile"] if took < SHORT]
            rows_of_steps = [
                (f"{at:.2f} s", f"{took:.2f} s", step) for at, took, step in entry["profile"] if took >= SHORT
            ]
            if short:
                rows_of_steps.append(
                    ("", f"{sum(short):.2f} s", f"{len(short)} steps that took less than {SHORT} s each")
                )
            lines += _table(("at", "took", "step"), rows_of_steps)
    return lines


def _shares(profile: Sequence[tuple[float, float, str]]) -> str:
    """Return sentences about the time that a profiled run spent in Ansible itself and in the modules."""
    ours = {path.stem for path in (harness.ROOT / "plugins" / "modules").glob("*.py")}
    modules: dict[str, float] = {}
    for _at, took, step in profile:
        name = step.split("`")[1] if step.startswith("`") else ""
        if name in ours:
            modules[name] = modules.get(name, 0.0) + took
    starts, total, worked = profile[0][1], sum(took for _at, took, _step in profile), sum(modules.values())
    each = ", ".join(f"`{name}` {took:.2f} s" for name, took in sorted(modules.items(), key=lambda one: -one[1]))
    return (
        f"One run took {total:.2f} s from its start to the end of the step with the first healthy response. Of this "
        f"time, Ansible took {starts:.2f} s to start and {total - starts - worked:.2f} s between modules. The modules "
        f"took {worked:.2f} s ({each})."
    )
