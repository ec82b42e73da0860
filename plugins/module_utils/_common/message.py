# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A message has an ID and values. The catalogue for each language turns them into text.

Modules on the host return English text, so each package contains the English templates for its own IDs, for example in
_triage/messages.py. Code may compare IDs, but must never search the text of a message for words.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize

# The ID for text from the kernel, a library or an older version of the collection. Such text is quoted and never
# translated.
QUOTED = "quoted"
# The ID for a name followed by a message, such as "https: no response within 5 s".
LABEL = "label"
# The ID for a missing value. Because of this ID, a message can be shown even if a value, such as the reason, is
# missing.
UNKNOWN = "unknown"
ENGLISH: Mapping[str, str] = {QUOTED: "{text}", LABEL: "{name}: {text}", UNKNOWN: "unknown"}

Value = Union[str, int, float, "Message", Sequence[Union[str, "Message"]]]


class Message:
    """An ID in the catalogue, and the values for its template. A value can be a list of messages, such as reasons."""

    __slots__ = ("id", "values")

    def __init__(self, id: str, values: Optional[Mapping[str, Value]] = None) -> None:
        """Store the ID and the values (if any)."""
        self.id = id
        self.values: Mapping[str, Value] = {} if values is None else values

    def __eq__(self, other: object) -> bool:
        """Return True if the other message has the same ID and the same values."""
        if not isinstance(other, Message):
            return NotImplemented
        return self.id == other.id and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # `values` is usually a dictionary, which has no hash

    def __repr__(self) -> str:
        """Return the message as Python code."""
        return f"Message(id={self.id!r}, values={self.values!r})"

    def to_dict(self) -> Dict[str, Any]:
        """Return the message as plain data, with the keys id and values."""
        return {"id": self.id, "values": {name: _plain(value) for name, value in self.values.items()}}


def message(identity: str, /, **values: Optional[Value]) -> Message:
    """Return a message with the given values. A value of None is shown as "unknown"."""
    return Message(identity, {name: Message(UNKNOWN) if value is None else value for name, value in values.items()})


def from_dict(told: Mapping[str, Any]) -> Message:
    """Convert plain data from to_dict() back to a message. Raises KeyError if the id is missing."""
    values = told.get("values")
    return Message(
        str(told["id"]),
        {str(name): _value(value) for name, value in values.items()} if isinstance(values, Mapping) else {},
    )


def _value(value: Any) -> Any:
    if value is None:
        return Message(UNKNOWN)
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, (list, tuple)):
        return [_value(each) for each in value]
    return value if isinstance(value, (str, int, float)) else str(value)


def quoted(text: object) -> Message:
    """Return a message that quotes text. Line breaks and repeated spaces become single spaces."""
    return Message(QUOTED, {"text": " ".join(str(text).split())})


def labelled(name: str, text: Message) -> Message:
    """Return a message that begins with a name, such as "https: no response within 5 s"."""
    return Message(LABEL, {"name": name, "text": text})


def _plain(value: Value) -> Any:
    if isinstance(value, Message):
        return value.to_dict()
    if isinstance(value, (str, int, float)):
        return value
    return [_plain(each) for each in value]


class Listed:
    """A list of strings for str.format.

    {name} joins the strings with commas, {name:;} joins clauses with semicolons. {name:row|rows} appends a noun to a
    number, in the singular if the number is 1.
    """

    def __init__(self, texts: Sequence[str], *, comma: str = ", ", clauses: str = "; ") -> None:
        """Store the strings and the language's separators."""
        self._texts = texts
        self._comma, self._clauses = comma, clauses

    def __format__(self, spec: str) -> str:
        """Return the joined strings. spec: the part after the colon in the template."""
        if spec == ";":
            return self._clauses.join(map(_clause, self._texts))
        text = self._comma.join(self._texts)
        one, plural, many = spec.partition("|")
        return f"{text} {one if text == '1' else many}" if plural else text


def _clause(text: str) -> str:
    """Return text without the full stop at its end, because a semicolon follows. An ellipsis is kept."""
    return text[:-1] if text.endswith(("。", ".")) and not text.endswith("..") else text


def english(told: Message, templates: Mapping[str, str]) -> str:
    """Return the English text of a message, without the final full stop. Raises KeyError for an unknown ID."""
    return templates[told.id].format(
        **{name: Listed(_english(value, templates)) for name, value in told.values.items()}
    )


def _english(value: Value, templates: Mapping[str, str]) -> List[str]:
    if isinstance(value, Message):
        return [english(value, templates)]
    if isinstance(value, (str, int, float)):
        return [str(value)]
    return [text for each in value for text in _english(each, templates)]


def with_stop(text: str) -> str:
    """Return text on one line. Add a full stop unless the text ends with a command (the part after a line break)."""
    if "\n" in text:
        return text.replace("\n", " ")
    return text if text.endswith((".", "!", "?")) else f"{text}."


class MessageError(Exception):
    """An error whose text is generated from a message. Each subclass uses the templates of its package."""

    templates: ClassVar[Mapping[str, str]] = ENGLISH

    def __init__(self, told: Union[str, Message, MessageError]) -> None:
        """Accept a message, plain text to quote, or an error whose message is reused."""
        if isinstance(told, MessageError):
            self.told: Message = told.told
        else:
            self.told = told if isinstance(told, Message) else quoted(told)
        super().__init__(english(told, self.templates) if isinstance(told, Message) else str(told))


def failure(error: Exception) -> Dict[str, Any]:
    """Return the arguments of fail_json for an error: the text, and the translatable message if there is one."""
    told = {"messages": plain(msg=error.told)} if isinstance(error, MessageError) else {}
    return {"msg": sanitize.text(error), **told}


def plain(**told: Any) -> Dict[str, Any]:
    """Return messages as plain data for the key "messages" of a module's result.

    Each argument is named after a key of the result, for example msg. The value is the message for the text under this
    key: a message, a list of messages, or None (omitted). The values are sanitized, because the host may have provided
    them.
    """
    return {
        name: sanitize.data([one.to_dict() for one in each] if isinstance(each, (list, tuple)) else each.to_dict())
        for name, each in told.items()
        if each
    }


def of(texts: Mapping[str, Any], name: str) -> Message:
    """Return the message for a string in a module's result, or the quoted string if there is no message. See plain().

    name: the key of the string in the result, for example msg.
    """
    told = (texts.get("messages") or {}).get(name)
    return from_dict(told) if isinstance(told, Mapping) else quoted(texts.get(name))
