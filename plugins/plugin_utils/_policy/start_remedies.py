# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remedies that propose starting the service.

As long as the service must not be started, the documents omit or defer these remedies.
"""

from __future__ import annotations

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.messages import ENGLISH as TRIAGE

# Remedies that propose only a start of the service.
ONLY_A_START = ("remedy.start", "remedy.restart", "remedy.unknown", "remedy.killed.verify")
# Remedies that propose a start of the service together with another action.
ALSO_A_START = (
    "remedy.disk_full.restart",
    "remedy.disk_full.past",
    "remedy.oom_kill",
    "remedy.heap_oom",
    "remedy.db_locked.end_restart",
    "remedy.db_locked.by_service",
    "remedy.db_locked.wait_restart",
    "remedy.db_locked.restart_older",
    "remedy.database_owner",
    "remedy.port_conflict.older",
    "remedy.port_conflict.past",
    "remedy.tls_expired.restart",
    "remedy.tried.tls_expired.restart",
    "remedy.tls_expired.renew",
    "remedy.unhandled_exception",
    "remedy.environment_missing",
    "remedy.unit_masked",
    "remedy.exec_failed.fault",
    "remedy.exec_failed.journal",
    "remedy.too_many_files",
    "remedy.stopped.ask",
)


def after_a_start(remedy: Message) -> Message:
    """Return the message remedy.tried.<cause>, which omits the restart at the beginning of the remedy.

    If this message does not exist, return the remedy unchanged.
    """
    cause = remedy.id[len("remedy.") :]
    return message(f"remedy.tried.{cause}", **remedy.values) if f"remedy.tried.{cause}" in TRIAGE else remedy
