# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide whether a person may be asked to approve a rung.

No approval is requested for a rung that would not be tried.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import facts as recovery_facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import rungs, settings
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, joined, once


def reasons(facts: recovery_facts.Facts, rung: str, *, highest: Any) -> List[Reason]:
    """Return the reasons why a rung would not be tried. The list is empty if the rung may be tried.

    The ladder uses the same rules. highest: the value of outage_recover_highest_rung. If `highest` is empty, all rungs
    are allowed.
    """
    allowed = rung in settings.ladder(highest)
    not_allowed = [] if allowed else [Reason.of(message("reason.rung.highest", rung=rungs.name_of(str(highest))))]
    return once([*rungs.obstacles(facts), *rungs.useless(facts, rung), *not_allowed])


def of_triage(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the problem that prevents an approval of a rung, in the form of fail_settings (problems, messages).

    If the rung may be tried, or if rung is empty, both lists are empty. seen: rung, highest (see reasons), triage (the
    triage result), before and verified_before (the results that earlier steps of the workflow published).
    """
    rung = str(seen["rung"] or "")
    # Triage does not probe the service, so the severity is unknown. The rules for a rung do not use the severity.
    facts = recovery_facts.of_run({**seen, "detection": {"severity": ""}})
    why = reasons(facts, rung, highest=seen["highest"]) if rung else []
    if not why:
        return {"problems": [], "messages": []}
    told = message("reason.rung.cannot_help", rung=rungs.name_of(rung), why=list(joined(why).sentences))
    return {"problems": [catalogue.english(told)], "messages": [told.to_dict()]}
