# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the processes of the service exited, as saved by the restart recorder.

The recorder runs as the service's user. Therefore, the log lines and the command that stopped the service are not
trusted, and the callers redact them.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import start_guard

_LARGEST = 1 << 17
# Maximum numbers of recorded process exits to read: exits that systemd has confirmed, and unconfirmed exits. The
# service's user may have forged unconfirmed exits. The recorder keeps 200 exits of each kind.
MOST, MOST_UNCONFIRMED = 50, 20
_UNCONFIRMED = ".unconfirmed.json"
# The kinds of process exits that have their own message (ended_how.* in the catalogues). OOM_KILL, WATCHDOG and TIMEOUT
# are results that systemd reports.
OOM_KILL, HOST_DOWN, WATCHDOG, TIMEOUT, STOPPED = "oom-kill", "host-down", "watchdog", "timeout", "stopped"
WORDS = (OOM_KILL, HOST_DOWN, WATCHDOG, TIMEOUT, STOPPED)
# A run reports the process exits of the last WINDOW seconds.
WINDOW = 3600.0


class End(NamedTuple):
    """How one process exited.

    at: the time (UTC). After a power failure, this time is unknown, so `at` is the time of the next start. status: the
    exit code, or None. signal: for example SIGSEGV, or None. confirmed: True if systemd confirmed the invocation.
    began_at: when this process was started, or None. automatic: True if this start was an automatic restart by systemd.
    stopped_by: uid, login_uid, pid and command of the systemctl process that requested the stop, or None. lines: the
    last lines of the log. memory, open_files, wal: see the recorder.
    """

    at: str
    result: str
    code: Optional[str]
    status: Optional[int]
    signal: Optional[str]
    invocation: str
    boot: str
    confirmed: bool
    began_at: Optional[str]
    automatic: bool
    stopped_by: Optional[Mapping[str, Any]]
    lines: Sequence[str]
    log: Optional[str]
    memory: Mapping[str, Any]
    open_files: Optional[Mapping[str, Any]]
    wal: Optional[Mapping[str, Any]]

    @property
    def how(self) -> str:
        """Return how the process exited: the signal, oom-kill, host-down, stopped, "exit 1", or systemd's result."""
        if self.result in (OOM_KILL, HOST_DOWN, WATCHDOG, TIMEOUT):
            return self.result
        if self.result == "success" and (self.stopped_by or self.code in (None, "exited", "killed")):
            return STOPPED if self.stopped_by else "exit 0" if self.code == "exited" else self.signal or STOPPED
        return self.signal or (f"exit {self.status}" if self.status is not None else self.result)


def folder_of(state_dir: str, unit: str) -> str:
    return os.path.join(state_dir, "ends", start_guard.service_name(unit))


def read(state_dir: str, unit: str, *, since: float, boot: str = "") -> List[End]:
    """Return the recorded process exits after a given time (in seconds), oldest first. The list may be empty.

    boot: the ID of the current boot, or an empty string. A reboot or a power failure can prevent the recorder from
    saving the last exit. If `boot` is given, such an exit is added.
    """
    folder = folder_of(state_dir, unit)
    try:
        names = sorted((name for name in os.listdir(folder) if name.startswith("end-")), reverse=True)
    except OSError:
        return []
    earliest = "end-" + "".join(char for char in timestamps.iso(since) if char not in "-:.")
    found = [_end(_read(os.path.join(folder, name))) for name in _newest(names) if name >= earliest]
    ends = [each for each in found if each is not None][::-1]
    lost = _lost(start_guard.config(unit) or {}, boot=boot, ended={each.invocation for each in ends})
    return [*ends, *([lost] if lost else [])]


def _newest(names: Sequence[str]) -> List[str]:
    """Return the newest confirmed and the newest unconfirmed files. names: newest first. The order does not change."""
    confirmed = [name for name in names if not name.endswith(_UNCONFIRMED)][:MOST]
    others = [name for name in names if name.endswith(_UNCONFIRMED)][:MOST_UNCONFIRMED]
    return sorted((*confirmed, *others), reverse=True)


