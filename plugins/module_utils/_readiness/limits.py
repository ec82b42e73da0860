# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limits of the readiness checks, as options of the health_probe module."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service.probe_plan import HealthError


class Limits(NamedTuple):
    """The limits at which readiness checks report problems. Each field is an option of health_probe.

    Times are in seconds.
    """

    ready_path: str = ""
    slow_after: float = 1.0
    lock_after: float = 2.0
    check_budget: float = 0.5
    open_files_percent: float = 90.0
    certificate_days: float = 7.0
    disk_percent: float = 95.0
    disk_hours: float = 24.0
    wal_bytes: int = 64 * 1024 * 1024
    restarts: int = 3
    memory_pressure: float = 20.0


_TYPES: Mapping[type, str] = {str: "str", int: "int", float: "float"}
# The highest allowed values. Times are limited, so that a check stays short. The lowest value is 0.
_MOST: Mapping[str, float] = {
    "slow_after": 60.0,
    "lock_after": 10.0,
    "check_budget": 10.0,
    "open_files_percent": 100.0,
    "disk_percent": 100.0,
    "memory_pressure": 100.0,
}


def arguments() -> Dict[str, Dict[str, Any]]:
    """Return the argument spec of the `readiness` option."""
    defaults = Limits()._asdict()
    return {name: {"type": _TYPES[type(default)], "default": default} for name, default in defaults.items()}


def of(values: Mapping[str, Any]) -> Limits:
    """Return the limits from the `readiness` option. Raises HealthError if a value is not allowed."""
    limits = Limits(**{name: values[name] for name in Limits._fields})
    if limits.ready_path and not limits.ready_path.startswith("/"):
        raise HealthError(f"readiness.ready_path: {limits.ready_path!r} must begin with /, or be empty")
    for name, value in limits._asdict().items():
        most = _MOST.get(name)
        if isinstance(value, (int, float)) and not 0 <= value <= (most if most is not None else float("inf")):
            allowed = "at least 0" if most is None else f"from 0 to {most:g}"
            raise HealthError(f"readiness.{name}: {value} must be {allowed}")
    return limits
