# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of postmortems on the host."""

from __future__ import annotations

import base64
import os
import stat

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._incident import archive as postmortem_archive

TEXT = "# 復旧\n"
DOCUMENT = {"name": "INC-1.md", "content": base64.b64encode(TEXT.encode()).decode()}


def keep(folder, *documents, days=365.0, check_mode=False):
    return postmortem_archive.keep(folder=str(folder), documents=documents, days=days, check_mode=check_mode)


def test_a_copy_is_private_complete_and_written_once(tmp_path):
    folder = tmp_path / "postmortems"
    assert keep(folder, DOCUMENT, check_mode=True)["changed"] and not folder.exists()
    assert keep(folder, DOCUMENT) == {"changed": True, "written": [str(folder / "INC-1.md")], "removed": []}
    assert (folder / "INC-1.md").read_text(encoding="utf-8") == TEXT
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "INC-1.md")] == [0o700, 0o600]
    assert keep(folder, DOCUMENT)["changed"] is False


@pytest.mark.parametrize(("days", "left"), [(30.0, ["INC-1.md", "new.html", "notes.txt"]), (0.0, None)])
def test_only_old_copies_are_deleted(tmp_path, days, left):
    for name in ("old.json", "new.html", "notes.txt", "INC-1.md"):
        (tmp_path / name).write_text("x")
    for name in ("old.json", "notes.txt", "INC-1.md"):
        os.utime(tmp_path / name, (0, 0))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert keep(tmp_path, DOCUMENT, days=days, check_mode=True)["removed"] == (
        [] if left is None else [str(tmp_path / "old.json")]
    )
    keep(tmp_path, DOCUMENT, days=days)
    assert sorted(path.name for path in tmp_path.iterdir()) == (left or before)


@pytest.mark.parametrize("name", ["../x.md", "/etc/x.md", "x.txt", ".md", "a/b.md", "x.md\n"])
def test_names_stay_within_the_folder(tmp_path, name):
    with pytest.raises(postmortem_archive.PostmortemKeepError, match="must be a plain file name"):
        keep(tmp_path, {"name": name, "content": ""})


def test_invalid_base64_is_reported(tmp_path):
    with pytest.raises(postmortem_archive.PostmortemKeepError, match=r"content of INC-1\.md is not base64"):
        keep(tmp_path, {**DOCUMENT, "content": "{}"})


def test_an_impossible_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(postmortem_archive.PostmortemKeepError, match="Cannot save the postmortem in"):
        keep(tmp_path / "file", DOCUMENT)
