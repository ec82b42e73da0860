# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results, the reason and the next step if a host cannot be reached or does not answer.

_action/on_host.py calls the modules and uses these functions.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, with_stop
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue

UNREACHABLE = "unreachable"

# If a signal kills a program, the shell that started the program exits with a code greater than this number. If ssh
# itself fails, its exit code (255) is also greater than this number.
_SIGNALLED = 128
# Messages that ssh prints if it could not connect to the host. If ssh could not connect, no module was started on the
# host.
_NEVER_REACHED = re.compile(
    r"connect to host|could not resolve hostname|name or service not known|name resolution|(?:kex|banner).exchange",
    re.IGNORECASE,
)

# Messages that ansible-core prints if the login account cannot switch to another account. In this case, the connection
# itself works. These messages contain no task data.
NOT_BECOME = re.compile(r"(?:Incorrect|Missing) \w+ password")

# Each pair describes one error of ssh or Ansible. The first item is a pattern that matches the error message. The
# second item is the last part of a message ID. The message with this ID describes the next step.
_LET_IN = (
    (
        re.compile(r"host key verification failed|remote host identification has changed", re.IGNORECASE),
        "known_hosts",
    ),
    (
        re.compile(rf"{NOT_BECOME.pattern}|waiting for privilege escalation prompt"),
        "become",
    ),
    (
        re.compile(r"permission denied(?: \(|, please)|authentication fail(?:ed|ure)|failed to auth", re.IGNORECASE),
        "login",
    ),
    (
        re.compile(r"connection refused", re.IGNORECASE),
        "refused",
    ),
    # This pattern must be last, because sudo can print the same message on a host that was reached.
    (
        re.compile(r"could not resolve hostname|name or service not known|name resolution", re.IGNORECASE),
        "name",
    ),
)
# The patterns for a host that is reachable but refuses the login.
_REFUSED = _LET_IN[:3]


def died(result: Mapping[str, Any]) -> Optional[Message]:
    """Return a message if a signal killed a module before it returned a result, or None for any other result.

    If the signal killed only the shell or the sudo process that started the module, the result looks the same.
    """
    code = result.get("rc")
    if "module_stdout" not in result or str(result["module_stdout"]).strip() or not isinstance(code, int):
        return None
    return message("reason.died", code=code) if code > _SIGNALLED or code < 0 else None


def never_reached(why: str) -> bool:
    """Return True if ssh could not connect to the host. why: the ssh or Ansible error message."""
    return bool(_NEVER_REACHED.search(why))


def refused(why: str) -> bool:
    """Return True if the host refuses the login, so that another attempt would not help. why: see never_reached."""
    return any(pattern.search(why) for pattern, _step in _REFUSED)


def reach(why: str) -> Message:
    """Return the next step for an unreachable host. why: the ssh or Ansible error message."""
    known = next((known for pattern, known in _LET_IN if pattern.search(why)), "other")
    return message(f"next_step.reach.{known}")


def reach_message(why: str) -> Dict[str, Any]:
    """Return the result of reach() as plain data."""
    return reach(why).to_dict()


def next_step(why: str) -> str:
    """Return the result of reach() as English text."""
    return with_stop(catalogue.english(reach(why)))


def silent(result: Mapping[str, Any]) -> bool:
    """Return True if a health probe failed only because a disk does not answer."""
    checked = result.get("preflight") or {}
    problems = checked.get("problems") or []
    return bool(problems) and all(problem.get("variable") in (checked.get("silent") or []) for problem in problems)


def failure(host: str, module: str, why: Message) -> Dict[str, Any]:
    """Return a result for a module if the host did not return one."""
    told = message("reason.failure.not_run", module=module, host=host, why=why)
    # The postmortem callback uses the key "invocation" to recognize that the text comes from this collection.
    return {
        "failed": True,
        "unreachable_host": True,
        "msg": catalogue.english(told),
        "messages": {"msg": told.to_dict(), "why": why.to_dict()},
        "invocation": {},
    }


def look(why: Message) -> Dict[str, Any]:
    """Return the health_probe result for a host that does not answer. Only the severity and the summary are known."""
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
