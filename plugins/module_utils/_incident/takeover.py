# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a unit over from systemd, so that only the run can start the service during an incident.

If systemd is about to restart the unit, the run records the last exit, arms a timer on the host, and cancels the
pending restart. This dead-man timer starts the unit if the run dies. The timer checks the host lease, and acts when no
run holds the lease. If the unit is already starting and nothing forbids the start, the run waits for the result.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages

# Unit phases, see phase().
UP, DOWN, PENDING, STARTING, STOPPING = "up", "down", "pending", "starting", "stopping"

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Job",
    "Result",
    "NRestarts",
    "ExecMainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
    "StateChangeTimestampMonotonic",
    "RestartUSec",
    "RestartUSecNext",
)

# Values that systemd uses for ExecMainCode. They are the si_code values from waitid(2): CLD_EXITED, CLD_KILLED,
# CLD_DUMPED.
EXIT_CODES = {"1": "exited", "2": "killed", "3": "dumped"}
# Interval in seconds between two checks by the dead-man timer. The timer makes its first check when the lease is
# expected to expire.
POLL = 5
# If an automatic restart is at most this many seconds old, a run reports it even if the service is healthy.
RECENT = 60.0
# Times in seconds. IMMINENT: an automatic restart that is due within this time is not cancelled. If the restart began
# before the cancellation, the cancellation would stop the new process. _OVERDUE: a restart that is overdue by this time
# is no longer expected.
IMMINENT, _OVERDUE = 1.5, 3.0
_TIMEOUT = 30.0
# Time limit in seconds for the dead-man timer's check of the database.
_CHECK_TIMEOUT = 600
_TRANSIENT = "/run/systemd/transient"

# The script that the timer runs on the host. Arguments:
# - lease: the lease file.
# - work: the file that a module locks while it works.
# - unit, timer: the names of the unit and the timer.
# - database: the path of the database, or empty if the path is unknown.
# - user: the account that reads the database (uid:gid, or empty for root).
# - scratch: the folder for a copy of the database.
# - dropin, text: the path and the content of the drop-in that puts the unit on hold.
# - limit: the time limit for the check of the database, in seconds.
# Another process of the same account could stop the process that checks the database. If the check does not end within
# the time limit, it has no result, and the unit is started.
_DEAD_MAN = """
import errno, fcntl, json, os, pwd, resource, select, shutil, signal, sqlite3, struct, subprocess, sys, tempfile, time
lease, work, unit, timer, database, user, scratch, dropin, text, limit = sys.argv[1:]
def at_work():
    try:
        descriptor = os.open(work, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    asked = struct.pack("@hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    return struct.unpack("@hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
def held():
    try:
        with open(lease) as stream:
            last = json.load(stream)
        with open("/proc/sys/kernel/random/boot_id") as stream:
            same = stream.read().strip() == last["boot_id"]
        return same and not last["released"] and time.clock_gettime(time.CLOCK_BOOTTIME) < last["ends"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
def size(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
def damage():
    if not database:
        return ""
    folder = None
    try:
        if not size(database):
            return "it is missing or empty"
        needed = 2 * (size(database) + size(database + "-wal"))
        try:
            if needed > shutil.disk_usage(scratch).free // 2:
                return ""
            folder = tempfile.mkdtemp(prefix=".dead-man.", dir=scratch)
        except OSError:
            return ""
        copy = os.path.join(folder, "copy")
        for suffix in ("", "-wal"):
            if not suffix or os.path.isfile(database + suffix):
                shutil.copyfile(database + suffix, copy + suffix)
        said = sqlite3.connect(copy).execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if said == "ok" else said
    except sqlite3.DatabaseError as error:
        return str(error)
    except OSError as error:
        harmless = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        return "" if error.errno in harmless else str(error)
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
def become():
    uid, gid = (int(part) for part in user.split(":"))
    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        groups = [gid]
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
def damage_seen_by_child():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (600, 600))
            if user:
                become()
            os.write(writing, damage().encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    answered = select.select([reading], [], [], float(limit))[0]
    wrong = os.read(reading, 4000).decode("utf-8", "replace") if answered else ""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return wrong
def call(*words):
    subprocess.call(["systemctl", *words])
if not (at_work() or held()):
    try:
        wrong = damage_seen_by_child()
    except OSError:
        wrong = ""
    if wrong:
        print("The run that took over " + unit + " is gone. The database is in doubt, the unit is held: " + wrong)
        os.makedirs(os.path.dirname(dropin), exist_ok=True)
        with open(dropin, "w") as stream:
            stream.write(text)
        call("daemon-reload")
    else:
        print("The run that took over " + unit + " is gone: starting the unit")
        call("reset-failed", "--", unit)
        call("start", "--no-block", "--", unit)
    call("stop", "--no-block", "--", timer)
"""


