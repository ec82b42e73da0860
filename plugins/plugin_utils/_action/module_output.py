# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove everything that could affect the controller from the output of a module.

The modules return plain text, but somebody may have manipulated the Python interpreter on a host. ansible-core prints
some parts of a result unchanged: warnings, deprecations, diffs, the lines around the JSON, and the values of the
"_ansible_*" keys. Other releases of ansible-core may print other keys. Therefore, terminal control characters are
removed from the whole output before ansible-core parses it.

ansible-core acts on some keys of any module's result: it publishes "ansible_stats" as artifacts of the job, and stores
"ansible_facts" as facts of the host. In AWX, artifacts become extra variables of the later steps of the workflow.
No module of this collection returns these keys. They are removed from the parsed result, because JSON has several ways
to write a key.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Match

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize

_LINE_ENDS = re.compile(r"\r+\n")
# JSON escapes (RFC 8259) and unescaped control characters. JSON encodes a character beyond U+FFFF as a pair of escapes.
_PARTS = re.compile(
    r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<short>.))"
    f"|(?P<raw>{sanitize.ACTIVE.pattern})"
)
# Keys that a module must not return, because ansible-core acts on them.
_EFFECTS = ("ansible_stats", "ansible_facts")
# ansible-core removes these facts from a module's result, and then adds the Python interpreter that it has found.
_INTERPRETERS = ("discovered_interpreter_", "ansible_discovered_interpreter_")
_SHORT = {"b": "\b", "f": "\f", "r": "\r"}


def _plain_part(match: Match[str]) -> str:
    if match["pair"]:
        return match.group()
    character = chr(int(match["code"], 16)) if match["code"] else match["raw"] or _SHORT.get(match["short"], "")
    if not character or not sanitize.ACTIVE.match(character):
        return match.group()
    # Add a second backslash, because the JSON parser removes one.
    return "\\" + sanitize.text(character)


def of_module(text: str) -> str:
    """Return a module's output (JSON and the lines around it) without terminal control characters.

    Each such character is shown as its code, for example as the four characters backslash, x, 1 and b.
    """
    return _PARTS.sub(_plain_part, _LINE_ENDS.sub("\n", text))


def of_errors(text: str) -> str:
    """Return a module's error output without terminal control characters."""
    return sanitize.text(_LINE_ENDS.sub("\n", text))


def without_effects(result: Dict[str, Any]) -> Dict[str, Any]:
    """Remove the keys that ansible-core acts on from a module's parsed result, at every depth. Return the result.

    A later task may return a part of this result as its own result. Therefore, all facts are removed except the
    interpreters at the top level of the result.
    """
    facts: Any = result.get("ansible_facts")
    given = facts if isinstance(facts, dict) else {}
    known = {name: value for name, value in given.items() if str(name).startswith(_INTERPRETERS)}
    # Do not use recursion, because the host controls the depth of the result.
    todo: List[Any] = [result]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            for name in _EFFECTS:
                part.pop(name, None)
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    if known:
        result["ansible_facts"] = known
    return result
