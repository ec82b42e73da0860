# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the database: the check result, the migrations and the owner."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, from_dict
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import NOTHING, Part

# Problem codes that do not indicate database damage, for example because another cause covers them.
_NO_DAMAGE = ("locked", "schema_too_new")
# Error texts that indicate that the database could not be opened. Such errors are not about the content of the
# database.
_NOT_OPENED = ("Permission denied", "Operation not permitted", "unable to open database file", "Too many open files")


class Database(Part):
    """The database that the service uses, as the sqlite_info module describes it."""

    path: str = "the database"
    conclusive: Optional[bool] = None
    checks: Mapping[str, str] = NOTHING
    problems: Sequence[Mapping[str, Any]] = ()
    holders: Sequence[Mapping[str, Any]] = ()
    database: Mapping[str, Any] = NOTHING
    wal: Mapping[str, Any] = NOTHING
    data_loss_suspected: bool = False
    data_loss_reasons: Sequence[str] = ()
    # Errors that were logged before this time are not about the current file. See recovered_file.older_before.
    recovered_at: str = ""

    @property
    def checked_in_full(self) -> bool:
        """True if the whole database was checked, including its indexes, and no problem was found."""
        complete = all(self.checks.get(name) == "ok" for name in ("quick", "integrity", "row_counts"))
        return bool(self.conclusive) and complete and not self._errors

    @property
    def settles_doubt(self) -> bool:
        """True if this full check shows that the database is sound, damaged or missing.

        If a lock or another problem prevented the check, the result is False.
        """
        return self.checked_in_full or bool(self.damages) or self.away is not None

    @property
    def unread(self) -> List[Mapping[str, Any]]:
        """The problems that prevented the database from being opened. Damaged content is not included."""
        return [
            item
            for item in self._errors
            if item["code"] in ("changing", *mounts.AWAY)
            or (item["code"] == "unreadable" and any(words in item["message"] for words in _NOT_OPENED))
        ]

    @property
    def away(self) -> Optional[Message]:
        """The message about the missing folder or file system of the database, or None if neither is missing."""
        found = [item for item in self._errors if item["code"] in mounts.AWAY]
        return from_dict(found[0]["messages"]["message"]) if found else None

    @property
    def damages(self) -> List[Mapping[str, Any]]:
        """The problems that indicate damage to the content."""
        unread = self.unread
        return [item for item in self._errors if item not in unread]

    @property
    def _errors(self) -> List[Mapping[str, Any]]:
        return [
            item for item in self.problems if item.get("level", "error") == "error" and item["code"] not in _NO_DAMAGE
        ]


class Migrations(Part):
    """The migrations of the schema. pending: None if the pending migrations are unknown."""

    pending: Optional[Sequence[str]] = None
    lock_held: Optional[bool] = None
    lock_stale: Optional[bool] = None
    migrators: Sequence[Mapping[str, Any]] = ()


class Ownership(Part):
    """The owners of the database's files and of their folder."""

    user: Optional[str] = None
    database: Optional[str] = None
    denied: Sequence[Mapping[str, Any]] = ()
    foreign: Sequence[str] = ()
    others: Sequence[str] = ()
    read_only: Optional[bool] = None
