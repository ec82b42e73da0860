# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sound database in the place of a damaged one, by the method that loses least; what is lost is said beforehand.

A new file takes the place of the old one like this, each step on disk before the next:

1. the old files are copied as evidence; the new file is complete, checked and beside the database, in a work folder;
2. the database also gets a second name, in the work folder;
3. a guard is renamed over the database: a symbolic link into a folder that does not exist. SQLite follows it, finds
   nothing, and refuses to open or create anything; since a WAL belongs to the file that a link leads to, the WAL
   beside the guard is nobody's;
4. the WAL, its index and the journal move into the work folder;
5. the new file is renamed over the guard; the old files keep a folder of their own beside it.

Where the folder is not root's, all of this happens with the rights of its owner: who may rename the work folder while
root makes and gives away files in it could have them made and given away anywhere.

So at every instant SQLite sees the old database with its WAL, nothing at all, or the new database with no WAL. A run
that finds the guard of a killed one puts the old files back, the database last, and starts afresh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import fnmatch
import os
import pwd
import stat
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage as sqlite_salvage
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import Look, SqliteError, printable
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.salvage import Owner

METHODS = ("checkpoint", "salvage", "backup", "empty")
_MARGIN = 8 << 20  # bytes left free
_SIDE = ("wal", "shm", "journal")
_MOST_BACKUPS = 20  # looked at, the newest first
# Seconds for which a WAL is looked at again, and between two looks, if somebody else has the database open.
_PATIENCE, _PAUSE = 3.0, 0.1


@dataclasses.dataclass
class Way:
    """A method, whether it can be taken, and what would come of it."""

    method: str
    possible: bool = False
    reason: str = ""
    rows: Dict[str, int] = dataclasses.field(default_factory=dict)
    lost: Dict[str, int] = dataclasses.field(default_factory=dict)
    statement: str = ""
    source: Optional[str] = None
    source_at: Optional[str] = None
    age: Optional[float] = None
    salvaged: Optional[sqlite_salvage.Salvaged] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        plain = {name: value for name, value in vars(self).items() if name != "salvaged"}
        plain["tool"] = self.salvaged.tool if self.salvaged else None
        plain["orphans"] = self.salvaged.orphans if self.salvaged else 0
        plain["refused"] = self.salvaged.refused if self.salvaged else []
        return plain


@dataclasses.dataclass
class _Case:
    """The damaged database and all that is known of it."""

    path: str
    found: Look
    # Why the WAL could not be read to its end, an empty text if it was.
    unread: str
    holders: sqlite_holders.Holders
    check: Dict[str, Any]
    owner: Owner
    user: Optional[str]
    mode: int
    rows: Dict[str, int]
    uncounted: List[str]
    schema_unreadable: bool
    reading: str
    deadline: float
    rights: safe_open.Rights

    @property
    def wal_mode(self) -> bool:
        header = self.found.newest_header
        return header is None or header.wal_mode


def restore(
    *,
    path: str,
    evidence_dir: str,
    act: bool,
    check_mode: bool = False,
    method: str = "auto",
    confirm_empty: bool = False,
    backup_dirs: Sequence[str] = (),
    backup_patterns: Sequence[str] = (),
    expected: Optional[Mapping[str, int]] = None,
    owner: Optional[str] = None,
    shell: str = "sqlite3",
    time_budget: float = 300.0,
    timeout: float = 1800.0,
    proc_root: str = "/proc",
) -> Dict[str, Any]:
    """Work out the ways to a sound database at C(path), take one where C(act), and return what the module returns.

    Without C(act), and in check mode, nothing beside the database is changed, and every method is looked at. Raises
    SqliteError where the way to take cannot be taken.
    """
    started = time.monotonic()
    _check_parameters(path=path, method=method, evidence_dir=evidence_dir, time_budget=time_budget, timeout=timeout)
    rights = sqlite_files.rights_on(path, owner)
    working = act and not check_mode
    with safe_open.acting(rights), sqlite_files.clear_errors(
        f"recover {printable(path)}"
    ), contextlib.ExitStack() as stack:
        place = _locate(path)
        _require_a_way(path, place, rights=rights)
        if working:
            _refuse_files_of_root(place, rights=rights)
            _refuse_holders(place, user=owner, proc_root=proc_root)
            work = stack.enter_context(_work_folder(place))
            scratch = f"{work}/scratch"
            put_back, subject = _settle(place, work, owner=_owner_of(place, owner, rights=rights)), place
            os.mkdir(scratch, 0o711)
        else:
            scratch = stack.enter_context(_scratch_elsewhere(place, rights=rights))
            put_back, subject = False, _as_it_was(place, scratch, rights=rights)
        case = _examine(
            subject,
            scratch=scratch,
            expected=expected or {},
            owner=owner,
            time_budget=time_budget,
            deadline=started + timeout,
            rights=rights,
            proc_root=proc_root,
        )
        ways = _ways(
            case,
            wanted=(method,) if working and method != "auto" else METHODS,
            every=not working,
            scratch=scratch,
            shell=shell,
            confirm_empty=confirm_empty,
            backups=_backups(place, dirs=backup_dirs, patterns=backup_patterns, rights=rights),
            time_budget=time_budget,
        )
        chosen, why = _choose(ways, method=method)
        if act and chosen is None:
            raise SqliteError(f"Cannot recover {printable(place)}: {why}")
        result = _result(case, ways, chosen=chosen, why=why, put_back=put_back)
        if working and chosen is not None and result["needed"]:
            _take(case, chosen, result, work=work, evidence_dir=evidence_dir, proc_root=proc_root)
        result["changed"] = act and (result["needed"] or put_back)
        result["diff"] = _diff(case, result)
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _check_parameters(*, path: str, method: str, evidence_dir: str, time_budget: float, timeout: float) -> None:
    for name, value in (("path", path), ("evidence_dir", evidence_dir)):
        if not os.path.isabs(value) or "\0" in value:
            raise SqliteError(f"{name} must be an absolute path, not {printable(value)!r}")
    if method != "auto" and method not in METHODS:
        raise SqliteError(f"method must be auto or one of {', '.join(METHODS)}, not {method!r}")
    for name, seconds in (("time_budget", time_budget), ("timeout", timeout)):
        if not 0 < seconds <= 86400:
            raise SqliteError(f"{name} must be above 0 and at most 86400 seconds, not {seconds}")


