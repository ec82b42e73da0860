# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect facts about the host: disk space, memory, processes killed by the kernel, core dumps."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import log_patterns
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import (
    Question,
    end_of,
    file,
    found,
    read,
    rights_on,
    status_fields,
    why,
)

_LOG_BYTES = 512 * 1024
_KERNEL_LINES = 5000
_MOST_LINES = 20

_KILLED = re.compile(r"[Kk]illed process (\d+),? \(([^)]*)\)")
_OOM = re.compile(r"out of memory|oom-kill|oom_kill|oom_reaper|invoked oom-killer", re.IGNORECASE)
_SECONDS_SINCE_BOOT = re.compile(r"^\[\s*(\d{1,10}\.\d{1,9})\]")
_SECONDS_SINCE_EPOCH = re.compile(r"^(\d{9,10}\.\d{1,9}) ")

# A line in the output of coredumpctl list: TIME PID UID GID SIG COREFILE EXE, and SIZE in some versions. TIME begins
# with the day of the week.
_CORE_DUMP = re.compile(
    r"^\w{3} (?P<day>\d{4}-\d\d-\d\d) (?P<clock>\d\d:\d\d:\d\d) UTC\s+(?P<pid>\d+)\s+\d+\s+\d+\s+(?P<signal>\S+)\s+"
    r"(?P<file>\S+)\s+(?P<exe>\S+)"
)

# Root folders of the control groups, version 2 and version 1.
_GROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/memory")
# Files that contain the memory values of a control group, version 2 first. The first file that exists is used.
_GROUP_FILES = {
    "max": ("memory.max", "memory.limit_in_bytes"),
    "high": ("memory.high", "memory.soft_limit_in_bytes"),
    "swap_max": ("memory.swap.max",),
    "current": ("memory.current", "memory.usage_in_bytes"),
    "peak": ("memory.peak", "memory.max_usage_in_bytes"),
}
# Version 1 represents "no limit" as the largest multiple of the page size.
_NO_LIMIT = 1 << 62


def _mount_of(place: str) -> Tuple[str, str, str]:
    points = [mount for mount in mounts.mounted() if place == mount[0] or place.startswith(mount[0].rstrip("/") + "/")]
    # If two file systems have the same mount point, the later one hides the earlier one.
    return max(enumerate(points), key=lambda item: (len(item[1][0]), item[0]), default=(0, ("/", "", "")))[1]


def _existing(path: str) -> str:
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def disk(question: Question, *, path: str, use: str) -> Dict[str, Any]:
    """Return facts about the file system that contains path. use: the purpose of the path, for the report."""
    with safe_open.acting(rights_on(question.service, path)):
        place = os.path.realpath(_existing(path))
        room = os.statvfs(place)
    point, device, kind = _mount_of(place)
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    available = room.f_bavail * room.f_frsize
    return found(
        {
            "use": use,
            "path": path,
            "mount": point,
            "device": device,
            "type": kind,
            "size": room.f_blocks * room.f_frsize,
            "available": available,
            "used_percent": round(100 * used / (used + available), 1) if used + available else 0.0,
            "inodes": room.f_files,
            "inodes_available": room.f_favail,
            "read_only": bool(room.f_flag & os.ST_RDONLY),
        }
    )


def _pressure(path: str) -> Optional[Dict[str, Any]]:
    """Return pressure stall information. Example line: some avg10=0.00 avg60=0.00 avg300=0.00 total=0."""
    facts: Dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # EOPNOTSUPP if the kernel was started without psi
        for line in read(path).splitlines():
            kind, *pairs = line.split()
            facts[kind] = {
                name: float(number)
                for name, _equals, number in (pair.partition("=") for pair in pairs)
                if name != "total"
            }
    return facts or None


def _number(text: str) -> Optional[int]:
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _control_group(group: Optional[str]) -> Dict[str, Any]:
    """Return the memory limits and the memory use of a control group (version 1 or 2)."""
    facts: Dict[str, Any] = dict.fromkeys((*_GROUP_FILES, "oom", "oom_kill", "pressure"))
    if not group:
        return facts
    folders = [root + group for root in _GROUP_ROOTS if os.path.isdir(root + group)]
    for name, files in _GROUP_FILES.items():
        for path in (f"{folder}/{entry}" for folder in folders for entry in files):
            with contextlib.suppress(OSError):
                facts[name] = _number(read(path).strip())
                break
    for folder in folders:
        for entry in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                events = dict(line.split() for line in read(f"{folder}/{entry}").splitlines())
                for name in ("oom", "oom_kill"):
                    facts[name] = int(events[name]) if name in events else facts[name]
        facts["pressure"] = facts["pressure"] or _pressure(f"{folder}/memory.pressure")
    return facts


def memory(question: Question) -> Dict[str, Any]:
    """Return the memory size, use and pressure of the host and of the unit's control group."""
    fields = status_fields(read("/proc/meminfo"))

    def size(name: str) -> int:
        return int(fields.get(name, "0").split()[0]) * 1024

    return found(
        {
            "total": size("MemTotal"),
            "available": size("MemAvailable"),
            "swap_total": size("SwapTotal"),
            "swap_free": size("SwapFree"),
            "pressure": {name: _pressure(f"/proc/pressure/{name}") for name in ("cpu", "memory", "io")},
            "control_group": _control_group(question.known.unit.get("control_group")),
        }
    )


def _kernel_commands(question: Question) -> List[Sequence[str]]:
    if question.kernel_log_command:
        return [question.kernel_log_command]
    return [[*_kernel_journal(question), "-n", str(_KERNEL_LINES)], ["dmesg"]]


