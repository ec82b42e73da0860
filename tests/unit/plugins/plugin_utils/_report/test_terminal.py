# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Screen output: the colour of each line, and the stream to which it is written."""

from __future__ import annotations

import pytest
from ansible import constants

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen, terminal


class Display:
    """Records the lines that Ansible would show."""

    def __init__(self):
        self.shown = []

    def banner(self, text):
        self.shown.append(("banner", text))

    def warning(self, text):
        self.shown.append(("warning", text))

    def display(self, line, *, color, stderr):
        self.shown.append((line, color, stderr))


@pytest.mark.parametrize("callback", ["default", "json", "ansible.posix.jsonl"])
def test_output_for_a_program_contains_nothing_else(monkeypatch, callback):
    monkeypatch.setattr(constants.config, "get_config_value", lambda _name: callback)
    by_a_program = callback != "default"
    display = Display()
    on_screen = terminal.Terminal(display)
    on_screen.title("Summary")
    on_screen.say("RECOVERED", screen.GOOD)
    on_screen.say("a field")
    on_screen.warn("careful")
    assert display.shown == [
        *([] if by_a_program else [("banner", "Summary")]),
        ("RECOVERED", constants.COLOR_OK, by_a_program),
        ("a field", None, by_a_program),
        ("warning", "careful"),
    ]


def test_progress_goes_to_the_error_output():
    display = Display()
    terminal.Terminal(display).progress(catalogue.of("en"), "", "Copy it", ["node1"], 10.0)
    ((line, _color, stderr),) = display.shown
    assert "Copy it on node1" in line and "10 s" in line
    assert stderr is True
