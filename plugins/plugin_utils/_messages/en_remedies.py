# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages about remedies: the actions of each remedy, and the reasons why no remedy was applied.

A template does not end with a full stop.
"""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # Reasons why a remedy is not applied.
    "reason.remedy.not_allowed": "remediation_allowed does not include this cause",
    "reason.remedy.past": "triage found signs that this cause no longer exists",
    "reason.remedy.proposed": "proposed: {what}",
    "reason.remedy.owner_blocked": "the owner was not changed, because the service must not be started on this database: {why}",
    "reason.remedy.owner_not_root": (
        "root owns none of the database files, so this remedy does not help; correct the modes of the files and of "
        "their folder manually"
    ),
    "reason.remedy.disk_not_full": "no file system is full any more",
    "reason.remedy.disk_no_globs": "remediation_disk_globs is empty",
    "reason.remedy.memory_no_unit": "memory limits can be set only for a systemd unit",
    "reason.remedy.memory_no_sizes": "triage proposed no memory limits, and the policy sets none",
    "reason.remedy.migration_none": "no migrations are pending, and the lock is free",
    "reason.remedy.modules_sound": "the dependencies match the lock file and can be loaded",
    "reason.remedy.release_unknown": "nexus_release_strategy is none, so the playbook cannot roll back. Roll back manually, or set nexus_release_strategy",
    "reason.remedy.release_falls": "failures so far: {falls}; the policy allows a rollback after {after} or more failures",
    "reason.remedy.release_same": "release {release} is already in use",
    "reason.remedy.process_hidden": "this user is not allowed to see the process",
    "reason.remedy.process_unlocked": "no process locks the database any more",
    "reason.remedy.process_off_port": "no process listens on the port any more",
    "reason.remedy.tls_key_not_named": (
        "the inventory does not contain the path of the private key for {path}. Set nexus_tls_key_path: a remedy "
        "changes the permissions of a key only if the inventory contains the path of this key"
    ),
    "reason.remedy.tls_no_way": (
        "the policy allows no remedy for the certificate. Set remediation_tls_renew_command, one of the "
        "remediation_tls_key_* variables, or remediation_tls_disable_https_until"
    ),
    # Reasons why a remedy failed.
    "reason.remedy.not_stopped": (
        "This remedy must stop the service first. The stop was skipped, because the service could not be "
        "started again afterwards: {why:;}"
    ),
    "reason.remedy.disk_short": "There is still not enough space on {mounts}, although {freed} bytes were freed",
    "reason.remedy.disk_would_be_short": "There would still not be enough space on {mounts}, because only {freed} bytes would be freed",
    "reason.remedy.disk_kept": "The largest files that were kept, for example because the service writes to them: {files}",
    "reason.remedy.migration_left": "Migrations are still pending after the migration: {names}",
    "reason.remedy.release_refused": "Release {release} was not activated: {why}",
    "reason.remedy.release_restored": "Release {old} was restored, because the modules of {new} could not be installed: {why:;}",
    "reason.remedy.process_replaced": "New processes replaced the stopped ones: pid {pids}",
    "reason.remedy.tls_not_served": "The service cannot serve HTTPS: {why:;}",
    "reason.remedy.tls_unknown": "the path of the certificate is unknown",
    # Actions of a remedy, as planned and as completed.
    "deed.backup": "backup {path}",
    "deed.file": "{path}",
    "deed.owner": "change the owner of {files} back to user {user}",
    "deed.owner_done": "{file} is now owned by {owner}",
    "deed.disk": "free {wanted} on {mounts}: remove the oldest files that match {globs}",
    "deed.disk_bytes": "{number} bytes",
    "deed.disk_inodes": "{number} inodes",
    "deed.disk_removed": "{path} removed ({size} bytes)",
    "deed.disk_file": "{path} ({size} bytes)",
    "deed.memory": "set {sizes} for unit {unit} in a drop-in, effective from its next start",
    "deed.migration": "stop the service, back up the database, apply the pending migrations: {names}",
    "deed.migration_unlock": "stop the service, back up the database, release the stale migration lock, apply the pending migrations: {names}",
    "deed.migration_nothing": "nothing",
    "deed.migration_applied": "applied {name}",
    "deed.modules": "install the dependencies from the lock file in a separate folder, then replace the current node_modules with that folder",
    "deed.release": "stop the service, back up the database, roll back from release {old} to {new}",
    "deed.release_left": "rolled back from release {old} to {new}",
    "deed.release_modules": "modules installed",
    "deed.release_modules_kept": "modules unchanged",
    "deed.stop": "stop these processes if they belong to this application or if the policy lists them: {processes}",
    "deed.stop_process": "pid {pid} {command}",
    "deed.left": "pid {pid}: {reason}",
    "deed.stopped": "stopped pid {pid}",
    "deed.tls_key": "set the permissions of the private key {path}",
    "deed.tls_renew": "run {program}",
    "deed.tls_plain": "if the certificate is still unusable, switch HTTPS off until {until}",
    "deed.tls_key_done": "the permissions of the private key are set",
    "deed.tls_renewed": "certificate renewed",
    "deed.tls_valid": "valid until {at}",
    "deed.tls_off": "HTTPS IS OFF UNTIL {until}; passwords are sent unencrypted",
    "next_step.approval.wanted": "Approve or deny a clean start of {service} on {host}",
    "next_step.approval.reason": "Reason for the run: {reason}. Ticket: {ticket}",
    "next_step.approval.cause": "Most likely cause: {cause}",
    "next_step.approval.effect": (
        "A clean start stops the service, makes a verified backup, checkpoints the WAL, rebuilds the modules and "
        "starts the service. No rows are deleted"
    ),
    "next_step.approval.job": "Findings and evidence: {job}",
}
