# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary and the lines of progress on the screen, between the lines of Ansible."""

from __future__ import annotations

from typing import Any, List, Optional

from ansible import constants

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import prose_steps
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen as screen_report

# Callbacks whose output a program reads: no other line may stand in it.
_MACHINE_OUTPUT = ("json", "jsonl", "junit")
_COLORS = {
    screen_report.GOOD: constants.COLOR_OK,
    screen_report.ATTENTION: constants.COLOR_WARN,
    screen_report.BAD: constants.COLOR_ERROR,
}


class Terminal:
    """Shows lines through the display of Ansible, on the error output if a program reads the other one."""

    def __init__(self, display: Any) -> None:
        """Take the display of a callback."""
        self._display = display

    def title(self, text: str) -> None:
        """Show a heading, if a person reads the output."""
        if not _is_read_by_a_program():
            self._display.banner(text)

    def say(self, line: str, tone: Optional[str] = None) -> None:
        """Show a line in the colour of its tone."""
        self._display.display(line, color=_COLORS[tone] if tone else None, stderr=_is_read_by_a_program())

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._display.warning(text)

    def progress(self, words: catalogue.Words, action: str, task: str, hosts: List[str], seconds: float) -> None:
        """Show that a task (and its module) still runs on some hosts, after so many seconds.

        It goes to the error output: a program that reads the other one is not disturbed.
        """
        facts = {
            "took": words.duration(seconds),
            "what": prose_steps.label(words, action, task),
            "hosts": words.listed(hosts, limit=3),
        }
        self._display.display(words.say("screen.progress", **facts), color=constants.COLOR_VERBOSE, stderr=True)


def _is_read_by_a_program() -> bool:
    return str(constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK")).rsplit(".", 1)[-1] in _MACHINE_OUTPUT
