# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check each setting in the inventory separately."""

from __future__ import annotations

import os
import pwd
import re
import stat
from typing import List, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, handed_env_file, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings, process_start
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.preflight_findings import Findings

_NODE = ("node", "nodejs")
_NODE_TIMEOUT = 10.0
_NUMBER = re.compile(r"[0-9]{1,5}\Z")
_EXPORT = lazy(r"^[ \t]*export[ \t]+([A-Za-z_]\w*)=", re.MULTILINE)


def check_user(look: Findings) -> None:
    try:
        look.account = pwd.getpwnam(look.config.user)
    except (KeyError, ValueError):
        look.problem("user", message("reason.setting.no_user"))
        return
    if os.geteuid() not in (0, look.account.pw_uid):
        me = service_process.user_name(os.geteuid())
        look.problem("user", message("reason.setting.other_user", user=me))


def check_app_dir(look: Findings) -> bool:
    path = look.config.app_dir
    if not os.path.isabs(path):
        look.problem("app_dir", message("reason.setting.absolute"))
    elif "app_dir" in look.silent:
        look.problem("app_dir", preflight_findings.SILENT)
    elif not stat.S_ISDIR(look.mode_of(path)):
        look.problem("app_dir", message("reason.setting.no_folder"))
    else:
        return True
    return False


def check_ports(look: Findings) -> None:
    good = []
    for name in ("https_port", "http_port"):
        text = str(getattr(look.config, name))
        if not _NUMBER.match(text) or int(text) > 65535:
            look.problem(name, message("reason.setting.port"))
        else:
            good.append(int(text))
    if good == [0, 0]:
        look.problem("https_port", message("reason.setting.no_port"))
    elif len(good) == 2 and good[0] == good[1]:
        look.problem("http_port", message("reason.setting.same_port", port=good[0]))


def check_files(look: Findings) -> None:
    if look.config.manager != "process":  # the unit determines the log of the service
        _compare_log_file(look)
        return
    for name in ("log_file", "pid_file"):
        path = getattr(look.config, name)
        if name in look.silent:
            look.problem(name, preflight_findings.SILENT)
        elif not os.path.isabs(path) or stat.S_ISDIR(look.mode_of(path)):
            look.problem(name, message("reason.setting.file"))
    folder = os.path.dirname(look.config.log_file)
    if "log_file" not in look.silent and os.path.isabs(folder) and not stat.S_ISDIR(look.mode_of(folder)):
        look.problem("log_file", message("reason.setting.in_folder", folder=folder))


def _compare_log_file(look: Findings) -> None:
    path = look.config.log_file
    if "log_file" in look.silent:
        look.mismatch("log_file", None, message("reason.setting.disk_silent"))
    elif path and (not os.path.isabs(path) or stat.S_ISDIR(look.mode_of(path))):
        look.problem("log_file", message("reason.setting.file_or_none"))
    elif path and not look.mode_of(path):
        look.mismatch("log_file", None, message("reason.setting.journal_alone"))


def check_state_dir(look: Findings) -> None:
    path = look.config.state_dir
    if not os.path.isabs(path):
        look.problem("state_dir", message("reason.setting.absolute"))
        return
    if "state_dir" in look.silent:
        look.problem("state_dir", preflight_findings.SILENT)
        return
    nearest = os.path.normpath(path)
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        look.problem("state_dir", message("reason.setting.creatable", path=nearest))
    elif not os.access(nearest, os.W_OK | os.X_OK):
        # The service can still be recovered, because the incident's record can be kept in memory.
        look.state_dir_writable = False
    elif look.account is not None and look.account.pw_uid != 0 and _is_theirs(look, nearest):
        look.problem("state_dir", message("reason.setting.replaceable", user=look.config.user))


def _is_theirs(look: Findings, folder: str) -> bool:
    """Return True if the service's user could replace `folder`, or a folder above it, while root uses `folder`."""
    uid = look.account.pw_uid if look.account is not None else 0
    try:
        rights = safe_open.rights_on(folder)
    except PermissionError:  # more than one account could replace the folder, and this user may be one of them
        return True
    return rights is not None and rights[0] == uid


