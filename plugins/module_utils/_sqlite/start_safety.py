# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check whether starting the service would harm the database. Each check takes at most a few seconds."""

from __future__ import annotations

import os
from typing import Container, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import check as sqlite_check
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import SqliteError

_MAGIC = b"SQLite format 3\0"
# Time limit of quick_doubt, in seconds.
_QUICK = 1.5
# Codes of problems that starting the service would make worse.
_HARMFUL = ("empty_beside_wal", "not_a_database", "corrupt", "wal_damaged", "wal_foreign")


def doubt(path: str, *, accepted: Container[str] = ()) -> Optional[str]:
    """Check a database in about a millisecond. Return the reason why the service must not start with it, or None.

    When SQLite opens a missing or empty database, SQLite deletes the WAL next to the database. accepted: the codes of
    the problems that a person has accepted.
    """
    if not path:
        return None
    try:
        sizes = [_size(path), _size(f"{path}-wal")]
        lost = "empty_beside_wal" if os.path.exists(path) else "missing"
        if sizes[0] == 0 and sizes[1] > 0 and lost not in accepted:
            return f"The database {path} is missing or empty, and its WAL has {sizes[1]} bytes"
        if sizes[0] > 0 and _beginning(path) != _MAGIC and "not_a_database" not in accepted:
            return f"The database {path} does not begin with a SQLite header"
    except OSError:
        return None
    return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _beginning(path: str) -> bytes:
    descriptor = safe_open.open_file(path)
    try:
        return os.read(descriptor, len(_MAGIC))
    finally:
        os.close(descriptor)


def quick_doubt(path: str, *, user: str = "", pids: Sequence[int] = (), accepted: Container[str] = ()) -> Optional[str]:
    """Check the database for at most _QUICK seconds. Return the reason why the service must not start, or None.

    user: the user that reads the database. See file_survey.look. pids: the processes of the service. If one of these
    processes opens the database before the check ends, it is too late to prevent the start. In this case, the result is
    None. accepted: the codes of the problems that a person has accepted.
    """
    if not path or not os.path.exists(path):
        return None
    try:
        found = sqlite_check.check(path=path, checks=["quick"], user=user, row_counts=False, time_budget=_QUICK)
    except SqliteError:
        return None
    problems = [item for item in found["problems"] if item["code"] in _HARMFUL and item["code"] not in accepted]
    if not problems or procfs.holds(pids, path):
        return None
    return str(problems[0]["message"])
