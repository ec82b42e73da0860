# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that concern the connection between the service and its users: a port that is in use, or the certificate."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ABOVE_THE_FIRST, RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import FALLS, process_details
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.certificate import Key, Validity
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# A process that is younger than this many seconds may still be starting.
_START_SECONDS = 20.0

# Problems with the certificate or its private key for which a message exists.
_TLS_FAULTS = ("missing", "unreadable", "key_missing", "key_unreadable", "key_mismatch")
_OUTDATED = ("expired", "not_yet_valid", "served_expired")


def port_conflict(facts: Facts) -> Optional[Finding]:
    """Report another process that listens on the service's port."""
    unit = facts.unit
    evidence, strangers, stale = [], [], []
    for listener in facts.ports.listeners:
        where = message("evidence.source.listener", address=str(listener["address"]), port=listener["port"])
        ours = [owner for owner in listener["owners"] if owner["ours"]]
        # If the service also has the socket open, the other process has passed the socket to the service. Such a
        # shared socket is not a conflict.
        for owner in ours or listener["owners"]:
            who = {"pid": owner["pid"], "user": str(owner["user"]), "command": str(owner["command"])}
            if not owner["ours"]:
                strangers.append((listener["port"], owner))
                evidence.append(says(where, message("evidence.listener", **who)))
            elif unit.active_state in ("activating", "failed") and owner["pid"] != unit.main_pid:
                stale.append((listener["port"], owner))
                evidence.append(says(where, message("evidence.listener.outside_unit", **who)))
        if not listener["owners"] and facts.process.gone:
            strangers.append((listener["port"], {}))
            evidence.append(says(where, message("evidence.listener.hidden")))
    words = facts.errors.signature("port_taken") if facts.troubled else []
    if not strangers and not stale and not (words and not facts.process.processes):
        return None
    if strangers:
        port, owner = strangers[0]
        who = {"pid": owner["pid"], "user": str(owner["user"]), "program": _program(owner)} if owner else {}
        summary = message("finding.port_conflict.other" if who else "finding.port_conflict.hidden", port=port, **who)
        remedy = message("remedy.port_conflict.other")
    elif stale:
        port, owner = stale[0]
        summary = message("finding.port_conflict.older", port=port, pid=owner["pid"])
        remedy = message("remedy.port_conflict.older")
    else:
        summary = message("finding.port_conflict.past")
        remedy = message("remedy.port_conflict.past")
    return Finding(
        confidence=0.95 if strangers or stale else 0.5,
        summary=summary,
        evidence=evidence + words,
        remedy=remedy,
        prevention=message("prevention.port_conflict.older" if stale else "prevention.port_conflict.other"),
        # Every rung stops older processes of the service before it starts the service.
        useless_rungs=RUNGS if strangers else (),
        details={"processes": [process_details(owner, port=port) for port, owner in strangers + stale]},
        # If an older process of the service hangs with the port open, this also explains why the service does not
        # answer. Another program on the port does not explain a hang.
        explains=(*FALLS, "hung") if stale else FALLS,
        past=not strangers and not stale,
    )


def _program(process: Mapping[str, Any]) -> str:
    """Return only the name of a process's program. The command line may be too long for the summary."""
    words = str(process.get("command") or "").split()
    return posixpath.basename(process.get("exe") or (words[0] if words else "")) or "unknown program"


