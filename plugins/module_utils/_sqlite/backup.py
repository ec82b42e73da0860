# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of a database: a consistent, verified one of a live or crashed database, or all its files byte for byte.

A backup appears under its name only once it is complete, reopened, found sound, has every row of its source, and is on
disk. Whatever a killed run leaves lies in a folder of its own, which the next run takes away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import sqlite3
import stat
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import child_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import reader as sqlite_reader
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import schema as sqlite_schema
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import (
    Look,
    NoRoomError,
    SqliteError,
    printable,
)

_ATTEMPTS = 10  # at a database whose service comes and goes
_PARTIAL = ".itsm-nexus-partial-"
_MARGIN = 8 << 20  # bytes left free on the destination
_PAGES = 4096  # copied between two looks at the clock
_CHUNK = 1 << 20
# Seconds for which evidence waits for who has the files open for a moment (a scanner, a copy), and between two tries.
_PATIENCE, _PAUSE = 3.0, 0.1


class _InUseError(SqliteError):
    """Somebody has the files open, so that copies of them may not fit together."""


def backup(
    *,
    path: str,
    dest: Optional[str] = None,
    dest_dir: Optional[str] = None,
    prefix: Optional[str] = None,
    evidence: bool = False,
    keep: int = 0,
    busy_timeout: float = 5.0,
    timeout: float = 600.0,
    room_only: bool = False,
    check_mode: bool = False,
    user: Optional[str] = None,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Copy a database and return the result of the module sqlite_backup.

    C(dest) is the whole file name; otherwise the name is C(prefix) and the present instant, in C(dest_dir). In folders
    that others than root may change, all is read and written with the rights of the user, see sqlite_files.look.
    C(room_only): only look whether there is room. Raises SqliteError if no good copy could be made; then there is none
    under that name.
    """
    started = time.monotonic()
    folder, prefix, name = _names(path=path, dest=dest, dest_dir=dest_dir, prefix=prefix, evidence=evidence, keep=keep)
    if timeout <= 0 or busy_timeout < 0:
        raise SqliteError(f"timeout must be above 0 and busy_timeout not below, not {timeout} and {busy_timeout}")
    try:
        rights = safe_open.rights_on(folder, user=sqlite_files.rights_on(path, user))
    except OSError as error:
        raise SqliteError(f"Cannot write to {printable(folder)}: {error.strerror}") from error
    with safe_open.acting(rights), sqlite_files.clear_errors(f"copy {printable(path)}"):
        return _backup(
            path=path,
            target=f"{folder}/{name}",
            prefix=prefix,
            exact=dest is not None,
            evidence=evidence,
            keep=keep,
            busy_timeout=busy_timeout,
            timeout=timeout,
            room_only=room_only,
            check_mode=check_mode,
            user=user,
            rights=rights,
            started=started,
            proc_root=proc_root,
        )


def _backup(
    *,
    path: str,
    target: str,
    prefix: str,
    exact: bool,
    evidence: bool,
    keep: int,
    busy_timeout: float,
    timeout: float,
    room_only: bool,
    check_mode: bool,
    user: Optional[str],
    rights: safe_open.Rights,
    started: float,
    proc_root: str,
) -> Dict[str, Any]:
    """Make the copy; this process acts with the rights that the folder takes. Raises SqliteError."""
    folder = os.path.dirname(target)
    if exact and os.path.lexists(target):
        raise SqliteError(f"dest {printable(target)} is there already: a backup never replaces another file")
    if evidence:
        found = _patiently(
            lambda: _closed(path, user=user, deadline=started + timeout, proc_root=proc_root), until=started + timeout
        )
        holders = sqlite_holders.Holders(found=[], complete=True)
    else:
        found, holders = _survey(path, user=user, deadline=started + timeout, proc_root=proc_root)
    result: Dict[str, Any] = {
        "changed": True,
        "backup_file": None,
        "evidence_dir": None,
        "sha256": None,
        "size": None,
        "integrity": None,
        "row_counts": {},
        "files": [],
        "removed": [],
    }
    result["room_needed"] = _room(found, folder)
    if room_only:
        return {**result, "changed": False, "diff": {}, "duration": round(time.monotonic() - started, 3)}
    result["evidence_dir" if evidence else "backup_file"] = printable(target)
    if check_mode:
        result["removed"] = [printable(old) for old in _surplus(folder, prefix, keep=keep)] if keep else []
    else:
        try:
            is_new = not os.path.isdir(folder)
            atomic_files.private_folder(folder)
            if is_new:
                atomic_files.fsync_folder(os.path.dirname(folder))
            with _partial(folder) as partial:
                if evidence:
                    result["files"] = _patiently(
                        lambda: _copy_bytes(
                            found, f"{partial}/evidence", deadline=started + timeout, proc_root=proc_root
                        ),
                        until=started + timeout,
                    )
                    target = _publish(f"{partial}/evidence", target, exact=False)
                    result["evidence_dir"] = printable(target)
                    for entry in result["files"]:
                        entry["path"] = f"{printable(target)}/{entry['path']}"
                else:
                    made = _copy(
                        found,
                        holders,
                        f"{partial}/database",
                        busy_timeout=busy_timeout,
                        deadline=started + timeout,
                        user=user,
                        rights=rights,
                        proc_root=proc_root,
                    )
                    result.update(made)
                    target = _publish(f"{partial}/database", target, exact=exact)
                    result["backup_file"] = printable(target)
            if keep:
                result["removed"] = _prune(folder, prefix, keep=keep, new=target)
        except OSError as error:
            raise SqliteError(
                f"Cannot copy {printable(found.path)} to {printable(target)}: {error.strerror or error}"
            ) from error
    result["diff"] = {
        "before": {"present": result["removed"]},
        "after": {"present": [printable(target)]},
    }
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _names(
    *,
    path: str,
    dest: Optional[str],
    dest_dir: Optional[str],
    prefix: Optional[str],
    evidence: bool,
    keep: int,
) -> Tuple[str, str, str]:
    """Return folder, prefix and name of the copy. Raises SqliteError for parameters that make no sense together."""
    if (dest is None) == (dest_dir is None):
        raise SqliteError("Give either dest or dest_dir")
    if keep < 0:
        raise SqliteError(f"keep must be 0 (keep all) or more, not {keep}")
    if dest is not None and (evidence or keep or prefix is not None):
        raise SqliteError("dest names one backup file: evidence, keep and prefix go with dest_dir")
    if evidence and keep:
        raise SqliteError("keep applies to backups: evidence is never removed")
    given = dest if dest is not None else dest_dir
    if given is None or not os.path.isabs(given) or "\0" in given:
        raise SqliteError(f"{'dest' if dest else 'dest_dir'} must be an absolute path, not {given!r}")
    if dest is not None:
        if dest.endswith("/"):
            raise SqliteError(f"dest must be the path of a file, not {printable(dest)!r}")
        return os.path.dirname(dest), "", os.path.basename(dest)
    if prefix is None:
        prefix = os.path.basename(path) + (".evidence_" if evidence else ".backup_")
    if not prefix or "/" in prefix or prefix.startswith("."):
        raise SqliteError(f"prefix must be the beginning of a file name, with no / and no leading dot, not {prefix!r}")
    return given.rstrip("/") or "/", prefix, prefix + timestamps.compact(time.time())


def _may_back_up(found: Look) -> None:
    shown = printable(found.path)
    for problem in found.problems:
        raise SqliteError(f"Refusing to back up {shown}: {problem.message}")
    if found.wal.damaged or found.wal.foreign:
        raise SqliteError(
            f"Refusing to back up {shown}: {found.wal.frames_lost} frames of its WAL cannot be read, so the backup "
            "would lack them; save its files with evidence instead"
        )


_Made = TypeVar("_Made")


def _patiently(work: Callable[[], _Made], *, until: float) -> _Made:
    """Return what C(work) returns, trying again while somebody has the files open. Raises SqliteError."""
    until = min(until, time.monotonic() + _PATIENCE)
    while True:
        try:
            return work()
        except _InUseError:
            if time.monotonic() + _PAUSE > until:
                raise
        time.sleep(_PAUSE)


def _closed(path: str, *, user: Optional[str], deadline: float, proc_root: str) -> Look:
    """Look at the files of a database that nobody has open. Raises SqliteError."""
    found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
    shown = printable(found.path)
    if holders.found:
        raise _InUseError(
            f"Refusing to copy the files of {shown}: it is open in {holders.named()}, so they would not fit together"
        )
    if not found.files:
        raise SqliteError(f"There are no files of {shown} to copy")
    for facts in found.files.values():
        if not facts.regular:
            raise SqliteError(f"Cannot copy {printable(facts.path)}: it is {sqlite_files.kind_of(facts)}")
    return found


def _room(found: Look, folder: str) -> int:
    """Return the bytes that a copy takes, with a margin. Raises SqliteError if they are not free."""
    there = folder
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    needed = sum(facts.size for facts in found.files.values())
    if found.header is not None:
        pages = max(found.wal.database_pages, 0) * found.wal.page_size
        needed = max(needed, pages)
    try:
        free = sqlite_files.free_bytes(there)
    except OSError as error:
        raise SqliteError(f"Cannot tell the free space of {printable(there)}: {error.strerror}") from error
    if free < needed + _MARGIN:
        raise NoRoomError(
            f"Cannot copy {printable(found.path)} to {printable(folder)}: it takes {needed} bytes, {free} are free"
        )
    return needed + _MARGIN


@contextlib.contextmanager
def _partial(folder: str) -> Iterator[str]:
    """Make a private folder inside C(folder) to build a copy in; take away those that killed runs left."""
    _clear(folder)
    made = tempfile.mkdtemp(prefix=_PARTIAL, dir=folder)
    descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, made)
        yield made
    finally:
        atomic_files.discard_tree(made)
        os.close(descriptor)


def _lock(descriptor: int, folder: str) -> None:
    """Lock a new folder. Raises SqliteError if another process keeps it locked, as its owner could for ever."""
    for _attempt in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    raise SqliteError(f"Cannot copy to {printable(folder)}: another process has locked it")


def _clear(folder: str) -> None:
    for name in os.listdir(folder):
        if name.startswith(_PARTIAL):
            with contextlib.suppress(OSError):
                descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    atomic_files.discard_tree(f"{folder}/{name}")
                finally:
                    os.close(descriptor)


def _survey(path: str, *, user: Optional[str], deadline: float, proc_root: str) -> Tuple[Look, sqlite_holders.Holders]:
    """Look at a database that may be backed up. Raises SqliteError where it may not."""
    for attempt in range(_ATTEMPTS):
        found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
        if not found.wal.complete and time.monotonic() > deadline:
            raise SqliteError(
                f"Cannot back up {printable(path)}: its WAL could not be read to its end within the timeout"
            )
        try:
            _may_back_up(found)
            break
        except SqliteError:
            # A service that started during the look makes its WAL seem damaged.
            if attempt == _ATTEMPTS - 1 or sqlite_files.stamps_of(found.path, rights=found.rights) == found.stamps:
                raise
    return found, holders


def _copy(
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
    """Make C(target), verify it, and return what is known of it. Raises OSError, SqliteError."""
    shown = printable(found.path)
    for _attempt in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        with sqlite_reader.way_in(found, holders, busy_timeout=busy_timeout, deadline=deadline) as way:
            messages = child_process.in_child(
                functools.partial(_copy_pages, way=way, target=target, deadline=deadline, rights=rights),
                deadline=deadline,
                read_only=False,  # until the copy is open
            )
            steady = way.steady
        end = messages[-1]
        if "timeout" in end or (steady and not sqlite_reader.vanished(end.get("error", ""), found=found)):
            break
        found, holders = _survey(found.given, user=user, deadline=deadline, proc_root=proc_root)
    else:
        raise SqliteError(
            f"Cannot back up {shown}: it was written to, or its service came and went, during every attempt"
        )
    _expect_end(end, f"Cannot back up {shown}")
    counts = next(message["counts"] for message in messages if message["event"] == "counts")
    facts = found.files["database"]
    _keep_secret(target, facts)
    verified = verify(target, deadline=deadline, rights=rights)
    if verified["integrity"] != "ok":
        raise SqliteError(f"{shown} is not sound, so neither is its backup: {verified['integrity']}")
    if verified["row_counts"] != counts:
        raise SqliteError(f"The backup of {shown} has row counts {verified['row_counts']}, the database {counts}")
    return verified


def _keep_secret(target: str, facts: sqlite_files.FileFacts) -> None:
    """Give a copy its owner, let nobody else read it, and bring it to disk. Raises OSError."""
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
    """Run in the child: count and copy within one snapshot."""
    # Its file is open from here on; no other is opened for writing.
    with safe_open.acting(rights):
        copy = sqlite3.connect(target, isolation_level=None)
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")  # flushed as a whole at the end
    if way.read_only:
        child_process.give_up_writing(way.rights)
    connection = way.connect()

    def progress(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() > deadline:
            raise SqliteError("timeout is over")

    with sqlite_reader.interrupted_at(connection, deadline):
        connection.execute("BEGIN")
        emit({"event": "counts", "counts": sqlite_schema.count_rows(connection)})
        connection.backup(copy, pages=_PAGES, progress=progress)
    copy.close()


def verify(path: str, *, deadline: float, rights: safe_open.Rights = None) -> Dict[str, Any]:
    """Reopen a finished copy: whether it is sound, its rows, its size and its SHA-256. Raises SqliteError."""

    def work(emit: child_process.Emit) -> None:
        digest = hashlib.sha256()

        def read() -> None:
            with open(path, "rb") as stream:
                for chunk in iter(lambda: stream.read(_CHUNK), b""):
                    digest.update(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        connection = sqlite_reader.connect(path, way="alone", busy_timeout=1)
        with sqlite_reader.interrupted_at(connection, deadline):
            connection.execute(f"PRAGMA mmap_size={1 << 40}")
            lines = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(10)")]
            counts = sqlite_schema.count_rows(connection)
        reader.join()
        emit({"event": "verified", "integrity": "; ".join(lines), "row_counts": counts, "sha256": digest.hexdigest()})

    messages = child_process.in_child(work, deadline=deadline, rights=rights)
    _expect_end(messages[-1], f"Cannot verify the backup {printable(path)}")
    verified = messages[0]
    return {
        "integrity": verified["integrity"],
        "row_counts": verified["row_counts"],
        "sha256": verified["sha256"],
        "size": os.stat(path).st_size,
    }


def _expect_end(end: Dict[str, Any], what: str) -> None:
    if end.get("timeout"):
        raise SqliteError(f"{what}: timeout is over")
    if "signal" in end:
        raise SqliteError(f"{what}: reading was ended by {end['signal']}, the disk does not give all of the file")
    if "error" in end:
        raise SqliteError(f"{what}: {end['error']}")


def _publish(made: str, target: str, *, exact: bool) -> str:
    """Give the finished file or folder its name, never one that is taken; return the name. Raises OSError."""
    names = [target] if exact else [target, *(f"{target}-{number}" for number in range(2, 100))]
    for name in names:
        try:
            os.link(made, name)
        except FileExistsError:
            continue
        except OSError as error:
            # A folder, or a filesystem without hard links.
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if os.path.lexists(name):
                continue
            os.rename(made, name)
        atomic_files.fsync_folder(os.path.dirname(name))
        return name
    raise SqliteError(f"Cannot name the copy {printable(target)}: that is there already")


def _copy_bytes(found: Look, made: str, *, deadline: float, proc_root: str) -> List[Dict[str, Any]]:
    """Copy the files as they are into the new folder C(made). Raises OSError, SqliteError."""
    atomic_files.discard_tree(made)
    files = _copy_each(found, made, deadline=deadline)
    holders = sqlite_holders.find_holders(found, proc_root=proc_root)
    written = sqlite_files.stamps_of(found.path, rights=found.rights) != found.stamps
    if written or holders.found:
        error = SqliteError if written else _InUseError
        raise error(
            f"The files of {printable(found.path)} were opened or written to while they were copied: "
            "stop what uses them first"
        )
    return files


def _copy_each(found: Look, made: str, *, deadline: float) -> List[Dict[str, Any]]:
    os.mkdir(made, 0o700)
    files: List[Dict[str, Any]] = []
    for name in sqlite_files.SUFFIXES:
        if name not in found.files:
            continue
        facts = found.files[name]
        copy = f"{made}/{os.path.basename(facts.path)}"
        digest = hashlib.sha256()
        with open(copy, "xb") as writer:
            os.fchmod(writer.fileno(), 0o600)
            for chunk in sqlite_files.chunks_of(facts, deadline=deadline):
                digest.update(chunk)
                writer.write(chunk)
            writer.flush()
            os.utime(writer.fileno(), ns=(facts.mtime_ns, facts.mtime_ns))
            os.fsync(writer.fileno())
        files.append(
            {
                "name": name,
                "path": printable(os.path.basename(facts.path)),
                "size": os.stat(copy).st_size,
                "sha256": digest.hexdigest(),
            }
        )
    atomic_files.fsync_folder(made)
    return files


def _surplus(folder: str, prefix: str, *, keep: int, new: str = "") -> List[str]:
    """Return the backups of this C(prefix) that are too many beside the C(new) one, oldest first.

    The new one is the only one that has just been proved good: it stays whatever its name says of its age, which is
    wrong where the clock was set back.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{8}T\d{6}Z)(?:-(\d+))?")
    backups = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        path = f"{folder}/{name}"
        match = pattern.fullmatch(name)
        if match and path != new and stat.S_ISREG(os.lstat(path).st_mode):
            backups.append((match.group(1), int(match.group(2) or 1), path))
    backups.sort()
    return [path for _instant, _number, path in backups[: max(len(backups) - (keep - 1), 0)]]


def _prune(folder: str, prefix: str, *, keep: int, new: str) -> List[str]:
    """Remove old backups, once a C(new) one has been proved good. Raises OSError."""
    removed = []
    for path in _surplus(folder, prefix, keep=keep, new=new):
        os.unlink(path)
        removed.append(printable(path))
    if removed:
        atomic_files.fsync_folder(folder)
    return removed
