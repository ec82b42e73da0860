# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages for the summary on the screen."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "screen.title": "OUTAGE SUMMARY",
    "screen.head": "{outcome}: {subject}, incident {incident}",
    "screen.would": "{outcome}: {subject}",
    "screen.in_check_mode": "{head} (check mode)",
    "screen.severity": "severity",
    "screen.cause": "cause",
    "screen.also": "also found",
    "screen.database": "database",
    "screen.rung": "rungs",
    "screen.done": "done",
    "screen.outage": "outage",
    "screen.login": "login",
    "screen.seeded": "seeded rows",
    "screen.rows": "rows",
    "screen.data_loss": "data loss",
    "screen.escalation": "notified",
    "screen.why": "why",
    "screen.next": "next step",
    "screen.methods": "methods",
    "screen.options": "options",
    "method.chosen": "{method} (CHOSEN, {choice}): {why}",
    "method.more": "Tables with more rows in the backup than in the database now: {tables}",
    "method.possible": "{method}: {why}",
    "method.kept": "Kept: {kept}",
    "method.lost": "Lost: {lost}",
    "method.since": "all changes since then",
    "choice.more_rows": "it keeps more rows than salvage",
    "method.rule": (
        "backup was chosen only because it keeps more rows: {kept}, compared with {saved} for salvage. This choice "
        "does not consider that backup also loses all changes made since the backup, in all tables. Compare what both "
        "methods would lose"
    ),
    "choice.first": "the first possible method",
    "choice.asked_for": "as requested",
    "method.unconfirmed": "{method} (needs confirmation): {why}",
    "method.damaged": "the database is damaged",
    "method.impossible": "{method} (not possible): {why}",
    "method.open": "{method} (unknown as long as the database is open): {why}",
    "method.again": (
        "without --check, database_recover.yml stops the service if it is running, then examines the methods again, "
        "and may choose another one"
    ),
    "method.backup": "other backup: {path}, {at}",
    "method.unusable_backup": "backup file {path}, {at}: not usable: {why}",
    "choice.method": "To use the method {method}: add -e database_recovery_method={method}",
    "choice.empty": "Start with an empty database and lose all rows: add -e database_recovery_method=empty -e database_recovery_confirm_empty=true",
    "choice.backup": "Another backup: add -e database_recovery_method=backup {options}",
    "choice.folder": "Backups in another folder: add {options}",
    "screen.kept": "kept",
    "screen.postmortem": "postmortem",
    "screen.would_climb": "would try",
    "screen.would_do": "would do",
    "screen.would_tell": "to notify",
    "screen.settings": "invalid",
    "screen.recap": "recap",
    "screen.counted": (
        "changed= counts the changes that a run would make, including the incident record. Nothing was "
        "changed. Check mode cannot show whether the service would work after a start"
    ),
    "screen.no_rung": "no rung",
    "screen.nothing": "nothing",
    "screen.hold_it": "Run the playbook without --check. It holds the service, saves the evidence and notifies people. Then:",
    "screen.fix_first": "First fix the other problem below, because it can prevent the recovery. Then:",
    "screen.hold_removed": "hold removed: the database was checked, and it is sound",
    "screen.would_hold": "the service would be held, so that neither this collection nor systemd starts it",
    "screen.would_hold_running": (
        "the service would be held: it would not be stopped, but if it exits, neither this collection nor systemd would "
        "start it again"
    ),
    "screen.changes_unknown": "unknown, because the connection to the host was lost during a rung",
    "screen.nothing_changed": "nothing was changed",
    "screen.no_change_recorded": "no change is recorded",
    "taken.none": "no recovery step was tried and no remedy applied",
    "taken.unknown": "unknown: the host may have started the service, but its response was lost",
    "taken.only_held": "no recovery step was tried and no remedy applied; the service is held",
    "screen.since": "{outage}, since {at}",
    "screen.estimated": "{outage}; its end is an estimate",
    "screen.still_down": "{outage}, still down",
    "screen.partly_down": "{outage}, still down, although {endpoints} answers",
    "screen.on_host": "{name} on the host: {path}",
    "screen.in_evidence": "in this folder: {files}",
    "screen.not_written": "not written",
    "screen.issue": "issue: {url}",
    "screen.on_that_host": "on {host}: {path}",
    "screen.in_artifacts": "in the artifacts of this job: outage_postmortem",
    "screen.triage_it": "To find the cause, and to see what a recovery would do:",
    "screen.that_cause": "no rung in outage_recover_rungs can fix the cause below",
    "screen.released": "RELEASED: {subject}, incident {incident}; the hold is removed, and nothing was started",
    "screen.would_release": "WOULD RELEASE (check mode, nothing changed): {subject}, incident {incident}",
    "screen.compare_first": "Before you accept the damage, see in which tables each recovery method would lose rows:",
    "screen.release_it": "To release the service, run the same command without --check. This does not start the service",
    "screen.accepts": "accepts",
    "screen.accepts_nothing": "the rows as they are now; no damage was found",
    "screen.accepts_unknown": "nothing, because the database could not be checked",
    "screen.start_it": "If the next run finds other damage, it holds the service again. To start the service with the database as it is now:",
    "screen.unfinished": "the run ended before it reached a verdict",
    "screen.changed": "changed: {what}",
    "screen.unchanged": "this run did not change the service",
    "screen.stopped": "STOPPED: {host}, {why}; {touched}",
    "screen.stopped_many": "STOPPED: {host}, {problems}; {touched}",
    "screen.kept_out": "STOPPED: {host}, another run is working on it; {touched}",
    "screen.run": "other run",
    "screen.step": "its step",
    "screen.step_at_work": "{step}; process {pid} is running",
    "screen.step_idle": "{step}, no process is running now",
    "screen.how_to_wait": "with -e outage_recover_wait=600",
    "screen.how_to_wait.awx": 'and answer 600 to the survey question "How long may the job wait?"',
    "screen.wait_for_it": (
        "Wait until the other run ends. To make this playbook wait, run it again {how}. It waits up to 600 seconds and "
        "then starts. If the other run has crashed, its lock expires at {until}, or one minute after its last process "
        "ends."
    ),
    "screen.maintenance": "MAINTENANCE: {host}, {seen}; no recovery will start until {until}",
    "screen.end_maintenance": "People are working on the service. To recover it now, end the maintenance:",
    "screen.end_variable": "People are working on the service. To recover it now, remove nexus_maintenance_until.",
    "screen.maintenance_begun": "MAINTENANCE STARTED: {host}; no recovery will start until {until}",
    "screen.maintenance_ended": "MAINTENANCE ENDED: {host}, recovery is enabled again",
    "screen.end_earlier": "To end the maintenance earlier:",
    "screen.held": "The service is held because of incident {incident} ({cause}). Its postmortem lists the evidence and the people who were notified.",
    "screen.held_causes": "Do not start the service. To see what must be done before the hold is released:",
    "screen.correct": "Correct the inventory or the host: {variables}. To see which values the host uses:",
    "screen.down": "DOWN: {host}, {seen}; {touched}",
    "screen.degraded": "DEGRADED: {host}, {seen}; {touched}",
    "screen.not_healthy": "NOT HEALTHY: {host}, {seen}; {touched}",
    "screen.healthy": "HEALTHY: {host}, {touched}",
    "screen.healthy_login": "HEALTHY: {host}, login {login}; {touched}",
    "screen.unclosed": "HEALTHY, INCIDENT STILL OPEN",
    "screen.would_close": "Run the playbook without --check. If the service is still healthy, the playbook closes the incident",
    "screen.would_close_login": "Run the playbook without --check. It checks the login. If the login works, the playbook closes the incident",
    "screen.login_unchecked": "failed in an earlier run; not checked in check mode",
    "screen.still_open": "an incident is still open; {touched}",
    "screen.close_it": (
        "If the outage is over, this command closes the incident, unless another run is working on it. If the login "
        "failed in an earlier run, the command checks the login first:"
    ),
    "screen.login_failed": "SERVING, LOGIN FAILED: {host}, login {login}; {touched}",
    "screen.check_login": (
        "Check that people can log in. Check the values of nexus_login_username and nexus_login_password. "
        "Then run outage_verify.yml, which checks the login again."
    ),
    "screen.rows_stored": "{rows} in {tables}, stored as the last good count",
    "screen.rows_counted": "{rows} in {tables}",
    "screen.rows_none_fewer": "Previous good count: {before} on {at}. No table has fewer rows now",
    "screen.rows_fewer": "Previous good count: {before} on {at}. FEWER ROWS NOW: {fewer}",
    "screen.healthy_open": "HEALTHY: {host}, incident {incident} is still open, because another run is working on the host; {touched}",
    "screen.closes_it": (
        "The other run closes the incident when it ends. If the other run has crashed, run this playbook again after "
        "{until}. Or run it now {how}: it then waits for the lock and closes the incident."
    ),
    "screen.healthy_database": "HEALTHY: {host}, the database {path} is sound; {touched}",
    "screen.unreachable": "UNREACHABLE: {host}, {why}; {touched}",
    "screen.hosts": "{number} HOSTS: {what}",
    "screen.hosts_of": "{number} {ended}",
    "ended.recovered_by_systemd": "recovered by systemd",
    "ended.degraded": "degraded",
    "ended.data_in_doubt": "with data in doubt",
    "ended.login_failed": "serving, login failed",
    "ended.not_recovered": "not recovered",
    "ended.would_recover": "to be recovered",
    "ended.stopped": "stopped by an error",
    "screen.nothing_wrong": "NOTHING WRONG FOUND: {host}, login {login}; {touched}",
    "screen.invalid": "INVALID SETTINGS: {host}, {problems}, but no cause of an outage was found; {touched}",
    "screen.found": "CAUSE: {host}, {cause}: {summary}",
    "screen.and_more": "{found} (and {causes} more)",
    "screen.evidence": "{found}; evidence on the host: {path}",
    "screen.progress": "... {took}: {what} on {hosts}",
}
