# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the service's settings in the inventory against this host, before anything is changed.

An invalid setting is a problem. A mismatch is a setting whose value differs between the inventory and the service, for
example the path of the database. The run then uses the service's value and reports the mismatch.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import (
    preflight_service,
    preflight_settings,
    unit_dropin,
)
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.preflight_findings import Config, Findings

MANAGERS = ("systemd", "process")


def warnings(checked: Mapping[str, Any], *, state_dir: str) -> List[str]:
    """Return the warnings in a result from examine(). Warnings do not stop a run, but a person must read them."""
    if checked["resolved"]["state_dir_writable"]:
        return []
    return [
        f"nexus_state_dir is {state_dir!r}: it cannot be written to. The incident's record is kept in memory and will "
        "be lost at the next reboot. Make the folder writable. The next run that finds the service healthy then moves "
        "the record to this folder."
    ]


def examine(config: Config, *, run: commands.Runner = commands.run, proc_root: str = "/proc") -> Dict[str, Any]:
    """Check the inventory against this host, and return the module's result. Nothing is changed."""
    look = Findings(config, run=run, proc_root=proc_root)
    look.ask_disks()
    asked: Optional[preflight_service.UnitQuestion] = None
    if config.manager not in MANAGERS:
        look.problem("manager", message("reason.setting.one_of", choices=MANAGERS))
    elif config.manager == "systemd":
        if config.unit:
            asked = preflight_service.UnitQuestion(config.unit, run=run)
        else:
            look.problem("unit", message("reason.setting.unit_name"))
    app_dir = preflight_settings.check_app_dir(look)
    preflight_settings.check_user(look)
    preflight_settings.check_environment_file(look)
    programs = preflight_settings.find_programs(look)
    if asked is not None:
        asked.start()
    preflight_settings.check_command(look, programs, app_dir=app_dir)
    preflight_settings.check_files(look)
    preflight_settings.check_state_dir(look)
    preflight_settings.check_ports(look)
    if asked is not None:
        preflight_service.check_unit(look, asked)
    database = preflight_service.database_path(look) if app_dir else None
    return {
        "ok": not look.problems,
        "problems": look.problems,
        "mismatches": look.mismatches,
        "silent": sorted(f"nexus_{name}" for name in look.silent),
        "resolved": {
            "node": look.node,
            "database_path": database,
            "user": look.account.pw_name if look.account else look.unit_user,
            "uid": look.account.pw_uid if look.account else None,
            "gid": look.account.pw_gid if look.account else None,
            "environment_names": sorted(look.environment),
            "state_dir_writable": look.state_dir_writable,
            "https_suspended": config.manager == "systemd" and unit_dropin.is_there(config.unit, unit_dropin.HTTPS),
        },
    }
