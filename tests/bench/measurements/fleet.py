# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure detection on sixty healthy hosts, Ansible's own time for these hosts, and the time per additional host."""

from __future__ import annotations

from pathlib import Path

import harness
import yaml
from measurements import triage
from model import Figures, Goal, Measurement

HOSTS = [f"itsm-{number:02}.example.com" for number in range(1, 61)]
FORKS = "20"
PING = "ansible -m ping"
FEW = 10
# Maximum growth. Two rates are measured: the time per additional host up to FEW hosts, and the time per additional host
# above that number. Growth is the second rate divided by the first rate.
LINEAR = 1.5


def hosts() -> Path:
    """Start the service. Return the path of an inventory with sixty local hosts, each with its own state folder."""
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


def look(inventory: Path, folder: Path, *, number: int) -> float:
    """Probe the first `number` hosts and return the duration in seconds."""
    argv = ["ansible-playbook", "-i", str(inventory), "-f", FORKS, "playbooks/outage_detect.yml"]
    says = f"{number} HOSTS: {number} healthy" if number > 1 else f"HEALTHY: {HOSTS[0]}"
    return harness.timed_ansible([*argv, "--limit", ",".join(HOSTS[:number])], folder, says=says)


def sweep(inventory: Path, folder: Path) -> float:
    """Probe all hosts. Return the duration in seconds."""
    return look(inventory, folder, number=len(HOSTS))


def growth(inventory: Path, folder: Path) -> Figures:
    """Probe one host, a few hosts and all hosts. Return each duration and the time per additional host, in seconds."""
    one, few, every = (look(inventory, folder, number=number) for number in (1, FEW, len(HOSTS)))
    first, others = (few - one) / (FEW - 1), (every - few) / (len(HOSTS) - FEW)
    return {
        "1 host": one,
        f"{FEW} hosts": few,
        f"{len(HOSTS)} hosts": every,
        f"each additional host, up to {FEW}": first,
        f"each additional host, up to {len(HOSTS)}": others,
        "growth": others / first,
    }


def ping(inventory: Path, folder: Path) -> float:
    """Return the time in seconds that Ansible needs to run its smallest module on all hosts."""
    argv = ["ansible", "-i", str(inventory), "-f", FORKS, "itsm_nexus", "-m", "ping"]
    return harness.timed_ansible(argv, folder, says="pong")


MEASUREMENTS = [
    Measurement(
        name="fleet-sweep",
        what=f"Detection on {len(HOSTS)} healthy hosts, {FORKS} forks, local connection",
        how=f"outage_detect.yml, compared with {PING} on the same hosts with the same number of forks",
        prepare=hosts,
        ours=("outage_detect.yml", sweep),
        rivals={PING: ping},
        goals=[Goal(1.15, against=PING)],
    ),
    Measurement(
        name="fleet-growth",
        what="Cost of each additional healthy host",
        how=f"outage_detect.yml on 1, {FEW} and {len(HOSTS)} hosts with {FORKS} forks, local connection. The growth is "
        f"the time per additional host between {FEW} and {len(HOSTS)} hosts, divided by the time per additional host "
        f"between 1 and {FEW} hosts. A growth of 1 means that every additional host takes the same time",
        prepare=hosts,
        ours=("outage_detect.yml", growth),
        goals=[Goal(LINEAR, unit="x", figure="growth")],
    ),
]
