# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A statement as an id with values. A catalogue per language turns it into text.

A module puts the English text into its result. So the English templates of its ids are in its own package, see
_triage/messages.py. The id is data, the text is not: no code may look for words in a text.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Sequence, Union

# A text that is not ours, but that of the kernel, a library or an older version. It is quoted, never translated.
QUOTED = "quoted"
# A name and a statement about it, such as "https: no answer within 5 s".
LABEL = "label"
ENGLISH: Mapping[str, str] = {QUOTED: "{text}", LABEL: "{name}: {text}"}

Value = Union[str, int, float, "Message", Sequence[Union[str, "Message"]]]


@dataclasses.dataclass(frozen=True)
class Message:
    """An id of the catalogue, and the values for its template. A list of messages is for reasons."""

    id: str
    values: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> Dict[str, Any]:
        """Return it as plain data, with the keys id and values."""
        return {"id": self.id, "values": {name: _plain(value) for name, value in self.values.items()}}


def message(identity: str, /, **values: Value) -> Message:
    """Return a message with these values."""
    return Message(identity, values)


def from_dict(told: Mapping[str, Any]) -> Message:
    """Return the message that to_dict has made plain data of. Raises KeyError without an id."""
    values = told.get("values")
    return Message(
        str(told["id"]),
        {str(name): _value(value) for name, value in values.items()} if isinstance(values, Mapping) else {},
    )


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, (list, tuple)):
        return [_value(each) for each in value]
    return value if isinstance(value, (str, int, float)) else str(value)


def quoted(text: object) -> Message:
    """Return a message that quotes a text on one line."""
    return Message(QUOTED, {"text": " ".join(str(text).split())})


def labelled(name: str, text: Message) -> Message:
    """Return a message with a name before it."""
    return Message(LABEL, {"name": name, "text": text})


def _plain(value: Value) -> Any:
    if isinstance(value, Message):
        return value.to_dict()
    if isinstance(value, (str, int, float)):
        return value
    return [_plain(each) for each in value]


def english(told: Message, templates: Mapping[str, str]) -> str:
    """Return the English text of a message, without a final full stop. Raises KeyError for an id without template."""
    return templates[told.id].format(**{name: _english(value, templates) for name, value in told.values.items()})


def _english(value: Value, templates: Mapping[str, str]) -> str:
    if isinstance(value, Message):
        return english(value, templates)
    if isinstance(value, (str, int, float)):
        return str(value)
    return ", ".join(_english(each, templates) for each in value)


def with_stop(text: str) -> str:
    """Return a text as a sentence, with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
