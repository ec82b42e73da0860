# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recordable data in a task result: named keys from this collection's own modules, with their types.

A key that is not in a table is dropped. A value is dropped if its type differs from the type in the table. For the
types, see kinds.py.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.kinds import (
    FLAG,
    NUMBER,
    PROGRAM,
    TEXT,
    Each,
    Named,
    pick,
)

COLLECTION = "itsm_nexus.runbook"
_PREFIX = COLLECTION + "."


def _message(depth: int) -> Mapping[str, Any]:
    """Return the kind for a message with up to `depth` levels of nesting. See module_utils/_common/message.py."""
    if depth == 1:
        return {"id": TEXT, "values": Named((NUMBER, TEXT), limit=_VALUES)}
    inner = _message(depth - 1)
    return {"id": TEXT, "values": Named((NUMBER, TEXT, inner, Each((TEXT, inner), limit=_VALUES)), limit=_VALUES)}


_VALUES = 20
MESSAGE = _message(3)
# If a value has several sentences, there is a message for each sentence. A message may contain a step's error. This
# error may contain the reasons for each method. Therefore, these messages can be two levels deeper.
_DEEP = _message(5)
_TOLD = (_DEEP, Each(_DEEP, limit=_VALUES))
_REASON = {"reason": _TOLD}
_ERROR = {"error": MESSAGE}
# Messages in a module result: the reason for a failure or an unreachable host, and the summary of a health probe.
_OF_RESULT = {"msg": _TOLD, "why": MESSAGE, "summary": _TOLD}
_OF_RESTORE = {"reason": _TOLD, "statement": _TOLD}

_ROWS = Named(NUMBER)
_IN_WORDS = {"message": TEXT, "messages": {"message": MESSAGE}}
_PROBLEMS = Each({"code": TEXT, **_IN_WORDS})
_PREFLIGHT = {
    "ok": FLAG,
    "problems": Each({"variable": TEXT, **_IN_WORDS}),
    "resolved": {"node": {"version": TEXT}, "database_path": TEXT},
}
_WOULD_TELL = Each({"name": TEXT, "channel": TEXT, "error": TEXT})
# A change since the last healthy run. The keys `before` and `after` never contain secret values, see
# module_utils/_changes.
_CHANGE = {
    **dict.fromkeys(("kind", "name", "what", "before", "after", "inside"), TEXT),
    **dict.fromkeys(("at", "earliest", "latest", "relation", "cause"), TEXT),
    "seconds_before": NUMBER,
}
_HOLDERS = Each({"pid": NUMBER, "command": PROGRAM, "role": TEXT})
_RECORD = {
    "id": TEXT,
    "run": TEXT,
    "severity": TEXT,
    "outcome": TEXT,
    "cause": TEXT,
    "notified": Each({**dict.fromkeys(("level", "contact", "channel", "at", "error"), TEXT), "ok": FLAG}),
    "opened_at": TEXT,
    "outage_started_at": TEXT,
    "outage_started": {"earliest": TEXT, "earliest_source": TEXT, "latest": TEXT, "source": TEXT},
    "detected_at": TEXT,
    "mitigated_at": TEXT,
    "mitigated_from": TEXT,
    "mitigated_estimated": FLAG,
    "closed_at": TEXT,
    "outage_seconds": NUMBER,
    "restarts_in_window": NUMBER,
    "record_in_memory": TEXT,
    "maintenance": {"until": TEXT, "reason": TEXT, "source": TEXT},
    "locked_by": {"run": TEXT, "since": TEXT, "step": TEXT, "until": TEXT, "pid": NUMBER},
}

