# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create a verified backup, list it, remove surplus backups, and send the new backup to another host.

The order of the steps prevents data loss: an old backup is removed only after the new one has been verified.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import listing, messages, off_host, retention
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.listing import Entry
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup as sqlite_backup
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import backup_access, row_counts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError, printable

LEAST_KEPT, MOST_KEPT = 2, 500
# File names that have no special meaning in a shell, and do not look like an option.
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class Order(NamedTuple):
    """A requested backup. path: the database. folder: the backup folder. user: the service's user, or None.

    timeout: time limit for the copy and its verification, in seconds. accept_fewer: True if a person has confirmed that
    the missing rows are expected. command: the command that sends the backup to another host, or None. run: the ID of
    the run that creates the backup.
    """

    path: str
    folder: str
    limits: retention.Limits
    state_dir: str
    user: Optional[str] = None
    busy_timeout: float = 5.0
    timeout: float = 600.0
    accept_fewer: bool = False
    command: Optional[off_host.Command] = None
    run: str = ""

    @property
    def prefix(self) -> str:
        """Prefix of backup file names. A recovery finds backups by this prefix."""
        return f"{os.path.basename(self.path)}{retention.BEFORE_TIME}"


def make(
    order: Order, *, check_mode: bool = False, run: commands.Runner = commands.run, proc_root: str = "/proc"
) -> Dict[str, Any]:
    """Create a backup and return the result of the scheduled_backup module.

    If a backup was created but has a problem (with its rows or its copy on another host), the result contains the
    problem. If no verified backup was created, SqliteError or BackupError is raised. In this case, the list of backups
    and all older backups are unchanged.
    """
    _check(order)
    began = time.monotonic()
    rights = _rights(order)
    if check_mode:
        listing.refuse_other_run(order.state_dir, run=order.run)
        room = sqlite_backup.backup(
            path=order.path, dest_dir=order.folder, user=order.user, room_only=True, timeout=order.timeout
        )
        listed = listing.read(order.state_dir)
        would = retention.surplus([Entry("", "", verified=True), *listed], order.limits, now=time.time())
        return _result(None, [], would, began=began, room=room["room_needed"])
    with listing.locked(order.state_dir, run=order.run):
        entry, made = _back_up(order, proc_root=proc_root)
        problems: List[Message] = []
        removed: List[Entry] = []
        if entry.fewer:
            fewer = [message("reason.backup.table", table=name, rows=n[0], now=n[1]) for name, n in entry.fewer.items()]
            problems.append(message("reason.backup.fewer", path=printable(entry.path), tables=fewer))
        else:
            removed, left = _prune(order, rights=rights)
            problems += [message("reason.backup.not_removed", path=printable(each.path), why=why) for each, why in left]
        if order.command is not None:
            where, problem = off_host.send(entry, order.command, rights=rights, run=run)
            problems += [problem] if problem else []
            entry = listing.note_copy(order.state_dir, entry.path, where) if where else entry
    return _result(entry, problems, removed, began=began, room=made["room_needed"])


def _check(order: Order) -> None:
    if not LEAST_KEPT <= order.limits.keep <= MOST_KEPT:
        raise BackupError(f"keep must be {LEAST_KEPT} to {MOST_KEPT}, not {order.limits.keep}")
    if not 0 <= order.limits.days <= 36500:
        raise BackupError(f"keep_days must be 0 (no limit) to 36500, not {order.limits.days:g}")
    for name, value in (("path", order.path), ("dest_dir", order.folder)):
        if not os.path.isabs(value) or "\0" in value or value != os.path.normpath(value):
            raise BackupError(f"{name} must be an absolute path without . and .., not {printable(value)!r}")
    if order.command is not None:
        off_host.check(order.command)
        # A command may pass the name to a shell on another host. The name may be from the service's environment.
        if not _HARMLESS.fullmatch(os.path.basename(order.path)):
            raise BackupError(
                f"path is {printable(order.path)!r}: to copy backups with command, the name of the database may "
                "contain only letters and digits (ASCII), _, ., - and +, and must begin with a letter, a digit or _"
            )


def _rights(order: Order) -> safe_open.Rights:
    """Return the account whose rights are used in the backup folder. Raises SqliteError."""
    try:
        return safe_open.rights_on(order.folder, user=sqlite_files.rights_on(order.path, order.user))
    except OSError as error:
        raise sqlite_files.cannot("write_to", path=printable(order.folder), why=str(error.strerror)) from error


def _back_up(order: Order, *, proc_root: str) -> Any:
    """List the backup as not verified, create it, and list it as verified. Return the entry and the backup's result."""
    listed = listing.read(order.state_dir)
    at = time.time()
    entry = Entry(at=timestamps.iso(at), path=_unused_path(order, listed, at=at), user=_reader(order))
    listing.write(order.state_dir, [entry, *listed])
    try:
        made = sqlite_backup.backup(
            path=order.path,
            dest=entry.path,
            user=order.user,
            busy_timeout=order.busy_timeout,
            timeout=order.timeout,
            proc_root=proc_root,
        )
    except SqliteError:
        listing.write(order.state_dir, listed)
        raise
    rows = dict(made["row_counts"])
    entry = entry._replace(bytes=made["size"], rows=rows, verified=True, sha256=made["sha256"])
    before = next((each for each in listed if each.sound), None)
    if before is not None and not order.accept_fewer and row_counts.collapsed(before.rows, rows):
        entry = entry._replace(fewer=row_counts.missing(before.rows, rows))
    listing.write(order.state_dir, [entry, *listed])
    return entry, made


def _reader(order: Order) -> str:
    """Return the service's user if this user can read the database, otherwise "".

    A recovery may restore the backup for this user, because the user could read these rows anyway. The path of the
    database does not show this, because the user can choose the path.
    """
    readable = order.user and backup_access.can_read(order.path, safe_open.account_rights(order.user))
    return order.user or "" if readable else ""


def _unused_path(order: Order, listed: Sequence[Entry], *, at: float) -> str:
    taken = {entry.path for entry in listed}
    path = f"{order.folder}/{order.prefix}{timestamps.compact(at)}"
    names = [path, *(f"{path}-{number}" for number in range(2, 100))]
    return next((name for name in names if name not in taken), path)


def _prune(order: Order, *, rights: safe_open.Rights) -> Any:
    """Remove surplus backups and their entries. Return the removed backups, and those that could not be removed."""
    listed = listing.read(order.state_dir)
    # Backups in another folder were created with an earlier setting. These backups are listed, but not removed by this
    # call.
    ours = [each for each in listed if retention.has_our_name(each.path, folder=order.folder, prefix=order.prefix)]
    wanted = retention.surplus(ours, order.limits, now=time.time())
    gone, left = retention.remove(wanted, folder=order.folder, prefix=order.prefix, rights=rights)
    if gone:
        listing.write(order.state_dir, [each for each in listed if each not in gone])
    return gone, left


def _result(
    entry: Optional[Entry],
    problems: Sequence[Message],
    removed: Sequence[Entry],
    *,
    began: float,
    room: int,
) -> Dict[str, Any]:
    paths = [printable(each.path) for each in removed]
    return {
        "changed": True,
        "backup": entry.as_dict() if entry is not None else None,
        "removed": paths,
        "room_needed": room,
        "problems": [messages.english(each) for each in problems],
        "messages": plain(problems=list(problems)),
        "duration": round(time.monotonic() - began, 3),
        "diff": {"before": {"present": paths}, "after": {"present": [printable(entry.path)] if entry else []}},
    }
