# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timelines on the host: their files, the limits on their size and number, and the search by incident."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import run_timeline

NAME = "20260302T010203Z-5c0ffe"
LINE = b'{"data":{"id":"INC-1"}}\n'


def path_of(state: Path, name: str = NAME) -> Path:
    return state / "timelines" / f"{name}.jsonl"


def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    for _ in range(2):
        run_timeline.append(str(tmp_path), run_timeline.pack(NAME, LINE))
    assert path_of(tmp_path).read_bytes() == 2 * LINE
    assert stat.S_IMODE(path_of(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(path_of(tmp_path).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "packed",
    [
        run_timeline.pack("../x", LINE),
        run_timeline.pack("", LINE),
        NAME,
        f"{NAME}:no base64",
        f"{NAME}:bm8gemxpYg==",
        run_timeline.pack(NAME, b"x" * (run_timeline.LARGEST + 1)),
    ],
)
def test_data_that_is_no_timeline_is_refused(tmp_path: Path, packed: str) -> None:
    with pytest.raises(run_timeline.TimelineError):
        run_timeline.append(str(tmp_path), packed)
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_timeline_is_limited(tmp_path: Path) -> None:
    run_timeline.append(str(tmp_path), run_timeline.pack(NAME, b"x" * run_timeline.LARGEST))
    run_timeline.append(str(tmp_path), run_timeline.pack(NAME, LINE))
    assert path_of(tmp_path).stat().st_size == run_timeline.LARGEST


def test_the_oldest_timelines_are_removed(tmp_path: Path) -> None:
    for number in range(60):
        run_timeline.append(str(tmp_path), run_timeline.pack(f"20260302T0102{number:02}Z-5c0ffe", LINE))
    names = sorted(path.name for path in (tmp_path / "timelines").iterdir())
    assert len(names) == 50 and names[0].startswith("20260302T010210Z")


def test_the_timelines_of_the_open_incident_are_kept(tmp_path: Path) -> None:
    names = [f"20260302T0102{number:02}Z-5c0ffe" for number in range(60)]
    for number, name in enumerate(names):
        line = LINE if number < 4 else LINE.replace(b"INC-1", b"INC-2")
        run_timeline.append(str(tmp_path), run_timeline.pack(name, line), open_incident=lambda: "INC-1")
    kept = sorted(path.stem for path in (tmp_path / "timelines").iterdir())
    assert kept == [*names[:4], *names[10:]]
    # The timeline of an incident's first run is returned, even if there are too many other timelines.
    found = run_timeline.of_incident(str(tmp_path), incident="INC-2", known=[])
    assert [each["name"] for each in found] == [names[10], *names[:40:-1]]


def test_a_full_disk_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, spare = tmp_path / "state", tmp_path / "spare"
    run_timeline.append(str(state), run_timeline.pack(NAME, LINE))
    with monkeypatch.context() as full:
        write = os.write
        full.setattr(run_timeline.os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(OSError, match="not written completely"):
            run_timeline.append(str(state), run_timeline.pack(NAME, LINE))
    # The next line is not appended to the line that was cut off.
    assert path_of(state).read_bytes() == LINE + LINE[:5]
    run_timeline.append(str(state), run_timeline.pack(NAME, LINE))
    assert path_of(state).read_bytes().split(b"\n")[1:] == [LINE[:5], LINE[:-1], b""]
    path_of(state).unlink()
    path_of(state).mkdir()
    run_timeline.append(str(state), run_timeline.pack(NAME, LINE), spare=str(spare))
    assert path_of(spare).read_bytes() == LINE
    found = run_timeline.of_incident(str(state), incident="INC-1", known=[], spare=str(spare))
    assert [run_timeline.unpack(each["data"].partition(":")[2]) for each in found] == [LINE]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        run_timeline.append(str(tmp_path), run_timeline.pack(NAME, LINE))
    assert not (tmp_path / "other").exists()


def test_only_unknown_timelines_of_the_incident_are_returned(tmp_path: Path) -> None:
    known, other = "20260302T010204Z-5c0ffe", "20260302T010205Z-5c0ffe"
    for name, line in ((NAME, LINE), (known, LINE), (other, LINE.replace(b"INC-1", b"INC-12"))):
        run_timeline.append(str(tmp_path), run_timeline.pack(name, line))
    found = run_timeline.of_incident(str(tmp_path), incident="INC-1", known=[known])
    assert [each["name"] for each in found] == [NAME]
    assert run_timeline.unpack(found[0]["data"].partition(":")[2]) == LINE
    assert run_timeline.of_incident(str(tmp_path / "none"), incident="INC-1", known=[]) == []
