# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""English error messages about the record, the lease, the maintenance window, the takeover and the hold.

See _service/messages.py for the format.
"""

# ruff: noqa: E501 - a sentence is one line.

from __future__ import annotations

from typing import Dict

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages

ENGLISH: Dict[str, str] = {
    **messages.ENGLISH,
    "reason.holding.not_held": "Cannot hold unit {unit}: {why:;}",
    "reason.holding.not_reloaded": "Cannot make systemd reload the drop-ins of {unit}: {why}",
    "reason.holding.start_unknown": "Unit {unit} is held, but it is unknown whether a start is in progress: {why}",
    "reason.holding.start_goes_on": "Unit {unit} is held, but a start that was already in progress continues: {why}",
    "reason.holding.not_released": "Cannot release unit {unit}: {path}: {why}",
    "reason.holding.held": (
        "The service is held by incident {incident}. Run database_recover.yml, which checks the database before it "
        "releases the service. To release the service without this check, run outage_release.yml with a reason"
    ),
    "reason.holding.held_for": (
        "The service is held by incident {incident} ({reason}). Run database_recover.yml, which checks the database "
        "before it releases the service. To release the service without this check, run outage_release.yml with a reason"
    ),
    "reason.holding.no_incident": "unknown",
    # Messages about taking over a unit from systemd.
    "reason.takeover.not_armed": "Cannot arm the dead-man timer of {unit}: {why}",
    "reason.takeover.not_killed": "Cannot kill {unit}: {why}",
    "reason.takeover.not_cancelled": "Cannot cancel the restart of {unit}: {why}",
    # Messages about the lease, which allows one run at a time.
    "reason.lease.busy": "Cannot lock {path}: another module call has held this lock for {seconds} s",
    "reason.lease.lost": "Run {run} has lost the lease of {folder}: run {other} took it at {since}; nothing was done",
    "reason.lease.taken": (
        "Another run is working on this host: {run}, since {since}, at step {step}. Its lease of {folder} ends at "
        "{until} unless that run renews the lease; {working}"
    ),
    "reason.lease.working": "process {pid} of that run is running",
    "reason.lease.idle": "no process of that run is running now",
    # Messages about the module calls of a run.
    "reason.call.no_name": "option 'call' is {name}: only the action plugin may set this option; remove it",
    "reason.call.busy": "An earlier task of this run is still running on this host after {seconds} s: end its process, then run the playbook again",
    # Messages about the incident's record.
    "reason.record.not_kept": "Cannot save the incident record in {folder} or in {spare}: {why}",
    "reason.record.no_run": "option 'run' is empty: state {state} requires the run ID that state=open returned",
    "reason.record.none_open": "Cannot record {state} for run {run} in {folder}: no incident is open. Use state=open first",
    "reason.record.of_others": (
        "Cannot record {state} for run {run} in {folder}: this run has not opened or continued incident {incident}. "
        "Use state=open first"
    ),
    "reason.record.number.lease": "option 'lease' is {value}: must be above 0 and at most {most} seconds",
    "reason.record.number.wait": "option 'wait' is {value}: must be 0 or more seconds",
    "reason.record.number.window": "option 'window' is {value}: must be more than 0 seconds",
    "reason.record.number.restart_limit": "restart_limit is {value}: must be 0 or more",
    "reason.record.not_instant": "{name} is {value}: must be a time in UTC, such as 2026-03-02T01:02:03.456Z",
    "reason.record.not_word": "{name} is {value}: must be one word",
    # Messages about the maintenance window.
    "reason.maintenance.no_end": "maintenance_until is empty: a maintenance window must have an end; {allowed}",
    "reason.maintenance.not_an_end": "maintenance_until is {until}: {allowed}",
    "reason.maintenance.allowed": (
        "must be a time with its time zone, such as 2026-03-02T04:00:00Z or 2026-03-02 13:00+09:00, or a duration "
        "from now, such as +2h, +90m or +1d12h"
    ),
    "reason.maintenance.ended": "maintenance_until is {until}, which is {at}: must be in the future",
    "reason.maintenance.only_reason": "maintenance_reason is {reason}, but maintenance_until is empty: a maintenance window must have an end",
    "reason.maintenance.relative": (
        "maintenance_until is {until}: each run would count this time from its own start, so the maintenance would "
        "never end. Set a time with its time zone, such as 2026-03-02T04:00:00Z"
    ),
    "reason.maintenance.not_written": "Cannot write {path}: {why}",
}
