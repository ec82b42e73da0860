# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages that explain why a step failed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._messages import catalogue
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import failures, outcome, unreachable

EN = catalogue.of("en")
GONE = message("reason.probe.gone").to_dict()
# The result of the verification after an unsuccessful start.
FAILED = {"problems": ["https: silence", "the process is gone"], "messages": {"problems": [GONE]}}

# A message with more levels of nesting than Python's recursion limit allows.
DEEP: dict[str, Any] = {}
for _level in range(sys.getrecursionlimit()):
    DEEP = {"id": "reason.probe.tls", "values": {"why": DEEP}}
MISSING = "TLS error: unknown"


def english(told: Any) -> str:
    return EN.message(told)


@pytest.mark.parametrize(
    ("result", "more", "expected"),
    [
        ({"msg": "Cannot read /x: it is not JSON."}, {}, "Cannot read /x: it is not JSON"),
        ({"msg": "no", "messages": {"msg": GONE}}, {}, "the process is gone"),
        ({"msg": "secret"}, {"hidden": True}, "its output is hidden"),
        ({"msg": "'a' is undefined"}, {"undefined": "a"}, "the variable a is not defined"),
        ({"msg": "no", "messages": {"msg": GONE}}, {"task": "Stop it"}, "Stop it: the process is gone"),
        ({"msg": "https: silence; the process is gone"}, {"results": [{}, FAILED]}, "the process is gone"),
        ({"msg": "https: silence; the process is gone"}, {"results": ["", None, FAILED]}, "the process is gone"),
        # A task failed after a rung had been verified.
        ({"msg": "no room"}, {"results": [FAILED]}, "no room"),
        ({"msg": ""}, {"results": [{"problems": []}]}, ""),
        # Results that a hostile host returns.
        ({"msg": "no", "messages": "reason.probe.gone"}, {}, "no"),
        ({"msg": "no", "messages": {"msg": [{"id": "reason.probe.tls", "values": []}]}}, {}, "no"),
        ({"msg": "no", "messages": {"msg": {"id": "reason.of_a_later_version"}}}, {}, "no"),
        *(
            ({"msg": "no", "messages": {"msg": {"id": "reason.probe.tls", "values": {"why": why}}}}, {}, "no")
            for why in ({}, [[{}]], {"id": None}, {"id": "reason.of_a_later_version"}, {"id": "reason.probe.tls"}, DEEP)
        ),
        ({"msg": "no", "messages": {"msg": {"id": "reason.probe.tls", "values": {"why": None}}}}, {}, MISSING),
    ],
)
def test_the_reason_of_a_failed_task(result: dict[str, Any], more: dict[str, Any], expected: str) -> None:
    assert english(failures.messages(result, **more)) == expected


def test_a_second_failure_is_added_to_the_first() -> None:
    first = [message("reason.failure.hidden").to_dict()]
    assert english(failures.later(first, [GONE], "then")) == "its output is hidden; then the process is gone"
    # The result of a failed task may contain no messages.
    assert english(failures.later(None, None, "then")) == "then unknown"
    assert (
        english(failures.later([], [GONE], "restored"))
        == "restoring the previous state also failed: the process is gone"
    )


def seen(**changes: Any) -> dict[str, Any]:
    bad = {"healthy": False, "summary": "the process is gone", "messages": {"summary": [GONE]}}
    return {
        "answer": bad,
        "watch": {"skipped": True},
        "database": {},
        "login_failed": False,
        "serves": False,
        **changes,
    }


GOOD = {"healthy": True, "summary": "answers"}
LOGIN = {"healthy": False, "summary": "login: answered 401", "messages": {}}
ROWS = {"problems": [{"code": "row_loss", "message": "users: 5 -> 3"}]}
HINT = "the service answers, so check nexus_login_username and nexus_login_password"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["the process is gone"]),
        ({"answer": GOOD, "watch": GOOD}, []),
        ({"answer": GOOD, "watch": seen()["answer"]}, ["failed again: the process is gone"]),
        ({"answer": GOOD, "watch": GOOD, "database": ROWS}, ["users: 5 -> 3"]),
        ({"answer": LOGIN, "watch": seen()["answer"], "login_failed": True}, ["failed again: the process is gone"]),
        (
            {"answer": LOGIN, "watch": GOOD, "database": ROWS, "login_failed": True, "serves": True},
            [f"login: answered 401; {HINT}", "users: 5 -> 3"],
        ),
    ],
)
def test_the_problems_of_a_verification(changes: dict[str, Any], expected: list[str]) -> None:
    told = failures.of_verification(seen(**changes))
    assert told["problems"] == expected
    assert [english(each) for each in told["messages"]["problems"]] == expected


def test_a_problem_of_the_database_keeps_its_message() -> None:
    fewer = message("reason.sqlite.table_fewer", table="users", now=3, fewer=2, before=5)
    told = message("reason.sqlite.row_loss", tables=[fewer]).to_dict()
    rows = {"problems": [{"message": "users has fewer rows", "messages": {"message": told}}]}
    found = failures.of_verification(seen(answer=GOOD, watch=GOOD, database=rows))
    said = {"problems": ["users has fewer rows"], "messages": {"problems": [told]}, "data_loss_suspected": False}
    assert found == said


@pytest.mark.parametrize(
    ("codes", "accepted", "problems", "suspected"),
    [
        (["corrupt"], ["corrupt"], [], False),
        (["corrupt"], [], ["It is corrupt"], True),
        # Rows that are missing now were lost after the release.
        (["row_loss"], ["row_loss"], ["It is row_loss"], True),
        (["corrupt", "row_loss"], ["corrupt"], ["It is row_loss"], True),
        ([], [], [], True),
    ],
)
def test_accepted_damage_does_not_fail_a_verification(
    codes: list[str], accepted: list[str], problems: list[str], suspected: bool
) -> None:
    database = {"problems": [{"code": code, "message": f"It is {code}"} for code in codes], "data_loss_suspected": True}
    found = failures.of_verification(seen(answer=GOOD, watch=GOOD, database=database, accepted=accepted))
    assert (found["problems"], found["data_loss_suspected"]) == (problems, suspected)


def test_an_unreachable_host_names_the_module_and_the_reason() -> None:
    told = unreachable.failure("web1", "npm_ci", message("reason.unreached", why="no route"))
    assert told["msg"] == "Cannot run npm_ci on web1: the host cannot be reached: no route"
    assert english(told["messages"]["msg"]) == told["msg"]


def test_a_missing_postmortem_is_added_to_the_error() -> None:
    before = {"error": "It is gone", "messages": {"error": [GONE], "next_step": [GONE]}}
    after = outcome.without_documents(before, "No space left on device", [])
    assert after["error"] == "It is gone; Postmortem not written: No space left on device"
    assert english(after["messages"]["error"]) == "the process is gone; Postmortem not written: No space left on device"
    assert after["messages"]["next_step"] == [GONE]
    # The original error message about a setting is not shown, because it may quote a secret.
    hidden = outcome.without_documents({"error": None}, "secret", ["postmortem_title"])
    assert hidden["error"] == "Postmortem not written: invalid settings: postmortem_title"
