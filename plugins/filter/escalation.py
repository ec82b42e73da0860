# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from jinja2 import Undefined

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import late_import


def _body(message: Dict[str, Any], shape: str) -> Dict[str, Any]:
    try:
        return late_import.module("_notify.content").body(message, shape)
    except KeyError as error:
        raise AnsibleFilterError(f"There is no message body for the webhook shape {shape!r}") from error


def _readable(value: Any) -> Any:
    """Return the data as plain types. Each value that cannot be evaluated is replaced with UNREADABLE.

    ansible-core 2.19 and later evaluate each part of a variable only when that part is read. If the evaluation fails,
    Ansible shows the error and the source lines, which may contain secrets.
    """
    if isinstance(value, Undefined):
        return late_import.module("_notify.contacts").UNREADABLE
    if isinstance(value, Mapping):
        return {key: _part(value, key) for key in value}
    if isinstance(value, (list, tuple)):
        return [_part(value, number) for number in range(len(value))]
    return value


def _part(value: Any, key: Any) -> Any:
    try:
        return _readable(value[key])
    except Exception:
        return late_import.module("_notify.contacts").UNREADABLE


def _plan(rules: Sequence[Mapping[str, Any]], *, contacts: Mapping[str, Any], **state: Any) -> Dict[str, Any]:
    known = _readable(contacts)
    plan = late_import.module("_notify.rules").plan
    return plan(rules, contacts=known if isinstance(known, Mapping) else {}, **state)


def _problems(contacts: Any, *, rules: Any, settings: Mapping[str, Any], **known: Any) -> List[str]:
    problems = late_import.module("_notify.settings").problems
    return problems(_readable(contacts), rules=_readable(rules), settings=_readable(settings), **known)


def _texts(facts: Mapping[str, Any], language: str, timezone: str = "UTC") -> Dict[str, Any]:
    folder = late_import.module("_action.postmortem_options").documents_folder()
    texts: Dict[str, Any] = late_import.module("_notify.notice").texts(facts, language, timezone, documents=folder)
    return texts


class FilterModule:
    """Filters for the rules, contacts and messages of the escalation role. The YAML files document them."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "escalation_announcement": late_import.function("_notify.notice", "announcement"),
            "escalation_body": _body,
            "escalation_deferred": late_import.function("_notify.rules", "deferred"),
            "escalation_facts": late_import.function("_notify.content", "facts"),
            "escalation_is_test": late_import.function("_notify.rules", "is_test"),
            "escalation_no_channel": late_import.function("_notify.notice", "no_channel"),
            "escalation_plan": _plan,
            "escalation_problems": _problems,
            "escalation_results": late_import.function("_notify.notice", "results"),
            "escalation_suspected_before": late_import.function("_notify.rules", "suspected_before"),
            "escalation_texts": _texts,
        }
