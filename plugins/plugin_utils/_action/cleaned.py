# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module on a host, and remove from its output everything that could affect the controller."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action.normal import ActionModule

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import module_output


class Cleaned(ActionModule):  # type: ignore[misc]
    """Runs the module with the same name as the plugin.

    All modules of this collection that run on a host use this class.
    """

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result without the keys that ansible-core acts on."""
        return module_output.without_effects(super().run(tmp, task_vars))

    def _low_level_execute_command(self, *arguments: Any, **options: Any) -> Dict[str, Any]:
        """Return the result of a command on the host.

        Control characters are removed before ansible-core reads the result.
        """
        result: Dict[str, Any] = super()._low_level_execute_command(*arguments, **options)
        for name, plain in (("stdout", module_output.of_module), ("stderr", module_output.of_errors)):
            result[name] = plain(result[name])
            result[f"{name}_lines"] = result[name].splitlines()
        return result
