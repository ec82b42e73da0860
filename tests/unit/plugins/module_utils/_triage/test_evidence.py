# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence bundle is private, complete, limited in size, and never overwritten or deleted during its incident."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from types import SimpleNamespace

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import lease as host_lease
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage import evidence as triage_evidence
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._triage.evidence import EvidenceError, Keep

INCIDENT = "INC-20260302T010203Z-1f3a"
AT = "2026-03-02T01:02:03.456Z"


def evidence(name="server.log", text="one\ntwo\n", **values):
    return {"name": name, "source": f"/var/log/{name}", "at": AT, "text": text, "truncated": False, **values}


@pytest.fixture
def save(tmp_path):
    def save(*files, **parameters):
        parameters = {"incident": INCIDENT, "redact": redact.Redactor().text, "elsewhere": (), **parameters}
        return triage_evidence.save(files=files, state_dir=str(tmp_path / "state"), **parameters)

    return save


def manifest(path):
    with open(os.path.join(path, "manifest.json"), encoding="utf-8") as stream:
        return json.load(stream)


def test_saved_files_are_listed_with_their_checksum(save, tmp_path):
    saved = save(evidence(), evidence("journal.txt", "x\n", truncated=True))
    assert saved.path == str(tmp_path / "state" / "evidence" / INCIDENT)
    assert saved.warnings == []
    entries = {item["file"]: item for item in manifest(saved.path)["files"]}
    assert sorted(entries) == ["journal.txt", "server.log"]
    assert entries["server.log"]["source"] == "/var/log/server.log"
    assert (entries["server.log"]["truncated"], entries["journal.txt"]["truncated"]) == (False, True)
    for name, entry in entries.items():
        data = (tmp_path / "state" / "evidence" / INCIDENT / name).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert entry["at"] == AT


def test_the_manifest_names_its_incident(save):
    about = {"host": "db1", "not_reached": {"disk:log": "timed out"}}
    found = manifest(save(evidence(), about=about).path)
    assert {name: found[name] for name in ("incident", "host", "not_reached", "not_in_its_place", "redacted")} == {
        **about,
        "incident": INCIDENT,
        "not_in_its_place": [],
        "redacted": True,
    }
    assert found["written_at"] > AT


def test_only_the_owner_can_read_the_bundle(save, tmp_path):
    save(evidence())
    for folder, _folders, names in os.walk(tmp_path / "state"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_secrets_are_removed_from_text_and_source(save):
    saved = save(evidence(text="JWT_SECRET=geheim-123456\n", source="tail --token geheim-123456"))
    for name in os.listdir(saved.path):
        with open(os.path.join(saved.path, name), encoding="utf-8") as stream:
            assert "geheim" not in stream.read()


def test_a_second_pass_adds_and_replaces_nothing(save):
    first, second, third = (
        save(evidence(text="first\n")),
        save(evidence(text="second\n")),
        save(evidence(text="third\n")),
    )
    assert [os.path.relpath(item.path, first.path) for item in (second, third)] == ["pass-2", "pass-3"]
    texts = []
    for item in (first, second, third):
        with open(os.path.join(item.path, "server.log"), encoding="utf-8") as stream:
            texts.append(stream.read())
    assert texts == ["first\n", "second\n", "third\n"]


def folder_size(path):
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)