class TakeoverError(MessageError):
    """The unit could not be taken over, so systemd still controls it."""

    templates = messages.ENGLISH


class Takeover(NamedTuple):
    """A takeover: the unit, the time, the unit's previous state, the dead-man timer, and the last exit.

    killed_at: when the takeover began to kill the unit's processes, or None if it killed none.
    """

    unit: str
    at: str
    sub_state: str
    timer: str
    last_exit: Dict[str, Any]
    killed_at: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the takeover in the record's format."""
        return self._asdict()


def phase(properties: Mapping[str, str]) -> str:
    """Return the phase that these unit properties indicate (UP, DOWN, PENDING, STARTING or STOPPING).

    PENDING: an automatic restart is scheduled. STARTING: the unit is already starting (start-pre, start, or a queued
    job). STOPPING: the unit is stopping and may be started again afterwards.
    """
    active, sub = properties.get("ActiveState", ""), properties.get("SubState", "")
    queued = properties.get("Job", "") not in ("", "0")
    if sub.startswith("auto-restart") and not queued:
        return PENDING
    if active == "activating" or (queued and active in ("inactive", "failed")):
        return STARTING
    if active == "deactivating":
        return STOPPING
    return UP if active in ("active", "reloading", "refreshing") else DOWN


def is_imminent(properties: Mapping[str, str]) -> bool:
    """Return True if the run must wait for an automatic restart, because the restart is due very soon.

    Return False if this is unknown.
    """
    changed = _number(properties.get("StateChangeTimestampMonotonic", "")) / 1e6
    delay = systemd.timespan(properties.get("RestartUSecNext", "") or properties.get("RestartUSec", ""))
    if phase(properties) != PENDING or not changed or delay is None:
        return False
    left = changed + delay - time.clock_gettime(time.CLOCK_MONOTONIC)
    return -_OVERDUE < left < IMMINENT


def restarted_by_systemd(properties: Mapping[str, str]) -> bool:
    """Return True if the last start of the unit was an automatic restart. A manual start resets NRestarts."""
    return _number(properties.get("NRestarts", "")) > 0


def started_within(properties: Mapping[str, str], *, seconds: float) -> bool:
    """Return True if the main process was started at most `seconds` seconds ago."""
    started = _number(properties.get("ExecMainStartTimestampMonotonic", "")) / 1e6
    return started > 0 and time.clock_gettime(time.CLOCK_MONOTONIC) - started <= seconds


def last_exit(properties: Mapping[str, str]) -> Dict[str, Any]:
    """Return how the main process exited: result, code, status, pid, at (UTC, or None if unknown), restarts."""
    ended = _number(properties.get("ExecMainExitTimestampMonotonic", "")) / 1e6
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    return {
        "result": properties.get("Result", ""),
        "code": EXIT_CODES.get(properties.get("ExecMainCode", ""), ""),
        "status": _number(properties.get("ExecMainStatus", "")),
        "pid": _number(properties.get("ExecMainPID", "")),
        "at": timestamps.iso(boot + ended) if ended else None,
        "restarts": _number(properties.get("NRestarts", "")),
    }


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def timer_name(unit: str) -> str:
    """Return the name of a unit's dead-man timer, without its suffix."""
    return f"itsm-runbook-dead-man-{re.sub(r'[^A-Za-z0-9_.-]', '_', re.sub(r'[.]service$', '', unit))}"


class Guard(NamedTuple):
    """The database that the dead-man timer checks before it starts the unit.

    rights: the account (uid, gid) that reads the database. See safe_open.rights_on. dropin, text: the path and the
    content of the drop-in that puts the unit on hold if the database is damaged.
    """

    database_path: str = ""
    rights: safe_open.Rights = None
    dropin: str = ""
    text: str = ""


_NO_GUARD = Guard()


