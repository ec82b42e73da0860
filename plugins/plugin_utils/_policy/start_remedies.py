# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remedies that propose starting the service.

As long as the service must not be started, the documents omit or defer these remedies.
"""

from __future__ import annotations

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