def test_the_size_is_limited_and_the_ends_of_logs_are_kept(save):
    long = "".join(f"line {number}\n" for number in range(2000))
    saved = save(evidence("a.log", long), evidence("b.log", long), limit=8000)
    entries = {item["file"]: item for item in manifest(saved.path)["files"]}
    assert 6000 < folder_size(saved.path) <= 8000
    assert entries["a.log"]["truncated"] and entries["b.log"]["truncated"]
    with open(os.path.join(saved.path, "a.log"), encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    assert lines[-1] == "line 1999" and lines[0].startswith("line ")
    # The evidence of the first triage has reached the size limit, so the second triage cannot save any evidence.
    again = save(evidence("a.log", long), limit=8000)
    assert manifest(again.path)["files"][0]["size"] == 0


def test_files_of_others_in_the_folder_do_not_count(save, tmp_path):
    place = tmp_path / "state" / "evidence" / INCIDENT
    place.mkdir(parents=True)
    (place / "itsm.db").write_bytes(b"x" * 100_000)
    saved = save(evidence(text="line\n" * 100), limit=20_000)
    assert manifest(saved.path)["files"][0]["truncated"] is False


def test_a_dry_run_names_the_folder_and_writes_nothing(save, tmp_path):
    assert save(evidence(), dry_run=True).path == str(tmp_path / "state" / "evidence" / INCIDENT)
    assert not (tmp_path / "state").exists()


@pytest.fixture
def rooms(monkeypatch):
    """Return a dict that overrides the free space below paths. Tests add entries: path -> (bytes, inodes)."""
    real, free = os.statvfs, {}

    def statvfs(path):
        for place, (room, inodes) in free.items():
            if str(path).startswith(str(place)):
                return SimpleNamespace(f_bavail=room, f_frsize=1, f_files=1000, f_favail=inodes)
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    return free


MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(("room", "inodes"), [(4 * MEBIBYTE, 500), (1 << 40, 0)])
def test_without_space_another_folder_is_used_and_reported(save, tmp_path, rooms, room, inodes):
    (tmp_path / "state").mkdir()
    rooms[tmp_path / "state"] = (room, inodes)
    saved = save(evidence(), elsewhere=(str(tmp_path / "other"),))
    assert saved.path == str(tmp_path / "other" / INCIDENT)
    assert "bytes free" in saved.warnings[0] and str(tmp_path / "other") in saved.warnings[0]
    found = manifest(saved.path)
    assert found["files"][0]["file"] == "server.log"
    assert str(tmp_path / "state") in found["not_in_its_place"][0]
    assert not (tmp_path / "state" / "evidence").exists()


def test_a_part_is_kept_if_no_folder_has_space_for_all(save, tmp_path, rooms):
    for name in ("state", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    rooms[tmp_path / "state"] = (4 * MEBIBYTE + 300_000, 500)
    rooms[tmp_path / "other"] = (4 * MEBIBYTE + 400_000, 500)
    text = "".join(f"line {number}\n" for number in range(100_000))
    saved = save(evidence(text=text), elsewhere=(str(tmp_path / "other"),))
    assert saved.path == str(tmp_path / "other" / INCIDENT)
    (entry,) = manifest(saved.path)["files"]
    assert entry["truncated"] and 300_000 < entry["size"] < 400_000
    assert "only a part" in saved.warnings[0]
    rooms[tmp_path / "other"] = (4 * MEBIBYTE, 500)
    rooms[tmp_path / "state"] = (4 * MEBIBYTE, 500)
    with pytest.raises(EvidenceError, match="anywhere"):
        save(evidence(text=text), elsewhere=(str(tmp_path / "other"),))


def test_a_folder_that_does_not_answer_is_skipped(save, tmp_path, monkeypatch):
    real = os.statvfs

    def hang(path):
        if str(path).startswith(str(tmp_path / "state")):
            time.sleep(60)
        return real(path)

    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "statvfs", hang)
    started = time.monotonic()
    saved = save(evidence(), elsewhere=(str(tmp_path / "other"),), timeout=0.3)
    assert time.monotonic() - started < 30
    assert saved.path == str(tmp_path / "other" / INCIDENT)
    assert "timed out" in saved.warnings[0]


def named(number):
    return f"INC-2026030{number}T010203Z-1f3a"


def bundles(tmp_path):
    return sorted(os.listdir(tmp_path / "state" / "evidence"))


def age(path, days):
    for folder, _folders, names in os.walk(path):
        for name in names:
            os.utime(os.path.join(folder, name), (time.time() - days * 86400,) * 2)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(), [1, 2, 3, 4]),
        (Keep(incidents=4), [1, 2, 3, 4]),
        (Keep(incidents=2), [3, 4]),
        (Keep(days=2.5), [2, 3, 4]),
        (Keep(incidents=1, days=30), [4]),
    ],
)
def test_the_evidence_of_the_oldest_incidents_is_deleted(save, tmp_path, keep, left):
    for number in (1, 2, 3):
        save(evidence(), incident=named(number))
        save(evidence(), incident=named(number))
        age(tmp_path / "state" / "evidence" / named(number), 4 - number)
    save(evidence(), incident=named(4), keep=keep)
    assert bundles(tmp_path) == [named(number) for number in left]


