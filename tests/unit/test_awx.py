# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AWX gets correct data about playbooks, variables and credentials, and its workflow handles each failure."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
import yaml
from awx_server import could_be_playbook, described

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS

ROOT = Path(__file__).resolve().parents[2]
DATA = described()
TEMPLATES = {template["name"]: template for template in DATA["awx_job_templates"]}
NODES = {node["identifier"]: node for node in DATA["awx_workflow_nodes"]}
TASKS = [
    task
    for name in ("awx_present", "awx_absent")
    for task in yaml.safe_load((ROOT / "playbooks" / "tasks" / f"{name}.yml").read_text("utf-8"))
]
MODULES = sorted({action for task in TASKS for action in task if action.startswith("awx.awx.")})
# Variables that a playbook reads and that are in no role's specification, with their allowed values.
LADDER = list(RUNGS)
OF_PLAYBOOKS: Dict[str, Any] = {
    "outage_recover_reason": {},
    "outage_recover_ticket": {},
    "outage_recover_highest_rung": {"choices": LADDER},
    "outage_triage_rung": {"choices": LADDER},
    "outage_recover_single_host": {"choices": ["false", "true"]},
    "outage_maintenance_state": {"choices": ["present", "absent"]},
    "outage_maintenance_until": {},
    "outage_maintenance_reason": {},
    "outage_release_reason": {},
    "postmortem_incident": {},
}


def text_of(*folders: str) -> str:
    return "".join(
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".yml", ".py", ".j2"} and path.name not in {"argument_specs.yml", "awx.yml"}
    )