def arm(unit: str, *, seat: host_lease.Seat, run: commands.Runner, guard: Guard = _NO_GUARD) -> str:
    """If a unit's dead-man timer is not armed yet, arm it. Return its name. Raises TakeoverError.

    The timer checks the lease when the lease is expected to expire, then every POLL seconds. The timer acts once and is
    then removed. If the database is damaged, the timer puts the unit on hold. Otherwise, it starts the unit.
    """
    name = timer_name(unit)
    if is_armed(unit):
        return name
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={name}"]
    argv += [f"--description=Start {unit} if the recovery that stopped it has died"]
    argv += [
        f"--on-active={host_lease.SECONDS:.0f}",
        f"--on-unit-inactive={POLL}",
        "--timer-property=AccuracySec=100ms",
    ]
    argv += ["--", sys.executable or "/usr/bin/python3", "-I", "-S", "-c", _DEAD_MAN]
    argv += [os.path.join(seat.folder, "lease.json"), os.path.join(seat.folder, "work"), unit, f"{name}.timer"]
    scratch = seat.state_dir if os.path.isdir(seat.state_dir) else seat.folder
    user = "{}:{}".format(*guard.rights) if guard.rights else ""
    # The database is copied into a folder that this user can write to.
    argv += [guard.database_path, user, "/var/tmp" if user else scratch, guard.dropin, guard.text]  # noqa: S108
    argv += [str(_CHECK_TIMEOUT)]
    _checked(argv, "armed", unit=unit, run=run)
    return name


def is_armed(unit: str) -> bool:
    """Return True if a unit's dead-man timer exists. This check is fast."""
    return os.path.exists(f"{_TRANSIENT}/{timer_name(unit)}.timer")


def disarm(unit: str, *, run: commands.Runner = commands.run) -> None:
    """Remove a unit's dead-man timer.

    Call this function if the run has started the service, or if the service must not start.
    """
    if is_armed(unit):
        with contextlib.suppress(commands.CommandError):
            run(["systemctl", "--no-ask-password", "stop", "--", f"{timer_name(unit)}.timer"], timeout=_TIMEOUT)


def take(
    unit: str,
    properties: Mapping[str, str],
    *,
    seat: host_lease.Seat,
    kill: bool = False,
    guard: Guard = _NO_GUARD,
    run: commands.Runner = commands.run,
) -> Takeover:
    """Take the unit over: arm the timer first, then cancel systemd's pending action. Raises TakeoverError.

    properties: the unit's properties. Read the properties before the takeover, because stopping the unit resets the
    result, the exit and the restart counter. kill: True to kill the unit's processes immediately with SIGKILL.
    """
    timer = arm(unit, seat=seat, run=run, guard=guard)
    killed_at = timestamps.now() if kill else None
    try:
        if kill:
            argv = ["systemctl", "--no-ask-password", "kill", "--signal=SIGKILL", "--", unit]
            _checked(argv, "killed", unit=unit, run=run)
        _checked(["systemctl", "--no-ask-password", "stop", "--", unit], "cancelled", unit=unit, run=run)
    except TakeoverError:
        disarm(unit, run=run)
        raise
    return Takeover(
        unit=unit,
        at=timestamps.now(),
        sub_state=properties.get("SubState", ""),
        timer=timer,
        last_exit=last_exit(properties),
        killed_at=killed_at,
    )


def hand_back(unit: str, *, run: commands.Runner = commands.run) -> bool:
    """Let systemd start a unit that is still taken over. Return True if the unit was taken over."""
    if not is_armed(unit):
        return False
    with contextlib.suppress(commands.CommandError):
        run(["systemctl", "--no-ask-password", "start", "--no-block", "--", unit], timeout=_TIMEOUT)
    disarm(unit, run=run)
    return True


def _checked(argv: List[str], purpose: str, *, unit: str, run: commands.Runner) -> None:
    """Run a systemd command. purpose: armed, killed or cancelled. Raises TakeoverError."""
    try:
        done = run(argv, timeout=_TIMEOUT)
    except commands.CommandError as error:
        raise TakeoverError(message(f"reason.takeover.not_{purpose}", unit=unit, why=error.told)) from error
    if not done.ok:
        raise TakeoverError(message(f"reason.takeover.not_{purpose}", unit=unit, why=systemd.why_failed(done)))


def settle(
    unit: str,
    *,
    limit: float,
    run: commands.Runner = commands.run,
    poll: float = 0.1,
    doubt: Optional[Any] = None,
) -> Dict[str, str]:
    """Wait for at most `limit` seconds until the unit is neither starting nor stopping. Return the unit's properties.

    doubt: a function that is called at each check. If this function returns a true value, the unit must not start, and
    the wait ends immediately. Raises HostError if systemd does not answer.
    """
    give_up, soon = time.monotonic() + limit, True
    while True:
        properties = systemd.unit_properties(unit, PROPERTIES, run=run)
        # Wait for only one imminent restart. If the service keeps crashing, systemd restarts it repeatedly.
        soon = soon and is_imminent(properties)
        busy = soon or phase(properties) in (STARTING, STOPPING)
        if not busy or time.monotonic() >= give_up or (doubt is not None and doubt()):
            return properties
        time.sleep(poll)