@pytest.mark.parametrize("place", ["state", "memory"])
def test_the_evidence_of_an_open_incident_is_kept(save, tmp_path, monkeypatch, place):
    for number in (1, 2):
        save(evidence(), incident=named(number))
        age(tmp_path / "state" / "evidence" / named(number), 90)
    monkeypatch.setattr(host_lease, "memory_folder", lambda: str(tmp_path / "memory"))
    folder = tmp_path / "state" if place == "state" else host_lease.Seat(state_dir=str(tmp_path / "state")).folder
    os.makedirs(folder, exist_ok=True)
    record = os.path.join(folder, "incident.json")
    with open(record, "w", encoding="utf-8") as stream:
        json.dump({"id": named(1)}, stream)
    save(evidence(), incident=named(3), keep=Keep(incidents=1, days=1))
    assert bundles(tmp_path) == [named(1), named(3)]
    # If the record cannot be read, any incident may be open, so all evidence is kept.
    with open(record, "w", encoding="utf-8") as stream:
        stream.write("{")
    save(evidence(), incident=named(4), keep=Keep(incidents=1, days=1))
    assert bundles(tmp_path) == [named(1), named(3), named(4)]


def test_the_evidence_of_this_incident_is_kept(save, tmp_path):
    first = save(evidence(), incident=named(1))
    age(tmp_path / "state" / "evidence", 90)
    save(evidence(), incident=named(1), keep=Keep(incidents=1, days=1))
    assert sorted(os.listdir(first.path)) == ["manifest.json", "pass-2", "server.log"]


def test_the_last_triage_determines_the_age_of_an_incident(save, tmp_path):
    first = save(evidence(), incident=named(1))
    age(first.path, 90)
    save(evidence(), incident=named(1))
    save(evidence(), incident=named(2), keep=Keep(days=1))
    assert bundles(tmp_path) == [named(1), named(2)]


def test_files_of_others_in_the_folder_of_an_incident_are_kept(save, tmp_path):
    saved = save(evidence(), incident=named(1))
    (tmp_path / "state" / "evidence" / named(1) / "itsm.db").write_bytes(b"damaged, and the only one")
    (tmp_path / "state" / "evidence" / "manual").mkdir()
    (tmp_path / "state" / "evidence" / "manual" / "notes.txt").write_text("by hand")
    age(tmp_path / "state" / "evidence", 90)
    save(evidence(), incident=named(2), keep=Keep(days=1))
    assert os.listdir(saved.path) == ["itsm.db"]
    assert bundles(tmp_path) == [named(1), named(2), "manual"]


def test_a_manifest_that_names_other_files_removes_none_of_them(save, tmp_path):
    saved = save(evidence(), incident=named(1))
    (tmp_path / "precious").write_text("x")
    path = os.path.join(saved.path, "manifest.json")
    with open(path, encoding="utf-8") as stream:
        found = json.load(stream)
    found["files"] += [{"file": "../../../precious"}, {"file": str(tmp_path / "precious")}, "x"]
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(found, stream)
    age(saved.path, 90)
    save(evidence(), incident=named(2), keep=Keep(days=1))
    assert bundles(tmp_path) == [named(2)]
    assert (tmp_path / "precious").exists()


def test_a_dry_run_deletes_nothing(save, tmp_path):
    save(evidence(), incident=named(1))
    age(tmp_path / "state" / "evidence", 90)
    save(evidence(), incident=named(2), keep=Keep(days=1), dry_run=True)
    assert bundles(tmp_path) == [named(1)]


@pytest.mark.parametrize("trap", ["link", "open"])
def test_a_folder_that_others_could_have_prepared_is_not_used(save, tmp_path, monkeypatch, trap):
    (tmp_path / "state").write_text("in the way")
    place = tmp_path / "other"
    if trap == "link":
        (tmp_path / "target").mkdir()
        place.symlink_to(tmp_path / "target")
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(EvidenceError, match="another account"):
        save(evidence(), elsewhere=(str(place),))


@pytest.mark.parametrize("incident", ["../outside", "/etc", "a/b", ".hidden", "x" * 101])
def test_a_name_that_points_elsewhere_is_refused(save, incident):
    with pytest.raises(EvidenceError, match="incident is"):
        save(evidence(), incident=incident)
