# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host lease allows only one run at a time. Each task is a separate process, so a lock alone is not sufficient.

Each state folder has its own lease, which is stored in an in-memory folder (below /run for root). The lease therefore
works even if the state folder is full or missing. A reboot releases the lease. Files:

- lock: this file is locked with flock(2) during one transaction (a few milliseconds);
- lease.json: the current or last holder of the lease, and the end of the lease;
- work: every module of the run holds a shared fcntl(2) lock on this file while the module is running. The lock is
  released when the module's process exits, and child processes do not inherit it. Therefore, a killed module, or a
  service that it started, cannot block other runs.

Another run may take the lease when the lease has expired and no process holds a lock on `work`. The expiry is measured
with the kernel's clock since boot, so a change to the wall clock neither ends nor extends the lease.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import signal
import stat
import struct
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    MessageError,
    failure,
    message,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages

# After its last module call, a run keeps the lease for this many seconds.
SECONDS = 60.0
# A lease ends after at most this many seconds, even if its file contains a later expiry time.
LONGEST = 3600.0

# Options from the "lease" documentation fragment.
ARGUMENTS: Dict[str, Dict[str, str]] = {
    "run": {"type": "str", "default": ""},
    "state_dir": {"type": "path", "default": "/var/lib/itsm-runbook"},
}

# Maximum size of a lease file in bytes. A larger file is not a lease.
_LARGEST = 1 << 16
# Time limit in seconds for acquiring the lock. Usually, a module call holds the lock for milliseconds. Only a module
# call that hangs holds the lock for longer.
_LOCK_TIMEOUT = 10.0
# struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")


class LeaseError(MessageError):
    """The lease could not be read or written, or another run (taken_by) has taken it."""

    templates = messages.ENGLISH
    taken_by: Optional[Dict[str, Any]] = None


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


class Clock(NamedTuple):
    """The current times: the wall clock for people, the clock since boot for the lease, and the boot ID."""

    wall: Callable[[], float] = time.time
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    boot_id: Callable[[], str] = _boot_id
    sleep: Callable[[float], None] = time.sleep


def memory_folder() -> str:
    """Return the in-memory folder that only this account can write to."""
    uid = os.geteuid()
    return "/run/itsm-runbook" if uid == 0 else f"/dev/shm/itsm-runbook-{uid}"  # noqa: S108 its owner is checked


def _decode(data: bytes) -> Dict[str, Any]:
    """Parse a lease file and return the lease. Raises ValueError if the content is not a lease."""
    lease = json.loads(data.decode("utf-8"))
    if not isinstance(lease, dict):
        raise ValueError("it is not a lease")
    for name in ("run", "since", "step", "until", "boot_id"):
        if not isinstance(lease.get(name), str):
            raise ValueError(f"it has no {name}")
    for name in ("renewed", "ends"):
        if isinstance(lease.get(name), bool) or not isinstance(lease.get(name), (int, float)):
            raise ValueError(f"it has no {name}")
    if not isinstance(lease.get("released"), bool):
        raise ValueError("it does not show whether it was released")
    return lease


# Maps the path of each `work` file that this process has locked to its descriptor. The kernel drops the lock when the
# process closes any descriptor for the file. Therefore, worker() uses this descriptor instead of opening the file
# again.
_at_work: Dict[str, int] = {}


