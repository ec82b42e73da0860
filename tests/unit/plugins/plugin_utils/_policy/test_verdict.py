# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decisions that a recovery makes, as tables of cases."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import from_dict, message
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.ladder import RUNGS
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.messages import ENGLISH as TRIAGE
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import facts as recovery_facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import (
    next_steps,
    rungs,
    start_remedies,
    steps_after_run,
    verdict,
)
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.facts import Facts
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy.reasons import Reason

ROOT = Path(__file__).resolve().parents[5]
ALL_RUNGS = list(RUNGS)
FIRST, *LATER = RUNGS
LAST = RUNGS[-1]
DOWN = Facts(severity="emergency", act_on=["critical", "emergency"])


def finding(cause: str = "killed", **changes: Any) -> dict[str, Any]:
    return {
        **{"cause": cause, "summary": f"It is {cause}", "remedy": f"Mend {cause}.", "blocks_start": False},
        **{"useless_rungs": [], "rungs_help": True, "explained_by": None},
        **changes,
    }


def tried(**changes: Any) -> dict[str, Any]:
    return {"rung": "restart", "held": False, "halted": False, "reason": "It fell", **changes}


def attempt(**changes: Any) -> dict[str, Any]:
    """Return an attempt by an earlier run, as in the incident's record."""
    return {**tried(), "started": True, "run": "run1", **changes}


CLEAN = {"rung": "clean_start_recovery"}
BLOCKS = finding("corrupt", blocks_start=True)
USELESS = finding("masked", useless_rungs=ALL_RUNGS, rungs_help=False)
SLOW = Reason.of(message("finding.slow.slow", seconds="4.0"))
DEGRADED = {"healthy": False, "severity": "degraded", "degraded": [SLOW]}
ANSWERS = {"healthy": True, "severity": "none", "answers_since": {"at": "10:00", "source": "probe"}}

OUTCOMES = [
    ("a rung held", {"tried": [tried(held=True)]}, "recovered"),
    ("the second rung held", {"tried": [tried(), tried(rung="standard_recovery", held=True)]}, "recovered"),
    ("a rung failed and the service was started in its previous state", {"tried": [tried(restored=True)]}, "recovered"),
    ("in check mode", {"tried": [tried(held=True)], "check_mode": True}, "would_recover"),
    ("no rung held", {"tried": [tried()]}, "not_recovered"),
    ("nobody knows whether the rung held", {"tried": [tried(held=None)]}, "not_recovered"),
    ("it serves, and the login fails", {"tried": [tried(serves=True, halted=True)]}, "login_failed"),
    ("no rung was allowed", {"findings": [BLOCKS]}, "not_recovered"),
    ("the host was lost", {"lost": "Connection timed out"}, "unreachable"),
    ("the host was lost after a rung held", {"lost": "gone", "tried": [tried(held=True)]}, "recovered"),
    ("it answers although something is wrong", {**ANSWERS, "severity": "warning"}, "warning"),
    ("it answers and is not ready", {**DEGRADED}, "degraded"),
    ("a remedy helped a degraded service", {**ANSWERS, "was_degraded": True}, "recovered"),
    ("a remedy did not help a degraded service", {**DEGRADED, "was_degraded": True}, "degraded"),
    ("it answers on a damaged database", {**DEGRADED, "in_doubt": True}, "degraded"),
    ("the same as in the run before", {**DEGRADED, "in_doubt": True, "outcome_before": "degraded"}, "degraded"),
    (
        "it is no longer reported as degraded, but its database is still damaged",
        {**ANSWERS, "in_doubt": True, "outcome_before": "degraded"},
        "degraded",
    ),
    (
        "an earlier run stopped it because of its data, and it answers again",
        {**DEGRADED, "in_doubt": True, "outcome_before": "not_recovered"},
        "data_in_doubt",
    ),
    (
        "a killed run found it down because of its data, and it answers again",
        {**DEGRADED, "in_doubt": True, "was_in_doubt": True, "was_down": True},
        "data_in_doubt",
    ),
    ("a killed run found its data in doubt", {**DEGRADED, "in_doubt": True, "was_in_doubt": True}, "degraded"),
    (
        "a remedy helped, but the database is damaged, and the second check was too slow to find it",
        {**ANSWERS, "was_degraded": True, "in_doubt": True},
        "degraded",
    ),
    ("a rung held, and it is not ready", {"tried": [tried(held=True)], "degraded": [SLOW]}, "degraded"),
    (
        "a failed rung restored it, and it is not ready",
        {"tried": [tried(restored=True)], "degraded": [SLOW]},
        "degraded",
    ),
    (
        "systemd brought it back, and it is not ready",
        {**ANSWERS, "restarted_by_systemd": True, "degraded": [SLOW]},
        "degraded",
    ),
    ("systemd brought it back", {**ANSWERS, "restarted_by_systemd": True}, "recovered_by_systemd"),
    ("it answers on a database in doubt", {**ANSWERS, "in_doubt": True}, "data_in_doubt"),
    ("a rung started it on a database in doubt", {"in_doubt": True, "tried": [tried(held=True)]}, "data_in_doubt"),
    (
        "it answers, and its database was not found",
        {**ANSWERS, "not_found": True, "was_in_doubt": True},
        "data_in_doubt",
    ),
    ("systemd brought it back on one", {**ANSWERS, "in_doubt": True, "restarted_by_systemd": True}, "data_in_doubt"),
    ("it answers and the data were in doubt, and are sound now", {**ANSWERS, "was_in_doubt": True}, "recovered"),
    ("down on a database in doubt", {"in_doubt": True}, "not_recovered"),
    (
        "down, stopped by an earlier run because of its data",
        {"in_doubt": True, "outcome_before": "data_in_doubt"},
        "data_in_doubt",
    ),
    (
        "the same, and a rung was tried since",
        {"in_doubt": True, "outcome_before": "data_in_doubt", "tried": [tried()]},
        "not_recovered",
    ),
    ("it answers, an earlier step ended the ladder", {**ANSWERS, "halted_before": "Data loss"}, "not_recovered"),
    (
        "systemd brought it back, an earlier step ended the ladder",
        {**ANSWERS, "restarted_by_systemd": True, "halted_before": "Data loss"},
        "not_recovered",
    ),
]


