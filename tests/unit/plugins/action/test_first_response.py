# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If a first response fails or its result is lost, the recovery continues."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.action import first_response
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._policy import unreachable


def run(monkeypatch: pytest.MonkeyPatch, result: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(on_host.OnHost, "run", lambda *_: result)
    returned: dict[str, Any] = first_response.ActionModule.__new__(first_response.ActionModule).run(None, {})
    return returned


def test_a_result_is_returned_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"changed": True, "findings": [], "response": {"started": True}}
    assert run(monkeypatch, result) == result


@pytest.mark.parametrize(
    "failed",
    [
        {"failed": True, "msg": "Cannot save the evidence", "exception": "Traceback"},
        unreachable.failure("node1", "first_response", message("reason.died", code=137)),
    ],
)
def test_a_failure_has_no_findings_and_does_not_fail_the_task(
    monkeypatch: pytest.MonkeyPatch, failed: dict[str, Any]
) -> None:
    returned = run(monkeypatch, failed)
    assert returned["lost"] == failed["msg"]
    assert not {"failed", "findings", "unreachable_host", "exception"} & returned.keys() and not returned["changed"]