class Seat:
    """The lease for one state folder. Take, renew or release the lease only within locked().

    memory: the in-memory folder, or None for this account's folder.
    """

    __slots__ = ("clock", "memory", "state_dir", "warnings")

    def __init__(self, *, state_dir: str, clock: Optional[Clock] = None, memory: Optional[str] = None) -> None:
        self.state_dir = state_dir
        self.clock = clock or Clock()
        self.memory = memory
        self.warnings: List[str] = []

    @property
    def folder(self) -> str:
        """The folder that contains the lease files. All paths that lead to the same state folder share this folder."""
        path = os.path.realpath(self.state_dir)
        key = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        return os.path.join(self.memory or memory_folder(), f"{os.path.basename(path) or 'root'}-{key}")

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def prepare(self) -> None:
        """Create the folder. Raises OSError if the folder cannot be created or is writable by other accounts."""
        for folder in (os.path.dirname(self.folder), self.folder):
            atomic_files.private_folder(folder)
            status = os.lstat(folder)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PermissionError(errno.EPERM, "it is not a folder that only this account can write to", folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Run the block while holding the lease's lock.

        Raises OSError, or LeaseError if the lock cannot be acquired in time.
        """
        path = self._path("lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            give_up = time.monotonic() + _LOCK_TIMEOUT
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        busy = {"path": path, "seconds": f"{_LOCK_TIMEOUT:.0f}"}
                        raise LeaseError(message("reason.lease.busy", **busy)) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    def last(self) -> Optional[Dict[str, Any]]:
        """Return the last written lease, even if it has expired, or None if its file is missing or damaged."""
        path = self._path("lease.json")
        try:
            return _decode(atomic_files.read_plain(path, limit=_LARGEST))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.warnings.append(f"The lease {path} cannot be read ({error}); it is considered expired")
            return None

    def worker(self) -> Optional[int]:
        """Return the pid of another process that is working under the lease, or None if there is none."""
        path = self._path("work")
        own = _at_work.get(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW) if own is None else own
        except OSError:
            return None
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        finally:
            if own is None:
                os.close(descriptor)
        return None if kind == fcntl.F_UNLCK else int(pid)

    def _runs(self, lease: Dict[str, Any]) -> bool:
        if lease["released"] or lease["boot_id"] != self.clock.boot_id():
            return False
        return bool(lease["renewed"] <= self.clock.boot() < min(lease["ends"], lease["renewed"] + LONGEST))

    def holder(self) -> Optional[Dict[str, Any]]:
        """Return the holder (run, since, step, until, pid of a working process), or None if the lease is free."""
        last, pid = self.last(), self.worker()
        if pid is None and (last is None or not self._runs(last)):
            return None
        return _named(last or {"run": "unknown", "since": "", "step": "", "until": ""}, pid=pid)

    def take(self, *, run: str, step: str = "", seconds: float = SECONDS) -> None:
        """Give the lease to a run, or renew it. A renewal in the same step never shortens the lease. Raises OSError."""
        wall, boot = self.clock.wall(), self.clock.boot()
        last = self.last()
        old = last if last is not None and last["run"] == run and self._runs(last) else None
        ends = boot + min(seconds, LONGEST)
        if old is not None and step in ("", old["step"]):
            step, ends = old["step"], min(max(ends, old["ends"]), boot + LONGEST)
        self._write(
            {
                "run": run,
                "since": old["since"] if old is not None else timestamps.iso(wall),
                "step": step,
                "until": timestamps.iso(wall + ends - boot),
                "boot_id": self.clock.boot_id(),
                "renewed": boot,
                "ends": ends,
                "released": False,
                "state_dir": self.state_dir,
            }
        )

    def release(self, *, run: str) -> None:
        """Release a run's lease. The lease file still lists this run as the last holder. Raises OSError."""
        last = self.last()
        if last is not None and last["run"] == run:
            self._write({**last, "released": True})

    def _write(self, lease: Dict[str, Any]) -> None:
        prefix = ".lease.json."
        for name in os.listdir(self.folder):
            if name.startswith(prefix):  # an interrupted write left this file behind
                os.unlink(self._path(name))
        atomic_files.write_atomically(self._path("lease.json"), json.dumps(lease, sort_keys=True).encode() + b"\n")

    def require(self, *, run: str) -> Optional[Dict[str, Any]]:
        """Return a run's last lease, or None if there is none. Raises LeaseError if another run has taken it."""
        last = self.last()
        if last is not None and last["run"] != run:
            now = {"folder": self.state_dir, "other": last["run"], "since": last["since"]}
            lost = LeaseError(message("reason.lease.lost", run=run, **now))
            lost.taken_by = _named(last, pid=self.worker())
            raise lost
        return last

    def show_work(self) -> int:
        """Lock the `work` file and return its descriptor, which hide_work() closes. Raises OSError."""
        path = self._path("work")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        _at_work[path] = descriptor
        return descriptor

    def hide_work(self, descriptor: int) -> None:
        """Release the lock that show_work() took."""
        _at_work.pop(self._path("work"), None)
        os.close(descriptor)


def _named(lease: Dict[str, Any], *, pid: Optional[int]) -> Dict[str, Any]:
    """Describe the holder of a lease for other runs."""
    return {**{name: lease[name] for name in ("run", "since", "step", "until")}, "pid": pid}


def refusal(held: Dict[str, Any], *, state_dir: str) -> Message:
    """Return the message for a run that is blocked by another run's lease."""
    pid = held["pid"]
    working = message("reason.lease.idle") if pid is None else message("reason.lease.working", pid=str(pid))
    lease = {"step": repr(held["step"]), **{name: str(held[name]) for name in ("run", "since", "until")}}
    return message("reason.lease.taken", folder=state_dir, working=working, **lease)


def _begin(seat: Seat, *, run: str, warn: Callable[[str], None]) -> Optional[int]:
    """Lock the `work` file and renew a run's lease. Raises LeaseError.

    Returns the descriptor of the file, or None if the file cannot be locked.
    """
    descriptor: Optional[int] = None
    try:
        seat.prepare()
        with seat.locked():
            last = seat.require(run=run)
            descriptor = seat.show_work()
            if last is None or not last["released"]:
                seat.take(run=run)
    except OSError as error:
        # Continue without the lease: the host needs a recovery even if this file cannot be written.
        warn(f"Cannot write the lease of run {run} to {seat.folder}: {error.strerror}; another run may start now")
    for warning in seat.warnings:
        warn(warning)
    return descriptor


def _end(seat: Seat, *, run: str) -> None:
    """Renew the lease until the run's next call. If the renewal fails, the next call reports the failure."""
    with contextlib.suppress(OSError, LeaseError), seat.locked():
        last = seat.require(run=run)
        if last is not None and not last["released"]:
            seat.take(run=run)


@contextlib.contextmanager
def _outliving_the_connection() -> Iterator[None]:
    """Let the block finish its work even if the connection is lost and the terminal sends SIGHUP.

    Otherwise, the signal would terminate the module in the middle of its changes, but its child processes would
    continue. SIGHUP is handled rather than ignored, because a service that the module starts would inherit an ignored
    signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before if before is not None else signal.SIG_DFL)


@contextlib.contextmanager
def held(
    *,
    state_dir: str,
    run: str,
    warn: Callable[[str], Any] = lambda text: None,
    fail: Optional[Callable[..., Any]] = None,
    memory: Optional[str] = None,
    clock: Optional[Clock] = None,
) -> Iterator[None]:
    """Run the block under a run's lease, and renew the lease afterwards. Until then, no other run can take the lease.

    If run is empty, the block runs without a lease. If another run has taken the lease, `fail` is called with msg and
    messages before anything changes. `fail` must not return. If `fail` is None, LeaseError is raised. Other problems
    are reported with `warn`.
    """
    if not run:
        yield
        return
    seat = Seat(state_dir=state_dir, clock=clock or Clock(), memory=memory)
    descriptor: Optional[int] = None
    try:
        descriptor = _begin(seat, run=run, warn=warn)
    except LeaseError as error:
        if fail is None:
            raise
        fail(**failure(error))
    try:
        with _outliving_the_connection():
            yield
    finally:
        _end(seat, run=run)
        if descriptor is not None:
            seat.hide_work(descriptor)
