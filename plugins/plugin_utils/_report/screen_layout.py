# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of the summary on the screen: lines of limited width, and fields with aligned values."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

# Tones: good news, needs attention, bad news.
GOOD, ATTENTION, BAD = "good", "attention", "bad"

WIDTH = 100
# The summary of one host must fit on a small screen. The postmortem contains long fields in full.
LINES = 24
_CUT = " ..."
# Fields that are never shortened, because they name the next step, lost rows, commands and the files.
_WHOLE = ("next", "methods", "options", "data_loss", "rows", "seeded", "kept", "postmortem")
LABEL = 14

# The last part of the catalogue key for a label, and the value of the field, which has one or more lines.
Field = Tuple[str, Union[str, List[str]]]


def one_line(text: str) -> str:
    """Return text on one line, so that text from a host cannot imitate another line of the summary."""
    return re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", text)


def columns(text: str) -> int:
    """Return the number of terminal columns that text needs. A wide character needs two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrap(text: str, width: int) -> List[str]:
    """Wrap text into lines of at most width columns. Long words, such as paths, are not broken."""
    text = one_line(text)
    # Do not break paths, because people copy them from the screen.
    if columns(text) == len(text):
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    lines = [""]
    for word in _words(text):
        if lines[-1] and columns(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word if lines[-1] else word.lstrip()
    return [line.rstrip() for line in lines if line.strip()]


def _words(text: str) -> List[str]:
    """Split text where a line can be broken: after a space or a wide character, but not before punctuation."""
    pieces = [""]
    for character in text:
        ends = pieces[-1] and (pieces[-1][-1] == " " or unicodedata.east_asian_width(pieces[-1][-1]) in "WF")
        if ends and character not in " \u3001\u3002\u300d\uff09\uff1a":
            pieces.append("")
        pieces[-1] += character
    return pieces


def aligned(words: Words, fields: Sequence[Field], *, most: Optional[int] = None) -> List[str]:
    """Return the lines of the fields that have a value. most: the maximum number of lines, or None for no limit."""
    texts: Dict[str, List[str]] = {}
    for key, value in fields:
        parts = [value] if isinstance(value, str) else value
        wrapped = [line for part in parts for line in wrap(part, WIDTH - LABEL)]
        if wrapped:
            texts[key] = wrapped
    lines: List[str] = []
    for key, wrapped in (_shortened(texts, most=most) if most else texts).items():
        label = words.say(f"screen.{key}")
        heads = [f"  {label}{' ' * max(LABEL - 2 - columns(label), 1)}", *[" " * LABEL] * len(wrapped)]
        lines += [head + line for head, line in zip(heads, wrapped)]
    return lines


def _shortened(texts: Mapping[str, List[str]], *, most: int) -> Dict[str, List[str]]:
    """Return the lines of the fields. If there are too many, the last lines of the longest fields are cut off.

    Of several longest fields, the last one is cut first, because the first fields are the most important ones.
    """
    shorter = {key: list(lines) for key, lines in texts.items()}
    while sum(map(len, shorter.values())) > most:
        longest = max(reversed(list(shorter)), key=lambda key: 0 if key in _WHOLE else len(shorter[key]))
        if longest in _WHOLE or len(shorter[longest]) == 1:
            break
        *kept, cut, _gone = shorter[longest]
        shorter[longest] = [*kept, f"{(wrap(cut, WIDTH - LABEL - len(_CUT)) or [''])[0]}{_CUT}"]
    return shorter
