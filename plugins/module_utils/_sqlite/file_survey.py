# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check a database's files without SQLite: header, WAL, index and journal."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Any, Dict, Iterator, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import wal as sqlite_wal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    FileFacts,
    Look,
    Problem,
    SqliteError,
)

_LOOKS = 5  # maximum number of attempts if files change during a check


def look(path: str, *, user: Optional[str] = None) -> Look:
    """Check a database (absolute path) and the files next to it, without SQLite. The WAL is read later by read_wal.

    If accounts other than root can change the folder, the files are read as the given user, or by default as the
    folder's owner. The result lists the problems with the files. Raises SqliteError if the path cannot be checked, or
    if an account has redirected the path to another account's file. Raises FileNotFoundError if a file appeared or
    vanished during the check.
    """
    if not os.path.isabs(path) or "\0" in path:
        raise SqliteError(f"path must be an absolute path, not {sqlite_files.printable(path)!r}")
    rights = sqlite_files.rights_on(path, user)
    try:
        with safe_open.acting(rights):
            # Like this code, SQLite follows links, and stores the WAL next to the link's target.
            real = "/" + os.path.realpath(path).lstrip("/")
        found = Look(given=path, path=real, rights=rights)
        for name, suffix in sqlite_files.SUFFIXES.items():
            facts = sqlite_files.facts_of(real + suffix, rights=rights)
            if facts is not None:
                found.files[name] = facts
    except OSError as error:
        found = Look(given=path, path=path, rights=rights)
        shown, why = sqlite_files.printable(path), str(error.strerror)
        found.problems.append(Problem("unreadable", message("reason.sqlite.cannot.look_at", path=shown, why=why)))
        with contextlib.suppress(FileNotFoundError):
            require_a_way(path, None)
        return found
    require_a_way(path, found.files.get("database"))
    _look_at_database(found)
    _look_at_side_files(found)
    return found


def require_a_way(path: str, facts: Optional[FileFacts]) -> None:
    """Raise SqliteError if an account with write access to the path redirected the path to another account's file.

    If this were not checked, an account could obtain copies of another account's file, or make this code replace the
    file. facts: an earlier result of lstat for the file at path, or None. Raises FileNotFoundError if path now leads to
    another file.
    """
    try:
        with safe_open.acting(None):
            status = safe_open.look_up(path)
    except OSError as error:
        if facts is not None and not facts.regular:
            return  # for example a link to itself, which this code does not open
        raise sqlite_files.cannot("work_on", path=sqlite_files.printable(path), why=str(error.strerror)) from error
    there = None if facts is None else (facts.device, facts.inode)
    if there != (None if status is None else (status.st_dev, status.st_ino)):
        raise FileNotFoundError(errno.ENOENT, "another file has taken its place", path)


def away(path: str, *, rights: safe_open.Rights) -> Optional[Problem]:
    """If the file system of a missing database is not mounted, or its folder is missing, return a problem, else None.

    The rows of such a database are unknown.
    """
    shown = sqlite_files.printable(path)
    point = mounts.unmounted(path)
    if point is not None:
        told = message("reason.sqlite.not_mounted", path=shown, mount=sqlite_files.printable(point))
        return Problem("not_mounted", told)
    with safe_open.acting(rights):
        there = os.path.isdir(os.path.dirname(path))
    return None if there else Problem("folder_missing", message("reason.sqlite.folder_missing", path=shown))


def _look_at_database(found: Look) -> None:
    shown = sqlite_files.printable(found.path)
    facts = found.files.get("database")
    side = found.files.get("wal")
    beside = side.size if side is not None else 0
    if facts is None:
        told = message("reason.sqlite.missing", path=shown)
        if beside:
            told = message("reason.sqlite.missing_beside_wal", path=shown, bytes=beside)
        # The folder of a guard target never exists. For such a path, a missing folder does not indicate an unmounted
        # file system.
        here = beside or sqlite_files.is_guard_target(found.path)
        found.problems.append(
            (None if here else away(found.path, rights=found.rights)) or Problem("missing", told, loss=True)
        )
    elif not facts.regular:
        kind = sqlite_files.kind_of(facts)
        found.problems.append(Problem("not_a_file", message("reason.sqlite.not_a_file", path=shown, kind=kind)))
    elif facts.size == 0 and beside:
        told = message("reason.sqlite.empty_beside_wal", path=shown, bytes=beside)
        found.problems.append(Problem("empty_beside_wal", told, loss=True))
    elif facts.size == 0:
        found.problems.append(Problem("empty", message("reason.sqlite.empty", path=shown), loss=True))
    else:
        try:
            data = _head(facts, 100)
        except FileNotFoundError:
            raise
        except OSError as error:
            why = str(error.strerror or error)
            found.problems.append(Problem("unreadable", message("reason.sqlite.cannot.read", path=shown, why=why)))
            return
        found.header = sqlite_files.parse_header(data)
        if found.header is None:
            told = message("reason.sqlite.not_a_database", path=shown)
            found.problems.append(Problem("not_a_database", told, loss=True))


def _look_at_side_files(found: Look) -> None:
    for name in ("wal", "shm", "journal"):
        facts = found.files.get(name)
        if facts is not None and not facts.regular:
            shown, kind = sqlite_files.printable(facts.path), sqlite_files.kind_of(facts)
            told = message("reason.sqlite.side_not_a_file", path=shown, kind=kind)
            found.problems.append(Problem("not_a_file", told))
            found.header = None  # SQLite must not open the database, because it would follow the link or fail
            return
    if "journal" in found.files:
        with _reported(found):
            found.hot_journal = _head(found.files["journal"], 8) == sqlite_files.JOURNAL_MAGIC


