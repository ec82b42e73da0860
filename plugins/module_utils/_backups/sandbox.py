# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the service's own command in a transient unit that cannot reach or change the running service.

systemd provides the private network, the read-only file system and the limits. If systemd cannot apply some of these
settings, for example in a container, it ignores them. Therefore, a small program in this unit first checks that the
network is private and the file system is read-only. Then the program hides the live database with a mount. It also
mounts empty temporary file systems over the folders to which the service writes. The mount points are in folders that
the service's user owns. For each mount, the program opens the path as the service's user, and uses the descriptor as
the mount point. Therefore, the user cannot redirect a mount to another place by replacing the path in the meantime.
Then the program starts the command as the user in private PID and IPC namespaces with their own /proc file system.
If the command could access the host's /proc, it could change the running service's files. The read-only file system
does not protect files that are opened through /proc. A read-only file system does not prevent a program from connecting
to a UNIX socket either. Therefore, a filter for system calls refuses these sockets.

The unit's first process keeps running, and stops the unit if the service writes too much to the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, parallel
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import systemd

_TIMEOUT = 30.0
_CLONE_NEWNET = 0x40000000
_PROPERTIES = ("LoadState", "ActiveState", "MainPID")

# If the unit is not isolated, the program prints this text before the reason.
NOT_ISOLATED = "itsm-runbook-drill: not isolated: "

# If the service writes too much, the program prints this text.
TOO_MUCH = "Error: the drill was stopped, because the service wrote too much data, or the disk is almost full"

# The program that the unit runs first. The program reads the plan (see Plan) from standard input, as JSON.
_ENTER = """
import ctypes, json, os, signal, sys, time
plan = json.load(sys.stdin)
null = os.open("/dev/null", os.O_RDWR)
os.dup2(null, 0)
if os.stat("/proc/self/ns/net").st_ino == plan["network"]:
    sys.exit(plan["refusal"] + "the network is not private")
for path in plan["read_only"]:
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        sys.exit(plan["refusal"] + "the service could write to " + path)
library = ctypes.CDLL(None, use_errno=True)
RDONLY, BIND, NOSUID, NODEV, NOEXEC = 1, 4096, 2, 4, 8
NEWIPC, NEWPID, DEATH_SIGNAL, SECCOMP, NO_NEW_PRIVILEGES, FILTER = 0x08000000, 0x20000000, 1, 22, 38, 2
def mount(source, target, kind, flags, data):
    if library.mount(source.encode(), target.encode(), kind and kind.encode(), flags, data and data.encode()) != 0:
        number = ctypes.get_errno()
        sys.exit(plan["refusal"] + "cannot mount " + source + ": " + os.strerror(number))
def opened(path, flags):
    os.setegid(plan["gid"])
    os.seteuid(plan["uid"])
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | flags)
    except OSError:
        return None
    finally:
        os.seteuid(0)
        os.setegid(0)
os.setgroups(plan["groups"])
for path in plan["hidden"]:
    found = opened(path, 0)
    if found is not None:
        mount(plan["empty"], "/proc/self/fd/%d" % found, None, BIND, None)
        os.close(found)
for path in plan["writable"]:
    found = opened(path, os.O_DIRECTORY)
    if found is not None:
        limits = "mode=0700,uid=%d,gid=%d,size=%d" % (plan["uid"], plan["gid"], plan["room"])
        mount("tmpfs", "/proc/self/fd/%d" % found, "tmpfs", NOSUID | NODEV | NOEXEC, limits)
        os.close(found)
proc = []
with open("/proc/self/mountinfo", "rb") as stream:
    for fields in (line.split(b" ") for line in stream):
        if fields[3] == b"/" and fields[fields.index(b"-") + 1] == b"proc":
            proc.append(os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1")))
def too_much():
    # The free space alone is not conclusive, because other programs also write to the disk. Therefore, also count the
    # service's files, with the rights of the service's user.
    found = os.statvfs(plan["data"])
    if found.f_bavail * found.f_frsize < plan["reserve"]:
        return True
    os.setegid(plan["gid"])
    os.seteuid(plan["uid"])
    try:
        used, number, folders = 0, 0, [plan["data"]]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    used += status.st_blocks * 512
                    number += 1
                    if used > plan["most"] or number > plan["most_files"]:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the service hides its files
    finally:
        os.seteuid(0)
        os.setegid(0)
def ended(status):
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
# The service also gets this signal, and may need a moment to end.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if library.unshare(NEWPID | NEWIPC) != 0:
    sys.exit(plan["refusal"] + "no private PID and IPC namespaces")
first = os.fork()
if first != 0:
    while True:
        pid, status = os.waitpid(first, os.WNOHANG)
        if pid != 0:
            os._exit(ended(status))
        if too_much():
            print(plan["too_much"], flush=True)
            os._exit(1)
        time.sleep(0.1)
# When the parent process ends, the kernel kills this process and all other processes in the namespace.
library.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
for path in proc:
    if os.path.exists(path):
        mount("proc", path, "proc", RDONLY | NOSUID | NODEV | NOEXEC, None)
second = os.fork()
if second != 0:
    while True:
        pid, status = os.wait()
        if pid == second:
            os._exit(ended(status))
if os.readlink("/proc/self") != str(os.getpid()):
    sys.exit(plan["refusal"] + "the service could see other processes")
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))
rules = bytes.fromhex(plan["socket_filter"])
program = Program(len(rules) // 8, rules)
if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or library.prctl(SECCOMP, FILTER, ctypes.byref(program), 0, 0):
    sys.exit(plan["refusal"] + "the service could connect to UNIX sockets")
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.setresgid(plan["gid"], plan["gid"], plan["gid"])
os.setresuid(plan["uid"], plan["uid"], plan["uid"])
os.umask(plan["umask"])
os.chdir(plan["folder"])
os.execve(plan["program"], plan["argv"], plan["environment"])
"""

