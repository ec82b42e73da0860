# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the service's current process, and about the exits of earlier processes."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.host import Window
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.log import Journal
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.service import SIGNALS, Unit

# Signals that are sent from outside the process. The process itself causes all other signals.
SENT = ("HUP", "INT", "QUIT", "KILL", "TERM")
_BY_SIGNAL = re.compile(r"code=(?:killed|dumped), status=\d+/(\w+)")
# Maximum time in seconds between the kernel's log line and systemd's log line about the same exit.
_SAME_END = 30.0

_ENDED = re.compile(r"code=(exited|killed|dumped), status=(\d+)")
# If a process exits within this many seconds after its start, the start counts as failed.
_START_SECONDS = 20.0

# Maximum number of unit exits that triage collects.
_MOST_EXITS = 20


class Process(NamedTuple):
    """The service's processes, and the times when its main process exited.

    served_at: the time of the last successful request, or an empty string if it is unknown.
    """

    gone: bool
    processes: Sequence[Mapping[str, Any]]
    unit: Unit
    journal: Journal
    window: Window
    served_at: str

    @property
    def deleted_files(self) -> List[Mapping[str, Any]]:
        """The deleted files that the processes have open."""
        return [item for process in self.processes for item in process.get("deleted_files") or ()]

    @property
    def rss(self) -> int:
        """Memory that the processes use, in bytes."""
        return sum(process.get("rss") or 0 for process in self.processes)

    @property
    def restarted(self) -> bool:
        """True if systemd restarted the service within the window."""
        started = self.unit.started_at
        return bool(self.unit.restarts) and bool(started) and started >= self.window.since

    @property
    def exits(self) -> Sequence[Mapping[str, Any]]:
        """The exits of the main process within the window, as systemd logged them. Requested stops are omitted."""
        journal = self.journal
        asked = [item["at"] for item in journal.stops if item["text"].startswith("Stopping ")]
        started = [item["at"] for item in journal.starts]
        found, before = [], ""
        for item in journal.exits:
            # A stop request does not explain an exit after the next start. The exit that the request caused may not
            # have been logged.
            before = max([before, *(at for at in started if at <= item["at"])])
            if not any(before < at <= item["at"] for at in asked):
                found.append(item)
            before = item["at"]
        return found

    @property
    def last_fall(self) -> str:
        """The journal text about the last exit of the main process, or "" if systemd did not restart the service."""
        return str(self.exits[-1]["text"]) if self.exits and self.restarted else ""

    @property
    def signal(self) -> str:
        """The signal that last terminated the main process, or an empty string if no such signal is known."""
        if self.gone:
            status = self.unit.exit_status or 0
            return SIGNALS.get(status, str(status)) if self.unit.exit_code in ("killed", "dumped") else ""
        fall = _BY_SIGNAL.search(self.last_fall)
        return fall.group(1) if fall else ""

    @property
    def given_up(self) -> bool:
        """True if systemd killed the process after a timeout."""
        results = self.journal.results or [{"text": ""}]
        told = str(results[-1]["text"]) if self.restarted else f"'{self.unit.result}'"
        return any(f"'{name}'" in told for name in ("timeout", "watchdog"))

    @property
    def ended_by_others(self) -> bool:
        """True if the process was stopped or killed from outside. False if an internal error terminated it."""
        return (self.gone and bool(self.asked)) or (self.signal in SENT and not self.given_up)

    def ended_at(self, at: Optional[str]) -> bool:
        """Return True if the main process exited at about this time.

        Also return True if this time or the time of the exit is unknown.
        """
        known = [self.unit.exited_at, *(item["at"] for item in self.exits)]
        ends = [timestamps.epoch(end) for end in known if end]
        return not at or not ends or any(abs(timestamps.epoch(at) - end) <= _SAME_END for end in ends)

    @property
    def last_exit(self) -> Tuple[str, int, str]:
        """The last exit of the main process as (code, status, time), or ("", 0, "") if it is unknown.

        systemd forgets an exit when the unit is stopped or started. Therefore, if the unit does not show an exit, the
        journal is used.
        """
        unit = self.unit
        code, status = unit.exit_code, unit.exit_status
        if code and (code != "exited" or status):
            return str(code), int(status or 0), str(unit.exited_at or "")
        ends = [item for item in self.exits if item["at"] > self.served_at]
        told = _ENDED.search(str(ends[-1]["text"])) if ends and (self.gone or self.restarted) else None
        return (told.group(1), int(told.group(2)), str(ends[-1]["at"])) if told else ("", 0, "")

    @property
    def failed_starts(self) -> int:
        """Number of consecutive starts that failed within seconds, counted since the service last served requests."""
        starts = [item["at"] for item in self.journal.starts]
        count = 0
        for item in reversed(self.exits):
            begun = max((at for at in starts if at <= item["at"]), default="")
            short = begun and timestamps.epoch(item["at"]) - timestamps.epoch(begun) <= _START_SECONDS
            if not short or item["at"] <= self.served_at:
                break
            count += 1
        return count

    def changed_since(self, changed_at: Optional[str]) -> bool:
        """Return True if changed_at is after the last start of the service.

        After such a change, the next start may succeed.

        If the time of the last start is unknown, changed_at is compared with the last exit.
        """
        starts = [self.unit.started_at, *(item["at"] for item in self.journal.starts[-1:])]
        ends = [self.unit.exited_at, self.last_exit[2], *(item["at"] for item in self.exits[-1:])]
        known = [str(at) for at in starts if at] or [str(at) for at in ends if at]
        return bool(changed_at) and str(changed_at) > max(known, default="9")

    @property
    def falls(self) -> int:
        """Number of failures since the service last served requests."""
        since = [item for item in self.exits if item["at"] > self.served_at]
        counted = self.unit.restarts
        # The journal is more accurate. systemd's counter covers the time since the last manual start of the unit, which
        # may be weeks ago.
        return max(len(since), counted) if self.blind or len(since) >= _MOST_EXITS else len(since)

    @property
    def falls_after_own_start(self) -> int:
        """Number of processes that were started by a run and have failed since the service last served requests."""
        since = [item for item in self.exits if item["at"] > self.served_at]
        return sum(bool(item.get("ours")) for item in since)

    @property
    def blind(self) -> bool:
        """True if the journal has no entries for the unit."""
        journal = self.journal
        return not (journal.lines or journal.exits or journal.stops)

    @property
    def asked(self) -> Sequence[Mapping[str, Any]]:
        """The journal entries about requested stops of the unit since its last start."""
        stops = [item for item in self.journal.stops if item["text"].startswith("Stopping ")]
        return [item for item in stops if item["at"] >= self.unit.started_at]

    @property
    def running_since(self) -> str:
        """The start time of the service's oldest process, or "" if there is none."""
        return min((item["started_at"] for item in self.processes), default="")

    @property
    def age(self) -> float:
        """Age of the service's oldest process in seconds, or 0 if there is none."""
        until, started = self.window.until, self.running_since
        return timestamps.epoch(until) - timestamps.epoch(started) if started and until else 0.0
