# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace a damaged database with a sound one, by the method that loses the fewest rows.

The rows that will be lost are counted before any change. A new file then replaces the old file in the following steps.
The result of each step is flushed to disk before the next step begins:

1. The old files are copied as evidence. The new file is created and checked in a work folder next to the database.
2. The database is given a second name in the work folder.
3. A guard is renamed over the database. The guard is a symbolic link into a folder that does not exist. SQLite follows
   the link, finds no database, and cannot create one. SQLite looks for a WAL next to the link's target, so it ignores
   the WAL next to the guard.
4. The WAL, its index and the journal are moved into the work folder.
5. The new file is renamed over the guard. The old files are kept in a separate folder next to the new database.

Therefore, SQLite always finds one of these: the old database with its WAL, no database, or the new database without a
WAL. If a run finds the guard of a killed run, it restores the old files (the database last) and starts again.

If accounts other than root can change the folder, all steps run as the database's user (see files.rights_on).
Otherwise, an account that can rename the work folder could redirect root's new files to any path.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import (
    backup_access,
    candidates,
    restore_survey,
    restore_swap,
    restore_ways,
    salvage_image,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import checkpoint as sqlite_checkpoint
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import salvage as sqlite_salvage
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

METHODS = ("checkpoint", "salvage", "backup", "empty")
_AFTER_REPLACEMENT = ("backup", "empty")
# See restore().
OnReplace = Callable[[str, Mapping[str, int], Mapping[str, int]], Callable[[], None]]


class _Workspace(NamedTuple):
    """The database and the folders of one call.

    place: the path of the database, with links resolved. work: the work folder next to the database, or "" if nothing
    may be changed there. scratch: a folder for temporary files. subject: the path of the database to examine, which is
    place or a copy. put_back: True if this call moved back the files that a killed run had moved away.
    """

    place: str
    work: str
    scratch: str
    subject: str
    put_back: bool


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
    recorded: Tuple[Sequence[candidates.Recorded], Sequence[Message]] = ((), ()),
    configured_path: str = "",
    created_at: str = "",
    expected: Optional[Mapping[str, int]] = None,
    last_good: Optional[Mapping[str, int]] = None,
    replaced: bool = False,
    owner: Optional[str] = None,
    shell: str = "sqlite3",
    time_budget: float = 300.0,
    timeout: float = 1800.0,
    proc_root: str = "/proc",
    on_replace: OnReplace = lambda data_loss, before, after: lambda: None,
) -> Dict[str, Any]:
    """Find methods that yield a sound database, apply one of them if `act` is True, and return the module's result.

    replaced: True if a new database has replaced the original database and does not contain the original rows. In this
    case, the `auto` method considers neither checkpoint nor salvage. recorded: see candidates.find. configured_path:
    the path of the database in the inventory, or "" if it is `path`. created_at: the time of the first migration of the
    last sound database, or "" if it is unknown. on_replace: a function that is called right before the database is
    changed. The function's arguments are the data loss ("none", "known" or "unknown") and the known row counts before
    and after the change. The function returns a second function. The second function is called if the change failed and
    the old database was restored.

    If `act` is False, or in check mode, no file next to the database is changed, and every method is examined. Raises
    SqliteError if the chosen method cannot be applied.
    """
    started = time.monotonic()
    _check_parameters(path=path, method=method, evidence_dir=evidence_dir, time_budget=time_budget, timeout=timeout)
    rights = sqlite_files.rights_on(path, owner)
    working = act and not check_mode
    with safe_open.acting(rights), sqlite_files.clear_errors(
        "recover", path=printable(path)
    ), contextlib.ExitStack() as stack:
        space = _workspace(stack, path, working=working, owner=owner, rights=rights, proc_root=proc_root)
        case = restore_survey.examine(
            space.subject,
            scratch=space.scratch,
            expected=expected or {},
            last_good=last_good or {},
            replaced=replaced,
            created_at=created_at,
            owner=owner,
            time_budget=time_budget,
            deadline=started + timeout,
            rights=rights,
            proc_root=proc_root,
        )
        ways = restore_ways.ways(
            case,
            wanted=(method,) if working and method != "auto" else _AFTER_REPLACEMENT if replaced else METHODS,
            every=not working,
            scratch=space.scratch,
            shell=shell,
            confirm_empty=confirm_empty,
            backups=candidates.find(
                space.place,
                dirs=backup_dirs,
                patterns=backup_patterns,
                rights=rights,
                recorded=recorded,
                reader=backup_access.Reader(owner, configured_path or path),
            ),
            no_backup=candidates.not_found(space.place, dirs=backup_dirs, patterns=backup_patterns),
            time_budget=time_budget,
        )
        chosen, why = _choose(ways, method=method)
        if act and chosen is None:
            raise sqlite_files.cannot("recover", path=printable(space.place), why=why)
        result = _result(case, ways, chosen=chosen, why=why, put_back=space.put_back)
        if working and chosen is not None and result["needed"]:
            places = {"work": space.work, "evidence_dir": evidence_dir, "proc_root": proc_root}
            _take(case, chosen, result, **places, on_replace=on_replace)
        result["changed"] = act and (result["needed"] or space.put_back)
        result["diff"] = _diff(case, result)
    result["duration"] = round(time.monotonic() - started, 3)
    return result


