# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New lines of a timeline are sent to the host only once. A timeline from a host is not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import run_timeline
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import handover, recorder

RUN = "20260302T010203Z-5c0ffe"
INCIDENT = "itsm_nexus.runbook.incident"


def task(host: str = "app.one", **more: Any) -> Dict[str, Any]:
    return {"kind": "task", "host": host, "task": "Open", "role": None, "action": INCIDENT, "status": "changed", **more}


OPENING = task(data={"id": "INC-1", "run": "run-1"})


@pytest.fixture(autouse=True)
def no_other_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the timelines that earlier tests have left open."""
    monkeypatch.setattr(recorder, "_current", [])


@pytest.fixture
def timeline(tmp_path: Path) -> Iterator[recorder.Recorder]:
    made = recorder.Recorder(RUN, folder=str(tmp_path), warn=pytest.fail)
    made.note(0, {"kind": "run_start", "playbook": "outage_recover.yml"})
    yield made
    made.close()
    assert recorder.current_path() is None


def write(timeline: recorder.Recorder, *entries: Dict[str, Any]) -> None:
    for entry in entries:
        timeline.note(0, entry)
    timeline.write()


def part() -> List[Dict[str, Any]]:
    found: Optional[handover.Part] = handover.part("app.one")
    if found is None:
        return []
    name, _separator, text = found.packed.partition(":")
    assert name == RUN
    return [json.loads(line) for line in run_timeline.unpack(text).splitlines()]


def test_a_host_gets_its_own_lines_and_those_of_the_run(timeline: recorder.Recorder) -> None:
    assert part() == []
    write(
        timeline,
        OPENING,
        task("app.two"),
        {"kind": "summary", "data": {"healthy": ["app.two"]}},
        {"kind": "play_start"},
    )
    assert [(each["kind"], each.get("host")) for each in part()] == [
        ("run_start", None),
        ("task", "app.one"),
        ("play_start", None),
    ]


def test_lines_are_handed_over_once(timeline: recorder.Recorder) -> None:
    write(timeline, OPENING)
    first = handover.part("app.one")
    assert first is not None and first.lines == 2
    # The call failed, so the same lines are sent again.
    write(timeline, task(status="failed"))
    assert len(part()) == 3
    write(timeline, task(task="Saved", timeline_saved=2))
    assert [each["task"] for each in part()] == ["Open", "Saved"]


def test_a_part_has_a_limited_size(timeline: recorder.Recorder) -> None:
    write(timeline, OPENING, *(task(msg="x" * 600) for _ in range(1000)))
    assert 300 < len(part()) < 500


def kept(folder: Path, *events: Dict[str, Any], name: str = RUN) -> List[Dict[str, Any]]:
    lines = b"".join(json.dumps({"v": 1, "at": "t", "run": RUN, **event}).encode() + b"\n" for event in events)
    handover.keep(str(folder), "app.one", [{"name": name, "data": run_timeline.pack(name, lines)}])
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text("utf-8").splitlines()]


def test_a_timeline_from_a_host_is_written_once_per_host(tmp_path: Path) -> None:
    assert kept(tmp_path, OPENING, OPENING) == [{"v": 1, "run": RUN, "at": "t", **OPENING}]
    assert handover.known(str(tmp_path), "app.one") == [RUN]
    assert RUN not in handover.known(str(tmp_path), "app.two")
    assert handover.known(str(tmp_path / "none"), "app.one") == []


def test_a_hostile_timeline_adds_nothing_else(tmp_path: Path) -> None:
    hostile = [
        task("app.two"),
        task(run="20260302T010204Z-5c0ffe"),
        {"kind": "summary", "data": {"healthy": ["app.one"]}},
        {"kind": "stats", "hosts": {}},
        {"kind": "task", "task": "without a host"},
        {"kind": "outcome", "host": "app.one", "data": "text"},
        task(task="\x1b]0;title\x07Open", secret="s", data={"id": "INC-1", "secret": "s"}, status={"a": 1}),
    ]
    (only,) = kept(tmp_path, *hostile)
    assert only["data"] == {"id": "INC-1"} and "secret" not in only and "\x1b" not in only["task"]
    assert only["status"] is None


@pytest.mark.parametrize(
    "timelines", [None, "text", [None], [{"data": 1}], [{"data": f"{RUN}:no base64"}], [{"data": "../x:"}]]
)
def test_data_that_is_no_timeline_is_left_out(tmp_path: Path, timelines: Any) -> None:
    handover.keep(str(tmp_path), "app.one", timelines)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_too_long_does_not_hold_up_the_others(timeline: recorder.Recorder) -> None:
    write(timeline, OPENING, task(msg="x" * run_timeline.LARGEST), task(status="failed"))
    assert [each.get("status") for each in part()] == [None, "changed", "failed"]
    made = handover.part("app.one")
    assert made is not None and made.lines == 4


def test_a_hostile_host_cannot_fill_the_disk(tmp_path: Path) -> None:
    line = json.dumps({"v": 1, "at": "2026-03-02T01:02:03.000Z", "run": "", **OPENING})
    names = [f"20260302T0102{number:02}Z-5c0ffe" for number in range(60)]
    timelines = [
        {"name": name, "data": run_timeline.pack(name, line.replace('"run": ""', f'"run": "{name}"').encode() + b"\n")}
        for name in names
    ]
    deep = run_timeline.pack(names[0], b"[" * 200_000 + b"\n")
    handover.keep(str(tmp_path), "app.one", [{"name": names[0], "data": deep}, *timelines])
    assert len(list(tmp_path.iterdir())) == run_timeline.MOST_OF_INCIDENT - 1
    large = [{"name": name, "data": run_timeline.pack(name, b"x" * 1_000_000)} for name in names[:5]]
    handover.keep(str(tmp_path / "large"), "app.one", [*large, timelines[0]])
    assert not (tmp_path / "large").exists()
