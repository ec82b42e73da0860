# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._service import probe_plan

HealthError = probe_plan.HealthError

HealthError = probe_plan.HealthError
Plan, Target = probe_plan.Plan, probe_plan.Target


@pytest.mark.parametrize(
    ("url", "validate_certs", "allowed"),
    [
        ("https://localhost/login", False, True),
        ("http://127.0.0.1:8080/login", False, True),
        ("https://[::1]:6443/login", False, True),
        ("https://itsm.example.com/login", True, True),
        ("https://itsm.example.com/login", False, False),
        ("http://itsm.example.com/login", True, False),
        ("https://192.0.2.7/login", False, False),
        ("https://localhost.example.com/login", False, False),
    ],
)
def test_password_is_sent_only_over_a_safe_connection(url, validate_certs, allowed):
    target = Target(name="login", url=url, validate_certs=validate_certs)
    values = probe_plan.Login(target=target, username="admin", password="hunter2")
    endpoints = [Target(name="one", url="http://localhost/")]
    with contextlib.nullcontext() if allowed else pytest.raises(HealthError, match=r"^login: ") as failure:
        probe_plan.check(endpoints, Plan(mode="hold"), login=values)
    assert allowed or "hunter2" not in str(failure.value)
