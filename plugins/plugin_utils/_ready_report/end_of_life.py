# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end-of-life dates of Python and Node.js releases. After this date, a release receives no security fixes.

Sources: https://devguide.python.org/versions/ and https://github.com/nodejs/Release. Last compared: 2026-11-29.
If a source names only a month, the last day of the month is used. A distribution may support a release longer.
"""

from __future__ import annotations

import datetime
import re
from typing import Dict, Optional

COMPARED = "2026-11-29"
_PYTHON: Dict[str, str] = {
    "3.6": "2021-12-23",
    "3.7": "2023-06-27",
    "3.8": "2024-10-07",
    "3.9": "2025-10-31",
    "3.10": "2026-10-31",
    "3.11": "2027-10-31",
    "3.12": "2028-10-31",
    "3.13": "2029-10-31",
    "3.14": "2030-10-31",
    "3.15": "2031-10-31",
}
_NODE: Dict[str, str] = {
    "12": "2022-04-30",
    "13": "2020-06-01",
    "14": "2023-04-30",
    "15": "2021-06-01",
    "16": "2023-09-11",
    "17": "2022-06-01",
    "18": "2025-04-30",
    "19": "2023-06-01",
    "20": "2026-04-30",
    "21": "2024-06-01",
    "22": "2027-04-30",
    "23": "2025-06-01",
    "24": "2028-04-30",
    "25": "2026-06-01",
}
_RELEASES = {"python": (_PYTHON, re.compile(r"v?(\d+\.\d+)")), "node": (_NODE, re.compile(r"v?(\d+)\."))}


def end_of_life(program: str, version: Optional[str]) -> Optional[datetime.date]:
    """Return the last day of support for a version of "python" or "node", or None if it is unknown."""
    table, pattern = _RELEASES[program]
    release = pattern.match(version or "")
    day = table.get(release.group(1)) if release else None
    return datetime.date.fromisoformat(day) if day else None
