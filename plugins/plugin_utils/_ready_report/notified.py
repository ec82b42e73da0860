# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last notification about each host.

As long as the same checks are not ready, only one notification a day is sent. The readiness check changes nothing on a
host. Therefore, the file is on the controller, next to the postmortems.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import atomic_files, timestamps

NAME = "readiness-notified.json"
# This time is less than 24 hours, because a nightly check does not always start at exactly the same time.
_PAUSE = 23 * 3600.0
_LARGEST = 4 << 20
# Notifications that are older than this are removed, because their hosts are no longer checked.
_KEPT = 90 * 86400.0


def read(folder: str) -> Dict[str, Dict[str, Any]]:
    """Return the last notification about each host: its time (`at`) and the checks that were not ready (`checks`).

    If a file cannot be read, it is ignored. A repeated notification causes no problem.
    """
    try:
        known = json.loads(atomic_files.read_plain(os.path.join(folder, NAME), limit=_LARGEST).decode("utf-8"))
    except (OSError, ValueError):
        return {}
    hosts = known.get("hosts") if isinstance(known, dict) else None
    return (
        {str(host): each for host, each in hosts.items() if isinstance(each, dict)} if isinstance(hosts, dict) else {}
    )


def before(known: Mapping[str, Mapping[str, Any]], host: str, checks: Sequence[str], *, now: float) -> Optional[str]:
    """Return the time of the last notification.

    If it is not recent or does not contain all of these checks, return None.

    checks: the checks that are not ready now. now: in seconds since the epoch.
    """
    last = known.get(host) or {}
    try:
        at = str(last.get("at"))
        age = now - timestamps.epoch(at)
    except ValueError:
        return None
    known_checks = last.get("checks")
    same = isinstance(known_checks, list) and set(checks) <= set(map(str, known_checks))
    return at if same and 0 <= age < _PAUSE else None


def write(folder: str, told: Mapping[str, List[str]], *, ready: Sequence[str], now: float) -> None:
    """Record this run's notifications, and remove the hosts that are ready again. Raises OSError.

    told: the hosts in the notifications that were sent, each with the checks that are not ready.
    """
    hosts = {host: each for host, each in read(folder).items() if host not in ready and not _is_old(each, now=now)}
    hosts.update({host: {"at": timestamps.iso(now), "checks": checks} for host, checks in told.items()})
    atomic_files.private_folder(folder)
    data = json.dumps({"hosts": hosts}, indent=1, sort_keys=True).encode()
    atomic_files.write_atomically(os.path.join(folder, NAME), data)


def _is_old(each: Mapping[str, Any], *, now: float) -> bool:
    try:
        return now - timestamps.epoch(str(each.get("at"))) > _KEPT
    except ValueError:
        return True
