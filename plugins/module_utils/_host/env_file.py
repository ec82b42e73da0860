# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse environment files (KEY=VALUE lines) in the same way as systemd's EnvironmentFile=.

The rules are those of systemd 254 and later: systemd.exec(5), and parse_env_file_internal in src/basic/env-file.c.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from typing import Callable, Dict, List, Mapping, Sequence, Union

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import messages, safe_open
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.lazy_pattern import lazy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, MessageError, message

_NEWLINES = "\n\r"
_BLANKS = " \t\n\r"
# Characters that a backslash escapes within double quotes. Before other characters, a backslash is an ordinary
# character.
_ESCAPED_IN_QUOTES = '"\\`$'
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LARGEST = 1024 * 1024
# Matches a line of the EnvironmentFiles property in the output of systemctl show.
_FILE = lazy(r"(.*) \(ignore_errors=(?:yes|no)\)\Z")


class EnvironmentFileError(MessageError):
    """An environment file could not be read, or is not UTF-8 text."""

    templates = messages.ENGLISH


class _Parser:
    """The states of systemd's parser. Each state is a method that consumes one character and returns the next state."""

    def __init__(self) -> None:
        self.values: Dict[str, str] = {}
        self._key: List[str] = []
        self._value: List[str] = []
        # Length of the value up to its last quoted or escaped character. Only whitespace after this character is
        # stripped.
        self._kept = 0

    def assign(self) -> None:
        name = "".join(self._key).rstrip(_BLANKS)
        if NAME.match(name):
            value = "".join(self._value)
            self.values[name] = value[: self._kept] + value[self._kept :].rstrip(_BLANKS)

    def keep(self) -> None:
        self._kept = len(self._value)

    def before_key(self, char: str) -> str:
        if char in "#;":
            return "comment"
        if char in _BLANKS:
            return "before_key"
        self._key, self._value, self._kept = [char], [], 0
        return "key"

    def comment(self, char: str) -> str:
        return "before_key" if char in _NEWLINES else "comment"

    def key(self, char: str) -> str:
        if char in _NEWLINES:
            return "before_key"
        if char == "=":
            return "before_value"
        self._key.append(char)
        return "key"

    def before_value(self, char: str) -> str:
        if char == "'":
            return "single"
        if char == '"':
            return "double"
        if char in _BLANKS and char not in _NEWLINES:
            return "before_value"
        return self.value(char)

    def value(self, char: str) -> str:
        if char in _NEWLINES:
            self.assign()
            return "before_key"
        if char == "\\":
            return "escape"
        self._value.append(char)
        return "value"

    def escape(self, char: str) -> str:
        if char not in _NEWLINES:
            self._value.append(char)
        self.keep()
        return "value"

    def single(self, char: str) -> str:
        if char == "'":
            self.keep()
            return "before_value"
        self._value.append(char)
        return "single"

    def double(self, char: str) -> str:
        if char == '"':
            self.keep()
            return "before_value"
        if char == "\\":
            return "double_escape"
        self._value.append(char)
        return "double"

    def double_escape(self, char: str) -> str:
        if char in _ESCAPED_IN_QUOTES:
            self._value.append(char)
        elif char != "\n":
            self._value.extend(("\\", char))
        return "double"


def parse_environment(text: str) -> Dict[str, str]:
    """Return the variables that the text of an environment file sets. The last assignment to a name wins.

    Comments start with # or ;. A backslash at the end of a line joins the line with the next one. Variables such as
    $HOME are not expanded. Lines without = and lines with an invalid name (export X=1) are skipped, as in systemd.
    """
    parser = _Parser()
    states: Dict[str, Callable[[str], str]] = {
        "before_key": parser.before_key,
        "comment": parser.comment,
        "key": parser.key,
        "before_value": parser.before_value,
        "value": parser.value,
        "escape": parser.escape,
        "single": parser.single,
        "double": parser.double,
        "double_escape": parser.double_escape,
    }
    state = "before_key"
    for char in text:
        state = states[state](char)
    if state in ("single", "double", "double_escape"):
        parser.keep()
    if state not in ("before_key", "comment", "key"):
        parser.assign()
    return parser.values


def read_environment_file(path: str) -> Dict[str, str]:
    """Return the variables that an environment file sets. See read_text. Raises EnvironmentFileError."""
    return parse_environment(read_text(path))


def read_text(path: str) -> str:
    """Return the content of an environment file as text.

    The values are passed to processes that run as the service's user. Therefore, a link that this user created must not
    lead root to a file that the user cannot read (see safe_open).

    Raises EnvironmentFileError if the file cannot be read or is not text. The error message is one line and does not
    quote the file.
    """
    try:
        data = safe_open.read(os.path.abspath(path), limit=_LARGEST)
    except OSError as error:
        raise _unread(path, str(error.strerror)) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unread(path, message("reason.host.not_utf8", byte=error.start)) from error
    if "\0" in text:
        raise _unread(path, message("reason.host.nul_byte"))
    return text


def _unread(path: str, why: Union[str, Message]) -> EnvironmentFileError:
    return EnvironmentFileError(message("reason.host.environment_unread", path=path, why=why))


def files_of(line: str) -> List[str]:
    """Return the files in a line of EnvironmentFiles. A line can be a pattern, which systemd expands at each start."""
    found = _FILE.match(line)
    return sorted(glob.glob(found.group(1))) or [found.group(1)] if found else []


def required_files(lines: str) -> List[str]:
    """Return the files that systemd requires to start the unit, according to its EnvironmentFiles property."""
    required = [line for line in lines.splitlines() if line.endswith(" (ignore_errors=no)")]
    return list(dict.fromkeys(name for line in required for name in files_of(line)))


def unit_environment(properties: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables that a unit sets for its process, from Environment, then from EnvironmentFiles in order."""
    environment: Dict[str, str] = {}
    try:
        words: Sequence[str] = shlex.split(properties.get("Environment", ""))
    except ValueError:
        words = ()
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            environment[name] = value
    for line in properties.get("EnvironmentFiles", "").splitlines():
        for path in files_of(line):
            try:
                environment.update(read_environment_file(path))
            except EnvironmentFileError:
                continue  # systemd itself reports this error when the unit starts
    return environment
