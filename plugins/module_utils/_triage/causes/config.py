# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes in the configuration: the inventory, the unit, the environment file and the program."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    from_dict,
    message,
    of,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ABOVE_THE_FIRST, RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages, mismatches
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import OF_MISFITS, PROOF
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# If systemd cannot run a program, it reports one of these exit codes. Each code identifies the step that failed. See
# systemd.exec(5).
_STEPS = {200: "CHDIR", 203: "EXEC", 209: "STDOUT", 216: "GROUP", 217: "USER", 226: "NAMESPACE"}

_STEP = re.compile(r"code=exited, status=(\d+)/[A-Z]")


def config_mismatch(facts: Facts) -> Optional[Finding]:
    """Report a configuration that does not match the host or the files that the service uses."""
    found = mismatches.mismatches_of(facts)
    if not found:
        return None
    return Finding(
        confidence=found[0].confidence,
        summary=message("finding.config_mismatch", what=found[0].what, mismatch=found[0].told),
        evidence=[says(item.what, item.told) for item in found],
        remedy=message("remedy.config_mismatch.disk" if found[0].disk else "remedy.config_mismatch"),
        prevention=message("prevention.config_mismatch"),
        blocks_start=any(item.serves for item in found),
        useless_rungs=RUNGS
        if any(item.serves or item.hinders for item in found)
        else [rung for rung in RUNGS if any(rung in item.useless for item in found)],
        details={
            "items": [{"what": item.what, "configured": item.configured, "effective": item.effective} for item in found]
        },
        explains=[cause for item in found for reach in item.explains for cause in OF_MISFITS[reach]],
    )


def environment_missing(facts: Facts) -> Optional[Finding]:
    """Report a required environment file that does not exist."""
    missing = [item["path"] for item in facts.start.environment_files if item.get("exists") is False]
    if not missing or not facts.unwell:
        return None
    path = missing[0]
    return Finding(
        confidence=0.96,
        summary=message("finding.environment_missing", path=path),
        evidence=[says(name, "No such file or directory") for name in missing]
        + _settings(facts, "nexus_environment_file")
        + facts.unit.ending(),
        remedy=message("remedy.environment_missing", path=path),
        prevention=message("prevention.environment_missing"),
        useless_rungs=RUNGS,
        details={"variable": "nexus_environment_file", "paths": missing},
    )


def unit_masked(facts: Facts) -> Optional[Finding]:
    """Report a masked unit."""
    unit = facts.unit
    if unit.load_state != "masked" or not facts.unwell:
        return None
    return Finding(
        confidence=0.97,
        summary=message("finding.unit_masked", unit=str(unit.name)),
        evidence=[says(unit.shown, "LoadState=masked"), *_settings(facts, "nexus_unit")],
        remedy=message("remedy.unit_masked", unit=str(unit.name)),
        prevention=message("prevention.unit_masked"),
        useless_rungs=RUNGS,
        details={"variable": "nexus_unit", "load_state": "masked"},
    )


def unit_invalid(facts: Facts) -> Optional[Finding]:
    """Report a unit that systemd cannot load."""
    unit = facts.unit
    state = unit.load_state
    if state not in ("bad-setting", "error") or not facts.unwell:
        return None
    said = f"LoadState={state} {unit.load_error or ''}".strip()
    return Finding(
        confidence=0.96,
        summary=message("finding.unit_invalid", unit=str(unit.name), state=str(state)),
        evidence=[says(unit.shown, said), *_settings(facts, "nexus_unit")],
        remedy=message("remedy.unit_invalid"),
        prevention=message("prevention.unit_invalid"),
        useless_rungs=RUNGS,
        details={"variable": "nexus_unit", "load_state": state},
    )


def _settings(facts: Facts, *names: str) -> List[Dict[str, str]]:
    """Return evidence of the problems that the preflight found with these variables."""
    return [says(item["variable"], of(item, "message")) for item in facts.settings if item["variable"] in names]


def exec_failed(facts: Facts) -> Optional[Finding]:
    """Report a unit whose program systemd cannot run."""
    unit, start = facts.unit, facts.start
    if unit.load_state not in (None, "loaded") or facts.service.manager != "systemd":
        return None
    faults, failures = _faults(facts), _step_failures(facts)
    code, status, ended = facts.process.last_exit
    if code == "exited" and status in _STEPS and not failures:
        failures = [(ended, status)]
    common: Dict[str, Any] = {
        "prevention": message("prevention.exec_failed"),
        "evidence": [
            *(says(message("evidence.source.host"), fault) for unused_status, fault in faults),
            *facts.unit.ending(),
            *_said(facts),
        ],
    }
    name = str(unit.name)
    if faults and facts.unwell:
        status, fault = faults[0]
        return Finding(
            confidence=0.96,
            summary=message("finding.exec_failed.now", unit=name, status=_step(status), reason=fault),
            remedy=message("remedy.exec_failed.fault"),
            useless_rungs=RUNGS,
            details={"status": status, "program": start.program, "reason": messages.english(fault)},
            **common,
        )
    if not facts.process.gone or not failures:
        return None
    status = failures[-1][1]
    if facts.process.changed_since(start.changed_at):
        return Finding(
            confidence=0.5,
            summary=message("finding.exec_failed.past", unit=name),
            remedy=message("remedy.start"),
            details={"status": status, "program": start.program, "reason": ""},
            past=True,
            **common,
        )
    again = [item for item in failures if item[1] == status]
    reason = message(f"reason.exec.{status}")
    return Finding(
        confidence=0.93,
        summary=message("finding.exec_failed.now", unit=name, status=_step(status), reason=reason),
        remedy=message("remedy.exec_failed.journal"),
        # A restart shows whether the unit still fails. The higher rungs do not change anything that systemd needs.
        useless_rungs=RUNGS if len(again) >= PROOF else ABOVE_THE_FIRST,
        details={"status": status, "program": start.program, "reason": messages.english(reason)},
        **common,
    )


def _step(status: int) -> str:
    return f"{status}/{_STEPS[status]}"


def _faults(facts: Facts) -> List[Tuple[int, Message]]:
    """Return the reasons why systemd would fail to start the unit now, as (exit status, reason)."""
    start = facts.start
    told = start.messages
    named = (
        (217, "user_fault", start.user_fault),
        (216, "group_fault", start.group_fault),
        (200, "folder_fault", start.folder_fault),
        (203, "program_fault", start.program_fault),
    )
    return [
        (status, from_dict(told[name]) if name in told else quoted(fault)) for status, name, fault in named if fault
    ]


def _step_failures(facts: Facts) -> List[Tuple[str, int]]:
    """Return (time, status) of the latest consecutive failures to run a program, oldest first."""
    journal = facts.journal
    ends = sorted([*facts.process.exits, *journal.control_exits], key=lambda item: str(item["at"]))
    found: List[Tuple[str, int]] = []
    for item in ends:
        told = _STEP.search(str(item["text"]))
        status = int(told.group(1)) if told else 0
        # Any other exit clears the list. An exit before the last successful request also clears the list.
        found = [*found, (str(item["at"]), status)] if status in _STEPS and item["at"] > facts.process.served_at else []
    return found


def _said(facts: Facts) -> List[Dict[str, str]]:
    return [says("journal", line) for line in facts.journal.lines if "Failed at step " in line][-1:]