def check_environment_file(look: Findings) -> None:
    path = look.config.environment_file
    if not path:
        return
    if not os.path.isabs(path):
        look.problem("environment_file", message("reason.setting.absolute_or_none"))
        return
    if "environment_file" in look.silent:
        look.problem("environment_file", preflight_findings.SILENT)
        return
    try:
        if look.config.manager == "process" and look.account is not None:
            text = handed_env_file.read_text(path, account=look.account)
        else:
            text = env_file.read_text(path)
    except env_file.EnvironmentFileError as error:
        look.problem("environment_file", message("reason.setting.environment_file", why=error.told))
        return
    look.environment = env_file.parse_environment(text)
    exported = _EXPORT.findall(text)
    mode = stat.S_IMODE(look.mode_of(path))
    if mode & process_start.OPEN_TO_OTHERS and look.config.manager == "process":
        look.problem(
            "environment_file",
            message("reason.setting.environment_open", mode=f"{mode:04o}"),
        )
    lost = sorted(set(exported) - set(look.environment))
    if lost:
        look.mismatch(
            "environment_file",
            lost,
            message("reason.setting.export"),
        )


class Programs(NamedTuple):
    """The paths of the service's program and of node. None means that the program was not found."""

    service: Optional[str] = None
    node: Optional[str] = None


def find_programs(look: Findings) -> Programs:
    """Find the program of the service's command, and node."""
    command = look.config.command
    if not preflight_findings.usable_command(command):
        return Programs()

    def find() -> List[Optional[str]]:
        path = look.environment.get("PATH", procfs.STANDARD_PATH)
        names = [command[0]] if os.path.basename(command[0]) in _NODE else [command[0], "node"]
        return [procfs.find_program(name, app_dir=look.config.app_dir, path=path) for name in names]

    # The service's user may have chosen PATH.
    found = find() if look.rights is None else look.as_user(find) or [None]
    return Programs(found[0], found[-1])


def check_command(look: Findings, programs: Programs, *, app_dir: bool) -> None:
    command = look.config.command
    if not preflight_findings.usable_command(command):
        look.problem("command", message("reason.setting.command"))
        return
    is_node = os.path.basename(command[0]) in _NODE
    path = look.environment.get("PATH", procfs.STANDARD_PATH)
    program, node = programs
    if program is None:
        look.problem("command", message("reason.setting.no_program", program=repr(command[0]), path=path))
    if node is not None:
        _ask_node(look, node, path=path)
    elif program is not None:
        look.problem("command", message("reason.setting.no_node", path=path))
    if app_dir and is_node and not any(_is_script(look, word) for word in command[1:]):
        look.problem("command", message("reason.setting.no_script", folder=look.config.app_dir))


def _is_script(look: Findings, word: str) -> bool:
    return stat.S_ISREG(look.mode_of(preflight_findings.absolute(word, app_dir=look.config.app_dir)))


def _ask_node(look: Findings, node: str, *, path: str) -> None:
    # Run node as the service's user, because this user may be able to change the program. If the user does not exist,
    # do not run node. A program that is found through the service's environment must not run as root.
    if os.geteuid() == 0 and look.account is None:
        return
    user = look.config.user if os.geteuid() == 0 else None
    try:
        done = look.run([node, "--version"], timeout=_NODE_TIMEOUT, env={"PATH": path}, user=user)
    except commands.CommandError as error:
        look.problem("command", message("reason.setting.node_not_run", why=error.told))
        return
    if not done.ok or not done.stdout.startswith("v"):
        said = (done.stderr.strip().splitlines() or ["no version"])[0]
        look.problem("command", message("reason.setting.node_said", node=node, said=said))
        return
    look.node = {"path": node, "version": done.stdout.strip().lstrip("v")}
