# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text about a change on the host, for documents and notifications. An item is a change from triage_info."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._changes import relations
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

_Item = Mapping[str, Any]


def first(words: Words, items: Sequence[_Item], cause: Optional[str]) -> str:
    """Return the first change on one line. If this change is not related to the cause, return an empty string.

    If the cause is unknown, a change that may have caused the outage is considered related.
    """
    item: _Item = items[0] if items else {}
    unknown = cause in (None, "", "unknown") and item.get("relation") == relations.POSSIBLE
    if not unknown and item.get("relation") not in relations.RELATED:
        return ""
    told = words.say("change", what=subject(words, item), deed=deed(words, item))
    return words.say("label", name=gap(words, item), text=told)


def gap(words: Words, item: _Item) -> str:
    """Return the time between the change and the failure."""
    seconds = item.get("seconds_before")
    if seconds is None:
        return words.say("change.between")
    return words.say("change.before" if seconds >= 0 else "change.after", gap=words.duration(abs(seconds)))


def subject(words: Words, item: _Item) -> str:
    """Return the name and kind of the changed item, with the name of the file that contains it."""
    kind, name = words.name("change_kind", item.get("kind")), item.get("name") or words.say("unknown")
    if item.get("inside") and not str(name).startswith(f"{item['inside']}/"):
        return words.say("change.inside", kind=kind, name=name, inside=item["inside"])
    return words.say("change.plain", kind=kind, name=name)


def deed(words: Words, item: _Item) -> str:
    """Return the action, such as "removed"."""
    return words.name("change_what", item.get("what"))


def values(words: Words, item: _Item) -> str:
    """Return the action, with the old and the new value if these are known and not secret."""
    before, after = item.get("before"), item.get("after")
    if not before and not after:
        return deed(words, item)
    none = words.say("change.none")
    return words.say("change.values", deed=deed(words, item), before=before or none, after=after or none)


def relation(words: Words, item: _Item) -> str:
    """Return the relation between the change and the outage."""
    return words.name(
        "change_relation", item.get("relation"), cause=words.name("cause", item.get("cause") or "unknown")
    )
