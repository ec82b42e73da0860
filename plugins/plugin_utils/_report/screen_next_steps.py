# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next steps on the screen after a run without a verdict on an incident, with complete commands.

target: see next_steps.target.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages.catalogue import Command, Words
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps

# For these causes, database_recover.yml cannot release the hold, because the database or its disk is missing.
_NOT_THERE = ("config_mismatch", "db_unchecked")


def end_maintenance(words: Words, target: str) -> List[str]:
    """Return the steps that recover a service during a maintenance window that is set in the state folder."""
    return [words.say("screen.end_maintenance"), _end_of_window(target)]


def maintenance_begun(words: Words, target: str) -> List[str]:
    """Return the step that ends a maintenance window early."""
    return [words.say("screen.end_earlier"), _end_of_window(target)]


def start(words: Words, target: str) -> List[str]:
    """Return the step that starts a released service."""
    return [words.say("screen.start_it"), Command(next_steps.command("outage_recover.yml", target))]


def again(words: Words, target: str) -> List[str]:
    """Return the command that continues an open incident."""
    command = next_steps.command("outage_recover.yml", target)
    return words.lines(words.message(message("next_step.command", command=command).to_dict()))


def close(words: Words, target: str) -> List[str]:
    """Return the step that closes the open incident of a healthy service."""
    return [words.say("screen.close_it"), Command(next_steps.command("outage_recover.yml", target))]


def compare(words: Words, target: str) -> List[str]:
    """Return the command that shows in which tables each recovery method would lose rows."""
    return [words.say("screen.compare_first"), Command(f"{next_steps.command(next_steps.DATABASE, target)} --check")]


def triage(words: Words, target: str) -> List[str]:
    """Return the step that finds the cause of an outage."""
    command = Command(f"{next_steps.command('outage_recover.yml', target)} --check")
    return [words.say("screen.triage_it"), command]


def held(words: Words, hold: Mapping[str, Any], target: str) -> List[str]:
    """Return the steps for a service that is on hold. hold: the incident and the cause of the hold."""
    cause = str(hold.get("cause") or "unknown")
    named = words.say("screen.held", incident=hold.get("incident"), cause=words.name("cause", cause))
    if cause in _NOT_THERE:
        command = Command(f"{next_steps.command('outage_recover.yml', target)} --check")
        return [named, words.say("screen.held_causes"), command]
    return [named, *_to_database(words, "data_loss", target)]


def accepted(words: Words, target: str) -> List[str]:
    """Return the steps that repair the database of a running service after a person has accepted the damage."""
    return _to_database(words, "degraded_database", target)


def correct(words: Words, variables: Sequence[str], target: str) -> List[str]:
    """Return the step that corrects variables that do not match the host."""
    command = Command(f"{next_steps.command('outage_discover.yml', target)} --check")
    return [words.say("screen.correct", variables=words.listed(variables)), command]


def _end_of_window(target: str) -> Command:
    return Command(f"{next_steps.command('outage_maintenance.yml', target)} -e outage_maintenance_state=absent")


def _to_database(words: Words, situation: str, target: str) -> List[str]:
    steps = next_steps.to_database(situation, target=target, manager="")
    return [line for step in steps for line in words.lines(words.message(step.to_dict()))]
