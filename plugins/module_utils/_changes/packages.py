# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the names, versions and times of changed packages. Packages are examined only during an outage."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Dict, List, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import compare, entries
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.compare import Change
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

LOGS = ("/var/log/dpkg.log.1", "/var/log/dpkg.log")
_LARGEST = 16 << 20
_MOST = 30
# dpkg.log: time, action, package with architecture, previous version, new version. The time is the host's local time.
_ACTION = lazy(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (install|upgrade|remove|purge) (\S+?)(?::\w+)? (\S+) (\S+)$", re.MULTILINE
)
_KINDS = {"install": compare.ADDED, "upgrade": compare.CHANGED, "remove": compare.REMOVED, "purge": compare.REMOVED}
_NONE = "<none>"
_RPM = ["rpm", "-qa", "--queryformat", "%{INSTALLTIME} %{NAME} %{VERSION}-%{RELEASE}\\n"]


def detailed(
    changes: Sequence[Change], *, run: commands.Runner, timeout: float, logs: Sequence[str] = LOGS
) -> List[Change]:
    """Replace the change to a package database with the changes to the packages, if these are known."""
    found: List[Change] = []
    for change in changes:
        named: List[Change] = []
        if change.kind == "packages" and "dpkg" in change.name:
            named = _of_dpkg(change, logs)
        elif change.kind == "packages" and "rpm" in change.name:
            named = _of_rpm(change, run, timeout)
        found += named or [change]
    return found


def _of_dpkg(change: Change, logs: Sequence[str]) -> List[Change]:
    latest: Dict[str, Change] = {}
    for path in logs:
        try:
            text = safe_open.read(path, limit=_LARGEST).decode("utf-8", "replace")
        except OSError:
            continue
        for moment, action, name, before, after in _ACTION.findall(text):
            at = _local(moment)
            # The times in dpkg.log are whole seconds.
            if at + 1 >= change.earliest:
                old = latest[name].before if name in latest else entries.text(before)
                latest[name] = change._replace(
                    name=entries.text(name),
                    what=_KINDS[action],
                    at=at,
                    before="" if old == _NONE else old,
                    after="" if after == _NONE else entries.text(after),
                )
    return sorted(latest.values(), key=lambda each: -(each.at or 0))[:_MOST]


def _local(moment: str) -> float:
    with contextlib.suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(moment, "%Y-%m-%d %H:%M:%S"))
    return 0.0


def _of_rpm(change: Change, run: commands.Runner, timeout: float) -> List[Change]:
    try:
        done = run(_RPM, timeout=timeout, env={"PATH": procfs.STANDARD_PATH, "LC_ALL": "C"})
    except commands.CommandError:
        return []
    found: List[Change] = []
    for line in done.stdout.splitlines() if done.ok else ():
        words: List[Any] = line.split()
        if len(words) == 3 and words[0].isdecimal() and int(words[0]) + 1 >= change.earliest:
            at, name, after = float(words[0]), entries.text(words[1]), entries.text(words[2])
            found.append(change._replace(at=at, what=compare.CHANGED, name=name, after=after))
    return sorted(found, key=lambda each: -(each.at or 0))[:_MOST]
