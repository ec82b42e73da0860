# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: RUF001 - Japanese uses full-width punctuation.

"""The decisions that a database recovery makes, as tables of cases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import database_verdict

ROOT = Path(__file__).resolve().parents[5]
DONE = {"method": "salvage", "replaced": True, "data_loss": "none", "rows_before": {"a": 2}, "rows_after": {"a": 2}}
LOST = {**DONE, "data_loss": "known", "statement": "1 row of a.", "kept": "/kept"}
KEPT = {"healthy_before": True, "replaced": False}
FEWER = {"findings": [{"cause": "db_corrupt", "summary": "Rows are missing."}], "rows_missing": {"a": [2, 1]}}
SERVES = {"healthy": True}
UNREAD = message("reason.restore.wal_unread", why=[message("reason.restore.open_in", holders="pid 7 (node)")])
OPEN = {"reason": [message("reason.restore.method", method="salvage", why=[UNREAD]).to_dict()]}
VERIFIED = {"verified": True, "row_counts": {"a": 2}, "first_healthy_at": "10:00"}


def seen(**changes: Any) -> dict[str, Any]:
    return {
        **{"severity": "critical", "check_mode": False, "detection": {"healthy": False}, "started_at": "09:00"},
        **{
            "triage": {
                "findings": [{"cause": "db_corrupt", "summary": "A page is damaged."}],
                "signs": [{"at": "08:59"}],
            }
        },
        **changes,
    }


OUTCOMES = [
    ("verified", {"held": True, "recovery": DONE, "verification": VERIFIED}, "recovered"),
    ("verified, with rows lost", {"held": True, "recovery": LOST, "verification": VERIFIED}, "recovered"),
    ("in check mode", {"held": True, "recovery": DONE, "check_mode": True}, "would_recover"),
    ("no method was possible", {"error": "no method", "recovery": {"method": ""}}, "not_recovered"),
    ("it serves, and the login fails", {"recovery": DONE, "verification": {"serves": True}}, "login_failed"),
    (
        "rows are missing, and it still serves",
        {"error": "fewer", "recovery": {**KEPT, "stopped": False}, "triage": FEWER, "detection": SERVES},
        "data_in_doubt",
    ),
    (
        "rows are missing in check mode, which stops nothing",
        {"error": "fewer", "recovery": KEPT, "triage": FEWER, "detection": SERVES, "check_mode": True},
        "data_in_doubt",
    ),
    (
        "rows are missing, and it was stopped",
        {"error": "fewer", "recovery": KEPT, "triage": FEWER, "detection": SERVES},
        "not_recovered",
    ),
    (
        "rows are missing, and it was down",
        {"error": "fewer", "recovery": {**KEPT, "stopped": False}, "triage": FEWER},
        "not_recovered",
    ),
    ("the host was lost", {"lost": "the host cannot be reached: gone"}, "unreachable"),
    ("the host was lost after the verification", {"held": True, "recovery": DONE, "lost": "gone"}, "recovered"),
]


@pytest.mark.parametrize(("case", "changes", "outcome"), OUTCOMES, ids=[case for case, _, _ in OUTCOMES])
def test_outcome(case: str, changes: dict[str, Any], outcome: str) -> None:
    judged = database_verdict.of_run(seen(**changes))
    assert judged["outcome"] == outcome
    assert (
        judged["failed"]
        == (outcome in ("not_recovered", "login_failed", "unreachable", "data_in_doubt"))
        == (not judged["recovered"])
    )
    assert judged["rung"] == ("database_recovery by salvage" if changes.get("held") else None)


NEXT_STEPS = [
    (
        {"held": True, "recovery": LOST},
        "Inform the data owners about the loss (1 row of a). The damaged files are in /kept.",
    ),
    ({"held": True, "recovery": {**LOST, "kept": None}}, "The damaged files are in the evidence."),
    ({"held": True, "recovery": DONE}, "Complete the open prevention items"),
    (
        {"held": True, "recovery": LOST, "check_mode": True, "target": "-i inv --limit node1"},
        "stops the service if it is running, and starts it after the recovery: "
        "ansible-playbook -i inv --limit node1 playbooks/database_recover.yml",
    ),
    (
        {"held": True, "recovery": LOST, "check_mode": True, "manager": "process"},
        "The service has no systemd unit, so nothing prevents a manual start: until the recovery has ended",
    ),
    (
        {"held": True, "recovery": DONE, "check_mode": True, "options": "-e database_recovery_method=salvage"},
        "ansible-playbook playbooks/database_recover.yml -e database_recovery_method=salvage",
    ),
    (
        {"recovery": DONE, "verification": {"serves": True}, "target": "-i inv --limit node1"},
        "The command is: ansible-playbook -i inv --limit node1 playbooks/outage_recover.yml",
    ),
    # If there is no plan, it is unknown which methods are possible.
    ({"error": "no method"}, "lose: ansible-playbook playbooks/database_recover.yml --check"),
    (
        {"error": "failed", "recovery": {**KEPT, "method": "checkpoint", "possible": ["checkpoint", "salvage"]}},
        "To try another method, run, for example: ansible-playbook playbooks/database_recover.yml -e "
        "database_recovery_method=salvage",
    ),
    (
        {"error": "failed", "recovery": {**KEPT, "method": "salvage", "possible": ["salvage"]}},
        "No other method is possible",
    ),
    # In check mode, the service keeps the database open. The run itself stops the service.
    (
        {"error": "no method", "recovery": {"method": None, "possible": [], "messages": OPEN}, "check_mode": True},
        "It stops the service if it is running, then examines the methods again. If a method is possible, it recovers "
        "the database: ansible-playbook playbooks/database_recover.yml",
    ),
    (
        {
            **{"error": "no method", "check_mode": True, "options": "-e database_recovery_method=salvage"},
            "recovery": {"method": None, "possible": ["backup"], "messages": OPEN},
        },
        "examines the methods again. If a method is possible, it recovers the database: "
        "ansible-playbook playbooks/database_recover.yml -e database_recovery_method=salvage",
    ),
    (
        {"error": "no method", "recovery": {"method": None, "possible": [], "messages": OPEN}},
        "No other method is possible",
    ),
    (
        {
            "error": "fewer",
            "recovery": {**KEPT, "method": "checkpoint", "possible": ["checkpoint", "salvage", "backup"]},
            "triage": FEWER,
        },
        "for example: ansible-playbook playbooks/database_recover.yml -e database_recovery_method=backup",
    ),
    (
        {"error": "fewer", "recovery": {**KEPT, "method": "checkpoint", "possible": ["checkpoint"]}, "triage": FEWER},
        "2. If the rows were not deleted on purpose, choose a method, for example: "
        "ansible-playbook playbooks/database_recover.yml -e database_recovery_method=checkpoint",
    ),
    (
        {"error": "fewer", "recovery": {**KEPT, "stopped": False}, "triage": FEWER, "detection": SERVES},
        "run outage_release.yml",
    ),
    ({"recovery": DONE, "verification": {"serves": True}}, "Check that people can log in"),
    ({"lost": "Permission denied (publickey)"}, "The host refuses the login"),
]


@pytest.mark.parametrize(("changes", "words"), NEXT_STEPS)
def test_next_step(changes: dict[str, Any], words: str) -> None:
    judged = database_verdict.of_run(seen(**changes))
    assert words in " ".join(judged["next_step"].split())
    # In check mode, the notification is the same as after the recovery.
    if judged["outcome"] == "would_recover":
        assert judged["notified_next_step"].startswith(
            ("Inform the data owners about the loss ", "Complete the open prevention items.")
        )
    else:
        assert judged["notified_next_step"] == judged["next_step"]


def test_the_next_step_names_the_loss_in_each_language() -> None:
    losses = [message("reason.loss.foreign_frames", frames=3), message("reason.loss.since", at="10:00")]
    told = {"statement": [each.to_dict() for each in losses]}
    text = "; ".join(map(catalogue.english, losses))
    judged = database_verdict.of_run(seen(held=True, recovery={**LOST, "statement": text, "messages": told}))
    assert judged["next_step"] == f"Inform the data owners about the loss ({text}). The damaged files are in /kept."
    assert "：データベースと一致しない WAL の3フレーム、10:00 以降の行の変更。" in catalogue.of("ja").message(
        judged["messages"]["next_step"]
    )


def test_a_recovery_that_did_not_run_leaves_the_data_unknown() -> None:
    judged = database_verdict.of_run(seen(error="broke"))
    assert judged["loss_suspected"]
    assert judged["said"]["data_loss"] == "unknown"
    assert (judged["error"], judged["tried"][0]["halted"]) == ("broke", True)


def test_the_verified_rows_are_the_rows_after_the_recovery() -> None:
    said = database_verdict.of_run(seen(held=True, recovery=DONE, verification=VERIFIED))["said"]
    assert (said["rows_before"], said["rows_after"], said["data_loss"]) == ({"a": 2}, {"a": 2}, "none")


def test_nothing_was_changed_in_check_mode() -> None:
    def changed(**more: Any) -> str:
        judged = database_verdict.of_run(seen(held=True, recovery=DONE, **more))
        return judged["said"]["statements"]["nothing_changed"]["value"]

    assert (changed(), changed(check_mode=True)) == ("no", "yes")


def test_the_time_of_the_first_good_answer_is_that_of_the_verification() -> None:
    assert database_verdict.of_run(seen(held=True, verification=VERIFIED))["mitigated_at"] == "10:00"
    assert database_verdict.of_run(seen(verification=VERIFIED))["mitigated_at"] is None


def test_the_playbook_passes_exactly_the_facts_that_are_read() -> None:
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "database_recover.yml").read_text(encoding="utf-8"))
    handed = set(re.findall(r"'(\w+)': ", variables["_incident_verdict"]))
    source = Path(database_verdict.__file__).read_text(encoding="utf-8")
    assert handed == set(re.findall(r'seen(?:\.get\(|\[)"(\w+)"', source))


@pytest.mark.parametrize(
    ("outcome", "lost"),
    [
        ("recovered", ""),
        ("would_recover", ""),
        ("login_failed", " Lost: 3 rows"),
        ("not_recovered", " Lost: 3 rows"),
        ("unreachable", " Lost: 3 rows"),
    ],
)
def test_the_reason_for_a_notification_does_not_repeat_the_loss(outcome: str, lost: str) -> None:
    """If the recovery did not succeed, no other part of the message lists the lost rows."""
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "database_recover.yml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - plain text
    values = {"escalation_outcome": outcome, "_database_recover_lost": "3 rows"}
    told = environment.from_string(variables["_database_recover_reason_lost"]).render(values)
    reasons = [
        environment.from_string(str(rule["reason"])).render(_database_recover_reason_lost=told)
        for rule in variables["escalation_rules"]
        if rule["name"] in ("database_emptied", "database_from_backup", "database_salvaged")
    ]
    assert told == lost
    assert len(reasons) == 3 and all(each.endswith(f".{lost}") for each in reasons)


COUNTED = [message("reason.loss.rows", rows=1, tables=["a 1 of 2"]).to_dict()]
SINCE = [*COUNTED, message("reason.loss.since", at="10:00").to_dict()]


@pytest.mark.parametrize(
    ("recovery", "before", "lost"),
    [
        ({**LOST, "rows_lost": {"a": 1}, "messages": {"statement": COUNTED}}, 1, {"rows": 1, "exact": True}),
        # The service may have written rows between two recoveries.
        ({**LOST, "rows_lost": {"a": 1}, "messages": {"statement": COUNTED}}, "1 again", {"rows": 1, "exact": False}),
        ({**LOST, "rows_lost": {"a": 1}, "messages": {"statement": SINCE}}, 0, {"rows": 1, "exact": False}),
        # An earlier recovery in this incident has lost rows, too.
        ({**LOST, "rows_lost": {"a": 1}, "messages": {"statement": COUNTED}}, 3, {"rows": 3, "exact": False}),
        ({**LOST, "rows_lost": {}}, 0, {"rows": 0, "exact": False}),
        ({**LOST, "replaced": False, "rows_lost": {"a": 1}}, 0, {"rows": 0, "exact": False}),
    ],
)
def test_lost_rows(recovery: dict[str, Any], before: int | str, lost: dict[str, Any]) -> None:
    data = {"rows_lost": int(str(before).split()[0]), "lost_again": isinstance(before, str)}
    judged = database_verdict.of_run(seen(recovery=recovery, record={"data": data}))
    assert judged["lost"] == lost