@pytest.mark.parametrize(("changes", "outcome"), [each[1:] for each in OUTCOMES], ids=[each[0] for each in OUTCOMES])
def test_outcome(changes: dict[str, Any], outcome: str) -> None:
    judged = verdict.judge(dataclasses.replace(DOWN, **changes))
    assert judged.outcome == outcome
    assert judged.failed == (not judged.recovered)
    assert judged.failed == (outcome in {"degraded", "login_failed", "data_in_doubt", "not_recovered", "unreachable"})


def test_no_later_step_of_a_workflow_restarts_a_degraded_service() -> None:
    judged = verdict.judge(dataclasses.replace(DOWN, **DEGRADED))
    assert judged.halted == "The service answers, so it is not restarted."
    assert judged.next_step.startswith("Fix the cause: ")


def test_the_table_has_every_outcome() -> None:
    with_cases = {outcome for _id, _changes, outcome in OUTCOMES}
    assert with_cases == set(verdict.NEXT_STEPS) - {"data_loss", "degraded_database", "halted", "helpless"}
    assert with_cases == set(verdict.OUTCOMES)


RUNG_CASES = [
    ("nothing is in the way", {"findings": [finding()]}, "restart", True, ""),
    ("a start would do harm", {"findings": [BLOCKS]}, "restart", False, ""),
    ("no rung can help", {"findings": [USELESS]}, "restart", False, "It is masked."),
    ("an earlier step ended the ladder", {"halted_before": "Lost rows"}, "restart", False, ""),
    ("a rung held", {"tried": [tried(held=True)]}, "standard_recovery", False, ""),
    ("a rung ended the ladder", {"tried": [tried(halted=True)]}, "standard_recovery", False, ""),
    ("the service is back in its previous state", {"tried": [tried(restored=True)]}, "standard_recovery", False, ""),
    ("the rung before did not hold", {"tried": [tried()]}, "standard_recovery", True, ""),
    (
        "this rung cannot help",
        {"findings": [finding(useless_rungs=["restart"])]},
        "restart",
        True,
        "It is killed.",
    ),
    ("another rung cannot help", {"findings": [finding(useless_rungs=["restart"])]}, "standard_recovery", True, ""),
    (
        "the cause was remediated",
        {
            "findings": [finding(useless_rungs=["restart"])],
            "remedies": [{"cause": "killed", "changed": True, "failed": False}],
        },
        "restart",
        True,
        "",
    ),
    (
        "what explains it was remediated",
        {
            "findings": [finding("hung", useless_rungs=["restart"], explained_by="db_locked")],
            "remedies": [{"cause": "db_locked", "changed": True, "failed": False}],
        },
        "restart",
        True,
        "",
    ),
    (
        "the remedy failed",
        {
            "findings": [finding(useless_rungs=["restart"])],
            "remedies": [{"cause": "killed", "changed": True, "failed": True}],
        },
        "restart",
        True,
        "It is killed.",
    ),
    (
        "check mode: the remedy would have remediated it",
        {
            "check_mode": True,
            "findings": [BLOCKS],
            "remedies": [{"cause": "corrupt", "changed": True, "failed": False}],
        },
        "restart",
        True,
        "",
    ),
    (
        "it was started too often",
        {"crash_loop": {"looping": True, "fell": False, "restarts": 4, "window": 600}},
        "restart",
        True,
        "Earlier recovery runs started the service 4 times in the last 10 minutes (all incidents together), so this "
        "run does not try a restart alone again.",
    ),
    (
        "it fell while it was watched",
        {"crash_loop": {"looping": True, "fell": True, "restarts": 1, "window": 600}},
        "restart",
        True,
        "A recovery run started the service in the last 10 minutes, and the service failed again during the stability "
        "check. This run does not try a restart alone again.",
    ),
    (
        "a loop stops only the restart",
        {"crash_loop": {"looping": True, "fell": False, "restarts": 4, "window": 600}},
        "standard_recovery",
        True,
        "",
    ),
]


@pytest.mark.parametrize(
    ("changes", "name", "climb", "useless"), [each[1:] for each in RUNG_CASES], ids=[each[0] for each in RUNG_CASES]
)
def test_rung(changes: dict[str, Any], name: str, climb: bool, useless: str) -> None:
    decided = rungs.rung(dataclasses.replace(DOWN, **changes), name)
    assert (decided.climb, decided.useless) == (climb, useless)


