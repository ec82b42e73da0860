# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the service: its configuration, its unit, its start, and its code."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import NOTHING, Part
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import says

SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 9: "KILL", 11: "SEGV", 15: "TERM"}


class Service(Part):
    """The configuration of the service. An unused port is 0."""

    app_dir: str = ""
    app_dir_exists: Optional[bool] = None
    manager: str = ""
    unit: str = ""
    pid_file_exists: Optional[bool] = None
    https_port: int = 0
    http_port: int = 0
    health_path: str = ""


class Unit(Part):
    """The unit as systemd describes it. If the service has no unit, all facts are unknown."""

    name: Optional[str] = None
    load_state: Optional[str] = None
    load_error: Optional[str] = None
    active_state: Optional[str] = None
    sub_state: Optional[str] = None
    result: Optional[str] = None
    exit_code: Optional[str] = None
    exit_status: Optional[int] = None
    main_pid: Optional[int] = None
    last_pid: Optional[int] = None
    restarts: int = 0
    restart_delay: str = ""
    memory_max: Optional[int] = None
    memory_peak: Optional[int] = None
    started_at: str = ""
    active_exit_at: Optional[str] = None
    exited_at: Optional[str] = None

    @property
    def exited(self) -> bool:
        """True if the unit's process exited with an error and was not killed by a signal."""
        return self.exit_code == "exited" and self.exit_status != 0

    @property
    def shown(self) -> str:
        """The command that shows the unit, as the source of evidence."""
        return f"systemctl show {self.name}"

    def ending(self) -> List[Dict[str, str]]:
        """Return the unit's state and its process's exit as evidence, or [] if the state is unknown."""
        if self.result is None:
            return []
        text = f"{self.active_state} ({self.sub_state}), Result={self.result}"
        if self.exit_code:
            status: Any = self.exit_status
            name = SIGNALS.get(status or 0, status) if self.exit_code != "exited" else status
            text += f", main process {self.exit_code}, status {name}"
        return [says(self.shown, text)]


class Environment(Part):
    """The service's environment. If it is unknown which variables are missing, required_missing is empty."""

    required_missing: Sequence[str] = ()
    problems: Sequence[str] = ()
    max_old_space_size: Optional[int] = None


class Start(Part):
    """The state of the files and accounts needed to start the service.

    A fault is a reason why systemd cannot run the unit.
    """

    environment_files: Sequence[Mapping[str, Any]] = ()
    program: Optional[str] = None
    program_fault: Optional[str] = None
    folder_fault: Optional[str] = None
    user_fault: Optional[str] = None
    group_fault: Optional[str] = None
    messages: Mapping[str, Any] = NOTHING
    changed_at: Optional[str] = None


class Node(Part):
    """Node and the script that it runs."""

    path: Optional[str] = None
    version: Optional[str] = None
    engines: Optional[str] = None
    engines_ok: Optional[bool] = None
    script: Optional[str] = None
    script_exists: Optional[bool] = None
    modules_exist: Optional[bool] = None
    dependencies: int = 0


class Dependencies(Part):
    """The installed packages, compared with the lock file."""

    ok: Optional[bool] = None
    missing: Sequence[str] = ()
    unloadable: Sequence[str] = ()
    invalid: Sequence[str] = ()
    reasons: Sequence[str] = ()


class Hold(Part):
    """The current hold, and the reason why it cannot be released.

    replaced: True if the database is newer than the database with the last good row counts. created_at: the time when
    the database was created. may_be_another: True if the database was not found at first, and the current database was
    not recognized.

    rows_collapsed: True if so many rows are missing that normal operation cannot explain the loss. rows_missing: the
    tables with fewer rows than in the last good count, as [rows before, rows now].
    """

    held: Mapping[str, Any] = NOTHING
    kept_by: str = ""
    replaced: Optional[bool] = None
    may_be_another: bool = False
    rows_collapsed: bool = False
    rows_missing: Mapping[str, Any] = NOTHING
    created_at: str = ""
    messages: Mapping[str, Any] = NOTHING
