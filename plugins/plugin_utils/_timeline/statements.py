# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statements that may be made about a service and its data, for screen, documents, notifications and artifacts.

Each statement is based on a check. A check counts only if no later event can have made the statement false
(docs/statements.md). If no check counts, the value of the statement is UNKNOWN.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

YES, NO, UNKNOWN = "yes", "no", "unknown"
# Values of the data_loss statement.
NONE, SUSPECTED, KNOWN = "none", "suspected", "known"

# Possible values of each statement.
VALUES: Mapping[str, Tuple[str, ...]] = {
    "healthy": (YES, NO, UNKNOWN),
    "still_down": (YES, NO, UNKNOWN),
    "resolved": (YES, NO, UNKNOWN),
    "login_checked": (YES, NO, UNKNOWN),
    "data_loss": (NONE, SUSPECTED, KNOWN, UNKNOWN),
    "nothing_started": (YES, NO, UNKNOWN),
    "nothing_changed": (YES, NO, UNKNOWN),
}
# Reason for SUSPECTED: rows were already lost in a database recovery, and a further loss is suspected.
ALREADY_LOST = "already_lost"
# Reason for SUSPECTED: a person has accepted the damage that suggests a loss.
ACCEPTED = "accepted"
# A later check found the database intact and no row missing. SOUND and ACCEPTED are also states in an incident's
# record.
SOUND = "sound"
# Reasons for UNKNOWN in the data_loss statement.
(
    UNCOUNTED,
    NOT_COUNTED,
    NOT_BEFORE,
    NOT_AFTER,
    STARTED_SINCE,
    FEWER_SINCE,
    WRITTEN_SINCE,
    NOT_COMPARED,
    RESTARTED_SINCE,
) = (
    "uncounted",
    "not_counted",
    "not_before",
    "not_after",
    "started_since",
    "fewer_since",
    "written_since",
    "not_compared",
    "restarted_since",
)

# The source of the row counts before the outage: the first triage in the incident, or the last verified run.
FIRST_LOOK, LAST_GOOD = "first_look", "last_good"
DEGRADED = "degraded"
_BACK = ("recovered", "recovered_by_systemd", "resolved_manually")
_LOGIN = {"checked": YES, "failed": NO}

Rows = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Facts:
    """The results of checks. If a check did not run, its value is None or an empty mapping."""

    outcome: str = ""
    rows_before: Rows = dataclasses.field(default_factory=dict)
    rows_from: str = FIRST_LOOK
    rows_after: Rows = dataclasses.field(default_factory=dict)
    # True if the service was started or the database was replaced after rows_after was counted.
    started_since: bool = False
    # True if the service was started after an earlier run compared the rows, and no later run has compared them.
    restarted: bool = False
    suspected: bool = False
    # True if a person has accepted the damage that suggests a loss.
    accepted: bool = False
    # How the doubt about the data ended after the rows were compared: SOUND, ACCEPTED or empty.
    settled: str = ""
    # True if rows_after was counted in a new database that replaced the earlier one.
    replaced: bool = False
    # True if a database recovery in this incident reported that rows were lost.
    lost: bool = False
    # True if a database recovery in this incident could not determine whether rows were lost.
    uncounted: bool = False
    # True if the service answered the last probe, even if the login failed. Only probes after the last start or stop of
    # the service count.
    answers: Optional[bool] = None
    # True if the run has stopped the service and not started it again.
    stopped: bool = False
    # True if a run in this incident started the service.
    started: Optional[bool] = None
    # True if the last check found a process of the service.
    running: Optional[bool] = None
    # True if the run has made a change on the host.
    changed: Optional[bool] = None
    # Login state, as reported by the verification role.
    login: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Statement:
    """A statement with a value from VALUES.

    why: the reason for the value UNKNOWN, if several reasons are possible. For SUSPECTED, `why` is ALREADY_LOST,
    ACCEPTED or empty. For all other values, `why` is empty.
    """

    value: str
    why: str = ""

    @property
    def allowed(self) -> bool:
        """True if the statement is allowed."""
        return self.value != UNKNOWN