SKIPPED = [{"rung": each} for each in LATER[:-1]]
NOT_REACHED = [
    ("every rung was tried or skipped", {"tried": [tried()], "skipped": [{"rung": each} for each in LATER]}, {}),
    ("nothing was tried or skipped", {"findings": [BLOCKS]}, {}),
    ("the service is back", {"tried": [tried(held=True)]}, {}),
    (
        "a rung ended the ladder",
        {"tried": [tried(halted=True)], "skipped": SKIPPED},
        {LAST: "the recovery ended after restart."},
    ),
    (
        "the service answers, but the login failed",
        {"tried": [tried(halted=True, serves=True)]},
        dict.fromkeys(LATER, "the service answers, and a failed login is no reason to stop it."),
    ),
    (
        "the triage after a rung found something that no rung can fix",
        {"tried": [tried()], "findings": [USELESS]},
        dict.fromkeys(LATER, "It is masked"),
    ),
    (
        "the run may try only one rung",
        {"tried": [tried()], "rungs": [FIRST]},
        dict.fromkeys(LATER, "not allowed by outage_recover_rungs or outage_recover_highest_rung."),
    ),
    (
        "the host was lost",
        {"tried": [tried(held=None)], "lost": "Connection timed out"},
        dict.fromkeys(LATER, "the connection to the host was lost."),
    ),
    (
        "an error stopped the recovery",
        {"tried": [tried()], "error": "Triage: broke"},
        dict.fromkeys(LATER, "an error stopped the recovery."),
    ),
]


@pytest.mark.parametrize(("changes", "rest"), [each[1:] for each in NOT_REACHED], ids=[each[0] for each in NOT_REACHED])
def test_rungs_that_a_failed_recovery_did_not_reach(changes: dict[str, Any], rest: dict[str, str]) -> None:
    facts = dataclasses.replace(DOWN, **{"rungs": ALL_RUNGS, **changes})
    told = rungs.not_reached(facts, failed=verdict.judge(facts).failed)
    assert {each["rung"]: each["reason"] for each in told} == rest
    assert all(each["messages"]["reason"] for each in told)


NEXT = [
    ("data loss comes first", {"loss_suspected": True, "tried": [tried(serves=True, halted=True)]}, "1. Do not start"),
    ("then the login", {"tried": [tried(serves=True, halted=True)]}, "Check that people can log in"),
    (
        "then what ended the ladder",
        {"tried": [tried(halted=True, reason="No room")]},
        "Fix the problem that stopped the recovery: No room. Then",
    ),
    ("then no cause", {"tried": [tried()]}, "Read the evidence"),
    ("then the cause", {"tried": [tried()], "diagnosis": [finding()]}, "Fix the cause: Mend killed. Then"),
    (
        "a restart is not proposed again",
        {"tried": [tried()], "diagnosis": [finding(messages={"remedy": [message("remedy.restart").to_dict()]})]},
        "Read the evidence",
    ),
    (
        "only the rest of the remedy is left",
        {
            "tried": [tried()],
            "diagnosis": [finding(messages={"remedy": [message("remedy.unhandled_exception").to_dict()]})],
        },
        "Fix the cause: Undo the last change, or roll back to the previous release. Then",
    ),
    (
        "a restart that an earlier run has tried is not proposed again",
        {
            "attempts": [attempt()],
            "diagnosis": [finding(messages={"remedy": [message("remedy.unhandled_exception").to_dict()]})],
        },
        "Fix the cause: Undo the last change, or roll back to the previous release. Then",
    ),
    (
        "a restart is all that an earlier run could propose",
        {
            "attempts": [attempt()],
            "diagnosis": [finding(messages={"remedy": [message("remedy.restart").to_dict()]})],
        },
        "Read the evidence",
    ),
    (
        "an attempt that started nothing, or whose result is unknown, is no failed restart",
        {
            "attempts": [attempt(started=False), attempt(held=None)],
            "diagnosis": [finding(messages={"remedy": [message("remedy.restart").to_dict()]})],
        },
        "Fix the cause: Restart the service",
    ),
    (
        "before a rung, the remedy is complete",
        {"diagnosis": [finding(messages={"remedy": [message("remedy.unhandled_exception").to_dict()]})]},
        "Fix the cause: Start the service again. If it fails again, undo the last",
    ),
    (
        "a rollback that the playbook cannot do",
        {
            "tried": [tried()],
            "release_strategy": "none",
            "diagnosis": [finding(messages={"remedy": [message("remedy.unhandled_exception").to_dict()]})],
        },
        "Fix the cause: Undo the last change, or roll back to the previous release; roll back manually, "
        "because nexus_release_strategy is none. Then",
    ),
    (
        "a rollback that the playbook can do",
        {
            "tried": [tried()],
            "release_strategy": "symlink",
            "diagnosis": [finding(messages={"remedy": [message("remedy.unhandled_exception").to_dict()]})],
        },
        "Fix the cause: Undo the last change, or roll back to the previous release. Then",
    ),
    (
        "no rollback, no word about releases",
        {"release_strategy": "none", "diagnosis": [finding()]},
        "Fix the cause: Mend killed. Then",
    ),
    (
        "a cause without a remedy",
        {"diagnosis": [{"cause": "odd", "summary": "Odd"}]},
        "Fix the cause: see the evidence",
    ),
    ("no cause and no rung", {}, "Fix the cause: see the evidence"),
    ("the way to the host", {"lost": "Host key verification failed."}, "known_hosts contains no key for this host"),
]


@pytest.mark.parametrize(("changes", "says"), [each[1:] for each in NEXT], ids=[each[0] for each in NEXT])
def test_next_step(changes: dict[str, Any], says: str) -> None:
    assert verdict.judge(dataclasses.replace(DOWN, **changes)).next_step.startswith(says)


