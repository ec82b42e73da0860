# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timers: the installation refuses settings that would fail later. A maintenance window is not an outage."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Service

GOOD = {"controller_timer_project": "/opt/runbook", "controller_timer_inventory": "/opt/runbook/inventories/mine"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("controller_timer_project", ""),
        ("controller_timer_project", "runbook"),
        ("controller_timer_project", "/root/runbook"),
        ("controller_timer_project", "/opt/run book"),
        ("controller_timer_inventory", "/home/somebody/inventory"),
        ("controller_timer_program", "ansible-playbook"),
        ("controller_timer_program", "/tmp/venv/bin/ansible-playbook"),
        ("controller_timer_name", "itsm outage"),
        ("controller_timer_name", "../itsm"),
        ("controller_timer_interval", 0),
        ("controller_timer_alarm_command", ["logger", "x"]),
        ("controller_timer_alarm_command", []),
        ("controller_timer_state", "running"),
    ],
)
def test_invalid_setting_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    role = {"role": "itsm_nexus.runbook.controller_timer", **GOOD, name: value}
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "roles": [role]}]), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        # Use check mode, so that an accepted setting does not change this machine.
        ["ansible-playbook", "--inventory=localhost,", "--connection=local", "--check", play],
        cwd=ROOT,
        env={**environment, "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stdout
    said = "".join(line for line in done.stdout.splitlines() if name in line)
    assert str(value) in said
    assert "Make the account" not in done.stdout


def test_maintenance_excuses_an_outage_if_configured(laid: Service) -> None:
    excused = {"outage_detect_excuses_maintenance": True}
    assert laid.play("playbooks/outage_detect.yml", **excused).rc == 2
    begun = laid.play("playbooks/outage_maintenance.yml", outage_maintenance_until="+1h")
    assert begun.rc == 0
    assert laid.play("playbooks/outage_detect.yml").rc == 2
    told = laid.play("playbooks/outage_detect.yml", **excused)
    assert told.rc == 0
    assert "is down (emergency: " in told.screen and ": this is not an error" in told.screen
    # An invalid end of the maintenance window does not excuse an outage.
    assert laid.play("playbooks/outage_maintenance.yml", outage_maintenance_state="absent").rc == 0
    wrong = laid.play("playbooks/outage_detect.yml", nexus_maintenance_until="soon", **excused)
    assert wrong.rc == 2
    assert "maintenance_until is 'soon'" in wrong.screen
    assert laid.play("playbooks/outage_detect.yml", nexus_maintenance_until="2099-12-31T09:00:00Z", **excused).rc == 0
