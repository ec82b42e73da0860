# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module of ours comes to when its host can not be reached, or gives no answer.

Ansible drops an unreachable host at once, and with it every rescue and always of its play: nobody would be told. Here
it is a failure of the task like others, C(unreachable_host), which a playbook can answer.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action.normal import ActionModule

UNREACHABLE = "unreachable"

# What ansible-core says where the account of the connection may not become another one. It is no failure of the
# connection to it, and has nothing of the task in it.
_NOT_BECOME = re.compile(r"(?:Incorrect|Missing) \w+ password")

_ANOTHER_WAY = "Reach the host by another way, its console for one, then run the playbook again."
# What is to be looked at where the host is there and lets nobody in, by what ssh or Ansible says. That is only matched:
# what is told of it are the words here.
_LET_IN = (
    (
        re.compile(r"host key verification failed|remote host identification has changed", re.IGNORECASE),
        "known_hosts has no SSH key of this host, or another one: compare the host's own with what is expected, put it "
        "there, then run the playbook again.",
    ),
    (
        re.compile(rf"{_NOT_BECOME.pattern}|waiting for privilege escalation prompt"),
        "The host does not let the account become root: look at ansible_become_password, at the rule of sudo there, "
        "and at ansible_pipelining and ansible_python_interpreter, which that rule may rest on, then run the playbook "
        "again.",
    ),
    (
        re.compile(r"permission denied(?: \(|, please)|authentication fail(?:ed|ure)|failed to auth", re.IGNORECASE),
        "The host refuses the login: look at ansible_user, its key or password, and authorized_keys there, then run "
        "the playbook again.",
    ),
    # Last: sudo complains of it, too, on a host that was reached.
    (
        re.compile(r"could not resolve hostname|name or service not known|name resolution", re.IGNORECASE),
        "The name of the host does not resolve: look at ansible_host in the inventory and at the controller's DNS, "
        "then run the playbook again.",
    ),
)


class OnHost(ActionModule):  # type: ignore[misc]
    """Runs the module of the same name on the host, and has an answer where the host has none."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, or that of M(without_answer)."""
        try:
            result: Dict[str, Any] = super().run(tmp, task_vars)
        # The end of a task's time is no Exception.
        except BaseException as error:
            why = unanswered(error, timeout=self._task.timeout)
            if why is None:
                raise
            return self.without_answer(str((task_vars or {}).get("inventory_hostname")), why)
        return result

    def without_answer(self, host: str, why: str) -> Dict[str, Any]:
        """Return the result of a module that gave none."""
        return failure(host, str(self._task.action).rsplit(".", 1)[-1], why)


def unanswered(error: BaseException, *, timeout: float) -> Optional[str]:
    """Say why there is no answer, in a line; C(None) where C(error) is something else.

    What ends a task by its C(timeout) has no public name: it moved between releases of ansible-core, and is known by
    the name that it kept.
    """
    # ssh frames its warnings.
    told = " ".join(re.sub(r"@{3,}", " ", str(error)).split())
    if isinstance(error, AnsibleConnectionFailure):
        return f"it can not be reached: {told}"
    if isinstance(error, AnsibleError) and _NOT_BECOME.fullmatch(told):
        return f"it can not be worked on: {told}"
    if type(error).__name__ == "TaskTimeoutError":
        return f"it gave no answer within {timeout:g} s: a disk of it hangs, or all of it"
    return None


def next_step(why: str) -> str:
    """Return what a person is to do about a host that can not be reached, by what is said of it."""
    return next((told for pattern, told in _LET_IN if pattern.search(why)), _ANOTHER_WAY)


def silent(result: Mapping[str, Any]) -> bool:
    """Say whether a look at a service failed for nothing but a disk that does not answer."""
    checked = result.get("preflight") or {}
    problems = checked.get("problems") or []
    return bool(problems) and all(problem.get("variable") in (checked.get("silent") or []) for problem in problems)


def failure(host: str, module: str, why: str) -> Dict[str, Any]:
    """Return the result of C(module) on a host that gave none."""
    # With `invocation`, as the results of modules have it: the text is our own.
    return {"failed": True, "unreachable_host": True, "msg": f"Cannot run {module} on {host}: {why}", "invocation": {}}


def look(why: str) -> Dict[str, Any]:
    """Return the result of M(itsm_nexus.runbook.health_probe) that watches a host without answer, nothing guessed."""
    return {
        "changed": False,
        "healthy": False,
        "severity": UNREACHABLE,
        "summary": why,
        "consecutive_failures": 0,
        "max_consecutive_failures": 0,
        "process": {"state": "unknown", "pids": [], "started_at": None, "restarts": None},
        "endpoints": [],
        "first_failure_at": None,
        "last_success_at": None,
        "first_healthy_at": None,
        "attempts": 0,
        "duration": 0.0,
        "login": None,
        "signs": [],
        "python": None,
        "opened": None,
        "open_incident": False,
        "maintenance": None,
        "preflight": None,
    }