RESULTS: Mapping[str, Mapping[str, Any]] = {
    "health_probe": {
        "healthy": FLAG,
        "summary": TEXT,
        "messages": _OF_RESULT,
        "severity": TEXT,
        "consecutive_failures": NUMBER,
        "max_consecutive_failures": NUMBER,
        "process": {"state": TEXT, "pids": Each(NUMBER), "started_at": TEXT, "restarts": NUMBER},
        "endpoints": Each(
            {
                "name": TEXT,
                "url": TEXT,
                "required": FLAG,
                "ok": FLAG,
                "status": (NUMBER, TEXT),
                "latency_ms": NUMBER,
                "error": TEXT,
                "messages": _ERROR,
                "certificate": {"not_after": TEXT, "expired": FLAG},
            }
        ),
        "first_failure_at": TEXT,
        "last_success_at": TEXT,
        "first_healthy_at": TEXT,
        "attempts": NUMBER,
        "duration": NUMBER,
        "login_asked": FLAG,
        "login": {"ok": FLAG, "checked": FLAG, "status": (NUMBER, TEXT), "error": TEXT, "messages": _ERROR},
        "preflight": _PREFLIGHT,
        "open_incident": FLAG,
        "hold": {"incident": TEXT, "cause": TEXT},
        "ends": {"window": NUMBER, "restarts": NUMBER, "after": Named(NUMBER)},
    },
    # Recorded as the results of triage_info and node_process, see task_result.py.
    "first_response": {},
    "triage_info": {
        "findings": Each(
            {
                "cause": TEXT,
                "confidence": NUMBER,
                "summary": TEXT,
                "evidence": Each(
                    {"source": TEXT, "text": TEXT, "messages": {"source": MESSAGE, "text": MESSAGE}}, limit=10
                ),
                "remedy": TEXT,
                "prevention": TEXT,
                "messages": dict.fromkeys(("summary", "remedy", "prevention"), MESSAGE),
                "blocks_start": FLAG,
                "rungs_help": FLAG,
                "useless_rungs": Each(TEXT),
                "explained_by": TEXT,
            }
        ),
        "facts": {
            "disk": Each({"use": TEXT, "mount": TEXT, "size": NUMBER, "available": NUMBER}),
            "memory": {"total": NUMBER, "available": NUMBER},
            "log": {"path": TEXT, "size": NUMBER},
            "changes": {"since": TEXT, "failed_at": TEXT, "items": Each(_CHANGE), "omitted": NUMBER},
        },
        "bundle": TEXT,
        "released": FLAG,
        "data_evidence": {"path": TEXT, "not_copied": TEXT},
        "row_counts": _ROWS,
        "data_loss_suspected": FLAG,
        "duration": NUMBER,
    },
    "sqlite_info": {
        "healthy": FLAG,
        "problems": _PROBLEMS,
        "database": {"path": TEXT, "size": NUMBER, "journal_mode": TEXT, "sqlite_version": TEXT},
        "wal": {
            "exists": FLAG,
            "size": NUMBER,
            "frames_total": NUMBER,
            "frames_valid": NUMBER,
            "frames_committed": NUMBER,
            "pages_pending": NUMBER,
            "torn": FLAG,
        },
        "holders": _HOLDERS,
        "row_counts": _ROWS,
        "checks": Named(TEXT),
        "data_loss_suspected": FLAG,
        "duration": NUMBER,
    },
    "sqlite_backup": {
        "backup_file": TEXT,
        "sha256": TEXT,
        "size": NUMBER,
        "row_counts": _ROWS,
        "integrity": TEXT,
        "evidence_dir": TEXT,
        "removed": Each(TEXT),
    },
    "sqlite_wal": {
        "checkpointed": (FLAG, NUMBER),
        "frames_before": NUMBER,
        "frames_committed": NUMBER,
        "holders": _HOLDERS,
        "removed": Each(TEXT),
    },
    "sqlite_restore": {
        "method": TEXT,
        "reason": TEXT,
        "needed": FLAG,
        "healthy_before": FLAG,
        "problems": _PROBLEMS,
        "plan": Each(
            {
                "method": TEXT,
                "possible": FLAG,
                "reason": TEXT,
                "rows": _ROWS,
                "lost": _ROWS,
                "statement": TEXT,
                "messages": _OF_RESTORE,
                "source": TEXT,
                "backups": Each(
                    {
                        **dict.fromkeys(("path", "at", "reason"), TEXT),
                        "usable": FLAG,
                        "rows": _ROWS,
                        "lost": _ROWS,
                        "messages": _REASON,
                    }
                ),
            }
        ),
        "rows_before": _ROWS,
        "rows_after": _ROWS,
        "rows_lost": _ROWS,
        "data_loss": TEXT,
        "statement": TEXT,
        "messages": {**_OF_RESULT, **_OF_RESTORE},
        "source": TEXT,
        "evidence_dir": TEXT,
        "kept": TEXT,
        "orphans_file": TEXT,
        "put_back": FLAG,
        "duration": NUMBER,
    },
    "sqlite_owner": {},
    "service_hold": {"state": TEXT},
    "node_process": {
        "state": TEXT,
        "pids_before": Each(NUMBER),
        "pids_after": Each(NUMBER),
        "stopped": Each({"pid": NUMBER, "signal": TEXT, "seconds": NUMBER}),
        "foreign": Each({"pid": NUMBER, "port": NUMBER, "command": PROGRAM, "user": TEXT}),
        "started_at": TEXT,
        "duration": NUMBER,
    },
    "npm_ci": {
        "needed": FLAG,
        "reasons": Each(TEXT),
        "installed": (FLAG, NUMBER),
        "swapped": FLAG,
        "previous": TEXT,
        "restored": Each(TEXT),
        "messages": {**_OF_RESULT, "reasons": Each(_DEEP), "restored": Each(_DEEP)},
        "duration": NUMBER,
    },
    "knex_migrate": {
        "pending": Each(TEXT),
        "applied": Each(TEXT),
        "batch": NUMBER,
        "locked": FLAG,
        "duration": NUMBER,
    },
    "knex_migrate_info": {"pending": Each(TEXT), "batch": NUMBER, "locked": FLAG, "duration": NUMBER},
    "disk_reclaim": {
        "removed": Each({"path": TEXT, "size": NUMBER, "modified": TEXT}),
        "kept": Each({"path": TEXT, "size": NUMBER, "modified": TEXT}),
        "skipped_count": NUMBER,
        "freed": NUMBER,
        "enough": FLAG,
        "duration": NUMBER,
    },
    "process_stop": {
        "stopped": Each({"pid": NUMBER, "user": TEXT, "command": PROGRAM, "signal": TEXT, "seconds": NUMBER}),
        "left": Each(
            {
                "pid": NUMBER,
                "user": TEXT,
                "command": PROGRAM,
                "port": NUMBER,
                "reason": TEXT,
                "messages": {"reason": MESSAGE},
            }
        ),
        "duration": NUMBER,
    },
    "release_rollback": {
        "from": TEXT,
        "to": TEXT,
        "refused": TEXT,
        "messages": {**_OF_RESULT, "refused": MESSAGE},
        "duration": NUMBER,
    },
    "unit_dropin": {
        "files": Each(TEXT),
        "memory_max": NUMBER,
        "until": TEXT,
        "duration": NUMBER,
    },
    "tls_certificate": {
        "valid": FLAG,
        "problems": Each(TEXT),
        "messages": {**_OF_RESULT, "problems": _TOLD},
        "not_before": TEXT,
        "not_after": TEXT,
        "repaired": FLAG,
        "renewed": FLAG,
        "command_rc": NUMBER,
        "duration": NUMBER,
    },
    "incident": _RECORD,
    "incident_info": _RECORD,
    "service_preflight_info": _PREFLIGHT,
    "fail_settings": {"problems": Each(TEXT), "messages": {"problems": Each(_DEEP, limit=_VALUES)}},
}

