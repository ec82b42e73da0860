# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore the newest backup to a scratch folder, start the service with it, and measure how long this takes.

The drill does not change the running service or its database (see sandbox.py). The result is stored in
restore_drill.json in the state folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import (
    choice,
    drill_order,
    drill_service,
    listing,
    litestream,
    messages,
    sandbox,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.drill_order import Order
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, commands, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    MessageError,
    message,
    of,
    plain,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import last_good
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, candidates, row_counts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

RESULT = "restore_drill.json"
_LIVE_PROPERTIES = ("ActiveState", "MainPID", "NRestarts", "ExecMainStartTimestampMonotonic")
_MARGIN = 64 << 20
_FREE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


class _Live(NamedTuple):
    """The service's process and its database file, which a drill must not change."""

    process: Mapping[str, str]
    database: Optional[Tuple[int, int]]


class _Done:
    """The intermediate result of a drill."""

    def __init__(self) -> None:
        self.problems: List[Message] = []
        self.chosen: Optional[choice.Chosen] = None
        self.rpo: Optional[float] = None
        self.rto: Optional[float] = None
        self.rows: Dict[str, int] = {}
        self.rows_after: Dict[str, int] = {}
        self.login: Optional[bool] = None
        self.unchanged: Optional[bool] = None
        # True if the drill was completed: the service was healthy, and everything was checked.
        self.complete = False
        # True if the backup was restored. If the drill fails after the restore, no other backup is tried.
        self.restored = False

    def choose(self, chosen: choice.Chosen, *, asked: float) -> None:
        """Set the backup to restore. asked: when the drill began, in seconds since the epoch."""
        self.chosen = chosen
        self.rpo = None if chosen.written is None else round(max(asked - chosen.written, 0.0), 3)
        self.rows = dict(chosen.rows)


def drill(order: Order, *, check_mode: bool = False, run: commands.Runner = commands.run) -> Dict[str, Any]:
    """Run a drill and return the result of the restore_drill module.

    A failed drill is a result, not an error. Raises BackupError or SqliteError if a parameter is invalid or the drill
    cannot be run on this host.
    """
    drill_order.check(order)
    began, at = time.monotonic(), timestamps.now()
    done = _Done()
    if check_mode:
        listing.refuse_other_run(order.state_dir, run=order.run)
    with listing.locked(order.state_dir, run=order.run) if not check_mode else contextlib.nullcontext():
        search = choice.Search(
            place=order.database,
            named=order.backup,
            dirs=order.dirs,
            patterns=order.patterns,
            user=order.user,
            known=_known(order),
            recorded=listing.recorded(order.state_dir),
            time_budget=order.time_budget,
            configured=order.configured,
        )
        asked = time.time()
        chosen = _candidates(order, search, done, deadline=began + order.time_budget, run=run)
        before = _live(order, run=run) if chosen and not check_mode else None
        for number, each in enumerate(chosen):
            done.choose(each, asked=asked)
            if check_mode:
                break
            try:
                _restore_and_start(order, done, search, run=run)
            except (MessageError, OSError) as error:
                done.problems.append(error.told if isinstance(error, MessageError) else quoted(error))
                # If a replica cannot be restored, use the newest backup. If the drill fails after a backup has been
                # restored, report this failure, and do not try another backup.
                if done.restored or number + 1 == len(chosen):
                    break
            else:
                break
        if before is not None:
            changes = _changes(before, _live(order, run=run))
            done.problems += changes
            done.unchanged = not changes
        if check_mode:
            done.complete = done.chosen is not None
        result = _result(done, at=at, began=began)
        if not check_mode:
            _keep(order.state_dir, result)
    return result


def _known(order: Order) -> candidates.Known:
    """Return the data that identifies the service's database, from the last good check or from the live database.

    If the tables are still unknown, use those of the newest sound backup in the list.
    """
    counted = last_good.last_good_rows(order.state_dir, path=order.database)
    if not counted.created_at:
        # the drill can run without the live database
        with contextlib.suppress(SqliteError):
            look = sqlite_check.check(path=order.database, checks=[], user=order.user, time_budget=order.time_budget)
            now = last_good.Counted.of(look)
            counted = now._replace(rows=counted.rows or now.rows)
    listed = [] if counted.rows else listing.read(order.state_dir)
    tables = counted.rows or next((entry.rows for entry in listed if entry.sound), {})
    return candidates.Known(set(tables), counted.created_at)


def _candidates(
    order: Order, search: choice.Search, done: _Done, *, deadline: float, run: commands.Runner
) -> List[choice.Chosen]:
    """Return the backups to try: first the replica, which is newer than any backup, then the newest backup."""
    found: List[choice.Chosen] = []
    if order.litestream_config and not order.backup:
        try:
            where = {"config": order.litestream_config, "program": order.litestream_program}
            replica = litestream.find(order.database, **where)
            _refuse_other(order, replica)
        except BackupError as error:
            replica = None
            done.problems.append(error.told)
        if replica is not None:
            written = litestream.newest_change(replica, run=run)
            found.append(choice.Chosen(replica.name, written, {}, replica))
    newest, problems = choice.newest(search, deadline=deadline)
    # If there is a replica, a missing backup is not a problem.
    done.problems += [each for each in problems if not found or each.id != "reason.restore.no_backup_in"]
    return [*found, newest] if newest is not None else found


def _refuse_other(order: Order, replica: Optional[litestream.Replica]) -> None:
    """Raise BackupError if the replica's database is neither in the inventory nor readable by the service's user.

    The service's user can read a restored replica, and can choose the path of the database.
    """
    if replica is None or os.path.normpath(replica.database) == os.path.normpath(order.configured or order.database):
        return
    rights = sqlite_files.rights_on(replica.database, order.user)
    reader = backup_access.Reader(order.user)
    why = backup_access.access(reader, rights=rights, patterns=()).why_not(replica.database, replica=True)
    if why is not None:
        raise BackupError(message("reason.litestream.refused", path=printable(replica.database), user=order.user))


def _live(order: Order, *, run: commands.Runner) -> _Live:
    """Return the state of the running service. Raises BackupError, SqliteError."""
    try:
        process = systemd.unit_properties(order.unit, _LIVE_PROPERTIES, run=run)
    except procfs.HostError as error:
        raise BackupError(error) from error
    facts = sqlite_files.facts_of(order.database, rights=sqlite_files.rights_on(order.database, order.user))
    return _Live(process, None if facts is None else (facts.device, facts.inode))


def _changes(before: _Live, after: _Live) -> List[Message]:
    what = []
    if before.process != after.process:
        pids = {"before": before.process.get("MainPID", "0"), "now": after.process.get("MainPID", "0")}
        what.append(message("reason.drill.pid", **pids))
    if before.database != after.database:
        what.append(message("reason.drill.replaced"))
    return [message("reason.drill.live_changed", what=what)] if what else []


def _restore_and_start(order: Order, done: _Done, search: choice.Search, *, run: commands.Runner) -> None:
    """Restore the chosen backup and start the service with it. Complete `done`. Raises MessageError, OSError."""
    unit = drill_service.unit_name(order.unit)
    properties = drill_service.unit_properties(order, run=run)
    sandbox.stop(unit, run=run)  # a killed drill may have left the unit behind
    account = pwd.getpwnam(order.user)
    with drill_service.scratch_folder(order, account, problems=done.problems) as scratch:
        _require_room(order, done, scratch)
        began = time.monotonic()
        source = _source(order, done, search, scratch, run=run)
        restored = f"{scratch.data}/{os.path.basename(order.database)}"
        copy = sqlite_backup.backup(path=source, dest=restored, user=order.user, timeout=order.time_budget)
        done.rows, done.restored = dict(copy["row_counts"]), True
        limits = sandbox.Limits(memory=order.memory, seconds=2 * order.timeout + 60, largest=2 * copy["size"] + _MARGIN)
        plan = drill_service.plan(order, properties, account, scratch, restored=restored, most=2 * limits.largest)
        lock = listing.lock_of(order.state_dir)
        wanted = sandbox.properties(limits, output=scratch.output, data=scratch.data, folder=scratch.folder, lock=lock)
        try:
            with sandbox.in_memory(plan) as path:
                sandbox.start(unit, path, wanted, run=run)
                pid = drill_service.await_health(order, unit, scratch, secrets=plan.environment, run=run)
            done.rto = round(time.monotonic() - began, 3)
            drill_service.check_open(order, restored)
            _log_in(order, done, pid)
        finally:
            sandbox.stop(unit, run=run)
        _compare(order, done, restored)
    done.complete = True


def _source(
    order: Order, done: _Done, search: choice.Search, scratch: drill_service.Scratch, *, run: commands.Runner
) -> str:
    """Return the path of the backup. A replica is first restored to a file in a root-owned folder, and checked.

    Raises BackupError.
    """
    chosen = done.chosen
    if chosen is None or chosen.replica is None:
        return chosen.path if chosen is not None else ""
    target = f"{scratch.folder}/replica.db"
    litestream.restore(chosen.replica, target, timeout=order.time_budget, run=run)
    restored = candidates.Candidate(time.time(), target)
    why = choice.examine(restored, search, time_budget=order.time_budget).why
    if why is not None:
        raise BackupError(candidates.refusal(restored._replace(path=chosen.path), why))
    return target


def _require_room(order: Order, done: _Done, scratch: drill_service.Scratch) -> None:
    """Raise BackupError if the host does not have enough space or memory for the drill. Raises OSError."""
    chosen = done.chosen
    # A replica is about as large as the live database. It is first restored to a file, which is then copied.
    path, times = (order.database, 3) if chosen is None or chosen.replica else (chosen.path, 2)
    rights = sqlite_files.rights_on(path, order.user)
    sizes = [sqlite_files.facts_of(path + suffix, rights=rights) for suffix in ("", "-wal")]
    needed = times * sum(facts.size for facts in sizes if facts is not None) + _MARGIN
    free = sqlite_files.free_bytes(scratch.folder)
    if free < needed:
        folder = printable(order.folder)
        raise BackupError(message("reason.drill.no_room", needed=needed, free=free, folder=folder))
    available = _FREE.search(procfs.read_text("/proc/meminfo"))
    memory = int(available.group(1)) << 10 if available else order.memory
    if memory < order.memory:
        raise BackupError(message("reason.drill.no_memory", needed=order.memory, free=memory))


def _log_in(order: Order, done: _Done, pid: int) -> None:
    """Log in to the service, which uses the restored database. Raises BackupError if the login fails."""
    if order.login is None:
        return
    why = drill_service.log_in(order.login, pid)
    done.login = why is None
    if why is not None:
        raise BackupError(message("reason.drill.login", why=why))


def _compare(order: Order, done: _Done, restored: str) -> None:
    """Check the restored database after the service has used it. Raises BackupError, SqliteError."""
    check = sqlite_check.check(path=restored, checks=["quick"], user=order.user, time_budget=order.time_budget)
    done.rows_after = dict(check["row_counts"])
    errors = [of(problem, "message") for problem in check["problems"] if problem["level"] == "error"]
    if errors or check["checks"].get("quick") != "ok":
        raise BackupError(message("reason.drill.not_sound", why=errors or [quoted(check["checks"].get("quick"))]))
    lost = row_counts.missing(done.rows, done.rows_after)
    if lost:
        tables = [message("reason.backup.table", table=name, rows=n[0], now=n[1]) for name, n in lost.items()]
        raise BackupError(message("reason.drill.rows_lost", tables=tables))


def _result(done: _Done, *, at: str, began: float) -> Dict[str, Any]:
    chosen = done.chosen
    return {
        "changed": False,
        "at": at,
        "ok": done.complete and done.unchanged is not False,
        "backup": printable(chosen.path) if chosen is not None else None,
        "backup_at": chosen.at if chosen is not None else None,
        "rpo_seconds": done.rpo,
        "rto_seconds": done.rto,
        "rows": done.rows,
        "rows_after": done.rows_after,
        "login": done.login,
        "live_unchanged": done.unchanged,
        "problems": [messages.english(each) for each in done.problems],
        "messages": plain(problems=done.problems),
        "duration": round(time.monotonic() - began, 3),
    }


def _keep(state_dir: str, result: Mapping[str, Any]) -> None:
    """Write the result to the state folder, with its problems as messages. Raises BackupError."""
    kept = {name: value for name, value in result.items() if name not in ("changed", "messages")}
    kept["problems"] = result["messages"].get("problems", [])
    path = os.path.join(state_dir, RESULT)
    try:
        atomic_files.write_atomically(path, json.dumps(kept, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as error:
        why = str(error.strerror)
        raise BackupError(message("reason.drill.not_kept", path=printable(path), why=why)) from error
