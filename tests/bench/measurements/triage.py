# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence of an outage, in one pass and command by command, against the stand-in service."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import yaml
from harness import Goal, Measurement

sys.path.insert(0, str(harness.ROOT / "tests" / "integration"))
from conftest import Service

BENCH = harness.ROOT / "tests" / "bench"
TRANSCRIBED = "a task per command"


def running() -> Path:
    """Start the service; return the file with the variables that describe it. It is stopped at the end of the run."""
    folder = Path(tempfile.mkdtemp(prefix="itsm-nexus-bench-"))
    service = Service(folder / "service")
    service.install()
    atexit.register(shutil.rmtree, folder)
    atexit.register(service.kill)
    service.start()
    service.write("row")
    variables = folder / "variables.yml"
    variables.write_text(yaml.safe_dump(service.variables()), encoding="utf-8")
    return variables


def play(playbook: str, variables: Path, folder: Path) -> float:
    """Run a playbook; return its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventories/demo", playbook, "-e", f"@{variables}"],
        cwd=harness.ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "ITSM_NEXUS_POSTMORTEM_DIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise harness.BenchError(f"{playbook} ended with code {done.returncode}: {done.stdout.strip()[-300:]}")
    return seconds


def collect(playbook: str, evidence: str, least: int) -> Callable[[Path, Path], float]:
    """Return what collects: its seconds without those of starting Ansible, an empty play of the same moment."""

    def measure(variables: Path, folder: Path) -> float:
        place = variables.parent / "service" / "state" / evidence
        shutil.rmtree(place, ignore_errors=True)
        seconds = play(str(BENCH / playbook), variables, folder)
        if len([each for each in place.rglob("*") if each.is_file()]) < least:
            raise harness.BenchError(f"it saved too little in {place}")
        return seconds - play(str(BENCH / "plays" / "nothing.yml"), variables, folder)

    return measure


MEASUREMENTS = [
    Measurement(
        name="triage-evidence",
        what="Evidence of an outage collected and saved, connection local",
        how="role triage with its check of the configuration; the rival: the runbook's commands and what else triage "
        "collects, 40 tasks of one command each; the start of ansible-playbook apart",
        prepare=running,
        ours=("role triage", collect("plays/triage.yml", "evidence", 8)),
        rivals={TRANSCRIBED: collect("rivals/triage.yml", "evidence-by-command", 38)},
        goals=[Goal(0.125, against=TRANSCRIBED)],
    ),
]