# Where things are, and the traces of a run that was killed.


def _work_of(place: str) -> str:
    return f"{os.path.dirname(place)}/.{os.path.basename(place)}.restore"


def _guard_of(place: str) -> str:
    """Return where the guard leads: into a folder that is never made."""
    return f"{_work_of(place)}/unfinished/{os.path.basename(place)}"


def _guarded(place: str) -> bool:
    return os.path.islink(place) and os.readlink(place) == _guard_of(place)


def _locate(path: str) -> str:
    """Follow links from C(path) to where the database is, as SQLite does, but not through a guard."""
    current = path
    for _attempt in range(40):
        folder = "/" + os.path.realpath(os.path.dirname(current)).lstrip("/")
        current = f"{folder.rstrip('/')}/{os.path.basename(current)}"
        if not os.path.islink(current) or _guarded(current):
            if not os.path.isdir(folder):
                raise SqliteError(f"path {printable(path)}: there is no folder {printable(folder)}")
            return current
        current = os.path.join(folder, os.readlink(current))
    raise SqliteError(f"path {printable(path)} leads through too many symbolic links")


def _require_a_way(path: str, place: str, *, rights: safe_open.Rights) -> None:
    facts = None
    with sqlite_files.clear_errors(f"look at {printable(path)}"):
        with contextlib.suppress(PermissionError):  # a link leads to what its owner may not see, which is said here:
            facts = None if _guarded(place) else sqlite_files.facts_of(place, rights=rights)
        sqlite_files.require_a_way(path, facts)