# The keys that every module on a host returns if the connection failed or was interrupted.
_OF_ALL: Mapping[str, Any] = {
    "unreachable_host": FLAG,
    "connection_lost": {"times": NUMBER, "seconds": NUMBER},
    "messages": _OF_RESULT,
}

# The hosts of a run by outcome, from best to worst, as the playbooks publish them.
SUMMARY_KEY = "outage_summary"
SUMMARY: Mapping[str, Any] = {
    ended: Each(TEXT, limit=10_000)
    for ended in (
        *("healthy", "recovered", "recovered_by_systemd", "would_recover", "degraded", "warning"),
        *("critical", "emergency"),
        *("data_in_doubt", "login_failed", "not_recovered", "unreachable", "stopped"),
    )
}

# The places that contain a host's documents. The postmortem role publishes these places with set_stats under
# PUBLISHED_KEY. artifact: whether the job's artifacts contain the Markdown document.
PUBLISHED_KEY = "outage_postmortem"
PUBLISHED: Mapping[str, Any] = {
    "markdown": TEXT,
    "on_host": TEXT,
    "issue": TEXT,
    "copies": Each(TEXT),
    "artifact": FLAG,
}

# The outcome for each host. The postmortem role and the playbooks publish this outcome with set_stats under
# OUTCOME_KEY.
OUTCOME_KEY = "outage_recover"
OUTCOME: Mapping[str, Any] = {
    "incident": TEXT,
    "host": TEXT,
    "service": TEXT,
    "language": TEXT,
    "timezone": TEXT,
    "reason": TEXT,
    "ticket": TEXT,
    "severity": TEXT,
    "outcome": TEXT,
    "cause": TEXT,
    "cause_summary": TEXT,
    "rung": TEXT,
    "rungs_tried": Each(
        {
            **dict.fromkeys(("rung", "reason", "started_at"), TEXT),
            "messages": _REASON,
            **dict.fromkeys(("held", "halted", "serves", "restored"), FLAG),
            "seconds": NUMBER,
        }
    ),
    "rungs_skipped": Each({"rung": TEXT, "reason": TEXT, "at": TEXT, "messages": _REASON}),
    "rungs_not_reached": Each({"rung": TEXT, "reason": TEXT, "messages": _REASON}),
    "remediation": {
        "applied": Each(
            {
                **dict.fromkeys(("cause", "action"), TEXT),
                **dict.fromkeys(("changed", "failed"), FLAG),
                "detail": Each(TEXT),
                "messages": {"action": _TOLD, "detail": Each(_TOLD)},
                "seconds": NUMBER,
            }
        ),
        "refused": Each({"cause": TEXT, "reason": TEXT, "messages": _REASON}),
    },
    "outage_seconds": NUMBER,
    "outage_started_at": TEXT,
    "detected_at": TEXT,
    "mitigated_at": TEXT,
    "mitigated_from": TEXT,
    "mitigated_estimated": FLAG,
    "resolved_at": TEXT,
    "impact": {
        "users": NUMBER,
        "users_unknown": TEXT,
        "requests": NUMBER,
        "requests_failed": NUMBER,
        "requests_from": TEXT,
        "requests_unknown": TEXT,
        "messages": dict.fromkeys(("users_unknown", "requests_unknown"), MESSAGE),
    },
    "data_loss": TEXT,
    "data_settled": {"state": TEXT, "at": TEXT},
    "rows_before": _ROWS,
    "rows_from": TEXT,
    "rows_after": _ROWS,
    "rows_seeded": _ROWS,
    "rows_seeded_removal": Each(TEXT),
    "rows_replaced": FLAG,
    "statements": Named({"value": TEXT, "why": TEXT}),
    "escalation": {
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
        "would": _WOULD_TELL,
        "otherwise": {"rule": TEXT, "level": TEXT, "to": Each(TEXT), "reason": TEXT, "would": _WOULD_TELL},
    },
    "evidence": TEXT,
    "backup_file": TEXT,
    "error": TEXT,
    "next_step": TEXT,
    "messages": dict.fromkeys(("cause_summary", "error", "next_step"), _TOLD),
    "held_by": TEXT,
}

