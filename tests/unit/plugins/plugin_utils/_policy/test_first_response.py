# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The conditions under which the first response may start the service, or the first rung only has to be verified."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import first_response

OPENED = {"run": "run-1", "id": "INC-1", "continued": False, "maintenance": None, "crash_loop": {"looping": False}}
DETECTION = {
    "severity": "emergency",
    "process": {"state": "gone"},
    "opened": OPENED,
    "hold": None,
    "doubt": None,
    "data_in_doubt": False,
    "preflight": {"problems": []},
    "supervisor": {"restarted": False},
}
SEEN = {
    "detection": DETECTION,
    "wanted": True,
    "acting": True,
    "rungs": ["restart", "standard_recovery"],
    "halted_before": "",
    "check_mode": False,
    "linear": False,
}
DOUBTS: dict[str, dict[str, Any]] = {
    "switched off": {"wanted": False},
    "only reported": {"acting": False},
    "another first rung": {"rungs": ["standard_recovery"]},
    "no rung": {"rungs": []},
    "an earlier step ended the ladder": {"halted_before": "the login failed"},
    "check mode": {"check_mode": True},
    "hosts wait for each other": {"linear": True},
    "hangs": {"detection": {**DETECTION, "severity": "critical", "process": {"state": "running"}}},
    "process unknown": {"detection": {**DETECTION, "process": {"state": "unknown"}}},
    "unreachable": {"detection": {**DETECTION, "severity": "unreachable", "opened": None}},
    "opened later": {"detection": {**DETECTION, "opened": None}},
    "another run": {"detection": {**DETECTION, "opened": {"failed": True, "run": ""}}},
    "continued": {"detection": {**DETECTION, "opened": {**OPENED, "continued": True}}},
    "maintenance": {"detection": {**DETECTION, "opened": {**OPENED, "maintenance": {"until": "x"}}}},
    "crash loop": {"detection": {**DETECTION, "opened": {**OPENED, "crash_loop": {"looping": True}}}},
    "held": {"detection": {**DETECTION, "hold": {"incident": "INC-0"}}},
    "doubt about the database": {"detection": {**DETECTION, "doubt": "its header is damaged"}},
    "data in doubt": {"detection": {**DETECTION, "data_in_doubt": True}},
    "invalid settings": {"detection": {**DETECTION, "preflight": {"problems": [{"variable": "nexus_user"}]}}},
    "restarted by systemd": {"detection": {**DETECTION, "supervisor": {"restarted": True}}},
}


def test_a_crash_without_doubt_gets_a_first_response() -> None:
    assert first_response.allowed(SEEN)


@pytest.mark.parametrize("doubt", DOUBTS)
def test_any_doubt_prevents_a_first_response(doubt: str) -> None:
    assert not first_response.allowed({**SEEN, **DOUBTS[doubt]})


@pytest.mark.parametrize(
    ("began", "untouched", "expected"),
    [("2026-03-02T01:02:03.450Z", True, True), ("2026-03-02T01:02:03.450Z", False, False), (None, True, False)],
)
def test_a_started_service_is_not_started_again(began: str | None, untouched: bool, expected: bool) -> None:
    seen = {"triage": {"started_by_run": began}, "untouched": untouched}
    assert first_response.already_started(seen) is expected
    assert not first_response.already_started({"triage": {}, "untouched": True})
    # The run could not record that it started the service.
    unrecorded = {"started_by_run": None, "response": {"started": True}}
    assert first_response.already_started({"triage": unrecorded, "untouched": True})
