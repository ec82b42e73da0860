# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a run's timeline is written: when the file is created, and which events are lost if a write fails."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._report import document_store
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import events as timeline_events
from ansible_collections.itsm_nexus.runbook.plugins.plugin_utils._timeline import recorder

OPENS = {
    "kind": "task",
    "host": "node1",
    "action": "itsm_nexus.runbook.incident",
    "status": "ok",
    "data": {"id": "INC-1"},
}


def begun(folder, warnings=None):
    return recorder.Recorder("run1", folder=folder, warn=[].append if warnings is None else warnings.append)


def record(timeline, *entries):
    for entry in entries:
        timeline.note(0.0, entry)
    timeline.write()


def kinds(timeline):
    return [event["kind"] for event in timeline.events()]


def test_the_file_is_created_with_the_incident_and_contains_earlier_events(tmp_path):
    timeline = begun(str(tmp_path / "state"))
    record(timeline, {"kind": "run_start"})
    assert list(tmp_path.iterdir()) == []
    record(timeline, OPENS)
    record(timeline, {"kind": "stats"})
    written = timeline_events.decode((tmp_path / "state" / "run1.jsonl").read_bytes())
    assert [event["kind"] for event in written] == kinds(timeline) == ["run_start", "task", "stats"]
    assert {(event["v"], event["at"], event["run"]) for event in written} == {(1, "1970-01-01T00:00:00.000Z", "run1")}
    timeline.close()
    timeline.close()


def test_without_a_folder_nothing_is_written_and_all_events_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    timeline = begun(None)
    record(timeline, {"kind": "run_start"}, OPENS)
    record(timeline, {"kind": "stats"})
    assert kinds(timeline) == ["run_start", "task", "stats"]
    assert list(tmp_path.iterdir()) == []


def test_the_first_and_last_events_of_a_long_run_without_an_incident_are_kept(monkeypatch):
    monkeypatch.setattr(recorder, "_BACKLOG", 10)
    timeline = begun(None)
    for number in range(30):
        record(timeline, {"kind": "run_start" if number == 0 else "task", "number": number})
    events = timeline.events()
    assert len(events) <= 11
    assert [event.get("number") for event in (events[0], events[-1])] == [0, 29]


def test_a_failing_disk_is_reported_once_and_no_event_is_lost(tmp_path, monkeypatch):
    timeline = begun(str(tmp_path))
    record(timeline, {"kind": "run_start"}, OPENS)

    def full(_descriptor, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(recorder.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            record(timeline, {"kind": "outcome"})
        record(timeline, {"kind": "stats"})
    assert kinds(timeline) == ["run_start", "task", "outcome", "stats"]


def test_a_folder_that_cannot_be_created_is_reported_and_no_event_is_lost(tmp_path):
    (tmp_path / "file").touch()
    timeline = begun(str(tmp_path / "file"))
    with pytest.raises(OSError):
        record(timeline, {"kind": "run_start"}, OPENS)
    record(timeline, {"kind": "stats"})
    assert kinds(timeline) == ["run_start", "task", "stats"]


def test_a_damaged_file_is_a_warning(tmp_path):
    warnings = []
    timeline = begun(str(tmp_path), warnings)
    record(timeline, {"kind": "run_start"}, OPENS)
    os.truncate(tmp_path / "run1.jsonl", 2)
    assert timeline.events() == []
    assert ["has only 2 of the" in warning for warning in warnings] == [True]
    timeline.close()


def test_many_simultaneous_events_are_written_to_disk_together(tmp_path, monkeypatch):
    synced, now = [], [100.0]
    file = recorder.TimelineFile(str(tmp_path / "state"), "run1")
    monkeypatch.setattr(recorder.os, "fsync", lambda descriptor: synced.append(now[0]))
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    for seconds, durable in [(0.0, True), (0.1, True), (0.1, False), (0.9, False), (5.0, False), (0.0, True)]:
        now[0] += seconds
        file.append(b"{}\n", durable=durable)
    assert synced == pytest.approx([100.0, 101.1, 106.1])
    file.close()
    assert len(synced) == 4


def test_recorder_creates_private_files_and_reads_what_it_wrote(tmp_path):
    place = str(tmp_path / "x" / "postmortems")
    file = recorder.TimelineFile(place, "run1")
    event = {"v": 1, "at": "2026-03-02T01:00:00.000Z", "run": "run1", "kind": "run_start", "note": "INC-7 ✓ \udcff"}
    file.append(timeline_events.encode(event), durable=True)
    assert [each["kind"] for each in document_store.read(place, incidents=["INC-7"])] == ["run_start"]
    assert document_store.read(place, incidents=["INC-8"]) == []
    assert document_store.read(place, since="2999-01-01T00:00:00.000Z") == []
    assert len(document_store.read(place, since="no instant")) == 1
    file.close()
    with pytest.raises(FileExistsError):
        recorder.TimelineFile(place, "run1")


def test_an_event_that_a_full_disk_truncated_is_not_read_back(tmp_path, monkeypatch):
    file = recorder.TimelineFile(str(tmp_path), "run1")
    file.append(b"first\n", durable=False)
    write, room = os.write, [3]

    def write_until_full(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patched:
        patched.setattr(recorder.os, "write", write_until_full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"second\n", durable=False)
    assert (tmp_path / "run1.jsonl").read_bytes() == b"first\nsec"
    assert file.content() == b"first\n"
    file.close()


def test_recorded_events_are_read_back_even_if_the_file_was_removed(tmp_path):
    file = recorder.TimelineFile(str(tmp_path), "run1")
    file.append(b"first\n" * 100_000, durable=False)
    (tmp_path / "run1.jsonl").unlink()
    assert file.content() == b"first\n" * 100_000
    file.close()


def test_a_truncated_timeline_is_not_complete(tmp_path):
    file = recorder.TimelineFile(str(tmp_path), "run1")
    file.append(b"first\n", durable=False)
    os.truncate(tmp_path / "run1.jsonl", 2)
    with pytest.raises(OSError, match="has only 2 of the 6 bytes"):
        file.content()
    file.close()
