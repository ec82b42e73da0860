# Copyright: The itsm_nexus.runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mount points in /etc/fstab on which nothing is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.itsm_nexus.runbook.plugins.module_utils._host import mounts

TABLE = """\
# /etc/fstab: static file system information.
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 none swap sw 0 0
UUID=3 /mnt/LinuxHDD ext4 defaults,nofail 0 2
  # UUID=4 /mnt/old ext4 defaults 0 2
UUID=5 /mnt/two\\040words/ ext4 defaults 0 2
UUID=7 /mnt/no\\089octal ext4 defaults 0 2
UUID=6 /mnt/by-hand ext4 defaults,noauto 0 2
/srv/real /mnt/bound none bind 0 0
broken
"""
MOUNTED = "/dev/sda1 / ext4 rw 0 0\n/dev/sda1 /mnt/bound ext4 rw 0 0\n"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Replace the files that the module reads.

    Return a dict that maps each path to its content. Tests can modify the dict.
    """
    contents = {"/etc/fstab": TABLE, "/proc/self/mounts": MOUNTED}

    def read(path: str) -> str:
        if path not in contents:
            raise FileNotFoundError(path)
        return contents[path]

    monkeypatch.setattr(mounts, "_read", read)
    return contents


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/mnt/LinuxHDD/ITSM-System/backend/itsm.db", "/mnt/LinuxHDD"),
        ("/mnt/LinuxHDD2/itsm.db", None),
        ("/mnt/old/itsm.db", None),
        ("/mnt/two words/itsm.db", "/mnt/two words"),
        # For a bind mount, the kernel's mount list shows the device of the file system, not the source folder.
        ("/mnt/bound/itsm.db", None),
        ("/mnt/by-hand/itsm.db", None),
        ("/srv/itsm.db", None),
    ],
)
def test_an_unmounted_mount_point_is_found(files: dict[str, str], path: str, point: str | None) -> None:
    assert mounts.unmounted(path) == point


def test_a_mount_point_may_be_a_link(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    files["/etc/fstab"] = f"UUID=1 {tmp_path}/link ext4 defaults 0 2\n"
    assert mounts.unmounted(f"{tmp_path}/real/itsm.db") == f"{tmp_path}/real"


def test_another_user_cannot_fake_a_mount(files: dict[str, str]) -> None:
    """With fusermount, any user can create a mount whose name contains a line break."""
    files["/proc/self/mounts"] += "x /home/u/a\rx /mnt/LinuxHDD fuse rw 0 0\n"
    assert mounts.unmounted("/mnt/LinuxHDD/itsm.db") == "/mnt/LinuxHDD"


@pytest.mark.parametrize("missing", ["/etc/fstab", "/proc/self/mounts"])
def test_a_host_without_these_files(files: dict[str, str], missing: str) -> None:
    del files[missing]
    assert mounts.unmounted("/mnt/LinuxHDD/itsm.db") is None
