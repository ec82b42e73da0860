# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports


class ActionModule(notification_action.Telling):
    """Sends an email. See the module of the same name for documentation."""

    options: ClassVar[Mapping[str, Any]] = {
        "host": {"type": "str", "default": "localhost"},
        "port": {"type": "int", "default": 25},
        "security": {"type": "str", "default": "starttls", "choices": ["none", "starttls", "tls"]},
        "username": {"type": "str", "default": ""},
        "password": {"type": "str", "default": "", "no_log": True},
        "sender": {"type": "str", "required": True},
        "to": {"type": "list", "elements": "str", "required": True},
        "subject": {"type": "str", "required": True},
        "text": {"type": "str", "required": True},
        "message_id": {"type": "str", "required": True},
        "thread": {"type": "str", "required": True},
        "ca_path": {"type": "path"},
    }

    def sender(self, options: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that sends the email once. All calls send the same message ID."""
        server = transports.Server(
            **{name: options[name] for name in ("host", "port", "security", "username", "password")}
        )
        parts = {name: options[name] for name in ("sender", "to", "subject", "text", "message_id", "thread")}
        return lambda: transports.mail(
            transports.compose(**parts), server=server, timeout=options["timeout"], ca_path=options["ca_path"]
        )
