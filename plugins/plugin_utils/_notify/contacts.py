# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contacts of a service and their channels. The display name of a channel contains no secret."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify import transports
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._notify.content import SHAPES

# Placeholder for a value that could not be evaluated.
UNREADABLE = object()
# The error text for a value that could not be evaluated.
UNREADABLE_REASON = "cannot be evaluated; check if it uses an undefined variable"


class Channel(NamedTuple):
    """A contact's channel.

    number: the index in the contact's list of channels. label: the display name. error: the reason why the channel
    cannot be used, or empty.
    """

    contact: str
    number: int
    type: str
    label: str
    error: str


def name_of(contacts: Mapping[str, Any], key: str) -> str:
    """Return the display name of a contact."""
    contact = contacts.get(key, key)
    return str(contact.get("name") or key) if isinstance(contact, Mapping) else str(contact)


def channels(contacts: Mapping[str, Any], key: str) -> Iterator[Channel]:
    """Return the channels of a contact. A contact that consists only of a name has no channels."""
    contact = contacts.get(key)
    configured = contact.get("channels") if isinstance(contact, Mapping) else None
    seen: Dict[str, int] = {}
    for number, channel in enumerate(configured or []):
        label = _label(channel)
        seen[label] = seen.get(label, 0) + 1
        broken = [name for name, value in channel.items() if is_unreadable(value)]
        yield Channel(
            contact=key,
            number=number,
            type=str(channel.get("type")),
            label=label if seen[label] == 1 else f"{label} #{seen[label]}",
            error=f"its {broken[0]} {UNREADABLE_REASON}" if broken else "",
        )


def is_unreadable(value: Any) -> bool:
    """Return True if a value, or an item of a list, could not be evaluated."""
    return value is UNREADABLE or (isinstance(value, (list, tuple)) and any(map(is_unreadable, value)))


def _label(channel: Mapping[str, Any]) -> str:
    """Return a channel's display name, without secrets: for example, the host in a URL or the program of a command."""
    kind = str(channel.get("type"))
    if channel.get("name"):
        return str(channel["name"])
    where = ""
    if kind == "mail":
        where = ", ".join(map(str, listed(channel.get("to"))))
    elif kind == "command":
        where = os.path.basename(str((listed(channel.get("argv")) or [""])[0]))
    elif channel.get("url") and kind != "pagerduty":
        where = transports.host(str(channel["url"]))
    return f"{channel.get('shape') or kind} {where}".strip()


def listed(value: Any) -> List[Any]:
    """Convert a value to a list. A single value becomes a list with one item, and None becomes an empty list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def why_not_type(kind: Any, types: Sequence[str]) -> str:
    """Return the reason why `kind` is not a valid channel type, or an empty string if it is valid."""
    if kind in types:
        return ""
    hint = f". For {kind}, use type: webhook and shape: {kind}" if kind in SHAPES and "webhook" in types else ""
    return f"type is {kind!r}: must be one of {', '.join(types)}{hint}"
