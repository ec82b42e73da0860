# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List of the backups that this collection has created on a host. The file is backups.json in the state folder.

Before a backup is created, it is listed as not verified. Therefore, a killed run leaves an entry. A file without an
entry was not created by this collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.candidates import Recorded
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable

NAME = "backups.json"
# Maximum number of entries, and maximum size of the file in bytes.
MOST = 1000
_LARGEST = 8 << 20
_LOCK = "backups.lock"


class Entry(NamedTuple):
    """One backup.

    at: the time at which the backup was started (see timestamps.iso). bytes: the size of the backup. rows: the number
    of rows in each table. verified: True if the backup was reopened, checked and compared with the database. off_host:
    the location of the copy on another host, or None. fewer: the tables with missing rows, as {table: [rows before,
    rows now]}. Missing rows are listed only if there are so many that a person must check the loss. user: the service's
    user if this user could read the database, otherwise "".
    """

    at: str
    path: str
    bytes: int = 0
    rows: Mapping[str, int] = {}
    verified: bool = False
    off_host: Optional[str] = None
    sha256: str = ""
    fewer: Mapping[str, Sequence[int]] = {}
    user: str = ""

    @property
    def sound(self) -> bool:
        """True if the backup was verified, and if `fewer` is empty."""
        return self.verified and not self.fewer

    def as_dict(self) -> Dict[str, Any]:
        """Return the entry in the file's format."""
        return {**self._asdict(), "rows": dict(self.rows), "fewer": {name: list(n) for name, n in self.fewer.items()}}


def _entry(read: Any) -> Entry:
    """Return an entry that was read from the file. Raises ValueError, TypeError or KeyError if the entry is invalid."""
    if not isinstance(read, dict):
        raise ValueError("an entry is not an object")
    return Entry(
        at=str(read["at"]),
        path=str(read["path"]),
        bytes=int(read.get("bytes") or 0),
        rows={str(table): int(rows) for table, rows in (read.get("rows") or {}).items()},
        verified=read.get("verified") is True,
        off_host=None if read.get("off_host") is None else str(read["off_host"]),
        sha256=str(read.get("sha256") or ""),
        fewer={str(table): [int(each) for each in rows] for table, rows in (read.get("fewer") or {}).items()},
        user=str(read.get("user") or ""),
    )


def lock_of(state_dir: str) -> str:
    """Return the path of the lock for backups and drills."""
    return os.path.join(state_dir, _LOCK)


def refuse_other_run(state_dir: str, *, run: str) -> None:
    """Raise BackupError if a recovery run other than `run` is working on this host.

    During a recovery run, no other program may have the database open.
    """
    holder = host_lease.Seat(state_dir=state_dir).holder()
    if holder is not None and holder["run"] != run:
        raise BackupError(host_lease.refusal(holder, state_dir=state_dir))


@contextlib.contextmanager
def locked(state_dir: str, *, run: Optional[str]) -> Iterator[None]:
    """Run the block while no other backup or drill is running on this host. Raises BackupError.

    run: the ID of the calling run, or None if the block does not open the database. If an ID is given and another run
    is working on this host, BackupError is raised.
    """
    path = lock_of(state_dir)
    try:
        atomic_files.private_folder(state_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot("write", path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(message("reason.backup.running", path=printable(path))) from None
        if run is not None:
            refuse_other_run(state_dir, run=run)
        yield
    finally:
        os.close(descriptor)


def read(state_dir: str) -> List[Entry]:
    """Return the listed backups, newest first. Raises BackupError if the list cannot be read."""
    path = os.path.join(state_dir, NAME)
    try:
        found = json.loads(atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8"))
        if not isinstance(found, list):
            raise ValueError("it is not a list")
        return [_entry(each) for each in found][:MOST]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _cannot("read", path, error) from error


def recorded(state_dir: str) -> Tuple[List[Recorded], List[Message]]:
    """Return the verified backups, newest first, and the reason if the list cannot be read.

    If an account other than root could have written the list, the users in it are ignored.
    """
    try:
        entries = read(state_dir)
    except BackupError as error:
        # The recovery can use only messages from its own package.
        return [], [message("reason.restore.list_unread", **error.told.values)]
    ours = False
    with contextlib.suppress(OSError):
        ours = safe_open.rights_on(os.path.join(state_dir, NAME)) is None
    found: List[Recorded] = []
    for entry in entries:
        if entry.verified and os.path.isabs(entry.path) and "\0" not in entry.path:
            with contextlib.suppress(ValueError):  # not a valid time
                user = entry.user if ours else ""
                found.append(Recorded(entry.path, timestamps.epoch(entry.at), entry.bytes, user))
    return found, []


def write(state_dir: str, entries: Sequence[Entry]) -> None:
    """Replace the list. The newest entry comes first. Raises BackupError."""
    path = os.path.join(state_dir, NAME)
    try:
        atomic_files.private_folder(state_dir)
        data = json.dumps([entry.as_dict() for entry in entries[:MOST]], indent=1, sort_keys=True)
        atomic_files.write_atomically(path, data.encode() + b"\n")
    except OSError as error:
        raise _cannot("write", path, error) from error


def listed(state_dir: str, path: str) -> Entry:
    """Return the entry for a backup. Raises BackupError if the backup is not listed or was not verified."""
    found = [entry for entry in read(state_dir) if entry.path == path]
    for entry in found:
        if entry.verified:
            return entry
    raise BackupError(message(f"reason.backup.not_{'verified' if found else 'listed'}", path=printable(path)))


def note_copy(state_dir: str, path: str, where: str) -> Entry:
    """Record where the copy of a backup is stored. Return the backup's entry. Raises BackupError, see listed()."""
    changed = listed(state_dir, path)._replace(off_host=where)
    write(state_dir, [changed if entry.path == path else entry for entry in read(state_dir)])
    return changed


def _cannot(deed: str, path: str, error: Exception) -> BackupError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BackupError(message(f"reason.backup.list_not.{deed}", path=printable(path), why=why))
