# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts from the service's log file and from the journal."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.facts.part import Part
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.finding import says


class Log(Part):
    """The log file. signatures: the known error patterns found in it, by name, or None if it was not read."""

    path: str = "log"
    # All files that were read. A log line may be from any of these files.
    paths: Sequence[str] = ()
    lines: Sequence[str] = ()
    exceptions: Sequence[Mapping[str, Any]] = ()
    signatures: Optional[Mapping[str, Any]] = None
    last_success_at: str = ""
    written_at: str = ""

    @property
    def source(self) -> str:
        """The name of the log in the evidence. If several files were read, the result contains all their names."""
        return ", ".join(self.paths) or self.path

    def signature(self, name: str, *, since: str = "", certainly_since: str = "") -> List[Dict[str, str]]:
        """Return the evidence for a known error pattern. Lines without a timestamp are included.

        since: a time. If the last line with this pattern is older, the result is empty. certainly_since: a time. If the
        time of each line with this pattern is certain, and all these times are older, the result is empty.
        """
        hit = (self.signatures or {}).get(name)
        if not hit or (hit.get("last_at") or since) < since:
            return []
        if hit.get("none_after") and hit["none_after"] < certainly_since:
            return []
        if hit["count"] == 1:
            return [says(self.source, hit["text"])]
        return [says(self.source, message("evidence.times", number=hit["count"], text=hit["text"]))]


class Journal(Log):
    """The unit's journal: the service's log lines, and systemd's log lines by type."""

    path: str = "journal"
    starts: Sequence[Mapping[str, Any]] = ()
    exits: Sequence[Mapping[str, Any]] = ()
    control_exits: Sequence[Mapping[str, Any]] = ()
    stops: Sequence[Mapping[str, Any]] = ()
    results: Sequence[Mapping[str, Any]] = ()
    start_limit: Sequence[Mapping[str, Any]] = ()
