# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base class of the action plugins that send notifications."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NoReturn, Optional

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import fact_injection
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports

LIMITS: Mapping[str, Mapping[str, Any]] = {
    "timeout": {"type": "float", "default": 10.0},
    "retries": {"type": "int", "default": 2},
    "retry_delay": {"type": "float", "default": 3.0},
}


def fail(*, msg: str) -> NoReturn:
    """Make the action fail, as fail_json does in a module. Raises AnsibleActionFail."""
    raise AnsibleActionFail(msg)


class Telling(ActionBase):  # type: ignore[misc]
    """Sends a notification from this process, without the inventory's connection, become and interpreter settings.

    If the message is not accepted, the action does not fail, but returns the error in its result.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    # Seconds to add to the time limit of an attempt, so that the transport's own timeout ends the attempt first.
    _grace = 0.0

    # Set by each plugin: its options in addition to LIMITS.
    options: Mapping[str, Mapping[str, Any]]

    def sender(self, options: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that makes one delivery attempt and raises DeliveryError if the message is not accepted."""
        raise NotImplementedError

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Send the notification, and return the result of the action."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(argument_spec={**self.options, **LIMITS})
        numbers.require_finite(options, fail=fail)
        if self._task.check_mode:
            result.update(changed=True, ok=False, at="", attempts=0, error="nothing is sent in check mode")
            return result
        names = fact_injection.variables(task_vars, injected=constants.INJECT_FACTS_AS_VARS)
        if names:
            result.update(changed=False, ok=False, at="", attempts=0, error=fact_injection.refusal(names))
            return result
        delivered = transports.deliver(
            self.sender(options),
            timeout=options["timeout"] + self._grace,
            retries=options["retries"],
            delay=options["retry_delay"],
        )
        result.update(
            changed=delivered.ok,
            ok=delivered.ok,
            at=delivered.at,
            attempts=delivered.attempts,
            error=delivered.error,
        )
        return result