# The program that the unit runs last, with full root privileges. Arguments: the lock file for the drills, the scratch
# folder, and the unit's mount point in the scratch folder. A drill that still holds the lock removes its scratch folder
# itself. If the drill was killed, this program removes the folder. The service's user owns the mount point, and could
# have moved a root-owned folder there. Therefore, the content of the mount point is removed as this user.
_LEAVE = (
    "import ctypes, fcntl, os, shutil, sys; os.dup2(os.open('/dev/null', os.O_WRONLY), 2);"
    " lock = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB);"
    " folder, data = sys.argv[2:]; ctypes.CDLL(None).umount2(os.fsencode(data), 2 | 8);"
    " owner = os.lstat(data if os.path.lexists(data) else folder);"
    " os.fork() or (os.setgroups([]), os.setresgid(*[owner.st_gid] * 3), os.setresuid(*[owner.st_uid] * 3),"
    " shutil.rmtree(data, True), os._exit(0)); os.wait();"
    " [os.unlink(each.path) for each in list(os.scandir(folder)) if not each.is_dir(follow_symlinks=False)];"
    " os.path.lexists(data) and os.rmdir(data); os.rmdir(folder)"
)


class Plan(NamedTuple):
    """The command that the unit runs, and its limits. hidden: files that are replaced with an unreadable file.
    writable: folders that are replaced with an empty temporary file system of at most `room` bytes. empty: the
    unreadable file. read_only: folders in which the service must not be able to write. network: the inode of the
    network namespace in which the service must not run. socket_filter: the filter for system calls, as hexadecimal
    digits (see socket_filter.py), or an empty string. data: the folder that the service can write to. most, most_files:
    if `data` contains more bytes or files, the service is stopped. reserve: the number of bytes that must stay free on
    the disk.
    """

    program: str
    argv: Sequence[str]
    environment: Dict[str, str]
    folder: str
    uid: int
    gid: int
    groups: Sequence[int]
    hidden: Sequence[str]
    writable: Sequence[str]
    empty: str
    read_only: Sequence[str]
    network: int
    socket_filter: str
    data: str
    most: int
    most_files: int = 10000
    reserve: int = 32 << 20
    refusal: str = NOT_ISOLATED
    too_much: str = TOO_MUCH
    umask: int = 0o077
    room: int = 64 << 20

    def as_dict(self) -> Dict[str, Any]:
        """Return the plan as JSON data."""
        return dict(self._asdict())


class Limits(NamedTuple):
    """Limits for the unit.

    memory: the memory limit, in bytes. seconds: after this time, systemd kills the unit, even if this module has died.
    largest: the largest file that the service may write, in bytes.
    """

    memory: int
    seconds: float
    largest: int


