# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare earlier and later row counts, and decide whether normal operation explains missing rows."""

from __future__ import annotations

from typing import Dict, List, Mapping

# Table in which knex records applied migrations.
_MIGRATIONS = "knex_migrations"


def missing(before: Mapping[str, int], after: Mapping[str, int]) -> Dict[str, List[int]]:
    """Return the tables with fewer rows than before, as {table: [before, after]}.

    A missing table is treated as an empty table.
    """
    return {name: [rows, after.get(name, 0)] for name, rows in before.items() if after.get(name, 0) < rows}


def collapsed(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Return True if so many rows are missing that normal operation cannot explain the loss.

    Tables shrink in normal operation, for example when sessions end or old entries are deleted. However, a database
    does not normally lose more than half of its rows, or a whole table. If a migration was applied in between, missing
    tables are ignored, because the migration may have dropped them.
    """
    if not before:
        return False
    migrated = after.get(_MIGRATIONS, 0) > before.get(_MIGRATIONS, 0)
    kept = {name: rows for name, rows in before.items() if name in after or not migrated}
    return any(name not in after for name in kept) or sum(after.values()) * 2 < sum(kept.values())