def decide(facts: Facts) -> Dict[str, Statement]:
    """Return all the statements in VALUES."""
    data = data_loss(facts)
    down = True if facts.stopped else None if facts.answers is None else not facts.answers
    healthy = None if down is None else not down and facts.login != "failed" and facts.outcome != DEGRADED
    return {
        "healthy": _said(healthy),
        "still_down": _said(down),
        "resolved": _said(_resolved(facts, healthy=healthy, data=data)),
        "login_checked": Statement(_LOGIN.get(facts.login or "", UNKNOWN), ""),
        "data_loss": data,
        "nothing_started": _said(_nothing_started(facts)),
        "nothing_changed": _said(None if facts.changed is None else not facts.changed),
    }


def _said(truth: Optional[bool]) -> Statement:
    return Statement(UNKNOWN if truth is None else YES if truth else NO)


def _resolved(facts: Facts, *, healthy: Optional[bool], data: Statement) -> Optional[bool]:
    if facts.outcome not in _BACK or data.value == SUSPECTED:
        return False
    return healthy


def _nothing_started(facts: Facts) -> Optional[bool]:
    """Return True if no run has started the service and the last check found no process."""
    if facts.started or facts.running:
        return False
    return True if facts.started is False and facts.running is False else None


def data_loss(facts: Facts) -> Statement:
    """Return the verdict on the data.

    Rows may be deleted in normal operation. Therefore, a count below the last good count is not sufficient to suspect
    data loss. If rows were lost in a database recovery, the verdict includes these rows for the rest of the incident.
    """
    if facts.lost:
        in_doubt = facts.suspected and not facts.accepted and not facts.settled
        return Statement(SUSPECTED, ALREADY_LOST) if in_doubt else Statement(KNOWN)
    fewer = rows_fewer(facts.rows_before, facts.rows_after)
    lost_now = bool(fewer) and facts.rows_from == FIRST_LOOK and not facts.uncounted
    if (facts.suspected or lost_now) and facts.settled == SOUND:
        return Statement(UNKNOWN, NOT_AFTER)
    if facts.suspected or lost_now:
        accepted = facts.settled == ACCEPTED or (facts.accepted and not lost_now)
        return Statement(SUSPECTED, ACCEPTED if accepted else "")
    why = _why_unknown(facts, fewer=bool(fewer))
    return Statement(UNKNOWN, why) if why else Statement(NONE)


def _why_unknown(facts: Facts, *, fewer: bool) -> str:
    """Return the reason why it is unknown whether rows were lost, or an empty string.

    The first rule that applies determines the reason.
    """
    before, after, last_good = bool(facts.rows_before), bool(facts.rows_after), facts.rows_from == LAST_GOOD
    rules = (
        (UNCOUNTED, facts.uncounted),
        (NOT_COUNTED, not before and not after),
        (NOT_BEFORE, not before),
        (NOT_AFTER, not after),
        # The service may have written rows after the last good count. If only these rows are lost, no count shows the
        # loss.
        (FEWER_SINCE, last_good and fewer),
        (WRITTEN_SINCE, last_good),
        (STARTED_SINCE, facts.started_since),
        (RESTARTED_SINCE, facts.restarted),
    )
    return next((why for why, applies in rules if applies), "")


def settled(data: Optional[Mapping[str, Any]]) -> Dict[str, str]:
    """Return how the doubt about the data of an incident ended (state: SOUND or ACCEPTED), and when (at), or {}.

    data: the `data` field of the incident's record.
    """
    told = data or {}
    state, at = str(told.get("state") or ""), str(told.get("accepted_at") or told.get("checked_at") or "")
    if state == SOUND:
        return {"state": state, "at": str(told.get("checked_at") or "")}
    return {"state": state, "at": at} if state == ACCEPTED and told.get("accepted") else {}