@pytest.mark.parametrize(
    ("findings", "rows", "expected"),
    [
        ([finding("db_corrupt", blocks_start=True)], {}, ["It is db_corrupt"]),
        ([finding(), finding("db_corrupt", blocks_start=True, explained_by="killed")], {}, []),
        # The log contains an error about the database, but a check has found no damage.
        ([finding("db_corrupt")], {"users": 2}, ["there are fewer rows than before: users 3 -> 2"]),
        ([finding()], {"users": 2}, ["there are fewer rows than before: users 3 -> 2"]),
        ([finding()], {"users": 3}, []),
        ([finding()], {"users": 3, "logs": 3000000}, ["there are fewer rows than before: logs 3000001 -> 3000000"]),
    ],
)
def test_the_notification_says_why_data_loss_is_suspected(
    findings: list[dict[str, Any]], rows: dict[str, int], expected: list[str]
) -> None:
    counts = {"users": 3, **({"logs": 3000001} if "logs" in rows else {})}
    triage = {"findings": findings, "row_counts": counts, "data": {"state": "sound" if rows else "in_doubt"}}
    seen = {"detection": {"severity": "emergency"}, "triage": triage, "first": triage, "diagnosis": triage}
    judged = verdict.of_run({**seen, "tried": [tried()], "verification": {"row_counts": rows}})
    assert [catalogue.english(from_dict(each)) for each in judged["notified_messages"]["data_loss"]] == expected


def test_the_notification_says_why_the_database_files_were_not_copied() -> None:
    told = message("reason.sqlite.no_files", path="/a").to_dict()
    triage = {"findings": [], "data_evidence": {"path": None, "not_copied": "x", "messages": {"not_copied": told}}}
    judged = verdict.of_run({"detection": {"severity": "emergency"}, "triage": triage})
    assert judged["notified_messages"]["not_copied"] == told


WAITING = {"name": "itsm.service", "sub_state": "auto-restart"}
TAKEN = {**WAITING, "taken_over_at": "01:00"}
# The record of an incident that this run was already handling before the takeover.
OWN = {"locked_by": {"since": "00:58"}}


@pytest.mark.parametrize(
    ("unit", "changes", "expected"),
    [
        (WAITING, {}, ["next_step.systemd.waiting"]),
        ({**WAITING, "sub_state": "auto-restart-queued"}, {}, ["next_step.systemd.waiting"]),
        ({**WAITING, "sub_state": "dead"}, {}, []),
        (TAKEN, {"record": OWN}, ["next_step.systemd.handed_back"]),
        # A rung started the service, and the probe after the rung took the unit over.
        (TAKEN, {"record": {**OWN, "starts": [{"at": "00:59"}]}}, ["next_step.systemd.handed_back"]),
        # The start by this run ended the takeover.
        (TAKEN, {"record": {**OWN, "starts": [{"at": "01:01"}]}}, []),
        # An earlier run took the unit over, so this run does not hand it back.
        (TAKEN, {"record": {"locked_by": {"since": "01:01"}}}, []),
        (TAKEN, {}, []),
        (WAITING, {"hold": {"incident": "INC-1"}}, []),
        (WAITING, {"tried": [tried(held=True)]}, []),
        ({}, {}, []),
    ],
)
def test_the_next_step_says_if_systemd_starts_the_service(
    unit: dict[str, Any], changes: dict[str, Any], expected: list[str]
) -> None:
    seen = {"tried": [tried()], "hold": None, **changes, "triage": {"facts": {"unit": unit}, "findings": [finding()]}}
    seen["detection"] = {"severity": "emergency"}
    judged = verdict.judge(recovery_facts.of_run({**seen, "diagnosis": seen["triage"]}))
    told = [each["id"] for each in judged.messages["next_step"]]
    assert [each for each in told if "systemd" in each] == expected
    assert told[-1:] == expected or not expected


AT, BY = "2026-03-02T01:00:00.000Z", "CHG-4711"
SUMMARY = message("finding.db_corrupt.unsound", path="/db", reasons=["pages are damaged"])
ACCEPTED = finding(
    "db_corrupt",
    remedy="Agree on a time.",
    messages={"summary": message("finding.accepted", summary=SUMMARY, at=AT, reason=BY).to_dict()},
)
NEW_DAMAGE = finding(
    "db_unchecked",
    blocks_start=True,
    messages={"summary": message("finding.not_accepted", summary=SUMMARY, at=AT, reason=BY).to_dict()},
)
EXPLAINED = finding("hung", explained_by="db_corrupt")


@pytest.mark.parametrize("tries", [[], [tried()]])
def test_after_accepted_damage_the_next_step_also_says_if_systemd_starts_the_service(tries: list[Any]) -> None:
    triage = {"facts": {"unit": WAITING}, "findings": [ACCEPTED]}
    seen = {"detection": {"severity": "emergency"}, "triage": triage, "diagnosis": triage, "tried": tries, "hold": None}
    told = [each["id"] for each in verdict.judge(recovery_facts.of_run(seen)).messages["next_step"]]
    assert told[0].startswith("next_step.accepted.") and told[-1] == "next_step.systemd.waiting"


