# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English for the problems of a service and of the steps that work on it.

A template does not end with a full stop. The Japanese one is in plugin_utils/_messages/ja_service.py, under the same id.
"""

from __future__ import annotations

from typing import Dict, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message

ENGLISH: Dict[str, str] = {
    **message.ENGLISH,
    # The health probe and the login.
    "reason.probe.silent": "no answer within {seconds} s",
    "reason.probe.not_trusted": "certificate not trusted: {why}",
    "reason.probe.tls": "TLS error: {why}",
    "reason.probe.refused": "connection refused: nothing listens there",
    "reason.probe.lost": "connection lost: {why}",
    "reason.probe.not_http": "answer is not HTTP: {why}",
    "reason.probe.not_connected": "cannot connect: {why}",
    "reason.probe.not_json": "answered 200 with a body that is not JSON",
    "reason.probe.no_status": 'answered 200 with JSON that has no "status"',
    "reason.probe.wrong_status": "answered 200 with status {status} instead of {expected}",
    "reason.probe.not_200": "answered {status} instead of 200",
    "reason.probe.login_refused": "answered {status}",
    "reason.probe.rate_limited": "rate limited (429): the service is up, but the password was not checked",
    "reason.probe.gone": "the process is gone",
    "reason.probe.answers": "answers",
    "reason.probe.other_process": "a different process answers than at first",
    "reason.probe.held": "the start is held by incident {incident}",
    # Start and stop.
    "reason.process.no_user": "user: there is no user {user} on this host",
    "reason.process.not_signalled": "Cannot send {signal} to pid {pid} of user {user}: {why}",
    "reason.process.not_stopped": "Cannot stop pid {pids}: still running {seconds} s after SIGKILL",
    "reason.process.no_unit": "unit: {unit} must be a loaded unit; there is no such unit on this host",
    "reason.process.unit_not_loaded": "unit: {unit} must be a loaded unit; it is {state}",
    "reason.process.unit_not_started": "Cannot start unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_not_stopped": "Cannot stop unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_not_restarted": "Cannot restart unit {unit}: {why} ({state}); see journalctl -u {unit}",
    "reason.process.unit_ended": "Unit {unit} did not stay up: {why} ({state}); see journalctl -u {unit}",
    "reason.process.late": "it did not finish within {seconds} s",
    "reason.process.exit_code": "exit code {code}",
    "reason.process.ended_at_once": "it ended at once",
    "reason.process.no_folder": "app_dir: {path} is not a folder on this host",
    "reason.process.no_program": "command: there is no program {program} in {path}",
    "reason.process.not_started": "Cannot start {command} in {folder}: {why}",
    "reason.process.none_came": "no process started",
    "reason.process.ended_see_log": "it ended at once; see {log}",
    "reason.process.environment_unread": "environment_file: cannot read {path}: {why}",
    "reason.process.environment_open": "environment_file: {path} has mode {mode}; it holds secrets, so neither group nor others may read or write it (0600)",
    "reason.process.no_log_folder": "log_file: the folder {folder} of {path} does not exist",
    "reason.process.log_refused": "log_file: cannot append to {path}: {why}",
    "reason.process.log_not_plain": "log_file: {path} must be a plain file with one name",
    "reason.process.foreign": "Cannot start the service: another process listens on its port and is not stopped: {processes}",
    "reason.process.port_taken": "port {port} by pid {pid} ({command}, user {user})",
    "reason.process.database_unread": "Cannot check the database before the start: {why}",
    "reason.process.lost_database": "The service is not started: its database {path} is missing or empty, and the {bytes} bytes in its -wal would be lost",
    "reason.process.only_copy": "The service is not stopped: process {pid} holds the only copy of its database {path}, whose file was deleted. Copy it from /proc/{pid}/fd and the -wal with it, then stop the service by hand",
    "reason.process.came_back": "Cannot stop the service: it came back {times} times, now as pid {pid}; its parent, pid {parent}, seems to restart it",
    "reason.process.start_refused": "The service is not started. {why}",
    # The dependencies.
    "reason.npm.no_lock_file": "There is no package-lock.json in {folder}: npm ci cannot install without one",
    "reason.npm.not_json": "Cannot read {path}: it is not JSON",
    "reason.npm.not_object": "Cannot read {path}: it is not a JSON object",
    "reason.npm.no_packages": "Cannot read {path}: it has no packages (a lock file of npm 6?)",
    "reason.npm.not_writable": "Cannot install in {folder}: user {user} may not write there",
    "reason.npm.busy": "Cannot install in {folder}: another run is installing there",
    "reason.npm.does_not_load": "The new node_modules for {folder} does not load; the old one is still in place: {why}",
    "reason.npm.linked": "Cannot build node_modules next to the old one in {folder}: the lock file links folders of the application itself ({links}; workspaces or file: dependencies), which npm ci would change in place; install by hand",
    "reason.npm.no_room": "Cannot build node_modules in {folder}: it takes about {needed} bytes, {free} are free on its file system",
    "reason.npm.no_room_reserve": "Cannot build node_modules in {folder}: it takes about {needed} bytes, {reserve} must stay free, {free} are free on its file system",
    "reason.npm.no_inodes": "Cannot build node_modules in {folder}: it takes about {needed} inodes, {free} are free on its file system",
    "reason.npm.late": "npm ci for {folder} did not finish within {seconds} s; the old node_modules is still in place",
    "reason.npm.failed": "npm ci for {folder} failed (exit code {code}); the old node_modules is still in place: {why}",
    "reason.npm.absolute_link": "The new node_modules for {folder} cannot be moved; the old one is still in place: {link} is a link to an absolute path in it",
    "reason.npm.not_flushed": "Cannot flush {folder} to disk: {why}",
    "reason.npm.no_end": "it did not finish in time",
    "reason.npm.no_program": "Cannot find the program {program} on this host (looked in {path})",
    "reason.npm.node_failed": "Cannot run {node} in {folder}: {why}",
    "reason.npm.exit_code": "exit code {code}",
    "reason.npm.not_swapped": "Cannot swap node_modules in {folder}: {older} cannot be removed",
    # The migrations.
    "reason.knex.no_database": "db_path: {why}; knex is not run, since it would open or create it",
    "reason.knex.not_read": "Cannot read the migrations in {path}: {why}",
    "reason.knex.late": "it took too long",
    "reason.knex.changing": "it keeps changing",
    "reason.knex.not_installed": "There is no {program} in {folder}: install the modules first (npx might download another knex)",
    "reason.knex.command_late": "knex {command} in {folder} did not finish within {seconds} s and was killed",
    "reason.knex.command_failed": "knex {command} in {folder} failed (exit code {code}): {why}",
    "reason.knex.silent": "it printed nothing",
    "reason.knex.not_listed": "Cannot list the pending migrations of {folder}: {why}",
    "reason.knex.not_made": "Cannot create {path}: {why}",
    "reason.knex.lock_taken": "Cannot migrate {path}: the migration lock is taken, by a migration that runs or one that was killed",
    "reason.knex.in_use": "Cannot migrate {path}: it is in use by {holders}",
    "reason.knex.running": "Cannot release the migration lock of {path}: knex is running as {processes}",
    "reason.knex.lock_in_use": "Cannot release the migration lock of {path}: it is in use by {holders}",
    "reason.knex.lock_hidden": "Cannot release the migration lock of {path}: this user cannot see if another process uses it",
    "reason.knex.still_locked": "knex migrate:unlock succeeded, but the lock of {path} is still taken",
    # The impact of an outage.
    "reason.impact.not_asked": "the database is not queried: {why}",
    "reason.impact.not_opened": "it cannot be opened",
    "reason.impact.not_a_database": "{path} does not begin like a SQLite database: it is damaged, encrypted, or another kind of file",
    "reason.impact.empty": "{path} has 0 bytes",
    "reason.impact.no_number": "the query did not return a number",
    "reason.impact.query_late": "the query took too long",
    "reason.impact.query_failed": "the query failed: {why}",
    "reason.impact.log_late": "{path} takes too long to read",
    "reason.impact.log_unread": "{path} cannot be read: {why}",
    "reason.impact.log_empty": "{path} contains no requests",
}


def english(told: message.Message) -> str:
    """Return the English text of a message about the service, without a final full stop."""
    return message.english(told, ENGLISH)


class ServiceError(message.MessageError):
    """An error of a step that works on the service."""

    templates = ENGLISH


def joined(told: Sequence[message.Message]) -> str:
    """Return the English text of several messages on one line."""
    return "; ".join(map(english, told))


plain = message.plain
