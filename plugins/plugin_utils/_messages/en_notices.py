# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages for notifications: the action that each escalation rule requests from the notified person."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "notice.failed": "{action} (failed)",
    "notice.suspected": "SUSPECTED. Change nothing until the DBA has decided what to do",
    "notice.suspected_again": (
        "SUSPECTED. Change nothing until the DBA has decided what to do. The database recovery has already lost rows"
    ),
    "notice.not_confirmed": "{verdict}. The data loss that was suspected in an earlier message was not confirmed",
    "notice.because": "{verdict}. Reason for the suspicion: {why}",
    "notice.place": "{path} on the controller {host}",
    "notice.see_cause": "see the cause",
    "notice.login_again": "the login was checked again and works",
    "notice.no_channel": (
        "No channel is set for {name}, so this contact was not notified. Add a channel to "
        "escalation_contacts.{contact}.channels, for "
        "example {{type: mail, to: name@example.com}}"
    ),
    "notice.stopped": "stopped on request",
    "notice.lost": "{rows} lost",
    "notice.lost_least": "at least {rows} lost",
    "notice.lost_unknown": "unknown number of rows lost",
    "notice.seeded": (
        "{rows}; not part of the recovered data. The service creates these rows at each start if the tables are empty, so "
        "leave them for now. Before you import lost rows into these tables, read the postmortem. It contains the command "
        "that removes the created rows; run this command after the import"
    ),
    "notice.prevention": "Complete the open prevention items in section 6 of the postmortem",
    "asked.data_loss": (
        "Do not start the service on this database. Read the evidence. To see what each method would lose, run "
        "database_recover.yml with --check"
    ),
    "asked.data_loss_unknown_cause": (
        "Do not start the service on this database. Read the evidence. To see what each method would lose, run "
        "database_recover.yml with --check"
    ),
    "asked.data_loss_long_outage": (
        "Do not start the service on this database. Read the evidence. To see what each method would lose, run "
        "database_recover.yml with --check"
    ),
    "asked.data_loss_known": "Bring the service back first. Then ask the users which lost rows must be entered again",
    "asked.data_in_doubt": "Decide whether the service may keep running. To see what each method would lose, run database_recover.yml with --check",
    "asked.degraded": "Fix the cause. Meanwhile, the service keeps running",
    "asked.degraded_database": (
        "To see what each method would lose, run database_recover.yml with --check. Then decide when to stop the "
        "service, and run database_recover.yml without --check"
    ),
    "asked.long_outage": "Decide who takes over, read the evidence, and inform the users",
    "asked.unknown_cause": "Decide who takes over, and read the evidence. The steps that were tried did not help, and repeating them will not help either",
    "asked.not_recovered": "Fix the cause, then run the playbook again",
    "asked.login_failed": "Check that people can log in. Check the account used for the login check. Then run the playbook again",
    "asked.repeated_restarts": "Find out why the service had to be started so often. The cause of each outage is in the postmortem of its incident",
    "asked.reachable_again": "wait for the result of this run, because only the connection to the host has been restored",
    "asked.nothing": "no urgent action is needed; the postmortem lists the follow-up actions",
    "asked.count_rows": "Run outage_verify.yml, because no run has counted the rows since the outage; the postmortem lists the follow-up actions",
    "asked.count_rows_again": (
        "Run outage_verify.yml, because no run has counted the rows since the last start of the service; "
        "the postmortem lists the follow-up actions"
    ),
    "asked.find_out": "Find out what happened",
}
