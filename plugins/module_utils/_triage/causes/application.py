# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes in the application: dependencies, exceptions and syntax errors."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import (
    KEEP_MODULES,
    NO_REPAIR,
    RUNGS,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import (
    FALLS,
    LOOP_FALLS,
    PROOF,
    only_start,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

# Errors in connections to other servers. The next connection attempt may succeed.
_OF_PEERS = re.compile(r"\b(?:ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPIPE)\b")


def modules_broken(facts: Facts) -> Optional[Finding]:
    """Report dependencies that are missing or cannot be loaded."""
    if not facts.troubled:
        return None
    packaged, node = facts.dependencies, facts.node
    missing = [name for name in packaged.missing if name != "node_modules"]
    unloadable = list(packaged.unloadable)
    nothing_there = node.modules_exist is False and bool(node.dependencies)
    broken = bool(missing or unloadable or nothing_there)
    named, of_packages = facts.errors.modules_missed()
    words = facts.errors.signature("module_missing") if of_packages else []
    # A package that differs from the lock file is only a hint, because the service may still work with it.
    if not broken and not words and not packaged.invalid:
        return None
    repaired = packaged.ok is True and not broken
    evidence = [says("node_modules", message("evidence.absent"))] if nothing_there else []
    evidence += [says("node_modules", text) for text in (packaged.reasons or missing + unloadable)[:5]]
    # Facts take precedence over the log, because the log may contain lines from an earlier start.
    packages = missing + unloadable or sorted(named)
    reason = "missing" if missing or nothing_there else "unloadable" if unloadable else "invalid"
    if not broken and words:
        reason = "repaired" if repaired else "not loaded"
    if repaired:
        summary = message("finding.modules_broken.repaired")
    elif nothing_there:
        summary = message("finding.modules_broken.no_folder")
    else:
        shown = (packages or list(packaged.invalid))[:3]
        summary = message(
            f"finding.modules_broken.{reason.replace(' ', '_')}", packages=shown or message("reason.see_log")
        )
    if words:
        confidence = 0.97 if broken else 0.5 if repaired else 0.9
    else:
        confidence = 0.45 if not broken else 0.9 if facts.unit.exited else 0.7
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + words,
        remedy=message("remedy.start" if repaired else "remedy.modules_broken"),
        prevention=message("prevention.modules_broken"),
        useless_rungs=NO_REPAIR if broken or (words and not repaired) else (),
        details={"packages": packages, "reason": reason},
        explains=FALLS if words or facts.unit.exited else (),
        past=repaired,
    )


def unhandled_exception(facts: Facts) -> Optional[Finding]:
    """Report an unhandled exception that terminated the process, or an error that was logged before its exit."""
    if not facts.troubled:
        return None
    # If the process terminated for another reason, an exception that was only logged is not the cause.
    errors = [item for _source, item in syntax_errors(facts)]
    by_others = facts.process.ended_by_others
    found = [
        pair for pair in facts.errors.exceptions() if pair[1] not in errors and (pair[1]["fatal"] or not by_others)
    ]
    if errors and not found:
        return None
    word = facts.errors.last_word() if facts.process.gone and not found else None
    by_hand = facts.service.manager == "process" and facts.process.gone
    if not found and not (word and (facts.unit.exited or by_hand)):
        return None
    place: Mapping[str, Any] = {}
    useless = _useless_in_a_loop(facts)
    if found:
        # Use the most recent exception, because the cause of the last failure must be fixed first.
        source, latest = sorted(found, key=lambda pair: pair[1]["at"] or "")[-1]
        text, where = str(latest["message"]), location(latest)
        place = latest.get("place") or {}
        useless = _useless_against(facts, latest)
        summary = (
            message("finding.unhandled_exception.at", where=where, text=text[:200])
            if where
            else message("finding.unhandled_exception.somewhere", text=text[:200])
        )
        evidence = [says(source, "\n".join([*([where] if where else []), text, *latest["stack"][:4]]))]
        confidence = 0.88 if latest["fatal"] else 0.75 if facts.unit.exited else 0.65
    else:
        source, text = word or ("", "")
        summary = message("finding.unhandled_exception.error", text=text[:200])
        evidence = [says(source, text)]
        confidence = 0.7 if facts.unit.exited else 0.55
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=evidence + (facts.unit.ending() if facts.unit.exited else []),
        remedy=message("remedy.unhandled_exception"),
        prevention=message("prevention.unhandled_exception"),
        useless_rungs=useless,
        details={"falls": facts.process.falls, "exception": text, "file": place.get("file"), "line": place.get("line")},
    )


