# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base class of the action plugins that run a module on a host.

If the connection drops while a module is running, the module continues on the host until it has finished. The
controller tries to reconnect within a time limit, and then repeats the module call. Both calls have the same name, so
the second call returns the result of the first call (module_utils/_incident/repeated_call.py).

Ansible removes an unreachable host from the play and does not run the rescue and always sections. As a result, no one
would be notified. If a module uses this plugin, its task fails instead and returns unreachable_host, so the playbook
can continue.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from typing import Any, Callable, Dict, Mapping, Optional

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import cleaned
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import settings as recovery_settings
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import handover

# Maximum number of lost connections per task.
_LOSSES = 5
# Maximum number of module calls without a result, per task.
_DEATHS = 1
# Time between two attempts to reach the host again, in seconds.
_PAUSE = 0.5


class OnHost(cleaned.Cleaned):
    """Runs the module with the same name as the plugin on the host.

    If the host returns no result, this class returns a substitute result.
    """

    # The reason for a lost connection.
    _lost: Optional[Message] = None

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result. If the host does not answer, return the result of without_answer."""
        host = str((task_vars or {}).get("inventory_hostname"))
        try:
            return self._run(tmp, task_vars or {}, host=host)
        # Catch BaseException, because the task timeout error is not an Exception.
        except BaseException as error:
            why = unanswered(error, timeout=self._task.timeout)
            if why is None:
                raise
            return self.without_answer(host, self._lost or why)

    def without_answer(self, host: str, why: Message) -> Dict[str, Any]:
        """Return a substitute for the result of a module that did not return a result."""
        return unreachable.failure(host, str(self._task.action).rsplit(".", 1)[-1], why)

    def _run(self, tmp: Any, task_vars: Dict[str, Any], *, host: str) -> Dict[str, Any]:
        """Call the module until it returns a result or the host can no longer be reached.

        Raises the errors of the last call.
        """
        given_up = _marker(host)
        is_remote = self._connection.transport != "local"
        if is_remote:
            self._task.args["call"] = f"{_of_host(host)}.{secrets.token_hex(8)}"
        part = self._timeline_part(host)
        losses, deaths, away = 0, 0, 0.0
        while True:
            result: Optional[Dict[str, Any]] = None
            try:
                result = super().run(tmp, task_vars)
                why = unreachable.died(result)
            except AnsibleConnectionFailure as error:
                why = unanswered(error, timeout=0)
            if why is None:
                break
            if result is None:
                self._lost = why
            losses, deaths = losses + (result is None), deaths + (result is not None)
            goes_on = losses <= _LOSSES and deaths <= _DEATHS and self._has_begun(why) and not os.path.exists(given_up)
            bound = self._bound(task_vars) if goes_on and is_remote else 0.0
            waited = reached_again(self._reach, bound=bound)
            if waited is None:
                if result is not None:
                    return result
                # Create the file that prevents later tasks from waiting for the host again.
                with contextlib.suppress(OSError), open(given_up, "w", encoding="ascii"):
                    pass
                return self.without_answer(host, why)
            away += waited
        with contextlib.suppress(FileNotFoundError):
            os.unlink(given_up)
        if losses and result is not None:
            result["connection_lost"] = {"times": losses, "seconds": round(away, 1)}
            Display().warning(
                f"The connection to {host} was lost during {str(self._task.action).rsplit('.', 1)[-1]}. The host was "
                f"reached again after {away:.1f} s, and the step continued."
            )
        result = result or {}
        if part is not None:
            # Remove the timeline lines. They describe earlier tasks and are not part of this task's result.
            for given in (self._task.args, (result.get("invocation") or {}).get("module_args") or {}):
                given.pop("timeline", None)
            if not result.get("failed"):
                result[handover.SAVED] = part.lines
        return result

    def _timeline_part(self, host: str) -> Optional[handover.Part]:
        """Add the new lines of the timeline to the module's options. Return these lines, or None if there are none."""
        part = None
        # An error in the timeline must not stop the recovery.
        with contextlib.suppress(Exception):
            part = handover.part(host) if self._task.args.get("run") else None
        if part is None or self._task.check_mode or self._task.delegate_to:
            return None
        self._task.args["timeline"] = part.packed
        return part

    def _bound(self, task_vars: Mapping[str, Any]) -> float:
        """Return the time limit in seconds for reaching the host again."""
        given = self._templar.template(task_vars.get("outage_recover_reconnect"))
        return float(recovery_settings.setting(given, "reconnect"))

    def _has_begun(self, why: Message) -> bool:
        """Return True if the module may be running on the host, or if the run reached the host before this task."""
        said = str(why.values.get("why") or "")
        if unreachable.refused(said):
            return False
        return bool(self._task.args.get("run")) or not unreachable.never_reached(said)

    def _reach(self) -> bool:
        """Return True if the host can be reached with a new connection."""
        self._connection.close()
        # A reset() method that is inherited from ConnectionBase only prints a warning.
        if type(self._connection).reset is not ConnectionBase.reset:
            self._connection.reset()
        try:
            return bool(self._low_level_execute_command(":", sudoable=False)["rc"] == 0)
        except AnsibleConnectionFailure:
            return False


def reached_again(
    reach: Callable[[], bool],
    *,
    bound: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[float]:
    """Try to reach the host until the time limit expires.

    Return the elapsed seconds, or None if the host was not reached.
    """
    begun = clock()
    if bound <= 0:
        return None
    while not reach():
        if clock() + _PAUSE - begun > bound:
            return None
        sleep(_PAUSE)
    return clock() - begun


def _of_host(host: str) -> str:
    """Return a unique name for this run of Ansible on a host."""
    return hashlib.sha256(f"{constants.DEFAULT_LOCAL_TMP}\0{host}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _marker(host: str) -> str:
    """Return the path of the file that exists if this run of Ansible no longer tries to reach the host."""
    return os.path.join(constants.DEFAULT_LOCAL_TMP, f"lost-{_of_host(host)}")


def unanswered(error: BaseException, *, timeout: float) -> Optional[Message]:
    """Return the reason why the host did not answer, or None for any other error.

    The task timeout error has no public class. In each ansible-core release, the class may be in a different module.
    Therefore, the error is recognized by its class name.
    """
    # ssh prints some warnings in a frame of "@" characters.
    told = sanitize.text(" ".join(re.sub(r"@{3,}", " ", str(error)).split()))
    if isinstance(error, AnsibleConnectionFailure):
        return message("reason.unreached", why=told)
    if isinstance(error, AnsibleError) and unreachable.NOT_BECOME.fullmatch(told):
        return message("reason.not_worked_on", why=told)
    if type(error).__name__ == "TaskTimeoutError":
        return message("reason.no_answer", seconds=f"{timeout:g}")
    return None
