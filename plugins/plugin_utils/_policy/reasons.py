# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reason for a decision, as English text and as translatable messages."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import (
    Message,
    from_dict,
    quoted,
    with_stop,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue


@dataclasses.dataclass(frozen=True)
class Reason:
    """The reason for a decision. sentences: a message for each sentence of the text."""

    text: str
    sentences: Tuple[Message, ...]

    @classmethod
    def of(cls, *sentences: Message) -> Reason:
        """Return a reason that consists of these messages and their English text."""
        return cls(" ".join(with_stop(catalogue.english(each)) for each in sentences), sentences)

    @classmethod
    def read(cls, texts: Mapping[str, Any], name: str) -> Reason:
        """Create a reason from the text and the messages in a result. See messages_of."""
        return cls(str(texts.get(name) or ""), messages_of(texts, name))

    def plain(self) -> List[Dict[str, Any]]:
        """Return the messages as plain data."""
        return [each.to_dict() for each in self.sentences]


def messages_of(texts: Mapping[str, Any], name: str) -> Tuple[Message, ...]:
    """Return the messages for text in a result, from the "messages" key of that result.

    A host can return any result. Therefore, the text itself is quoted in these cases:

    - There is no message.
    - The catalogue lacks the message.
    - The catalogue lacks a message that is nested in this message.
    """
    told = texts.get("messages")
    known = told.get(name) if isinstance(told, Mapping) else None
    found = [each for each in (known if isinstance(known, (list, tuple)) else [known]) if isinstance(each, Mapping)]
    with contextlib.suppress(KeyError, RecursionError):
        read = tuple(map(from_dict, found))
        if read and all(catalogue.english(each) for each in read):
            return read
    text = str(texts.get(name) or "").rstrip(" .")
    return (quoted(text),) if text else ()


def names(told: Any, ident: str) -> bool:
    """Return True if one of these messages, or a message nested in one of them, has this ID. told: any data."""
    rest = [told]
    while rest:
        each = rest.pop()
        if isinstance(each, Mapping):
            if each.get("id") == ident:
                return True
            rest.extend(each.values())
        elif isinstance(each, (list, tuple)):
            rest.extend(each)
    return False


def joined(reasons: Sequence[Reason]) -> Reason:
    """Combine several reasons into one."""
    sentences = tuple(sentence for each in reasons for sentence in each.sentences)
    return Reason(" ".join(each.text for each in reasons), sentences)


def once(reasons: Sequence[Reason]) -> List[Reason]:
    """Return the reasons without duplicates."""
    return list({each.text: each for each in reversed(reasons)}.values())[::-1]
