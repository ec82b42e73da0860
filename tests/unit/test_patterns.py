# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The patterns for Ansible Automation Platform match the playbooks, and the questions of the AWX job templates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from awx_server import described

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = sorted((ROOT / "extensions" / "patterns").iterdir())
AWX = described()


def definition(pattern: Path) -> Dict[str, Any]:
    return json.loads((pattern / "meta" / "pattern.json").read_text(encoding="utf-8"))


def job_templates(pattern: Path) -> List[Dict[str, Any]]:
    return definition(pattern)["aap_resources"]["controller_job_templates"]


def imported(pattern: Path, template: Dict[str, Any]) -> Dict[str, Any]:
    """Return the only play of a job template's playbook, which imports a playbook of the collection."""
    (play,) = yaml.safe_load((pattern / "playbooks" / template["playbook"]).read_text(encoding="utf-8"))
    return play


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda path: path.name)
def test_a_pattern_has_the_form_of_the_specification(pattern: Path) -> None:
    told = definition(pattern)
    assert told["name"] == pattern.name and re.fullmatch("[a-z0-9_]{1,64}", told["name"])
    assert len(told["title"]) <= 64 and not told["short_description"].endswith(".")
    assert (pattern / "README.md").is_file()
    resources = told["aap_resources"]
    assert set(resources) == {"controller_project", "controller_labels", "controller_job_templates"}
    templates = job_templates(pattern)
    assert [each["primary"] for each in templates].count(True) == 1
    assert {label for each in templates for label in each["labels"]} == set(resources["controller_labels"])
    files = {path.name for path in (pattern / "playbooks").iterdir()}
    assert {each["playbook"] for each in templates} == files
    for each in templates:
        assert each["ask_inventory_on_launch"] and each["ask_credential_on_launch"], each["name"]
        assert f"| {each['name']} |" in (pattern / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda path: path.name)
def test_a_job_template_has_the_questions_and_limits_of_awx(pattern: Path) -> None:
    """A pattern has no approval, so it allows at most what the job template without approval allows."""
    known = {each["name"]: each for each in AWX["awx_job_templates"]}
    for template in job_templates(pattern):
        play = imported(pattern, template)
        name = play["ansible.builtin.import_playbook"].rpartition(".")[2]
        assert (ROOT / "playbooks" / f"{name}.yml").is_file()
        assert play.get("vars") == known[name].get("extra_vars")
        for question in (template.get("survey") or {}).get("spec", []):
            (same,) = [
                AWX["awx_questions"][key]
                for key in known[name]["survey"]
                if AWX["awx_questions"][key]["variable"] == question["variable"]
            ]
            assert question["type"] == same["type"] and question["required"] is same["required"]
            assert question.get("choices", []) == same.get("choices", "").split()
            assert question.get("default", "") == same["default"]
