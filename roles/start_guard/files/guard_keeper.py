# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: run.py guard_keeper CONFIG. Saves the reports of the start guard and the restart recorder. Runs as root.

systemd starts this program for each connection to the keeper's socket, with the connection as standard input, in an
environment that the service's user cannot change. Only this user and root can connect. The program does not open any
path in a folder that this user controls. The content of a message is not trusted. The program saves only known fields
with a limited length, and limits the number of files. For each invocation of the unit, it accepts one exit report (a
report that the process has ended), and records whether systemd confirmed the report. A confirmed report replaces an
unconfirmed report, because the user may have forged the unconfirmed report.

Files in STATE_DIR/ends/UNIT/: end-TIME-INVOCATION.json (how a process ended) and refused-TIME/ (the evidence for a
refusal). STATE_DIR/refusal-UNIT.json: a refusal that has not been added to the record of an incident yet (see
plugins/module_utils/_incident/start_guard.py). The service's user can read the file that the configuration specifies as
`known`. This file contains no secrets, only the size, the inode and the salts of the database's files, and the
database's header.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import re
import signal
import subprocess
import time
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, Optional, Tuple

import guard_common as common

# Deadlines for receiving and for saving a message, in seconds.
_RECEIVING, _SAVING = 4.0, 8.0
_LARGEST_HEAD = 1 << 17
_LARGEST_PART = 9 << 20
_PARTS = ("database", "wal", "shm")
# Maximum number of process exits to keep of each kind: exits that systemd has confirmed, and unconfirmed exits.
MOST_ENDS = 200
_UNCONFIRMED = ".unconfirmed.json"
# Maximum time between sending and saving a report, in nanoseconds.
_LATEST = 60 * 10**9
MOST_REFUSALS = 5
# Minimum time in seconds before evidence is saved again for the same incident.
_EVIDENCE_INTERVAL = 60
_LONGEST = 500
_INVOCATION = re.compile(r"[0-9a-f]{32}\Z")
_WORD = re.compile(r"[A-Za-z0-9_+-]{0,40}\Z")
_PROPERTIES = (
    *("InvocationID", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus", "MemoryPeak", "ActiveState"),
    "SubState",
)
# Prefixes of the systemd SubStates in which the unit's main process has exited.
_ENDED = ("stop-post", "final", "auto-restart", "failed", "dead")
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}


def properties_of(unit: str) -> Dict[str, str]:
    """Return the unit properties, or an empty dict if systemd does not answer."""
    argv = ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", unit]
    try:
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=4)
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition("=") for line in done.stdout.decode("utf-8", "replace").splitlines())
    return {name: value for name, _equals, value in pairs}


def receive(stream: BinaryIO) -> Tuple[Dict[str, Any], Dict[str, bytes]]:
    """Read a message and its parts. Raises ValueError if it is not a message."""
    head = stream.readline(_LARGEST_HEAD)
    if not head.endswith(b"\n"):
        raise ValueError("the message is incomplete or too long")
    message = json.loads(head.decode("utf-8"))
    if not isinstance(message, dict) or message.get("kind") not in ("start", "end", "refused"):
        raise ValueError("the message is not of a known kind")
    if not _INVOCATION.match(str(message.get("invocation"))):
        raise ValueError("the message has no invocation")
    lengths = message.get("parts")
    parts = {}
    for name in _PARTS:
        length = lengths.get(name) if isinstance(lengths, dict) else None
        if isinstance(length, int) and 0 <= length <= _LARGEST_PART:
            parts[name] = stream.read(length)
    return message, parts


def text(value: Any, limit: int = _LONGEST) -> Optional[str]:
    """Return the value, shortened and without control characters, or None if the value is not a string."""
    if not isinstance(value, str):
        return None
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value[:limit])


def number(value: Any) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _stamp(state: Mapping[str, Any], name: str) -> Optional[List[int]]:
    found = state.get(name)
    if not isinstance(found, dict) or any(number(found.get(field)) is None for field in ("device", "inode", "size")):
        return None
    return common.stamp(found) if number(found.get("mtime_ns")) is not None else None


