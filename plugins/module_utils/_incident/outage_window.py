# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Determine from an incident's record when the outage began, when it ended, and who ended it.

All functions are pure. Times are UTC (ISO 8601, milliseconds), so they can be compared as text.
_incident/record.py describes the record.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store

RECOVERED, BY_SYSTEMD, BY_HAND = "recovered", "recovered_by_systemd", "resolved_manually"

# The source name for signs from this collection's health probe.
PROBE = "health probe"
# The source name for the first failed probe of a run that did not open an incident. The service may have recovered
# after this probe. Therefore, a later sign of health counts even if its source is a log. However, after a sign of
# failure with the source PROBE, a sign of health from a log is ignored.
EARLIER_PROBE = "earlier health probe"
# Source names for the end of an outage that no probe observed.
PROCESS_LOG = "the log of the process that serves"
PROCESS_START = "start of the process that serves"
LATER_LOOK = "first health probe after the run had ended"
ESTIMATES = (PROCESS_LOG, PROCESS_START, LATER_LOOK)
_OWN = (PROBE, "connection")

# Tolerances in seconds: a process can begin this much earlier, or this much later, than its recorded start. A process
# can begin earlier, because the kernel counts in ticks. A process can begin later, because systemd first stops the old
# process and runs ExecStartPre=.
_EARLIER, _LATER = 1.0, 150.0
# Time in seconds between the takeover of a unit and the first check by the dead-man timer. This is the length of a
# lease (60 s), minus 2 s for differences between clocks.
_TIMER = 58.0
# If a process does not answer, it is considered to be starting for at most this many seconds.
_STARTING = 30.0


class Ending(NamedTuple):
    """How an outage ended: the outcome, the time, and the source of that time."""

    outcome: str
    at: str
    source: str

    @property
    def estimated(self) -> bool:
        """True if no probe observed the first healthy response."""
        return self.source in ESTIMATES


def opened(record: Mapping[str, Any]) -> str:
    """Return the time at which a run first found the service down.

    If the service was only degraded, return the time at which the incident was opened.
    """
    return str(record.get("down_at") or record["opened_at"])


