# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: invalid_role_settings
short_description: Return the roles whose settings are not known to be valid
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Validates the settings of several roles of this collection in one task, without including the roles.
  - The settings of a role are valid if the role's argument specification accepts them and if the role's variable
    C(_<role>_problems) is an empty list or is not defined.
  - If the settings of a role cannot be evaluated, they are not valid.
  - Returns no error messages, because they may quote a secret. To report the problems, include the roles that this
    lookup returns.
options:
  _terms:
    description: A role and an entry point of its argument specification, such as V(escalation.validate).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Report the problems if the settings of a role are invalid
  ansible.builtin.include_role:
    name: "itsm_nexus.runbook.{{ item | split('.') | first }}"
    tasks_from: validate
  loop: "{{ query('itsm_nexus.runbook.invalid_role_settings', 'escalation.validate', 'remediation.validate') }}"
"""

RETURN = r"""
_raw:
  description: The terms whose settings are not known to be valid, in the given order.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.lookup import LookupBase
from ansible.release import __version__ as ansible_version

_ROLES = Path(__file__).resolve().parents[2] / "roles"
# Since ansible-core 2.19, templates are evaluated only in values that are marked as trusted.
_TRUSTED: Dict[str, bool] = (
    {"trusted_as_template": True} if tuple(int(part) for part in ansible_version.split(".")[:2]) >= (2, 19) else {}
)


class LookupModule(LookupBase):  # type: ignore[misc]
    """Validates the settings of roles."""

    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[str]:
        """Return the terms whose settings are not known to be valid."""
        self.set_options(var_options=variables, direct=kwargs)
        before = self._templar.available_variables
        try:
            return [term for term in terms if not self._valid(term, variables or {})]
        finally:
            self._templar.available_variables = before

    def _valid(self, term: str, variables: Mapping[str, Any]) -> bool:
        role, _separator, entry = term.partition(".")
        try:
            known = {
                **self._read(role, "defaults"),
                **variables,
                **self._read(role, "vars"),
                "role_path": str(_ROLES / role),
            }
            self._templar.available_variables = known
            specification = self._read(role, "meta", "argument_specs")["argument_specs"][entry].get("options", {})
            given = {name: self._templar.template(known[name]) for name in specification if name in known}
            result = ArgumentSpecValidator(specification).validate(given, validate_role_argument_spec=True)
            problems = self._templar.template(known.get(f"_{role}_problems", []))
        # If a setting has the wrong type, a filter can raise any exception.
        except Exception:
            return False
        return not result.error_messages and problems == []

    def _read(self, role: str, folder: str, name: str = "main") -> Mapping[str, Any]:
        path = _ROLES / role / folder / f"{name}.yml"
        if not path.exists():
            return {}
        # `unsafe` means that the loader does not copy the data. The data is not changed here.
        read: Mapping[str, Any] = self._loader.load_from_file(str(path), unsafe=True, **_TRUSTED) or {}
        return read
