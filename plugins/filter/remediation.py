# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.late_import import function


def _problems(settings: Mapping[str, Any], *, causes: Sequence[str]) -> List[str]:
    now = datetime.datetime.now(tz=datetime.timezone.utc).replace(tzinfo=None)
    problems: List[str] = _remediation("problems")(settings, causes=causes, now=now)
    return problems


def _disk_globs(places: Mapping[str, Any]) -> List[Dict[str, Any]]:
    globs: List[Dict[str, Any]] = _remediation("disk_globs")(**places)
    return globs


def _remediation(name: str) -> Callable[..., Any]:
    return function("_policy.remediation", name)


class FilterModule:
    """Filters for the remediation role. The YAML files document the filters."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "remediation_globs": _disk_globs,
            "remediation_problems": _problems,
            "remediation_summaries": _remediation("summaries"),
            "remediation_wanted": _remediation("wanted"),
        }
