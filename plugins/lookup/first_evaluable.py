# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: first_evaluable
short_description: Return the first variable that can be evaluated
version_added: 1.0.0
author:
  - The itsm_nexus.runbook contributors !UNKNOWN
description:
  - Takes a list of variable names, and returns the value of the first variable that can be evaluated.
  - If a variable cannot be evaluated, for example because a filter fails, the lookup tries the next variable. The
    lookup does not show the error, because the error may contain a secret.
options:
  _terms:
    description: Names of the variables, in order of preference.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Fall back to an empty list of contacts if the contacts in the inventory cannot be evaluated
  ansible.builtin.set_fact:
    my_contacts: "{{ lookup('itsm_nexus.runbook.first_evaluable', 'contacts_of_the_inventory', 'no_contacts') }}"
"""

RETURN = r"""
_raw:
  description: The value of the first variable that can be evaluated.
  type: list
  elements: raw
"""

from typing import Any, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

_NO_VALUE = object()


class LookupModule(LookupBase):  # type: ignore[misc]
    """Evaluates variables in order until one of them can be evaluated."""

    def run(self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> List[Any]:
        """Return the value of the first variable that can be evaluated.

        Raises AnsibleLookupError if no variable can be evaluated.
        """
        self.set_options(var_options=variables, direct=kwargs)
        values = (self._value(name, variables or {}) for name in terms)
        found = next((value for value in values if value is not _NO_VALUE), _NO_VALUE)
        if found is _NO_VALUE:
            raise AnsibleLookupError(f"None of these variables can be evaluated: {', '.join(map(str, terms))}")
        return [found]

    def _value(self, name: str, variables: Mapping[str, Any]) -> Any:
        try:
            return self._templar.template(variables[name])
        # If a setting has the wrong type, a filter can raise any exception.
        except Exception:
            return _NO_VALUE
