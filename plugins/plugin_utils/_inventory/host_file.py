# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Render the file with the variables of a host: each value with its source, and the questions."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import yaml

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import variables
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory.comparison import (
    DEFAULT,
    SAME,
    Comparison,
    Setting,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

_WIDTH = 118
# Maps a variable to other variables that are set by the answer to the same question.
_WITH: Mapping[str, Sequence[str]] = {"nexus_login_password": ("nexus_login_username",)}


class InventoryError(Exception):
    """The file cannot be read, updated or written. The message is a complete sentence."""


def shown(value: Any) -> str:
    """Return a value as one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    # PyYAML writes the document end marker (...) after a single scalar.
    return re.sub(r"\n(?:\.\.\.\n)?\Z", "", text)


def line(name: str, value: Any) -> str:
    """Return `name: value` as one line of YAML."""
    return f"{name}: {shown(value)}"


def comment(text: str, *, indent: str = "") -> List[str]:
    """Return text as lines of a comment. All lines after the first one are indented by two more spaces."""
    lines, rest = [], f"{indent}{text}"
    while len(rest) > _WIDTH:
        cut = rest.rfind(" ", 0, _WIDTH)
        if cut < _WIDTH // 2:
            break
        lines.append(f"# {rest[:cut]}")
        rest = f"{indent}  {rest[cut + 1 :]}"
    return [*lines, f"# {rest}"]


def _setting(words: Words, setting: Setting) -> List[str]:
    return [*comment(words.say("inventory.source", source=setting.source)), line(setting.name, setting.value)]


def render(words: Words, compared: Comparison, *, host: str) -> str:
    """Return the content of a new file."""
    asked = {question.beside for question in compared.questions}
    lines = ["---", *comment(words.say("inventory.title", host=host)), *comment(words.say("inventory.review"))]
    if "" in asked:
        lines += ["", *_questions(words, compared, "")]
    for setting in compared.differences:
        lines += ["", *_questions(words, compared, setting.name), *_setting(words, setting)]
    written = {setting.name for setting in compared.differences}
    for name in [name for name in variables.NAMES if name in asked - written]:
        lines += ["", *_questions(words, compared, name), *(f"# {each}:" for each in (*_WITH.get(name, ()), name))]
    for state, title in ((DEFAULT, "inventory.defaults"), (SAME, "inventory.elsewhere")):
        settings = compared.of(state)
        if settings:
            lines += ["", *comment(words.say(title))]
            lines += [f"#   {line(each.name, each.value)}  ({each.source})" for each in settings]
    if compared.information:
        lines += ["", *comment(words.say("inventory.information"))]
        lines += [each for text in compared.information for each in comment(text, indent="  ")]
    return "\n".join([*lines, ""])


def _questions(words: Words, compared: Comparison, name: str) -> List[str]:
    questions = [question.text for question in compared.questions if question.beside == name]
    return [each for text in questions for each in comment(words.say("inventory.question", question=text))]


class _Entry(NamedTuple):
    """The position of a variable in a file: the offset of its key and the offset where its value ends."""

    start: int
    end: int


def _entries(text: str, *, path: str) -> Dict[str, _Entry]:
    """Return the variables of a file. Raises InventoryError if the file contains anything else."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InventoryError(f"Cannot read {path}: it is not YAML: {' '.join(str(error).split())}") from error
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
        return {}  # nothing, or only comments
    if not isinstance(root, yaml.MappingNode):
        raise InventoryError(f"Cannot read {path}: it must contain variables")
    return {
        str(key.value): _Entry(key.start_mark.index, value.end_mark.index)
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode)
    }


def names(text: str, *, path: str) -> List[str]:
    """Return the names of the variables in a file. Raises InventoryError."""
    return list(_entries(text, path=path))


def _without_trailing_comments(text: str, entry: _Entry) -> int:
    """Return the offset where a value ends, without the comments and blank lines after it."""
    lines = text[entry.start : entry.end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    length = len("".join(lines))
    return entry.start + len(text[entry.start : entry.start + length].rstrip("\n"))


def _above(text: str, start: int) -> Optional[Tuple[int, int]]:
    """If the comment directly above a variable states the value's source, return the comment's offsets."""
    prefixes = [catalogue.of(language).say("inventory.source", source="") for language in catalogue.LANGUAGES]
    pattern = "|".join(re.escape(prefix.strip()) for prefix in prefixes)
    found = re.search(rf"^# (?:{pattern})[^\n]*\n(?:#   [^\n]*\n)*\Z", text[:start], re.MULTILINE)
    return (found.start(), found.end()) if found else None


def update(words: Words, text: str, settings: Sequence[Setting], *, path: str) -> str:
    """Return the content of a file with the new values of some variables. All other content stays unchanged.

    Raises InventoryError if the file cannot be updated in this way.
    """
    for setting in settings:
        entry = _entries(text, path=path).get(setting.name)
        lines = "\n".join(_setting(words, setting))
        if entry is None:
            text = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}\n{lines}\n"
            continue
        end = _without_trailing_comments(text, entry)
        above = _above(text, entry.start)
        start, put_in = (above[0], lines) if above else (entry.start, line(setting.name, setting.value))
        text = text[:start] + put_in + text[end:]
    _require(text, settings, path=path)
    return text


def _require(text: str, settings: Sequence[Setting], *, path: str) -> None:
    """Raise InventoryError if a file does not contain these values."""
    entries = _entries(text, path=path)
    for setting in settings:
        entry = entries.get(setting.name)
        written = text[entry.start : entry.end] if entry else ""
        try:
            good = yaml.safe_load(written) == {setting.name: setting.value}
        except yaml.YAMLError:
            good = False
        if not good:
            raise InventoryError(f"Cannot change {setting.name} in {path}. Change it manually")


def check(text: str, settings: Sequence[Setting], *, path: str) -> None:
    """Raise InventoryError if a new file could not be loaded or would not match the roles' argument specifications."""
    wanted = {setting.name: setting.value for setting in settings}
    if (yaml.safe_load(text) or {}) != wanted:
        raise InventoryError(f"Cannot write {path}: its content would not load as YAML. Report this as a bug")
    problems = variables.problems(wanted)
    if problems:
        raise InventoryError(f"Cannot write {path}: {'; '.join(problems)}")


def usual_path(folder: str, host: str) -> str:
    """Return the path of a host's variables file next to an inventory: an existing file, or host_vars/<host>.yml.

    If host_vars contains a folder for the host, Ansible reads only the files in this folder. Raises InventoryError if
    the name of the host would lead to another folder.
    """
    if os.sep in host or host.startswith("."):
        raise InventoryError(f"The host name {host!r} cannot be the name of a file. Set outage_discover_dest")
    base = os.path.join(folder, "host_vars", host)
    if os.path.isdir(base):
        return os.path.join(base, "discovered.yml")
    there = [path for path in (base, f"{base}.yml", f"{base}.yaml") if os.path.isfile(path)]
    return there[0] if there else f"{base}.yml"
