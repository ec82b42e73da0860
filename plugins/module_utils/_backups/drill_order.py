# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of a restore drill, and their checks."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._backups.messages import BackupError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import env_file
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite.files import printable


class Order(NamedTuple):
    """The parameters of a restore drill.

    unit: the service's unit. user: the service's user. app_dir: the application's folder. database: the live database.
    variable: the environment variable with the path of the database. configured: the path of the database in the
    inventory, or "" if it is `database`. backup: the backup to restore, or "" for the
    newest one that can be restored. dirs, patterns: the folders and file names of backups. writable: folders to which
    the service writes in addition to its database. folder: the parent of the scratch folder. memory: memory limit, in
    bytes. timeout: time limit for the start, in seconds. time_budget: time limit for one check of a database, in
    seconds. litestream_config: Litestream's configuration file, or "" to ignore replicas. run: the ID of the run that
    includes the drill.
    """

    unit: str
    user: str
    app_dir: str
    database: str
    variable: str
    targets: Sequence[probe_plan.Target]
    state_dir: str
    folder: str
    ok_statuses: Sequence[str] = ("ok",)
    login: Optional[probe_plan.Login] = None
    backup: str = ""
    configured: str = ""
    dirs: Sequence[str] = ()
    patterns: Sequence[str] = ()
    writable: Sequence[str] = ()
    memory: int = 1 << 30
    timeout: float = 120.0
    time_budget: float = 300.0
    litestream_config: str = ""
    litestream_program: str = "litestream"
    run: str = ""


def check(order: Order) -> None:
    """Raise BackupError or HealthError if a setting is invalid."""
    for name, value in (("path", order.database), ("scratch_dir", order.folder), ("app_dir", order.app_dir)):
        if not os.path.isabs(value) or "\0" in value:
            raise BackupError(f"{name} must be an absolute path, not {printable(value)!r}")
    for name, seconds in (("timeout", order.timeout), ("time_budget", order.time_budget)):
        if not 0 < seconds <= 86400:
            raise BackupError(f"{name} must be above 0 and at most 86400 seconds, not {seconds:g}")
    if not env_file.NAME.match(order.variable):
        raise BackupError(f"variable must be the name of an environment variable, not {order.variable!r}")
    if order.memory < 64 << 20:
        raise BackupError(f"memory must be at least {64 << 20} bytes, not {order.memory}")
    probe_plan.check(order.targets, probe_plan.Plan(mode="await", ok_statuses=order.ok_statuses), login=order.login)
