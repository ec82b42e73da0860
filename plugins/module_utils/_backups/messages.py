# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about backups and restore drills.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_backups.py, with the same
IDs.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import MessageError
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages as service_messages

ENGLISH: Dict[str, str] = {
    **service_messages.ENGLISH,
    # Backups.
    "reason.backup.running": "Another backup or restore drill is running on this host (lock {path})",
    "reason.backup.list_not.read": (
        "Cannot read the backup list {path}: {why}. No backup was made or removed. Move this file to another folder. "
        "The playbook then never removes the backups in this list"
    ),
    "reason.backup.list_not.write": "Cannot write the backup list {path}: {why}",
    "reason.backup.not_listed": "{path} is not in the backup list",
    "reason.backup.not_verified": "{path} is in the backup list, but it was not verified. The run that made this backup was killed, or is still running",
    "reason.backup.not_removed": "Cannot remove the old backup {path}: {why}",
    "reason.backup.not_read": "Cannot read the backup {path}: {why}",
    "reason.backup.changed": "The backup {path} has {size} bytes now, but it had {listed} bytes when it was verified",
    "reason.backup.fewer": (
        "The backup {path} is sound, but it has lost a table or more than half of the rows since the previous "
        "backup: {tables}. No old backup was removed. If the rows were deleted on purpose, run the backup once with "
        "backup_accept_fewer_rows=true"
    ),
    "reason.backup.table": "{table} had {rows:row|rows} and now has {now}",
    "reason.backup.command_user": (
        "The backup was not copied to another host: there is no user {user} on this host. Set command_user "
        "(backup_off_host_user) to an existing user"
    ),
    "reason.backup.command_not_run": "The backup was not copied to another host: cannot run {program}: {why}",
    "reason.backup.command_late": "The backup was not copied to another host: {program} did not finish within {seconds} s and was killed",
    "reason.backup.command_failed": "The backup was not copied to another host: {program} exited with code {code}: {said}",
    "reason.backup.command_silent": "no output",
    # Restore drill.
    "reason.drill.no_systemd": "A restore drill needs systemd to run the service in an isolated network, but nexus_manager is {manager}",
    "reason.drill.as_root": "A restore drill does not start the service as root. Set User= in the unit {unit}",
    "reason.drill.no_command": "The unit {unit} has no ExecStart command",
    "reason.drill.not_a_file": "backup {path} is not a regular file",
    "reason.drill.no_room": (
        "A restore drill needs {needed} bytes in {folder}, but only {free} are free. Free some space, or set "
        "scratch_dir (restore_drill_dir) to another folder"
    ),
    "reason.drill.no_memory": (
        "A restore drill may use up to {needed} bytes of memory, but only {free} are free on this host. If the "
        "service needs less, set memory (restore_drill_memory) to a lower value"
    ),
    "reason.drill.folder_closed": "User {user} cannot reach the folder {folder}. Set restore_drill_dir to a folder that this user can enter",
    "reason.drill.not_prepared": (
        "Cannot prepare the restore drill in {folder}: {why}. Set scratch_dir (restore_drill_dir) to a folder that "
        "only root can change"
    ),
    "reason.drill.not_started": "Cannot start the service with the restored database: {why}",
    "reason.drill.not_isolated": "The service was not started, because systemd cannot isolate it on this host: {why}",
    "reason.drill.ended": "With the restored database, the service exited before it became healthy. Last line of its output: {said}",
    "reason.drill.said_nothing": "it printed nothing",
    "reason.drill.not_healthy": "With the restored database, the service did not become healthy within {seconds} s: {why}. Last line of its output: {said}",
    "reason.drill.not_asked": "Cannot send a request to the service in the isolated network: {why}",
    "reason.drill.other_database": (
        "The service did not open the restored database. Check that the service reads its database path from the "
        "variable {variable} (nexus_db_path_variable)"
    ),
    "reason.drill.login": "The login failed with the restored database: {why}",
    "reason.drill.rows_lost": "The service removed rows from the restored database: {tables}",
    "reason.drill.not_sound": "The restored database was not sound after the service had used it: {why:;}",
    "reason.drill.live_changed": (
        "During the drill, the running service changed: {what}. The drill does not touch the running "
        "service, so another cause is likely"
    ),
    "reason.drill.left": "Cannot remove {folder} after the drill. Remove it manually",
    "reason.drill.not_kept": "Cannot write the result of the restore drill to {path}: {why}",
    "reason.drill.pid": "its process ID changed from {before} to {now}",
    "reason.drill.replaced": "its database file was replaced",
    # Litestream.
    "reason.litestream.unusable": "{path} lists the database, but the replica cannot be used: {why}",
    "reason.litestream.no_program": "there is no program {program} in the usual folders",
    "reason.litestream.not_of_root": "an account other than root could change {path}",
    "reason.litestream.refused": (
        "The replica of {path} was not used: {user} may not read this database, and nexus_db_path contains a "
        "different path. If this database belongs to this service, correct nexus_db_path"
    ),
    "reason.litestream.not_restored": "Litestream cannot restore the replica of {path}: {why}",
    "reason.litestream.nothing": "it exited without an error, but created no file",
}


def english(told: message.Message) -> str:
    """Return the English text of a message about a backup or a drill, without the final full stop."""
    return message.english(told, ENGLISH)


class BackupError(MessageError):
    """An action on a backup failed, or a restore drill could not be run."""

    templates = ENGLISH
