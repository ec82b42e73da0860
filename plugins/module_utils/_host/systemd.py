# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Query systemd for facts about units."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import commands
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import procfs

_SYSTEMCTL_TIMEOUT = 15.0
# Time units (systemd.time(7)), as systemd itself prints them.
_TIME_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TIMESPAN = lazy(r"([0-9.]+)(us|ms|min|s|h|d|w)\b")


def timespan(text: str) -> Optional[float]:
    """Convert a time span in the format of systemctl show (1min 30s) to seconds, or to None for infinity."""
    parts = _TIMESPAN.findall(text)
    if not parts:
        return 0.0 if text == "0" else None
    return sum(float(number) * _TIME_UNITS[unit] for number, unit in parts)


def why_failed(done: commands.Completed) -> Message:
    """Return the reason why a systemd command failed: the time limit, its first error line, or its exit code."""
    if done.timed_out:
        return message("reason.host.late")
    said = done.stderr.strip().splitlines()
    return quoted(said[0]) if said else message("reason.host.rc", code=str(done.rc))


def unit_properties(unit: str, names: Sequence[str], *, run: commands.Runner) -> Dict[str, str]:
    """Return properties of a systemd unit, with one call to systemctl show.

    If a property occurs several times (EnvironmentFiles), its values are on separate lines. A unit that does not exist
    has LoadState=not-found. Raises procfs.HostError if systemd does not answer.
    """
    found = units_properties([unit], names, run=run)
    return found[0] if found else {}


def units_properties(units: Sequence[str], names: Sequence[str], *, run: commands.Runner) -> List[Dict[str, str]]:
    """Return properties of systemd units, with one call to systemctl show. See unit_properties."""
    argv = ["systemctl", "show", f"--property={','.join(names)}", "--", *units]
    asked = repr(units[0]) if len(units) == 1 else "*.service"
    try:
        done = run(argv, timeout=_SYSTEMCTL_TIMEOUT)
    except commands.CommandError as error:
        raise procfs.HostError(message("reason.host.systemd_silent", unit=asked, why=error.told)) from error
    if not done.ok:
        raise procfs.HostError(message("reason.host.systemd_silent", unit=asked, why=why_failed(done)))
    # systemctl separates units with an empty line.
    blocks = [_properties(block.splitlines()) for block in done.stdout.split("\n\n")]
    return [block for block in blocks if block]


def service_units(*, run: commands.Runner) -> List[str]:
    """Return the names of all service units: loaded units and unit files, without templates. Raises HostError."""
    names: List[str] = []
    for verb in (["list-unit-files"], ["list-units", "--all"]):
        argv = ["systemctl", *verb, "--type=service", "--no-legend", "--no-pager", "--plain"]
        try:
            done = run(argv, timeout=_SYSTEMCTL_TIMEOUT)
        except commands.CommandError as error:
            raise procfs.HostError(message("reason.host.systemd_silent", unit="*.service", why=error.told)) from error
        if not done.ok:
            raise procfs.HostError(message("reason.host.systemd_silent", unit="*.service", why=why_failed(done)))
        names += [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    return sorted({name for name in names if name.endswith(".service") and not name.endswith("@.service")})


def _properties(lines: Sequence[str]) -> Dict[str, str]:
    values: Dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            values[name] = f"{values[name]}\n{value}" if name in values else value
    return values
