# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the host: connection, privileges, free space, clock, unit, logs, limits and versions."""

from __future__ import annotations

import datetime
from typing import Any, List

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import end_of_life
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    NOT_READY,
    READY,
    WARNING,
    Facts,
    Judged,
    NotCheckedError,
)

# Differences between the clocks, in seconds. If the difference is large, certificates and tokens are rejected.
_CLOCK_WARNING, _CLOCK_WRONG = 5.0, 60.0
_RESTARTING = ("always", "on-failure", "on-abnormal")
_NOT_AT_BOOT = ("disabled", "masked", "masked-runtime", "bad")
_LEAST_FILES = 1024
_MEMORY_PERCENT = 90.0
# If a log of this size (in bytes) is not rotated, the disk will soon be full.
_LARGE_LOG, _MANY_LOGS = 1 << 30, 5 << 30
_END_SOON = datetime.timedelta(days=90)
_MIB = 1 << 20


def connection(facts: Facts) -> Judged:
    """Report whether the host can be reached."""
    if facts.error is not None:
        told = "ready.connection.unreachable" if facts.unreachable else "ready.connection.failed"
        return Judged(NOT_READY, message(told, why=facts.error))
    return Judged(READY, message("ready.connection.ok", seconds=f"{facts.round_trip or 0:.1f}"))


def privileges(facts: Facts) -> Judged:
    """Report whether the account on the host has the rights that a recovery needs."""
    found = facts.of("privileges")
    told = "ready.privileges.ok" if found.get("enough") is True else "ready.privileges.missing"
    return Judged(READY if found.get("enough") is True else NOT_READY, message(told, user=str(found.get("user"))))


def room(facts: Facts) -> Judged:
    """Report whether the file systems have the space that a recovery needs."""
    lacking: List[Message] = []
    places = facts.listed("room")
    if not places:
        raise NotCheckedError(message("ready.unknown_fact"))
    for each in places:
        point, free, needed = str(each.get("mount")), int(each.get("available") or 0), int(each.get("needed") or 0)
        if each.get("read_only"):
            lacking.append(message("ready.room.read_only", mount=point))
        elif free < needed:
            lacking.append(message("ready.room.space", mount=point, free=_mib(free), needed=_mib(needed)))
        # A file system without a fixed number of inodes reports 0.
        elif each.get("inodes") and int(each.get("inodes_available") or 0) < max(int(each["inodes_needed"]), 100):
            lacking.append(message("ready.room.inodes", mount=point, free=int(each["inodes_available"])))
    if lacking:
        return Judged(NOT_READY, message("ready.room.lacking", places=lacking))
    tightest = min(places, key=lambda each: int(each.get("available") or 0) - int(each.get("needed") or 0))
    sizes = {"free": _mib(int(tightest["available"])), "needed": _mib(int(tightest["needed"]))}
    return Judged(READY, message("ready.room.ok", mount=str(tightest["mount"]), **sizes))


