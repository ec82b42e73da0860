# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Show the summary and the progress lines on the screen, between Ansible's own lines."""

from __future__ import annotations

from typing import Any, List, Optional

from ansible import constants

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue, late_import
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import screen_layout

# Callbacks with machine-readable output, which must not contain any other lines.
_MACHINE_OUTPUT = ("json", "jsonl", "junit")
_COLORS = {
    screen_layout.GOOD: constants.COLOR_OK,
    screen_layout.ATTENTION: constants.COLOR_WARN,
    screen_layout.BAD: constants.COLOR_ERROR,
}


class Terminal:
    """Shows lines through Ansible's display, on stderr if a program reads stdout."""

    def __init__(self, display: Any) -> None:
        """Use a callback's display."""
        self._display = display

    def title(self, text: str) -> None:
        """Show a heading if a person reads the output."""
        if not _is_read_by_a_program():
            self._display.banner(text)

    def say(self, line: str, tone: Optional[str] = None) -> None:
        """Show a line in the colour of its tone."""
        self._display.display(line, color=_COLORS[tone] if tone else None, stderr=_is_read_by_a_program())

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._display.warning(text)

    def progress(self, words: catalogue.Words, action: str, task: str, hosts: List[str], seconds: float) -> None:
        """Show that a task is still running on some hosts, and for how many seconds.

        The line is written to stderr, so that it does not affect a program that reads stdout.
        """
        facts = {
            "took": words.duration(seconds),
            "what": late_import.module("_report.prose_steps").label(words, action, task),
            "hosts": words.listed(hosts, limit=3),
        }
        self._display.display(words.say("screen.progress", **facts), color=constants.COLOR_VERBOSE, stderr=True)


def _is_read_by_a_program() -> bool:
    return str(constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK")).rsplit(".", 1)[-1] in _MACHINE_OUTPUT
