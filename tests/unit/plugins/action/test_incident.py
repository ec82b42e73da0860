# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""If the health probe has already opened the incident, the incident module returns it without contacting the host."""

from __future__ import annotations

import sys
import types

import pytest
from ansible.playbook.play_context import PlayContext

from ansible_collections.itsm_nexus.runbook.plugins.action import incident
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import on_host

OPENED = {"changed": True, "id": "INC-1", "run": "R-1"}


def run(monkeypatch, **arguments):
    monkeypatch.setattr(on_host.OnHost, "run", lambda *_: {"asked": True})
    action = incident.ActionModule.__new__(incident.ActionModule)
    action._task = types.SimpleNamespace(args=arguments, delegate_to=None)
    return action.run(None, {})


def test_opened_incident_is_the_result(monkeypatch):
    assert run(monkeypatch, state="open", opened=OPENED) == {**OPENED, "invocation": {}}


def test_a_refusal_is_the_result(monkeypatch):
    refused = {"failed": True, "msg": "another run is at work here", "locked_by": {"run": "R-2"}}
    assert run(monkeypatch, state="open", opened=refused) == {**refused, "invocation": {}}


@pytest.mark.parametrize(
    "arguments", [{"state": "open"}, {"state": "open", "opened": {}}, {"state": "attempt", "opened": OPENED}, {}]
)
def test_without_a_probe_result_the_module_is_called(monkeypatch, arguments):
    assert run(monkeypatch, **arguments) == {"asked": True}


def test_on_the_controller_the_module_never_uses_the_connection_of_the_host(monkeypatch):
    """A connection setting that is given with -e also applies to localhost.

    A delegated task would therefore use the host's connection.
    """
    monkeypatch.setattr(on_host.OnHost, "run", lambda _self, _tmp, task_vars: task_vars)
    action = incident.ActionModule.__new__(incident.ActionModule)
    action._task = types.SimpleNamespace(args={"state": "closed"}, delegate_to="localhost")
    action._connection, action._play_context = types.SimpleNamespace(transport="ssh", become="sudo"), PlayContext()
    of_host = {"ansible_connection": "ssh", "ansible_python_interpreter": "/opt/of-the-host/python"}
    used = action.run(None, {"ansible_delegated_vars": {"localhost": of_host}, **of_host})
    assert (action._connection.transport, action._connection.become) == ("local", None)
    assert used["ansible_delegated_vars"]["localhost"]["ansible_python_interpreter"] == sys.executable
    assert used["ansible_python_interpreter"] == of_host["ansible_python_interpreter"]