@contextlib.contextmanager
def _work_folder(place: str) -> Iterator[str]:
    """Have the work folder beside the database to ourselves. Raises SqliteError where another run has it."""
    work = _work_of(place)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(work, 0o700)
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise SqliteError(f"Cannot make the folder {printable(work)}: {error.strerror}") from error
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise SqliteError(f"{printable(work)} was not made by a run of this user: look what is in it and remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SqliteError(f"Another recovery of {printable(place)} is at work") from None
        os.fchmod(descriptor, 0o711)  # the owner of the database works in a folder below
        yield work
        # Reached only where nothing of the old database is in it any more; it stays as it is after an error in a swap.
        if not _guarded(place) and not os.path.lexists(f"{work}/old"):
            atomic_files.discard_tree(work)
    except BaseException:
        if not _guarded(place) and not os.path.lexists(f"{work}/old"):
            atomic_files.discard_tree(work)
        raise
    finally:
        os.close(descriptor)


def _settle(place: str, work: str, *, owner: Owner) -> bool:
    """Undo or finish what a killed run began; return whether the old database was put back."""
    put_back = False
    with sqlite_files.clear_errors(f"clear up after a recovery of {printable(place)} that was cut off"):
        if _guarded(place):
            _put_back(place, work)
            put_back = True
        elif _holds_another(place, f"{work}/old"):
            _finish(place, work, owner=owner)
        for name in os.listdir(work):
            entry = f"{work}/{name}"
            (atomic_files.remove_tree if os.path.isdir(entry) and not os.path.islink(entry) else os.unlink)(entry)
    return put_back


def _holds_another(place: str, old: str) -> bool:
    """Whether C(old) keeps files of a database that is no longer at C(place)."""
    kept = f"{old}/{os.path.basename(place)}"
    if not os.path.lexists(kept):
        return os.path.isdir(old) and bool(os.listdir(old))
    return not os.path.exists(place) or not _same(kept, place)


def _same(one: str, other: str) -> bool:
    """Whether two names are of one file, or of two with the same content (made where there are no hard links)."""
    if os.path.samefile(one, other):
        return True
    first, second = os.stat(one), os.stat(other)
    return (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def _put_back(place: str, work: str) -> None:
    """Take the guard away: first what lies beside the database goes back, then the database. Raises OSError."""
    folder, name = os.path.split(place)
    old = f"{work}/old"
    for kind in _SIDE:
        kept = f"{old}/{name}{sqlite_files.SUFFIXES[kind]}"
        if os.path.lexists(kept):
            os.rename(kept, f"{place}{sqlite_files.SUFFIXES[kind]}")
    atomic_files.fsync_folder(folder)
    if os.path.lexists(f"{old}/{name}"):
        os.rename(f"{old}/{name}", place)
    else:  # there was none
        os.unlink(place)
    atomic_files.fsync_folder(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(old)


def _finish(place: str, work: str, *, owner: Owner) -> str:
    """Give the old files a folder of their own beside the new database; return it. Raises OSError."""
    target = f"{place}.damaged_{timestamps.compact(time.time())}"
    number = 1
    while os.path.lexists(target):
        number += 1
        target = f"{place}.damaged_{timestamps.compact(time.time())}-{number}"
    if os.geteuid() == 0:
        os.chown(f"{work}/old", owner.uid, owner.gid)
    os.rename(f"{work}/old", target)
    atomic_files.fsync_folder(os.path.dirname(place))
    return target


@contextlib.contextmanager
def _scratch_elsewhere(place: str, *, rights: safe_open.Rights) -> Iterator[str]:
    """Make a folder for trying things out, away from the database."""
    needed = _size_of(place, rights=rights) * 2 + _MARGIN
    for parent in dict.fromkeys([tempfile.gettempdir(), "/var/tmp"]):  # noqa: S108 - mkdtemp makes it private
        with contextlib.suppress(OSError):
            if sqlite_files.free_bytes(parent) >= needed:
                break
    else:
        raise SqliteError(f"Cannot try a recovery of {printable(place)} out: it takes {needed} bytes in /var/tmp")
    folder = tempfile.mkdtemp(prefix="itsm-nexus-", dir=parent)
    try:
        os.chmod(folder, 0o711)  # noqa: S103 - the owner of the database works in a folder below
        yield folder
    finally:
        atomic_files.discard_tree(folder)


def _size_of(place: str, *, rights: safe_open.Rights) -> int:
    names = [place, f"{place}-wal", f"{_work_of(place)}/old/{os.path.basename(place)}"]
    facts = [sqlite_files.facts_of(name, rights=rights) for name in names]
    return sum(each.size for each in facts if each is not None and each.regular)


def _as_it_was(place: str, scratch: str, *, rights: safe_open.Rights) -> str:
    """Return the path of the damaged database: C(place), or a copy where a killed run has moved files away."""
    if not _guarded(place):
        return place
    name, old = os.path.basename(place), f"{_work_of(place)}/old"
    with sqlite_files.clear_errors(f"copy the files of {printable(place)}"):
        os.mkdir(f"{scratch}/was", 0o700)
        for suffix in sqlite_files.SUFFIXES.values():
            for source in (f"{old}/{name}{suffix}", f"{place}{suffix}"):
                if os.path.isfile(source) and not os.path.islink(source):
                    _copy_file(source, f"{scratch}/was/{name}{suffix}", rights=rights)
                    break
    return f"{scratch}/was/{name}"


# What is known of the damaged database.


def _owner_of(place: str, user: Optional[str], *, rights: safe_open.Rights) -> Owner:
    """Return whom a new database belongs to: who works on it, the old one's owner, the user, the folder's owner."""
    if rights:
        return Owner(*rights)
    facts = sqlite_files.facts_of(place, rights=None)
    if facts is not None and facts.regular:
        return Owner(facts.uid, facts.gid)
    if user:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise SqliteError(f"owner must be a user of this host, not {user!r}") from None
        return Owner(entry.pw_uid, entry.pw_gid)
    folder = os.stat(os.path.dirname(place))
    return Owner(folder.st_uid, folder.st_gid)


def _survey(
    path: str, *, user: Optional[str], deadline: float, proc_root: str
) -> Tuple[Look, sqlite_holders.Holders, str]:
    """Look at the files until the whole WAL was read; return also why it was not, an empty text if it was.

    A salvage without a part of the WAL would lose rows that nobody has counted. While somebody has the database open,
    even to copy it, the WAL is read as one that is written to; with a damaged database that does not work.
    """
    give_up = min(deadline, time.monotonic() + _PATIENCE)
    while True:
        found, holders = sqlite_holders.survey(path, user=user, deadline=deadline, proc_root=proc_root)
        wal = found.files.get("wal")
        if wal is None or not wal.regular or not wal.size or (found.wal.exists and found.wal.complete):
            return found, holders, ""
        if time.monotonic() >= give_up:
            who = f"the database is open in {holders.named()}" if holders.found else ""
            why = who or "; ".join(problem.message for problem in found.problems) or "it took too long"
            return found, holders, f"its WAL could not be read to the end: {why}"
        time.sleep(_PAUSE)


def _examine(
    path: str,
    *,
    scratch: str,
    expected: Mapping[str, int],
    owner: Optional[str],
    time_budget: float,
    deadline: float,
    rights: safe_open.Rights,
    proc_root: str,
) -> _Case:
    check = sqlite_check.check(
        path=path,
        checks=["quick", "integrity", "foreign_keys"],
        time_budget=time_budget,
        baseline=expected,
        user=owner,
        proc_root=proc_root,
    )
    found, holders, unread = _survey(path, user=owner, deadline=deadline, proc_root=proc_root)
    for facts in found.files.values():
        if not facts.regular:
            raise SqliteError(f"{printable(facts.path)} is {sqlite_files.kind_of(facts)}: move it away first")
    facts_or_none = found.files.get("database")
    case = _Case(
        path=path,
        found=found,
        unread=unread,
        holders=holders,
        check=check,
        owner=_owner_of(path, owner, rights=rights),
        user=owner,
        mode=facts_or_none.mode & 0o777 if facts_or_none is not None else 0o600,
        rows=dict(check["row_counts"]),
        uncounted=[],
        schema_unreadable=False,
        reading=sqlite_salvage.COMMITTED,
        deadline=deadline,
        rights=rights,
    )
    if not (check["healthy"] and check["checks"].get("row_counts") == "ok"):
        _count(case, scratch)
    for table, rows in expected.items():
        # What was counted before the damage is at least what there was.
        case.rows[table] = max(case.rows.get(table, 0), rows)
        if table in case.uncounted:
            case.uncounted.remove(table)
    case.schema_unreadable = case.schema_unreadable and not expected
    return case


def _count(case: _Case, scratch: str) -> None:
    """Count in an image of the damaged database what can be counted."""
    if not case.found.files.get("database") and not case.found.wal.frames_committed:
        case.schema_unreadable = True
        return
    _room(case, os.path.dirname(scratch))
    case.reading = _reading_of(case, scratch)
    with _image(case, scratch, reading=case.reading) as image:
        rows, case.uncounted = sqlite_salvage.count_what_is_there(image, owner=case.owner, deadline=case.deadline)
    case.rows = rows
    case.schema_unreadable = not rows and not case.uncounted


def _reading_of(case: _Case, scratch: str) -> str:
    """Return whether the WAL counts: not where it is of another database, whose pages it would overwrite."""
    if "database" not in case.found.files or not case.found.wal.frames_committed:
        return sqlite_salvage.COMMITTED
    if sqlite_files.why_foreign(case.found):
        return sqlite_salvage.ALONE
    # Its own WAL cannot make a sound database unsound.
    with _image(case, scratch, reading=sqlite_salvage.ALONE) as image:
        sound = not _checked(image, user=case.user, time_budget=case.deadline - time.monotonic())
    return sqlite_salvage.ALONE if sound and not case.found.wal.damaged else sqlite_salvage.COMMITTED


@contextlib.contextmanager
def _image(case: _Case, scratch: str, *, reading: str) -> Iterator[str]:
    """Have an image of the damaged database for a moment."""
    folder = f"{scratch}/image"
    _own_folder(folder, case.owner)
    try:
        with sqlite_files.clear_errors(f"copy {printable(case.path)} to {printable(folder)}"):
            sqlite_salvage.make_image(case.found, f"{folder}/image.db", owner=case.owner, reading=reading)
        yield f"{folder}/image.db"
    finally:
        atomic_files.discard_tree(folder)


def _own_folder(path: str, owner: Owner) -> None:
    with sqlite_files.clear_errors(f"make the folder {printable(path)}"):
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, owner.uid, owner.gid)


def _room(case: _Case, folder: str) -> None:
    """See that an image and a new database fit. Raises SqliteError."""
    wal = case.found.wal
    size = sum(facts.size for name, facts in case.found.files.items() if name != "shm")
    needed = 2 * max(size, wal.database_pages * wal.page_size) + _MARGIN
    with sqlite_files.clear_errors(f"tell the free space of {printable(folder)}"):
        free = sqlite_files.free_bytes(folder)
    if free < needed:
        raise SqliteError(
            f"Cannot recover {printable(case.path)}: it takes {needed} bytes in {printable(folder)}, {free} are free"
        )


def _refuse_files_of_root(place: str, *, rights: safe_open.Rights) -> None:
    """Raise SqliteError if a command of root took the database over: its user could not replace it."""
    for suffix in sqlite_files.SUFFIXES.values() if rights else ():
        facts = sqlite_files.facts_of(place + suffix, rights=rights)
        if facts is not None and facts.regular and facts.uid == 0:
            raise SqliteError(
                f"Cannot recover {printable(place)}: {printable(facts.path)} belongs to root, and only the folder's "
                "owner may work there; give it back to the service's user first (module sqlite_owner)"
            )


def _refuse_holders(place: str, *, user: Optional[str], proc_root: str) -> None:
    if _guarded(place):
        return  # nobody can have it open
    give_up = time.monotonic() + _PATIENCE
    while True:
        found, holders = sqlite_holders.survey(place, user=user, deadline=time.monotonic(), proc_root=proc_root)
        # A scanner or a copy has the files open for a moment only.
        if not holders.found or time.monotonic() >= give_up:
            break
        time.sleep(_PAUSE)
    if holders.found:
        raise SqliteError(
            f"Refusing to recover {printable(found.path)}: it is open in {holders.named()}; stop that first"
        )
    if not holders.complete:
        raise SqliteError(
            f"Refusing to recover {printable(found.path)}: this user cannot see who has it open; run it as root"
        )


# The ways, and which one is taken.


def _ways(
    case: _Case,
    *,
    wanted: Sequence[str],
    every: bool,
    scratch: str,
    shell: str,
    confirm_empty: bool,
    backups: Sequence[Tuple[float, str]],
    time_budget: float,
) -> List[Way]:
    """Look at the C(wanted) methods in their order, as far as needed to choose, or at C(every) one of them."""
    ways: List[Way] = []
    enough = False
    for method in wanted:
        if enough and not every:
            break
        if method == "checkpoint":
            way = _by_checkpoint(case)
            enough = way.possible
        elif method == "salvage":
            way = _by_salvage(case, scratch, shell=shell, confirmed=confirm_empty)
            # Only a backup that holds more is a reason to look further.
            enough = way.possible and not way.lost and not case.uncounted and not case.schema_unreadable
        elif method == "backup":
            way = _by_backup(case, backups, time_budget=time_budget)
            enough = way.possible or any(each.possible for each in ways)
        else:
            way = _by_empty(case, confirmed=confirm_empty)
        if way.rows or way.possible:
            way.lost = _lost(case.rows, way.rows)
            way.statement = _statement(case, way)
        ways.append(way)
    return ways


def _by_checkpoint(case: _Case) -> Way:
    way = Way("checkpoint", rows=dict(case.check["row_counts"]))
    checks = case.check["checks"]
    if not case.check["healthy"]:
        way.rows = {}
        way.reason = "; ".join(problem["message"] for problem in case.check["problems"] if problem["level"] == "error")
    elif any(checks.get(name) != "ok" for name in ("quick", "integrity", "row_counts")):
        way.reason = f"it is not proved to be sound ({checks}); give it more time_budget"
    elif not case.check["wal"]["complete"]:
        way.reason = "its WAL could not be read to its end within time_budget"
    else:
        way.possible = True
        frames = case.check["wal"]["frames_committed"]
        way.reason = f"it is sound; {frames} frames of its WAL are moved into it" if frames else "it is sound"
    return way


def _by_salvage(case: _Case, scratch: str, *, shell: str, confirmed: bool) -> Way:
    """Salvage for real: only then it is known what is lost."""
    way = Way("salvage")
    found = case.found
    if case.unread:
        way.reason = case.unread
        return way
    if not found.files.get("database") and not found.wal.frames_committed:
        way.reason = "there is neither a database nor a WAL to salvage"
        return way
    reasons = []
    readings = [case.reading]
    if case.reading == sqlite_salvage.COMMITTED and found.wal.damaged and found.wal.header_valid:
        readings.append(sqlite_salvage.BEYOND)
    for reading in readings:
        folder = f"{scratch}/salvage-{reading}"
        _own_folder(folder, case.owner)
        try:
            with sqlite_files.clear_errors(f"copy {printable(case.path)} to {printable(folder)}"):
                sqlite_salvage.make_image(found, f"{folder}/image.db", owner=case.owner, reading=reading)
            salvaged = sqlite_salvage.salvage(
                f"{folder}/image.db",
                folder,
                owner=case.owner,
                shell=sqlite_salvage.find_shell(shell),
                wal_mode=case.wal_mode,
                deadline=case.deadline,
            )
            salvaged.reading = reading
            check = _checked(salvaged.path, user=case.user, time_budget=case.deadline - time.monotonic())
        except SqliteError as error:
            reasons.append(str(error))
            continue
        if check:
            reasons.append(f"what was saved is not sound: {check}")
        elif way.salvaged is None or sum(salvaged.rows.values()) > sum(way.rows.values()):
            way.salvaged, way.rows, way.possible = salvaged, dict(salvaged.rows), True
    if way.salvaged is None:
        way.reason = "; ".join(dict.fromkeys(reasons))
    else:
        how = "the sqlite3 shell's .recover" if way.salvaged.tool == "shell" else "a dump around the damage"
        way.reason = f"{how} brings back {sum(way.rows.values())} rows in {len(way.rows)} tables"
        had_rows = sum(case.rows.values()) > 0 or case.uncounted or case.schema_unreadable
        if had_rows and not sum(way.rows.values()) and not confirmed:
            way.possible = False
            way.reason += ", everything would be lost, so it has to be confirmed"
    return way


def _checked(path: str, *, user: Optional[str], time_budget: float) -> str:
    """Return what is wrong with a new database, the empty string where it is sound."""
    check = sqlite_check.check(path=path, checks=["quick", "integrity"], user=user, time_budget=max(time_budget, 1.0))
    errors = [problem["message"] for problem in check["problems"] if problem["level"] == "error"]
    errors += [
        f"{name} check: {check['checks'].get(name)}"
        for name in ("quick", "integrity")
        if check["checks"].get(name) != "ok" and not errors
    ]
    return "; ".join(errors)


def _backups(
    place: str, *, dirs: Sequence[str], patterns: Sequence[str], rights: safe_open.Rights
) -> List[Tuple[float, str]]:
    """Return (time of the last change, path) of the files beside the database and in folders, the newest first.

    Their names say that they are backups of it. Each folder is read with the rights that belong there.
    """
    found: Dict[str, float] = {}
    for folder in dict.fromkeys([os.path.dirname(place), *dirs]):
        if not os.path.isabs(folder):
            raise SqliteError(f"backup_dirs must be absolute paths, not {folder!r}")
        with sqlite_files.clear_errors(f"look for backups in {printable(folder)}"), contextlib.suppress(
            FileNotFoundError
        ):
            there = safe_open.rights_on(folder, user=rights)
            with safe_open.acting(there):
                found.update(_backups_in(folder, place=place, patterns=patterns))
    return sorted(((changed, path) for path, changed in found.items()), reverse=True)


def _backups_in(folder: str, *, place: str, patterns: Sequence[str]) -> Iterator[Tuple[str, float]]:
    """Yield path and time of the last change of each regular file whose name matches. Raises OSError."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = f"{folder.rstrip('/')}/{name}"
        if path == place or name.endswith(("-wal", "-shm", "-journal")):
            continue
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                yield path, status.st_mtime


def _by_backup(case: _Case, backups: Sequence[Tuple[float, str]], *, time_budget: float) -> Way:
    """Find the latest backup that is sound and holds tables."""
    way = Way("backup")
    refused = []
    for made, path in backups[:_MOST_BACKUPS]:
        left = case.deadline - time.monotonic()
        if left <= 0:
            refused.append("no time was left for further backups")
            break
        try:
            check = sqlite_check.check(
                path=path, checks=["quick", "integrity"], user=case.user, time_budget=min(time_budget, left)
            )
        except SqliteError as error:
            refused.append(str(error))
            continue
        checks = check["checks"]
        if check["healthy"] and all(checks.get(name) == "ok" for name in ("quick", "integrity", "row_counts")):
            facts = [case.found.files[name].mtime_ns for name in ("database", "wal") if name in case.found.files]
            newest = max(facts, default=time.time_ns()) / 1e9
            way.possible, way.source, way.rows = True, printable(path), dict(check["row_counts"])
            way.source_at, way.age = timestamps.iso(made), round(max(newest - made, 0.0), 3)
            way.reason = f"the latest good backup is {printable(path)}, {_span(way.age)} older than the last write"
            break
        messages = [problem["message"] for problem in check["problems"]] or [f"checks: {checks}"]
        refused.append(f"{printable(path)} is no good ({messages[0]})")
    else:
        way.reason = "; ".join(refused) or "no backup was found"
        return way
    way.reason = "; ".join([way.reason, *refused])
    return way


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _by_empty(case: _Case, *, confirmed: bool) -> Way:
    way = Way("empty", possible=confirmed)
    way.reason = "it was confirmed" if confirmed else "everything would be lost, so it has to be confirmed"
    way.lost = dict(case.rows)
    way.statement = _statement(case, way)
    return way


def _lost(before: Mapping[str, int], after: Mapping[str, int]) -> Dict[str, int]:
    return {table: rows - after.get(table, 0) for table, rows in sorted(before.items()) if rows > after.get(table, 0)}


def _statement(case: _Case, way: Way) -> str:
    """Return in words what is lost by a method."""
    parts = []
    if way.method == "empty":
        counted = f": {sum(case.rows.values())} rows that could be counted, in {len(case.rows)} tables"
        parts.append(f"Everything{counted if case.rows else ''}")
    elif way.lost:
        tables = ", ".join(f"{table} {rows} of {case.rows[table]}" for table, rows in way.lost.items())
        parts.append(f"{sum(way.lost.values())} rows: {tables}")
    if case.unread:
        parts.append(f"an unknown number of rows, {case.unread}")
    unknown = [table for table in case.uncounted if table not in way.lost]
    if unknown:
        there = ", ".join(f"{table} ({way.rows.get(table, 0)} rows now)" for table in unknown)
        parts.append(f"an unknown number of rows, the damaged database cannot tell how many it had: {there}")
    if case.schema_unreadable:
        parts.append("an unknown number of rows, the damaged database tells nothing of its tables")
    wal = case.found.wal
    if way.salvaged is not None and wal.damaged and way.salvaged.reading != sqlite_salvage.BEYOND:
        parts.append(f"{wal.commits_lost} transactions in the damaged part of the WAL")
    elif way.salvaged is not None and wal.damaged:
        parts.append(f"what stood in frame {wal.frames_valid + 1} of the WAL, all but the bytes that are not damaged")
    elif way.salvaged is not None and way.salvaged.reading == sqlite_salvage.ALONE:
        parts.append(f"{wal.frames_committed} frames of the WAL, which belongs to another database")
    if way.method == "backup":
        parts.append(f"changes to rows since {way.source_at}")
    if way.salvaged and way.salvaged.orphans:
        parts.append(f"{way.salvaged.orphans} rows belong to no table any more and are kept in a file of their own")
    if way.salvaged and way.salvaged.refused:
        parts.append(f"not all could be taken over as it was: {'; '.join(way.salvaged.refused[:3])}")
    return "; ".join(parts) if parts else "Nothing: every row that was counted is there"


def _choose(ways: Sequence[Way], *, method: str) -> Tuple[Optional[Way], str]:
    """Return the way to take and why."""
    possible = {way.method: way for way in ways if way.possible}
    refused = "; ".join(f"{way.method}: {way.reason}" for way in ways if not way.possible)
    if method != "auto":
        way = possible.get(method)
        return way, way.reason if way else refused
    for name in METHODS:
        if name not in possible:
            continue
        way, other = possible[name], possible.get("backup")
        if name == "salvage" and other and sum(other.rows.values()) > sum(way.rows.values()):
            saved, kept = sum(way.rows.values()), sum(other.rows.values())
            return other, f"salvage brings back {saved} rows, the backup has {kept}; {other.reason}"
        return way, way.reason
    return None, refused


def _result(case: _Case, ways: Sequence[Way], *, chosen: Optional[Way], why: str, put_back: bool) -> Dict[str, Any]:
    sound = chosen is not None and chosen.method == "checkpoint" and not case.check["wal"]["size"]
    lost = chosen.lost if chosen is not None else {}
    unknown = bool(case.uncounted or case.unread) or case.schema_unreadable
    if chosen is not None and chosen.method == "salvage":
        unknown = unknown or case.found.wal.damaged or case.reading == sqlite_salvage.ALONE
    elif chosen is not None and chosen.method == "backup":
        unknown = True  # rows may have been changed since
    return {
        "needed": not sound,
        "healthy_before": case.check["healthy"],
        "problems": case.check["problems"],
        "holders": case.check["holders"],
        "method": chosen.method if chosen is not None else None,
        "reason": why,
        "plan": [way.as_dict() for way in ways],
        "rows_before": case.rows,
        "rows_uncounted": case.uncounted,
        "rows_after": dict(chosen.rows) if chosen is not None else {},
        "rows_lost": lost,
        "data_loss": "known" if lost else "unknown" if unknown and chosen is not None else "none",
        "statement": chosen.statement if chosen is not None else "",
        "source": chosen.source if chosen is not None else None,
        "put_back": put_back,
        "evidence_dir": None,
        "evidence": [],
        "kept": None,
        "orphans_file": None,
        "problems_after": [],
    }


def _diff(case: _Case, result: Mapping[str, Any]) -> Dict[str, Any]:
    before = {"rows": case.rows, "healthy": case.check["healthy"]}
    after = {"rows": result["rows_after"], "healthy": True, "method": result["method"]} if result["method"] else before
    return {"before": before, "after": after if result["needed"] else before}


# Taking it.


def _take(case: _Case, way: Way, result: Dict[str, Any], *, work: str, evidence_dir: str, proc_root: str) -> None:
    """Do what was chosen and complete the result. Raises SqliteError."""
    place = case.path
    left = case.deadline - time.monotonic()
    if case.found.files:
        kept = sqlite_backup.backup(
            path=place, dest_dir=evidence_dir, evidence=True, user=case.user, proc_root=proc_root
        )
        result["evidence_dir"], result["evidence"] = kept["evidence_dir"], kept["files"]
    if way.method == "checkpoint":
        done = sqlite_checkpoint.checkpoint(path=place, user=case.user, time_budget=left, proc_root=proc_root)
        result["rows_after"] = done["row_counts"]
    else:
        new = _make_new(case, way, work, proc_root=proc_root)
        _expect(new, way, user=case.user, time_budget=left)
        if way.salvaged is not None and way.salvaged.orphans_path:
            with sqlite_files.clear_errors(f"keep rows of no table in {printable(evidence_dir)}"):
                folder = result["evidence_dir"] or evidence_dir
                result["orphans_file"] = f"{folder}/orphans.db"
                source = sqlite_files.open_regular(way.salvaged.orphans_path, rights=case.rights)
                with safe_open.acting(safe_open.rights_on(folder, user=case.rights)):
                    _copy_opened(source, f"{folder}/orphans.db")
        with sqlite_files.clear_errors(f"put the new database in the place of {printable(place)}"):
            result["kept"] = printable(_swap(case, new, work, proc_root=proc_root) or "") or None
    after = sqlite_check.check(
        path=place, checks=["quick", "foreign_keys"], user=case.user, time_budget=max(left, 1.0), proc_root=proc_root
    )
    result["problems_after"] = after["problems"]
    result["rows_after"] = after["row_counts"]
    result["rows_lost"] = _lost(case.rows, after["row_counts"])


def _expect(new: str, way: Way, *, user: Optional[str], time_budget: float) -> None:
    """See once more, before it takes the place of the old one, that the new database holds what was announced."""
    check = sqlite_check.check(path=new, checks=["quick"], user=user, time_budget=max(time_budget, 1.0))
    codes = {problem["code"] for problem in check["problems"] if problem["level"] == "error"}
    if codes - ({"no_tables"} if way.method == "empty" else set()) or check["checks"].get("quick") != "ok":
        raise SqliteError(f"The new database {printable(new)} is not sound: {check['problems']}")
    if check["row_counts"] != way.rows:
        raise SqliteError(
            f"The new database {printable(new)} has row counts {check['row_counts']}, announced were {way.rows}"
        )


def _make_new(case: _Case, way: Way, work: str, *, proc_root: str) -> str:
    """Make the new database in the work folder, with the owner and the mode of the old one, on disk."""
    new = f"{work}/new.db"
    if way.salvaged is not None:
        with sqlite_files.clear_errors(f"move the new database to {printable(work)}"):
            os.rename(way.salvaged.path, new)
    elif way.method == "backup" and way.source is not None:
        sqlite_backup.backup(
            path=way.source,
            dest=new,
            timeout=max(case.deadline - time.monotonic(), 1.0),
            user=case.user,
            proc_root=proc_root,
        )
    else:
        _own_folder(f"{work}/empty", case.owner)
        made = f"{work}/empty/new.db"
        sqlite_salvage.make_empty(made, owner=case.owner, wal_mode=case.wal_mode, deadline=case.deadline)
        os.rename(made, new)
    with sqlite_files.clear_errors(f"flush {printable(new)} to disk"):
        for suffix in ("-wal", "-journal"):
            if os.path.lexists(new + suffix):
                raise SqliteError(f"The new database {printable(new)} was not closed properly")
        descriptor = os.open(new, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.geteuid() == 0:
                os.fchown(descriptor, case.owner.uid, case.owner.gid)
            os.fchmod(descriptor, case.mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        atomic_files.fsync_folder(work)
    return new


def _copy_file(source: str, target: str, *, rights: safe_open.Rights) -> None:
    _copy_opened(sqlite_files.open_regular(source, rights=rights), target)


def _copy_opened(source: int, target: str) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        os.fchmod(writer.fileno(), 0o600)
        left = os.fstat(source).st_size  # and not what its owner makes of it meanwhile
        while left > 0:
            chunk = reader.read(min(left, 1 << 20))
            if not chunk:
                break
            left -= writer.write(chunk)
        writer.flush()
        os.utime(writer.fileno(), ns=(os.fstat(reader.fileno()).st_atime_ns, os.fstat(reader.fileno()).st_mtime_ns))
        os.fsync(writer.fileno())


def _swap(case: _Case, new: str, work: str, *, proc_root: str) -> Optional[str]:
    """Put C(new) in the place of the old database, see above; return where the old files are kept. Raises OSError."""
    place, old = case.path, f"{work}/old"
    _guard(case, work)
    try:
        _behind_the_guard(case, new, old, proc_root=proc_root)
    except OSError:
        if _guarded(place):
            _put_back(place, work)
        raise
    if not os.listdir(old):  # there was nothing
        os.rmdir(old)
        return None
    return _finish(place, work, owner=case.owner)


def _guard(case: _Case, work: str) -> None:
    """Give the database its second name and put the guard in its place. Raises OSError."""
    place, old = case.path, f"{work}/old"
    folder, name = os.path.split(place)
    os.mkdir(old, 0o700)
    if os.path.lexists(place):
        try:
            os.link(place, f"{old}/{name}")
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            _copy_file(place, f"{old}/{name}", rights=case.rights)
            if os.geteuid() == 0:
                os.chown(f"{old}/{name}", case.owner.uid, case.owner.gid)
            os.chmod(f"{old}/{name}", case.mode)
    atomic_files.fsync_folder(old)
    atomic_files.fsync_folder(work)
    os.symlink(_guard_of(place), f"{work}/guard")
    os.rename(f"{work}/guard", place)
    atomic_files.fsync_folder(folder)


def _behind_the_guard(case: _Case, new: str, old: str, *, proc_root: str) -> None:
    place, work = case.path, os.path.dirname(old)
    folder, name = os.path.split(place)
    # From here on nobody can come in any more. Whoever came in since the first look would write into the old files.
    came = sqlite_holders.find_holders(case.found, proc_root=proc_root)
    if came.found or came.deleted:
        _put_back(place, work)
        who = came.named() or ", ".join(f"pid {holder.pid} ({holder.command})" for holder in came.deleted)
        raise SqliteError(f"{printable(place)} was opened meanwhile by {who}; the old files are back in place")
    for kind in _SIDE:
        beside = f"{place}{sqlite_files.SUFFIXES[kind]}"
        if os.path.lexists(beside):
            os.rename(beside, f"{old}/{name}{sqlite_files.SUFFIXES[kind]}")
    atomic_files.fsync_folder(old)
    atomic_files.fsync_folder(folder)
    os.rename(new, place)
    atomic_files.fsync_folder(folder)
