# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text for a person's next step: the complete command line, and a warning if a manual start is not prevented."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, List, Mapping, Sequence, Tuple

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message

DATABASE = "database_recover.yml"
# Matches a value that ansible-playbook does not change if it is passed as -e NAME=VALUE.
_PLAIN = re.compile(r"[\w./-]+\Z", re.ASCII)


def target(host: str, inventories: Sequence[str]) -> str:
    """Return the options of ansible-playbook that select the inventory and the host of this run."""
    named = [f"-i {shlex.quote(each)}" for each in inventories]
    return " ".join([*named, f"--limit {shlex.quote(host)}"])


def options(variables: Mapping[str, Any], prefix: str) -> str:
    """Return the ansible-playbook options that set the given variables.

    Variables whose names do not begin with the prefix are omitted.
    """
    texts = {name: value for name, value in variables.items() if name.startswith(prefix)}
    return " ".join(
        "-e " + shlex.quote(f"{name}={value}" if _PLAIN.match(str(value)) else json.dumps({name: value}))
        for name, value in texts.items()
    )


def command(playbook: str, chosen: str, options: str = "") -> str:
    """Return the command line that runs a playbook from the checkout.

    chosen: the result of target(), or empty. options: the options after the name of the playbook.
    """
    return " ".join(filter(None, ["ansible-playbook", chosen, f"playbooks/{playbook}", options]))


# Next steps for a database that must be recovered, by situation. The numbers of the steps are added when they are
# shown.
_STEPS: Mapping[str, Tuple[str, ...]] = {
    "data_loss": ("data_loss", "database.compare", "database.agreed"),
    "data_in_doubt": ("data_in_doubt", "database.compare", "database.agreed"),
    "degraded_database": ("database.compare", "database.time", "database.stopping"),
    "fewer_rows": ("database.deleted", "database.compare", "database.choose"),
    "fewer_rows_possible": ("database.deleted", "database.choose_method"),
}

_WITH_COMMAND = ("database.compare", "database.choose_method")


def to_database(situation: str, *, target: str, manager: str, options: str = "") -> List[Message]:
    """Return the steps that recover a database. situation: a key of _STEPS. See also command() and guarded()."""
    run = command(DATABASE, target, options)
    steps = [
        message(f"next_step.{name}", number=number, **({"command": run} if name in _WITH_COMMAND else {}))
        for number, name in enumerate(_STEPS[situation], start=1)
    ]
    return guarded(steps, manager=manager)


def guarded(steps: Sequence[Message], *, manager: str) -> List[Message]:
    """Return the steps of a database recovery.

    If systemd does not manage the service, add a warning that nothing prevents a manual start.

    manager: the value of nexus_manager, or an empty string if it is unknown.
    """
    return [*steps, *([] if manager in ("", "systemd") else [message("next_step.unguarded")])]


def held(steps: Sequence[Mapping[str, Any]], *, incident: str, running: bool) -> Message:
    """Return the next step for a held service.

    steps: the other steps as plain data. incident: the incident that set the hold. running: True if the service still
    answers.
    """
    without_unit = any(each.get("id") == "next_step.unguarded" for each in steps)
    name = "held_without_unit" if without_unit else "held_running" if running else "held"
    return message(f"next_step.{name}", incident=incident)
