# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports


class ActionModule(notification_action.Telling):
    """Posts a JSON document. See the module of the same name for documentation."""

    options: ClassVar[Mapping[str, Any]] = {
        "url": {"type": "str", "required": True, "no_log": True},
        "body": {"type": "dict", "required": True, "no_log": True},
        "secret": {"type": "str", "no_log": True},
        "message_id": {"type": "str", "default": ""},
        "method": {"type": "str", "default": "POST", "choices": ["POST", "PUT"]},
        "headers": {"type": "dict", "no_log": True},
        "ca_path": {"type": "path"},
    }

    def sender(self, options: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that posts the document once."""
        return lambda: transports.post(
            timeout=options["timeout"],
            **{name: options[name] for name in self.options},
        )
