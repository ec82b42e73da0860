# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Valid end times for a maintenance window, and the time at which a window ends."""

from __future__ import annotations

import json

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import timestamps
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import maintenance as host_maintenance
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident.maintenance import MaintenanceError

NOW = timestamps.epoch("2026-03-02T01:02:03.000Z")


def begin(folder, until, **parameters):
    return host_maintenance.keep(state_dir=str(folder), now=NOW, begin=True, until=until, **parameters)


def current(folder, *, now=NOW, **parameters):
    return host_maintenance.current(state_dir=str(folder), now=now, **parameters)


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("+2h", "2026-03-02T03:02:03.000Z"),
        ("+90m", "2026-03-02T02:32:03.000Z"),
        ("+1d12h", "2026-03-03T13:02:03.000Z"),
        ("+45s", "2026-03-02T01:02:48.000Z"),
        ("2026-03-02T04:00:00Z", "2026-03-02T04:00:00.000Z"),
        ("2026-03-02T04:00:00.500Z", "2026-03-02T04:00:00.500Z"),
        ("2026-03-02T13:00+09:00", "2026-03-02T04:00:00.000Z"),
        ("2026-03-02 04:00:00+00:00", "2026-03-02T04:00:00.000Z"),
    ],
)
def test_valid_end_times(tmp_path, until, expected):
    assert begin(tmp_path, until)["changed"]
    assert current(tmp_path)[0]["until"] == expected


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("", "must have an end"),
        ("soon", "maintenance_until is 'soon'"),
        ("+", r"maintenance_until is '\+'"),
        ("+2", r"maintenance_until is '\+2'"),
        ("2h", "such as 2026-03-02T04:00:00Z"),
        # A time without a time zone is ambiguous.
        ("2026-03-02T04:00:00", "with its time zone"),
        ("+0h", "must be in the future"),
        ("2026-03-02T01:00:00Z", "must be in the future"),
        ("9999-12-31T23:59:59-12:00", "maintenance_until is '9999"),
    ],
)
def test_invalid_end_times(tmp_path, until, words):
    with pytest.raises(MaintenanceError, match=words):
        begin(tmp_path, until)
    assert current(tmp_path) == (None, [])


def test_a_variable_must_be_a_time(tmp_path):
    with pytest.raises(MaintenanceError, match="each run would count this time from its own start"):
        current(tmp_path, until="+2h")
    with pytest.raises(MaintenanceError, match="with its time zone"):
        current(tmp_path, until="2026-03-02T04:00:00")
    with pytest.raises(MaintenanceError, match="maintenance_reason is 'x'"):
        current(tmp_path, reason="x")


def test_start_change_and_end(tmp_path):
    state = tmp_path / "state"
    until = "2026-03-02T04:00:00Z"
    planned = begin(state, until, reason="x", check_mode=True)
    assert planned["changed"] and "04:00" in planned["diff"]["after"] and not state.exists()
    assert planned["maintenance"]["until"] == "2026-03-02T04:00:00.000Z"
    assert begin(state, until, reason="x")["changed"]
    assert not begin(state, until, reason="x")["changed"]
    changed = begin(state, until, reason="y")
    assert changed["changed"] and '"x"' in changed["diff"]["before"]
    assert current(state)[0]["reason"] == "y"

    def end(**parameters):
        return host_maintenance.keep(state_dir=str(state), now=NOW, begin=False, **parameters)

    assert end(check_mode=True)["changed"] and current(state)[0]
    assert end()["changed"] and current(state) == (None, [])
    assert not end()["changed"]
    assert list(state.iterdir()) == []


def test_window_has_no_effect_after_its_end(tmp_path):
    begin(tmp_path, "+2h")
    assert current(tmp_path, now=NOW + 7199)[0]
    assert current(tmp_path, now=NOW + 7200) == (None, [])


def test_a_manually_written_file(tmp_path):
    (tmp_path / "maintenance.json").write_text('{"until": "2026-03-02T13:00+09:00"}')
    assert current(tmp_path)[0] == {
        "until": "2026-03-02T04:00:00.000Z",
        "reason": "",
        "source": str(tmp_path / "maintenance.json"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"reason": "no end"}',
        '{"until": "+2h"}',
        '{"until": 5}',
        '{"until": "2026-03-02"}',
        "\xff",
    ],
)
def test_an_invalid_file_is_ignored_and_reported(tmp_path, text):
    (tmp_path / "maintenance.json").write_bytes(text.encode("latin-1"))
    noted, warnings = current(tmp_path)
    assert noted is None and "is ignored" in warnings[0] and "\n" not in warnings[0]
    assert begin(tmp_path, "+2h")["changed"]
    assert current(tmp_path)[0]


def test_a_truncated_file_is_not_fatal(tmp_path):
    begin(tmp_path, "+2h", reason="Release")
    path = tmp_path / "maintenance.json"
    whole = path.read_bytes()
    assert json.loads(whole)["reason"] == "Release"
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        assert current(tmp_path)[1]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MaintenanceError, match=r"Cannot write .*/maintenance\.json: "):
        begin(tmp_path / "file", "+2h")