@pytest.mark.parametrize("by_operator", [True, False, None])
def test_check_mode_asks_whether_a_stop_on_request_was_intended(by_operator: bool | None) -> None:
    stopped = finding("stopped", details={"by_operator": by_operator})
    seen = dataclasses.replace(DOWN, check_mode=True, tried=[tried(held=True)], diagnosis=[stopped])
    told = [each["id"] for each in verdict.judge(seen).messages["next_step"]]
    assert ("next_step.asked_to_stop" in told, told[-1]) == (by_operator is True, "next_step.command")


# The beginning of each next step if the database must be recovered.
RECOVER_DATABASE = ["1. Do not start the service", "2. See how many rows", "3. If the DBA agrees"]
# Cases in which a person has accepted damage: the findings, the other changes, and the beginning of each next step.
AFTER_RELEASE = [
    ("it answers", [ACCEPTED], DEGRADED, ["The service keeps running with the damage that a person accepted on"]),
    (
        "it answers, and has another problem",
        [ACCEPTED, finding("disk_filling")],
        DEGRADED,
        ["Fix the cause: Mend disk_filling. Meanwhile", "The command is:", f"On {AT}, a person accepted the damage"],
    ),
    ("it was not started yet", [ACCEPTED, EXPLAINED], {}, [f"On {AT}, a person accepted the damage to the database"]),
    ("it does not start", [ACCEPTED, EXPLAINED], {"tried": [tried()]}, ["The service does not work with the damage"]),
    (
        "it does not start for another reason",
        [ACCEPTED, finding("port_conflict")],
        {"tried": [tried()]},
        [
            "Fix the cause: Mend port_conflict. Then",
            "The command is:\nansible-playbook -i x",
            f"On {AT}, a person accepted",
        ],
    ),
    ("it is back", [ACCEPTED], {"tried": [tried(held=True)]}, ["The service keeps running with the damage"]),
    (
        "systemd brought it back",
        [ACCEPTED],
        {"severity": "emergency", "healthy": True, "supervisor": {"restarted": True}},
        ["Complete the open prevention items", f"On {AT}, a person accepted"],
    ),
    ("it has new damage", [NEW_DAMAGE, ACCEPTED], {}, RECOVER_DATABASE),
    (
        "the verification found new damage",
        [ACCEPTED],
        {
            "tried": [tried(held=True)],
            "verification": {"readiness": {"problems": [{**NEW_DAMAGE, "cause": "db_corrupt"}]}},
        },
        ["1. See how many rows", "2. Agree with the DBA on a time", "3. At that time"],
    ),
    (
        "the verification found the accepted damage",
        [ACCEPTED],
        {"tried": [tried(held=True)], "verification": {"readiness": {"problems": [ACCEPTED]}}},
        ["The service keeps running with the damage"],
    ),
    ("a rung lost rows", [ACCEPTED], {"verification": {"data_loss_suspected": True}}, RECOVER_DATABASE),
]


@pytest.mark.parametrize(
    ("findings", "changes", "steps"), [each[1:] for each in AFTER_RELEASE], ids=[each[0] for each in AFTER_RELEASE]
)
def test_next_step_after_a_person_has_accepted_damage(
    findings: list[dict[str, Any]], changes: dict[str, Any], steps: list[str]
) -> None:
    triage = {"findings": findings, "data_loss_suspected": True, "data": {"state": "accepted"}}
    detection = {"severity": "emergency", "healthy": False, **changes}
    given = {name: each for name, each in changes.items() if name in ("tried", "verification")}
    given["target"] = "-i x --limit node1"
    judged = verdict.of_run(seen(triage=triage, diagnosis=triage, detection=detection, **given))
    told = [catalogue.english(from_dict(each)) for each in judged["messages"]["next_step"]]
    assert [text.startswith(step) for text, step in zip(told, steps)] == [True] * len(steps) == [True] * len(told), told
    if steps == RECOVER_DATABASE:
        assert judged["halted"] == "Data loss is suspected."
        return
    assert all(AT in text and BY in text and "database_recover.yml" in text for text in told if "accepted" in text)
    # Each command selects the inventory and the host.
    assert all("ansible-playbook -i x --limit node1 playbooks/" in text for text in told if "accepted" in text)
    assert "Data loss" not in judged["halted"]
    assert judged["loss_suspected"]
    assert judged["error"] if judged["outcome"] == "degraded" else True
    why = "accepted" if any("accepted" in text for text in told) else ""
    assert judged["said"]["statements"]["data_loss"] == {"value": "suspected", "why": why}


# Remedies that begin with a restart even if a rung has already restarted the service. A fact shows that the running
# process still needs a restart: the process is older than the corrected file, keeps deleted files open, or holds a
# lock.
STILL_A_RESTART = ("remedy.db_locked.restart_older", "remedy.disk_full.restart")


def test_no_remedy_proposes_the_restart_that_a_rung_has_tried() -> None:
    begins = [key for key, text in TRIAGE.items() if re.match(r"(Res|S)tart the service", text)]
    settled = [*start_remedies.ONLY_A_START, *STILL_A_RESTART]
    lacks = [
        f"plugins/module_utils/_triage/messages.py lacks {key.replace('remedy.', 'remedy.tried.', 1)}, "
        f"the text of {key} without the restart"
        for key in begins
        if key.startswith("remedy.") and key not in settled and key.replace("remedy.", "remedy.tried.", 1) not in TRIAGE
    ]
    assert "remedy.oom_kill" in begins
    assert lacks == [], "\n".join(lacks)


