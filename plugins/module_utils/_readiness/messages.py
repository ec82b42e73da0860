# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about a service that answers but is degraded.

Messages do not end with a full stop. The Japanese messages are in plugin_utils/_messages/ja_readiness.py, with the same
IDs.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import messages as service_messages

ENGLISH: Dict[str, str] = {
    **service_messages.ENGLISH,
    # Problems.
    "finding.db_corrupt.in_use": "The database {path} is not sound: {why}",
    "finding.db_locked.blocks_all": "Process {pid} ({command}, user {user}, age {age}) has blocked all writes to the database for at least {seconds} s",
    "finding.db_locked.by_service": (
        "The service itself (process {pid}) has kept a write transaction open for at least {seconds} s, which blocks "
        "all other writes"
    ),
    "finding.db_locked.unseen": "A process that is not visible on this host has blocked all writes to the database for at least {seconds} s",
    "finding.wal_growing": "The -wal file of the database {path} is {mib} MiB in size and keeps growing, because no checkpoint empties it",
    "finding.disk_full.percent": "Almost no space is left on {mount} ({percent} % used)",
    "finding.disk_full.no_inodes": "Almost no inodes are left on {mount}, so creating files may fail",
    "finding.disk_filling.space": "{mount} is {percent} % full. At the current rate, no space will be left in {minutes} minutes",
    "finding.disk_filling.inodes": "{percent} % of the inodes on {mount} are in use. At the current rate, none will be left in {minutes} minutes",
    "finding.too_many_files.near": "Process {pid} has {open_files} files and connections open (limit: {limit})",
    "finding.tls_expired.served": "The TLS certificate expired on {at}",
    "finding.tls_expiring": "The TLS certificate expires on {at} (in {days:day|days})",
    "finding.frequent_restarts": "systemd has restarted the service {times} times in the last hour",
    "finding.memory_pressure": "In the last minute, all processes waited for memory {percent} % of the time",
    "finding.clock_jump": "The host's clock was changed by {seconds} s",
    "finding.slow.slow": "The service takes {seconds} s to answer",
    "finding.slow.slower": "The service takes {seconds} s to answer, instead of the usual {usual} s",
    "finding.not_ready.status": "The readiness endpoint {path} reports that the service is not ready (status {status})",
    "finding.not_ready.checks": "The readiness endpoint {path} reports that the service is not ready: {checks}",
    "finding.not_ready.silent": "The readiness endpoint {path} does not answer: {why}",
    "finding.login_refused": "The login fails: {why}",
    # Database damage that a person has accepted by releasing the service.
    "finding.accepted": "{summary}. Accepted by a person on {at}: {reason}",
    "finding.not_accepted": "{summary}. The person who released the service on {at} ({reason}) did not accept this damage",
    "remedy.accepted": (
        "Agree with the DBA on a time for the repair or the restore, and run database_recover.yml at that time. To "
        "see which data each method would lose, first run database_recover.yml with --check"
    ),
    "finding.unconfirmed": "The problem of the open incident could not be checked again: {why}",
    # Reasons why a check was not done.
    "reason.unready.status": "{path} answered with status {status}",
    "reason.unready.late": "the check did not finish within {seconds} s",
    "reason.unready.path": "the path of the database is unknown",
    "reason.unready.process": "the process is not visible to this user",
    "reason.unready.error": "{why}",
    # Damage to a database.
    "reason.database.missing": "the file does not exist",
    "reason.database.empty": "the file has 0 bytes",
    "reason.database.empty_beside_wal": "the file is empty, but a WAL exists",
    "reason.database.no_tables": "it has no tables",
    "reason.database.not_a_database": "the file is not in the SQLite format",
    "reason.database.not_a_file": "its path is not a file",
    "reason.database.corrupt": "pages are damaged",
    "reason.database.wal_damaged": "the WAL is damaged",
    "reason.database.wal_foreign": "the WAL does not match the database",
    "reason.database.row_loss": "rows are missing",
    "reason.database.open_deleted": "the file was deleted while it was open",
    "reason.database.unreadable": "it cannot be read",
}


def english(told: message.Message) -> str:
    """Return the English text of a message, without the final full stop."""
    return message.english(told, ENGLISH)
