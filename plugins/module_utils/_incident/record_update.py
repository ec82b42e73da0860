# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validate updates to an incident's record, and apply them."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import outage_window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store


class Update(NamedTuple):
    """New values for a record. None or an empty list keeps the recorded value."""

    severity: Optional[str] = None
    detected_at: Optional[str] = None
    detected_by: Optional[str] = None
    signs: Sequence[Mapping[str, Any]] = ()
    # The causes, if the service is degraded (it answers, but has problems). They replace the recorded causes.
    problems: Sequence[str] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    cause: Optional[str] = None
    # The summary of `cause`, as translatable messages.
    cause_summary: Sequence[Mapping[str, Any]] = ()
    mitigated_at: Optional[str] = None
    mitigated_from: Optional[str] = None
    outcome: Optional[str] = None
    notified: Sequence[Mapping[str, Any]] = ()
    # Data about the process that is serving now: its start time, the number of restarts by systemd, and the time at
    # which it logged that it was serving. These values are used to find the end of the outage and are not recorded.
    serving_since: Optional[str] = None
    serving_restarts: Optional[int] = None
    said_at: Optional[str] = None


def apply(record: Dict[str, Any], update: Update, *, run: str) -> None:
    """Apply an update to the record. Duplicate signs and notifications are stored only once."""
    if not (record["severity"] or record["starts"] or record["attempts"]):
        record["first_severity"] = update.severity
    for name in ("severity", "cause", "mitigated_at", "outcome"):
        value = getattr(update, name)
        if value:
            record[name] = value
    if update.cause:
        # The recorded summary describes an earlier cause, so it must not be kept for this cause.
        record["cause_summary"] = [dict(each) for each in update.cause_summary]
    if update.problems:
        record["problems"] = sorted(set(update.problems))
    if update.mitigated_at:
        record["mitigated_from"] = update.mitigated_from or outage_window.PROBE
    # Only the first detection is recorded.
    for name in ("detected_at", "detected_by"):
        record[name] = record[name] or getattr(update, name) or None
    for name in ("signs", "notified"):
        for item in getattr(update, name):
            if dict(item) not in record[name]:
                record[name].append(dict(item))
    _add_attempts(record, update.attempts, run=run)


def _add_attempts(record: Dict[str, Any], attempts: Sequence[Mapping[str, Any]], *, run: str) -> None:
    """Add the attempts of a run to the record, or update an attempt that the record contains already."""
    for item in attempts:
        attempt = {
            **{"held": None, "halted": False, "fell": False, "reason": "", "seconds": None, "started": False},
            **_as_typed(item),
            "run": run,
        }
        known = _attempt(record, attempt["rung"], attempt["started_at"])
        if known is None:
            record["attempts"].append(attempt)
        else:
            known.update({**attempt, **{name: known[name] for name in ("run", "started") if name in known}})
    if attempts and record["attempts"][-1].get("held") is False:
        record["answered_at"] = None


def with_its_end(record: Mapping[str, Any], update: Update, *, seen_at: str) -> Update:
    """Return the update for a healthy service, with the end of the outage added. Existing values are not replaced."""
    ended = outage_window.ending(
        record,
        seen_at=update.mitigated_at or seen_at,
        serving_since=update.serving_since,
        restarts=update.serving_restarts,
        said_at=update.said_at,
    )
    known = record["outcome"] if record["outcome"] not in incident_store.UNFINISHED else None
    return update._replace(
        cause=update.cause or record["cause"] or _cause_of_exit(record),
        cause_summary=update.cause_summary if update.cause else record["cause_summary"],
        mitigated_at=ended.at,
        mitigated_from=ended.source,
        outcome=update.outcome or known or ended.outcome,
    )


def _as_typed(attempt: Mapping[str, Any]) -> Dict[str, Any]:
    """Convert attempt values to the expected types: ansible-core before 2.19 passes template results as text."""

    def truth(value: Any) -> Optional[bool]:
        return (
            value.lower() in ("true", "yes", "1") if isinstance(value, str) else None if value is None else bool(value)
        )

    def number(value: Any) -> Optional[float]:
        try:
            return float(value) if math.isfinite(float(value)) else None
        except (TypeError, ValueError):
            return None

    kinds: Dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("held", "halted", "fell", "serves", "restored"), truth),
        "seconds": number,
    }
    return {**attempt, **{name: kinds[name](attempt[name]) for name in kinds if name in attempt}}


def _attempt(record: Mapping[str, Any], rung: str, started_at: str) -> Optional[Dict[str, Any]]:
    same = [item for item in record["attempts"] if (item["rung"], item["started_at"]) == (rung, started_at)]
    return same[0] if same else None


def checked(update: Update) -> None:
    """Reject an update with values that would make the record unreadable. Raises IncidentError."""

    def instant(name: str, text: Any) -> None:
        try:
            timestamps.epoch(str(text))
        except ValueError:
            wrong = message("reason.record.not_instant", name=name, value=repr(text))
            raise incident_store.IncidentError(wrong) from None

    for name in ("detected_at", "mitigated_at", "serving_since", "said_at"):
        if getattr(update, name):
            instant(name, getattr(update, name))
    for kind, at, words in (
        ("signs", "at", ("kind", "source")),
        ("attempts", "started_at", ("rung",)),
        ("notified", "at", ("level", "contact", "channel")),
    ):
        for item in getattr(update, kind):
            instant(f"{kind}[].{at}", item.get(at))
            for name in words:
                if not isinstance(item.get(name), str):
                    wrong = message("reason.record.not_word", name=f"{kind}[].{name}", value=repr(item.get(name)))
                    raise incident_store.IncidentError(wrong)


def _cause_of_exit(record: Mapping[str, Any]) -> Optional[str]:
    """Return the cause that the service's last exit before a takeover suggests, or None.

    This cause is used if no run found a cause.
    """
    exited = record["last_exit"] or {}
    if exited.get("result") == "oom-kill":
        return "oom_kill"
    return "killed" if exited.get("code") in ("killed", "dumped") else None
