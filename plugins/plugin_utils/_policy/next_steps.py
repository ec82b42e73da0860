# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of the next step for a person: the complete command line, and a warning if nothing prevents a manual start."""

from __future__ import annotations

import shlex
from typing import Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message

DATABASE = "database_recover.yml"


def target(host: str, inventories: Sequence[str]) -> str:
    """Return the options of ansible-playbook that select the inventory and the host of this run."""
    named = [f"-i {shlex.quote(each)}" for each in inventories]
    return " ".join([*named, f"--limit {shlex.quote(host)}"])


def command(playbook: str, chosen: str) -> str:
    """Return the command line that runs a playbook of the checkout. chosen: the result of target(), or empty."""
    return " ".join(filter(None, ["ansible-playbook", chosen, f"playbooks/{playbook}"]))


def guarded(step: Message, *, manager: str) -> Message:
    """Return a step of a database recovery. Without systemd, add that nothing prevents a manual start.

    manager: the value of nexus_manager, or an empty string if it is unknown.
    """
    return step if manager in ("", "systemd") else message("next_step.unguarded", step=step, manager=manager)
