# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from typing import Any, Dict, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._watch import alarm


def _fail(msg: str) -> None:
    raise AnsibleActionFail(msg)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Waits on the controller. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Wait for the alarm, and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "timeout": {"type": "float", "default": 900.0},
            }
        )
        numbers.require_finite(options, fail=_fail)
        if options["timeout"] <= 0:
            raise AnsibleActionFail(f"timeout is {options['timeout']:g}: must be more than 0 seconds")
        # Ansible runs each task in its own process. If the run is killed, this process keeps running, but its parent
        # process changes.
        run = os.getppid()
        began = time.monotonic()
        try:
            alarmed = alarm.wait(options["path"], timeout=options["timeout"], needed=lambda: os.getppid() == run)
        except alarm.AlarmError as error:
            raise AnsibleActionFail(str(error)) from error
        if alarmed is None:
            raise AnsibleActionFail("the run has ended")
        result.update(changed=False, alarmed=alarmed, waited=round(time.monotonic() - began, 3))
        return result
