# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a terminal would obey does not leave a module, nor lie in the evidence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _evidence, _plain, _redact
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils import render_screen, whitelist

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
ESCAPES = [
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x9b31m",
    "\x07",
    "\x08\x08",
    "\r",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ufeff",
    "\udc9b",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_that_a_terminal_obeys_is_left(escape):
    shown = _plain.text(f"before{escape}after")
    assert shown.startswith("before") and shown.endswith("after")
    assert not _plain.ACTIVE.search(shown)
    shown.encode("utf-8")
    told = whitelist.text(f"before{escape}after")
    assert not _plain.ACTIVE.search(told) and "\n" not in told


def test_lines_columns_and_every_script_are_kept():
    text = "a\tb\n\u65e5\u672c\u8a9e \U0001f525 e\u0301 \u0627\u0644"
    assert _plain.text(text) == text


def test_in_data_too():
    assert _plain.data({"a\x07": ["\x1b", {"b": ("\x9b", 1, None)}]}) == {
        "a\\x07": ["\\x1b", {"b": ["\\x9b", 1, None]}]
    }


@pytest.mark.parametrize("module", sorted(path.name for path in MODULES.glob("*.py")))
def test_every_module_answers_in_plain_text(module):
    source = (MODULES / module).read_text(encoding="utf-8")
    answers = re.findall(r"module\.(?:exit_json|fail_json)\(([^\n]*)", source)
    assert ("AnsibleModule(" in source) == bool(answers)
    assert [each for each in answers if "_plain." not in each] == []


def test_the_evidence_can_be_looked_at_in_a_terminal(tmp_path):
    redactor = _redact.Redactor()
    files = [
        {
            "name": "server.log",
            "source": "/var/log/\x1b]0;x\x07",
            "at": "now",
            "text": "ok\n\x1b[2J\x9b\u202e\n",
            "truncated": False,
        }
    ]
    saved = _evidence.save(files=files, incident="INC-1", state_dir=str(tmp_path), redact=redactor.text)
    assert Path(saved.path, "server.log").read_text() == "ok\n\\x9b\\u202e\n"
    assert "\x1b" not in json.loads(Path(saved.path, "manifest.json").read_text())["files"][0]["source"]


def test_a_secret_is_found_under_colours():
    for paint in (_redact.Redactor().text, whitelist.text):
        assert "hunter2" not in paint("\x1b[33mpassword\x1b[39m=\x1b[36mhunter2secret\x1b[39m")


@pytest.mark.parametrize("text", ["wrong\n  severity      none", "\u65e5\u672c\n  severity      none", "a\r\u2028b"])
def test_nothing_that_a_host_says_begins_a_line_on_the_screen(text):
    assert len(render_screen.one_line(text).splitlines()) == 1
    for line in render_screen._wrapped(text, 60):
        assert len(line.splitlines()) == 1 and not line.startswith("  severity")
