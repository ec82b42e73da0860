# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what the inventory says of the service is true on this host, found out before anything is touched.

What cannot be is a problem. Where the service itself uses something else than the inventory says (another database,
another command), that is a mismatch: what the service uses is believed, and told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pwd
import re
import stat
import threading
from typing import Any, Dict, List, Mapping, Optional, Set

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, parallel, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file, procfs
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process as service_process
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import process_start, unit_dropin

MANAGERS = ("systemd", "process")
_UNIT_PROPERTIES = ("LoadState", "User", "WorkingDirectory", "ExecStart", "MainPID", "Environment", "EnvironmentFiles")
_NODE = ("node", "nodejs")
_NODE_TIMEOUT = 10.0
# A disk of which nothing is heard by then is not looked at: whoever does waits until its server is back.
_DISK_TIMEOUT = 3.0
_SILENT = f"must be on a disk that answers; this one has not within {_DISK_TIMEOUT:g} s"
_PATHS = ("app_dir", "environment_file", "db_path", "log_file", "state_dir", "pid_file")
_ARGV = re.compile(r"argv\[\]=(.*?) ; ignore_errors=")
_NUMBER = re.compile(r"[0-9]{1,5}\Z")
_EXPORT = re.compile(r"^[ \t]*export[ \t]+([A-Za-z_]\w*)=", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Config:
    """The inventory's words on the service, unchecked: each field is the variable of that name after C(nexus_)."""

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


class _Thread(threading.Thread):
    """Asks systemd about the unit while other questions are being asked."""

    def __init__(self, unit: str, *, run: commands.Runner) -> None:
        super().__init__(daemon=True)
        self.properties: Dict[str, str] = {}
        self.error: Optional[str] = None
        self._unit = unit
        self._ask = run

    def run(self) -> None:
        try:
            self.properties = procfs.unit_properties(self._unit, _UNIT_PROPERTIES, run=self._ask)
        except procfs.ProcfsError as error:
            self.error = str(error)


def _absolute(path: str, *, app_dir: str) -> str:
    return os.path.normpath(os.path.join(app_dir, path))


def _usable_command(command: Any) -> bool:
    return isinstance(command, list) and bool(command) and all(isinstance(word, str) and word for word in command)


class _Preflight:
    """One look at the host: collects problems, mismatches and what was resolved."""

    def __init__(self, config: Config, *, run: commands.Runner, proc_root: str) -> None:
        self.config = config
        self.problems: List[Dict[str, Any]] = []
        self.mismatches: List[Dict[str, Any]] = []
        self.node: Optional[Dict[str, Any]] = None
        self.account: Optional[pwd.struct_passwd] = None
        self.unit_user: Optional[str] = None
        self.environment: Dict[str, str] = {}
        self._main_pid = 0
        self.silent: Set[str] = set()
        self.state_dir_writable = True
        self._run = run
        self._proc_root = proc_root

    def problem(self, name: str, message: str) -> None:
        value = getattr(self.config, name)
        self.problems.append(
            {"variable": f"nexus_{name}", "value": value, "message": f"nexus_{name} is {value!r}: {message}"}
        )

    def mismatch(self, name: str, found: Any, message: str) -> None:
        value = getattr(self.config, name)
        self.mismatches.append({"variable": f"nexus_{name}", "value": value, "found": found, "message": message})

    def ask_disks(self) -> None:
        """Note what is on a disk that does not answer. To be called before there are threads."""
        paths = {name: getattr(self.config, name) for name in _PATHS}
        probes = {
            name: functools.partial(os.path.exists, _absolute(path, app_dir=self.config.app_dir))
            for name, path in paths.items()
            if path and "\0" not in path
        }
        answers = parallel.ask(probes, timeout=_DISK_TIMEOUT)
        self.silent = {name for name, answer in answers.items() if answer.error == parallel.TIMED_OUT}

    # What the inventory says, on its own

    def check_user(self) -> None:
        try:
            self.account = pwd.getpwnam(self.config.user)
        except (KeyError, ValueError):
            self.problem("user", "must be a user of this host; there is none of that name")
            return
        if os.geteuid() not in (0, self.account.pw_uid):
            me = service_process.user_name(os.geteuid())
            self.problem("user", f"must be the user this runs as ({me}), or this must run as root (ansible_become)")

    def check_app_dir(self) -> bool:
        path = self.config.app_dir
        if not os.path.isabs(path):
            self.problem("app_dir", "must be an absolute path")
        elif "app_dir" in self.silent:
            self.problem("app_dir", _SILENT)
        elif not os.path.isdir(path):
            self.problem("app_dir", "must be a folder on this host; it does not exist or is none")
        else:
            return True
        return False

    def check_ports(self) -> None:
        good = []
        for name in ("https_port", "http_port"):
            text = str(getattr(self.config, name))
            if not _NUMBER.match(text) or int(text) > 65535:
                self.problem(name, "must be a port, a whole number from 1 to 65535, or 0 for none")
            else:
                good.append(int(text))
        if good == [0, 0]:
            self.problem("https_port", "must be a port, since nexus_http_port is 0 as well")
        elif len(good) == 2 and good[0] == good[1]:
            self.problem("http_port", f"must not be the port of nexus_https_port ({good[0]})")

    def check_files(self) -> None:
        if self.config.manager != "process":  # the unit says where output goes; the log is only read where it is there
            self.compare_log_file()
            return
        for name in ("log_file", "pid_file"):
            path = getattr(self.config, name)
            if name in self.silent:
                self.problem(name, _SILENT)
            elif not os.path.isabs(path) or os.path.isdir(path):
                self.problem(name, "must be the absolute path of a file")
        folder = os.path.dirname(self.config.log_file)
        if "log_file" not in self.silent and os.path.isabs(folder) and not os.path.isdir(folder):
            self.problem("log_file", f"must be in a folder that exists; {folder} does not")

    def compare_log_file(self) -> None:
        path = self.config.log_file
        if "log_file" in self.silent:
            self.mismatch("log_file", None, "its disk does not answer")
        elif path and (not os.path.isabs(path) or os.path.isdir(path)):
            self.problem("log_file", "must be the absolute path of a file, or empty for none")
        elif path and not os.path.exists(path):
            self.mismatch(
                "log_file", None, "there is no such file; the unit's output is in the journal alone, it seems"
            )

    def check_state_dir(self) -> None:
        path = self.config.state_dir
        if not os.path.isabs(path):
            self.problem("state_dir", "must be an absolute path")
            return
        if "state_dir" in self.silent:
            self.problem("state_dir", _SILENT)
            return
        nearest = os.path.normpath(path)
        while not os.path.lexists(nearest):
            nearest = os.path.dirname(nearest)
        if not os.path.isdir(nearest):
            self.problem("state_dir", f"must be a folder, or one that can be created; {nearest} is none")
        elif not os.access(nearest, os.W_OK | os.X_OK):
            # No reason to leave a service down: what would be kept there is kept in memory.
            self.state_dir_writable = False
        elif self.account is not None and self.account.pw_uid != 0 and self._is_theirs(nearest):
            self.problem(
                "state_dir", f"must be nowhere that user {self.config.user} may put another folder in its place"
            )

    def _is_theirs(self, folder: str) -> bool:
        """Whether the service's user could exchange a folder, or one above it, under root's hands."""
        uid = self.account.pw_uid if self.account is not None else 0
        try:
            rights = safe_open.rights_on(folder)
        except PermissionError:  # several accounts could, and this one may be among them
            return True
        return rights is not None and rights[0] == uid

    def check_environment_file(self) -> None:
        path = self.config.environment_file
        if not path:
            return
        if not os.path.isabs(path):
            self.problem("environment_file", "must be an absolute path, or empty for none")
            return
        if "environment_file" in self.silent:
            self.problem("environment_file", _SILENT)
            return
        try:
            text = env_file.read_text(path)
        except env_file.EnvironmentFileError as error:
            self.problem("environment_file", f"must be a readable file of KEY=VALUE lines: {error}")
            return
        self.environment = env_file.parse_environment(text)
        exported = _EXPORT.findall(text)
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & process_start.OPEN_TO_OTHERS and self.config.manager == "process":
            self.problem(
                "environment_file",
                f"must not be readable or writable by group or others, since it holds secrets (0600); it is {mode:04o}",
            )
        lost = sorted(set(exported) - set(self.environment))
        if lost:
            self.mismatch(
                "environment_file",
                lost,
                "lines that begin with \"export\" set nothing: this is systemd's format, not a shell's",
            )

    def check_command(self, *, app_dir: bool) -> None:
        command = self.config.command
        if not _usable_command(command):
            self.problem(
                "command", "must be a list of the program and its arguments, such as [node, backend/server.js]"
            )
            return
        is_node = os.path.basename(command[0]) in _NODE
        path = self.environment.get("PATH", procfs.STANDARD_PATH)
        program = procfs.find_program(command[0], app_dir=self.config.app_dir, path=path)
        if program is None:
            self.problem("command", f"must begin with a program of this host; there is no {command[0]!r} in {path}")
        node = program if is_node else procfs.find_program("node", app_dir=self.config.app_dir, path=path)
        if node is not None:
            self.ask_node(node, path=path)
        elif program is not None:
            self.problem("command", f"needs Node.js; there is no 'node' in {path}")
        if app_dir and is_node and not any(self._is_script(word) for word in command[1:]):
            self.problem("command", f"must name a script that exists in {self.config.app_dir}")

    def _is_script(self, word: str) -> bool:
        return os.path.isfile(_absolute(word, app_dir=self.config.app_dir))

    def ask_node(self, node: str, *, path: str) -> None:
        # As the service's user: the program may be one that this user can write. Without one, by nobody: what the
        # service's environment says is found first is not run as root.
        if os.geteuid() == 0 and self.account is None:
            return
        user = self.config.user if os.geteuid() == 0 else None
        try:
            done = self._run([node, "--version"], timeout=_NODE_TIMEOUT, env={"PATH": path}, user=user)
        except commands.CommandError as error:
            self.problem("command", f"must begin with a Node.js that runs: {error}")
            return
        if not done.ok or not done.stdout.startswith("v"):
            said = (done.stderr.strip().splitlines() or ["no version"])[0]
            self.problem("command", f"must begin with a Node.js that runs; {node} --version said: {said}")
            return
        self.node = {"path": node, "version": done.stdout.strip().lstrip("v")}

    # What the unit says of the same

    def check_unit(self, asked: _Thread) -> None:
        asked.join()
        if asked.error is not None:
            self.problem("manager", f"systemd must answer on this host, or the manager be process: {asked.error}")
            return
        properties = asked.properties
        if properties.get("LoadState") != "loaded":
            self.problem("unit", f"must be a loaded unit of this host; it is {properties.get('LoadState', 'unknown')}")
            return
        self.compare_unit(properties)
        self._main_pid = service_process.main_pid(properties)
        self.environment.update(env_file.unit_environment(properties))

    def compare_unit(self, properties: Mapping[str, str]) -> None:
        folder = properties.get("WorkingDirectory", "").lstrip("!-")
        if "app_dir" not in self.silent and os.path.realpath(folder) != os.path.realpath(self.config.app_dir):
            self.mismatch("app_dir", folder, "the unit has another WorkingDirectory")
        user = properties.get("User", "") or "root"
        with contextlib.suppress(KeyError):
            self.unit_user = pwd.getpwnam(user).pw_name
        if user not in (self.config.user, str(self.account.pw_uid) if self.account else ""):
            self.mismatch("user", user, "the unit runs as another User")
        argv = _ARGV.search(properties.get("ExecStart", ""))
        if argv and _usable_command(self.config.command):
            words = argv.group(1).split(" ")
            wanted = list(self.config.command)
            same = os.path.basename(words[0]) == os.path.basename(wanted[0]) and " ".join(words[1:]) == " ".join(
                wanted[1:]
            )
            if not same:
                self.mismatch("command", words[0], "the unit's ExecStart is another command")
        lines = properties.get("EnvironmentFiles", "").splitlines()
        files = [name for line in lines for name in env_file.files_of(line)]
        mine = self.config.environment_file
        if mine and files and mine not in files:
            self.mismatch("environment_file", files, "the unit reads other environment files")

    # What the service really uses

    def database_path(self) -> Optional[str]:
        """Return the database's absolute path by the running process, else its configuration, else the inventory."""
        wanted = self.config.db_path
        if not wanted or "\0" in wanted:
            self.problem("db_path", "must be the path of the database file")
            return None
        if "db_path" in self.silent:
            self.problem("db_path", _SILENT)
            return None
        environment = self.running_environment()
        wanted = _absolute(wanted, app_dir=self.config.app_dir)
        used = wanted
        variable = self.config.db_path_variable
        if variable and not env_file.NAME.match(variable):
            self.problem("db_path_variable", "must be the name of an environment variable, or empty")
        elif environment.get(variable):
            used = _absolute(environment[variable], app_dir=self.config.app_dir)
        if os.path.realpath(used) != os.path.realpath(wanted):
            self.mismatch("db_path", used, f"the service uses another database, by {variable} in its environment")
        if "NODE_ENV" not in environment:
            self.mismatch(
                "environment_file", None, "NODE_ENV is not set for the service: knex takes it for development"
            )
        for path in (wanted, used):
            if os.path.isdir(path):
                self.problem("db_path", f"must be the path of a file; {path} is a folder")
                break
        if os.path.realpath(used) != os.path.realpath(wanted) and not self._may_be_theirs(used):
            self.problem(
                "db_path",
                f"must be the database of the service; by {variable} that is {used}, where user {self.config.user} "
                "may write neither to the file nor beside it",
            )
        return used

    def _may_be_theirs(self, path: str) -> bool:
        """Whether the service's user can work on a file; true where we can not tell.

        What the service says of itself may be said by its user, who is not to have us work on the files of others.
        """
        account = self.account
        if account is None or os.geteuid() != 0:
            return True
        places = [place for place in (path, os.path.dirname(os.path.realpath(path))) if os.path.exists(place)]
        with safe_open.acting((account.pw_uid, account.pw_gid)):
            return not places or any(os.access(place, os.W_OK, effective_ids=True) for place in places)

    def running_environment(self) -> Mapping[str, str]:
        """Return the environment of the service's process, where one runs and may be read, else what it would get."""
        for pid in self._running():
            environment = procfs.environment(pid, proc_root=self._proc_root)
            if environment:
                return environment
        return self.environment

    def _running(self) -> List[int]:
        if self._main_pid or self.account is None or not _usable_command(self.config.command):
            return [self._main_pid] if self._main_pid else []
        service = service_process.Service(
            app_dir=self.config.app_dir,
            command=self.config.command,
            user=self.config.user,
            pid_file="" if "pid_file" in self.silent else self.config.pid_file,
        )
        try:
            return [process.pid for process in service_process.find(service, proc_root=self._proc_root)]
        except service_process.NodeProcessError:
            return []


def warnings(checked: Mapping[str, Any], *, state_dir: str) -> List[str]:
    """Return what a person must know of a result of M(examine) although it stops nothing."""
    if checked["resolved"]["state_dir_writable"]:
        return []
    return [
        f"nexus_state_dir is {state_dir!r}: it cannot be written to. The incident's record is kept in memory, where a "
        "reboot loses it. Make the folder writable; the next run that finds the service healthy moves the record there."
    ]


def examine(config: Config, *, run: commands.Runner = commands.run, proc_root: str = "/proc") -> Dict[str, Any]:
    """Compare the inventory with this host, change nothing, and return what the module returns."""
    look = _Preflight(config, run=run, proc_root=proc_root)
    look.ask_disks()
    asked: Optional[_Thread] = None
    if config.manager not in MANAGERS:
        look.problem("manager", f"must be one of {', '.join(MANAGERS)}")
    elif config.manager == "systemd":
        if config.unit:
            asked = _Thread(config.unit, run=run)
            asked.start()
        else:
            look.problem("unit", "must be the name of a unit with nexus_manager=systemd")
    app_dir = look.check_app_dir()
    look.check_user()
    look.check_environment_file()
    look.check_command(app_dir=app_dir)
    look.check_files()
    look.check_state_dir()
    look.check_ports()
    if asked is not None:
        look.check_unit(asked)
    database_path = look.database_path() if app_dir else None
    return {
        "ok": not look.problems,
        "problems": look.problems,
        "mismatches": look.mismatches,
        "silent": sorted(f"nexus_{name}" for name in look.silent),
        "resolved": {
            "node": look.node,
            "database_path": database_path,
            "user": look.account.pw_name if look.account else look.unit_user,
            "uid": look.account.pw_uid if look.account else None,
            "gid": look.account.pw_gid if look.account else None,
            "environment_names": sorted(look.environment),
            "state_dir_writable": look.state_dir_writable,
            "https_suspended": config.manager == "systemd" and unit_dropin.is_there(config.unit, unit_dropin.HTTPS),
        },
    }
