# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Derive the ranked causes of an outage from the triage facts.

Each cause has a rule (a function in the file for its subject) and a row in the table below. A rule receives the Facts
and returns a Finding or None. To add a cause, write its rule, add a row to the table, and add a test.

A rule reports only facts that are true now or were true within the window. On a healthy host, every rule returns None.
A rule marks a rung of the ladder as useless only if facts, not just log lines, show that the cause still exists.
Otherwise, evidence of a fault that is already fixed would delay the recovery.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes import (
    application,
    config,
    database,
    disk,
    memory,
    network,
    process,
    readiness,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import (
    DEGRADES,
    FALLS,
    OF_MISFITS,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# Minimum confidence (50 %) for a finding to be likely. A finding with less confidence is only a note and does not
# explain other findings.
_LIKELY = 0.5


class Cause(NamedTuple):
    """A row in the table: the rule, and the other causes that this cause can lead to.

    symptom: True if this cause can be the symptom of another cause. If it is a symptom and another cause explains its
    finding, the useless_rungs of the finding are ignored. errors: the patterns in log_patterns.SIGNATURES that identify
    the cause. A past cause explains an exception only if one of these patterns matches the exception.
    """

    rule: Callable[[Facts], Optional[Finding]]
    explains: Tuple[str, ...] = ()
    symptom: bool = False
    errors: Tuple[str, ...] = ()


CAUSES: Dict[str, Cause] = {
    "disk_full": Cause(
        disk.disk_full,
        ("db_locked", "tls_expired", "migration_pending", "hung", *DEGRADES, *FALLS),
        errors=("disk_full",),
    ),
    "disk_read_only": Cause(disk.disk_read_only, ("db_locked", "migration_pending", "hung", *DEGRADES, *FALLS)),
    "oom_kill": Cause(memory.oom_kill, ("heap_oom", *FALLS)),
    "heap_oom": Cause(memory.heap_oom, FALLS),
    "config_mismatch": Cause(
        config.config_mismatch, tuple(dict.fromkeys(cause for row in OF_MISFITS.values() for cause in row))
    ),
    "unit_masked": Cause(config.unit_masked, ("stopped", "crash_loop", "wal_pending")),
    "unit_invalid": Cause(config.unit_invalid, ("stopped", "crash_loop", "wal_pending")),
    "environment_missing": Cause(
        config.environment_missing, ("config_mismatch", "crash_loop", "stopped", "wal_pending")
    ),
    "exec_failed": Cause(config.exec_failed, ("config_mismatch", "crash_loop", "stopped", "wal_pending")),
    "syntax_error": Cause(application.syntax_error, ("unhandled_exception", "crash_loop", "stopped", "wal_pending")),
    "database_owner": Cause(database.database_owner, ("db_locked", "migration_pending", "hung", *FALLS)),
    "db_corrupt": Cause(database.db_corrupt, ("start_held", "migration_pending", "hung", *DEGRADES, *FALLS)),
    "db_unchecked": Cause(database.db_unchecked),
    "start_held": Cause(process.start_held, ("stopped",)),
    "port_conflict": Cause(network.port_conflict, ("hung", *FALLS), errors=("port_taken",)),
    "modules_broken": Cause(application.modules_broken, FALLS, errors=("module_missing",)),
    "db_locked": Cause(database.db_locked, ("hung", "migration_pending", *DEGRADES, *FALLS), errors=("db_locked",)),
    "migration_pending": Cause(database.migration_pending, FALLS, errors=("migration_locked", "migration_missing")),
    "tls_expired": Cause(network.tls_expired, FALLS),
    "too_many_files": Cause(process.too_many_files, ("hung", *DEGRADES, *FALLS), errors=("too_many_files",)),
    "hung": Cause(process.hung, ("wal_pending",)),
    "unhandled_exception": Cause(
        application.unhandled_exception, ("crash_loop", "stopped", "killed", "wal_pending"), symptom=True
    ),
    "killed": Cause(process.killed, ("crash_loop", "wal_pending")),
    "crash_loop": Cause(process.crash_loop, ("stopped", "wal_pending"), symptom=True),
    "stopped": Cause(process.stopped, ("wal_pending",)),
    "unknown": Cause(process.unknown),
    "disk_filling": Cause(readiness.only_reported, DEGRADES),
    "tls_expiring": Cause(readiness.only_reported),
    "wal_growing": Cause(readiness.only_reported, ("slow",)),
    "memory_pressure": Cause(readiness.only_reported, DEGRADES),
    "frequent_restarts": Cause(readiness.only_reported),
    "clock_jump": Cause(readiness.only_reported, ("login_refused",)),
    "login_refused": Cause(readiness.only_reported),
    "slow": Cause(readiness.only_reported, ("not_ready",)),
    "not_ready": Cause(readiness.only_reported),
    "wal_pending": Cause(database.wal_pending),
    "wal_reset_bug": Cause(database.wal_reset_bug),
}


def evaluate(facts: Mapping[str, Any]) -> List[Finding]:
    """Return the findings, most likely cause first. A healthy host has no findings."""
    known = Facts.of(facts)
    found = {}
    for name, cause in CAUSES.items():
        finding = cause.rule(known) or readiness.reported(known, name)
        if finding is not None:
            found[name] = finding
    if any(finding.confidence >= _LIKELY for finding in found.values()):
        found.pop("unknown", None)
    return _ranked(found)


def _ranked(found: Mapping[str, Finding]) -> List[Finding]:
    """Return the findings: current causes, then past causes, then notes, each group in order of confidence.

    A finding is listed after the finding that explains it. The finding "unknown" is listed before notes, because a note
    does not explain the outage.
    """
    explained_by = {name: [other for other in found if _explains(other, name, found=found)] for name in found}
    ranked: List[Finding] = []
    waiting = sorted(
        found,
        key=lambda name: (
            found[name].confidence < _LIKELY and name != "unknown",
            found[name].past,
            -found[name].confidence,
        ),
    )
    while waiting:
        name = next(name for name in waiting if not any(other in waiting for other in explained_by[name]))
        waiting.remove(name)
        by = [item.cause for item in ranked if item.cause in explained_by[name]]
        finding = found[name]._replace(cause=name, explained_by=by[0] if by else None)
        if by and CAUSES[name].symptom:
            finding = finding._replace(useless_rungs=())
        ranked.append(finding)
    return ranked


def _explains(name: str, other: str, *, found: Mapping[str, Finding]) -> bool:
    """Return True if the cause `name` explains the cause `other`. found: all findings by cause."""
    finding, only_by = found[name], found[other].only_by
    if other not in CAUSES[name].explains or finding.confidence < _LIKELY:
        return False
    if finding.past and not _still_explains(name, other, found=found):
        return False
    return (finding.explains is None or other in finding.explains) and (only_by is None or name in only_by)


def _still_explains(name: str, other: str, *, found: Mapping[str, Finding]) -> bool:
    """Return True if the past cause `name` still explains `other`.

    If there is an unhandled exception, it must match a pattern of `name`.
    """
    error = found.get("unhandled_exception")
    if other == "killed":
        # If systemd killed the process after a timeout, the past cause may be the reason for the timeout.
        return found[other].only_by is None
    if other not in ("unhandled_exception", "crash_loop", "wal_pending"):
        return False
    if other == "wal_pending" or error is None:
        return True
    text = "\n".join([str(error.details.get("exception")), *(item["text"] for item in error.evidence)])
    return any(log_patterns.SIGNATURES[word].search(text) for word in CAUSES[name].errors)
