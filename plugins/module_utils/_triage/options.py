# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a triage, which the triage_info and first_response modules share."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import earlier
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import run as triage_run
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import Service

# Options that describe the service, in addition to the `service` option.
_DESCRIPTION: Dict[str, Dict[str, Any]] = {
    "db_path": {"type": "str", "default": "backend/itsm.db"},
    "db_path_variable": {"type": "str", "default": "DATABASE_PATH"},
    "tls_cert_path": {"type": "str", "default": ""},
    "tls_key_path": {"type": "str", "default": "", "no_log": False},
    "https_port": {"type": "int", "default": 6443},
    "http_port": {"type": "int", "default": 8080},
    "health_path": {"type": "str", "default": ""},
    "health_ok_statuses": {"type": "list", "elements": "str", "default": ["ok"]},
    "required_environment": {"type": "list", "elements": "str", "default": []},
    "state_dir": {"type": "path", "default": "/var/lib/itsm-runbook"},
    "log_patterns": {"type": "list", "elements": "str", "default": []},
}
_LIMITS: Dict[str, Dict[str, Any]] = {
    "incident": {"type": "str", "default": ""},
    "evidence_limit": {"type": "int", "default": 20971520},
    "evidence_keep": {"type": "int", "default": 50},
    "evidence_keep_days": {"type": "float", "default": 365.0},
    "deadline": {"type": "float", "default": 10.0},
    "part_timeout": {"type": "float", "default": 5.0},
    "database_timeout": {"type": "float", "default": 300.0},
    "window": {"type": "int", "default": 600},
    "log_lines": {"type": "int", "default": 100},
    "silent": {"type": "bool", "default": False},
    "kernel_log_command": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "list", "elements": "dict", "default": []},
    "readiness": {"type": "list", "elements": "dict", "default": []},
    "changes": {"type": "bool", "default": True},
}
# Options from the "triage" documentation fragment.
ARGUMENTS: Dict[str, Dict[str, Any]] = {**_DESCRIPTION, **_LIMITS}


def triage(
    params: Mapping[str, Any],
    known: Mapping[str, Any],
    *,
    check_mode: bool,
    resume: bool,
    respond: Optional[triage_run.Respond] = None,
) -> Dict[str, Any]:
    """Run a triage with a module's parameters. Raises TriageError.

    known: the result of data_guard.known. respond: see triage_run.Respond. resume: True if the result of an earlier
    call may have been lost. If the earlier call started the service, the facts and the findings from before the start
    are returned.
    """
    result: Dict[str, Any] = triage_run.triage(
        service=Service(**params["service"], **{name: params[name] for name in _DESCRIPTION}),
        run=commands.run,
        save=not check_mode,
        respond=respond,
        **known,
        **{name: params[name] for name in _LIMITS},
    )
    if resume and earlier.started_at(known["record"], run=params["run"]):
        where = {"incident": params["incident"], "state_dir": params["state_dir"]}
        return earlier.as_before_the_start(result, **where)
    return result
