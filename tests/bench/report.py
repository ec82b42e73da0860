# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures as people read them: a table on the screen, and docs/benchmarks.md, both from the JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import psutil
from rich.console import Console
from rich.table import Table

DIGITS = {"s": 2, "x": 2, "%": 1}
HEAD = ("what", "measured", "goal", "", "ours", "rival", "from run to run")


def machine() -> dict[str, Any]:
    """Describe where this was measured."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    shell = subprocess.run(["sqlite3", "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "load": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        "sqlite_library": sqlite3.sqlite_version,
        "sqlite_shell": shell,
        "ansible_core": importlib.metadata.version("ansible-core"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def rows(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of the goals, those that are ratios first."""
    found = []
    for entry in told["measurements"]:
        for goal in entry["goals"]:
            verdict = "met" if goal["met"] else "MISSED" if goal["decides"] else "missed"
            rival = "" if goal["rival"] is None else f"{goal['against']} {_in_unit(goal['rival'], goal['unit'])}"
            row = (
                entry["what"] + (f": {goal['figure']}" if goal["figure"] else ""),
                _reached(goal, goal["reached"]),
                goal["goal"],
                verdict,
                _in_unit(goal["ours"], goal["unit"]) if goal["against"] else "",
                rival,
                f"{_reached(goal, goal['least'])} - {_reached(goal, goal['most'])}",
            )
            found.append((not goal["ratio"], row))
    return [row for _later, row in sorted(found, key=lambda each: each[0])]


def _reached(goal: dict[str, Any], value: float) -> str:
    if goal["ratio"]:
        return f"{value:.2f} x"
    if goal["against"]:
        return f"{goal['against']} + {_in_unit(value, goal['unit'])}"
    return _in_unit(value, goal["unit"])


def _in_unit(value: float, unit: str) -> str:
    return f"{value:.{DIGITS.get(unit, 0)}f} {unit}"


def figures(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return what every contender measured, whether there is a goal for it or not."""
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
                span = f"{least} - {most}" if len(happened) > 1 else ""
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
    """Whether a goal is missed that decides."""
    return any(goal["decides"] and not goal["met"] for entry in told["measurements"] for goal in entry["goals"])


def document(told: dict[str, Any]) -> str:
    """Return docs/benchmarks.md."""
    facts = told["machine"]
    lines = [
        "# Benchmarks",
        "",
        "<!-- Generated by `make bench`: do not edit. -->",
        "",
        f"Measured on {_days(told)}, each in one run with its rivals: {facts['cores']} cores of {facts['processor']}, "
        f"{facts['memory_gib']} GiB of memory, {facts['system']}, Linux {facts['kernel']}, Python {facts['python']} "
        f"with SQLite {facts['sqlite_library']}, sqlite3 shell {facts['sqlite_shell']}, ansible-core "
        f"{facts['ansible_core']}. Hour and load average of each are in benchmarks.json.",
        "",
        "Rivals do the same work in turns with ours, on the same machine in the same minutes. A ratio or a difference "
        "is the median of those of the single rounds, seconds are medians, memory is the most of all runs. *From run "
        "to run* are the lowest and the highest of them. What works on files has them in memory before the first of "
        "its contenders starts, and runs as on a managed host: a new Python process each time, the logic in a zip "
        "file, nothing compiled beforehand.",
        "",
        "![From the failure to the first healthy answer](benchmarks.svg)",
        "",
        *_table(tuple(name or "goal met" for name in HEAD), rows(told)),
        "",
        "Ratios and what is counted decide on the exit code of `make bench`; seconds depend on the machine as well.",
        "",
        *([f"Could not be measured in this run: {', '.join(told['failed'])}.", ""] if told.get("failed") else []),
        *_seen(told),
        "## What is measured",
        "",
    ]
    for entry in told["measurements"]:
        lines.append(f"- `{entry['name']}`, {entry['what']}: {entry['how']}.")
    lines += [
        "",
        "## All figures",
        "",
        *_table(("what", "who", "figure", "median", "from - to", "rounds"), figures(told)),
    ]
    lines += _profiles(told)
    return "\n".join(lines) + "\n"


def _days(told: dict[str, Any]) -> str:
    days = sorted({entry["measured_at"][:10] for entry in told["measurements"]})
    return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body)]


def _seen(told: dict[str, Any]) -> list[str]:
    """Return the table of who sees which outage at all; without its measurements, nothing."""
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
                f"{statistics.median(served):.1f} s" if served else "seen, not mended" if any(noticed) else "not seen"
            )
        body.append((entry["what"], *cells))
    return [
        "## Who sees which outage",
        "",
        "Seconds from the failure until the service answers again and takes a write or, where no restart can help, "
        "until its cause is named. `outage_triage.yml` only names it.",
        "",
        *_table(("outage", *contenders), body),
        "",
    ]


def _profiles(told: dict[str, Any]) -> list[str]:
    """Return where the time of a run goes, step by step."""
    lines: list[str] = []
    for entry in told["measurements"]:
        if entry.get("profile"):
            lines += [
                "",
                f"## Where the time goes: {entry['what']}",
                "",
                "One run, from its start to the end of the step in which the first healthy answer came: "
                f"{_shares(entry['profile'])}.",
                "",
            ]
            lines += _table(
                ("at", "took", "step"), [(f"{at:.2f} s", f"{took:.2f} s", step) for at, took, step in entry["profile"]]
            )
    return lines


def _shares(profile: Sequence[tuple[float, float, str]]) -> str:
    """Return what of a profile is the work of modules, and what is Ansible itself."""
    ours = {path.stem for path in (harness.ROOT / "plugins" / "modules").glob("*.py")}
    modules: dict[str, float] = {}
    for _at, took, step in profile:
        name = step.split("`")[1] if step.startswith("`") else ""
        if name in ours:
            modules[name] = modules.get(name, 0.0) + took
    starts, total, worked = profile[0][1], sum(took for _at, took, _step in profile), sum(modules.values())
    each = ", ".join(f"`{name}` {took:.2f} s" for name, took in sorted(modules.items(), key=lambda one: -one[1]))
    return (
        f"{total:.2f} s, of which Ansible took {starts:.2f} s to start and {total - starts - worked:.2f} s for its way "
        f"from one module to the next, the modules {worked:.2f} s ({each})"
    )
