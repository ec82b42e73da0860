# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the signs that show when the outage began: when the service was last healthy, and when it first failed."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts

# If the unit has been active for this many seconds, the service is assumed to have served requests.
_SERVES_AFTER = 30.0
# If a process has run for more than this many seconds, it is assumed to have served requests. If a process has served
# requests, exits before it started are not part of the current outage.
_YOUNG = 90.0
# Maximum time in seconds between a process's fatal error and its exit.
_LAST_WORDS = 5.0


def signs(collected: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return the times at which the service was healthy or failed, oldest first.

    collected: the facts from each part of the triage.
    """
    facts = Facts.of(collected)
    found: List[Dict[str, str]] = []

    def sign(at: Optional[str], kind: str, source: str) -> None:
        if at:
            found.append({"at": at, "kind": kind, "source": source})

    unit = facts.unit
    if unit.active_state not in (None, "active", "reloading"):
        sign(unit.exited_at or unit.active_exit_at, "bad", f"unit {unit.name}: main process ended")
    ends = _ends(facts)
    # Return the first exit. If the unit was started after this exit, also return the last exit. The service may have
    # served requests between the two exits.
    started = [item["at"] for item in facts.journal.starts]
    again = ends[-1:] if any(ends[0]["at"] <= at <= ends[-1]["at"] for at in started if ends) else []
    for item in [*ends[:1], *again]:
        sign(item["at"], "bad", f"journal: {item['text'][:120]}")
    since = timestamps.iso(timestamps.epoch(ends[0]["at"]) - _LAST_WORDS) if ends else ""
    for name, log in (("log", facts.log), ("journal", facts.journal)):
        sign(log.last_success_at, "good", f"{name}: last request answered well")
        # Node writes an exception without a time. The preceding line may be a successful request, so the time of that
        # line is not the time of the exception. Only the latest possible time of the exception is certain. This latest
        # time may be the file's change time, which can be a few milliseconds behind the clock.
        fatal = [item for item in log.exceptions if item["fatal"] and str(item["logged_by"] or "") >= since]
        for item in fatal[:1]:
            sign(max(item["logged_by"], log.last_success_at or ""), "bad", f"{name}: {item['message'][:120]}")
    return sorted(found, key=lambda item: item["at"])


def _ends(facts: Facts) -> List[Mapping[str, Any]]:
    """Return the unit's exits and stops that are part of this outage, oldest first.

    The counter NRestarts may include restarts from weeks ago, and stopping the unit resets it to 0. Therefore, this
    counter is not used. Two exits are part of one outage if the service ran only for seconds between them. If the unit
    has been active for minutes, the outage did not begin with an exit.
    """
    unit, journal, until = facts.unit, facts.journal, facts.window.until
    if unit.active_state is None:
        return []
    gap = _SERVES_AFTER + (systemd.timespan(unit.restart_delay) or 0.0)
    ends = sorted([*journal.exits, *journal.stops], key=lambda item: str(item["at"]))
    starts = [str(item["at"]) for item in journal.starts]
    if unit.active_state in ("active", "reloading"):
        ends = [item for item in ends if unit.started_at and item["at"] <= unit.started_at]
        if not ends or not until or timestamps.epoch(until) - timestamps.epoch(unit.started_at) > _YOUNG:
            return []
    first = len(ends)
    while first > 0 and (first == len(ends) or _belong(ends[first - 1], ends[first], starts=starts, gap=gap)):
        first -= 1
    return ends[first:]


def _belong(earlier: Mapping[str, Any], later: Mapping[str, Any], *, starts: Sequence[str], gap: float) -> bool:
    """Return True if two exits are part of one outage.

    Between two such exits, the service ran too briefly to serve requests.
    """
    between = [at for at in starts if earlier["at"] <= at <= later["at"]]
    if between:
        return timestamps.epoch(later["at"]) - timestamps.epoch(max(between)) <= _SERVES_AFTER
    return timestamps.epoch(later["at"]) - timestamps.epoch(earlier["at"]) <= gap
