# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about problems with the service, and about failed actions on the service.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_service.py, with the same
IDs.
"""

from __future__ import annotations

from typing import Dict, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import messages as incident_messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._sqlite import messages as sqlite_messages

ENGLISH: Dict[str, str] = {
    **incident_messages.ENGLISH,
    **sqlite_messages.ENGLISH,
    # Messages about the health probe and the login check.
    "reason.probe.silent": "no response within {seconds} s",
    "reason.probe.not_trusted": "certificate not trusted: {why}",
    "reason.probe.tls": "TLS error: {why}",
    "reason.probe.refused": "connection refused (nothing listens there)",
    "reason.probe.lost": "connection lost: {why}",
    "reason.probe.not_http": "response is not HTTP: {why}",
    "reason.probe.not_connected": "cannot connect: {why}",
    "reason.probe.not_json": "answered 200 with a body that is not JSON",
    "reason.probe.no_status": 'answered 200 with JSON that has no "status"',
    "reason.probe.wrong_status": "answered 200 with status {status} instead of {expected}",
    "reason.probe.not_200": "answered {status} instead of 200",
    "reason.probe.login_refused": "answered {status}",
    "reason.probe.rate_limited": "rate limited (429): the service is up, but the password was not checked",
    "reason.probe.gone": "the process is gone",
    "reason.probe.answers": "answers",
    "reason.probe.other_process": "a different process answers now",
    "reason.probe.held": "the service is held by incident {incident}",
    # Start and stop.
    "reason.process.no_user": "user: there is no user {user} on this host",
    "reason.process.not_signalled": "Cannot send {signal} to pid {pid} of user {user}: {why}",
    "reason.process.not_stopped": "Cannot stop pid {pids}: still running {seconds} s after SIGKILL",
    "reason.process.no_unit": "unit: this host has no unit {unit}",
    "reason.process.unit_not_loaded": "unit: {unit} must be a loaded unit; it is {state}",
    "reason.process.unit_not_started": "Cannot start unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_not_stopped": "Cannot stop unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_not_restarted": "Cannot restart unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_ended": "Unit {unit} did not stay up: {why} ({state}); see journalctl -u {unit}",
    "reason.process.start_skipped": (
        "The start guard did not allow unit {unit} to start: {why}. The data is in doubt. Run database_recover.yml, or "
        "outage_release.yml with a reason"
    ),
    "reason.process.condition": "Unit {unit} was not started, because a condition (ExecCondition=) is not met; see journalctl -u {unit}",
    "reason.process.late": "it did not finish within {seconds} s",
    "reason.process.exit_code": "exit code {code}",
    "reason.process.ended_at_once": "it exited immediately",
    "reason.process.no_folder": "app_dir: {path} is not a folder on this host",
    "reason.process.no_program": "command: there is no program {program} in {path}",
    "reason.process.not_started": "Cannot start {command} in {folder}: {why}",
    "reason.process.none_came": "no process started",
    "reason.process.ended_see_log": "it exited immediately; see {log}",
    "reason.process.environment_unread": "environment_file: cannot read {path}: {why}",
    "reason.process.environment_open": "environment_file: {path} has mode {mode}; it contains secrets, so neither group nor others may read or write it (0600)",
    "reason.process.no_log_folder": "log_file: the folder {folder} of {path} does not exist",
    "reason.process.log_refused": "log_file: cannot append to {path}: {why}",
    "reason.process.log_replaceable": (
        "log_file: {path} is owned by {owner}, and {user} may not write to it. {user} or another account could have"
        " placed it there. Change its owner to {user}, or set log_file to a log in a folder that only root can change"
    ),
    "reason.process.log_not_plain": "log_file: {path} must be a regular file without other hard links",
    "reason.process.foreign": "Cannot start the service, because other processes use its ports: {processes}. This module does not stop other processes",
    "reason.process.port_taken": "port {port} by pid {pid} ({command}, user {user})",
    "reason.process.database_unread": "Cannot check the database before the start: {why}",
    "reason.process.lost_database": "The service is not started: its database {path} is missing or empty, and the {bytes} bytes in its -wal file would be lost",
    "reason.process.only_copy": (
        "The service is not stopped: its database file {path} was deleted, and process {pid} has the only copy. Copy "
        "the database and its -wal file from /proc/{pid}/fd, then stop the service manually"
    ),
    "reason.process.came_back": (
        "Cannot stop the service: it was restarted {times} times and now runs as pid {pid}; its parent, pid "
        "{parent}, seems to be restarting it"
    ),
    "reason.process.start_refused": "The service is not started. {why}",
    # Messages about actions that failed.
    "reason.cannot.work_in": "Cannot use {folder}: {why}",
    "reason.cannot.act_as": "Cannot act as user {user} in {folder}: {why}",
    "reason.cannot.read": "Cannot read {path}: {why}",
    "reason.cannot.open": "Cannot open {folder}: {why}",
    "reason.cannot.list": "Cannot list {folder}: {why}",
    "reason.cannot.find_workers": "Cannot find the processes that have their working directory in {folder}: {why}",
    "reason.cannot.install": "Cannot install in {folder}: {why}",
    "reason.cannot.make_build_folder": "Cannot create a build folder in {folder}: {why}",
    "reason.cannot.prepare": "Cannot prepare {path}: {why}",
    "reason.cannot.run_npm": "Cannot run npm ci for {folder}: {why}",
    "reason.cannot.run_node": "Cannot run {node} in {folder}: {why}",
    "reason.cannot.run_knex": "Cannot run knex {command} in {folder}: {why}",
    "reason.cannot.hand_over": "Cannot change the owner of {path}: {why}",
    "reason.cannot.flush": "Cannot flush {path} to disk: {why}",
    "reason.cannot.finish": "Cannot finish {path}: {why}",
    "reason.cannot.swap": "Cannot swap node_modules in {folder}: {why}",
    "reason.cannot.put_back": "Cannot move {path} back to {target}: {why}",
    "reason.cannot.put_old_back": "Cannot move the old node_modules of {folder} back: {why}",
    "reason.cannot.make": "Cannot create {path}: {why}",
    "reason.cannot.make_temporary": "Cannot create a temporary database: {why}",
    "reason.cannot.find_migrations": "Cannot search for running migrations: {why}",
    "reason.cannot.change_release": "Cannot switch {folder} to another release: {why}",
    # Messages about processes that block the service.
    "reason.stop.empty_policy": "policy: each entry must contain a user and a command, and neither may be empty",
    "reason.stop.no_pattern": "policy: command {command} is not a regular expression: {why}",
    "reason.stop.timeout": "timeout is {seconds}: must be more than 0 seconds",
    "reason.stop.other_process": "another process has this pid now",
    "reason.stop.of_system": "it is a system process, or part of this connection",
    "reason.stop.the_service": "it is the service itself, which is restarted instead",
    "reason.stop.port_free": "it no longer listens on port {port}",
    "reason.stop.database_free": "it no longer locks the database",
    "reason.stop.migrates": "it may be migrating the database, and stopping it could leave the migration lock set",
    "reason.stop.not_named": "it does not belong to this application, and no policy lists it",
    # The releases.
    "reason.release.no_folder": "app_dir: {path} is not a folder on this host",
    "reason.release.schema_newer": "the database schema is newer than release {release} (migrations not in this release: {names})",
    "reason.release.schema_newer_more": "the database schema is newer than release {release} (migrations not in this release: {names} and {number} more)",
    "reason.release.gone_back": "the release was already rolled back, from {old} to {new} at {at}; to roll back further, specify the release",
    "reason.release.git_as_root": (
        "app_dir: git would run as root in {folder}, but other accounts can change {path}. Switch the release "
        "manually, or make one account the owner of the whole repository"
    ),
    "reason.release.git_late": "git {command} in {folder} did not finish in time and was killed",
    "reason.release.git_failed": "git {command} in {folder} failed: {why}",
    "reason.release.unknown": "{folder} has no release {release}",
    "reason.release.no_repository": "{folder} is not the top folder of a git repository",
    "reason.release.changed_by_hand": "files in {folder} were changed after the checkout",
    "reason.release.no_tag": "{folder} has no tag for a release before the current one",
    "reason.release.part_of_it": "{path} is part of the release: a switch to another release would overwrite it",
    "reason.release.not_there": "{folder} is not at {release} after git checkout",
    "reason.release.git_runs": "git is running in {folder}, as pid {pid}",
    "reason.release.not_listed": "releases_dir: cannot list {path}: {why}",
    "reason.release.no_link": "{path} is not a symbolic link to a release",
    "reason.release.leads_elsewhere": "{path} points to {target}, which is not a release in {folder}",
    "reason.release.none_named": "there is no release {release} in {folder}",
    "reason.release.none_before": "there is no release before {release} in {folder}",
    "reason.release.migrations_unread": "migrations_dir: cannot list it in release {release}: {why}",
    "reason.release.belongs_to_it": "{path} is only in release {release}; move it out of the release folders",
    # The certificate.
    "reason.certificate.unread": "the certificate {path} cannot be read: {why}",
    "reason.certificate.unusable": "the certificate {path} cannot be used: {why}",
    "reason.certificate.expired": "the certificate {path} expired on {at}",
    "reason.certificate.early": "the certificate {path} is not valid before {at}",
    "reason.certificate.key_unread": "the private key {file} cannot be read: {why}",
    "reason.certificate.key_unusable": "the private key {file} cannot be used: {why}",
    "reason.certificate.key_mismatch": "the private key {file} does not match the certificate {path}",
    "reason.certificate.not_readable": "{user} cannot read {path}",
    "reason.certificate.not_readable_by_us": "this user cannot read {path}",
    "reason.certificate.no_owner": "key_owner: there is no user {user} on this host",
    "reason.certificate.no_group": "key_group: there is no group {group} on this host",
    "reason.certificate.bad_mode": "key_mode is {mode}: must be octal digits, without access for others and without write access for the group",
    "reason.certificate.no_key_path": "key_path: must be set if key_owner, key_group or key_mode is set",
    "reason.certificate.key_not_opened": "key_path: cannot open {file}: {why}",
    "reason.certificate.key_not_plain": "key_path: {file} must be a regular file that contains a private key and has no other hard links",
    "reason.certificate.not_permitted": "Cannot set the permissions of {file}: {why}",
    "reason.certificate.not_absolute": "{name} is {path}: must be an absolute path",
    "reason.certificate.timeout": "timeout is {seconds}: must be more than 0 seconds",
    # The drop-in.
    "reason.dropin.systemctl": "systemctl {command} failed: {why}",
    "reason.dropin.heap_in_command": (
        "max_old_space_size: the command of {unit} sets --max-old-space-size itself, which overrides NODE_OPTIONS; "
        "change the value in the command"
    ),
    "reason.dropin.not_written": "Cannot write the drop-in: {why}",
    "reason.dropin.no_effect": "The drop-in of {unit} has no effect, because another one overrides it: {why:;}",
    "reason.dropin.is": "{name} is {found}, not {wanted}",
    # Messages about inventory settings that were compared with the host.
    "reason.setting.is": "{variable} is {value}: {why}",
    "reason.setting.silent": "must be on a disk that answers; this disk did not answer within {seconds} s",
    "reason.setting.disk_silent": "its disk does not answer",
    "reason.setting.one_of": "must be one of {choices}",
    "reason.setting.absolute": "must be an absolute path",
    "reason.setting.absolute_or_none": "must be an absolute path, or empty for none",
    "reason.setting.file": "must be the absolute path of a file",
    "reason.setting.file_or_none": "must be the absolute path of a file, or empty for none",
    "reason.setting.no_folder": "must be a folder on this host; it does not exist or is not a folder",
    "reason.setting.in_folder": "must be in a folder that exists; {folder} does not exist",
    "reason.setting.creatable": "must be a folder, or the path for a new folder; {path} is not a folder",
    "reason.setting.replaceable": "must not be a path where user {user} can replace a folder",
    "reason.setting.a_folder": "must be the path of a file; {path} is a folder",
    "reason.setting.no_user": "must be a user on this host; no user has that name",
    "reason.setting.other_user": "must be the user that the playbook becomes on the host ({user}); for another user, run the playbook as root (ansible_become)",
    "reason.setting.other_account": "the unit has a different User",
    "reason.setting.port": "must be a port number from 1 to 65535, or 0 for no port",
    "reason.setting.no_port": "must be a port, because nexus_http_port is also 0",
    "reason.setting.same_port": "must differ from nexus_https_port ({port})",
    "reason.setting.journal_alone": "there is no such file; the output of the unit is probably only in the journal",
    "reason.setting.environment_file": "must be a readable file of KEY=VALUE lines: {why}",
    "reason.setting.environment_open": "must not be accessible to group or others, because it contains secrets; its mode is {mode}",
    "reason.setting.export": 'lines that begin with "export" have no effect, because the file is read as a systemd environment file, not by a shell',
    "reason.setting.other_files": "the unit reads other environment files",
    "reason.setting.no_node_env": "NODE_ENV is not set for the service, so knex uses development",
    "reason.setting.command": "must be a list of the program and its arguments, such as [node, backend/server.js]",
    "reason.setting.other_command": "the unit has a different command in ExecStart",
    "reason.setting.no_program": "must begin with a program on this host; there is no {program} in {path}",
    "reason.setting.no_node": "requires Node.js; there is no 'node' in {path}",
    "reason.setting.no_script": "must run a script that exists in {folder}",
    "reason.setting.node_not_run": "must begin with a working Node.js: {why}",
    "reason.setting.node_said": "must begin with a working Node.js; {node} --version printed: {said}",
    "reason.setting.no_systemd": "systemd does not answer on this host ({why}); if the host has no systemd, set nexus_manager to process",
    "reason.setting.unit_name": "must be the name of a unit if nexus_manager is systemd",
    "reason.setting.unit_state": "must be a loaded unit on this host; it is {state}",
    "reason.setting.other_folder": "the unit has a different WorkingDirectory",
    "reason.setting.database": "must be the path of the database file",
    "reason.setting.variable": "must be the name of an environment variable, or empty",
    "reason.setting.other_database": "the service uses another database, set by {name} in its environment",
    "reason.setting.not_theirs": (
        "the service's environment ({name}) contains the path of a different database, {path}, but user "
        "{user} cannot write to that file or its folder; correct {name} or nexus_db_path"
    ),
    # The dependencies.
    "reason.npm.no_tree": "node_modules is missing",
    "reason.npm.half_swapped": "node_modules is missing: an earlier swap was interrupted",
    "reason.npm.unfinished": "node_modules/.package-lock.json is missing or broken: the last npm install there did not finish",
    "reason.npm.not_installed": "{name} {version} is in the lock file, but not installed",
    "reason.npm.other_installed": "{name}: the lock file requires version {wanted}, but {found} is installed",
    "reason.npm.other_integrity": "{name} {version}: a different package with the same version is installed (integrity differs)",
    "reason.npm.other_platform": "{name}: node_modules was installed for a platform other than {platform}",
    "reason.npm.other_there": "{name}: {folder} contains version {found}, but the lock file requires {wanted}",
    "reason.npm.not_locked": "{name}: {folder} is installed, but not in the lock file",
    "reason.npm.dead_link": "{name}: the link {folder} is broken",
    "reason.npm.no_manifest": "{name}: {folder}/package.json is missing or unreadable",
    "reason.npm.broken_manifest": "{name}: {folder}/package.json is not JSON",
    "reason.npm.unloadable": "{name} does not load: {why}",
    "reason.npm.more": "and {number} more packages",
    "deed.npm.put_back": "move {source} back to {target}",
    "reason.npm.no_lock_file": "There is no package-lock.json in {folder}: npm ci cannot install without one",
    "reason.npm.not_json": "Cannot read {path}: it is not JSON",
    "reason.npm.not_object": "Cannot read {path}: it is not a JSON object",
    "reason.npm.no_packages": "Cannot read {path}: it has no packages (probably a lock file of npm 6)",
    "reason.npm.not_writable": "Cannot install in {folder}: user {user} cannot write there",
    "reason.npm.busy": "Cannot install in {folder}: another run is installing there",
    "reason.npm.does_not_load": "Cannot load the new node_modules for {folder} (the old node_modules is still in place): {why}",
    "reason.npm.linked": (
        "Cannot build node_modules next to the old one in {folder}: the lock file links to folders of the "
        "application itself ({links}), and npm ci would change these folders. Install workspaces and "
        "dependencies with file: paths manually"
    ),
    "reason.npm.no_room": "Cannot build node_modules in {folder}: it needs about {needed} bytes, but only {free} are free on its file system",
    "reason.npm.no_room_reserve": (
        "Cannot build node_modules in {folder}: it needs about {needed} bytes, and {reserve} must stay free, but "
        "only {free} are free on its file system"
    ),
    "reason.npm.no_inodes": "Cannot build node_modules in {folder}: it needs about {needed} inodes, but only {free} are free on its file system",
    "reason.npm.late": "npm ci for {folder} did not finish within {seconds} s; the old node_modules is still in place",
    "reason.npm.failed": "npm ci for {folder} failed with exit code {code} (the old node_modules is still in place): {why}",
    "reason.npm.absolute_link": (
        "The new node_modules for {folder} cannot be moved, because it contains {link}, a link to an absolute path; "
        "the old node_modules is still in place"
    ),
    "reason.npm.not_flushed": "Cannot flush {folder} to disk: {why}",
    "reason.npm.no_end": "it did not finish in time",
    "reason.npm.no_program": "Cannot find the program {program} on this host (searched in {path})",
    "reason.npm.node_failed": "Cannot run {node} in {folder}: {why}",
    "reason.npm.exit_code": "exit code {code}",
    "reason.npm.not_swapped": "Cannot swap node_modules in {folder}: {older} cannot be removed",
    # The migrations.
    "reason.knex.no_database": "db_path: {why}; knex is not run, because it would open or create the database",
    "reason.knex.other_output": "the output of knex migrate:list does not have the format of knex 2 or 3",
    "reason.knex.lacks": "The application lacks migrations that its database has: {names}",
    "reason.knex.not_opened": "{path} cannot be opened",
    "reason.knex.not_read": "Cannot read the migrations in {path}: {why}",
    "reason.knex.late": "it took too long",
    "reason.knex.changing": "it keeps changing",
    "reason.knex.not_installed": "There is no {program} in {folder}: install the modules first (npx might download a different knex)",
    "reason.knex.command_late": "knex {command} in {folder} did not finish within {seconds} s and was killed",
    "reason.knex.command_failed": "knex {command} in {folder} failed (exit code {code}): {why}",
    "reason.knex.silent": "it printed nothing",
    "reason.knex.not_listed": "Cannot list the pending migrations of {folder}: {why}",
    "reason.knex.not_made": "Cannot create {path}: {why}",
    "reason.knex.lock_taken": "Cannot migrate {path}: the migration lock was set by a running or interrupted migration",
    "reason.knex.in_use": "Cannot migrate {path}: it is in use by {holders}",
    "reason.knex.running": "Cannot release the migration lock of {path}: knex is still running ({processes})",
    "reason.knex.lock_in_use": "Cannot release the migration lock of {path}: the database is in use by {holders}",
    "reason.knex.lock_hidden": "Cannot release the migration lock of {path}: this user cannot see whether another process uses the database",
    "reason.knex.still_locked": "knex migrate:unlock succeeded, but the lock of {path} is still set",
    # Messages about the impact of an outage.
    "reason.impact.no_path": "the path of the database is not known",
    "reason.impact.not_asked": "the database was not queried: {why}",
    "reason.impact.not_opened": "it cannot be opened",
    "reason.impact.not_a_database": "{path} does not begin with a SQLite header: it is damaged, encrypted, or another kind of file",
    "reason.impact.empty": "{path} has 0 bytes",
    "reason.impact.no_number": "the query did not return a number",
    "reason.impact.query_late": "the query took too long",
    "reason.impact.query_failed": "the query failed: {why}",
    "reason.impact.log_late": "reading {path} took too long",
    "reason.impact.log_unread": "{path} cannot be read: {why}",
    "reason.impact.log_large": "{path} has too many lines from that time",
    "reason.impact.log_many": "{number} log files have been changed since the outage began, but at most {most} are read",
    "reason.impact.log_empty": "no requests from that time were recognized in {path}",
    "reason.impact.no_logs": "no log was found",
}


def english(told: message.Message) -> str:
    """Return the English text of a message about the service, without the final full stop."""
    return message.english(told, ENGLISH)


class ServiceError(message.MessageError):
    """A check of the service, or an action on it, failed."""

    templates = ENGLISH


def joined(told: Sequence[message.Message]) -> str:
    """Return the English text of several messages on one line."""
    return "; ".join(map(english, told))


plain = message.plain