def _useless_against(facts: Facts, item: Mapping[str, Any]) -> Sequence[str]:
    """Return the rungs that cannot help with an unhandled exception.

    A clean start also rebuilds the dependencies and applies migrations, so it may help if the dependencies or the
    schema are the cause.
    """
    if not repeated(facts, item):
        return () if facts.process.changed_since(item.get("changed_at")) else _useless_in_a_loop(facts)
    sound = facts.dependencies.ok is True and facts.migrations.pending == []
    return RUNGS if sound and not in_dependency(item) else KEEP_MODULES


def _useless_in_a_loop(facts: Facts) -> Sequence[str]:
    """If the service keeps crashing, return the rungs that only start the service. Otherwise, return an empty tuple."""
    return only_start(facts) if facts.process.falls >= LOOP_FALLS else ()


def syntax_error(facts: Facts) -> Optional[Finding]:
    """Report an application file that Node cannot parse."""
    found = [pair for pair in syntax_errors(facts) if pair[1]["fatal"] or not facts.process.ended_by_others]
    if not found or not facts.troubled:
        return None
    source, latest = sorted(found, key=lambda pair: str(pair[1]["at"] or ""))[-1]
    where, text = location(latest), str(latest["message"])
    error = text[text.index("SyntaxError") :][:200]
    common: Dict[str, Any] = {
        "evidence": [says(source, "\n".join([where, text, *latest["stack"][:4]])), *facts.unit.ending()],
        "prevention": message("prevention.syntax_error"),
        "details": {
            "file": latest["place"]["file"],
            "line": latest["place"]["line"],
            "falls": facts.process.falls,
            "exception": text,
        },
    }
    # The result of Node's check takes precedence, because a restored file may have its old modification time again.
    parses, changed = latest.get("parses"), facts.process.changed_since(latest.get("changed_at"))
    if parses is True or (changed and parses is None):
        return Finding(
            confidence=0.5,
            summary=message("finding.syntax_error.past", where=where, error=error),
            remedy=message("remedy.start"),
            past=True,
            **common,
        )
    return Finding(
        confidence=0.96,
        summary=message("finding.syntax_error.now", where=where, error=error),
        remedy=message("remedy.syntax_error", where=where),
        useless_rungs=_useless(facts, latest, proved=latest.get("parses") is False),
        **common,
    )


def _useless(facts: Facts, item: Mapping[str, Any], *, proved: bool) -> Sequence[str]:
    if not proved and not repeated(facts, item):
        return ()
    return KEEP_MODULES if in_dependency(item) else RUNGS


def syntax_errors(facts: Facts) -> List[Tuple[str, Mapping[str, Any]]]:
    """Return (source, exception) for each syntax error in an application file."""
    return [
        pair
        for pair in facts.errors.exceptions()
        if pair[1].get("compiling") and "SyntaxError" in str(pair[1]["message"]) and location(pair[1])
    ]


def location(item: Mapping[str, Any]) -> str:
    """Return the position of an exception as file:line, or an empty string if the log does not contain the position."""
    found = item.get("place") or {}
    return f"{found['file']}:{found['line']}" if found.get("line") else str(found.get("file") or "")


def in_dependency(item: Mapping[str, Any]) -> bool:
    """Return True if the error is in an npm package. In this case, rebuilding the dependencies may help."""
    return "/node_modules/" in location(item)


def repeated(facts: Facts, item: Mapping[str, Any]) -> bool:
    """Return True if several consecutive starts failed with this error and the next start will certainly also fail."""
    text = "\n".join([str(item["message"]), *item["stack"]])
    return (
        facts.process.gone
        and int(item.get("times") or 0) >= PROOF
        and facts.process.failed_starts >= PROOF
        and not facts.process.changed_since(item.get("changed_at"))
        and not facts.process.changed_since(facts.start.changed_at)
        and not _OF_PEERS.search(text)
    )
