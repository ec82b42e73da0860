# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detect variables of this collection that a managed host sets through its facts.

ansible-core reads ansible_facts from the result of any module. With inject_facts_as_vars (the default), each fact
becomes a variable of the same name. This variable takes priority over the inventory. A host must not control the
variables that the controller uses to run a command or to send a token to a URL.
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional

_OURS = re.compile(r"_?(?:escalation|outage|postmortem)_")


def variables(task_vars: Optional[Mapping[str, Any]], *, injected: bool) -> List[str]:
    """Return the variables of this collection that a host's facts set. If facts are not injected, return []."""
    facts = (task_vars or {}).get("ansible_facts")
    if not injected or not isinstance(facts, Mapping):
        return []
    return sorted(name for name in map(str, facts) if _OURS.match(name))


def refusal(names: List[str]) -> str:
    """Return the error message, which lists the variables set by the host."""
    return f"the facts of the host set {', '.join(names[:3])}; set inject_facts_as_vars = false"
