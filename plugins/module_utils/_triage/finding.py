# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cause of an outage, as a rule of triage reports it."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS


@dataclasses.dataclass(frozen=True)
class Finding:
    """A cause: how sure (0 to 1), in a sentence, what says so, what to do.

    confidence: from a half on it is a likely cause, below that it is worth a note. remedy: what to do now;
    prevention: what to do against the next time. blocks_start: starting the service would do harm.
    useless_rungs: the rungs of the ladder that cannot help. details: for those who act on it. explains:
    which of the consequences in the table it has here, all of them for None. only_by: by which of the causes it
    can be explained here, by all of them for None. past: it is over by now, so it ranks below what still is.
    """

    confidence: float
    summary: str
    evidence: List[Dict[str, str]]
    remedy: str
    prevention: str
    blocks_start: bool = False
    useless_rungs: Sequence[str] = ()
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    explains: Optional[Sequence[str]] = None
    only_by: Optional[Sequence[str]] = None
    past: bool = False
    cause: str = ""
    explained_by: Optional[str] = None

    @property
    def rungs_help(self) -> bool:
        """Whether any rung of the ladder can help."""
        return set(self.useless_rungs) != set(RUNGS)

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        found = dataclasses.asdict(self)
        del found["explains"], found["only_by"]
        return {**found, "useless_rungs": list(self.useless_rungs), "rungs_help": self.rungs_help}
