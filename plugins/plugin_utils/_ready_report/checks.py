# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of all checks, and the verdict on a host.

To add a check, write its function, add a row here, and add its messages (see en_preparedness.py).
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report import host_checks, service_checks
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._ready_report.facts import (
    NOT_CHECKED,
    NOT_READY,
    READY,
    VERDICTS,
    Decide,
    Facts,
    NotCheckedError,
)


class Row(NamedTuple):
    """A row in the table. essential: True if the host counts as not ready when the check has no result."""

    decide: Decide
    essential: bool


# Checks, in the order in which the report shows them.
CHECKS: Dict[str, Row] = {
    "connection": Row(host_checks.connection, True),
    "privileges": Row(host_checks.privileges, True),
    "settings": Row(service_checks.settings, True),
    "login": Row(service_checks.login, False),
    "incident": Row(service_checks.incident, True),
    "modules": Row(service_checks.modules, True),
    "room": Row(host_checks.room, True),
    "database": Row(service_checks.database, True),
    "backup": Row(service_checks.backup, True),
    "drill": Row(service_checks.drill, False),
    "certificate": Row(service_checks.certificate, False),
    "restart_policy": Row(host_checks.restart_policy, False),
    "start_limit": Row(host_checks.start_limit, False),
    "guard": Row(service_checks.guard, False),
    "logs": Row(host_checks.logs, False),
    "limits": Row(host_checks.limits, False),
    "secrets": Row(service_checks.secrets, True),
    "contacts": Row(service_checks.contacts, True),
    "clock": Row(host_checks.clock, False),
    "versions": Row(host_checks.versions, False),
}


class Check(NamedTuple):
    """The result of a check. remedy: the action that a person should take, or None."""

    id: str
    verdict: str
    essential: bool
    told: Message
    remedy: Optional[Message]

    @property
    def blocks(self) -> bool:
        """True if the host is not ready because of this check."""
        return self.verdict == NOT_READY or (self.verdict == NOT_CHECKED and self.essential)


def evaluate(facts: Facts) -> List[Check]:
    """Return the results of all checks, in the order of the report."""
    return [_check(name, row, facts) for name, row in CHECKS.items()]


def _check(name: str, row: Row, facts: Facts) -> Check:
    try:
        verdict, told = row.decide(facts)
    except NotCheckedError as error:
        return Check(name, NOT_CHECKED, row.essential, error.told, None)
    except (TypeError, ValueError, KeyError, AttributeError):
        # The facts come from a host, so their types are not known.
        return Check(name, NOT_CHECKED, row.essential, message("ready.malformed"), None)
    remedy = message(f"{told.id}.do", **told.values) if verdict not in (READY, NOT_CHECKED) else None
    return Check(name, verdict, row.essential, told, remedy)


def is_ready(checks: List[Check]) -> bool:
    """Return True if the host is ready for a recovery."""
    return not any(check.blocks for check in checks)


def by_verdict(checks: List[Check]) -> Dict[str, List[Check]]:
    """Return the checks, grouped by verdict."""
    return {verdict: [check for check in checks if check.verdict == verdict] for verdict in VERDICTS}
