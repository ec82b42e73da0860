# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Empty a WAL without any loss: SQLite copies it into the database while nobody else has the database open.

No file is ever removed here. SQLite removes the WAL and its index itself when its last connection closes, and only
after every committed frame is in the database and on disk.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any, Dict, List, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
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
    """Copy the content of the WAL of path into the database, and return the result of sqlite_wal.

    SQLite works with the rights of the user. See sqlite_files.look.
    Raises SqliteError if another process has the database open, or if the database is not sound: then the WAL may hold
    the only good rows. Row counts before and after are compared.
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
    """Copy the WAL into the database and prove that nothing was lost; return the changes of the result.

    limits: the other arguments of _check. Raises SqliteError.
    """
    shown, wal = before["database"]["real_path"], before["wal"]
    rights = sqlite_files.rights_on(path, user)
    roots = [entry["path"] for entry in before["files"] if entry["owner"] == "root"] if rights else []
    if roots:
        raise SqliteError(
            f"Cannot checkpoint {shown}: {', '.join(roots)} belongs to root, and only the owner of the folder may "
            "work there; give it back to the service's user first (module sqlite_owner)"
        )
    with safe_open.acting(rights), sqlite_files.clear_errors(f"checkpoint {printable(path)}"):
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
    if before["holders"]:
        names = ", ".join(f"pid {holder['pid']} ({holder['command']})" for holder in before["holders"])
        raise SqliteError(f"Refusing to checkpoint {shown}: it is open in {names}; stop that first")
    if before["wal"]["size"] and any(problem["code"] == "hot_journal" for problem in before["problems"]):
        raise SqliteError(
            f"Refusing to checkpoint {shown}: SQLite would first undo the rollback journal next to its WAL"
        )
    if not before["healthy"]:
        messages = "; ".join(problem["message"] for problem in before["problems"] if problem["level"] == "error")
        raise SqliteError(f"Refusing to checkpoint {shown}: it is not sound ({messages})")
    for name in ("quick", "row_counts"):
        if before["checks"].get(name) != "ok":
            raise SqliteError(f"Refusing to checkpoint {shown}: the {name} check was {before['checks'].get(name)}")
    if not before["wal"]["complete"]:
        raise SqliteError(f"Refusing to checkpoint {shown}: its WAL could not be read to its end within time_budget")


def _room(real: str, *, wal: Dict[str, Any], size: int) -> None:
    growth = max(wal["database_pages"] * wal["page_size"] - size, 0)
    try:
        free = sqlite_files.free_bytes(os.path.dirname(real))
    except OSError as error:
        raise SqliteError(f"Cannot get the free space next to {printable(real)}: {error.strerror}") from error
    if growth > free:
        raise NoRoomError(
            f"Cannot checkpoint {printable(real)}: the database will grow by {growth} bytes, {free} are free; "
            "free other space first, the WAL is kept"
        )


def _run(real: str, *, rights: safe_open.Rights, busy_timeout: float, deadline: float) -> None:
    shown = printable(real)

    def work(emit: child_process.Emit) -> None:
        uri = sqlite_reader.uri_of(real, "mode=rw")
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)
        # Exclusive before the first read: SQLite itself then proves that nobody else has it open, and locks others out.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        emit({"event": "checkpoint", "row": connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()})
        connection.close()
        if os.path.lexists(f"{real}-shm"):
            # The crashed service left the index, and the exclusive connection did not use it. An ordinary connection
            # removes it.
            connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.close()

    messages: List[Dict[str, Any]] = child_process.in_child(work, deadline=deadline, read_only=False, rights=rights)
    end = messages[-1]
    if end.get("timeout"):
        raise SqliteError(f"The checkpoint of {shown} did not finish in time; the WAL is kept, run it again")
    if "signal" in end or "error" in end:
        raise SqliteError(f"Cannot checkpoint {shown}: {end.get('error') or end['signal']}; the WAL is kept")
    busy, frames, copied = next(message["row"] for message in messages if message["event"] == "checkpoint")
    if busy or frames != copied:
        raise SqliteError(
            f"The checkpoint of {shown} was held up: busy={busy}, {copied} of {frames} frames copied; the WAL is kept"
        )
    try:
        with safe_open.acting(rights):
            atomic_files.fsync_folder(os.path.dirname(real))
    except OSError as error:
        raise SqliteError(f"Cannot flush the folder of {shown} to disk: {error.strerror}") from error


def _prove(before: Dict[str, Any], after: Dict[str, Any], *, shown: str) -> None:
    if not after["holders"] and after["wal"]["size"]:
        raise SqliteError(f"The WAL of {shown} still has {after['wal']['size']} bytes after the checkpoint")
    if after["holders"]:
        return  # somebody started the service meanwhile and may have changed it
    if not after["healthy"]:
        messages = "; ".join(problem["message"] for problem in after["problems"])
        raise SqliteError(f"{shown} is not sound after the checkpoint: {messages}")
    if after["row_counts"] != before["row_counts"]:
        raise SqliteError(
            f"{shown} has other row counts after the checkpoint: {after['row_counts']}, before {before['row_counts']}"
        )
