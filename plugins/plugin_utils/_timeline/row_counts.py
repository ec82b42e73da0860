# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The row counts of the database before and after an outage, and the statements about the service and its data."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import instants, statements
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.events import Event, first_value, results
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.service_state import last_look

# The start time of a process is calculated from the host's clock, so it differs slightly between probes.
_SAME_START = 2.0


def counts(told: Any) -> Dict[str, float]:
    """Return the row counts by table from a result. Values that are not numbers are omitted."""
    counted = told if isinstance(told, dict) else {}
    return {table: number for table, number in counted.items() if isinstance(number, (int, float))}


def data_verdict(verdict: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the verdict that states whether data was lost, or an empty mapping if there is none.

    If the service recovered without a run, the last verdict contains no statement about the data. In this case, return
    the verdict on an earlier run, because the statement in that verdict is still valid.
    """
    judged = _judged(outcomes)
    return verdict if not verdict or "rows_before" in verdict else judged[-1] if judged else {}


def fields(
    runs: Sequence[Sequence[Event]], *, verdict: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
) -> Dict[str, Any]:
    """Return the model.Incident fields about the rows, the data loss and the statements.

    verdict: the verdict on the last run, or empty. outcomes: the verdicts on all runs, oldest first.
    """
    judged = _judged(outcomes)
    events = [event for run in runs for event in run]
    triages = [*results(events, "triage_info"), *results(events, "sqlite_info")]
    counted = [counts(each["row_counts"]) for each in triages if each.get("row_counts")]
    of_data = data_verdict(verdict, outcomes)
    # If a verdict contains no row counts, the rows could not be counted. Do not use counts from other triage results
    # instead.
    substitute = [] if judged else counted[:1]
    rows_before = counts(first_value(*(each.get("rows_before") for each in outcomes), *substitute))
    rows_after = counts(of_data.get("rows_after")) or ({} if of_data or len(counted) < 2 else counted[-1])
    suspected = (
        of_data["data_loss"] == statements.SUSPECTED
        if of_data.get("data_loss")
        else any(each.get("data_loss_suspected") for each in triages)
    )
    own = counts(of_data.get("rows_seeded"))
    # A run that only closes the incident does not compare the rows.
    closed = bool(verdict) and "rows_before" not in verdict
    look = last_look(runs)
    seen = dataclasses.replace(
        look,
        restarted=closed and _is_another_process(runs),
        outcome=str(verdict.get("outcome") or look.outcome),
        rows_before=rows_before,
        rows_from=of_data.get("rows_from") or statements.FIRST_LOOK,
        rows_after={**rows_after, **{table: count for table, count in own.items() if not rows_before.get(table)}},
        suspected=suspected,
        accepted=_why(of_data) == statements.ACCEPTED,
        settled=_settled(runs, verdict),
        replaced=bool(of_data.get("rows_replaced")),
        # A loss in any run counts, because later runs see only the remaining rows.
        lost=any(each.get("data_loss") == statements.KNOWN or _why(each) == statements.ALREADY_LOST for each in judged),
        uncounted=any(_why(each) == statements.UNCOUNTED for each in judged),
    )
    said = statements.decide(seen)
    seeded = {**statements.rows_seeded(rows_before, seen.rows_after), **own}
    return {
        "data_loss": said["data_loss"].value,
        "rows_before": rows_before,
        "rows_from": seen.rows_from,
        "rows_after": {table: count for table, count in rows_after.items() if table not in seeded},
        "rows_seeded": seeded,
        "rows_seeded_removal": [str(each) for each in of_data.get("rows_seeded_removal") or []],
        "rows_replaced": seen.replaced,
        "rows_stale": seen.started_since or seen.restarted,
        "statements": _statements(said, verdict),
    }


def _statements(said: Mapping[str, statements.Statement], verdict: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the statements. said: the statements from the events. verdict: the verdict on the last run, or empty."""
    suspected = said["data_loss"].value == statements.SUSPECTED
    return {
        **{name: dataclasses.asdict(each) for name, each in said.items()},
        # The statements in the verdict replace those from the events, because the verdict is based on more data.
        **{name: each for name, each in (verdict.get("statements") or {}).items() if name != "data_loss"},
        **({"resolved": {"value": statements.NO, "why": ""}} if suspected else {}),
    }


def _judged(outcomes: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the verdicts that make a statement about the data."""
    return [each for each in outcomes if "rows_before" in each]


def _settled(runs: Sequence[Sequence[Event]], verdict: Mapping[str, Any]) -> str:
    """Return the end of the doubt about the data after the last statement about the data. See statements.Facts."""
    told = verdict.get("data_settled") or {}
    outcomes = [event for run in runs for event in run if event["kind"] == "outcome"]
    judged = [str(event["at"]) for event in outcomes if _judged([event["data"]])]
    return str(told.get("state") or "") if judged and str(told.get("at") or "") > judged[-1] else ""


def _is_another_process(runs: Sequence[Sequence[Event]]) -> bool:
    """Return True if the service was started after the last run that makes a statement about the data."""
    judging = [run for run in runs if _judged([event["data"] for event in run if event["kind"] == "outcome"])]
    before, now = (_process(run) for run in (judging[-1] if judging else (), runs[-1]))
    if before.get("pids") is None or not now.get("pids"):
        return False
    # A new process may have the same process ID, for example after a restart of the host or of a container. On
    # ansible-core 2.16, an ID may be text.
    if not {str(pid) for pid in before["pids"]} & {str(pid) for pid in now["pids"]}:
        return True
    begun = [str(process.get("started_at") or "") for process in (before, now)]
    return (instants.seconds_between(*sorted(begun)) or 0.0) > _SAME_START


def _process(run: Sequence[Event]) -> Mapping[str, Any]:
    """Return the service's process at the last probe of a run. The result is empty if it is unknown."""
    seen = [probe.get("process") or {} for probe in results(run, "health_probe")]
    return seen[-1] if seen else {}


def _why(outcome: Mapping[str, Any]) -> str:
    return statements.why_of_data_loss(outcome.get("statements"))