def properties(limits: Limits, *, output: str, data: str, folder: str, lock: str) -> List[str]:
    """Return the unit's properties. output: the file for its output. data: the only folder to which the unit can write.

    folder: the scratch folder. lock: the file that is locked during a drill.
    """
    python = sys.executable or "/usr/bin/python3"
    return [
        # In a private network, the process cannot reach other hosts, and the ports of the running service are free.
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectControlGroups=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "NoNewPrivileges=yes",
        # The unit runs as the same user as the running service. The application may try to stop the process whose ID is
        # in the pid file.
        "SystemCallFilter=~kill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo ptrace process_vm_writev",
        "SystemCallErrorNumber=EPERM",
        # The program needs these capabilities to mount folders and to switch to the service's user. After switching to
        # the user, the process has no capabilities.
        "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETUID CAP_SETGID",
        f"ReadWritePaths={data}",
        f"StandardOutput=file:{output}",
        f'ExecStopPost=-+{python} -I -S -c "{_LEAVE}" "{lock}" "{folder}" "{data}"',
        f"MemoryMax={limits.memory}",
        "MemorySwapMax=0",
        "TasksMax=512",
        "LimitCORE=0",
        f"LimitFSIZE={limits.largest}",
        f"RuntimeMaxSec={limits.seconds:.0f}",
        "TimeoutStopSec=10",
        "KillMode=control-group",
    ]


@contextlib.contextmanager
def in_memory(plan: Plan) -> Iterator[str]:
    """Yield a path from which systemd can read the plan. The plan contains secrets, so it is never written to disk."""
    descriptor = os.memfd_create("itsm-runbook-drill")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(plan.as_dict(), stream)
        stream.flush()
        yield f"/proc/{os.getpid()}/fd/{descriptor}"


def start(unit: str, plan_path: str, wanted: Sequence[str], *, run: commands.Runner) -> None:
    """Start the transient unit. plan_path: see in_memory(). Raises BackupError."""
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={unit}"]
    argv += ["--description=Restore drill: the service with a restored database"]
    argv += [f"--property={each}" for each in (*wanted, f"StandardInput=file:{plan_path}")]
    argv += ["--", sys.executable or "/usr/bin/python3", "-I", "-S", "-c", _ENTER]
    try:
        done = run(argv, timeout=_TIMEOUT)
    except commands.CommandError as error:
        raise BackupError(message("reason.drill.not_started", why=error.told)) from error
    if not done.ok:
        raise BackupError(message("reason.drill.not_started", why=systemd.why_failed(done)))


def stop(unit: str, *, run: commands.Runner) -> None:
    """Stop the unit if it exists. Errors are ignored, because systemd kills the unit after its time limit anyway."""
    for verb in ("stop", "reset-failed"):
        try:
            run(["systemctl", "--no-ask-password", verb, "--", unit], timeout=_TIMEOUT)
        except commands.CommandError:
            return


def main_pid(unit: str, *, run: commands.Runner) -> Optional[int]:
    """Return the PID of the unit's main process (0 while the unit starts), or None if the unit has stopped.

    Raises HostError.
    """
    found = systemd.unit_properties(unit, _PROPERTIES, run=run)
    if found.get("ActiveState") not in ("active", "activating"):
        return None
    pid = found.get("MainPID", "")
    return int(pid) if pid.isdecimal() else 0


def in_network_of(pid: int, question: Callable[[], Any], *, timeout: float, proc_root: str = "/proc") -> Any:
    """Call a function in a child process that enters the private network of a process.

    Return the function's result (JSON data).

    If the process has not entered a private network, the function is not called, and the result is None. In the host's
    network, the running service would answer instead of the drill's instance. Raises BackupError if the network cannot
    be entered.
    """

    def enter() -> Any:
        opened = os.open(f"{proc_root}/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        ours = os.stat(f"{proc_root}/self/ns/net")
        found = os.fstat(opened)
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            return {"private": False}
        if ctypes.CDLL(None, use_errno=True).setns(opened, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return {"private": True, "value": question()}

    answer = parallel.ask({"drill": enter}, timeout=timeout)["drill"]
    if answer.error is not None:
        # The process may have just exited. In this case, the caller finds out that the unit has stopped.
        if answer.error.startswith(("FileNotFoundError", "ProcessLookupError")):
            return None
        raise BackupError(message("reason.drill.not_asked", why=answer.error))
    return answer.value["value"] if answer.value["private"] else None
