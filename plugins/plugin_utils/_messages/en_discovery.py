# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 - a sentence is one line.

"""English messages for a discovery: the file with a host's variables, and the lines on the screen."""

from __future__ import annotations

from typing import Dict

SENTENCES: Dict[str, str] = {
    # The file.
    "inventory.title": "The variables of {host}, found by outage_discover.yml.",
    "inventory.review": (
        "Review each line and answer the questions. If the line below a question is correct, delete only the question. "
        "All other variables keep their values."
    ),
    "inventory.source": "Source: {source}",
    "inventory.question": "QUESTION: {question}",
    "inventory.defaults": "These defaults are correct on this host:",
    "inventory.elsewhere": "These values are correct and are already set elsewhere in the inventory:",
    "inventory.information": "Information:",
    "inventory.refused": "Which value is correct? The host reported a value that the controller does not accept",
    # The screen.
    "inventory.found": "FOUND: {name} ({state}) in {folder}",
    "inventory.process": "a process without a unit",
    "inventory.running": "running",
    "inventory.down": "not running",
    "inventory.file.written": "WRITTEN: {path}, variables: {number}",
    "inventory.file.would_write": "NOT WRITTEN (check mode): {path}, variables: {number}",
    "inventory.file.updated": "UPDATED: {path}, variables: {number}",
    "inventory.file.would_update": "NOT UPDATED (check mode): {path}, variables: {number}",
    "inventory.file.kept": "KEPT: {path} exists and was not changed. Variables that differ from the host: {number}",
    "inventory.file.matches": "NO DIFFERENCE: the inventory matches the host ({path})",
    "inventory.file.no_file": "NOT WRITTEN: the inventory is not a file. Variables that differ from the host: {number}",
    "inventory.differences": "DIFFERENCES between the inventory and the host: {number}",
    "inventory.difference": "{name}: inventory {known}, host {value} ({source})",
    "inventory.difference.default": "{name}: not set in the inventory (default {known}); the host has {value} ({source})",
    "inventory.questions": "QUESTIONS: {number}",
    "inventory.questions.none": "QUESTIONS: 0. If the file still contains questions, they are no longer open: delete these comments",
    "inventory.next.review": "next step: review {path} and answer its questions, then run {command}",
    "inventory.next.update": "next step: change {path} manually, or run this playbook again with -e outage_discover_update=true. Then run {command}",
    "inventory.next.copy": "next step: copy the text above to the host's variables in your inventory, then run {command}",
    "inventory.next.without_check": "next step: run this playbook again without --check",
    "inventory.next.detect": "next step: run {command}",
}
