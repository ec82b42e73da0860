# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts about what changed before the outage."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import rank
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model

# Relations to a finding: such a change is shown in the summary.
_RELATED = (rank.NAMED, rank.EXPLAINS)


@dataclasses.dataclass(frozen=True)
class Change:
    """A row in the table of changes. at: None if the time is unknown. gap: the time before or after the failure."""

    at: Optional[str]
    gap: str
    what: str
    change: str
    relation: str


def changes(words: Words, incident: incident_model.Incident) -> List[Change]:
    """Return the changes, the most likely cause first."""
    return [
        Change(
            at=item.get("at"),
            gap=_gap(words, item),
            what=_what(words, item),
            change=_change(words, item),
            relation=words.name("change_relation", item.get("relation"), cause=_cause(words, item)),
        )
        for item in _items(incident)
    ]


def summary(words: Words, incident: incident_model.Incident) -> str:
    """Return a sentence about how the changes were found, or why there are none."""
    since = incident.changes.get("since")
    if not since:
        return words.say("doc.changes.unknown")
    number = incident.changes.get("omitted") or 0
    more = [words.say("doc.changes.more", number=words.number(number))] if number else []
    first = words.say("doc.changes.since" if _items(incident) else "doc.changes.none", at=words.when(since))
    return words.paragraph(map(words.sentence, [first, *more]))


def nearest(words: Words, incident: incident_model.Incident) -> str:
    """Return the change that is most likely the cause on one line, or an empty string if none is related to it."""
    item = next(iter(_items(incident)), {})
    unknown = incident.cause in (None, "unknown") and item.get("relation") == rank.POSSIBLE
    if not unknown and item.get("relation") not in _RELATED:
        return ""
    return words.say(
        "label", name=_gap(words, item), text=words.say("change", what=_what(words, item), deed=_deed(words, item))
    )


def _items(incident: incident_model.Incident) -> List[Mapping[str, Any]]:
    return incident.changes.get("items") or []


def _gap(words: Words, item: Mapping[str, Any]) -> str:
    seconds = item.get("seconds_before")
    if seconds is None:
        return words.say("change.between")
    key = "change.before" if seconds >= 0 else "change.after"
    return words.say(key, gap=words.duration(abs(seconds)))


def _what(words: Words, item: Mapping[str, Any]) -> str:
    """Return the name of what changed, with its kind and the file that contains it."""
    kind, name = words.name("change_kind", item.get("kind")), item.get("name") or words.say("unknown")
    inside = item.get("inside")
    return (
        words.say("change.inside", kind=kind, name=name, inside=inside)
        if inside
        else words.say("change.plain", kind=kind, name=name)
    )


def _deed(words: Words, item: Mapping[str, Any]) -> str:
    return words.name("change_what", item.get("what"))


def _change(words: Words, item: Mapping[str, Any]) -> str:
    before, after = item.get("before"), item.get("after")
    if not before and not after:
        return _deed(words, item)
    none = words.say("change.none")
    return words.say("change.values", deed=_deed(words, item), before=before or none, after=after or none)


def _cause(words: Words, item: Mapping[str, Any]) -> str:
    return words.name("cause", item.get("cause") or "unknown")
