# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Report the installed parts of the start guard, its state, and the recorded process exits."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import hold as unit_hold
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import service_ends, start_guard

_SHOWN = 10
_LARGEST = 1 << 20  # maximum size of a drop-in in bytes


class Parts(NamedTuple):
    """The parts of a unit's start guard. dropin: the path of its drop-in.

    installed: True if the unit has the drop-in or the configuration. The programs are ignored, because another unit may
    use them. guard: True if all parts of the start guard are installed. recorder: True if all parts of the restart
    recorder are installed.
    """

    dropin: str
    installed: bool
    guard: bool
    recorder: bool


def parts(unit: str) -> Parts:
    """Determine which parts of a unit's start guard are installed."""
    service = f"{start_guard.service_name(unit)}.service"
    dropin = f"{unit_hold.FOLDER}/{service}.d/{start_guard.DROPIN}"
    try:
        lines = atomic_files.read_plain(dropin, limit=_LARGEST).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        lines = []
    configured = start_guard.config(unit) is not None

    def works(option: str, program: str) -> bool:
        word = f"{start_guard.PROGRAMS}/{start_guard.RUN} {program[: -len('.py')]} "
        needed = (start_guard.RUN, start_guard.COMMON, program)
        there = all(os.path.isfile(f"{start_guard.PROGRAMS}/{name}") for name in needed)
        return configured and there and any(line.startswith(f"{option}=") and word in line for line in lines)

    return Parts(
        dropin=dropin,
        installed=configured or os.path.lexists(dropin),
        guard=works("ExecCondition", start_guard.GUARD),
        recorder=works("ExecStopPost", start_guard.RECORDER),
    )


def report(
    *, manager: str, unit: str, state_dir: str, window: float, run: commands.Runner = commands.run
) -> Dict[str, Any]:
    """Return the result of the start_guard_info module."""
    systemd = manager == "systemd"
    there = parts(unit) if systemd else Parts("", installed=False, guard=False, recorder=False)
    # If systemd does not call the guard, the guard's result does not apply to the next start.
    answer = start_guard.ask(unit, run=run) if there.guard else None
    refusals = [each for each in start_guard.refusals(state_dir) if systemd]
    found = service_ends.of_service({"manager": manager, "unit": unit}, state_dir=state_dir, window=window)
    ends = service_ends.public(found)
    allowed = None if answer is None else not answer.get("code")
    result: Dict[str, Any] = {
        "installed": there.installed,
        "allowed": allowed,
        "reason": (answer or {}).get("reason"),
        "milliseconds": (answer or {}).get("milliseconds"),
        "refusals": [_public(each) for each in refusals],
        "ends": ends,
    }
    return {**result, "text": _lines(unit, result, there, systemd=systemd)}


def _public(refusal: start_guard.Refusal) -> Dict[str, Any]:
    kept = ("incident", "first_at", "at", "times", "code", "reason", "evidence")
    return {name: getattr(refusal, name) for name in kept}


def _lines(unit: str, result: Mapping[str, Any], there: Parts, *, systemd: bool) -> List[str]:
    if not systemd:
        return ["The service is a plain process (nexus_manager is process). The start guard needs a systemd unit."]
    if not there.installed:
        return [f"The start guard of {unit} is not installed. To install it, add -e outage_guard_state=present."]
    if there.guard and there.recorder:
        lines = [f"The start guard of {unit} is installed and {_decision(result['allowed'], result['reason'])}."]
    else:
        lines = [
            f"The start guard of {unit} is only partly installed: its configuration, a program, or a line of"
            f" {there.dropin} is missing. To install it again, add -e outage_guard_state=present."
        ]
    lines += [
        f"Refused {each['times']} times since {each['first_at']}, incident {each['incident']}: {each['reason']}"
        for each in result["refusals"]
    ]
    ends = (result["ends"] or {}).get("ends") or []
    lines.append(f"Recorded exits: {len(ends)}, restarts by systemd: {(result['ends'] or {}).get('restarts', 0)}")
    return [*lines, *(f"  {each['at']} {each['how']}{_by(each['stopped_by'])}" for each in ends[-_SHOWN:])]


def _decision(allowed: Optional[bool], reason: Optional[str]) -> str:
    if allowed is None:
        return "does not answer"
    return "would allow a start" if allowed else f"would refuse a start: {reason}"


def _by(stopped_by: Optional[Mapping[str, Any]]) -> str:
    return f", requested by uid {stopped_by.get('uid')}" if stopped_by else ""
