# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The temporary service of a restore drill: its scratch folder, its unit, and its first responses.

The unit runs the command of the service's own unit, with the restored database. sandbox.py isolates it from the
running service.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import tempfile
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups import sandbox
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.drill_order import Order
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    atomic_files,
    commands,
    redact,
    safe_open,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    labelled,
    message,
    of,
    quoted,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, socket_filter, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import http_probe, probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import files as sqlite_files
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import holders as sqlite_holders
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable

_UNIT_PROPERTIES = (
    *("LoadState", "User", "Group", "SupplementaryGroups", "WorkingDirectory", "ExecStart"),
    *("Environment", "EnvironmentFiles"),
)
_COMMAND = re.compile(r"path=(.*?) ; argv\[\]=(.*?) ; ignore_errors=")
_POLL = 0.1
_PROBE = 5.0  # time limit for one request, in seconds
# Maximum time in seconds from the first healthy response until the service opens the restored database.
_OPENED_WITHIN = 3.0
_LAST_LINE = 300


class Scratch(NamedTuple):
    """The paths of a drill's folders and files.

    folder: the folder that contains all others. Its owner is root. data: the folder for the restored database. Its
    owner is the service's user. output: the file for the service's output. empty: an unreadable file (see
    sandbox.Plan).
    """

    folder: str
    data: str
    output: str
    empty: str


def unit_name(unit: str) -> str:
    """Return the name of the transient unit for a service's unit."""
    return f"itsm-runbook-drill-{re.sub(r'[^A-Za-z0-9_.-]', '_', re.sub(r'[.]service$', '', unit))}.service"


def unit_properties(order: Order, *, run: commands.Runner) -> Dict[str, str]:
    """Return the properties of the service's unit. Raises BackupError if the unit does not exist or has no command."""
    try:
        properties = systemd.unit_properties(order.unit, _UNIT_PROPERTIES, run=run)
    except procfs.HostError as error:
        raise BackupError(error) from error
    if properties.get("LoadState") != "loaded":
        raise BackupError(message("reason.process.no_unit", unit=order.unit))
    if not _COMMAND.search(properties.get("ExecStart", "")):
        raise BackupError(message("reason.drill.no_command", unit=order.unit))
    return properties


def plan(
    order: Order,
    properties: Mapping[str, str],
    account: pwd.struct_passwd,
    scratch: Scratch,
    *,
    restored: str,
    most: int,
) -> sandbox.Plan:
    """Return the plan for the drill's unit: the command, user, folder and environment of the service's own unit.

    Only the path of the database is different.

    restored: the path of the restored database. most: the service is stopped if it writes more than this number of
    bytes.
    """
    found = _COMMAND.search(properties["ExecStart"])
    program, argv = (found.group(1), found.group(2).split(" ")) if found else ("", [])
    gid = account.pw_gid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(properties["Group"]).gr_gid if properties.get("Group") else gid
    groups = set(os.getgrouplist(account.pw_name, gid))
    for name in properties.get("SupplementaryGroups", "").split():
        with contextlib.suppress(KeyError):
            groups.add(grp.getgrnam(name).gr_gid)
    environment = {
        "PATH": procfs.STANDARD_PATH,
        "LANG": "C.UTF-8",
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        **env_file.unit_environment(properties),
        order.variable: restored,
    }
    # If the path is a link, SQLite creates the WAL next to the link's target.
    with safe_open.acting((account.pw_uid, account.pw_gid)):
        live = list(dict.fromkeys((order.database, os.path.realpath(order.database))))
    return sandbox.Plan(
        program=program,
        argv=argv,
        environment=environment,
        folder=properties.get("WorkingDirectory", "").lstrip("!-") or order.app_dir,
        uid=account.pw_uid,
        gid=gid,
        groups=sorted(groups),
        hidden=[path + suffix for path in live for suffix in sqlite_files.SUFFIXES.values()],
        writable=list(dict.fromkeys(order.writable)),
        empty=scratch.empty,
        read_only=[order.app_dir, os.path.dirname(order.database)],
        network=os.stat("/proc/self/ns/net").st_ino,
        socket_filter=(socket_filter.program() or b"").hex(),
        data=scratch.data,
        most=most,
    )


