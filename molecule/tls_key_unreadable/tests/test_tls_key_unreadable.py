# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The private key is not readable: the service silently falls back to plain HTTP, and HTTPS does not answer."""

from __future__ import annotations

from drills import Drill


def test_key_is_named_and_nothing_is_restarted(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="tls_expired")
    assert "server.key" in str(told["findings"][0]["evidence"])


def test_key_is_renewed_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(severity="critical", cause="tls_expired")
    assert drill.host.file(f"{drill.service.app}/backend/ssl/server.key").user == drill.service.user
