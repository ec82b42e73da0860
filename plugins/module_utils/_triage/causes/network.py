# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes between the service and its users: a port that is taken, a certificate."""

from __future__ import annotations

import posixpath
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import FALLS, process_details
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# A process this young may still be starting.
_START_SECONDS = 20.0

_TLS_REASONS = {
    "missing": "there is no certificate at its path",
    "unreadable": "the service cannot read its certificate",
    "key_missing": "there is no key at its path",
    "key_unreadable": "the service cannot read its key",
    "key_mismatch": "the key does not belong to the certificate",
    "expired": "the certificate has expired",
    "not_yet_valid": "the certificate is not valid yet",
}


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
        who = f"process {owner['pid']} of user {owner['user']} ({_program(owner)})" if owner else "another process"
        summary = f"Port {port} is taken by {who}, which is not the service."
        remedy = "Find out whose it is and stop it, or give it another port. It is not stopped unless policy names it."
    elif stale:
        port, owner = stale[0]
        summary = f"Port {port} is held by an older process of the service (pid {owner['pid']}) beside its unit."
        remedy = "Stop the older process, then start the unit."
    else:
        summary = "The service could not start because its port was taken; it is free now."
        remedy = "Start the service, and find out who took the port."
    return Finding(
        confidence=0.95 if strangers or stale else 0.5,
        summary=summary,
        evidence=evidence + words,
        remedy=remedy,
        prevention="Start the service through its unit only, never by hand beside it."
        if stale
        else "Reserve the port for the service, and give the other program one of its own.",
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
    # What is wrong on disk will not get better while it starts.
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
    if fault in _TLS_REASONS and fault not in ("expired", "not_yet_valid"):
        of = key if fault.startswith("key_") else file
        evidence.append(says(str(of.get("path") or "certificate"), of.get("error") or _TLS_REASONS[fault]))
    reason = fault or "not_served"
    if outdated and not fault:
        newer = file.get("expired") is False
        reason = "served_expired" if newer else "expired" if served.get("expired") else "not_yet_valid"
    # Whether all of it was looked at and is well: then the service has only to read it again.
    well = not fault and file.get("readable_by_service") is True and key.get("matches") is True
    if reason in ("expired", "not_yet_valid", "served_expired"):
        late = any(facts.get("expired") for facts in outdated)
        when = outdated[0].get("not_after" if late else "not_before")
        told = "The TLS certificate " + (f"expired on {when}" if late else f"is not valid before {when}")
        summary = (
            f"{told}; a newer one is there, which the service has not read."
            if reason == "served_expired"
            else f"{told}."
        )
    else:
        why = "it has not read its certificate and key" if well else "it could not use its certificate or key"
        told = "would not" if view.gone else "does not"
        summary = f"The service {told} offer HTTPS: {_TLS_REASONS.get(fault, why)}."
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
        remedy="Restart the service, so that it reads the certificate and key that are there."
        if well or reason == "served_expired"
        else "Renew the certificate, see that the service's user can read it and its key, and restart.",
        prevention="Let the certificate renew itself, restart the service after it, and watch the days that are left.",
        useless_rungs=useless,
        details={
            "reason": reason,
            "path": file.get("path"),
            "key_path": key.get("path"),
            "not_after": (outdated or [file])[0].get("not_after"),
        },
        explains=FALLS if words and not (well and not serving) else (),
    )
