# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import escalation


def _body(message: Dict[str, Any], shape: str) -> Dict[str, Any]:
    try:
        return escalation.body(message, shape)
    except KeyError as error:
        raise AnsibleFilterError(f"There is no body of the shape {shape!r}") from error


class FilterModule:
    """What role escalation asks of its rules, contacts and texts; each filter is documented beside this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by their names."""
        return {
            "escalation_body": _body,
            "escalation_facts": escalation.facts,
            "escalation_plan": escalation.plan,
            "escalation_problems": escalation.problems,
        }
