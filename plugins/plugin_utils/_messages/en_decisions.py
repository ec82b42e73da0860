# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about the decisions of a run: the reasons for skipped rungs, and the next steps for a person."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    "reason.no_cause": "No cause was found",
    "reason.data_sound_again": "The service was held because its database was in doubt; a check has now found the database sound",
    "reason.loop.fell": (
        "A recovery run started the service in the last {minutes} minutes, and the service failed again during the "
        "stability check. This run does not try a restart alone again"
    ),
    "reason.loop.started": (
        "Earlier recovery runs started the service {times} times in the last {minutes} minutes (all incidents "
        "together), so this run does not try a restart alone again"
    ),
    "reason.only_notifies": "this run only sends notifications, because outage_recover_act_on is empty",
    "reason.not_acted_on": "{severity} is not in outage_recover_act_on ({act_on}): nothing was tried",
    "reason.degraded": "The service answers, so it is not restarted",
    "reason.fewer_rows": "there are fewer rows than before: {tables}",
    "reason.data_loss_suspected": "Data loss is suspected",
    "reason.rung.not_in_run": "not allowed by outage_recover_rungs or outage_recover_highest_rung",
    "reason.rung.highest": "The highest allowed rung is {rung}",
    "reason.rung.cannot_help": "{rung} cannot help: {why:;}",
    "reason.rung.lost": "the connection to the host was lost",
    "reason.rung.stopped": "an error stopped the recovery",
    "reason.rung.serves": "the service answers, and a failed login is no reason to stop it",
    "reason.rung.ended": "the recovery ended after {rung}",
    "reason.unreached": "the host cannot be reached: {why}",
    "reason.not_worked_on": "the account cannot become root: {why}",
    "reason.no_answer": "the host did not answer within {seconds} s; a disk or the whole host is probably hung",
    "reason.died": "the module exited with code {code} and returned no result",
    "reason.failure.hidden": "its output is hidden",
    "reason.failure.undefined": "the variable {name} is not defined",
    "reason.failure.task": "{task}: {why}",
    "reason.failure.then": "then {why}",
    "reason.failure.restored": "restoring the previous state also failed: {why}",
    "reason.failure.not_run": "Cannot run {module} on {host}: {why}",
    "reason.failure.not_written": "Postmortem not written: {why}",
    "reason.failure.not_usable": "invalid settings: {names}",
    "reason.verification.fell": "failed again: {why}",
    "reason.verification.login": "{why}; the service answers, so check nexus_login_username and nexus_login_password",
    "reason.recovery.no_method": (
        "{path} was not changed, because no method is applicable: {why:;}. To use an empty database, set "
        "database_recovery_confirm_empty"
    ),
    "reason.recovery.not_examined": "as long as {path} is open, no method is applicable: {why:;}",
    "reason.recovery.rows_missing": (
        "{path} was not changed: it is sound, but these tables have fewer rows than at the last good count: "
        "{tables}. If these rows were deleted on purpose, release the service with outage_release.yml. Otherwise, "
        "set database_recovery_method"
    ),
    "reason.recovery.not_sound": "After the migrations, the database {path} is not sound: {problems:;}",
    "remedy.see_evidence": "see the evidence",
    "remedy.roll_back_manually": "roll back manually, because nexus_release_strategy is none",
    "next_step.data_loss": "{number}. Do not start the service. Give the evidence to the DBA",
    "next_step.data_in_doubt": "{number}. Ask the DBA to check the database",
    "next_step.login_failed": (
        "Check that people can log in. Check the values of nexus_login_username and nexus_login_password. Then run "
        "the playbook again: it checks the login and closes the incident"
    ),
    "next_step.halted": "Fix the problem that stopped the recovery: {halted}. Then run the playbook again",
    "next_step.helpless": "Read the evidence. The steps that were tried did not help, and repeating them will not help either",
    "next_step.not_recovered": "Fix the cause: {remedy:;}. Then run the playbook again",
    "next_step.command": "The command is:\n{command}",
    "next_step.count_rows": "Check that no rows are missing. This command compares the rows with the last good count, if there is one:\n{command}",
    "next_step.check_data": "Check in the application that no data is missing",
    "next_step.systemd.waiting": (
        "When this run last checked, systemd was waiting to start {unit} again. If the cause is fixed before that start, "
        "the service may recover without another run"
    ),
    "next_step.systemd.handed_back": (
        "During this run, systemd could not restart {unit}. Now that the run has ended, systemd may start the unit "
        "again"
    ),
    "next_step.start_manually": (
        "Recovery runs have started the service too often, so a restart alone is not tried again for up to an hour. If the "
        "cause is fixed, start the service manually first"
    ),
    "next_step.degraded": "Fix the cause: {remedy:;}. Meanwhile, the service keeps running. To check whether the problem is gone, run the playbook again",
    "next_step.accepted.running": (
        "The service keeps running with the damage that a person accepted on {at} ({reason}). Agree with the DBA on "
        "a time to stop the service and to repair or restore the database. The check below shows which data each "
        "method would lose and which command to run at that time:\n{command} --check"
    ),
    "next_step.accepted.planned": (
        "On {at}, a person accepted the damage to the database ({reason}). Agree with the DBA on a time for the "
        "repair or the restore. The check below shows which data each method would lose and which command to run at "
        "that time:\n{command} --check"
    ),
    "next_step.accepted.failed": (
        "The service does not work with the damage that a person accepted on {at} ({reason}). Repair or restore the "
        "database now. The check below shows which data each method would lose and which command to run next:\n"
        "{command} --check"
    ),
    "next_step.accepted.down": (
        "On {at}, a person accepted the damage to the database ({reason}). Agree with the DBA on a time to repair or "
        "restore the database with database_recover.yml. Until then, the service may be started:\n{command}"
    ),
    "next_step.warning": "Find the cause before the warning becomes an outage: {summary}",
    "next_step.would_recover": "Run the playbook without --check to recover the service",
    "next_step.asked_to_stop": "A person or a program stopped the service on request: first find out whether the stop was intended",
    "next_step.recovered": "Complete the open prevention items",
    "next_step.recovered_by_systemd": "Complete the open prevention items",
    "next_step.held_without_unit": "The service is held by incident {incident}: until the hold is released, this collection does not start it",
    "next_step.held": "The service is held by incident {incident}: until the hold is released, neither this collection nor systemd starts it",
    "next_step.held_running": (
        "The running service is not stopped. If it exits, neither this collection nor systemd starts it "
        "again, because it is held by incident {incident}"
    ),
    "next_step.database.loss": "Inform the data owners about the loss ({statement:;}). The damaged files are in {kept}",
    "next_step.database.loss_in_evidence": "Inform the data owners about the loss ({statement:;}). The damaged files are in the evidence",
    "next_step.database.deleted": (
        "{number}. Ask the DBA whether the missing rows were deleted on purpose. If the rows were deleted on purpose, run "
        "outage_release.yml"
    ),
    "next_step.database.compare": "{number}. See how many rows each method would lose. This check changes nothing:\n{command} --check",
    "next_step.database.time": "{number}. Agree with the DBA on a time to stop the service. Until then, the service keeps running",
    "next_step.database.agreed": (
        "{number}. If the DBA agrees, run the command that the check above shows as its next step. It recovers the database "
        "and starts the service"
    ),
    "next_step.database.stopping": (
        "{number}. At that time, run the command that the check above shows as its next step. It stops the service, "
        "recovers the database and starts the service"
    ),
    "next_step.database.choose": (
        "{number}. Choose a method that this check reports as possible. Then run the command without --check, and "
        "add the method, for example:\n-e database_recovery_method=backup"
    ),
    "next_step.database.would_recover": (
        "Compare what the methods would lose. If the DBA agrees, recover the database with the method that is marked "
        "as CHOSEN. To choose another method, add one of the options below. The same command, without --check, stops "
        "the service if it is running, and starts it after the recovery:\n{command}"
    ),
    "next_step.database.choose_method": "{number}. If the rows were not deleted on purpose, choose a method, for example:\n{command}",
    "next_step.database.not_recovered": (
        "Give the evidence to the DBA. All files of the database are kept. See how many rows each method would "
        "lose:\n{command} --check"
    ),
    "next_step.database.other_method": (
        "Give the evidence to the DBA. All files of the database are kept. To try another method, run, for "
        "example:\n{command}"
    ),
    "next_step.database.no_other_method": (
        "Give the evidence to the DBA. All files of the database are kept. No other method is possible. If the DBA has "
        "a backup in another folder, add this folder to database_recovery_backup_dirs and run the playbook again"
    ),
    "next_step.database.examine_again": (
        "Some methods could not be examined, because the database is open. If the DBA agrees, run the same command without --check. "
        "It stops the service if it is running, then examines the methods again. If a method is possible, it recovers the "
        "database:\n{command}"
    ),
    "next_step.unguarded": (
        "The service has no systemd unit, so nothing prevents a manual start: until the recovery has ended, make "
        "sure that nobody starts the service manually or with a script"
    ),
    "next_step.reach.other": "Connect to the host in another way, for example through its console, then run the playbook again",
    "next_step.reach.refused": (
        "The host refuses connections to this port. Check, for example through the host's console, that sshd is "
        "running, that it listens on ansible_port, and that no firewall rejects the connection. Then run the "
        "playbook again"
    ),
    "next_step.reach.known_hosts": (
        "known_hosts contains no key for this host, or a different key. Verify the host key, add it to known_hosts, then "
        "run the playbook again"
    ),
    "next_step.reach.become": (
        "The account cannot become root on the host. Check ansible_become_password and the sudo rule on the host. "
        "The rule may require certain values of ansible_pipelining and ansible_python_interpreter. Then run the "
        "playbook again"
    ),
    "next_step.reach.login": (
        "The host refuses the login. Check ansible_user, its key or password, and authorized_keys on the host, then "
        "run the playbook again"
    ),
    "next_step.reach.name": "The host name cannot be resolved. Check ansible_host in the inventory and the controller's DNS, then run the playbook again",
}
