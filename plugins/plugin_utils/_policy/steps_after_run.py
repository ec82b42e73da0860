# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next steps for a person after an outage_recover.yml run. verdict.py decides the outcome.

Command lines and other fixed texts of next steps are in next_steps.py.
"""

from __future__ import annotations

import functools
from typing import Any, List, Mapping

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import Message, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import ONLY_START
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import next_steps, start_remedies, unreachable
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import DEGRADED, Facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason, messages_of

# Remedies that propose a rollback.
ROLLBACKS = (
    "remedy.unhandled_exception",
    "remedy.tried.unhandled_exception",
    "remedy.syntax_error",
    "remedy.crash_loop",
)
# If the confidence in a finding is below this value, the finding is only a note.
_LIKELY = 0.5
# Next steps in which a person runs database_recover.yml.
_TO_DATABASE = ("data_loss", "data_in_doubt", "degraded_database")
# Next steps that end with another run of the playbook.
_AGAIN = ("not_recovered", "halted", "login_failed", "degraded", "would_recover")
# The finding that the database is undamaged but has far fewer rows than before. A person must decide whether the rows
# were deleted on purpose.
_FEWER_ROWS = "finding.db_corrupt.fewer"
# The remedy if the service answers but its database is damaged.
_DAMAGED_IN_USE = "remedy.db_corrupt.in_use"


def of_outcome(facts: Facts, outcome: str, *, halted: Reason) -> List[Message]:
    """Return the next steps after a run. halted: why later steps must not try a rung, or an empty reason.

    If a person has accepted the damage, one of the steps is to repair the database.
    """
    if not facts.accepted:
        return _next_step(facts, outcome, halted=halted)
    rest = facts.not_accepted
    command = next_steps.command(next_steps.DATABASE, facts.target)
    accepted = functools.partial(message, **facts.accepted, command=command)
    other_cause = any(each.get("confidence", 1) >= _LIKELY for each in rest.diagnosis)
    if other_cause or outcome not in (DEGRADED, "not_recovered"):
        return [*_next_step(rest, outcome, halted=halted), accepted("next_step.accepted.planned")]
    if outcome == DEGRADED:
        return [accepted("next_step.accepted.running")]
    by_systemd = _by_systemd(facts, outcome)
    if facts.started_in_vain:
        return [accepted("next_step.accepted.failed"), *by_systemd]
    start = next_steps.command("outage_recover.yml", facts.target)
    return [message("next_step.accepted.down", **facts.accepted, command=start), *by_systemd]


def _next_step(facts: Facts, outcome: str, *, halted: Reason) -> List[Message]:
    remedy = _remedy(facts)
    cause_unknown = facts.finding["cause"] == "unknown"
    # In check mode, the record does not state that the data is in doubt, but the finding is the same.
    damaged = any(each.id == _DAMAGED_IN_USE for each in messages_of(facts.finding, "remedy"))
    helpless = outcome == "not_recovered" and facts.started_in_vain and (cause_unknown or not remedy)
    rules = (
        ("data_loss", facts.loss_suspected and outcome != DEGRADED),
        ("login_failed", outcome == "login_failed"),
        ("degraded_database", outcome == DEGRADED and (facts.in_doubt or facts.damaged_since or damaged)),
        (DEGRADED, outcome == DEGRADED),
        ("halted", bool(halted.text)),
        ("helpless", helpless),
    )
    which = next((step for step, applies in rules if applies), outcome)
    values: Mapping[str, Mapping[str, Any]] = {
        "halted": {"halted": list(halted.sentences)},
        "not_recovered": {"remedy": remedy or [message("remedy.see_evidence")]},
        DEGRADED: {"remedy": remedy or [message("remedy.see_evidence")]},
        "warning": {"summary": list(messages_of(facts.finding, "summary"))},
    }
    again = message("next_step.command", command=next_steps.command("outage_recover.yml", facts.target))
    if which == "unreachable":
        return [unreachable.reach(facts.lost), again]
    if which in _TO_DATABASE:
        fewer = [each.id for each in messages_of(facts.finding, "summary")] == [_FEWER_ROWS]
        situation = "fewer_rows" if which == "data_loss" and fewer else which
        return next_steps.to_database(situation, target=facts.target, manager=facts.manager)
    step = message(f"next_step.{which}", **values.get(which, {}))
    may_start = not facts.in_doubt and not any(each.get("blocks_start") for each in (*facts.standing, *facts.diagnosis))
    # If the service has been started too many times, only rungs above the restart are tried.
    looping = bool(facts.crash_loop.get("looping")) and all(each in ONLY_START for each in facts.rungs)
    looping = looping and which == "not_recovered" and may_start
    manually = [message("next_step.start_manually")] if looping else []
    asked = which == "would_recover" and bool((facts.finding.get("details") or {}).get("by_operator"))
    first = [message("next_step.asked_to_stop")] if asked else []
    return [*first, step, *manually, *([again] if which in _AGAIN else []), *_by_systemd(facts, outcome)]


def _by_systemd(facts: Facts, outcome: str) -> List[Message]:
    """If systemd will start the service after an unsuccessful run, return a note about this."""
    if outcome != "not_recovered" or facts.held_by or not facts.starts_again:
        return []
    how = "handed_back" if facts.handed_back and not facts.check_mode else "waiting"
    return [message(f"next_step.systemd.{how}", unit=facts.starts_again)]


def _remedy(facts: Facts) -> List[Message]:
    """Return the remedy for the cause. If started_in_vain is True, omit proposals to restart the service."""
    remedy = list(messages_of(facts.finding, "remedy"))
    if facts.started_in_vain:
        remedy = [start_remedies.after_a_start(each) for each in remedy if each.id not in start_remedies.ONLY_A_START]
    if facts.release_strategy == "none" and any(each.id in ROLLBACKS for each in remedy):
        remedy.append(message("remedy.roll_back_manually"))
    return remedy
