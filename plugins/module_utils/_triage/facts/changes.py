# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about what changed since the service was last healthy."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import Part


class Changes(Part):
    """The changes since the last healthy run, the most likely cause first. since: None if there is no manifest."""

    since: Optional[str] = None
    failed_at: Optional[str] = None
    items: Sequence[Mapping[str, Any]] = ()
    omitted: int = 0

    def of_kind(self, *kinds: str) -> List[Mapping[str, Any]]:
        """Return the changes of these kinds."""
        return [item for item in self.items if item["kind"] in kinds]
