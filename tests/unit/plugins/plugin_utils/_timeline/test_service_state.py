# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The login state after a run."""

from __future__ import annotations

import pytest
from timeline_samples import Recording, only


def rung_of(login, healthy=True):
    def add(recording):
        recording.task("node_process", {"state": "restarted"}, "changed", "restart")
        recording.task("health_probe", {"healthy": healthy, "login": login}, role="verification")
        # The stability check runs even if the login failed, but the check itself does not test the login.
        return recording.verified() if healthy else recording

    return add


@pytest.mark.parametrize(
    ("rungs", "told"),
    [
        pytest.param([], (None, None), id="nothing verified"),
        pytest.param([rung_of(None)], ("no_password", None), id="no password"),
        pytest.param([rung_of(None, healthy=False)], ("no_answer", None), id="no answer"),
        pytest.param([rung_of({"ok": True, "status": 200})], ("checked", None), id="checked"),
        pytest.param(
            [rung_of({"ok": True, "checked": False, "status": 429, "error": "rate limited"})],
            ("rate_limited", None),
            id="rate limit",
        ),
        pytest.param(
            [rung_of({"ok": False, "status": 401}, healthy=False)], ("failed", "status 401"), id="failed by status"
        ),
        pytest.param(
            [rung_of({"ok": False, "error": "wrong password"}, healthy=False)],
            ("failed", "wrong password"),
            id="failed",
        ),
        pytest.param(
            [rung_of({"ok": False, "error": "x"}, healthy=False), rung_of({"ok": True})],
            ("checked", None),
            id="at last",
        ),
        pytest.param(
            [rung_of({"ok": True}), rung_of(None, healthy=False)], ("no_answer", None), id="an earlier one is no proof"
        ),
    ],
)
def test_the_login_result_is_from_the_last_verification(rungs, told):
    recording = Recording().down().opened()
    for add in rungs:
        add(recording)
    incident = only(recording.ended())
    assert (incident.login, incident.login_error) == told


def test_after_a_failed_login_a_stable_service_is_not_recovered():
    recording = Recording().down().opened()
    recording.task("node_process", {"state": "restarted"}, "changed", "restart")
    recording.task("health_probe", {"healthy": False, "login": {"ok": False, "status": 401}}, role="verification")
    incident = only(recording.verified().ended())
    assert (incident.outcome, incident.login) == ("login_failed", "failed")
