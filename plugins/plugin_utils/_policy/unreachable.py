# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module of ours comes to when its host can not be reached, or gives no answer.

A connection that is lost while a module works says nothing about the module, which goes on to its end on the host. The
host is reached again within a bound, and the module is called again under the name of the first call: it returns what
the first call did (module_utils/_incident/repeated_call.py).

Ansible drops an unreachable host at once, and with it every rescue and always of its play: nobody would be told. Here
it is a failure of the task like others, C(unreachable_host), which a playbook can answer.
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
from ansible.plugins.action.normal import ActionModule
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, with_stop
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import module_output
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import settings as recovery_settings

UNREACHABLE = "unreachable"

# How often one task may lose its connection, and how often its module may die without an answer.
_LOSSES = 5
_DEATHS = 1
# Seconds between two tries to reach the host again.
_PAUSE = 0.5
# The exit codes of a shell for a program that a signal ended, and that of ssh for its own failure.
_SIGNALLED = 128
# What ssh says if it never reached the host. Nothing has begun there then.
_NEVER_REACHED = re.compile(
    r"connect to host|could not resolve hostname|name or service not known|name resolution|(?:kex|banner).exchange",
    re.IGNORECASE,
)

# What ansible-core says where the account of the connection may not become another one. It is no failure of the
# connection to it, and has nothing of the task in it.
_NOT_BECOME = re.compile(r"(?:Incorrect|Missing) \w+ password")

# What to check if the host is there and lets nobody in, by what ssh or Ansible says: the end of the next step's id.
_LET_IN = (
    (
        re.compile(r"host key verification failed|remote host identification has changed", re.IGNORECASE),
        "known_hosts",
    ),
    (
        re.compile(rf"{_NOT_BECOME.pattern}|waiting for privilege escalation prompt"),
        "become",
    ),
    (
        re.compile(r"permission denied(?: \(|, please)|authentication fail(?:ed|ure)|failed to auth", re.IGNORECASE),
        "login",
    ),
    # Last: sudo complains of it, too, on a host that was reached.
    (
        re.compile(r"could not resolve hostname|name or service not known|name resolution", re.IGNORECASE),
        "name",
    ),
)
# The host is there: it is of no use to try again.
_REFUSED = _LET_IN[:3]