def of_service(service: Mapping[str, Any], *, state_dir: str, window: float = WINDOW) -> Optional[Dict[str, Any]]:
    """Return how the processes of a service exited recently, or None if nothing was recorded. See summary().

    service: the `service` option of the modules. This check is fast if the recorder is not installed.
    """
    unit = str(service.get("unit") or "") if service.get("manager") == "systemd" else ""
    if not unit or not os.path.isdir(folder_of(state_dir, unit)):
        return None
    return summary(state_dir, unit, window=window, boot=host_lease.Clock().boot_id())


def public(found: Optional[Mapping[str, Any]], *, commands: bool = False) -> Optional[Dict[str, Any]]:
    """Return the process exits without their log lines.

    commands: True to keep the command that stopped the service. The caller must redact this command.
    """
    if found is None:
        return None
    names = ("at", "how", "result", "status", "signal", "automatic", "invocation", "confirmed")
    ends = []
    for each in found["ends"]:
        by = each["stopped_by"] or None
        shown = ("uid", "login_uid", *(("pid", "command") if commands else ()))
        told = {name: by.get(name) for name in shown} if by else None
        ends.append({**{name: each[name] for name in names}, "stopped_by": told})
    return {**found, "ends": ends}


def _read(path: str) -> Dict[str, Any]:
    try:
        values = json.loads(atomic_files.read_plain(path, limit=_LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _end(values: Mapping[str, Any]) -> Optional[End]:
    """Return the process exit that a recorder's file describes, or None if the file is invalid."""
    try:
        start, log = values.get("start") or {}, values.get("log") or {}
        at = str(values.get("at") or values["written_at"])
        timestamps.epoch(at)
        return End(
            at=at,
            result=str(values["result"] or ""),
            code=values.get("code"),
            status=values.get("status"),
            signal=values.get("signal"),
            invocation=str(values["invocation"]),
            boot=str(values["boot"]),
            confirmed=values.get("confirmed") is True,
            began_at=start.get("at"),
            automatic=int(start.get("restarts") or 0) > 0,
            stopped_by=values.get("stopped_by"),
            lines=[str(line) for line in log.get("lines") or ()],
            log=log.get("path"),
            memory=dict(values.get("memory") or {}),
            open_files=values.get("open_files"),
            wal=(values.get("database") or {}).get("frames"),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _lost(config: Mapping[str, Any], *, boot: str, ended: Any) -> Optional[End]:
    """Return the last process's exit if the host went down before the recorder could save the exit, otherwise None."""
    start = current_start(config)
    if not boot or not start or start.get("boot") in (boot, None) or start.get("invocation") in ended:
        return None
    values = {
        "written_at": timestamps.now(),
        "start": start,
        **start,
        "result": HOST_DOWN,
        "confirmed": True,
        "at": None,
    }
    return _end(values)


def current_start(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the last start that the guard allowed, or an empty dict. config: see start_guard.config."""
    start = _read(str(config.get("known") or "")).get("start") if config.get("known") else None
    return start if isinstance(start, dict) else {}


def summary(state_dir: str, unit: str, *, window: float, boot: str = "", now: Optional[float] = None) -> Dict[str, Any]:
    """Return how the service's processes exited in the last `window` seconds, and the number of restarts by systemd.

    The format is that of the modules' results. Keys: window, ends (newest last), restarts (number of automatic restarts
    by systemd) and after (the number of these restarts for each kind of exit).
    """
    now = time.time() if now is None else now
    ends = read(state_dir, unit, since=now - window, boot=boot)
    begun = [each.began_at for each in ends if each.automatic and each.began_at]
    last = current_start(start_guard.config(unit) or {}) if ends else {}
    if int(last.get("restarts") or 0) > 0 and last.get("invocation") not in {each.invocation for each in ends}:
        begun.append(str(last.get("at")))
    earliest = timestamps.iso(now - window)
    restarts = sorted(at for at in begun if at >= earliest)
    after: Dict[str, int] = {}
    for at in restarts:
        before = [each for each in ends if each.at <= at]
        if before:
            after[before[-1].how] = after.get(before[-1].how, 0) + 1
    return {
        "window": window,
        "restarts": len(restarts),
        "after": after,
        "ends": [{**each._asdict(), "how": each.how, "lines": list(each.lines)} for each in ends],
    }
