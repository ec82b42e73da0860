# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data for AWX about playbooks, variables and credentials is correct, and the workflow handles every failure."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
import yaml
from awx_server import TEXT, could_be_playbook, described, rendered, texts

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
PLACE = "playbooks/vars/awx.yml"
MODULES = sorted({action for task in TASKS for action in task if action.startswith("awx.awx.")})
# Variables that playbooks read but that are in no role's argument specification, with their allowed values.
LADDER = list(RUNGS)
OF_PLAYBOOKS: Dict[str, Any] = {
    "outage_recover_reason": {},
    "outage_recover_ticket": {},
    "outage_recover_wait": {},
    "outage_recover_highest_rung": {"choices": LADDER},
    "outage_triage_rung": {"choices": LADDER},
    "outage_recover_single_host": {"choices": ["false", "true"]},
    "outage_maintenance_state": {"choices": ["present", "absent"]},
    "outage_guard_state": {"choices": ["shown", "present", "absent"]},
    "outage_maintenance_until": {},
    "outage_maintenance_reason": {},
    "outage_ready_test": {"choices": ["false", "true"]},
    "outage_release_reason": {},
    "postmortem_incident": {},
}


def text_of(*folders: str) -> str:
    return "".join(
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".yml", ".py", ".j2"}
        and path.name not in {"argument_specs.yml", "awx.yml", "awx_en.yml", "awx_ja.yml"}
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
    """Yield every path from a node to an end of the workflow. by: the links to follow (success, failure or any)."""
    following = leading_on(NODES[start]) if by == "any" else NODES[start].get(by, [])
    if not following:
        yield [start]
    for each in following:
        for rest in paths(each, by=by):
            yield [start, *rest]


def playbook_of(template: str) -> str:
    return str(TEMPLATES[template].get("playbook", template))


def test_every_playbook_has_its_template_and_awx_lists_no_other_file() -> None:
    folder = ROOT / "playbooks"
    listed = {path for path in folder.rglob("*") if path.is_file() and could_be_playbook(path)}
    # outage_armed.yml waits for an alarm from its own machine. Such an alarm cannot reach an AWX job.
    with_template = {folder / f"{name}.yml" for name in [*map(playbook_of, TEMPLATES), "awx_configure", "outage_armed"]}
    wrong = [f"{PLACE}, awx_job_templates lacks {path.stem}" for path in sorted(listed - with_template)]
    wrong += [
        f"{PLACE}, awx_job_templates has {path.stem}, a playbook that AWX does not list"
        for path in with_template - listed
    ]
    assert wrong == [], "\n".join(wrong)


