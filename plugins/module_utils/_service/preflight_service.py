# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the inventory against the unit and the running service's settings."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import threading
from typing import Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs, systemd
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import preflight_findings
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.preflight_findings import Findings

_UNIT_PROPERTIES = ("LoadState", "User", "WorkingDirectory", "ExecStart", "MainPID", "Environment", "EnvironmentFiles")
_ARGV = lazy(r"argv\[\]=(.*?) ; ignore_errors=")


class UnitQuestion(threading.Thread):
    """A query to systemd about the unit. The query runs while the other settings are checked."""

    def __init__(self, unit: str, *, run: commands.Runner) -> None:
        super().__init__(daemon=True)
        self.properties: Dict[str, str] = {}
        self.error: Optional[Message] = None
        self._unit = unit
        self._ask = run

    def run(self) -> None:
        try:
            self.properties = systemd.unit_properties(self._unit, _UNIT_PROPERTIES, run=self._ask)
        except procfs.HostError as error:
            self.error = error.told


def check_unit(look: Findings, asked: UnitQuestion) -> None:
    asked.join()
    if asked.error is not None:
        look.problem("manager", message("reason.setting.no_systemd", why=asked.error))
        return
    properties = asked.properties
    if properties.get("LoadState") != "loaded":
        look.problem("unit", message("reason.setting.unit_state", state=properties.get("LoadState", "unknown")))
        return
    _compare_unit(look, properties)
    look.main_pid = service_process.main_pid(properties)
    look.environment.update(env_file.unit_environment(properties))


def _compare_unit(look: Findings, properties: Mapping[str, str]) -> None:
    folder = properties.get("WorkingDirectory", "").lstrip("!-")
    if "app_dir" not in look.silent and os.path.realpath(folder) != os.path.realpath(look.config.app_dir):
        look.mismatch("app_dir", folder, message("reason.setting.other_folder"))
    user = properties.get("User", "") or "root"
    with contextlib.suppress(KeyError):
        look.unit_user = pwd.getpwnam(user).pw_name
    if user not in (look.config.user, str(look.account.pw_uid) if look.account else ""):
        look.mismatch("user", user, message("reason.setting.other_account"))
    argv = _ARGV.search(properties.get("ExecStart", ""))
    if argv and preflight_findings.usable_command(look.config.command):
        words = argv.group(1).split(" ")
        wanted = list(look.config.command)
        same = os.path.basename(words[0]) == os.path.basename(wanted[0]) and " ".join(words[1:]) == " ".join(wanted[1:])
        if not same:
            look.mismatch("command", words[0], message("reason.setting.other_command"))
    lines = properties.get("EnvironmentFiles", "").splitlines()
    files = [name for line in lines for name in env_file.files_of(line)]
    mine = look.config.environment_file
    if mine and files and mine not in files:
        look.mismatch("environment_file", files, message("reason.setting.other_files"))


def database_path(look: Findings) -> Optional[str]:
    """Return the absolute path of the database, or None if the path cannot be determined.

    The sources are the running process, its configuration and the inventory, in this order.
    """
    wanted = look.config.db_path
    if not wanted or "\0" in wanted:
        look.problem("db_path", message("reason.setting.database"))
        return None
    if "db_path" in look.silent:
        look.problem("db_path", preflight_findings.SILENT)
        return None
    environment = _running_environment(look)
    wanted = preflight_findings.absolute(wanted, app_dir=look.config.app_dir)
    used = wanted
    variable = look.config.db_path_variable
    if variable and not env_file.NAME.match(variable):
        look.problem("db_path_variable", message("reason.setting.variable"))
    elif environment.get(variable):
        used = preflight_findings.absolute(environment[variable], app_dir=look.config.app_dir)
    other = _leads_elsewhere(look, used=used, wanted=wanted)
    if other:
        look.mismatch("db_path", used, message("reason.setting.other_database", name=variable))
    if "NODE_ENV" not in environment:
        look.mismatch("environment_file", None, message("reason.setting.no_node_env"))
    if stat.S_ISDIR(look.mode_of(wanted)):
        look.problem("db_path", message("reason.setting.a_folder", path=wanted))
    elif other and _is_folder(look, used):
        look.problem("db_path", message("reason.setting.a_folder", path=used))
    if other and not _may_be_theirs(look, used):
        look.problem(
            "db_path",
            message("reason.setting.not_theirs", name=variable, path=used, user=look.config.user),
        )
    return used


def _leads_elsewhere(look: Findings, *, used: str, wanted: str) -> bool:
    """Return True if two paths do not lead to the same file. used: a path that the service's user can choose."""
    if used == wanted:
        return False
    with contextlib.suppress(OSError):
        wanted = safe_open.follow_ours(wanted)
    return look.as_user(lambda: os.path.realpath(used) != os.path.realpath(wanted)) is not False


def _is_folder(look: Findings, path: str) -> bool:
    return look.as_user(lambda: os.path.isdir(path)) is True


def _may_be_theirs(look: Findings, path: str) -> bool:
    """Return True if the service's user can write to a file or its folder, or if that is unknown.

    The service's user may be able to change the service's settings. Such a change must not make root operate on other
    accounts' files. This user must not learn from the result whether a file exists in another account's folder.
    """
    if look.rights is None:
        return True

    def writable() -> bool:
        missing = True
        for place in (path, os.path.dirname(os.path.realpath(path))):
            try:
                os.stat(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return False
            if os.access(place, os.W_OK, effective_ids=True):
                return True
            missing = False
        return missing

    return look.as_user(writable) is True


def _running_environment(look: Findings) -> Mapping[str, str]:
    """Return the running service's environment.

    If it cannot be read, return the environment that the service would have if it were started now.
    """
    for pid in _running(look):
        environment = procfs.environment(pid, proc_root=look.proc_root)
        if environment:
            return environment
    return look.environment


def _running(look: Findings) -> List[int]:
    if look.main_pid or look.account is None or not preflight_findings.usable_command(look.config.command):
        return [look.main_pid] if look.main_pid else []
    service = service_process.Service(
        app_dir=look.config.app_dir,
        command=look.config.command,
        user=look.config.user,
        pid_file="" if "pid_file" in look.silent else look.config.pid_file,
    )
    try:
        return [process.pid for process in service_process.find(service, proc_root=look.proc_root)]
    except service_process.NodeProcessError:
        return []
