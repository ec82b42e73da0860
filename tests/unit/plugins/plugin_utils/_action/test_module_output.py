# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The output of every module that runs on a host is cleaned."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import cleaned, module_output

ROOT = Path(__file__).resolve().parents[5]
NAMESPACE = "ansible_collections.itsm_nexus.runbook.plugins.action"
REDIRECTS = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text("utf-8"))["plugin_routing"]["modules"]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


def action_of(module: str) -> Any:
    """Return the class of the action plugin that runs a module, or None if it is a plugin of ansible-core."""
    name = REDIRECTS.get(module, {}).get("action_plugin", module).rsplit(".", 1)[-1]
    if not (ROOT / "plugins" / "action" / f"{name}.py").exists():
        return None
    return importlib.import_module(f"{NAMESPACE}.{name}").ActionModule


@pytest.mark.parametrize("module", MODULES)
def test_the_output_of_a_module_on_a_host_is_cleaned(module: str) -> None:
    action = action_of(module)
    assert action is not None, f"{module}: add a redirect to meta/runtime.yml"
    # An action that needs no connection runs only on the controller.
    assert issubclass(action, cleaned.Cleaned) or not action._requires_connection


def test_a_module_returns_no_key_on_which_ansible_core_acts() -> None:
    found = {"discovered_interpreter_python": "/usr/bin/python3"}
    effects = {"ansible_stats": {"data": {"a": 1}}, "ansible_facts": {**found, "a": 1}}
    given = {**effects, "results": [{**effects, "x": [[effects]]}, "text"], "opened": {"id": "1", **effects}}
    cleaned_result = {"ansible_facts": found, "results": [{"x": [[{}]]}, "text"], "opened": {"id": "1"}}
    assert module_output.without_effects(given) == cleaned_result


@pytest.mark.parametrize("facts", [None, [], "text", {}, {"a": 1}])
def test_facts_in_another_form_are_removed(facts: object) -> None:
    assert module_output.without_effects({"ansible_facts": facts, "changed": True}) == {"changed": True}


def test_a_deep_result_is_cleaned() -> None:
    result: dict[str, Any] = {"ansible_stats": 1}
    for _number in range(5000):
        result = {"a": [result]}
    part = module_output.without_effects(result)
    while part:
        part = part["a"][0]
    assert part == {}
