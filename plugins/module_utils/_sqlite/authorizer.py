# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deny SQL statements that do more than read."""

from __future__ import annotations

import sqlite3
from typing import Optional

# Action codes (https://www.sqlite.org/c3ref/c_alter_table.html). Python 3.8 does not define constants for all these
# codes.
_MAKES = (1, 2, 3, 4, 5, 6, 7, 8, 29)  # indexes, tables, triggers, views, virtual tables
_REMOVES = (10, 11, 12, 13, 14, 15, 16, 17, 30)
_PRAGMA, _ATTACH, _DETACH, _ALTER, _REINDEX, _ANALYZE, _FUNCTION = 19, 24, 25, 26, 27, 28, 31
_WRITES = frozenset((*_MAKES, *_REMOVES, _ATTACH, _DETACH, _ALTER, _REINDEX, _ANALYZE))
_QUESTIONS = frozenset(
    (
        *("application_id", "cell_size_check", "data_version", "encoding", "freelist_count", "journal_mode"),
        *("page_count", "page_size", "schema_version", "trusted_schema", "user_version"),
    )
)
_QUESTIONS_ABOUT = frozenset(
    (
        *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check"),
        *("mmap_size", "quick_check", "table_info", "table_xinfo"),
    )
)
_SIDE_EFFECTS = frozenset(("edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"))


def only_reads(
    action: int, first: Optional[str], second: Optional[str], _database: Optional[str], _trigger: Optional[str]
) -> int:
    """Callback for Connection.set_authorizer: return SQLITE_OK if an action only reads, otherwise SQLITE_DENY.

    A virtual table prepares INSERT, UPDATE and DELETE statements even if it is only read. Therefore, these statements
    are allowed. They cannot change the original database: it is opened read-only, or a private copy is read instead.
    """
    denied = action in _WRITES
    if action == _PRAGMA:
        name = str(first).lower()
        denied = name not in _QUESTIONS_ABOUT and (name not in _QUESTIONS or second is not None)
    elif action == _FUNCTION:
        denied = str(second).lower() in _SIDE_EFFECTS
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK
