# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a live or crashed database through SQLite, and verify the copy."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sqlite3
import threading
import time
from typing import Any, Dict, Optional, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable

ATTEMPTS = 10  # maximum number of attempts, because the service may start or stop during an attempt
_PAGES = 4096  # number of pages to copy between two deadline checks
_CHUNK = 1 << 20


def _may_back_up(found: Look) -> None:
    shown = printable(found.path)
    for problem in found.problems:
        raise SqliteError(message("reason.sqlite.not_backed_up", path=shown, why=problem.told))
    if found.wal.damaged or found.wal.foreign:
        raise SqliteError(message("reason.sqlite.backup_would_lack", path=shown, frames=found.wal.frames_lost))


def survey(path: str, *, user: Optional[str], deadline: float, proc_root: str) -> Tuple[Look, sqlite_holders.Holders]:
    """Return a database's files and holders. Raises SqliteError if the database cannot be backed up completely."""
    for attempt in range(ATTEMPTS):
        found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
        if not found.wal.complete and time.monotonic() > deadline:
            late = message("reason.sqlite.wal_unread_in_time")
            raise sqlite_files.cannot("back_up", path=printable(path), why=late)
        try:
            _may_back_up(found)
            break
        except SqliteError:
            # If the service starts during the check, the WAL may seem damaged.
            if attempt == ATTEMPTS - 1 or sqlite_files.stamps_of(found.path, rights=found.rights) == found.stamps:
                raise
    return found, holders


def copy(
    found: Look,
    holders: sqlite_holders.Holders,
    target: str,
    *,
    busy_timeout: float,
    deadline: float,
    user: Optional[str],
    rights: safe_open.Rights,
    proc_root: str,
) -> Dict[str, Any]:
    """Copy the database to a new file and return the result of verify(). Raises OSError, SqliteError."""
    shown = printable(found.path)
    for _attempt in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        with sqlite_reader.way_in(found, holders, busy_timeout=busy_timeout, deadline=deadline) as way:
            messages = child_process.in_child(
                functools.partial(_copy_pages, way=way, target=target, deadline=deadline, rights=rights),
                deadline=deadline,
                read_only=False,  # the child drops its write access after it has opened the copy
            )
            steady = way.steady
        end = messages[-1]
        if "timeout" in end or (steady and not sqlite_reader.vanished(end.get("error", ""), found=found)):
            break
        found, holders = survey(found.given, user=user, deadline=deadline, proc_root=proc_root)
    else:
        raise sqlite_files.cannot("back_up", path=shown, why=message("reason.sqlite.written_every_time"))
    _expect_end(end, "back_up", path=shown)
    counts = next(message["counts"] for message in messages if message["event"] == "counts")
    facts = found.files["database"]
    _keep_secret(target, facts)
    verified = verify(target, deadline=deadline, rights=rights)
    if verified["integrity"] != "ok":
        raise SqliteError(message("reason.sqlite.backup_not_sound", path=shown, why=verified["integrity"]))
    if verified["row_counts"] != counts:
        told = {"copied": str(verified["row_counts"]), "counted": str(counts)}
        raise SqliteError(message("reason.sqlite.backup_differs", path=shown, **told))
    return verified


def _keep_secret(target: str, facts: sqlite_files.FileFacts) -> None:
    """Set the owner of a copy, deny all other users access, and flush the copy to disk. Raises OSError."""
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, facts.uid, facts.gid)
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_pages(
    emit: child_process.Emit,
    *,
    way: sqlite_reader.WayIn,
    target: str,
    deadline: float,
    rights: safe_open.Rights,
) -> None:
    """Count the rows and copy the pages within one snapshot. Runs in the child process."""
    # Open the copy first, because the child drops its write access before it opens the database.
    with safe_open.acting(rights):
        copy = sqlite3.connect(target, isolation_level=None)
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")  # the complete file is flushed to disk later
    if way.read_only:
        child_process.give_up_writing(way.rights)
    connection = way.connect()

    def progress(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() > deadline:
            raise SqliteError(message("reason.sqlite.timeout_over"))

    with sqlite_reader.interrupted_at(connection, deadline):
        connection.execute("BEGIN")
        emit({"event": "counts", "counts": sqlite_schema.count_rows(connection)})
        connection.backup(copy, pages=_PAGES, progress=progress)
    copy.close()


def verify(path: str, *, deadline: float, rights: safe_open.Rights = None) -> Dict[str, Any]:
    """Reopen a finished copy. Return the result of its integrity check, its row counts, its size and its SHA-256.

    Raises SqliteError.
    """

    def work(emit: child_process.Emit) -> None:
        digest = hashlib.sha256()

        def read() -> None:
            with open(path, "rb") as stream:
                for chunk in iter(lambda: stream.read(_CHUNK), b""):
                    digest.update(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        connection = sqlite_reader.connect(path, way="alone", busy_timeout=1, check_cells=False)
        with sqlite_reader.interrupted_at(connection, deadline):
            connection.execute(f"PRAGMA mmap_size={1 << 40}")
            lines = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(10)")]
            counts = sqlite_schema.count_rows(connection)
        reader.join()
        emit({"event": "verified", "integrity": "; ".join(lines), "row_counts": counts, "sha256": digest.hexdigest()})

    messages = child_process.in_child(work, deadline=deadline, rights=rights)
    _expect_end(messages[-1], "verify_backup", path=printable(path))
    verified = messages[0]
    return {
        "integrity": verified["integrity"],
        "row_counts": verified["row_counts"],
        "sha256": verified["sha256"],
        "size": os.stat(path).st_size,
    }


def _expect_end(end: Dict[str, Any], deed: str, *, path: str) -> None:
    why: Union[str, Message, None] = end.get("error")
    if end.get("timeout"):
        why = message("reason.sqlite.timeout_over")
    elif "signal" in end:
        why = message("reason.sqlite.disk_incomplete", signal=str(end["signal"]))
    if why is not None:
        raise sqlite_files.cannot(deed, path=path, why=why)