@contextlib.contextmanager
def _reported(found: Look) -> Iterator[None]:
    """Record a problem if the body of the with statement cannot read a file.

    If the file does not exist, re-raise FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        found.header = None
        shown, why = sqlite_files.printable(found.path), str(error.strerror or error)
        found.problems.append(Problem("unreadable", message("reason.sqlite.cannot.read_beside", path=shown, why=why)))


def read_wal(found: Look, *, live: bool, deadline: Optional[float] = None) -> None:
    """Read the WAL of a checked database and add it to `found`. Raises FileNotFoundError if SQLite removed the WAL.

    live: True if a process has the database open and may write to the WAL during the read. The index of a live database
    shows how many frames are valid, and whether the WAL was restarted during the read.
    """
    side = found.files.get("wal")
    if side is None or not side.regular:
        return
    with _reported(found):
        if live:
            for _look in range(_LOOKS):
                if _read_live(found, side, deadline=deadline):
                    return
                time.sleep(0.02)
            found.wal = sqlite_wal.Wal(exists=True, size=side.size, complete=False)
        else:
            found.wal = _wal_at(side, deadline=deadline)
            index = _index_of(found)
            if index is not None and index.salts == found.wal.salts:
                found.backfilled = min(index.backfilled, found.wal.frames_committed)
                # SQLite records a commit in the index before acknowledging it. In two cases, the index may lack
                # acknowledged commits:
                # - Nothing has been committed since a process rebuilt the index. In this case, the index contains only
                #   the frames that the rebuilding process could read.
                # - The host has crashed since the last write. In this case, the index may be older than the WAL.
                booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
                if index.commits and side.mtime_ns / 1e9 > booted:
                    found.acknowledged = index.max_frame


def _read_live(found: Look, side: FileFacts, *, deadline: Optional[float]) -> bool:
    """Read the database header and the WAL. Return True if the header and the WAL belong to one consistent snapshot."""
    if "database" not in found.files:
        return False
    before = _index_of(found)
    header = sqlite_files.parse_header(_head(found.files["database"], 100))
    index = _index_of(found)
    if before is None or index is None or header is None:
        return False
    wal = _wal_at(side, deadline=deadline, limit=index.max_frame)
    after = _index_of(found)
    if after is None or not before.salts == index.salts == after.salts:
        return False  # the WAL was restarted, or replaced by another file
    if wal.header_valid and wal.salts != index.salts and index.max_frame:
        return False
    found.header, found.wal = header, wal
    found.backfilled = min(after.backfilled, wal.frames_committed)
    return True


def _wal_at(facts: FileFacts, *, deadline: Optional[float], limit: Optional[int] = None) -> sqlite_wal.Wal:
    descriptor = sqlite_files.open_named(facts)
    try:
        return sqlite_wal.read_wal(descriptor, deadline=deadline, limit=limit)
    finally:
        os.close(descriptor)


def _index_of(found: Look) -> Optional[sqlite_wal.WalIndex]:
    facts = found.files.get("shm")
    if facts is None or not facts.regular:
        return None
    index = sqlite_wal.parse_index(_head(facts, 136))
    return index if index is not None and index.initialised else None


def _head(facts: FileFacts, length: int) -> bytes:
    descriptor = sqlite_files.open_named(facts)
    try:
        return os.pread(descriptor, length, 0)
    finally:
        os.close(descriptor)


def why_foreign(found: Look) -> Optional[Message]:
    """Return the reason why the WAL cannot belong to the database, or None if it may belong to the database.

    SQLite would accept a WAL from before a restore, or a WAL that was copied next to the wrong database. The checksums
    of such a WAL are valid.
    """
    header, wal = found.header, found.wal
    if header is None or not wal.frames_committed:
        return None
    if wal.page_size != header.page_size:
        return message("reason.sqlite.other_page_size", found=wal.page_size, expected=header.page_size)
    first, last = sqlite_files.parse_header(wal.first_page_one), sqlite_files.parse_header(wal.page_one)
    # Page 1 contains a change counter. If the WAL belongs to the database, its first counter is at most one higher than
    # the database's counter, and its last counter is not lower.
    if first is None or last is None or first.change_counter - 1 <= header.change_counter <= last.change_counter:
        return None
    counted = {"first": first.change_counter, "last": last.change_counter, "present": header.change_counter}
    return message("reason.sqlite.other_changes", **counted)


def wal_as_dict(found: Look) -> Dict[str, Any]:
    """Return the facts about the WAL in the format of the modules' results."""
    wal = found.wal
    return {
        "exists": wal.exists,
        "size": wal.size,
        "page_size": wal.page_size,
        "frames_total": wal.frames_total,
        "frames_valid": wal.frames_valid,
        "frames_committed": wal.frames_committed,
        "frames_lost": wal.frames_lost,
        "frames_backfilled": found.backfilled,
        "pages_pending": wal.pages_pending(found.backfilled),
        "database_pages": wal.database_pages,
        "torn": wal.torn,
        "damaged": wal.damaged or wal.foreign,
        "checkpoint_sequence": wal.checkpoint_sequence,
        "complete": wal.complete,
    }
