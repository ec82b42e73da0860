# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No approval is requested for a rung that would not be tried."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import approval, rungs
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import facts as recovery_facts

RUNG = "clean_start_recovery"
SUSPECTED = message("reason.data_loss_suspected").to_dict()


def finding(cause: str = "killed", **changes: Any) -> dict[str, Any]:
    return {
        **{"cause": cause, "summary": f"It is {cause}.", "blocks_start": False},
        **{"useless_rungs": [], "rungs_help": True, "explained_by": None},
        **changes,
    }


CORRUPT = finding("corrupt", blocks_start=True)
FULL = finding("full", rungs_help=False, useless_rungs=["restart", RUNG])
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("nothing is against it", {"triage": {"findings": [finding()]}}, []),
    ("the service must not be started", {"triage": {"findings": [CORRUPT]}}, ["It is corrupt"]),
    ("no rung can help", {"triage": {"findings": [FULL]}}, ["It is full"]),
    ("this rung cannot help", {"triage": {"findings": [finding(useless_rungs=[RUNG])]}}, ["It is killed"]),
    ("another rung cannot help", {"triage": {"findings": [finding(useless_rungs=["restart"])]}}, []),
    ("several findings", {"triage": {"findings": [FULL, CORRUPT]}}, ["It is corrupt", "It is full"]),
    (
        "a finding that another one explains is not a second reason",
        {"triage": {"findings": [CORRUPT, finding("unchecked", blocks_start=True, explained_by="corrupt")]}},
        ["It is corrupt"],
    ),
    ("an earlier step ended the ladder", {"before": {"halted": "Rows are missing."}}, ["Rows are missing"]),
    ("a verification ended the ladder", {"verified_before": {"halted": "Log in failed"}}, ["Log in failed"]),
    ("an earlier step did not end the ladder", {"before": {"halted": ""}, "verified_before": {"halted": ""}}, []),
    ("a lower rung is the highest allowed", {"highest": "restart"}, ["The highest allowed rung is restart"]),
    ("this rung is the highest allowed", {"highest": RUNG}, []),
    (
        "all at once",
        {"triage": {"findings": [FULL]}, "before": {"halted": "Rows are missing"}, "highest": "restart"},
        ["Rows are missing", "It is full", "The highest allowed rung is restart"],
    ),
]


def seen(**changes: Any) -> dict[str, Any]:
    return {"rung": RUNG, "highest": None, "triage": {"findings": []}, "before": {}, "verified_before": {}, **changes}


@pytest.mark.parametrize(("changes", "why"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_rung_is_refused_for_these_reasons(changes: dict[str, Any], why: list[str]) -> None:
    found = approval.of_triage(seen(**changes))
    assert found["problems"] == ([f"{RUNG} cannot help: {'; '.join(why)}"] if why else [])
    assert [catalogue.of("en").message(each) for each in found["messages"]] == found["problems"]
    assert approval.of_triage(seen(**{**changes, "rung": ""})) == {"problems": [], "messages": []}


@pytest.mark.parametrize("findings", [[], [finding()], [CORRUPT], [FULL], [finding(useless_rungs=[RUNG])]])
def test_the_ladder_follows_the_same_rules(findings: list[dict[str, Any]]) -> None:
    facts = recovery_facts.Facts(severity="emergency", findings=findings)
    decided = rungs.rung(facts, RUNG)
    assert bool(approval.reasons(facts, RUNG, highest=None)) is not (decided.climb and not decided.useless)


def test_the_reasons_are_translated() -> None:
    before = {"halted": "Data loss is suspected", "messages": {"halted": [SUSPECTED]}}
    (told,) = approval.of_triage(seen(before=before, highest="restart"))["messages"]
    assert told["values"]["why"] == [
        SUSPECTED,
        message("reason.rung.highest", rung=rungs.name_of("restart")).to_dict(),
    ]
    text = catalogue.of("ja").message(told)
    assert catalogue.of("ja").message(SUSPECTED) in text and "Data loss" not in text
