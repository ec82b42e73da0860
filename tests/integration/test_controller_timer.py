# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timers: the installation rejects settings that would fail later, and a maintenance window is not an outage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from .conftest import ROOT, Service, on_screen

GOOD = {"controller_timer_project": "/opt/runbook", "controller_timer_inventory": "/opt/runbook/inventories/mine"}


WRONG = [
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
]


def test_invalid_settings_are_refused(tmp_path: Path) -> None:
    tasks = [
        {
            "block": [
                {
                    "ansible.builtin.include_role": {"name": "itsm_nexus.runbook.controller_timer"},
                    "vars": {**GOOD, name: value},
                }
            ],
            # Record the error, and continue with the next setting.
            "rescue": [
                {
                    "ansible.builtin.copy": {
                        "content": "{{ ansible_failed_result | to_json }}",
                        "dest": str(tmp_path / str(number)),
                        "mode": "0600",
                    },
                    "check_mode": False,
                }
            ],
        }
        for number, (name, value) in enumerate(WRONG)
    ]
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = on_screen(
        # Use check mode, so that an accepted setting does not change this machine.
        ["ansible-playbook", "--inventory=localhost,", "--connection=local", "--check", play],
        cwd=ROOT,
        env={**environment, "LC_ALL": "C.UTF-8", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        timeout=300,
    )
    assert done.returncode == 0
    for number, (name, value) in enumerate(WRONG):
        result = json.loads((tmp_path / str(number)).read_text(encoding="utf-8"))
        # An assertion about several settings has one result for each setting.
        told = " ".join(each["msg"] for each in result.get("results", [result]) if each.get("failed"))
        assert name in told and str(value) in told
    assert "Install or remove the units" not in done.stdout


def test_maintenance_excuses_an_outage_if_configured(laid: Service) -> None:
    excused = {"outage_detect_excuses_maintenance": True}
    assert laid.play("playbooks/outage_detect.yml", **excused).rc == 2
    # If the end of the maintenance window is invalid, an outage is still an error.
    wrong = laid.play("playbooks/outage_detect.yml", nexus_maintenance_until="soon", **excused)
    assert wrong.rc == 2
    assert "maintenance_until is 'soon'" in wrong.screen
    assert laid.play("playbooks/outage_detect.yml", nexus_maintenance_until="2099-12-31T09:00:00Z", **excused).rc == 0
    laid.state.mkdir(mode=0o700, exist_ok=True)  # A detection saves the first failed probe there.
    (laid.state / "maintenance.json").write_text('{"until": "2099-12-31T09:00:00Z", "reason": ""}', encoding="utf-8")
    told = laid.play("playbooks/outage_detect.yml", **excused)
    assert told.rc == 0
    assert "is down (emergency: " in told.screen and ": this is not an error" in told.screen
