# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host


class ActionModule(on_host.OnHost):
    """Runs the module of the same name. The task succeeds even if the module returns no result.

    The first response only saves time, so a run can continue without its result. In this case, the run continues with
    triage, which checks on the host whether the service was started.
    """

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result. If the module failed, return only the reason why there is no result."""
        result = super().run(tmp, task_vars)
        if not result.get("failed"):
            return result
        told = {name: result[name] for name in ("warnings", "messages", "invocation") if name in result}
        return {"changed": False, "lost": str(result.get("msg") or ""), **told}
