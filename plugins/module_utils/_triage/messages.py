# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages for findings: problems (finding), actions to take now (remedy), and future measures (prevention).

A template does not end with a full stop. The Japanese templates with the same IDs are in
plugin_utils/_messages/ja_findings.py.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._readiness import messages as readiness_messages

ENGLISH: Dict[str, str] = {
    **readiness_messages.ENGLISH,
    # Disk.
    "finding.disk_full.both": "Almost no space or inodes are left on {mounts}",
    "finding.disk_full.inodes": "Almost no inodes are left on {mounts}, so no file can be created",
    "finding.disk_full.now": "Almost no space is left on {mounts}",
    "finding.disk_full.past": "Writes failed because a disk was full; there is free space again",
    "remedy.disk_full.restart": "Restart the service. It still has deleted files open, and their space is not freed until these files are closed",
    "remedy.disk_full.make_room": (
        "Make room on {mounts}, for example by removing rotated logs, the npm cache or old backups. Never delete the "
        "database, its -wal file or its -shm file"
    ),
    "remedy.disk_filling": (
        "Make room on this file system, for example by removing rotated logs, the npm cache or old backups. Never "
        "delete the database, its -wal file or its -shm file"
    ),
    "remedy.disk_full.past": "Start the service, and find out what filled the disk",
    "prevention.disk_full": "Rotate and compress the logs, and set an alert for disks that are almost full",
    "finding.disk_read_only": "The file system {mounts} is read-only",
    "remedy.disk_read_only": "Check the kernel log for errors on this disk. If there are none, remount the file system read-write",
    "prevention.disk_read_only": "Monitor the disk's health, and set an alert for file systems that become read-only",
    # Memory.
    "finding.oom_kill.limit": "The service reached its memory limit, so the kernel killed it",
    "finding.oom_kill.host": "The service was killed because memory ran out",
    "remedy.oom_kill": "Restart the service. If it is killed again, set the proposed limits or give the host more memory",
    "prevention.oom_kill": "Limit the service's memory (MemoryMax=, --max-old-space-size) to less than the host has, and look for a memory leak",
    "finding.heap_oom.now": "Node reached its heap limit and aborted",
    "finding.heap_oom.refuted": "The log reports that Node reached its heap limit, but the service exited for another reason",
    "remedy.heap_oom": "Restart the service. If the load explains the memory use, set the proposed heap size",
    "prevention.heap_oom": "Look for a memory leak. Raise --max-old-space-size only if the load explains the memory use",
    # Database.
    "finding.db_corrupt.unsound": "The database {path} is not sound: {reasons}",
    "finding.db_corrupt.another": "The database {path} was not found at first. The file that is there now may be a different database",
    "finding.db_corrupt.replaced": "The database {path} was created at {at}, so it does not contain the earlier rows",
    "finding.db_corrupt.fewer": "The database {path} has far fewer rows than at the last good count: {tables}",
    "finding.db_corrupt.rows": "Rows of the database {path} may be lost",
    "finding.db_corrupt.reported": "The log contains errors about a damaged database, although no damage was found in {path}",
    "remedy.db_corrupt": "Start nothing and change nothing. Leave the database, its -wal file and its -shm file as they are, and call the DBA",
    "remedy.db_corrupt.in_use": (
        "Do not restart the service, and do not change the database, its -wal file or its -shm file. Call the DBA, "
        "and agree on a time for database_recover.yml"
    ),
    "prevention.db_corrupt": "Find out what damaged the database",
    "finding.db_unchecked.unread": "The database {path} was not checked: it cannot be opened",
    "finding.db_unchecked.away": "The database {path} was not checked, because it was not found: {reason}",
    "finding.db_unchecked.late": "The check of the database {path} did not finish in time",
    "remedy.db_unchecked.unread": (
        "Check again as root. If another user owns the database, its -wal file or its -shm file, change the owner to "
        "the service's user"
    ),
    "remedy.db_unchecked.away": "Mount the disk of the database. If its folder was deleted, call the DBA",
    "remedy.db_unchecked.late": "Check the database with sqlite_info and a larger time_budget, or raise triage_database_timeout",
    "prevention.db_unchecked.unread": "Allow only the service's user to open the database for writing",
    "prevention.db_unchecked.away": "In the unit, list the service's folders in RequiresMountsFor=",
    "prevention.db_unchecked.late": "Set triage_database_timeout to at least the time that a check of this database takes",
    "finding.db_locked.writes_wait": (
        "Writes are blocked: process {pid} ({command}, user {user}, age {age}) held the database lock throughout the "
        "check, for at least {seconds} s"
    ),
    "finding.db_locked.holder": "The database is locked by process {pid} ({command}, user {user}, age {age})",
    "finding.db_locked.now": "The database is locked",
    "finding.db_locked.past": "The service reported that its database was locked; no other process holds the lock now",
    "remedy.db_locked.end": (
        "Wait until process {pid} ends, or end it on the host as root: kill {pid}. To allow the next run to end it, set "
        "remediation_stop_policy, for example to {policy}"
    ),
    "remedy.db_locked.end_restart": (
        "Wait until process {pid} ends, or end it on the host as root: kill {pid}. To allow the next run to end it, set "
        "remediation_stop_policy, for example to {policy}. Then restart the service"
    ),
    "remedy.db_locked.by_service": (
        "Wait until the transaction of the service ends. If it does not end, restart the service: SQLite then "
        "discards all changes in this transaction"
    ),
    "remedy.db_locked.wait": "Wait until that process ends, or stop it",
    "remedy.db_locked.wait_restart": "Wait until that process ends, or stop it. Then restart the service",
    "remedy.db_locked.restart_older": "Restart the service. The restart first ends the service's older process, which holds the lock",
    "prevention.db_locked": "Run backups and reports on a copy of the database, and set a busy timeout in the service",
    "finding.migration_pending.running": "A migration is running: {processes}",
    "finding.migration_pending.code_older": "The database has migrations that the code does not have: the code is older than its database",
    "finding.migration_pending.locked": "A migration was interrupted, and its lock is still set",
    "finding.migration_pending.was_locked": "The service reported that the migration lock was set; the lock is free now",
    "finding.migration_pending.pending": "The service needs tables or columns that pending migrations create ({number} pending)",
    "finding.migration_pending.missing": "The service needs tables or columns that the database does not have",
    "remedy.migration_pending.wait": "Wait until the migration ends. If the migration is interrupted, its lock stays set and the service does not start",
    "remedy.migration_pending.newer_release": "Deploy the release that has these migrations. Do not migrate",
    "remedy.migration_pending.unlock": "Back up the database, release the stale lock, and apply all pending migrations",
    "remedy.migration_pending.migrate": "Back up the database and apply all pending migrations",
    "remedy.migration_pending.compare": "Compare the release with the migration status, and check that the service uses the right database",
    "prevention.migration_pending": "For each release, back up the database before you migrate it. Never kill a running migration",
    "finding.database_owner": "User {user} cannot write to {path} (owner {owner}, mode {mode})",
    "remedy.database_owner": "Change the owner of the database, its -wal and -shm files and their folder back to user {user} (chown). Then start the service",
    "prevention.database_owner": "Work on the database only as the service's user (sudo -u), never as root",
    "finding.wal_pending": (
        "The last saved changes (pages: {pages}) are only in the -wal file of the database: no action is needed, but "
        "do not delete this file"
    ),
    "remedy.wal_pending": "Do not delete the -wal file, or the changes will be lost. The service reads them at its next start",
    "prevention.wal_pending": "Change the service so that it closes its database when it receives SIGTERM",
    "finding.wal_reset_bug": (
        "SQLite {version} wrote this database. This version has a bug that can damage a database in WAL mode if two "
        "connections write and checkpoint at the same time"
    ),
    "remedy.wal_reset_bug": "Find out whether another process, such as a backup, had the database open before it was damaged",
    "prevention.wal_reset_bug": "Update the SQLite library of the service to 3.51.3 or later, and make sure that no other process writes to the database",
    # Ports and certificates.
    "finding.port_conflict.other": "Port {port} is taken by process {pid} of user {user} ({program}), which is not the service",
    "finding.port_conflict.hidden": "Port {port} is taken by another process, which this user cannot see",
    "finding.port_conflict.older": "Port {port} is in use by an older process of the service (pid {pid}) outside its unit",
    "finding.port_conflict.past": "The service could not start because its port was taken; the port is free now",
    "remedy.port_conflict.other": (
        "Find out who owns that process. Stop the process or move it to another port. The recovery stops the "
        "process only if the policy lists it"
    ),
    "remedy.port_conflict.older": "Stop the older process, then start the unit",
    "remedy.port_conflict.past": "Start the service, and find out what took the port",
    "prevention.port_conflict.other": "Reserve the port for the service, and move the other program to its own port",
    "prevention.port_conflict.older": "Start the service only through its unit, never manually",
    "finding.tls_expired.expired": "The TLS certificate expired on {at}",
    "finding.tls_expired.expired_newer": "The TLS certificate expired on {at}; the service has not loaded the newer certificate",
    "finding.tls_expired.early": "The TLS certificate is not valid before {at}",
    "finding.tls_expired.early_newer": "The TLS certificate is not valid before {at}; the service has not loaded the newer certificate",
    "finding.tls_expired.does_not": "The service does not offer HTTPS: {reason}",
    "finding.tls_expired.would_not": "The service would not offer HTTPS after a start: {reason}",
    "reason.tls.missing": "the certificate does not exist ({path})",
    "reason.tls.unreadable": "the service cannot read its certificate ({path})",
    "reason.tls.key_missing": "the private key does not exist ({path})",
    "reason.tls.key_unreadable": "the service cannot read its private key ({path})",
    "reason.tls.key_mismatch": "the private key does not match the certificate ({path})",
    "reason.tls.not_loaded": "it has not loaded its certificate and private key",
    "reason.tls.unusable": "it could not use its certificate or private key",
    "remedy.tls_expired.restart": "Restart the service, so that it loads the current certificate and private key",
    "remedy.tls_expired.renew": (
        "Renew the certificate, or restore its missing or damaged files. Check that the service's user can read the "
        "certificate and its private key, and restart the service"
    ),
    "remedy.tls_expired.files": (
        "Restore the certificate and its private key, and check that the service's user can read both files"
    ),
    "prevention.tls_expired.files": (
        "Put the certificate and its private key under configuration management, so that a missing file is noticed and "
        "restored"
    ),
    "prevention.tls_expired": "Renew the certificate automatically, restart the service after each renewal, and set an alert for certificates that expire soon",
    # Application.
    "finding.modules_broken.repaired": "The service could not load a dependency; all dependencies can be loaded now",
    "finding.modules_broken.no_folder": "The service's dependencies are missing: the folder node_modules does not exist",
    "finding.modules_broken.missing": "Dependencies of the service are missing: {packages}",
    "finding.modules_broken.unloadable": "Dependencies of the service cannot be loaded: {packages}",
    "finding.modules_broken.invalid": "Dependencies of the service differ from the lock file: {packages}",
    "finding.modules_broken.not_loaded": "Dependencies of the service are missing or cannot be loaded: {packages}",
    "reason.see_log": "see the log",
    "remedy.modules_broken": (
        "Install the dependencies from the lock file in a separate folder, then replace the current node_modules "
        "with that folder (npm_ci module)"
    ),
    "prevention.modules_broken": "Install dependencies only with npm ci and as the service's user. Install them again after each change of the Node version",
    "finding.unhandled_exception.at": "The service crashed with an unhandled exception at {where}: {text}",
    "finding.unhandled_exception.somewhere": "The service crashed with an unhandled exception: {text}",
    "finding.unhandled_exception.error": "The service exited after an error: {text}",
    "remedy.unhandled_exception": "Start the service again. If it fails again, undo the last change or roll back to the previous release",
    "prevention.unhandled_exception": "Fix the code that throws the exception, and add a test with the same input",
    "finding.syntax_error.now": "Node cannot parse {where}: {error}",
    "finding.syntax_error.past": "Node could not parse {where}: {error}; the file has changed since then",
    "remedy.syntax_error": "Correct {where}, or roll back to the previous release. A restart does not help",
    "prevention.syntax_error": "Run node --check or the tests on each release before it is deployed",
    # Configuration.
    "finding.config_mismatch": "The configuration does not match the host ({what}): {mismatch}",
    "remedy.config_mismatch": "Correct the variables of this host or the configuration of the service, whichever is wrong",
    "remedy.config_mismatch.disk": "Mount the disk of this folder, or correct the variables of this host. If the folder was deleted, call the DBA",
    "prevention.config_mismatch": "Keep the configuration of the service and this inventory in one place, and change them together",
    "reason.mismatch.ports": "the configuration specifies {configured}, but the service listens on {effective}",
    "reason.mismatch.app_dir": "{path} is not a folder; check that its disk is mounted",
    "reason.mismatch.unit": "systemd has no unit {unit}",
    "reason.mismatch.script": "{path} does not exist",
    "reason.mismatch.program": "the program was not found on this host",
    "reason.mismatch.node": "the service runs on Node {version}, but package.json requires {engines}",
    "reason.mismatch.health_path": (
        "nexus_health_path is {path}, which answers with status {status} although the process, ports, log, database "
        "and dependencies are in order"
    ),
    "reason.mismatch.health_page": (
        "nexus_health_path is {path}, which answers with status {status} but does not report health, although the "
        "process, ports, log, database and dependencies are in order"
    ),
    "reason.mismatch.path": "{configured} is configured, but the service uses {effective} ({source})",
    "reason.mismatch.environment": "not set: {names}",
    "reason.mismatch.setting": "the value {value} is wrong: {why}",
    "and": "{names} and {last}",
    "finding.environment_missing": "The environment file {path} does not exist, and the service cannot start without it",
    "remedy.environment_missing": (
        "Restore {path} from a backup or from configuration management, and make it readable by root only (0600). "
        "Then start the service"
    ),
    "prevention.environment_missing": "Back up the environment file, and manage it with only one tool",
    "finding.unit_masked": "The unit {unit} is masked: systemd refuses to start it",
    "remedy.unit_masked": "Find out who masked the unit and why. If the reason no longer applies, run systemctl unmask {unit} and start the unit",
    "prevention.unit_masked": "Use a maintenance window instead of masking the unit, because a maintenance window ends automatically",
    "finding.unit_invalid": "systemd cannot load the unit {unit} ({state})",
    "remedy.unit_invalid": "Run systemd-analyze verify on the unit, correct the unit, then run systemctl daemon-reload",
    "prevention.unit_invalid": "Check each unit with systemd-analyze verify before it is deployed",
    "finding.exec_failed.now": "systemd cannot run the unit {unit} ({status}): {reason}",
    "finding.exec_failed.past": "systemd could not run the unit {unit}; the unit or a file that it needs has changed since then",
    "remedy.exec_failed.fault": "Install the missing part, or correct the unit and run systemctl daemon-reload. Then start the unit",
    "remedy.exec_failed.journal": "Read the unit's journal, and correct the unit or the host. Then start the unit",
    "prevention.exec_failed": "After each change to Node or the unit, run systemd-analyze verify and start the unit once",
    "reason.exec.200": "its working directory cannot be entered",
    "reason.exec.203": "its program cannot be run",
    "reason.exec.209": "its standard output cannot be opened",
    "reason.exec.216": "its group does not exist",
    "reason.exec.217": "its user does not exist",
    "reason.exec.226": "its file system namespace cannot be set up",
    "reason.start.missing": "{path} does not exist",
    "reason.start.not_a_file": "{path} is not a file",
    "reason.start.not_a_folder": "{path} is not a folder",
    "reason.start.noexec": "{path} is on a file system that is mounted noexec",
    "reason.start.not_executable": "the service's user cannot execute {path}",
    "reason.start.not_entered": "the service's user cannot enter {path}",
    "reason.start.no_interpreter": "{path} needs the interpreter {interpreter}, which does not exist",
    "reason.start.no_program": "{path} is neither a program nor a script",
    "reason.start.no_user": "there is no user {user}",
    "reason.start.no_group": "there is no group {group}",
    # A service that answers but is degraded. See _readiness/messages.py for the findings.
    "remedy.wal_growing": "Find the connection that keeps a read transaction open, and end this connection. Do not delete the -wal file",
    "prevention.wal_growing": "Keep read transactions short, and set an alert for the size of the -wal file",
    "remedy.memory_pressure": "Find out what uses the memory, and free some memory before the kernel kills a process",
    "prevention.memory_pressure": "Limit the memory of other programs, and set an alert for memory pressure",
    "remedy.frequent_restarts": "Find out from the log why the service exited before each restart, and fix the cause",
    "remedy.clock_jump": "Check the time synchronization of the host. Users may have to log in again",
    "prevention.clock_jump": "Synchronize the clock continuously, for example with chrony",
    "remedy.login_refused": "Check that people can log in, and that nexus_login_username and nexus_login_password are correct",
    "prevention.login_refused": "Whenever you change the account password, also change the password in the inventory",
    "remedy.slow": "Find out whether the load, the disk, the database or another process on the host slows down the responses",
    "prevention.slow": "Set an alert for the response time of the service",
    "remedy.not_ready": "Read the response of the readiness endpoint, and fix the problem that it reports",
    "prevention.not_ready": "Monitor the readiness endpoint as well as the health endpoint",
    # The process.
    "finding.too_many_files.now": "Process {pid} has {open_files} files and connections open (limit: {open_files_max})",
    "finding.too_many_files.past": "The service could not open more files or connections",
    "remedy.too_many_files": "Restart the service, and find the code that does not close its files or connections",
    "remedy.tried.too_many_files": "Find the code that does not close its files or connections",
    "prevention.too_many_files": "Set an alert for the number of open files of the service, and check whether LimitNOFILE= is high enough",
    "finding.hung.stopped": "Process {pid} is suspended (SIGSTOP)",
    "finding.hung.silent": "The process is running but does not answer",
    "prevention.hung.stopped": "Find out who sent SIGSTOP",
    "prevention.hung.silent": "Find out why the process hung. Possible causes are a loop in the code, a lock, a disk, or another service",
    "finding.crash_loop.now": "The service keeps crashing ({times} times)",
    "finding.crash_loop.given_up": "The service keeps crashing ({times} times), and systemd has given up starting it",
    "finding.crash_loop.now_own": "The service keeps crashing ({times} times, {own} of them after a start by this playbook)",
    "finding.crash_loop.given_up_own": (
        "The service keeps crashing ({times} times, {own} of them after a start by this playbook), and systemd has "
        "given up starting it"
    ),
    "remedy.crash_loop": "Fix the cause of the crashes, or roll back to the previous release. Another restart will not help",
    "prevention.crash_loop": "Fix the cause of the crashes, and set an alert for restarts by systemd",
    "finding.killed.signal": "The process was terminated by signal {signal}",
    "finding.killed.by_systemd": "systemd terminated the process: {result}",
    "finding.killed.restarted": "The process was terminated by signal {signal}; systemd has started it again",
    "finding.killed.silent": "The process is gone, and its log ends without an error: it was probably killed",
    "finding.killed.silent_or_host": "The process is gone, and its log ends without an error: it was probably killed, or the host went down",
    "finding.killed.no_pid_file": "The process is gone, its log shows no error, and there is no pid file: it was probably killed, or stopped manually",
    "remedy.killed.verify": "Check that the service stays up",
    "prevention.killed.timeout": "Find out why the service did not answer systemd in time",
    "prevention.killed.sender": "Find out who or what sent the signal",
    "prevention.killed.unit_records": "Find out who or what sent the signal. If the service ran as a unit, systemd would record the signal",
    "prevention.killed.unit": "Start the service through a unit: systemd then records how it exits",
    "prevention.killed.recorded_start": "Start the service through a unit or the node_process module, so that its exit is recorded",
    "finding.stopped.late": "The service was asked to stop (by a person or a program), did not exit in time and was killed",
    "finding.stopped.normally": "The service was stopped on request (by a person or a program)",
    "finding.stopped.never": "The service has not been started since the host booted, or was stopped long ago",
    "finding.stopped.unseen": "The service exited normally; the journal does not show whether a person stopped it",
    "finding.stopped.by_itself": "The service exited normally, and nobody stopped it",
    "finding.stopped.no_pid_file": (
        "The service is not running and has no pid file: it was stopped, was never started, or was started in a way "
        "that writes no pid file"
    ),
    "remedy.stopped.ask": "Find out whether the stop was intended. If not, start the service",
    "prevention.stopped.announce": (
        "Start a maintenance window before a planned stop. During the maintenance window, nobody is notified and "
        "nothing is recovered"
    ),
    "prevention.stopped.enable": "Enable the unit, so that it starts with the host",
    "prevention.stopped.restart": "Configure systemd to restart the service whenever it exits (Restart=always)",
    "finding.start_held": "The service is held by incident {incident}: {reason}",
    "reason.hold.no_counts": "there are no known good row counts to compare with",
    "reason.hold.unchecked": "the database could not be checked",
    "reason.hold.refused": "the start guard refuses the start: {why}",
    "reason.hold.replaced": "the database is a new one, created at {at}",
    "reason.hold.rows_missing": "rows are missing: {tables}",
    "remedy.start_held": "Run database_recover.yml, or release the hold by running outage_release.yml with a reason",
    "prevention.start_held": "Keep verified backups, so that a database in doubt can be replaced quickly",
    "finding.unknown.exit_code": "The service exited with code {code}; the cause was not found",
    "finding.unknown.gone": "No process of the service is running; the cause was not found",
    "finding.unknown.silent": "The service does not serve {ports}; the cause was not found",
    "finding.unknown.every_port": "The service answers on none of its ports; the cause was not found",
    "remedy.unknown": "Read the evidence. If the evidence shows no risk, restart the service",
    "prevention.unknown": "Configure the service to log the reason when it exits",
    # remedy.tried.X replaces remedy.X if a rung has already restarted the service.
    "remedy.tried.disk_full.past": "Find out what filled the disk",
    "remedy.tried.port_conflict.past": "Find out what took the port",
    "remedy.tried.unhandled_exception": "Undo the last change, or roll back to the previous release",
    "remedy.tried.tls_expired.restart": (
        "Check which certificate and private key are set in the service's environment, and read the service's log. If "
        "one of these files or the environment has changed since the last start, restart the service"
    ),
    "remedy.tried.oom_kill": "Set the proposed limits or give the host more memory",
    "remedy.tried.heap_oom": "Look for a memory leak. If the load explains the memory use, set the proposed heap size",
    "remedy.start": "Start the service",
    "remedy.restart": "Restart the service",
    # Evidence that this collection describes in its own words. Log lines are quoted instead.
    "evidence.source.port": "port {port}",
    "evidence.source.pid_file": "pid file",
    "evidence.source.init": "process 1",
    "evidence.source.hold": "hold",
    "evidence.source.locks": "locks",
    "evidence.source.listener": "{address} port {port}",
    "evidence.source.certificate": "certificate",
    "evidence.source.served_certificate": "served on the HTTPS port",
    "evidence.source.sockets": "listening sockets",
    "evidence.source.host": "host",
    "evidence.source.recorder": "restart recorder",
    "evidence.process_state": "state {state}, waits in {waits_in}",
    "evidence.no_response": "a process listens on the port, but does not respond: {why}",
    "evidence.closed_without_response": "a process listens on the port, but closed the connection without a response",
    "evidence.pressure": "all processes waited for {resource} {percent} % of the time",
    "evidence.open_files": "{number} files and connections are open (limit: {most})",
    "evidence.pid_file_stale": "the file exists, the process does not, and the log ends without an error",
    "evidence.written_until": "last written to at {at}",
    "evidence.host_stayed_up": (
        "running since {booted}, so neither the host nor its container restarted after the service last wrote to its log "
        "({written})"
    ),
    "evidence.no_out_of_memory": "shows no process that was killed because memory was low",
    "evidence.absent": "does not exist",
    "evidence.no_reason_recorded": "no reason is recorded",
    "evidence.rows": "rows: {text}",
    "evidence.first_migration": "the first migration was applied at {at}",
    "evidence.recovered_file": "a database recovery put this file in place after {at}",
    "evidence.written_by_sqlite": "written by SQLite {version}, in WAL mode",
    "evidence.not_reached": "not reached",
    "evidence.holds_the_lock": "pid {pid} ({role}) holds the lock: {command}",
    "evidence.migration_lock": "the migration lock is set; migrating: no process",
    "evidence.migration_lock.migrating": "the migration lock is set; migrating: {processes}",
    "evidence.pending": "pending: {names}",
    "evidence.owner": "owner {owner}, group {group}, mode {mode}",
    "evidence.committed_frames": "{number} committed frames; each frame is one version of a page",
    "evidence.free.bytes": "{free} of {size} bytes free",
    "evidence.free.inodes": "{free} of {size} inodes free",
    "evidence.removed_files": "the service still has removed files open ({bytes} bytes)",
    "evidence.read_only": "{device} is mounted read-only",
    "evidence.listener": "pid {pid}, user {user}: {command}",
    "evidence.listener.outside_unit": "pid {pid}, user {user}: {command} (of this service, started outside the unit)",
    "evidence.listener.hidden": "a process that this user cannot see is listening on it",
    "evidence.valid": "{subject}: valid from {begin} to {end}",
    "evidence.times": "{number} times, first: {text}",
    "evidence.ended": "{at} the process ended: {how}",
    "evidence.ended.by": "{at} the process ended: {how}, requested by uid {uid}: {command}",
    "evidence.ended.by_login": "{at} the process ended: {how}, requested by uid {uid}, login uid {login_uid}: {command}",
    "evidence.restarts": "restarts by systemd in {seconds} s: {number}",
    "evidence.restarts.after": "restarts by systemd in {seconds} s: {number}, after {after}",
    "evidence.source.changes": "changed since the last healthy run",
    "evidence.change.at": "{name} {what} at {at}, {number} {unit} before the failure",
    "evidence.change.between": "{name} {what} between {begin} and {end}",
    "evidence.change.values_at": "{name} {what} (before: {before}, now: {now}) at {at}, {number} {unit} before the failure",
    "evidence.change.values_between": "{name} {what} (before: {before}, now: {now}) between {begin} and {end}",
    "evidence.change.what.changed": "changed",
    "evidence.change.what.added": "added",
    "evidence.change.what.removed": "removed",
    "evidence.change.what.access": "owner or permissions changed",
    "evidence.change.unit.seconds": "seconds",
    "evidence.change.unit.minutes": "minutes",
    "evidence.change.unit.hours": "hours",
    "evidence.change.unit.days": "days",
    "evidence.change.nothing": "none",
    "evidence.only_http": "HTTP is served, but no process listens on the HTTPS port",
}


def english(told: message.Message) -> str:
    """Return the English text of a triage message, without the final full stop."""
    return message.english(told, ENGLISH)
