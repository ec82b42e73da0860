# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import fact_injection, notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import reach, transports

_SECURITIES = ["none", "starttls", "tls"]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Connects from the controller. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Check the channels, and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "contacts": {"type": "dict", "required": True, "no_log": True},
                "smtp_host": {"type": "str", "default": "localhost"},
                "smtp_port": {"type": "int", "default": 25},
                "smtp_security": {"type": "str", "default": "none", "choices": _SECURITIES},
                "smtp_username": {"type": "str", "default": ""},
                "smtp_password": {"type": "str", "default": "", "no_log": True},
                "ca_path": {"type": "path"},
                "timeout": {"type": "float", "default": 10.0},
            }
        )
        numbers.require_finite(options, fail=notification_action.fail)
        if options["timeout"] <= 0:
            raise AnsibleActionFail(f"timeout is {options['timeout']:g}: must be more than 0 seconds")
        names = fact_injection.variables(task_vars, injected=constants.INJECT_FACTS_AS_VARS)
        if names:
            raise AnsibleActionFail(fact_injection.refusal(names))
        server = transports.Server(
            host=options["smtp_host"],
            port=options["smtp_port"],
            security=options["smtp_security"],
            username=options["smtp_username"],
            password=options["smtp_password"],
        )
        reached, without = reach.all_channels(
            options["contacts"], server=server, timeout=options["timeout"], ca_path=options["ca_path"]
        )
        result.update(
            changed=False,
            contacts=[str(key) for key in options["contacts"]],
            channels=[each._asdict() for each in reached],
            without_channel=without,
        )
        return result
