# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare two ways to collect the evidence of an outage: in one pass, and command by command."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
import model
import yaml
from model import Goal, Measurement

sys.path[:0] = [str(harness.ROOT / "tests"), str(harness.ROOT / "tests" / "integration")]
from conftest import Service

BENCH = harness.ROOT / "tests" / "bench"
TRANSCRIBED = "one task per command"
# The number of processes and the size of the log in bytes, for the second measurement.
PROCESSES = 500
LOG = 200 << 20


def running() -> Path:
    """Start the service, which is stopped at the end of the benchmark. Return the path of the variables file."""
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
    """Run a playbook and return its duration in seconds."""
    told = ["-e", f"@{variables}", "-e", "nexus_incident=INC-1"]
    return harness.timed_ansible(["ansible-playbook", "-i", "inventories/demo", playbook, *told], folder)


def crowded() -> Path:
    """Start the service with a long log and many other processes. Return the path of the service's variables file."""
    variables = running()
    log = Path(yaml.safe_load(variables.read_text(encoding="utf-8"))["nexus_log_file"])
    line = (
        b'{"level":"info","time":"2026-01-05T06:07:08.901Z","method":"GET","path":"/api/v1/incidents","status":200}\n'
    )
    said = log.read_bytes()
    log.write_bytes(line * (LOG // len(line)) + said)
    crowd = [subprocess.Popen(["sleep", "3600"]) for _ in range(PROCESSES)]
    atexit.register(lambda: [each.kill() for each in crowd])
    return variables


def beyond_the_slowest_part(variables: Path, folder: Path) -> float:
    """Run triage once. Return how many seconds longer triage took than its slowest part."""
    known = yaml.safe_load(variables.read_text(encoding="utf-8"))
    service = {
        "app_dir": known["nexus_app_dir"],
        "command": ["node", "backend/server.js"],
        "manager": known["nexus_manager"],
        "unit": "",
        "user": known["nexus_user"],
        "db_path": "backend/itsm.db",
        "db_path_variable": "DATABASE_PATH",
        "log_file": known["nexus_log_file"],
        "environment_file": known["nexus_environment_file"],
        "pid_file": "",
        "tls_cert_path": "backend/ssl/server.crt",
        "tls_key_path": "",
        "https_port": known["nexus_https_port"],
        "http_port": known["nexus_http_port"],
        "required_environment": [],
        "state_dir": str(folder),
    }
    how = {"deadline": 10.0, "part_timeout": 5.0, "window": 600, "log_lines": 100, "incident": "INC-1"}
    call = (
        "json.dumps((lambda duration=0, parts=0, findings=0, **_rest: [duration, parts, findings])(**run.triage("
        "service=run.Service(**arguments['service']), run=run.commands.run, **arguments['how'])))"
    )
    argv, environment = harness.on_host("_triage.run", call, service=service, how=how)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise model.BenchError(done.stderr.strip()[-300:])
    duration, parts, findings = json.loads(done.stdout)
    unanswered = [name for name, took in parts.items() if not isinstance(took, float)]
    if findings or unanswered:
        raise model.BenchError(f"not answered: {unanswered}; found: {findings}")
    return duration - max(parts.values())


def complete(place: Path) -> bool:
    """Return True if a folder contains exactly one bundle, and the bundle has the results of all parts."""
    bundles = [json.loads(path.read_text(encoding="utf-8")) for path in place.glob("*/triage.json")]
    return len(bundles) == 1 and all(isinstance(took, float) for took in bundles[0]["parts"].values())


def collect(playbook: str, evidence: str, enough: Callable[[Path], bool]) -> Callable[[Path, Path], float]:
    """Return a contender that collects the evidence with a playbook.

    The contender returns the playbook's duration minus the duration of an empty play, in seconds. Therefore, the time
    that Ansible needs to start does not count. evidence: the name of the evidence folder in the state folder. enough: a
    function that returns True if the folder contains all the evidence.
    """

    def measure(variables: Path, folder: Path) -> float:
        place = variables.parent / "service" / "state" / evidence
        shutil.rmtree(place, ignore_errors=True)
        seconds = play(str(harness.ROOT / playbook), variables, folder)
        if not enough(place):
            raise model.BenchError(f"it saved too little in {place}")
        return seconds - play(str(BENCH / "plays" / "nothing.yml"), variables, folder)

    return measure


MEASUREMENTS = [
    Measurement(
        name="triage-evidence",
        what="Collect and save the evidence of an outage, local connection",
        how="outage_triage.yml, including its configuration check. The rival is a playbook that collects the same "
        "evidence with 40 shell commands, one at a time. The time that ansible-playbook needs to start does not count",
        prepare=running,
        ours=("outage_triage.yml", collect("playbooks/outage_triage.yml", "evidence", complete)),
        rivals={
            TRANSCRIBED: collect(
                "tests/bench/rivals/triage.yml", "evidence-by-command", lambda place: len(list(place.iterdir())) >= 38
            )
        },
        goals=[Goal(0.125, against=TRANSCRIBED)],
    ),
    Measurement(
        name="triage-crowded",
        what="Triage time beyond the slowest part, with 500 processes and a 200 MiB log",
        how="one pass that saves its evidence, checks all parts and finds nothing wrong. The crowded drill does the "
        "same with a full journal",
        prepare=crowded,
        ours=("triage_info", beyond_the_slowest_part),
        goals=[Goal(1.5)],
    ),
]
