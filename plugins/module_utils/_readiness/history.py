# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Earlier measurements of a host. They show trends.

Examples of trends are a disk that fills up, a growing WAL, frequent restarts and slow responses.

The measurements are stored in a file in the state folder. If this file is missing, no trend is reported.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files

_FILE = "readiness.json"
_LARGEST = 1 << 20
# Save at most one measurement every _EVERY seconds. Keep each measurement for _AGE seconds, and keep at most _MOST
# measurements.
_EVERY = 25.0
_AGE = 86400.0
_MOST = 200
# A measurement is used for trends if it is at least _SHORTEST seconds old. Rates are calculated for the periods in
# _SPANS.
_SHORTEST = 60.0
_SPANS = (3600.0, _AGE)
_ENOUGH = 5

Sample = Mapping[str, Any]


def read(state_dir: str, *, now: float) -> List[Sample]:
    """Return the measurements of the last day, oldest first. Return an empty list if the file is unusable.

    The last measurement is always included, even if it seems too old because the clock was set forward. If the clock
    was set back, the times of the last measurements are in the future.
    """
    try:
        data = atomic_files.read_plain(os.path.join(state_dir, _FILE), limit=_LARGEST)
        known = json.loads(data.decode("utf-8"))["samples"]
        samples: List[Sample] = [each for each in known if isinstance(each, dict)]
        return [each for each in samples if now - _AGE <= float(each["at"])] or samples[-1:]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def write(state_dir: str, samples: Sequence[Sample], new: Sample) -> None:
    """Save a new measurement if the last one is old enough (_EVERY seconds). A write error is ignored."""
    kept = [each for each in samples if float(each["at"]) <= float(new["at"])]
    if kept and len(kept) == len(samples) and float(new["at"]) - float(kept[-1]["at"]) < _EVERY:
        return
    if len(kept) >= _MOST:
        # In the older half, keep only every second measurement, so that the file still describes the whole day.
        kept = kept[: _MOST // 2 : 2] + kept[_MOST // 2 :]
    data = json.dumps({"samples": [*kept, new]}, sort_keys=True).encode()
    with contextlib.suppress(OSError):
        atomic_files.private_folder(state_dir)
        atomic_files.write_atomically(os.path.join(state_dir, _FILE), data + b"\n")


def usual_latency(samples: Sequence[Sample]) -> Optional[float]:
    """Return the median latency in seconds, or None if there are too few measurements."""
    known = [float(each["latency"]) for each in samples if isinstance(each.get("latency"), (int, float))]
    if len(known) < _ENOUGH:
        return None
    import statistics  # noqa: PLC0415 - needed only for slow responses, so most module starts do not load it

    return statistics.median(known)


def hours_until_full(samples: Sequence[Sample], *, mount: str, what: str, free: int, now: float) -> Optional[float]:
    """Return the number of hours until a file system is full at the current rate, or None if usage does not grow.

    what: bytes or inodes. free: the number of free bytes or inodes now. The current rate is the rate over the last hour
    or the last day, whichever is higher.
    """
    before = _values(samples, "disks", mount, what, now=now)
    firsts = [next((each for each in before if now - each[0] <= span), None) for span in _SPANS]
    rate = max([(first[1] - free) / (now - first[0]) for first in firsts if first is not None], default=0.0)
    return free / rate / 3600 if rate > 0 else None


def grows(samples: Sequence[Sample], *, wal_bytes: int, now: float) -> bool:
    """Return True if the used part of the WAL has grown since the WAL was last emptied.

    One large transaction on an empty WAL is ignored, because the next checkpoint empties the WAL again.
    """
    smallest = wal_bytes
    for _at, size in reversed(_values(samples, "wal", now=now)):
        if not 0 < size <= smallest:
            break
        smallest = size
    return smallest < wal_bytes


def restarts_since(samples: Sequence[Sample], *, restarts: int, boot: str, seconds: float, now: float) -> int:
    """Return the number of restarts by systemd within the last `seconds`, according to the measurements."""
    known = [
        int(each["restarts"])
        for each in samples
        if each.get("boot") == boot and isinstance(each.get("restarts"), int) and now - float(each["at"]) <= seconds
    ]
    count, before = 0, known[0] if known else restarts
    for each in [*known, restarts]:
        # The counter restarts at 0 when the unit is started manually.
        count += each - before if each >= before else each
        before = each
    return count


def clock_jump(samples: Sequence[Sample], *, boot: str, offset: float) -> float:
    """Return the number of seconds by which the clock was set forward or back since the last measurement.

    offset: the clock time minus the uptime of the host, in seconds.
    """
    last = next((each for each in reversed(samples) if each.get("boot") == boot), {})
    before = last.get("offset")
    return offset - float(before) if isinstance(before, (int, float)) else 0.0


def _values(samples: Sequence[Sample], *keys: str, now: float) -> List[Any]:
    """Return the time and the value of each measurement that was taken at least _SHORTEST seconds ago."""
    found: List[Any] = []
    for each in samples:
        value: Any = each
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and now - float(each["at"]) >= _SHORTEST:
            found.append((float(each["at"]), value))
    return found


def sample(
    *,
    at: float,
    boot: str,
    offset: float,
    latency: Optional[float],
    restarts: Optional[int],
    wal: Optional[int],
    disks: Mapping[str, Mapping[str, int]],
    open_files: Optional[int] = None,
) -> Dict[str, Any]:
    """Return a measurement. at: the time in seconds. disks: the free bytes and inodes of each mount point.

    open_files: the number of files that the service has open. The restart recorder reads this number after the service
    exits.
    """
    return {
        "at": at,
        "boot": boot,
        "offset": offset,
        "latency": latency,
        "restarts": restarts,
        "wal": wal,
        "disks": {mount: dict(free) for mount, free in disks.items()},
        "open_files": open_files,
    }
