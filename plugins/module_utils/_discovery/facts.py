# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts from which the variables are proposed, and the proposal itself."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import message as messages
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.environment import Environment
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.messages import ENGLISH
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.network import Port, Proxy
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._discovery.units import Unit

# The value of an inventory variable.
Value = Any
# Matches templates, line breaks and control characters.
_ACTIVE = re.compile(rf"{sanitize.ACTIVE.pattern}|[\t\n]|{{[{{%#]")


class Facts(NamedTuple):
    """Facts about the deployment of the service.

    The fields are empty or None if unknown, for example while the service is down.

    hidden: True if this account cannot inspect the process. argv: the command, from the unit or the process. program:
    the file that runs, with links resolved. launcher: True if the unit starts another program, which then starts node.
    outputs: the files behind descriptors 1 and 2 of the process. environment_files: the environment files that the unit
    lists. own_files: the files with settings in the application's folder, with paths relative to this folder. If there
    is no unit, the inventory's environment file comes first, with its absolute path. unread: (file, reason). disk: the
    result of files.survey, or None if the disk did not respond. ready: see network.ready_path.
    """

    unit: Optional[Unit]
    others: Sequence[str]
    missing_unit: str
    running: bool
    hidden: bool
    app_dir: str
    user: str
    argv: Sequence[str]
    program: str
    launcher: bool
    environment: Environment
    environment_files: Sequence[str]
    own_files: Sequence[str]
    unread: Sequence[Tuple[str, Message]]
    databases: Sequence[str]
    logs: Sequence[str]
    outputs: Sequence[str]
    ports: Sequence[Port]
    answer: Optional[Tuple[str, Optional[str]]]
    ready: Optional[str]
    proxies: Sequence[Proxy]
    disk: Optional[Mapping[str, Any]]
    # The application folder from the inventory if it is missing on the host, otherwise an empty string.
    missing_folder: str = ""
    # The environment file from the inventory if it is missing on the host, otherwise an empty string.
    missing_environment_file: str = ""
    # True if the unit or the inventory contains the application's folder.
    certain_folder: bool = False

    def of_unit(self, name: str) -> Message:
        """Return the source of a value that was read from a property of the unit."""
        return message("discovery.source.unit", name=name, unit=self.unit.name if self.unit else "")

    @property
    def section(self) -> str:
        """The name of the knexfile section that the service uses. If NODE_ENV is not set, knex uses `development`."""
        variable = self.environment.get("NODE_ENV")
        return variable.value if variable else "development"

    def absolute(self, path: str) -> str:
        """Return the normalized absolute path. Relative paths are relative to the application's folder."""
        return os.path.normpath(os.path.join(self.app_dir, path))

    def relative(self, path: str) -> str:
        """Return a path, relative to the application's folder if the path is below this folder."""
        prefix = self.app_dir.rstrip("/") + "/"
        return path[len(prefix) :] if path.startswith(prefix) else path


class Proposal:
    """Variables with their sources, questions to the administrator, and information."""

    def __init__(self) -> None:
        self._values: Dict[str, Dict[str, Any]] = {}
        self._questions: List[Dict[str, Any]] = []
        self._information: List[Dict[str, Any]] = []

    def set(self, variable: str, value: Value, source: Message) -> None:
        """Propose a value. source: where the value was found.

        The service's user chooses some of the values. If a value contains control characters or a template, a question
        is asked instead.
        """
        if any(
            _ACTIVE.search(text) for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
        ):
            self.ask(variable, message("discovery.question.unusable", source=source))
            return
        self._values[variable] = {
            "variable": variable,
            "value": value,
            "source": messages.english(source, ENGLISH),
            "messages": messages.plain(source=source),
        }

    def value(self, variable: str) -> Value:
        """Return the proposed value, or None."""
        return self._values.get(variable, {}).get("value")

    def ask(self, variable: str, question: Message) -> None:
        """Ask the administrator about a variable. If `variable` is empty, the question is about the whole inventory."""
        self._questions.append(
            {
                "variable": variable,
                "question": messages.english(question, ENGLISH),
                "messages": messages.plain(question=question),
            }
        )

    def inform(self, told: Message) -> None:
        """Add information that is not a variable."""
        self._information.append({"text": messages.english(told, ENGLISH), "messages": messages.plain(text=told)})

    def to_dict(self) -> Dict[str, Any]:
        """Return the proposal as plain data."""
        return {
            "variables": list(self._values.values()),
            "questions": self._questions,
            "information": self._information,
        }
