# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF009 - each call makes a new field.

"""The variables that the playbooks publish with set_stats, and the keys of their values.

This table is the only list of these keys. docs/published.md and docs/published-schema.json are generated from it, and
the timeline records the keys that recorded() returns. Times are UTC (ISO 8601, milliseconds, Z), durations are in
seconds, sizes in bytes. None means unknown.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.kinds import FLAG, NUMBER, TEXT, Each, Named
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.message_kinds import (
    MESSAGE,
    REASON,
    ROWS,
    TOLD,
)

# Plain data from a role or a module.
Data = Mapping[str, Any]
# The value of a key that is not published.
ABSENT: Any = object()
# The cases in which a key of an outcome is published.
RUN = "run"
DOCUMENTED = "documents"
UNREACHABLE = "unreachable"
CLOSED = "closed"
CASES: Mapping[str, str] = {
    RUN: "a run handled the incident",
    DOCUMENTED: "a run handled the incident, and the `postmortem` role did not fail",
    UNREACHABLE: "the host could not be reached",
    CLOSED: "the outage ended before this run, and the run closed the incident",
}


class Returned(NamedTuple):
    """The kind of a value that a module returns unchanged. The timeline does not record such a value here."""

    module: str
    kind: str = "object"


class Key(NamedTuple):
    """A key of a published value.

    kind: the kind of its value, see kinds.py. only: the cases in which the key is published, or empty if it is always
    published. recorded: True if the timeline records the key.
    """

    kind: Any
    doc: str
    only: Tuple[str, ...] = ()
    recorded: bool = True


class Variable(NamedTuple):
    """A published variable.

    by: the key of its entries: "host", "incident", or None if the variable has only one value. keys: the keys of each
    value, or the kind of the value. playbooks: the playbooks that publish the variable.
    """

    doc: str
    by: Optional[str]
    keys: Any
    playbooks: str


def _key(kind: Any, doc: str, *only: str, recorded: bool = True) -> Any:
    """Return the field for a key. A key that is published only in some cases is absent by default."""
    metadata = {"key": Key(kind, doc, only, recorded)}
    # This function is called only in the body of a data class, so the linter's warnings do not apply.
    if only:
        return dataclasses.field(default=ABSENT, metadata=metadata)  # pylint: disable=invalid-field-call
    return dataclasses.field(metadata=metadata)  # pylint: disable=invalid-field-call


_PREVIEW = Each({"name": TEXT, "channel": TEXT, "error": TEXT})
_ESCALATION: Data = {
    "rule": TEXT,
    "level": TEXT,
    "to": Each(TEXT),
    "contacts": Each(TEXT),
    "names": Named(TEXT),
    "notified": Each(
        {
            **dict.fromkeys(("level", "contact", "channel", "at", "error"), TEXT),
            **dict.fromkeys(("ok", "new"), FLAG),
        }
    ),
    "reason": TEXT,
    # In check mode: the contacts that would be notified, and those that would be notified if the recovery failed.
    "would": _PREVIEW,
    "otherwise": {"rule": TEXT, "level": TEXT, "to": Each(TEXT), "reason": TEXT, "would": _PREVIEW},
}
_REMEDIATION: Data = {
    "applied": Each(
        {
            **dict.fromkeys(("cause", "action"), TEXT),
            **dict.fromkeys(("changed", "failed"), FLAG),
            "detail": Each(TEXT),
            "messages": {"action": TOLD, "detail": Each(TOLD)},
            "seconds": NUMBER,
        }
    ),
    "refused": Each({"cause": TEXT, "reason": TEXT, "messages": REASON}),
}
_TRIED = Each(
    {
        **dict.fromkeys(("rung", "reason", "started_at"), TEXT),
        "messages": REASON,
        **dict.fromkeys(("held", "halted", "serves", "restored"), FLAG),
        "seconds": NUMBER,
    }
)
_IMPACT: Data = {
    "users": NUMBER,
    "users_unknown": TEXT,
    "requests": NUMBER,
    "requests_failed": NUMBER,
    "requests_from": TEXT,
    "requests_unknown": TEXT,
    "messages": dict.fromkeys(("users_unknown", "requests_unknown"), MESSAGE),
}


# The callback imports this class before the first task, so only the methods that are needed are generated.
@dataclasses.dataclass(eq=False, repr=False)
class Outcome:
    """An incident at the end of a run. None means unknown. If a key is absent, the earlier value remains valid."""

    incident: Optional[str] = _key(TEXT, "ID of the incident. In check mode, there is no ID.")
    host: str = _key(TEXT, "The host's name in the inventory.")
    service: str = _key(TEXT, "The service on the host.")
    severity: Optional[str] = _key(TEXT, "`degraded`, `warning`, `critical`, `emergency` or `unreachable`.")
    outcome: str = _key(TEXT, "The outcome, for example `recovered` or `not_recovered`.")
    cause: Optional[str] = _key(TEXT, "The most likely cause.")
    outage_seconds: Optional[float] = _key(NUMBER, "The outage duration, so far or in total.")
    outage_started_at: Optional[str] = _key(TEXT, "The time of the first sign of the outage.")
    detected_at: Optional[str] = _key(TEXT, "The time when the outage was detected.")
    mitigated_at: Optional[str] = _key(TEXT, "The time of the service's first healthy response after the outage.")
    mitigated_from: Optional[str] = _key(TEXT, "The source of `mitigated_at`.")
    mitigated_estimated: bool = _key(FLAG, "True if `mitigated_at` is an estimate.")
    escalation: Data = _key(
        _ESCALATION,
        "The notified contacts and the rule that applied. In check mode, the contacts that would be notified.",
    )
    remediation: Data = _key(_REMEDIATION, "The remedies that were applied or refused before the ladder.")
    rungs_tried: Sequence[Data] = _key(_TRIED, "The rungs that were tried, in chronological order.")
    rungs_skipped: Sequence[Data] = _key(
        Each({"rung": TEXT, "reason": TEXT, "at": TEXT, "messages": REASON}),
        "The rungs that were skipped because they could not have helped.",
    )
    rungs_not_reached: Sequence[Data] = _key(
        Each({"rung": TEXT, "reason": TEXT, "messages": REASON}), "The rungs that the run did not reach."
    )
    # In the timeline, `halted` is a key of the rung.
    halted: str = _key(
        TEXT,
        "The reason why later workflow steps must not try a rung, or empty if they may try a rung.",
        recorded=False,
    )
    reason: str = _key(TEXT, "The reason for starting the playbook, or empty.", RUN, UNREACHABLE)
    ticket: str = _key(TEXT, "The ticket that was specified when the playbook started, or empty.", RUN, UNREACHABLE)
    language: Optional[str] = _key(TEXT, "The language of the documents.", DOCUMENTED, UNREACHABLE, CLOSED)
    timezone: Optional[str] = _key(TEXT, "The time zone of the documents.", DOCUMENTED, UNREACHABLE, CLOSED)
    cause_summary: Optional[str] = _key(TEXT, "A sentence that describes the cause.", RUN, UNREACHABLE)
    rung: Optional[str] = _key(TEXT, "The rung that succeeded.", RUN, UNREACHABLE)
    evidence: Optional[str] = _key(TEXT, "The evidence folder on the host.", RUN, UNREACHABLE)
    backup_file: Optional[str] = _key(TEXT, "Path of the database backup on the host.", RUN)
    error: Optional[str] = _key(TEXT, "The error that stopped the recovery or the postmortem.", RUN, UNREACHABLE)
    next_step: str = _key(TEXT, "The next step for a person.", RUN, UNREACHABLE)
    messages: Data = _key(
        dict.fromkeys(("cause_summary", "error", "next_step"), TOLD),
        "`cause_summary`, `error` and `next_step` as translatable messages.",
        *(RUN, UNREACHABLE),
    )
    held_by: str = _key(TEXT, "The incident that still holds the service, or empty.", RUN)
    data_loss: str = _key(TEXT, "`none`, `suspected`, `known` or `unknown`.", RUN, UNREACHABLE)
    statements: Data = _key(
        Named({"value": TEXT, "why": TEXT}), "The [statements](statements.md), with their values and reasons.", RUN
    )
    rows_before: Data = _key(ROWS, "Number of rows in each table before the first change.", RUN)
    rows_from: str = _key(TEXT, "Source of `rows_before`: `first_look` or `last_good`.", RUN)
    rows_after: Data = _key(ROWS, "Number of rows in each table after the last change.", RUN)
    rows_seeded: Data = _key(
        ROWS, "Number of rows that the service may have created in each table when it started.", RUN
    )
    rows_seeded_removal: List[str] = _key(Each(TEXT), "The command that removes the rows in `rows_seeded`.", RUN)
    rows_replaced: bool = _key(FLAG, "True if `rows_after` was counted in a new database.", RUN)
    resolved_at: Optional[str] = _key(TEXT, "The time when the incident was closed.", DOCUMENTED, CLOSED)
    impact: Data = _key(
        _IMPACT, "The affected users and requests, or empty if the impact was not measured.", DOCUMENTED
    )
    data_settled: Data = _key(
        {"state": TEXT, "at": TEXT}, "How an earlier doubt about the data was resolved, or empty.", CLOSED
    )

    def plain(self) -> Dict[str, Any]:
        """Return the outcome as plain data, without the keys that are absent."""
        # Do not use asdict, because it would try to copy Ansible objects, which cannot be copied.
        return {name: value for name, value in vars(self).items() if value is not ABSENT}


OUTCOME: Mapping[str, Key] = {field.name: field.metadata["key"] for field in dataclasses.fields(Outcome)}

_HOSTS = Each(TEXT, limit=10_000)
_DETECT, _RECOVER = "outage_detect.yml", "outage_recover.yml"
# The hosts of a run by outcome, from best to worst.
SUMMARY: Mapping[str, Key] = {
    "hosts": Key(NUMBER, "The number of hosts in the run.", recorded=False),
    "healthy": Key(_HOSTS, "Hosts with a healthy service."),
    **{
        ended: Key(_HOSTS, f"Hosts with the outcome `{ended}`.", (_RECOVER,))
        for ended in ("recovered", "recovered_by_systemd", "would_recover")
    },
    "degraded": Key(_HOSTS, "Hosts with the outcome or the severity `degraded`."),
    "warning": Key(_HOSTS, "Hosts with the outcome or the severity `warning`."),
    "critical": Key(_HOSTS, "Hosts with the severity `critical`.", (_DETECT,)),
    "emergency": Key(_HOSTS, "Hosts with the severity `emergency`.", (_DETECT,)),
    **{
        ended: Key(_HOSTS, f"Hosts with the outcome `{ended}`.", (_RECOVER,))
        for ended in ("data_in_doubt", "login_failed", "not_recovered")
    },
    "unreachable": Key(_HOSTS, "Unreachable hosts."),
    "stopped": Key(_HOSTS, "Hosts on which the run stopped with an error."),
}

# The places where a host's documents are stored.
DOCUMENTS: Mapping[str, Key] = {
    "markdown": Key(TEXT, "Path of the Markdown document on the controller."),
    "html": Key(TEXT, "Path of the HTML page on the controller.", recorded=False),
    "json": Key(TEXT, "Path of the JSON document on the controller.", recorded=False),
    "on_host": Key(TEXT, "Folder on the host that contains copies of the documents."),
    "issue": Key(TEXT, "URL of the issue."),
    "copies": Key(Each(TEXT), "The other places with copies of the documents."),
    "artifact": Key(FLAG, "True if this variable contains the Markdown document as `text`."),
    "unpublished": Key(Each(TEXT), "The reasons why documents could not be published.", recorded=False),
    "text": Key(TEXT, "The Markdown document, shortened if it is too long.", ("AWX job",), recorded=False),
}

_MESSAGES = Named(TOLD)
_OUTCOME_BY = "every playbook that opens or closes an incident"

VARIABLES: Mapping[str, Variable] = {
    "outage_recover": Variable("The outcome of each host's last incident.", "host", OUTCOME, _OUTCOME_BY),
    "outage_incidents": Variable(
        "The outcome of each incident. The key is the incident ID or, in check mode, the host.",
        *("incident", OUTCOME, _OUTCOME_BY),
    ),
    "outage_summary": Variable("The hosts, grouped by outcome.", None, SUMMARY, f"`{_DETECT}`, `{_RECOVER}`"),
    "outage_postmortem": Variable("The locations of the documents.", "host", DOCUMENTS, _OUTCOME_BY),
    "outage_detect": Variable(
        "The health check result. Hosts whose check failed are omitted.",
        "host",
        {
            "severity": Key(TEXT, "`none`, `degraded`, `warning`, `critical`, `emergency` or `unreachable`."),
            "consecutive_failures": Key(NUMBER, "Number of consecutive failed probes."),
            "process": Key(TEXT, "State of the service's process."),
        },
        f"`{_DETECT}`",
    ),
    "outage_triage": Variable(
        "The triage result.",
        "host",
        {
            "findings": Key(Returned("triage_info", "list of objects"), "The causes, most likely first."),
            "data_loss_suspected": Key(FLAG, "True if triage suspects data loss."),
        },
        "`outage_triage.yml`",
    ),
    "outage_approval": Variable(
        "The information for the person who approves a rung.",
        "host",
        {
            "host": Key(TEXT, "The host's name in the inventory."),
            "service": Key(TEXT, "The service on the host."),
            "rung": Key(TEXT, "The rung to approve, or empty."),
            "reason": Key(TEXT, "The reason for starting the workflow, or `-`."),
            "ticket": Key(TEXT, "The ticket that was specified when the workflow started, or `-`."),
            "cause": Key(TEXT, "The most likely cause."),
            "job": Key(TEXT, "URL of the job, or `-`."),
            "text": Key(TEXT, "The text of the notification."),
        },
        "`outage_triage.yml`",
    ),
    "outage_verify": Variable(
        "The verification result.",
        "host",
        {
            "verified": Key(FLAG, "True if the service works and stayed up during the stability check."),
            "problems": Key(Each(TEXT), "The reasons why the verification failed."),
            "halted": Key(
                TEXT, "The reason why later workflow steps must not try a rung, or empty if they may try a rung."
            ),
            "messages": Key({"halted": TOLD}, "`halted` as translatable messages."),
        },
        "`outage_verify.yml`",
    ),
    "outage_backup": Variable(
        "The new backup.",
        "host",
        {
            "backup": Key(Returned("scheduled_backup"), "The new backup, or null if no verified backup was made."),
            "problems": Key(Each(TEXT), "The problems with the backup."),
            "removed": Key(Each(TEXT), "The removed backups.", ("backup tried",)),
            "duration": Key(NUMBER, "Run time on the host.", ("backup tried",)),
            "messages": Key(_MESSAGES, "`problems` as translatable messages.", ("backup tried",)),
        },
        "`outage_backup.yml`",
    ),
    "outage_restore_drill": Variable(
        "The restore drill result.",
        "host",
        {
            "ok": Key(FLAG, "True if the backup can be restored."),
            "problems": Key(
                Each(TEXT), "The reasons why the drill failed, and the newer backups that cannot be restored."
            ),
            **{
                name: Key(kind, doc, ("drill run",))
                for name, kind, doc in (
                    ("at", TEXT, "The time when the drill began."),
                    ("backup", TEXT, "The backup that was restored."),
                    ("backup_at", TEXT, "The time of the last write that the backup contains."),
                    ("rpo_seconds", NUMBER, "Age of the backup at the beginning of the drill."),
                    ("rto_seconds", NUMBER, "Time from the beginning of the restore to the first healthy response."),
                    ("rows", ROWS, "Number of rows in each table of the backup."),
                    ("rows_after", ROWS, "Number of rows in each table of the restored database."),
                    ("login", FLAG, "True if the login succeeded, or null if no login was tried."),
                    ("live_unchanged", FLAG, "True if the drill did not affect the running service."),
                    ("messages", _MESSAGES, "`problems` as translatable messages."),
                    ("duration", NUMBER, "Run time on the host."),
                )
            },
        },
        "`outage_restore_drill.yml`",
    ),
    "outage_ready": Variable(
        "The readiness report of all hosts.",
        None,
        {
            "schema": Key(NUMBER, "Version of the report's format."),
            "kind": Key(TEXT, "`readiness`."),
            "written_at": Key(TEXT, "Time of the report."),
            "language": Key(TEXT, "The language of the report."),
            "ready": Key(FLAG, "True if every host is ready for a recovery."),
            "hosts": Key(
                Each(
                    {
                        **{"host": TEXT, "service": TEXT, "ready": FLAG, "not_ready": Each(TEXT)},
                        "checks": Returned("preparedness_report", "list of objects"),
                    }
                ),
                "The result for each host.",
            ),
        },
        "`outage_ready.yml`",
    ),
    "outage_discover": Variable(
        "The variables that the discovery found on the host.",
        "host",
        {
            "text": Key(TEXT, "The content of a new variables file, or empty."),
            "dest": Key(TEXT, "The file, or null if there is no inventory file."),
            "written": Key(FLAG, "True if the file was written."),
            "differences": Key(
                Returned("inventory_render", "list of objects"),
                "The variables that were missing or had a different value.",
            ),
            "questions": Key(Each(TEXT), "Questions that the inventory does not answer."),
        },
        "`outage_discover.yml`",
    ),
    "outage_postmortems": Variable(
        "The incidents for which documents were written.",
        None,
        Each(
            {
                **dict.fromkeys(("incident", "host", "outcome", "title", "opened_at"), TEXT),
                **{"markdown": TEXT, "json": TEXT, "html": TEXT, "changed": FLAG},
            }
        ),
        "`outage_postmortem.yml`",
    ),
    "outage_postmortem_issues": Variable("The URLs of the issues.", None, Each(TEXT), "`outage_postmortem.yml`"),
}


def recorded(keys: Mapping[str, Key]) -> Dict[str, Any]:
    """Return the kinds of the keys that the timeline records, by name."""
    return {name: key.kind for name, key in keys.items() if key.recorded}
