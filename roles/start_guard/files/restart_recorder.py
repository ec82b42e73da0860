# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: restart_recorder.py CONFIG. Records how a unit's process ended. Runs as the service's user.

systemd runs this program after each end (ExecStopPost=), with the result in the environment. The program collects what
only exists now and sends it to the keeper, which saves it. It always exits with 0, and no file of the service is
changed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import signal
import stat
import sys
import time
from typing import Any, Dict, List, Mapping, Optional

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guard_common as common

_DEADLINE = 2.0
_LINES = 20
_LONGEST_LINE = 500
_TAIL = 1 << 16
# Limits for the search of log files and for the processes that are examined.
_MOST_ENTRIES = 5000
_MOST_PROCESSES = 5000
_VERBS = ("stop", "restart", "try-restart", "reload-or-restart", "kill", "isolate", "disable", "mask", "condrestart")


def newest(patterns: List[str]) -> Optional[str]:
    """Return the regular file that matches one of the patterns and was changed last, or None. Only names may match."""
    best: Optional[str] = None
    latest = -1
    for pattern in patterns:
        folder, name = os.path.split(pattern)
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for _count, entry in zip(range(_MOST_ENTRIES), entries):
                if not fnmatch.fnmatchcase(entry.name, name):
                    continue
                with contextlib.suppress(OSError):
                    found = entry.stat()
                    if stat.S_ISREG(found.st_mode) and found.st_mtime_ns > latest:
                        best, latest = entry.path, found.st_mtime_ns
    return best


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
    """Return the highest memory use of the unit in bytes and the number of kills by the kernel, None if unknown."""
    result: Dict[str, Optional[int]] = {"peak": None, "oom_kills": None}
    with contextlib.suppress(OSError, ValueError):
        with open(own, encoding="utf-8") as stream:
            group = next(line[3:].rstrip("\n") for line in stream if line.startswith("0::"))
        folder = cgroup_root + group
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.peak", encoding="ascii") as stream:
            result["peak"] = int(stream.read())
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.events", encoding="ascii") as stream:
            for line in stream:
                name, _space, value = line.partition(" ")
                if name == "oom_kill":
                    result["oom_kills"] = int(value)
    return result


def stopped_by(unit: str, proc: str = "/proc") -> Optional[Dict[str, Any]]:
    """Return the systemctl process that asked for the stop and waits for it, or None.

    Keys: pid, uid, login_uid (None if nobody logged in), command.
    """
    names = (unit, unit[: -len(".service")] if unit.endswith(".service") else unit)
    with contextlib.suppress(OSError), os.scandir(proc) as entries:
        for _count, entry in zip(range(_MOST_PROCESSES), entries):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError):
                with open(f"{entry.path}/comm", encoding="utf-8", errors="replace") as stream:
                    if stream.read() != "systemctl\n":
                        continue
                with open(f"{entry.path}/cmdline", encoding="utf-8", errors="replace") as stream:
                    words = stream.read(4096).split("\0")
                if any(word in names for word in words) and any(word in _VERBS for word in words):
                    return {**_account(entry.path), "pid": int(entry.name), "command": " ".join(words).strip()[:200]}
    return None


def _account(folder: str) -> Dict[str, Optional[int]]:
    login = None
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/loginuid", encoding="ascii") as stream:
        login = int(stream.read())
    return {"uid": os.stat(folder).st_uid, "login_uid": None if login in (None, 0xFFFFFFFF) else login}


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


def main(arguments: List[str]) -> int:
    # The default action of this signal ends the process.
    signal.setitimer(signal.ITIMER_REAL, _DEADLINE)
    begun = time.monotonic()
    ended = ending(os.environ)
    if ended["result"] == "exec-condition":
        return 0  # the start was skipped, so no process has ended
    config = common.Config.read(arguments[0])
    known = common.known_state(config.known, database=config.database)
    state = common.examine(config.database, compare=True)
    invocation = os.environ.get("INVOCATION_ID", "")
    started = known.get("start") or {}
    began = int(started.get("ns") or 0) if started.get("invocation") == invocation else 0
    message = {
        "kind": "end",
        "ns": time.time_ns(),
        "invocation": invocation,
        **ended,
        "memory": memory(),
        "stopped_by": stopped_by(config.unit),
        "log": last_lines(newest(config.logs)),
        "state": common.summary(state),
        "lacking": common.lacking(state, since_ns=began),
    }
    message["milliseconds"] = round((time.monotonic() - begun) * 1000, 1)
    common.tell(config, message, wait=0)
    return 0


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:
        common.say(f"The end of the service was not recorded: {type(error).__name__}: {error}")
    sys.exit(0)
