# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables that a managed host has set by calling them facts.

ansible-core takes C(ansible_facts) out of the result of any module, and with C(inject_facts_as_vars) (its default) each
fact is a variable of its name, above the inventory. What we do on the controller with variables, run a command, send a
token to a URL, is not the host's to say.
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional

_OURS = re.compile(r"_?(?:escalation|outage|postmortem)_")


def variables(task_vars: Optional[Mapping[str, Any]], *, injected: bool) -> List[str]:
    """Return the names of our variables among the facts of a host; none where facts are not C(injected)."""
    facts = (task_vars or {}).get("ansible_facts")
    if not injected or not isinstance(facts, Mapping):
        return []
    return sorted(name for name in map(str, facts) if _OURS.match(name))


def refusal(names: List[str]) -> str:
    """Return why nothing is done with them."""
    return f"the host itself has set {', '.join(names[:3])} among its facts; set inject_facts_as_vars = false"
