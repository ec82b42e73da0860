# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find evidence for causes in the process exits that the restart recorder saved."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import service_ends
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

SOURCE = message("evidence.source.recorder")
_LAST = 3
End = Mapping[str, Any]


def _by_person(end: End) -> bool:
    return bool(end["stopped_by"])


def _by_signal(end: End) -> bool:
    return bool(end["signal"]) and not _by_person(end) and end["how"] != service_ends.OOM_KILL


def _failed(end: End) -> bool:
    return bool(end["result"] != "success")


# Process exits that are evidence for a cause.
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
    """Add the recorded process exits that are evidence for the finding's cause, and return the finding."""
    fits = _EVIDENCE.get(finding.cause)
    found = [end for end in (ends or {}).get("ends") or () if fits is not None and fits(end)]
    if not found:
        return finding
    told = [says(SOURCE, _described(end)) for end in found[-_LAST:]]
    restarts = says(SOURCE, counted(ends or {}))
    return finding._replace(evidence=[*finding.evidence, *told, restarts])


def _described(end: End) -> Message:
    known = {"at": str(end["at"]), "how": str(end["how"])}
    by = end["stopped_by"]
    if not by:
        return message("evidence.ended", **known)
    known.update(uid=str(by.get("uid")), command=str(by.get("command")))
    if by.get("login_uid") is None:
        return message("evidence.ended.by", **known)
    return message("evidence.ended.by_login", login_uid=str(by["login_uid"]), **known)


def counted(ends: Mapping[str, Any]) -> Message:
    """Return the restarts by systemd as text, for example "restarts by systemd in 3600 s: 3, SIGSEGV: 2"."""
    after = [f"{how}: {number}" for how, number in sorted(ends["after"].items(), key=lambda item: -item[1])]
    values = {"seconds": f"{ends['window']:.0f}", "number": ends["restarts"]}
    if not after:
        return message("evidence.restarts", **values)
    return message("evidence.restarts.after", after=", ".join(after), **values)
