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
    """Convert text in the format of iso() to seconds since the epoch. Seconds may have one to six decimal places.

    Raises ValueError if the text has a different format.
    """
    written, _point, fraction = text[:-1].partition(".")
    # strptime is not used, because it loads slowly. fromisoformat also reads other formats, depending on the version of
    # Python.
    moment = datetime.datetime.fromisoformat(written)
    decimals = fraction.isascii() and fraction.isdecimal() and len(fraction) <= 6
    if not decimals or text != f"{moment.isoformat(timespec='seconds')}.{fraction}Z":
        raise ValueError(f"not a time such as 2026-03-02T01:02:03.456Z: {text!r}")
    micro = int(fraction.ljust(6, "0"))
    return moment.replace(microsecond=micro, tzinfo=datetime.timezone.utc).timestamp()


def compact(seconds: float) -> str:
    """Return a time in the format for file names: 20260302T010203Z."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def span(seconds: float) -> Tuple[str, str]:
    """Return a duration as a unit of time (days, hours, minutes, seconds) and the number of units."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return unit, f"{seconds / size:.0f}"
    return "seconds", f"{seconds:.0f}"