def of_ended_outage(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the statements data_loss and login_checked, as plain data, about an outage that ended without this run.

    seen: said (the data_loss statement of the earlier runs, or empty if this controller has none), data (the `data`
    field of the incident's record), login_failed (True if only the login failed in the previous run), and login (the
    result of the login check in this run, or empty).
    """
    said, recorded = seen.get("said") or {}, str((seen.get("data") or {}).get("loss") or "")
    loss = Statement(
        str(said.get("value") or UNKNOWN), str(said.get("why", NOT_COMPARED if seen.get("login_failed") else ""))
    )
    # The timeline of a database recovery may be on another controller. The record states whether this recovery lost
    # rows.
    if recorded == KNOWN:
        loss = Statement(KNOWN)
    elif recorded == UNKNOWN and loss.value in (NONE, UNKNOWN):
        loss = Statement(UNKNOWN, UNCOUNTED)
    login = Statement(YES if seen.get("login") == "checked" else UNKNOWN)
    return {"data_loss": dataclasses.asdict(loss), "login_checked": dataclasses.asdict(login)}


def rows_to_count(said: Optional[Mapping[str, Any]]) -> bool:
    """Return True if a new count can show whether rows were lost. said: the statements from of_run(), or None."""
    return why_of_data_loss(said) in (NOT_COUNTED, NOT_AFTER, STARTED_SINCE, RESTARTED_SINCE, NOT_COMPARED)


def data_to_check(said: Optional[Mapping[str, Any]]) -> bool:
    """Return True if only a person can find out whether rows were lost. said: the statements from of_run(), or None."""
    return why_of_data_loss(said) in (UNCOUNTED, NOT_BEFORE, FEWER_SINCE)


def why_of_data_loss(said: Optional[Mapping[str, Any]]) -> str:
    """Return the reason for the data_loss statement. said: the statements from of_run(), or None."""
    return str(((said or {}).get("data_loss") or {}).get("why") or "")


def rows_fewer(before: Rows, after: Rows) -> Dict[str, Tuple[float, float]]:
    """Map each table that has fewer rows to its counts (before, after). A missing table counts as 0 rows."""
    if not after:
        return {}
    return {table: (count, after.get(table, 0)) for table, count in before.items() if after.get(table, 0) < count}


def rows_seeded(before: Rows, after: Rows) -> Dict[str, float]:
    """Return the row counts of tables that had no rows before.

    The service may have created these rows when it started.
    """
    return {table: count for table, count in after.items() if before and count > 0 and not before.get(table)}


def of_run(seen: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the statements about an outage_recover.yml run as plain data, with the row counts on which they are based.

    seen contains role results: verification, clean_start, recovery (from the database_recovery role), first and last
    (from the triage role, or from the first response).

    - outcome, suspected, accepted, stopped: from the run. tried: the rungs. healthy: True if the service answered at
      the first probe, even if it is degraded.
    - starts, attempts, data: from the record. responded: True if a first response was sent to the host.
    - changes: a list of possible changes. An empty value in this list means that there was no change.
    """
    facts = _facts_of_run(seen)
    said = {name: dataclasses.asdict(each) for name, each in decide(facts).items()}
    by_service = (seen.get("verification") or {}).get("seeded") or []
    seeded = {
        **rows_seeded(facts.rows_before, facts.rows_after),
        **{str(each["table"]): each["rows"] for each in by_service},
    }
    return {
        "statements": said,
        "data_loss": said["data_loss"]["value"],
        "rows_before": dict(facts.rows_before),
        "rows_from": facts.rows_from,
        "rows_after": {table: count for table, count in facts.rows_after.items() if table not in seeded},
        "rows_seeded": seeded,
        "rows_seeded_removal": _removal(seen.get("verification") or {}),
        "rows_replaced": facts.replaced,
    }


def _removal(verified: Mapping[str, Any]) -> List[str]:
    """Return the command that removes the rows that the service created when it started.

    If the path of the database is unknown, return only the SQL statements.

    The command runs as the service's user, so that the files keep their owner. The service has the database open.
    Therefore, the command waits until the service has finished writing, and does not run a checkpoint.
    """
    sql = [str(each["statement"]) for each in verified.get("seeded") or [] if each.get("statement")]
    database = verified.get("database") or {}
    if not sql or not database.get("path"):
        return sql
    user = [f"sudo -u {shlex.quote(str(database['user']))}"] if database.get("user") else []
    settings = "-cmd '.timeout 5000' -cmd 'PRAGMA wal_autocheckpoint=0'"
    place = shlex.quote(str(database["path"]))
    return [" ".join([*user, "sqlite3", settings, place, shlex.quote(" ".join(sql))])]


def _facts_of_run(seen: Mapping[str, Any]) -> Facts:
    verified, triaged = seen.get("verification") or {}, seen.get("last") or {}
    by_itself = bool(seen.get("healthy")) and not seen.get("tried")
    attempts = seen.get("attempts") or []
    recovery = seen.get("recovery")
    if recovery and seen.get("outcome") != "would_recover" and not recovery.get("replaced"):
        # The result does not show that the database was replaced, so all values except rows_before are only a plan.
        recovery = {"rows_before": recovery.get("rows_before")}
    on_record = seen.get("data") or triaged.get("data") or {}
    first = seen.get("first") or {}
    counted = first if recovery is None else triaged
    # If an earlier run could not count the rows, someone may have replaced the database before this run counted them.
    # Therefore, only the last good count certainly describes the earlier database.
    missed = bool(on_record.get("unseen")) and (_found_sound(counted) or not counted.get("row_counts"))
    if recovery is not None:
        rows_before, since_start = recovery.get("rows_before"), recovery.get("rows_after")
        missed = missed and not recovery.get("replaced")
        if missed:
            rows_before = triaged.get("rows_before")
    else:
        # If this run could not count the rows before it started the service, use the last good count.
        missed = missed or not first.get("row_counts")
        rows_before = first.get("rows_before" if missed else "row_counts")
        since_start = (seen.get("clean_start") or {}).get("rows_after")
    rows_after = verified.get("row_counts") or since_start
    # Rows that the service created when it started are not recovered rows.
    own = [each["table"] for each in verified.get("seeded") or [] if (rows_before or {}).get(each["table"])]
    rows_after = {**(rows_after or {}), **dict.fromkeys(own, 0)}
    if by_itself and recovery is None:
        # If the service was started without a run, only the last good count was made before that start.
        rows_before, rows_after = triaged.get("rows_before"), triaged.get("row_counts")
    # Later runs see only the remaining rows, so a loss in an earlier run is read from the incident's record.
    losses = [(recovery or {}).get("data_loss"), on_record.get("loss")]
    # The first response checks for processes before it starts the service. If the result of the first response was
    # lost, the service may have been started.
    begun, lost = bool(triaged.get("started_by_run")), bool(seen.get("responded")) and "findings" not in triaged
    processes = None if begun or lost else ((triaged.get("facts") or {}).get("process") or {}).get("processes")
    return Facts(
        outcome=str(seen.get("outcome") or ""),
        rows_before=rows_before or {},
        rows_from=LAST_GOOD if missed or (recovery is None and by_itself) else FIRST_LOOK,
        rows_after=rows_after or {},
        started_since=bool(
            not by_itself and not verified.get("row_counts") and attempts and attempts[-1].get("started")
        ),
        suspected=bool(seen.get("suspected")),
        accepted=bool(seen.get("accepted")),
        replaced=bool(triaged.get("database_replaced")) and not (recovery or {}).get("replaced"),
        lost=KNOWN in losses,
        uncounted=UNKNOWN in losses,
        answers=_answers(seen, by_itself=by_itself, processes=processes),
        stopped=bool(seen.get("stopped")),
        started=True if seen.get("starts") or begun else None if lost else False,
        running=None if processes is None else bool(processes),
        changed=True if begun or any(map(bool, seen.get("changes") or [])) else None if lost else False,
        login=verified.get("login"),
    )


def _found_sound(triage: Mapping[str, Any]) -> bool:
    """Return True if triage checked the database completely and found no error."""
    database = (triage.get("facts") or {}).get("database") or {}
    errors = [each for each in database.get("problems") or () if each.get("level", "error") == "error"]
    return bool(database.get("conclusive")) and not errors


def _answers(seen: Mapping[str, Any], *, by_itself: bool, processes: Optional[Sequence[Any]]) -> Optional[bool]:
    """Return True if the service answered after its last start in the run, or None if this was not checked."""
    if by_itself:
        return None if seen.get("stopped") else True
    if seen.get("outcome") == "unreachable":
        return None
    verified = seen.get("verification") or {}
    if verified:
        return bool(verified.get("verified") or verified.get("serves"))
    if not seen.get("tried"):
        return None if seen.get("healthy") is None else bool(seen["healthy"])
    # The rung failed before its verification. The triage after the rung checked whether a process exists.
    return False if processes is not None and not processes else None
