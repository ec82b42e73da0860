# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module_prefetch callback forwards certain events, can be disabled, and stops at its first error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.callback import module_prefetch as callback
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._prefetch import module_prefetch

PLAY = SimpleNamespace(get_ds=lambda: {"name": "Recover"}, get_loader=lambda: "loader")
PROBE, START = "itsm_nexus.runbook.health_probe", "itsm_nexus.runbook.node_process"


class Packer:
    """Records the calls to its methods. The method whose name is in `fails` raises an error."""

    calls: list[tuple[Any, ...]]
    fails: str | None = None

    def __init__(self) -> None:
        Packer.calls = []

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any) -> None:
            self.calls.append((name, *arguments))
            if name == self.fails:
                raise AttributeError("gone")

        return called


class Display:
    """Records the lines that are shown with -v."""

    verbosity = 0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def v(self, line: str) -> None:
        self.lines.append(line)


def task(action: str) -> Any:
    return SimpleNamespace(action=action, resolved_action=action)


def result(action: str, **fields: Any) -> Any:
    return SimpleNamespace(host=SimpleNamespace(get_name=lambda: "node1"), task=task(action), result=fields)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module_prefetch, "Packer", Packer)
    monkeypatch.setattr(Packer, "fails", None)
    made = callback.CallbackModule(display=Display())
    monkeypatch.setattr(made, "get_option", {"enabled": True}.__getitem__)
    return made


def test_the_packer_gets_plays_own_modules_probes_and_the_end(plugin: Any) -> None:
    plugin.v2_playbook_on_start(None)
    plugin.v2_playbook_on_play_start(PLAY)
    plugin.v2_runner_on_start(None, task("ansible.builtin.debug"))
    plugin.v2_runner_on_ok(result("ansible.builtin.debug"))
    plugin.v2_runner_on_start(None, task(PROBE))
    plugin.v2_runner_on_ok(result(PROBE, healthy=False))
    plugin.v2_runner_on_start(None, task(START))
    plugin.v2_runner_on_ok(result(START))
    plugin.v2_playbook_on_stats(None)
    assert Packer.calls == [
        ("play", {"name": "Recover"}, "loader"),
        ("begun", "health_probe"),
        ("ended", {"healthy": False}),
        ("begun", "node_process"),
        ("run_ended",),
    ]
    assert (plugin.disabled, plugin._display.lines) == (False, [])


def test_a_second_playbook_of_the_command_has_the_same_packer(plugin: Any) -> None:
    plugin.v2_playbook_on_start(None)
    packer = plugin._packer
    plugin.v2_playbook_on_start(None)
    assert plugin._packer is packer


def test_the_option_switches_it_off(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "get_option", {"enabled": False}.__getitem__)
    plugin.v2_playbook_on_start(None)
    assert (plugin.disabled, plugin._packer, plugin._display.lines) == (True, None, [])


@pytest.mark.parametrize("name", ["play", "begun", "ended", "run_ended"])
def test_an_error_is_shown_with_v_and_ends_only_the_plugin(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Packer, "fails", name)
    plugin.v2_playbook_on_start(None)
    events = {
        "play": lambda: plugin.v2_playbook_on_play_start(PLAY),
        "begun": lambda: plugin.v2_runner_on_start(None, task(PROBE)),
        "ended": lambda: plugin.v2_runner_on_ok(result(PROBE)),
        "run_ended": lambda: plugin.v2_playbook_on_stats(None),
    }
    events[name]()
    assert plugin.disabled is True
    assert ["gone" in line for line in plugin._display.lines] == [True]
