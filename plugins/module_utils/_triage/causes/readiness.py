# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes of a degraded service. Before the triage, the readiness checks of the health probe report these causes."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import end_of_lock
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

_SURE = 0.9
# Confidence of a finding that may be a symptom. Another finding may be the cause of the symptom.
_SYMPTOM = 0.6


class _Advice(NamedTuple):
    remedy: Message
    prevention: Message
    confidence: float = _SURE


_ADVICE: Mapping[str, _Advice] = {
    "db_corrupt": _Advice(message("remedy.db_corrupt.in_use"), message("prevention.db_corrupt")),
    "db_locked": _Advice(message("remedy.db_locked.wait"), message("prevention.db_locked")),
    "disk_full": _Advice(message("remedy.disk_filling"), message("prevention.disk_full")),
    "disk_filling": _Advice(message("remedy.disk_filling"), message("prevention.disk_full")),
    "tls_expired": _Advice(message("remedy.tls_expired.renew"), message("prevention.tls_expired")),
    "tls_expiring": _Advice(message("remedy.tls_expired.renew"), message("prevention.tls_expired")),
    "too_many_files": _Advice(message("remedy.too_many_files"), message("prevention.too_many_files")),
    "wal_growing": _Advice(message("remedy.wal_growing"), message("prevention.wal_growing")),
    "memory_pressure": _Advice(message("remedy.memory_pressure"), message("prevention.memory_pressure")),
    "frequent_restarts": _Advice(message("remedy.frequent_restarts"), message("prevention.crash_loop")),
    "clock_jump": _Advice(message("remedy.clock_jump"), message("prevention.clock_jump")),
    "login_refused": _Advice(message("remedy.login_refused"), message("prevention.login_refused")),
    "not_ready": _Advice(message("remedy.not_ready"), message("prevention.not_ready"), _SYMPTOM),
    "slow": _Advice(message("remedy.slow"), message("prevention.slow"), _SYMPTOM),
}


def reported(facts: Facts, cause: str) -> Optional[Finding]:
    """Return the finding for a problem that the health probe reported under this cause, or None."""
    problems = [each for each in facts.readiness if each.get("cause") == cause]
    advice = _ADVICE.get(cause)
    if not problems or advice is None:
        return None
    return Finding(
        confidence=advice.confidence,
        summary=of(problems[0], "summary"),
        evidence=[says(str(each.get("source")), of(each, "summary")) for each in problems],
        remedy=_remedy_of_lock(of(problems[0], "summary")) if cause == "db_locked" else advice.remedy,
        prevention=advice.prevention,
        # The service must not be started with a database that may be damaged.
        blocks_start=cause == "db_corrupt",
        # The lists are empty, so a remedy neither stops a process nor frees space.
        details={"holders": [], "mounts": []},
    )


def _remedy_of_lock(summary: Message) -> Message:
    if summary.id == "finding.db_locked.by_service":
        return message("remedy.db_locked.by_service")
    return end_of_lock(summary.values if summary.id == "finding.db_locked.blocks_all" else {}, restart=False)


def only_reported(_facts: Facts) -> Optional[Finding]:
    """Return None, because the triage itself does not look for this cause. See reported()."""
    return None
