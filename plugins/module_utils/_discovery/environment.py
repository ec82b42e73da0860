# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's environment variables and their sources.

Most values may be secrets. Only a few kinds of values are returned: ports, on/off settings, names and paths. A URL is
not returned, because it can contain a password.
"""

from __future__ import annotations

import re
from typing import Callable, Collection, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import environment_names

# Files that usually contain the service's environment, relative to the application's folder.
USUAL_FILES = (
    "config/env/.env.production",
    ".env.production",
    "backend/.env.production",
    *environment_names.OWN_FILES,
)
PROCESS, UNIT, FILE = "process", "unit", "file"

_PORT = re.compile(r"[0-9]{1,5}\Z")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")
# A path does not begin or end with whitespace. A path does not contain quotation marks, equals signs, or special
# characters of URLs and shells.
_PATH = re.compile(r"(?!\s)[^\x00-\x1f\x7f\"'`=?&@{}<>|;$*\\]{1,400}(?<!\s)\Z")
_PORTS = ("PORT", "HTTP_PORT", "HTTPS_PORT")
_WORDS = ("NODE_ENV", "ENABLE_HTTPS")
# The name of an environment variable. A process can also have variables with other names, such as "a b".
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_PATHS = re.compile(r"(?:LOG|LOGS|BACKUP|BACKUPS)_(?:DIR|FILE|PATH|FOLDER)")
# Names of variables that can contain the path of the database.
_DATABASE = re.compile(r"(?:\w+_)?(?:DATABASE|DB|SQLITE)(?:_(?:PATH|FILE|FILENAME))?")


class Variable(NamedTuple):
    """An environment variable that may be shown, and its source."""

    name: str
    value: str
    source: Message


class Source(NamedTuple):
    """Variables from one source. kind: one of PROCESS, UNIT and FILE. path: the file, or an empty string."""

    kind: str
    path: str
    values: Mapping[str, str]
    # True if only root could have set these variables.
    of_root: bool = False


def is_path(text: str) -> bool:
    """Return True if the text can be shown as a path. A URL is never shown, because it may contain a password."""
    return _PATH.match(text) is not None and "://" not in text


def may_be_shown(name: str, value: str) -> bool:
    """Return True if a variable is a setting that the inventory needs, and its value has the expected form."""
    if name in _PORTS:
        return _PORT.match(value) is not None
    if name in _WORDS:
        return _WORD.match(value) is not None
    named = _PATHS.fullmatch(name) or environment_names.names_certificate(name) or environment_names.names_key(name)
    return bool(named or _DATABASE.fullmatch(name)) and is_path(value)


class Environment:
    """The service's environment. The first source that contains a variable takes precedence."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Store the sources, most reliable first."""
        self._sources = list(sources)

    @property
    def names(self) -> List[str]:
        """The names of all variables that have a value."""
        return sorted({name for source in self._sources for name, value in source.values.items() if value})

    @property
    def known(self) -> bool:
        return bool(self._sources)

    def get(self, name: str) -> Optional[Variable]:
        """Return a variable, or None if it is not set or may not be shown."""
        for source in self._sources:
            value = source.values.get(name)
            if value:
                return Variable(name, value, self._told(name, value)) if may_be_shown(name, value) else None
        return None

    def is_set(self, name: str) -> bool:
        return any(source.values.get(name) for source in self._sources)

    def is_of_root(self, variable: Variable) -> bool:
        """Return True if a source that only root can change contains this value of the variable."""
        return any(source.of_root and source.values.get(variable.name) == variable.value for source in self._sources)

    def values_of_root(self, prefix: str) -> List[str]:
        """Return the paths that only root could have set, from the variables whose names begin with `prefix`."""
        pairs = [pair for source in self._sources if source.of_root for pair in source.values.items()]
        return [value for name, value in pairs if name.startswith(prefix) and value and may_be_shown(name, value)]

    def first(self, wanted: Callable[[str], bool]) -> Optional[Variable]:
        """Return the first variable that has a matching name and may be shown."""
        found = (self.get(name) for source in self._sources for name in sorted(source.values) if wanted(name))
        return next(filter(None, found), None)

    def names_of(self, wanted: Callable[[str], bool]) -> List[str]:
        """Return the names of the variables whose value matches. The values themselves are not returned."""
        pairs = [(name, value) for source in self._sources for name, value in source.values.items() if value]
        return list(dict.fromkeys(name for name, value in pairs if _NAME.fullmatch(name) and wanted(value)))

    def _told(self, name: str, value: str) -> Message:
        """Return the source of a value.

        If a file contains the value, this file is the source, even if the process has the same value.
        """
        having = [source for source in self._sources if source.values.get(name) == value]
        kind, path = having[0].kind, next((source.path for source in having if source.path), "")
        if kind == PROCESS and path:
            return message("discovery.source.file_and_process", name=name, path=path)
        if kind == PROCESS:
            return message("discovery.source.process_variable", name=name)
        if kind == UNIT:
            return message("discovery.source.unit_variable", name=name)
        return message("discovery.source.file_variable", name=name, path=path)

    def is_saved(self, name: str, *, files: Collection[str]) -> bool:
        """Return True if the unit or one of these files contains a variable.

        Such a variable can be read even if no process is running.
        """
        read = (source for source in self._sources if source.kind == UNIT or source.path in files)
        return any(source.values.get(name) for source in read)

    def changed(self) -> List[Tuple[str, str]]:
        """Return (name, file) for each setting whose value in a file differs from the value in the running process."""
        process: Dict[str, str] = {}
        for source in self._sources:
            process.update(source.values if source.kind == PROCESS else {})
        return sorted(
            (name, source.path)
            for source in self._sources
            if source.kind == FILE
            for name, value in source.values.items()
            if process.get(name) and value and process[name] != value and may_be_shown(name, value)
        )
