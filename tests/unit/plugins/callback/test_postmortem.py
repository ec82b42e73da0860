# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The callback that records a run: it writes Ansible's events to a file, and its own errors never stop the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.callback import postmortem as callback
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import recorder

HOST = SimpleNamespace(get_name=lambda: "node1")
STATS = SimpleNamespace(processed={"node1": 1}, summarize=lambda _host: {"ok": 2})
AT = "2026-03-02T01:00:00.000Z"


class Display:
    """Records the lines that Ansible would show."""

    verbosity = 0

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.warnings: list[str] = []

    def display(self, line: str, **_options: Any) -> None:
        self.shown.append(line)

    def banner(self, line: str) -> None:
        self.shown.append(line)

    def warning(self, line: str) -> None:
        self.warnings.append(line)


def result(module: str, fields: dict[str, Any]) -> Any:
    task = SimpleNamespace(
        action=f"itsm_nexus.runbook.{module}",
        get_ds=lambda: {"name": f"Call {module}"},
        no_log=False,
        _uuid=module,
        _parent=None,
        _role=None,
    )
    return SimpleNamespace(host=HOST, task=task, result=fields)


@pytest.fixture
def plugin(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = callback.CallbackModule(display=Display())
    options = {"dir": str(tmp_path), "language": "en", "timezone": "UTC", "progress": 0}
    monkeypatch.setattr(made, "get_option", options.__getitem__)
    return made


def begin(plugin: Any) -> None:
    """Start a run that opens an incident."""
    plugin.v2_playbook_on_start(SimpleNamespace(_file_name="/x/recover.yml"))
    plugin.v2_playbook_on_play_start(SimpleNamespace(get_ds=lambda: {"name": "Recover {{ it }}"}))
    opened = result("incident", {"id": "INC-1", "opened_at": AT})
    plugin.v2_runner_on_start(HOST, opened.task)
    plugin.v2_runner_on_ok(opened)


def test_events_are_written_to_a_file_and_to_documents(plugin: Any, tmp_path: Any) -> None:
    begin(plugin)
    failed = result("npm_ci", {"msg": "npm said no"})
    plugin.v2_runner_on_start(HOST, failed.task)
    plugin.v2_runner_retry(result("npm_ci", {"attempts": 1}))
    plugin.v2_runner_on_failed(failed, ignore_errors=True)
    plugin.v2_runner_on_unreachable(result("health_probe", {}))
    plugin.v2_playbook_on_stats(STATS)
    (file,) = tmp_path.glob("*.jsonl")
    events = timeline_events.decode(file.read_bytes())
    assert [(event["kind"], event.get("status")) for event in events] == [
        ("run_start", None),
        ("play_start", None),
        ("started", None),
        ("task", "ok"),
        ("started", None),
        ("retry", None),
        ("task", "ignored"),
        ("unreachable", None),
        ("stats", None),
    ]
    assert events[0]["playbook"] == "recover.yml"
    assert (tmp_path / "INC-1.md").exists()
    assert "OUTAGE SUMMARY" in plugin._display.shown
    assert plugin._display.warnings == []


def test_the_summary_is_shown_if_the_last_event_cannot_be_written(
    plugin: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(plugin)
    plugin._catch_up()

    def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(recorder.TimelineFile, "append", full)
    plugin.v2_playbook_on_stats(STATS)
    assert "OUTAGE SUMMARY" in plugin._display.shown
    assert (tmp_path / "INC-1.md").exists()
    assert ["No space left" in warning for warning in plugin._display.warnings] == [True]
    assert plugin._recorder is None


def test_an_error_is_a_warning_that_does_not_quote_a_result(plugin: Any) -> None:
    begin(plugin)
    plugin.v2_runner_on_failed(SimpleNamespace(host=HOST, task="secret"))
    (warning,) = plugin._display.warnings
    assert warning.startswith("The postmortem is incomplete: v2_runner_on_failed failed in ")
    assert "secret" not in warning


@pytest.mark.parametrize("number", [7, None])
def test_the_timeline_names_the_job_of_awx(
    plugin: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    extra_vars = {"outage_recover_awx_url": "https://awx.example.com", **({"awx_job_id": number} if number else {})}
    monkeypatch.setattr(callback.ansible_core.load_extra_vars, "extra_vars", extra_vars, raising=False)
    begin(plugin)
    plugin.v2_playbook_on_stats(STATS)
    (file,) = tmp_path.glob("*.jsonl")
    url = "https://awx.example.com/#/jobs/playbook/7/output"
    assert timeline_events.decode(file.read_bytes())[0].get("job") == (url if number else None)
    assert (url in (tmp_path / "INC-1.md").read_text("utf-8")) == bool(number)