@pytest.mark.parametrize("field", ["findings", "diagnosis"])
@pytest.mark.parametrize("blocked", [False, True])
def test_after_too_many_starts_a_person_must_start_the_service(field: str, blocked: bool) -> None:
    loop = {"looping": True, "restarts": 3, "window": 3600, "fell": False}
    found = {field: [finding(blocks_start=blocked)]}

    def steps(*rungs: str) -> str:
        judged = verdict.judge(dataclasses.replace(DOWN, rungs=rungs, crash_loop=loop, **found))
        return catalogue.of("en").message(judged.messages["next_step"])

    assert ("start the service manually" in steps("restart")) is not blocked
    # The next run skips only the rung "restart".
    assert "start the service manually" not in steps("restart", "standard_recovery")


FEWER_ROWS = message("finding.db_corrupt.fewer", path="/db", tables=["a 3 of 18"]).to_dict()
TARGET = next_steps.target("node1", ["inventories/my own"])
COMMAND = "ansible-playbook -i 'inventories/my own' --limit node1 playbooks/database_recover.yml"


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_suspected": True},
        {"loss_suspected": True, "in_doubt": True, "healthy": True, "severity": "none"},
        {"severity": "degraded", "in_doubt": True, "loss_suspected": True},
        {"loss_suspected": True, "diagnosis": [finding(messages={"summary": FEWER_ROWS})]},
    ],
)
@pytest.mark.parametrize("manager", ["systemd", "process", ""])
def test_the_steps_of_a_database_recovery_have_one_order_and_complete_commands(
    changes: dict[str, Any], manager: str
) -> None:
    judged = verdict.judge(dataclasses.replace(DOWN, target=TARGET, manager=manager, **changes))
    told = catalogue.of("ja").message(judged.messages["next_step"])
    for text in (judged.next_step, told):
        places = [text.index(each) for each in ("1. ", f"{COMMAND} --check", "3. ")]
        assert places == sorted(places)
        # The last step refers to a part of the check's output: the command, or a method that is shown as possible.
        last = text[places[-1] :]
        assert any(each in last for each in ("as its next step", "「次の対応」", "as possible", "可能と表示された"))
        assert ("systemd unit" in text or "systemd のユニット" in text) is (manager == "process")


def test_every_remedy_that_proposes_a_rollback_is_known() -> None:
    proposed = {key for key, text in TRIAGE.items() if key.startswith("remedy.") and "roll back" in text.lower()}
    assert proposed == set(steps_after_run.ROLLBACKS)


def test_every_remedy_that_proposes_a_start_is_known() -> None:
    start = re.compile(r"(?i)(?<!another )(?<!not )(?<!nor )\b(re)?start the (service|unit)\b")
    proposed = {
        key
        for key, text in TRIAGE.items()
        if key.startswith("remedy.") and start.search(text) and "Do not restart" not in text
    }
    lacks = [
        f"plugins/plugin_utils/_policy/start_remedies.py lacks {key}, in ALSO_A_START or ONLY_A_START"
        for key in sorted(proposed - {*start_remedies.ONLY_A_START, *start_remedies.ALSO_A_START})
    ]
    assert lacks == [], "\n".join(lacks)
    assert {*start_remedies.ALSO_A_START} <= {*TRIAGE}


def test_a_check_of_a_damaged_database_in_use_has_the_numbered_steps() -> None:
    """In check mode, the incident has no record that could show that the data is in doubt."""
    damaged = finding("db_corrupt", messages={"remedy": {"id": "remedy.db_corrupt.in_use", "values": {}}})
    facts = dataclasses.replace(DOWN, severity="degraded", check_mode=True, findings=[damaged], diagnosis=[damaged])
    assert verdict.judge(facts).next_step.startswith("1. See how many rows each method would lose. This check")


def test_a_hold_mentions_systemd_only_if_the_service_has_a_unit() -> None:
    for manager, words in (("systemd", "nor systemd starts it"), ("process", "this collection does not start it")):
        facts = dataclasses.replace(DOWN, loss_suspected=True, manager=manager, held_by="INC-1")
        assert verdict.notified_next_step(verdict.judge(facts)).endswith(f"{words}.")


ERRORS = [
    ("none", {"tried": [tried(held=True)]}, None),
    ("the lost host comes first", {"lost": "gone", "error": "Triage: broke", "findings": [BLOCKS]}, "gone"),
    ("then what stopped the recovery", {"error": "Triage: broke", "findings": [BLOCKS]}, "Triage: broke"),
    ("why the rung failed before the service was restored", {"tried": [tried(restored=True)]}, "It fell"),
    ("why no rung was taken", {"findings": [BLOCKS, USELESS, BLOCKS]}, "It is corrupt It is masked"),
    ("why each rung was skipped, once", {"skipped": [{"reason": "Useless."}, {"reason": "Useless."}]}, "Useless."),
    (
        "not acted on",
        {"act_on": ["critical"]},
        "emergency is not in outage_recover_act_on (critical): nothing was tried.",
    ),
    (
        "a run that only notifies",
        {"act_on": []},
        "this run only sends notifications, because outage_recover_act_on is empty.",
    ),
    (
        "why no rung was taken, without what another finding explains",
        {"findings": [BLOCKS, finding("missing", blocks_start=True, explained_by="corrupt")]},
        "It is corrupt",
    ),
]


@pytest.mark.parametrize(("changes", "error"), [each[1:] for each in ERRORS], ids=[each[0] for each in ERRORS])
def test_error(changes: dict[str, Any], error: str | None) -> None:
    assert verdict.judge(dataclasses.replace(DOWN, **changes)).error == error


