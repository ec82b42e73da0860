# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If no run observed the end of the outage, determine from the journal and the log when a process began to serve.

The journal and the log are read only if the service is healthy. In addition, either an incident must still be open, or
systemd must have restarted the service before the first probe. Log lines without an ISO 8601 timestamp at the beginning
are ignored.
"""

from __future__ import annotations

import datetime
import os
import re
from typing import Dict, Iterator, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

_ISO = lazy(r"\W{0,9}(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:[.,]\d{3})?)\d*(Z|[+-]\d\d:\d\d)?")
_JOURNAL = lazy(r"(\d{1,10}\.\d{1,9}) \S+ [^\s\[:]+(?:\[\d+\])?: ?(.*)")
_SERVES = lazy(r"\b(?:serv(?:es|ing|er)|listen(?:s|ing)|started|running|ready)\b", re.IGNORECASE)
# Ignore lines that were logged more than this many seconds after the start.
_LONGEST_START = 120.0
# Number of bytes to read from the end of the log.
_BYTES = 1 << 20
_LINES = 2000
_PATIENCE = 5.0


def since_start(
    started_at: str, *, ports: Sequence[int], unit: str, log_file: str, run: commands.Runner = commands.run
) -> Optional[str]:
    """Return the time at which a process logged that it was serving, or None.

    If there are several ports, return the time at which the service began to serve on the last port.

    started_at: the start time of the process. unit: its systemd unit, or "". log_file: its log, or "".
    """
    begun = timestamps.epoch(started_at)
    first: Dict[int, float] = {}
    for at, text in (*_journal(unit, begun, run=run), *_log(log_file)):
        if not begun <= at <= begun + _LONGEST_START or not _SERVES.search(text):
            continue
        for port in ports:
            if re.search(rf"(?<!\d){port}(?!\d)", text):
                first[port] = min(at, first.get(port, at))
    return timestamps.iso(max(first.values())) if first else None


def _journal(unit: str, begun: float, *, run: commands.Runner) -> Iterator[Tuple[float, str]]:
    if not unit:
        return
    span = ["--since", f"@{begun - 1:.0f}", "--until", f"@{begun + _LONGEST_START:.0f}"]
    try:
        done = run(
            ["journalctl", "-q", "--no-pager", "-o", "short-unix", "-n", str(_LINES), "-u", unit, *span],
            timeout=_PATIENCE,
        )
    except commands.CommandError:
        return
    for line in done.stdout.split("\n") if done.ok else ():
        match = _JOURNAL.match(line)
        if match:
            yield float(match.group(1)), match.group(2)


def _log(path: str) -> Iterator[Tuple[float, str]]:
    if not path:
        return
    try:
        with os.fdopen(safe_open.open_file(path), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _BYTES))
            text = stream.read(_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.split("\n"):
        match = _ISO.match(line)
        if match:
            day, clock, zone = match.groups()
            at = _instant(f"{day}T{clock.replace(',', '.')}{'+00:00' if zone == 'Z' else zone or ''}")
            if at is not None:
                yield at, line


def _instant(text: str) -> Optional[float]:
    """Return a time as seconds since the epoch. A time without a zone is in the host's time zone."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