# Maps the earlier name of a module to its current name, so that timelines with earlier names can still be read.
_RENAMED = {
    "postmortem_keep": "postmortem_archive",
    "refuse": "fail_settings",
    "service_preflight": "service_preflight_info",
    "sqlite_check": "sqlite_info",
    "tell_by_command": "notify_command",
    "tell_by_mail": "notify_mail",
    "tell_by_post": "notify_http",
}

# Modules that return an incident's record.
OF_INCIDENT = ("incident", "incident_info")


def of_result(action: str, result: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the recordable data in a result, or {} for modules from other collections. action: the full name."""
    own = own_module(action)
    told = {**result, **_login_asked(result)} if own == "health_probe" else result
    return pick({**_OF_ALL, **RESULTS.get(own, {})}, told) if own else {}


def _login_asked(result: Mapping[str, Any]) -> Dict[str, bool]:
    """Return login_asked: True if the health probe had to log in. Return {} if the parameters are not in the result.

    A healthy result does not say whether the login was one of the readiness checks.
    """
    invocation = result.get("invocation")
    asked = invocation.get("module_args") if isinstance(invocation, Mapping) else None
    return {"login_asked": asked["login"] is not None} if isinstance(asked, Mapping) and "login" in asked else {}


def own_module(action: str) -> Optional[str]:
    """Return the short name of an action if it is a module in this collection, otherwise None.

    An earlier name of the module, which an old timeline may contain, is replaced with the current name.
    """
    if not action.startswith(_PREFIX):
        return None
    name = action[len(_PREFIX) :]
    return _RENAMED.get(name, name)
