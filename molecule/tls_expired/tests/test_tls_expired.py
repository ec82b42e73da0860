# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate has expired: a restart does not help, but a new certificate ends the outage."""

from __future__ import annotations

from drills import Drill


def test_certificate_is_named_and_nothing_is_restarted(drill: Drill) -> None:
    told = drill.assert_left_alone(cause="tls_expired")
    assert "server.crt" in str(told["findings"][0]["evidence"])


def test_certificate_is_renewed_if_policy_allows_it(drill: Drill) -> None:
    drill.assert_remedied(severity="critical", cause="tls_expired")
    drill.host.check_output(f"openssl x509 -checkend 86400 -in {drill.service.app}/backend/ssl/server.crt")
