# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoint a WAL without data loss, while no other process has the database open.

This code removes no files. When the last connection closes, SQLite itself removes the WAL and its index. SQLite does
this only after every committed frame is in the database and on disk.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any, Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, of
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    NoRoomError,
    SqliteError,
    printable,
)


def checkpoint(
    *,
    path: str,
    user: Optional[str] = None,
    busy_timeout: float = 5.0,
    time_budget: float = 120.0,
    check_mode: bool = False,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Copy the content of the WAL into the database, and return the result of the sqlite_wal module.

    The row counts before and after the checkpoint are compared. user: the user that SQLite runs as. See
    file_survey.look.

    Raises SqliteError if another process has the database open. Also raises SqliteError if the database is not sound.
    The WAL of such a database may contain the only good rows.
    """
    started = time.monotonic()
    before = _check(path, user=user, time_budget=time_budget, busy_timeout=busy_timeout, proc_root=proc_root)
    shown = before["database"]["real_path"]
    _refuse(before, shown=shown)
    wal = before["wal"]
    needed = wal["size"] > 0
    result: Dict[str, Any] = {
        "changed": needed,
        "checkpointed": not needed,
        "frames_before": wal["frames_total"],
        "frames_committed": wal["frames_committed"],
        "pages_written": wal["pages_pending"],
        "torn": wal["torn"],
        "removed": [],
        "holders": before["holders"],
        "row_counts": before["row_counts"],
        "wal_size_before": wal["size"],
        "wal_size_after": wal["size"],
    }
    if needed and not check_mode:
        limits: Dict[str, Any] = {"busy_timeout": busy_timeout, "time_budget": time_budget, "proc_root": proc_root}
        result.update(_empty(path, before, user=user, deadline=started + time_budget, **limits))
    elif needed:
        result["wal_size_after"] = 0
    result["diff"] = {
        "before": {"wal_bytes": wal["size"], "frames_committed": wal["frames_committed"]},
        "after": {"wal_bytes": result["wal_size_after"], "frames_committed": 0},
    }
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _empty(path: str, before: Dict[str, Any], *, deadline: float, user: Optional[str], **limits: Any) -> Dict[str, Any]:
    """Copy the WAL into the database and verify that no row was lost. Return the changed fields of the result.

    limits: the other arguments of _check. Raises SqliteError.
    """
    shown, wal = before["database"]["real_path"], before["wal"]
    rights = sqlite_files.rights_on(path, user)
    roots = [entry["path"] for entry in before["files"] if entry["owner"] == "root"] if rights else []
    if roots:
        raise sqlite_files.cannot("checkpoint", path=shown, why=message("reason.sqlite.files_of_root", files=roots))
    with safe_open.acting(rights), sqlite_files.clear_errors("checkpoint", path=printable(path)):
        real = os.path.realpath(path)
        there = [name for name in (f"{real}-wal", f"{real}-shm") if os.path.lexists(name)]
        _room(real, wal=wal, size=before["database"]["size"])
    _run(real, rights=rights, busy_timeout=limits["busy_timeout"], deadline=deadline)
    after = _check(path, user=user, **limits)
    _prove(before, after, shown=shown)
    with safe_open.acting(rights):
        removed = [printable(name) for name in there if not os.path.lexists(name)]
    return {"checkpointed": True, "removed": removed, "wal_size_after": after["wal"]["size"]}


def _check(
    path: str, *, user: Optional[str], time_budget: float, busy_timeout: float, proc_root: str
) -> Dict[str, Any]:
    return sqlite_check.check(
        path=path,
        checks=["quick"],
        user=user,
        time_budget=time_budget,
        busy_timeout=busy_timeout,
        proc_root=proc_root,
    )


def _refuse(before: Dict[str, Any], *, shown: str) -> None:
    """Raise SqliteError if the WAL must not be copied into the database."""

    def refused(why: Message) -> SqliteError:
        return SqliteError(message("reason.sqlite.not_checkpointed", path=shown, why=why))

    if before["holders"]:
        names = ", ".join(f"pid {holder['pid']} ({holder['command']})" for holder in before["holders"])
        raise refused(message("reason.sqlite.open_in", holders=names))
    if before["wal"]["size"] and any(problem["code"] == "hot_journal" for problem in before["problems"]):
        raise refused(message("reason.sqlite.journal_beside_wal"))
    if not before["healthy"]:
        errors = [of(problem, "message") for problem in before["problems"] if problem["level"] == "error"]
        raise SqliteError(message("reason.sqlite.not_sound", path=shown, problems=errors))
    for name in ("quick", "row_counts"):
        if before["checks"].get(name) != "ok":
            raise refused(message("reason.sqlite.check_was", check=name, result=str(before["checks"].get(name))))
    if not before["wal"]["complete"]:
        raise refused(message("reason.sqlite.wal_unread_in_budget"))


def _room(real: str, *, wal: Dict[str, Any], size: int) -> None:
    growth = max(wal["database_pages"] * wal["page_size"] - size, 0)
    try:
        free = sqlite_files.free_bytes(os.path.dirname(real))
    except OSError as error:
        raise sqlite_files.cannot("get_space_beside", path=printable(real), why=str(error.strerror)) from error
    if growth > free:
        sizes = {"needed": growth, "free": free}
        raise NoRoomError(message("reason.sqlite.checkpoint_no_room", path=printable(real), **sizes))


def _run(real: str, *, rights: safe_open.Rights, busy_timeout: float, deadline: float) -> None:
    shown = printable(real)

    def work(emit: child_process.Emit) -> None:
        uri = sqlite_reader.uri_of(real, "mode=rw")
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)
        # Set exclusive mode before the first read. SQLite then locks the database, or fails if the database is in use.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        emit({"event": "checkpoint", "row": connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()})
        connection.close()
        if os.path.lexists(f"{real}-shm"):
            # The crashed service left the index behind, and the exclusive connection did not use it. An ordinary
            # connection removes the index when the connection closes.
            connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.close()

    answers: List[Dict[str, Any]] = child_process.in_child(work, deadline=deadline, read_only=False, rights=rights)
    end = answers[-1]
    if end.get("timeout"):
        raise SqliteError(message("reason.sqlite.checkpoint_late", path=shown))
    if "signal" in end or "error" in end:
        why = str(end.get("error") or end["signal"])
        raise SqliteError(message("reason.sqlite.checkpoint_failed", path=shown, why=why))
    busy, frames, copied = next(answer["row"] for answer in answers if answer["event"] == "checkpoint")
    if busy or frames != copied:
        counts = {"busy": busy, "copied": copied, "frames": frames}
        raise SqliteError(message("reason.sqlite.checkpoint_held_up", path=shown, **counts))
    try:
        with safe_open.acting(rights):
            atomic_files.fsync_folder(os.path.dirname(real))
    except OSError as error:
        raise sqlite_files.cannot("flush_folder", path=shown, why=str(error.strerror)) from error


def _prove(before: Dict[str, Any], after: Dict[str, Any], *, shown: str) -> None:
    if not after["holders"] and after["wal"]["size"]:
        raise SqliteError(message("reason.sqlite.wal_remains", path=shown, bytes=after["wal"]["size"]))
    if after["holders"]:
        return  # meanwhile, the service was started and may have changed the database
    if not after["healthy"]:
        problems = [of(problem, "message") for problem in after["problems"]]
        raise SqliteError(message("reason.sqlite.not_sound_after", path=shown, problems=problems))
    if after["row_counts"] != before["row_counts"]:
        rows = {"after": str(after["row_counts"]), "before": str(before["row_counts"])}
        raise SqliteError(message("reason.sqlite.rows_differ_after", path=shown, **rows))
