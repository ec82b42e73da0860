# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the start guard and the recorded ends, for a person."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import service_ends, start_guard

_SHOWN = 10


def report(
    *, manager: str, unit: str, state_dir: str, window: float, run: commands.Runner = commands.run
) -> Dict[str, Any]:
    """Return the result of the start_guard_info module."""
    systemd = manager == "systemd"
    installed = systemd and start_guard.config(unit) is not None
    answer = start_guard.ask(unit, run=run) if installed else None
    refusals = [each for each in start_guard.refusals(state_dir) if systemd]
    found = service_ends.of_service({"manager": manager, "unit": unit}, state_dir=state_dir, window=window)
    ends = service_ends.public(found)
    allowed = None if answer is None else not answer.get("code")
    result: Dict[str, Any] = {
        "installed": installed,
        "allowed": allowed,
        "reason": (answer or {}).get("reason"),
        "milliseconds": (answer or {}).get("milliseconds"),
        "refusals": [_public(each) for each in refusals],
        "ends": ends,
    }
    return {**result, "text": _lines(unit, result, systemd=systemd)}


def _public(refusal: start_guard.Refusal) -> Dict[str, Any]:
    kept = ("incident", "first_at", "at", "times", "code", "reason", "evidence")
    return {name: getattr(refusal, name) for name in kept}


def _lines(unit: str, result: Mapping[str, Any], *, systemd: bool) -> List[str]:
    if not systemd:
        return ["The service is a plain process (nexus_manager is process). The start guard needs a systemd unit."]
    if not result["installed"]:
        return [f"The start guard of {unit} is not installed. To install it, add -e outage_guard_state=present."]
    lines = [f"The start guard of {unit} is installed and {_decision(result['allowed'], result['reason'])}."]
    lines += [
        f"Refused {each['times']} times since {each['first_at']}, incident {each['incident']}: {each['reason']}"
        for each in result["refusals"]
    ]
    ends = (result["ends"] or {}).get("ends") or []
    lines.append(f"Recorded ends: {len(ends)}, restarts by systemd: {(result['ends'] or {}).get('restarts', 0)}")
    return [*lines, *(f"  {each['at']} {each['how']}{_by(each['stopped_by'])}" for each in ends[-_SHOWN:])]


def _decision(allowed: Optional[bool], reason: Optional[str]) -> str:
    if allowed is None:
        return "does not answer"
    return "would allow a start" if allowed else f"would refuse a start: {reason}"


def _by(stopped_by: Optional[Mapping[str, Any]]) -> str:
    return f", requested by uid {stopped_by.get('uid')}" if stopped_by else ""
