# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of notifications: the facts, and the request bodies for incoming webhooks."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds

# The supported chat services.
SHAPES = ("mattermost", "slack", "teams")

# Maximum length of the text. Teams accepts 28 KB for the whole card. Mattermost accepts 16383 characters per message.
_TEAMS_TEXT, _MATTERMOST_TEXT = 6000, 16000


# The only fact that may have several lines, and its maximum length in characters. Each command is on its own line, and
# a truncated command would be useless.
_LINES, _MOST_TEXT = "next_step", 4000


def facts(values: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a message's facts, ready to send: with credentials masked, and each string on one short line.

    The exception is next_step, which keeps its line breaks and may have up to _MOST_TEXT characters.
    """
    fitted = {name: _fit(value) for name, value in values.items()}
    if isinstance(values.get(_LINES), str):
        fitted[_LINES] = "\n".join(
            " ".join(line.split()) for line in kinds.text(values[_LINES], limit=_MOST_TEXT).splitlines()
        )
    return fitted


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(kinds.text(value).split())
    if isinstance(value, Mapping):
        return {str(name): _fit(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fit(each) for each in value]
    return value


def body(message: Mapping[str, Any], shape: str) -> Dict[str, Any]:
    """Return the JSON body of a message: the subject, with the text below it.

    shape: the chat service, a key of _BODIES. The text contains output from hosts. Therefore, the chat service must not
    interpret any part of it as a mention, a link or a heading.
    """
    return _BODIES[shape](str(message["subject"]), str(message["text"]))


def _slack(subject: str, text: str) -> Dict[str, Any]:
    """Return blocks of plain text. Slack shows the "text" key in its own notifications, so <, > and & are escaped."""
    escaped = subject.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        "text": escaped,
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": _cut(subject, 150), "emoji": False}},
            {"type": "section", "text": {"type": "plain_text", "text": _cut(text, 3000), "emoji": False}},
        ],
    }


def _teams(subject: str, text: str) -> Dict[str, Any]:
    """Return an Adaptive Card for the Workflows app. TextRuns are used, because TextBlocks interpret Markdown."""

    def line(words: str, **look: str) -> Dict[str, Any]:
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": words, **look}]}

    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "fallbackText": subject,
                    "msteams": {"width": "Full"},
                    "body": [
                        line(subject, size="Large", weight="Bolder"),
                        *(line(each) for each in _cut(text, _TEAMS_TEXT).splitlines() if each.strip()),
                    ],
                },
            }
        ],
    }


def _mattermost(subject: str, text: str) -> Dict[str, Any]:
    """Return the text in a code block, so that Markdown and mentions have no effect.

    The block's fence is longer than any fence in the text.
    """
    words = _cut(f"{subject}\n\n{text}", _MATTERMOST_TEXT)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return {"text": f"{fence}text\n{words}\n{fence}"}


_BODIES = {"mattermost": _mattermost, "slack": _slack, "teams": _teams}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
