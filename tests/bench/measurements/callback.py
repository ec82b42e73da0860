# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the callback postmortem costs a large run: an incident open on every host, its own modules among the tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import harness
import yaml
from harness import Goal, Measurement

HOSTS, RESULTS = 50, 10_000
OWN = ("health_probe", "incident", "node_process", "sqlite_check", "triage_info")
PLUGINS = harness.ROOT / "tests" / "bench" / "plugins"


def answering(module: str, **answer: Any) -> dict[str, Any]:
    return {"name": f"Ask {module}", f"itsm_nexus.runbook.{module}": {"answer": answer}}


def tasks() -> list[dict[str, Any]]:
    """Return the tasks of a host: of five, one is of the collection and is recorded with what it answers."""
    finding = {"cause": "killed", "confidence": 0.9, "summary": "It was killed.", "evidence": [{"text": "x" * 300}] * 3}
    rows = {f"table{number}": number for number in range(30)}
    look = answering("health_probe", healthy=False, severity="critical", endpoints=[{"name": "https", "ok": False}] * 2)
    act = answering("node_process", changed=True, state="started", pids_after=[1])
    check = answering("sqlite_check", healthy=True, row_counts=rows)
    cycle = [look, answering("triage_info", findings=[finding] * 4, row_counts=rows), act, look, check, act]
    told = [answering("incident", id="INC-{{ inventory_hostname }}", opened_at="2026-03-02T01:00:00.000Z")]
    for number in range(RESULTS // HOSTS - 1):
        other = {"name": f"Say {number}", "ansible.builtin.debug": {"msg": "said"}}
        told.append(other if number % 5 else cycle[number // 5 % len(cycle)])
    return told


def run(folder: Path, *, asleep: bool) -> dict[str, float]:
    """Return the figures of one run, see ../plugins/timed.py. Raises BenchError."""
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
            "BENCH_CALLBACK_ASLEEP": "1" if asleep else "",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not figures.exists():
        raise harness.BenchError(f"the run ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    told: dict[str, float] = json.loads(figures.read_text(encoding="utf-8"))
    written = len(list((folder / "postmortems").glob("INC-*.html")))
    if told["events"] < 2 * RESULTS or written != (0 if asleep else HOSTS):
        raise harness.BenchError(f"it had {told['events']} events and wrote {written} pages")
    return {"": told["run"], "in the callback": told["seconds"], "memory": told["memory"]}


HOW = (
    "an incident on each host, a fifth of the results of the collection, documents of all; tasks that answer from the "
    "controller at once, as none on a host does, so that the share of the callback is as large as it can be; without "
    "it: the same run, in which its methods return at once. In the callback: the time in its methods, other processes "
    "at work on the same cores meanwhile"
)
WITHOUT = "without it"
MEASUREMENTS = [
    Measurement(
        name="callback",
        what=f"A run of {RESULTS:,} results on {HOSTS} hosts, with timeline and postmortems",
        how=HOW,
        prepare=lambda: None,
        ours=("callback", lambda _subject, folder: run(folder, asleep=False)),
        rivals={WITHOUT: lambda _subject, folder: run(folder, asleep=True)},
        goals=[
            Goal(1.03, against=WITHOUT),
            Goal(60, figure="memory", against=WITHOUT, more=True, unit="MiB"),
        ],
        rounds=5,
    ),
]
