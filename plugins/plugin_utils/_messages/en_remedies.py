# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English for remedies: what a remedy does, and why there is none. A template has no stop at its end."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # Why a remedy is not applied.
    "reason.remedy.not_allowed": "remediation_allowed does not name it",
    "reason.remedy.proposed": "proposed: {what}",
    "reason.remedy.owner_blocked": "the database is not changed, because no service may be started on it: {why}",
    "reason.remedy.owner_not_root": "none of its files belongs to root: correct the mode or the folder by hand",
    "reason.remedy.disk_not_full": "no file system is full any more",
    "reason.remedy.disk_no_globs": "remediation_disk_globs names no files",
    "reason.remedy.memory_no_unit": "only a systemd unit can be given sizes",
    "reason.remedy.memory_no_sizes": "no sizes are proposed, and policy names none",
    "reason.remedy.migration_none": "no migration is pending and the lock is free",
    "reason.remedy.modules_sound": "the dependencies agree with the lock file and load",
    "reason.remedy.release_unknown": "nexus_release_strategy does not say how releases are kept",
    "reason.remedy.release_falls": "it fell {falls} times, and policy goes back after {after}",
    "reason.remedy.release_same": "it is release {release} already",
    "reason.remedy.process_hidden": "this user cannot see which process it is",
    "reason.remedy.process_unlocked": "no process locks the database any more",
    "reason.remedy.process_off_port": "no process is on the port any more",
    "reason.remedy.tls_no_way": "policy names neither a command to renew the certificate, nor permissions for its key, nor a future time until which HTTPS may be off",
    # What a remedy does, and what it did.
    "deed.backup": "backup {path}",
    "deed.file": "{path}",
    "deed.owner": "give {files} back to user {user}",
    "deed.owner_done": "{file} belongs to {owner}",
    "deed.disk": "free {wanted} on {mounts}, oldest first, of {globs}",
    "deed.disk_bytes": "{number} bytes",
    "deed.disk_inodes": "{number} inodes",
    "deed.disk_removed": "{path} removed, bytes: {size}",
    "deed.disk_truncated": "{path} truncated, bytes: {size}",
    "deed.memory": "give unit {unit} {sizes} by a drop-in, from its next start on",
    "deed.migration": "stop the service, back up the database, apply what is pending: {names}",
    "deed.migration_unlock": "stop the service, back up the database, release the stale migration lock, apply what is pending: {names}",
    "deed.migration_nothing": "nothing",
    "deed.migration_applied": "applied {name}",
    "deed.modules": "rebuild the dependencies from the lock file next to the present ones, and swap",
    "deed.release": "stop the service, back up the database, go from release {old} back to {new}",
    "deed.release_left": "release {old} left for {new}",
    "deed.release_modules": "modules installed",
    "deed.release_modules_kept": "modules as they were",
    "deed.stop": "stop {processes}, if it is of this application or policy names it",
    "deed.stop_process": "pid {pid} {command}",
    "deed.left": "{pid}: {reason}",
    "deed.stopped": "stopped pid {pid}",
    "deed.tls_key": "give the key {path} its permissions",
    "deed.tls_renew": "run {program}",
    "deed.tls_plain": "if that does not help, switch HTTPS off until {until}",
    "deed.tls_key_done": "the key has its permissions",
    "deed.tls_renewed": "renewed",
    "deed.tls_valid": "valid until {at}",
    "deed.tls_off": "HTTPS IS OFF UNTIL {until}, passwords are sent unencrypted",
}
