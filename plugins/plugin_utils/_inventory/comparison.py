# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the values that a host reports with the variables in the inventory."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import sanitize
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import variables
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

# Possible states of a variable.
NEW = "new"  # not in the inventory, and the default is wrong
OTHER = "other"  # in the inventory with another value
SAME = "same"  # in the inventory with this value
DEFAULT = "default"  # not in the inventory, and the default is correct

# For these variables, an empty value is also valid. It means: no environment file, or no login check.
_MAY_BE_EMPTY = ("nexus_environment_file", "nexus_login_password")


class Setting(NamedTuple):
    """A variable: its value on the host with the source, its state, and its value in the inventory (known)."""

    name: str
    value: Any
    source: str
    state: str
    known: Any


# A question about a variable counts as answered if the variable is set. The questions in this table are asked because a
# variable has a wrong value, so they do not specify a variable. The table maps the message of each question to the
# variable that answers it.
_ANSWERED_BY: Mapping[str, str] = {
    "discovery.question.other_folder": "nexus_app_dir",
    "discovery.question.no_such_file": "nexus_environment_file",
}


class Question(NamedTuple):
    """A question about a variable, or about the whole inventory if the name is empty.

    answered_by: the variable that answers a question without a name, otherwise empty.
    """

    name: str
    text: str
    answered_by: str = ""

    @property
    def beside(self) -> str:
        """In the file, the question is written next to this variable.

        If the name is empty, it is written at the beginning.
        """
        return self.name or self.answered_by


class Comparison(NamedTuple):
    """The settings (in the order of variables.NAMES), the open questions, and further information."""

    settings: List[Setting]
    questions: List[Question]
    information: List[str]

    def of(self, *states: str) -> List[Setting]:
        """Return the settings whose state is one of the given states."""
        return [setting for setting in self.settings if setting.state in states]

    @property
    def differences(self) -> List[Setting]:
        """The settings that are missing from the inventory or have a different value there."""
        return self.of(NEW, OTHER)

    def without(self, names: Sequence[str]) -> Comparison:
        """Return the comparison without the settings that have these names."""
        return self._replace(settings=[setting for setting in self.settings if setting.name not in names])


def _line(text: Any) -> str:
    """Return text from a host as one line without control characters."""
    return " ".join(sanitize.text(text).split())


def _told(words: Words, item: Mapping[str, Any], name: str) -> str:
    """Return text from the host, translated into the language of `words`."""
    messages = item.get("messages")
    message = messages.get(name) if isinstance(messages, Mapping) else None
    return _line(words.message(message, item.get(name, "")))


def _answered_by(item: Mapping[str, Any]) -> str:
    """Return the variable that answers a question that specifies no variable, or an empty string."""
    messages = item.get("messages")
    message = messages.get("question") if isinstance(messages, Mapping) else None
    return _ANSWERED_BY.get(str(message.get("id")), "") if isinstance(message, Mapping) else ""


def compare(
    words: Words, found: Mapping[str, Any], known: Mapping[str, Any], *, unsure: Mapping[str, Any]
) -> Comparison:
    """Return the comparison. A value that the controller must not use becomes a question.

    found: the result of service_discovery_info. known: the host's variables from the inventory. unsure: variables from
    the command line, which hide the values in the inventory.
    """
    by_name: Dict[str, Mapping[str, Any]] = {}
    questions: List[Question] = []
    for item in found.get("variables") or ():
        name, value = str(item.get("variable")), item.get("value")
        if variables.accepted(name, value):
            by_name[name] = item
        else:
            questions.append(Question(name if name in variables.NAMES else "", words.say("inventory.refused")))
    app_dir = str((by_name.get("nexus_app_dir") or {}).get("value") or known.get("nexus_app_dir") or "")
    settings = [
        _setting(words, name, by_name[name], known, unsure=name in unsure, app_dir=app_dir)
        for name in variables.NAMES
        if name in by_name
    ]
    for item in found.get("questions") or ():
        name = str(item.get("variable") or "")
        name = name if name in variables.NAMES else ""
        answered = name in known and known[name] is not None and name not in unsure
        answered = answered and (known[name] != "" or name in _MAY_BE_EMPTY)
        if not answered:
            questions.append(Question(name, _told(words, item, "question"), _answered_by(item)))
    information = [_told(words, item, "text") for item in found.get("information") or ()]
    return Comparison(settings, questions, information)


def _setting(
    words: Words, name: str, item: Mapping[str, Any], known: Mapping[str, Any], *, unsure: bool, app_dir: str
) -> Setting:
    value, of_inventory = item["value"], known.get(name)
    default: Optional[Any] = variables.defaults().get(name)
    if unsure:
        state, of_inventory = NEW, None
    elif name in known:
        state = SAME if variables.same(name, value, of_inventory, app_dir=app_dir) else OTHER
    else:
        state = DEFAULT if variables.same(name, value, default, app_dir=app_dir) else NEW
        of_inventory = default
    return Setting(name, value, _told(words, item, "source"), state, of_inventory)
