# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes that concern the database: damage, locks, ownership, migrations and the WAL."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages as common_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    labelled,
    message,
    of,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import (
    KEEP_SCHEMA,
    MIGRATE,
    RUNGS,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import (
    FALLS,
    end_of_lock,
    process_details,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding, says

_REFUSED = re.compile(r"SQLITE_READONLY|SQLITE_CANTOPEN|readonly database|unable to open database|\bEACCES\b")


def db_corrupt(facts: Facts) -> Optional[Finding]:
    """Report a database that is damaged, is missing, or has lost rows."""
    database, replaced, created_at = facts.database, facts.hold.replaced, facts.hold.created_at
    problems = database.damages
    texts = [item["message"] for item in problems]
    lost = bool(database.data_loss_suspected)
    words = _reported(facts, recovered_at=database.recovered_at if database.checked_in_full else "")
    # The rows of a damaged database cannot be compared.
    another, missing = bool(facts.hold.may_be_another), [] if problems else _missing(facts)
    if not problems and not lost and not words and not replaced and not another and not missing:
        return None
    path = database.path
    if problems:
        reasons = [_unsound(code) for code in dict.fromkeys(item["code"] for item in problems)]
        summary = message("finding.db_corrupt.unsound", path=path, reasons=reasons)
    elif replaced:
        summary = message("finding.db_corrupt.replaced", path=path, at=created_at)
    elif another:
        summary = message("finding.db_corrupt.another", path=path)
    elif missing:
        summary = message("finding.db_corrupt.fewer", path=path, tables=missing)
    else:
        summary = message("finding.db_corrupt.rows" if lost else "finding.db_corrupt.reported", path=path)
    return Finding(
        confidence=0.98 if problems or lost or replaced or another or missing else 0.6,
        summary=summary,
        evidence=[says(path, labelled(item["code"], of(item, "message"))) for item in problems]
        + [says(path, _as_message(facts, text)) for text in database.data_loss_reasons if text not in texts]
        + [says(path, message("evidence.rows", text=text)) for text in missing]
        + ([says(path, message("evidence.first_migration", at=str(created_at)))] if replaced else [])
        + words
        + _of_recovery(facts, words),
        remedy=_remedy_of_damage(facts, summary),
        prevention=message("prevention.db_corrupt"),
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def _reported(facts: Facts, *, recovered_at: str) -> List[Dict[str, str]]:
    """Return the evidence from log lines about damage. recovered_at: earlier lines are about another file."""
    database = facts.database
    # If the database is sound now, log lines that are older than the running process describe an earlier state of the
    # file.
    since = facts.process.running_since if database.conclusive and not database.damages else ""
    if not facts.troubled:
        return []
    return facts.errors.signature("db_corrupt", since=since, certainly_since=recovered_at)


def _of_recovery(facts: Facts, words: Sequence[Any]) -> List[Dict[str, str]]:
    """If the log contains errors, return the installation time of the current file as evidence.

    A person can compare this time with the times of the errors.
    """
    at = facts.database.recovered_at
    return [says(facts.database.path, message("evidence.recovered_file", at=at))] if words and at else []


def needs_full_check(facts: Facts) -> bool:
    """Return True if only a check of the whole database can show whether the service may be started.

    This is the case if only the log reports damage, and all these errors are older than the current file. A database
    recovery has installed this file. triage runs only a quick check, which does not check the indexes.
    """
    database = facts.database
    if not database.recovered_at or not database.conclusive or database.checked_in_full:
        return False
    finding = db_corrupt(facts)
    only_reported = finding is not None and finding.summary.id == "finding.db_corrupt.reported"
    return only_reported and not _reported(facts, recovered_at=database.recovered_at)


def _as_message(facts: Facts, text: str) -> Message:
    """Return a reason for data loss as a message. If a problem has the same text, return the problem's message."""
    return next((of(item, "message") for item in facts.database.problems if item["message"] == text), quoted(text))


def _remedy_of_damage(facts: Facts, summary: Message) -> Message:
    # Only a person knows whether the rows were deleted on purpose.
    if summary.id == "finding.db_corrupt.fewer":
        return message("remedy.start_held")
    return message("remedy.db_corrupt" if facts.down else "remedy.db_corrupt.in_use")


def wal_reset_bug(facts: Facts) -> Optional[Finding]:
    """If an affected version of SQLite wrote the database, report the known bug that may have damaged it."""
    database = facts.database
    known = database.database or {}
    if not known.get("wal_reset_bug") or not (database.damages or database.data_loss_suspected):
        return None
    version = str(known.get("sqlite_version"))
    return Finding(
        # Other faults can also damage a database, so the confidence is low.
        confidence=0.3,
        summary=message("finding.wal_reset_bug", version=version),
        evidence=[says(database.path, message("evidence.written_by_sqlite", version=version))],
        remedy=message("remedy.wal_reset_bug"),
        prevention=message("prevention.wal_reset_bug"),
    )


def _missing(facts: Facts) -> List[str]:
    """Return "<table> <rows now> of <rows before>" for each table with missing rows.

    If normal operation can explain the loss, the list is empty.
    """
    if not facts.hold.rows_collapsed:
        return []
    return [f"{name} {now} of {before}" for name, (before, now) in sorted(facts.hold.rows_missing.items())]


def _unsound(code: str) -> Message:
    """Return the message for a problem code from the database check."""
    known = f"reason.database.{code}" in messages.ENGLISH
    return message(f"reason.database.{code}") if known else quoted(code)


def db_unchecked(facts: Facts) -> Optional[Finding]:
    """Report a database that could not be checked completely."""
    database = facts.database
    unread = [item["message"] for item in database.unread]
    # If the database's folder or file system is missing, the service would create a new database when it starts. A
    # missing folder or file system is reported even if the service answers now.
    if database.away is None and (not facts.troubled or (database.conclusive and not unread)):
        return None
    path = database.path
    variant = "away" if database.away else "unread" if unread else "late"
    more = {"reason": database.away} if database.away else {}
    said = database.error or ", ".join(f"{name} {text}" for name, text in (database.checks or {}).items())
    return Finding(
        confidence=0.9,
        summary=message(f"finding.db_unchecked.{variant}", path=path, **more),
        evidence=[says(path, text) for text in unread or [said or message("evidence.not_reached")]],
        remedy=message(f"remedy.db_unchecked.{variant}"),
        prevention=message(f"prevention.db_unchecked.{variant}"),
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def db_locked(facts: Facts) -> Optional[Finding]:
    """Report a database that is locked, or was locked when the service accessed it."""
    database = facts.database
    problems = [item for item in database.problems if item["code"] == "locked"]
    words = facts.errors.signature("db_locked") if facts.troubled else []
    main = facts.unit.main_pid
    blocking = [item for item in database.holders if item.get("role") in sqlite_holders.BLOCKING]
    strangers = [item for item in blocking if not item.get("ours")]
    # If systemd manages the service, a process that is not the unit's main process remains from an earlier start.
    stale = [item for item in blocking if item not in strangers and main is not None and item["pid"] != main]
    # These processes block all writes, even if the service seems healthy.
    lasting = [item for item in strangers if item.get("blocks_for")]
    if not facts.troubled:
        strangers, stale = lasting, []
    holders = strangers + stale
    if not holders and not (facts.troubled and (words or (problems and not blocking))):
        return None
    silent = not facts.process.gone and facts.down
    if strangers:
        remedy = end_of_lock(strangers[0], restart=facts.troubled)
    elif problems and not blocking:
        remedy = message("remedy.db_locked.wait_restart")
    else:
        remedy = message("remedy.db_locked.restart_older" if stale else "remedy.restart")
    first = _of_holder(holders[0]) if holders else {}
    if holders and not facts.troubled:
        confidence = 0.8
        seconds = f"{holders[0]['blocks_for']:.1f}"
        summary = message("finding.db_locked.writes_wait", seconds=seconds, **first)
    elif holders:
        # A process that is writing only for a moment does no harm.
        confidence = 0.93 if words else 0.9 if silent else 0.45
        summary = message("finding.db_locked.holder", **first)
    elif problems:
        confidence, summary = 0.75, message("finding.db_locked.now")
    else:
        confidence, summary = 0.6, message("finding.db_locked.past")
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=[says(database.path, of(item, "message")) for item in problems]
        + [_holds_the_lock(item) for item in holders]
        + words,
        remedy=remedy,
        prevention=message("prevention.db_locked"),
        useless_rungs=RUNGS if strangers and (words or silent) else (),
        details={
            "holders": [{**process_details(item), "role": item["role"], "ours": item in stale} for item in holders]
        },
        explains=("hung", "migration_pending", *FALLS) if words else ("hung",),
        past=not holders and not problems,
    )


def _of_holder(holder: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the message values that identify the process that holds a lock."""
    named = {name: None if holder.get(name) is None else str(holder[name]) for name in ("command", "user")}
    return {"pid": holder["pid"], "age": common_messages.age(holder.get("age")), **named}


def _holds_the_lock(holder: Mapping[str, Any]) -> Dict[str, Any]:
    told = {"pid": holder["pid"], "role": str(holder["role"]), "command": str(holder.get("command"))}
    return says(message("evidence.source.locks"), message("evidence.holds_the_lock", **told))


def _lock_held(migrators: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    if not migrators:
        return says("knex", message("evidence.migration_lock"))
    return says("knex", message("evidence.migration_lock.migrating", processes=_names(migrators)))


def migration_pending(facts: Facts) -> Optional[Finding]:
    """Report a schema that does not match the code."""
    if not facts.down:
        return None
    migrations = facts.migrations
    pending, held = list(migrations.pending or ()), migrations.lock_held
    locked, missing = facts.errors.signature("migration_locked"), facts.errors.signature("migration_missing")
    ahead = "migration directory is corrupt" in facts.errors.text()
    migrators = list(migrations.migrators)
    # The service applies its own migrations before it listens on its ports. If the service is not listening yet, it may
    # be applying migrations.
    if facts.ports.unserved and not facts.ports.waiting and migrations.lock_stale is False:
        migrators += [{**item, "command": " ".join(item.get("argv") or ())[:80]} for item in facts.process.processes]
    evidence = [_lock_held(migrators)] if held else []
    evidence += [says("knex", message("evidence.pending", names=", ".join(pending[:5])))] if pending else []
    left_behind = bool(held if held is not None else locked)
    prevention = message("prevention.migration_pending")
    common: Dict[str, Any] = {"prevention": prevention, "details": {"pending": pending, "lock_held": left_behind}}
    if held and migrators:
        # Do not report pending migrations or a lock, so that remedies do not interfere with the running migration.
        common["details"] = {"pending": [], "lock_held": False}
        return Finding(
            confidence=0.9,
            summary=message("finding.migration_pending.running", processes=_names(migrators)),
            evidence=evidence + locked,
            remedy=message("remedy.migration_pending.wait"),
            useless_rungs=RUNGS,
            **common,
        )
    if ahead:
        return Finding(
            confidence=0.93,
            summary=message("finding.migration_pending.code_older"),
            evidence=[*evidence, says("log", facts.errors.text())],
            remedy=message("remedy.migration_pending.newer_release"),
            useless_rungs=RUNGS,
            **common,
        )
    if (held and facts.process.gone) or locked:
        return _migration_lock(held, words=locked, evidence=evidence + locked + missing, **common)
    if not missing:
        return None
    known = migrations.pending is not None
    return Finding(
        confidence=0.9 if pending else 0.5 if known else 0.6,
        summary=message("finding.migration_pending.pending", number=len(pending))
        if pending
        else message("finding.migration_pending.missing"),
        evidence=evidence + missing,
        remedy=message("remedy.migration_pending.migrate" if pending else "remedy.migration_pending.compare"),
        # Only a clean start applies migrations.
        useless_rungs=() if known and not pending else KEEP_SCHEMA,
        **common,
    )


def _migration_lock(
    held: Optional[bool], *, words: Sequence[Any], evidence: List[Dict[str, str]], **common: Any
) -> Finding:
    """Return the finding for a lock that a migration left behind. words: log lines about the lock."""
    stands = held is not False
    # If no log line reports the lock, the service may be able to start although the lock is set. In this case, the lock
    # blocks only migrations.
    useless = RUNGS if words else MIGRATE
    return Finding(
        confidence=(0.95 if held else 0.9 if stands else 0.5) if words else 0.6,
        summary=message("finding.migration_pending.locked" if stands else "finding.migration_pending.was_locked"),
        evidence=evidence,
        remedy=message("remedy.migration_pending.unlock" if stands else "remedy.start"),
        useless_rungs=useless if stands else (),
        explains=FALLS if words else (),
        past=not stands,
        **common,
    )


def _names(processes: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"pid {item['pid']} ({item['command']})" for item in processes)


def database_owner(facts: Facts) -> Optional[Finding]:
    """Report a database that the service's user cannot write to."""
    owned = facts.ownership
    denied = list(owned.denied)
    if not denied or owned.read_only or not (facts.unwell or facts.troubled):
        return None
    words = _REFUSED.search(facts.errors.text())
    first = denied[0]
    return Finding(
        confidence=(0.97 if words else 0.94) if facts.unwell else 0.45,
        summary=message(
            "finding.database_owner",
            user=str(owned.user),
            **{name: str(first[name]) for name in ("path", "owner", "mode")},
        ),
        evidence=[
            says(
                item["path"],
                message("evidence.owner", **{name: str(item[name]) for name in ("owner", "group", "mode")}),
            )
            for item in denied
        ]
        + ([says("log", words.group(0))] if words else []),
        remedy=message("remedy.database_owner", user=str(owned.user)),
        prevention=message("prevention.database_owner"),
        useless_rungs=RUNGS if facts.unwell else (),
        details={
            "user": owned.user,
            "database": owned.database,
            "files": list(owned.foreign),
            "denied": [item["path"] for item in denied],
            "others": list(owned.others),
        },
    )


def wal_pending(facts: Facts) -> Optional[Finding]:
    """Report committed rows that are only in the WAL. These rows did not cause the outage, but must not be lost."""
    wal = facts.database.wal
    pending = wal.get("pages_pending") or 0
    if not facts.process.gone or not pending:
        return None
    return Finding(
        confidence=0.2,
        summary=message("finding.wal_pending", pages=pending),
        evidence=[
            says(f"{facts.database.path}-wal", message("evidence.committed_frames", number=wal.get("frames_committed")))
        ],
        remedy=message("remedy.wal_pending"),
        prevention=message("prevention.wal_pending"),
    )