HALTED = [
    ({"tried": [tried(halted=True, reason="First"), tried(halted=True, reason="Last")]}, "Last"),
    ({"halted_before": "Before", "tried": [tried(halted=True)]}, "Before"),
    ({"loss_suspected": True}, "Data loss is suspected."),
    ({"loss_suspected": True, "tried": [tried(held=True)]}, ""),
    ({"tried": [tried()]}, ""),
]


@pytest.mark.parametrize(("changes", "halted"), HALTED)
def test_rungs_allowed_for_a_later_step(changes: dict[str, Any], halted: str) -> None:
    assert verdict.judge(dataclasses.replace(DOWN, **changes)).halted == halted


def test_each_text_of_a_verdict_has_its_messages() -> None:
    told = [message("finding.killed.signal", signal="KILL").to_dict()]
    found = finding(useless_rungs=ALL_RUNGS, rungs_help=False, messages={"summary": told[0]})
    looks = {"triage": {"findings": [found]}, "diagnosis": {"findings": [found]}}
    judged = verdict.of_run(seen(**looks, crash_loop=LOOPING, rung="restart"))
    assert judged["messages"]["error"] == judged["messages"]["cause_summary"] == told
    assert judged["messages"]["next_step"][0]["values"]["remedy"][0]["id"] == "quoted"
    assert [each["id"] for each in judged["useless_messages"]] == ["finding.killed.signal", "reason.loop.started"]
    lost = message("reason.unreached", why="no route").to_dict()
    judged = verdict.of_run(seen(lost="the host cannot be reached: no route", lost_message=lost))
    assert judged["messages"]["error"] == [lost]
    assert [each["id"] for each in judged["messages"]["next_step"]] == ["next_step.reach.other", "next_step.command"]


def test_a_step_that_ended_the_ladder_hands_on_its_reason_as_messages() -> None:
    told = [message("reason.data_loss_suspected").to_dict()]
    before = {"halted": "Data loss is suspected.", "messages": {"halted": told}}
    judged = verdict.of_run(seen(before=before))
    assert judged["messages"]["halted"] == judged["messages"]["next_step"][0]["values"]["halted"] == told


def test_a_repaired_database_stays_the_cause_of_its_incident() -> None:
    """A person repaired the database of a held service. The next run finds only that the service was stopped."""
    stopped = dataclasses.replace(
        DOWN,
        was_in_doubt=True,
        cause_before="db_corrupt",
        diagnosis=[finding("stopped")],
        tried=[tried(held=True)],
    )
    judged = verdict.judge(stopped)
    assert (judged.outcome, judged.cause) == ("recovered", "db_corrupt")
    assert judged.cause_summary.endswith("a check has now found the database sound")
    # If the service does not start, the cause is the one that triage found, not the earlier damage.
    assert verdict.judge(dataclasses.replace(stopped, tried=[tried(held=False)])).cause == "stopped"
    assert verdict.judge(dataclasses.replace(stopped, cause_before="killed")).cause == "stopped"
    assert verdict.judge(dataclasses.replace(stopped, was_in_doubt=False)).cause == "stopped"
    # A check found the database intact. The verification ran later and found new damage or missing rows.
    for later in ({"damaged_since": True}, {"loss_suspected": True}):
        assert verdict.judge(dataclasses.replace(stopped, **later)).cause == "stopped"


def test_the_attempts_come_from_the_record_of_the_incident() -> None:
    found = [finding(messages={"remedy": [message("remedy.restart").to_dict()]})]
    first = verdict.of_run(seen(diagnosis={"findings": found}))
    again = verdict.of_run(seen(diagnosis={"findings": found}, record={"attempts": [attempt()]}))
    assert "Restart the service" in first["next_step"]
    assert "Restart the service" not in again["next_step"]


LOOPING = {"looping": True, "fell": False, "restarts": 4, "window": 600}


def test_source_of_the_recovery() -> None:
    by_itself = verdict.judge(dataclasses.replace(DOWN, **ANSWERS))
    assert (by_itself.mitigated_at, by_itself.mitigated_from) == ("10:00", "probe")
    by_a_rung = dataclasses.replace(DOWN, tried=[tried(held=True)], first_healthy_at="11:00")
    assert (verdict.judge(by_a_rung).mitigated_at, verdict.judge(by_a_rung).mitigated_from) == ("11:00", None)
    down = verdict.judge(dataclasses.replace(DOWN, tried=[tried()], first_healthy_at="11:00"))
    assert (down.mitigated_at, down.mitigated_from) == (None, None)


def seen(**changes: Any) -> dict[str, Any]:
    return {"act_on": ["emergency"], "detection": {"severity": "emergency"}, **changes}


SUSPICIONS = [
    {"triage": {"data_loss_suspected": True}},
    {"triage": {"data": {"state": "in_doubt"}}},
    {"clean_start": {"data_loss_suspected": True}},
    {"verification": {"data_loss_suspected": True}},
    {"before": {"data_loss": "suspected"}},
]


@pytest.mark.parametrize("changes", SUSPICIONS)
def test_every_check_can_suspect_lost_rows(changes: dict[str, Any]) -> None:
    assert verdict.of_run(seen(**changes))["loss_suspected"]
    assert not verdict.of_run(seen())["loss_suspected"]
    assert verdict.of_run(seen(**changes))["said"]["data_loss"] == "suspected"


