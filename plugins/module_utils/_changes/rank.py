# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rank the changes made before an outage by how likely they are to have caused it.

The order follows a few rules, so that readers can understand it:

1. A change that a finding mentions, such as a variable in an exception's message.
2. A change of a kind that can explain the cause in a finding.
3. Any other change that affects the service.
4. A change that rarely affects the service, such as a package.

If one rule applies to several changes, the kinds of changes that usually lead to the cause in the finding come first.
New objects that nothing uses yet, such as a new variable, come last. Among the remaining changes, the change closest in
time to the failure comes first. Changes after the failure and changes by this collection are listed last, because they
did not cause the outage.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import compare, kinds, relations
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes.compare import Change
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps

MOST = 40
# A finding with a lower confidence than this is only a note.
_LIKELY = 0.5
# File systems and logs round times. A change up to this many seconds after the failure counts as an earlier change.
_SLACK = 0.1
# Causes that the application itself describes in its log.
_LOGGED = ("unhandled_exception", "syntax_error", "crash_loop", "unknown")
# Shorter names often occur in text by chance.
_SHORTEST_NAME = 3
# Matches the name of a variable, a file, a package or a table in text.
_NAME = r"(?<![\w-]){}(?![\w-])"


class Finding(NamedTuple):
    """Data from a finding, for comparison with the changes. text: all text in the finding that can contain a name."""

    cause: str
    text: str


class Ranked(NamedTuple):
    """A change with its relation to the outage. cause: the related finding, or an empty string."""

    change: Change
    relation: str
    cause: str
    # Seconds from the change to the failure, or None if unknown. Negative if the failure came before the change.
    before_failure: Optional[float]

    def as_dict(self) -> Dict[str, Any]:
        """Return the change in the format of triage_info."""
        change = self.change
        return {
            **{name: getattr(change, name) for name in ("kind", "name", "what", "before", "after", "inside")},
            "at": None if change.at is None else timestamps.iso(change.at),
            "earliest": timestamps.iso(change.earliest),
            "latest": timestamps.iso(change.latest),
            "relation": self.relation,
            "cause": self.cause or None,
            "seconds_before": None if self.before_failure is None else round(self.before_failure, 1),
        }


def findings(found: Sequence[Mapping[str, Any]], *, log: str = "") -> List[Finding]:
    """Return the triage findings that the ranking uses, most likely first.

    Past causes and low-confidence findings are used only if there are no other findings. log: the last lines of the
    log. If the application exited with an error, these lines are searched together with the finding.
    """
    likely = [each for each in found if each["confidence"] >= _LIKELY and not each["past"]]
    wanted = likely or found
    return [Finding(each["cause"], _text(each) + (log if each["cause"] in _LOGGED else "")) for each in wanted]


def _text(finding: Mapping[str, Any]) -> str:
    details: Mapping[str, Any] = finding.get("details") or {}
    words = [
        str(finding.get("summary") or ""),
        *(str(item.get("text") or "") for item in finding.get("evidence") or ()),
    ]
    words += [str(value) for value in details.values() if isinstance(value, (str, list))]
    return "\n".join(words)


def ranked(changes: Sequence[Change], found: Sequence[Finding], *, failed_at: float) -> List[Ranked]:
    """Return the changes. The most likely cause of the outage comes first.

    failed_at: when the service first failed, in seconds since the epoch.
    """
    rated = [_rated(change, found, failed_at) for change in changes]
    return sorted(rated, key=lambda each: _order(each, found))[:MOST]


def _order(each: Ranked, found: Sequence[Finding]) -> Tuple[Any, ...]:
    causes = [finding.cause for finding in found]
    of_cause = causes.index(each.cause) if each.cause in causes else len(causes)
    kind, gap = kinds.of(each.change.kind), each.before_failure
    unused = kind.additive and each.change.what == compare.ADDED
    return (
        *(relations.ORDER.index(each.relation), of_cause, not kind.near, each.cause not in kind.typical, unused),
        *(gap is None, abs(gap or 0.0), each.change.name),
    )


def _rated(change: Change, found: Sequence[Finding], failed_at: float) -> Ranked:
    gap = None if change.at is None else failed_at - change.at
    if change.ours:
        return Ranked(change, relations.OURS, "", gap)
    if (gap is not None and gap < -_SLACK) or change.earliest > failed_at:
        return Ranked(change, relations.AFTER, "", gap)
    for finding in found:
        if _is_named(change, finding.text):
            return Ranked(change, relations.NAMED, finding.cause, gap)
    kind = kinds.of(change.kind)
    for finding in found:
        if finding.cause in (*kind.typical, *kind.explains):
            return Ranked(change, relations.EXPLAINS, finding.cause, gap)
    return Ranked(change, relations.POSSIBLE if kind.near else relations.UNLIKELY, "", gap)


def _is_named(change: Change, text: str) -> bool:
    """Return True if a finding mentions the change: its variable, file, package, table or setting."""
    names = {change.name, os.path.basename(change.name), change.name.rpartition(" ")[2]}
    if kinds.of(change.kind).of_host:
        names = {change.name}
    usable = [name for name in names if len(name) >= _SHORTEST_NAME]
    return any(re.search(_NAME.format(re.escape(name)), text) for name in usable)


def failure_time(signs: Sequence[Mapping[str, Any]], *, since: float, now: float) -> float:
    """Return the time of the first sign of failure after a healthy run, or the current time if there is none."""
    bad = [timestamps.epoch(str(sign["at"])) for sign in signs if sign["kind"] == "bad"]
    return min((at for at in bad if at >= since), default=now)
