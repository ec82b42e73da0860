# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import numbers, timestamps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import fact_injection, notification_action
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import github_issue, transports

# Maximum number of seconds by which a host's clock may be ahead. If the clock is further ahead, the search does not
# find the incident's issue.
_CLOCK_SKEW = 86400.0


def _earlier(instant: str) -> str:
    """Subtract the tolerance for fast clocks from a time. Raises ValueError if the time is invalid."""
    return timestamps.iso(timestamps.epoch(instant) - _CLOCK_SKEW)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Calls the GitHub API from the controller. See the module of the same name for documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Publish the postmortem and return the module's result."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "repository": {"type": "str", "required": True},
                "token": {"type": "str", "default": "", "no_log": True},
                "api_url": {"type": "str", "default": "https://api.github.com"},
                "labels": {"type": "list", "elements": "str", "default": []},
                "assignees": {"type": "list", "elements": "str", "default": []},
                "incident": {"type": "str", "required": True},
                "title": {"type": "str", "required": True},
                "document": {"type": "path", "required": True},
                "full": {"type": "str", "default": ""},
                "since": {"type": "str", "required": True},
                "patience": {"type": "float", "default": 60.0},
                "timeout": {"type": "float", "default": 15.0},
                "ca_path": {"type": "path"},
            }
        )
        numbers.require_finite(options, fail=notification_action.fail)
        token = options["token"] or next(filter(None, map(os.environ.get, transports.GITHUB_TOKENS)), "")
        told = {name: options[name] for name in ("repository", "labels", "assignees")}
        target = github_issue.Target(api=options["api_url"], token=token, **told)
        result.update(changed=False, state="not_published", url="", number=0, reason="")
        try:
            with open(options["document"], encoding="utf-8") as stream:
                document = stream.read()
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(f"Cannot read the document {options['document']}: {error}") from error
        names = fact_injection.variables(task_vars, injected=constants.INJECT_FACTS_AS_VARS)
        reason = fact_injection.refusal(names) if names else github_issue.why_not(target)
        if reason:
            return self._not_published(result, reason)
        if self._task.check_mode:
            result["reason"] = "nothing is sent in check mode"
            return result
        try:
            published = github_issue.publish(
                target,
                document=document,
                where=options["full"] or options["document"],
                send=github_issue.transport(timeout=options["timeout"], ca_path=options["ca_path"]),
                since=_earlier(options["since"]),
                **{name: options[name] for name in ("title", "incident", "patience")},
            )
        except (github_issue.IssueError, transports.DeliveryError, ValueError) as error:
            return self._not_published(result, str(error))
        warnings: List[str] = [f"The issue of the postmortem: {each}" for each in published.warnings]
        if warnings:
            result["warnings"] = warnings
        result.update(
            changed=published.state != "unchanged", state=published.state, url=published.url, number=published.number
        )
        return result

    def _not_published(self, result: Dict[str, Any], reason: str) -> Dict[str, Any]:
        result["reason"] = reason
        result["warnings"] = [f"The postmortem was not published: {reason}. Its documents were written."]
        return result
