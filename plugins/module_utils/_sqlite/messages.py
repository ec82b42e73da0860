# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about problems with a database, and about failed backups, checkpoints and recoveries.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_sqlite.py, with the same
IDs.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message, messages

ENGLISH: Dict[str, str] = {
    **messages.ENGLISH,
    # The files.
    "reason.sqlite.missing": "There is no database {path}",
    "reason.sqlite.folder_missing": "The folder of the database {path} does not exist",
    "reason.sqlite.not_mounted": "The file system of the database {path} is not mounted at {mount}, although /etc/fstab lists it",
    "reason.sqlite.missing_beside_wal": "There is no database {path}, but its WAL of {bytes} bytes exists. Keep the WAL",
    "reason.sqlite.not_a_file": "{path} is {kind}, not a database file",
    "reason.sqlite.side_not_a_file": "{path} is {kind}, not a file that SQLite created",
    "reason.sqlite.kind.folder": "a folder",
    "reason.sqlite.kind.link": "a symbolic link",
    "reason.sqlite.kind.fifo": "a FIFO",
    "reason.sqlite.kind.socket": "a socket",
    "reason.sqlite.kind.device": "a device",
    "reason.sqlite.empty": "{path} has 0 bytes",
    "reason.sqlite.empty_beside_wal": (
        "{path} has 0 bytes, but its WAL has {bytes} bytes: opening it with SQLite, or starting the service, would "
        "delete that WAL and every row in it"
    ),
    "reason.sqlite.not_a_database": "{path} does not begin with a SQLite header: it is damaged, encrypted, or another kind of file",
    "reason.sqlite.unsteady": "Cannot check {path}: files next to it were created or removed during each of {times} attempts",
    "reason.sqlite.changing": "During the check, {path} was written to, or its service was started or stopped",
    "reason.sqlite.ownership": "User {user} cannot write to {path} (owner {owner}, mode {mode})",
    "reason.sqlite.no_account": "{option} is {user}, but this host has no such user",
    "reason.sqlite.open_deleted": (
        "A file of the database {path} was removed or replaced, but {holders} still has the old file open. The data "
        "in the old file is lost when that process ends"
    ),
    # Messages about the WAL and the journal.
    "reason.sqlite.wal_damaged": (
        "The WAL of {path} is damaged at frame {frame} of {frames}: SQLite silently ignores this frame and all later "
        "frames ({lost} frames, {commits} of which end a transaction)"
    ),
    "reason.sqlite.wal_header_damaged": (
        "The header of the WAL of {path} is damaged: SQLite silently ignores all {lost} frames of the WAL, {commits} "
        "of which end a transaction"
    ),
    "reason.sqlite.wal_foreign_salts": (
        "The {frames} frames in the WAL of {path} have salts that differ from those in the WAL header: SQLite "
        "ignores these frames"
    ),
    "reason.sqlite.wal_torn": (
        "The WAL of {path} ends in an unfinished write, as happens after a kill or a power cut: {frames} frames of "
        "finished transactions are intact"
    ),
    "reason.sqlite.wal_foreign": "The WAL next to {path} does not belong to this database: {why}",
    "reason.sqlite.other_page_size": "its page size is {found} bytes, but the page size of the database is {expected} bytes",
    "reason.sqlite.other_changes": "the WAL contains changes {first} to {last}, but the database is at change {present}",
    "reason.sqlite.hot_journal": (
        "{path} has a rollback journal, so its last transaction is unfinished. SQLite will undo that transaction at "
        "the next start, so this check ignores it"
    ),
    # The content.
    "reason.sqlite.no_such_table": "{path} has no table {tables}",
    "reason.sqlite.no_tables": "{path} has no tables",
    "reason.sqlite.interrupted": "Reading {path} was interrupted by {signal}: the disk cannot deliver the complete file",
    "reason.sqlite.check_failed": "The {check} check of {path} found problems: {lines:;}",
    "reason.sqlite.check_failed_more": "The {check} check of {path} found problems: {lines:;} (and {more} more)",
    "reason.sqlite.schema_too_new": (
        "{path} was written by SQLite {writer}, but this host's Python has SQLite {library}, which cannot read the "
        "schema ({why}). This is not a sign of damage"
    ),
    "reason.sqlite.locked": "Cannot read {path}: {why}; it is open in {holders}",
    "reason.sqlite.table_gone": "{table} no longer exists (it had {before:row|rows})",
    "reason.sqlite.table_fewer": "{table} has {now:row|rows}, {fewer} fewer than before ({before})",
    "reason.sqlite.row_loss": "{tables:;}",
    # Messages about actions that failed.
    "reason.sqlite.cannot.read": "Cannot read {path}: {why}",
    "reason.sqlite.cannot.read_beside": "Cannot read the files next to {path}: {why}",
    "reason.sqlite.cannot.work_on": "Cannot work on {path}: {why}",
    "reason.sqlite.cannot.write_to": "Cannot write to {path}: {why}",
    "reason.sqlite.cannot.look_at": "Cannot inspect {path}: {why}",
    "reason.sqlite.cannot.find_holders": "Cannot find out which processes have {path} open: {why}",
    "reason.sqlite.cannot.look_for_backups": "Cannot look for backups in {path}: {why}",
    "reason.sqlite.cannot.check": "Cannot check {path}: {why}",
    "reason.sqlite.cannot.checkpoint": "Cannot checkpoint {path}: {why}",
    "reason.sqlite.cannot.copy": "Cannot copy {path}: {why}",
    "reason.sqlite.cannot.copy_to": "Cannot copy {path} to {target}: {why}",
    "reason.sqlite.cannot.copy_files": "Cannot copy the files of {path}: {why}",
    "reason.sqlite.cannot.back_up": "Cannot back up {path}: {why}",
    "reason.sqlite.cannot.verify_backup": "Cannot verify the backup {path}: {why}",
    "reason.sqlite.cannot.recover": "Cannot recover {path}: {why:;}",
    "reason.sqlite.cannot.clear_up": "Cannot clean up after an interrupted recovery of {path}: {why}",
    "reason.sqlite.cannot.make_folder": "Cannot create the folder {path}: {why}",
    "reason.sqlite.cannot.make_empty": "Cannot create the empty database {path}: {why}",
    "reason.sqlite.cannot.move_new": "Cannot move the new database to {path}: {why}",
    "reason.sqlite.cannot.put_in_place": "Cannot replace {path} with the new database: {why}",
    "reason.sqlite.cannot.keep_orphans": "Cannot save rows that no longer belong to a table (folder {path}): {why}",
    "reason.sqlite.cannot.flush": "Cannot flush {path} to disk: {why}",
    "reason.sqlite.cannot.flush_folder": "Cannot flush the folder of {path} to disk: {why}",
    "reason.sqlite.cannot.get_space": "Cannot determine the free disk space for {path}: {why}",
    "reason.sqlite.cannot.get_space_beside": "Cannot determine the free disk space next to {path}: {why}",
    "reason.sqlite.cannot.start_process": "Cannot start a process that reads the database: {why}",
    "reason.sqlite.time_over": "the time limit was reached",
    "reason.sqlite.timeout_over": "the timeout was reached",
    "reason.sqlite.too_long": "it took too long",
    "reason.sqlite.disk_incomplete": "reading was interrupted by {signal}: the disk cannot deliver the complete file",
    # Backup and evidence.
    "reason.sqlite.not_backed_up": "Refusing to back up {path}: {why}",
    "reason.sqlite.backup_would_lack": (
        "Refusing to back up {path}: {frames} frames of its WAL cannot be read, so the backup would lack them. To "
        "copy the files unchanged, use evidence=true"
    ),
    "reason.sqlite.wal_unread_in_time": "its WAL could not be read to the end within the timeout",
    "reason.sqlite.written_every_time": "during each attempt, the database was written to, or its service was started or stopped",
    "reason.sqlite.backup_not_sound": "{path} is not sound, so its backup would not be sound either: {why}",
    "reason.sqlite.backup_differs": "The row counts of {path} and of its backup differ: {counted} in the database, {copied} in the backup",
    "reason.sqlite.dest_there": "dest {path} already exists: a backup never replaces another file",
    "reason.sqlite.name_taken": "Cannot create the copy {path}: a file or folder with that name already exists",
    "reason.sqlite.no_room_left": "it needs {needed} bytes, and {reserve} of the {free} free bytes must stay free",
    "reason.sqlite.no_room": "it needs {needed} bytes, but only {free} are free",
    "reason.sqlite.does_not_fit": "{needed} bytes do not fit there",
    "reason.sqlite.folder_locked": "Cannot copy to {path}: another process has locked it",
    "reason.sqlite.files_in_use": "Refusing to copy the files of {path}: it is open in {holders}, so the copies would not be consistent",
    "reason.sqlite.no_files": "Cannot copy {path}: neither the database nor its -wal and -shm files exist",
    "reason.sqlite.copy_not_a_file": "Cannot copy {path}: it is {kind}",
    "reason.sqlite.used_meanwhile": "The files of {path} were opened or written to while they were being copied. First stop the processes that use them",
    # Checkpoint.
    "reason.sqlite.files_of_root": (
        "root owns {files}, but the checkpoint runs as the owner of the folder. First change their owner back to the "
        "service's user (sqlite_owner module)"
    ),
    "reason.sqlite.not_checkpointed": "Refusing to checkpoint {path}: {why}",
    "reason.sqlite.open_in": "it is open in {holders}; stop these processes first",
    "reason.sqlite.journal_beside_wal": "SQLite would first apply the rollback journal that is next to the WAL",
    "reason.sqlite.not_sound": "Refusing to checkpoint {path}: it is not sound ({problems:;})",
    "reason.sqlite.check_was": "the {check} check returned {result}",
    "reason.sqlite.wal_unread_in_budget": "its WAL could not be read to the end within time_budget",
    "reason.sqlite.checkpoint_no_room": (
        "Cannot checkpoint {path}: the database will grow by {needed} bytes, but only {free} bytes are free. Free "
        "some space first. The WAL is kept"
    ),
    "reason.sqlite.checkpoint_late": "The checkpoint of {path} did not finish in time. The WAL is kept; run the checkpoint again",
    "reason.sqlite.checkpoint_failed": "Cannot checkpoint {path}: {why}; the WAL is kept",
    "reason.sqlite.checkpoint_held_up": "The checkpoint of {path} was blocked: busy={busy}, {copied} of {frames} frames copied; the WAL is kept",
    "reason.sqlite.wal_remains": "The WAL of {path} still has {bytes} bytes after the checkpoint",
    "reason.sqlite.not_sound_after": "{path} is not sound after the checkpoint: {problems:;}",
    "reason.sqlite.rows_differ_after": "The checkpoint changed the row counts of {path}: {before} before, {after} after",
    # Recovery.
    "reason.sqlite.no_folder": "path {path}: there is no folder {folder}",
    "reason.sqlite.too_many_links": "path {path} has too many levels of symbolic links",
    "reason.sqlite.work_not_ours": "{path} was created by another user: check its content, then remove it",
    "reason.sqlite.recovery_running": "Another recovery of {path} is running",
    "reason.sqlite.no_room_to_try": "Cannot test a recovery of {path}: it needs {needed} bytes in /var/tmp",
    "reason.sqlite.opened_meanwhile": "{holders} opened {path} during the recovery; the old files are back in place",
    "reason.sqlite.move_away": "{path} is {kind}: move it away first",
    "reason.sqlite.no_room_in": "it needs {needed} bytes in {folder}, but only {free} are free",
    "reason.sqlite.file_of_root": (
        "root owns {file}, but the recovery runs as the owner of the folder. First change its owner back to the "
        "service's user (sqlite_owner module)"
    ),
    "reason.sqlite.not_recovered": "Refusing to recover {path}: {why}",
    "reason.sqlite.holders_hidden": "this user cannot see which processes have it open. Connect as root, or set ansible_become",
    "reason.sqlite.new_not_sound": "The new database {path} is not sound: {problems}",
    "reason.sqlite.new_differs": "The row counts of the new database {path} are {counted} instead of the expected {announced}",
    "reason.sqlite.new_not_closed": "The new database {path} was not closed properly",
    "reason.sqlite.nothing_saved": "nothing can be saved from {path}: {why:;}",
    "reason.sqlite.no_table_came_out": "no table could be read",
    # Messages about the recovery methods.
    "reason.restore.away": "{why}: mount its disk first",
    "reason.restore.method": "{method}: {why:;}",
    "reason.restore.unproved": "it could not be checked completely ({checks}); increase time_budget (variable database_recovery_check_budget)",
    "reason.restore.sound": "the database and its WAL are sound",
    "reason.restore.sound_with_wal": "it is sound; a checkpoint copies {frames} frames of its WAL into it",
    "reason.restore.wal_unread": "the WAL of the database could not be read to the end: {why:;}",
    "reason.restore.open_in": "the database is open in {holders}",
    "reason.restore.nothing_there": "there is neither a database nor a WAL to salvage",
    "reason.restore.saved_not_sound": "the salvaged database is not sound: {problems:;}",
    "reason.restore.check_result": "{check} check: {result}",
    "reason.restore.by_shell": "{rows:row|rows} in {tables:table|tables}, read with the sqlite3 shell's .recover",
    "reason.restore.by_shell_unconfirmed": (
        "the sqlite3 shell's .recover restores {rows:row|rows} in {tables:table|tables}. All rows would be lost, so "
        "database_recovery_confirm_empty must be set"
    ),
    "reason.restore.by_dump": "{rows:row|rows} in {tables:table|tables}, read with a dump that skips the damaged parts",
    "reason.restore.by_dump_unconfirmed": (
        "a dump that skips the damaged parts restores {rows:row|rows} in {tables:table|tables}. All rows would be lost, so "
        "database_recovery_confirm_empty must be set"
    ),
    "reason.restore.backup_holds_more": "salvage restores {saved:row|rows}, but the backup contains {kept}",
    "reason.restore.no_time": "no time was left to check more backups",
    "reason.restore.no_backup_in": "no backup was found in {places:;}",
    "reason.restore.backup_unusable": "{path} cannot be used ({why})",
    "reason.restore.list_unread": "the backup list {path} cannot be read: {why}",
    "reason.restore.not_checked": "there was no time to check it",
    "reason.restore.gone": "it was recorded as a verified backup, but it cannot be found: {why}",
    "reason.restore.not_a_file": "it was recorded as a verified backup, but it is not a regular file",
    "reason.restore.changed": "it had {size} bytes when it was verified, but has {now} bytes now",
    "reason.restore.refused": (
        "{user} may not read it, and neither nexus_db_path nor backups.json shows that it belongs to this service. If it "
        "does, correct nexus_db_path, or set database_recovery_backup_patterns to the name of the file"
    ),
    "reason.restore.other_database": "it belongs to another database, created on {created} instead of {expected}",
    "reason.restore.no_migrations": "it belongs to another database, because it has no knex migrations table",
    "reason.restore.other_service": "it is the database of another service, with the tables {tables}",
    "reason.restore.older_schema": "it has an older schema, without the tables {tables}",
    "reason.restore.latest_backup.days": "the latest good backup is {path}, {number:day|days} older than the last write",
    "reason.restore.latest_backup.hours": "the latest good backup is {path}, {number:hour|hours} older than the last write",
    "reason.restore.latest_backup.minutes": "the latest good backup is {path}, {number:minute|minutes} older than the last write",
    "reason.restore.latest_backup.seconds": "the latest good backup is {path}, {number:second|seconds} older than the last write",
    "reason.restore.best_backup.days": "the backup that loses the fewest rows is {path}, {number:day|days} older than the last write",
    "reason.restore.best_backup.hours": "the backup that loses the fewest rows is {path}, {number:hour|hours} older than the last write",
    "reason.restore.best_backup.minutes": "the backup that loses the fewest rows is {path}, {number:minute|minutes} older than the last write",
    "reason.restore.best_backup.seconds": "the backup that loses the fewest rows is {path}, {number:second|seconds} older than the last write",
    "reason.restore.not_compared": "older backups that were not compared: {number}",
    "reason.restore.worse_backup": "{path} is newer, but loses {rows:more row|more rows}",
    "reason.restore.confirmed": "database_recovery_confirm_empty is set",
    "reason.restore.unconfirmed": "all rows would be lost, so database_recovery_confirm_empty must be set",
    # Messages about the data that a recovery method loses.
    "reason.loss.nothing": "nothing (no table has fewer rows than before)",
    "reason.loss.nothing_now": "none of the rows that can be read now",
    "reason.loss.fewer": "{rows:row has|rows have} been missing since the last good count, deleted or lost: {tables}",
    "reason.loss.everything": "everything",
    "reason.loss.everything_counted": "everything, including the {rows:counted row|counted rows} in {tables:table|tables}",
    "reason.loss.rows": "{rows:row|rows}: {tables}",
    "reason.loss.rows_at_least": "at least {rows:row|rows}: {tables}",
    "reason.loss.table": "{rows} of {before} in {table}",
    "reason.loss.table_last_good": "{rows} of the {before:row|rows} in {table} at the last good count",
    "reason.loss.unread": "possibly rows in the unread part of the WAL ({why})",
    "reason.loss.uncounted": "an unknown number of rows in {tables}, because the damaged database does not show how many rows there were",
    "reason.loss.written_later": (
        "possibly rows that were written after the last good count, in {tables}: the damaged database does not show how "
        "many there were"
    ),
    "reason.loss.table_now": "{table} ({rows:row|rows} kept)",
    "reason.loss.table_counted": "{table} ({rows:row|rows} kept, {before} at that count)",
    "reason.loss.schema": "an unknown number of rows, because the tables of the damaged database are unreadable",
    "reason.loss.transactions": "{number:transaction|transactions} in the damaged part of the WAL",
    "reason.loss.frame": "the damaged bytes in frame {frame} of the WAL",
    "reason.loss.foreign_frames": "{frames} frames of the WAL, because the WAL does not match the database",
    "reason.loss.since": "changes to rows since {at}",
    "reason.loss.orphans": "{rows:row no longer belongs to a table and is kept|rows no longer belong to a table and are kept} in a separate file",
    "reason.loss.refused": "not everything could be copied unchanged: {statements:;}",
    # The owner.
    "reason.owner.not_opened": "Cannot open {path}: {why}",
    "reason.owner.folder_not_opened": "Cannot open the folder {path}: {why}",
    "reason.owner.left": "The owner of {file} was not changed: {why}",
    "reason.owner.several_names": "it is not a regular file, or it has other hard links",
    "reason.owner.of_another": "it is owned by uid {uid}, not by root",
    "reason.owner.mode": "its mode {mode} denies access to its owner; correct the mode first",
    "reason.owner.not_sqlite": "its content is not SQLite data",
    "reason.owner.unreadable": (
        "{user} may not read it, so it could be another root-owned file that {user} has moved there. If it belongs to the "
        "service, change its owner manually"
    ),
    "reason.owner.shared": "The owner was not changed, because {user} does not own {files}. The folder may be shared on purpose",
    "reason.owner.no_user": "user: there is no user {user} on this host",
    "reason.owner.not_root": "Only root can change the owner of a file; set ansible_become",
    "reason.owner.no_database": "There is no database {path}",
}


def english(told: message.Message) -> str:
    """Return the English text of a message about a database, without the final full stop."""
    return message.english(told, ENGLISH)
