# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, classes and functions in plugins/ are at most as long as the limits.

No exceptions may be added to the table.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE, CLASS, FUNCTION = 400, 200, 60
# The documentation of a plugin does not count.
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
# Parts that exceed the limits, with the reasons. Do not add entries here. Split a part that is too long instead.
EXCEPTIONS = {
    "module_utils/_common/redact.py": "the passes over a text, whose order matters",
    "module_utils/_common/safe_open.py": "every rule for opening a file safely is in this file",
    "module_utils/_discovery/discover.py discover": "a sequence of questions, each with its own fact",
    "module_utils/_incident/record.py": "every change of an incident's state is in this file",
    "module_utils/_incident/record.py call": "the parameters of the module, and the order of its steps",
    "module_utils/_incident/store.py": "every access to the files of the incidents is in this file",
    "module_utils/_preparedness/collect.py": "one short function for each fact",
    "module_utils/_service/log_patterns.py analyse": "one pass over the lines, with the state of this pass",
    "module_utils/_sqlite/restore.py restore": "half of it is parameters, a docstring and arguments that are passed on",
    "module_utils/_sqlite/restore_survey.py examine": "one third of it is parameters and a docstring",
    "module_utils/_sqlite/restore_ways.py": "all methods compare the rows of the same case",
    "module_utils/_triage/run.py triage": "half of it is parameters and a docstring",
    "plugin_utils/_messages/ja.py": "a table of messages",
    "plugin_utils/_report/prose_notifications.py": "all of its text uses the same names and channels of contacts",
}


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(file: Path) -> set[str]:
    """Return the names of the parts of a file that are too long. For the file itself, return its path."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = file.relative_to(ROOT / "plugins").as_posix()
    documented = sum(
        lines_of(node)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in DOCUMENTATION
    )
    found = {name} if len(text.splitlines()) - documented > FILE else set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            limit = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
            if lines_of(node) > limit:
                found.add(f"{name} {node.name}")
    return found


def test_only_the_exceptions_are_longer() -> None:
    found = {each for file in (ROOT / "plugins").rglob("*.py") for each in too_long(file)}
    assert sorted(found - set(EXCEPTIONS)) == [], "split these, do not add them to EXCEPTIONS"


def test_no_exception_has_become_short() -> None:
    found = {each for file in (ROOT / "plugins").rglob("*.py") for each in too_long(file)}
    assert sorted(set(EXCEPTIONS) - found) == [], "remove these from EXCEPTIONS"
