# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module on a host returns a result, even if the connection is lost or the host does not answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common.message import message
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._action import cleaned, on_host

ROOT = Path(__file__).resolve().parents[5]
RUNTIME = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text("utf-8"))
ON_HOST = RUNTIME["action_groups"]["host"]


class TaskTimeoutError(BaseException):
    """An exception with the same name as ansible-core's exception for a task timeout."""


@pytest.mark.parametrize("module", ON_HOST)
def test_a_module_on_the_host_has_a_result_if_the_host_does_not_answer(module: str) -> None:
    routing = RUNTIME["plugin_routing"]["modules"].get(module, {"action_plugin": f"itsm_nexus.runbook.{module}"})
    name = routing["action_plugin"].rsplit(".", 1)[-1]
    assert "on_host.OnHost" in (ROOT / "plugins" / "action" / f"{name}.py").read_text("utf-8")


def test_a_missing_answer_is_distinguished_from_an_error() -> None:
    lost = on_host.unanswered(AnsibleConnectionFailure("ssh: connect to host:\n timed out"), timeout=0)
    assert lost == message("reason.unreached", why="ssh: connect to host: timed out")
    hung = on_host.unanswered(TaskTimeoutError(), timeout=60)
    assert hung == message("reason.no_answer", seconds="60")
    assert on_host.unanswered(ValueError("timed out"), timeout=60) is None
    asked = on_host.unanswered(AnsibleError("Missing sudo password"), timeout=0)
    assert asked == message("reason.not_worked_on", why="Missing sudo password")
    assert on_host.unanswered(AnsibleError("Missing sudo password in x=CANARY"), timeout=0) is None


CUT = "Failed to connect to the host via ssh: Shared connection to 192.0.2.1 closed."
AWAY = "Failed to connect to the host via ssh: ssh: connect to host 192.0.2.1 port 22: No route to host"
DEAD = {"failed": True, "rc": 137, "module_stdout": "", "module_stderr": "Killed"}