def _workspace(
    stack: contextlib.ExitStack,
    path: str,
    *,
    working: bool,
    owner: Optional[str],
    rights: safe_open.Rights,
    proc_root: str,
) -> _Workspace:
    """Find the database and create the temporary folders. These folders are removed when `stack` closes.

    Raises SqliteError. If `working` is True, first move back the files that a killed run moved away.
    """
    place = restore_swap.locate(path)
    restore_swap.require_a_way(path, place, rights=rights)
    restore_survey.require_a_place(place, rights=rights)
    if not working:
        restore_survey.refuse_hidden_holders(place, user=owner, proc_root=proc_root)
        scratch = stack.enter_context(restore_swap.scratch_elsewhere(place, rights=rights))
        subject = restore_swap.as_it_was(place, scratch, rights=rights)
        return _Workspace(place=place, work="", scratch=scratch, subject=subject, put_back=False)
    restore_survey.refuse_files_of_root(place, rights=rights)
    restore_survey.refuse_holders(place, user=owner, proc_root=proc_root)
    work = stack.enter_context(restore_swap.work_folder(place))
    put_back = restore_swap.settle(place, work, owner=restore_survey.owner_of(place, owner, rights=rights))
    scratch = f"{work}/scratch"
    os.mkdir(scratch, 0o711)
    return _Workspace(place=place, work=work, scratch=scratch, subject=place, put_back=put_back)


def _check_parameters(*, path: str, method: str, evidence_dir: str, time_budget: float, timeout: float) -> None:
    for name, value in (("path", path), ("evidence_dir", evidence_dir)):
        if not os.path.isabs(value) or "\0" in value:
            raise SqliteError(f"{name} must be an absolute path, not {printable(value)!r}")
    if method != "auto" and method not in METHODS:
        raise SqliteError(f"method must be auto or one of {', '.join(METHODS)}, not {method!r}")
    for name, seconds in (("time_budget", time_budget), ("timeout", timeout)):
        if not 0 < seconds <= 86400:
            raise SqliteError(f"{name} must be above 0 and at most 86400 seconds, not {seconds}")


def _choose(ways: Sequence[restore_ways.Way], *, method: str) -> Tuple[Optional[restore_ways.Way], List[Message]]:
    """Return the chosen method and the reasons for it. If no method can be chosen, return None and the reasons."""
    possible = {way.method: way for way in ways if way.possible}
    refused = [message("reason.restore.method", method=way.method, why=way.reasons) for way in ways if not way.possible]
    if method != "auto":
        way = possible.get(method)
        return way, way.reasons if way else refused
    for name in METHODS:
        if name not in possible:
            continue
        way, other = possible[name], possible.get("backup")
        if name == "salvage" and other and sum(other.rows.values()) > sum(way.rows.values()):
            saved, kept = sum(way.rows.values()), sum(other.rows.values())
            return other, [message("reason.restore.backup_holds_more", saved=saved, kept=kept), *other.reasons]
        return way, way.reasons
    return None, refused


def _result(
    case: restore_ways.Case,
    ways: Sequence[restore_ways.Way],
    *,
    chosen: Optional[restore_ways.Way],
    why: Sequence[Message],
    put_back: bool,
) -> Dict[str, Any]:
    sound = chosen is not None and chosen.method == "checkpoint" and not case.check["wal"]["size"]
    lost = chosen.lost if chosen is not None else {}
    unknown = bool(case.uncounted or case.unread) or case.schema_unreadable
    if chosen is not None and chosen.method == "salvage":
        unknown = unknown or case.found.wal.damaged or case.reading == salvage_image.ALONE
    elif chosen is not None and chosen.method == "backup":
        unknown = True  # rows may have changed since the backup
    if chosen is not None and restore_ways.fewer(case, chosen):
        unknown = True  # users may have deleted the missing rows after the last good count
    return {
        "needed": not sound,
        "healthy_before": case.check["healthy"],
        "problems": case.check["problems"],
        "holders": case.check["holders"],
        "method": chosen.method if chosen is not None else None,
        "reason": restore_ways.joined(why),
        "plan": [way.as_dict() for way in ways],
        "rows_before": case.rows,
        "rows_uncounted": case.uncounted,
        "rows_after": dict(chosen.rows) if chosen is not None else {},
        "rows_lost": lost,
        "data_loss": "known" if lost else "unknown" if unknown and chosen is not None else "none",
        "statement": chosen.statement if chosen is not None else "",
        "messages": plain(reason=why, statement=chosen.losses if chosen is not None else None),
        "source": chosen.source if chosen is not None else None,
        "put_back": put_back,
        "evidence_dir": None,
        "evidence": [],
        "kept": None,
        "orphans_file": None,
        "problems_after": [],
    }


