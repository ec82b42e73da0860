# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text helpers for all documents: text on one line, and messages in the document's language."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words


def bare(text: object) -> str:
    """Return text on one line, without the final punctuation. The caller adds its own punctuation."""
    return " ".join(str(text or "").split()).rstrip(" .;")


def summed_up(words: Words, named: Optional[str], summary: Optional[str], told: object) -> str:
    """Return a finding's summary in this language, or general text if the timeline is old.

    told: the summary as a message.
    """
    known = words.message(told)
    if known:
        return known
    return words.name("summary", named) if words.knows("summary", named) else words.quoted(summary)


def message_of(texts: Mapping[str, Any], name: str) -> object:
    """Return the message for text from a finding, rung, remedy or verdict. For an old timeline, return None."""
    return (texts.get("messages") or {}).get(name)


def messages_in(told: object) -> List[Mapping[str, Any]]:
    """Return the messages in a field that contains one message or a list of messages. Ignore all other values."""
    return [each for each in (told if isinstance(told, list) else [told]) if isinstance(each, Mapping)]


def text_of(words: Words, texts: Mapping[str, Any], name: str) -> str:
    """Return one string from a result in this language, without a full stop. A string without a message is quoted."""
    return bare(words.message(message_of(texts, name), texts.get(name)))


def texts_of(words: Words, texts: Mapping[str, Any], name: str) -> List[str]:
    """Return a list of strings from a result in this language. If any message is missing, all strings are quoted."""
    found, told = texts.get(name) or [], message_of(texts, name)
    known = told if isinstance(told, list) and len(told) == len(found) else [None] * len(found)
    return [bare(words.message(each, text)) for each, text in zip(known, found)]