def test_names_of_templates_are_unique() -> None:
    names = [*TEMPLATES, DATA["awx_workflow"]["name"], DATA["awx_project"], DATA["awx_inventory_source"]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    assert repeated == [], f"{PLACE} has more than one object named {', '.join(repeated)}"


def test_both_languages_have_the_same_texts() -> None:
    english, japanese = texts("en"), texts("ja")
    assert list(english) == list(japanese)
    wrong = [f"{key} is empty" for known in (english, japanese) for key, text in known.items() if not text.strip()]
    untranslated = [key for key, text in japanese.items() if not re.search("[\u3041-\u30fa\u4e00-\u9fff]", text)]
    wrong += [f"{key} in awx_ja.yml is not Japanese" for key in untranslated]
    for key, text in english.items():
        expressions = [sorted(re.findall(r"\{\{.*?\}\}", each)) for each in (text, japanese[key])]
        wrong += [f"{key} has other expressions in Japanese"] if expressions[0] != expressions[1] else []
    assert wrong == [], "\n".join(wrong)


def test_every_text_is_used_and_exists() -> None:
    places = ("playbooks/vars/awx.yml", "playbooks/tasks/awx_present.yml")
    used = {name for place in places for name in TEXT.findall((ROOT / place).read_text("utf-8"))}
    assert used == set(texts("en"))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_awx_can_evaluate_the_texts_of_notifications(language: str) -> None:
    for template in described(language)["awx_notification_templates"]:
        for event, messages in template["messages"].items():
            approval = event == "workflow_approval"
            for each in messages.values() if approval else [messages]:
                told = [rendered(text, approval=approval, artifacts={}) for text in each.values()]
                assert all(told) and "{" not in "".join(told), template["name"]


def differences(place: str, found: Any, expected: Any) -> List[str]:
    """Return a line for each missing or forbidden entry. If only the order is wrong, return a line about the order."""
    if found == expected:
        return []
    if not isinstance(found, list) or not isinstance(expected, list):
        return [f"{place} is {found!r}, it must be {expected!r}"]
    lacks = [f"{place} lacks {each}" for each in expected if each not in found]
    strange = [f"{place} has {each}, which is not allowed" for each in found if each not in expected]
    return lacks + strange or [f"{place} is {found!r}, it must be in the order {expected!r}"]


@pytest.mark.parametrize("name", DATA["awx_questions"])
def test_a_survey_asks_for_existing_variables(name: str) -> None:
    question, place = DATA["awx_questions"][name], f"{PLACE}, awx_questions.{name}"
    variable = question["variable"]
    is_read = re.search(rf"\b{variable}\b", text_of("playbooks", "roles")) is not None
    assert is_read, f"{place}.variable is {variable}, which nothing in playbooks or roles reads"
    choices = question["choices"].splitlines() if question["type"] == "multiplechoice" else None
    if variable in OF_PLAYBOOKS:
        expected, default = OF_PLAYBOOKS[variable].get("choices"), question["default"]
        if name == "highest_rung_without_approval":
            expected = LADDER[: LADDER.index("clean_start_recovery")]
    else:
        is_known = variable in OPTIONS
        assert is_known, f"{place}.variable is {variable}, which is not in the meta/argument_specs.yml of any role"
        option = OPTIONS[variable]
        is_bool = option["type"] == "bool"
        assert is_bool or option["type"] == "str", f"{place}: {variable} is neither a bool nor a str"
        expected = ["false", "true"] if is_bool else option.get("choices")
        default = str(option["default"]).lower() if is_bool else option.get("default")
    wrong = differences(f"{place}.choices", choices, expected)
    wrong += differences(f"{place}.default", question["default"], default)
    assert wrong == [], "\n".join(wrong)


def test_choices_in_surveys_are_those_of_the_playbooks() -> None:
    assert "_outage_maintenance_state in ['present', 'absent']" in text_of("playbooks")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_asks_for_the_variables_of_its_playbook(name: str) -> None:
    template = TEMPLATES[name]
    playbook = (ROOT / "playbooks" / f"{playbook_of(name)}.yml").read_text("utf-8")
    if "import_playbook" in playbook:
        playbook += (ROOT / "playbooks" / "outage_recover.yml").read_text("utf-8")
    included = set(re.findall(r"tasks/(\w+\.yml)", playbook)) | set(re.findall(r"vars/(\w+\.yml)", playbook))
    for path in [path for path in (ROOT / "playbooks").rglob("*.yml") if path.name in included]:
        playbook += path.read_text("utf-8")
    for question in template.get("survey", []):
        variable = DATA["awx_questions"][question]["variable"]
        by_role = any(variable.startswith(role) and f"runbook.{role}" in playbook for role in ("database_recovery",))
        is_read = variable in playbook or by_role
        assert is_read, f"{PLACE}, {name}.survey has {question}, but playbooks/{name}.yml does not read {variable}"
    teams = ("awx_launching_team", "awx_approving_team")
    assert template["team"].strip("{ }") in teams, f"{PLACE}, {name}.team is none of {', '.join(teams)}"
    assert len(template["description"]) > 20, f"{PLACE}, {name}.description is too short"


def test_every_secret_of_a_channel_has_a_field() -> None:
    examples = set(re.findall(r"\bvault_\w+", text_of("roles/escalation/defaults")))
    injected = {name for each in DATA["awx_credential_types"] for name in each["injectors"].get("extra_vars", {})}
    assert examples
    lacks = [f"{PLACE}, awx_credential_types lacks {name}" for name in sorted(examples - injected)]
    for each in DATA["awx_credential_types"]:
        fields = {field["id"] for field in each["inputs"]["fields"]}
        templates = {**each["injectors"].get("extra_vars", {}), **each["injectors"].get("env", {})}
        used = {template.strip("{ }") for template in templates.values()}
        lacks += [f"{PLACE}, the fields of {each['name']} lack {name}" for name in sorted(used - fields)]
    page = (ROOT / "docs" / "awx.md").read_text(encoding="utf-8")
    lacks += [f"docs/awx.md lacks {name}" for name in sorted(examples) if name not in page]
    assert lacks == [], "\n".join(lacks)


def test_credentials_are_injected_as_variables_in_use() -> None:
    # Include vault variables that examples in roles and inventories use.
    known = {*OPTIONS, *re.findall(r"\bvault_\w+", text_of("roles", "inventories"))}
    read = text_of("plugins")
    wrong = []
    for credential in DATA["awx_credential_types"]:
        place = f"{PLACE}, {credential['name']}"
        for variable in credential["injectors"].get("extra_vars", {}):
            if variable.startswith("vault_") and variable not in known:
                wrong.append(f"{variable} is in no example; add it to roles/escalation/defaults/main.yml")
            elif variable not in known:
                wrong.append(f"{place} sets {variable}, which is not in the meta/argument_specs.yml of any role")
        for variable in credential["injectors"].get("env", {}):
            if variable not in read:
                wrong.append(f"{place} sets {variable}, which nothing in plugins reads")
    assert wrong == [], "\n".join(wrong)
    # AWX injects an empty field as an empty string. For an optional field, an empty string must therefore have no
    # effect.
    optional = {
        variable
        for credential in DATA["awx_credential_types"]
        for variable, template in credential["injectors"].get("extra_vars", {}).items()
        if template.strip("{ }") not in credential["inputs"].get("required", [])
    }
    wrong = [
        f"{PLACE} has an optional field for {name}, whose default is {OPTIONS[name]['default']!r} and not empty"
        for name in sorted(optional)
        if name in OPTIONS and OPTIONS[name]["default"] != ""
    ]
    assert wrong == [], "\n".join(wrong)


def test_every_failure_ends_in_escalation() -> None:
    for identifier, node in NODES.items():
        if identifier not in ("escalate", "postmortem"):
            assert node.get("failure"), f"a failure of {identifier} is not handled"
            for path in paths(identifier, by="failure"):
                assert path[-1] == "escalate"
    # If the escalation fails, the workflow must fail as well. Therefore, no node handles this failure.
    assert "failure" not in NODES["escalate"]


def test_the_workflow_is_connected_and_ends() -> None:
    order = list(NODES)
    for identifier, node in NODES.items():
        for following in leading_on(node):
            assert order.index(following) > order.index(identifier)
    assert {node for path in paths("detect") for node in path} == set(NODES)
    assert all(path[-1] in ("escalate", "postmortem") for path in paths("detect"))
    # If the service is healthy, no step follows.
    assert "success" not in NODES["detect"]


def test_a_clean_start_needs_an_approval_and_a_triage() -> None:
    for path in paths("detect"):
        if "clean_start" in path:
            before = path[: path.index("clean_start")]
            assert before[-2:] == ["triage_again", "approve_clean_start"]
            assert "restart" in before and "standard_recovery" in before
    assert TEMPLATES[NODES["triage_again"]["template"]]["extra_vars"] == {"outage_triage_rung": "clean_start_recovery"}


def test_each_rung_is_verified() -> None:
    for rung in ("restart", "standard_recovery", "clean_start"):
        (verification,) = NODES[rung]["success"]
        assert NODES[verification]["template"] == "outage_verify"


# Actions of ansible-core that do not run anything on a host.
ON_CONTROLLER = {
    *("assert", "debug", "fail", "import_playbook", "import_role", "import_tasks", "include_role", "include_tasks"),
    *("include_vars", "meta", "set_fact", "set_stats", "validate_argument_spec"),
}
_ROLE = re.compile(r"itsm_nexus\.runbook\.(\w+|\{\{)")


def of_workflow() -> Set[Path]:
    """Return the playbooks, task files and handlers that a step of the workflow can run."""
    found: Set[Path] = set()
    templates = [node["template"] for node in NODES.values() if "template" in node]
    todo = [ROOT / "playbooks" / f"{playbook_of(template)}.yml" for template in templates]
    todo += [path for path in (ROOT / "playbooks" / "tasks").glob("*.yml") if not path.name.startswith("awx_")]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        text = path.read_text(encoding="utf-8")
        todo += [path.parent / name for name in re.findall(r"import_playbook: (\S+\.yml)", text)]
        # A name that is a template can be the name of any rung.
        for name in {role for match in _ROLE.findall(text) for role in (RUNGS if match == "{{" else [match])}:
            todo += [each for part in ("tasks", "handlers") for each in (ROOT / "roles" / name / part).rglob("*.yml")]
    return found


def test_a_step_of_the_workflow_runs_no_module_of_ansible_core_on_a_managed_host() -> None:
    """The output of such a module is not cleaned, so the host could set variables of the later steps."""
    found: Set[Any] = set()
    for path in of_workflow():
        actions = re.findall(r"^[ -]+ansible\.builtin\.(\w+):", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found |= {(path.relative_to(ROOT).as_posix(), action) for action in set(actions) - ON_CONTROLLER}
    # The administrator chooses the host that receives the copies of the postmortems (SECURITY.md).
    assert found == {
        ("roles/postmortem/tasks/destinations/directory.yml", "copy"),
        ("roles/postmortem/tasks/destinations/webdav.yml", "uri"),
    }


class _Found(Exception):
    pass


def options_of(module: str, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Any]:
    """Return the argument specification of an installed awx.awx module."""
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
        unknown = sorted(set(given) - known)
        assert unknown == [], f"playbooks/tasks/awx_*.yml, {task['name']}: {module} has no {', '.join(unknown)}"
        for name, value in given.items():
            choices = options.get(name, {}).get("choices")
            if choices and "{{" not in str(value):
                assert value in choices, f"playbooks/tasks/awx_*.yml, {task['name']}: {name} is {value!r}"
        missing = {name for name, option in options.items() if option.get("required")} - set(given)
        assert not (given and missing), f"playbooks/tasks/awx_*.yml, {task['name']} lacks {', '.join(sorted(missing))}"
