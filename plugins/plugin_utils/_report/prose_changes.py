# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about the changes before the outage."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import change_text
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import model as incident_model


@dataclasses.dataclass(frozen=True)
class Change:
    """A row in the table of changes. at: None if the time is unknown. gap: the time before or after the failure."""

    at: Optional[str]
    gap: str
    what: str
    change: str
    relation: str


def changes(words: Words, incident: incident_model.Incident) -> List[Change]:
    """Return the changes, most likely cause first."""
    return [
        Change(
            at=item.get("at"),
            gap=change_text.gap(words, item),
            what=change_text.subject(words, item),
            change=change_text.values(words, item),
            relation=change_text.relation(words, item),
        )
        for item in _items(incident)
    ]


def summary(words: Words, incident: incident_model.Incident) -> str:
    """Return a sentence that states how the changes were found, or why no changes are listed."""
    since = incident.changes.get("since")
    if not since:
        return words.say("doc.changes.unknown")
    number = incident.changes.get("omitted") or 0
    more = [words.say("doc.changes.more", number=words.number(number))] if number else []
    first = words.say("doc.changes.since" if _items(incident) else "doc.changes.none", at=words.when(since))
    return words.paragraph(map(words.sentence, [first, *more]))


def nearest(words: Words, incident: incident_model.Incident) -> str:
    """Return one line about the change that is most likely the cause, or an empty string if no change is related."""
    return change_text.first(words, _items(incident), incident.cause)


def _items(incident: incident_model.Incident) -> List[Mapping[str, Any]]:
    return incident.changes.get("items") or []
