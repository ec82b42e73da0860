# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: invalid_settings
short_description: List the invalid settings of roles
version_added: 0.2.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Compares the variables of the host with the argument specifications of roles of this collection.
  - Use it if a step has failed and the roles were included with C(rolespec_validate=false), to save time.
  - A variable that is not defined is not compared, because its role has a default for it.
options:
  _terms:
    description: The names of the roles, without the name of the collection.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Report the invalid settings
  ansible.builtin.debug:
    msg: "{{ query('itsm_nexus.runbook.invalid_settings', 'triage', 'verification') }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each invalid setting. It names the variable, the value and the allowed values.
  type: list
  elements: str
"""

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

import yaml
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.lookup import LookupBase

# The words for a type: for one value, and for the members of a list.
_ALLOWED = {
    "bool": ("true or false", "true or false"),
    "dict": ("a dictionary", "dictionaries"),
    "float": ("a number", "numbers"),
    "int": ("a whole number", "whole numbers"),
    "list": ("a list", "lists"),
    "path": ("a path", "paths"),
    "str": ("a text", "texts"),
}
_SHOWN = 80
_ROLES = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "roles"))


class LookupModule(LookupBase):  # type: ignore[misc]
    """Validates variables against the argument specifications of roles."""

    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[str]:
        """Return a sentence for each invalid setting. Raises AnsibleLookupError if a role does not exist."""
        self.set_options(var_options=variables, direct=kwargs)
        return [problem for role in terms for problem in self._problems(_options(role), variables or {})]

    def _problems(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> List[str]:
        found = []
        for name, option in options.items():
            if name not in variables:
                continue
            try:
                value = self._templar.template(variables[name])
            except AnsibleError:
                found.append(f"{name} cannot be evaluated")
                continue
            spec = {key: given for key, given in option.items() if key != "description"}
            if ArgumentSpecValidator({name: spec}).validate({name: value}).error_messages:
                found.append(f"{name} is {str(value)[:_SHOWN]!r}, must be {_allowed(option)}")
        return found


def _allowed(option: Mapping[str, Any]) -> str:
    """Return the allowed values of an option in words."""
    if option.get("choices"):
        return f"one of {', '.join(str(choice) for choice in option['choices'])}"
    one, _several = _ALLOWED.get(option.get("type", "str"), ("of another type", ""))
    members = _ALLOWED.get(option.get("elements", ""))
    return f"{one} of {members[1]}" if members else one


def _options(role: str) -> Dict[str, Any]:
    path = os.path.join(_ROLES, role, "meta", "argument_specs.yml")
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(yaml.safe_load(stream)["argument_specs"]["main"].get("options") or {})
    except OSError as error:
        raise AnsibleLookupError(f"There is no role {role!r} with an argument specification: {error}") from error
