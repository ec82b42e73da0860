# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The times and durations in an incident: start, detection, mitigation and end of the outage."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import allowlist
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import (
    Event,
    first_value,
    last_value,
    module_of,
    opens,
    results,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.model import Durations, Times

# If the clocks differ by at most this number of seconds, the order of the events is clear.
_CLOCKS_AGREE = 2.0


def times(verdict: Mapping[str, Any], events: Sequence[Event]) -> Times:
    """Return the times in an incident.

    verdict: the verdict on the last run, or empty. events: all events of the incident.
    """
    records = list(results(events, *allowlist.OF_INCIDENT))
    probes = list(results(events, "health_probe"))
    failing = [probe for probe in probes if not probe.get("healthy")]
    opening = next((event["at"] for event in events if opens(event)), None)
    started = first_value(
        verdict.get("outage_started_at"),
        last_value(records, "outage_started_at"),
        failing[0].get("first_failure_at") if failing else None,
    )
    begun = dict(last_value(records, "outage_started") or {})
    # If there was no sign that the service worked, `earliest` in the record is the first sign of failure. Drop this
    # value, because last_good_at must be a sign that the service worked.
    if begun.get("earliest") == begun.get("latest") and begun.get("earliest_source") in (None, begun.get("source")):
        begun["earliest"] = None
    first_good = None
    if failing:
        later = probes[probes.index(failing[-1]) + 1 :]
        first_good = first_value(*(probe.get("first_healthy_at") for probe in later))
    estimated = first_value(verdict.get("mitigated_estimated"), last_value(records, "mitigated_estimated"))
    return Times(
        last_good_at=first_value(begun.get("earliest"), failing[0].get("last_success_at") if failing else None),
        started_at=started,
        started_from=begun.get("source"),
        detected_at=first_value(verdict.get("detected_at"), last_value(records, "detected_at"), opening),
        mitigated_at=first_value(verdict.get("mitigated_at"), last_value(records, "mitigated_at"), first_good),
        mitigated_from=first_value(verdict.get("mitigated_from"), last_value(records, "mitigated_from")),
        mitigated_estimated=bool(estimated),
        resolved_at=first_value(verdict.get("resolved_at"), last_value(records, "closed_at")),
        clocks_apart=_clocks_apart(events),
    )


def durations(verdict: Mapping[str, Any], events: Sequence[Event], instants: Times) -> Durations:
    """Return the durations in an incident. instants: the result of times()."""
    records = list(results(events, *allowlist.OF_INCIDENT))
    mitigate = seconds_between(instants.started_at, instants.mitigated_at)
    return Durations(
        outage=first_value(verdict.get("outage_seconds"), last_value(records, "outage_seconds"), mitigate),
        detect=seconds_between(instants.started_at, instants.detected_at),
        mitigate=mitigate,
        resolve=seconds_between(instants.started_at, instants.resolved_at),
        uncertain=seconds_between(instants.last_good_at, instants.started_at),
    )


def seconds_between(earlier: Optional[str], later: Optional[str]) -> Optional[float]:
    """Return the seconds between two times, or None if a time is unknown or the times are in the wrong order."""
    if not earlier or not later:
        return None
    try:
        seconds = timestamps.epoch(later) - timestamps.epoch(earlier)
    except ValueError:
        return None
    return round(seconds, 3) if seconds >= 0 else None


def _clocks_apart(events: Sequence[Event]) -> Optional[float]:
    """Return by how many seconds the host's clock is ahead of the controller's, or None for 2 s or less.

    The time of a probe (host clock) must be between the start and the end of its task (controller clock).
    """
    apart = 0.0
    for event in events:
        if event["kind"] != "task" or module_of(event) != "health_probe" or not event.get("start"):
            continue
        for name in ("first_failure_at", "first_healthy_at"):
            seen = (event.get("data") or {}).get(name)
            if not seen:
                continue
            try:
                instant, begun, ended = map(timestamps.epoch, (seen, str(event["start"]), str(event["at"])))
            except ValueError:
                continue
            found = instant - ended if instant > ended else min(0.0, instant - begun)
            apart = found if abs(found) > abs(apart) else apart
    return round(apart, 1) if abs(apart) > _CLOCKS_AGREE else None