def _mib(size: int) -> int:
    return -(-size // _MIB)


def clock(facts: Facts) -> Judged:
    """Compare the clock of the host with the clock of the controller."""
    found = facts.of("clock")
    try:
        apart = timestamps.epoch(str(found.get("at"))) - timestamps.epoch(facts.answered_at)
    except ValueError:
        raise NotCheckedError(message("ready.unknown_fact")) from None
    seconds = f"{abs(apart):.0f}"
    # Ignore a small difference, because the result takes some time to reach the controller.
    if abs(apart) >= _CLOCK_WRONG:
        return Judged(NOT_READY, message("ready.clock.wrong", seconds=seconds))
    if abs(apart) >= _CLOCK_WARNING:
        return Judged(WARNING, message("ready.clock.off", seconds=seconds))
    if found.get("synchronized") is False:
        return Judged(WARNING, message("ready.clock.unsynchronized"))
    return Judged(READY, message("ready.clock.ok"))


def restart_policy(facts: Facts) -> Judged:
    """Report whether systemd starts the service after a crash and at boot."""
    unit = facts.of("unit")
    policy, name = str(unit.get("restart")), str(unit.get("name"))
    if unit.get("at_boot") in _NOT_AT_BOOT:
        return Judged(NOT_READY, message("ready.restart_policy.boot", unit=name, state=str(unit["at_boot"])))
    if policy not in _RESTARTING:
        return Judged(NOT_READY, message("ready.restart_policy.never", unit=name, policy=policy))
    if unit.get("needs_reload"):
        return Judged(WARNING, message("ready.restart_policy.reload", unit=name))
    return Judged(READY, message("ready.restart_policy.ok", policy=policy))


def start_limit(facts: Facts) -> Judged:
    """Report whether systemd stops a crash loop."""
    unit = facts.of("unit")
    burst, interval = unit.get("start_limit_burst"), unit.get("start_limit_interval_seconds")
    delay = unit.get("restart_delay_seconds")
    if not burst or not interval:
        return Judged(WARNING, message("ready.start_limit.none"))
    # systemd counts the starts within the interval. If the total of the pauses between these starts is longer than the
    # interval, the limit is never reached.
    if isinstance(delay, (int, float)) and delay * burst > interval:
        values: Any = {"burst": int(burst), "interval": f"{interval:g}", "delay": f"{delay:g}"}
        return Judged(WARNING, message("ready.start_limit.never", **values))
    return Judged(READY, message("ready.start_limit.ok", burst=int(burst), interval=f"{interval:g}"))


def logs(facts: Facts) -> Judged:
    """Report whether the log files are rotated."""
    log = facts.of("log")
    path, bytes_used = str(log.get("path")), int(log.get("size") or 0)
    size = str(_mib(bytes_used)) if bytes_used >= _MIB else "<1"
    if int(log.get("bytes") or 0) >= _MANY_LOGS:
        values = {"files": int(log["files"]), "size": _mib(int(log["bytes"]))}
        return Judged(WARNING, message("ready.logs.many", **values))
    if not log["exists"]:
        missing = message("ready.logs.none", path=path) if log.get("path") else message("ready.logs.journal")
        return Judged(READY, missing)
    if log.get("rotated_files") or (log.get("rotated_by") and log.get("scheduled")):
        return Judged(READY, message("ready.logs.ok", path=path, size=size))
    verdict = NOT_READY if bytes_used >= _LARGE_LOG else WARNING
    why = "not_scheduled" if log.get("rotated_by") else "not_rotated"
    return Judged(verdict, message(f"ready.logs.{why}", path=path, size=size))


def limits(facts: Facts) -> Judged:
    """Compare the open files and the memory of the service with their limits."""
    unit = facts.host.get("unit") or {}
    processes = facts.of("process")["processes"]
    # The limit in the unit may have changed since the service was started.
    allowed = [each.get("open_files_max") for each in (*processes, unit)]
    most = min((limit for limit in allowed if limit), default=None)
    if most is not None and most < _LEAST_FILES:
        return Judged(NOT_READY, message("ready.limits.low", limit=int(most), least=_LEAST_FILES))
    for each in processes:
        used, limit = each.get("open_files"), each.get("open_files_max")
        percent = facts.limits.open_files_percent
        if used and limit and percent and used >= limit * percent / 100:
            return Judged(NOT_READY, message("ready.limits.files", used=int(used), limit=int(limit)))
    memory, used_memory = unit.get("memory_max"), sum(each.get("rss") or 0 for each in processes)
    if memory and used_memory >= memory * _MEMORY_PERCENT / 100:
        values = {"used": _mib(used_memory), "limit": _mib(memory)}
        return Judged(WARNING, message("ready.limits.memory", **values))
    if most is None:
        raise NotCheckedError(message("ready.limits.unknown"))
    return Judged(READY, message("ready.limits.ok", limit=int(most)))


def versions(facts: Facts) -> Judged:
    """Report whether Python and Node.js still receive security fixes."""
    found = facts.of("versions")
    today = datetime.datetime.fromtimestamp(facts.now, tz=datetime.timezone.utc).date()
    over, soon, known = [], [], []
    for program, name in (("python", "Python"), ("node", "Node.js")):
        version = found.get(program)
        end = end_of_life.end_of_life(program, str(version) if version else None)
        if end is None:
            if not version:
                raise NotCheckedError(message("ready.versions.no_version", program=name))
            raise NotCheckedError(message("ready.versions.unknown", program=name, version=str(version)))
        told = message("ready.versions.end", program=name, version=str(version), day=end.isoformat())
        known.append(told)
        if end < today:
            over.append(told)
        elif end - today < _END_SOON:
            soon.append(told)
    if over:
        return Judged(WARNING, message("ready.versions.over", versions=over))
    if soon:
        return Judged(WARNING, message("ready.versions.soon", versions=soon))
    return Judged(READY, message("ready.versions.ok", versions=known))
