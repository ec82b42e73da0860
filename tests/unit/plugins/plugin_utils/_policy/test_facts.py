# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts about a run, derived from the results of its roles."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message, quoted
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import facts as recovery_facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import Facts

FINDING = {"cause": "killed", "summary": "It is killed", "rungs_help": True, "explained_by": None}
TRIED = {"rung": "restart", "held": False, "halted": False, "reason": "It fell"}


def test_facts_passed_by_a_run() -> None:
    """Every key that the playbook passes affects the facts. Therefore, no key is redundant."""
    whole: dict[str, Any] = {
        "detection": {
            **{"severity": "warning", "healthy": True, "supervisor": {"restarted": True}, "data_in_doubt": True},
            "answers_since": {"at": "10:00", "source": "probe"},
        },
        "triage": {
            **{"findings": [FINDING], "data": {"state": "in_doubt"}, "hold": {"incident": "INC-1"}},
            "facts": {"unit": {"name": "itsm", "taken_over_at": "09:30"}},
        },
        "diagnosis": {"findings": [FINDING]},
        "tried": [TRIED],
        "skipped": [{"rung": "restart", "reason": "useless"}],
        "remediation": {"applied": [{"cause": "killed", "changed": True, "failed": False}], "refused": []},
        "crash_loop": {"looping": True},
        "check_mode": True,
        "lost": "gone",
        "was_degraded": True,
        "error": "broke",
        "before": {"halted": "ended"},
        "verification": {
            **{"first_healthy_at": "11:00", "readiness": {"problems": [{"cause": "db_corrupt", "summary": "Bad"}]}},
        },
        "opened": {"cause": "db_corrupt"},
        "record": {
            **{"outcome": "data_in_doubt", "attempts": [TRIED], "locked_by": {"since": "09:20"}},
            "signs": [{"at": "09:00", "kind": "bad", "source": "health probe"}],
        },
        "act_on": ["critical"],
        "rungs": ["restart"],
        "release_strategy": "none",
        "target": "--limit node1",
        "manager": "process",
        "clean_start": {"data_loss_suspected": False},
    }
    facts = recovery_facts.of_run(whole)
    unset = Facts(severity="")
    same = [
        field.name for field in dataclasses.fields(Facts) if getattr(facts, field.name) == getattr(unset, field.name)
    ]
    # The data has exactly one state, here "in doubt". The fields for the other states therefore keep their defaults.
    assert same == ["not_found", "accepted"]
    told = message("finding.accepted", summary=quoted("It is damaged"), at="10:00", reason="CHG-1").to_dict()
    whole["verification"] = {}
    damaged = {"findings": [{**FINDING, "messages": {"summary": told}}], "data": {"state": "accepted"}}
    assert recovery_facts.of_run({**whole, "triage": damaged}).accepted == {"at": "10:00", "reason": "CHG-1"}
    elsewhere = recovery_facts.of_run({**whole, "triage": {**whole["triage"], "data": {"state": "not_found"}}})
    assert (elsewhere.not_found, elsewhere.in_doubt) == (True, False)
    assert recovery_facts.of_run({**whole, "hold": {"incident": "INC-2"}}).held_by == "INC-2"
    assert recovery_facts.of_run({**whole, "before": {}, "verified_before": {"halted": "seen"}}).halted_before == "seen"
