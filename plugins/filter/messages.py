# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import from_dict
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue


def _message(identity: str, **values: Any) -> Dict[str, Any]:
    told = from_dict({"id": identity, "values": values})
    try:
        catalogue.english(told)
    except KeyError as error:
        raise AnsibleFilterError(f"The message {identity!r} has no text, or lacks a value: {error}") from error
    return told.to_dict()


def _each(items: Sequence[Any], identity: str, name: str = "", **values: Any) -> List[Dict[str, Any]]:
    """Return a message for each item in items.

    If name is set, each item is the value for this name. If name is empty, each item is a dictionary of values. An item
    can contain the key "messages", a dictionary of messages by name. Each of these messages replaces the value with the
    same name.
    """
    wanted = catalogue.places(identity)
    found = []
    for item in items:
        known = item.get("messages") if isinstance(item, Mapping) else None
        told = known if isinstance(known, Mapping) else {}
        of_item = {name: item} if name else {key: told.get(key, item[key]) for key in wanted if key in item}
        found.append(_message(identity, **of_item, **values))
    return found


def _text(told: Any, language: str = "en", text: str = "") -> str:
    return catalogue.of(language).message(told, text)


class FilterModule:
    """Filters that create messages (an ID and values) and return their text. The YAML files document the filters."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"message": _message, "message_each": _each, "message_text": _text}
