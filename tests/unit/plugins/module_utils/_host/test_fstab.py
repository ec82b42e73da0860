# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that the host should have mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import fstab

TABLE = """\
# /etc/fstab: static file system information.
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
UUID=3 /mnt/LinuxHDD ext4 defaults,nofail 0 2
  # UUID=4 /mnt/old ext4 defaults 0 2
UUID=5 /mnt/two\\040words/ ext4 defaults 0 2
UUID=6 /mnt/by-hand ext4 defaults,noauto 0 2
/srv/real /mnt/bound none bind 0 0
broken
"""
MOUNTED = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
22 21 8:1 /srv/real /mnt/bound rw,relatime - ext4 /dev/sda1 rw
"""


@pytest.fixture
def unmounted(tmp_path: Path):
    """Return the function with the files of this test."""
    (tmp_path / "fstab").write_text(TABLE, encoding="utf-8")
    (tmp_path / "mountinfo").write_text(MOUNTED, encoding="utf-8")
    files = {"table": str(tmp_path / "fstab"), "mounted": str(tmp_path / "mountinfo")}
    return lambda path, **other: fstab.unmounted(path, **{**files, **other})


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/mnt/LinuxHDD/ITSM-System/backend/itsm.db", "/mnt/LinuxHDD"),
        ("/mnt/LinuxHDD2/itsm.db", None),
        ("/mnt/old/itsm.db", None),
        ("/mnt/two words/itsm.db", "/mnt/two words"),
        # A bind mount has the device of the file system below it.
        ("/mnt/bound/itsm.db", None),
        ("/mnt/by-hand/itsm.db", None),
        ("/srv/itsm.db", None),
    ],
)
def test_the_mount_point_that_is_not_mounted(unmounted, path: str, point: str | None) -> None:
    assert unmounted(path) == point


def test_a_mount_point_may_be_a_link(unmounted, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").write_text(f"UUID=1 {tmp_path}/link ext4 defaults 0 2\n", encoding="utf-8")
    assert unmounted(f"{tmp_path}/real/itsm.db", table=str(tmp_path / "other")) == f"{tmp_path}/real"


@pytest.mark.parametrize("missing", ["table", "mounted"])
def test_a_host_without_these_files(unmounted, tmp_path: Path, missing: str) -> None:
    assert unmounted("/mnt/LinuxHDD/itsm.db", **{missing: str(tmp_path / "none")}) is None
