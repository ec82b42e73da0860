# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Causes in the database: damage, locks, its owner, its migrations, its WAL."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.causes.common import FALLS, process_details
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts import View, says
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import Finding

# Codes of problems of the database, in words.
_UNSOUND = {
    "missing": "it is not there",
    "empty": "it has 0 bytes",
    "empty_beside_wal": "it has 0 bytes beside a WAL",
    "no_tables": "it holds no table",
    "not_a_database": "it does not begin as a database does",
    "not_a_file": "something else is in its place",
    "corrupt": "its pages are damaged",
    "wal_damaged": "its WAL is damaged",
    "wal_foreign": "its WAL belongs to another database",
    "row_loss": "rows are missing",
    "open_deleted": "its file was removed while it was open",
    "unreadable": "it cannot be read",
}

_REFUSED = re.compile(r"SQLITE_READONLY|SQLITE_CANTOPEN|readonly database|unable to open database|\bEACCES\b")


def db_corrupt(view: View) -> Optional[Finding]:
    """The database is damaged, missing, or has lost rows."""
    database = view.part("database")
    problems, _unread = view.database_problems()
    messages = [item["message"] for item in problems]
    lost = bool(database.get("data_loss_suspected"))
    words = view.signature("db_corrupt") if view.troubled else []
    if not problems and not lost and not words:
        return None
    path = str(database.get("path", "the database"))
    why = [_UNSOUND.get(code, code) for code in dict.fromkeys(item["code"] for item in problems)]
    return Finding(
        confidence=0.98 if problems or lost else 0.6,
        summary=(
            f"The database {path} is not sound: {', '.join(why)}."
            if problems
            else f"Rows of the database {path} may be lost."
            if lost
            else f"The service reported a damaged database; {path} itself could be read."
        ),
        evidence=[says(path, f"{item['code']}: {item['message']}") for item in problems]
        + [says(path, text) for text in database.get("data_loss_reasons") or () if text not in messages]
        + words,
        remedy="Start nothing and change nothing: keep database, -wal and -shm as they are and call the DBA.",
        prevention="Back the database up often and read the backups back; find out what damaged it.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def db_unchecked(view: View) -> Optional[Finding]:
    """Nobody could look through the database."""
    database = view.part("database")
    _damages, refused = view.database_problems()
    unread = [item["message"] for item in refused]
    if not view.troubled or (database.get("conclusive") and not unread):
        return None
    path = str(database.get("path", "the database"))
    said = database.get("error") or ", ".join(f"{name} {text}" for name, text in (database.get("checks") or {}).items())
    return Finding(
        confidence=0.9,
        summary=f"Whether the database {path} is sound could not be told: it may not be read."
        if unread
        else f"Whether the database {path} is sound could not be told in time.",
        evidence=[says(path, text) for text in unread or [said or "not reached"]],
        remedy="Look again as root; give database, -wal and -shm back to the service's user where they are another's."
        if unread
        else "Check it with sqlite_info and a larger time_budget, or give triage_database_timeout more seconds.",
        prevention="Let nobody but the service's user open its database for writing."
        if unread
        else "Give triage_database_timeout the seconds that a look through this database takes.",
        blocks_start=True,
        useless_rungs=RUNGS,
    )


def db_locked(view: View) -> Optional[Finding]:
    """Another process holds the database's lock."""
    database = view.part("database")
    problems = [item for item in database.get("problems") or () if item["code"] == "locked"]
    words = view.signature("db_locked") if view.troubled else []
    main = view.part("unit").get("main_pid")
    blocking = [item for item in database.get("holders") or () if item.get("role") in sqlite_holders.BLOCKING]
    strangers = [item for item in blocking if not item.get("ours")]
    # Under systemd one of the service's beside its main process is left over from an earlier start.
    stale = [item for item in blocking if item not in strangers and main is not None and item["pid"] != main]
    # Of a service that seems well its writes wait.
    lasting = [item for item in strangers if item.get("blocks_for")]
    if not view.troubled:
        strangers, stale = lasting, []
    holders = strangers + stale
    if not holders and not (view.troubled and (words or (problems and not blocking))):
        return None
    silent = not view.gone and view.down
    if not view.troubled:
        remedy = "Let that process finish, or stop it."
    elif strangers or (problems and not blocking):
        remedy = "Let that process finish or stop it, then restart the service."
    else:
        remedy = "Restart the service" + (", which ends the older process first." if stale else ".")
    if holders and not view.troubled:
        confidence = 0.8
        summary = (
            f"Writes wait: process {holders[0]['pid']} ({holders[0].get('command')}) held the lock of the database for "
            f"{holders[0]['blocks_for']:.1f} s, as long as it was looked at."
        )
    elif holders:
        # Somebody may write at the instant of the look without having done any harm.
        confidence = 0.93 if words else 0.9 if silent else 0.45
        summary = f"The database is locked by process {holders[0]['pid']} ({holders[0].get('command')})."
    elif problems:
        confidence, summary = 0.75, "The database is locked."
    else:
        confidence, summary = 0.6, "The service found its database locked; no other process holds the lock now."
    return Finding(
        confidence=confidence,
        summary=summary,
        evidence=[says(str(database.get("path")), item["message"]) for item in problems]
        + [
            says("locks", f"pid {item['pid']} ({item['role']}) holds the lock: {item.get('command')}")
            for item in holders
        ]
        + words,
        remedy=remedy,
        prevention="Let backups and reports read a copy of the database, and set a busy timeout in the service.",
        useless_rungs=RUNGS if strangers and (words or silent) else (),
        details={
            "holders": [{**process_details(item), "role": item["role"], "ours": item in stale} for item in holders]
        },
        explains=("hung", "migration_pending", *FALLS) if words else ("hung",),
        past=not holders and not problems,
    )


def migration_pending(view: View) -> Optional[Finding]:
    """The schema is not what the code expects."""
    if not view.down:
        return None
    facts = view.part("migrations")
    pending, held = list(facts.get("pending") or ()), facts.get("lock_held")
    locked, missing = view.signature("migration_locked"), view.signature("migration_missing")
    ahead = "migration directory is corrupt" in view.complaints()
    migrators = list(facts.get("migrators") or ())
    # The service itself migrates only before it listens, with its database open.
    if view.unserved and not view.waiting and facts.get("lock_stale") is False:
        migrators += [{**item, "command": " ".join(item.get("argv") or ())[:80]} for item in view.processes]
    evidence = [says("knex", f"the migration lock is set; migrating: {_names(migrators) or 'nobody'}")] if held else []
    evidence += [says("knex", f"pending: {', '.join(pending[:5])}")] if pending else []
    left_behind = bool(held if held is not None else locked)
    prevention = "Migrate as a step of the release, with a backup before it, and let nobody kill a migration."
    common: Dict[str, Any] = {"prevention": prevention, "details": {"pending": pending, "lock_held": left_behind}}
    if held and migrators:
        # Nothing is to be done about it.
        common["details"] = {"pending": [], "lock_held": False}
        return Finding(
            confidence=0.9,
            summary=f"A migration is running: {_names(migrators)}.",
            evidence=evidence + locked,
            remedy="Wait for it. Ended midway it leaves its lock behind, and the service does not start.",
            useless_rungs=RUNGS,
            **common,
        )
    if ahead:
        return Finding(
            confidence=0.93,
            summary="The database has migrations that the code does not know: the code is older than its database.",
            evidence=[*evidence, says("log", view.complaints())],
            remedy="Put the release in place that has these migrations; do not migrate.",
            useless_rungs=RUNGS,
            **common,
        )
    if (held and view.gone) or locked:
        stands = held is not False
        # Without a word the service may well start beside the lock; only what migrates cannot.
        useless = RUNGS if locked else ("clean_start_recovery",)
        return Finding(
            confidence=(0.95 if held else 0.9 if stands else 0.5) if locked else 0.6,
            summary="A migration was interrupted and its lock is still set."
            if stands
            else "The service found the migration lock set; it is free now.",
            evidence=evidence + locked + missing,
            remedy="Back the database up, release the stale lock, migrate to the latest."
            if stands
            else "Start the service.",
            useless_rungs=useless if stands else (),
            explains=FALLS if locked else (),
            past=not stands,
            **common,
        )
    if not missing:
        return None
    known = facts.get("pending") is not None
    return Finding(
        confidence=0.9 if pending else 0.5 if known else 0.6,
        summary=f"The service asks for tables or columns that {len(pending)} pending migrations would bring."
        if pending
        else "The service asks for tables or columns that the database does not have.",
        evidence=evidence + missing,
        remedy="Back the database up and migrate to the latest."
        if pending
        else "Compare the release with the migrations' status; see whether it is the right database.",
        # Only the clean start migrates.
        useless_rungs=() if known and not pending else ("restart", "standard_recovery"),
        **common,
    )


def _names(processes: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"pid {item['pid']} ({item['command']})" for item in processes)


def database_owner(view: View) -> Optional[Finding]:
    """The service's user may not write its database."""
    facts = view.part("ownership")
    denied = list(facts.get("denied") or ())
    if not denied or facts.get("read_only") or not (view.unwell or view.troubled):
        return None
    words = _REFUSED.search(view.complaints())
    first = denied[0]
    return Finding(
        confidence=(0.97 if words else 0.94) if view.unwell else 0.45,
        summary=f"User {facts.get('user')} may not write {first['path']}: it belongs to {first['owner']}, "
        f"mode {first['mode']}.",
        evidence=[
            says(item["path"], f"owner {item['owner']}, group {item['group']}, mode {item['mode']}") for item in denied
        ]
        + ([says("log", words.group(0))] if words else []),
        remedy=f"Give database, -wal, -shm and their folder back to user {facts.get('user')} (chown), then start it.",
        prevention="Work on the database as the service's user only (sudo -u), never as root.",
        useless_rungs=RUNGS if view.unwell else (),
        details={
            "user": facts.get("user"),
            "database": facts.get("database"),
            "files": list(facts.get("foreign") or ()),
            "denied": [item["path"] for item in denied],
            "others": list(facts.get("others") or ()),
        },
    )


def wal_pending(view: View) -> Optional[Finding]:
    """Committed rows stand in the WAL alone: not why it fell, but what must not be lost now."""
    wal = view.part("database").get("wal") or {}
    pending = wal.get("pages_pending") or 0
    if not view.gone or not pending:
        return None
    return Finding(
        confidence=0.2,
        summary=f"{pending} committed pages of the database stand in its -wal file alone.",
        evidence=[says(f"{view.part('database').get('path')}-wal", f"{wal.get('frames_committed')} committed frames")],
        remedy="Do not delete the -wal. Starting the service, or a checkpoint (module sqlite_wal), brings them home.",
        prevention="Let the service close its database when it is stopped (a handler for SIGTERM).",
    )
