# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mask the values in a table (console.table) whose column or row has the name of a secret."""

from __future__ import annotations

from typing import Callable, List, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_shapes as shapes

BAR = "\u2502"
_TOP = "\u250c"
_FRAME = "\u2500"


def without_columns(text: str, is_secret_name: Callable[[str], bool]) -> str:
    """Return text with the values of secrets in tables masked.

    The first line below the top of a table contains the names. A value may contain a bar. Such a row has more cells
    than the line with the names, so all its cells are masked, starting with the first secret.
    """
    hidden: Set[int] = set()
    width = 0
    top = False
    lines: List[str] = []
    for line in text.split("\n"):
        cells = line.split(BAR)
        names = [cell.strip(" '\"") for cell in cells]
        if top and len(cells) > 1:
            hidden = {at for at, name in enumerate(names) if is_secret_name(name)}
            width = len(cells)
        elif len(cells) > 2:
            first = min(hidden, default=len(cells))
            for at in range(1, len(cells) - 1):
                moved = len(cells) != width and at >= first
                named = at > 1 and is_secret_name(names[1])
                if (at in hidden or moved or named) and names[at]:
                    cells[at] = f" {shapes.MASK} "
        elif _FRAME not in line:
            hidden, width = set(), 0
        top = _TOP in line
        lines.append(BAR.join(cells))
    return "\n".join(lines)
