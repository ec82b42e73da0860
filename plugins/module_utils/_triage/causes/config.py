# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes in the configuration: the inventory, the unit, its environment file, its program."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import mismatches
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import OF_MISFITS, PROOF
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# Why systemd could not run a program: exit codes of systemd.exec(5), the step that failed, and the reason in words.
_STEPS = {
    200: ("CHDIR", "its working directory cannot be entered"),
    203: ("EXEC", "its program cannot be run"),
    209: ("STDOUT", "its standard output cannot be opened"),
    216: ("GROUP", "there is no such group"),
    217: ("USER", "there is no such user"),
    226: ("NAMESPACE", "its view of the file system cannot be set up"),
}

_STEP = re.compile(r"code=exited, status=(\d+)/[A-Z]")


def config_mismatch(view: View) -> Optional[Finding]:
    """What is configured is not what is there, or not what the service uses."""
    found = mismatches.misfits(view)
    if not found:
        return None
    return Finding(
        confidence=found[0].confidence,
        summary=f"The configuration does not fit the host: {found[0].what}: {found[0].text}.",
        evidence=[says(item.what, item.text) for item in found],
        remedy="Correct the variables of this host, or the service's own configuration, whichever is wrong.",
        prevention="Keep the service's configuration and this inventory in one place, and change both together.",
        blocks_start=any(item.serves for item in found),
        useless_rungs=RUNGS
        if any(item.serves or item.hinders for item in found)
        else [rung for rung in RUNGS if any(rung in item.useless for item in found)],
        details={
            "items": [{"what": item.what, "configured": item.configured, "effective": item.effective} for item in found]
        },
        explains=[cause for item in found for reach in item.explains for cause in OF_MISFITS[reach]],
    )


def environment_missing(view: View) -> Optional[Finding]:
    """A file that the start reads its environment from does not exist."""
    missing = [
        item["path"] for item in view.part("start").get("environment_files") or () if item.get("exists") is False
    ]
    if not missing or not view.unwell:
        return None
    path = missing[0]
    return Finding(
        confidence=0.96,
        summary=f"The environment file {path} does not exist, and no start succeeds without it.",
        evidence=[says(name, "No such file or directory") for name in missing]
        + _settings(view, "nexus_environment_file")
        + view.unit_ending(),
        remedy=f"Restore {path} from a backup or the configuration management, for root only (0600), then start it.",
        prevention="Keep the environment file in a backup, and let one tool alone manage it.",
        useless_rungs=RUNGS,
        details={"variable": "nexus_environment_file", "paths": missing},
    )


def unit_masked(view: View) -> Optional[Finding]:
    """Somebody masked the unit."""
    unit = view.part("unit")
    if unit.get("load_state") != "masked" or not view.unwell:
        return None
    return Finding(
        confidence=0.97,
        summary=f"The unit {unit.get('name')} is masked: systemd refuses to start it.",
        evidence=[says(f"systemctl show {unit.get('name')}", "LoadState=masked"), *_settings(view, "nexus_unit")],
        remedy=f"Ask who masked it and why; if that is over, systemctl unmask {unit.get('name')} and start it.",
        prevention="Announce maintenance instead of masking the unit: a maintenance has an end.",
        useless_rungs=RUNGS,
        details={"variable": "nexus_unit", "load_state": "masked"},
    )


def unit_invalid(view: View) -> Optional[Finding]:
    """systemd cannot read the unit."""
    unit = view.part("unit")
    state = unit.get("load_state")
    if state not in ("bad-setting", "error") or not view.unwell:
        return None
    said = f"LoadState={state} {unit.get('load_error') or ''}".strip()
    return Finding(
        confidence=0.96,
        summary=f"systemd cannot load the unit {unit.get('name')} ({state}).",
        evidence=[says(f"systemctl show {unit.get('name')}", said), *_settings(view, "nexus_unit")],
        remedy="Run systemd-analyze verify on the unit, correct it, then systemctl daemon-reload.",
        prevention="Check a unit with systemd-analyze verify before it is put in place.",
        useless_rungs=RUNGS,
        details={"variable": "nexus_unit", "load_state": state},
    )


def _settings(view: View, *names: str) -> List[Dict[str, str]]:
    """Return as evidence what the preflight said of these variables."""
    return [says(item["variable"], item["message"]) for item in view.items("settings") if item["variable"] in names]


def exec_failed(view: View) -> Optional[Finding]:
    """Systemd cannot run the unit's program."""
    unit, start = view.part("unit"), view.part("start")
    if unit.get("load_state", "loaded") != "loaded" or view.part("service").get("manager") != "systemd":
        return None
    faults, failures = _faults(view), _step_failures(view)
    code, status, ended = view.last_exit
    if code == "exited" and status in _STEPS and not failures:
        failures = [(ended, status)]
    common: Dict[str, Any] = {
        "prevention": "Run systemd-analyze verify and a start of the unit after each change of Node or of the unit.",
        "evidence": [says("host", fault) for _status, fault in faults] + view.unit_ending() + _said(view),
    }
    name = unit.get("name")
    if faults and view.unwell:
        status, fault = faults[0]
        return Finding(
            confidence=0.96,
            summary=f"systemd cannot run the unit {name} ({status}/{_STEPS[status][0]}): {fault}.",
            remedy="Install the missing part, or correct the unit and run systemctl daemon-reload; then start it.",
            useless_rungs=RUNGS,
            details={"status": status, "program": start.get("program"), "reason": fault},
            **common,
        )
    if not view.gone or not failures:
        return None
    status = failures[-1][1]
    if view.changed_since(start.get("changed_at")):
        return Finding(
            confidence=0.5,
            summary=f"systemd could not run the unit {name}; the unit or what it needs was changed since.",
            remedy="Start the service.",
            details={"status": status, "program": start.get("program"), "reason": ""},
            past=True,
            **common,
        )
    again = [item for item in failures if item[1] == status]
    return Finding(
        confidence=0.93,
        summary=f"systemd cannot run the unit {name} ({status}/{_STEPS[status][0]}): {_STEPS[status][1]}.",
        remedy="Read the lines of the journal, correct the unit or the host, then start it.",
        # A restart shows if it still is so; more than that changes nothing that systemd needs.
        useless_rungs=RUNGS if len(again) >= PROOF else RUNGS[1:],
        details={"status": status, "program": start.get("program"), "reason": _STEPS[status][1]},
        **common,
    )


def _faults(view: View) -> List[Tuple[int, str]]:
    """Return what systemd would fail at now, as (exit status, sentence)."""
    start = view.part("start")
    named = (
        (217, start.get("user_fault"), ""),
        (216, start.get("group_fault"), ""),
        (200, start.get("folder_fault"), f"{start.get('folder')} "),
        (203, start.get("program_fault"), f"{start.get('program')} "),
    )
    return [(status, f"{subject}{fault}") for status, fault, subject in named if fault]


def _step_failures(view: View) -> List[Tuple[str, int]]:
    """Return (when, status) of the ends by which systemd said that it could not run something, oldest first."""
    journal = view.part("journal")
    ends = sorted([*view.exits, *(journal.get("control_exits") or ())], key=lambda item: str(item["at"]))
    found: List[Tuple[str, int]] = []
    for item in ends:
        told = _STEP.search(str(item["text"]))
        status = int(told.group(1)) if told else 0
        # Only those in a row up to now.
        found = [*found, (str(item["at"]), status)] if status in _STEPS and item["at"] > view.served_at else []
    return found


def _said(view: View) -> List[Dict[str, str]]:
    lines = view.part("journal").get("lines") or ()
    return [says("journal", line) for line in lines if "Failed at step " in line][-1:]
