# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the path of the database from a knexfile, without running it.

Only simple expressions are supported: a string, path.join or path.resolve of __dirname and strings, and
process.env.NAME with one of these expressions as its default. The result of any other code is unknown, because the code
is not run.
"""

from __future__ import annotations

import os
import re
from typing import Callable, List, NamedTuple, Optional

NAMES = (
    "knexfile.js",
    "knexfile.cjs",
    "knexfile.mjs",
    "backend/knexfile.js",
    "backend/knexfile.cjs",
    "config/knexfile.js",
)

_TEXT = r"""(?:'[^'\\\n]*'|"[^"\\\n]*"|`[^`\\$\n]*`)"""
_COMMENT = re.compile(rf"({_TEXT})|/\*.*?\*/|//[^\n]*", re.DOTALL)
_ENVIRONMENT = re.compile(r"process\.env\.([A-Za-z_]\w*)\s*(?:(?:\|\||\?\?)\s*(.+))?\Z", re.DOTALL)
_JOINED = re.compile(rf"path\.(?:join|resolve)\(\s*(__dirname\s*,\s*)?({_TEXT}(?:\s*,\s*{_TEXT})*)\s*,?\s*\)\Z")
_PLAIN = re.compile(rf"{_TEXT}\Z")


class Database(NamedTuple):
    """The database in a section of a knexfile. path: None if unknown without running the file.

    variable: the environment variable that contains the path, or an empty string.
    """

    path: Optional[str]
    variable: str = ""


def _without_comments(text: str) -> str:
    return _COMMENT.sub(lambda match: match.group(1) or " ", text)


def _block(text: str, start: int) -> str:
    """Return the text between the brace at `start` and its closing brace. Braces in strings are ignored."""
    depth = 0
    for match in re.finditer(rf"{_TEXT}|[{{}}]", text[start:]):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return text[start + 1 : start + match.start()]
    return ""


def _property(text: str, name: str) -> Optional[str]:
    """Return the text that follows `name:` up to the end of this property, or None if there is no such property."""
    found = re.search(rf"""(?<![\w.])['"]?{name}['"]?\s*:\s*""", text)
    if not found:
        return None
    depth = 0
    for match in re.finditer(rf"{_TEXT}|[()\[\]{{}},]", text[found.end() :]):
        sign = match.group()
        if depth == 0 and sign in (",", "}", ")", "]"):
            return text[found.end() : found.end() + match.start()].strip()
        depth += 1 if sign in "([{" else -1 if sign in ")]}" else 0
    return text[found.end() :].strip()


def _texts(listed: str) -> List[str]:
    return [word[1:-1] for word in re.findall(_TEXT, listed)]


def _value(code: str, *, folder: str, variable: Callable[[str], Optional[str]], app_dir: str) -> Database:
    """Return the path that an expression evaluates to."""
    code = code.strip()
    while code.startswith("(") and code.endswith(")"):
        code = code[1:-1].strip()
    environment = _ENVIRONMENT.match(code)
    if environment:
        value = variable(environment.group(1))
        if value:
            return Database(os.path.normpath(os.path.join(app_dir, value)), environment.group(1))
        if not environment.group(2):
            return Database(None, environment.group(1))
        rest = _value(environment.group(2), folder=folder, variable=variable, app_dir=app_dir)
        return Database(rest.path, environment.group(1))
    if _PLAIN.match(code):
        return Database(os.path.normpath(os.path.join(app_dir, code[1:-1])))
    joined = _JOINED.match(code)
    if joined:
        base = folder if joined.group(1) else app_dir
        return Database(os.path.normpath(os.path.join(base, *_texts(joined.group(2)))))
    return Database(None)


def database(
    text: str, *, section: str, path: str, app_dir: str, variable: Callable[[str], Optional[str]]
) -> Optional[Database]:
    """Return the database in a section of a knexfile, or None if the file has no such section.

    text: the content of the file at `path`. variable: a function that returns the value of an environment variable, or
    None if the variable is not set or unknown.
    """
    text = _without_comments(text)
    found = re.search(rf"""(?<![\w.])['"]?{re.escape(section)}['"]?\s*:\s*""", text)
    if not found:
        return None
    if text[found.end() : found.end() + 1] != "{":
        return Database(None)
    block = _block(text, found.end())
    connection = _property(block, "connection")
    if connection is None:
        return Database(None)
    code = _property(connection[1:], "filename") if connection.startswith("{") else connection
    if code is None:
        return Database(None)
    return _value(code, folder=os.path.dirname(path), variable=variable, app_dir=app_dir)
