# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove terminal control characters from the output of a module before ansible-core parses it.

The modules return plain text, but the Python interpreter on a host may have been tampered with. ansible-core prints
some parts of a result unchanged: warnings, deprecations, diffs, the lines around the JSON, and the values of the
"_ansible_*" keys. Another release of ansible-core may print other keys. Therefore, the whole output is sanitized
before ansible-core parses it.
"""

from __future__ import annotations

import re
from typing import Match

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize

_LINE_ENDS = re.compile(r"\r+\n")
# JSON escapes (RFC 8259) and unescaped control characters. JSON encodes a character beyond U+FFFF as a pair of escapes.
_PARTS = re.compile(
    r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<short>.))"
    f"|(?P<raw>{sanitize.ACTIVE.pattern})"
)
_SHORT = {"b": "\b", "f": "\f", "r": "\r"}


def _plain_part(match: Match[str]) -> str:
    if match["pair"]:
        return match.group()
    character = chr(int(match["code"], 16)) if match["code"] else match["raw"] or _SHORT.get(match["short"], "")
    if not character or not sanitize.ACTIVE.match(character):
        return match.group()
    # Add one more backslash, because the JSON parser removes one.
    return "\\" + sanitize.text(character)


def of_module(text: str) -> str:
    """Return a module's output (JSON and the lines around it) without terminal control characters.

    Each such character is shown as its code, for example as the four characters backslash, x, 1 and b.
    """
    return _PARTS.sub(_plain_part, _LINE_ENDS.sub("\n", text))


def of_errors(text: str) -> str:
    """Return a module's error output without terminal control characters."""
    return sanitize.text(_LINE_ENDS.sub("\n", text))
