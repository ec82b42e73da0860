# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Dict, Mapping, Optional

from ansible.plugins.loader import connection_loader

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import handover, recorder

_CONTROLLER = "localhost"


class ActionModule(on_host.OnHost):
    """Runs the module of the same name, unless the health probe has already opened the incident.

    At the end of a run, the timelines of the incident's earlier runs are copied from the host to the controller.

    If the task is delegated to the controller, the module always runs as the account that runs Ansible, with Ansible's
    own Python. Otherwise, connection and become settings that are set with -e would override the task's settings and
    also apply to the controller. No incident could then be opened for an unreachable host.
    """

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, or the value of the "opened" option if the task sets this option."""
        opened = self._task.args.get("opened")
        if not opened or self._task.args.get("state") != "open":
            if self._task.delegate_to == _CONTROLLER:
                self._connection = connection_loader.get("local", self._play_context, None)
                task_vars = _with_own_python(task_vars or {})
            return self._with_timelines(tmp, task_vars or {})
        # Other code uses the key `invocation` to recognize the result of a module.
        return {**opened, "invocation": {}}

    def _with_timelines(self, tmp: Any, task_vars: Dict[str, Any]) -> Dict[str, Any]:
        """Run the module. At the end of a run, also fetch any missing timelines of earlier runs."""
        path = recorder.current_path()
        if self._task.args.get("state") != "closed" or path is None or self._task.delegate_to or self._task.check_mode:
            return super().run(tmp, task_vars)
        folder, host = os.path.dirname(path), str(task_vars.get("inventory_hostname"))
        self._task.args["known_timelines"] = handover.known(folder, host)
        result: Dict[str, Any] = super().run(tmp, task_vars)
        # Without these files, the postmortem can still be written, but it does not describe the earlier runs. The host
        # is not trusted, so any error is possible.
        with contextlib.suppress(Exception):
            handover.keep(folder, host, result.pop("timelines", None))
        ((result.get("invocation") or {}).get("module_args") or {}).pop("known_timelines", None)
        return result


def _with_own_python(task_vars: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a copy of task_vars that makes tasks delegated to the controller use Ansible's own Python."""
    delegated = dict(task_vars.get("ansible_delegated_vars") or {})
    delegated[_CONTROLLER] = {**delegated.get(_CONTROLLER, {}), "ansible_python_interpreter": sys.executable}
    return {**task_vars, "ansible_delegated_vars": delegated}
