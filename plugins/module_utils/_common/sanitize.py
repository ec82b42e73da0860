# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make text from other sources safe to display, so that it cannot control the terminal or reverse the text direction.

A terminal obeys control characters from any source, such as a log, a file name or the output of a program. Such
characters are replaced with visible text such as \\x1b.
"""

from __future__ import annotations

import re
from typing import Any, Match

# These characters are replaced: control characters (C0 and C1, except tab and line feed), line separators, paragraph
# separators, marks that change the text direction, characters without width that could hide a difference between two
# names, the byte order mark, and unpaired surrogates (not encodable). The joiners U+200C and U+200D are part of text.
ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c"
    "\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
# ECMA-48 control sequences (such as colours), and operating system commands (OSC).
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\))")


def without_sequences(text: str) -> str:
    """Return text without complete sequences for colours, titles and other terminal commands."""
    return _SEQUENCES.sub("", text) if "\x1b" in text else text


def _shown(match: Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def text(value: object) -> str:
    """Return `value` as text without terminal commands. Other control characters (see ACTIVE) are made visible."""
    return ACTIVE.sub(_shown, without_sequences(str(value)))


def data(value: Any) -> Any:
    """Return JSON data in which every string, including each key, is sanitized."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (list, tuple)):
        return [data(item) for item in value]
    if isinstance(value, dict):
        return {data(name): data(item) for name, item in value.items()}
    return value
