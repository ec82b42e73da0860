# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A failed login is reported before the stability check, because this check takes longer than the login."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.action import health_probe
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host

WARNING = "node1: the endpoints answered, but the login failed"


@pytest.mark.parametrize(
    ("mode", "login", "warned"),
    [
        ("await", {"ok": False, "error": "answered 401"}, True),
        ("await", {"ok": True, "checked": False}, False),
        ("await", None, False),
        ("hold", {"ok": False}, False),
    ],
)
def test_a_failed_login_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, mode: str, login: dict[str, Any] | None, warned: bool
) -> None:
    known = {"healthy": not warned, "login": login, "warnings": ["The clock was set back"]}
    monkeypatch.setattr(on_host.OnHost, "run", lambda *_: {**known})
    action = health_probe.ActionModule.__new__(health_probe.ActionModule)
    action._task = types.SimpleNamespace(args={"mode": mode})
    told = action.run(None, {"inventory_hostname": "node1"})
    assert told == {**known, "warnings": [*known["warnings"], *([WARNING] if warned else [])]}
