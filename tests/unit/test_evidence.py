# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence bundle: private, whole, bounded, never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from types import SimpleNamespace

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils import _evidence, _redact
from ansible_collections.itsm_nexus.runbook.plugins.module_utils._evidence import EvidenceError

INCIDENT = "INC-20260302T010203Z-1f3a"


def evidence(name="server.log", text="one\ntwo\n", **values):
    return {"name": name, "source": f"/var/log/{name}", "text": text, "truncated": False, **values}


@pytest.fixture
def save(tmp_path):
    def save(*files, **parameters):
        parameters = {"incident": INCIDENT, "redact": _redact.Redactor().text, "elsewhere": (), **parameters}
        return _evidence.save(files=files, state_dir=str(tmp_path / "state"), **parameters)

    return save


def manifest(path):
    with open(os.path.join(path, "manifest.json"), encoding="utf-8") as stream:
        return json.load(stream)


def test_what_is_saved_is_listed_with_its_sum(save, tmp_path):
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
        assert entry["at"].endswith("Z")


def test_only_its_owner_reads_it(save, tmp_path):
    save(evidence())
    for folder, _folders, names in os.walk(tmp_path / "state"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600


def test_secrets_are_taken_out_of_text_and_source(save):
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


def test_its_size_is_bounded_and_the_ends_of_logs_are_kept(save):
    long = "".join(f"line {number}\n" for number in range(1000))
    saved = save(evidence("a.log", long), evidence("b.log", long), limit=2000)
    entries = {item["file"]: item for item in manifest(saved.path)["files"]}
    assert sum(item["size"] for item in entries.values()) <= 2000
    assert entries["a.log"]["truncated"] and entries["b.log"]["truncated"]
    with open(os.path.join(saved.path, "a.log"), encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    assert lines[-1] == "line 999" and lines[0].startswith("line ")
    # The second pass has what the first one left: nothing.
    again = save(evidence("a.log", long), limit=2000)
    assert manifest(again.path)["files"][0]["size"] == 0


def test_a_dry_run_says_where_and_writes_nothing(save, tmp_path):
    assert save(evidence(), dry_run=True).path == str(tmp_path / "state" / "evidence" / INCIDENT)
    assert not (tmp_path / "state").exists()


def test_where_there_is_no_room_it_goes_elsewhere_and_says_so(save, tmp_path, monkeypatch):
    real = os.statvfs
    full = SimpleNamespace(f_bavail=0, f_frsize=4096)
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(
        os, "statvfs", lambda path: full if str(path).startswith(str(tmp_path / "state")) else real(path)
    )
    saved = save(evidence(), elsewhere=(str(tmp_path / "other"),))
    assert saved.path == str(tmp_path / "other" / INCIDENT)
    assert "0 bytes free" in saved.warnings[0] and str(tmp_path / "other") in saved.warnings[0]
    assert manifest(saved.path)["files"][0]["file"] == "server.log"
    with pytest.raises(EvidenceError, match="anywhere"):
        save(evidence())


@pytest.mark.parametrize("trap", ["link", "open"])
def test_a_folder_anyone_could_have_prepared_is_not_used(save, tmp_path, monkeypatch, trap):
    (tmp_path / "state").write_text("in the way")
    place = tmp_path / "other"
    if trap == "link":
        (tmp_path / "target").mkdir()
        place.symlink_to(tmp_path / "target")
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(EvidenceError, match="somebody else"):
        save(evidence(), elsewhere=(str(place),))


@pytest.mark.parametrize("incident", ["../outside", "/etc", "a/b", ".hidden", "x" * 101])
def test_a_name_that_leads_elsewhere_is_refused(save, incident):
    with pytest.raises(EvidenceError, match="incident is"):
        save(evidence(), incident=incident)
