# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removal of the code that a killed module left on the host."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._common import leftovers

NAME = "ansible_itsm_nexus.runbook.health_probe_payload_9yzeoyqc"


def unpacked(folder: Path, name: str = NAME, *, mode: int = 0o700, age: float = 7200.0) -> Path:
    path = folder / name
    path.mkdir(mode=0o700)
    (path / "payload.zip").write_bytes(b"code")
    path.chmod(mode)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_code_of_a_killed_module_is_removed(tmp_path: Path) -> None:
    path = unpacked(tmp_path)
    leftovers.remove(str(tmp_path))
    assert not path.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"age": 60.0},
        {"mode": 0o770},
        {"mode": 0o707},
        {"name": "ansible_other.module_payload_9yzeoyqc"},
        {"name": "data"},
    ],
)
def test_other_folders_are_kept(tmp_path: Path, changes: dict) -> None:
    path = unpacked(tmp_path, **changes)
    leftovers.remove(str(tmp_path))
    assert (path / "payload.zip").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = unpacked(tmp_path, "target")
    (tmp_path / NAME).symlink_to(path)
    leftovers.remove(str(tmp_path))
    assert (path / "payload.zip").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create folders of other users")
def test_folders_of_other_users_are_kept(tmp_path: Path) -> None:
    path = unpacked(tmp_path)
    os.chown(path, 65534, 65534)
    leftovers.remove(str(tmp_path))
    assert (path / "payload.zip").exists()


def test_a_missing_folder_is_ignored(tmp_path: Path) -> None:
    leftovers.remove(str(tmp_path / "missing"))