@contextlib.contextmanager
def scratch_folder(order: Order, account: pwd.struct_passwd, *, problems: List[Message]) -> Iterator[Scratch]:
    """Create a drill's folders, and remove them afterwards. Raises BackupError, OSError.

    Only the folder `data` is owned by the service's user. No links are followed when this folder is removed.

    problems: if the folders cannot be removed, a message is added to this list.
    """
    if account.pw_uid == 0:
        raise BackupError(message("reason.drill.as_root", unit=order.unit))
    prefix = f".{os.path.basename(order.state_dir.rstrip('/'))}-drill-"
    try:
        if safe_open.rights_on(order.folder) is not None:
            raise PermissionError(0, "accounts other than root can change it")
        _clear(order.folder, prefix)
        folder = tempfile.mkdtemp(prefix=prefix, dir=order.folder)
    except OSError as error:
        why = str(error.strerror)
        raise BackupError(message("reason.drill.not_prepared", folder=printable(order.folder), why=why)) from error
    try:
        made = Scratch(folder, f"{folder}/data", f"{folder}/output", f"{folder}/empty")
        os.chmod(folder, 0o711)  # noqa: S103 - the user must be able to enter the folder, but not to list it
        for path, mode in ((made.output, 0o600), (made.empty, 0)):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode))
        os.mkdir(made.data, 0o700)
        os.chown(made.data, account.pw_uid, account.pw_gid)
        with safe_open.acting((account.pw_uid, account.pw_gid)):
            reachable = os.access(made.data, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)
        if not reachable:
            names = {"user": account.pw_name, "folder": printable(order.folder)}
            raise BackupError(message("reason.drill.folder_closed", **names))
        yield made
    finally:
        atomic_files.discard_tree(folder)
        if os.path.lexists(folder):
            problems.append(message("reason.drill.left", folder=printable(folder)))


def _clear(parent: str, prefix: str) -> None:
    """Remove folders that killed drills left behind.

    The lock in listing.locked ensures that no other drill of this service is running.
    """
    for name in os.listdir(parent):
        if name.startswith(prefix):
            atomic_files.discard_tree(f"{parent}/{name}")


def await_health(order: Order, unit: str, scratch: Scratch, *, secrets: Mapping[str, str], run: commands.Runner) -> int:
    """Wait for the first healthy response, and return the service's process ID.

    unit: the transient unit. secrets: the service's environment. Its secret values are removed from error messages.
    Raises BackupError if the service exits, or if it is not healthy after order.timeout seconds.
    """
    give_up = time.monotonic() + order.timeout
    why: Message = message("reason.probe.gone")

    def probe() -> Any:
        return http_probe.probe(order.targets, timeout=_PROBE, ok_statuses=order.ok_statuses)

    while time.monotonic() < give_up:
        try:
            pid = sandbox.main_pid(unit, run=run)
        except procfs.HostError as error:
            raise BackupError(error) from error
        if pid is None:
            raise _ended(scratch, secrets)
        answers = sandbox.in_network_of(pid, probe, timeout=_PROBE + 1) if pid else None
        if answers is not None:
            wrong = [answer for answer in answers if answer["required"] and not answer["ok"]]
            if not wrong:
                return pid
            why = labelled(wrong[0]["name"], of(wrong[0], "error"))
        time.sleep(_POLL)
    said = _said(scratch, secrets)
    raise BackupError(message("reason.drill.not_healthy", seconds=f"{order.timeout:g}", why=why, said=said))


def check_open(order: Order, restored: str) -> None:
    """Raise BackupError if the service does not have the restored database open.

    restored: the path of the restored database.
    """
    until = time.monotonic() + _OPENED_WITHIN
    while True:
        _found, holders = sqlite_holders.survey(restored, user=order.user, deadline=until)
        if holders.found:
            return
        if time.monotonic() > until:
            raise BackupError(message("reason.drill.other_database", variable=order.variable))
        time.sleep(_POLL)


def log_in(login: probe_plan.Login, pid: int) -> Optional[Message]:
    """Log in to the service, which uses the restored database. Return None, or the reason if the login fails.

    pid: the service's process ID. Raises BackupError if the request cannot be sent.
    """

    def ask() -> Any:
        return http_probe.log_in(login, timeout=_PROBE)

    answer = sandbox.in_network_of(pid, ask, timeout=_PROBE + 1)
    if answer and answer["ok"]:
        return None
    return of(answer, "error") if answer else message("reason.probe.gone")


def _ended(scratch: Scratch, environment: Mapping[str, str]) -> BackupError:
    """Return the error for a service that exited before it was healthy."""
    said = _said(scratch, environment)
    text = str(said.values.get("text", ""))
    if text.startswith(sandbox.NOT_ISOLATED):
        return BackupError(message("reason.drill.not_isolated", why=text[len(sandbox.NOT_ISOLATED) :]))
    return BackupError(message("reason.drill.ended", said=said))


def _said(scratch: Scratch, environment: Mapping[str, str]) -> Message:
    """Return the last line of the service's output, without secrets."""
    with open(scratch.output, "rb") as stream:
        stream.seek(max(os.fstat(stream.fileno()).st_size - (1 << 16), 0))
        text = stream.read().decode("utf-8", "replace")
    lines = [
        line for line in redact.Redactor(redact.secret_values(environment)).text(text).splitlines() if line.strip()
    ]
    # Node prints the message of an exception above the stack trace.
    told = [line for line in lines if "Error" in line and not line.lstrip().startswith("at ")] or lines
    return quoted(told[-1][:_LAST_LINE]) if told else message("reason.drill.said_nothing")
