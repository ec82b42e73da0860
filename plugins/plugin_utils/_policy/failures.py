# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reasons why a step of a run failed, as translatable messages. The playbooks contain the English text.

A host can return any result, so its messages are checked (see reasons.messages_of).
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import messages_of

_Data = Mapping[str, Any]


def messages(
    result: _Data,
    *,
    hidden: Any = False,
    undefined: str = "",
    results: Sequence[Any] = (),
    task: str = "",
) -> List[Dict[str, Any]]:
    """Return the messages of a failed task as plain data.

    - result: the result of the failed task. hidden: True if the task hides its output.
    - undefined: the name of the undefined variable, or empty.
    - results: the role results. If a role finds problems, its last task fails with a message that contains them. For
      this task, the messages are taken from the role's result.
    - task: the name of the task if the message must contain it, or empty.
    """
    if hidden:
        found: Sequence[Message] = [message("reason.failure.hidden")]
    elif undefined:
        found = [message("reason.failure.undefined", name=undefined)]
    else:
        known = [each for each in results if isinstance(each, Mapping) and _failed_with(each, result)]
        found = messages_of(known[0], "problems") if known else messages_of(result, "msg")
    if task:
        found = [message("reason.failure.task", task=task, why=list(found))]
    return [each.to_dict() for each in found]


def _failed_with(of_role: _Data, result: _Data) -> bool:
    """Return True if the failed task's error message lists exactly the problems that a role found."""
    problems = [str(each) for each in of_role.get("problems") or []]
    return bool(problems) and str(result.get("msg")) == "; ".join(problems)


def later(before: Optional[Sequence[_Data]], after: Optional[Sequence[_Data]], how: str) -> List[Dict[str, Any]]:
    """Return the messages about a rung that failed twice.

    before, after: the messages about the first and the second failure, if there are any. how: "then" if the rung
    was checked again, or "restored" if the return to the previous state failed.
    """
    why = messages_of({"messages": {"after": list(after or ())}}, "after")
    found = messages_of({"messages": {"before": list(before or ())}}, "before")
    return [each.to_dict() for each in (*found, message(f"reason.failure.{how}", why=why or None))]


def of_verification(seen: _Data) -> Dict[str, Any]:
    """Return the problems that a verification found, as strings and as messages.

    seen contains the results of the probes (answer, watch) and of the database check (database). If a check did not
    run, its result is empty. login_failed: True if only the login failed. serves: True if the service stayed up. After
    the first failed check, the later checks are skipped. If only the login failed, the stability check still runs, and
    the rows are still counted.

    accepted: the codes of the database problems that a person has accepted. These problems are omitted. Problems about
    lost rows are never omitted. data_loss_suspected: True if another problem suggests that rows were lost.
    """
    answer, watch = seen["answer"], seen.get("watch") or {}
    login_failed = bool(seen.get("login_failed"))
    if not (answer.get("healthy") or login_failed):
        return _found(answer, list(messages_of(answer, "summary")))
    if not watch.get("healthy"):
        told = message("reason.verification.fell", why=list(messages_of(watch, "summary")))
        return _found({"summary": f"failed again: {watch.get('summary')}"}, [told])
    texts, told_of = [], []
    if login_failed:
        why = list(messages_of(answer, "summary"))
        hint = "; the service answers, so check nexus_login_username and nexus_login_password" if seen["serves"] else ""
        texts.append(f"{answer.get('summary')}{hint}")
        told_of += [message("reason.verification.login", why=why)] if hint else why
    database = seen.get("database") or {}
    found = database.get("problems") or []
    accepted = set(seen.get("accepted") or ()) - {"row_loss"}
    rest = [each for each in found if each.get("code") not in accepted]
    for each in rest:
        texts.append(str(each.get("message")))
        told_of += messages_of(each, "message")
    return {
        "problems": texts,
        "messages": {"problems": [each.to_dict() for each in told_of]},
        "data_loss_suspected": bool(database.get("data_loss_suspected")) and (bool(rest) or not found),
    }


def _found(texts: _Data, told: Sequence[Message]) -> Dict[str, Any]:
    return {
        "problems": [str(texts.get("summary"))],
        "messages": {"problems": [each.to_dict() for each in told]},
        "data_loss_suspected": False,
    }
