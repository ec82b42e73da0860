# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports


class ActionModule(notification_action.Telling):
    """Runs a command on the controller. See the module of the same name for documentation."""

    # Additional seconds, so that transports.command can first kill a command that exceeds its time limit.
    _grace = 5.0
    options: ClassVar[Mapping[str, Any]] = {
        "argv": {"type": "list", "elements": "str", "required": True},
        "stdin": {"type": "str", "default": ""},
    }

    def sender(self, options: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that runs the command once."""
        return lambda: transports.command(
            options["argv"], stdin=options["stdin"].encode("utf-8", "replace"), timeout=options["timeout"]
        )