class Line:
    """A fake connection.

    Each module call returns or raises the next item of `answers`. Each reconnection attempt uses the next item of
    `tries`.
    """

    transport = "ssh"

    def __init__(self, answers: list[Any], tries: list[Any]) -> None:
        self.answers, self.tries, self.resets = list(answers), list(tries), 0
        self.calls: list[str] = []

    def close(self) -> None:
        pass

    def reset(self) -> None:
        self.resets += 1

    def asked(self, action: Any, *_: Any) -> dict[str, Any]:
        self.calls.append(action._task.args.get("call", ""))
        return self._next(self.answers)

    def tried(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self._next(self.tries)

    @staticmethod
    def _next(planned: list[Any]) -> Any:
        answer = planned.pop(0) if planned else AnsibleConnectionFailure(AWAY)
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Line]]:
    monkeypatch.setattr(on_host.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setattr(on_host, "_PAUSE", 0.01)
    # Another test in this process may have started a timeline.
    monkeypatch.setattr(on_host.handover, "part", lambda _host: None)

    def ask(
        *answers: Any, tries: Sequence[Any] = (), bound: float = 0.1, transport: str = "ssh", **arguments: Any
    ) -> tuple[dict[str, Any], Line]:
        line = Line(list(answers), list(tries))
        line.transport = transport
        action = object.__new__(on_host.OnHost)
        action._connection = line
        action._task = SimpleNamespace(action="itsm_nexus.runbook.node_process", timeout=0, args={**arguments})
        action._templar = SimpleNamespace(template=lambda value: value)
        monkeypatch.setattr(cleaned.ActionModule, "run", lambda self, *_: line.asked(self))
        monkeypatch.setattr(on_host.OnHost, "_low_level_execute_command", line.tried)
        result = action.run(None, {"inventory_hostname": "web", "outage_recover_reconnect": bound})
        return result, line

    return ask


OK = {"rc": 0}


def test_a_module_whose_connection_was_lost_is_called_again_under_the_same_name(ask: Any) -> None:
    result, line = ask(AnsibleConnectionFailure(CUT), {"changed": True}, tries=[AnsibleConnectionFailure(AWAY), OK])
    assert result["changed"] and "failed" not in result
    assert result["connection_lost"]["times"] == 1 and result["connection_lost"]["seconds"] >= 0
    assert line.calls[0] == line.calls[1] and line.resets == 2
    assert re.fullmatch(r"[0-9a-f]{12}\.[0-9a-f]{16}", line.calls[0])


def test_every_call_has_a_unique_name_within_the_run(ask: Any) -> None:
    (first, _), (second, _) = ((line.calls[0], result) for result, line in (ask({}), ask({})))
    assert first != second and first[:13] == second[:13]


def test_without_a_lost_connection_the_result_is_unchanged(ask: Any) -> None:
    result, line = ask({"changed": False})
    assert result == {"changed": False} and line.resets == 0


def test_a_host_not_reached_within_the_limit_has_no_answer(ask: Any) -> None:
    result, line = ask(AnsibleConnectionFailure(CUT), {"changed": True})
    assert result["unreachable_host"] and "Shared connection" in result["msg"]
    assert line.resets > 1 and len(line.calls) == 1
    # After a failed attempt, no task tries to reconnect until a task has reached the host.
    _, line = ask(AnsibleConnectionFailure(CUT), {"changed": True}, tries=[OK])
    assert line.resets == 0
    assert ask({"changed": True})[0]["changed"]
    assert ask(AnsibleConnectionFailure(CUT), {"changed": True}, tries=[OK])[0]["changed"]


def test_the_message_of_a_lost_connection_has_no_terminal_controls(ask: Any) -> None:
    result, _ = ask(AnsibleConnectionFailure("\x1b]0;owned\x07 \u202e \x9b2J"), bound=0)
    assert result["msg"].endswith("the host cannot be reached:  \\u202e \\x9b2J")


def test_without_a_limit_nothing_is_tried_again(ask: Any) -> None:
    result, line = ask(AnsibleConnectionFailure(CUT), {"changed": True}, tries=[OK], bound=0)
    assert result["unreachable_host"] and line.resets == 0


def test_a_connection_that_is_lost_repeatedly_is_given_up(ask: Any) -> None:
    result, line = ask(*[AnsibleConnectionFailure(CUT)] * 20, tries=[OK] * 20)
    assert result["unreachable_host"] and len(line.calls) == 6


def test_a_host_that_was_never_reached_is_not_waited_for(ask: Any) -> None:
    result, line = ask(AnsibleConnectionFailure(AWAY), {"changed": True}, tries=[OK])
    assert result["unreachable_host"] and line.resets == 0
    # The run holds the lease, so it has reached the host before. An earlier task has already stopped trying to reach
    # the host.
    result, line = ask(AnsibleConnectionFailure(AWAY), {"changed": True}, tries=[OK], run="run-1")
    assert result["unreachable_host"] and line.resets == 0, "the host was already given up"
    ask({})
    assert ask(AnsibleConnectionFailure(AWAY), {"changed": True}, tries=[OK], run="run-1")[0]["changed"]


@pytest.mark.parametrize("why", ["me@host: Permission denied (publickey,password).", "Host key verification failed."])
def test_a_host_that_refuses_the_login_is_not_waited_for(ask: Any, why: str) -> None:
    result, line = ask(AnsibleConnectionFailure(why), {"changed": True}, tries=[OK], run="run-1")
    assert result["unreachable_host"] and line.resets == 0


def test_a_module_that_a_signal_ended_is_called_once_more(ask: Any) -> None:
    result, line = ask(DEAD, {"changed": True}, tries=[OK])
    assert result == {"changed": True} and line.calls[0] == line.calls[1]
    result, line = ask(DEAD, DEAD, {"changed": True}, tries=[OK, OK])
    assert result == DEAD and len(line.calls) == 2


@pytest.mark.parametrize(
    "result", [{"failed": True, "rc": 1}, {**DEAD, "rc": 1}, {**DEAD, "rc": 127}, {**DEAD, "module_stdout": "x"}]
)
def test_a_failed_module_is_not_called_again(ask: Any, result: dict[str, Any]) -> None:
    assert ask(result, {"changed": True}, tries=[OK])[0] == result


def test_this_machine_is_never_lost(ask: Any) -> None:
    result, line = ask(DEAD, {"changed": True}, tries=[OK], transport="local")
    assert result == DEAD and line.calls == [""]


def test_the_task_timeout_ends_the_wait(ask: Any) -> None:
    result, _ = ask(AnsibleConnectionFailure(CUT), tries=[TaskTimeoutError()])
    assert result["unreachable_host"] and "Shared connection" in result["msg"]


def test_other_errors_are_raised(ask: Any) -> None:
    with pytest.raises(ValueError, match="of our own"):
        ask(ValueError("of our own"))
