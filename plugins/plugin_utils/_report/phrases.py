# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of texts that all documents share: one line of a text, the language of a message."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words


def bare(text: object) -> str:
    """Return text on one line, without the punctuation at its end. The caller adds its own."""
    return " ".join(str(text or "").split()).rstrip(" .;")


def upper(text: str) -> str:
    """Return text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def summed_up(words: Words, named: Optional[str], summary: Optional[str], told: object) -> str:
    """Return a finding's summary in this language. An old timeline has only the English text, so its cause is used.

    told: the summary as a message.
    """
    known = words.message(told)
    if known:
        return known
    return words.name("summary", named) if words.knows("summary", named) else words.quoted(summary)


def message_of(texts: Mapping[str, Any], name: str) -> object:
    """Return the message of a text of a finding, rung, remedy or verdict, or None in an old timeline."""
    return (texts.get("messages") or {}).get(name)
