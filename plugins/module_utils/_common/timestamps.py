# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times as text in the collection's format, such as 2026-03-02T01:02:03.456Z (ISO 8601, UTC, with milliseconds)."""

from __future__ import annotations

import datetime
import time
from typing import Tuple


def iso(seconds: float) -> str:
    """Return a time (float seconds since the epoch) as text such as 2026-03-02T01:02:03.456Z."""
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


def now() -> str:
    """Return the current time in the format of iso()."""
    return iso(time.time())


def epoch(text: str) -> float:
    """Convert text from iso() to seconds since the epoch.

    Raises ValueError if the text has a different format.
    """
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def compact(seconds: float) -> str:
    """Return a time in the format for file names: 20260302T010203Z."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def span(seconds: float) -> Tuple[str, str]:
    """Return a duration as a unit of time (days, hours, minutes, seconds) and the number of units."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return unit, f"{seconds / size:.0f}"
    return "seconds", f"{seconds:.0f}"