def _diff(case: restore_ways.Case, result: Mapping[str, Any]) -> Dict[str, Any]:
    before = {"rows": case.rows, "healthy": case.check["healthy"]}
    after = {"rows": result["rows_after"], "healthy": True, "method": result["method"]} if result["method"] else before
    return {"before": before, "after": after if result["needed"] else before}


def _take(
    case: restore_ways.Case,
    way: restore_ways.Way,
    result: Dict[str, Any],
    *,
    work: str,
    evidence_dir: str,
    proc_root: str,
    on_replace: OnReplace,
) -> None:
    """Apply the chosen method and complete the result. Raises SqliteError."""
    place = case.path
    left = case.deadline - time.monotonic()
    if case.found.files:
        kept = sqlite_backup.backup(
            path=place, dest_dir=evidence_dir, evidence=True, user=case.user, proc_root=proc_root
        )
        result["evidence_dir"], result["evidence"] = kept["evidence_dir"], kept["files"]
    if way.method == "checkpoint":
        on_replace(result["data_loss"], case.rows, way.rows)
        done = sqlite_checkpoint.checkpoint(path=place, user=case.user, time_budget=left, proc_root=proc_root)
        result["rows_after"] = done["row_counts"]
    else:
        new = _make_new(case, way, work, proc_root=proc_root)
        _expect(new, way, user=case.user, time_budget=left)
        if way.salvaged is not None and way.salvaged.orphans_path:
            with sqlite_files.clear_errors("keep_orphans", path=printable(evidence_dir)):
                folder = result["evidence_dir"] or evidence_dir
                result["orphans_file"] = f"{folder}/orphans.db"
                source = sqlite_files.open_regular(way.salvaged.orphans_path, rights=case.rights)
                with safe_open.acting(safe_open.rights_on(folder, user=case.rights)):
                    restore_swap.copy_opened(source, f"{folder}/orphans.db")
        undo = on_replace(result["data_loss"], case.rows, way.rows)
        with sqlite_files.clear_errors("put_in_place", path=printable(place)):
            try:
                kept_folder = restore_swap.swap(case, new, work, proc_root=proc_root)
            except (OSError, SqliteError):
                if _is_unchanged(case):
                    undo()
                raise
            result["kept"] = printable(kept_folder or "") or None
    after = sqlite_check.check(
        path=place, checks=["quick", "foreign_keys"], user=case.user, time_budget=max(left, 1.0), proc_root=proc_root
    )
    result["problems_after"] = after["problems"]
    result["rows_after"] = after["row_counts"]
    result["rows_lost"] = restore_ways.lost(case.rows, after["row_counts"])


def _is_unchanged(case: restore_ways.Case) -> bool:
    """Return True if the file at the database's path is still the file that was examined."""
    before = case.found.files.get("database")
    try:
        now = os.lstat(case.path)
    except OSError:
        return before is None
    return before is not None and (now.st_dev, now.st_ino) == (before.device, before.inode)


def _expect(new: str, way: restore_ways.Way, *, user: Optional[str], time_budget: float) -> None:
    """Before the swap, check that the new database is sound and has the row counts in `way`. Raises SqliteError."""
    check = sqlite_check.check(path=new, checks=["quick"], user=user, time_budget=max(time_budget, 1.0))
    codes = {problem["code"] for problem in check["problems"] if problem["level"] == "error"}
    if codes - ({"no_tables"} if way.method == "empty" else set()) or check["checks"].get("quick") != "ok":
        problems = [
            {name: each for name, each in problem.items() if name != "messages"} for problem in check["problems"]
        ]
        raise SqliteError(message("reason.sqlite.new_not_sound", path=printable(new), problems=str(problems)))
    if check["row_counts"] != way.rows:
        rows = {"counted": str(check["row_counts"]), "announced": str(way.rows)}
        raise SqliteError(message("reason.sqlite.new_differs", path=printable(new), **rows))


def _make_new(case: restore_ways.Case, way: restore_ways.Way, work: str, *, proc_root: str) -> str:
    """Create the new database in the work folder, flush it to disk, and return its path. Raises SqliteError.

    The new database has the owner and the mode of the old one.
    """
    new = f"{work}/new.db"
    if way.salvaged is not None:
        with sqlite_files.clear_errors("move_new", path=printable(work)):
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
        restore_ways.own_folder(f"{work}/empty", case.owner)
        made = f"{work}/empty/new.db"
        sqlite_salvage.make_empty(made, owner=case.owner, wal_mode=case.wal_mode, deadline=case.deadline)
        os.rename(made, new)
    with sqlite_files.clear_errors("flush", path=printable(new)):
        for suffix in ("-wal", "-journal"):
            if os.path.lexists(new + suffix):
                raise SqliteError(message("reason.sqlite.new_not_closed", path=printable(new)))
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
