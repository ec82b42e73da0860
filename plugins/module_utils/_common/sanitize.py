# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text of others on its way to a person: nothing in it moves a cursor, rings, or turns the direction of reading.

A terminal obeys control characters wherever they come from: a log, the name of a file, what a program said. They are
shown as C(\\x1b), so that it can be seen that they were there.
"""

from __future__ import annotations

import re
from typing import Any, Match

# C0 and C1 but tab and line feed, line and paragraph separator, marks, embeddings and isolates of direction, the
# byte order mark, and halves of surrogate pairs, which no encoding takes.
ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# Colours and the like (ECMA-48: control sequences), and what a program tells its terminal (operating system commands).
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\))")


def without_sequences(text: str) -> str:
    """Return C(text) without colours, titles and other orders to a terminal that are whole."""
    return _SEQUENCES.sub("", text) if "\x1b" in text else text


def _shown(match: Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def text(value: object) -> str:
    """Return C(value) as text in which whatever a terminal would obey is shown instead."""
    return ACTIVE.sub(_shown, without_sequences(str(value)))


def data(value: Any) -> Any:
    """Return data (as JSON knows it) with every text in it made plain, the names of its keys too."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (list, tuple)):
        return [data(item) for item in value]
    if isinstance(value, dict):
        return {data(name): data(item) for name, item in value.items()}
    return value
