# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mask the part of a value that is on a later line than its name."""

from __future__ import annotations

from typing import Match, Optional, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_brackets as brackets
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_shapes as shapes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_values as values
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

_PAIR_ENDED = lazy(r"""[ \t]{0,200}["']?(?i:value)["']?[ ]{0,4}[:=][ ]{0,4}""")
_KEY_OF_A_LINE = lazy(r"""(?:-[ ])?["']?[\w.-]{1,60}["']?[ ]?[:=](?:\s|\Z|["'\d{\[])""")
_FRAME = lazy(r"at \S|\^|[-=]{3}|[{}\[\]()]*\Z")
_ALONE = lazy(r"""[^\s"'{}<>]{4,}(?=["'}\]),;\r]{0,8}\Z)""")


def carried(line: str, carry: values.Carry) -> Tuple[str, Optional[values.Carry]]:
    """Mask the value that continues from the previous line. Return the line, and the carry for the next line."""
    found = brackets.BODY.match(line)
    start = found.end() if found else 0
    body = line[start : start + 200]
    result: Tuple[str, Optional[values.Carry]] = (line, None)
    if not body.strip():
        result = line, carry if carry.kind in ("block", "value", "bracket") else None
    elif carry.kind == "quote":
        end = line.find(carry.quote, start)
        whole = values.closed(line, start, len(line))
        result = (values.masked(line, start, end), None) if end >= 0 else (values.masked(line, start, whole), carry)
    elif carry.kind == "block":
        if values.indent(line) > carry.indent:
            result = values.masked(line, start, len(line.rstrip())), carry
    elif carry.kind == "bracket":
        result = _carried_bracket(line, start, carry)
    elif carry.kind in ("joined", "member", "option"):
        if body[0] in "\"'`" and not (carry.kind == "option" and body[1:2] == "-"):
            result = _carried_value(line, start)
    elif carry.kind == "pair":
        value = _PAIR_ENDED.match(line)
        if value is not None:
            result = _carried_value(line, value.end())
    elif carry.kind == "value" and body.startswith("- ") and not _KEY_OF_A_LINE.match(body):
        # An item in a list of values.
        result = _carried_value(line, start + 2)[0], carry
    elif body.startswith(shapes.MASK):
        result = line, carry._replace(kind="rest")
    elif not _FRAME.match(body) and not _KEY_OF_A_LINE.match(body):
        result = _carried_value(line, start) if carry.kind == "value" else _carried_rest(line, start, carry)
    return result


def _carried_bracket(line: str, start: int, carry: values.Carry) -> Tuple[str, Optional[values.Carry]]:
    if not brackets.continues(line, carry.indent, start):
        return line, None
    at, depth = brackets.end(line, start, carry.depth)
    if not depth:
        return values.masked(line, start, at), None
    return values.masked(line, start, values.closed(line, start, at)), carry._replace(depth=depth)


def _carried_value(line: str, start: int) -> Tuple[str, Optional[values.Carry]]:
    if line.startswith(shapes.MASK, start):
        return line, None
    end = values.value_end(line, start, start, equals=False)
    return values.masked(line, start, end.at), values.carry_after(line, end)


def _carried_rest(line: str, start: int, carry: values.Carry) -> Tuple[str, Optional[values.Carry]]:
    """Mask the possible continuation of a value: a single word, a word that looks like a token, or an indented line.

    Return the masked line and the carry for the next line.
    """
    alone = _ALONE.match(line, start)
    if alone:
        return values.masked(line, start, alone.end()), carry
    word = values.FIRST_WORD.match(line, start)
    if word and (shapes.opaque(word.group()) or _token_like(word)):
        return values.masked(line, start, word.end()), None
    indent = values.indent(line)
    logged = carry.logged or start > indent
    if not logged and indent > carry.indent and not line.lstrip().startswith(("-", "#")):
        return values.masked(line, start, values.closed(line, start, len(line))), carry
    return line, None


def _token_like(word: Match[str]) -> bool:
    text = word.group()
    return len(text) >= 12 and text.lower() != text and any(map(str.isdigit, text)) and "/" not in text
