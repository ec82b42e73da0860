# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Neither module results nor evidence contain terminal control characters."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact, sanitize
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import cleaned, module_output
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen_layout
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import kinds

MODULES = Path(__file__).resolve().parents[5] / "plugins" / "modules"
ESCAPES = [
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x9b31m",
    "\x07",
    "\x08\x08",
    "\r",
    "\u202e",
    "\u200b",
    "\u2060",
    "\u2066",
    "\u200f",
    "\ufeff",
    "\udc9b",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_terminal_controls_are_removed(escape):
    shown = sanitize.text(f"before{escape}after")
    assert shown.startswith("before") and shown.endswith("after")
    assert not sanitize.ACTIVE.search(shown)
    shown.encode("utf-8")
    told = kinds.text(f"before{escape}after")
    assert not sanitize.ACTIVE.search(told) and "\n" not in told


def test_lines_tabs_and_all_scripts_are_kept():
    text = "a\tb\n\u65e5\u672c\u8a9e \U0001f525 e\u0301 \u0627\u0644"
    assert sanitize.text(text) == text


def test_terminal_controls_are_removed_from_data():
    assert sanitize.data({"a\x07": ["\x1b", {"b": ("\x9b", 1, None)}]}) == {
        "a\\x07": ["\\x1b", {"b": ["\\x9b", 1, None]}]
    }


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("escape", [each for each in ESCAPES if each != "\udc9b"])
def test_module_output_is_sanitized_before_it_is_parsed(escape, ascii_only):
    said = {f"key{escape}": [f"before{escape}after", "\\u001b \\", "C:\\bin\\run", "\U0001f525 \u65e5\t\n"], "n": 1.5}
    output = f"line{escape}\r\n{json.dumps(said, ensure_ascii=ascii_only)}\r\n"
    plain = module_output.of_module(output)
    assert not sanitize.ACTIVE.search(plain)
    line, rest = plain.split("\n", 1)
    assert line.startswith("line")
    read = json.loads(rest, strict=False)
    ((_name, texts), number) = read.items()
    assert number == ("n", 1.5)
    assert not sanitize.ACTIVE.search("".join([_name, *texts]))
    assert texts[0].startswith("before") and texts[0].endswith("after")
    # Sanitizing the text again does not change it.
    assert texts[1:] == said[f"key{escape}"][1:]


def test_an_incomplete_character_is_shown():
    assert json.loads(module_output.of_module('"\\udc9b \\ud83d \\ud83d\\udd25"')) == "\\udc9b \\ud83d \U0001f525"


def test_an_ordinary_answer_is_not_changed():
    for said in ({"a": ["x", None, True, {"b": "\u65e5\u672c\u8a9e \U0001f525"}]}, {"pattern": "\\d+\\b\\r", "q": '"'}):
        for ascii_only in (True, False):
            output = json.dumps(said, ensure_ascii=ascii_only)
            assert module_output.of_module(output) == output


def test_each_supported_ansible_core_parses_the_sanitized_output():
    source = inspect.getsource(ActionBase._execute_module)
    assert "self._low_level_execute_command(" in source
    assert "_low_level_execute_command" in vars(cleaned.Cleaned)


@pytest.mark.parametrize("module", sorted(path.name for path in MODULES.glob("*.py")))
def test_every_module_returns_plain_text(module):
    source = (MODULES / module).read_text(encoding="utf-8")
    answers = re.findall(r"module\.(?:exit_json|fail_json)\(([^\n]*)", source)
    assert ("AnsibleModule(" in source) == bool(answers)
    # failure() removes control characters from an error's text and message (see test_message.py).
    assert [each for each in answers if "sanitize." not in each and not each.startswith("**failure(error)")] == []


def test_evidence_is_safe_in_a_terminal(tmp_path):
    redactor = redact.Redactor()
    files = [
        {
            "name": "server.log",
            "source": "/var/log/\x1b]0;x\x07",
            "at": "now",
            "text": "ok\n\x1b[2J\x9b\u202e\n",
            "truncated": False,
        }
    ]
    saved = triage_evidence.save(files=files, incident="INC-1", state_dir=str(tmp_path), redact=redactor.text)
    assert Path(saved.path, "server.log").read_text() == "ok\n\\x9b\\u202e\n"
    assert "\x1b" not in json.loads(Path(saved.path, "manifest.json").read_text())["files"][0]["source"]


def test_a_secret_between_colour_codes_is_masked():
    for paint in (redact.Redactor().text, kinds.text):
        assert "hunter2" not in paint("\x1b[33mpassword\x1b[39m=\x1b[36mhunter2secret\x1b[39m")


@pytest.mark.parametrize("text", ["wrong\n  severity      none", "\u65e5\u672c\n  severity      none", "a\r\u2028b"])
def test_text_from_a_host_cannot_start_a_line_on_the_screen(text):
    assert len(screen_layout.one_line(text).splitlines()) == 1
    for line in screen_layout.wrap(text, 60):
        assert len(line.splitlines()) == 1 and not line.startswith("  severity")
