# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable


class ActionModule(on_host.OnHost):
    """Runs the module of the same name. In mode "watch", an unreachable host is a result, not a failure.

    In mode "await", a failed login also causes a warning. Otherwise, the run would report the failed login only
    after a longer check, such as the stability check.
    """

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result. If a disk does not respond, the result is the same as for an unreachable host."""
        result = super().run(tmp, task_vars)
        login = result.get("login")
        if self._task.args.get("mode") == "await" and isinstance(login, dict) and login.get("ok") is False:
            host = (task_vars or {}).get("inventory_hostname")
            result["warnings"] = [
                *(result.get("warnings") or []),
                f"{host}: the endpoints answered, but the login failed",
            ]
        return unreachable.look(quoted(result.get("msg"))) if unreachable.silent(result) else result

    def without_answer(self, host: str, why: Message) -> Dict[str, Any]:
        """In mode "watch", return a result with the severity "unreachable". In other modes, return a failure."""
        if self._task.args.get("mode", "watch") == "watch":
            return unreachable.look(why)
        return super().without_answer(host, why)
