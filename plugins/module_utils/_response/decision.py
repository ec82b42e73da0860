# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide whether a first response may start the service.

These functions only decide. They collect no facts and change nothing on the host.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, from_dict, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import FIRST_RESPONSE

# Causes for which it is safe to start the service. None of these causes has a remedy. A finding with any other cause
# may require a remedy or a person's decision before the service is started.
HARMLESS = ("killed", "unknown", "wal_pending", "wal_reset_bug")
# Facts that triage must collect before the service is started, because they can prevent the start. See
# triage_pass.
NEEDED = ("process", "environment", "database", "migrations", "ports", "start", "ownership", "memory", "log")
# States of a unit that is down and is not being started.
_DOWN = ("inactive", "failed")


def obstacle(result: Mapping[str, Any], *, record: Optional[Mapping[str, Any]]) -> Optional[Message]:
    """Return the reason why the service must not be started now, or None if it may be started.

    result: the triage result from before the start, including modules_complete. record: the record of the open
    incident.
    """
    return next(_obstacles(result, record or {}), None)


def _obstacles(result: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Message]:
    facts = result["facts"]
    if (facts.get("process") or {}).get("state") != "gone":
        yield message("reason.response.running")
    if not record.get("id") or record.get("attempts") or record.get("starts") or incident_store.unsettled(record):
        yield message("reason.response.incident")
    if any(facts["hold"][name] for name in ("held", "kept_by", "may_be_another", "replaced")):
        yield message("reason.response.held")
    yield from _of_unit(facts)
    yield from (
        message("reason.response.not_collected", part=name)
        for name, report in result["parts"].items()
        if not isinstance(report, float) and (name in NEEDED or name.startswith(("disk:", "paths:")))
    )
    if not facts["database"].get("conclusive") or not result["rows_counted"]:
        yield message("reason.response.unchecked")
    if result["modules_complete"] is not True:
        yield message("reason.response.modules")
    if result["data_loss_suspected"] or result["rows_missing"]:
        yield message("reason.response.rows")
    yield from (
        message("reason.response.finding", summary=from_dict(finding["messages"]["summary"]))
        for finding in result["findings"]
        if not _is_harmless(finding)
    )


def _of_unit(facts: Mapping[str, Any]) -> Iterator[Message]:
    """Yield a message if somebody may be starting the unit."""
    service, unit = facts["service"], facts.get("unit") or {}
    # If this run has taken over the unit, the facts show the unit as it was before the takeover.
    down = unit.get("active_state") in _DOWN or bool(unit.get("taken_over_at"))
    if service["manager"] == "systemd" and not (down and unit.get("load_state") == "loaded"):
        yield message("reason.response.unit", state=str(unit.get("active_state") or "unknown"))


def _is_harmless(finding: Mapping[str, Any]) -> bool:
    """Return True if a finding neither prevents the start of the service nor requires a remedy before the start."""
    harmless = finding["cause"] in HARMLESS and not finding["blocks_start"]
    return harmless and FIRST_RESPONSE not in finding["useless_rungs"]
