# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines that a discovery shows: values, differences from the inventory, questions, and the next step."""

from __future__ import annotations

import shlex
from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory import host_file
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._inventory.comparison import NEW, Comparison, Setting
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Words

# The action that the module performed on the file.
WRITTEN = "written"
WOULD_WRITE = "would_write"
UPDATED = "updated"
WOULD_UPDATE = "would_update"
KEPT = "kept"
MATCHES = "matches"
NO_FILE = "no_file"


def lines(
    words: Words,
    compared: Comparison,
    *,
    service: Mapping[str, Any],
    state: str,
    path: Optional[str],
    inventories: Sequence[str],
) -> List[str]:
    """Return the lines for the screen."""
    running = words.say("inventory.running" if service.get("running") else "inventory.down")
    name = service.get("unit") or words.say("inventory.process")
    shown = [
        words.say("inventory.found", name=name, state=running, folder=service.get("app_dir") or "?"),
        words.say(f"inventory.file.{state}", path=path or "", number=len(compared.differences)),
    ]
    if state not in (WRITTEN, WOULD_WRITE) and compared.differences:
        shown += [words.say("inventory.differences", number=len(compared.differences))]
        shown += [f"  {_difference(words, setting)}" for setting in compared.differences]
    if compared.questions:
        shown += [words.say("inventory.questions", number=len(compared.questions))]
        shown += [f"  {f'{each.name}: ' if each.name else ''}{each.text}" for each in compared.questions]
    elif state in (MATCHES, KEPT, UPDATED):
        # The file may still contain the questions of an earlier run.
        shown += [words.say("inventory.questions.none")]
    if compared.information:
        shown += [words.say("inventory.information"), *(f"  {text}" for text in compared.information)]
    return [*shown, _next_step(words, state=state, path=path, inventories=inventories)]


def _difference(words: Words, setting: Setting) -> str:
    key = "inventory.difference.default" if setting.state == NEW else "inventory.difference"
    known = "-" if setting.known is None else host_file.shown(setting.known)
    return words.say(key, name=setting.name, known=known, value=host_file.shown(setting.value), source=setting.source)


def _next_step(words: Words, *, state: str, path: Optional[str], inventories: Sequence[str]) -> str:
    named = " ".join(f"-i {shlex.quote(each)}" for each in inventories)
    command = " ".join(filter(None, ["ansible-playbook", named, "playbooks/outage_detect.yml"]))
    if state == KEPT:
        return words.say("inventory.next.update", path=path or "", command=command)
    if state == NO_FILE:
        return words.say("inventory.next.copy", command=command)
    if state in (WOULD_WRITE, WOULD_UPDATE):
        return words.say("inventory.next.without_check")
    if state == MATCHES:
        return words.say("inventory.next.detect", command=command)
    return words.say("inventory.next.review", path=path or "", command=command)
