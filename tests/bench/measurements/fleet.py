# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A look at sixty healthy hosts, and what Ansible itself takes to reach as many."""

from __future__ import annotations

from pathlib import Path

import harness
import yaml
from harness import Goal, Measurement
from measurements import triage

HOSTS = [f"itsm-{number:02}.example.com" for number in range(1, 61)]
FORKS = "20"
PING = "ansible -m ping"
# The seconds that the goal leaves beside the ratio: what a playbook costs before its first task.
ALLOWED = 2.0


def hosts() -> Path:
    """Start the service; return an inventory of sixty hosts with a local connection to it, a state folder for each."""
    variables = triage.running()
    described = yaml.safe_load(variables.read_text("utf-8"))
    described.update(
        ansible_connection="local",
        ansible_python_interpreter="{{ ansible_playbook_python }}",
        nexus_state_dir=f"{variables.parent}/state/{{{{ inventory_hostname }}}}",
    )
    inventory = variables.parent / "hosts.yml"
    group = {"hosts": dict.fromkeys(HOSTS), "vars": described}
    inventory.write_text(yaml.safe_dump({"itsm_nexus": group}), encoding="utf-8")
    return inventory


def sweep(inventory: Path, folder: Path) -> float:
    """Look at all hosts; return the seconds beyond those that are allowed beside the ratio."""
    argv = ["ansible-playbook", "-i", str(inventory), "-f", FORKS, "playbooks/outage_detect.yml"]
    return harness.timed_ansible(argv, folder, says=f"{len(HOSTS)} HOSTS: {len(HOSTS)} healthy") - ALLOWED


def ping(inventory: Path, folder: Path) -> float:
    """Return the seconds that Ansible takes to run its least module on all hosts."""
    argv = ["ansible", "-i", str(inventory), "-f", FORKS, "itsm_nexus", "-m", "ping"]
    return harness.timed_ansible(argv, folder, says="pong")


MEASUREMENTS = [
    Measurement(
        name="fleet-sweep",
        what=f"A look at {len(HOSTS)} healthy hosts, {FORKS} forks, connection local",
        how=f"outage_detect.yml, {ALLOWED:g} s taken off, against the same hosts and forks with {PING}",
        prepare=hosts,
        ours=("outage_detect.yml", sweep),
        rivals={PING: ping},
        goals=[Goal(1.3, against=PING)],
        rounds=3,
    ),
]
