# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data in a task result that may be recorded: keys of this collection's own modules, with their types.

A key that is not in a table is dropped. A value is dropped if its type differs from the type in the table. For the
types, see kinds.py.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import published
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.kinds import (
    FLAG,
    NUMBER,
    PROGRAM,
    TEXT,
    Each,
    Named,
    pick,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline.message_kinds import (
    DEEP,
    ERROR,
    MESSAGE,
    REASON,
    ROWS,
    TOLD,
    VALUES,
)

COLLECTION = "itsm_nexus.runbook"
_PREFIX = COLLECTION + "."


# Messages in a module result: the reason for a failure or an unreachable host, and the summary of a health probe.
_OF_RESULT = {"msg": TOLD, "why": MESSAGE, "summary": TOLD}
_OF_RESTORE = {"reason": TOLD, "statement": TOLD}

_IN_WORDS = {"message": TEXT, "messages": {"message": MESSAGE}}
_PROBLEMS = Each({"code": TEXT, **_IN_WORDS})
_PREFLIGHT = {
    "ok": FLAG,
    "problems": Each({"variable": TEXT, **_IN_WORDS}),
    "resolved": {"node": {"version": TEXT}, "database_path": TEXT},
}
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
                "messages": ERROR,
                "certificate": {"not_after": TEXT, "expired": FLAG},
            }
        ),
        "first_failure_at": TEXT,
        "last_success_at": TEXT,
        "first_healthy_at": TEXT,
        "attempts": NUMBER,
        "duration": NUMBER,
        "login_asked": FLAG,
        "login": {"ok": FLAG, "checked": FLAG, "status": (NUMBER, TEXT), "error": TEXT, "messages": ERROR},
        "preflight": _PREFLIGHT,
        "open_incident": FLAG,
        "hold": {"incident": TEXT, "cause": TEXT},
        "ends": {"window": NUMBER, "restarts": NUMBER, "after": Named(NUMBER)},
    },
    # These results are recorded as the results of triage_info and node_process, see task_result.py.
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
        "data_evidence": {"path": TEXT, "not_copied": TEXT, "messages": {"not_copied": MESSAGE}},
        "row_counts": ROWS,
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
        "row_counts": ROWS,
        "last_good": {"rows": ROWS, "at": TEXT, "replaced": FLAG},
        "checks": Named(TEXT),
        "data_loss_suspected": FLAG,
        "duration": NUMBER,
    },
    "sqlite_backup": {
        "backup_file": TEXT,
        "sha256": TEXT,
        "size": NUMBER,
        "row_counts": ROWS,
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
                "rows": ROWS,
                "lost": ROWS,
                "statement": TEXT,
                "messages": _OF_RESTORE,
                "source": TEXT,
                "backups": Each(
                    {
                        **dict.fromkeys(("path", "at", "reason"), TEXT),
                        "usable": FLAG,
                        "rows": ROWS,
                        "lost": ROWS,
                        "messages": REASON,
                    }
                ),
            }
        ),
        "rows_before": ROWS,
        "rows_after": ROWS,
        "rows_lost": ROWS,
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
        "messages": {**_OF_RESULT, "reasons": Each(DEEP), "restored": Each(DEEP)},
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
        "messages": {**_OF_RESULT, "problems": TOLD},
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
    "fail_settings": {"problems": Each(TEXT), "shown": FLAG, "messages": {"problems": Each(DEEP, limit=VALUES)}},
}

# The keys that every module on a host returns if the connection failed or was interrupted.
_OF_ALL: Mapping[str, Any] = {
    "unreachable_host": FLAG,
    "connection_lost": {"times": NUMBER, "seconds": NUMBER},
    "messages": _OF_RESULT,
}

# The parts of the published variables that the timeline records.
SUMMARY_KEY = "outage_summary"
SUMMARY: Mapping[str, Any] = published.recorded(published.SUMMARY)
PUBLISHED_KEY = "outage_postmortem"
PUBLISHED: Mapping[str, Any] = published.recorded(published.DOCUMENTS)
OUTCOME_KEY = "outage_recover"
OUTCOME: Mapping[str, Any] = published.recorded(published.OUTCOME)

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

    A healthy result does not show whether the login was one of the readiness checks.
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
