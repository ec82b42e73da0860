# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A foreign process uses the port: the run reports the owner, and stops the process only if the policy allows it."""

from __future__ import annotations

from drills import Drill


def test_foreign_process_is_named_and_not_stopped(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="port_conflict")
    for word in ("6443", "nobody", "(python3"):
        assert word in told["cause_summary"]
    # The full command line is too long for the screen, so it is only in the evidence.
    assert "http.server" in str(told["findings"][0]["evidence"])
    screen = drill.screen("forbidden")
    assert "http.server" not in screen[screen.index("PLAY RECAP") :]
    assert "no policy lists it" in str(told["remedies"][0]["reason"])


def test_foreign_process_is_stopped_if_policy_names_it(drill: Drill) -> None:
    drill.assert_remedied(cause="port_conflict")
    assert drill.host.run("systemctl is-active stranger").stdout.strip() == "inactive"
