# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of the summary on the screen: lines of limited width, and fields with aligned values."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from types import MappingProxyType
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words

# Tones, in this order: good news, a warning, bad news.
GOOD, ATTENTION, BAD = "good", "attention", "bad"

WIDTH = 100
# The summary of one host must fit on a small screen. The postmortem contains long fields in full.
LINES = 24
_CUT = " ..."
# Fields that are never shortened: the next step, lost rows, commands, invalid settings and the files.
_WHOLE = ("next", "methods", "options", "data_loss", "rows", "seeded", "settings", "postmortem")
# The order in which fields are shortened. Fields with a higher number are shortened first. Fields that are not listed
# have the number 0.
_ORDER = {"kept": 1, "escalation": -1, "why": -1, "cause": -2}
# Minimum number of lines of a field, because a long path can fill the second line of a cause or a reason.
_LEAST = {"cause": 3, "why": 3}
# Only this field can be omitted. It is omitted before a field with a negative number in _ORDER is shortened, and before
# another field is cut off directly before a path.
_DISPENSABLE = "severity"
LABEL = 14
_NOTHING: Mapping[str, int] = MappingProxyType({})

# The last part of the catalogue key for a label, and the field's value (one or more lines).
Field = Tuple[str, Union[str, List[str]]]


def one_line(text: str) -> str:
    """Return text on one line, so that text from a host cannot imitate another line of the summary."""
    return re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", text)


def columns(text: str) -> int:
    """Return the number of terminal columns that text needs. A wide character needs two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def wrap(text: str, width: int) -> List[str]:
    """Wrap text into lines of at most `width` columns. Long words (such as paths) and commands are not broken."""
    if isinstance(text, Command):
        return [one_line(text)]
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


def lines_until_cut(parts: Sequence[str]) -> int:
    """Return the number of lines that show these parts of a field if the text after them is cut off."""
    return sum(len(wrap(f"{part}{_CUT}", WIDTH - LABEL)) for part in parts)


def _words(text: str) -> List[str]:
    """Split text where a line can be broken: after a space or a wide character, but not before punctuation."""
    pieces = [""]
    for character in text:
        ends = pieces[-1] and (pieces[-1][-1] == " " or unicodedata.east_asian_width(pieces[-1][-1]) in "WF")
        if ends and character not in " \u3001\u3002\u300d\uff09\uff1a":
            pieces.append("")
        pieces[-1] += character
    return pieces


def aligned(
    words: Words,
    fields: Sequence[Field],
    *,
    most: Optional[int] = None,
    whole: Mapping[str, int] = _NOTHING,
    late: Mapping[str, int] = _NOTHING,
) -> List[str]:
    """Return the lines of the fields that have a value. most: the maximum number of lines, or None for no limit.

    whole: for some fields, how many parts at the beginning are never shortened. late: for some fields, how many lines
    at the beginning are cut off only if no other field can be shortened.
    """
    texts: Dict[str, List[str]] = {}
    pinned: Dict[str, int] = {}
    for key, value in fields:
        parts = [each for each in ([value] if isinstance(value, str) else value) if each]
        wrapped = [wrap(part, WIDTH - LABEL) for part in parts]
        if parts:
            texts[key] = [line for part in wrapped for line in part]
            pinned[key] = len(texts[key]) if key in _WHOLE else sum(map(len, wrapped[: whole.get(key, 0)]))
    lines: List[str] = []
    for key, wrapped_lines in (_shortened(texts, pinned=pinned, late=late, most=most) if most else texts).items():
        label = words.say(f"screen.{key}")
        heads = [f"  {label}{' ' * max(LABEL - 2 - columns(label), 1)}", *[" " * LABEL] * len(wrapped_lines)]
        lines += [head + line for head, line in zip(heads, wrapped_lines)]
    return lines


def _shortened(
    texts: Mapping[str, List[str]], *, pinned: Mapping[str, int], late: Mapping[str, int], most: int
) -> Dict[str, List[str]]:
    """Return the lines of the fields. If there are too many lines, the last lines of the longest fields are cut off.

    See _ORDER. pinned: for each field, the number of lines that are never changed. late: see aligned. The first fields
    are the most important ones. Therefore, if several fields are equally long, the last of them is shortened first. A
    field is not shortened directly before a path as long as another field can be shortened.
    """

    def rank(key: str) -> Tuple[bool, bool, int, int]:
        lines = shorter[key]
        return len(lines) > late.get(key, 0), not _would_lose_a_path(key, lines), _ORDER.get(key, 0), len(lines)

    shorter = {key: list(lines) for key, lines in texts.items()}
    while sum(map(len, shorter.values())) > most:
        longer = [key for key in reversed(list(shorter)) if len(shorter[key]) > max(pinned[key], _LEAST.get(key, 1))]
        longest = max(longer, key=rank, default="")
        if _DISPENSABLE in shorter and (not longest or rank(longest) < (True, True, 0, 0)):
            del shorter[_DISPENSABLE]
            continue
        if not longest:
            break
        *kept, cut, _gone = shorter[longest]
        if len(kept) < pinned[longest]:
            marked = f"{cut}{_CUT}"
            cut = marked if columns(marked) <= WIDTH - LABEL else cut
        else:
            cut = f"{(wrap(cut, WIDTH - LABEL - len(_CUT)) or [''])[0]}{_CUT}"
        shorter[longest] = [*kept, cut]
    return shorter


def _would_lose_a_path(key: str, lines: Sequence[str]) -> bool:
    """Return True if the last line begins with a path that the line before it introduces.

    Such a path is the subject of the text, for example the path of the restored backup. The paths of kept files are
    less important.
    """
    return key != "kept" and lines[-1].startswith("/") and not lines[-2].endswith((".", ";"))


def headed(words: Words, lines: List[str], *, check_mode: bool) -> List[str]:
    """Return the lines. In check mode, the first line states that the run is in check mode."""
    return [words.say("screen.in_check_mode", head=lines[0]), *lines[1:]] if check_mode and lines else lines
