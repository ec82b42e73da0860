# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cost of the postmortem callback in a large run, with an incident on every host and calls to our own modules."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import harness
import model
import yaml
from model import Goal, Measurement

HOSTS, RESULTS = 50, 10_000
# The callback is active for BLOCK tasks, then inactive for BLOCK tasks, and so on.
BLOCK = 5
OWN = ("health_probe", "incident", "node_process", "sqlite_info", "triage_info")
PLUGINS = harness.ROOT / "tests" / "bench" / "plugins"


def answering(module: str, **answer: Any) -> dict[str, Any]:
    return {"name": f"Ask {module}", f"itsm_nexus.runbook.{module}": {"answer": answer}}


def tasks() -> list[dict[str, Any]]:
    """Return the tasks that run on each host.

    Every fifth task calls one of our modules, and the callback records its result.
    """
    finding = {"cause": "killed", "confidence": 0.9, "summary": "It was killed.", "evidence": [{"text": "x" * 300}] * 3}
    rows = {f"table{number}": number for number in range(30)}
    look = answering("health_probe", healthy=False, severity="critical", endpoints=[{"name": "https", "ok": False}] * 2)
    act = answering("node_process", changed=True, state="started", pids_after=[1])
    check = answering("sqlite_info", healthy=True, row_counts=rows)
    cycle = [look, answering("triage_info", findings=[finding] * 4, row_counts=rows), act, look, check, act]
    told = [answering("incident", id="INC-{{ inventory_hostname }}", opened_at="2026-03-02T01:00:00.000Z")]
    for number in range(1, 2 * RESULTS // HOSTS):
        other = {"name": f"Say {number}", "ansible.builtin.debug": {"msg": "said"}}
        # Blocks with and without the callback contain the same tasks.
        told.append(other if number % BLOCK else cycle[number // (2 * BLOCK) % len(cycle)])
    return told


def run(folder: Path) -> dict[str, dict[str, float]]:
    """Run the playbook once. Return the figures with and without the callback (see timed.py). Raises BenchError."""
    collection = folder / harness.COLLECTION
    for part in ("callback", "plugin_utils", "module_utils", "doc_fragments"):
        shutil.copytree(harness.ROOT / "plugins" / part, collection / "plugins" / part)
    shutil.copy(harness.ROOT / "galaxy.yml", collection)
    shutil.copy(PLUGINS / "timed.py", collection / "plugins" / "callback")
    for part in ("action", "modules"):
        (collection / "plugins" / part).mkdir()
    for module in OWN:
        shutil.copy(PLUGINS / "answering.py", collection / "plugins" / "action" / f"{module}.py")
        (collection / "plugins" / "modules" / f"{module}.py").touch()
    hosts = {f"node{number:02}": {"ansible_connection": "local"} for number in range(HOSTS)}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    play = {"name": "Recover", "hosts": "all", "gather_facts": False, "tasks": tasks()}
    (folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    figures = folder / "figures.json"
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.yml", "-f", "10", "play.yml"],
        cwd=folder,
        env={
            **harness.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(folder),
            "ANSIBLE_CALLBACKS_ENABLED": "itsm_nexus.runbook.timed",
            "ITSM_NEXUS_POSTMORTEM_DIR": str(folder / "postmortems"),
            "BENCH_CALLBACK_FIGURES": str(figures),
            "BENCH_CALLBACK_BLOCK": str(BLOCK),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not figures.exists():
        raise model.BenchError(f"the run ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    told: dict[str, float] = json.loads(figures.read_text(encoding="utf-8"))
    written = len(list((folder / "postmortems").glob("INC-*.html")))
    if told["events"] < 2 * RESULTS or written != HOSTS:
        raise model.BenchError(f"it had {told['events']} events and wrote {written} pages")
    return {
        WITH: {"": told["awake"], "in the callback": told["seconds"], "memory": told["memory"]},
        WITHOUT: {"": told["asleep"], "memory": told["memory before"]},
    }


def half(which: str) -> model.Contender:
    """Return a contender that yields the figures for one half of a run: WITH or WITHOUT.

    The first contender of a round starts the run. The second contender uses the same run.
    """

    def measure(_subject: Any, folder: Path) -> dict[str, float]:
        if which not in _round:
            _round.update(run(folder))
        return _round.pop(which)

    return measure


_round: dict[str, dict[str, float]] = {}
HOW = (
    "each host has an incident. A fifth of the results come from the collection's modules. The callback writes "
    "documents for all incidents. All tasks return immediately on the controller, so that the callback's share of the "
    f"run time is as large as possible. The run alternates between {BLOCK} tasks with the callback and {BLOCK} tasks "
    "without the callback. The rival is the part without the callback. The memory value of the rival is measured at "
    "the first task. `in the callback` is the time spent in the callback methods. Other processes share the cores, so "
    "this time is longer than on an idle machine"
)
WITH = "callback"
WITHOUT = "without it"
MEASUREMENTS = [
    Measurement(
        name="callback",
        what=f"Run with {RESULTS:,} results on {HOSTS} hosts, with timeline and postmortems",
        how=HOW,
        prepare=lambda: None,
        ours=(WITH, half(WITH)),
        rivals={WITHOUT: half(WITHOUT)},
        goals=[
            Goal(1.03, against=WITHOUT),
            Goal(60, figure="memory", against=WITHOUT, more=True, unit="MiB"),
        ],
        rounds=5,
    ),
]
