# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of a preflight: problems, mismatches, and disks that do not respond."""

from __future__ import annotations

import functools
import os
import pwd
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import (
    commands,
    parallel,
    path_status,
    safe_open,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages

# Time limit for a disk, in seconds. If a disk does not respond in time, its files are not read, because a read might
# hang forever.
_DISK_TIMEOUT = 3.0
# Time limit in seconds for all disks together. If all disks respond in this time, only one child process is needed.
_DISKS_TIMEOUT = 0.5
SILENT = message("reason.setting.silent", seconds=f"{_DISK_TIMEOUT:g}")
_PATHS = ("app_dir", "environment_file", "db_path", "log_file", "state_dir", "pid_file")


# Suboptions of the "service" option in the "settings" documentation fragment. The suboptions accept any value,
# because an invalid value is reported as a result, not as an error.
SERVICE_OPTIONS: Dict[str, Dict[str, Any]] = {
    "app_dir": {"type": "str", "required": True},
    "user": {"type": "str", "required": True},
    "manager": {"type": "str", "required": True},
    "unit": {"type": "str", "default": ""},
    "command": {"type": "raw", "required": True},
    "environment_file": {"type": "str", "default": ""},
    "log_file": {"type": "str", "required": True},
    "pid_file": {"type": "str", "default": ""},
}
# Options from the "settings" documentation fragment.
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "service": {"type": "dict", "required": True, "options": SERVICE_OPTIONS},
    "db_path": {"type": "str", "required": True},
    "db_path_variable": {"type": "str", "default": "DATABASE_PATH"},
    "state_dir": {"type": "str", "default": "/var/lib/itsm-runbook"},
    "https_port": {"type": "raw", "required": True},
    "http_port": {"type": "raw", "required": True},
}


class Config(NamedTuple):
    """The service's settings from the inventory, before they are checked.

    The variable nexus_NAME sets the field NAME.
    """

    app_dir: str
    user: str
    manager: str
    unit: str
    command: Any
    environment_file: str
    db_path: str
    db_path_variable: str
    log_file: str
    state_dir: str
    pid_file: str
    https_port: Any
    http_port: Any


def absolute(path: str, *, app_dir: str) -> str:
    return os.path.normpath(os.path.join(app_dir, path))


def usable_command(command: Any) -> bool:
    return isinstance(command, list) and bool(command) and all(isinstance(word, str) and word for word in command)


def _in_words(told: Message) -> Dict[str, Any]:
    return {"message": messages.english(told), "messages": messages.plain(message=told)}


class Findings:
    """The problems, mismatches and resolved values that one check of the host finds."""

    def __init__(self, config: Config, *, run: commands.Runner, proc_root: str) -> None:
        self.config = config
        self.problems: List[Dict[str, Any]] = []
        self.mismatches: List[Dict[str, Any]] = []
        self.node: Optional[Dict[str, Any]] = None
        self.account: Optional[pwd.struct_passwd] = None
        self.unit_user: Optional[str] = None
        self.environment: Dict[str, str] = {}
        self.main_pid = 0
        self.silent: Set[str] = set()
        self.state_dir_writable = True
        self.run = run
        self.proc_root = proc_root

    def problem(self, name: str, why: Message) -> None:
        value, variable = getattr(self.config, name), f"nexus_{name}"
        told = message("reason.setting.is", variable=variable, value=repr(value), why=why)
        self.problems.append({"variable": variable, "value": value, **_in_words(told)})

    def mismatch(self, name: str, found: Any, why: Message) -> None:
        value = getattr(self.config, name)
        self.mismatches.append({"variable": f"nexus_{name}", "value": value, "found": found, **_in_words(why)})

    @property
    def rights(self) -> safe_open.Rights:
        """The account that must examine paths that the service's user can choose or replace."""
        try:
            return safe_open.account_rights(self.config.user)
        except ValueError:  # the name contains a null byte
            return None

    def mode_of(self, path: str) -> int:
        """Return the mode of a file (0 if there is none). Links of the service's user are followed as this user."""
        return path_status.mode_of(path, user=self.rights)

    def as_user(self, question: Callable[[], Any]) -> Any:
        """Return the result of a check of paths that the service's user chose, or None if the check takes too long.

        The check runs with this user's rights in a process with a time limit, because this user can mount a file system
        that never responds. Do not call this function while a thread is running.
        """

        def ask() -> Any:
            with safe_open.acting(self.rights):
                return question()

        return parallel.ask({"paths": ask}, timeout=_DISK_TIMEOUT)["paths"].value

    def ask_disks(self) -> None:
        """Record the paths on disks that do not respond. Call this function before any thread is started."""
        paths = {name: getattr(self.config, name) for name in _PATHS}
        probes = {
            name: functools.partial(self.mode_of, absolute(path, app_dir=self.config.app_dir))
            for name, path in paths.items()
            if path and "\0" not in path
        }
        together = {"all": lambda: [probe() for probe in probes.values()]}
        if parallel.ask(together, timeout=_DISKS_TIMEOUT)["all"].error is None:
            return
        answers = parallel.ask(probes, timeout=_DISK_TIMEOUT)
        self.silent = {name for name, answer in answers.items() if answer.error == parallel.TIMED_OUT}