def last_answer(signs: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return a list with the last sign of health from a health probe, or an empty list."""
    good = [dict(item) for item in signs if item["kind"] == "good" and item["source"] in _OWN]
    return sorted(good, key=lambda item: str(item["at"]))[-1:]


def start(record: Mapping[str, Any]) -> Dict[str, str]:
    """Return the earliest and the latest time at which the outage may have begun, each with its source.

    The earliest time is the last sign of health. The latest time is the first sign of failure after that. Signs of
    health after the first failure are ignored. The outage began with that failure, even if the service answered again
    before the incident was opened. Signs that appeared after the incident was opened are ignored. If only one time is
    needed, use the latest, because the service had certainly failed by then.

    If the runs found the service only degraded, the exit of an earlier process is not the beginning of the incident. In
    this case, signs of failure in the logs are ignored.
    """
    until = opened(record)
    signs = [item for item in [*record["signs"], *_exit_sign(record)] if item["at"] <= until]
    if _only_degraded(record):
        signs = [item for item in signs if item["kind"] == "good"]
    failed = _known_failure(signs, opened=until)
    detected = record.get("detected_at")
    if detected and detected <= until:
        signs.append({"at": detected, "kind": "bad", "source": f"detection: {record.get('detected_by') or 'unknown'}"})
    good = max(
        ((item["at"], item["source"]) for item in signs if item["kind"] == "good" and item["at"] <= failed),
        default=("", ""),
    )
    bad = sorted((item["at"], item["source"]) for item in signs if item["kind"] == "bad" and item["at"] >= good[0])
    latest = bad[0] if bad else (until, "incident opened")
    earliest = good if good[0] else latest
    return {"earliest": earliest[0], "earliest_source": earliest[1], "latest": latest[0], "source": latest[1]}


def _only_degraded(record: Mapping[str, Any]) -> bool:
    """Return True if no run found the service down. A run may have stopped the degraded service to repair it.

    The severity alone is not sufficient, because the record contains only the severity that the last run found. If the
    first severity is unknown, a run that started the service may have found it down.
    """
    if record["severity"] != incident_store.DEGRADED or record.get("down_at"):
        return False
    first = record.get("first_severity")
    started = record["starts"] or record["attempts"] or record.get("takeover")
    # If a probe fails later, for example after a rung, this does not show that the incident began with an outage.
    until = opened(record)
    probed = any(
        item["kind"] == "bad" and item["source"] in (*_OWN, EARLIER_PROBE) and item["at"] <= until
        for item in record["signs"]
    )
    return not probed and (first == incident_store.DEGRADED if first else not started)


def _exit_sign(record: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return the exit that a takeover recorded. This exit is a sign of failure that systemd no longer reports."""
    ended = (record.get("last_exit") or {}).get("at")
    return [{"at": str(ended), "kind": "bad", "source": "unit: main process ended"}] if ended else []


def _known_failure(signs: Sequence[Mapping[str, Any]], *, opened: str) -> str:
    """Return a time when the service was down: the time of this collection's first failed probe.

    If no probe failed, return the last sign of failure before the last successful probe. If no sign of failure is
    known, return the time of the last successful probe. If no probe ran, return the time when the incident was opened.
    """
    bad = [str(item["at"]) for item in signs if item["kind"] == "bad"]
    own_bad = [str(item["at"]) for item in signs if item["kind"] == "bad" and item["source"] in _OWN]
    own_good = [str(item["at"]) for item in signs if item["kind"] == "good" and item["source"] in _OWN]
    if own_bad:
        return min(own_bad)
    answered = max(own_good, default="")
    return max((at for at in bad if at <= answered), default=answered or opened)


def first_answer(
    *, first_failure_at: Optional[str], first_healthy_at: str, process_started_at: Optional[str], said_at: Optional[str]
) -> Dict[str, str]:
    """Return the time at which a service answered again after a restart by systemd, and the source of that time.

    If no probe failed, the service answered before the first probe, so the time is an estimate.
    """
    if not first_failure_at and process_started_at and process_started_at <= first_healthy_at:
        if said_at and process_started_at <= said_at <= first_healthy_at:
            return {"at": said_at, "source": PROCESS_LOG}
        return {"at": process_started_at, "source": PROCESS_START}
    return {"at": first_healthy_at, "source": PROBE}


def ending(
    record: Mapping[str, Any],
    *,
    seen_at: str,
    serving_since: Optional[str] = None,
    restarts: Optional[int] = None,
    said_at: Optional[str] = None,
) -> Ending:
    """Return how the outage ended, for an incident without an active run. seen_at: when the service was found healthy.

    serving_since: start time of the process that is serving now, or None if unknown. restarts: number of automatic
    restarts by systemd since the unit was last started manually (NRestarts), or None if unknown. said_at: when that
    process logged that it was serving, or None if unknown.

    The end is the earliest healthy response recorded after the last known failure. If there is no such response, the
    end is an estimate: said_at, or the serving process's start time. If neither time is known, or if the serving
    process was already running at the last failure, the end is seen_at.
    """
    if record["mitigated_at"]:
        return Ending(RECOVERED, record["mitigated_at"], record.get("mitigated_from") or PROBE)
    failed = _last_failure(record)
    outcome = _author(record, failed=failed, serving_since=serving_since, restarts=restarts)
    if record["severity"] == "degraded":
        # A degraded service answers every probe, so an earlier response does not show that the outage had ended.
        return Ending(outcome, seen_at, LATER_LOOK)
    proof = _first_answer(record, failed=failed, serving_since=serving_since)
    if proof:
        return Ending(outcome, proof, PROBE)
    if serving_since and said_at and max(serving_since, failed) <= said_at <= seen_at:
        return Ending(outcome, said_at, PROCESS_LOG)
    if serving_since and not _was_there(serving_since, failed) and serving_since <= seen_at:
        return Ending(outcome, min(max(serving_since, failed), seen_at), PROCESS_START)
    return Ending(outcome, seen_at, LATER_LOOK)


def _first_answer(record: Mapping[str, Any], *, failed: str, serving_since: Optional[str]) -> Optional[str]:
    """Return the time of the first healthy response that the current process may have sent, or None."""
    if not serving_since:
        return None
    answers = [item["at"] for item in record["signs"] if item["kind"] == "good" and item["source"] in _OWN]
    known = [at for at in answers if at > failed] + [at for at in [record["answered_at"]] if at]
    return min((at for at in known if at >= serving_since), default=None)


def _last_failure(record: Mapping[str, Any]) -> str:
    """Return the last recorded time at which the service did not answer."""
    signs = record["signs"]
    known: List[str] = [item["at"] for item in signs if item["kind"] == "bad"]
    good = [item["at"] for item in signs if item["kind"] == "good" and item["source"] in _OWN]
    # The time when the incident was opened counts as a failure, unless a probe received a healthy response after the
    # last sign of failure.
    if not (known and good and max(good) > max(known)):
        known.append(opened(record))
    for item in record["attempts"]:
        if item.get("held") is False:
            known.append(timestamps.iso(timestamps.epoch(item["started_at"]) + float(item.get("seconds") or 0)))
    return max(known)


def _author(record: Mapping[str, Any], *, failed: str, serving_since: Optional[str], restarts: Optional[int]) -> str:
    """Return who started the service: this collection (RECOVERED), systemd (BY_SYSTEMD) or a person (BY_HAND)."""
    if not serving_since:
        return BY_HAND
    answered = record["answered_at"]
    proved = bool(answered and serving_since <= answered)
    if not proved and _was_there(serving_since, failed):
        return BY_HAND  # the process was already running at the last failure, so no run started it
    if restarts:
        return BY_SYSTEMD
    if proved or any(_follows(serving_since, item["at"]) for item in record["starts"]):
        # If a process began after all attempts had failed, and systemd did not restart it, a person started it.
        by_hand = not proved and _after_every_attempt(record, serving_since)
        return BY_HAND if by_hand else RECOVERED
    fired = _timer_fired(record, failed=failed, serving_since=serving_since)
    return BY_SYSTEMD if fired else BY_HAND


def _timer_fired(record: Mapping[str, Any], *, failed: str, serving_since: str) -> bool:
    """Return True if the dead-man timer of a takeover may have started the process.

    The timer waits until the run's lease ends. A run ends the takeover when it starts the service, or at the end of the
    run.
    """
    taken = str((record.get("takeover") or {}).get("at") or "")
    # The timer makes its first check at the earliest time when the lease can expire. If a process began earlier, the
    # timer did not start it.
    first_look = timestamps.iso(timestamps.epoch(taken) + _TIMER) if taken else ""
    if not taken or serving_since < first_look or any(item["at"] >= taken for item in record["starts"]):
        return False
    return not record["outcome"] or serving_since <= failed


def _was_there(serving_since: str, failed: str) -> bool:
    """Return True if the process was running at the time of the failure and should have been ready by then."""
    return timestamps.epoch(failed) - timestamps.epoch(serving_since) > _STARTING


def _after_every_attempt(record: Mapping[str, Any], serving_since: str) -> bool:
    """Return True if all attempts have failed, and the process started after the last attempt ended.

    If a later run started the service and was then killed, the record contains the start but not the attempt.
    """
    attempts = record["attempts"]
    if not attempts or not all(item.get("held") is False for item in attempts):
        return False
    ended = max(timestamps.epoch(item["started_at"]) + float(item.get("seconds") or 0) for item in attempts)
    later = [item["at"] for item in record["starts"] if timestamps.epoch(item["at"]) > ended]
    return timestamps.epoch(serving_since) > ended + _EARLIER and not any(_follows(serving_since, at) for at in later)


def _follows(serving_since: str, started: str) -> bool:
    return -_EARLIER <= timestamps.epoch(serving_since) - timestamps.epoch(started) <= _LATER
