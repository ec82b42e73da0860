# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of the parts of a triage: facts, reports, files for the evidence, and secrets to redact."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, Sequence, Set, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import parallel
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.context import MOST_SECRETS


class Pass:
    """The results that a pass has collected so far."""

    __slots__ = ("_clean", "evidence", "facts", "reports", "secrets")

    def __init__(self) -> None:
        self.facts: Dict[str, Any] = {}
        self.reports: Dict[str, Any] = {}
        self.evidence: List[Dict[str, Any]] = []
        self.secrets: Set[str] = set()
        # Files that a part has already redacted. Maps a file's position in `evidence` to the secrets that the part
        # knew, and to the redacted text.
        self._clean: Dict[int, Tuple[FrozenSet[str], str]] = {}

    def take(self, answers: Mapping[str, parallel.Answer]) -> None:
        for name, part in answers.items():
            self.reports[name] = part.report
            answer = part.value if part.error is None else None
            kind, _colon, use = name.partition(":")
            if answer is not None:
                known = frozenset(answer.get("known", ()))
                for position, text in enumerate(answer.get("clean", ()), len(self.evidence)):
                    if text is not None:
                        self._clean[position] = known, text
                self.evidence.extend(answer["evidence"])
                fresh = [value for value in answer["secrets"] if value not in self.secrets]
                self.secrets.update(fresh[: max(0, MOST_SECRETS - len(self.secrets))])
                self.reports.update(answer["reports"])
            facts = answer["facts"] if answer is not None else {"error": part.error}
            if use:
                self.facts.setdefault(kind, []).append(facts if answer is not None else {"use": use, **facts})
            else:
                self.facts[kind] = facts

    def files(self, begin: int = 0) -> Sequence[Mapping[str, Any]]:
        """Return the files for the evidence from position `begin` on. See evidence.save.

        If a part has redacted a file with exactly the secrets that are known now, the redacted text is used.
        """
        known = frozenset(self.secrets)
        ready = {at: text for at, (with_secrets, text) in self._clean.items() if with_secrets == known}
        return [
            {**item, "text": ready[at], "redacted": True} if at in ready else item
            for at, item in enumerate(self.evidence[begin:], begin)
        ]

    def of(self, name: str) -> Mapping[str, Any]:
        """Return the facts from one part of the triage. If the part did not run or failed, return an empty mapping."""
        facts = self.facts.get(name)
        return facts if isinstance(facts, dict) else {}

    def answered(self, name: str) -> bool:
        return isinstance(self.reports.get(name), float)
