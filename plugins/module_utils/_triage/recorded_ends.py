# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ends that the restart recorder saved, as evidence for causes."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import service_ends
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

SOURCE = "restart recorder"
_LAST = 3
End = Mapping[str, Any]


def _by_person(end: End) -> bool:
    return bool(end["stopped_by"])


def _by_signal(end: End) -> bool:
    return bool(end["signal"]) and not _by_person(end) and end["how"] != service_ends.OOM_KILL


def _failed(end: End) -> bool:
    return bool(end["result"] != "success")


# The ends that are evidence for a cause.
_EVIDENCE: Dict[str, Callable[[End], bool]] = {
    "crash_loop": _failed,
    "heap_oom": lambda end: end["signal"] == "SIGABRT",
    "host_restarted": lambda end: end["how"] == service_ends.HOST_DOWN,
    "killed": _by_signal,
    "modules_broken": _failed,
    "oom_kill": lambda end: end["how"] == service_ends.OOM_KILL,
    "stopped": _by_person,
    "unhandled_exception": _failed,
    "unknown": _failed,
}


def with_evidence(finding: Finding, ends: Optional[Mapping[str, Any]]) -> Finding:
    """Return the finding with the recorded ends that are evidence for its cause."""
    fits = _EVIDENCE.get(finding.cause)
    found = [end for end in (ends or {}).get("ends") or () if fits is not None and fits(end)]
    if not found:
        return finding
    told = [says(SOURCE, _described(end)) for end in found[-_LAST:]]
    restarts = says(SOURCE, counted(ends or {}))
    return finding._replace(evidence=[*finding.evidence, *told, restarts])


def _described(end: End) -> str:
    text = f"{end['at']} the process ended: {end['how']}"
    by = end["stopped_by"]
    if not by:
        return text
    login = f", login uid {by.get('login_uid')}" if by.get("login_uid") is not None else ""
    return f"{text}, requested by uid {by.get('uid')}{login}: {by.get('command')}"


def counted(ends: Mapping[str, Any]) -> str:
    """Return the number of restarts by systemd, for example "restarts by systemd in 3600 s: 3, after SIGSEGV: 2"."""
    after = [f"after {how}: {number}" for how, number in sorted(ends["after"].items(), key=lambda item: -item[1])]
    return ", ".join([f"restarts by systemd in {ends['window']:.0f} s: {ends['restarts']}", *after])
