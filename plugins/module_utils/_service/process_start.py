# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start the service as a plain process: a daemon that appends to its log."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import stat
import time
from typing import Callable, Dict, Mapping, NamedTuple, NoReturn, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    path_status,
    safe_open,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    labelled,
    message,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, handed_env_file, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.process import NodeProcessError, Service

# Permission bits that a file with secrets must not have: read and write access for group and others.
OPEN_TO_OTHERS = 0o066

# Time limit in seconds between the fork and the start of the program.
_STARTS_WITHIN = 10.0
_CHUNK = 1 << 16


def read_environment(path: str, *, account: pwd.struct_passwd) -> Dict[str, str]:
    """Return the variables of an environment file. Raises NodeProcessError with the parameter's name.

    account: the service's user, who receives the variables (see handed_env_file).

    The file contains secrets, so access for group or others is an error.
    """
    try:
        values = handed_env_file.read(path, account=account)
        mode = stat.S_IMODE(path_status.status(path).st_mode)
    except env_file.EnvironmentFileError as error:
        raise NodeProcessError(labelled("environment_file", error.told)) from error
    except OSError as error:
        raise NodeProcessError(
            message("reason.process.environment_unread", path=path, why=str(error.strerror))
        ) from error
    if mode & OPEN_TO_OTHERS:
        raise NodeProcessError(message("reason.process.environment_open", path=path, mode=f"{mode:04o}"))
    return values


class Launch(NamedTuple):
    """The checked input for starting the service.

    The input is prepared before anything is stopped, because a check may fail.
    """

    program: str
    environment: Mapping[str, str]
    account: pwd.struct_passwd
    become: Optional[Callable[[], None]]


def prepare(service: Service) -> Launch:
    account = service_process.account(service.user)
    try:
        # The node executable may have a file capability that allows it to listen on a port below 1024. This capability
        # must take effect, as in a manual start.
        become = commands.drop_to(service.user, new_privileges=True)
    except commands.CommandError as error:
        raise NodeProcessError(labelled("user", error.told)) from error
    user = safe_open.account_rights(service.user)

    def is_folder(path: str) -> bool:
        return stat.S_ISDIR(path_status.mode_of(path, user=user))

    if not is_folder(service.app_dir):
        raise NodeProcessError(message("reason.process.no_folder", path=repr(service.app_dir)))
    environment = {"PATH": procfs.STANDARD_PATH, "HOME": account.pw_dir, "LANG": "C.UTF-8"}
    if service.environment_file:
        environment.update(read_environment(service.environment_file, account=account))
    # The program runs as the service's user, who may be able to choose PATH.
    with safe_open.acting(user):
        program = procfs.find_program(service.command[0], app_dir=service.app_dir, path=environment["PATH"])
    if program is None:
        raise NodeProcessError(
            message("reason.process.no_program", program=repr(service.command[0]), path=environment["PATH"])
        )
    for name, path in (("log_file", service.log_file), ("pid_file", service.pid_file)):
        if not os.path.isabs(path) or is_folder(path):
            raise NodeProcessError(f"{name}: {path!r} must be the absolute path of a file")
    folder = os.path.dirname(service.log_file)
    if not is_folder(folder):
        raise NodeProcessError(message("reason.process.no_log_folder", folder=folder, path=service.log_file))
    return Launch(program=program, environment=environment, account=account, become=become)


