# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A managed host that is somebody else's answers as it likes: nothing of it is run, templated or believed here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# A module's answer is whatever the host makes of it; this one stands for a host that replaces Python.
_EVIL = """#!/usr/bin/python3
import json
print(json.dumps({"changed": False, "ansible_facts": %s, "said": %s}))
"""

_PLAY = """
- hosts: evil
  gather_facts: false
  tasks:
    - evil:
      register: evil
    - itsm_nexus.runbook.tell_by_command:
        argv: "{{ escalation_contacts.leader.channels[0].argv }}"
        retries: 0
      register: told
    - ansible.builtin.set_fact:
        cleaned: "{{ {'summary': evil.said} | itsm_nexus.runbook.escalation_facts }}"
    - ansible.builtin.debug:
        msg: "{{ cleaned.summary }} | {{ told.ok }} | {{ told.error }}"
"""


def play(folder: Path, *, facts: object, said: str, **environment: str) -> str:
    (folder / "library").mkdir()
    (folder / "library" / "evil.py").write_text(_EVIL % (json.dumps(facts), json.dumps(said)))
    (folder / "play.yml").write_text(_PLAY)
    contacts = {"leader": {"channels": [{"type": "command", "argv": ["touch", str(folder / "told")]}]}}
    inventory = {"all": {"hosts": {"evil": {"ansible_connection": "local", "escalation_contacts": contacts}}}}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    done = subprocess.run(
        ["ansible-playbook", "-i", folder / "hosts.json", folder / "play.yml"],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "false",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def planted(folder: Path) -> object:
    return {"escalation_contacts": {"leader": {"channels": [{"argv": ["touch", str(folder / "owned")]}]}}}


def test_a_host_does_not_say_what_is_run_here(tmp_path: Path) -> None:
    screen = play(tmp_path, facts=planted(tmp_path), said="")
    assert not (tmp_path / "owned").exists()
    assert (tmp_path / "told").exists(), screen


def test_it_does_not_either_where_facts_are_variables(tmp_path: Path) -> None:
    screen = play(tmp_path, facts=planted(tmp_path), said="", ANSIBLE_INJECT_FACT_VARS="true")
    assert not (tmp_path / "owned").exists()
    assert "False | the host itself has set escalation_contacts among its facts" in screen


TEMPLATES = {
    "expression": "{{ lookup('ansible.builtin.pipe', 'touch OWNED') }}",
    "statement": "{% set x = lookup('ansible.builtin.pipe', 'touch OWNED') %}{{ x }}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_what_a_host_says_is_no_template(tmp_path: Path, template: str) -> None:
    said = template.replace("OWNED", str(tmp_path / "owned"))
    screen = play(tmp_path, facts={}, said=said)
    assert not (tmp_path / "owned").exists()
    assert "touch" in screen