def test_the_playbook_passes_exactly_the_facts_that_are_read() -> None:
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "outage_recover.yml").read_text(encoding="utf-8"))
    handed = set(re.findall(r"'(\w+)': ", variables["_incident_verdict"]))
    source = "".join(Path(each.__file__).read_text(encoding="utf-8") for each in (recovery_facts, verdict))
    assert handed == set(re.findall(r'seen(?:\.get\(|\[)"(\w+)"', source))


def test_the_next_rung_is_decided_with_the_facts_of_the_run() -> None:
    found = {"findings": [finding(useless_rungs=["restart"])]}
    judged = verdict.of_run(seen(triage=found, rung="restart"))
    assert (judged["climb"], judged["useless"]) == (True, "It is killed.")
    assert verdict.of_run(seen(triage=found, rung="standard_recovery"))["useless"] == ""
    assert not verdict.of_run(seen(triage={"findings": [BLOCKS]}, rung="restart"))["climb"]


def test_an_invalid_policy_is_reported_even_without_a_remedy() -> None:
    refused = [{"cause": "unknown", "reason": "Not a list"}]
    assert verdict.of_run(seen(policy_problem="Not a list"))["remediation"] == {"applied": [], "refused": refused}
    quiet = {**seen(policy_problem="Not a list"), "act_on": []}
    assert verdict.of_run(quiet)["remediation"] == {"applied": [], "refused": []}
    done = {"applied": [{"cause": "killed", "changed": False}], "refused": []}
    assert verdict.of_run(seen(policy_problem="Not a list", remediation=done))["remediation"] == done


CHANGES: list[dict[str, Any]] = [
    {"tried": [tried()]},
    {"remediation": {"applied": [{"cause": "x", "changed": True}], "refused": []}},
    {"triage": {"hold": {"incident": "INC-1"}}},
    {"detection": {"severity": "emergency", "takeover": {"unit": "x"}}},
    {"stopped": True},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_changes(changes: dict[str, Any]) -> None:
    def said(**more: Any) -> str:
        return verdict.of_run(seen(**more))["said"]["statements"]["nothing_changed"]["value"]

    assert said(**changes) == "no"
    assert said() == "yes"
    assert said(**changes, check_mode=True) == "yes"


def test_all_passes_share_the_evidence_folder() -> None:
    assert verdict.of_run(seen(triage={"bundle": "/var/lib/x/evidence/INC-1/pass-2"}))["evidence"].endswith("INC-1")


def test_a_verdict_is_given_if_roles_did_not_run() -> None:
    """If a role failed, its result is missing or empty, but the contacts must still be notified."""
    roles = ("triage", "first", "diagnosis", "remediation", "clean_start", "verification", "record", "before")
    for left_out in itertools.product((None, {}), repeat=len(roles)):
        judged = verdict.of_run(seen(**dict(zip(roles, left_out))))
        assert judged["outcome"] == "not_recovered"
        assert (judged["climb"], judged["useless"]) == (True, "")


COURSES = [
    ({"severity": "none"}, "", (True, False)),
    ({"severity": "none"}, "Lost rows", (False, False)),
    ({"severity": "none", "data_in_doubt": True}, "", (False, False)),
    ({"severity": "none", "hold": {"incident": "INC-1"}}, "", (False, False)),
    ({"severity": "warning"}, "", (False, False)),
    ({"severity": "critical"}, "", (False, False)),
    ({"severity": "unreachable"}, "", (False, False)),
    ({"severity": "emergency"}, "", (False, True)),
    ({"severity": "emergency", "supervisor": {"restarted": False}}, "", (False, True)),
    ({"severity": "emergency", "supervisor": {"restarted": True}}, "", (False, False)),
]


@pytest.mark.parametrize(("detection", "halted_before", "expected"), COURSES)
def test_course(detection: dict[str, Any], halted_before: str, expected: tuple[bool, bool]) -> None:
    decided = verdict.course(detection, ["emergency"], halted_before)
    assert (decided["idle"], decided["acting"]) == expected


@pytest.mark.parametrize(
    ("severity", "act_on", "remedying"),
    [
        ("degraded", ["critical", "emergency"], True),
        ("degraded", [], False),
        ("emergency", ["critical", "emergency"], True),
        ("emergency", [], False),
        ("warning", ["critical", "emergency"], False),
    ],
)
def test_a_run_that_only_notifies_applies_no_remedy(severity: str, act_on: list[str], remedying: bool) -> None:
    assert verdict.course({"severity": severity}, act_on)["remedying"] is remedying


def test_a_damaged_database_limits_the_remedies_for_a_degraded_service() -> None:
    """The remedy for a full disk must not remove the backups of a damaged database."""
    findings = [
        {"cause": "db_corrupt", "blocks_start": True},
        {"cause": "disk_full", "blocks_start": False},
        {"cause": "tls_expired", "blocks_start": False},
    ]
    assert [each["cause"] for each in verdict.remediable(findings, "degraded")] == ["db_corrupt", "disk_full"]
    assert verdict.remediable(findings, "critical") == findings


def test_summary_names_each_host_once() -> None:
    outcomes = [{"host": name, "outcome": name} for name in verdict.OUTCOMES]
    hosts = [*verdict.OUTCOMES, "well", "broken"]
    told = verdict.summary({"hosts": hosts, "outcomes": outcomes, "failed": ["broken", "not_recovered"]})
    assert told.pop("hosts") == len(hosts)
    assert told == {**{name: [name] for name in verdict.OUTCOMES}, "healthy": ["well"], "stopped": ["broken"]}
