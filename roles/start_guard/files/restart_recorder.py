# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: run.py restart_recorder CONFIG. Records how a unit process ended. Runs as the service user.

systemd runs this program each time the process has stopped (ExecStopPost=), with the result in the environment. The
program collects data that exists only at this time, and sends the data to the keeper, which saves it. The program
always exits with 0 and changes no file of the service.
"""

from __future__ import annotations

import os
import signal
import stat
import time

import guard_common as common

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes 3 ms
    from typing import Any, Dict, Iterator, List, Mapping, Optional

_DEADLINE = 2.0
_LINES = 20
_LONGEST_LINE = 500
_TAIL = 1 << 16
# Maximum number of folder entries to examine in the search for log files.
_MOST_ENTRIES = 5000
# Maximum number of processes to examine.
_MOST_PROCESSES = 5000
_VERBS = ("stop", "restart", "try-restart", "reload-or-restart", "kill", "isolate", "disable", "mask", "condrestart")


def newest(patterns: List[str]) -> Optional[str]:
    """Return the most recently changed regular file that matches one of the patterns, or None.

    The last component of a pattern may contain asterisks.
    """
    best: Optional[str] = None
    latest = -1
    for pattern in patterns:
        folder, _slash, name = pattern.rpartition("/")
        for entry in _entries(folder or "/", most=_MOST_ENTRIES):
            if not matches(entry.name, name):
                continue
            try:
                found = entry.stat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_mtime_ns > latest:
                best, latest = entry.path, found.st_mtime_ns
    return best


def matches(name: str, pattern: str) -> bool:
    """Return True if a name matches a pattern. An asterisk matches any text."""
    first, *others = pattern.split("*")
    if not others:
        return name == pattern
    last = others.pop()
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in others:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _entries(folder: str, *, most: int) -> Iterator[os.DirEntry[str]]:
    """Yield at most `most` entries of a folder. Yield nothing if the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            for _count, entry in zip(range(most), entries):
                yield entry
    except OSError:
        return


def _text(path: str, *, limit: int = 4096) -> str:
    """Return the beginning of a file in /proc or /sys, or an empty string if the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(limit)
    except OSError:
        return ""


def last_lines(path: Optional[str]) -> Dict[str, Any]:
    """Return the last lines of a log file. A special file is not read."""
    if path is None:
        return {"path": None, "lines": []}
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return {"path": path, "lines": []}
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return {"path": path, "lines": []}
        data = os.pread(descriptor, _TAIL, max(found.st_size - _TAIL, 0))
    except OSError:
        data = b""
    finally:
        os.close(descriptor)
    lines = data.decode("utf-8", "replace").splitlines()[-_LINES:]
    return {"path": path, "lines": [line[:_LONGEST_LINE] for line in lines]}


def memory(cgroup_root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> Dict[str, Optional[int]]:
    """Return the peak memory usage of the unit in bytes, and the number of OOM kills. Unknown values are None."""
    groups = [line[3:] for line in _text(own).splitlines() if line.startswith("0::")]
    folder = cgroup_root + groups[0] if groups else "/nonexistent"
    events = dict(line.split(" ", 1) for line in _text(f"{folder}/memory.events").splitlines() if " " in line)
    peak, kills = _text(f"{folder}/memory.peak").strip(), events.get("oom_kill", "").strip()
    return {"peak": int(peak) if peak.isdigit() else None, "oom_kills": int(kills) if kills.isdigit() else None}


def stopped_by(unit: str, proc: str = "/proc") -> Optional[Dict[str, Any]]:
    """Return the systemctl process that requested the stop and is waiting for it, or None.

    Keys: pid, uid, login_uid (None if nobody logged in), command.
    """
    names = (unit, unit[: -len(".service")] if unit.endswith(".service") else unit)
    for entry in _entries(proc, most=_MOST_PROCESSES):
        if not entry.name.isdigit() or _text(f"{entry.path}/comm") != "systemctl\n":
            continue
        words = _text(f"{entry.path}/cmdline").split("\0")
        if any(word in names for word in words) and any(word in _VERBS for word in words):
            return {**_account(entry.path), "pid": int(entry.name), "command": " ".join(words).strip()[:200]}
    return None


def _account(folder: str) -> Dict[str, Optional[int]]:
    login = _text(f"{folder}/loginuid").strip()
    try:
        uid: Optional[int] = os.stat(folder).st_uid
    except OSError:
        uid = None
    return {"uid": uid, "login_uid": int(login) if login.isdigit() and int(login) != 0xFFFFFFFF else None}


def ending(environment: Mapping[str, str]) -> Dict[str, Any]:
    """Return how the process ended, as systemd describes it in the environment of this program."""
    code, status = environment.get("EXIT_CODE", ""), environment.get("EXIT_STATUS", "")
    exited = code == "exited" and status.isdigit()
    return {
        "result": environment.get("SERVICE_RESULT", ""),
        "code": code or None,
        "status": int(status) if exited else None,
        "signal": f"SIG{status}" if code in ("killed", "dumped") and status.isalnum() else None,
    }


def start_of(started: Mapping[str, Any]) -> int:
    """Return the time when this invocation was started, in nanoseconds since 1970, or 0 if unknown.

    If the clock has been set back since then, the recorded time of the start may be in the future. In this case, the
    start is calculated from the time since boot, which does not depend on the clock.
    """
    ns, since_boot = int(started.get("ns") or 0), int(started.get("since_boot") or 0)
    passed = common.since_boot() - since_boot
    return min(ns, time.time_ns() - passed) if since_boot and passed >= 0 else ns


def main(arguments: List[str]) -> int:
    try:
        _record(arguments)
    except Exception as error:
        common.say(f"The end of the service was not recorded: {type(error).__name__}: {error}")
    return 0


def _record(arguments: List[str]) -> None:
    # The default action of this signal ends the process.
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE)
    ended = ending(os.environ)
    if ended["result"] == "exec-condition":
        return  # the start was skipped, so no process has ended
    config = common.Config.read(arguments[0])
    known = common.known_state(config.known, database=config.database)
    state = common.examine(config.database, compare=True)
    invocation = os.environ.get("INVOCATION_ID", "")
    started = known.get("start") or {}
    began = start_of(started) if started.get("invocation") == invocation else 0
    message = {
        "kind": "end",
        "ns": time.time_ns(),
        "since_boot": common.since_boot(),
        "invocation": invocation,
        **ended,
        "memory": memory(),
        "stopped_by": stopped_by(config.unit),
        "log": last_lines(newest(config.logs)),
        "state": common.summary(state),
        "lacking": common.lacking(state, since_ns=began),
    }
    common.tell(config, message, wait=0)
