# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.plugins.loader import lookup_loader

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.late_import import function, module
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps, unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import settings as recovery_settings
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import ansible_core


def problems(given: Mapping[str, Any], command_line: bool = False) -> List[str]:
    """Return the invalid settings.

    If command_line is true, also return the command-line variables whose names are misspelled.
    """
    return recovery_settings.problems(given, names=ansible_core.extra_vars() if command_line else ())


def whole(hosts: Any) -> Any:
    """Return the hosts of a play unchanged. Raise AnsibleFilterError if command-line options exclude tasks of the play.

    Use this filter in the "hosts" keyword, because Ansible always evaluates this keyword. If a task made this check,
    --tags or --skip-tags could skip the task.
    """
    reason = recovery_settings.partial(context.CLIARGS)
    if reason:
        raise AnsibleFilterError(reason)
    return hosts


def single_host(hosts: Any, wanted: Any, groups: Mapping[str, Any]) -> Any:
    """Return the hosts of a play unchanged.

    Raise AnsibleFilterError if wanted is true and --limit is not the name of one of these hosts. For example, if
    --limit were the name of a group, the play would run on every host in the group. If the play selects
    only one host, --limit can be omitted.
    """
    members = lookup_loader.get("ansible.builtin.inventory_hostnames").run([hosts], variables={"groups": groups})
    limit = context.CLIARGS.get("subset")
    reason = recovery_settings.single_host(wanted, limit=limit, hosts=hosts, groups=groups, members=members)
    if reason:
        raise AnsibleFilterError(reason)
    return hosts


def data_loss_before(
    incident: str,
    host: str,
    process: Optional[Mapping[str, Any]] = None,
    data: Optional[Mapping[str, Any]] = None,
    opened_at: Optional[str] = None,
) -> Dict[str, str]:
    """Return the data_loss statement of the earlier runs (value, why), or {} if this controller has no such statement.

    process: the current process of the service, as returned by health_probe. data: the `data` field of the incident's
    record.
    """
    try:
        folder = module("_action.postmortem_options").documents_folder()
        events = module("_report.document_store").read(folder, incidents=[incident], since=opened_at) if folder else []
        before = module("_timeline.incidents").data_loss_before
        said: Dict[str, str] = before(events, incident=incident, host=host, process=process or {}, data=data)
    except Exception:  # a notification must be sent even if a timeline cannot be read or contains an invalid event
        return {}
    return said


def target(host: str) -> str:
    """Return the ansible-playbook options that select this run's inventory and limit a run to this host."""
    return next_steps.target(host, [str(each) for each in context.CLIARGS.get("inventory") or ()])


def options(prefix: str) -> str:
    """Return this run's -e options for variables whose names begin with the prefix."""
    return next_steps.options(ansible_core.extra_vars(), prefix)


class FilterModule:
    """Filters for the playbooks: the outage_recover_* variables, partial runs, verdicts and unreachable hosts.

    The YAML files document the filters.
    """

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name. Filter code is imported late, so that the first task starts sooner."""
        return {
            "recovery_already_started": function("_policy.first_response", "already_started"),
            "recovery_closed_outcome": function("_policy.outcome", "of_closed_incident"),
            "recovery_course": function("_policy.verdict", "course"),
            "recovery_data_loss_before": data_loss_before,
            "recovery_database_verdict": function("_policy.database_verdict", "of_run"),
            "recovery_ended_statements": function("_timeline.statements", "of_ended_outage"),
            "recovery_error": function("_policy.outcome", "error_message"),
            "recovery_failure": function("_policy.failures", "messages"),
            "recovery_first_response": function("_policy.first_response", "allowed"),
            "recovery_job_url": function("_timeline.job", "url"),
            "recovery_ladder": recovery_settings.ladder,
            "recovery_options": options,
            "recovery_outcome": function("_policy.outcome", "of_run"),
            "recovery_problems": problems,
            "recovery_reach": unreachable.next_step,
            "recovery_reach_message": unreachable.reach_message,
            "recovery_remediable": function("_policy.verdict", "remediable"),
            "recovery_rung_failed": function("_policy.attempt", "failed"),
            "recovery_rung_failed_again": function("_policy.attempt", "failed_again"),
            "recovery_rung_problems": function("_policy.approval", "of_triage"),
            "recovery_setting": recovery_settings.setting,
            "recovery_single_host": single_host,
            "recovery_statements": function("_timeline.statements", "of_run"),
            "recovery_summary": function("_policy.verdict", "summary"),
            "recovery_target": target,
            "recovery_unreachable_outcome": function("_policy.outcome", "of_unreachable_host"),
            "recovery_unwritten": function("_policy.outcome", "without_documents"),
            "recovery_verdict": function("_policy.verdict", "of_run"),
            "recovery_verification": function("_policy.failures", "of_verification"),
            "recovery_whole": whole,
        }