def role_options() -> Dict[str, Any]:
    specified = {}
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        specified.update(yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"]["options"])
    return specified


OPTIONS = role_options()


def leading_on(node: Dict[str, Any]) -> List[str]:
    return [*node.get("success", []), *node.get("failure", [])]


def paths(start: str, *, by: str = "any") -> Iterator[List[str]]:
    """Yield every path from start to an end of the workflow."""
    following = leading_on(NODES[start]) if by == "any" else NODES[start].get(by, [])
    if not following:
        yield [start]
    for each in following:
        for rest in paths(each, by=by):
            yield [start, *rest]


def test_every_playbook_has_its_template_and_awx_lists_no_other_file() -> None:
    listed = {path for path in (ROOT / "playbooks").rglob("*") if path.is_file() and could_be_playbook(path)}
    assert listed == {ROOT / "playbooks" / f"{name}.yml" for name in [*TEMPLATES, "awx_configure"]}


def test_names_of_templates_are_unique() -> None:
    names = [*TEMPLATES, DATA["awx_workflow"]["name"], DATA["awx_project"], DATA["awx_inventory_source"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("question", DATA["awx_questions"].values(), ids=list(DATA["awx_questions"]))
def test_a_survey_asks_for_existing_variables(question: Dict[str, Any]) -> None:
    variable = question["variable"]
    assert re.search(rf"\b{variable}\b", text_of("playbooks", "roles"))
    choices = question["choices"].splitlines() if question["type"] == "multiplechoice" else None
    if variable in OF_PLAYBOOKS:
        assert choices == OF_PLAYBOOKS[variable].get("choices")
        return
    option = OPTIONS[variable]
    if option["type"] == "bool":
        assert (choices, question["default"]) == (["false", "true"], str(option["default"]).lower())
    else:
        assert option["type"] == "str" and choices == option.get("choices")
        assert question["default"] == option.get("default")


def test_choices_of_playbooks_are_those_of_the_playbooks() -> None:
    assert "_outage_maintenance_state in ['present', 'absent']" in text_of("playbooks")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_asks_for_the_variables_of_its_playbook(name: str) -> None:
    template = TEMPLATES[name]
    playbook = (ROOT / "playbooks" / f"{name}.yml").read_text("utf-8")
    if "import_playbook" in playbook:
        playbook += (ROOT / "playbooks" / "outage_recover.yml").read_text("utf-8")
    included = set(re.findall(r"tasks/(\w+\.yml)", playbook)) | set(re.findall(r"vars/(\w+\.yml)", playbook))
    for path in [path for path in (ROOT / "playbooks").rglob("*.yml") if path.name in included]:
        playbook += path.read_text("utf-8")
    for question in template.get("survey", []):
        variable = DATA["awx_questions"][question]["variable"]
        role = next((role for role in ("database_recovery",) if variable.startswith(role)), "")
        assert variable in playbook or f"runbook.{role}" in playbook
    assert template["team"].strip("{ }") in ("awx_launching_team", "awx_approving_team")
    assert len(template["description"]) > 20


def test_credentials_are_injected_as_variables_in_use() -> None:
    # The vault variables in the examples of the roles and the inventories.
    vaulted = set(re.findall(r"\bvault_\w+", text_of("roles", "inventories")))
    for credential in DATA["awx_credential_types"]:
        for variable in credential["injectors"].get("extra_vars", {}):
            assert variable in OPTIONS or variable in vaulted
        for variable in credential["injectors"].get("env", {}):
            assert variable in text_of("plugins")
    # AWX injects an empty field as an empty text. So an empty text must have no effect for an optional field.
    optional = {
        variable
        for credential in DATA["awx_credential_types"]
        for variable, template in credential["injectors"].get("extra_vars", {}).items()
        if template.strip("{ }") not in credential["inputs"].get("required", [])
    }
    assert {name for name in optional if OPTIONS.get(name, {"default": ""})["default"] != ""} == set()


def test_every_failure_ends_in_escalation() -> None:
    for identifier, node in NODES.items():
        if identifier not in ("escalate", "postmortem"):
            assert node.get("failure"), f"a failure of {identifier} is not handled"
            for path in paths(identifier, by="failure"):
                assert path[-1] == "escalate"
    # The workflow must end as failed, so no node handles the failure of the escalation.
    assert "failure" not in NODES["escalate"]


def test_the_workflow_is_connected_and_ends() -> None:
    order = list(NODES)
    for identifier, node in NODES.items():
        for following in leading_on(node):
            assert order.index(following) > order.index(identifier)
    assert {node for path in paths("detect") for node in path} == set(NODES)
    assert all(path[-1] in ("escalate", "postmortem") for path in paths("detect"))
    # A healthy service is left alone.
    assert "success" not in NODES["detect"]


def test_a_clean_start_needs_an_approval_and_a_triage() -> None:
    for path in paths("detect"):
        if "clean_start" in path:
            before = path[: path.index("clean_start")]
            assert before[-2:] == ["triage_again", "approve_clean_start"]
            assert "restart" in before and "standard_recovery" in before
    assert NODES["triage_again"]["extra_data"] == {"outage_triage_rung": "clean_start_recovery"}


def test_each_rung_is_verified() -> None:
    for rung in ("restart", "standard_recovery", "clean_start"):
        (verification,) = NODES[rung]["success"]
        assert NODES[verification]["template"] == "outage_verify"


class _Found(Exception):
    pass


def options_of(module: str, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Any]:
    """Return the argument specification that the installed module would use."""
    loaded = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{module.rsplit('.', 1)[-1]}")
    found: Dict[str, Any] = {}

    def caught(**keys: Any) -> None:
        found.update(keys["argument_spec"])
        raise _Found

    monkeypatch.setattr(loaded, "ControllerAPIModule", caught)
    with pytest.raises(_Found):
        loaded.main()
    return found


@pytest.mark.parametrize("module", MODULES)
def test_tasks_name_options_that_the_installed_module_has(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_of(module, monkeypatch)
    known: Set[str] = set(options).union(*(option.get("aliases", []) for option in options.values()))
    for task in TASKS:
        given = task.get(module, {})
        assert set(given) <= known
        for name, value in given.items():
            choices = options.get(name, {}).get("choices")
            if choices and "{{" not in str(value):
                assert value in choices
        missing = {name for name, option in options.items() if option.get("required")} - set(given)
        assert not (given and missing)