def tls_expired(facts: Facts) -> Optional[Finding]:
    """Report a certificate that is not currently valid, or that prevents the service from offering HTTPS."""
    file, served, ports = facts.certificate, facts.ports.served_certificate, facts.ports
    key, fault = Key.of(file.key), file.fault()
    outdated = [item for item in (file, served) if item.outdated]
    serving = not facts.process.gone and not ports.silent and ports.unserved in ([], ["https"])
    # A process that has just started may open the HTTPS port later. If the certificate or the key is faulty, the
    # process cannot open it.
    fallen_back = serving and bool(ports.unserved) and (bool(fault) or facts.process.age > _START_SECONDS)
    words = facts.errors.signature("tls") if facts.down else []
    if not (outdated or fallen_back or words or (fault and facts.process.gone)):
        return None
    reason = fault or "not_served"
    if outdated and not fault:
        reason = "expired" if served.expired else "not_yet_valid"
        reason = "served_expired" if file.expired is False else reason
    # True if the certificate and its private key were checked and are valid. If so, the service only needs to reload
    # both files.
    well = not fault and file.readable_by_service is True and key.matches is True
    read_again = well or reason == "served_expired"
    of_files = fault in _TLS_FAULTS
    if reason in _OUTDATED:
        summary = _outdated_summary(outdated, reason=reason)
    else:
        variant = "would_not" if facts.process.gone else "does_not"
        summary = message(f"finding.tls_expired.{variant}", reason=_tls_reason(facts, fault=fault, well=well))
    if serving:
        confidence = 0.95 if fault or outdated else 0.6 if well else 0.8
    elif words:
        # If the certificate and its private key are valid, the log lines may be about another server's certificate.
        confidence = 0.9 if fault else 0.45 if well else 0.6
    else:
        # The fault did not cause the outage, but the service would not offer HTTPS after its next start.
        confidence = 0.45
    useless: Sequence[str] = ()
    if serving and read_again:
        useless = ABOVE_THE_FIRST  # a restart fixes this cause, so higher rungs are useless
    elif serving or (fault and words and facts.process.gone):
        # A restart would interrupt HTTP, which still works, and would not restore HTTPS.
        useless = RUNGS
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=[*_tls_evidence(facts, fault=fault, fallen_back=fallen_back), *words],
        remedy=message(f"remedy.tls_expired.{'restart' if read_again else 'files' if of_files else 'renew'}"),
        prevention=message("prevention.tls_expired.files" if of_files else "prevention.tls_expired"),
        useless_rungs=useless,
        details={
            "reason": reason,
            "path": file.path,
            "key_path": key.path,
            "not_after": (outdated or [file])[0].not_after,
        },
        explains=FALLS if words and not (well and not serving) else (),
    )


def _outdated_summary(outdated: Sequence[Validity], *, reason: str) -> Message:
    """Return the summary for certificates (on disk or served) that are not currently valid."""
    late = any(item.expired for item in outdated)
    when = outdated[0].not_after if late else outdated[0].not_before
    newer = "_newer" if reason == "served_expired" else ""
    return message(f"finding.tls_expired.{'expired' if late else 'early'}{newer}", at=str(when))


def _tls_reason(facts: Facts, *, fault: str, well: bool) -> Message:
    """Return the reason why HTTPS is not offered. well: True if the certificate and its key are known to be valid."""
    file, key = facts.certificate, Key.of(facts.certificate.key)
    if fault not in _TLS_FAULTS:
        return message("reason.tls.not_loaded" if well else "reason.tls.unusable")
    path = key.path if fault.startswith("key_") else file.path
    return message(f"reason.tls.{fault}", path=path or "?")


def _tls_evidence(facts: Facts, *, fault: str, fallen_back: bool) -> List[Dict[str, str]]:
    """Return the evidence about the certificate and its private key. fallen_back: True if only HTTP is offered."""
    file, key = facts.certificate, Key.of(facts.certificate.key)
    evidence = [
        says(
            source,
            message(
                "evidence.valid",
                subject=str(item.subject),
                begin=str(item.not_before),
                end=str(item.not_after),
            ),
        )
        for source, item in (
            (file.path or message("evidence.source.certificate"), file),
            (message("evidence.source.served_certificate"), facts.ports.served_certificate),
        )
        if item.outdated
    ]
    if fallen_back:
        evidence.append(says(message("evidence.source.sockets"), message("evidence.only_http")))
    if fault in _TLS_FAULTS:
        path, error = (key.path, key.error) if fault.startswith("key_") else (file.path, file.error)
        told = _tls_reason(facts, fault=fault, well=False)
        evidence.append(says(path or message("evidence.source.certificate"), error or told))
    return evidence