class OnHost(ActionModule):  # type: ignore[misc]
    """Runs the module of the same name on the host, and has an answer where the host has none."""

    # Why the connection was lost, if it was.
    _lost: Optional[Message] = None

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, or that of M(without_answer)."""
        host = str((task_vars or {}).get("inventory_hostname"))
        try:
            return self._run(tmp, task_vars or {}, host=host)
        # The end of a task's time is no Exception.
        except BaseException as error:
            why = unanswered(error, timeout=self._task.timeout)
            if why is None:
                raise
            return self.without_answer(host, self._lost or why)

    def without_answer(self, host: str, why: Message) -> Dict[str, Any]:
        """Return the result of a module that gave none."""
        return failure(host, str(self._task.action).rsplit(".", 1)[-1], why)

    def _run(self, tmp: Any, task_vars: Dict[str, Any], *, host: str) -> Dict[str, Any]:
        """Call the module until its answer is here, or the host is not reached again. Raises what the call raises."""
        given_up = _marker(host)
        is_remote = self._connection.transport != "local"
        if is_remote:
            self._task.args["call"] = f"{_of_host(host)}.{secrets.token_hex(8)}"
        losses, deaths, away = 0, 0, 0.0
        while True:
            result: Optional[Dict[str, Any]] = None
            try:
                result = super().run(tmp, task_vars)
                why = died(result)
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
                # The tasks that follow do not wait as long again.
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
                f"reached again after {away:.1f} s, and the step went on."
            )
        return result or {}

    def _low_level_execute_command(self, *arguments: Any, **options: Any) -> Dict[str, Any]:
        """Return the result of a command on the host, its output made plain before ansible-core reads or prints it."""
        result: Dict[str, Any] = super()._low_level_execute_command(*arguments, **options)
        for name, plain in (("stdout", module_output.of_module), ("stderr", module_output.of_errors)):
            result[name] = plain(result[name])
            result[f"{name}_lines"] = result[name].splitlines()
        return result

    def _bound(self, task_vars: Mapping[str, Any]) -> float:
        """Return the seconds within which the host has to be reached again."""
        given = self._templar.template(task_vars.get("outage_recover_reconnect"))
        return float(recovery_settings.setting(given, "reconnect"))

    def _has_begun(self, why: Message) -> bool:
        """Say whether the module may be at work on the host, or was about to be in a run that had reached it before."""
        said = str(why.values.get("why") or "")
        if any(pattern.search(said) for pattern, _step in _REFUSED):
            return False
        return bool(self._task.args.get("run")) or not _NEVER_REACHED.search(said)

    def _reach(self) -> bool:
        """Try once to reach the host by a new connection."""
        self._connection.close()
        # Without a reset of its own, a connection only warns.
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
    """Try to reach the host for C(bound) seconds; return how many it took, C(None) if it was not reached."""
    begun = clock()
    if bound <= 0:
        return None
    while not reach():
        if clock() + _PAUSE - begun > bound:
            return None
        sleep(_PAUSE)
    return clock() - begun


def died(result: Mapping[str, Any]) -> Optional[Message]:
    """Say in a line that a module ended by a signal before it gave an answer; C(None) for any other result.

    So it looks, too, if what ended is only the shell or the sudo that the module was started by.
    """
    code = result.get("rc")
    if "module_stdout" not in result or str(result["module_stdout"]).strip() or not isinstance(code, int):
        return None
    return message("reason.died", code=code) if code > _SIGNALLED or code < 0 else None


def _of_host(host: str) -> str:
    """Return a name of this run of Ansible on a host, which no other run has."""
    return hashlib.sha256(f"{constants.DEFAULT_LOCAL_TMP}\0{host}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _marker(host: str) -> str:
    """Return the path of the file that says that the host was given up in this run of Ansible."""
    return os.path.join(constants.DEFAULT_LOCAL_TMP, f"lost-{_of_host(host)}")


def unanswered(error: BaseException, *, timeout: float) -> Optional[Message]:
    """Return why there is no answer; None if the error is something else.

    What ends a task by its C(timeout) has no public name: it moved between releases of ansible-core, and is known by
    the name that it kept.
    """
    # ssh frames its warnings.
    told = sanitize.text(" ".join(re.sub(r"@{3,}", " ", str(error)).split()))
    if isinstance(error, AnsibleConnectionFailure):
        return message("reason.unreached", why=told)
    if isinstance(error, AnsibleError) and _NOT_BECOME.fullmatch(told):
        return message("reason.not_worked_on", why=told)
    if type(error).__name__ == "TaskTimeoutError":
        return message("reason.no_answer", seconds=f"{timeout:g}")
    return None


def reach(why: str) -> Message:
    """Return what a person has to do about a host that cannot be reached, by what ssh or Ansible says about it."""
    known = next((known for pattern, known in _LET_IN if pattern.search(why)), "other")
    return message(f"next_step.reach.{known}")


def next_step(why: str) -> str:
    """Return the English text of reach."""
    return with_stop(catalogue.english(reach(why)))


def silent(result: Mapping[str, Any]) -> bool:
    """Say whether a look at a service failed for nothing but a disk that does not answer."""
    checked = result.get("preflight") or {}
    problems = checked.get("problems") or []
    return bool(problems) and all(problem.get("variable") in (checked.get("silent") or []) for problem in problems)


def failure(host: str, module: str, why: Message) -> Dict[str, Any]:
    """Return the result of C(module) on a host that gave none."""
    # With `invocation`, as the results of modules have it: the text is our own.
    return {
        "failed": True,
        "unreachable_host": True,
        "msg": f"Cannot run {module} on {host}: {catalogue.english(why)}",
        "messages": {"why": why.to_dict()},
        "invocation": {},
    }


def look(why: Message) -> Dict[str, Any]:
    """Return the result of M(itsm_nexus.runbook.health_probe) that watches a host without answer, nothing guessed."""
    return {
        "changed": False,
        "healthy": False,
        "severity": UNREACHABLE,
        "summary": catalogue.english(why),
        "messages": {"summary": why.to_dict()},
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
        "supervisor": {"phase": None, "waited": 0.0, "restarted": False, "started_at": None},
        "takeover": None,
        "doubt": None,
        "hold": None,
        "data_in_doubt": False,
        "python": None,
        "opened": None,
        "open_incident": False,
        "serving_said_at": None,
        "answers_since": None,
        "maintenance": None,
        "preflight": None,
    }