def _kernel_journal(question: Question) -> List[str]:
    return ["journalctl", "-k", "-q", "--no-pager", "-o", "short-unix", "--since", f"@{question.since:.0f}"]


def _crowded_out(question: Question, text: str) -> str:
    """If `text` is too short to cover the whole window, search the full log for the out-of-memory killer's lines."""
    if question.kernel_log_command or text.count("\n") < _KERNEL_LINES:
        return ""
    # If the pattern is in lower case, journalctl matches case-insensitively. If journalctl was built without
    # support for --grep, it reports an error.
    argv = [*_kernel_journal(question), "-n", str(_KERNEL_LINES), "--grep=out of memory|oom[-_]|killed process"]
    with contextlib.suppress(commands.CommandError):
        done = question.command(argv)
        return done.stdout if done.ok else ""
    return ""


def _telling(lines: Sequence[Dict[str, Any]], question: Question) -> List[Dict[str, Any]]:
    """Return the last log lines, and the earlier lines that may be about the service."""
    unit = re.sub(r"\.service\Z", "", question.service.unit)
    last_pid = question.known.unit.get("last_pid")
    before = [
        line
        for line in lines[:-_MOST_LINES]
        if f"/{unit}.service" in line["text"]
        or (line["pid"] and line["pid"] == last_pid)
        or (line["name"] or "").startswith(("node", "MainThread"))
    ]
    return [*before[-_MOST_LINES:], *lines[-_MOST_LINES:]]


def kernel(question: Question) -> Dict[str, Any]:
    """Return the kernel log lines about the out-of-memory killer."""
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    text, source, errors = "", None, []
    for argv in _kernel_commands(question):
        try:
            done = question.command(argv)
        except commands.CommandError as error:
            errors.append(str(error))
            continue
        if done.ok and done.stdout.strip():
            text, source = done.stdout, " ".join(argv)
            break
        if not done.ok:
            errors.append(f"{argv[0]}: {why(done)}")
    lines = []
    for line in dict.fromkeys(log_patterns.split(_crowded_out(question, text)) + log_patterns.split(text)):
        if not _OOM.search(line):
            continue
        since_boot, since_epoch = _SECONDS_SINCE_BOOT.match(line), _SECONDS_SINCE_EPOCH.match(line)
        at = (
            boot + float(since_boot.group(1))
            if since_boot
            else float(since_epoch.group(1))
            if since_epoch
            else log_patterns.instant(line)
        )
        if at is None or at >= question.since:
            killed = _KILLED.search(line)
            lines.append(
                {
                    "at": None if at is None else timestamps.iso(at),
                    "text": line.strip()[:400],
                    "pid": int(killed.group(1)) if killed else None,
                    "name": killed.group(2) if killed else None,
                }
            )
    end, truncated = end_of(text, limit=_LOG_BYTES)
    kept = [file("kernel.txt", source, end, truncated=truncated)] if source else []
    return found(
        {"source": source, "out_of_memory": _telling(lines, question), "errors": [] if source else errors},
        evidence=kept if question.keep else (),
    )


def _core_files(question: Question) -> List[Dict[str, Any]]:
    places: List[Tuple[str, safe_open.Rights]] = [
        ("/tmp/core.*", None),  # noqa: S108
        ("/var/lib/systemd/coredump/core.*", None),
    ]
    app_dir = question.service.app_dir
    with contextlib.suppress(OSError):
        rights = rights_on(question.service, app_dir)
        places = [(os.path.join(app_dir, "core"), rights), (os.path.join(app_dir, "core.*"), rights), *places]
    return [dump for pattern, rights in places for dump in _dumps(pattern, rights=rights, since=question.since)]


def _lstat(path: str) -> Optional[os.stat_result]:
    with contextlib.suppress(OSError):
        return os.lstat(path)
    return None


def _dumps(pattern: str, *, rights: safe_open.Rights, since: float) -> List[Dict[str, Any]]:
    dumps = []
    with safe_open.acting(rights):
        found_here = [(path, _lstat(path)) for path in glob.glob(pattern)]
    for path, status in found_here:
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_mtime >= since:
            dumps.append(
                {
                    "path": path,
                    "size": status.st_size,
                    "at": timestamps.iso(status.st_mtime),
                    "pid": None,
                    "signal": None,
                    "exe": None,
                    "source": "file",
                }
            )
    return dumps


def _core_records(question: Question) -> List[Dict[str, Any]]:
    """Return the records from systemd-coredump. The dumps themselves may already have been deleted."""
    argv = ["coredumpctl", "list", "-q", "--no-pager", "--no-legend", "--since", f"@{question.since:.0f}"]
    try:
        done = question.command(argv)
    except commands.CommandError:  # not every host has this command
        return []
    dumps = []
    for match in filter(None, map(_CORE_DUMP.match, done.stdout.splitlines())):
        at = log_patterns.instant(f"{match.group('day')}T{match.group('clock')}Z")
        if at is not None:
            dumps.append(
                {
                    "path": None,
                    "size": None,
                    "at": timestamps.iso(at),
                    "pid": int(match.group("pid")),
                    "signal": match.group("signal"),
                    "exe": match.group("exe"),
                    "source": f"coredumpctl ({match.group('file')})",
                }
            )
    return dumps


def cores(question: Question) -> Dict[str, Any]:
    """List core dumps and the records from systemd-coredump."""
    dumps = [*_core_files(question), *_core_records(question)]
    return found(sorted(dumps, key=lambda item: str(item["at"]))[-20:])
