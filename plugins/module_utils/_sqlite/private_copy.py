# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a database into a private folder, because some databases can be read only from a copy (see reader.py)."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from typing import Iterator, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files


class OutOfTime(sqlite_files.SqliteError):
    """The deadline passed before the database was copied."""


def writer_of(found: sqlite_files.Look) -> Tuple[int, int]:
    """Return the owner (uid, gid) of the first database file that root does not own.

    If root owns all files, return the folder's owner.
    """
    for name in ("journal", "wal", "shm", "database"):
        facts = found.files.get(name)
        if facts is not None and facts.uid != 0:
            return facts.uid, facts.gid
    folder = os.stat(os.path.dirname(found.path))
    return folder.st_uid, folder.st_gid


@contextlib.contextmanager
def private_copy(found: sqlite_files.Look, *, deadline: float) -> Iterator[str]:
    """Copy the database with its journal and WAL into a private folder, and yield the path of the copy.

    The folder is owned by found.rights, the user that reads the database. If found.rights is None, it is owned by
    writer_of(found). Raises OutOfTime, and SqliteError, for example if this user cannot read a file.
    """
    rights = found.rights or writer_of(found)
    with safe_open.acting(None):
        folder = tempfile.mkdtemp(prefix="itsm-nexus-", dir=_room_for_copies(rights))
    given: safe_open.Rights = None  # the account that owns the folder after root has changed its owner
    try:
        try:
            with safe_open.acting(None):
                _fill(folder, found, rights=rights, deadline=deadline)
            given = rights
        except OSError as error:
            shown, why = sqlite_files.printable(found.path), str(error.strerror or error)
            raise sqlite_files.cannot("copy_to", path=shown, target=folder, why=why) from error
        yield f"{folder}/copy.db"
    finally:
        with safe_open.acting(None):
            atomic_files.discard_tree(folder, rights=given)


def _room_for_copies(rights: Tuple[int, int]) -> str:
    """Return a folder for the temporary files of a user. Root's TMPDIR is often accessible only to root."""
    usual = tempfile.gettempdir()
    with safe_open.acting(rights):
        return usual if os.access(usual, os.X_OK, effective_ids=True) else "/var/tmp"  # noqa: S108 - by mkdtemp


def _fill(folder: str, found: sqlite_files.Look, *, rights: Tuple[int, int], deadline: float) -> None:
    """Copy the files into a folder, and make the user the owner of the folder and the files.

    Raises SqliteError, OutOfTime, OSError.
    """
    what = {"path": sqlite_files.printable(found.path), "target": folder}
    needed = sum(facts.size for name, facts in found.files.items() if name != "shm")
    if sqlite_files.free_bytes(folder) < needed + (16 << 20):
        raise sqlite_files.cannot("copy_to", **what, why=message("reason.sqlite.does_not_fit", needed=needed))
    for name in ("database", "wal", "journal"):
        if name in found.files:
            target = f"{folder}/copy.db{sqlite_files.SUFFIXES[name]}"
            with open(target, "xb") as writer:
                for chunk in sqlite_files.chunks_of(found.files[name], handed=True):
                    if time.monotonic() > deadline:
                        late = message("reason.sqlite.time_over")
                        raise OutOfTime(message("reason.sqlite.cannot.copy_to", **what, why=late))
                    writer.write(chunk)
                if os.geteuid() == 0:
                    os.fchown(writer.fileno(), *rights)
    if os.geteuid() == 0:
        os.chown(folder, *rights)