def _frames(state: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    found = state.get("frames")
    if not isinstance(found, dict):
        return None
    salts = found.get("salts")
    fits = isinstance(salts, list) and len(salts) == 2 and all(number(salt) is not None for salt in salts)
    needed = found.get("needed")
    return {
        "header_valid": found.get("header_valid") is True,
        "committed": number(found.get("committed")) or 0,
        "pages": number(found.get("pages")) or 0,
        "salts": salts if fits else None,
        "needed": needed if isinstance(needed, bool) else None,
    }


def _journal(state: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    found = state.get("journal")
    return {"size": number(found.get("size")), "hot": found.get("hot") is True} if isinstance(found, dict) else None


def _header(state: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    found = state.get("header")
    if not isinstance(found, dict):
        return None
    known: Dict[str, Any] = {field: number(found.get(field)) for field in ("page_size", "pages", "changes")}
    return {**known, "bytes": text(found.get("bytes"))}


def _files(state: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the known facts about the database files."""
    known = {
        name: {field: number(found.get(field)) for field in ("size", "inode", "uid", "gid", "mode", "mtime_ns")}
        for name, found in ((each, state.get(each)) for each in ("database", "wal", "shm", "journal"))
        if isinstance(found, dict)
    }
    return {
        "path": text(state.get("path"), 4096),
        "files": known,
        "header": _header(state),
        "frames": _frames(state),
    }


def _sent(message: Mapping[str, Any]) -> int:
    """Return the time when the report was sent, in nanoseconds. If the time is impossible, return the current time."""
    ns, now = number(message.get("ns")) or 0, time.time_ns()
    return ns if now - _LATEST <= ns <= now else now


class Late(BaseException):
    """A deadline has passed. Not a subclass of Exception, so that callers do not ignore it like other errors."""


def _give_up(*_signal: Any) -> None:
    raise Late


def _sent_since_boot(message: Mapping[str, Any]) -> int:
    """Return the time of the report, in nanoseconds since boot.

    The host's clock is not used, because the clock may be set back.
    """
    ns, now = number(message.get("since_boot")) or 0, common.since_boot()
    return ns if now - _LATEST <= ns <= now else now


class Keeper:
    """The files of one unit. properties: the unit's properties, see properties_of. boot: the ID of this boot."""

    def __init__(self, config: common.Config, *, properties: Mapping[str, str], boot: str) -> None:
        self.config = config
        self.properties = properties
        self.boot = boot
        name = config.unit[: -len(".service")] if config.unit.endswith(".service") else config.unit
        self.folder = os.path.join(config.state_dir, "ends", name)
        self.refusal = os.path.join(config.state_dir, f"refusal-{name}.json")
        self.known: Dict[str, Any] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder, and read the last known state. Raises OSError."""
        for folder in (self.config.state_dir, os.path.dirname(self.folder), self.folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clean_up()
            self.known = common.known_state(self.config.known, database=self.config.database)
            yield
        finally:
            os.close(lock)

    def _clean_up(self) -> None:
        """Remove the temporary files of keepers that were killed. No other keeper holds the lock."""
        beginnings = [(self.folder, ".")]
        beginnings += [
            (os.path.dirname(path), f".{os.path.basename(path)}.") for path in (self.refusal, self.config.known)
        ]
        for folder, beginning in beginnings:
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(beginning):
                        os.unlink(os.path.join(folder, name))

    def keep(self, message: Mapping[str, Any], parts: Mapping[str, bytes]) -> bool:
        """Save a message. Return False if the message was ignored. Raises OSError."""
        state = message["state"] if isinstance(message.get("state"), dict) else {}
        with self.locked():
            if message["kind"] == "start":
                return self._start(message, state)
            if message["kind"] == "end":
                return self._end(message, state)
            return self._refused(message, state, parts)

    def _is_current(self, message: Mapping[str, Any]) -> bool:
        """Return True if systemd confirms that this is the current invocation of the unit."""
        return bool(message["invocation"] == self.properties.get("InvocationID"))

    def _has_ended(self, message: Mapping[str, Any]) -> bool:
        """Return True if systemd confirms that this invocation is no longer running, or is an earlier one."""
        ended = self.properties.get("SubState", "").startswith(_ENDED)
        return bool(self.properties) and (ended or not self._is_current(message))

    def _is_later(self, saved: Mapping[str, Any], since_boot: int) -> bool:
        """Return True if the saved start or exit was reported during this boot, and later than `since_boot`."""
        return saved.get("boot") == self.boot and since_boot < int(saved.get("since_boot") or 0) <= common.since_boot()

    def _start(self, message: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        before, ns, since_boot = self.known.get("start") or {}, _sent(message), _sent_since_boot(message)
        current = self._is_current(message)
        restarts = self.properties.get("NRestarts", "")
        number_now = int(restarts) if restarts.isdecimal() else 0
        start = {
            "at": common.iso(ns),
            "ns": ns,
            "since_boot": since_boot,
            "invocation": message["invocation"],
            "boot": self.boot,
            # If systemd has restarted the unit since this start, the restart counter is higher now.
            "restarts": number_now if current else max(number_now - 1, 0),
            "confirmed": current,
        }
        ended = self._end_of(message["invocation"])
        if ended is not None:  # the process ended immediately, and its exit report was saved first
            with contextlib.suppress(OSError, ValueError):
                about = common.read_json(ended, limit=1 << 17)
                if about.get("start") is None:
                    _write(ended, {**about, "start": start})
        if self._is_later(before, since_boot):
            return True  # a later start was saved first
        if before and before.get("boot") != self.boot and self._end_of(str(before.get("invocation"))) is None:
            self._write_end(
                str(before["invocation"]),
                {"result": "host-down", "code": None, "status": None, "signal": None, "start": before},
                at=None,
                confirmed=True,
            )
        self.known["start"] = start
        self._note_database(state)
        self._write_known()
        return True

    def _end(self, message: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
        started = self.known.get("start") or {}
        mine = started.get("invocation") == message["invocation"]
        # The keeper saves reports in parallel with the next start, so systemd may have already forgotten this
        # invocation.
        known = self._is_current(message) or (mine and bool(started.get("confirmed")))
        confirmed = known and self._has_ended(message)
        saved = self._end_of(message["invocation"])
        if saved is not None and not (confirmed and saved.endswith(_UNCONFIRMED)):
            return False
        end = {
            **self._ending(message),
            "start": started if mine else None,
            "memory": self._memory(message.get("memory")),
            "open_files": self._open_files(),
            "stopped_by": _stopped_by(message.get("stopped_by")),
            "log": _log(message.get("log")),
            "database": _files(state),
            "lacking": number(message.get("lacking")) or 0,
        }
        ns = _sent(message)
        at = common.iso(ns)
        self._write_end(message["invocation"], end, at=at, confirmed=confirmed)
        if saved is not None:
            with contextlib.suppress(OSError):
                os.unlink(saved)
        if self._is_current(message) and not confirmed:
            return True  # the process may still be running, so the files may change
        since_boot = _sent_since_boot(message)
        if self._is_later(self.known.get("end") or {}, since_boot):
            return True  # a later report was saved first
        self.known["end"] = {
            "at": at,
            "ns": ns,
            "boot": self.boot,
            "since_boot": since_boot,
            "invocation": message["invocation"],
            "database": _stamp(state, "database"),
            "wal": _stamp(state, "wal"),
            "header": end["database"]["header"],
            "frames": end["database"]["frames"],
            "journal": _journal(state),
            "lacking": end["lacking"],
        }
        self._forget_release(state)
        self._note_database(state)
        self._write_known()
        return True

    def _ending(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        """Return how the process ended. If systemd has its own values, these values replace the values in the
        message."""
        told = {name: text(message.get(name), 40) for name in ("result", "code", "signal")}
        status = number(message.get("status"))
        if self._is_current(message) and self.properties.get("SubState") != "running":
            result, code = self.properties.get("Result"), _CODES.get(self.properties.get("ExecMainCode", ""))
            if result and result != "success":
                told["result"] = result
            value = self.properties.get("ExecMainStatus", "")
            if code == "exited" and value.isdecimal():
                told["code"], status, told["signal"] = code, int(value), None
            elif code and value.isdecimal():
                with contextlib.suppress(ValueError):
                    told["code"], status, told["signal"] = code, None, signal.Signals(int(value)).name
        fits = all(value is None or _WORD.match(value) for value in told.values())
        return {**(told if fits else dict.fromkeys(told)), "status": status}

    def _memory(self, told: Any) -> Dict[str, Optional[int]]:
        values = told if isinstance(told, dict) else {}
        peak = self.properties.get("MemoryPeak", "")
        known = int(peak) if peak.isdecimal() and len(peak) < 19 else None
        return {"peak": known or number(values.get("peak")), "oom_kills": number(values.get("oom_kills"))}

    def _open_files(self) -> Optional[Dict[str, Any]]:
        """Return the latest number of open files that a health check measured, with the time, or None."""
        try:
            samples = common.read_json(os.path.join(self.config.state_dir, "readiness.json"), limit=1 << 20)["samples"]
            last = next(each for each in reversed(samples) if number(each.get("open_files")) is not None)
            return {"number": last["open_files"], "at": common.iso(int(float(last["at"]) * 1e9))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, StopIteration):
            return None

    def _refused(self, message: Mapping[str, Any], state: Mapping[str, Any], parts: Mapping[str, bytes]) -> bool:
        code, reason = text(message.get("code"), 40), text(message.get("reason"))
        if code is None or reason is None or not _WORD.match(code) or not self._is_starting(message):
            return False
        at = common.now()
        of_data = common.kind_of(code).of_data
        refusal = {"at": at, "unit": self.config.unit, "code": code, "reason": reason, "of_data": of_data}
        if code == "held":
            return True  # the incident that holds the unit is already open
        try:
            first = common.read_json(self.refusal, limit=1 << 16)
        except (OSError, ValueError):
            first = {}
        compact = re.sub(r"[-:.]", "", at)
        identity = f"INC-{compact[:15]}Z-{os.urandom(2).hex()}"
        refusal = {"incident": identity, "first_at": at, "times": 0, **first, **refusal}
        if first.get("of_data") is True:
            # The data remains in doubt until a run has checked the database.
            refusal.update({name: first.get(name) for name in ("code", "reason", "of_data")})
        refusal["times"] = (number(refusal["times"]) or 0) + 1
        stamps = [_stamp(state, name) for name in ("database", "wal")]
        saved = first.get("evidence")
        if not saved or (first.get("stamps") != stamps and not _is_recent(number(first.get("evidence_ns")) or 0)):
            refusal["evidence"] = self._save_evidence(compact, {**refusal, "database": _files(state)}, parts)
            refusal.update(stamps=stamps, evidence_ns=time.time_ns())
        _write(self.refusal, refusal)
        return True

    def _is_starting(self, message: Mapping[str, Any]) -> bool:
        """Return True if systemd confirms that the guard is checking this invocation, or has just refused it."""
        state, result = self.properties.get("SubState"), self.properties.get("Result")
        checks = state == "condition" or (state == "dead" and result == "exec-condition")
        return self._is_current(message) and checks

    def _save_evidence(self, compact: str, about: Mapping[str, Any], parts: Mapping[str, bytes]) -> str:
        folder = os.path.join(self.folder, f"refused-{compact}-{os.urandom(2).hex()}")
        os.mkdir(folder, 0o700)
        for name, data in parts.items():
            descriptor = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
        _write(os.path.join(folder, "refusal.json"), about)
        for name in sorted(each for each in os.listdir(self.folder) if each.startswith("refused-"))[:-MOST_REFUSALS]:
            _remove(os.path.join(self.folder, name))
        return folder

    def _forget_release(self, state: Mapping[str, Any]) -> None:
        """Delete the release if the service has changed the released files."""
        stamps = (self.known.get("released") or {}).get("stamps")
        known = stamps if isinstance(stamps, dict) else {}
        names = ("database", "wal")
        if not all(common.is_same_stamp(_stamp(state, name), known.get(name)) for name in names):
            self.known.pop("released", None)

    def _note_database(self, state: Mapping[str, Any]) -> None:
        """Record that the database exists. If the database is missing at a later start, the database may have been
        lost."""
        stamp = _stamp(state, "database")
        if stamp and stamp[2]:
            self.known["database"] = {"at": common.now(), "size": stamp[2]}

    def _write_known(self) -> None:
        self.known.update(path=self.config.database, unit=self.config.unit)
        _write(self.config.known, self.known, group=group_of(self.config.user))

    def _end_of(self, invocation: str) -> Optional[str]:
        """Return the path of the saved exit report of an invocation, or None."""
        names = (name for name in os.listdir(self.folder) if name.startswith("end-"))
        return next((os.path.join(self.folder, name) for name in names if f"-{invocation}." in name), None)

    def _write_end(self, invocation: str, end: Mapping[str, Any], *, at: Optional[str], confirmed: bool) -> None:
        written = common.now()
        about = {"at": at, "written_at": written, "boot": self.boot, "invocation": invocation, "confirmed": confirmed}
        # In the file names, the time (without separators) follows "end-", so the names sort by time.
        compact = re.sub(r"[-:.]", "", written)
        ending = ".json" if confirmed else _UNCONFIRMED
        _write(os.path.join(self.folder, f"end-{compact}-{invocation}{ending}"), {**about, **end})
        # Forged reports must not displace reports that systemd has confirmed.
        names = sorted(name for name in os.listdir(self.folder) if name.startswith("end-"))
        of_kind = [name for name in names if name.endswith(_UNCONFIRMED) is not confirmed]
        for name in of_kind[:-MOST_ENDS]:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, name))


def return_start(unit: str, *, patience: float = 3.0) -> None:
    """Exclude the refused start from the start limit of the unit.

    Otherwise, systemd would refuse a later start even after the files have been repaired. The counter can only be reset
    together with the unit's result, so wait until the unit is inactive. Until then, the result prevents a restart.
    """
    pause, give_up = 0.1, time.monotonic() + patience
    while time.monotonic() < give_up:
        state = properties_of(unit).get("ActiveState")
        if state == "inactive":
            argv = ["systemctl", "reset-failed", "--", unit]
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=2)
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.5)  # each query adds load to systemd


def _is_recent(ns: int) -> bool:
    """Return True if a time is less than a minute ago. A time in the future (the clock was set back) does not count."""
    return 0 <= time.time_ns() - ns < _EVIDENCE_INTERVAL * 10**9


def group_of(user: str) -> Optional[int]:
    try:
        return pwd.getpwnam(user).pw_gid
    except KeyError:
        return None


def _stopped_by(told: Any) -> Optional[Dict[str, Any]]:
    if not isinstance(told, dict):
        return None
    numbers = {name: number(told.get(name)) for name in ("pid", "uid", "login_uid")}
    return {**numbers, "command": text(told.get("command"), 200)}


def _log(told: Any) -> Dict[str, Any]:
    values = told if isinstance(told, dict) else {}
    lines = values.get("lines")
    kept = [text(line) for line in lines[-20:]] if isinstance(lines, list) else []
    return {"path": text(values.get("path"), 4096), "lines": [line for line in kept if line is not None]}


def _remove(folder: str) -> None:
    """Remove a folder that this program created, with the files in it."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _write(path: str, values: Mapping[str, Any], *, group: Optional[int] = None) -> None:
    """Replace a file, so that either the old or the new content survives a power failure. Raises OSError."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if group is not None:
                os.fchown(stream.fileno(), -1, group)
                os.fchmod(stream.fileno(), 0o640)
            stream.write(json.dumps(values, indent=1, sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def main(arguments: List[str]) -> int:
    os.umask(0o077)
    config = common.Config.read(arguments[0])
    signal.signal(signal.SIGALRM, _give_up)
    try:
        message, saved = _keep(config)
    except Late:
        common.say(f"A report about {config.unit} was not saved, because it took too long")
        return 1
    if saved and message["kind"] == "refused":
        os.close(0)  # close the connection before return_start waits
        return_start(config.unit)
    return 0


def _keep(config: common.Config) -> Tuple[Dict[str, Any], bool]:
    """Receive a message, save it and answer. Return the message, and True if the message was not ignored.

    Saving has its own deadline, so a slow sender does not reduce the time for saving. Raises Late, ValueError, OSError.
    """
    signal.setitimer(signal.ITIMER_REAL, _RECEIVING)
    # Read from a duplicate, because the response is written to descriptor 0 afterwards.
    with os.fdopen(os.dup(0), "rb") as stream:
        message, parts = receive(stream)
    signal.setitimer(signal.ITIMER_REAL, 0)
    keeper = Keeper(config, properties=properties_of(config.unit), boot=common.boot_id())
    signal.setitimer(signal.ITIMER_REAL, _SAVING)
    saved = keeper.keep(message, parts)
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.set_blocking(0, False)  # the response is short, and the sender may not read it
    with contextlib.suppress(OSError):
        os.write(0, b"saved\n" if saved else b"ignored\n")
    return message, saved
