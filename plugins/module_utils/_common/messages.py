# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""English error messages about programs, accounts and files on a host. See _service/messages.py for the format."""

from __future__ import annotations

from typing import Dict, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message, timestamps

ENGLISH: Dict[str, str] = {
    **message.ENGLISH,
    "reason.host.no_user": "There is no user {user} on this host",
    "reason.host.not_acting": "Cannot act as user {user}: only root can do this, and this process has uid {uid}",
    "reason.host.owner_unnamed": "The owner of {path} is not a known user of this host",
    "reason.host.uid_unnamed": "The uid {uid} of this process does not belong to a user of this host",
    "reason.host.owner_unknown": "Cannot look up the owner of {path}: {why}",
    "reason.host.not_run": "Cannot run {program}: {why}",
    "reason.host.processes_unread": "Cannot list processes in {path}: {why}",
    "reason.host.search_unfinished": (
        "Cannot search the open files of all processes: the limits were reached at {path}. "
        "Reduce the number of open files and locks, then try again"
    ),
    "reason.host.sockets_unread": "Cannot read the listening sockets below {path}: {why}",
    "reason.host.systemd_silent": "Cannot query systemd about unit {unit}: {why}",
    "reason.host.late": "no response in time",
    "reason.host.rc": "exit code {code}",
    "reason.host.environment_unread": "Cannot read the environment file {path}: {why}",
    "reason.host.environment_replaceable": (
        "Cannot read the environment file {path} as {user}: permission denied. Root does not read this file either, "
        "because {user} or another account could have created it. Make {user} the owner of the file (mode 0600), "
        "move the file to a folder that only root can change, or add the file to EnvironmentFile= of the unit"
    ),
    "reason.host.not_utf8": "byte {byte} is not UTF-8",
    "reason.host.nul_byte": "it contains a NUL byte",
    "reason.host.not_x509": "not an X.509 certificate: {why}",
    "reason.host.no_pem": "it contains no certificate in PEM format",
    "reason.host.not_pem": "not a certificate in PEM format: {why}",
    # Messages about the age of a process.
    "reason.age.days": "{number:day|days}",
    "reason.age.hours": "{number:hour|hours}",
    "reason.age.minutes": "{number} min",
    "reason.age.seconds": "{number} s",
}


def age(seconds: Optional[float]) -> Optional[message.Message]:
    """Return the age of a process as a message, or None if the age is unknown."""
    if seconds is None:
        return None
    unit, number = timestamps.span(seconds)
    return message.message(f"reason.age.{unit}", number=number)
