# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find problems with a service that answers. Compare current and earlier measurements with limits."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages as common_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, plain
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import store as incident_store
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import history, messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness.limits import Limits

_HOUR = 3600.0
_DAY = 86400.0
# A file system counts as full if at least this percentage of its space is used.
_FULL = 99.0
# A slow response takes at least this many times as long as usual.
_SLOWER = 10.0
# The smallest clock change, in seconds, that counts as a problem. Smaller changes are normal corrections.
_CLOCK = 60.0


class Problem(NamedTuple):
    """A problem: the cause as in the findings of triage_info, the message, and the place of the problem."""

    cause: str
    told: Message
    source: str

    def as_dict(self) -> Dict[str, Any]:
        """Return the problem in the format of health_probe's result."""
        return {
            "cause": self.cause,
            "summary": messages.english(self.told),
            "source": self.source,
            "messages": plain(summary=self.told),
        }


class Unchecked(NamedTuple):
    """A check that could not be run, and the reason. causes: the problems that this check could have found."""

    check: str
    told: Message
    causes: Sequence[str] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return the check in the format of health_probe's result."""
        return {"check": self.check, "why": messages.english(self.told), "messages": plain(why=self.told)}


def of_database(
    path: str,
    seen: Mapping[str, Any],
    known: Sequence[history.Sample],
    limits: Limits,
    now: float,
    *,
    pids: Sequence[int] = (),
    acceptance: Optional[incident_store.Acceptance] = None,
) -> Iterator[Problem]:
    """Yield the problems with the database: damage, a lock that blocks all writes, and a growing WAL.

    pids: the processes of the service. acceptance: a person's decision to accept the damage to the database, or None.
    """
    if seen["damage"]:
        code = seen["damage"]["code"]
        told = message("finding.db_corrupt.in_use", path=path, why=message(f"reason.database.{code}"))
        if acceptance:
            which = "accepted" if code in acceptance.codes else "not_accepted"
            told = message(f"finding.{which}", summary=told, at=acceptance.at, reason=acceptance.reason)
        yield Problem("db_corrupt", told, path)
    if seen["lock"]:
        yield Problem("db_locked", _of_lock(seen["lock"], pids=pids), path)
    size = seen["wal"] or 0
    if limits.wal_bytes and size >= limits.wal_bytes and history.grows(known, wal_bytes=size, now=now):
        yield Problem("wal_growing", message("finding.wal_growing", path=path, mib=size >> 20), f"{path}-wal")


def _of_lock(lock: Mapping[str, Any], *, pids: Sequence[int]) -> Message:
    seconds = str(lock["seconds"])
    if not lock["pid"]:
        return message("finding.db_locked.unseen", seconds=seconds)
    # The unit's main process may be a program that starts the service, such as npm.
    if {lock["pid"], *lock["parents"]} & {*pids}:
        return message("finding.db_locked.by_service", pid=lock["pid"], seconds=seconds)
    values = {name: lock[name] for name in ("pid", "command", "user")}
    return message("finding.db_locked.blocks_all", seconds=seconds, age=common_messages.age(lock["age"]), **values)


def of_disks(
    disks: Sequence[Mapping[str, Any]], known: Sequence[history.Sample], limits: Limits, now: float
) -> Iterator[Problem]:
    """Yield a problem for each file system that is full or will soon be full."""
    for disk in disks:
        mount, source = disk["mount"], f"{disk['mount']} ({', '.join(disk['uses'])})"
        space, inodes = disk["used_percent"], disk["inodes_percent"]
        if space >= _FULL:
            yield Problem(
                "disk_full", message("finding.disk_full.percent", mount=mount, percent=f"{space:.0f}"), source
            )
        elif space >= limits.disk_percent > 0:
            hours = history.hours_until_full(known, mount=mount, what="bytes", free=disk["bytes"], now=now)
            if hours is not None and hours <= limits.disk_hours:
                values = {"mount": mount, "percent": f"{space:.0f}", "minutes": round(hours * 60)}
                yield Problem("disk_filling", message("finding.disk_filling.space", **values), source)
        if inodes >= _FULL:
            yield Problem("disk_full", message("finding.disk_full.no_inodes", mount=mount), source)
        elif inodes >= limits.disk_percent > 0:
            hours = history.hours_until_full(known, mount=mount, what="inodes", free=disk["inodes"], now=now)
            if hours is not None and hours <= limits.disk_hours:
                values = {"mount": mount, "percent": f"{inodes:.0f}", "minutes": round(hours * 60)}
                yield Problem("disk_filling", message("finding.disk_filling.inodes", **values), source)


