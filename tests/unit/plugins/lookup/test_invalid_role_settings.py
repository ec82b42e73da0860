# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of all roles are validated in one task. If there is any doubt, the playbook includes the roles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
TERMS = ["nexus.main", "escalation.validate", "remediation.validate", "postmortem.validate"]
LOOKUP = "itsm_nexus.runbook.invalid_role_settings"
UNDEFINED = "{{ undefined_variable }}"

# The role that is returned, and the setting that is invalid.
INVALID: list[tuple[str, dict[str, Any]]] = [
    # The argument specification rejects the type or the choice.
    ("nexus.main", {"nexus_manager": "upstart"}),
    ("nexus.main", {"nexus_ready_slow_after": "soon"}),
    ("escalation.validate", {"escalation_rules": 5}),
    ("postmortem.validate", {"postmortem_retention_days": "a few"}),
    ("remediation.validate", {"remediation_keep_backups": "a few"}),
    # The role's own check rejects the value.
    ("escalation.validate", {"escalation_contacts": {"SRE": {"channels": [{"type": "pigeon"}]}}}),
    ("remediation.validate", {"remediation_allowed": ["disk_ful"]}),
    ("remediation.validate", {"remediation_memory_max": "much"}),
    # The value cannot be evaluated.
    ("nexus.main", {"nexus_user": UNDEFINED}),
    ("escalation.validate", {"escalation_contacts": UNDEFINED}),
    ("remediation.validate", {"remediation_disk_globs": UNDEFINED}),
    ("postmortem.validate", {"postmortem_language": UNDEFINED}),
]
VALID: dict[str, dict[str, Any]] = {
    "defaults": {},
    "template": {"postmortem_language": "{{ wanted }}", "wanted": "ja"},
}
UNKNOWN = ["no_such_role.main", "escalation.no_such_entry", "escalation"]

PLAY = {
    "hosts": "all",
    "gather_facts": False,
    "tasks": [
        {
            "ansible.builtin.include_role": {"name": "itsm_nexus.runbook.nexus", "tasks_from": "names", "public": True},
        },
        {
            "ansible.builtin.copy": {
                "content": f"{{{{ [query('{LOOKUP}', *{TERMS}), query('{LOOKUP}', *{UNKNOWN})] | to_json }}}}",
                "dest": "{{ inventory_dir }}/{{ inventory_hostname }}",
                "mode": "0600",
            },
        },
    ],
}


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the lookup once on all hosts. Each host has other settings."""
    folder = tmp_path_factory.mktemp("lookup")
    hosts = {**VALID, **{f"host{number}": settings for number, (_role, settings) in enumerate(INVALID)}}
    common = {
        "nexus_app_dir": "/opt/itsm-system",
        "nexus_user": "itsm",
        "ansible_connection": "local",
        "detection_result": {"preflight": {"resolved": {"database_path": "/opt/itsm-system/data/itsm.db"}}},
    }
    inventory = {"all": {"vars": common, "hosts": hosts}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    (folder / "play.yml").write_text(yaml.safe_dump([PLAY]), encoding="utf-8")
    (folder / "ansible.cfg").touch(mode=0o600)
    subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
    )
    return folder


def found(returned: Path, host: str) -> Any:
    """Return the result for the roles and the result for unknown terms."""
    return json.loads((returned / host).read_text(encoding="utf-8"))


@pytest.mark.parametrize("host", VALID)
def test_no_role_is_returned_if_all_settings_are_valid(returned: Path, host: str) -> None:
    assert found(returned, host)[0] == []


@pytest.mark.parametrize("number", range(len(INVALID)), ids=[str(settings) for _role, settings in INVALID])
def test_a_role_with_an_invalid_setting_is_returned(returned: Path, number: int) -> None:
    assert found(returned, f"host{number}")[0] == [INVALID[number][0]]


def test_an_unknown_role_or_entry_point_is_returned(returned: Path) -> None:
    assert found(returned, "defaults")[1] == UNKNOWN


def test_the_playbook_validates_each_role_that_it_includes() -> None:
    variables = yaml.safe_load((ROOT / "playbooks/vars/outage_recover.yml").read_text(encoding="utf-8"))
    roles = variables["_outage_recover_settings_of"]
    assert re.findall(r"'(\w+)[.]validate'", variables["_outage_recover_settings_to_report"]) == roles
    for role in roles:
        tasks = (ROOT / f"roles/{role}/tasks/validate.yml").read_text(encoding="utf-8")
        defined = yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text(encoding="utf-8"))
        reported = re.findall(r'problems: "{{ (\w+) }}"', tasks)
        assert reported == [name for name in defined if name == f"_{role}_problems"]