def _open_log(path: str, *, account: pwd.struct_passwd) -> int:
    """Open the log for appending. A new log is owned by the service's user.

    A link, a FIFO or a file with a second hard link is refused. If the service's user owns the folder, a file of
    another account is refused if the service's user may not write to it. A root-owned file is refused only if this user
    may not read it, because systemd often creates the log as root. Otherwise, the service's user could make root write
    to a file that this user cannot access.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
    try:
        try:
            descriptor = safe_open.open_any(path, flags | os.O_CREAT | os.O_EXCL, mode=0o640)
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        except FileExistsError:
            descriptor = _open_existing_log(path, flags, account=account)
    except OSError as error:
        raise NodeProcessError(message("reason.process.log_refused", path=path, why=str(error.strerror))) from error
    status = os.fstat(descriptor)
    if not (stat.S_ISCHR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)):
        os.close(descriptor)
        raise NodeProcessError(message("reason.process.log_not_plain", path=path))
    os.set_blocking(descriptor, True)
    return descriptor


def _open_existing_log(path: str, flags: int, *, account: pwd.struct_passwd) -> int:
    """Open an existing log. Raises OSError, and NodeProcessError for a file that the user may only have moved here."""
    rights = safe_open.account_rights(account.pw_name)
    if rights is not None:
        rights = safe_open.rights_on(path, user=rights)
    descriptor = safe_open.open_any(path, flags)
    owner = os.fstat(descriptor).st_uid
    if rights is None or owner == account.pw_uid or (owner == 0 and _may_read(path, rights, opened=descriptor)):
        return descriptor
    os.close(descriptor)
    try:
        with safe_open.acting(rights):
            return safe_open.open_any(path, flags)
    except PermissionError as error:
        told = {"path": path, "owner": service_process.user_name(owner), "user": account.pw_name}
        raise NodeProcessError(message("reason.process.log_replaceable", **told)) from error


def _may_read(path: str, rights: safe_open.Rights, *, opened: int) -> bool:
    """Return True if the account may read the open file by this path."""
    with contextlib.suppress(OSError), safe_open.acting(rights):
        found = safe_open.open_any(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            return os.path.samestat(os.fstat(found), os.fstat(opened))
        finally:
            os.close(found)
    return False


def _exec(service: Service, launch: Launch, *, log: int, report: int) -> NoReturn:
    """Start the service from this child process, in a new session and without inherited descriptors, and exit.

    report: the descriptor to which the service's pid is written, followed by an error if the start fails.
    """
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(report, b"%d\n" % os.getpid())
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != report:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        for number in signal.valid_signals():  # Python ignores SIGPIPE, and a session over ssh may ignore more signals
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        if launch.become is not None:
            launch.become()
        os.chdir(service.app_dir)
        os.execve(launch.program, list(service.command), dict(launch.environment))  # noqa: S606 - deliberately no shell
    except OSError as error:
        os.write(report, f"{error.strerror}: {error.filename or launch.program}".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _report(pipe: int) -> bytes:
    """Return the report of _exec, which ends when the program starts, because exec closes the other end of the pipe.

    As soon as the child has switched to the service's user, this user can stop the child with a signal. Therefore, a
    child that does not start the program in time is killed.
    """
    data, until, killed = b"", time.monotonic() + _STARTS_WITHIN, False
    with os.fdopen(pipe, "rb", buffering=0) as stream:
        while True:
            if not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                pid = data.partition(b"\n")[0]
                if killed or not pid.isdigit():
                    return data
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                data += f"no program after {_STARTS_WITHIN:g} s".encode()
                until, killed = time.monotonic() + 1.0, True
                continue
            chunk = stream.read(_CHUNK)
            if not chunk:
                return data
            data += chunk


def start(service: Service, launch: Launch, *, proc_root: str) -> procfs.Process:
    """Start the service as a process that outlives this module, and record the process in the pid file."""
    log = _open_log(service.log_file, account=launch.account)
    outcome, report = os.pipe()
    child = os.fork()
    if child == 0:
        _exec(service, launch, log=log, report=report)
    os.close(log)
    os.close(report)
    os.waitpid(child, 0)
    pid, _separator, failure = _report(outcome).partition(b"\n")

    def not_started(why: Message) -> NodeProcessError:
        command = repr(" ".join(service.command))
        return NodeProcessError(message("reason.process.not_started", command=command, folder=service.app_dir, why=why))

    if failure or not pid:
        said = failure.decode("utf-8", "replace")
        raise not_started(quoted(said) if said else message("reason.process.none_came"))
    process = procfs.read_process(int(pid), proc_root=proc_root)
    if process is None or not process.alive:
        raise not_started(message("reason.process.ended_see_log", log=service.log_file))
    # If the pid file cannot be written, do not fail: the service runs, and can also be found by its command.
    with contextlib.suppress(OSError):
        _record(process, service.pid_file, account=launch.account)
    return process


def _record(process: procfs.Process, path: str, *, account: pwd.struct_passwd) -> None:
    """Write the pid file. Raises OSError.

    If the service's user could replace a folder in the path, for example with a link, root acts as this user.
    """
    data = f"{process.pid}\n{process.start_ticks}\n".encode("ascii")
    with safe_open.acting(safe_open.rights_on(path, user=safe_open.account_rights(account.pw_name))):
        atomic_files.private_folder(os.path.dirname(path))
        atomic_files.write_atomically(path, data, mode=0o644)