def of_open_files(pid: int, open_files: Optional[int], limit: Optional[int], limits: Limits) -> Iterator[Problem]:
    """Yield a problem if a process has nearly reached its limit for open files and connections."""
    if open_files and limit and limits.open_files_percent and open_files >= limit * limits.open_files_percent / 100:
        told = message("finding.too_many_files.near", pid=pid, open_files=open_files, limit=limit)
        yield Problem("too_many_files", told, f"/proc/{pid}/fd")


def of_certificates(endpoints: Sequence[Mapping[str, Any]], limits: Limits, now: float) -> Iterator[Problem]:
    """Yield a problem for each certificate that has expired or expires soon."""
    for endpoint in endpoints:
        certificate = endpoint.get("certificate")
        if not certificate:
            continue
        at, left = certificate["not_after"], timestamps.epoch(certificate["not_after"]) - now
        if left <= 0:
            yield Problem("tls_expired", message("finding.tls_expired.served", at=at), endpoint["url"])
        elif left < limits.certificate_days * _DAY:
            told = message("finding.tls_expiring", at=at, days=f"{left / _DAY:.1f}")
            yield Problem("tls_expiring", told, endpoint["url"])


def of_host(
    *,
    clock: Mapping[str, Any],
    restarts: Optional[int],
    pressure: Optional[float],
    known: Sequence[history.Sample],
    limits: Limits,
) -> Iterator[Problem]:
    """Yield the problems of the host: frequent restarts, a lack of memory, a clock change."""
    if restarts is not None and limits.restarts:
        times = history.restarts_since(known, restarts=restarts, boot=clock["boot"], seconds=_HOUR, now=clock["now"])
        if times >= limits.restarts:
            yield Problem("frequent_restarts", message("finding.frequent_restarts", times=times), "systemd")
    if pressure is not None and limits.memory_pressure and pressure >= limits.memory_pressure:
        yield Problem(
            "memory_pressure", message("finding.memory_pressure", percent=f"{pressure:.0f}"), "memory.pressure"
        )
    jump = history.clock_jump(known, boot=clock["boot"], offset=clock["offset"])
    if abs(jump) >= _CLOCK:
        yield Problem("clock_jump", message("finding.clock_jump", seconds=f"{jump:+.0f}"), "clock")


def is_slow(latency: float, known: Sequence[history.Sample], limits: Limits) -> bool:
    """Return True if a response with this latency (in seconds) is slow.

    The latency must be at least slow_after. If the usual latency is known, the latency must also be at least _SLOWER
    times the usual latency.
    """
    if not limits.slow_after or latency < limits.slow_after:
        return False
    return latency >= (history.usual_latency(known) or 0.0) * _SLOWER


def unconfirmed(cause: str, unchecked: Sequence[Unchecked]) -> Iterator[Problem]:
    """Yield the problem of the open incident if it could not be checked again. It may still exist."""
    for each in unchecked:
        if cause in each.causes:
            yield Problem(cause, message("finding.unconfirmed", why=each.told), each.check)


def of_latency(latency: float, known: Sequence[history.Sample], source: str) -> Problem:
    """Return the problem for a slow response."""
    usual, seconds = history.usual_latency(known), f"{latency:.1f}"
    if usual is None:
        return Problem("slow", message("finding.slow.slow", seconds=seconds), source)
    return Problem("slow", message("finding.slow.slower", seconds=seconds, usual=f"{usual:.3f}"), source)


def first_of_each(problems: Sequence[Problem]) -> List[Problem]:
    """Return the problems without duplicates. For example, two ports can report the same certificate."""
    return list({str(each.told): each for each in reversed(problems)}.values())[::-1]
