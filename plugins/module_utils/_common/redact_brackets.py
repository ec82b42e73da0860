# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the end of a list or an object that follows the name of a secret. The end can be on a later line.

If a value is long, Node prints each of its items on a separate line. These lines are indented more than the line with
the name. Therefore, a value whose closing bracket is missing does not hide the rest of the log.
"""

from __future__ import annotations

from typing import Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact_shapes as shapes
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy

# A list or an object. Node prints its class, size or prototype before the bracket: Map(2) {, Uint8Array(4) [,
# [Object: null prototype] {, [Getter] {, <ref *1> {.
_LABEL = r"\[[\w$:./() -]{1,80}\]"
OPENED = lazy(
    rf"(?:<ref \*\d{{1,6}}>[ ])?(?:(?:{_LABEL}|[A-Za-z_$][\w.$]{{0,80}}(?:\(\d{{1,10}}\))?(?:[ ]{_LABEL})?)[ ])?"
    r"(?=[\[{])"
)
# The text after a value that Node printed.
FOLLOWING = lazy(r"[,;)\]}'\"`\\]|[ ]?[)\]}]|\s*\Z|[ ]\+")
# An escaped quote outside a string is skipped. Otherwise, the pattern would search for a closing quote after it.
_BRACKET = lazy(r"""[\[\]{}]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`""")
BODY = lazy(rf"[ \t]{{0,200}}{shapes.PREFIX}[ \t]{{0,200}}")
# The text of a file in a string that Node prints on several lines: '  "passwords": [\n' +
_IN_STRING = lazy(r"[\"'`][ \t]{1,200}")
# Lines that are indented but are not part of a value: a stack frame, and the caret below a line of source code.
_NO_ITEM = lazy(r"at \S|\^")


def end(line: str, start: int, depth: int = 0) -> Tuple[int, int]:
    """Return the end position of a list or an object, and the number of brackets that are still open there.

    depth: the number of brackets that are open at the start.
    """
    for match in _BRACKET.finditer(line, start):
        if match.group() in "[{":
            depth += 1
        elif match.group() in "]}":
            depth -= 1
            if depth <= 0:
                return match.end(), 0
    return len(line), depth


def column(line: str) -> int:
    """Return the number of blanks before a line's text, without a logger's prefix."""
    indent = len(line) - len(line.lstrip(" \t"))
    body = BODY.match(line)
    at = indent or (body.end() if body else 0)
    blanks = indent or at - len(line[:at].rstrip(" \t"))
    inner = _IN_STRING.match(line, at)
    return blanks + (len(inner.group()) if inner else 0)


def continues(line: str, indent: int, start: int) -> bool:
    """Return True if a line continues a value that began on an earlier line with this indentation.

    start: the position of the text in the line.
    """
    return column(line) > indent and not _NO_ITEM.match(line, start)
