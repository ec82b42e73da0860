# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes between the service and its users: a port that is taken, a certificate."""

from __future__ import annotations

import posixpath
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import FALLS, process_details
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# A process this young may still be starting.
_START_SECONDS = 20.0

# Faults of a certificate or key that have a message.
_TLS_FAULTS = (
    *("missing", "unreadable", "key_missing", "key_unreadable", "key_mismatch"),
    *("expired", "not_yet_valid"),
)


def port_conflict(view: View) -> Optional[Finding]:
    """Somebody else listens on the service's port."""
    unit = view.part("unit")
    evidence, strangers, stale = [], [], []
    for listener in view.items("ports"):
        where = f"{listener['address']} port {listener['port']}"
        ours = [owner for owner in listener["owners"] if owner["ours"]]
        # A socket that the service has too was handed to it.
        for owner in ours or listener["owners"]:
            text = f"pid {owner['pid']}, user {owner['user']}: {owner['command']}"
            if not owner["ours"]:
                strangers.append((listener["port"], owner))
                evidence.append(says(where, text))
            elif unit.get("active_state") in ("activating", "failed") and owner["pid"] != unit.get("main_pid"):
                stale.append((listener["port"], owner))
                evidence.append(says(where, f"{text} (of this service, started beside the unit)"))
        if not listener["owners"] and view.gone:
            strangers.append((listener["port"], {}))
            evidence.append(says(where, "listened on by a process this user may not see"))
    words = view.signature("port_taken") if view.troubled else []
    if not strangers and not stale and not (words and not view.processes):
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
        # An older process of its own is ended by every rung before it starts the service.
        useless_rungs=RUNGS if strangers else (),
        details={"processes": [process_details(owner, port=port) for port, owner in strangers + stale]},
        # One of its own that hangs holds the port as well; a stranger has nothing to do with how the service answers.
        explains=(*FALLS, "hung") if stale else FALLS,
        past=not strangers and not stale,
    )


def _program(process: Mapping[str, Any]) -> str:
    """Return the name of its program: the whole command line is evidence, and too long for a sentence."""
    words = str(process.get("command") or "").split()
    return posixpath.basename(process.get("exe") or (words[0] if words else "")) or "unknown program"


def tls_expired(view: View) -> Optional[Finding]:
    """The certificate has run out, or is why HTTPS is not offered."""
    file = view.part("certificate")
    key = file.get("key") or {}
    served = view.part("answer").get("https", {}).get("certificate") or {}
    fault = view.tls_fault()
    outdated = [facts for facts in (file, served) if facts.get("expired") or facts.get("not_yet_valid")]
    serving = not view.gone and not view.silent and view.unserved in ([], ["https"])
    # An error in the files does not go away while the service starts.
    fallen_back = serving and bool(view.unserved) and (bool(fault) or view.age > _START_SECONDS)
    words = view.signature("tls") if view.down else []
    if not (outdated or fallen_back or words or (fault and view.gone)):
        return None
    evidence = [
        says(source, f"{facts.get('subject')}: valid from {facts.get('not_before')} to {facts.get('not_after')}")
        for source, facts in ((str(file.get("path", "certificate")), file), ("served on the HTTPS port", served))
        if facts in outdated
    ]
    if fallen_back:
        evidence.append(says("listening sockets", "HTTP is served, nobody listens on the HTTPS port"))
    if fault in _TLS_FAULTS and fault not in ("expired", "not_yet_valid"):
        of = key if fault.startswith("key_") else file
        evidence.append(
            says(
                str(of.get("path") or "certificate"),
                of.get("error") or messages.english(message(f"reason.tls.{fault}")),
            )
        )
    reason = fault or "not_served"
    if outdated and not fault:
        reason = "expired" if served.get("expired") else "not_yet_valid"
        reason = "served_expired" if file.get("expired") is False else reason
    # Whether all of it was looked at and is well: then the service has only to read it again.
    well = not fault and file.get("readable_by_service") is True and key.get("matches") is True
    if reason in ("expired", "not_yet_valid", "served_expired"):
        late = any(facts.get("expired") for facts in outdated)
        when = outdated[0].get("not_after" if late else "not_before")
        newer = "_newer" if reason == "served_expired" else ""
        summary = message(f"finding.tls_expired.{'expired' if late else 'early'}{newer}", at=str(when))
    else:
        why = fault if fault in _TLS_FAULTS else "not_loaded" if well else "unusable"
        summary = message(
            "finding.tls_expired.would_not" if view.gone else "finding.tls_expired.does_not",
            reason=message(f"reason.tls.{why}"),
        )
    if serving:
        confidence = 0.95 if fault or outdated else 0.6 if well else 0.8
    elif words:
        # Where all is well here, it may have been another one's certificate that it complained of.
        confidence = 0.9 if fault else 0.45 if well else 0.6
    else:
        # Not why it is down, but what would be missed once it is up.
        confidence = 0.45
    useless: Sequence[str] = ()
    if serving and (well or reason == "served_expired"):
        useless = RUNGS[1:]  # which do no more for it than a restart
    elif serving or (fault and words and view.gone):
        # A restart would take away the HTTP that is still served, and bring back no HTTPS.
        useless = RUNGS
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + words,
        remedy=message(
            "remedy.tls_expired.restart" if well or reason == "served_expired" else "remedy.tls_expired.renew"
        ),
        prevention=message("prevention.tls_expired"),
        useless_rungs=useless,
        details={
            "reason": reason,
            "path": file.get("path"),
            "key_path": key.get("path"),
            "not_after": (outdated or [file])[0].get("not_after"),
        },
        explains=FALLS if words and not (well and not serving) else (),
    )
