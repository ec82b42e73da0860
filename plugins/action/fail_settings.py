# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Makes the task fail on the controller, and lists the invalid settings.

    See the module of the same name for documentation.
    """

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the problems as the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        spec = {
            "problems": {"type": "list", "elements": "str", "required": True},
            "messages": {"type": "list", "elements": "dict", "default": []},
            "shown": {"type": "bool", "default": False},
        }
        _spec, options = self.validate_argument_spec(argument_spec=spec)
        result.update(changed=False, problems=options["problems"], shown=options["shown"])
        if options["messages"]:
            result.update(messages={"problems": options["messages"]})
        if options["problems"]:
            result.update(failed=True, msg="; ".join(options["problems"]))
        return result
