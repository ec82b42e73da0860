# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import cleaned
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import handover


class ActionModule(cleaned.Cleaned):
    """Runs the module of the same name, and passes the last lines of the run's timeline to the module."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, without the lines."""
        part = None if self._task.check_mode else handover.part(str((task_vars or {}).get("inventory_hostname")))
        if part is not None:
            self._task.args["timeline"] = part.packed
        result = super().run(tmp, task_vars)
        for given in (self._task.args, (result.get("invocation") or {}).get("module_args") or {}):
            given.pop("timeline", None)
        return result
