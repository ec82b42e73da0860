# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of migrations, from the application's folder and from knex's list."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.knex_tables import KnexError

# Usual folders for migrations, and the file extensions that knex loads by default (loadExtensions).
_USUAL_FOLDERS = ("migrations", "backend/migrations", "db/migrations", "src/migrations")
_EXTENSIONS = (".co", ".coffee", ".eg", ".iced", ".js", ".cjs", ".litcoffee", ".ls", ".ts")
_MOST_FILES = 10000

ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HEADING = re.compile(r"(?i)(?:found (?P<count>\d+)|no) (?P<kind>completed|pending) migration files?\b")


def parse_list(output: str) -> Tuple[List[str], List[str]]:
    """Return the completed and the pending migrations in the output of knex migrate:list or migrate:status (2.x, 3.x).

    Raises KnexError if the output has another format, or if the number of names differs from the number in the heading.
    """
    names: Dict[str, List[str]] = {}
    announced: Dict[str, int] = {}
    current = ""
    for line in ANSI.sub("", output).splitlines():
        heading = _HEADING.match(line.strip())
        if heading is not None:
            current = heading.group("kind").lower()
            announced[current] = int(heading.group("count") or 0)
            names[current] = []
        elif line.strip() and current and len(names[current]) < announced[current]:
            names[current].append(line.strip())
    if set(names) != {"completed", "pending"} or any(len(names[kind]) != announced[kind] for kind in names):
        raise KnexError(message("reason.knex.other_output"))
    return names["completed"], names["pending"]


def in_folder(app_dir: str) -> Optional[List[str]]:
    """Return the sorted names of the migrations in the first usual folder that exists, or None.

    The knexfile may specify another folder, but only knex can read the knexfile, and starting Node is slow.
    """
    for folder in _USUAL_FOLDERS:
        with contextlib.suppress(OSError), os.scandir(os.path.join(app_dir, folder)) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_FILES)]
            return sorted(name for name in names if os.path.splitext(name)[1] in _EXTENSIONS)
    return None


def pending(applied: Sequence[str], shipped: Sequence[str]) -> List[str]:
    """Return the application's migrations that have not been applied yet.

    Raises KnexError if an applied migration is missing from the application, because knex would also fail.
    """
    unknown = [name for name in applied if name not in set(shipped)]
    if unknown:
        raise KnexError(message("reason.knex.lacks", names=unknown))
    return [name for name in shipped if name not in set(applied)]
