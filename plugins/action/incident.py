# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable


class ActionModule(unreachable.OnHost):
    """Runs the module of the same name, unless the health probe has already opened the incident."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, or the value of the "opened" option if the task sets it."""
        opened = self._task.args.get("opened")
        if not opened or self._task.args.get("state") != "open":
            return super().run(tmp, task_vars)
        # Other code recognizes a module result by its key `invocation`.
        return {**opened, "invocation": {}}
